/* test_datagram.c -- datagram endpoints: life, errors, making them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "datagram_support.h"

enum { CHILD_DONE = 42 };

/* --- life --- */

START_TEST(made_comes_before_the_first_datagram)
{
    endpoint_loop = support_new_loop(_i);
    peer_fd = open_udp(&peer_address);
    start_endpoint(&endpoint, endpoint_loop, open_udp(&endpoint_address));
    peer_sends("early");
    expect_endpoint_log("");
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("made ");
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("early ");
    bk_datagram_release(&endpoint.transport);
    ck_assert_int_eq(close(peer_fd), 0);
    support_free_loop(endpoint_loop);
}
END_TEST

START_TEST(datagrams_tell_their_sender)
{
    begin_endpoint(_i);
    peer_sends("hello");
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("hello ");
    ck_assert_uint_eq(endpoint.sender_len, sizeof(peer_address));
    ck_assert_mem_eq(&endpoint.sender, &peer_address, sizeof(peer_address));
    end_endpoint();
}
END_TEST

START_TEST(empty_datagrams_are_datagrams)
{
    begin_endpoint(_i);
    peer_sends("");
    peer_sends("a");
    peer_sends("");
    support_turns(endpoint_loop, 3);
    expect_endpoint_log("- a - ");
    send_to_peer(&endpoint, "");
    expect_peer_got(" ");
    end_endpoint();
}
END_TEST

static void
close_endpoint(struct endpoint *of)
{
    bk_datagram_close(&of->transport);
}

START_TEST(close_ends_it_in_the_next_turn)
{
    begin_endpoint(_i);
    ck_assert(!bk_datagram_is_closing(&endpoint.transport));
    bk_datagram_close(&endpoint.transport);
    bk_datagram_close(&endpoint.transport);
    ck_assert(bk_datagram_is_closing(&endpoint.transport));
    ck_assert(!bk_datagram_is_reading(&endpoint.transport));
    /* The socket is there until connection_lost has been told. */
    send_to_peer(&endpoint, "last");
    expect_peer_got("last ");
    peer_sends("too late");
    expect_endpoint_log("");
    support_turns(endpoint_loop, 2);
    expect_endpoint_log("lost:0 closed ");
    send_to_peer(&endpoint, "dropped");
    expect_peer_got("");
    bk_datagram_abort(&endpoint.transport, -EIO);
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("");
    end_endpoint();
}
END_TEST

START_TEST(abort_tells_why)
{
    begin_endpoint(_i);
    bk_datagram_abort(&endpoint.transport, -EIO);
    bk_datagram_abort(&endpoint.transport, -EPERM);
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("lost:EIO closed ");
    end_endpoint();
}
END_TEST

START_TEST(closed_inside_connection_made)
{
    endpoint_loop = support_new_loop(_i);
    peer_fd = open_udp(&peer_address);
    endpoint.on_made = close_endpoint;
    start_endpoint(&endpoint, endpoint_loop, open_udp(&endpoint_address));
    peer_sends("never seen");
    support_turns(endpoint_loop, 3);
    expect_endpoint_log("made lost:0 closed ");
    ck_assert_int_eq(close(peer_fd), 0);
    support_free_loop(endpoint_loop);
}
END_TEST

static void
release_endpoint(struct endpoint *of)
{
    bk_datagram_release(&of->transport);
}

START_TEST(released_inside_each_callback)
{
    begin_endpoint(_i);
    endpoint.on_datagram = NULL;
    endpoint.on_lost = release_endpoint;
    bk_datagram_close(&endpoint.transport);
    support_turns(endpoint_loop, 2);
    expect_endpoint_log("lost:0 ");
    end_endpoint();
}
END_TEST

static void
release_on_datagram(struct endpoint *of, const void *data, size_t len)
{
    (void)data;
    (void)len;
    release_endpoint(of);
}

START_TEST(released_inside_a_burst)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = release_on_datagram;
    peer_sends_numbers(1, 8);
    support_turns(endpoint_loop, 2);
    expect_endpoint_log("1 ");
    end_endpoint();
}
END_TEST

START_TEST(loop_closes_under_it)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    peer_sends_numbers(1, 8);
    support_turns(endpoint_loop, 1); /* one is delivered, seven are kept */
    expect_endpoint_log("1 ");
    ck_assert_int_eq(bk_loop_close(endpoint_loop), 0);
    bk_datagram_pause_reading(&endpoint.transport);
    send_to_peer(&endpoint, "still open");
    expect_peer_got("still open ");
    end_endpoint();
    expect_endpoint_log("");
}
END_TEST

/* Its number may be another file's by now: nobody is asked for it. */
static int
closed_fileno(void *self)
{
    return *(int *)self;
}

static void
count_close(void *self)
{
    *(int *)self = -1;
}

static const bk_socket_ops socket_ops = {
    .fileno = closed_fileno,
    .close = count_close,
};

START_TEST(socket_that_was_closed_early)
{
    int fd;

    endpoint_loop = support_new_loop(_i);
    peer_fd = open_udp(&peer_address);
    fd = open_udp(&endpoint_address);
    ck_assert_int_eq(bk_datagram_init(&endpoint.transport, endpoint_loop,
                                      &endpoint_protocol, &endpoint),
                     0);
    ck_assert_int_eq(
        bk_datagram_open_socket(&endpoint.transport, &socket_ops, &fd), 0);
    ck_assert_int_eq(bk_datagram_start(&endpoint.transport), 0);
    support_turns(endpoint_loop, 1);
    ck_assert_int_eq(close(fd), 0);
    fd = -1;
    send_to_peer(&endpoint, "nowhere");
    expect_endpoint_log("made error:EBADF ");
    bk_datagram_close(&endpoint.transport);
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("lost:0 closed ");
    bk_datagram_release(&endpoint.transport);
    ck_assert_int_eq(close(peer_fd), 0);
    support_free_loop(endpoint_loop);
}
END_TEST

START_TEST(misuse_is_refused)
{
    bk_datagram_transport transport;
    bk_loop *loop = support_new_loop(_i);
    struct sockaddr_in address;

    ck_assert_int_eq(bk_datagram_init(NULL, loop, &endpoint_protocol, NULL),
                     -EINVAL);
    ck_assert_int_eq(bk_datagram_init(&transport, loop, NULL, NULL), -EINVAL);
    ck_assert_int_eq(
        bk_datagram_init(&transport, loop, &endpoint_protocol, NULL), 0);
    ck_assert_int_eq(bk_datagram_start(&transport), -EINVAL);
    ck_assert_int_eq(bk_datagram_open_fd(&transport, -1), -EBADF);
    ck_assert_int_eq(bk_datagram_sendto(&transport, "x", 1, NULL, 0), -EINVAL);
    ck_assert_int_eq(bk_datagram_open_socket(&transport, NULL, NULL), -EINVAL);
    ck_assert_int_eq(bk_datagram_open_fd(&transport, open_udp(&address)), 0);
    ck_assert_int_eq(bk_datagram_open_fd(&transport, open_udp(&address)),
                     -EINVAL);
    bk_datagram_release(&transport);
    bk_datagram_release(&transport);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_int_eq(
        bk_datagram_init(&transport, loop, &endpoint_protocol, NULL), -EBADF);
    support_free_loop(loop);
}
END_TEST

/* --- errors --- */

START_TEST(refusals_are_told)
{
    struct sockaddr_in nobody;
    int fd;

    begin_endpoint(_i);
    fd = bk_datagram_fileno(&endpoint.transport);
    ck_assert_int_eq(close(open_udp(&nobody)), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&nobody, sizeof(nobody)),
                     0);
    ck_assert_int_eq(bk_datagram_sendto(&endpoint.transport, "x", 1, NULL, 0),
                     0);
    expect_endpoint_log("");
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("error:ECONNREFUSED ");
    /* The next send tells if nothing was received in between. */
    ck_assert_int_eq(bk_datagram_sendto(&endpoint.transport, "y", 1, NULL, 0),
                     0);
    ck_assert_int_eq(bk_datagram_sendto(&endpoint.transport, "z", 1, NULL, 0),
                     0);
    expect_endpoint_log("error:ECONNREFUSED ");
    ck_assert(!bk_datagram_is_closing(&endpoint.transport));
    end_endpoint();
}
END_TEST

START_TEST(senders_without_address)
{
    int fds[2];

    endpoint_loop = support_new_loop(_i);
    unix_pair(fds);
    start_endpoint(&endpoint, endpoint_loop, fds[0]);
    ck_assert_int_eq(send(fds[1], "unbound", 7, 0), 7);
    support_turns(endpoint_loop, 2);
    expect_endpoint_log("made unbound ");
    ck_assert_uint_eq(endpoint.sender_len, 0);
    bk_datagram_release(&endpoint.transport);
    ck_assert_int_eq(close(fds[1]), 0);
    support_free_loop(endpoint_loop);
}
END_TEST

static struct endpoint other;

/* --- an embedder that receives by itself --- */

static void
receive_by_hand(bk_datagram_transport *transport, void *self)
{
    char buf[100];
    ssize_t n = recv(bk_datagram_fileno(transport), buf, sizeof(buf) - 1, 0);

    ck_assert_int_ge(n, 0);
    buf[n] = '\0';
    note_endpoint(self, buf);
}

static const bk_datagram_protocol by_hand = {.readable = receive_by_hand};

START_TEST(readable_instead_of_receiving)
{
    begin_endpoint(_i);
    bk_datagram_set_protocol(&endpoint.transport, &by_hand, &endpoint);
    ck_assert_ptr_eq(bk_datagram_get_self(&endpoint.transport), &endpoint);
    peer_sends_numbers(1, 3);
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("1 ");
    support_turns(endpoint_loop, 3);
    expect_endpoint_log("2 3 ");
    end_endpoint();
}
END_TEST

/* --- fork --- */

static void
use_copy(void)
{
    send_to_peer(&endpoint, "the child's");
    bk_datagram_flush(&endpoint.transport);
    (void)bk_datagram_get_write_buffer_size(&endpoint.transport);
    bk_datagram_close(&endpoint.transport);
    bk_datagram_release(&endpoint.transport);
    bk_loop_free(endpoint_loop);
    _exit(CHILD_DONE);
}

static void
fork_on_second(struct endpoint *of, const void *data, size_t len)
{
    int status;
    pid_t pid;

    (void)data;
    (void)len;
    send_to_peer(of, "reply");
    if (of->received != 2) {
        return;
    }
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        use_copy();
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), CHILD_DONE);
}

/* What the delivery holds back is the parent's to send. */
START_TEST(forked_child_sends_nothing)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = fork_on_second;
    peer_sends_numbers(1, 4);
    run_until_received(4);
    expect_peer_got("reply reply reply reply ");
    end_endpoint();
}
END_TEST

/* --- endpoints of the library's own --- */

static int
create(const bk_datagram_options *options, bk_datagram_transport **ret)
{
    return bk_loop_create_datagram_endpoint(endpoint_loop, &endpoint_protocol,
                                            &other, options, ret);
}

static const bk_datagram_protocol silent;

START_TEST(created_endpoints_talk)
{
    bk_datagram_options server_options = {.local_host = "127.0.0.1"};
    bk_datagram_options client_options = {.remote_host = "127.0.0.1"};
    bk_datagram_transport *server;
    bk_datagram_transport *client;
    bk_address address;

    begin_endpoint(_i);
    ck_assert_int_eq(bk_loop_create_datagram_endpoint(endpoint_loop, &silent,
                                                      NULL, &server_options,
                                                      &server),
                     0);
    ck_assert_int_eq(bk_datagram_getsockname(server, &address), 0);
    client_options.remote_port = bk_address_port(&address);
    ck_assert_int_eq(bk_loop_create_datagram_endpoint(endpoint_loop, &silent,
                                                      NULL, &client_options,
                                                      &client),
                     0);
    ck_assert_int_eq(bk_datagram_sendto(client, "hello", 5, NULL, 0), 0);
    ck_assert_int_eq(bk_datagram_getsockname(client, &address), 0);
    ck_assert_int_eq(
        bk_datagram_sendto(server, "back", 4, &address.u.sa, address.len), 0);
    support_turns(endpoint_loop, 3);
    ck_assert_ptr_eq(bk_datagram_loop(client), endpoint_loop);
    bk_datagram_close(client);
    support_turns(endpoint_loop, 2); /* frees it; the loop frees the other */
    end_endpoint();
}
END_TEST

START_TEST(broadcast_fixes_the_address_without_connecting)
{
    bk_datagram_options options = {.remote_host = "127.0.0.1",
                                   .has_broadcast = true};
    bk_datagram_transport *transport;
    int value = 0;
    socklen_t len = sizeof(value);
    struct sockaddr_storage name;
    socklen_t name_len = sizeof(name);

    begin_endpoint(_i);
    options.remote_port = ntohs(peer_address.sin_port);
    ck_assert_int_eq(create(&options, &transport), 0);
    ck_assert_int_eq(getsockopt(bk_datagram_fileno(transport), SOL_SOCKET,
                                SO_BROADCAST, &value, &len),
                     0);
    ck_assert_int_eq(value, 1);
    ck_assert_int_eq(getpeername(bk_datagram_fileno(transport),
                                 (struct sockaddr *)&name, &name_len),
                     -1);
    ck_assert_int_eq(bk_datagram_sendto(transport, "hi", 2, NULL, 0), 0);
    expect_peer_got("hi ");
    end_endpoint();
}
END_TEST

START_TEST(ports_are_shared_when_all_ask)
{
    bk_datagram_options options = {.local_host = "127.0.0.1",
                                   .has_reuse_port = true};
    bk_datagram_transport *first;
    bk_datagram_transport *second;
    bk_address address;

    begin_endpoint(_i);
    ck_assert_int_eq(create(&options, &first), 0);
    ck_assert_int_eq(bk_datagram_getsockname(first, &address), 0);
    options.local_port = bk_address_port(&address);
    ck_assert_int_eq(create(&options, &second), 0);
    options.has_reuse_port = false;
    ck_assert_int_eq(create(&options, &second), -EADDRINUSE);
    end_endpoint();
}
END_TEST

START_TEST(created_by_family_alone)
{
    bk_datagram_options options = {.family = AF_INET};
    bk_datagram_transport *transport;

    begin_endpoint(_i);
    ck_assert_int_eq(create(&options, &transport), 0);
    ck_assert_int_eq(bk_datagram_sendto(transport, "hi", 2,
                                        (struct sockaddr *)&peer_address,
                                        sizeof(peer_address)),
                     0);
    expect_peer_got("hi ");
    end_endpoint();
}
END_TEST

START_TEST(creating_tells_what_is_wrong)
{
    bk_datagram_options nothing = {.family = AF_UNSPEC};
    bk_datagram_options not_inet = {.family = AF_UNIX, .local_host = "::1"};
    bk_datagram_options foreign = {.local_host = "192.0.2.1"};
    bk_datagram_options mixed = {
        .local_host = "127.0.0.1", .remote_host = "::1", .remote_port = 1};
    bk_datagram_transport *transport;

    begin_endpoint(_i);
    ck_assert_int_eq(create(&nothing, &transport), -EINVAL);
    ck_assert_int_eq(create(&not_inet, &transport), -EINVAL);
    ck_assert_int_eq(create(&foreign, &transport), -EADDRNOTAVAIL);
    ck_assert_int_eq(create(&mixed, &transport), -EADDRNOTAVAIL);
    ck_assert_int_eq(create(NULL, &transport), -EINVAL);
    ck_assert_int_eq(create(&foreign, NULL), -EINVAL);
    ck_assert_int_eq(bk_loop_close(endpoint_loop), 0);
    ck_assert_int_eq(create(&foreign, &transport), -EBADF);
    end_endpoint();
}
END_TEST

static void
add_life(Suite *suite)
{
    TCase *tcase = new_endpoint_case(suite, "life");

    ADD(tcase, made_comes_before_the_first_datagram);
    ADD(tcase, datagrams_tell_their_sender);
    ADD(tcase, empty_datagrams_are_datagrams);
    ADD(tcase, close_ends_it_in_the_next_turn);
    ADD(tcase, abort_tells_why);
    ADD(tcase, closed_inside_connection_made);
    ADD(tcase, released_inside_each_callback);
    ADD(tcase, released_inside_a_burst);
    ADD(tcase, loop_closes_under_it);
    ADD(tcase, socket_that_was_closed_early);
    ADD(tcase, misuse_is_refused);
    ADD(tcase, forked_child_sends_nothing);
}

static void
add_others(Suite *suite)
{
    TCase *tcase = new_endpoint_case(suite, "others");

    ADD(tcase, refusals_are_told);
    ADD(tcase, senders_without_address);
    ADD(tcase, readable_instead_of_receiving);
    ADD(tcase, created_endpoints_talk);
    ADD(tcase, broadcast_fixes_the_address_without_connecting);
    ADD(tcase, ports_are_shared_when_all_ask);
    ADD(tcase, created_by_family_alone);
    ADD(tcase, creating_tells_what_is_wrong);
}

int
main(void)
{
    Suite *suite = suite_create("test_datagram");

    add_life(suite);
    add_others(suite);
    return support_main(suite);
}
