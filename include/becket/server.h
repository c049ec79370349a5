/* server.h -- accepting connections.
 *
 * SPDX-License-Identifier: MIT
 *
 * Two levels: a bk_listener hands out accepted fds and is embedded by its
 * owner; a bk_server makes a transport with a protocol for each connection.
 *
 * asyncio: loop.create_server, asyncio.Server.
 */
#ifndef BECKET_SERVER_H
#define BECKET_SERVER_H

#include "becket/address.h"
#include "becket/timer.h"
#include "becket/transport.h"
#include "becket/types.h"
#include "becket/watch.h"

BK_BEGIN_DECLS

/* fd >= 0: a new connection (CLOEXEC, NONBLOCK), taken by the callee; peer is
 * borrowed. fd < 0: the code of an accept that failed; that a peer gave up
 * meanwhile (ECONNABORTED) is not told. After -EMFILE, -ENFILE,
 * -ENOBUFS and -ENOMEM accepting pauses by itself for a second, and nothing is
 * lost; after any other code it goes on. The listener may be closed from
 * inside. Thread: loop. */
typedef void (*bk_accept_cb)(bk_listener *listener, int fd,
                             const bk_address *peer);

struct bk_listener {
    bk_io _io;
    bk_timer _retry; /* resumes after a pause */
    bk_accept_cb _accept;
    int _accepts_max;      /* per readiness event */
    uint8_t _is_accepting; /* asked to accept; the pause does not change it */
    uint8_t _is_closed;
};

/* Prepare the caller's storage for a bound, listening, non-blocking stream
 * socket. The first form takes the fd (on failure too), the second leaves it
 * to a socket object, as in transport.h. At most accepts_max connections are
 * accepted per readiness event (asyncio: the backlog). -EINVAL, -EBADF.
 * Thread: loop. */
BK_API int bk_listener_init_fd(bk_listener *listener, bk_loop *loop, int fd,
                               int accepts_max, bk_accept_cb on_accept);
BK_API int bk_listener_init_socket(bk_listener *listener, bk_loop *loop,
                                   const bk_socket_ops *socket_ops,
                                   void *socket, int accepts_max,
                                   bk_accept_cb on_accept);

/* Begin and end accepting; idempotent. start: -EBADF and what the poller
 * reports. Thread: loop. */
BK_API int bk_listener_start(bk_listener *listener);
BK_API void bk_listener_stop(bk_listener *listener);

/* Stop, and close the fd or the socket object. The memory is the caller's
 * afterwards. Idempotent. Thread: loop. */
BK_API void bk_listener_close(bk_listener *listener);

/* The listening fd's number now, or -1. Thread: loop. */
BK_API int bk_listener_fileno(const bk_listener *listener);

typedef struct {
    const char *host; /* literal or name; NULL or "": all interfaces */
    uint16_t port;    /* 0: one that the system chooses */
    int family;       /* AF_UNSPEC, AF_INET, AF_INET6 */
    int backlog;      /* 0: 100, asyncio's default */
    bool has_reuse_address_off; /* SO_REUSEADDR is on unless this is set */
    bool has_reuse_port;
    bool has_keep_alive;
    /* Called for each connection to choose its protocol and self; NULL: the
     * protocol given to bk_loop_create_server, with its self. A negative
     * result refuses the connection. */
    int (*protocol_factory)(bk_server *server, const bk_protocol **ret_protocol,
                            void **ret_self, void *self);
    /* Tells of an accept that failed, see bk_accept_cb. */
    void (*on_error)(bk_server *server, int error, void *self);
} bk_server_options;

/* Bind, listen and accept. Names are resolved in this call, which may then
 * block; use literals, or bk_loop_getaddrinfo() first, where that matters.
 * *ret_server is owned by the caller: bk_server_free(). -EADDRINUSE, BK_EAI_x,
 * -EINVAL, ... Thread: loop. */
BK_API int bk_loop_create_server(bk_loop *loop, const bk_protocol *protocol,
                                 void *self, const bk_server_options *options,
                                 bk_server **ret_server);

/* Stop listening and close the listening fds. Connections stay. Idempotent. */
BK_API void bk_server_close(bk_server *server);

/* bk_transport_close(), or bk_transport_abort() without an error, for every
 * connection that the server accepted and that lives. It may be closed
 * already. Not from inside protocol_factory; the server may not be freed from
 * inside what is called on the way (connection_closing). Thread: loop.
 * asyncio: Server.close_clients, abort_clients. */
BK_API void bk_server_close_clients(bk_server *server);
BK_API void bk_server_abort_clients(bk_server *server);

/* Close if need be and free; connections stay. NULL is a no-op. Not from
 * inside on_error or protocol_factory. Before or after bk_loop_free().
 * Thread: loop. */
BK_API void bk_server_free(bk_server *server);

/* The address of listening socket number index, -ENOENT past the last. */
BK_API int bk_server_getsockname(const bk_server *server, size_t index,
                                 bk_address *ret_address);

BK_END_DECLS

#endif
