/* SPDX-License-Identifier: MIT */
/* The client's side of TLS. Every function returns 0 or more, or a negative
 * errno; what OpenSSL has to say besides goes to stderr.
 *
 * Design notes. A client is to be faster than any server. It encrypts, as each
 * record has a number of its own, but it decrypts only the first reply: of the
 * others it counts the bytes, by the headers of their records.
 */
#ifndef BENCH_TLS_H
#define BENCH_TLS_H

#include <stddef.h>
#include <sys/types.h>

#define TLS_HEADER_BYTES 5

struct tls {
    struct ssl_st *ssl; /* owned; NULL: not open */
    struct bio_st *out; /* owned by ssl: what is encrypted, in memory */
    unsigned char header[TLS_HEADER_BYTES]; /* of the record that arrives */
    size_t header_len;                      /* bytes of it that are here */
    size_t record_len;      /* without the header; 0: not known yet */
    size_t record_received; /* bytes of it that are here */
};

/* Shake hands on a connected blocking socket. -EPROTONOSUPPORT: it is not the
 * version and the cipher that everybody is measured with.
 */
int tls_open(struct tls *t, int fd);

void tls_close(struct tls *t);

/* Waiting exchange of plain bytes: before the first tls_encrypt(). The result
 * of the second one is a count, 0 at the end.
 */
int tls_send_all(struct tls *t, const char *data, size_t len);
ssize_t tls_receive(struct tls *t, char *data, size_t len);

/* Encrypt plain bytes. The result is borrowed until the next call. */
int tls_encrypt(struct tls *t, const char *data, size_t len,
                const char **ret_records, size_t *ret_len);

/* Take records, or parts of them, off the wire: how many plain bytes were in
 * those that are now complete. -EBADMSG: something else than data.
 */
ssize_t tls_count(struct tls *t, const char *records, size_t len);

#endif
