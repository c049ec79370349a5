/* fault_pipe.c -- each system call of pipes made to fail.
 *
 * SPDX-License-Identifier: MIT
 *
 * As fault_net.c: whatever fails, every transport that began is told once that
 * it ended, unless the loop is closed before, lent data comes back, what
 * arrives is a beginning of what was written, and nothing is left.
 */
#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "net_support.h"

enum {
    NTH_MAX = 2000, /* more calls than the scenario makes */
    TURNS_MAX = 400,
    BYTES = 200000, /* more than the high-water mark and the pipe's room */
};

static const int codes[] = {-ENOMEM, -EBADF, -EIO};

enum { CODES = sizeof(codes) / sizeof(codes[0]) };

struct end {
    int made;
    int lost;
    int error;
    size_t received;
};

static bk_loop *loop;
static struct end reader;
static struct end writer;
static int lent;
static int released;
static char pattern[BYTES];

static void
count_release(void *owner)
{
    (void)owner;
    released++;
}

static void
on_made(bk_transport *transport, void *self)
{
    (void)transport;
    ((struct end *)self)->made++;
}

/* All three ways to write, small and large; failures for want of memory end
 * it. */
static void
on_writable(bk_transport *transport, void *self)
{
    bk_slice slices[] = {{pattern + 4000, 100}, {pattern + 4100, 900}};
    int r = 0;

    on_made(transport, self);
    for (size_t i = 0; i < 40 && r == 0; i++) {
        r = bk_transport_write(transport, pattern + i * 100, 100);
    }
    if (r == 0) {
        r = bk_transport_writev(transport, slices, 2);
    }
    if (r == 0) {
        lent++;
        r = bk_transport_write_lent(transport, pattern + 5000, BYTES - 5000,
                                    count_release, NULL);
    }
    if (r < 0) {
        bk_transport_abort(transport, r);
        return;
    }
    bk_transport_close(transport);
}

static void
on_data(bk_transport *transport, const void *data, size_t len, void *self)
{
    struct end *end = self;

    (void)transport;
    ck_assert(is_pattern(data, len, end->received));
    end->received += len;
}

static void
on_lost(bk_transport *transport, int error, void *self)
{
    struct end *end = self;

    (void)transport;
    end->lost++;
    end->error = error;
    ck_assert_int_eq(end->made, 1);
    ck_assert_int_eq(end->lost, 1);
}

static const bk_protocol reading = {
    .connection_made = on_made,
    .data_received = on_data,
    .connection_lost = on_lost,
};

static const bk_protocol writing = {
    .connection_made = on_writable,
    .connection_lost = on_lost,
};

static void
run_scenario(int poller)
{
    bk_loop_options options = support_options(poller);
    bk_transport *transport;
    int fds[2];
    int r;

    reader = (struct end){0};
    writer = (struct end){0};
    lent = 0;
    released = 0;
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    r = bk_loop_new(&options, &loop);
    if (r < 0) {
        (void)close(fds[0]);
        (void)close(fds[1]);
        return;
    }
    r = bk_loop_connect_read_pipe(loop, &reading, &reader, fds[0], &transport);
    if (r == 0) {
        r = bk_loop_connect_write_pipe(loop, &writing, &writer, fds[1],
                                       &transport);
    }
    else {
        (void)close(fds[1]);
    }
    for (int i = 0; i < TURNS_MAX && r == 0; i++) {
        if (reader.lost + writer.lost == 2) {
            break;
        }
        bk_loop_stop(loop);
        (void)bk_loop_run_forever(loop);
    }
    bk_loop_free(loop);
    ck_assert_int_eq(released, lent);
}

static void
expect_everything(void)
{
    ck_assert_int_eq(reader.lost, 1);
    ck_assert_int_eq(reader.error, 0);
    ck_assert_uint_eq(reader.received, BYTES);
    ck_assert_int_eq(writer.lost, 1);
    ck_assert_int_eq(writer.error, 0);
}

static void
begin(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    fill_pattern(pattern, sizeof(pattern), 0);
}

START_TEST(test_every_call_once)
{
    unsigned nth = 0;
    bool has_failed;

    begin();
    do {
        support_leaks_begin();
        bki_fault_arm(BKI_SYS_ANY, ++nth, codes[_i % CODES]);
        run_scenario(_i / CODES);
        has_failed = bki_fault_disarm();
        support_leaks_end();
        ck_assert_uint_lt(nth, NTH_MAX);
    } while (has_failed);
    ck_assert_uint_gt(nth, 30);
    expect_everything();
}
END_TEST

START_TEST(test_no_memory_any_more)
{
    static const enum bki_sys_call allocations[] = {
        BKI_SYS_MALLOC, BKI_SYS_CALLOC, BKI_SYS_REALLOC};

    begin();
    for (size_t i = 0; i < 3; i++) {
        for (unsigned nth = 1; nth < 30; nth++) {
            support_leaks_begin();
            bki_fault_arm_all(allocations[i], nth, -ENOMEM);
            run_scenario(_i);
            (void)bki_fault_disarm();
            support_leaks_end();
        }
    }
}
END_TEST

START_TEST(test_interrupted_calls_change_nothing)
{
    static const enum bki_sys_call calls[] = {BKI_SYS_READ, BKI_SYS_WRITE,
                                              BKI_SYS_WRITEV};
    static const int interruptions[] = {-EINTR, -EAGAIN};

    begin();
    for (unsigned i = 0; i < 6; i++) {
        unsigned nth = 0;
        bool has_failed;

        do {
            bki_fault_arm(calls[i / 2], ++nth, interruptions[i % 2]);
            run_scenario(_i);
            has_failed = bki_fault_disarm();
            expect_everything();
            ck_assert_uint_lt(nth, NTH_MAX);
        } while (has_failed);
        ck_assert_uint_gt(nth, 1);
    }
}
END_TEST

START_TEST(test_short_writes_and_reads)
{
    static const size_t limits[] = {1000, 4096, 4097, 20000};

    begin();
    for (size_t i = 0; i < 4; i++) {
        bki_fault_arm(BKI_SYS_ANY, UINT32_MAX, 0);
        bki_fault_limit(BKI_SYS_WRITE, limits[i]);
        bki_fault_limit(BKI_SYS_WRITEV, limits[i] + 1);
        bki_fault_limit(BKI_SYS_READ, limits[(i + 1) % 4]);
        run_scenario(_i);
        (void)bki_fault_disarm();
        expect_everything();
    }
}
END_TEST

/* The fd is closed, whatever it was that failed. */
static void
open_failing(enum bki_sys_call call, int code)
{
    bk_transport *transport;
    int fds[2];

    loop = support_new_loop(SUPPORT_EPOLL);
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    bki_fault_arm(call, 1, code);
    ck_assert_int_eq(
        bk_loop_connect_write_pipe(loop, &writing, &writer, fds[1], &transport),
        code);
    ck_assert(bki_fault_disarm());
    ck_assert_int_eq(fcntl(fds[1], F_GETFD), -1);
    ck_assert_int_eq(close(fds[0]), 0);
    support_free_loop(loop);
}

START_TEST(test_opening_tells_why)
{
    open_failing(BKI_SYS_MALLOC, -ENOMEM);
    open_failing(BKI_SYS_FSTAT, -EIO);
    open_failing(BKI_SYS_FCNTL, -EIO);
}
END_TEST

static void
count_calls(void *arg)
{
    bk_transport *transport = arg;

    for (size_t i = 0; i < 10; i++) {
        ck_assert_int_eq(
            bk_transport_write(transport, pattern + i * 1000, 1000), 0);
    }
}

/* What a callback writes leaves in as few calls as keep each write whole. */
START_TEST(test_calls_per_callback)
{
    static const bk_protocol quiet = {.connection_lost = on_lost};
    bk_transport *transport;
    int fds[2];

    begin();
    loop = support_new_loop(SUPPORT_EPOLL);
    writer = (struct end){.made = 1};
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    ck_assert_int_eq(
        bk_loop_connect_write_pipe(loop, &quiet, &writer, fds[1], &transport),
        0);
    support_turns(loop, 1);
    bki_fault_arm(BKI_SYS_ANY, UINT32_MAX, 0);
    do_in_callback(loop, count_calls, transport);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_WRITEV) +
                          bki_fault_count(BKI_SYS_WRITE),
                      (10 * 1000 + PIPE_BUF - 1) / PIPE_BUF);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_EPOLL_CTL), 0);
    (void)bki_fault_disarm();
    ck_assert_int_eq(close(fds[0]), 0);
    support_free_loop(loop);
}
END_TEST

static void
add_tests(TCase *tcase)
{
    tcase_add_loop_test(tcase, test_every_call_once, 0,
                        SUPPORT_POLLERS * CODES);
    tcase_add_loop_test(tcase, test_no_memory_any_more, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_interrupted_calls_change_nothing, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_short_writes_and_reads, 0, SUPPORT_POLLERS);
    tcase_add_test(tcase, test_opening_tells_why);
    tcase_add_test(tcase, test_calls_per_callback);
}

int
main(void)
{
    Suite *suite = suite_create("fault_pipe");
    TCase *tcase = tcase_create("pipe");

    add_tests(tcase);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
