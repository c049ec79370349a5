/* stream_transport.h -- what the files of the stream transport share.
 *
 * SPDX-License-Identifier: MIT
 *
 * stream_transport.c  life cycle and type     stream_method.c  methods
 * stream_writing.c    writing methods         stream_info.c    attributes
 * stream_io.c         core -> protocol        stream_end.c     its end
 * stream_sendfile.c   what loop.sendfile() asks for
 * stream_reader.c     the direct path into asyncio.StreamReader (streams.h)
 */
#ifndef BKPY_STREAM_TRANSPORT_H
#define BKPY_STREAM_TRANSPORT_H

#include <stddef.h>

#include "loop.h"
#include "scope.h"
#include "spare.h"

/* A connected stream socket with its protocol.
 *
 *   new -> started -> lost (connection_lost is due) -> closed (loop is NULL)
 *
 * Closing the loop can end it in any state; the core then only takes a
 * release. bkpy_stream_is_alive() tells whether the core may be used. */
typedef struct StreamTransportObject {
    PyObject_HEAD
    /* The slot `_extra` of asyncio.BaseTransport, so it must come first. An
     * owned dict, NULL until somebody needs one. */
    PyObject *extra;
    /* What each message needs comes first, in few cache lines. */
    bkpy_state *state;  /* borrowed: our type keeps the module alive */
    LoopObject *loop;   /* owned; NULL once the connection has ended */
    PyObject *protocol; /* owned; NULL before begin and once ended */
    /* Owned: the reader's; where transports have one context, that one. */
    PyObject *context;
    PyObject *socket;    /* owned socket object; NULL: the core has the fd */
    PyObject *dict;      /* owned: attributes of the user's */
    PyObject *landing;   /* owned: bytes, or the reader's bytearray, to fill */
    bkpy_anchor anchor;  /* the loop's hold on us */
    uint32_t read_bytes; /* size of the next landing; 0: the loop's scratch */
    uint32_t calls;      /* how many calls of the user into core are open, */
    uint32_t reports;    /* and how many of the core to us */
    unsigned conn_lost;  /* 1 once lost, then counts the writes dropped */
    bool is_eof_asked;   /* write_eof */
    bool is_receiving;   /* the engine asked for a buffer and receives */
    bool seeks_writer; /* whoever writes next may be an asyncio.StreamWriter */
    bool is_started;   /* reading has begun, or would have */
    bool is_paused;    /* pause_reading */
    bool is_at_eof;    /* eof_received, and kept open */
    bool is_closing;   /* close, abort, or a failure */
    bool is_finalized; /* being deallocated: nothing may hold us */
    bool is_attached;  /* counted and listed by server */
    bool is_view_held; /* *view has a buffer */
    struct StreamOpObject *reading; /* borrowed: a read that offers itself */
    bkpy_spare_trail given;         /* to asyncio's reader */
    bk_transport core;
    PyObject *server;       /* owned ServerObject, or NULL */
    PyObject *lost_context; /* owned: that of connection_lost, once it is due */
    /* Owned: of the write that the kernel did not take; NULL otherwise. */
    PyObject *write_context;
    PyObject *error;  /* owned: what connection_lost tells, NULL for None */
    PyObject *raised; /* owned: raised in a trampoline, told afterwards */
    PyObject *waiter; /* owned future to wake once reading has started */
    /* Owned future, or NULL: a sendfile is in progress, and this is what it
     * waits for. */
    PyObject *empty_waiter;
    Py_buffer *view; /* owned memory: a BufferedProtocol's buffer */
    PyObject *weakrefs;
    struct StreamTransportObject *client_next; /* in the server's list */
    struct StreamTransportObject *client_prev;
    bk_handle later; /* wakes waiter; drops the anchor; server.c's accept */
    int fd;          /* as a number to show, also after the close */
} StreamTransportObject;

static inline StreamTransportObject *
StreamTransportObject_CAST(PyObject *op)
{
    return (StreamTransportObject *)op;
}

static inline bool
bkpy_stream_is_alive(const StreamTransportObject *self)
{
    return self->loop != NULL && !self->loop->is_closed;
}

/* The transport whose `later` this is. */
static inline StreamTransportObject *
bkpy_stream_of_later(bk_handle *handle)
{
    return (StreamTransportObject *)(void *)((char *)handle -
                                             offsetof(StreamTransportObject,
                                                      later));
}

/* --- stream_transport.c --- */

/* A transport of this loop without fd and protocol. The caller gives it one
 * of each: bk_transport_open_x(&self->core), then bkpy_stream_begin(). New
 * reference or NULL with an exception. */
StreamTransportObject *bkpy_stream_new(LoopObject *loop);

/* Take this protocol into use, attach to self->server, queue connection_made
 * and then the start of reading, both in copies of the current context. 0, or
 * -1 with an exception: the transport is to be dropped. */
int bkpy_stream_begin(StreamTransportObject *self, PyObject *protocol);

/* The context for a callback that is asked for now: that of the transport
 * where transports have one, else a copy of this one. New reference, or NULL
 * with an exception. */
PyObject *bkpy_stream_callback_context(const StreamTransportObject *self);

/* Choose how the core calls this protocol, and keep it. 0 or -1 with an
 * exception. */
int bkpy_stream_set_protocol(StreamTransportObject *self, PyObject *protocol);

/* The loop holds a transport as long as it may still call it: CPython's loop
 * does through its selector and its ready queue. So not while reading is
 * paused (or has met the end) and nothing is left to send; then only its
 * users hold it. Call after every change of this. Holding is at once; letting
 * go as well, unless the core is on the stack: then it is in the next turn. */
void bkpy_stream_review_hold(StreamTransportObject *self);

/* End at once, calling nothing: withdraw from loop and server. */
void bkpy_stream_release(StreamTransportObject *self);

/* --- stream_method.c --- */

extern PyMethodDef bkpy_stream_methods[];

/* Around each call into the core that a method of the user makes. What happens
 * in it happens in the user's context, and KeyboardInterrupt and SystemExit of
 * pause_writing leave through that method, as in asyncio: end_call gives 0, or
 * -1 with what has to leave it. */
static inline void
bkpy_stream_begin_call(StreamTransportObject *self)
{
    self->calls++;
}

int bkpy_stream_end_call(StreamTransportObject *self);

/* is_closing(): 1, 0, or -1 with an exception. */
int bkpy_stream_is_closing(StreamTransportObject *self);

/* Method tables are one array; the writing methods live in their own file. */
PyObject *bkpy_stream_write_data(StreamTransportObject *self, PyObject *data);
PyObject *bkpy_stream_write(PyObject *op, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames);
PyObject *bkpy_stream_writelines(PyObject *op, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames);
PyObject *bkpy_stream_write_eof(PyObject *op, PyObject *ignored);

/* --- stream_info.c --- */

extern PyGetSetDef bkpy_stream_getset[];

/* The transport's socket object, made now if the core has the fd so far.
 * Borrowed; NULL with an exception. */
PyObject *bkpy_stream_socket(StreamTransportObject *self);

/* Ask now for the names that the core does not keep (long ones of Unix sockets,
 * other families): they shall be known after the close as well. 0 or -1. */
int bkpy_stream_remember_names(StreamTransportObject *self);

PyObject *bkpy_stream_get_extra_info(PyObject *op, PyObject *const *args,
                                     Py_ssize_t nargs, PyObject *kwnames);
PyObject *bkpy_stream_repr(PyObject *op);

/* --- stream_sendfile.c --- */

/* What loop.sendfile() asks of a transport, as in asyncio. _make_empty_waiter()
 * begins, _reset_empty_waiter() ends; in between nothing may be written. */
PyObject *bkpy_stream_make_empty_waiter(PyObject *op, PyObject *ignored);
PyObject *bkpy_stream_reset_empty_waiter(PyObject *op, PyObject *ignored);
PyObject *bkpy_stream_get_empty_waiter(PyObject *op, void *closure);
int bkpy_stream_set_empty_waiter(PyObject *op, PyObject *value, void *closure);
/* A member of asyncio's _SendfileMode; closure: its name. Also of TLS. */
PyObject *bkpy_get_sendfile_mode(PyObject *op, void *closure);
PyObject *bkpy_stream_get_protocol_paused(PyObject *op, void *closure);

/* All has been sent, or the connection has ended (with self->error): wake a
 * sendfile. */
void bkpy_stream_wake_sendfile(StreamTransportObject *self);
void bkpy_stream_fail_sendfile(StreamTransportObject *self);

/* --- stream_io.c --- */

/* How the core calls a protocol: an asyncio.Protocol (or anything else), an
 * asyncio.BufferedProtocol, exactly an asyncio.StreamReaderProtocol, TLS. */
extern const bk_protocol bkpy_stream_plain;
extern const bk_protocol bkpy_stream_buffered;
extern const bk_protocol bkpy_stream_reader;
extern const bk_protocol bkpy_stream_tls;

/* Call a method of the protocol; arg may be NULL. New reference or NULL. */
PyObject *bkpy_stream_call_protocol(StreamTransportObject *self, PyObject *name,
                                    PyObject *arg);

/* data_received(data) or eof_received() of the protocol by a call. Inside the
 * scope; true to keep open after the end. */
void bkpy_stream_deliver(StreamTransportObject *self, PyObject *data);
bool bkpy_stream_call_eof(StreamTransportObject *self);

/* --- stream_end.c --- */

/* With an exception set, take it: asyncio's _fatal_error. KeyboardInterrupt
 * and SystemExit end the run and leave the connection alone. Call inside the
 * scope. */
void bkpy_stream_fail(StreamTransportObject *self, const char *message);

/* asyncio's _force_close: connection_lost(exc) follows, NULL for None. No
 * effect once it is due. Runs no user's code but pause_writing. */
void bkpy_stream_lose(StreamTransportObject *self, PyObject *exc);

/* Of the bk_protocol tables. */
void bkpy_stream_on_closing(bk_transport *transport, int error, void *op);
void bkpy_stream_on_lost(bk_transport *transport, int error, void *op);
void bkpy_stream_on_closed(bk_transport *transport, void *op);

/* --- stream_reader.c --- */

/* Feed the protocol's reader without running Python. 1: done, 0: these are
 * not the originals, make the ordinary call; -1 with the exception that
 * data_received or eof_received would have raised. */
int bkpy_stream_reader_feed(StreamTransportObject *self, const void *data,
                            size_t len);
int bkpy_stream_reader_feed_eof(StreamTransportObject *self,
                                bool *ret_is_kept_open);

/* The same, where a read that waits for all of it is all there is to wake; so
 * that no context need be entered. 0 also if that is not so. */
int bkpy_stream_reader_hand(StreamTransportObject *self, const void *data,
                            size_t len);

/* The same for bytes that were received as such. */
int bkpy_stream_reader_feed_bytes(StreamTransportObject *self, PyObject *data);

/* How many bytes of at most len to receive as such, because a read waits for
 * them; 0: none does. */
size_t bkpy_stream_reader_room(StreamTransportObject *self, size_t len);

/* The same for a receive straight into the reader's buffer: make room for so
 * many bytes at its end (it is then self->landing, a bytearray), or false: use
 * feed. Then trim what was not filled, and tell the reader of the rest, with
 * the results of feed. Nothing else may run in between. */
bool bkpy_stream_reader_reserve(StreamTransportObject *self, size_t len);
void bkpy_stream_reader_trim(StreamTransportObject *self, size_t unused);
int bkpy_stream_reader_tell(StreamTransportObject *self);

#endif
