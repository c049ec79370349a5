/* future_layout.c -- where a future has what.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The struct of _asyncio.Future is CPython's own affair, so nothing is taken
 * for granted: at import futures are made and used through their methods, and
 * of every word it is looked up what that has changed in it. Only where each
 * change is exactly what it is taken for (a new future is zero but for its
 * loop, a callback is two pointers, a result is a pointer and a word, ...) is
 * the layout used. Elsewhere, and with free threads, whose futures note their
 * thread and are locked, becket calls the methods.
 */

#include "future.h"

#define WORDS_MAX (BKPY_FUTURE_SIZE_MAX / sizeof(uintptr_t))

/* All words of a future at one moment. */
typedef struct {
    size_t count;
    uintptr_t words[WORDS_MAX];
} picture;

static bool
take_picture(PyObject *future, picture *ret)
{
    size_t size = (size_t)Py_TYPE(future)->tp_basicsize;

    ret->count = size / sizeof(uintptr_t);
    if (size % sizeof(uintptr_t) != 0 || ret->count > WORDS_MAX) {
        return false;
    }
    memcpy(ret->words, future, size);
    return true;
}

/* The words that are not as before, at most so many; how many there are. */
static size_t
find_changes(const picture *before, const picture *after, size_t *ret,
             size_t most)
{
    size_t count = 0;

    for (size_t i = sizeof(PyObject) / sizeof(uintptr_t); i < after->count;
         i++) {
        if (before->words[i] != after->words[i]) {
            if (count < most) {
                ret[count] = i;
            }
            count++;
        }
    }
    return count;
}

static inline size_t
to_offset(size_t index)
{
    return index * sizeof(uintptr_t);
}

/* --- using a future --- */

/* An object that is loop enough for a future. */
static PyObject *
make_loop(void)
{
    PyObject *types = PyImport_ImportModule("types");
    PyObject *loop = NULL;

    if (types != NULL) {
        PyObject *cls = PyObject_GetAttrString(types, "SimpleNamespace");
        PyObject *attrs = Py_BuildValue("{sO}", "get_debug", &PyBool_Type);

        if (cls != NULL && attrs != NULL) {
            loop = PyObject_VectorcallDict(cls, NULL, 0, attrs);
        }
        Py_XDECREF(cls);
        Py_XDECREF(attrs);
        Py_DECREF(types);
    }
    return loop;
}

static PyObject *
make_future(const bkpy_state *state, PyObject *loop)
{
    PyObject *args[2] = {NULL, loop};

    return PyObject_Vectorcall((PyObject *)state->FutureType, args + 1,
                               0 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                               state->names_loop);
}

/* future.add_done_callback(callback, context=context): 0 or -1. */
static int
add_callback(PyObject *future, PyObject *callback, PyObject *context)
{
    PyObject *method = PyObject_GetAttrString(future, "add_done_callback");
    PyObject *args = PyTuple_Pack(1, callback);
    PyObject *kwargs = Py_BuildValue("{sO}", "context", context);
    PyObject *result = NULL;

    if (method != NULL && args != NULL && kwargs != NULL) {
        result = PyObject_Call(method, args, kwargs);
    }
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* --- learning: each 1, 0 if it is otherwise than thought, or -1 --- */

/* A new future is zero but for its loop. */
static int
learn_loop(PyObject *future, PyObject *loop, picture *ret_new,
           bkpy_future_layout *ret)
{
    static const picture nothing; /* of zeroes */
    size_t at;

    if (!take_picture(future, ret_new) ||
        find_changes(&nothing, ret_new, &at, 1) != 1 ||
        ret_new->words[at] != (uintptr_t)loop) {
        return 0;
    }
    ret->loop = to_offset(at);
    ret->size = to_offset(ret_new->count);
    return 1;
}

/* The first callback is two pointers; the second makes one more. */
static int
learn_callbacks(const bkpy_state *Py_UNUSED(state), PyObject *future,
                const picture *new, bkpy_future_layout *ret)
{
    PyObject *context = PyContext_New();
    picture one, two;
    size_t at[3];
    size_t first;

    if (context == NULL || add_callback(future, Py_None, context) < 0 ||
        !take_picture(future, &one) ||
        add_callback(future, Py_None, context) < 0 ||
        !take_picture(future, &two)) {
        Py_XDECREF(context);
        return PyErr_Occurred() == NULL ? 0 : -1;
    }
    Py_DECREF(context); /* the future has it */
    if (find_changes(new, &one, at, 2) != 2 ||
        find_changes(&one, &two, at + 2, 1) != 1 || one.words[at[2]] != 0) {
        return 0;
    }
    first = one.words[at[0]] == (uintptr_t)Py_None ? 0 : 1;
    ret->callback = to_offset(at[first]);
    ret->context = to_offset(at[1 - first]);
    ret->others = to_offset(at[2]);
    return one.words[at[first]] == (uintptr_t)Py_None &&
           one.words[at[1 - first]] == (uintptr_t)context;
}

static int
learn_awaited(const bkpy_state *state, PyObject *future, const picture *new,
              bkpy_future_layout *ret)
{
    picture after;
    size_t at;

    if (PyObject_SetAttr(future, state->str__asyncio_future_blocking, Py_True) <
        0) {
        return -1;
    }
    if (!take_picture(future, &after) ||
        find_changes(new, &after, &at, 1) != 1) {
        return 0;
    }
    ret->awaited = to_offset(at);
    ret->is_awaited = after.words[at];
    return 1;
}

static int
learn_result(const bkpy_state *state, PyObject *future, const picture *new,
             bkpy_future_layout *ret)
{
    PyObject *result =
        PyObject_CallMethodOneArg(future, state->str_set_result, Py_None);
    picture after;
    size_t at[2];
    size_t first;

    if (result == NULL) {
        return -1;
    }
    Py_DECREF(result);
    if (!take_picture(future, &after) ||
        find_changes(new, &after, at, 2) != 2) {
        return 0;
    }
    first = after.words[at[0]] == (uintptr_t)Py_None ? 0 : 1;
    ret->result = to_offset(at[first]);
    ret->state = to_offset(at[1 - first]);
    ret->is_finished = after.words[at[1 - first]];
    return after.words[at[first]] == (uintptr_t)Py_None;
}

/* Whether an attribute of its own shows in it. */
static int
learn_attribute(const bkpy_state *state, PyObject *future, const picture *new,
                bkpy_future_layout *Py_UNUSED(ret))
{
    picture after;
    size_t at;

    if (bkpy_has_managed_extras(future)) {
        return 0;
    }
    if (PyObject_SetAttr(future, state->str_name, Py_None) < 0) {
        return -1;
    }
    return bkpy_has_managed_extras(future) ||
           (take_picture(future, &after) &&
            find_changes(new, &after, &at, 1) > 0);
}

/* Whether a weak reference does. */
static int
learn_reference(const bkpy_state *Py_UNUSED(state), PyObject *future,
                const picture *new, bkpy_future_layout *Py_UNUSED(ret))
{
    PyObject *ref = PyWeakref_NewRef(future, NULL);
    picture after;
    size_t at;
    int r;

    if (ref == NULL) {
        return -1;
    }
    r = bkpy_has_managed_extras(future) ||
        (take_picture(future, &after) && find_changes(new, &after, &at, 1) > 0);
    Py_DECREF(ref);
    return r;
}

/* --- set-up --- */

typedef int (*learn_step)(const bkpy_state *state, PyObject *future,
                          const picture *new, bkpy_future_layout *ret);

/* Each on a new future: 1 if all of them are as thought. */
static int
learn_all(const bkpy_state *state, PyObject *loop, const learn_step *steps,
          size_t count, bkpy_future_layout *ret)
{
    int r = 1;

    for (size_t i = 0; i < count && r == 1; i++) {
        PyObject *future = make_future(state, loop);
        picture new;

        if (future == NULL) {
            return -1;
        }
        r = learn_loop(future, loop, &new, ret);
        if (r == 1) {
            r = steps[i](state, future, &new, ret);
        }
        Py_DECREF(future);
    }
    return r;
}

/* A class that can change may not be passed over. */
static int
learn(const bkpy_state *state, PyObject *loop, bkpy_future_layout *ret)
{
    static const learn_step usage[] = {learn_callbacks, learn_awaited,
                                       learn_result};
    static const learn_step extras[] = {learn_attribute, learn_reference};
    int r = 0;

    if (PyType_HasFeature(state->FutureType, Py_TPFLAGS_IMMUTABLETYPE)) {
        r = learn_all(state, loop, usage, Py_ARRAY_LENGTH(usage), ret);
    }
    if (r == 1) {
        ret->is_known = true;
        r = learn_all(state, loop, extras, Py_ARRAY_LENGTH(extras), ret);
        ret->is_reusable = r == 1;
    }
    return r < 0 ? -1 : 0;
}

int
bkpy_future_setup(PyObject *Py_UNUSED(module), bkpy_state *state)
{
    PyObject *type = (PyObject *)state->FutureType;
    PyObject *loop = make_loop();
    int r = -1;

    state->future_set_result = PyObject_GetAttr(type, state->str_set_result);
    state->future_done = PyObject_GetAttr(type, state->str_done);
    if (loop != NULL && state->future_set_result != NULL &&
        state->future_done != NULL) {
        r = BKPY_HAS_FREE_LISTS ? learn(state, loop, &state->future_layout) : 0;
    }
    Py_XDECREF(loop);
    return r;
}
