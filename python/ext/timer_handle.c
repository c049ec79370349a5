/* timer_handle.c -- asyncio.TimerHandle.
 *
 * SPDX-License-Identifier: MIT
 *
 * The struct and most of the behaviour are the Handle's, see handle.c.
 */

#include "handle.h"

/* --- methods --- */

PyDoc_STRVAR(when_doc, "when($self, /)\n--\n\n"
                       "The point in time, as of loop.time().");

static PyObject *
timer_when(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HandleObject *self = HandleObject_CAST(op);

    return self->when_object != NULL ? Py_NewRef(self->when_object)
                                     : PyFloat_FromDouble(self->when);
}

/* --- comparing timers --- */

static Py_hash_t
timer_hash(PyObject *op)
{
    PyObject *when = timer_when(op, NULL);
    Py_hash_t hash = when == NULL ? -1 : PyObject_Hash(when);

    Py_XDECREF(when);
    return hash;
}

/* a.name <op> b.name: 1, 0, or -1 with an exception. */
static int
compare_attr(PyObject *a, PyObject *b, const char *name, int op)
{
    PyObject *left = PyObject_GetAttrString(a, name);
    PyObject *right = PyObject_GetAttrString(b, name);
    int r = -1;

    if (left != NULL && right != NULL) {
        PyObject *result = PyObject_RichCompare(left, right, op);

        r = result == NULL ? -1 : PyObject_IsTrue(result);
        Py_XDECREF(result);
    }
    Py_XDECREF(left);
    Py_XDECREF(right);
    return r;
}

static int
is_same_timer(PyObject *a, PyObject *b)
{
    static const char *const names[] = {"_when", "_callback", "_args",
                                        "_cancelled"};
    int r = 1;

    for (size_t i = 0; i < Py_ARRAY_LENGTH(names) && r > 0; i++) {
        r = compare_attr(a, b, names[i], Py_EQ);
    }
    return r;
}

static int
compare_timers(PyObject *a, PyObject *b, int op)
{
    int r;

    switch (op) {
    case Py_LT:
    case Py_GT:
        return compare_attr(a, b, "_when", op);
    case Py_LE:
    case Py_GE:
        r = compare_attr(a, b, "_when", op == Py_LE ? Py_LT : Py_GT);
        return r != 0 ? r : is_same_timer(a, b);
    default:
        r = is_same_timer(a, b);
        return op == Py_EQ || r < 0 ? r : !r;
    }
}

/* With any asyncio.TimerHandle, through its attributes as asyncio does. */
static PyObject *
timer_richcompare(PyObject *op, PyObject *other, int how)
{
    bkpy_state *state = HandleObject_CAST(op)->loop->state;
    int r = PyObject_IsInstance(other, state->TimerHandle);

    if (r == 0) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    if (r > 0) {
        r = compare_timers(op, other, how);
    }
    return r < 0 ? NULL : PyBool_FromLong(r);
}

/* --- attributes --- */

static PyObject *
timer_get_when(PyObject *op, void *Py_UNUSED(closure))
{
    return timer_when(op, NULL);
}

static PyObject *
timer_get_scheduled(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(HandleObject_CAST(op)->is_queued);
}

/* --- the type --- */

static PyMethodDef timer_methods[] = {
    {"when", timer_when, METH_NOARGS, when_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef timer_getset[] = {
    {"_when", timer_get_when, NULL, NULL, NULL},
    {"_scheduled", timer_get_scheduled, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot timer_slots[] = {
    {Py_tp_doc, "A callback that the loop will call at a point in time."},
    {Py_tp_traverse, bkpy_handle_traverse},
    {Py_tp_clear, bkpy_handle_clear},
    {Py_tp_dealloc, bkpy_handle_dealloc},
    {Py_tp_repr, bkpy_handle_repr},
    {Py_tp_hash, timer_hash},
    {Py_tp_richcompare, timer_richcompare},
    {Py_tp_methods, timer_methods},
    {Py_tp_getset, timer_getset},
    {0, NULL},
};

static PyType_Spec timer_spec = {
    .name = "becket._core.TimerHandle",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = timer_slots,
};

int
bkpy_timer_handle_setup(PyObject *module, bkpy_state *state)
{
    state->TimerHandleType = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &timer_spec, (PyObject *)state->HandleType);
    if (state->TimerHandleType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->TimerHandleType);
}
