/* loop_task.c -- tasks and futures: those of asyncio, made by the loop.
 *
 * SPDX-License-Identifier: MIT
 */

#include "args.h"
#include "future.h"

/* The class as its module has it now: asyncio's loop looks it up at each
 * call, and some packages put the Python half in the place of the C half. New
 * reference or NULL with an exception. */
static PyObject *
class_now(PyObject *module_names, PyObject *name, PyTypeObject *type)
{
    PyObject *found;

    if (PyDict_GetItemRef(module_names, name, &found) < 0) {
        return NULL;
    }
    return found != NULL ? found : Py_NewRef((PyObject *)type);
}

/* --- futures --- */

PyObject *
bkpy_loop_create_future(LoopObject *self)
{
    const bkpy_state *state = self->state;
    PyObject *args[2] = {NULL, (PyObject *)self};
    PyObject *type =
        class_now(state->futures_names, state->str_Future, state->FutureType);
    PyObject *future;

    if (type == NULL) {
        return NULL;
    }
    if (type == (PyObject *)state->FutureType) {
        future = bkpy_future_new(self);
    }
    else {
        future = PyObject_Vectorcall(type, args + 1,
                                     0 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                     state->names_loop);
    }
    Py_DECREF(type);
    return future;
}

/* Whether asyncio.futures.Future is what it was. */
static bool
is_future_own(bkpy_state *state)
{
    uint64_t version = bkpy_dict_version(state->futures_names);
    PyObject *type;

    if (version != 0 && version == state->futures_version) {
        return true;
    }
    type = PyDict_GetItemWithError(state->futures_names, state->str_Future);
    if (type != (PyObject *)state->FutureType) {
        PyErr_Clear();
        return false;
    }
    state->futures_version = version;
    return true;
}

bool
bkpy_loop_makes_own_futures(LoopObject *self)
{
    return is_future_own(self->state) &&
           !bkpy_loop_overrides(self,
                                BKPY_OWN_CREATE_FUTURE | BKPY_OWN_GET_DEBUG);
}

PyObject *
loop_create_future(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return bkpy_loop_create_future(LoopObject_CAST(self));
}

int
bkpy_future_is_done(bkpy_state *state, PyObject *future)
{
    PyObject *done =
        Py_TYPE(future) == state->FutureType
            ? PyObject_Vectorcall(state->future_done, &future, 1, NULL)
            : PyObject_CallMethodNoArgs(future, state->str_done);
    int r = done == NULL ? -1 : PyObject_IsTrue(done);

    Py_XDECREF(done);
    return r;
}

static int
settle(bkpy_state *state, PyObject *future, PyObject *method, PyObject *arg)
{
    PyObject *result;
    int r = bkpy_future_is_done(state, future);

    if (r != 0) {
        return r < 0 ? -1 : 0;
    }
    result = PyObject_CallMethodOneArg(future, method, arg);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
bkpy_future_set_result(bkpy_state *state, PyObject *future, PyObject *value)
{
    return settle(state, future, state->str_set_result, value);
}

int
bkpy_future_set_exception(bkpy_state *state, PyObject *future,
                          PyObject *exception)
{
    return settle(state, future, state->str_set_exception, exception);
}

/* --- the task factory --- */

static const bkpy_spec set_task_factory_spec = {
    .function = "set_task_factory",
    .names = {"factory"},
    .required = 1,
    .positional = 1,
};

BKPY_KWMETHOD(loop_set_task_factory)
{
    LoopObject *loop = LoopObject_CAST(self);
    PyObject *factory;

    if (bkpy_parse(args, nargs, kwnames, &set_task_factory_spec, &factory) <
        0) {
        return NULL;
    }
    if (factory != Py_None && !PyCallable_Check(factory)) {
        PyErr_SetString(PyExc_TypeError,
                        "task factory must be a callable or None");
        return NULL;
    }
    Py_XSETREF(loop->task_factory,
               factory == Py_None ? NULL : Py_NewRef(factory));
    Py_RETURN_NONE;
}

PyObject *
loop_get_task_factory(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    LoopObject *self = LoopObject_CAST(op);

    return Py_NewRef(self->task_factory == NULL ? Py_None : self->task_factory);
}

/* --- create_task --- */

/* create_task(coro, *, name=None, context=None, **rest); borrowed, NULL for
 * what was not given. */
struct task_call {
    PyObject *coro;
    PyObject *name;
    PyObject *context;
    PyObject *rest; /* owned dict; NULL without further keywords */
};

static const bkpy_spec create_task_spec = {
    .function = "create_task",
    .names = {"coro", "name", "context"},
    .required = 1,
    .positional = 1,
};

static bool
is_given(PyObject *value)
{
    return value != NULL && value != Py_None;
}

/* Move the keywords that we do not know into *ret_rest. *ret_names and
 * values get the others. -1 with an exception. */
static int
split_keywords(PyObject *const *given, PyObject *kwnames, PyObject **values,
               PyObject **ret_names, PyObject **ret_rest)
{
    PyObject *known = PyList_New(0);
    PyObject *rest = PyDict_New();
    Py_ssize_t n = 0;
    int r = known == NULL || rest == NULL ? -1 : 0;

    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames) && r == 0; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);

        if (bkpy_spec_has(&create_task_spec, name)) {
            r = PyList_Append(known, name);
            values[n++] = given[i];
        }
        else {
            r = PyDict_SetItem(rest, name, given[i]);
        }
    }
    *ret_names = r < 0 ? NULL : PyList_AsTuple(known);
    Py_XDECREF(known);
    if (*ret_names == NULL) {
        Py_XDECREF(rest);
        return -1;
    }
    *ret_rest = rest;
    return 0;
}

/* The rules of newer Pythons, with keywords of any name. */
static int
parse_open_call(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                PyObject **values, PyObject **ret_rest)
{
    /* self, coro and at most three known keywords. */
    PyObject *given[1 + BKPY_NAMES_MAX];
    PyObject *known;
    int r;

    if (nargs > 1) {
        return bkpy_parse(args, nargs, NULL, &create_task_spec, values);
    }
    given[0] = nargs == 1 ? args[0] : NULL;
    if (split_keywords(args + nargs, kwnames, given + nargs, &known, ret_rest) <
        0) {
        return -1;
    }
    r = bkpy_parse(given, nargs, known, &create_task_spec, values);
    Py_DECREF(known);
    if (r < 0) {
        Py_CLEAR(*ret_rest);
    }
    return r;
}

static bool
knows_all(PyObject *kwnames)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++) {
        if (!bkpy_spec_has(&create_task_spec, PyTuple_GET_ITEM(kwnames, i))) {
            return false;
        }
    }
    return true;
}

static int
parse_task_call(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                struct task_call *ret)
{
    PyObject *values[3];
    PyObject *rest = NULL;
    int r;

    if (nargs == 1 && kwnames == NULL) {
        *ret = (struct task_call){.coro = args[0]};
        return 0;
    }
    if (kwnames == NULL || knows_all(kwnames) ||
        bkpy_task_factory_rule() == BKPY_FACTORY_SETS_NAME) {
        r = bkpy_parse(args, nargs, kwnames, &create_task_spec, values);
    }
    else {
        r = parse_open_call(args, nargs, kwnames, values, &rest);
    }
    if (r == 0) {
        *ret = (struct task_call){values[0], values[1], values[2], rest};
    }
    return r;
}

/* {**rest, name: value, ...} of what is given. */
static PyObject *
merge(PyObject *rest, PyObject *const names[], PyObject *const values[],
      int count)
{
    PyObject *kwargs = rest == NULL ? PyDict_New() : PyDict_Copy(rest);

    for (int i = 0; i < count && kwargs != NULL; i++) {
        if (values[i] != NULL &&
            PyDict_SetItem(kwargs, names[i], values[i]) < 0) {
            Py_CLEAR(kwargs);
        }
    }
    return kwargs;
}

/* type(coro, loop=self, name=name, context=context, **rest) */
static PyObject *
new_task_of(PyObject *type, LoopObject *self, const struct task_call *call)
{
    bkpy_state *state = self->state;
    PyObject *args[5] = {NULL, call->coro, (PyObject *)self, call->name,
                         call->context};
    PyObject *kwargs, *task;

    if (call->rest == NULL && call->name == NULL && call->context == NULL &&
        type == (PyObject *)state->TaskType) {
        /* Of which these are the defaults: fewer keywords for it to sort. */
        return PyObject_Vectorcall(type, args + 1,
                                   1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                   state->names_loop);
    }
    if (call->rest == NULL) {
        args[3] = call->name == NULL ? Py_None : call->name;
        args[4] = call->context == NULL ? Py_None : call->context;
        return PyObject_Vectorcall(type, args + 1,
                                   1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                   state->names_loop_name_context);
    }
    if (PyDict_Contains(call->rest, state->str_loop) == 1) {
        PyErr_SetString(PyExc_TypeError, "Task() got multiple values for "
                                         "keyword argument 'loop'");
        return NULL;
    }
    kwargs = merge(call->rest,
                   (PyObject *const[]){state->str_loop, state->str_name,
                                       state->str_context},
                   args + 2, 3);
    if (kwargs == NULL) {
        return NULL;
    }
    task = PyObject_VectorcallDict(type, args + 1, 1, kwargs);
    Py_DECREF(kwargs);
    return task;
}

static PyObject *
new_task(LoopObject *self, const struct task_call *call)
{
    const bkpy_state *state = self->state;
    PyObject *type =
        class_now(state->tasks_names, state->str_Task, state->TaskType);
    PyObject *task;

    if (type == NULL) {
        return NULL;
    }
    task = new_task_of(type, self, call);
    Py_DECREF(type);
    return task;
}

/* The task that a factory made gets its name afterwards. */
static int
name_task(LoopObject *self, PyObject *task, PyObject *name)
{
    PyObject *set_name, *result;
    int r;

    if (BKPY_FACTORY_NAMES_SOFTLY && !is_given(name)) {
        return 0;
    }
    r = PyObject_GetOptionalAttr(task, self->state->str_set_name, &set_name);
    if (r == 0 && BKPY_FACTORY_NAMES_SOFTLY) {
        return PyErr_WarnEx(PyExc_DeprecationWarning,
                            "Task.set_name() was added in Python 3.8, "
                            "the method support will be mandatory for "
                            "third-party task implementations since 3.13.",
                            1);
    }
    if (r == 0) {
        set_name = PyObject_GetAttr(task, self->state->str_set_name);
    }
    if (set_name == NULL) {
        return -1;
    }
    result = PyObject_CallOneArg(set_name, name == NULL ? Py_None : name);
    Py_DECREF(set_name);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* What the factory gets beside loop and coro; NULL with an exception. */
static PyObject *
factory_kwargs(LoopObject *self, const struct task_call *call)
{
    bkpy_state *state = self->state;
    PyObject *names[2] = {state->str_context, state->str_name};
    PyObject *values[2] = {call->context, call->name};

    if (bkpy_task_factory_rule() == BKPY_FACTORY_KWARGS) {
        return merge(call->rest, names, values, 2);
    }
    return merge(call->rest, names, values, is_given(call->context) ? 1 : 0);
}

static PyObject *
task_of_factory(LoopObject *self, const struct task_call *call)
{
    PyObject *factory = Py_NewRef(self->task_factory);
    PyObject *kwargs = factory_kwargs(self, call);
    PyObject *args[3] = {NULL, (PyObject *)self, call->coro};
    PyObject *task = NULL;

    if (kwargs != NULL) {
        task = PyObject_VectorcallDict(
            factory, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, kwargs);
        Py_DECREF(kwargs);
    }
    Py_DECREF(factory);
    if (task != NULL && bkpy_task_factory_rule() != BKPY_FACTORY_KWARGS &&
        name_task(self, task, call->name) < 0) {
        Py_CLEAR(task);
    }
    return task;
}

BKPY_KWMETHOD(loop_create_task)
{
    LoopObject *loop = LoopObject_CAST(self);
    struct task_call call = {0};
    PyObject *task = NULL;

    if (parse_task_call(args, nargs, kwnames, &call) < 0) {
        return NULL;
    }
    if (bkpy_loop_check_closed(loop) == 0) {
        task = loop->task_factory == NULL ? new_task(loop, &call)
                                          : task_of_factory(loop, &call);
    }
    Py_XDECREF(call.rest);
    return task;
}
