/* pipe.h -- transports of one direction: pipes, FIFOs, terminals, devices.
 *
 * SPDX-License-Identifier: MIT
 *
 * What read(2) and write(2) are for and what can be waited for: either end of
 * a pipe or FIFO, a terminal or another character device, also one direction
 * of a socket. Each is a bk_transport, transport.h, with half of its calls.
 *
 * The reading end calls data_received (or get_buffer) and at the end
 * eof_received, whose answer does not matter, then connection_lost(0). A
 * terminal whose other side has gone reads as -EIO.
 *
 * The writing end takes writes and flow control as every transport does, but
 * resume_writing waits until all is written. write_eof is close. Once nobody
 * reads any more, which a pipe, a FIFO and a socket tell, eof_received is
 * called, then connection_lost: -EPIPE if something was left to write, else 0.
 * Several writes of a callback become one system call, as with every
 * transport, but a write of up to PIPE_BUF bytes to a pipe is not torn
 * (pipe(7)), and what has boundaries (packets) or somebody who looks
 * (terminals, devices) is written at once. What is written after close is
 * dropped.
 *
 * write(2) to a pipe that nobody reads raises SIGPIPE. A program that does not
 * want to die of it ignores the signal: signal(SIGPIPE, SIG_IGN).
 *
 * asyncio: loop.connect_read_pipe, loop.connect_write_pipe.
 */
#ifndef BECKET_PIPE_H
#define BECKET_PIPE_H

#include "becket/transport.h"
#include "becket/types.h"
#include "becket/watch.h"

BK_BEGIN_DECLS

/* Which end of a pipe. */
typedef enum {
    BK_PIPE_READ,
    BK_PIPE_WRITE,
} bk_pipe_end;

/* Give a transport from bk_transport_init() its file, instead of a connection.
 * The first form takes the fd (on failure too). The second leaves it to an
 * object, as bk_transport_open_socket(), and the same fd may be given to two
 * transports, one for each direction. The file is made non-blocking, and stays
 * so. Then bk_transport_start(). -EOPNOTSUPP: a regular file or a folder.
 * -EBADF, -EINVAL. Thread: loop. */
BK_API int bk_transport_open_pipe_fd(bk_transport *transport, bk_pipe_end end,
                                     int fd);
BK_API int bk_transport_open_pipe(bk_transport *transport, bk_pipe_end end,
                                  const bk_socket_ops *file_ops, void *file);

/* A transport of the library's own over this fd, which is taken, on failure
 * too. It is started, and ends with its connection_lost. Errors as above, and
 * -ENOMEM. Thread: loop. */
BK_API int bk_loop_connect_read_pipe(bk_loop *loop, const bk_protocol *protocol,
                                     void *self, int fd,
                                     bk_transport **ret_transport);
BK_API int bk_loop_connect_write_pipe(bk_loop *loop,
                                      const bk_protocol *protocol, void *self,
                                      int fd, bk_transport **ret_transport);

BK_END_DECLS

#endif
