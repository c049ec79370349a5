/* loop_clock.c -- what users override, and the clock they may replace.
 *
 * SPDX-License-Identifier: MIT
 *
 * A method that CPython's loop calls through self may be overridden by a
 * subclass or on the instance. Whether it is has to be known at each call, so
 * the look-up in the class is cached under the version of the type, which any
 * change to it or its bases renews; the instance's dict is asked each time.
 */

#include "loop.h"

#include <math.h>
#include <stddef.h>

/* --- what is overridden --- */

struct override {
    unsigned bit;
    size_t name; /* offset of the interned name in the state */
};

static const struct override overrides[] = {
    {BKPY_OWN_TIME, offsetof(bkpy_state, str_time)},
    {BKPY_OWN_CALL_SOON, offsetof(bkpy_state, str_call_soon)},
    {BKPY_OWN_CALL_AT, offsetof(bkpy_state, str_call_at)},
    {BKPY_OWN_TIMER_CANCELLED,
     offsetof(bkpy_state, str__timer_handle_cancelled)},
    {BKPY_OWN_CREATE_FUTURE, offsetof(bkpy_state, str_create_future)},
    {BKPY_OWN_GET_DEBUG, offsetof(bkpy_state, str_get_debug)},
};

static PyObject *
override_name(const bkpy_state *state, const struct override *override)
{
    return *(PyObject *const *)(const void *)((const char *)state +
                                              override->name);
}

/* Two descriptors of one method: see _adopt_methods(). */
static bool
is_same_method(PyObject *a, PyObject *b)
{
    return Py_IS_TYPE(a, &PyMethodDescr_Type) &&
           Py_IS_TYPE(b, &PyMethodDescr_Type) &&
           ((PyMethodDescrObject *)a)->d_method ==
               ((PyMethodDescrObject *)b)->d_method;
}

/* Whether the class has something else under this name than our type. */
static bool
is_overridden_by_class(LoopObject *self, PyObject *name)
{
    PyObject *ours = PyObject_GetAttr((PyObject *)self->state->LoopType, name);
    PyObject *theirs = PyObject_GetAttr((PyObject *)Py_TYPE(self), name);
    bool differs = ours == NULL || theirs == NULL ||
                   (ours != theirs && !is_same_method(ours, theirs));

    Py_XDECREF(ours);
    Py_XDECREF(theirs);
    PyErr_Clear();
    return differs;
}

static unsigned
class_overrides(LoopObject *self)
{
    PyTypeObject *tp = Py_TYPE(self);

    if (self->type_version != 0 &&
        self->type_version == bkpy_type_version(tp)) {
        return self->overridden;
    }
    self->overridden = 0;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(overrides); i++) {
        if (is_overridden_by_class(self,
                                   override_name(self->state, &overrides[i]))) {
            self->overridden |= overrides[i].bit;
        }
    }
    /* Read after the look-ups, which give a changed type its new version. */
    self->type_version = bkpy_type_version(tp);
    self->dict_place = _PyObject_GetDictPtr((PyObject *)self);
    return self->overridden;
}

static unsigned
instance_overrides(LoopObject *self, unsigned which)
{
    PyObject *dict = bkpy_instance_dict((PyObject *)self);
    unsigned found = 0;

    if (dict == NULL) {
        return 0;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(overrides); i++) {
        if ((which & overrides[i].bit) != 0 &&
            PyDict_Contains(dict, override_name(self->state, &overrides[i])) ==
                1) {
            found |= overrides[i].bit;
        }
    }
    return found;
}

unsigned
bkpy_loop_find_overrides(LoopObject *self, unsigned which)
{
    unsigned found = class_overrides(self) & which;

    return found | instance_overrides(self, which & ~found);
}

/* --- time --- */

double
bkpy_ns_to_seconds(uint64_t ns)
{
    /* As time.monotonic() does: a division, which rounds once. */
    return (double)ns / 1e9;
}

/* Where in the nanosecond before this end, in 65536ths. The difference is
 * exact: the two are close to each other. */
static uint16_t
rank_before(double end, double seconds)
{
    double rank = UINT16_MAX - (end - seconds) * (UINT16_MAX * 1e9);

    return rank > 0.0 ? (uint16_t)rank : 0;
}

uint64_t
bkpy_seconds_to_ns(double seconds, uint16_t *ret_rank)
{
    double ns;
    double end;

    *ret_rank = 0;
    /* NaN is none of these: it is due at once, as in asyncio. */
    if (!(seconds > 0.0)) {
        return 0;
    }
    if (seconds >= 18e9) { /* 2^64 ns are 18.4e9 s. */
        return BK_TIME_NEVER;
    }
    ns = ceil(seconds * 1e9);
    /* The product may have been rounded down. */
    while ((end = ns / 1e9) < seconds) {
        ns = ceil(nextafter(ns, INFINITY));
    }
    *ret_rank = rank_before(end, seconds);
    return (uint64_t)ns;
}

int
bkpy_loop_time(LoopObject *self, double *ret_seconds)
{
    PyObject *now;
    double seconds;

    if (!bkpy_loop_overrides(self, BKPY_OWN_TIME)) {
        *ret_seconds = bkpy_ns_to_seconds(bk_clock_now());
        return 0;
    }
    now = PyObject_CallMethodNoArgs((PyObject *)self, self->state->str_time);
    if (now == NULL) {
        return -1;
    }
    seconds = PyFloat_AsDouble(now);
    Py_DECREF(now);
    if (seconds == -1.0 && PyErr_Occurred() != NULL) {
        return -1;
    }
    *ret_seconds = seconds;
    return 0;
}

/* Not the core's clock, which asks an override of this very method. */
PyObject *
loop_time(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored))
{
    return PyFloat_FromDouble(bkpy_ns_to_seconds(bk_clock_now()));
}
