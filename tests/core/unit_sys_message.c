/* unit_sys_message.c -- a program that takes the place of recv() and send().
 *
 * SPDX-License-Identifier: MIT
 *
 * As libraries do that carry the traffic themselves: each call is theirs.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/sys.h"
#include "support.h"

static int recv_count;
static int send_count;

ssize_t
recv(int fd, void *buf, size_t len, int flags)
{
    recv_count++;
    return recvfrom(fd, buf, len, flags, NULL, NULL);
}

ssize_t
send(int fd, const void *buf, size_t len, int flags)
{
    send_count++;
    return sendto(fd, buf, len, flags, NULL, 0);
}

START_TEST(test_each_call_is_the_programs_own)
{
    char got[8];
    int fds[2];

    bki_sys_find_direct();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (int i = 1; i <= 3; i++) {
        ck_assert_int_eq(bki_sys_send(fds[0], "hello", 5), 5);
        ck_assert_int_eq(bki_sys_recv(fds[1], got, sizeof(got)), 5);
        ck_assert_mem_eq(got, "hello", 5);
        ck_assert_int_eq(send_count, i);
        ck_assert_int_eq(recv_count, i);
    }
    ck_assert_int_eq(bki_sys_recv(fds[1], got, sizeof(got)), -EAGAIN);
    ck_assert_int_eq(bki_sys_close(fds[1]), 0);
    ck_assert_int_eq(bki_sys_send(fds[0], "hello", 5), -EPIPE);
    ck_assert_int_eq(bki_sys_close(fds[0]), 0);
    ck_assert_int_eq(bki_sys_recv(fds[0], got, sizeof(got)), -EBADF);
}
END_TEST

int
main(void)
{
    TCase *tcase = tcase_create("message");
    Suite *suite = suite_create("unit_sys_message");

    tcase_add_test(tcase, test_each_call_is_the_programs_own);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
