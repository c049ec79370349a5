/* loop_call.c -- call_soon() and its kind.
 *
 * SPDX-License-Identifier: MIT
 */

#include "args.h"
#include "handle.h"

#include <math.h>

/* --- calling in a context --- */

/* What the call wrote is sent inside the context, so that its failures are
 * scheduled there. An exception that is set survives. */
static void
flush_writes(LoopObject *self)
{
    PyObject *exc;

    if (!bk_loop_has_pending_writes(self->core)) {
        return;
    }
    exc = PyErr_GetRaisedException();
    bk_loop_flush(self->core);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

BKPY_HOT PyObject *
bkpy_context_leave(LoopObject *self, PyObject *context, PyObject *result)
{
    flush_writes(self);
    if (PyContext_Exit(context) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

BKPY_HOT PyObject *
bkpy_context_call(LoopObject *self, PyObject *context, PyObject *callable,
                  PyObject *const *args, size_t nargsf)
{
    if (PyContext_Enter(context) < 0) {
        return NULL;
    }
    return bkpy_context_leave(
        self, context, PyObject_Vectorcall(callable, args, nargsf, NULL));
}

PyObject *
bkpy_context_call_method(LoopObject *self, PyObject *context, PyObject *name,
                         PyObject *const *args, size_t nargsf)
{
    if (PyContext_Enter(context) < 0) {
        return NULL;
    }
    return bkpy_context_leave(
        self, context, PyObject_VectorcallMethod(name, args, nargsf, NULL));
}

/* --- arguments --- */

/* callback(*args) in context, as the user gave them; all borrowed. */
struct call {
    PyObject *callback;
    PyObject *const *args;
    Py_ssize_t nargs;
    PyObject *context; /* NULL: a copy of the current one */
};

/* Whether this keyword is "context". The string of _asyncio's own calls is not
 * interned: it is remembered when it is met first. */
static bool
is_context(LoopObject *self, PyObject *keyword)
{
    if (keyword == self->state->str_context ||
        keyword == self->context_keyword) {
        return true;
    }
    if (PyUnicode_CompareWithASCIIString(keyword, "context") != 0) {
        return false;
    }
    Py_XSETREF(self->context_keyword, Py_NewRef(keyword));
    return true;
}

/* Sort (lead, callback, *args, context=None), lead being a further parameter
 * for spec->positional == 2. The usual forms come first. */
static int
parse_call(LoopObject *self, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames, const bkpy_spec *spec, PyObject **ret_lead,
           struct call *ret)
{
    Py_ssize_t named = spec->positional;
    PyObject *values[3] = {NULL, NULL, NULL};

    if (nargs >= named && kwnames == NULL) {
        values[0] = args[0];
        values[named - 1] = args[named - 1];
    }
    else if (nargs >= named && PyTuple_GET_SIZE(kwnames) == 1 &&
             is_context(self, PyTuple_GET_ITEM(kwnames, 0))) {
        values[0] = args[0];
        values[named - 1] = args[named - 1];
        values[named] = args[nargs];
    }
    else if (bkpy_parse(args, nargs, kwnames, spec, values) < 0) {
        return -1;
    }
    *ret_lead = values[0];
    ret->callback = values[named - 1];
    ret->args = args + named;
    ret->nargs = nargs > named ? nargs - named : 0;
    ret->context = values[named] == Py_None ? NULL : values[named];
    return 0;
}

/* Debug mode: TypeError for what is no callback. */
static int
check_callback(LoopObject *self, PyObject *callback, const char *method)
{
    PyObject *r = PyObject_CallMethod(self->state->support, "check_callback",
                                      "Os", callback, method);

    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

static int
check_call(LoopObject *self, PyObject *callback, const char *method)
{
    if (bkpy_loop_check_closed(self) < 0) {
        return -1;
    }
    if (!self->is_debug) {
        return 0;
    }
    if (bkpy_loop_check_thread(self) < 0) {
        return -1;
    }
    return check_callback(self, callback, method);
}

/* --- call_soon --- */

static const bkpy_spec call_soon_spec = {
    .function = "call_soon",
    .names = {"callback", "context"},
    .required = 1,
    .positional = 1,
    .has_varargs = true,
};

PyObject *
bkpy_loop_add_handle(LoopObject *self, PyObject *callback,
                     PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    PyObject *handle =
        bkpy_handle_new(self, callback, args, nargs, context, BKPY_HANDLE_SOON);

    if (handle != NULL && bkpy_handle_schedule(handle) < 0) {
        Py_CLEAR(handle);
    }
    return handle;
}

static PyObject *
call_soon(LoopObject *self, const struct call *call)
{
    if (check_call(self, call->callback, "call_soon") < 0) {
        return NULL;
    }
    return bkpy_loop_add_handle(self, call->callback, call->args, call->nargs,
                                call->context);
}

BKPY_KWMETHOD(loop_call_soon)
{
    LoopObject *loop = LoopObject_CAST(self);
    struct call call;
    PyObject *ignored;

    if (parse_call(loop, args, nargs, kwnames, &call_soon_spec, &ignored,
                   &call) < 0) {
        return NULL;
    }
    return call_soon(loop, &call);
}

/* loop.name(*before, callback, *args, context=context) as users override it;
 * before may be NULL. */
static PyObject *
call_override(LoopObject *self, PyObject *name, PyObject *before,
              const struct call *call)
{
    Py_ssize_t first = before == NULL ? 0 : 1;
    PyObject *method = PyObject_GetAttr((PyObject *)self, name);
    PyObject *args = PyTuple_New(first + 1 + call->nargs);
    PyObject *kwargs = PyDict_New();
    PyObject *result = NULL;

    if (method == NULL || args == NULL || kwargs == NULL ||
        PyDict_SetItem(kwargs, self->state->str_context,
                       call->context == NULL ? Py_None : call->context) < 0) {
        goto done;
    }
    if (before != NULL) {
        PyTuple_SET_ITEM(args, 0, Py_NewRef(before));
    }
    PyTuple_SET_ITEM(args, first, Py_NewRef(call->callback));
    for (Py_ssize_t i = 0; i < call->nargs; i++) {
        PyTuple_SET_ITEM(args, first + 1 + i, Py_NewRef(call->args[i]));
    }
    result = PyObject_Call(method, args, kwargs);
done:
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return result;
}

PyObject *
bkpy_loop_call_soon(LoopObject *self, PyObject *callback, PyObject *const *args,
                    Py_ssize_t nargs, PyObject *context)
{
    const struct call call = {callback, args, nargs, context};

    if (bkpy_loop_overrides(self, BKPY_OWN_CALL_SOON)) {
        return call_override(self, self->state->str_call_soon, NULL, &call);
    }
    return call_soon(self, &call);
}

/* --- call_soon_threadsafe --- */

static const bkpy_spec call_soon_threadsafe_spec = {
    .function = "call_soon_threadsafe",
    .names = {"callback", "context"},
    .required = 1,
    .positional = 1,
    .has_varargs = true,
};

/* While nothing runs the loop the GIL guards its queue, where the garbage
 * collector sees the handle; the inbox it does not see. */
static int
schedule_threadsafe(LoopObject *self, PyObject *handle)
{
    return self->thread_id == 0 ? bkpy_handle_schedule(handle)
                                : bkpy_handle_schedule_threadsafe(handle);
}

BKPY_KWMETHOD(loop_call_soon_threadsafe)
{
    LoopObject *loop = LoopObject_CAST(self);
    struct call call;
    PyObject *handle;

    if (parse_call(loop, args, nargs, kwnames, &call_soon_threadsafe_spec,
                   &handle, &call) < 0 ||
        bkpy_loop_check_closed(loop) < 0 ||
        (loop->is_debug &&
         check_callback(loop, call.callback, "call_soon_threadsafe") < 0)) {
        return NULL;
    }
    handle = bkpy_handle_new(loop, call.callback, call.args, call.nargs,
                             call.context, BKPY_HANDLE_THREADSAFE);
    if (handle != NULL && schedule_threadsafe(loop, handle) < 0) {
        Py_CLEAR(handle);
    }
    return handle;
}

/* --- timers --- */

static const bkpy_spec call_later_spec = {
    .function = "call_later",
    .names = {"delay", "callback", "context"},
    .required = 2,
    .positional = 2,
    .has_varargs = true,
};

static const bkpy_spec call_at_spec = {
    .function = "call_at",
    .names = {"when", "callback", "context"},
    .required = 2,
    .positional = 2,
    .has_varargs = true,
};

/* when_object: what the user gave, if it was no float. */
static PyObject *
add_timer(LoopObject *self, double when, PyObject *when_object,
          const struct call *call)
{
    PyObject *handle;

    if (check_call(self, call->callback, "call_at") < 0) {
        return NULL;
    }
    handle = bkpy_handle_new(self, call->callback, call->args, call->nargs,
                             call->context, BKPY_HANDLE_TIMER);
    if (handle != NULL &&
        bkpy_handle_schedule_at(handle, when, when_object) < 0) {
        Py_CLEAR(handle);
    }
    return handle;
}

/* Any number, also an int beyond a float's range, which lies in the far future
 * or past. -1 with TypeError for what is none: asyncio would take it and fail
 * later, in whatever other timer meets it. */
static int
number_as_double(PyObject *number, double *ret)
{
    double value = PyFloat_AsDouble(number);

    if (value == -1.0 && PyErr_Occurred() != NULL) {
        int sign;

        if (!PyLong_Check(number) ||
            !PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
        sign = PyObject_RichCompareBool(number, Py_False, Py_LT);
        if (sign < 0) {
            return -1;
        }
        value = sign ? -INFINITY : INFINITY;
    }
    *ret = value;
    return 0;
}

static PyObject *
call_at(LoopObject *self, PyObject *when, const struct call *call)
{
    double seconds;

    if (when == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    if (bkpy_loop_check_closed(self) < 0 ||
        number_as_double(when, &seconds) < 0) {
        return NULL;
    }
    return add_timer(self, seconds, PyFloat_CheckExact(when) ? NULL : when,
                     call);
}

BKPY_KWMETHOD(loop_call_at)
{
    LoopObject *loop = LoopObject_CAST(self);
    struct call call;
    PyObject *when;

    if (parse_call(loop, args, nargs, kwnames, &call_at_spec, &when, &call) <
        0) {
        return NULL;
    }
    return call_at(loop, when, &call);
}

/* self.call_at(self.time() + delay, ...) with what users have overridden. */
static PyObject *
call_later_slowly(LoopObject *self, PyObject *delay, const struct call *call)
{
    PyObject *now =
        PyObject_CallMethodNoArgs((PyObject *)self, self->state->str_time);
    PyObject *when = now == NULL ? NULL : PyNumber_Add(now, delay);
    PyObject *handle = NULL;

    Py_XDECREF(now);
    if (when == NULL) {
        return NULL;
    }
    if (bkpy_loop_overrides(self, BKPY_OWN_CALL_AT)) {
        handle = call_override(self, self->state->str_call_at, when, call);
    }
    else {
        handle = call_at(self, when, call);
    }
    Py_DECREF(when);
    return handle;
}

/* The usual kinds of a delay; all others are Python's to add. */
static bool
is_plain_delay(PyObject *delay, double *ret)
{
    long value;
    int overflow;

    if (PyFloat_CheckExact(delay)) {
        *ret = PyFloat_AS_DOUBLE(delay);
        return true;
    }
    if (!PyLong_CheckExact(delay)) {
        return false;
    }
    value = PyLong_AsLongAndOverflow(delay, &overflow);
    *ret = (double)value;
    return overflow == 0;
}

BKPY_KWMETHOD(loop_call_later)
{
    LoopObject *loop = LoopObject_CAST(self);
    struct call call;
    PyObject *delay;
    double seconds, now;

    if (parse_call(loop, args, nargs, kwnames, &call_later_spec, &delay,
                   &call) < 0) {
        return NULL;
    }
    if (delay == Py_None) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }
    if (!is_plain_delay(delay, &seconds) ||
        bkpy_loop_overrides(loop, BKPY_OWN_TIME | BKPY_OWN_CALL_AT)) {
        return call_later_slowly(loop, delay, &call);
    }
    now = bkpy_ns_to_seconds(bk_clock_now());
    return add_timer(loop, now + seconds, NULL, &call);
}
