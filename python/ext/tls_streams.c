/* tls_streams.c -- asyncio's streams over TLS.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * As on a plain transport (streams.h): readers and writers are of our classes,
 * and what is decrypted goes to the reader without running Python. The reader
 * is looked at just before connection_made(), when nobody but us may hold a
 * server's protocol, and its reader.
 */

#include "streams.h"
#include "tls.h"

/* --- the reader --- */

void
bkpy_tls_adopt_reader(TlsProtocolObject *self)
{
    PyObject *app = self->app;

    if (self->is_reader && app != NULL && !self->loop->is_debug) {
        Py_INCREF(app);
        bkpy_reader_protocol_adopt(self->state, app);
        Py_DECREF(app);
    }
}

int
bkpy_tls_feed_reader(TlsProtocolObject *self, const void *data, size_t len)
{
    const bkpy_reader_input in = {.data = data, .len = len};
    TlsTransportObject *transport = self->app_transport;
    PyObject *app = self->app;
    bkpy_reader_feeder from;
    int r;

    if (!self->is_reader || app == NULL || transport == NULL ||
        self->loop == NULL) {
        return 0;
    }
    from = (bkpy_reader_feeder){self->loop, app, transport->reading,
                                &transport->given};
    Py_INCREF(app);
    r = bkpy_reader_hand(&from, data, len);
    if (r == 0) {
        r = bkpy_reader_protocol_feed(self->state, app, from.reading, &in);
    }
    Py_DECREF(app);
    return r < 0 ? bkpy_tls_stash(self) : r;
}

/* --- the writer --- */

bool
bkpy_tls_transport_is_open(const TlsTransportObject *self)
{
    return self->tls != NULL && self->tls->sslobj != NULL && !self->is_closed &&
           bkpy_tls_is_alive(self->tls);
}

int
bkpy_tls_transport_is_closing(TlsTransportObject *self)
{
    TlsProtocolObject *tls = self->tls;
    PyObject *carrier;
    PyObject *result;
    int r;

    if (self->is_closed || tls == NULL || tls->carrier == NULL ||
        !bkpy_tls_closes_with_carrier()) {
        return self->is_closed;
    }
    carrier = Py_NewRef(tls->carrier);
    if (tls->direct != NULL) {
        r = bkpy_stream_is_closing(tls->direct);
    }
    else {
        result = PyObject_CallMethodNoArgs(carrier, tls->state->str_is_closing);
        r = result == NULL ? -1 : PyObject_IsTrue(result);
        Py_XDECREF(result);
    }
    Py_DECREF(carrier);
    return r;
}
