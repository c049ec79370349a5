/* loop_info.c -- the loop's checks, switches and attributes.
 *
 * SPDX-License-Identifier: MIT
 */

#include "errors.h"
#include "loop.h"
#include "tls.h"

#include <errno.h>
#include <stddef.h>

/* --- checks --- */

int
bkpy_loop_check_closed(LoopObject *self)
{
    if (self->core != NULL && !self->is_closed) {
        return 0;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    self->core == NULL
                        ? "the event loop's __init__() was not called"
                        : "Event loop is closed");
    return -1;
}

int
bkpy_loop_check_thread(LoopObject *self)
{
    if (self->thread_id == 0 ||
        self->thread_id == PyThread_get_thread_ident()) {
        return 0;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "Non-thread-safe operation invoked on an event loop other "
                    "than the current one");
    return -1;
}

PyObject *
bkpy_loop_raise(LoopObject *self, int code)
{
    PyObject *exc = self->poller_error;

    if (exc != NULL) {
        self->poller_error = NULL;
        PyErr_SetRaisedException(exc);
        return NULL;
    }
    if (code == -EBADF && self->is_closed) {
        (void)bkpy_loop_check_closed(self);
        return NULL;
    }
    return bkpy_error_set(self->state, code);
}

/* --- methods --- */

PyObject *
loop_stop(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    LoopObject *self = LoopObject_CAST(op);

    if (self->core == NULL) {
        (void)bkpy_loop_check_closed(self);
        return NULL;
    }
    if (!self->is_closed) {
        bk_loop_stop(self->core);
    }
    Py_RETURN_NONE;
}

PyObject *
loop_is_running(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(LoopObject_CAST(op)->thread_id != 0);
}

PyObject *
loop_is_closed(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(LoopObject_CAST(op)->is_closed);
}

PyObject *
loop_get_debug(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(LoopObject_CAST(op)->is_debug);
}

static void
set_debug(LoopObject *self, bool is_on)
{
    self->is_debug = is_on;
    if (is_on) {
        self->state->had_debug = true;
    }
}

PyObject *
loop_set_debug(PyObject *op, PyObject *enabled)
{
    int is_on = PyObject_IsTrue(enabled);

    if (is_on < 0) {
        return NULL;
    }
    set_debug(LoopObject_CAST(op), is_on);
    Py_RETURN_NONE;
}

void
bkpy_loop_flush(const LoopObject *self)
{
    if (self->core != NULL && !self->is_closed &&
        bk_loop_has_pending_writes(self->core) &&
        (self->thread_id == 0 ||
         self->thread_id == PyThread_get_thread_ident())) {
        bk_loop_flush(self->core);
    }
}

PyObject *
loop_flush(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    bkpy_loop_flush(LoopObject_CAST(op));
    Py_RETURN_NONE;
}

PyObject *
loop_check_closed(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (bkpy_loop_check_closed(LoopObject_CAST(op)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
loop_timer_handle_cancelled(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(h))
{
    Py_RETURN_NONE;
}

static PyObject *
lag_histogram(const bk_loop_stats *stats)
{
    PyObject *tuple = PyTuple_New(BK_LAG_BUCKETS);

    for (Py_ssize_t i = 0; i < BK_LAG_BUCKETS && tuple != NULL; i++) {
        PyObject *n = PyLong_FromUnsignedLongLong(stats->lag_histogram[i]);

        if (n == NULL) {
            Py_CLEAR(tuple);
        }
        else {
            PyTuple_SET_ITEM(tuple, i, n);
        }
    }
    return tuple;
}

PyObject *
loop_stats(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    LoopObject *self = LoopObject_CAST(op);
    bk_loop_stats s = {0};
    PyObject *histogram;

    if (self->core == NULL) {
        (void)bkpy_loop_check_closed(self);
        return NULL;
    }
    bk_loop_get_stats(self->core, &s);
    histogram = lag_histogram(&s);
    if (histogram == NULL) {
        return NULL;
    }
    return Py_BuildValue(
        "(KKKKKKKKKKKKKKN)", (unsigned long long)s.turns,
        (unsigned long long)s.callbacks, (unsigned long long)s.busy_ns,
        (unsigned long long)s.idle_ns, (unsigned long long)s.events,
        (unsigned long long)s.wakeups, (unsigned long long)s.bytes_received,
        (unsigned long long)s.bytes_sent,
        (unsigned long long)s.connections_made,
        (unsigned long long)s.connections_open,
        (unsigned long long)s.timers_scheduled,
        (unsigned long long)s.timers_fired, (unsigned long long)s.lag_samples,
        (unsigned long long)s.lag_max_ns, histogram);
}

PyObject *
bkpy_loop_repr(PyObject *op)
{
    LoopObject *self = LoopObject_CAST(op);
    PyObject *name =
        PyObject_GetAttrString((PyObject *)Py_TYPE(op), "__name__");
    PyObject *repr = NULL;

    if (name != NULL) {
        repr = PyUnicode_FromFormat("<%U running=%s closed=%s debug=%s>", name,
                                    self->thread_id != 0 ? "True" : "False",
                                    self->is_closed ? "True" : "False",
                                    self->is_debug ? "True" : "False");
        Py_DECREF(name);
    }
    return repr;
}

/* --- attributes --- */

static PyObject *
get_backend(PyObject *op, void *Py_UNUSED(closure))
{
    LoopObject *self = LoopObject_CAST(op);

    if (self->core == NULL) {
        (void)bkpy_loop_check_closed(self);
        return NULL;
    }
    return PyUnicode_FromString(bk_loop_backend(self->core));
}

static PyObject *
get_write_through(PyObject *op, void *Py_UNUSED(closure))
{
    LoopObject *self = LoopObject_CAST(op);

    if (self->core == NULL) {
        (void)bkpy_loop_check_closed(self);
        return NULL;
    }
    return PyBool_FromLong(bk_loop_get_write_through(self->core));
}

/* The bool that is assigned: 1, 0, or -1 with an exception. */
static int
assigned_bool(PyObject *value)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError,
                        "this attribute cannot be deleted");
        return -1;
    }
    return PyObject_IsTrue(value);
}

static int
set_write_through(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    LoopObject *self = LoopObject_CAST(op);
    int is_on = assigned_bool(value);

    if (is_on < 0) {
        return -1;
    }
    if (bkpy_loop_check_closed(self) < 0) {
        return -1;
    }
    bk_loop_set_write_through(self->core, is_on);
    return 0;
}

static PyObject *
get_thread_id(PyObject *op, void *Py_UNUSED(closure))
{
    unsigned long thread = LoopObject_CAST(op)->thread_id;

    if (thread == 0) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLong(thread);
}

static PyObject *
get_closed(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(LoopObject_CAST(op)->is_closed);
}

static PyObject *
get_debug(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(LoopObject_CAST(op)->is_debug);
}

static int
set_debug_attr(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    int is_on = assigned_bool(value);

    if (is_on < 0) {
        return -1;
    }
    set_debug(LoopObject_CAST(op), is_on);
    return 0;
}

static PyObject *
get_executor_shut(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(LoopObject_CAST(op)->is_executor_shut);
}

static int
set_executor_shut(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    int is_shut = assigned_bool(value);

    if (is_shut < 0) {
        return -1;
    }
    LoopObject_CAST(op)->is_executor_shut = is_shut;
    return 0;
}

static PyObject *
get_current_handle(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *handle = LoopObject_CAST(op)->current_handle;

    return Py_NewRef(handle == NULL ? Py_None : handle);
}

static PyObject *
get_selector(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *poller = LoopObject_CAST(op)->poller;

    return Py_NewRef(poller == NULL ? Py_None : poller);
}

static PyObject *
get_is_forked(PyObject *op, void *Py_UNUSED(closure))
{
    LoopObject *self = LoopObject_CAST(op);

    return PyBool_FromLong(self->core != NULL && !self->is_closed &&
                           bk_loop_is_forked(self->core));
}

PyGetSetDef bkpy_loop_getset[] = {
    {"tls_engine", bkpy_tls_engine_name, NULL,
     "What encrypts: 'openssl', called directly; 'sslobject'; None without "
     "ssl.",
     NULL},
    {"backend", get_backend, NULL, "The poller: 'epoll', 'poll', 'external'.",
     NULL},
    {"write_through", get_write_through, set_write_through,
     "Whether writes are sent at once instead of after the callback.", NULL},
    {"_thread_id", get_thread_id, NULL, NULL, NULL},
    {"_closed", get_closed, NULL, NULL, NULL},
    {"_debug", get_debug, set_debug_attr, NULL, NULL},
    {"_executor_shut", get_executor_shut, set_executor_shut, NULL, NULL},
    {"_current_handle", get_current_handle, NULL, NULL, NULL},
    {"_selector", get_selector, NULL, NULL, NULL},
    {"_is_forked", get_is_forked, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyMemberDef bkpy_loop_members[] = {
    {"slow_callback_duration", Py_T_DOUBLE,
     offsetof(LoopObject, slow_callback_duration), 0,
     "Debug mode: a callback that takes so many seconds is logged."},
    {NULL, 0, 0, 0, NULL},
};
