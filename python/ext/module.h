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
    X(__anext__)                                                               \
    X(__class__)                                                               \
    X(__dict__)                                                                \
    X(_asyncio_future_blocking)                                                \
    X(_buffer)                                                                 \
    X(_client_connected_cb)                                                    \
    X(_complete_fut)                                                           \
    X(_connection_lost)                                                        \
    X(_drain_helper)                                                           \
    X(_eof)                                                                    \
    X(_exception)                                                              \
    X(_force_close)                                                            \
    X(_limit)                                                                  \
    X(_loop)                                                                   \
    X(_maybe_resume_transport)                                                 \
    X(_over_ssl)                                                               \
    X(_paused)                                                                 \
    X(_protocol)                                                               \
    X(_reader)                                                                 \
    X(_stream_reader)                                                          \
    X(_stream_reader_wr)                                                       \
    X(_strong_reader)                                                          \
    X(_timer_handle_cancelled)                                                 \
    X(_transport)                                                              \
    X(_wait_for_data)                                                          \
    X(_waiter)                                                                 \
    X(buffer_updated)                                                          \
    X(call_at)                                                                 \
    X(call_exception_handler)                                                  \
    X(call_later)                                                              \
    X(call_soon)                                                               \
    X(callback)                                                                \
    X(cancel)                                                                  \
    X(cancelled)                                                               \
    X(close)                                                                   \
    X(connection_lost)                                                         \
    X(connection_made)                                                         \
    X(context)                                                                 \
    X(create_future)                                                           \
    X(create_task)                                                             \
    X(data_received)                                                           \
    X(datagram_received)                                                       \
    X(do_handshake)                                                            \
    X(done)                                                                    \
    X(drain)                                                                   \
    X(eof_received)                                                            \
    X(error_received)                                                          \
    X(extend)                                                                  \
    X(exception)                                                               \
    X(feed_data)                                                               \
    X(feed_eof)                                                                \
    X(fileno)                                                                  \
    X(get_buffer)                                                              \
    X(get_debug)                                                               \
    X(handle)                                                                  \
    X(is_closing)                                                              \
    X(loop)                                                                    \
    X(message)                                                                 \
    X(modify)                                                                  \
    X(name)                                                                    \
    X(pause_reading)                                                           \
    X(pause_writing)                                                           \
    X(pending)                                                                 \
    X(peername)                                                                \
    X(protocol)                                                                \
    X(read)                                                                    \
    X(readexactly)                                                             \
    X(readline)                                                                \
    X(readuntil)                                                               \
    X(register)                                                                \
    X(resume_reading)                                                          \
    X(resume_writing)                                                          \
    X(select)                                                                  \
    X(self)                                                                    \
    X(set_exception)                                                           \
    X(set_name)                                                                \
    X(set_result)                                                              \
    X(set_result_unless_cancelled)                                             \
    X(socket)                                                                  \
    X(sockname)                                                                \
    X(source_traceback)                                                        \
    X(throw)                                                                   \
    X(time)                                                                    \
    X(transport)                                                               \
    X(unregister)                                                              \
    X(unwrap)                                                                  \
    X(wrap_bio)                                                                \
    X(write)

/* asyncio's own methods that the streams of streams.h stand for: the state has
 * its class and its name, and as original_x the function. */
#define BKPY_STREAM_FUNCTIONS(X)                                               \
    X(StreamReader, __anext__)                                                 \
    X(StreamReader, _maybe_resume_transport)                                   \
    X(StreamReader, _wait_for_data)                                            \
    X(StreamReader, exception)                                                 \
    X(StreamReader, feed_data)                                                 \
    X(StreamReader, feed_eof)                                                  \
    X(StreamReader, read)                                                      \
    X(StreamReader, readexactly)                                               \
    X(StreamReader, readline)                                                  \
    X(StreamReader, readuntil)                                                 \
    X(StreamReaderProtocol, _drain_helper)                                     \
    X(StreamReaderProtocol, connection_made)                                   \
    X(StreamReaderProtocol, data_received)                                     \
    X(StreamReaderProtocol, eof_received)                                      \
    X(StreamWriter, drain)                                                     \
    X(StreamWriter, write)

/* What was last found out about a class, and for which version of it. */
typedef struct {
    unsigned version; /* 0: not known */
    bool is_usual;
} bkpy_class_guard;

/* How the instances of a class keep their attributes: streams_attrs.c. */
typedef struct {
    const void *keys; /* identifies the dicts for which it holds; NULL: none */
    size_t offset;
    ptrdiff_t dict_at; /* from an instance to the pointer to its __dict__; 0:
                          not known */
} bkpy_attrs_layout;

/* The same for a protocol: where in its values the attributes are. */
typedef struct {
    bkpy_attrs_layout attrs;
    size_t count;
    size_t strong_reader; /* only a server's has it */
    size_t stream_reader_wr;
    size_t client_connected_cb;
    size_t paused;
    size_t connection_lost;
} bkpy_protocol_layout;

/* Where an _asyncio.Future has what becket touches past its methods, and what
 * words of its tell of its state: future.c. Offsets; 0: not known. */
typedef struct {
    size_t loop;
    size_t callback; /* the first that was added, */
    size_t context;  /* its context, */
    size_t others;   /* and a list of the others, or NULL */
    size_t result;
    size_t state;          /* zero while it is pending */
    size_t awaited;        /* zero unless it is awaited, may be the same word */
    uintptr_t is_finished; /* what the word is then */
    uintptr_t is_awaited;
    size_t size;      /* of the whole struct */
    bool is_known;    /* all of them */
    bool is_reusable; /* and attributes and weak references show in it */
} bkpy_future_layout;

/* So many attributes StreamReader.__init__() and StreamWriter.__init__()
 * make. */
#define BKPY_READER_ATTRS 8
#define BKPY_WRITER_ATTRS 5

typedef struct bkpy_state {
    /* Types of this module (owned). */
    PyTypeObject *LoopType;
    PyTypeObject *HandleType;
    PyTypeObject *TimerHandleType;
    PyTypeObject *WatchType;
    PyTypeObject *StreamTransportType;
    PyTypeObject *DatagramTransportType;
    PyTypeObject *TlsProtocolType;
    PyTypeObject *TlsTransportType;
    PyTypeObject *ServerType;
    PyTypeObject *SockOpType;
    PyTypeObject *StreamMethodType;
    PyTypeObject *StreamOpType;
    PyTypeObject *StreamAttributeType;
    PyTypeObject *ConnectedCallbackType;
    PyTypeObject *ReaderType; /* NULL where asyncio's own have to do, */
    PyTypeObject *WriterType; /* both: streams_class.c */

    /* Of the standard library (owned). */
    PyTypeObject *FutureType;       /* _asyncio.Future */
    PyTypeObject *TaskType;         /* _asyncio.Task */
    PyObject *futures_names;        /* dict: what asyncio.futures holds, */
    uint64_t futures_version;       /* for which its Future is FutureType, */
    PyObject *tasks_names;          /* and asyncio.tasks */
    PyObject *Handle;               /* asyncio.Handle, for isinstance */
    PyObject *TimerHandle;          /* asyncio.TimerHandle */
    PyObject *ThreadSafeHandle;     /* 3.14's, else NULL */
    PyObject *BufferedProtocol;     /* asyncio.BufferedProtocol */
    PyObject *StreamReader;         /* asyncio.StreamReader */
    PyObject *StreamReaderProtocol; /* asyncio.StreamReaderProtocol */
    PyObject *StreamWriter;         /* asyncio.StreamWriter */
    PyTypeObject *SocketType;       /* socket.socket */
    PyTypeObject *BaseSocketType;   /* _socket.socket */
    PyObject *SSLSocket;            /* ssl.SSLSocket; NULL without ssl */
    /* Of the module ssl; NULL without it. */
    PyObject *MemoryBIO;
    PyObject *SSLObject;
    PyObject *SSLError;
    PyObject *SSLWantReadError;
    PyObject *SSLSyscallError;
    PyObject *CertificateError;
    PyObject *gaierror; /* socket.gaierror */
    PyObject *CancelledError;
    PyObject *names_loop;              /* ('loop',), for vectorcalls */
    PyObject *names_loop_name_context; /* ('loop', 'name', 'context') */
    PyObject *names_wrap_bio;          /* ('server_side', 'server_hostname') */
    PyObject *Lock;                    /* _thread.allocate_lock, for handle.c */
    /* The module becket._support: slow paths in Python. This is what C calls:
     *   format_handle(handle) -> str                 repr(handle)
     *   format_callback(handle) -> str               as 'cb() at file:line'
     *   extract_stack(frame) -> StackSummary         frame may be None
     *   report_slow(handle, duration) -> None        logs 'Executing ...'
     *   check_callback(callback, method) -> None     or TypeError
     *   make_ssl_object() -> ssl.SSLObject           to look at
     *   make_transport_socket(owner, sock) -> TransportSocket
     *   fill_extra_info(extra, owner, sock) -> None  what get_extra_info tells
     * A handle is read through _callback, _args, _loop, _cancelled, _when and
     * _source_traceback, as asyncio does. */
    PyObject *support;

    /* Owned; NULL if somebody had replaced them before. */
#define X(cls, name) PyObject *original_##name;
    BKPY_STREAM_FUNCTIONS(X)
#undef X
    PyObject *stream_reader_property; /* StreamReaderProtocol._stream_reader */
    PyObject *begin_on_stand_in;      /* becket._stand_in.begin */
    PyObject *closed_transport;       /* becket._stand_in.CLOSED_TRANSPORT */
    PyObject *future_set_result;      /* _asyncio.Future.set_result, */
    PyObject *future_done;            /* .done */
    PyObject *stop_iteration;         /* coroutine.c: to be used again */
    bkpy_class_guard reader_guard;
    bkpy_class_guard writer_guard;
    bkpy_class_guard protocol_guard;
    bkpy_class_guard transport_guard;
    bkpy_class_guard tls_transport_guard;
    /* Of asyncio's instances, also once their class is ours; of those that
     * were ours from the start. */
    size_t keys_count_at; /* where the keys of a dict count their names; 0 */
    bkpy_attrs_layout reader_layouts[2];
    bkpy_attrs_layout writer_layouts[2];
    bkpy_protocol_layout protocol_layout;
    PyObject *reader_names[BKPY_READER_ATTRS]; /* borrowed, of str_x */
    PyObject *writer_names[BKPY_WRITER_ATTRS];

    bkpy_future_layout future_layout;
    bool had_debug;         /* some loop has been in debug mode */
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
int bkpy_datagram_transport_setup(PyObject *module, bkpy_state *state);
int bkpy_tls_protocol_setup(PyObject *module, bkpy_state *state);
int bkpy_tls_transport_setup(PyObject *module, bkpy_state *state);
int bkpy_server_setup(PyObject *module, bkpy_state *state);
int bkpy_sock_op_setup(PyObject *module, bkpy_state *state);
int bkpy_socket_setup(PyObject *module, bkpy_state *state);
int bkpy_audit_setup(PyObject *module, bkpy_state *state);
int bkpy_future_setup(PyObject *module, bkpy_state *state);
int bkpy_stream_method_setup(PyObject *module, bkpy_state *state);
int bkpy_stream_attribute_setup(PyObject *module, bkpy_state *state);
int bkpy_stream_op_setup(PyObject *module, bkpy_state *state);
int bkpy_exchange_setup(PyObject *module, bkpy_state *state);
int bkpy_protocol_setup(PyObject *module, bkpy_state *state);
int bkpy_streams_setup(PyObject *module, bkpy_state *state);

#endif
