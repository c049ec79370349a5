/* fuzz_tls.c -- TLS against OpenSSL itself, and whoever sits between them.
 *
 * SPDX-License-Identifier: MIT
 *
 * One end is a bk_tls over a socket pair, the other a bare SSL over memory. The
 * fuzzer carries what the peer sends: it cuts the records anywhere, delays,
 * drops, changes and inserts bytes, and ends the connection; both ends write,
 * pause and close as it says. As long as nothing was changed, what arrives is
 * what was sent. connection_lost comes once, whatever happens.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "becket/becket.h"
#include "becket/tls.h"
#include "input.h"

enum { STEPS_MAX = 300, CARRIED_MAX = 1 << 15 };

static SSL_CTX *contexts[2]; /* client's and server's, made once */

static struct {
    struct input input;
    bk_loop *loop;
    bk_tls *tls; /* NULL once it is lost */
    int wire;    /* the peer's end of the socket pair */
    SSL *peer;
    uint8_t sent[2];     /* next byte of each direction; they count up */
    uint8_t received[2]; /* 0: by the bk_tls; 1: by the peer */
    bool is_tampered;
    int made_count;
    int lost_count;
    int steps;
} fuzz;

/* --- certificates --- */

static void
sign(X509 *certificate, EVP_PKEY *key)
{
    X509_NAME *name = X509_get_subject_name(certificate);

    EXPECT(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                      (const unsigned char *)"fuzz", -1, -1,
                                      0) == 1);
    EXPECT(X509_set_issuer_name(certificate, name) == 1);
    EXPECT(X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) != NULL);
    EXPECT(X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) != NULL);
    EXPECT(X509_set_pubkey(certificate, key) == 1);
    EXPECT(X509_sign(certificate, key, EVP_sha256()) > 0);
}

static void
make_contexts(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();

    EXPECT(key != NULL && certificate != NULL);
    sign(certificate, key);
    contexts[0] = SSL_CTX_new(TLS_client_method());
    contexts[1] = SSL_CTX_new(TLS_server_method());
    EXPECT(contexts[0] != NULL && contexts[1] != NULL);
    EXPECT(SSL_CTX_use_certificate(contexts[1], certificate) == 1);
    EXPECT(SSL_CTX_use_PrivateKey(contexts[1], key) == 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

/* --- our end --- */

static void operate_tls(unsigned what);

static void
on_made(bk_tls *tls, void *self)
{
    (void)self;
    EXPECT(tls == fuzz.tls && fuzz.made_count++ == 0);
    operate_tls(input_byte(&fuzz.input));
}

static void
on_data(bk_tls *tls, const void *data, size_t len, void *self)
{
    const uint8_t *bytes = data;

    (void)self;
    EXPECT(tls == fuzz.tls && fuzz.made_count == 1 && len > 0);
    for (size_t i = 0; i < len; i++) {
        EXPECT(bytes[i] == fuzz.received[0]);
        fuzz.received[0]++;
    }
    operate_tls(input_byte(&fuzz.input));
}

static void
on_eof(bk_tls *tls, void *self)
{
    (void)self;
    EXPECT(tls == fuzz.tls);
    operate_tls(input_byte(&fuzz.input));
}

static void
on_pause(bk_tls *tls, void *self)
{
    (void)tls;
    (void)self;
}

static void
on_lost(bk_tls *tls, int error, void *self)
{
    (void)self;
    EXPECT(tls == fuzz.tls && error <= 0 && fuzz.lost_count++ == 0);
    fuzz.tls = NULL;
}

static const bk_tls_protocol tls_protocol = {
    .connection_made = on_made,
    .data_received = on_data,
    .eof_received = on_eof,
    .pause_writing = on_pause,
    .resume_writing = on_pause,
    .connection_lost = on_lost,
};

static const bk_protocol plain_protocol = {.connection_made = NULL};

static size_t
fill(uint8_t *buf, size_t len, uint8_t *next)
{
    for (size_t i = 0; i < len; i++) {
        buf[i] = (*next)++;
    }
    return len;
}

static void
operate_tls(unsigned what)
{
    uint8_t buf[4096];
    size_t len = (size_t)(what >> 4) * 256 + 1;

    if (fuzz.tls == NULL) {
        return;
    }
    switch (what % 16) {
    case 1:
    case 2:
        if (!bk_tls_is_closing(fuzz.tls)) {
            (void)bk_tls_write(fuzz.tls, buf, fill(buf, len, &fuzz.sent[1]));
        }
        break;
    case 3:
        bk_tls_pause_reading(fuzz.tls);
        break;
    case 4:
        bk_tls_resume_reading(fuzz.tls);
        break;
    case 5:
        bk_tls_close(fuzz.tls);
        break;
    case 6:
        bk_tls_abort(fuzz.tls, 0);
        break;
    case 7:
        (void)bk_tls_set_write_buffer_limits(fuzz.tls, len, len / 4);
        break;
    default:
        break;
    }
}

/* --- the peer, and what is between --- */

/* From our end to the peer: all that there is. */
static void
carry_to_peer(void)
{
    uint8_t buf[8192];
    ssize_t n;

    while ((n = recv(fuzz.wire, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
        (void)BIO_write(SSL_get_rbio(fuzz.peer), buf, (int)n);
    }
}

/* From the peer to our end: so much of it, perhaps changed. */
static void
carry_from_peer(unsigned what)
{
    uint8_t buf[CARRIED_MAX];
    int len_max = what % 4 == 0 ? CARRIED_MAX : (int)(what * what / 8 + 1);
    int n = BIO_read(SSL_get_wbio(fuzz.peer), buf, len_max);

    if (n > 0 && what % 16 == 7) {
        buf[input_byte(&fuzz.input) % (unsigned)n] ^=
            (uint8_t)(input_byte(&fuzz.input) | 1);
        fuzz.is_tampered = true;
    }
    if (n > 0 && what % 16 == 11) {
        fuzz.is_tampered = true; /* dropped */
        return;
    }
    if (n > 0) {
        (void)send(fuzz.wire, buf, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

static void
insert(void)
{
    uint8_t buf[256];
    size_t len = input_byte(&fuzz.input);

    for (size_t i = 0; i < len; i++) {
        buf[i] = (uint8_t)input_byte(&fuzz.input);
    }
    fuzz.is_tampered = true;
    (void)send(fuzz.wire, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void
peer_reads(void)
{
    uint8_t buf[4096];
    int n;

    while ((n = SSL_read(fuzz.peer, buf, sizeof(buf))) > 0) {
        for (int i = 0; i < n; i++) {
            EXPECT(buf[i] == fuzz.received[1]);
            fuzz.received[1]++;
        }
    }
}

static void
operate_peer(unsigned what)
{
    uint8_t buf[4096];
    size_t len = (size_t)(what >> 4) * 256 + 1;

    switch (what % 8) {
    case 0:
    case 1:
        peer_reads(); /* and shakes hands */
        break;
    case 2:
        if (SSL_is_init_finished(fuzz.peer)) {
            uint8_t next = fuzz.sent[0];

            (void)fill(buf, len, &next);
            if (SSL_write(fuzz.peer, buf, (int)len) > 0) {
                fuzz.sent[0] = next;
            }
        }
        break;
    case 3:
        (void)SSL_shutdown(fuzz.peer);
        break;
    case 4:
        (void)SSL_key_update(fuzz.peer, SSL_KEY_UPDATE_REQUESTED);
        break;
    case 5:
        (void)SSL_renegotiate(fuzz.peer);
        break;
    case 6:
        insert();
        break;
    default:
        (void)shutdown(fuzz.wire, SHUT_WR);
        break;
    }
}

/* --- the program --- */

static void
run_turn(void)
{
    bk_loop_stop(fuzz.loop);
    EXPECT(bk_loop_run_forever(fuzz.loop) == 0);
}

static bk_transport *
begin(unsigned what)
{
    bool is_server = what % 2 == 1;
    bk_tls_options options = {.context = contexts[is_server],
                              .is_server = is_server};
    bk_transport *transport;
    int fds[2];

    EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    EXPECT(bk_loop_new(NULL, &fuzz.loop) == 0);
    transport = calloc(1, sizeof(*transport));
    EXPECT(transport != NULL);
    EXPECT(bk_transport_init(transport, fuzz.loop, &plain_protocol, NULL) == 0);
    EXPECT(bk_transport_open_fd(transport, fds[0]) == 0);
    EXPECT(bk_transport_start(transport) == 0);
    fuzz.wire = fds[1];
    fuzz.peer = SSL_new(contexts[!is_server]);
    EXPECT(fuzz.peer != NULL);
    SSL_set_bio(fuzz.peer, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    if (what % 4 >= 2) {
        (void)SSL_set_max_proto_version(fuzz.peer, TLS1_2_VERSION);
    }
    if (is_server) {
        SSL_set_connect_state(fuzz.peer);
    }
    else {
        SSL_set_accept_state(fuzz.peer);
    }
    EXPECT(bk_tls_start(transport, &tls_protocol, NULL, &options, &fuzz.tls) ==
           0);
    return transport;
}

/* Without the fuzzer's help, so that there is something to disturb. */
static void
shake_hands(unsigned rounds)
{
    for (unsigned i = 0; i < rounds % 16; i++) {
        run_turn();
        carry_to_peer();
        peer_reads();
        carry_from_peer(0);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    bk_transport *transport;
    unsigned how;

    if (contexts[0] == NULL) {
        make_contexts();
    }
    memset(&fuzz, 0, sizeof(fuzz));
    fuzz.input.data = data;
    fuzz.input.len = len;
    how = input_byte(&fuzz.input);
    transport = begin(how);
    shake_hands(how >> 4);
    while (fuzz.input.len > 0 && fuzz.steps++ < STEPS_MAX) {
        unsigned what = input_byte(&fuzz.input);

        operate_tls(what);
        run_turn();
        carry_to_peer();
        operate_peer(input_byte(&fuzz.input));
        carry_from_peer(input_byte(&fuzz.input));
        run_turn();
    }
    fuzz.input.len = 0;
    if (fuzz.tls != NULL) {
        bk_tls_abort(fuzz.tls, 0);
    }
    for (int i = 0; i < 4; i++) {
        run_turn();
    }
    EXPECT(fuzz.lost_count == 1);
    free(transport);
    bk_loop_free(fuzz.loop);
    SSL_free(fuzz.peer);
    (void)close(fuzz.wire);
    return 0;
}
