/* test_unix_socket.c -- Unix sockets: connections, servers, their files.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net_support.h"

static bk_loop *loop;
static char folder[] = "/tmp/becket-unix-XXXXXX";
static char before[4096];

/* What one side of a connection was told. */
struct side {
    bk_transport *transport;
    int made;
    int lost;
    int error;
    size_t received;
};

static struct side client;
static struct side served;
static int connects;
static int connect_error;

static void
on_made(bk_transport *transport, void *self)
{
    struct side *side = self;

    side->transport = transport;
    side->made++;
}

static void
on_data(bk_transport *transport, const void *data, size_t len, void *self)
{
    struct side *side = self;

    ck_assert(is_pattern(data, len, side->received));
    side->received += len;
    if (side == &served) {
        ck_assert_int_eq(bk_transport_write(transport, data, len), 0);
    }
}

static void
on_lost(bk_transport *transport, int error, void *self)
{
    struct side *side = self;

    (void)transport;
    side->transport = NULL;
    side->lost++;
    side->error = error;
}

static const bk_protocol protocol = {
    .connection_made = on_made,
    .data_received = on_data,
    .connection_lost = on_lost,
};

static void
on_connect(bk_connector *connector, int error, bk_transport *transport,
           void *self)
{
    (void)connector;
    ck_assert_ptr_eq(self, &client);
    ck_assert_int_eq(error == 0, transport != NULL);
    ck_assert_int_eq(client.made, 0);
    connects++;
    connect_error = error;
}

/* Paths are short within a folder of the test's own. */
static void
begin(int poller)
{
    client = (struct side){0};
    served = (struct side){0};
    connects = 0;
    connect_error = 0;
    ck_assert_ptr_nonnull(getcwd(before, sizeof(before)));
    (void)snprintf(folder, sizeof(folder), "/tmp/becket-unix-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
    loop = support_new_loop(poller);
}

static void
end(void)
{
    support_free_loop(loop);
    ck_assert_int_eq(chdir(before), 0);
    ck_assert_int_eq(rmdir(folder), 0); /* nothing is left in it */
}

static bk_server *
serve(const bk_unix_server_options *options)
{
    bk_server *server;

    ck_assert_int_eq(
        bk_loop_create_unix_server(loop, &protocol, &served, options, &server),
        0);
    return server;
}

static bk_server *
serve_at(const char *path)
{
    return serve(&(bk_unix_server_options){.path = path});
}

static bk_connector *
begin_connect(const char *path, size_t path_len)
{
    bk_connector *connector;

    connects = 0;
    ck_assert_int_eq(bk_loop_create_unix_connection(loop, &protocol, &client,
                                                    path, path_len, on_connect,
                                                    &connector),
                     0);
    ck_assert_int_eq(connects, 0);
    return connector;
}

/* Connect, have so many bytes echoed, and close. */
static void
exchange(const char *path, size_t path_len, size_t len)
{
    char *data = malloc(len);

    fill_pattern(data, len, 0);
    client = (struct side){0};
    served = (struct side){0};
    (void)begin_connect(path, path_len);
    RUN_UNTIL(loop, client.made == 1 && served.made == 1);
    ck_assert_int_eq(connect_error, 0);
    ck_assert_int_eq(bk_transport_write(client.transport, data, len), 0);
    RUN_UNTIL(loop, client.received == len);
    bk_transport_close(client.transport);
    RUN_UNTIL(loop, client.lost == 1 && served.lost == 1);
    ck_assert_int_eq(client.error, 0);
    ck_assert_int_eq(served.error, 0);
    free(data);
}

static bool
exists(const char *path)
{
    struct stat status;

    return lstat(path, &status) == 0;
}

START_TEST(echoes)
{
    bk_server *server;

    begin(_i);
    server = serve_at("s");
    exchange("s", 0, 5);
    exchange("s", 1, 1 << 20);
    ck_assert(exists("s"));
    bk_server_close(server);
    ck_assert(!exists("s"));
    bk_server_free(server);
    end();
}
END_TEST

START_TEST(abstract_name_has_no_file)
{
    char name[64] = "";
    size_t len = (size_t)snprintf(name + 1, sizeof(name) - 1, "becket-%d\xff",
                                  (int)getpid()) +
                 1;
    bk_server *server;

    begin(_i);
    server = serve(&(bk_unix_server_options){.path = name, .path_len = len});
    exchange(name, len, 1000);
    bk_server_free(server);
    end();
}
END_TEST

START_TEST(longest_path)
{
    char path[BK_UNIX_PATH_MAX + 2];
    bk_server *server;

    begin(_i);
    memset(path, 'x', sizeof(path));
    path[BK_UNIX_PATH_MAX + 1] = '\0';
    ck_assert_int_eq(bk_loop_create_unix_server(
                         loop, &protocol, NULL,
                         &(bk_unix_server_options){.path = path}, &server),
                     -ENAMETOOLONG);
    ck_assert_int_eq(bk_loop_create_unix_connection(loop, &protocol, NULL, path,
                                                    0, NULL, NULL),
                     -ENAMETOOLONG);
    path[BK_UNIX_PATH_MAX] = '\0';
    server = serve_at(path);
    ck_assert(exists(path));
    exchange(path, BK_UNIX_PATH_MAX, 100);
    bk_server_free(server);
    end();
}
END_TEST

static void
expect_text(const bk_address *address, const char *text)
{
    char buf[BK_ADDRESS_TEXT_MAX];

    ck_assert_int_eq(bk_address_format(address, buf, sizeof(buf)),
                     (int)strlen(text));
    ck_assert_str_eq(buf, text);
}

/* Short ones are kept by the transport; the kernel can be asked for any. */
START_TEST(names)
{
    struct sockaddr_un address;
    socklen_t len = sizeof(address);
    bk_address name;
    char path[100];
    bk_server *server;

    begin(_i);
    memset(path, 'n', sizeof(path));
    path[99] = '\0';
    server = serve_at("short");
    (void)begin_connect("short", 0);
    RUN_UNTIL(loop, client.made == 1);
    ck_assert_int_eq(bk_transport_getpeername(client.transport, &name), 0);
    expect_text(&name, "short");
    ck_assert_int_eq(bk_transport_getsockname(client.transport, &name), 0);
    expect_text(&name, "");
    ck_assert_int_eq(bk_server_getsockname(server, 0, &name), 0);
    expect_text(&name, "short");
    bk_server_free(server);
    client = (struct side){0};
    server = serve_at(path);
    (void)begin_connect(path, 0);
    RUN_UNTIL(loop, client.made == 1);
    ck_assert_int_eq(bk_transport_getpeername(client.transport, &name),
                     -EAFNOSUPPORT);
    ck_assert_int_eq(bk_transport_get_sockaddr(client.transport, true,
                                               (struct sockaddr *)&address,
                                               &len),
                     0);
    ck_assert_str_eq(address.sun_path, path);
    bk_server_free(server);
    end();
}
END_TEST

static void
expect_failure(const char *path, int error)
{
    (void)begin_connect(path, 0);
    RUN_UNTIL(loop, connects == 1);
    support_turns(loop, 3);
    ck_assert_int_eq(connects, 1);
    ck_assert_int_eq(connect_error, error);
    ck_assert_int_eq(client.made, 0);
}

static int
bound_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    ck_assert_int_ge(fd, 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

START_TEST(failures_of_connect)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "s"};
    int listening;
    int filler;

    begin(_i);
    expect_failure("missing", -ENOENT);
    listening = bound_socket("s");
    expect_failure("s", -ECONNREFUSED);
    ck_assert_int_eq(listen(listening, 0), 0);
    filler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(
        connect(filler, (struct sockaddr *)&address, sizeof(address)), 0);
    expect_failure("s", -EAGAIN); /* the backlog is full */
    ck_assert_int_eq(close(filler), 0);
    ck_assert_int_eq(close(listening), 0);
    ck_assert_int_eq(unlink("s"), 0);
    end();
}
END_TEST

START_TEST(cancelled)
{
    bk_server *server;

    begin(_i);
    server = serve_at("s");
    bk_connector_cancel(begin_connect("s", 0));
    RUN_UNTIL(loop, connects == 1);
    ck_assert_int_eq(connect_error, -ECANCELED);
    /* and once it is under way */
    {
        bk_connector *connector = begin_connect("s", 0);

        support_turns(loop, 1);
        if (connects == 0) {
            bk_connector_cancel(connector);
        }
    }
    RUN_UNTIL(loop, connects == 1);
    ck_assert_int_eq(connect_error, -ECANCELED);
    /* and with the loop, telling nobody */
    (void)begin_connect("s", 0);
    bk_server_free(server);
    end();
    ck_assert_int_eq(connects, 0);
}
END_TEST

START_TEST(stale_file_is_replaced)
{
    bk_server *server;

    begin(_i);
    ck_assert_int_eq(close(bound_socket("s")), 0);
    server = serve_at("s");
    exchange("s", 0, 10);
    bk_server_free(server);
    end();
}
END_TEST

START_TEST(other_files_stay)
{
    bk_server *server;
    int fd;

    begin(_i);
    fd = open("file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(close(fd), 0);
    ck_assert_int_eq(bk_loop_create_unix_server(
                         loop, &protocol, NULL,
                         &(bk_unix_server_options){.path = "file"}, &server),
                     -EADDRINUSE);
    ck_assert_int_eq(bk_loop_create_unix_server(
                         loop, &protocol, NULL,
                         &(bk_unix_server_options){.path = "missing/s"},
                         &server),
                     -ENOENT);
    ck_assert_int_eq(unlink("file"), 0);
    end();
}
END_TEST

/* File systems use the numbers of inodes again, often at once. */
START_TEST(replaced_file_stays)
{
    bk_server *first;
    bk_server *second;

    begin(_i);
    first = serve_at("s");
    second = serve_at("s");
    bk_server_free(first);
    ck_assert(exists("s"));
    exchange("s", 0, 10);
    bk_server_free(second);
    ck_assert(!exists("s"));
    end();
}
END_TEST

START_TEST(file_is_kept)
{
    bk_server *server;

    begin(_i);
    server =
        serve(&(bk_unix_server_options){.path = "s", .is_file_kept = true});
    bk_server_free(server);
    ck_assert(exists("s"));
    ck_assert_int_eq(unlink("s"), 0);
    server = serve_at("s");
    ck_assert_int_eq(unlink("s"), 0);
    bk_server_free(server); /* which has nothing to remove */
    end();
}
END_TEST

START_TEST(mode_of_the_file)
{
    struct stat status;
    bk_server *server;

    begin(_i);
    server = serve(&(bk_unix_server_options){.path = "s", .mode = 0620});
    ck_assert_int_eq(stat("s", &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777u, 0620u);
    exchange("s", 0, 10);
    bk_server_free(server);
    ck_assert_int_eq(bk_loop_create_unix_server(
                         loop, &protocol, NULL,
                         &(bk_unix_server_options){
                             .path = "\0name", .path_len = 5, .mode = 0600},
                         &server),
                     -EINVAL);
    end();
}
END_TEST

/* The file is the parent's. */
START_TEST(forked_child_leaves_the_file)
{
    bk_server *server;
    int status;
    pid_t pid;

    begin(_i);
    server = serve_at("s");
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        bk_server_free(server);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert(exists("s"));
    exchange("s", 0, 10);
    bk_server_free(server);
    end();
}
END_TEST

static int refused;

static int
refuse(bk_server *server, const bk_protocol **ret_protocol, void **ret_self,
       void *self)
{
    (void)server;
    (void)ret_protocol;
    (void)ret_self;
    ck_assert_ptr_eq(self, &served);
    refused++;
    return -ECONNABORTED;
}

START_TEST(factory_refuses)
{
    bk_server *server;

    begin(_i);
    refused = 0;
    server = serve(&(bk_unix_server_options){
        .path = "s", .backlog = 3, .protocol_factory = refuse});
    (void)begin_connect("s", 0);
    RUN_UNTIL(loop, client.lost == 1);
    ck_assert_int_eq(refused, 1);
    ck_assert_int_eq(served.made, 0);
    bk_server_free(server);
    end();
}
END_TEST

START_TEST(arguments_are_checked)
{
    bk_unix_server_options options = {.path = "s"};
    bk_server *server;

    begin(_i);
    ck_assert_int_eq(
        bk_loop_create_unix_server(NULL, &protocol, NULL, &options, &server),
        -EINVAL);
    ck_assert_int_eq(
        bk_loop_create_unix_server(loop, NULL, NULL, &options, &server),
        -EINVAL);
    ck_assert_int_eq(
        bk_loop_create_unix_server(loop, &protocol, NULL, NULL, &server),
        -EINVAL);
    ck_assert_int_eq(
        bk_loop_create_unix_server(loop, &protocol, NULL, &options, NULL),
        -EINVAL);
    options.backlog = -1;
    ck_assert_int_eq(
        bk_loop_create_unix_server(loop, &protocol, NULL, &options, &server),
        -EINVAL);
    options = (bk_unix_server_options){.path = ""};
    ck_assert_int_eq(
        bk_loop_create_unix_server(loop, &protocol, NULL, &options, &server),
        -EINVAL);
    options.path = NULL;
    ck_assert_int_eq(
        bk_loop_create_unix_server(loop, &protocol, NULL, &options, &server),
        -EINVAL);
    ck_assert_int_eq(bk_loop_create_unix_connection(NULL, &protocol, NULL, "s",
                                                    0, NULL, NULL),
                     -EINVAL);
    ck_assert_int_eq(
        bk_loop_create_unix_connection(loop, NULL, NULL, "s", 0, NULL, NULL),
        -EINVAL);
    ck_assert_int_eq(bk_loop_create_unix_connection(loop, &protocol, NULL, NULL,
                                                    0, NULL, NULL),
                     -EINVAL);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    options.path = "s";
    ck_assert_int_eq(
        bk_loop_create_unix_server(loop, &protocol, NULL, &options, &server),
        -EBADF);
    ck_assert_int_eq(bk_loop_create_unix_connection(loop, &protocol, NULL, "s",
                                                    0, NULL, NULL),
                     -EBADF);
    end();
}
END_TEST

/* Closing the loop closes the server, and with it goes its file. */
START_TEST(loop_is_closed_first)
{
    bk_server *server;

    begin(_i);
    server = serve_at("s");
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert(!exists("s"));
    bk_server_free(server);
    end();
}
END_TEST

#define ADD(test) tcase_add_loop_test(tcase, test, 0, SUPPORT_POLLERS)

int
main(void)
{
    Suite *suite = suite_create("test_unix_socket");
    TCase *tcase = tcase_create("unix_socket");

    ADD(echoes);
    ADD(abstract_name_has_no_file);
    ADD(longest_path);
    ADD(names);
    ADD(failures_of_connect);
    ADD(cancelled);
    ADD(stale_file_is_replaced);
    ADD(other_files_stay);
    ADD(replaced_file_stays);
    ADD(file_is_kept);
    ADD(mode_of_the_file);
    ADD(forked_child_leaves_the_file);
    ADD(factory_refuses);
    ADD(arguments_are_checked);
    ADD(loop_is_closed_first);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
