/* SPDX-License-Identifier: MIT */
/* The client's side of TLS. */
#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

/* What OpenSSL chooses by itself. */
#define VERSION TLS1_3_VERSION
#define CIPHER  "TLS_AES_256_GCM_SHA384"

/* Of TLS 1.3, RFC 8446, section 5.2: data is 23 on the outside, and an
 * encrypted record has one byte of type and the 16 of the tag besides.
 */
#define TYPE_DATA      23
#define OVERHEAD_BYTES 17

static int
explain(const char *what)
{
    fprintf(stderr, "load: %s: ", what);
    ERR_print_errors_fp(stderr);
    return -EPROTO;
}

/* One for all connections, for as long as the program runs. */
static SSL_CTX *
get_context(void)
{
    static SSL_CTX *context;

    if (context == NULL) {
        context = SSL_CTX_new(TLS_client_method());
    }
    return context; /* the server's certificate is not the question */
}

int
tls_open(struct tls *t, int fd)
{
    SSL_CTX *context = get_context();

    *t = (struct tls){.ssl = context == NULL ? NULL : SSL_new(context)};
    if (t->ssl == NULL || SSL_set_fd(t->ssl, fd) != 1 ||
        SSL_connect(t->ssl) != 1) {
        return explain("handshake");
    }
    if (SSL_version(t->ssl) != VERSION ||
        strcmp(SSL_get_cipher_name(t->ssl), CIPHER) != 0) {
        return -EPROTONOSUPPORT;
    }
    return 0;
}

void
tls_close(struct tls *t)
{
    SSL_free(t->ssl);
    *t = (struct tls){.ssl = NULL};
}

int
tls_send_all(struct tls *t, const char *data, size_t len)
{
    size_t n;

    return SSL_write_ex(t->ssl, data, len, &n) == 1 ? 0 : explain("send");
}

ssize_t
tls_receive(struct tls *t, char *data, size_t len)
{
    size_t n;

    if (SSL_read_ex(t->ssl, data, len, &n) == 1) {
        return (ssize_t)n;
    }
    return SSL_get_error(t->ssl, 0) == SSL_ERROR_ZERO_RETURN
               ? 0
               : explain("receive");
}

/* From now on, what is encrypted stays in memory. */
static int
begin_counting(struct tls *t)
{
    if (SSL_has_pending(t->ssl)) {
        return -EBADMSG; /* more than the reply */
    }
    t->out = BIO_new(BIO_s_mem());
    if (t->out == NULL) {
        return -ENOMEM;
    }
    SSL_set0_wbio(t->ssl, t->out);
    return 0;
}

int
tls_encrypt(struct tls *t, const char *data, size_t len,
            const char **ret_records, size_t *ret_len)
{
    size_t n;
    char *records;
    int r = t->out == NULL ? begin_counting(t) : 0;

    if (r < 0) {
        return r;
    }
    (void)BIO_reset(t->out);
    if (SSL_write_ex(t->ssl, data, len, &n) != 1) {
        return explain("encrypt");
    }
    *ret_len = (size_t)BIO_get_mem_data(t->out, &records);
    *ret_records = records;
    return 0;
}

static size_t
take_header(struct tls *t, const char *records, size_t len)
{
    size_t n = TLS_HEADER_BYTES - t->header_len;

    n = n < len ? n : len;
    memcpy(t->header + t->header_len, records, n);
    t->header_len += n;
    if (t->header_len == TLS_HEADER_BYTES) {
        t->record_len = (size_t)t->header[3] << 8 | t->header[4];
        t->record_received = 0;
    }
    return n;
}

static size_t
take_record(struct tls *t, size_t len)
{
    size_t n = t->record_len - t->record_received;

    n = n < len ? n : len;
    t->record_received += n;
    return n;
}

ssize_t
tls_count(struct tls *t, const char *records, size_t len)
{
    size_t plain = 0;

    while (len > 0) {
        size_t n = t->header_len < TLS_HEADER_BYTES
                       ? take_header(t, records, len)
                       : take_record(t, len);

        records += n;
        len -= n;
        if (t->header_len < TLS_HEADER_BYTES) {
            break;
        }
        if (t->header[0] != TYPE_DATA || t->record_len <= OVERHEAD_BYTES) {
            return -EBADMSG;
        }
        if (t->record_received == t->record_len) {
            plain += t->record_len - OVERHEAD_BYTES;
            t->header_len = 0;
            t->record_received = 0;
        }
    }
    return (ssize_t)plain;
}
