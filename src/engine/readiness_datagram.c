/* readiness_datagram.c -- the readiness engine's system calls for datagrams.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stddef.h>

#include "base/sys.h"
#include "engine/inlet.h"
#include "engine/readiness.h"

static void
hand_over(bk_io *io, const struct bki_datagram *datagrams, int count)
{
    if (bki_readiness_is_again(count)) {
        return;
    }
    for (int i = 0; i < count; i++) {
        io->_loop->stats.bytes_received += datagrams[i].len;
    }
    io->_ops->on_datagrams(io, datagrams, count);
}

/* Whoever gets one at a time needs no more memory than a stream. */
static void
receive_one(bk_io *io)
{
    char *scratch = bki_loop_scratch(io->_loop);
    struct sockaddr_storage address;
    struct bki_datagram datagram = {
        .data = scratch,
        .address = (struct sockaddr *)&address,
        .address_len = sizeof(address),
    };
    ssize_t n = -ENOMEM;

    if (scratch != NULL) {
        n = bki_sys_recvfrom(bki_io_fileno(io), scratch, BK_READ_MAX,
                             (struct sockaddr *)&address,
                             &datagram.address_len);
    }
    if (n < 0) {
        hand_over(io, NULL, (int)n);
        return;
    }
    datagram.len = (size_t)n;
    hand_over(io, &datagram, 1);
}

/* Without memory for several: one. */
static void
receive_burst(bk_io *io, int count)
{
    bk_loop *loop = io->_loop;
    const struct bki_datagram *datagrams;
    int n;

    if (loop->inlet == NULL) {
        loop->inlet = bki_inlet_new();
    }
    if (loop->inlet == NULL) {
        receive_one(io);
        return;
    }
    n = bki_inlet_receive(loop->inlet, bki_io_fileno(io), count, &datagrams);
    hand_over(io, datagrams, n);
}

static void
run_datagrams(bk_handle *handle)
{
    bk_io *io = (bk_io *)(void *)((char *)handle - offsetof(bk_io, _read));
    int count = io->_ops->on_burst(io);

    if (count == 1) {
        receive_one(io);
    }
    else if (count > 1) {
        receive_burst(io, count);
    }
}

int
bki_readiness_datagram_start(bk_io *io)
{
    io->_read._callback = run_datagrams;
    return bki_registry_want(io, BK_READABLE);
}

static size_t
count_bytes(const struct mmsghdr *messages, int count)
{
    size_t bytes = 0;

    for (int i = 0; i < count; i++) {
        bytes += messages[i].msg_len;
    }
    return bytes;
}

/* One goes the shorter way. */
static int
send_one(int fd, struct mmsghdr *message)
{
    const struct msghdr *header = &message->msg_hdr;
    ssize_t n =
        bki_sys_sendto(fd, header->msg_iov->iov_base, header->msg_iov->iov_len,
                       header->msg_name, header->msg_namelen);

    if (n < 0) {
        return (int)n;
    }
    message->msg_len = (unsigned)n;
    return 1;
}

int
bki_readiness_datagram_send(bk_io *io, int fd, struct mmsghdr *messages,
                            unsigned count)
{
    int n = count == 1 ? send_one(fd, messages)
                       : bki_sys_sendmmsg(fd, messages, count);

    if (bki_readiness_is_again(n)) {
        return 0;
    }
    if (n > 0) {
        io->_loop->stats.bytes_sent += count_bytes(messages, n);
    }
    return n;
}
