/* streams_method.c -- what stands in our classes for a method of asyncio's.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A StreamMethod looks like asyncio's function to all who look: it binds to a
 * types.MethodType, and hands out the attributes of the function (__code__,
 * __defaults__, ...), so that inspect.signature() and iscoroutinefunction()
 * say of it what they say of the function.
 *
 * A call that is not the usual one (of another class, in debug mode, with odd
 * arguments, after somebody has replaced a method) is made as if our class were
 * not there.
 */

#include "streams.h"

#include <stddef.h>

/* --- life cycle --- */

static PyObject *stream_method_call(PyObject *op, PyObject *const *args,
                                    size_t nargsf, PyObject *kwnames);

PyObject *
bkpy_stream_method_new(bkpy_state *state, const bkpy_stream_kind *kind,
                       PyObject *original)
{
    PyTypeObject *tp = state->StreamMethodType;
    StreamMethodObject *self = StreamMethodObject_CAST(tp->tp_alloc(tp, 0));

    if (self == NULL) {
        return NULL;
    }
    self->vectorcall = stream_method_call;
    self->state = state;
    self->kind = kind;
    self->original = Py_NewRef(original);
    self->op_type = (PyTypeObject *)Py_NewRef(state->StreamOpType);
    return (PyObject *)self;
}

static int
stream_method_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(StreamMethodObject_CAST(op)->original);
    Py_VISIT(StreamMethodObject_CAST(op)->op_type);
    return 0;
}

static int
stream_method_clear(PyObject *op)
{
    Py_CLEAR(StreamMethodObject_CAST(op)->original);
    return 0;
}

static void
stream_method_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    bkpy_stream_op_free_cache(StreamMethodObject_CAST(op));
    (void)stream_method_clear(op);
    Py_XDECREF(StreamMethodObject_CAST(op)->op_type);
    tp->tp_free(op);
    Py_DECREF(tp);
}

/* --- past our class --- */

static PyTypeObject *
our_class(const StreamMethodObject *self)
{
    return self->kind->is_of_writer ? self->state->WriterType
                                    : self->state->ReaderType;
}

/* obj.name as it would be without our class: super(our class, obj).name */
static PyObject *
look_past(StreamMethodObject *self, PyObject *obj)
{
    PyObject *super = PyObject_CallFunctionObjArgs(
        (PyObject *)&PySuper_Type, (PyObject *)our_class(self), obj, NULL);
    PyObject *method;

    if (super == NULL) {
        return NULL;
    }
    method = PyObject_GetAttrString(super, self->kind->name);
    Py_DECREF(super);
    return method;
}

BKPY_COLD static PyObject *
call_past(StreamMethodObject *self, PyObject *const *args, size_t nargsf,
          PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    PyObject *method;
    PyObject *result;

    if (nargs == 0 || our_class(self) == NULL ||
        !PyObject_TypeCheck(args[0], our_class(self))) {
        return PyObject_Vectorcall(self->original, args, nargsf, kwnames);
    }
    method = look_past(self, args[0]);
    if (method == NULL) {
        return NULL;
    }
    result = PyObject_Vectorcall(method, args + 1, (size_t)nargs - 1, kwnames);
    Py_DECREF(method);
    return result;
}

/* --- the call --- */

/* Sort self's arguments: true with *ret_arg, which is NULL when it was not
 * given; false for a call that asyncio's function may refuse. */
BKPY_COLD static bool
sort_named(const bkpy_stream_kind *kind, PyObject *const *args,
           Py_ssize_t nargs, PyObject *kwnames, PyObject **ret_arg)
{
    if (kind->parameter == NULL || nargs != 1 ||
        PyTuple_GET_SIZE(kwnames) != 1) {
        return false;
    }
    *ret_arg = args[1];
    return PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0),
                                            kind->parameter) == 0;
}

static inline bool
sort_arguments(const bkpy_stream_kind *kind, PyObject *const *args,
               Py_ssize_t nargs, PyObject *kwnames, PyObject **ret_arg)
{
    if (kwnames != NULL) {
        return sort_named(kind, args, nargs, kwnames, ret_arg);
    }
    *ret_arg = nargs == 2 ? args[1] : NULL;
    return nargs == 2 ? kind->parameter != NULL
                      : nargs == 1 && !kind->is_required;
}

static bool
is_ours(StreamMethodObject *self, PyObject *obj)
{
    bkpy_state *state = self->state;

    if (Py_TYPE(obj) != our_class(self)) {
        return false;
    }
    return self->kind->is_of_writer ? bkpy_writer_is_usual(state)
                                    : bkpy_reader_is_usual(state);
}

/* In debug mode coroutines remember where they were made. */
BKPY_COLD static bool
is_debugged(StreamMethodObject *self, PyObject *obj)
{
    bkpy_state *state = self->state;
    PyObject *loop = PyObject_GetAttr(obj, state->str__loop);
    bool is_debug = loop == NULL ||
                    !PyObject_TypeCheck(loop, state->LoopType) ||
                    LoopObject_CAST(loop)->is_debug;

    PyErr_Clear();
    Py_XDECREF(loop);
    return is_debug;
}

BKPY_HOT static PyObject *
stream_method_call(PyObject *op, PyObject *const *args, size_t nargsf,
                   PyObject *kwnames)
{
    StreamMethodObject *self = StreamMethodObject_CAST(op);
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    PyObject *result = NULL;
    PyObject *arg;

    if (nargs == 0 || !is_ours(self, args[0]) ||
        !sort_arguments(self->kind, args, nargs, kwnames, &arg) ||
        (self->state->had_debug && is_debugged(self, args[0]))) {
        return call_past(self, args, nargsf, kwnames);
    }
    if (self->kind->attempt != NULL) {
        return bkpy_stream_op_new(self, args[0], arg);
    }
    if (self->kind->call(self->state, args[0], arg, &result) ==
        BKPY_STREAM_UNUSUAL) {
        return call_past(self, args, nargsf, kwnames);
    }
    return result;
}

/* --- attributes --- */

static PyObject *
stream_method_bind(PyObject *op, PyObject *obj, PyObject *Py_UNUSED(type))
{
    StreamMethodObject *self = StreamMethodObject_CAST(op);

    if (obj == NULL || obj == Py_None) {
        return Py_NewRef(op);
    }
    if (our_class(self) != NULL && PyObject_TypeCheck(obj, our_class(self)) &&
        !is_ours(self, obj)) {
        return look_past(self, obj);
    }
    return PyMethod_New(op, obj);
}

/* What the type itself has not is the function's. */
static PyObject *
stream_method_getattro(PyObject *op, PyObject *name)
{
    PyObject *attr = PyObject_GenericGetAttr(op, name);

    if (attr != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return attr;
    }
    PyErr_Clear();
    return PyObject_GetAttr(StreamMethodObject_CAST(op)->original, name);
}

static PyObject *
stream_method_get_original(PyObject *op, void *name)
{
    return PyObject_GetAttrString(StreamMethodObject_CAST(op)->original, name);
}

static PyObject *
stream_method_repr(PyObject *op)
{
    return PyObject_Repr(StreamMethodObject_CAST(op)->original);
}

/* What any type has, and would hide the function's. */
static PyGetSetDef stream_method_getset[] = {
    {"__doc__", stream_method_get_original, NULL, NULL, "__doc__"},
    {"__module__", stream_method_get_original, NULL, NULL, "__module__"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef stream_method_members[] = {
    {"__vectorcalloffset__", Py_T_PYSSIZET,
     offsetof(StreamMethodObject, vectorcall), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot stream_method_slots[] = {
    {Py_tp_traverse, stream_method_traverse},
    {Py_tp_clear, stream_method_clear},
    {Py_tp_dealloc, stream_method_dealloc},
    {Py_tp_repr, stream_method_repr},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, stream_method_bind},
    {Py_tp_getattro, stream_method_getattro},
    {Py_tp_getset, stream_method_getset},
    {Py_tp_members, stream_method_members},
    {0, NULL},
};

static PyType_Spec stream_method_spec = {
    .name = "becket._core.StreamMethod",
    .basicsize = sizeof(StreamMethodObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stream_method_slots,
};

int
bkpy_stream_method_setup(PyObject *module, bkpy_state *state)
{
    state->StreamMethodType = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &stream_method_spec, NULL);
    return state->StreamMethodType == NULL
               ? -1
               : PyModule_AddType(module, state->StreamMethodType);
}
