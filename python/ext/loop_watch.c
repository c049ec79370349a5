/* loop_watch.c -- add_reader() and its kind.
 *
 * SPDX-License-Identifier: MIT
 */

#include "loop_watch.h"

#include "args.h"
#include "handle.h"

/* --- what the user calls a file --- */

static bool
is_no_file(void)
{
    return PyErr_ExceptionMatches(PyExc_AttributeError) ||
           PyErr_ExceptionMatches(PyExc_TypeError) ||
           PyErr_ExceptionMatches(PyExc_ValueError);
}

/* int(file.fileno()), with asyncio's text. New reference or NULL. */
static PyObject *
ask_fileno(LoopObject *self, PyObject *file)
{
    PyObject *number = PyObject_CallMethodNoArgs(file, self->state->str_fileno);

    if (number != NULL) {
        Py_SETREF(number, PyNumber_Long(number));
    }
    if (number == NULL && is_no_file()) {
        PyErr_Format(PyExc_ValueError, "Invalid file object: %R", file);
    }
    return number;
}

/* The fd of an int or of an object with fileno(), also a negative one. -1 with
 * an exception. */
static int
file_to_fd(LoopObject *self, PyObject *file, int *ret_fd)
{
    PyObject *number =
        PyLong_Check(file) ? Py_NewRef(file) : ask_fileno(self, file);
    int fd;

    if (number == NULL) {
        return -1;
    }
    fd = PyLong_AsInt(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred() != NULL) {
        return -1;
    }
    *ret_fd = fd;
    return 0;
}

/* The fd under which the file is, or may be, watched. */
static int
watched_fd(LoopObject *self, PyObject *file, int *ret_fd)
{
    if (*ret_fd < 0 && !PyLong_Check(file)) {
        *ret_fd = bkpy_watch_find_file(self, file);
    }
    if (*ret_fd >= 0) {
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", *ret_fd);
    return -1;
}

/* --- adding and removing --- */

/* Which of the two, and whether a transport's fd is refused. */
struct kind {
    bkpy_spec spec;
    unsigned event;
    bool is_checked;
};

/* New reference to the handle. */
static PyObject *
add(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
    const struct kind *kind)
{
    LoopObject *self = LoopObject_CAST(op);
    Py_ssize_t rest = nargs > 2 ? nargs - 2 : 0;
    PyObject *values[2];
    PyObject *handle;
    int fd;

    if (bkpy_parse(args, nargs, kwnames, &kind->spec, values) < 0 ||
        file_to_fd(self, values[0], &fd) < 0 ||
        (kind->is_checked &&
         bkpy_loop_check_file_free(self, values[0], fd) < 0) ||
        bkpy_loop_check_closed(self) < 0 ||
        watched_fd(self, values[0], &fd) < 0) {
        return NULL;
    }
    handle =
        bkpy_handle_new(self, values[1], args + 2, rest, NULL, BKPY_HANDLE_IO);
    if (handle != NULL &&
        bkpy_loop_watch_file(self, values[0], fd, kind->event, handle) < 0) {
        Py_CLEAR(handle);
    }
    return handle;
}

/* A number that no fd has is watched by nobody. */
static PyObject *
not_watched(PyObject *file)
{
    if (!PyLong_Check(file) || !PyErr_ExceptionMatches(PyExc_OverflowError)) {
        return NULL;
    }
    PyErr_Clear();
    Py_RETURN_FALSE;
}

static PyObject *
take_back(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames, const struct kind *kind)
{
    LoopObject *self = LoopObject_CAST(op);
    PyObject *file;
    int fd, r;

    if (bkpy_parse(args, nargs, kwnames, &kind->spec, &file) < 0) {
        return NULL;
    }
    if (self->is_closed && PyLong_Check(file)) {
        Py_RETURN_FALSE;
    }
    if (file_to_fd(self, file, &fd) < 0) {
        return not_watched(file);
    }
    if (kind->is_checked && bkpy_loop_check_file_free(self, file, fd) < 0) {
        return NULL;
    }
    if (self->is_closed) {
        Py_RETURN_FALSE;
    }
    if (watched_fd(self, file, &fd) < 0) {
        return NULL;
    }
    r = bkpy_loop_unwatch_fd(self, fd, kind->event, NULL);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

#define ADD(function_, event_, is_checked_)                                    \
    {                                                                          \
        .spec = {.function = (function_),                                      \
                 .names = {"fd", "callback"},                                  \
                 .required = 2,                                                \
                 .positional = 2,                                              \
                 .has_varargs = true},                                         \
        .event = (event_), .is_checked = (is_checked_),                        \
    }

#define REMOVE(function_, event_, is_checked_)                                 \
    {                                                                          \
        .spec = {.function = (function_),                                      \
                 .names = {"fd"},                                              \
                 .required = 1,                                                \
                 .positional = 1},                                             \
        .event = (event_), .is_checked = (is_checked_),                        \
    }

/* --- the methods --- */

/* The public ones keep the handle to themselves, as asyncio does. */
static PyObject *
without_handle(PyObject *handle)
{
    if (handle == NULL) {
        return NULL;
    }
    Py_DECREF(handle);
    Py_RETURN_NONE;
}

BKPY_KWMETHOD(loop_add_reader)
{
    static const struct kind kind = ADD("add_reader", BK_READABLE, true);

    return without_handle(add(self, args, nargs, kwnames, &kind));
}

BKPY_KWMETHOD(loop_add_writer)
{
    static const struct kind kind = ADD("add_writer", BK_WRITABLE, true);

    return without_handle(add(self, args, nargs, kwnames, &kind));
}

BKPY_KWMETHOD(loop_add_reader_unchecked)
{
    static const struct kind kind = ADD("_add_reader", BK_READABLE, false);

    return add(self, args, nargs, kwnames, &kind);
}

BKPY_KWMETHOD(loop_add_writer_unchecked)
{
    static const struct kind kind = ADD("_add_writer", BK_WRITABLE, false);

    return add(self, args, nargs, kwnames, &kind);
}

BKPY_KWMETHOD(loop_set_waker)
{
    static const bkpy_spec spec = {
        .function = "_set_waker",
        .names = {"fd", "is_waker"},
        .required = 2,
        .positional = 2,
    };
    LoopObject *loop = LoopObject_CAST(self);
    PyObject *values[2];
    int fd, is_waker;

    if (bkpy_parse(args, nargs, kwnames, &spec, values) < 0) {
        return NULL;
    }
    is_waker = PyObject_IsTrue(values[1]);
    if (is_waker < 0 || bkpy_loop_check_closed(loop) < 0 ||
        file_to_fd(loop, values[0], &fd) < 0 ||
        bkpy_watch_set_waker(loop, fd, is_waker) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

BKPY_KWMETHOD(loop_remove_reader)
{
    static const struct kind kind = REMOVE("remove_reader", BK_READABLE, true);

    return take_back(self, args, nargs, kwnames, &kind);
}

BKPY_KWMETHOD(loop_remove_writer)
{
    static const struct kind kind = REMOVE("remove_writer", BK_WRITABLE, true);

    return take_back(self, args, nargs, kwnames, &kind);
}

BKPY_KWMETHOD(loop_remove_reader_unchecked)
{
    static const struct kind kind =
        REMOVE("_remove_reader", BK_READABLE, false);

    return take_back(self, args, nargs, kwnames, &kind);
}

BKPY_KWMETHOD(loop_remove_writer_unchecked)
{
    static const struct kind kind =
        REMOVE("_remove_writer", BK_WRITABLE, false);

    return take_back(self, args, nargs, kwnames, &kind);
}
