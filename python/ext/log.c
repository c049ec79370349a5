/* log.c -- asyncio's logger.
 *
 * SPDX-License-Identifier: MIT
 *
 * It is looked up each time: what is logged is rare, and tests replace it.
 */

#include "log.h"

#include <stdarg.h>

/* asyncio.log.logger.level; NULL with an exception. */
static PyObject *
find_method(const char *level)
{
    PyObject *module = PyImport_ImportModule("asyncio.log");
    PyObject *logger;
    PyObject *method;

    if (module == NULL) {
        return NULL;
    }
    logger = PyObject_GetAttrString(module, "logger");
    Py_DECREF(module);
    if (logger == NULL) {
        return NULL;
    }
    method = PyObject_GetAttrString(logger, level);
    Py_DECREF(logger);
    return method;
}

static PyObject *
call_logger(const char *level, PyObject *args, PyObject *exc)
{
    PyObject *method = find_method(level);
    PyObject *kwargs = NULL;
    PyObject *result = NULL;

    if (method == NULL) {
        return NULL;
    }
    if (exc != NULL) {
        kwargs = Py_BuildValue("{s:O}", "exc_info", exc);
    }
    if (exc == NULL || kwargs != NULL) {
        result = PyObject_Call(method, args, kwargs);
    }
    Py_XDECREF(kwargs);
    Py_DECREF(method);
    return result;
}

void
bkpy_log(const char *level, PyObject *exc, const char *format, ...)
{
    PyObject *args;
    PyObject *result = NULL;
    va_list list;

    assert(PyErr_Occurred() == NULL);
    va_start(list, format);
    args = Py_VaBuildValue(format, list);
    va_end(list);
    if (args != NULL) {
        result = call_logger(level, args, exc);
        Py_DECREF(args);
    }
    if (result == NULL) {
        PyErr_WriteUnraisable(NULL);
    }
    Py_XDECREF(result);
}
