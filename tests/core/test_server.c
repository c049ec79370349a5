/* test_server.c -- listeners and servers.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_support.h"

static bk_loop *loop;
static bk_server *server;

/* What a server's connections were told, all together. */
static struct {
    int made;
    int lost;
    size_t received;
    int errors;
    int last_error;
    bk_transport *last;
    void *last_self;
} seen;

static void
on_made(bk_transport *transport, void *self)
{
    seen.made++;
    seen.last = transport;
    seen.last_self = self;
}

static void
on_data(bk_transport *transport, const void *data, size_t len, void *self)
{
    (void)self;
    seen.received += len;
    ck_assert_int_eq(bk_transport_write(transport, data, len), 0);
}

static void
on_lost(bk_transport *transport, int error, void *self)
{
    (void)transport;
    (void)error;
    (void)self;
    seen.lost++;
}

static const bk_protocol echo = {
    .connection_made = on_made,
    .data_received = on_data,
    .connection_lost = on_lost,
};

static void
on_error(bk_server *failing, int error, void *self)
{
    (void)self;
    ck_assert_ptr_eq(failing, server);
    seen.errors++;
    seen.last_error = error;
}

typedef int (*getaddrinfo_call)(const char *, const char *,
                                const struct addrinfo *, struct addrinfo **);

/* Some resolvers say the same more than once: "twice.test" does. */
int
getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
            struct addrinfo **ret_result)
{
    getaddrinfo_call real;
    int r;

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (host == NULL || strcmp(host, "twice.test") != 0) {
        return real(host, service, hints, ret_result);
    }
    r = real("127.0.0.1", service, hints, ret_result);
    return r == 0 ? real("127.0.0.1", service, hints, &(*ret_result)->ai_next)
                  : r;
}

static void
serve(const bk_server_options *options)
{
    ck_assert_int_eq(
        bk_loop_create_server(loop, &echo, &seen, options, &server), 0);
}

static void
serve_on_loopback(void)
{
    serve(&(bk_server_options){.host = "127.0.0.1", .on_error = on_error});
}

/* A non-blocking connection to the server's listening socket number index. */
static int
connect_to(size_t index)
{
    bk_address address;
    int fd;

    ck_assert_int_eq(bk_server_getsockname(server, index, &address), 0);
    fd = socket(bk_address_family(&address), SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, &address.u.sa, address.len), 0);
    ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void
begin(int poller)
{
    loop = support_new_loop(poller);
}

/* The server first, and what its connections hold with the loop. */
static void
end(void)
{
    bk_server_free(server);
    support_free_loop(loop);
}

START_TEST(echo_to_several)
{
    int fds[5];
    char buf[5];

    begin(_i);
    serve_on_loopback();
    for (int i = 0; i < 5; i++) {
        fds[i] = connect_to(0);
        send_all(fds[i], "hello", 5);
    }
    RUN_UNTIL(loop, seen.received == 25);
    ck_assert_int_eq(seen.made, 5);
    ck_assert_ptr_eq(seen.last_self, &seen);
    for (int i = 0; i < 5; i++) {
        ck_assert_uint_eq(recv_all(fds[i], buf, 5), 5);
        ck_assert_mem_eq(buf, "hello", 5);
        ck_assert_int_eq(close(fds[i]), 0);
    }
    RUN_UNTIL(loop, seen.lost == 5);
    end();
}
END_TEST

START_TEST(several_are_accepted_per_turn)
{
    int fds[20];

    begin(_i);
    serve_on_loopback();
    for (int i = 0; i < 20; i++) {
        fds[i] = connect_to(0);
    }
    support_turns(loop, 2); /* accept, and connection_made */
    ck_assert_int_eq(seen.made, 20);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(close(fds[i]), 0);
    }
    end();
}
END_TEST

START_TEST(peername_is_known_from_accept)
{
    bk_address peer;
    struct sockaddr_in own;
    socklen_t len = sizeof(own);
    int fd;

    begin(_i);
    serve_on_loopback();
    fd = connect_to(0);
    RUN_UNTIL(loop, seen.made == 1);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&own, &len), 0);
    reset_fd(fd); /* the kernel would no longer tell */
    ck_assert_int_eq(bk_transport_getpeername(seen.last, &peer), 0);
    ck_assert_uint_eq(bk_address_port(&peer), ntohs(own.sin_port));
    end();
}
END_TEST

/* Those that live, of this server alone; it may be closed already. */
static void
clients_end_by(void (*end_clients)(bk_server *server))
{
    bk_server *first;
    char byte;
    int fds[3];

    serve_on_loopback();
    first = server;
    fds[0] = connect_to(0);
    fds[1] = connect_to(0);
    serve_on_loopback();
    fds[2] = connect_to(0);
    RUN_UNTIL(loop, seen.made == 3);
    ck_assert_int_eq(close(fds[0]), 0);
    RUN_UNTIL(loop, seen.lost == 1);
    bk_server_close(first);
    end_clients(first);
    end_clients(first);             /* idempotent */
    ck_assert_int_eq(seen.lost, 1); /* not from inside */
    RUN_UNTIL(loop, seen.lost == 2);
    end_clients(first); /* nobody is left */
    bk_server_free(first);
    ck_assert_uint_eq(recv_all(fds[1], &byte, 1), 0);
    send_all(fds[2], "x", 1);
    RUN_UNTIL(loop, seen.received == 1);
    ck_assert_int_eq(close(fds[1]), 0);
    ck_assert_int_eq(close(fds[2]), 0);
    RUN_UNTIL(loop, seen.lost == 3);
}

START_TEST(clients_of_one_server_end)
{
    begin(_i);
    clients_end_by(bk_server_close_clients);
    bk_server_free(server);
    memset(&seen, 0, sizeof(seen));
    clients_end_by(bk_server_abort_clients);
    end();
}
END_TEST

START_TEST(connections_outlive_their_server)
{
    char buf[5];
    int fd;

    begin(_i);
    serve_on_loopback();
    fd = connect_to(0);
    RUN_UNTIL(loop, seen.made == 1);
    bk_server_close(server);
    bk_server_close(server);
    bk_server_free(server);
    server = NULL;
    send_all(fd, "hello", 5);
    RUN_UNTIL(loop, seen.received == 5);
    ck_assert_uint_eq(recv_all(fd, buf, 5), 5);
    ck_assert_int_eq(close(fd), 0);
    RUN_UNTIL(loop, seen.lost == 1);
    end();
}
END_TEST

START_TEST(server_may_be_freed_after_its_loop)
{
    int fd;

    begin(_i);
    serve_on_loopback();
    fd = connect_to(0);
    RUN_UNTIL(loop, seen.made == 1);
    ck_assert_int_eq(close(fd), 0);
    bk_loop_free(loop); /* ends the server's sockets and connections */
    bk_server_close(server);
    bk_server_free(server);
    support_leaks_end();
    ck_assert_int_eq(seen.lost, 0);
}
END_TEST

START_TEST(closed_server_refuses)
{
    bk_address address;
    int fd;

    begin(_i);
    serve_on_loopback();
    ck_assert_int_eq(bk_server_getsockname(server, 0, &address), 0);
    ck_assert_int_eq(bk_server_getsockname(server, 1, &address), -ENOENT);
    bk_server_close(server);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, &address.u.sa, address.len), -1);
    ck_assert_int_eq(errno, ECONNREFUSED);
    ck_assert_int_eq(close(fd), 0);
    ck_assert_int_eq(bk_server_getsockname(server, 0, &address), -EBADF);
    end();
}
END_TEST

static const bk_protocol refused = {.connection_made = on_made};
static int factory_result;

static int
choose(bk_server *asking, const bk_protocol **ret_protocol, void **ret_self,
       void *self)
{
    ck_assert_ptr_eq(asking, server);
    ck_assert_ptr_eq(self, &seen);
    if (factory_result < 0) {
        return factory_result;
    }
    *ret_protocol = &echo;
    *ret_self = &factory_result;
    return 0;
}

START_TEST(factory_chooses_protocol_and_self)
{
    int fd;

    begin(_i);
    ck_assert_int_eq(
        bk_loop_create_server(loop, &refused, &seen,
                              &(bk_server_options){.host = "127.0.0.1",
                                                   .protocol_factory = choose},
                              &server),
        0);
    fd = connect_to(0);
    send_all(fd, "hello", 5);
    RUN_UNTIL(loop, seen.received == 5);
    ck_assert_ptr_eq(seen.last_self, &factory_result);
    ck_assert_int_eq(close(fd), 0);
    end();
}
END_TEST

START_TEST(factory_may_refuse)
{
    char byte;
    int fd;

    begin(_i);
    factory_result = -EPERM;
    serve(
        &(bk_server_options){.host = "127.0.0.1", .protocol_factory = choose});
    fd = connect_to(0);
    support_turns(loop, 3);
    ck_assert_uint_eq(recv_all(fd, &byte, 1), 0);
    ck_assert_int_eq(seen.made, 0);
    ck_assert_int_eq(close(fd), 0);
    end();
}
END_TEST

static int
close_and_choose(bk_server *asking, const bk_protocol **ret_protocol,
                 void **ret_self, void *self)
{
    bk_server_close(asking);
    return choose(asking, ret_protocol, ret_self, self);
}

/* Of two that wait only the first is accepted. */
START_TEST(factory_may_close_the_server)
{
    int fds[2];

    begin(_i);
    serve(&(bk_server_options){.host = "127.0.0.1",
                               .protocol_factory = close_and_choose});
    fds[0] = connect_to(0);
    fds[1] = connect_to(0);
    send_all(fds[0], "hello", 5);
    RUN_UNTIL(loop, seen.received == 5);
    support_turns(loop, 3);
    ck_assert_int_eq(seen.made, 1);
    ck_assert_int_eq(close(fds[0]), 0);
    ck_assert_int_eq(close(fds[1]), 0);
    end();
}
END_TEST

START_TEST(port_in_use_is_told)
{
    bk_address address;
    bk_server *other = NULL;

    begin(_i);
    serve_on_loopback();
    ck_assert_int_eq(bk_server_getsockname(server, 0, &address), 0);
    ck_assert_int_eq(
        bk_loop_create_server(
            loop, &echo, NULL,
            &(bk_server_options){.host = "127.0.0.1",
                                 .port = bk_address_port(&address)},
            &other),
        -EADDRINUSE);
    ck_assert_ptr_null(other);
    end();
}
END_TEST

START_TEST(reuse_port_shares)
{
    bk_address address;
    bk_server *other;

    begin(_i);
    serve(&(bk_server_options){.host = "127.0.0.1", .has_reuse_port = true});
    ck_assert_int_eq(bk_server_getsockname(server, 0, &address), 0);
    ck_assert_int_eq(bk_loop_create_server(
                         loop, &echo, NULL,
                         &(bk_server_options){.host = "127.0.0.1",
                                              .port = bk_address_port(&address),
                                              .has_reuse_port = true,
                                              .has_keep_alive = true},
                         &other),
                     0);
    bk_server_free(other);
    end();
}
END_TEST

START_TEST(an_address_is_bound_once)
{
    bk_address address;

    begin(_i);
    serve(&(bk_server_options){.host = "twice.test"});
    ck_assert_int_eq(bk_server_getsockname(server, 0, &address), 0);
    ck_assert_int_eq(bk_server_getsockname(server, 1, &address), -ENOENT);
    end();
}
END_TEST

/* One socket for each family, on the same port: IPV6_V6ONLY. */
START_TEST(all_interfaces_with_one_port)
{
    bk_address address;
    uint16_t port;

    begin(_i);
    serve_on_loopback(); /* a port that is free, most likely, on all */
    ck_assert_int_eq(bk_server_getsockname(server, 0, &address), 0);
    port = bk_address_port(&address);
    bk_server_free(server);
    serve(&(bk_server_options){.host = "", .port = port});
    for (size_t i = 0; bk_server_getsockname(server, i, &address) == 0; i++) {
        ck_assert_uint_eq(bk_address_port(&address), port);
        ck_assert_uint_lt(i, 2);
    }
    end();
}
END_TEST

START_TEST(arguments_are_checked)
{
    bk_server_options options = {.host = "127.0.0.1"};

    begin(_i);
    ck_assert_int_eq(
        bk_loop_create_server(NULL, &echo, NULL, &options, &server), -EINVAL);
    ck_assert_int_eq(bk_loop_create_server(loop, NULL, NULL, &options, &server),
                     -EINVAL);
    ck_assert_int_eq(bk_loop_create_server(loop, &echo, NULL, NULL, &server),
                     -EINVAL);
    ck_assert_int_eq(bk_loop_create_server(loop, &echo, NULL, &options, NULL),
                     -EINVAL);
    options.family = AF_UNIX;
    ck_assert_int_eq(
        bk_loop_create_server(loop, &echo, NULL, &options, &server), -EINVAL);
    options.family = AF_INET6; /* which 127.0.0.1 is not */
    ck_assert_int_lt(
        bk_loop_create_server(loop, &echo, NULL, &options, &server), -4096);
    options.family = AF_UNSPEC;
    options.host = "203.0.113.1"; /* no interface has it: TEST-NET-3 */
    ck_assert_int_eq(
        bk_loop_create_server(loop, &echo, NULL, &options, &server),
        -EADDRNOTAVAIL);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    options.host = "127.0.0.1";
    ck_assert_int_eq(
        bk_loop_create_server(loop, &echo, NULL, &options, &server), -EBADF);
    bk_server_free(NULL);
    end();
}
END_TEST

/* Without fds accepting pauses for a second, and nothing is lost. */
START_TEST(shortage_of_fds_pauses)
{
    struct rlimit before;
    struct rlimit low;
    uint64_t since_ns;
    int fd;

    begin(_i);
    serve_on_loopback();
    fd = connect_to(0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)fd + 1;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    since_ns = bk_clock_now();
    RUN_UNTIL(loop, seen.errors > 0);
    ck_assert_int_eq(seen.last_error, -EMFILE);
    support_turns(loop, 50);
    ck_assert_int_eq(seen.errors, 1);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    RUN_UNTIL(loop, seen.made == 1);
    ck_assert_uint_ge(bk_clock_now() - since_ns, S);
    ck_assert_int_eq(seen.errors, 1);
    ck_assert_int_eq(close(fd), 0);
    end();
}
END_TEST

START_TEST(shortage_and_close)
{
    struct rlimit before;
    struct rlimit low;
    int fd;

    begin(_i);
    serve_on_loopback();
    fd = connect_to(0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)fd + 1;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    RUN_UNTIL(loop, seen.errors == 1);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    bk_server_close(server); /* with the timer that would resume it */
    ck_assert_int_eq(close(fd), 0);
    end();
}
END_TEST

/* -- listeners ----------------------------------------------------------- */

static bk_listener listener;
static int accepted;
static int close_after;
static int stop_after;

static void
on_accept(bk_listener *accepting, int fd, const bk_address *peer)
{
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bk_address_family(peer), AF_INET);
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    ck_assert_int_eq(close(fd), 0);
    accepted++;
    if (accepted == stop_after) {
        bk_listener_stop(accepting);
    }
    if (accepted == close_after) {
        bk_listener_close(accepting);
        memset(accepting, 0xa5, sizeof(*accepting));
    }
}

static int
new_listening_fd(bk_address *ret_address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(bk_address_parse("127.0.0.1", 0, AF_INET, ret_address), 0);
    ck_assert_int_eq(bind(fd, &ret_address->u.sa, ret_address->len), 0);
    ck_assert_int_eq(listen(fd, 100), 0);
    ck_assert_int_eq(getsockname(fd, &ret_address->u.sa, &ret_address->len), 0);
    return fd;
}

static void
connect_many(const bk_address *address, int *fds, int count)
{
    for (int i = 0; i < count; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(connect(fds[i], &address->u.sa, address->len), 0);
    }
}

static void
close_many(const int *fds, int count)
{
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(close(fds[i]), 0);
    }
}

START_TEST(listener_accepts_so_many_per_turn)
{
    bk_address address;
    int fds[10];

    begin(_i);
    ck_assert_int_eq(bk_listener_init_fd(&listener, loop,
                                         new_listening_fd(&address), 3,
                                         on_accept),
                     0);
    connect_many(&address, fds, 10);
    ck_assert_int_eq(bk_listener_start(&listener), 0);
    ck_assert_int_eq(bk_listener_start(&listener), 0);
    support_turns(loop, 1);
    ck_assert_int_eq(accepted, 3);
    support_turns(loop, 1);
    ck_assert_int_eq(accepted, 6);
    RUN_UNTIL(loop, accepted == 10);
    close_many(fds, 10);
    bk_listener_close(&listener);
    bk_listener_close(&listener);
    end();
}
END_TEST

START_TEST(listener_closed_inside_its_callback)
{
    bk_address address;
    int fds[5];

    begin(_i);
    close_after = 2;
    ck_assert_int_eq(bk_listener_init_fd(&listener, loop,
                                         new_listening_fd(&address), 100,
                                         on_accept),
                     0);
    connect_many(&address, fds, 5);
    ck_assert_int_eq(bk_listener_start(&listener), 0);
    support_turns(loop, 3);
    ck_assert_int_eq(accepted, 2);
    close_many(fds, 5);
    end();
}
END_TEST

START_TEST(listener_stopped_inside_its_callback)
{
    bk_address address;
    int fds[5];

    begin(_i);
    stop_after = 2;
    ck_assert_int_eq(bk_listener_init_fd(&listener, loop,
                                         new_listening_fd(&address), 100,
                                         on_accept),
                     0);
    connect_many(&address, fds, 5);
    ck_assert_int_eq(bk_listener_start(&listener), 0);
    support_turns(loop, 3);
    ck_assert_int_eq(accepted, 2);
    ck_assert_int_eq(bk_listener_start(&listener), 0);
    RUN_UNTIL(loop, accepted == 5);
    bk_listener_stop(&listener);
    bk_listener_stop(&listener);
    bk_listener_close(&listener);
    ck_assert_int_eq(bk_listener_start(&listener), -EBADF);
    ck_assert_int_eq(bk_listener_fileno(&listener), -1);
    close_many(fds, 5);
    end();
}
END_TEST

static int object_fd;
static int object_closes;

static int
object_fileno(void *self)
{
    (void)self;
    return object_fd;
}

static void
object_close(void *self)
{
    (void)self;
    object_closes++;
    ck_assert_int_eq(close(object_fd), 0);
    object_fd = -1;
}

static const bk_socket_ops object_ops = {.fileno = object_fileno,
                                         .close = object_close};

START_TEST(listener_of_a_socket_object)
{
    bk_address address;
    int fd;

    begin(_i);
    object_fd = new_listening_fd(&address);
    ck_assert_int_eq(bk_listener_init_socket(&listener, loop, &object_ops, NULL,
                                             100, on_accept),
                     0);
    ck_assert_int_eq(bk_listener_fileno(&listener), object_fd);
    ck_assert_int_eq(bk_listener_start(&listener), 0);
    connect_many(&address, &fd, 1);
    RUN_UNTIL(loop, accepted == 1);
    ck_assert_int_eq(close(fd), 0);
    bk_listener_close(&listener);
    bk_listener_close(&listener);
    ck_assert_int_eq(object_closes, 1);
    end();
}
END_TEST

START_TEST(listener_takes_its_fd_on_failure_too)
{
    bk_address address;

    begin(_i);
    ck_assert_int_eq(bk_listener_init_fd(&listener, loop, -1, 1, on_accept),
                     -EBADF);
    ck_assert_int_eq(bk_listener_init_fd(&listener, loop,
                                         new_listening_fd(&address), 0,
                                         on_accept),
                     -EINVAL);
    ck_assert_int_eq(bk_listener_init_fd(&listener, loop,
                                         new_listening_fd(&address), 1, NULL),
                     -EINVAL);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_int_eq(bk_listener_init_fd(&listener, loop,
                                         new_listening_fd(&address), 1,
                                         on_accept),
                     -EBADF);
    end();
}
END_TEST

START_TEST(listener_closed_after_its_loop)
{
    bk_address address;

    begin(_i);
    ck_assert_int_eq(bk_listener_init_fd(&listener, loop,
                                         new_listening_fd(&address), 1,
                                         on_accept),
                     0);
    ck_assert_int_eq(bk_listener_start(&listener), 0);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    bk_listener_close(&listener);
    ck_assert_int_eq(bk_listener_start(&listener), -EBADF);
    end();
}
END_TEST

#define ADD(tcase, test) tcase_add_loop_test(tcase, test, 0, SUPPORT_POLLERS)

int
main(void)
{
    Suite *suite = suite_create("server");
    TCase *servers = tcase_create("server");
    TCase *listeners = tcase_create("listener");

    ADD(servers, echo_to_several);
    ADD(servers, several_are_accepted_per_turn);
    ADD(servers, peername_is_known_from_accept);
    ADD(servers, connections_outlive_their_server);
    ADD(servers, clients_of_one_server_end);
    ADD(servers, server_may_be_freed_after_its_loop);
    ADD(servers, closed_server_refuses);
    ADD(servers, factory_chooses_protocol_and_self);
    ADD(servers, factory_may_refuse);
    ADD(servers, factory_may_close_the_server);
    ADD(servers, port_in_use_is_told);
    ADD(servers, reuse_port_shares);
    ADD(servers, an_address_is_bound_once);
    ADD(servers, all_interfaces_with_one_port);
    ADD(servers, arguments_are_checked);
    ADD(servers, shortage_of_fds_pauses);
    ADD(servers, shortage_and_close);
    suite_add_tcase(suite, servers);
    ADD(listeners, listener_accepts_so_many_per_turn);
    ADD(listeners, listener_closed_inside_its_callback);
    ADD(listeners, listener_stopped_inside_its_callback);
    ADD(listeners, listener_of_a_socket_object);
    ADD(listeners, listener_takes_its_fd_on_failure_too);
    ADD(listeners, listener_closed_after_its_loop);
    suite_add_tcase(suite, listeners);
    return support_main(suite);
}
