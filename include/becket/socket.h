/* socket.h -- one send or receive on a socket that somebody else owns.
 *
 * SPDX-License-Identifier: MIT
 *
 * For embedders that offer asyncio's sock_* calls. None of these waits, even
 * when the fd is in blocking mode: nothing there, or no room, is -EAGAIN.
 *
 * asyncio: loop.sock_recv, sock_recv_into, sock_sendall. recv(2), send(2).
 */
#ifndef BECKET_SOCKET_H
#define BECKET_SOCKET_H

#include "becket/types.h"

BK_BEGIN_DECLS

/* Bytes received, 0 at the end of the stream, or a negative code. The buffer
 * is borrowed. Thread: any. */
BK_API int64_t bk_socket_recv(int fd, void *buf, size_t len);

/* Bytes sent, or a negative code; never raises SIGPIPE. The data is borrowed.
 * Thread: any. */
BK_API int64_t bk_socket_send(int fd, const void *data, size_t len);

BK_END_DECLS

#endif
