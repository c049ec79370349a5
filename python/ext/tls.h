/* tls.h -- TLS over any transport: what its files share.
 *
 * SPDX-License-Identifier: MIT
 *
 * tls_protocol.c  life cycle, the carrier's protocol
 * tls_ops.c       what the record pump asks for
 * tls_read.c      plain bytes to the user's protocol
 * tls_write.c     and from it
 * tls_streams.c   asyncio's streams on such a transport
 * tls_transport.c what the user's protocol gets as its transport
 * tls_info.c      attributes
 * tls_engine.c    the engine over an ssl.SSLObject's memory
 * tls_openssl.c   the engine that drives OpenSSL directly
 */
#ifndef BKPY_TLS_H
#define BKPY_TLS_H

#include "becket/tls_pump.h"

#include "stream_transport.h"

/* What the user's protocol has been told, as in asyncio.sslproto. */
enum tls_app_state {
    BKPY_TLS_APP_INIT,
    BKPY_TLS_APP_MADE,
    BKPY_TLS_APP_EOF,
    BKPY_TLS_APP_LOST,
};

struct TlsTransportObject;

/* Between the transport that carries the records and the user's protocol:
 * asyncio.sslproto.SSLProtocol. */
typedef struct TlsProtocolObject {
    PyObject_HEAD
    bkpy_state *state; /* borrowed: our type keeps the module alive */
    LoopObject *loop;  /* owned: the pump uses its pool */
    PyObject *app;     /* owned: the user's protocol; NULL once lost */
    PyObject *carrier; /* owned: the transport below, while there is one */
    StreamTransportObject *direct; /* borrowed: the carrier, if it is ours */
    bk_tls_pump pump;
    bk_tls_openssl_session session; /* of the direct engine, else zero */
    PyObject *sslobj;               /* owned: ssl.SSLObject */
    PyObject *incoming; /* owned: ssl.MemoryBIO of the fallback, else NULL */
    PyObject *outgoing; /* owned: the same */
    PyObject *failure;  /* owned: what is behind the code that is returned */
    struct TlsTransportObject *app_transport; /* owned; NULL once lost */
    PyObject *waiter;            /* owned: future of the handshake, or NULL */
    PyObject *extra;             /* owned dict */
    PyObject *context;           /* owned: ssl.SSLContext */
    PyObject *server_hostname;   /* owned, or None */
    PyObject *peercert;          /* owned, between two steps of the handshake */
    PyObject *handshake_timeout; /* owned numbers, in seconds */
    PyObject *shutdown_timeout;
    PyObject *timer;   /* owned handle, or NULL */
    PyObject *landing; /* owned bytearray of get_buffer() */
    PyObject *dict;    /* owned: attributes of the user's */
    PyObject *weakrefs;
    double handshake_since; /* debug mode: when it began */
    unsigned conn_lost;     /* counts the writes dropped */
    unsigned engine_calls;  /* how many are open */
    uint8_t app_state;
    bool is_server;
    bool is_accepted; /* by a server, which tells of failures in debug mode */
    bool is_buffered; /* app is an asyncio.BufferedProtocol, */
    bool is_reader;   /* or exactly an asyncio.StreamReaderProtocol */
    bool is_at_eof;   /* of the carrier */
    bool is_carrier_paused;
    bool is_sending_paused;
} TlsProtocolObject;

/* What the user's protocol writes to: asyncio's _SSLProtocolTransport. */
typedef struct TlsTransportObject {
    PyObject_HEAD
    /* The slot `_extra` of asyncio.BaseTransport, which is not used. */
    PyObject *extra;
    bkpy_state *state;
    TlsProtocolObject *tls; /* owned until a second close(), then borrowed */
    bool is_tls_borrowed;   /* as long as tls has us for its app_transport */
    PyObject *dict;
    PyObject *weakrefs;
    struct StreamOpObject *reading; /* borrowed: a read that offers itself */
    bkpy_spare_trail given;         /* to asyncio's reader */
    bool is_closed;    /* close() or abort() was called, or it is lost */
    bool seeks_writer; /* whoever writes next may be an asyncio.StreamWriter */
} TlsTransportObject;

static inline TlsProtocolObject *
TlsProtocolObject_CAST(PyObject *op)
{
    return (TlsProtocolObject *)op;
}

static inline TlsTransportObject *
TlsTransportObject_CAST(PyObject *op)
{
    return (TlsTransportObject *)op;
}

/* --- tls_protocol.c --- */

/* What a connection is made with; NULL for None and defaults. */
typedef struct {
    PyObject *app;
    PyObject *context;
    PyObject *waiter;
    PyObject *server_hostname;
    PyObject *handshake_timeout;
    PyObject *shutdown_timeout;
    bool is_server;
    bool calls_connection_made;
} bkpy_tls_options;

/* New reference, or NULL with an exception. */
TlsProtocolObject *bkpy_tls_new(LoopObject *loop,
                                const bkpy_tls_options *options);

/* The result of a function of the pump: 0, or -1 with the exception. */
int bkpy_tls_result(TlsProtocolObject *self, int r);

/* A method's result: None, or NULL for -1. */
static inline PyObject *
bkpy_tls_none_or_null(int r)
{
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

/* The loop is there to be used. */
static inline bool
bkpy_tls_is_alive(const TlsProtocolObject *self)
{
    return self->loop != NULL && !self->loop->is_closed;
}

/* From a carrier that is ours, inside its scope. -1 with an exception. */
int bkpy_tls_receive(PyObject *op, const void *data, size_t len);
int bkpy_tls_receive_eof(PyObject *op, bool *ret_is_kept_open);
int bkpy_tls_flush(PyObject *op);

/* Take this protocol into use. 0, or -1 with an exception. */
int bkpy_tls_set_app(TlsProtocolObject *self, PyObject *app);

/* asyncio's _abort(exc). 0, or -1 with an exception. */
int bkpy_tls_abort(TlsProtocolObject *self, PyObject *exc);

/* asyncio's _wakeup_waiter(exc); NULL for None. */
void bkpy_tls_wake_waiter(TlsProtocolObject *self, PyObject *exc);

/* --- tls_ops.c --- */

extern const bk_tls_ops bkpy_tls_ops;

/* Keep the exception that is set, as what is behind the code that is returned:
 * -EIO, which ends the connection, or -ECANCELED for what is no Exception and
 * leaves through whoever called. */
int bkpy_tls_stash(TlsProtocolObject *self);

/* The same for what leaves in any case. */
int bkpy_tls_stash_raised(TlsProtocolObject *self);

/* asyncio's _fatal_error() with the exception that is set, which is taken. 0,
 * or -1 with what telling the carrier raised. */
int bkpy_tls_fail(TlsProtocolObject *self, const char *message);

/* --- tls_read.c --- */

/* Of bk_tls_ops. */
int bkpy_tls_readable(bk_tls_pump *pump, void *op);

/* --- tls_write.c: the transport's methods --- */

/* Also what asyncio's StreamWriter comes to. */
PyObject *bkpy_tls_transport_write(PyObject *op, PyObject *const *args,
                                   Py_ssize_t nargs, PyObject *kwnames);
PyObject *bkpy_tls_transport_writelines(PyObject *op, PyObject *const *args,
                                        Py_ssize_t nargs, PyObject *kwnames);
PyObject *bkpy_tls_transport_write_eof(PyObject *op, PyObject *ignored);
PyObject *bkpy_tls_transport_can_write_eof(PyObject *op, PyObject *ignored);
PyObject *bkpy_tls_transport_append_write_backlog(PyObject *op, PyObject *data);

/* --- tls_transport.c --- */

/* What it is the transport of; NULL without an exception once it has been let
 * go of. */
static inline TlsProtocolObject *
bkpy_tls_of(PyObject *op)
{
    TlsProtocolObject *tls = TlsTransportObject_CAST(op)->tls;

    return tls == NULL || tls->sslobj == NULL ? NULL : tls;
}

/* Call the pump, in which any code may run and close() be called once more:
 * hold what it is part of. 0, or -1 with an exception. */
#define BKPY_TLS_CALL(tls, call)                                               \
    (Py_INCREF(tls), bkpy_tls_end_call(tls, (call)))

int bkpy_tls_end_call(TlsProtocolObject *tls, int r);

TlsTransportObject *bkpy_tls_transport_new(TlsProtocolObject *tls);

/* It is the user's alone from here on. */
void bkpy_tls_drop_transport(TlsProtocolObject *tls);

/* --- tls_streams.c --- */

/* Give the reader of an asyncio.StreamReaderProtocol the class of ours. */
void bkpy_tls_adopt_reader(TlsProtocolObject *self);

/* data_received() of such a protocol without running Python: 1, 0 where that
 * is not possible, or a code. */
int bkpy_tls_feed_reader(TlsProtocolObject *self, const void *data, size_t len);

/* The user may still write. */
bool bkpy_tls_transport_is_open(const TlsTransportObject *self);

/* is_closing(): 1, 0, or -1 with an exception. */
int bkpy_tls_transport_is_closing(TlsTransportObject *self);

/* --- tls_info.c --- */

extern PyGetSetDef bkpy_tls_getset[];

/* --- the engines --- */

/* Make the SSLObject and give it to the engine that fits. 0 or -1. */
int bkpy_tls_attach(TlsProtocolObject *self, PyObject *context);

/* Give its SSL to the direct engine: 1, 0 where that is not possible or not
 * wanted, -1 with an exception. */
int bkpy_tls_attach_directly(TlsProtocolObject *self);

/* loop.tls_engine: the engine's name, None without ssl. */
PyObject *bkpy_tls_engine_name(PyObject *op, void *closure);

/* What has come while reading is paused is the user's, if he asks the SSLObject
 * for it. 0 or -1. */
int bkpy_tls_offer_records(TlsProtocolObject *self);

/* The SSLObject is somebody else's from here on. */
void bkpy_tls_detach(TlsProtocolObject *self);

/* Of SSLObjects; the engine's self is the TlsProtocolObject. */
const bk_tls_engine *bkpy_tls_sslobject_engine(void);

/* Call a method of the SSLObject: 0 and, where asked for, a new reference, or
 * the engine's code for what it raised. */
int bkpy_tls_call_sslobject(TlsProtocolObject *self, PyObject *name,
                            PyObject *arg, PyObject **ret_result);

#endif
