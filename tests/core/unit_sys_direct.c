/* unit_sys_direct.c -- recv and send of a program that has none of its own.
 *
 * SPDX-License-Identifier: MIT
 *
 * The C library's are points of cancellation: a thread that has been cancelled
 * ends in them. They are gone past where nothing else has taken their place, as
 * sanitizers do.
 */
#include <errno.h>
#include <sys/socket.h>

#include "base/sys.h"
#include "support.h"

#if defined(__has_feature)
#    if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#        define IS_SANITIZED
#    endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define IS_SANITIZED
#endif

/* Before 2.34 a library of its own has them, for programs with threads. */
#if defined(__GLIBC__) && defined(__x86_64__) && defined(__LP64__) &&          \
    !defined(IS_SANITIZED)
enum { IS_DIRECT = __GLIBC_PREREQ(2, 34) };
#else
enum { IS_DIRECT = 0 };
#endif

struct calls {
    int fd; /* of a socket that has nothing and takes something */
    int done;
    ssize_t received;
    ssize_t sent;
};

static void *
call_cancelled(void *arg)
{
    struct calls *calls = arg;
    char byte = 0;

    (void)pthread_cancel(pthread_self());
    calls->received = bki_sys_recv(calls->fd, &byte, 1);
    calls->done++;
    calls->sent = bki_sys_send(calls->fd, &byte, 1);
    calls->done++;
    return NULL;
}

static struct calls
run_cancelled(int fd)
{
    struct calls calls = {.fd = fd};
    pthread_t thread;

    ck_assert_int_eq(
        bki_sys_thread_create(call_cancelled, &calls, false, &thread), 0);
    bki_sys_thread_join(thread);
    return calls;
}

START_TEST(test_the_library_is_gone_past)
{
    struct calls calls;
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    calls = run_cancelled(fds[0]);
    ck_assert_int_eq(calls.done, 0); /* not looked for yet */
    support_free_loop(support_new_loop(SUPPORT_EPOLL));
    calls = run_cancelled(fds[0]);
    if (IS_DIRECT) {
        ck_assert_int_eq(calls.done, 2);
        ck_assert_int_eq(calls.received, -EAGAIN);
        ck_assert_int_eq(calls.sent, 1);
    }
    else {
        ck_assert_int_eq(calls.done, 0);
    }
    ck_assert_int_eq(bki_sys_close(fds[0]), 0);
    ck_assert_int_eq(bki_sys_close(fds[1]), 0);
}
END_TEST

START_TEST(test_codes)
{
    char byte = 0;
    int fds[2];

    support_free_loop(support_new_loop(SUPPORT_EPOLL));
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    ck_assert_int_eq(bki_sys_recv(fds[0], &byte, 1), -EAGAIN);
    ck_assert_int_eq(bki_sys_close(fds[1]), 0);
    ck_assert_int_eq(bki_sys_recv(fds[0], &byte, 1), 0);
    ck_assert_int_eq(bki_sys_send(fds[0], &byte, 1), -EPIPE); /* no SIGPIPE */
    ck_assert_int_eq(bki_sys_close(fds[0]), 0);
    ck_assert_int_eq(bki_sys_recv(fds[0], &byte, 1), -EBADF);
    ck_assert_int_eq(bki_sys_send(fds[0], &byte, 1), -EBADF);
}
END_TEST

int
main(void)
{
    TCase *tcase = tcase_create("direct");
    Suite *suite = suite_create("unit_sys_direct");

    tcase_add_test(tcase, test_the_library_is_gone_past);
    tcase_add_test(tcase, test_codes);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
