/* module.h -- what all files of the binding share.
 *
 * SPDX-License-Identifier: MIT
 *
 * The module's state holds its types, the names it looks up, and what it uses
 * of asyncio; there is no other storage that outlives a call. Hot objects keep
 * a borrowed pointer to it: their type keeps the module alive.
 */
#ifndef BKPY_MODULE_H
#define BKPY_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "becket/becket.h"

#include "compat.h"

/* Interned names: BKPY_NAMES(X) makes state->str_x for each. Add here. */
#define BKPY_NAMES(X)                                                          \
    X(Future)                                                                  \
    X(Task)                                                                    \
    X(_asyncio_future_blocking)                                                \
    X(_buffer)                                                                 \
    X(_eof)                                                                    \
    X(_exception)                                                              \
    X(_limit)                                                                  \
    X(_over_ssl)                                                               \
    X(_paused)                                                                 \
    X(_stream_reader)                                                          \
    X(_stream_reader_wr)                                                       \
    X(_timer_handle_cancelled)                                                 \
    X(_transport)                                                              \
    X(_waiter)                                                                 \
    X(buffer_updated)                                                          \
    X(call_at)                                                                 \
    X(call_exception_handler)                                                  \
    X(call_soon)                                                               \
    X(callback)                                                                \
    X(cancel)                                                                  \
    X(cancelled)                                                               \
    X(close)                                                                   \
    X(connection_lost)                                                         \
    X(connection_made)                                                         \
    X(context)                                                                 \
    X(create_task)                                                             \
    X(data_received)                                                           \
    X(done)                                                                    \
    X(eof_received)                                                            \
    X(exception)                                                               \
    X(feed_data)                                                               \
    X(feed_eof)                                                                \
    X(fileno)                                                                  \
    X(get_buffer)                                                              \
    X(handle)                                                                  \
    X(is_closing)                                                              \
    X(loop)                                                                    \
    X(message)                                                                 \
    X(modify)                                                                  \
    X(name)                                                                    \
    X(pause_reading)                                                           \
    X(pause_writing)                                                           \
    X(peername)                                                                \
    X(protocol)                                                                \
    X(register)                                                                \
    X(resume_writing)                                                          \
    X(select)                                                                  \
    X(set_exception)                                                           \
    X(set_name)                                                                \
    X(set_result)                                                              \
    X(set_result_unless_cancelled)                                             \
    X(socket)                                                                  \
    X(sockname)                                                                \
    X(source_traceback)                                                        \
    X(time)                                                                    \
    X(transport)                                                               \
    X(unregister)

typedef struct bkpy_state {
    /* Types of this module (owned). */
    PyTypeObject *LoopType;
    PyTypeObject *HandleType;
    PyTypeObject *TimerHandleType;
    PyTypeObject *WatchType;
    PyTypeObject *StreamTransportType;
    PyTypeObject *ServerType;
    PyTypeObject *SockOpType;

    /* Of the standard library (owned). */
    PyTypeObject *FutureType;       /* _asyncio.Future */
    PyTypeObject *TaskType;         /* _asyncio.Task */
    PyObject *futures_names;        /* dict: what asyncio.futures holds, */
    PyObject *tasks_names;          /* and asyncio.tasks */
    PyObject *Handle;               /* asyncio.Handle, for isinstance */
    PyObject *TimerHandle;          /* asyncio.TimerHandle */
    PyObject *ThreadSafeHandle;     /* 3.14's, else NULL */
    PyObject *BufferedProtocol;     /* asyncio.BufferedProtocol */
    PyObject *StreamReader;         /* asyncio.StreamReader */
    PyObject *StreamReaderProtocol; /* asyncio.StreamReaderProtocol */
    PyTypeObject *SocketType;       /* socket.socket */
    PyTypeObject *BaseSocketType;   /* _socket.socket */
    PyObject *SSLSocket;            /* ssl.SSLSocket; NULL without ssl */
    PyObject *gaierror;             /* socket.gaierror */
    PyObject *CancelledError;
    PyObject *names_loop;              /* ('loop',), for vectorcalls */
    PyObject *names_loop_name_context; /* ('loop', 'name', 'context') */
    PyObject *get_running_loop;        /* asyncio._get_running_loop */
    PyObject *Lock;                    /* _thread.allocate_lock, for handle.c */
    /* The module becket._support: slow paths in Python. This is what C calls:
     *   format_handle(handle) -> str                 repr(handle)
     *   format_callback(handle) -> str               as 'cb() at file:line'
     *   extract_stack(frame) -> StackSummary         frame may be None
     *   report_slow(handle, duration) -> None        logs 'Executing ...'
     *   check_callback(callback, method) -> None     or TypeError
     *   make_transport_socket(owner, sock) -> TransportSocket
     * A handle is read through _callback, _args, _loop, _cancelled, _when and
     * _source_traceback, as asyncio does. */
    PyObject *support;

    /* asyncio's own methods of StreamReaderProtocol and StreamReader (owned);
     * NULL if somebody had replaced them before: stream_reader.c. */
    PyObject *original_data_received;
    PyObject *original_eof_received;
    PyObject *original_feed_data;
    PyObject *original_feed_eof;

    bool has_socket_layout; /* socket.c: the fd can be read in the struct */

#define X(name) PyObject *str_##name;
    BKPY_NAMES(X)
#undef X
} bkpy_state;

/* The state of the module that defines type's class, see module.c. Borrowed;
 * NULL with an exception when type is foreign. */
bkpy_state *bkpy_state_of_type(PyTypeObject *type);
bkpy_state *bkpy_state_of_module(PyObject *module);

/* Each file's part of the module's set-up: make its types and put them into
 * the state. 0, or -1 with an exception. */
int bkpy_handle_setup(PyObject *module, bkpy_state *state);
int bkpy_timer_handle_setup(PyObject *module, bkpy_state *state);
int bkpy_watch_setup(PyObject *module, bkpy_state *state);
int bkpy_loop_setup(PyObject *module, bkpy_state *state);
int bkpy_stream_transport_setup(PyObject *module, bkpy_state *state);
int bkpy_server_setup(PyObject *module, bkpy_state *state);
int bkpy_sock_op_setup(PyObject *module, bkpy_state *state);
int bkpy_socket_setup(PyObject *module, bkpy_state *state);
int bkpy_audit_setup(PyObject *module, bkpy_state *state);

#endif
