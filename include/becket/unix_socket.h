/* unix_socket.h -- Unix sockets: connections within one machine.
 *
 * SPDX-License-Identifier: MIT
 *
 * A path is that of a file, or, if it begins with a NUL byte, a name in the
 * abstract namespace, which has no file. It has at most BK_UNIX_PATH_MAX
 * bytes.
 *
 * asyncio: loop.create_unix_connection, loop.create_unix_server. unix(7).
 */
#ifndef BECKET_UNIX_SOCKET_H
#define BECKET_UNIX_SOCKET_H

#include "becket/connect.h"
#include "becket/server.h"
#include "becket/transport.h"
#include "becket/types.h"

BK_BEGIN_DECLS

/* sizeof(sockaddr_un.sun_path) on Linux, without a NUL at the end. */
#define BK_UNIX_PATH_MAX 108

/* Connect to path of path_len bytes (0: up to its NUL), make a transport with
 * this protocol. on_connect and *ret_connector as for
 * bk_loop_create_connection(); it is told -EAGAIN when the peer's backlog is
 * full. -EINVAL, -ENAMETOOLONG, -ENOMEM, -EBADF. Thread: loop. */
BK_API int bk_loop_create_unix_connection(
    bk_loop *loop, const bk_protocol *protocol, void *self, const char *path,
    size_t path_len, bk_connect_cb on_connect, bk_connector **ret_connector);

typedef struct {
    const char *path;
    size_t path_len; /* 0: up to its NUL */
    int backlog;     /* 0: 100, asyncio's default */

    /* Permissions of the file, set before anybody can connect; 0: those that
     * umask(2) leaves. */
    unsigned mode;

    /* The file is removed when the server is closed, if it is still the same,
     * unless this is set. */
    bool is_file_kept;

    /* As in bk_server_options. */
    int (*protocol_factory)(bk_server *server, const bk_protocol **ret_protocol,
                            void **ret_self, void *self);
    void (*on_error)(bk_server *server, int error, void *self);
} bk_unix_server_options;

/* Bind, listen and accept. A socket file that a server before has left is
 * replaced, a file of another kind is not. *ret_server is owned by the caller,
 * as that of bk_loop_create_server(). -EADDRINUSE, -EINVAL, -ENAMETOOLONG, ...
 * Thread: loop. */
BK_API int bk_loop_create_unix_server(bk_loop *loop,
                                      const bk_protocol *protocol, void *self,
                                      const bk_unix_server_options *options,
                                      bk_server **ret_server);

BK_END_DECLS

#endif
