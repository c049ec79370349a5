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

/* --- the C API --- */

#if PY_VERSION_HEX < 0x030C0000 /* FIXME(py 3.11): remove. */
#    include <structmember.h>

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

/* Takes the reference; NULL clears. */
static inline void
PyErr_SetRaisedException(PyObject *exc)
{
    if (exc == NULL) {
        PyErr_Clear();
        return;
    }
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exc)), exc,
                  PyException_GetTraceback(exc));
}

#    define Py_T_PYSSIZET  T_PYSSIZET
#    define Py_T_DOUBLE    T_DOUBLE
#    define Py_T_BOOL      T_BOOL
#    define Py_T_OBJECT_EX T_OBJECT_EX
#    define Py_READONLY    READONLY
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

/* Take the exception that is set and make it the one being handled, as in an
 * except block (sys.exc_info() shows it). *ret_before is what was handled
 * before; give it to bkpy_end_handling(). New reference. */
static inline PyObject *
bkpy_begin_handling(PyObject **ret_before)
{
    PyObject *exc = PyErr_GetRaisedException();

    *ret_before = PyErr_GetHandledException();
    PyErr_SetHandledException(exc);
    return exc;
}

/* Takes the reference; an exception that is set stays. */
static inline void
bkpy_end_handling(PyObject *before)
{
    PyErr_SetHandledException(before);
    Py_XDECREF(before);
}

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

/* The __dict__ of an object, if it has one by now; borrowed. NULL says so and
 * sets no exception. Before 3.13 asking makes it. */
static inline PyObject *
bkpy_instance_dict(PyObject *object)
{
    PyObject **place = _PyObject_GetDictPtr(object);

    return place == NULL ? NULL : *place;
}

/* Whether an object has attributes of its own or weak references, where those
 * are in the words before the collector's header; not with free threads. */
static inline bool
bkpy_has_managed_extras(PyObject *object)
{
    unsigned long managed = 0;
    void *const *words = (void *const *)(const void *)object;

#ifdef Py_TPFLAGS_MANAGED_DICT
    managed |= Py_TPFLAGS_MANAGED_DICT;
#endif
#ifdef Py_TPFLAGS_MANAGED_WEAKREF
    managed |= Py_TPFLAGS_MANAGED_WEAKREF;
#endif
    return (Py_TYPE(object)->tp_flags & managed) != 0 &&
           (words[-3] != NULL || words[-4] != NULL);
}

/* Whether this weak reference is to an object that is alive. */
static inline bool
bkpy_weakref_is_to(PyObject *ref, const PyObject *object)
{
    return ((PyWeakReference *)ref)->wr_object == object;
}

/* Changes whenever the dict does; 0 when that is unknown. */
static inline uint64_t
bkpy_dict_version(PyObject *dict)
{
#if PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)
#    pragma GCC diagnostic push
#    pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    return ((PyDictObject *)dict)->ma_version_tag;
#    pragma GCC diagnostic pop
#else
    (void)dict;
    return 0;
#endif
}

/* Freed objects may be used again from a list of our own. Not on free-threaded
 * builds: their collector walks the heap and would find them. */
#ifdef Py_GIL_DISABLED
#    define BKPY_HAS_FREE_LISTS 0
#else
#    define BKPY_HAS_FREE_LISTS 1
#endif

/* PyLong_AsSsize_t() of an exact int, without a call where it is small. */
static inline Py_ssize_t
bkpy_long_as_size(PyObject *number)
{
#if PY_VERSION_HEX >= 0x030C0000
    const PyLongObject *value = (const PyLongObject *)number;

    if (PyUnstable_Long_IsCompact(value)) {
        return PyUnstable_Long_CompactValue(value);
    }
#endif
    return PyLong_AsSsize_t(number);
}

/* A dict may share its keys with others and then has an array of values, which
 * may be read: with free threads only the owner of its lock might. */
#ifdef Py_GIL_DISABLED
#    define BKPY_HAS_SHARED_KEYS 0
#else
#    define BKPY_HAS_SHARED_KEYS 1
#endif

/* Objects keep their attributes inside, until their class is exchanged, and the
 * interpreter then calls their methods the short way. */
#define BKPY_HAS_INLINE_ATTRS                                                  \
    (BKPY_HAS_SHARED_KEYS && PY_VERSION_HEX >= 0x030D0000)

/* Make a bytearray smaller without giving memory back, which cannot fail. Not
 * where its bytes are an object of their own. */
#define BKPY_HAS_BYTEARRAY_TRIM (PY_VERSION_HEX < 0x030F0000)

static inline void
bkpy_bytearray_trim(PyObject *bytearray, Py_ssize_t size)
{
    Py_SET_SIZE(bytearray, size);
    PyByteArray_AS_STRING(bytearray)[size] = '\0';
}

/* Make bytes to which we have the only reference hold so many others, not more
 * than they did. The caller fills them. */
static inline void
bkpy_bytes_renew(PyObject *bytes, Py_ssize_t size)
{
    assert(PyBytes_CheckExact(bytes));
    assert(Py_REFCNT(bytes) == 1);
    assert(size <= PyBytes_GET_SIZE(bytes));
    Py_SET_SIZE(bytes, size);
    PyBytes_AS_STRING(bytes)[size] = '\0';
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    ((PyBytesObject *)bytes)->ob_shash = -1; /* not known */
#pragma GCC diagnostic pop
}

/* Functions that are seldom called: apart from those that call them, which need
 * then save no registers for them. */
#define BKPY_COLD __attribute__((cold, noinline))

/* Functions through which each message goes: kept together, and compiled for
 * speed, although most of what they ask might turn out otherwise. */
#define BKPY_HOT __attribute__((hot))

/* --- what differs between versions of asyncio --- */

/* Handle.get_context(). */
#define BKPY_HAS_HANDLE_CONTEXT (PY_VERSION_HEX >= 0x030C0000)

/* call_soon_threadsafe() gives events._ThreadSafeHandle, whose cancel() and
 * cancelled() wait while another thread runs the callback. */
#define BKPY_HAS_THREADSAFE_HANDLE (PY_VERSION_HEX >= 0x030E0000)

/* A stream transport has one context for its whole life; before, each of its
 * callbacks runs in a copy of the context in which it was asked for. */
#define BKPY_TRANSPORT_HAS_CONTEXT (PY_VERSION_HEX >= 0x030F0000)

/* DatagramTransport.sendto(b'') sends an empty datagram; before, it does
 * nothing. Since then a datagram that waits counts UDP's header as well. */
#define BKPY_SENDS_EMPTY_DATAGRAMS (PY_VERSION_HEX >= 0x030D0000)
#define BKPY_DATAGRAM_HEADER_BYTES (BKPY_SENDS_EMPTY_DATAGRAMS ? 8 : 0)

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

/* Asked at run time, since it changed within a minor version: 3.13.3 had the
 * rule of 3.14, 3.13.4 took it back and kept the keywords. */
static inline bkpy_factory_rule
bkpy_task_factory_rule(void)
{
    unsigned long micro = Py_Version >> 8;

    if (micro >= 0x030E00 || micro == 0x030D03) {
        return BKPY_FACTORY_KWARGS;
    }
    return micro >= 0x030D04 ? BKPY_FACTORY_SETS_NAME_AND_KWARGS
                             : BKPY_FACTORY_SETS_NAME;
}

/* What inspect.signature() shows of it. */
#if PY_VERSION_HEX >= 0x030E0000
#    define BKPY_CREATE_TASK_SIGNATURE "create_task($self, /, coro, **kwargs)"
#else
#    define BKPY_CREATE_TASK_SIGNATURE                                         \
        "create_task($self, /, coro, *, name=None, context=None)"
#endif

/* Without a name set_name() is not called then, and a task without the method
 * only gets a warning. */
#define BKPY_FACTORY_NAMES_SOFTLY (PY_VERSION_HEX < 0x030D0000)

/* What transport.write() says of data of another type. */
#if PY_VERSION_HEX >= 0x030E0000
#    define BKPY_WRITE_EXPECTS                                                 \
        "data argument must be a bytes, bytearray, or memoryview object"
#else
#    define BKPY_WRITE_EXPECTS "data argument must be a bytes-like object"
#endif

/* transport.writelines(lines) is write(b''.join(lines)); later ones send the
 * pieces as they are, and check them as memoryview() does. */
#define BKPY_WRITELINES_JOINS (PY_VERSION_HEX < 0x030C0000)

/* A coroutine tells its state: inspect.getcoroutinestate() asks for it. */
#define BKPY_COROUTINES_HAVE_STATE (PY_VERSION_HEX >= 0x030F0000)

/* is_closing() of a TLS transport is true, too, while the one below closes. */
static inline bool
bkpy_tls_closes_with_carrier(void)
{
    unsigned long micro = Py_Version >> 8;

    return micro >= 0x030D01 || (micro >= 0x030C08 && micro < 0x030D00);
}

/* ssl_shutdown_timeout holds until connection_lost(), also when the peer was
 * the first to end. Before, it ends with the goodbye. */
static inline bool
bkpy_tls_shutdown_timeout_lasts(void)
{
    unsigned long micro = Py_Version >> 8;

    return micro >= 0x030F02 || (micro >= 0x030E0A && micro < 0x030F00);
}

/* The structs of the module _ssl begin as tls_openssl.c has it. */
#define BKPY_KNOWS_SSL_LAYOUT (PY_VERSION_HEX < 0x03100000)

/* asyncio.streams is what streams_attempt.c does. FIXME(py 3.16): compare. */
#define BKPY_KNOWS_STREAMS (PY_VERSION_HEX < 0x03100000)

#endif
