/* tls_support.h -- a recorded TLS connection and its peer, for the tests.
 *
 * SPDX-License-Identifier: MIT
 *
 * One end is a bk_tls over stream_fds[0]; the other is a bare SSL of OpenSSL
 * over stream_fds[1], which the test drives by hand.
 */
#ifndef TLS_SUPPORT_H
#define TLS_SUPPORT_H

#include <openssl/ssl.h>

#include "stream_support.h"

/* The certificate of both ends is for this name, and its own authority. */
#define TLS_NAME "peer.example"

enum { TLS_CLIENT, TLS_SERVER };

struct tls_recorder {
    bk_tls *tls; /* NULL before start and once lost */
    char log[4096];
    char *buffer; /* data_received copies here, if set */
    size_t received;
    int lost_count;
    int lost_error;
    unsigned long openssl_error;
    int made_count;
    int pauses;
    int resumes;
    bool is_quiet; /* data is counted, not logged */
    void (*on_made)(void);
    void (*on_data)(void);
    void (*on_eof)(void);
};

extern struct tls_recorder tls;
extern const bk_tls_protocol tls_recorder_protocol;
extern SSL *peer;            /* of the test; NULL: none */
extern SSL_CTX *tls_context; /* for both ends, trusts the certificate */
extern bk_tls_options tls_options;

/* Connect, and begin the handshake of our end in this role. The peer plays
 * the other one. version: TLS1_2_VERSION or TLS1_3_VERSION. */
void tls_begin(int poller, int role, int version);

/* The same, with the handshake done on both sides. */
void tls_connect(int poller, int role, int version);

/* Release what is left, and see that nothing stays. */
void tls_end(void);

/* Drive the loop and the peer until the condition holds. */
#define TLS_UNTIL(condition) RUN_UNTIL(stream_loop, (condition))

void tls_shake_hands(void);
void tls_expect_log(const char *log);
void tls_write(const char *text);
void tls_write_big(size_t offset, size_t len);

/* The peer's side: all of it is sent or received while the loop runs. */
void peer_write(const void *data, size_t len);
void peer_expect(const void *data, size_t len);
void peer_expect_text(const char *text);
void peer_expect_goodbye(void);
void peer_expect_eof(void);

TCase *new_tls_case(Suite *suite, const char *name);

#endif
