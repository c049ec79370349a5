/* external_poller.c -- an object with the interface of Python's selectors as
 * the core's poller.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The selector gets bare fds. What asyncio would give as a key's data, the pair
 * of handles, is given too, for programs that look into loop._selector.
 *
 * The core knows codes only. What the selector raises is kept in
 * loop->poller_error, and whoever called into the core raises it in place of
 * the code (bkpy_loop_raise); what select() raises ends the run.
 */

#include "errors.h"
#include "loop_watch.h"

#include <errno.h>
#include <math.h>

/* selectors.EVENT_READ and EVENT_WRITE have the values of ours. */
_Static_assert(BK_READABLE == 1, "is selectors.EVENT_READ");
_Static_assert(BK_WRITABLE == 2, "is selectors.EVENT_WRITE");

/* Whether the selector can still be called. The module's names are gone before
 * the last loop is when the interpreter takes everything down; the selector
 * then goes the same way, and is told nothing. */
static bool
is_callable(const LoopObject *self)
{
    return self->state->str_unregister != NULL;
}

/* Takes the exception that is set; its code. */
static int
keep_error(LoopObject *self, int code)
{
    Py_XSETREF(self->poller_error, PyErr_GetRaisedException());
    return code;
}

/* selector.name(fd, events, data); 0 or a code. */
static int
change(LoopObject *self, PyObject *name, int fd, unsigned events)
{
    PyObject *selector = Py_NewRef(self->poller);
    PyObject *args[4] = {selector, PyLong_FromLong(fd),
                         PyLong_FromUnsignedLong(events),
                         bkpy_watch_data(self, fd)};
    PyObject *key = NULL;

    if (args[1] != NULL && args[2] != NULL && args[3] != NULL) {
        key = PyObject_VectorcallMethod(
            name, args, 4 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    for (int i = 0; i < 4; i++) {
        Py_XDECREF(args[i]);
    }
    Py_XDECREF(key);
    return key == NULL ? -1 : 0;
}

/* A KeyError is about what the selector has registered. */
static int
code_of_key_error(int code)
{
    return PyErr_ExceptionMatches(PyExc_KeyError) ? code : bkpy_error_code();
}

static int
poller_add(void *arg, int fd, unsigned events)
{
    LoopObject *self = arg;
    int code;

    if (!is_callable(self)) {
        return -ECANCELED;
    }
    if (change(self, self->state->str_register, fd, events) == 0) {
        return 0;
    }
    code = code_of_key_error(-EEXIST);
    return keep_error(self, code);
}

static int
poller_modify(void *arg, int fd, unsigned events)
{
    LoopObject *self = arg;
    int code;

    if (!is_callable(self)) {
        return -ECANCELED;
    }
    if (change(self, self->state->str_modify, fd, events) == 0) {
        return 0;
    }
    code = code_of_key_error(-ENOENT);
    return keep_error(self, code);
}

static int
poller_remove(void *arg, int fd)
{
    LoopObject *self = arg;
    PyObject *number;
    PyObject *key = NULL;
    int code;

    if (!is_callable(self)) {
        return -ECANCELED;
    }
    number = PyLong_FromLong(fd);
    if (number != NULL) {
        key = PyObject_CallMethodOneArg(self->poller,
                                        self->state->str_unregister, number);
        Py_DECREF(number);
    }
    if (key != NULL) {
        Py_DECREF(key);
        return 0;
    }
    code = code_of_key_error(-ENOENT);
    return keep_error(self, code);
}

/* The timeout as select() takes it: None, or seconds, never too few. */
static PyObject *
timeout_object(uint64_t timeout_ns)
{
    if (timeout_ns == BK_TIME_NEVER) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble(bkpy_ns_to_seconds(timeout_ns));
}

/* One (key, mask) of select()'s list. -1 with an exception. */
static int
read_event(PyObject *item, bk_poller_event *ret)
{
    PyObject *pair = PySequence_Fast(item, "select() gives (key, mask) pairs");
    PyObject *fd = NULL;
    long mask = -1;

    if (pair == NULL) {
        return -1;
    }
    if (PySequence_Fast_GET_SIZE(pair) == 2) {
        fd = PyObject_GetAttrString(PySequence_Fast_GET_ITEM(pair, 0), "fd");
        mask = PyLong_AsLong(PySequence_Fast_GET_ITEM(pair, 1));
    }
    else {
        PyErr_SetString(PyExc_TypeError, "select() gives (key, mask) pairs");
    }
    Py_DECREF(pair);
    if (fd != NULL) {
        ret->fd = PyLong_AsInt(fd);
        Py_DECREF(fd);
    }
    ret->events = (unsigned)mask & (BK_READABLE | BK_WRITABLE);
    return PyErr_Occurred() == NULL ? 0 : -1;
}

/* More than there is room for are read in the next turns, from where this one
 * ends: the selector may report them in the same order each time. */
static int
read_events(LoopObject *self, PyObject *list, bk_poller_event *events,
            size_t capacity)
{
    size_t found = (size_t)PySequence_Fast_GET_SIZE(list);
    size_t count = found < capacity ? found : capacity;
    size_t first = found > capacity ? self->poller_offset % found : 0;

    for (size_t i = 0; i < count; i++) {
        size_t at = (first + i) % found;

        /* What runs meanwhile could shorten a list of the user's. */
        if (at >= (size_t)PySequence_Fast_GET_SIZE(list)) {
            return (int)i;
        }
        if (read_event(PySequence_Fast_GET_ITEM(list, (Py_ssize_t)at),
                       &events[i]) < 0) {
            return -1;
        }
    }
    self->poller_offset = first + count;
    return (int)count;
}

static int
poller_wait(void *arg, uint64_t timeout_ns, bk_poller_event *events,
            size_t capacity)
{
    LoopObject *self = arg;
    PyObject *timeout = timeout_object(timeout_ns);
    PyObject *found = NULL;
    PyObject *list = NULL;
    int r = -1;

    if (timeout != NULL) {
        found = PyObject_CallMethodOneArg(self->poller, self->state->str_select,
                                          timeout);
        Py_DECREF(timeout);
    }
    if (found != NULL) {
        list = PySequence_Fast(found, "select() gives a list");
        Py_DECREF(found);
    }
    if (list != NULL) {
        r = read_events(self, list, events, capacity);
        Py_DECREF(list);
    }
    return r < 0 ? keep_error(self, -ECANCELED) : r;
}

/* As asyncio's loop, which has no selector afterwards. */
static void
poller_close(void *arg)
{
    LoopObject *self = arg;
    PyObject *selector = self->poller;

    if (is_callable(self)) {
        PyObject *r =
            PyObject_CallMethodNoArgs(selector, self->state->str_close);

        if (r == NULL) {
            (void)keep_error(self, 0);
        }
        Py_XDECREF(r);
    }
    self->poller = NULL;
    Py_DECREF(selector);
}

const bk_poller_ops bkpy_external_poller = {
    .name = "external",
    .add = poller_add,
    .modify = poller_modify,
    .remove = poller_remove,
    .wait = poller_wait,
    .close = poller_close,
};
