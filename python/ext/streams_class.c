/* streams_class.c -- our classes of asyncio's StreamReader and StreamWriter.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * asyncio makes readers and writers of its own classes. Those that turn up at
 * one of our transports are given a subclass of ours that adds no state, only
 * methods; everything that belongs to them stays in their __dict__, where
 * asyncio's methods find it as well.
 *
 * Users may replace any method or attribute, of the class or of the instance,
 * at any time; then asyncio's Python code has to run. The classes are looked at
 * again whenever the version of the type has changed, which any change to it
 * or its bases does. The instance is looked at each time: asyncio's attributes,
 * in the order in which __init__() made them, and no others.
 */

#include "streams.h"

#include <stddef.h>
#include <string.h>

#include "tls.h"

typedef unsigned bkpy_place; /* an offset in the state */

#define PLACE(member) ((bkpy_place)offsetof(bkpy_state, member))

static inline PyObject *
at(const bkpy_state *state, bkpy_place place)
{
    return *(PyObject *const *)(const void *)((const char *)state + place);
}

/* --- what is asyncio's --- */

/* A method: where the state has its name and asyncio's function. */
struct function {
    bkpy_place cls;
    bkpy_place name;
    bkpy_place original;
};

static const struct function functions[] = {
#define X(cls, name) {PLACE(cls), PLACE(str_##name), PLACE(original_##name)},
    BKPY_STREAM_FUNCTIONS(X)
#undef X
};

/* The method of an asyncio class, if it is still asyncio's own: a function
 * that was defined in the module of that class. Else NULL without an
 * exception, and becket has no classes of its own. */
static PyObject *
find_original(PyObject *cls, PyObject *name, PyObject *namespace)
{
    PyObject *function = PyObject_GetAttr(cls, name);

    if (function == NULL) {
        PyErr_Clear();
        return NULL;
    }
    if (!PyFunction_Check(function) ||
        PyFunction_GET_GLOBALS(function) != namespace) {
        Py_CLEAR(function);
    }
    return function;
}

/* True if all of them are there. */
static bool
find_originals(bkpy_state *state, PyObject *namespace)
{
    bool is_complete = true;

    for (size_t i = 0; i < Py_ARRAY_LENGTH(functions); i++) {
        PyObject *original =
            find_original(at(state, functions[i].cls),
                          at(state, functions[i].name), namespace);

        *(PyObject **)(void *)((char *)state + functions[i].original) =
            original;
        is_complete &= original != NULL;
    }
    return is_complete;
}

/* cls.name is this object; for NULL: there is none. */
static bool
has_in_class(PyObject *cls, PyObject *name, PyObject *expected)
{
    PyObject *found = PyObject_GetAttr(cls, name);

    PyErr_Clear();
    Py_XDECREF(found);
    return found == expected;
}

/* cls.name is asyncio's function, or what stands for it in a class of ours. */
static bool
is_original(const bkpy_state *state, PyObject *cls, PyObject *name,
            PyObject *original)
{
    PyObject *found = PyObject_GetAttr(cls, name);
    bool is_ours = found != NULL && Py_TYPE(found) == state->StreamMethodType &&
                   StreamMethodObject_CAST(found)->original == original;

    PyErr_Clear();
    Py_XDECREF(found);
    return is_ours || found == original;
}

/* base is one of asyncio's classes, cls the same or ours. */
static bool
has_originals(const bkpy_state *state, PyObject *base, PyObject *cls)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(functions); i++) {
        PyObject *name = at(state, functions[i].name);
        PyObject *original = at(state, functions[i].original);

        if (at(state, functions[i].cls) == base &&
            (!has_in_class(base, name, original) ||
             !is_original(state, cls, name, original))) {
            return false;
        }
    }
    return ((PyTypeObject *)cls)->tp_getattro == PyObject_GenericGetAttr &&
           ((PyTypeObject *)cls)->tp_setattro == PyObject_GenericSetAttr;
}

static bool
has_no_attrs(PyObject *cls, PyObject *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!has_in_class(cls, names[i], NULL)) {
            return false;
        }
    }
    return true;
}

/* --- guards --- */

/* Read the version after the look-ups, which give a changed type its new
 * one. */
static bool
learn(bkpy_class_guard *guard, const PyTypeObject *type, bool is_usual)
{
    guard->is_usual = is_usual;
    guard->version = bkpy_type_version(type);
    return is_usual;
}

BKPY_COLD bool
bkpy_reader_learn(bkpy_state *state)
{
    PyObject *cls = (PyObject *)state->ReaderType;

    return learn(&state->reader_guard, state->ReaderType,
                 has_originals(state, state->StreamReader, cls) &&
                     has_no_attrs(cls, state->reader_names, BKPY_READER_ATTRS));
}

BKPY_COLD bool
bkpy_writer_learn(bkpy_state *state)
{
    PyObject *cls = (PyObject *)state->WriterType;

    return learn(&state->writer_guard, state->WriterType,
                 has_originals(state, state->StreamWriter, cls) &&
                     has_no_attrs(cls, state->writer_names, BKPY_WRITER_ATTRS));
}

BKPY_COLD bool
bkpy_protocol_learn(bkpy_state *state)
{
    PyObject *cls = state->StreamReaderProtocol;
    PyObject *const names[] = {
        state->str__connection_lost,
        state->str__over_ssl,
        state->str__paused,
        state->str__stream_reader_wr,
    };

    return learn(&state->protocol_guard, (PyTypeObject *)cls,
                 has_originals(state, cls, cls) &&
                     has_in_class(cls, state->str__stream_reader,
                                  state->stream_reader_property) &&
                     has_no_attrs(cls, names, Py_ARRAY_LENGTH(names)));
}

/* The type's own method, not one that somebody has put in its place. */
static bool
has_own_method(PyTypeObject *type, PyObject *name)
{
    PyObject *found = PyObject_GetAttr((PyObject *)type, name);
    bool is_own = found != NULL && Py_IS_TYPE(found, &PyMethodDescr_Type) &&
                  PyDescr_TYPE(found) == type &&
                  PyUnicode_Compare(PyDescr_NAME(found), name) == 0;

    PyErr_Clear();
    Py_XDECREF(found);
    return is_own;
}

BKPY_COLD bool
bkpy_transport_learn(bkpy_state *state, PyTypeObject *type)
{
    bkpy_class_guard *guard = type == state->StreamTransportType
                                  ? &state->transport_guard
                                  : &state->tls_transport_guard;

    return learn(guard, type,
                 has_own_method(type, state->str_write) &&
                     has_own_method(type, state->str_is_closing) &&
                     type->tp_getattro == PyObject_GenericGetAttr);
}

/* --- adoption --- */

static bool
set_class(bkpy_state *state, PyObject *obj, PyTypeObject *cls)
{
    if (PyObject_SetAttr(obj, state->str___class__, (PyObject *)cls) < 0) {
        PyErr_Clear();
        return false;
    }
    return true;
}

bool
bkpy_reader_look_at_new(bkpy_state *state, PyObject *reader,
                        bkpy_attrs *ret_attrs)
{
    return (PyObject *)Py_TYPE(reader) == state->StreamReader &&
           state->ReaderType != NULL && bkpy_reader_is_usual(state) &&
           bkpy_attrs_look_at_reader(state, reader, ret_attrs) &&
           PyObject_TypeCheck(ret_attrs->of[BKPY_READER_LOOP], state->LoopType);
}

bool
bkpy_reader_adopt(bkpy_state *state, PyObject *reader)
{
    bkpy_attrs attrs;

    return Py_TYPE(reader) == state->ReaderType ||
           (bkpy_reader_look_at_new(state, reader, &attrs) &&
            set_class(state, reader, state->ReaderType));
}

static bool
is_own_transport(const bkpy_state *state, PyObject *transport)
{
    return Py_TYPE(transport) == state->StreamTransportType ||
           Py_TYPE(transport) == state->TlsTransportType;
}

bool
bkpy_writer_look_at_new(bkpy_state *state, PyObject *writer,
                        bkpy_attrs *ret_attrs)
{
    return (PyObject *)Py_TYPE(writer) == state->StreamWriter &&
           bkpy_writer_is_usual(state) &&
           bkpy_attrs_look_at_writer(state, writer, ret_attrs) &&
           is_own_transport(state, ret_attrs->of[BKPY_WRITER_TRANSPORT]);
}

void
bkpy_writer_is_found(const bkpy_state *state, PyObject *transport)
{
    if (Py_TYPE(transport) == state->StreamTransportType) {
        StreamTransportObject_CAST(transport)->seeks_writer = false;
    }
    else if (Py_TYPE(transport) == state->TlsTransportType) {
        TlsTransportObject_CAST(transport)->seeks_writer = false;
    }
}

static bool
adopt_writer(bkpy_state *state, PyObject *transport, PyObject *writer)
{
    bkpy_attrs attrs;

    return bkpy_writer_look_at_new(state, writer, &attrs) &&
           attrs.of[BKPY_WRITER_TRANSPORT] == transport &&
           set_class(state, writer, state->WriterType);
}

/* The argument of asyncio's StreamWriter.write(), if that is what runs. */
static PyObject *
find_calling_writer(bkpy_state *state)
{
    PyFrameObject *frame = PyEval_GetFrame();
    PyCodeObject *code;
    PyObject *locals;
    PyObject *writer = NULL;

    if (frame == NULL) {
        return NULL;
    }
    code = PyFrame_GetCode(frame);
    Py_DECREF(code); /* the frame keeps it */
    if ((PyObject *)code != PyFunction_GetCode(state->original_write)) {
        return NULL;
    }
    locals = PyFrame_GetLocals(frame);
    if (locals != NULL) {
        writer = PyObject_GetItem(locals, state->str_self);
        Py_DECREF(locals);
    }
    PyErr_Clear();
    return writer;
}

void
bkpy_writer_adopt_caller(LoopObject *loop, PyObject *transport)
{
    bkpy_state *state = loop->state;
    PyObject *writer;

    bkpy_writer_is_found(state, transport);
    if (state->WriterType == NULL || loop->is_debug) {
        return;
    }
    writer = find_calling_writer(state);
    if (writer != NULL) {
        (void)adopt_writer(state, transport, writer);
        Py_DECREF(writer);
    }
}

/* --- set-up --- */

static int
add_method(bkpy_state *state, PyObject *members, const bkpy_stream_kind *kind,
           PyObject *base)
{
    PyObject *original = PyObject_GetAttrString(base, kind->name);
    PyObject *method = NULL;
    int r = -1;

    if (original != NULL) {
        method = bkpy_stream_method_new(state, kind, original);
        Py_DECREF(original);
    }
    if (method != NULL) {
        r = PyDict_SetItemString(members, kind->name, method);
        Py_DECREF(method);
    }
    return r;
}

static int
add_attribute(bkpy_state *state, PyObject *members, PyObject *name,
              PyObject *base)
{
    PyObject *attribute = bkpy_stream_attribute_new(state, name, base);
    int r = attribute == NULL ? -1 : PyDict_SetItem(members, name, attribute);

    Py_XDECREF(attribute);
    return r;
}

/* The same around a descriptor of the class cls. */
static int
add_wrapper(bkpy_state *state, PyObject *members, PyObject *cls, PyObject *name)
{
    PyObject *dict = PyObject_GetAttr(cls, state->str___dict__);
    PyObject *base = dict == NULL ? NULL : PyObject_GetItem(dict, name);
    int r = -1;

    if (base != NULL && Py_TYPE(base)->tp_descr_set != NULL) {
        r = add_attribute(state, members, name, base);
    }
    else if (base != NULL) {
        PyErr_Format(PyExc_TypeError, "%R is no attribute", base);
    }
    Py_XDECREF(dict);
    Py_XDECREF(base);
    return r;
}

static int
add_attributes(bkpy_state *state, PyObject *members)
{
    if (add_attribute(state, members, state->str__buffer, NULL) < 0 ||
        add_attribute(state, members, state->str__transport, NULL) < 0 ||
        add_wrapper(state, members, (PyObject *)&PyBaseObject_Type,
                    state->str___class__) < 0) {
        return -1;
    }
    return add_wrapper(state, members, state->StreamReader,
                       state->str___dict__);
}

static PyObject *
make_members(bkpy_state *state, PyObject *base, bool is_writer)
{
    PyObject *members = Py_BuildValue("{s:(),s:s,s:s}", "__slots__",
                                      "__module__", "becket._core", "__doc__",
                                      "asyncio's, on a transport of becket's.");

    for (const bkpy_stream_kind *kind = bkpy_stream_kinds;
         kind->name != NULL && members != NULL; kind++) {
        if (kind->is_of_writer == is_writer &&
            add_method(state, members, kind, base) < 0) {
            Py_CLEAR(members);
        }
    }
    if (members != NULL && !is_writer && add_attributes(state, members) < 0) {
        Py_CLEAR(members);
    }
    return members;
}

/* class name(base): __slots__ = (), and the methods. New reference. */
static PyTypeObject *
make_class(bkpy_state *state, PyObject *base, bool is_writer)
{
    PyObject *members = make_members(state, base, is_writer);
    PyObject *cls;

    if (members == NULL) {
        return NULL;
    }
    cls = PyObject_CallFunction((PyObject *)&PyType_Type, "N(O)O",
                                PyObject_GetAttrString(base, "__name__"), base,
                                members);
    Py_DECREF(members);
    return (PyTypeObject *)cls;
}

/* An instance without any attributes, as copy.copy() makes one. */
static PyObject *
make_bare(PyObject *cls)
{
    return PyObject_CallMethod((PyObject *)&PyBaseObject_Type, "__new__", "O",
                               cls);
}

/* The end of an instance with attributes of nonsense: not as a writer, whose
 * finalizer would call its transport. */
static void
drop_bare(bkpy_state *state, PyObject *obj)
{
    (void)set_class(state, obj, (PyTypeObject *)state->StreamReader);
    Py_DECREF(obj);
}

/* Try out whether an instance of base can become one of cls, and learn how the
 * attributes of both are kept. 1, 0, or -1 with an exception. */
static int
try_class(bkpy_state *state, PyObject *base, PyTypeObject *cls,
          PyObject *const *names, size_t count, bkpy_attrs_layout *ret_layouts)
{
    PyObject *theirs = make_bare(base);
    PyObject *ours = make_bare((PyObject *)cls);
    int r = -1;

    if (theirs != NULL && ours != NULL &&
        bkpy_attrs_learn(theirs, names, count, &ret_layouts[0]) == 0 &&
        bkpy_attrs_learn(ours, names, count, &ret_layouts[1]) == 0) {
        r = set_class(state, theirs, cls);
    }
    if (theirs != NULL) {
        drop_bare(state, theirs);
    }
    if (ours != NULL) {
        drop_bare(state, ours);
    }
    return r;
}

/* Both, or none where this Python does not exchange them. */
static int
try_classes(bkpy_state *state, PyTypeObject *reader, PyTypeObject *writer)
{
    int r = try_class(state, state->StreamReader, reader, state->reader_names,
                      BKPY_READER_ATTRS, state->reader_layouts);

    if (r == 1) {
        r = try_class(state, state->StreamWriter, writer, state->writer_names,
                      BKPY_WRITER_ATTRS, state->writer_layouts);
    }
    if (r == 1) {
        state->ReaderType = (PyTypeObject *)Py_NewRef(reader);
        state->WriterType = (PyTypeObject *)Py_NewRef(writer);
    }
    return r;
}

static int
make_classes(PyObject *module, bkpy_state *state)
{
    PyTypeObject *reader = make_class(state, state->StreamReader, false);
    PyTypeObject *writer = make_class(state, state->StreamWriter, true);
    int r = -1;

    if (reader != NULL && writer != NULL) {
        r = try_classes(state, reader, writer);
    }
    if (r == 1 && (PyModule_AddType(module, reader) < 0 ||
                   PyModule_AddType(module, writer) < 0)) {
        r = -1;
    }
    Py_XDECREF(reader);
    Py_XDECREF(writer);
    return r < 0 ? -1 : 0;
}

static void
collect_names(bkpy_state *state)
{
    PyObject *const reader_names[BKPY_READER_ATTRS] = {
        [BKPY_READER_LIMIT] = state->str__limit,
        [BKPY_READER_LOOP] = state->str__loop,
        [BKPY_READER_BUFFER] = state->str__buffer,
        [BKPY_READER_EOF] = state->str__eof,
        [BKPY_READER_WAITER] = state->str__waiter,
        [BKPY_READER_EXCEPTION] = state->str__exception,
        [BKPY_READER_TRANSPORT] = state->str__transport,
        [BKPY_READER_PAUSED] = state->str__paused,
    };
    PyObject *const writer_names[BKPY_WRITER_ATTRS] = {
        [BKPY_WRITER_TRANSPORT] = state->str__transport,
        [BKPY_WRITER_PROTOCOL] = state->str__protocol,
        [BKPY_WRITER_READER] = state->str__reader,
        [BKPY_WRITER_LOOP] = state->str__loop,
        [BKPY_WRITER_COMPLETE_FUT] = state->str__complete_fut,
    };

    memcpy(state->reader_names, reader_names, sizeof(reader_names));
    memcpy(state->writer_names, writer_names, sizeof(writer_names));
}

int
bkpy_streams_setup(PyObject *module, bkpy_state *state)
{
    PyObject *streams = PyImport_ImportModule("asyncio.streams");
    bool is_complete;

    if (streams == NULL) {
        return -1;
    }
    collect_names(state);
    if (bkpy_attrs_learn_keys(state) < 0) {
        Py_DECREF(streams);
        return -1;
    }
    is_complete = find_originals(state, PyModule_GetDict(streams));
    Py_DECREF(streams);
    state->stream_reader_property = PyObject_GetAttr(
        state->StreamReaderProtocol, state->str__stream_reader);
    if (state->stream_reader_property == NULL) {
        return -1;
    }
    return BKPY_KNOWS_STREAMS && is_complete ? make_classes(module, state) : 0;
}
