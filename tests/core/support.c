/* support.c -- what the tests of the loop share.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"

#define POLLERS_NOT_FOUND SIZE_MAX

struct support_poller support_external;

static int fds_before;
static size_t allocations_before;
static char log_text[4096];
static size_t log_len;

static size_t
find(const struct support_poller *poller, int fd)
{
    for (size_t i = 0; i < poller->known_count; i++) {
        if (poller->known[i].fd == fd) {
            return i;
        }
    }
    return POLLERS_NOT_FOUND;
}

static int
poller_add(void *self, int fd, unsigned events)
{
    struct support_poller *poller = self;

    poller->adds++;
    if (poller->add_code != 0) {
        return poller->add_code;
    }
    if (events == 0) {
        return -EINVAL; /* as Python's selectors */
    }
    if (find(poller, fd) != POLLERS_NOT_FOUND) {
        return -EEXIST;
    }
    if (poller->known_count == 64) {
        return -ENOMEM;
    }
    poller->known[poller->known_count].fd = fd;
    poller->known[poller->known_count].events = events;
    poller->known_count++;
    return 0;
}

static int
poller_modify(void *self, int fd, unsigned events)
{
    struct support_poller *poller = self;
    size_t i = find(poller, fd);

    poller->modifies++;
    if (poller->add_code != 0) {
        return poller->add_code;
    }
    if (events == 0) {
        return -EINVAL;
    }
    if (i == POLLERS_NOT_FOUND) {
        return -ENOENT;
    }
    poller->known[i].events = events;
    return 0;
}

static int
poller_remove(void *self, int fd)
{
    struct support_poller *poller = self;
    size_t i = find(poller, fd);

    poller->removes++;
    if (i == POLLERS_NOT_FOUND) {
        return -ENOENT;
    }
    poller->known[i] = poller->known[--poller->known_count];
    return 0;
}

static unsigned
events_of(short bits)
{
    return ((bits & ~POLLOUT) != 0 ? (unsigned)BK_READABLE : 0) |
           ((bits & ~POLLIN) != 0 ? (unsigned)BK_WRITABLE : 0);
}

static int
poller_wait(void *self, uint64_t timeout_ns, bk_poller_event *events,
            size_t capacity)
{
    struct support_poller *poller = self;
    struct pollfd fds[64];
    struct timespec timeout = {
        .tv_sec = (time_t)(timeout_ns / S),
        .tv_nsec = (long)(timeout_ns % S),
    };
    int count = 0;

    poller->waits++;
    poller->timeout_ns = timeout_ns;
    if (poller->on_wait != NULL) {
        poller->on_wait(poller);
    }
    if (poller->wait_code != 0) {
        return poller->wait_code;
    }
    for (size_t i = 0; i < poller->known_count; i++) {
        unsigned wanted = poller->known[i].events;
        int bits = ((wanted & BK_READABLE) != 0 ? POLLIN : 0) |
                   ((wanted & BK_WRITABLE) != 0 ? POLLOUT : 0);

        fds[i] =
            (struct pollfd){.fd = poller->known[i].fd, .events = (short)bits};
    }
    if (ppoll(fds, poller->known_count,
              timeout_ns == BK_TIME_NEVER ? NULL : &timeout, NULL) < 0) {
        return -errno;
    }
    if (poller->foreign_fd != -1) {
        events[count++] = (bk_poller_event){
            .fd = poller->foreign_fd, .events = BK_READABLE | BK_WRITABLE};
    }
    for (size_t i = 0; i < poller->known_count; i++) {
        if (fds[i].revents != 0 && (size_t)count < capacity) {
            events[count++] = (bk_poller_event){
                .fd = fds[i].fd, .events = events_of(fds[i].revents)};
        }
    }
    return count;
}

static void
poller_close(void *self)
{
    struct support_poller *poller = self;

    poller->closes++;
}

const bk_poller_ops support_poller_ops = {
    .name = "test",
    .add = poller_add,
    .modify = poller_modify,
    .remove = poller_remove,
    .wait = poller_wait,
    .close = poller_close,
};

void
support_poller_init(struct support_poller *poller)
{
    *poller = (struct support_poller){.foreign_fd = -1};
}

bk_loop_options
support_options(int poller)
{
    bk_loop_options options = {0};

    if (poller == SUPPORT_EXTERNAL) {
        support_poller_init(&support_external);
        options.poller = &support_poller_ops;
        options.poller_self = &support_external;
    }
    else {
        options.backend = poller == SUPPORT_EPOLL ? "epoll" : "poll";
    }
    return options;
}

bk_loop *
support_new_loop_with(int poller, const bk_loop_hooks *hooks)
{
    bk_loop_options options = support_options(poller);
    bk_loop *loop = NULL;

    if (hooks != NULL) {
        options.hooks = *hooks;
    }
    support_leaks_begin();
    ck_assert_int_eq(bk_loop_new(&options, &loop), 0);
    ck_assert_ptr_nonnull(loop);
    return loop;
}

bk_loop *
support_new_loop(int poller)
{
    return support_new_loop_with(poller, NULL);
}

void
support_free_loop(bk_loop *loop)
{
    bk_loop_free(loop);
    support_leaks_end();
}

int
support_open_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = -1; /* the folder's own fd */

    ck_assert_ptr_nonnull(folder);
    for (struct dirent *entry = readdir(folder); entry != NULL;
         entry = readdir(folder)) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(folder);
    return count;
}

static size_t
live_allocations(void)
{
#ifdef BK_FAULT_INJECTION
    return bki_fault_live_allocations();
#else
    return 0; /* AddressSanitizer's business */
#endif
}

void
support_leaks_begin(void)
{
    fds_before = support_open_fds();
    allocations_before = live_allocations();
}

/* A thread that a closed loop has left behind may still be in the resolver,
 * with files open, and then gives back what it holds. */
void
support_leaks_end(void)
{
    uint64_t deadline_ns = bk_clock_now() + 5 * S;

    while (bk_clock_now() < deadline_ns &&
           (support_open_fds() > fds_before ||
            live_allocations() > allocations_before)) {
        (void)sched_yield();
    }
    ck_assert_int_eq(support_open_fds(), fds_before);
    ck_assert_uint_eq(live_allocations(), allocations_before);
}

static void
on_run_too_long(void *arg)
{
    (void)arg;
    ck_abort_msg("the loop was not stopped");
}

void
support_run(bk_loop *loop)
{
    bk_timer *limit;

    ck_assert_int_eq(
        bk_loop_call_later(loop, 10 * S, on_run_too_long, NULL, &limit), 0);
    ck_assert_int_eq(bk_loop_run_forever(loop), 0);
    ck_assert_int_eq(bk_timer_cancel(limit), 1);
}

void
support_stop(void *loop)
{
    bk_loop_stop(loop);
}

void
support_turns(bk_loop *loop, int turns)
{
    for (int i = 0; i < turns; i++) {
        bk_loop_stop(loop);
        ck_assert_int_eq(bk_loop_run_forever(loop), 0);
    }
}

void
support_pair(int fds[2])
{
    ck_assert_int_eq(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
        0);
}

void
support_send(int fd, const char *text)
{
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

void
support_close_pair(int fds[2])
{
    ck_assert_int_eq(close(fds[0]), 0);
    ck_assert_int_eq(close(fds[1]), 0);
}

void
support_note(char letter)
{
    ck_assert_uint_lt(log_len, sizeof(log_text) - 1);
    log_text[log_len++] = letter;
    log_text[log_len] = '\0';
}

const char *
support_log(void)
{
    return log_text;
}

void
support_log_clear(void)
{
    log_len = 0;
    log_text[0] = '\0';
}

int
support_main_with_names(Suite *suite)
{
    struct addrinfo *found = NULL;

    if (getaddrinfo("localhost", NULL, NULL, &found) != 0) {
        (void)puts("1..0 # SKIP the name localhost is not known here");
        srunner_free(srunner_create(suite));
        return EXIT_SUCCESS;
    }
    freeaddrinfo(found);
    return support_main(suite);
}

int
support_main(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
