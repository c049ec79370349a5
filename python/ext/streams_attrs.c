/* streams_attrs.c -- looking at the attributes of a reader or a writer.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Every step of a stream asks whether the instance has exactly the attributes
 * that asyncio has given it, and what they are. PyDict_Next() tells; but it
 * takes a third of all the time that becket spends on a small read. So where
 * the dict is of the kind that shares its keys with the other instances of the
 * class, its array of values is read. That this array is what it is taken for
 * is tried out at import, on an instance with attributes of our own; a dict
 * with any other keys is walked through as usual. Where there is a value in the
 * array, another one may take its place, which is what the interpreter does to
 * set an attribute.
 */

#include "streams.h"

#include <stddef.h>

/* --- the array of values --- */

/* Where the array begins in what ma_values points to: there may be a header of
 * one word. */
static const size_t offsets[] = {0, sizeof(void *)};

static inline PyObject *const *
values_at(PyObject *dict, size_t offset)
{
    const void *values = ((PyDictObject *)dict)->ma_values;

    return (PyObject *const *)(const void *)((const char *)values + offset);
}

static inline bool
has_values(PyObject *dict)
{
    return ((PyDictObject *)dict)->ma_values != NULL;
}

/* Whether the array there holds what the tuple does. */
static bool
is_offset(PyObject *dict, size_t offset, PyObject *expected)
{
    PyObject *const *values = values_at(dict, offset);

    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(expected); i++) {
        if (values[i] != PyTuple_GET_ITEM(expected, i)) {
            return false;
        }
    }
    return true;
}

/* The dict has these values, in this order. */
static void
find_offset(PyObject *dict, PyObject *values, bkpy_attrs_layout *ret_layout)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(offsets); i++) {
        if (is_offset(dict, offsets[i], values)) {
            ret_layout->keys = ((PyDictObject *)dict)->ma_keys;
            ret_layout->offset = offsets[i];
            return;
        }
    }
}

static PyObject *
distinct_objects(size_t count)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);

    for (size_t i = 0; i < count && tuple != NULL; i++) {
        PyObject *obj = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);

        if (obj == NULL) {
            Py_CLEAR(tuple);
        }
        else {
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, obj);
        }
    }
    return tuple;
}

static int
set_all(PyObject *obj, PyObject *const *names, PyObject *values)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(values); i++) {
        if (PyObject_SetAttr(obj, names[i], PyTuple_GET_ITEM(values, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

int
bkpy_attrs_learn(PyObject *obj, PyObject *const *names, size_t count,
                 bkpy_attrs_layout *ret_layout)
{
    PyObject *values = distinct_objects(count);
    PyObject *dict = NULL;
    int r = -1;

    if (values != NULL && set_all(obj, names, values) == 0) {
        dict = PyObject_GenericGetDict(obj, NULL);
    }
    if (dict != NULL) {
        r = 0;
        if (BKPY_HAS_SHARED_KEYS && has_values(dict)) {
            find_offset(dict, values, ret_layout);
        }
        Py_DECREF(dict);
    }
    Py_XDECREF(values);
    return r;
}

/* --- looking --- */

/* The array, if the dict is of this layout. */
static inline PyObject *const *
values_of(PyObject *dict, const bkpy_attrs_layout *layout)
{
    return ((PyDictObject *)dict)->ma_keys == layout->keys && has_values(dict)
               ? values_at(dict, layout->offset)
               : NULL;
}

/* So many of the first values there are. */
static inline size_t
count_values(PyObject *const *values, size_t count)
{
    size_t found = 0;

    for (size_t i = 0; i < count; i++) {
        found += values[i] != NULL;
    }
    return found;
}

PyObject *const *
bkpy_attrs_find(PyObject *dict, const bkpy_attrs_layout *layout, size_t count,
                size_t optional)
{
    PyObject *const *values = values_of(dict, layout);
    size_t found;

    if (values == NULL) {
        return NULL;
    }
    found = count_values(values, count);
    if (PyDict_GET_SIZE(dict) != (Py_ssize_t)found || found + 1 < count ||
        (found < count && values[optional] != NULL)) {
        return NULL;
    }
    return values;
}

static bool
walk(PyObject *dict, PyObject *const *names, size_t count, PyObject **ret)
{
    PyObject *key;
    Py_ssize_t position = 0;
    size_t i = 0;

    if (PyDict_GET_SIZE(dict) != (Py_ssize_t)count) {
        return false;
    }
    while (i < count && PyDict_Next(dict, &position, &key, &ret[i]) &&
           key == names[i]) {
        i++;
    }
    return i == count;
}

/* Inline, so that the count is a constant. */
static inline bool
look(PyObject *obj, PyObject *const *names, size_t count,
     const bkpy_attrs_layout *layouts, bkpy_attrs *ret_attrs)
{
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    PyObject *const *values;

    if (dict == NULL) {
        PyErr_Clear();
        return false;
    }
    Py_DECREF(dict); /* the object keeps it */
    ret_attrs->dict = dict;
    values = values_of(dict, &layouts[1]);
    if (values == NULL) {
        values = values_of(dict, &layouts[0]);
    }
    if (values != NULL) {
        ret_attrs->of = values;
        return PyDict_GET_SIZE(dict) == (Py_ssize_t)count &&
               count_values(values, count) == count;
    }
    ret_attrs->of = ret_attrs->walked;
    return walk(dict, names, count, ret_attrs->walked);
}

int
bkpy_attrs_replace(PyObject *obj, const bkpy_attrs_layout *layouts, size_t i,
                   PyObject *name, PyObject *value)
{
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    PyObject *const *values;
    PyObject *before;

    if (dict == NULL) {
        return -1;
    }
    Py_DECREF(dict); /* the object keeps it */
    values = values_of(dict, &layouts[1]);
    if (values == NULL) {
        values = values_of(dict, &layouts[0]);
    }
    if (values == NULL || values[i] == NULL) {
        return PyDict_SetItem(dict, name, value);
    }
    before = values[i];
    ((PyObject **)(uintptr_t)values)[i] = Py_NewRef(value);
    Py_DECREF(before);
    return 0;
}

bool
bkpy_attrs_look_at_reader(const bkpy_state *state, PyObject *reader,
                          bkpy_attrs *ret_attrs)
{
    return look(reader, state->reader_names, BKPY_READER_ATTRS,
                state->reader_layouts, ret_attrs);
}

bool
bkpy_attrs_look_at_writer(const bkpy_state *state, PyObject *writer,
                          bkpy_attrs *ret_attrs)
{
    return look(writer, state->writer_names, BKPY_WRITER_ATTRS,
                state->writer_layouts, ret_attrs);
}
