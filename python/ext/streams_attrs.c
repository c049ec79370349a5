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
 * set an attribute. Where an instance has the pointer to its dict, and the keys
 * their number, is tried out likewise.
 */

#include "streams.h"

#include <stddef.h>
#include <string.h>

BKPY_COLD PyObject *
bkpy_attrs_ask_dict(PyObject *obj)
{
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);

    Py_XDECREF(dict); /* the object keeps it */
    return dict;
}

/* --- the array of values --- */

/* Where it may begin. */
static const size_t offsets[] = {0, sizeof(void *)};

static inline bool
has_values(PyObject *dict)
{
    return ((PyDictObject *)dict)->ma_values != NULL;
}

/* Whether the array there holds what the tuple does. */
static bool
is_offset(PyObject *dict, size_t offset, PyObject *expected)
{
    PyObject *const *values = bkpy_attrs_array(dict, offset);

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

/* Right before the object, where the interpreter keeps the pointer of classes
 * that have no place of their own for it. */
#define WORDS_BEFORE 4

static const void *
word_before(PyObject *obj, ptrdiff_t offset)
{
    const void *word;

    memcpy(&word, (const char *)obj + offset, sizeof(word));
    return word;
}

static ptrdiff_t
find_dict(PyObject *obj, PyObject *dict)
{
    for (ptrdiff_t i = 1; i <= WORDS_BEFORE; i++) {
        ptrdiff_t offset = -i * (ptrdiff_t)sizeof(dict);

        if (PyType_IS_GC(Py_TYPE(obj)) && word_before(obj, offset) == dict) {
            return offset;
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
            ret_layout->dict_at = find_dict(obj, dict);
        }
        Py_DECREF(dict);
    }
    Py_XDECREF(values);
    return r;
}

/* --- the keys --- */

/* Of the words of a dict's keys before the names themselves. */
#define KEYS_WORDS 5

static bool
read_keys(PyObject *obj, size_t *ret_words)
{
    PyObject *dict = bkpy_attrs_ask_dict(obj);

    if (dict == NULL || !has_values(dict)) {
        return false;
    }
    memcpy(ret_words, ((PyDictObject *)dict)->ma_keys,
           KEYS_WORDS * sizeof(*ret_words));
    return true;
}

/* The only word that was one with one attribute and is two with two. */
static size_t
find_count(const size_t *one, const size_t *two)
{
    size_t found = 0;

    for (size_t i = 1; i < KEYS_WORDS; i++) {
        if (one[i] == 1 && two[i] == 2) {
            if (found != 0) {
                return 0;
            }
            found = i * sizeof(*one);
        }
    }
    return found;
}

/* Found out on a class of our own, whose instances then share these keys. */
int
bkpy_attrs_learn_keys(bkpy_state *state)
{
    PyObject *cls =
        PyObject_CallFunction((PyObject *)&PyType_Type, "s(){}", "Sample");
    PyObject *obj = cls == NULL ? NULL : PyObject_CallNoArgs(cls);
    size_t one[KEYS_WORDS], two[KEYS_WORDS];
    int r = -1;

    if (obj != NULL && PyObject_SetAttr(obj, state->str_name, Py_None) == 0) {
        bool is_read = BKPY_HAS_SHARED_KEYS && read_keys(obj, one);

        r = PyObject_SetAttr(obj, state->str_loop, Py_None);
        if (r == 0 && is_read && read_keys(obj, two)) {
            state->keys_count_at = find_count(one, two);
        }
    }
    Py_XDECREF(obj);
    Py_XDECREF(cls);
    return PyErr_Occurred() == NULL ? r : -1;
}

/* --- looking --- */

BKPY_COLD size_t
bkpy_attrs_count(PyObject *const *values, size_t count)
{
    size_t i = 0;

    while (i < count && values[i] != NULL) {
        i++;
    }
    return i;
}

BKPY_COLD bool
bkpy_attrs_walk(PyObject *const *names, size_t count, bkpy_attrs *ret_attrs)
{
    PyObject *dict = ret_attrs->dict;
    PyObject *key;
    Py_ssize_t position = 0;
    size_t i = 0;

    ret_attrs->of = ret_attrs->walked;
    if (dict == NULL || PyDict_GET_SIZE(dict) != (Py_ssize_t)count) {
        PyErr_Clear();
        return false;
    }
    while (i < count &&
           PyDict_Next(dict, &position, &key, &ret_attrs->walked[i]) &&
           key == names[i]) {
        i++;
    }
    return i == count;
}

BKPY_COLD int
bkpy_reader_assign_waiter(bkpy_state *state, PyObject *reader, PyObject *waiter)
{
    PyObject *dict;

    PyErr_Clear(); /* of the dict that could not be made */
    if (Py_TYPE(reader) != state->ReaderType || !bkpy_reader_is_usual(state)) {
        return PyObject_SetAttr(reader, state->str__waiter, waiter);
    }
    dict = bkpy_attrs_ask_dict(reader);
    return dict == NULL ? -1 : PyDict_SetItem(dict, state->str__waiter, waiter);
}
