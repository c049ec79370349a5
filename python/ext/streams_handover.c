/* streams_handover.c -- bytes that go to the read that waits for them.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * When a read waits and all that arrives is for it, the bytes need not go
 * through the reader's buffer, to be copied in and out: they are handed to the
 * operation, which returns them in its next step. Until then, for the rest of
 * the turn, the reader has to look as if they were in its buffer. So whoever
 * asks for that meets a StreamAttribute of the class, which settles it first:
 * what was handed over is moved to the buffer. These are the ways to get there:
 * _buffer itself; __dict__; another __class__, without these attributes; and
 * _transport, by which the operation is found.
 *
 * Nothing is handed over if somebody has a reference of his own to the buffer
 * or the __dict__ already, nor while there is anything in the buffer.
 */

#include "streams.h"

#include "tls.h"

/* --- offers --- */

/* Where a transport of ours has the read that offers itself; NULL for another
 * one. */
static StreamOpObject **
place_of(const bkpy_state *state, PyObject *transport)
{
    if (Py_TYPE(transport) == state->StreamTransportType) {
        return &StreamTransportObject_CAST(transport)->reading;
    }
    if (Py_TYPE(transport) == state->TlsTransportType) {
        return &TlsTransportObject_CAST(transport)->reading;
    }
    return NULL;
}

/* The same for what it has given. */
static bkpy_spare_trail *
trail_of(const bkpy_state *state, PyObject *transport)
{
    return Py_TYPE(transport) == state->StreamTransportType
               ? &StreamTransportObject_CAST(transport)->given
               : &TlsTransportObject_CAST(transport)->given;
}

BKPY_HOT void
bkpy_handover_offer(StreamOpObject *op, LoopObject *loop, PyObject *transport,
                    PyObject *waiter)
{
    const bkpy_state *state = op->method->state;
    StreamOpObject **place;

    if (op->wants_max == 0) {
        return;
    }
    place = place_of(state, transport);
    if (place != NULL && *place == NULL) {
        *place = op;
        op->transport = Py_NewRef(transport);
        op->waiter = waiter;
        bkpy_spare_collect(loop, trail_of(state, transport));
    }
}

BKPY_HOT void
bkpy_handover_withdraw(StreamOpObject *op)
{
    PyObject *transport = op->transport;

    if (transport != NULL) {
        op->transport = NULL;
        op->waiter = NULL;
        *place_of(op->method->state, transport) = NULL;
        Py_DECREF(transport);
    }
}

StreamOpObject *
bkpy_handover_find(StreamOpObject *op, PyObject *reader,
                   const bkpy_attrs *attrs, Py_ssize_t size)
{
    PyObject *buffer = attrs->of[BKPY_READER_BUFFER];

    return op != NULL && op->handed == NULL && op->owner == reader &&
                   op->waiter == attrs->of[BKPY_READER_WAITER] &&
                   size >= op->wants_min && size <= op->wants_max &&
                   PyByteArray_GET_SIZE(buffer) == 0 &&
                   Py_REFCNT(buffer) == 1 && Py_REFCNT(attrs->dict) == 1
               ? op
               : NULL;
}

/* --- settling --- */

static int
extend_buffer(bkpy_state *state, PyObject *reader, PyObject *data)
{
    PyObject *dict = PyObject_GenericGetDict(reader, NULL);
    PyObject *buffer = NULL;
    PyObject *result;

    if (dict != NULL) {
        buffer = PyDict_GetItemWithError(dict, state->str__buffer);
        Py_DECREF(dict); /* the reader keeps it */
    }
    if (buffer == NULL) {
        return PyErr_Occurred() == NULL ? 0 : -1; /* a reader that is cleared */
    }
    Py_INCREF(buffer);
    result = PyObject_CallMethodOneArg(buffer, state->str_extend, data);
    Py_DECREF(buffer);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
bkpy_handover_settle(StreamOpObject *op)
{
    PyObject *handed = op->handed;
    int r = 0;

    op->handed = NULL;
    if (handed != NULL) {
        r = extend_buffer(op->method->state, op->owner, handed);
        Py_DECREF(handed);
    }
    return r;
}

int
bkpy_handover_settle_reader(bkpy_state *state, PyObject *reader,
                            PyObject *transport, const StreamOpObject *but)
{
    StreamOpObject **place = place_of(state, transport);
    StreamOpObject *op = place == NULL ? NULL : *place;

    return op != NULL && op->owner == reader && op != but
               ? bkpy_handover_settle(op)
               : 0;
}

bool
bkpy_handover_is_settled_elsewhere(const bkpy_state *state, PyObject *transport)
{
    StreamOpObject **place = place_of(state, transport);

    return place == NULL || *place == NULL || (*place)->handed == NULL;
}

/* --- the attributes --- */

typedef struct {
    PyObject_HEAD
    bkpy_state *state; /* borrowed: our type keeps the module alive */
    PyObject *name;    /* owned */
    /* Owned: the descriptor that does it without us; NULL for what is in the
     * __dict__. */
    PyObject *base;
} StreamAttributeObject;

static inline StreamAttributeObject *
StreamAttributeObject_CAST(PyObject *op)
{
    return (StreamAttributeObject *)op;
}

PyObject *
bkpy_stream_attribute_new(bkpy_state *state, PyObject *name, PyObject *base)
{
    PyTypeObject *tp = state->StreamAttributeType;
    StreamAttributeObject *self =
        StreamAttributeObject_CAST(tp->tp_alloc(tp, 0));

    if (self != NULL) {
        self->state = state;
        self->name = Py_NewRef(name);
        self->base = Py_XNewRef(base);
    }
    return (PyObject *)self;
}

static int
stream_attribute_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(StreamAttributeObject_CAST(op)->base);
    return 0;
}

static int
stream_attribute_clear(PyObject *op)
{
    Py_CLEAR(StreamAttributeObject_CAST(op)->base);
    return 0;
}

static void
stream_attribute_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    (void)stream_attribute_clear(op);
    Py_DECREF(StreamAttributeObject_CAST(op)->name);
    tp->tp_free(op);
    Py_DECREF(tp);
}

/* The reader's __dict__, after settling. New reference. */
static PyObject *
settled_dict(StreamAttributeObject *self, PyObject *reader)
{
    PyObject *dict = PyObject_GenericGetDict(reader, NULL);
    PyObject *transport;

    if (dict == NULL) {
        return NULL;
    }
    transport = PyDict_GetItemWithError(dict, self->state->str__transport);
    if (transport != NULL &&
        bkpy_handover_settle_reader(self->state, reader, transport, NULL) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

static void
raise_missing(StreamAttributeObject *self, PyObject *reader)
{
    if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_AttributeError,
                     "'%.100s' object has no attribute '%U'",
                     Py_TYPE(reader)->tp_name, self->name);
    }
}

static PyObject *
stream_attribute_get(PyObject *op, PyObject *reader, PyObject *type)
{
    StreamAttributeObject *self = StreamAttributeObject_CAST(op);
    PyObject *dict;
    PyObject *value;

    if (reader == NULL || reader == Py_None) {
        PyErr_Format(PyExc_AttributeError,
                     "type object 'StreamReader' has no attribute '%U'",
                     self->name);
        return NULL;
    }
    dict = settled_dict(self, reader);
    if (dict == NULL) {
        return NULL;
    }
    if (self->base != NULL) {
        value = Py_TYPE(self->base)->tp_descr_get(self->base, reader, type);
    }
    else {
        value = Py_XNewRef(PyDict_GetItemWithError(dict, self->name));
        if (value == NULL) {
            raise_missing(self, reader);
        }
    }
    Py_DECREF(dict);
    return value;
}

static int
stream_attribute_set(PyObject *op, PyObject *reader, PyObject *value)
{
    StreamAttributeObject *self = StreamAttributeObject_CAST(op);
    PyObject *dict = settled_dict(self, reader);
    int r;

    if (dict == NULL) {
        return -1;
    }
    if (self->base != NULL) {
        r = Py_TYPE(self->base)->tp_descr_set(self->base, reader, value);
    }
    else if (value != NULL) {
        r = PyDict_SetItem(dict, self->name, value);
    }
    else {
        r = PyDict_DelItem(dict, self->name);
        if (r < 0 && PyErr_ExceptionMatches(PyExc_KeyError)) {
            PyErr_Clear();
            raise_missing(self, reader);
        }
    }
    Py_DECREF(dict);
    return r;
}

static PyType_Slot stream_attribute_slots[] = {
    {Py_tp_traverse, stream_attribute_traverse},
    {Py_tp_clear, stream_attribute_clear},
    {Py_tp_dealloc, stream_attribute_dealloc},
    {Py_tp_descr_get, stream_attribute_get},
    {Py_tp_descr_set, stream_attribute_set},
    {0, NULL},
};

static PyType_Spec stream_attribute_spec = {
    .name = "becket._core.StreamAttribute",
    .basicsize = sizeof(StreamAttributeObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stream_attribute_slots,
};

int
bkpy_stream_attribute_setup(PyObject *module, bkpy_state *state)
{
    state->StreamAttributeType = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &stream_attribute_spec, NULL);
    return state->StreamAttributeType == NULL ? -1 : 0;
}
