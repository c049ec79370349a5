/* resolver.c -- getaddrinfo and getnameinfo on the core's own threads.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A request is plain memory that the core holds as the lookup's self. Its
 * future is anchored in the loop, so garbage collection sees it, and closing
 * the loop drops it; the request itself is freed by the callback, which the
 * core makes exactly once.
 */

#include "address.h"
#include "errors.h"
#include "loop.h"

#include <errno.h>
#include <netdb.h>

typedef struct {
    bkpy_anchor anchor; /* holds the future */
    LoopObject *loop;   /* borrowed: the core calls only while it lives */
} lookup_request;

static lookup_request *
request_new(LoopObject *loop, PyObject *future)
{
    lookup_request *request = PyMem_Calloc(1, sizeof(*request));

    if (request == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    request->loop = loop;
    bkpy_anchor_hold(loop, &request->anchor, future);
    return request;
}

static void
request_free(lookup_request *request)
{
    bkpy_anchor_drop(&request->anchor);
    PyMem_Free(request);
}

/* Give the future its result (taken) or, when it is NULL, the exception that
 * is set; then the request is done with. */
static void
request_finish(lookup_request *request, PyObject *result)
{
    LoopObject *loop = request->loop;
    PyObject *future = Py_XNewRef(request->anchor.owner);
    int r = 0;

    request_free(request);
    if (result != NULL) {
        r = future == NULL
                ? 0
                : bkpy_future_set_result(loop->state, future, result);
        Py_DECREF(result);
    }
    else {
        PyObject *exc = PyErr_GetRaisedException();

        r = future == NULL
                ? 0
                : bkpy_future_set_exception(loop->state, future, exc);
        Py_DECREF(exc);
    }
    if (r < 0) {
        PyErr_WriteUnraisable(future);
    }
    Py_XDECREF(future);
}

/* --- getaddrinfo --- */

static PyObject *
entry_to_python(const struct addrinfo *entry)
{
    PyObject *address =
        bkpy_address_to_python(entry->ai_addr, entry->ai_addrlen);
    const char *canonname = entry->ai_canonname;

    if (address == NULL) {
        return NULL;
    }
    return Py_BuildValue("iiisN", entry->ai_family, entry->ai_socktype,
                         entry->ai_protocol, canonname == NULL ? "" : canonname,
                         address);
}

static PyObject *
entries_to_python(const struct addrinfo *first)
{
    PyObject *list = PyList_New(0);

    for (const struct addrinfo *entry = first; list != NULL && entry != NULL;
         entry = entry->ai_next) {
        PyObject *item = entry_to_python(entry);

        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return list;
}

static void
on_addresses(bk_lookup *Py_UNUSED(lookup), int error, struct addrinfo *result,
             void *self)
{
    lookup_request *request = self;
    PyObject *value;

    if (error < 0) {
        value = bkpy_error_set(request->loop->state, error);
    }
    else {
        value = entries_to_python(result);
        freeaddrinfo(result);
    }
    request_finish(request, value);
}

/* bytes or None as a C string that lives as long as the object. */
static int
text_or_null(PyObject *value, const char *name, const char **ret_text)
{
    char *text;

    if (value == Py_None) {
        *ret_text = NULL;
        return 0;
    }
    if (!PyBytes_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be bytes or None, not %.200s",
                     name, Py_TYPE(value)->tp_name);
        return -1;
    }
    if (PyBytes_AsStringAndSize(value, &text, NULL) < 0) {
        return -1;
    }
    *ret_text = text;
    return 0;
}

static int
int_arg(PyObject *value, int *ret_number)
{
    int number = PyLong_AsInt(value);

    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    *ret_number = number;
    return 0;
}

static int
parse_hints(PyObject *const *values, struct addrinfo *ret_hints)
{
    struct addrinfo hints = {0};

    if (int_arg(values[0], &hints.ai_family) < 0 ||
        int_arg(values[1], &hints.ai_socktype) < 0 ||
        int_arg(values[2], &hints.ai_protocol) < 0 ||
        int_arg(values[3], &hints.ai_flags) < 0) {
        return -1;
    }
    *ret_hints = hints;
    return 0;
}

/* Why a lookup could not begin. Without a thread it is the exception that
 * threading has, as from asyncio's executor; a BlockingIOError would be taken
 * for "not ready yet". Always NULL. */
static PyObject *
raise_not_begun(LoopObject *loop, int code)
{
    if (code == -EAGAIN || code == -EPERM) {
        PyErr_SetString(PyExc_RuntimeError, "can't start new thread");
        return NULL;
    }
    return bkpy_error_set_memory(loop->state, code);
}

static PyObject *
start_getaddrinfo(LoopObject *loop, const char *host, const char *service,
                  const struct addrinfo *hints)
{
    PyObject *future = bkpy_loop_create_future(loop);
    lookup_request *request;
    int r;

    if (future == NULL) {
        return NULL;
    }
    request = request_new(loop, future);
    if (request == NULL) {
        Py_DECREF(future);
        return NULL;
    }
    r = bk_loop_getaddrinfo(loop->core, host, service, hints, on_addresses,
                            request, NULL);
    if (r < 0) {
        request_free(request);
        Py_DECREF(future);
        return raise_not_begun(loop, r);
    }
    return future;
}

/* _getaddrinfo(host, service, family, type, proto, flags) */
PyObject *
loop_getaddrinfo(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    LoopObject *self = LoopObject_CAST(op);
    const char *host;
    const char *service;
    struct addrinfo hints;

    if (nargs != 6 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "_getaddrinfo() takes 6 positional arguments");
        return NULL;
    }
    if (bkpy_loop_check_closed(self) < 0 ||
        text_or_null(args[0], "host", &host) < 0 ||
        text_or_null(args[1], "service", &service) < 0 ||
        parse_hints(args + 2, &hints) < 0) {
        return NULL;
    }
    return start_getaddrinfo(self, host, service, &hints);
}

/* --- getnameinfo --- */

static void
on_name(bk_lookup *Py_UNUSED(lookup), int error, const char *host,
        const char *service, void *self)
{
    lookup_request *request = self;
    PyObject *value;

    if (error < 0) {
        value = bkpy_error_set(request->loop->state, error);
    }
    else {
        value = Py_BuildValue("ss", host, service);
    }
    request_finish(request, value);
}

static PyObject *
start_getnameinfo(LoopObject *loop, const bk_address *address, int flags)
{
    PyObject *future = bkpy_loop_create_future(loop);
    lookup_request *request;
    int r;

    if (future == NULL) {
        return NULL;
    }
    request = request_new(loop, future);
    if (request == NULL) {
        Py_DECREF(future);
        return NULL;
    }
    r = bk_loop_getnameinfo(loop->core, &address->u.sa, address->len, flags,
                            on_name, request, NULL);
    if (r < 0) {
        request_free(request);
        Py_DECREF(future);
        return raise_not_begun(loop, r);
    }
    return future;
}

/* _getnameinfo(sockaddr, flags): a future, or None when the address is not a
 * plain literal, which the caller then gives to socket.getnameinfo(). */
PyObject *
loop_getnameinfo(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    LoopObject *self = LoopObject_CAST(op);
    bk_address address;
    int flags;
    int is_literal;

    if (nargs != 2 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "_getnameinfo() takes 2 positional arguments");
        return NULL;
    }
    if (bkpy_loop_check_closed(self) < 0 || int_arg(args[1], &flags) < 0) {
        return NULL;
    }
    is_literal = bkpy_address_from_python(args[0], &address);
    if (is_literal <= 0) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    return start_getnameinfo(self, &address, flags);
}
