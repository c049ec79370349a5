/* unit_readiness_io.c -- what the readiness engine does with an fd.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/readiness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fault.h"
#include "engine_support.h"

/* Each of the tests of transfers runs with both kinds of owner and every
 * poller. */
enum { OWNERS_AND_POLLERS = 2 * SUPPORT_POLLERS };

static void
setup_owner(int index)
{
    setup_loop(index % SUPPORT_POLLERS);
    if (index / SUPPORT_POLLERS == 0) {
        own(0, fds[0]);
    }
    else {
        borrow(0, fds[0]);
    }
}

START_TEST(test_read)
{
    setup_owner(_i);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    support_send(fds[1], "hello");
    ck_assert_int_eq(owners[0].reads, 0);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].reads, 1);
    ck_assert_int_eq(owners[0].read_n, 5);
    ck_assert_mem_eq(owners[0].buf, "hello", 5);
    ck_assert_uint_eq(loop->stats.bytes_received, 5);

    ops()->read_stop(&owners[0].io);
    ops()->read_stop(&owners[0].io);
    support_send(fds[1], "again");
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].reads, 1);

    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ck_assert_int_eq(shutdown(fds[1], SHUT_WR), 0);
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads, 2);
    ck_assert_int_eq(owners[0].read_n, 5);
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].read_n, BK_EOF);
    teardown_loop();
}
END_TEST

/* The owner dealt with it, and nothing was received. */
START_TEST(test_read_without_a_buffer)
{
    setup_owner(_i);
    owners[0].has_no_buffer = true;
    support_send(fds[1], "hello");
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].reads, 0);
    owners[0].has_no_buffer = false;
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].read_n, 5);
    teardown_loop();
}
END_TEST

static void
stop_reading(struct owner *owner)
{
    ops()->read_stop(&owner->io);
}

START_TEST(test_read_stop_inside)
{
    setup_owner(_i);
    owners[0].more = stop_reading;
    support_send(fds[1], "hello");
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    support_turns(loop, 1);
    support_send(fds[1], "more");
    support_turns(loop, 3);
    ck_assert_int_eq(owners[0].reads, 1);
    teardown_loop();
}
END_TEST

START_TEST(test_write)
{
    struct iovec iov = {"hello", 5};
    char buf[8];

    setup_owner(_i);
    ck_assert_int_eq(
        ops()->write(&owners[0].io, bki_io_fileno(&owners[0].io), &iov, 1), 5);
    ck_assert_int_eq(write_some(&owners[0], 10), 10);
    ck_assert_int_eq(read(fds[1], buf, 5), 5);
    ck_assert_mem_eq(buf, "hello", 5);
    ck_assert_uint_eq(loop->stats.bytes_sent, 15);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].writables, 0);
    teardown_loop();
}
END_TEST

/* Once, however long the fd stays writable. */
START_TEST(test_writable_comes_once)
{
    setup_owner(_i);
    fill(&owners[0]);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].writables, 0);
    drain(fds[1]);
    support_turns(loop, 4);
    ck_assert_int_eq(owners[0].writables, 1);

    fill(&owners[0]);
    drain(fds[1]);
    support_turns(loop, 4);
    ck_assert_int_eq(owners[0].writables, 2);

    fill(&owners[0]);
    ops()->write_stop(&owners[0].io);
    drain(fds[1]);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].writables, 2);
    teardown_loop();
}
END_TEST

static void
write_until_blocked(struct owner *owner)
{
    if (owner->writables < 5) {
        fill(owner);
        drain(fds[1]);
    }
}

START_TEST(test_writable_that_writes_and_is_blocked_again)
{
    setup_owner(_i);
    owners[0].more = write_until_blocked;
    fill(&owners[0]);
    drain(fds[1]);
    support_turns(loop, 12);
    ck_assert_int_eq(owners[0].writables, 5);
    teardown_loop();
}
END_TEST

START_TEST(test_write_to_a_closed_peer)
{
    setup_owner(_i);
    ck_assert_int_eq(close(fds[1]), 0);
    fds[1] = -1;
    ck_assert_int_eq(write_some(&owners[0], 10), -EPIPE);
    teardown_loop();
}
END_TEST

/* Listening and connecting. */

static void
connect_blocking(const struct sockaddr_in *address, int count, int *ret_fds)
{
    for (int i = 0; i < count; i++) {
        ret_fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_ge(ret_fds[i], 0);
        ck_assert_int_eq(connect(ret_fds[i], (const struct sockaddr *)address,
                                 sizeof(*address)),
                         0);
    }
}

static void
close_all(const int *clients, int count)
{
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(close(clients[i]), 0);
    }
}

START_TEST(test_accept)
{
    struct sockaddr_in address;
    int clients[10];

    setup_loop(_i);
    own(0, listen_somewhere(&address));
    own(1, fds[0]);
    ck_assert_int_eq(ops()->accept_start(&owners[0].io, 4), 0);
    connect_blocking(&address, 10, clients);
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].accepts, 4);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].accepts, 10);
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].accepts, 10);
    ck_assert_int_eq(owners[0].accept_error, 0);
    close_all(clients, 10);
    teardown_loop();
}
END_TEST

static void
stop_accepting(struct owner *owner)
{
    ops()->accept_stop(&owner->io);
}

static void
close_owner(struct owner *owner)
{
    ops()->close(&owner->io);
    memset(&owner->io, 0x5a, sizeof(owner->io)); /* as if it were freed */
}

/* What is not wanted any more stays in the backlog. */
START_TEST(test_accept_that_ends_inside)
{
    struct sockaddr_in address;
    int clients[5];

    setup_loop(_i);
    own(0, listen_somewhere(&address));
    own(1, fds[0]);
    owners[0].more = stop_accepting;
    ck_assert_int_eq(ops()->accept_start(&owners[0].io, 100), 0);
    connect_blocking(&address, 5, clients);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].accepts, 1);
    ck_assert_int_eq(ops()->accept_start(&owners[0].io, 100), 0);
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].accepts, 2);
    owners[0].more = close_owner;
    ck_assert_int_eq(ops()->accept_start(&owners[0].io, 100), 0);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].accepts, 3);
    bki_io_init(&owners[0].io, loop, &owner_ops);
    close_all(clients, 5);
    teardown_loop();
}
END_TEST

START_TEST(test_connect)
{
    struct sockaddr_in address;
    int listener;

    setup_loop(_i);
    own(2, fds[0]);
    listener = listen_somewhere(&address);
    own(0, new_socket());
    ck_assert_int_eq(ops()->connect(&owners[0].io, (struct sockaddr *)&address,
                                    sizeof(address)),
                     0);
    ck_assert_int_eq(owners[0].connects, 0);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].connects, 1);
    ck_assert_int_eq(owners[0].connect_error, 0);

    ck_assert_int_eq(close(listener), 0);
    own(1, new_socket());
    ck_assert_int_eq(ops()->connect(&owners[1].io, (struct sockaddr *)&address,
                                    sizeof(address)),
                     0);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[1].connects, 1);
    ck_assert_int_eq(owners[1].connect_error, -ECONNREFUSED);
    teardown_loop();
}
END_TEST

/* Nothing comes from inside the call, also when it is connected at once. */
START_TEST(test_connect_at_once_and_never)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(sa_family_t) + 20;
    int listener;
    int more[4];
    int r = 0;

    setup_loop(_i);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    own(2, fds[0]);
    (void)snprintf(&address.sun_path[1], 19, "becket-%d", (int)getpid());
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(listener, 0), 0);
    own(0, socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    ck_assert_int_eq(
        ops()->connect(&owners[0].io, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(owners[0].connects, 0);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].connects, 1);
    ck_assert_int_eq(owners[0].connect_error, 0);

    /* The backlog is full: that is a failure and not under way. */
    for (int i = 0; i < 4; i++) {
        more[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        r = connect(more[i], (struct sockaddr *)&address, len);
    }
    ck_assert_int_eq(r, -1);
    own(1, socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    ck_assert_int_eq(
        ops()->connect(&owners[1].io, (struct sockaddr *)&address, len),
        -EAGAIN);
    close_all(more, 4);
    ck_assert_int_eq(close(listener), 0);
    teardown_loop();
}
END_TEST

START_TEST(test_withdraw_drops_a_connect)
{
    struct sockaddr_in address;
    int listener;

    setup_loop(_i);
    own(2, fds[0]);
    listener = listen_somewhere(&address);
    own(0, new_socket());
    ck_assert_int_eq(ops()->connect(&owners[0].io, (struct sockaddr *)&address,
                                    sizeof(address)),
                     0);
    ops()->withdraw(&owners[0].io);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].connects, 0);
    ck_assert_int_eq(close(listener), 0);
    teardown_loop();
}
END_TEST

#ifdef BK_FAULT_INJECTION

START_TEST(test_accept_errors)
{
    static const int pausing[] = {-EMFILE, -ENFILE, -ENOBUFS, -ENOMEM};
    struct sockaddr_in address;
    int client;

    setup_loop(_i);
    own(0, listen_somewhere(&address));
    own(1, fds[0]);
    connect_blocking(&address, 1, &client);
    for (size_t i = 0; i < 4; i++) {
        owners[0].accept_error = 0;
        ck_assert_int_eq(ops()->accept_start(&owners[0].io, 5), 0);
        bki_fault_arm(BKI_SYS_ACCEPT, 1, pausing[i]);
        support_turns(loop, 3);
        ck_assert(bki_fault_disarm());
        ck_assert_int_eq(owners[0].accept_error, pausing[i]);
        ck_assert_int_eq(owners[0].accepts, 0);
    }
    ck_assert_int_eq(ops()->accept_start(&owners[0].io, 5), 0);
    bki_fault_arm(BKI_SYS_ACCEPT, 1, -EPERM); /* a firewall's no */
    support_turns(loop, 1);
    ck_assert(bki_fault_disarm());
    ck_assert_int_eq(owners[0].accept_error, -EPERM);
    owners[0].accept_error = 0;
    bki_fault_arm(BKI_SYS_ACCEPT, 1, -ECONNABORTED);
    support_turns(loop, 1);
    ck_assert(bki_fault_disarm());
    ck_assert_int_eq(owners[0].accept_error, 0);
    ck_assert_int_eq(owners[0].accepts, 1);
    close_all(&client, 1);
    teardown_loop();
}
END_TEST

START_TEST(test_interrupted_calls)
{
    setup_loop(_i);
    own(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    support_send(fds[1], "x");
    bki_fault_arm(BKI_SYS_RECV, 1, -EINTR);
    support_turns(loop, 1);
    ck_assert(bki_fault_disarm());
    ck_assert_int_eq(owners[0].read_n, -EAGAIN);
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].read_n, 1);
    bki_fault_arm(BKI_SYS_SENDMSG, 1, -EINTR);
    ck_assert_int_eq(write_some(&owners[0], 10), 0);
    ck_assert(bki_fault_disarm());
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].writables, 1);
    bki_fault_arm(BKI_SYS_RECV, 1, -ECONNRESET);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert(bki_fault_disarm());
    ck_assert_int_eq(owners[0].read_n, -ECONNRESET);
    teardown_loop();
}
END_TEST

static void
add_faults(TCase *tcase)
{
    tcase_add_loop_test(tcase, test_accept_errors, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_interrupted_calls, 0, SUPPORT_POLLERS);
}

#else

static void
add_faults(TCase *tcase)
{
    (void)tcase;
}

#endif

static void
add_transfers(TCase *tcase)
{
    tcase_add_loop_test(tcase, test_read, 0, OWNERS_AND_POLLERS);
    tcase_add_loop_test(tcase, test_read_without_a_buffer, 0,
                        OWNERS_AND_POLLERS);
    tcase_add_loop_test(tcase, test_read_stop_inside, 0, OWNERS_AND_POLLERS);
    tcase_add_loop_test(tcase, test_write, 0, OWNERS_AND_POLLERS);
    tcase_add_loop_test(tcase, test_writable_comes_once, 0, OWNERS_AND_POLLERS);
    tcase_add_loop_test(tcase, test_writable_that_writes_and_is_blocked_again,
                        0, OWNERS_AND_POLLERS);
    tcase_add_loop_test(tcase, test_write_to_a_closed_peer, 0,
                        OWNERS_AND_POLLERS);
}

int
main(void)
{
    Suite *suite = suite_create("unit_readiness_io");
    TCase *transfers = tcase_create("transfers");
    TCase *every = tcase_create("every poller");

    add_transfers(transfers);
    suite_add_tcase(suite, transfers);
    tcase_add_loop_test(every, test_accept, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_accept_that_ends_inside, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_connect, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_connect_at_once_and_never, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_withdraw_drops_a_connect, 0,
                        SUPPORT_POLLERS);
    add_faults(every);
    suite_add_tcase(suite, every);
    return support_main(suite);
}
