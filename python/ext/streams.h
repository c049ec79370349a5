/* streams.h -- asyncio's streams without running asyncio's Python code.
 *
 * SPDX-License-Identifier: MIT
 *
 * streams_look.h     looking at a reader or a writer, and
 * streams_attrs.c    at their attributes
 * streams_protocol.c the same for a protocol
 * streams_class.c    classes of ours for readers and writers, and whether
 *                    those of asyncio are as asyncio has made them
 * streams_method.c   what stands in them for a method of asyncio's
 * streams_handover.c bytes that go to the read that waits for them
 * streams_op.c       what such a method gives: a coroutine
 * streams_attempt.c  what each method does, as long as all is as usual
 * stream_reader.c    from the transport to the reader
 *
 * Only the usual is done in C: whatever else it takes (an error to raise, an
 * attribute that somebody has replaced, ...) is left to asyncio's own method,
 * which begins anew or goes on from the same place.
 */
#ifndef BKPY_STREAMS_H
#define BKPY_STREAMS_H

#include "loop.h"
#include "stream_transport.h"
#include "streams_look.h"

/* --- attributes (streams_attrs.c) --- */

/* Try out how the instances of a class keep such attributes, on an instance
 * that has none yet. Where it does not find out, *ret_layout stays zero, and
 * looking is slower. 0, or -1 with an exception. */
int bkpy_attrs_learn(PyObject *obj, PyObject *const *names, size_t count,
                     bkpy_attrs_layout *ret_layout);

/* The same for the keys that they share: where those count themselves. */
int bkpy_attrs_learn_keys(bkpy_state *state);

/* --- our classes (streams_class.c) --- */

/* True for a reader of exactly asyncio's class, on a loop of ours. */
bool bkpy_reader_look_at_new(bkpy_state *state, PyObject *reader,
                             bkpy_attrs *ret_attrs);

/* The same for a writer of exactly asyncio's class, on a transport of ours. */
bool bkpy_writer_look_at_new(bkpy_state *state, PyObject *writer,
                             bkpy_attrs *ret_attrs);

/* Give an object of exactly asyncio's class the class of ours, if all of it is
 * as usual. No exception; true if it is of our class now. */
bool bkpy_reader_adopt(bkpy_state *state, PyObject *reader);

/* The same for the writer whose write() has just called this transport of
 * ours, if it is one. */
void bkpy_writer_adopt_caller(LoopObject *loop, PyObject *transport);

/* Of a transport of ours, either kind: nobody who writes is looked at. */
void bkpy_writer_is_found(const bkpy_state *state, PyObject *transport);

/* --- the protocol (streams_protocol.c) --- */

/* What is asked of it: borrowed, or NULL. */
typedef struct {
    PyObject *stream_reader_wr;
    PyObject *paused;
    PyObject *connection_lost;
    PyObject *strong_reader;
    PyObject *client_connected_cb;
} bkpy_protocol_view;

/* Look at an object: true if it is exactly a StreamReaderProtocol and this
 * method is asyncio's, in class and instance. No exception. */
bool bkpy_protocol_look(bkpy_state *state, PyObject *protocol, PyObject *method,
                        bkpy_protocol_view *ret_view);

/* --- exchange (streams_exchange.c) --- */

/* Put a reader of ours in the place of one of exactly asyncio's class, if
 * nobody but the protocol and the caller has it. No exception. */
bool bkpy_exchange_reader(bkpy_state *state, PyObject *protocol,
                          PyObject *reader, const bkpy_protocol_view *view,
                          const bkpy_attrs *attrs);

/* Have the same happen to the writer that connection_made() will make, if
 * nobody but the caller and its transport has the protocol. No exception. */
void bkpy_exchange_callback(bkpy_state *state, PyObject *protocol,
                            const bkpy_protocol_view *view);

/* --- methods (streams_method.c) --- */

struct StreamOpObject;

typedef enum {
    BKPY_STREAM_DONE,    /* with the result */
    BKPY_STREAM_WAITING, /* for the reader's waiter */
    BKPY_STREAM_UNUSUAL, /* nothing has happened: asyncio's method has to */
    BKPY_STREAM_FAILED,  /* with an exception */
} bkpy_stream_outcome;

/* One method. */
typedef struct {
    const char *name;
    const char *parameter; /* the only one, or NULL */
    bool is_required;
    bool is_of_writer;
    /* An async method: the first attempt and, after each wait, the next. */
    bkpy_stream_outcome (*attempt)(struct StreamOpObject *op, bool is_first,
                                   PyObject **ret);
    /* Any other: the call itself. */
    bkpy_stream_outcome (*call)(bkpy_state *state, PyObject *self,
                                PyObject *arg, PyObject **ret);
} bkpy_stream_kind;

/* What stands in one of our classes for a method of asyncio's: callable and
 * bound as a function is, and with all its attributes. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    bkpy_state *state; /* borrowed: our type keeps the module alive */
    const bkpy_stream_kind *kind;
    PyObject *original;    /* owned: asyncio's function */
    PyTypeObject *op_type; /* owned: cached memory points to it, also when the
                              module has gone */
    void *free_ops;        /* streams_op.c: cached memory, bounded */
    unsigned free_op_count;
    struct StreamOpObject *newborn; /* borrowed: streams_op.c, or NULL */
} StreamMethodObject;

static inline StreamMethodObject *
StreamMethodObject_CAST(PyObject *op)
{
    return (StreamMethodObject *)op;
}

/* New reference, or NULL with an exception. */
PyObject *bkpy_stream_method_new(bkpy_state *state,
                                 const bkpy_stream_kind *kind,
                                 PyObject *original);

/* --- coroutines (streams_op.c) --- */

typedef enum { BKPY_OP_NEW, BKPY_OP_WAITING, BKPY_OP_DONE } bkpy_op_step;

typedef struct StreamOpObject {
    PyObject_HEAD
    StreamMethodObject *method; /* owned */
    PyObject *owner;            /* owned: reader or writer; NULL once done */
    PyObject *arg;              /* owned; NULL when it was not given */
    PyObject *awaited;          /* owned while waiting: the waiter */
    PyObject *waiter;           /* the same while this is on offer, else NULL */
    PyObject *transport; /* owned while on offer: whose `reading` it is */
    PyObject *handed;    /* owned: bytes that are the result, but for a wait */
    /* Owned: asyncio's coroutine, once it has taken over, and the future that
     * it waits for if it did so in the middle. */
    PyObject *inner;
    PyObject *gate;
    PyObject *weakrefs;
    Py_ssize_t seen; /* readuntil: so much was searched in vain */
    /* Of a wait: so many bytes at once are the result; no maximum: none. */
    Py_ssize_t wants_min;
    Py_ssize_t wants_max;
    uint8_t step;    /* bkpy_op_step */
    bool is_running; /* a step is under way: nothing may end it */
} StreamOpObject;

static inline StreamOpObject *
StreamOpObject_CAST(PyObject *op)
{
    return (StreamOpObject *)op;
}

PyObject *bkpy_stream_op_new(StreamMethodObject *method, PyObject *owner,
                             PyObject *arg);
void bkpy_stream_op_free_cache(StreamMethodObject *method);

/* --- handing over (streams_handover.c) --- */

/* From now on this operation, which waits for the waiter and for wants_min to
 * wants_max bytes, may be handed what this transport receives. */
void bkpy_handover_offer(StreamOpObject *op, LoopObject *loop,
                         PyObject *transport, PyObject *waiter);

/* The wait is over. What was handed over stays in op->handed. */
void bkpy_handover_withdraw(StreamOpObject *op);

/* The operation that so many bytes for this reader can be handed to, instead
 * of its buffer: op, which is the transport's `reading`, or NULL. */
StreamOpObject *bkpy_handover_find(StreamOpObject *op, PyObject *reader,
                                   const bkpy_attrs *attrs, Py_ssize_t size);

/* Move what was handed over, if anything, to the reader's buffer. 0, or -1
 * with an exception. */
int bkpy_handover_settle(StreamOpObject *op);

/* The same for what was handed to any operation of this reader but this one.
 * transport is the reader's. */
int bkpy_handover_settle_reader(bkpy_state *state, PyObject *reader,
                                PyObject *transport, const StreamOpObject *but);

/* Nothing has been handed to an operation that reads from this transport and
 * has not fetched it yet. */
bool bkpy_handover_is_settled_elsewhere(const bkpy_state *state,
                                        PyObject *transport);

static inline bool
bkpy_handover_is_settled(const bkpy_state *state, PyObject *transport)
{
    const StreamOpObject *op;

    if (Py_TYPE(transport) != state->StreamTransportType) {
        return bkpy_handover_is_settled_elsewhere(state, transport);
    }
    op = StreamTransportObject_CAST(transport)->reading;
    return op == NULL || op->handed == NULL;
}

/* What stands in our class for an attribute by which the buffer can be seen:
 * it settles first. base does all the rest; NULL: it is in the __dict__. */
PyObject *bkpy_stream_attribute_new(bkpy_state *state, PyObject *name,
                                    PyObject *base);

/* --- from a transport to the reader (stream_reader.c) --- */

/* Give the reader of this protocol, an asyncio.StreamReaderProtocol, the class
 * of ours, if all of it is as usual. */
void bkpy_reader_protocol_adopt(bkpy_state *state, PyObject *protocol);

/* What is fed: bytes, or only where they are. */
typedef struct {
    PyObject *bytes; /* borrowed, or NULL */
    const void *data;
    size_t len;
} bkpy_reader_input;

/* Who feeds: all borrowed. */
typedef struct {
    LoopObject *loop;
    PyObject *protocol;
    StreamOpObject *reading; /* the transport's, or NULL */
    bkpy_spare_trail *given; /* the transport's */
} bkpy_reader_feeder;

/* The short way of what follows, where a read that waits for all of it is all
 * there is to wake, so that no context need be entered: 1: done, 0: it is not
 * that short, -1 with an exception. */
int bkpy_reader_hand(const bkpy_reader_feeder *from, const void *data,
                     size_t len);

/* data_received() of this protocol without running Python, for a transport
 * whose `reading` this is. 1: done, 0: these are not the originals, make the
 * ordinary call; -1 with the exception that it would have raised. */
int bkpy_reader_protocol_feed(bkpy_state *state, PyObject *protocol,
                              StreamOpObject *reading,
                              const bkpy_reader_input *in);

/* --- attempts (streams_attempt.c) --- */

/* Ends with a kind that has no name. */
extern const bkpy_stream_kind bkpy_stream_kinds[];

#endif
