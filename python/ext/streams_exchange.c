/* streams_exchange.c -- readers and writers of ours in the place of asyncio's.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * From Python 3.13 on, an object whose __class__ was exchanged keeps its
 * attributes in a dict of its own, which takes memory, and the interpreter no
 * longer calls its methods the short way. A server's reader and writer need
 * not be changed: they come out of asyncio's hands only in the call of
 * client_connected_cb. So there, if nobody can have seen them before, others
 * take their place, with the same attributes, that were of our class from the
 * start. asyncio's die unnoticed.
 *
 * The reader is held by the protocol alone until connection_made(), which is
 * looked at. The writer is made in connection_made(), just before the call; so
 * for the time until then the protocol, if it is new as well and only the
 * transport has it, gets a ConnectedCallback of ours as its callback, which
 * puts the user's back and calls it.
 */

#include "streams.h"

#include <stddef.h>

/* --- objects --- */

/* An instance of cls with these attributes. New reference. */
static PyObject *
make(PyTypeObject *cls, PyObject *const *names, PyObject *const *values,
     size_t count)
{
    PyObject *args = PyTuple_New(0);
    PyObject *obj =
        args == NULL ? NULL : PyBaseObject_Type.tp_new(cls, args, NULL);

    Py_XDECREF(args);
    for (size_t i = 0; i < count && obj != NULL; i++) {
        if (PyObject_SetAttr(obj, names[i], values[i]) < 0) {
            Py_CLEAR(obj);
        }
    }
    return obj;
}

/* --- the reader --- */

/* Only the protocol's own weak reference leads to the reader, and only the
 * protocol and our caller hold it. */
static bool
is_unseen(PyObject *reader, const bkpy_protocol_view *view)
{
    PyObject *const *refs = PyObject_GET_WEAKREFS_LISTPTR(reader);

    return view->strong_reader == reader && Py_REFCNT(reader) == 2 &&
           *refs == view->stream_reader_wr && Py_REFCNT(*refs) == 1 &&
           ((PyWeakReference *)*refs)->wr_next == NULL;
}

/* Both or, with an exception, none. */
static int
set_reader(bkpy_state *state, PyObject *protocol, PyObject *reader,
           const bkpy_protocol_view *view)
{
    PyObject *ref = PyWeakref_NewRef(reader, NULL);
    PyObject *old_ref = Py_NewRef(view->stream_reader_wr);
    int r = -1;

    if (ref != NULL) {
        r = PyObject_SetAttr(protocol, state->str__stream_reader_wr, ref);
        Py_DECREF(ref);
    }
    if (r == 0) {
        r = PyObject_SetAttr(protocol, state->str__strong_reader, reader);
        if (r < 0) {
            PyObject *exc = PyErr_GetRaisedException();

            (void)PyObject_SetAttr(protocol, state->str__stream_reader_wr,
                                   old_ref);
            PyErr_SetRaisedException(exc);
        }
    }
    Py_DECREF(old_ref);
    return r;
}

bool
bkpy_exchange_reader(bkpy_state *state, PyObject *protocol, PyObject *reader,
                     const bkpy_protocol_view *view, const bkpy_attrs *attrs)
{
    PyObject *made;
    int r = -1;

    if (!BKPY_HAS_INLINE_ATTRS || !is_unseen(reader, view)) {
        return false;
    }
    made = make(state->ReaderType, state->reader_names, attrs->of,
                BKPY_READER_ATTRS);
    if (made != NULL) {
        r = set_reader(state, protocol, made, view);
        Py_DECREF(made);
    }
    if (r < 0) {
        PyErr_Clear();
    }
    return r == 0;
}

/* --- the writer --- */

/* One of ours in place of asyncio's, whose finalizer has nothing to close any
 * more. New reference, or NULL without an exception: it stays. */
static PyObject *
exchange_writer(bkpy_state *state, const bkpy_attrs *attrs)
{
    PyObject *transport = attrs->of[BKPY_WRITER_TRANSPORT];
    PyObject *made = make(state->WriterType, state->writer_names, attrs->of,
                          BKPY_WRITER_ATTRS);

    if (made != NULL && PyDict_SetItem(attrs->dict, state->str__transport,
                                       state->closed_transport) < 0) {
        /* Made in vain: its finalizer must not close the transport either. */
        PyErr_Clear();
        (void)PyObject_SetAttr(made, state->str__transport,
                               state->closed_transport);
        Py_CLEAR(made);
    }
    PyErr_Clear();
    if (made != NULL) {
        bkpy_writer_is_found(state, transport);
    }
    return made;
}

/* --- the callback --- */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    bkpy_state *state;  /* borrowed: our type keeps the module alive */
    PyObject *callback; /* owned: the user's */
} ConnectedCallbackObject;

static inline ConnectedCallbackObject *
ConnectedCallbackObject_CAST(PyObject *op)
{
    return (ConnectedCallbackObject *)op;
}

static int
connected_callback_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(ConnectedCallbackObject_CAST(op)->callback);
    return 0;
}

static int
connected_callback_clear(PyObject *op)
{
    Py_CLEAR(ConnectedCallbackObject_CAST(op)->callback);
    return 0;
}

static void
connected_callback_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    (void)connected_callback_clear(op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

/* The protocol has its callback back. */
static int
put_back(ConnectedCallbackObject *self, PyObject *protocol)
{
    PyObject *name = self->state->str__client_connected_cb;
    PyObject *found = PyObject_GetAttr(protocol, name);
    int r = found == NULL ? -1 : 0;

    if (found == (PyObject *)self) {
        r = PyObject_SetAttr(protocol, name, self->callback);
    }
    Py_XDECREF(found);
    return r;
}

/* client_connected_cb(reader, writer) */
static PyObject *
connected_callback_call(PyObject *op, PyObject *const *args, size_t nargsf,
                        PyObject *kwnames)
{
    ConnectedCallbackObject *self = ConnectedCallbackObject_CAST(op);
    PyObject *stack[3] = {NULL, NULL, NULL};
    PyObject *made = NULL;
    PyObject *result;
    bkpy_attrs attrs;

    if (PyVectorcall_NARGS(nargsf) != 2 || kwnames != NULL ||
        !bkpy_writer_look_at_new(self->state, args[1], &attrs)) {
        return PyObject_Vectorcall(self->callback, args, nargsf, kwnames);
    }
    if (put_back(self, attrs.of[BKPY_WRITER_PROTOCOL]) < 0) {
        return NULL;
    }
    made = exchange_writer(self->state, &attrs);
    stack[1] = args[0];
    stack[2] = made == NULL ? args[1] : made;
    result = PyObject_Vectorcall(self->callback, stack + 1,
                                 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(made);
    return result;
}

void
bkpy_exchange_callback(bkpy_state *state, PyObject *protocol,
                       const bkpy_protocol_view *view)
{
    PyTypeObject *tp = state->ConnectedCallbackType;
    ConnectedCallbackObject *self;

    /* The caller has it, and the transport. */
    if (!BKPY_HAS_INLINE_ATTRS || Py_REFCNT(protocol) != 2 ||
        view->client_connected_cb == NULL ||
        view->client_connected_cb == Py_None) {
        return;
    }
    self = ConnectedCallbackObject_CAST(tp->tp_alloc(tp, 0));
    if (self != NULL) {
        self->vectorcall = connected_callback_call;
        self->state = state;
        self->callback = Py_NewRef(view->client_connected_cb);
        (void)PyObject_SetAttr(protocol, state->str__client_connected_cb,
                               (PyObject *)self);
        Py_DECREF(self);
    }
    PyErr_Clear();
}

/* --- the type --- */

static PyMemberDef connected_callback_members[] = {
    {"__vectorcalloffset__", Py_T_PYSSIZET,
     offsetof(ConnectedCallbackObject, vectorcall), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot connected_callback_slots[] = {
    {Py_tp_traverse, connected_callback_traverse},
    {Py_tp_clear, connected_callback_clear},
    {Py_tp_dealloc, connected_callback_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, connected_callback_members},
    {0, NULL},
};

static PyType_Spec connected_callback_spec = {
    .name = "becket._core.ConnectedCallback",
    .basicsize = sizeof(ConnectedCallbackObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = connected_callback_slots,
};

int
bkpy_exchange_setup(PyObject *module, bkpy_state *state)
{
    state->ConnectedCallbackType = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &connected_callback_spec, NULL);
    return state->ConnectedCallbackType == NULL ? -1 : 0;
}
