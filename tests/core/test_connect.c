/* test_connect.c -- outgoing connections.
 *
 * SPDX-License-Identifier: MIT
 *
 * getaddrinfo(3) is replaced: some names stand for lists of addresses that no
 * machine's configuration has.
 */
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_support.h"

static bk_loop *loop;
static struct {
    int calls;
    int error;
    bk_transport *transport;
    bool was_made_before;
    void (*then)(bk_connector *connector);
} result;
static int made;
static int lost;
static int server_fd;
static bk_address server_address;

static struct addrinfo *
new_info(const bk_address *address, struct addrinfo *next)
{
    struct addrinfo *info = calloc(1, sizeof(*info));

    info->ai_family = bk_address_family(address);
    info->ai_socktype = SOCK_STREAM;
    info->ai_addr = malloc(address->len);
    memcpy(info->ai_addr, &address->u, address->len);
    info->ai_addrlen = address->len;
    info->ai_next = next;
    return info;
}

/* An address of 127.0.0.1 where nobody listens: its port is bound by a socket
 * that does not. */
static int unused_fd;
static bk_address unused_address;

static struct addrinfo *
addresses_of(const char *host)
{
    bk_address v6;

    if (strcmp(host, "second-works.test") == 0) {
        return new_info(&unused_address, new_info(&server_address, NULL));
    }
    if (strcmp(host, "none-works.test") == 0) {
        return new_info(&unused_address, new_info(&unused_address, NULL));
    }
    if (strcmp(host, "odd-family.test") == 0) {
        ck_assert_int_eq(bk_address_parse("::1", 1, AF_INET6, &v6), 0);
        v6.u.sa.sa_family = AF_UNSPEC;
        return new_info(&v6, NULL);
    }
    return NULL;
}

typedef int (*getaddrinfo_call)(const char *, const char *,
                                const struct addrinfo *, struct addrinfo **);

int
getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
            struct addrinfo **ret_result)
{
    getaddrinfo_call real;
    size_t len = host == NULL ? 0 : strlen(host);

    if (len > 5 && strcmp(host + len - 5, ".test") == 0) {
        if (hints != NULL && (hints->ai_flags & AI_NUMERICHOST) != 0) {
            return EAI_NONAME;
        }
        *ret_result = addresses_of(host);
        return *ret_result == NULL ? EAI_NONAME : 0;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(host, service, hints, ret_result);
}

/* Ours are made with malloc, and so are those of the C library; both are
 * given back piece by piece. */
void
freeaddrinfo(struct addrinfo *info)
{
    bool is_ours = info != NULL && info->ai_canonname == NULL &&
                   (char *)info->ai_addr != (char *)(info + 1);
    void (*real)(struct addrinfo *);

    if (!is_ours) {
        *(void **)&real = dlsym(RTLD_NEXT, "freeaddrinfo");
        real(info);
        return;
    }
    while (info != NULL) {
        struct addrinfo *next = info->ai_next;

        free(info->ai_addr);
        free(info);
        info = next;
    }
}

static void
on_made(bk_transport *transport, void *self)
{
    (void)transport;
    (void)self;
    made++;
}

static void
on_lost(bk_transport *transport, int error, void *self)
{
    (void)transport;
    (void)error;
    (void)self;
    lost++;
}

static const bk_protocol protocol = {
    .connection_made = on_made,
    .connection_lost = on_lost,
};

static void
on_connect(bk_connector *connector, int error, bk_transport *transport,
           void *self)
{
    ck_assert_ptr_eq(self, &result);
    ck_assert_int_eq(error == 0, transport != NULL);
    result.calls++;
    result.error = error;
    result.transport = transport;
    result.was_made_before = made > 0;
    if (result.then != NULL) {
        result.then(connector);
    }
}

static bk_connector *
begin_connect(const bk_connect_options *options)
{
    bk_connector *connector;

    ck_assert_int_eq(bk_loop_create_connection(loop, &protocol, &result,
                                               options, on_connect, &connector),
                     0);
    ck_assert_int_eq(result.calls, 0);
    return connector;
}

static int
bound_socket(bk_address *ret_address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    ck_assert_int_eq(bk_address_parse("127.0.0.1", 0, AF_INET, ret_address), 0);
    ck_assert_int_eq(bind(fd, &ret_address->u.sa, ret_address->len), 0);
    ck_assert_int_eq(getsockname(fd, &ret_address->u.sa, &ret_address->len), 0);
    return fd;
}

static void
begin(int poller)
{
    memset(&result, 0, sizeof(result));
    made = 0;
    lost = 0;
    loop = new_threaded_loop(poller);
    server_fd = bound_socket(&server_address);
    ck_assert_int_eq(listen(server_fd, 10), 0);
    unused_fd = bound_socket(&unused_address);
}

static void
end(void)
{
    ck_assert_int_eq(close(server_fd), 0);
    ck_assert_int_eq(close(unused_fd), 0);
    free_threaded_loop(loop);
}

static bk_connect_options
to_server(void)
{
    return (bk_connect_options){.host = "127.0.0.1",
                                .port = bk_address_port(&server_address)};
}

static void
expect_failure(int error)
{
    RUN_UNTIL(loop, result.calls == 1);
    support_turns(loop, 3);
    ck_assert_int_eq(result.calls, 1);
    ck_assert_int_eq(result.error, error);
    ck_assert_int_eq(made, 0);
}

static void
expect_success(void)
{
    int fd;

    RUN_UNTIL(loop, result.calls == 1);
    ck_assert_int_eq(result.error, 0);
    ck_assert(!result.was_made_before);
    RUN_UNTIL(loop, made == 1);
    fd = accept(server_fd, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bk_transport_write(result.transport, "hello", 5), 0);
    {
        char buf[5];

        ck_assert_uint_eq(recv_all(fd, buf, 5), 5);
        ck_assert_mem_eq(buf, "hello", 5);
    }
    ck_assert_int_eq(close(fd), 0);
    RUN_UNTIL(loop, lost == 1);
}

START_TEST(connects_and_tells_before_connection_made)
{
    bk_connect_options options = to_server();

    begin(_i);
    options = to_server();
    (void)begin_connect(&options);
    expect_success();
    end();
}
END_TEST

START_TEST(peername_is_the_server)
{
    bk_connect_options options;
    bk_address peer;

    begin(_i);
    options = to_server();
    (void)begin_connect(&options);
    RUN_UNTIL(loop, result.calls == 1);
    ck_assert_int_eq(bk_transport_getpeername(result.transport, &peer), 0);
    ck_assert_uint_eq(bk_address_port(&peer), options.port);
    end(); /* with the connection open: the loop releases it */
    ck_assert_int_eq(lost, 0);
}
END_TEST

START_TEST(name_is_resolved)
{
    bk_connect_options options;

    begin(_i);
    options = to_server();
    options.host = "localhost";
    options.family = AF_INET;
    (void)begin_connect(&options);
    expect_success();
    end();
}
END_TEST

START_TEST(refused)
{
    bk_connect_options options;

    begin(_i);
    options = to_server();
    options.port = bk_address_port(&unused_address);
    (void)begin_connect(&options);
    expect_failure(-ECONNREFUSED);
    end();
}
END_TEST

START_TEST(next_address_is_tried)
{
    begin(_i);
    (void)begin_connect(&(bk_connect_options){.host = "second-works.test"});
    expect_success();
    end();
}
END_TEST

START_TEST(last_failure_is_told)
{
    begin(_i);
    (void)begin_connect(&(bk_connect_options){.host = "none-works.test"});
    expect_failure(-ECONNREFUSED);
    end();
}
END_TEST

START_TEST(unknown_name_and_family)
{
    begin(_i);
    (void)begin_connect(&(bk_connect_options){.host = "unknown.test"});
    expect_failure(BK_EAI_NONAME);
    end();
    begin(_i);
    (void)begin_connect(&(bk_connect_options){.host = "odd-family.test"});
    expect_failure(-EAFNOSUPPORT);
    end();
}
END_TEST

START_TEST(local_address_is_bound)
{
    bk_connect_options options;
    bk_address local;
    bk_address wanted;
    int fd;

    begin(_i);
    fd = bound_socket(&wanted); /* a port that is free once it is closed */
    ck_assert_int_eq(close(fd), 0);
    options = to_server();
    options.local_host = "127.0.0.1";
    options.local_port = bk_address_port(&wanted);
    (void)begin_connect(&options);
    RUN_UNTIL(loop, result.calls == 1);
    ck_assert_int_eq(result.error, 0);
    ck_assert_int_eq(bk_transport_getsockname(result.transport, &local), 0);
    ck_assert_uint_eq(bk_address_port(&local), options.local_port);
    end();
}
END_TEST

START_TEST(local_address_of_another_family)
{
    bk_connect_options options;

    begin(_i);
    options = to_server();
    options.local_host = "::1";
    (void)begin_connect(&options);
    expect_failure(-EADDRNOTAVAIL);
    end();
}
END_TEST

START_TEST(local_address_in_use)
{
    bk_connect_options options;

    begin(_i);
    options = to_server();
    options.local_host = "127.0.0.1";
    options.local_port = bk_address_port(&unused_address);
    (void)begin_connect(&options);
    expect_failure(-EADDRINUSE);
    end();
}
END_TEST

START_TEST(arguments_are_checked)
{
    bk_connect_options options;

    begin(_i);
    options = to_server();
    ck_assert_int_eq(
        bk_loop_create_connection(NULL, &protocol, NULL, &options, NULL, NULL),
        -EINVAL);
    ck_assert_int_eq(
        bk_loop_create_connection(loop, NULL, NULL, &options, NULL, NULL),
        -EINVAL);
    ck_assert_int_eq(
        bk_loop_create_connection(loop, &protocol, NULL, NULL, NULL, NULL),
        -EINVAL);
    options.local_host = "localhost";
    ck_assert_int_eq(
        bk_loop_create_connection(loop, &protocol, NULL, &options, NULL, NULL),
        -EINVAL);
    options.local_host = NULL;
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_int_eq(
        bk_loop_create_connection(loop, &protocol, NULL, &options, NULL, NULL),
        -EBADF);
    end();
}
END_TEST

START_TEST(nobody_needs_to_be_told)
{
    bk_connect_options options;

    begin(_i);
    options = to_server();
    ck_assert_int_eq(
        bk_loop_create_connection(loop, &protocol, NULL, &options, NULL, NULL),
        0);
    RUN_UNTIL(loop, made == 1);
    options.port = bk_address_port(&unused_address);
    ck_assert_int_eq(
        bk_loop_create_connection(loop, &protocol, NULL, &options, NULL, NULL),
        0);
    support_turns(loop, 10);
    end();
}
END_TEST

/* Whatever it is doing: on_connect comes once, with this code or with a
 * connection that was there already. */
START_TEST(cancel_at_any_time)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost",
                                        "second-works.test"};

    for (int turns = 0; turns < 6; turns++) {
        for (int i = 0; i < 3; i++) {
            bk_connect_options options;
            bk_connector *connector;

            begin(_i);
            options = to_server();
            options.host = hosts[i];
            connector = begin_connect(&options);
            support_turns(loop, turns);
            if (result.calls == 0) {
                bk_connector_cancel(connector);
                bk_connector_cancel(connector);
                expect_failure(-ECANCELED);
            }
            end();
        }
    }
}
END_TEST

START_TEST(close_the_loop_at_any_time)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost",
                                        "second-works.test"};

    for (int turns = 0; turns < 6; turns++) {
        for (int i = 0; i < 3; i++) {
            bk_connect_options options;
            int calls;

            begin(_i);
            options = to_server();
            options.host = hosts[i];
            (void)begin_connect(&options);
            support_turns(loop, turns);
            calls = result.calls;
            end();
            ck_assert_int_eq(result.calls, calls);
            ck_assert_int_eq(lost, 0);
        }
    }
}
END_TEST

START_TEST(close_the_loop_after_a_cancel)
{
    for (int turns = 0; turns < 4; turns++) {
        bk_connect_options options;
        bk_connector *connector;

        begin(_i);
        options = to_server();
        connector = begin_connect(&options);
        support_turns(loop, turns);
        if (result.calls == 0) {
            bk_connector_cancel(connector);
        }
        end();
    }
}
END_TEST

static void
abort_it(bk_connector *connector)
{
    bk_connector_cancel(connector); /* too late: no effect */
    bk_transport_abort(result.transport, 0);
}

START_TEST(abort_in_on_connect)
{
    bk_connect_options options;

    begin(_i);
    result.then = abort_it;
    options = to_server();
    (void)begin_connect(&options);
    RUN_UNTIL(loop, lost == 1);
    ck_assert_int_eq(made, 1);
    ck_assert_int_eq(result.calls, 1);
    end();
}
END_TEST

#define ADD(tcase, test) tcase_add_loop_test(tcase, test, 0, SUPPORT_POLLERS)

int
main(void)
{
    Suite *suite = suite_create("connect");
    TCase *tcase = tcase_create("connect");

    ADD(tcase, connects_and_tells_before_connection_made);
    ADD(tcase, peername_is_the_server);
    ADD(tcase, name_is_resolved);
    ADD(tcase, refused);
    ADD(tcase, next_address_is_tried);
    ADD(tcase, last_failure_is_told);
    ADD(tcase, unknown_name_and_family);
    ADD(tcase, local_address_is_bound);
    ADD(tcase, local_address_of_another_family);
    ADD(tcase, local_address_in_use);
    ADD(tcase, arguments_are_checked);
    ADD(tcase, nobody_needs_to_be_told);
    ADD(tcase, cancel_at_any_time);
    ADD(tcase, close_the_loop_at_any_time);
    ADD(tcase, close_the_loop_after_a_cancel);
    ADD(tcase, abort_in_on_connect);
    suite_add_tcase(suite, tcase);
    return support_main_with_names(suite);
}
