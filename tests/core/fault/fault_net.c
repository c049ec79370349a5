/* fault_net.c -- each system call of connections and lookups made to fail.
 *
 * SPDX-License-Identifier: MIT
 *
 * A scenario is run again and again, each time with the next call failing,
 * until it makes fewer calls than that. Whatever fails: every connection that
 * began is told once that it ended, unless the loop is closed before; lent
 * data comes back; what arrives is a beginning of what was sent; and nothing
 * is left. Calls that are only interrupted change nothing at all.
 */
#include "base/fault.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_support.h"

enum {
    NTH_MAX = 2000, /* more calls than any scenario makes */
    TURNS_MAX = 400,
    CLIENT_BYTES = 150000, /* more than the high-water mark */
    SERVER_BYTES = 3000,
};

static const int codes[] = {-ENOMEM, -EMFILE, -EBADF, -ECONNABORTED};

enum { CODES = sizeof(codes) / sizeof(codes[0]) };

struct side {
    int made;
    int lost;
    int error;
    size_t received;
};

static bk_loop *loop;
static struct side client;
static struct side server;
static int connects; /* calls of on_connect */
static int connect_error;
static int lent;
static int released;
static char pattern[CLIENT_BYTES];

static void
count_release(void *owner)
{
    (void)owner;
    released++;
}

static void
on_lost(bk_transport *transport, int error, void *self)
{
    struct side *side = self;

    (void)transport;
    side->lost++;
    side->error = error;
    ck_assert_int_eq(side->made, 1);
    ck_assert_int_eq(side->lost, 1);
}

static void
check_data(struct side *side, const void *data, size_t len)
{
    ck_assert(is_pattern(data, len, side->received));
    side->received += len;
}

/* All three ways to write; failures for want of memory end it. */
static void
client_on_made(bk_transport *transport, void *self)
{
    bk_slice slices[] = {{pattern + 40000, 100}, {pattern + 40100, 4900}};
    int r = bk_transport_write(transport, pattern, 10000);

    ((struct side *)self)->made++;
    if (r == 0) {
        lent++;
        r = bk_transport_write_lent(transport, pattern + 10000, 30000,
                                    count_release, NULL);
    }
    if (r == 0) {
        r = bk_transport_writev(transport, slices, 2);
    }
    if (r == 0) {
        r = bk_transport_write(transport, pattern + 45000,
                               CLIENT_BYTES - 45000);
    }
    if (r < 0) {
        bk_transport_abort(transport, r);
        return;
    }
    (void)bk_transport_write_eof(transport);
}

static void
client_on_data(bk_transport *transport, const void *data, size_t len,
               void *self)
{
    (void)transport;
    check_data(self, data, len);
}

static const bk_protocol client_protocol = {
    .connection_made = client_on_made,
    .data_received = client_on_data,
    .connection_lost = on_lost,
};

static void
server_on_made(bk_transport *transport, void *self)
{
    ((struct side *)self)->made++;
    (void)bk_transport_set_write_buffer_limits(transport, 1000, 100);
}

static char server_buffer[8192];

static int
server_get_buffer(bk_transport *transport, void **ret_buf, size_t *ret_len,
                  void *self)
{
    (void)transport;
    (void)self;
    *ret_buf = server_buffer;
    *ret_len = sizeof(server_buffer);
    return 1;
}

static void
server_on_updated(bk_transport *transport, size_t len, void *self)
{
    (void)transport;
    check_data(self, server_buffer, len);
}

/* A client that fails ends its stream early, as asyncio's abort does. */
static bool
server_on_eof(bk_transport *transport, void *self)
{
    struct side *side = self;

    if (side->received == CLIENT_BYTES &&
        bk_transport_write(transport, pattern, SERVER_BYTES) < 0) {
        bk_transport_abort(transport, 0);
    }
    return false;
}

static const bk_protocol server_protocol = {
    .connection_made = server_on_made,
    .get_buffer = server_get_buffer,
    .buffer_updated = server_on_updated,
    .eof_received = server_on_eof,
    .connection_lost = on_lost,
};

static void
on_connect(bk_connector *connector, int error, bk_transport *transport,
           void *self)
{
    (void)connector;
    (void)self;
    connects++;
    connect_error = error;
    ck_assert_int_eq(error == 0, transport != NULL);
}

/* Whether all that can happen has happened. An accept that failed for want of
 * fds is tried again after a second, which nobody waits for here. */
static bool
is_over(void)
{
    return connect_error < 0 || (client.lost == 1 && server.lost == 1);
}

static void
run_turns(void)
{
    for (int i = 0; i < TURNS_MAX && !is_over(); i++) {
        bk_loop_stop(loop);
        (void)bk_loop_run_forever(loop);
    }
}

/* Instead of a host: a Unix socket in the file of this path. */
static char unix_path[64];

static bk_server *
listen_unix(void)
{
    const bk_unix_server_options options = {.path = unix_path, .mode = 0600};
    bk_server *listening = NULL;

    (void)bk_loop_create_unix_server(loop, &server_protocol, &server, &options,
                                     &listening);
    return listening;
}

static bk_server *
listen_inet(void)
{
    const bk_server_options options = {
        .host = "127.0.0.1", .has_keep_alive = true, .has_reuse_port = true};
    bk_server *listening = NULL;

    (void)bk_loop_create_server(loop, &server_protocol, &server, &options,
                                &listening);
    return listening;
}

static void
connect_unix_and_run(void)
{
    if (bk_loop_create_unix_connection(loop, &client_protocol, &client,
                                       unix_path, 0, on_connect, NULL) == 0) {
        run_turns();
    }
}

static void
connect_and_run(bk_server *listening, const char *host)
{
    bk_connect_options options = {.host = host, .local_host = "127.0.0.1"};
    bk_address address;

    if (bk_server_getsockname(listening, 0, &address) < 0) {
        return;
    }
    options.port = bk_address_port(&address);
    if (bk_loop_create_connection(loop, &client_protocol, &client, &options,
                                  on_connect, NULL) == 0) {
        run_turns();
    }
}

static void
run_scenario(int poller, const char *host)
{
    bk_loop_options options = support_options(poller);
    bool is_unix = strcmp(host, unix_path) == 0;
    bk_server *listening;

    client = (struct side){0};
    server = (struct side){0};
    connects = 0;
    connect_error = 0;
    lent = 0;
    released = 0;
    if (bk_loop_new(&options, &loop) < 0) {
        return;
    }
    listening = is_unix ? listen_unix() : listen_inet();
    if (listening != NULL && is_unix) {
        connect_unix_and_run();
    }
    else if (listening != NULL) {
        connect_and_run(listening, host);
    }
    bk_server_free(listening);
    bk_loop_free(loop);
    ck_assert_int_le(connects, 1);
    ck_assert_int_eq(released, lent);
}

static void
expect_everything(void)
{
    ck_assert_int_eq(connects, 1);
    ck_assert_int_eq(connect_error, 0);
    ck_assert_int_eq(client.lost, 1);
    ck_assert_int_eq(client.error, 0);
    ck_assert_uint_eq(client.received, SERVER_BYTES);
    ck_assert_int_eq(server.lost, 1);
    ck_assert_int_eq(server.error, 0);
    ck_assert_uint_eq(server.received, CLIENT_BYTES);
}

static void
begin(void)
{
    fill_pattern(pattern, sizeof(pattern), 0);
    (void)snprintf(unix_path, sizeof(unix_path), "/tmp/becket-fault-%d.sock",
                   (int)getpid());
}

static void
fail_every_call_once(int i, const char *host)
{
    int poller = i / CODES;
    unsigned nth = 0;
    bool has_failed;

    begin();
    do {
        support_leaks_begin();
        bki_fault_arm(BKI_SYS_ANY, ++nth, codes[i % CODES]);
        run_scenario(poller, host);
        has_failed = bki_fault_disarm();
        support_leaks_end();
        ck_assert_uint_lt(nth, NTH_MAX);
    } while (has_failed);
    ck_assert_uint_gt(nth, 50);
    expect_everything();
}

START_TEST(test_every_call_once)
{
    fail_every_call_once(_i, "127.0.0.1");
}
END_TEST

START_TEST(test_every_call_once_unix)
{
    fail_every_call_once(_i, unix_path);
    ck_assert_int_ne(access(unix_path, F_OK), 0);
}
END_TEST

/* From the nth allocation on, none: what goes on then needs no memory. */
START_TEST(test_no_memory_any_more)
{
    static const enum bki_sys_call allocations[] = {BKI_SYS_MALLOC,
                                                    BKI_SYS_CALLOC};

    begin();
    for (size_t i = 0; i < 2; i++) {
        for (unsigned nth = 1; nth < 40; nth++) {
            support_leaks_begin();
            bki_fault_arm_all(allocations[i], nth, -ENOMEM);
            run_scenario(_i, "127.0.0.1");
            (void)bki_fault_disarm();
            support_leaks_end();
        }
    }
}
END_TEST

/* Nothing there after all, and signals: nobody can tell. */
START_TEST(test_interrupted_calls_change_nothing)
{
    static const enum bki_sys_call calls[] = {BKI_SYS_RECV, BKI_SYS_SEND,
                                              BKI_SYS_SENDMSG, BKI_SYS_ACCEPT};
    static const int interruptions[] = {-EINTR, -EAGAIN};

    begin();
    for (unsigned i = 0; i < 8; i++) {
        unsigned nth = 0;
        bool has_failed;

        do {
            bki_fault_arm(calls[i / 2], ++nth, interruptions[i % 2]);
            run_scenario(_i, "127.0.0.1");
            has_failed = bki_fault_disarm();
            expect_everything();
            ck_assert_uint_lt(nth, NTH_MAX);
        } while (has_failed);
        ck_assert_uint_gt(nth, 1);
    }
}
END_TEST

/* Any part of what was asked for may be what the kernel does. */
START_TEST(test_short_sends_and_receives)
{
    static const size_t limits[] = {1500, 4096, 16384, 16385, 30000};

    begin();
    for (size_t i = 0; i < 5; i++) {
        bki_fault_arm(BKI_SYS_ANY, UINT32_MAX, 0);
        bki_fault_limit(BKI_SYS_SEND, limits[i]);
        bki_fault_limit(BKI_SYS_SENDMSG, limits[i] + 1);
        bki_fault_limit(BKI_SYS_RECV, limits[(i + 1) % 5]);
        run_scenario(_i, "127.0.0.1");
        (void)bki_fault_disarm();
        expect_everything();
    }
}
END_TEST

/* A name takes a thread of the pool, whose set-up may fail as well. */
START_TEST(test_every_call_of_a_lookup)
{
    unsigned nth = 0;
    bool has_failed;

    begin();
    do {
        bk_loop *counted = new_threaded_loop(SUPPORT_POLL);

        bki_fault_arm(BKI_SYS_ANY, ++nth, codes[_i]);
        run_scenario(SUPPORT_EPOLL, "localhost");
        has_failed = bki_fault_disarm();
        free_threaded_loop(counted);
        ck_assert_uint_lt(nth, NTH_MAX);
    } while (has_failed);
}
END_TEST

static int lookup_error;

static void
on_found(bk_lookup *lookup, int error, struct addrinfo *found, void *self)
{
    (void)lookup;
    (void)self;
    lookup_error = error;
    if (found != NULL) {
        freeaddrinfo(found);
    }
}

static int
look_up_failing(enum bki_sys_call call, int code)
{
    bk_loop *counted = new_threaded_loop(SUPPORT_EPOLL);
    int r;

    loop = counted;
    lookup_error = 1;
    bki_fault_arm(call, 1, code);
    r = bk_loop_getaddrinfo(loop, "localhost", NULL, NULL, on_found, NULL,
                            NULL);
    if (r == 0) {
        RUN_UNTIL(loop, lookup_error != 1);
        r = lookup_error;
    }
    ck_assert(bki_fault_disarm());
    free_threaded_loop(counted);
    return r;
}

START_TEST(test_lookups_tell_why)
{
    ck_assert_int_eq(look_up_failing(BKI_SYS_THREAD_CREATE, -EAGAIN), -EAGAIN);
    ck_assert_int_eq(look_up_failing(BKI_SYS_MUTEX_INIT, -ENOMEM), -ENOMEM);
    ck_assert_int_eq(look_up_failing(BKI_SYS_COND_INIT, -ENOMEM), -ENOMEM);
    ck_assert_int_eq(look_up_failing(BKI_SYS_CALLOC, -ENOMEM), -ENOMEM);
    ck_assert_int_eq(look_up_failing(BKI_SYS_GETADDRINFO, BK_EAI_AGAIN),
                     BK_EAI_AGAIN);
    ck_assert_int_eq(look_up_failing(BKI_SYS_GETADDRINFO, -EIO), -EIO);
}
END_TEST

static int
serve_failing(enum bki_sys_call call, unsigned nth, int code)
{
    bk_server_options options = {
        .host = "127.0.0.1", .has_keep_alive = true, .has_reuse_port = true};
    bk_server *listening = NULL;
    int r;

    loop = support_new_loop(SUPPORT_EPOLL);
    bki_fault_arm(call, nth, code);
    r = bk_loop_create_server(loop, &server_protocol, &server, &options,
                              &listening);
    ck_assert(bki_fault_disarm());
    ck_assert_int_lt(r, 0);
    ck_assert_ptr_null(listening);
    support_free_loop(loop);
    return r;
}

START_TEST(test_servers_tell_why)
{
    ck_assert_int_eq(serve_failing(BKI_SYS_CALLOC, 1, -ENOMEM), -ENOMEM);
    ck_assert_int_eq(serve_failing(BKI_SYS_CALLOC, 2, -ENOMEM), -ENOMEM);
    ck_assert_int_eq(serve_failing(BKI_SYS_GETADDRINFO, 1, BK_EAI_FAIL),
                     BK_EAI_FAIL);
    ck_assert_int_eq(serve_failing(BKI_SYS_SOCKET, 1, -EMFILE), -EMFILE);
    for (unsigned nth = 1; nth <= 3; nth++) {
        ck_assert_int_eq(serve_failing(BKI_SYS_SETSOCKOPT, nth, -EINVAL),
                         -EINVAL);
    }
    ck_assert_int_eq(serve_failing(BKI_SYS_BIND, 1, -EACCES), -EACCES);
    ck_assert_int_eq(serve_failing(BKI_SYS_BIND, 1, -EADDRNOTAVAIL),
                     -EADDRNOTAVAIL);
    ck_assert_int_eq(serve_failing(BKI_SYS_LISTEN, 1, -EADDRINUSE),
                     -EADDRINUSE);
    ck_assert_int_eq(serve_failing(BKI_SYS_EPOLL_CTL, 1, -ENOSPC), -ENOSPC);
}
END_TEST

static struct recorder recorder;
static int fds[2];

static void
begin_stream(void)
{
    loop = support_new_loop(SUPPORT_EPOLL);
    tcp_pair(fds);
    record(&recorder, loop, fds[0]);
    support_turns(loop, 1);
}

static void
end_stream(void)
{
    bk_transport_release(&recorder.transport);
    ck_assert_int_eq(close(fds[1]), 0);
    support_free_loop(loop);
}

/* A part has been sent and the rest cannot be kept: going on would leave a gap
 * in the stream. */
START_TEST(test_no_memory_for_the_rest_of_a_write)
{
    begin();
    begin_stream();
    bki_fault_arm_all(BKI_SYS_MALLOC, 1, -ENOMEM);
    bki_fault_limit(BKI_SYS_SEND, 1000);
    ck_assert_int_eq(bk_transport_write(&recorder.transport, pattern, 20000),
                     -ENOMEM);
    ck_assert(bki_fault_disarm());
    ck_assert(bk_transport_is_closing(&recorder.transport));
    RUN_UNTIL(loop, recorder.closed_count == 1);
    ck_assert_int_eq(recorder.lost_error, -ENOMEM);
    end_stream();
}
END_TEST

/* Nothing has been sent: the connection is as it was before. */
START_TEST(test_no_memory_for_a_write)
{
    char buf[3];

    begin();
    begin_stream();
    bki_fault_arm(BKI_SYS_SEND, 1, -EAGAIN);
    ck_assert_int_eq(bk_transport_write(&recorder.transport, "a", 1), 0);
    (void)bki_fault_disarm();
    bki_fault_arm_all(BKI_SYS_MALLOC, 1, -ENOMEM);
    ck_assert_int_eq(bk_transport_write(&recorder.transport, pattern, 20000),
                     -ENOMEM);
    lent = 1;
    ck_assert_int_eq(bk_transport_write_lent(&recorder.transport, pattern, 9,
                                             count_release, NULL),
                     -ENOMEM);
    ck_assert_int_eq(released, 1);
    ck_assert(bki_fault_disarm());
    ck_assert_int_eq(bk_transport_write(&recorder.transport, "bc", 2), 0);
    support_turns(loop, 2);
    ck_assert_uint_eq(recv_all(fds[1], buf, 3), 3);
    ck_assert_mem_eq(buf, "abc", 3);
    end_stream();
}
END_TEST

START_TEST(test_no_memory_for_the_scratch_buffer)
{
    begin_stream();
    send_all(fds[1], "hello", 5);
    bki_fault_arm_all(BKI_SYS_MALLOC, 1, -ENOMEM);
    support_turns(loop, 2);
    ck_assert(bki_fault_disarm());
    ck_assert_int_eq(recorder.lost_error, -ENOMEM);
    end_stream();
}
END_TEST

START_TEST(test_failing_calls_of_a_stream_are_told)
{
    static const struct {
        enum bki_sys_call call;
        int code;
    } failures[] = {
        {BKI_SYS_RECV, -EIO},
        {BKI_SYS_RECV, -ETIMEDOUT},
        {BKI_SYS_SEND, -EPIPE},
        {BKI_SYS_SEND, -ENOBUFS},
    };

    for (size_t i = 0; i < 4; i++) {
        recorder = (struct recorder){.lost_count = 0};
        begin_stream();
        send_all(fds[1], "hello", 5);
        bki_fault_arm(failures[i].call, 1, failures[i].code);
        if (failures[i].call == BKI_SYS_SEND) {
            ck_assert_int_eq(bk_transport_write(&recorder.transport, "x", 1),
                             0);
        }
        RUN_UNTIL(loop, recorder.closed_count == 1);
        ck_assert(bki_fault_disarm());
        ck_assert_int_eq(recorder.lost_count, 1);
        ck_assert_int_eq(recorder.lost_error, failures[i].code);
        end_stream();
    }
}
END_TEST

/* The end is told by the next receive or send. */
START_TEST(test_failing_shutdown_and_close_are_nobodys)
{
    begin_stream();
    bki_fault_arm(BKI_SYS_SHUTDOWN, 1, -ENOTCONN);
    ck_assert_int_eq(bk_transport_write_eof(&recorder.transport), 0);
    ck_assert(bki_fault_disarm());
    bk_transport_close(&recorder.transport);
    bki_fault_arm(BKI_SYS_CLOSE, 1, -EIO);
    support_turns(loop, 1);
    ck_assert(bki_fault_disarm());
    ck_assert_int_eq(recorder.lost_error, 0);
    ck_assert_int_eq(recorder.closed_count, 1);
    end_stream();
}
END_TEST

/* The marks to the byte, with a kernel that takes what the test says. */
START_TEST(test_water_marks_are_exact)
{
    begin();
    begin_stream();
    bki_fault_arm(BKI_SYS_SEND, 1, -EAGAIN);
    ck_assert_int_eq(bk_transport_write(&recorder.transport, pattern, 65536),
                     0);
    ck_assert_int_eq(recorder.pauses, 0);
    ck_assert_int_eq(bk_transport_write(&recorder.transport, "x", 1), 0);
    ck_assert_int_eq(recorder.pauses, 1);
    bki_fault_limit(BKI_SYS_SENDMSG, 65537 - 16385);
    support_turns(loop, 1);
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(&recorder.transport),
                      16385);
    ck_assert_int_eq(recorder.resumes, 0);
    bki_fault_limit(BKI_SYS_SENDMSG, 1);
    support_turns(loop, 1);
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(&recorder.transport),
                      16384);
    ck_assert_int_eq(recorder.resumes, 1);
    (void)bki_fault_disarm();
    end_stream();
}
END_TEST

static void
echo_back(struct recorder *echoing, const void *data, size_t len)
{
    ck_assert_int_eq(bk_transport_write(&echoing->transport, data, len / 2), 0);
    ck_assert_int_eq(bk_transport_write(&echoing->transport,
                                        (const char *)data + len / 2,
                                        len - len / 2),
                     0);
}

/* A message costs one receive and one send; a connection is told to the poller
 * once. */
START_TEST(test_calls_per_message)
{
    char buf[10];

    begin_stream();
    recorder.on_data = echo_back;
    bki_fault_arm(BKI_SYS_ANY, UINT32_MAX, 0);
    for (int i = 0; i < 100; i++) {
        send_all(fds[1], "0123456789", 10);
        RUN_UNTIL(loop, recorder.received == 10 * (size_t)(i + 1));
        ck_assert_uint_eq(recv_all(fds[1], buf, 10), 10);
        ck_assert_mem_eq(buf, "0123456789", 10);
    }
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_RECV), 100);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_SEND), 100);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_SENDMSG), 0);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_EPOLL_CTL), 0);
    (void)bki_fault_disarm();
    end_stream();
}
END_TEST

static void
lend_header_and_body(void *arg)
{
    (void)arg;
    ck_assert_int_eq(bk_transport_write_lent(&recorder.transport, "header ", 7,
                                             count_release, NULL),
                     0);
    ck_assert_int_eq(bk_transport_write_lent(&recorder.transport, "body", 4,
                                             count_release, NULL),
                     0);
}

/* Small pieces are joined: the longer way of sendmsg costs more than the
 * copy. */
START_TEST(test_header_and_body_are_one_send)
{
    char buf[11];

    released = 0;
    begin_stream();
    bki_fault_arm(BKI_SYS_ANY, UINT32_MAX, 0);
    ck_assert_int_eq(bk_loop_call_soon(loop, lend_header_and_body, NULL, NULL),
                     0);
    RUN_UNTIL(loop, released == 2);
    ck_assert_uint_eq(recv_all(fds[1], buf, sizeof(buf)), sizeof(buf));
    ck_assert_mem_eq(buf, "header body", sizeof(buf));
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_SEND), 1);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_SENDMSG), 0);
    (void)bki_fault_disarm();

    /* A part of both is taken. */
    bki_fault_arm(BKI_SYS_ANY, UINT32_MAX, 0);
    bki_fault_limit(BKI_SYS_SEND, 9);
    ck_assert_int_eq(bk_loop_call_soon(loop, lend_header_and_body, NULL, NULL),
                     0);
    RUN_UNTIL(loop, released == 4);
    (void)bki_fault_disarm();
    ck_assert_uint_eq(recv_all(fds[1], buf, sizeof(buf)), sizeof(buf));
    ck_assert_mem_eq(buf, "header body", sizeof(buf));
    end_stream();
}
END_TEST

static void
add_tests(TCase *tcase)
{
    tcase_add_loop_test(tcase, test_every_call_once, 0,
                        SUPPORT_POLLERS * CODES);
    tcase_add_loop_test(tcase, test_every_call_once_unix, 0,
                        SUPPORT_POLLERS * CODES);
    tcase_add_loop_test(tcase, test_no_memory_any_more, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_interrupted_calls_change_nothing, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_short_sends_and_receives, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_every_call_of_a_lookup, 0, CODES);
    tcase_add_test(tcase, test_lookups_tell_why);
    tcase_add_test(tcase, test_servers_tell_why);
    tcase_add_test(tcase, test_no_memory_for_the_rest_of_a_write);
    tcase_add_test(tcase, test_no_memory_for_a_write);
    tcase_add_test(tcase, test_no_memory_for_the_scratch_buffer);
    tcase_add_test(tcase, test_failing_calls_of_a_stream_are_told);
    tcase_add_test(tcase, test_failing_shutdown_and_close_are_nobodys);
    tcase_add_test(tcase, test_water_marks_are_exact);
    tcase_add_test(tcase, test_calls_per_message);
    tcase_add_test(tcase, test_header_and_body_are_one_send);
}

int
main(void)
{
    Suite *suite = suite_create("fault_net");
    TCase *tcase = tcase_create("faults");

    add_tests(tcase);
    suite_add_tcase(suite, tcase);
    return support_main_with_names(suite);
}
