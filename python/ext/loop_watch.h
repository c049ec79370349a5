/* loop_watch.h -- the watches of a loop, for the files that use them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKPY_LOOP_WATCH_H
#define BKPY_LOOP_WATCH_H

#include "loop.h"

/* (reader, writer) of an fd, None for what is not there: what asyncio gives a
 * selector as a key's data. None for an fd that has no watch. New reference or
 * NULL with an exception. */
PyObject *bkpy_watch_data(LoopObject *self, int fd);

/* Have this watcher (a Handle or a SockOp) be called whenever the fd is ready
 * in this direction (events: BK_READABLE or BK_WRITABLE); it replaces and
 * cancels the one before. file is what the user called the fd and stays alive
 * as long as the watch, as a selector's key would keep it. 0 or -1 with an
 * exception. */
int bkpy_loop_watch_file(LoopObject *self, PyObject *file, int fd,
                         unsigned events, PyObject *watcher);

/* As bkpy_loop_watch_file() and bkpy_loop_unwatch_fd(), of an operation on a
 * socket. Between two of them the poller may go on knowing the fd, as long as
 * it is the same socket's. */
int bkpy_watch_begin(LoopObject *self, PyObject *sock, int fd, unsigned events,
                     PyObject *watcher);
int bkpy_watch_end(LoopObject *self, PyObject *sock, int fd, unsigned events,
                   PyObject *watcher);

/* Whether the fd's watch only has to end a wait, see bk_watch_set_waker(); no
 * effect where it has none. 0 or -1. */
int bkpy_watch_set_waker(LoopObject *self, int fd, bool is_waker);

/* The fd that is watched under this very object, or -1: for a file that has
 * been closed and no longer tells its fd. */
int bkpy_watch_find_file(LoopObject *self, PyObject *file);

#endif
