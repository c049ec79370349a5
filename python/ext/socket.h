/* socket.h -- Python's socket objects: their fd, and who closes it.
 *
 * SPDX-License-Identifier: MIT
 *
 * A socket object that a user passed in (or asked for) owns its fd. It is
 * asked for the number at every system call, so a socket that was closed
 * behind the loop's back gives -1, and never another connection's number.
 */
#ifndef BKPY_SOCKET_H
#define BKPY_SOCKET_H

#include "module.h"

/* The socket's fd now; -1 once it is closed or detached, -2 with an exception
 * (an object that is no socket and whose fileno() fails). */
int bkpy_socket_fileno(bkpy_state *state, PyObject *sock);

/* How the core asks this object for its number and closes it. The self that
 * goes with them is the object itself, borrowed: who hands it to the core
 * keeps a reference until it is closed. Need the GIL. Static. */
const bk_socket_ops *bkpy_socket_ops(bkpy_state *state, PyObject *sock);

/* True when asking the object for its number runs no Python code. */
bool bkpy_socket_is_direct(bkpy_state *state, PyObject *sock);

/* True when the object's I/O methods are those of socket.socket, so that
 * reading and writing its fd directly is the same as calling them. -1 with an
 * exception. */
int bkpy_socket_is_plain(bkpy_state *state, PyObject *sock);

/* The same for these methods; NULL ends the list. */
int bkpy_socket_has_plain(bkpy_state *state, PyObject *sock,
                          const char *const *names);

/* A socket.socket that takes fd. On failure NULL, and fd is still the
 * caller's. */
PyObject *bkpy_socket_from_fd(bkpy_state *state, int fd);

#endif
