/* fault_datagram.c -- each system call of datagram endpoints made to fail.
 *
 * SPDX-License-Identifier: MIT
 *
 * A scenario is run again and again, each time with the next call failing,
 * until it makes fewer calls than that. Whatever fails: connection_lost is told
 * once, lent data comes back, what arrives is what was sent, and nothing is
 * left.
 */
#include "base/fault.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "datagram_support.h"

enum {
    NTH_MAX = 2000, /* more calls than the scenario makes */
    DATAGRAMS = 6,
    TURNS = 16,
};

static const int codes[] = {-ENOMEM, -EBADF, -ECONNREFUSED, -EINTR, -EAGAIN};

enum { CODES = sizeof(codes) / sizeof(codes[0]) };

static int lent;
static int released;

static void
count_release(void *owner)
{
    (void)owner;
    released++;
}

/* Two replies, one of them lent; without memory there is none. */
static void
reply_twice(struct endpoint *of, const void *data, size_t len)
{
    const struct sockaddr *to = (struct sockaddr *)&of->sender;

    (void)data;
    ck_assert_uint_eq(len, 4);
    lent++;
    (void)bk_datagram_sendto_lent(of->in_use, "lent", 4, to, of->sender_len,
                                  count_release, NULL);
    (void)bk_datagram_sendto(of->in_use, "copy", 4, to, of->sender_len);
}

static void
check_replies(void)
{
    char buf[100];
    ssize_t n;

    while ((n = recv(peer_fd, buf, sizeof(buf), MSG_DONTWAIT)) >= 0) {
        ck_assert_int_eq(n, 4);
        ck_assert(memcmp(buf, "lent", 4) == 0 || memcmp(buf, "copy", 4) == 0);
    }
}

static void
ping(const bk_datagram_transport *transport)
{
    bk_address address;

    if (bk_datagram_getsockname(transport, &address) < 0) {
        return;
    }
    for (int i = 0; i < DATAGRAMS; i++) {
        (void)sendto(peer_fd, "ping", 4, 0, &address.u.sa, address.len);
    }
}

/* One datagram a turn, since the loop is to stop. */
static void
run_turns(void)
{
    for (int i = 0; i < TURNS; i++) {
        bk_loop_stop(endpoint_loop);
        (void)bk_loop_run_forever(endpoint_loop);
    }
}

/* And whole bursts. */
static void
run_some_time(void)
{
    if (bk_loop_call_later(endpoint_loop, MS, support_stop, endpoint_loop,
                           NULL) == 0) {
        (void)bk_loop_run_forever(endpoint_loop);
    }
}

static void
exchange(const bk_datagram_transport *transport, void (*run)(void))
{
    if (endpoint.lost_count == 0) {
        ping(transport);
        run();
        check_replies();
    }
}

static void
run_scenario(int poller)
{
    const bk_datagram_options options = {.local_host = "127.0.0.1"};
    const bk_loop_options loop_options = support_options(poller);
    bk_datagram_transport *transport;
    int r;

    memset(&endpoint, 0, sizeof(endpoint));
    endpoint.on_datagram = reply_twice;
    if (bk_loop_new(&loop_options, &endpoint_loop) < 0) {
        return;
    }
    endpoint.loop = endpoint_loop;
    r = bk_loop_create_datagram_endpoint(endpoint_loop, &endpoint_protocol,
                                         &endpoint, &options, &transport);
    if (r == 0) {
        exchange(transport, run_turns);
        exchange(transport, run_some_time);
        exchange(transport, run_some_time);
        if (endpoint.lost_count == 0) {
            bk_datagram_close(transport);
            run_turns();
        }
        ck_assert_int_eq(endpoint.lost_count <= 1, 1);
    }
    bk_loop_free(endpoint_loop);
    ck_assert_int_eq(released, lent);
}

START_TEST(every_call_fails_once)
{
    int poller = _i % SUPPORT_POLLERS;
    int code = codes[_i / SUPPORT_POLLERS];
    unsigned nth;

    peer_fd = open_udp(&peer_address);
    support_leaks_begin();
    for (nth = 1; nth < NTH_MAX; nth++) {
        bki_fault_arm(BKI_SYS_ANY, nth, code);
        run_scenario(poller);
        if (!bki_fault_disarm()) {
            break;
        }
    }
    ck_assert_uint_gt(nth, 30);
    ck_assert_uint_lt(nth, NTH_MAX);
    support_leaks_end();
    ck_assert_int_eq(close(peer_fd), 0);
}
END_TEST

START_TEST(no_memory_any_more)
{
    peer_fd = open_udp(&peer_address);
    support_leaks_begin();
    for (unsigned nth = 1; nth < NTH_MAX; nth++) {
        bki_fault_arm_all(BKI_SYS_MALLOC, nth, -ENOMEM);
        run_scenario(_i);
        if (!bki_fault_disarm()) {
            break;
        }
    }
    support_leaks_end();
    ck_assert_int_eq(close(peer_fd), 0);
}
END_TEST

/* --- one call each --- */

START_TEST(failing_receives_are_told)
{
    begin_endpoint(SUPPORT_EPOLL);
    peer_sends_numbers(1, 3);
    bki_fault_arm(BKI_SYS_RECVFROM, 1, -EHOSTUNREACH);
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("error:EHOSTUNREACH ");
    run_until_received(3);
    expect_endpoint_log("1 2 3 ");
    warm_up_burst(8);
    peer_sends_numbers(1, 3);
    bki_fault_arm(BKI_SYS_RECVMMSG, 1, -EHOSTUNREACH);
    run_until_received(3);
    (void)bki_fault_disarm();
    expect_endpoint_log("error:EHOSTUNREACH 1 2 3 ");
    end_endpoint();
}
END_TEST

START_TEST(without_memory_for_bursts_one_at_a_time)
{
    begin_endpoint(SUPPORT_EPOLL);
    peer_sends_numbers(1, 2);
    support_turns(endpoint_loop, 1); /* the scratch buffer is there */
    peer_sends_numbers(3, 6);
    bki_fault_arm_all(BKI_SYS_MALLOC, 2, -ENOMEM); /* the run's own timer */
    run_until_received(6);
    expect_endpoint_log("1 2 3 4 5 6 ");
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_RECVMMSG), 0);
    (void)bki_fault_disarm();
    end_endpoint();
}
END_TEST

START_TEST(without_memory_for_the_rest_it_is_lost)
{
    begin_endpoint(SUPPORT_EPOLL);
    warm_up_burst(8);
    peer_sends_numbers(1, 4);
    bki_fault_arm_all(BKI_SYS_MALLOC, 2, -ENOMEM);
    support_turns(endpoint_loop, 1); /* a stop is pending: one, and a rest */
    ck_assert(bki_fault_disarm());
    expect_endpoint_log("1 error:ENOBUFS ");
    support_turns(endpoint_loop, 2);
    expect_endpoint_log("2 ");
    end_endpoint();
}
END_TEST

START_TEST(without_memory_for_what_waits)
{
    begin_endpoint(SUPPORT_EPOLL);
    bki_fault_arm(BKI_SYS_SENDTO, 1, -EAGAIN);
    send_to_peer(&endpoint, "waits");
    bki_fault_arm_all(BKI_SYS_MALLOC, 1, -ENOMEM);
    ck_assert_int_eq(bk_datagram_sendto(&endpoint.transport, "x", 1,
                                        (struct sockaddr *)&peer_address,
                                        sizeof(peer_address)),
                     -ENOMEM);
    (void)bki_fault_disarm();
    support_turns(endpoint_loop, 1);
    expect_peer_got("waits ");
    end_endpoint();
}
END_TEST

static void
reply(struct endpoint *of, const void *data, size_t len)
{
    ck_assert_int_eq(bk_datagram_sendto(of->in_use, data, len,
                                        (struct sockaddr *)&of->sender,
                                        of->sender_len),
                     0);
}

/* A kernel that takes them in parts, and then no more for a while. */
START_TEST(parts_of_a_burst)
{
    begin_endpoint(SUPPORT_EPOLL);
    warm_up_burst(16);
    endpoint.on_datagram = reply;
    peer_sends_numbers(1, 9);
    bki_fault_arm(BKI_SYS_SENDMMSG, 3, -EAGAIN);
    bki_fault_limit(BKI_SYS_SENDMMSG, 3);
    run_until_received(9);
    ck_assert(bki_fault_disarm());
    support_turns(endpoint_loop, 2);
    expect_endpoint_log("1 2 3 4 5 6 7 8 9 ");
    expect_peer_got("1 2 3 4 5 6 7 8 9 ");
    end_endpoint();
}
END_TEST

START_TEST(parts_of_a_receive)
{
    begin_endpoint(SUPPORT_EPOLL);
    warm_up_burst(16);
    peer_sends_numbers(1, 9);
    bki_fault_limit(BKI_SYS_RECVMMSG, 2);
    run_until_received(9);
    (void)bki_fault_disarm();
    expect_endpoint_log("1 2 3 4 5 6 7 8 9 ");
    end_endpoint();
}
END_TEST

/* The marks to the byte. */
START_TEST(water_marks_are_exact)
{
    char data[100] = "";

    begin_endpoint(SUPPORT_EPOLL);
    ck_assert_int_eq(
        bk_datagram_set_write_buffer_limits(&endpoint.transport, 216, 108), 0);
    bki_fault_arm_all(BKI_SYS_SENDTO, 1, -EAGAIN);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(bk_datagram_sendto(&endpoint.transport, data,
                                            sizeof(data),
                                            (struct sockaddr *)&peer_address,
                                            sizeof(peer_address)),
                         0);
        expect_endpoint_log(i == 2 ? "pause " : "");
    }
    bki_fault_arm(BKI_SYS_SENDMMSG, 2, -EAGAIN);
    bki_fault_limit(BKI_SYS_SENDMMSG, 1);
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("");
    bki_fault_arm(BKI_SYS_SENDTO, 1, -EAGAIN);
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("resume ");
    (void)bki_fault_disarm();
    support_turns(endpoint_loop, 1);
    ck_assert_uint_eq(bk_datagram_get_write_buffer_size(&endpoint.transport),
                      0);
    end_endpoint();
}
END_TEST

/* A burst costs one receive and one send. */
START_TEST(calls_per_burst)
{
    begin_endpoint(SUPPORT_EPOLL);
    warm_up_burst(64);
    endpoint.on_datagram = reply;
    peer_sends_numbers(1, 60);
    bki_fault_arm(BKI_SYS_ANY, UINT32_MAX, 0);
    run_until_received(60);
    ck_assert_uint_le(bki_fault_count(BKI_SYS_RECVMMSG), 2);
    ck_assert_uint_le(bki_fault_count(BKI_SYS_SENDMMSG), 2);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_RECVFROM), 0);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_SENDTO), 0);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_EPOLL_CTL), 0);
    (void)bki_fault_disarm();
    end_endpoint();
}
END_TEST

static void
add_tests(TCase *tcase)
{
    tcase_add_loop_test(tcase, every_call_fails_once, 0,
                        SUPPORT_POLLERS * CODES);
    tcase_add_loop_test(tcase, no_memory_any_more, 0, SUPPORT_POLLERS);
    tcase_add_test(tcase, failing_receives_are_told);
    tcase_add_test(tcase, without_memory_for_bursts_one_at_a_time);
    tcase_add_test(tcase, without_memory_for_the_rest_it_is_lost);
    tcase_add_test(tcase, without_memory_for_what_waits);
    tcase_add_test(tcase, parts_of_a_burst);
    tcase_add_test(tcase, parts_of_a_receive);
    tcase_add_test(tcase, water_marks_are_exact);
    tcase_add_test(tcase, calls_per_burst);
}

int
main(void)
{
    Suite *suite = suite_create("fault_datagram");

    add_tests(new_endpoint_case(suite, "faults"));
    return support_main(suite);
}
