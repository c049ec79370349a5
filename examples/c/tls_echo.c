/* tls_echo.c -- sends back what it receives, over TLS.
 *
 * SPDX-License-Identifier: MIT
 *
 *     tls_echo certificate.pem key.pem [port]
 *
 * Built where the library has TLS, with -lssl -lcrypto. Port 0 takes one that
 * is free; the program says which. Serves until SIGINT or SIGTERM.
 */
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "becket/becket.h"

static void
on_data(bk_tls *tls, const void *data, size_t len, void *self)
{
    int r = bk_tls_write(tls, data, len);

    (void)self;
    if (r < 0) {
        bk_tls_abort(tls, r);
    }
}

static const bk_tls_protocol echo = {.data_received = on_data};

/* self is the SSL_CTX that all connections share. */
static void
on_connection(bk_transport *transport, void *self)
{
    bk_tls_options options = {.context = self, .is_server = true};
    bk_tls *tls;
    int r = bk_tls_start(transport, &echo, NULL, &options, &tls);

    if (r < 0) {
        bk_transport_abort(transport, r);
    }
}

static const bk_protocol plain = {.connection_made = on_connection};

static void
on_signal(bk_loop *loop, int signum, void *arg)
{
    (void)signum;
    (void)arg;
    bk_loop_stop(loop);
}

static int
serve(bk_loop *loop, SSL_CTX *context, int port)
{
    bk_server_options options = {.host = "127.0.0.1", .port = (uint16_t)port};
    bk_server *server = NULL;
    bk_address address;
    int r = bk_loop_add_signal_handler(loop, SIGINT, on_signal, NULL);

    r = r < 0 ? r : bk_loop_add_signal_handler(loop, SIGTERM, on_signal, NULL);
    if (r == 0) {
        r = bk_loop_create_server(loop, &plain, context, &options, &server);
    }
    if (r == 0) {
        r = bk_server_getsockname(server, 0, &address);
    }
    if (r == 0) {
        (void)printf("listening on port %d\n", bk_address_port(&address));
        (void)fflush(stdout);
        r = bk_loop_run_forever(loop);
    }
    bk_server_free(server);
    return r;
}

int
main(int argc, char **argv)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    bk_loop *loop = NULL;
    int r;

    if (argc < 3 || context == NULL ||
        SSL_CTX_use_certificate_chain_file(context, argv[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, argv[2], SSL_FILETYPE_PEM) != 1) {
        (void)fprintf(stderr, "usage: tls_echo certificate key [port]\n");
        SSL_CTX_free(context);
        return 2;
    }
    r = bk_loop_new(NULL, &loop);
    r = r < 0 ? r : serve(loop, context, argc > 3 ? atoi(argv[3]) : 8443);
    bk_loop_free(loop);
    SSL_CTX_free(context);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
