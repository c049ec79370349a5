/* module.c -- becket._core: set-up and state.
 *
 * SPDX-License-Identifier: MIT
 */

#include "module.h"

#include <stddef.h>

static struct PyModuleDef core_module;

bkpy_state *
bkpy_state_of_module(PyObject *module)
{
    return PyModule_GetState(module);
}

bkpy_state *
bkpy_state_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &core_module);

    return module == NULL ? NULL : bkpy_state_of_module(module);
}

/* --- what we use of the standard library --- */

struct import {
    const char *module;
    const char *name;
    size_t place; /* offset in the state */
};

#define PLACE(member) offsetof(bkpy_state, member)

static const struct import imports[] = {
    {"asyncio", "Future", PLACE(FutureType)},
    {"asyncio", "Task", PLACE(TaskType)},
    {"asyncio.futures", "__dict__", PLACE(futures_names)},
    {"asyncio.tasks", "__dict__", PLACE(tasks_names)},
    {"asyncio", "Handle", PLACE(Handle)},
    {"asyncio", "TimerHandle", PLACE(TimerHandle)},
    {"asyncio", "BufferedProtocol", PLACE(BufferedProtocol)},
    {"asyncio", "StreamReader", PLACE(StreamReader)},
    {"asyncio", "StreamReaderProtocol", PLACE(StreamReaderProtocol)},
    {"asyncio", "StreamWriter", PLACE(StreamWriter)},
    {"asyncio", "CancelledError", PLACE(CancelledError)},
    {"socket", "socket", PLACE(SocketType)},
    {"_socket", "socket", PLACE(BaseSocketType)},
    {"socket", "gaierror", PLACE(gaierror)},
    {"_thread", "allocate_lock", PLACE(Lock)},
    {"becket._stand_in", "begin", PLACE(begin_on_stand_in)},
    {"becket._stand_in", "CLOSED_TRANSPORT", PLACE(closed_transport)},
};

/* What a Python may lack: no ssl, an older asyncio. */
static const struct import optional_imports[] = {
    {"ssl", "SSLSocket", PLACE(SSLSocket)},
    {"ssl", "MemoryBIO", PLACE(MemoryBIO)},
    {"ssl", "SSLObject", PLACE(SSLObject)},
    {"ssl", "SSLError", PLACE(SSLError)},
    {"ssl", "SSLWantReadError", PLACE(SSLWantReadError)},
    {"ssl", "SSLSyscallError", PLACE(SSLSyscallError)},
    {"ssl", "CertificateError", PLACE(CertificateError)},
    {"asyncio.events", "_ThreadSafeHandle", PLACE(ThreadSafeHandle)},
};

static PyObject *
import_attr(const struct import *import)
{
    PyObject *module = PyImport_ImportModule(import->module);
    PyObject *attr = NULL;

    if (module != NULL) {
        attr = PyObject_GetAttrString(module, import->name);
        Py_DECREF(module);
    }
    return attr;
}

static PyObject **
place_in(bkpy_state *state, const struct import *import)
{
    return (PyObject **)(void *)((char *)state + import->place);
}

static int
import_required(bkpy_state *state)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(imports); i++) {
        PyObject **place = place_in(state, &imports[i]);

        *place = import_attr(&imports[i]);
        if (*place == NULL) {
            return -1;
        }
    }
    return 0;
}

static int
import_optional(bkpy_state *state)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(optional_imports); i++) {
        PyObject **place = place_in(state, &optional_imports[i]);

        *place = import_attr(&optional_imports[i]);
        if (*place == NULL && !PyErr_ExceptionMatches(PyExc_ImportError) &&
            !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
    }
    return 0;
}

/* Future and Task are called and looked at as types. */
static int
check_types(const bkpy_state *state)
{
    const PyTypeObject *const types[] = {state->FutureType, state->TaskType,
                                         state->SocketType,
                                         state->BaseSocketType};

    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++) {
        if (!PyType_Check((PyObject *)(uintptr_t)types[i])) {
            PyErr_SetString(PyExc_ImportError,
                            "asyncio or socket have been replaced by what "
                            "becket cannot use");
            return -1;
        }
    }
    return 0;
}

static int
intern_names(bkpy_state *state)
{
#define X(name)                                                                \
    state->str_##name = PyUnicode_InternFromString(#name);                     \
    if (state->str_##name == NULL) {                                           \
        return -1;                                                             \
    }
    BKPY_NAMES(X)
#undef X
    state->names_loop = PyTuple_Pack(1, state->str_loop);
    state->names_loop_name_context =
        PyTuple_Pack(3, state->str_loop, state->str_name, state->str_context);
    state->names_wrap_bio =
        Py_BuildValue("(ss)", "server_side", "server_hostname");
    return state->names_loop == NULL ||
                   state->names_loop_name_context == NULL ||
                   state->names_wrap_bio == NULL
               ? -1
               : 0;
}

/* --- set-up --- */

/* In this order: types are made before what uses them. */
static int (*const setups[])(PyObject *module, bkpy_state *state) = {
    bkpy_handle_setup,
    bkpy_timer_handle_setup,
    bkpy_watch_setup,
    bkpy_loop_setup,
    bkpy_future_setup,
    bkpy_socket_setup,
    bkpy_sock_op_setup,
    bkpy_server_setup,
    bkpy_stream_transport_setup,
    bkpy_tls_protocol_setup,
    bkpy_tls_transport_setup,
    bkpy_audit_setup,
    bkpy_stream_method_setup,
    bkpy_stream_op_setup,
    bkpy_stream_attribute_setup,
    bkpy_protocol_setup,
    bkpy_exchange_setup,
    bkpy_streams_setup,
    bkpy_datagram_transport_setup,
};

static int
core_exec(PyObject *module)
{
    bkpy_state *state = bkpy_state_of_module(module);

    if (intern_names(state) < 0 || import_required(state) < 0 ||
        import_optional(state) < 0 || check_types(state) < 0) {
        return -1;
    }
    state->support = PyImport_ImportModule("becket._support");
    if (state->support == NULL) {
        return -1;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(setups); i++) {
        if (setups[i](module, state) < 0) {
            return -1;
        }
    }
    return PyModule_AddStringConstant(module, "__version__", BECKET_VERSION);
}

/* Owned members of the state that garbage collection has to see. The names
 * are strings and hold nothing. */
static const size_t members[] = {
    PLACE(LoopType),
    PLACE(HandleType),
    PLACE(TimerHandleType),
    PLACE(WatchType),
    PLACE(StreamTransportType),
    PLACE(DatagramTransportType),
    PLACE(TlsProtocolType),
    PLACE(TlsTransportType),
    PLACE(ServerType),
    PLACE(SockOpType),
    PLACE(StreamMethodType),
    PLACE(StreamOpType),
    PLACE(StreamAttributeType),
    PLACE(ConnectedCallbackType),
    PLACE(ReaderType),
    PLACE(WriterType),
    PLACE(FutureType),
    PLACE(TaskType),
    PLACE(futures_names),
    PLACE(tasks_names),
    PLACE(Handle),
    PLACE(TimerHandle),
    PLACE(ThreadSafeHandle),
    PLACE(BufferedProtocol),
    PLACE(StreamReader),
    PLACE(StreamReaderProtocol),
    PLACE(StreamWriter),
    PLACE(SocketType),
    PLACE(BaseSocketType),
    PLACE(SSLSocket),
    PLACE(MemoryBIO),
    PLACE(SSLObject),
    PLACE(SSLError),
    PLACE(SSLWantReadError),
    PLACE(SSLSyscallError),
    PLACE(CertificateError),
    PLACE(gaierror),
    PLACE(CancelledError),
    PLACE(names_loop),
    PLACE(names_loop_name_context),
    PLACE(names_wrap_bio),
    PLACE(Lock),
    PLACE(support),
#define X(cls, name) PLACE(original_##name),
    BKPY_STREAM_FUNCTIONS(X)
#undef X
        PLACE(stream_reader_property),
    PLACE(begin_on_stand_in),
    PLACE(closed_transport),
    PLACE(future_set_result),
    PLACE(future_done),
    PLACE(stop_iteration),
};

static PyObject **
member_in(bkpy_state *state, size_t i)
{
    return (PyObject **)(void *)((char *)state + members[i]);
}

static int
core_traverse(PyObject *module, visitproc visit, void *arg)
{
    bkpy_state *state = bkpy_state_of_module(module);

    for (size_t i = 0; i < Py_ARRAY_LENGTH(members); i++) {
        Py_VISIT(*member_in(state, i));
    }
    return 0;
}

static int
core_clear(PyObject *module)
{
    bkpy_state *state = bkpy_state_of_module(module);

    for (size_t i = 0; i < Py_ARRAY_LENGTH(members); i++) {
        Py_CLEAR(*member_in(state, i));
    }
#define X(name) Py_CLEAR(state->str_##name);
    BKPY_NAMES(X)
#undef X
    return 0;
}

static void
core_free(void *module)
{
    (void)core_clear(module);
}

/* Which interpreters may load it and that it needs the GIL is left at the
 * defaults until the tests for more have passed. */
static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
    {0, NULL},
};

static struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "becket._core",
    .m_doc = "becket's data plane. Use the package becket.",
    .m_size = sizeof(bkpy_state),
    .m_slots = core_slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&core_module);
}
