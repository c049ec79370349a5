/* SPDX-License-Identifier: MIT */
/* The least that an echo server for datagrams can do.
 *
 *     udp_echo
 *
 * One thread, level-triggered epoll, one recvmmsg and one sendmmsg for up to 64
 * datagrams. Prints its port.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common.h"

#define BATCH         64 /* as many as becket receives at once */
#define MESSAGE_BYTES 65536
/* A cache line further each, or their beginnings would compete for the same few
 * places in the cache.
 */
#define STRIDE_BYTES  (MESSAGE_BYTES + 64)

struct batch {
    struct mmsghdr headers[BATCH];
    struct iovec pieces[BATCH];
    struct sockaddr_in addresses[BATCH];
    char data[BATCH][STRIDE_BYTES];
};

static struct batch batch;

/* A receive shortens them, so that the batch can be sent as it is. */
static void
make_room(int count)
{
    for (int i = 0; i < count; i++) {
        batch.pieces[i] = (struct iovec){batch.data[i], MESSAGE_BYTES};
        batch.headers[i].msg_hdr = (struct msghdr){
            .msg_name = &batch.addresses[i],
            .msg_namelen = sizeof(batch.addresses[i]),
            .msg_iov = &batch.pieces[i],
            .msg_iovlen = 1,
        };
    }
}

static void
echo(int fd)
{
    int n = recvmmsg(fd, batch.headers, BATCH, 0, NULL);

    if (n < 0 && errno == EAGAIN) {
        return;
    }
    must(n, "recvmmsg");
    for (int i = 0; i < n; i++) {
        batch.pieces[i].iov_len = batch.headers[i].msg_len;
    }
    must(sendmmsg(fd, batch.headers, (unsigned)n, 0), "sendmmsg");
    make_room(n);
}

int
main(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int fd;

    die_with_parent();
    must(epoll, "epoll_create1");
    make_room(BATCH);
    fd = bind_udp();
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    for (;;) {
        int n = epoll_wait(epoll, &event, 1, -1);

        must(n < 0 && errno == EINTR ? 0 : n, "epoll_wait");
        if (n > 0) {
            echo(fd);
        }
    }
}
