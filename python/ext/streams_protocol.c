/* streams_protocol.c -- what is asked of asyncio's StreamReaderProtocol.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The protocol keeps its class. Of its attributes, which differ between Python
 * versions and between the two ends of a connection, becket asks for a few, and
 * whether the instance has a method of its own in place of the class's.
 */

#include "streams.h"

#include <stddef.h>

/* The same, of an instance with other attributes than usual, as far as it
 * matters. */
BKPY_COLD static bool
look_slowly(bkpy_state *state, PyObject *protocol, PyObject *method,
            bkpy_protocol_view *ret_view)
{
    PyObject *dict = NULL;
    int r;

    PyErr_Clear(); /* of a dict that could not be made */
    if ((PyObject *)Py_TYPE(protocol) == state->StreamReaderProtocol &&
        bkpy_protocol_is_usual(state)) {
        dict = bkpy_attrs_dict(protocol, &state->protocol_layout.attrs);
    }
    if (dict == NULL) {
        PyErr_Clear();
        return false;
    }
    ret_view->strong_reader = NULL;
    ret_view->client_connected_cb = NULL;
    r = PyDict_Contains(dict, method);
    ret_view->stream_reader_wr =
        PyDict_GetItemWithError(dict, state->str__stream_reader_wr);
    ret_view->paused = PyDict_GetItemWithError(dict, state->str__paused);
    ret_view->connection_lost =
        PyDict_GetItemWithError(dict, state->str__connection_lost);
    PyErr_Clear();
    return r == 0;
}

bool
bkpy_protocol_look(bkpy_state *state, PyObject *protocol, PyObject *method,
                   bkpy_protocol_view *ret_view)
{
    const bkpy_protocol_layout *layout = &state->protocol_layout;
    PyObject *const *values = bkpy_protocol_values(state, protocol);

    if (values == NULL) {
        return look_slowly(state, protocol, method, ret_view);
    }
    ret_view->stream_reader_wr = values[layout->stream_reader_wr];
    ret_view->paused = values[layout->paused];
    ret_view->connection_lost = values[layout->connection_lost];
    ret_view->strong_reader = values[layout->strong_reader];
    ret_view->client_connected_cb = values[layout->client_connected_cb];
    return true;
}

/* --- set-up --- */

/* The names of the attributes that StreamReaderProtocol.__init__() makes, of a
 * server's, which are all. A tuple or NULL with an exception. */
static PyObject *
find_names(void)
{
    PyObject *module = PyImport_ImportModule("becket._stand_in");
    PyObject *sample = NULL;
    PyObject *dict = NULL;
    PyObject *names = NULL;

    if (module != NULL) {
        sample = PyObject_CallMethod(module, "make_protocol", NULL);
        Py_DECREF(module);
    }
    if (sample != NULL) {
        dict = PyObject_GenericGetDict(sample, NULL);
        Py_DECREF(sample);
    }
    if (dict != NULL) {
        names = PySequence_Tuple(dict);
        Py_DECREF(dict);
    }
    return names;
}

/* Where the name is, or, past all of them, that it is not. */
static size_t
index_of(PyObject *names, PyObject *name)
{
    Py_ssize_t i = PySequence_Index(names, name);

    PyErr_Clear();
    return (size_t)(i < 0 ? PyTuple_GET_SIZE(names) : i);
}

static int
learn_values(bkpy_state *state, PyObject *names, bkpy_attrs_layout *ret_layout)
{
    PyObject *obj =
        PyObject_CallMethod((PyObject *)&PyBaseObject_Type, "__new__", "O",
                            state->StreamReaderProtocol);
    int r;

    if (obj == NULL) {
        return -1;
    }
    r = bkpy_attrs_learn(obj, &PyTuple_GET_ITEM(names, 0),
                         (size_t)PyTuple_GET_SIZE(names), ret_layout);
    /* The finalizer would ask it. */
    if (r == 0) {
        r = PyObject_SetAttrString(obj, "_closed", NULL);
    }
    Py_DECREF(obj);
    return r;
}

static int
learn(bkpy_state *state, PyObject *names)
{
    bkpy_protocol_layout *layout = &state->protocol_layout;
    bkpy_attrs_layout attrs = {0};
    int r = learn_values(state, names, &attrs);

    layout->count = (size_t)PyTuple_GET_SIZE(names);
    layout->strong_reader = index_of(names, state->str__strong_reader);
    layout->stream_reader_wr = index_of(names, state->str__stream_reader_wr);
    layout->client_connected_cb =
        index_of(names, state->str__client_connected_cb);
    layout->paused = index_of(names, state->str__paused);
    layout->connection_lost = index_of(names, state->str__connection_lost);
    if (layout->strong_reader < layout->count &&
        layout->stream_reader_wr < layout->count &&
        layout->client_connected_cb < layout->count &&
        layout->paused < layout->count &&
        layout->connection_lost < layout->count) {
        layout->attrs = attrs;
    }
    return r;
}

int
bkpy_protocol_setup(PyObject *Py_UNUSED(module), bkpy_state *state)
{
    PyObject *names = find_names();
    int r = names == NULL ? -1 : learn(state, names);

    Py_XDECREF(names);
    return r;
}
