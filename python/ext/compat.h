/* compat.h -- the only file that looks at the Python version.
 *
 * SPDX-License-Identifier: MIT
 *
 * First what older headers lack, under the names it has in newer ones; then
 * the table of behaviours in which asyncio differs between versions: becket
 * behaves as the Python that runs it.
 */
#ifndef BKPY_COMPAT_H
#define BKPY_COMPAT_H

#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <structmember.h>

/* --- the C API --- */

#if PY_VERSION_HEX < 0x030C0000 /* FIXME(py 3.11): remove. */
/* The exception that is set, which is cleared; NULL if there is none. */
static inline PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        (void)PyException_SetTraceback(value, traceback);
    }
    Py_DECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* Takes the reference. */
static inline void
PyErr_SetRaisedException(PyObject *exc)
{
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exc)), exc,
                  PyException_GetTraceback(exc));
}

#define Py_T_PYSSIZET T_PYSSIZET
#define Py_T_DOUBLE T_DOUBLE
#define Py_T_BOOL T_BOOL
#define Py_T_OBJECT_EX T_OBJECT_EX
#define Py_READONLY READONLY
#endif

#if PY_VERSION_HEX < 0x030D0000 /* FIXME(py 3.12): remove. */
/* 1 and a new reference, 0 and NULL if there is none, -1 on an exception. */
static inline int
PyObject_GetOptionalAttr(PyObject *obj, PyObject *name, PyObject **ret)
{
    *ret = PyObject_GetAttr(obj, name);
    if (*ret != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

static inline int
PyObject_GetOptionalAttrString(PyObject *obj, const char *name, PyObject **ret)
{
    *ret = PyObject_GetAttrString(obj, name);
    if (*ret != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

static inline int
PyDict_GetItemRef(PyObject *dict, PyObject *key, PyObject **ret)
{
    PyObject *item = PyDict_GetItemWithError(dict, key);

    *ret = Py_XNewRef(item);
    if (item != NULL) {
        return 1;
    }
    return PyErr_Occurred() != NULL ? -1 : 0;
}

/* 1 and a new reference, 0 and NULL once it is dead, -1 on an exception. */
static inline int
PyWeakref_GetRef(PyObject *ref, PyObject **ret)
{
    PyObject *obj = PyWeakref_GetObject(ref);

    *ret = NULL;
    if (obj == NULL) {
        return -1;
    }
    if (obj == Py_None) {
        return 0;
    }
    *ret = Py_NewRef(obj);
    return 1;
}

static inline int
PyLong_AsInt(PyObject *obj)
{
    long value = PyLong_AsLong(obj);

    if (value > INT_MAX || value < INT_MIN) {
        PyErr_SetString(PyExc_OverflowError,
                        "Python int too large to convert to C int");
        return -1;
    }
    return (int)value;
}
#endif

/* Changes whenever the type or a base of it changes; 0 when that is unknown.
 * For caches of what a class overrides. */
static inline unsigned
bkpy_type_version(const PyTypeObject *type)
{
#ifdef Py_GIL_DISABLED
    (void)type;
    return 0;
#else
    return type->tp_version_tag;
#endif
}

/* Freed objects may be used again from a list of our own. Not on free-threaded
 * builds: their collector walks the heap and would find them. */
#ifdef Py_GIL_DISABLED
#define BKPY_HAS_FREE_LISTS 0
#else
#define BKPY_HAS_FREE_LISTS 1
#endif

/* --- what differs between versions of asyncio --- */

/* Handle.get_context(). */
#define BKPY_HAS_HANDLE_CONTEXT (PY_VERSION_HEX >= 0x030C0000)

/* call_soon_threadsafe() gives events._ThreadSafeHandle, whose cancel() and
 * cancelled() wait while another thread runs the callback. */
#define BKPY_HAS_THREADSAFE_HANDLE (PY_VERSION_HEX >= 0x030E0000)

/* How create_task() treats a task factory. */
typedef enum {
    /* factory(loop, coro[, context=context]), then task.set_name(name); no
     * other keywords. */
    BKPY_FACTORY_SETS_NAME,
    /* The same, but further keywords are handed on. */
    BKPY_FACTORY_SETS_NAME_AND_KWARGS,
    /* factory(loop, coro, **kwargs) just as given. */
    BKPY_FACTORY_KWARGS,
} bkpy_factory_rule;

/* Asked at run time: it changed within a minor version. */
static inline bkpy_factory_rule
bkpy_task_factory_rule(void)
{
    if (Py_Version >= 0x030E0000) {
        return BKPY_FACTORY_KWARGS;
    }
    return Py_Version >= 0x030D0300 ? BKPY_FACTORY_SETS_NAME_AND_KWARGS
                                    : BKPY_FACTORY_SETS_NAME;
}

/* task.set_name() is optional for the tasks of a factory: asyncio uses
 * _set_task_name(), which looks for it. */
#define BKPY_FACTORY_SET_NAME_IS_OPTIONAL (PY_VERSION_HEX < 0x030C0000)

#endif
