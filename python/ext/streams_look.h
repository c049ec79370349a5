/* streams_look.h -- looking at a reader or a writer, the short way.
 *
 * SPDX-License-Identifier: MIT
 *
 * Each step of a stream looks several times, and most often finds what it did
 * the last time. So what it takes is inline, and all else is a call of
 * streams_attrs.c or streams_class.c.
 */
#ifndef BKPY_STREAMS_LOOK_H
#define BKPY_STREAMS_LOOK_H

#include <string.h>

#include "module.h"

/* In the order in which StreamReader.__init__() makes them. */
enum {
    BKPY_READER_LIMIT,
    BKPY_READER_LOOP,
    BKPY_READER_BUFFER,
    BKPY_READER_EOF,
    BKPY_READER_WAITER,
    BKPY_READER_EXCEPTION,
    BKPY_READER_TRANSPORT,
    BKPY_READER_PAUSED,
};

/* In the order of StreamWriter.__init__(). */
enum {
    BKPY_WRITER_TRANSPORT,
    BKPY_WRITER_PROTOCOL,
    BKPY_WRITER_READER,
    BKPY_WRITER_LOOP,
    BKPY_WRITER_COMPLETE_FUT,
};

/* The attributes of an object, all borrowed from it: good until code of the
 * user's may run. */
typedef struct {
    PyObject *dict;                      /* to set them in */
    PyObject *const *of;                 /* in the dict itself, */
    PyObject *walked[BKPY_READER_ATTRS]; /* or here */
} bkpy_attrs;

/* --- guards of classes --- */

static inline bool
bkpy_guard_is_known(const bkpy_class_guard *guard, const PyTypeObject *type)
{
    return guard->version != 0 && guard->version == bkpy_type_version(type);
}

/* Where a guard does not know: whether asyncio's classes are as asyncio made
 * them, and ours as we did; and the methods of our transports. */
bool bkpy_reader_learn(bkpy_state *state);
bool bkpy_writer_learn(bkpy_state *state);
bool bkpy_protocol_learn(bkpy_state *state);
bool bkpy_transport_learn(bkpy_state *state, PyTypeObject *type);

static inline bool
bkpy_reader_is_usual(bkpy_state *state)
{
    return bkpy_guard_is_known(&state->reader_guard, state->ReaderType)
               ? state->reader_guard.is_usual
               : bkpy_reader_learn(state);
}

static inline bool
bkpy_writer_is_usual(bkpy_state *state)
{
    return bkpy_guard_is_known(&state->writer_guard, state->WriterType)
               ? state->writer_guard.is_usual
               : bkpy_writer_learn(state);
}

/* The same of StreamReaderProtocol. */
static inline bool
bkpy_protocol_is_usual(bkpy_state *state)
{
    return bkpy_guard_is_known(&state->protocol_guard,
                               (PyTypeObject *)state->StreamReaderProtocol)
               ? state->protocol_guard.is_usual
               : bkpy_protocol_learn(state);
}

/* The same of one of the two types of transports of ours. */
static inline bool
bkpy_transport_is_usual(bkpy_state *state, PyTypeObject *type)
{
    const bkpy_class_guard *guard = type == state->StreamTransportType
                                        ? &state->transport_guard
                                        : &state->tls_transport_guard;

    return bkpy_guard_is_known(guard, type) ? guard->is_usual
                                            : bkpy_transport_learn(state, type);
}

/* --- attributes: streams_attrs.c says what is relied on --- */

/* The __dict__ of an instance as CPython gives it, borrowed; NULL with an
 * exception. */
PyObject *bkpy_attrs_ask_dict(PyObject *obj);

/* The same for an instance of the class of this layout. Before the dict has
 * been made there may be another pointer in its place, which is odd. */
static inline PyObject *
bkpy_attrs_dict(PyObject *obj, const bkpy_attrs_layout *layout)
{
    PyObject *dict = NULL;

    if (layout->dict_at != 0) {
        memcpy(&dict, (const char *)obj + layout->dict_at, sizeof(dict));
    }
    return dict != NULL && ((uintptr_t)dict & 1) == 0
               ? dict
               : bkpy_attrs_ask_dict(obj);
}

/* Where the array begins in what ma_values points to: there may be a header of
 * one word. */
static inline PyObject *const *
bkpy_attrs_array(PyObject *dict, size_t offset)
{
    const void *values = ((PyDictObject *)dict)->ma_values;

    return (PyObject *const *)(const void *)((const char *)values + offset);
}

/* The array, if the dict is of this layout. */
static inline PyObject *const *
bkpy_attrs_values(PyObject *dict, const bkpy_attrs_layout *layout)
{
    return ((PyDictObject *)dict)->ma_keys == layout->keys &&
                   ((PyDictObject *)dict)->ma_values != NULL
               ? bkpy_attrs_array(dict, layout->offset)
               : NULL;
}

/* The same of either of two. */
static inline PyObject *const *
bkpy_attrs_either(PyObject *dict, const bkpy_attrs_layout layouts[2])
{
    PyObject *const *values = bkpy_attrs_values(dict, &layouts[1]);

    return values != NULL ? values : bkpy_attrs_values(dict, &layouts[0]);
}

/* So many of the first values there are, one after the other. */
size_t bkpy_attrs_count(PyObject *const *values, size_t count);

/* So many names that are not used are looked at, at most. */
#define BKPY_UNUSED_NAMES_MAX 2

/* Of a dict with so many attributes: that it has just the first ones, which
 * shows most often in that no instance has ever had another. */
static inline bool
bkpy_attrs_are_first(const bkpy_state *state, PyObject *dict,
                     PyObject *const *values, size_t count)
{
    const void *keys = ((PyDictObject *)dict)->ma_keys;
    size_t names;

    if (state->keys_count_at == 0) {
        return bkpy_attrs_count(values, count) == count;
    }
    memcpy(&names, (const char *)keys + state->keys_count_at, sizeof(names));
    if (names > count + BKPY_UNUSED_NAMES_MAX) {
        return bkpy_attrs_count(values, count) == count;
    }
    for (size_t i = count; i < names; i++) {
        if (values[i] != NULL) {
            return false;
        }
    }
    return true;
}

/* The attributes themselves, in a dict of this layout that has exactly those,
 * and perhaps the optional one (an index); borrowed, or NULL. */
static inline PyObject *const *
bkpy_attrs_find(const bkpy_state *state, PyObject *dict,
                const bkpy_attrs_layout *layout, size_t count, size_t optional)
{
    PyObject *const *values = bkpy_attrs_values(dict, layout);
    size_t used = (size_t)PyDict_GET_SIZE(dict);
    size_t found;

    if (values == NULL) {
        return NULL;
    }
    if (used == count) {
        return bkpy_attrs_are_first(state, dict, values, count) ? values : NULL;
    }
    found = bkpy_attrs_count(values, count);
    if (found == optional && found < count && used + 1 == count) {
        found++;
        found += bkpy_attrs_count(values + found, count - found);
        return found == count ? values : NULL;
    }
    return NULL;
}

/* Fill *ret_attrs, whose dict is known, by walking through that. False if it
 * has not exactly these attributes, in this order. */
bool bkpy_attrs_walk(PyObject *const *names, size_t count,
                     bkpy_attrs *ret_attrs);

/* Fill *ret_attrs if obj has exactly the attributes that asyncio gives it, made
 * in the same order. No exception. */
static inline bool
bkpy_attrs_look(const bkpy_state *state, PyObject *obj, PyObject *const *names,
                size_t count, const bkpy_attrs_layout layouts[2],
                bkpy_attrs *ret_attrs)
{
    PyObject *dict = bkpy_attrs_dict(obj, layouts);

    ret_attrs->dict = dict;
    ret_attrs->of = dict == NULL ? NULL : bkpy_attrs_either(dict, layouts);
    if (ret_attrs->of == NULL) {
        return bkpy_attrs_walk(names, count, ret_attrs);
    }
    return PyDict_GET_SIZE(dict) == (Py_ssize_t)count &&
           bkpy_attrs_are_first(state, dict, ret_attrs->of, count);
}

/* The same with the count as a constant. */
static inline bool
bkpy_attrs_look_at_reader(const bkpy_state *state, PyObject *reader,
                          bkpy_attrs *ret_attrs)
{
    return bkpy_attrs_look(state, reader, state->reader_names,
                           BKPY_READER_ATTRS, state->reader_layouts, ret_attrs);
}

static inline bool
bkpy_attrs_look_at_writer(const bkpy_state *state, PyObject *writer,
                          bkpy_attrs *ret_attrs)
{
    return bkpy_attrs_look(state, writer, state->writer_names,
                           BKPY_WRITER_ATTRS, state->writer_layouts, ret_attrs);
}

/* --- objects of our classes --- */

/* True when it has exactly the attributes that asyncio gave it (of whatever
 * value), and its methods are asyncio's own in class and instance. No exception
 * either way. */
static inline bool
bkpy_reader_look(bkpy_state *state, PyObject *reader, bkpy_attrs *ret_attrs)
{
    return Py_TYPE(reader) == state->ReaderType &&
           bkpy_reader_is_usual(state) &&
           bkpy_attrs_look_at_reader(state, reader, ret_attrs);
}

static inline bool
bkpy_writer_look(bkpy_state *state, PyObject *writer, bkpy_attrs *ret_attrs)
{
    return Py_TYPE(writer) == state->WriterType &&
           bkpy_writer_is_usual(state) &&
           bkpy_attrs_look_at_writer(state, writer, ret_attrs);
}

/* The attributes of an object that is exactly a StreamReaderProtocol, with
 * asyncio's methods in class and instance: where state->protocol_layout has
 * them, borrowed; NULL if that is not so, or does not show here. */
static inline PyObject *const *
bkpy_protocol_values(bkpy_state *state, PyObject *protocol)
{
    const bkpy_protocol_layout *layout = &state->protocol_layout;
    PyObject *dict = NULL;

    if ((PyObject *)Py_TYPE(protocol) == state->StreamReaderProtocol &&
        bkpy_protocol_is_usual(state)) {
        dict = bkpy_attrs_dict(protocol, &layout->attrs);
    }
    return dict == NULL ? NULL
                        : bkpy_attrs_find(state, dict, &layout->attrs,
                                          layout->count, layout->strong_reader);
}

/* attribute i = value, of an object that was looked at just now, if it can be
 * done without code of the user's but for what was there before. */
static inline bool
bkpy_attrs_put(const bkpy_attrs *attrs, size_t i, PyObject *value)
{
    PyObject *before = attrs->of[i];

    if (attrs->of == attrs->walked) {
        return false;
    }
    ((PyObject **)(uintptr_t)attrs->of)[i] = Py_NewRef(value);
    Py_DECREF(before);
    return true;
}

/* reader._waiter = waiter. 0 or -1 with an exception. */
int bkpy_reader_assign_waiter(bkpy_state *state, PyObject *reader,
                              PyObject *waiter);

static inline int
bkpy_reader_set_waiter(bkpy_state *state, PyObject *reader, PyObject *waiter)
{
    bkpy_attrs attrs;

    return bkpy_reader_look(state, reader, &attrs) &&
                   bkpy_attrs_put(&attrs, BKPY_READER_WAITER, waiter)
               ? 0
               : bkpy_reader_assign_waiter(state, reader, waiter);
}

#endif
