/* unix_echo.c -- sends back what it receives, over a Unix socket.
 *
 * SPDX-License-Identifier: MIT
 *
 *     unix_echo path      ("@name" is one in the abstract namespace)
 *
 * Only the user who started it may connect. Serves until SIGINT or SIGTERM.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "becket/becket.h"

static void
on_data(bk_transport *transport, const void *data, size_t len, void *self)
{
    int r = bk_transport_write(transport, data, len);

    (void)self;
    if (r < 0) {
        bk_transport_abort(transport, r);
    }
}

static const bk_protocol echo = {.data_received = on_data};

static void
on_signal(bk_loop *loop, int signum, void *arg)
{
    (void)signum;
    (void)arg;
    bk_loop_stop(loop);
}

static int
create_server(bk_loop *loop, const char *path, bk_server **ret_server)
{
    char name[BK_UNIX_PATH_MAX + 1];
    bk_unix_server_options options = {.path = path, .mode = 0600};

    if (path[0] == '@' && strlen(path) < sizeof(name)) {
        (void)strcpy(name, path);
        name[0] = '\0';
        options.path = name;
        options.path_len = strlen(path);
        options.mode = 0;
    }
    return bk_loop_create_unix_server(loop, &echo, NULL, &options, ret_server);
}

static int
serve(bk_loop *loop, const char *path)
{
    bk_server *server = NULL;
    int r = bk_loop_add_signal_handler(loop, SIGINT, on_signal, NULL);

    if (r == 0) {
        r = bk_loop_add_signal_handler(loop, SIGTERM, on_signal, NULL);
    }
    if (r == 0) {
        r = create_server(loop, path, &server);
    }
    if (r == 0) {
        (void)printf("listening on %s\n", path);
        (void)fflush(stdout);
        r = bk_loop_run_forever(loop);
    }
    bk_server_free(server);
    return r;
}

int
main(int argc, char **argv)
{
    bk_loop *loop = NULL;
    int r;

    if (argc != 2) {
        (void)fprintf(stderr, "usage: unix_echo path\n");
        return 2;
    }
    r = bk_loop_new(NULL, &loop);
    if (r == 0) {
        r = serve(loop, argv[1]);
    }
    bk_loop_free(loop);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
