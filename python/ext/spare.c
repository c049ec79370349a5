/* spare.c -- bytes objects that nobody needs any more, for the next receives.
 *
 * SPDX-License-Identifier: MIT
 */

#include "spare.h"

/* Up to 512 bytes CPython's own allocator serves an object, faster than we
 * could. What is larger than the second goes without a copy, see stream_io.c.
 */
#define SPARE_MIN 512
#define SPARE_MAX (32 * 1024)

/* As many as the core delivers datagrams at once, each as large as most of them
 * are at most. */
#define COUNT_MAX 64
#define HELD_MAX  2048
#define TOTAL_MAX (COUNT_MAX * HELD_MAX)

struct bkpy_spares {
    PyObject *free[COUNT_MAX]; /* owned: the last one is taken first */
    PyObject *held[COUNT_MAX]; /* owned */
    unsigned free_count;
    unsigned held_count;
    size_t free_bytes;
};

/* Both sizes begin with the same four bits, so that an object never takes an
 * eighth more than it holds, however often it is used again. */
static inline bool
is_fitting(size_t size, size_t len)
{
    int bits = 64 - __builtin_clzll(size);

    return len <= size && (size ^ len) >> (bits - 4) == 0;
}

static PyObject *
pop(struct bkpy_spares *spares)
{
    PyObject *bytes = spares->free[--spares->free_count];

    spares->free_bytes -= (size_t)PyBytes_GET_SIZE(bytes);
    return bytes;
}

/* Without room in the place of the last one: sizes have changed. */
static void
push(struct bkpy_spares *spares, PyObject *bytes)
{
    size_t size = (size_t)PyBytes_GET_SIZE(bytes);

    if (spares->free_count > 0 && (spares->free_count == COUNT_MAX ||
                                   spares->free_bytes + size > TOTAL_MAX)) {
        Py_DECREF(pop(spares));
    }
    spares->free[spares->free_count++] = bytes;
    spares->free_bytes += size;
}

BKPY_HOT PyObject *
bkpy_spare_new(LoopObject *loop, const void *data, size_t len)
{
    struct bkpy_spares *spares = loop->spares;
    PyObject *bytes;

    if (spares == NULL || spares->free_count == 0 ||
        !is_fitting(
            (size_t)PyBytes_GET_SIZE(spares->free[spares->free_count - 1]),
            len)) {
        return PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
    }
    bytes = pop(spares);
    bkpy_bytes_renew(bytes, (Py_ssize_t)len);
    memcpy(PyBytes_AS_STRING(bytes), data, len);
    return bytes;
}

/* Where to keep one of that size; NULL: it is not to be kept. */
static struct bkpy_spares *
spares_for(LoopObject *loop, Py_ssize_t size, Py_ssize_t most)
{
    if (!BKPY_HAS_FREE_LISTS || size <= SPARE_MIN || size > most ||
        loop->is_closed) {
        return NULL;
    }
    if (loop->spares == NULL) {
        loop->spares = PyMem_Calloc(1, sizeof(*loop->spares));
    }
    return loop->spares;
}

BKPY_HOT void
bkpy_spare_drop(LoopObject *loop, PyObject *bytes)
{
    struct bkpy_spares *spares = NULL;

    assert(PyBytes_CheckExact(bytes));
    if (Py_REFCNT(bytes) == 1) {
        spares = spares_for(loop, PyBytes_GET_SIZE(bytes), SPARE_MAX);
    }
    if (spares == NULL) {
        Py_DECREF(bytes);
        return;
    }
    push(spares, bytes);
}

BKPY_HOT PyObject *
bkpy_spare_lend(LoopObject *loop, bkpy_spare_trail *trail, const void *data,
                size_t len)
{
    PyObject *bytes = bkpy_spare_new(loop, data, len);
    PyObject *oldest = trail->before;

    if (bytes == NULL || !BKPY_HAS_FREE_LISTS || len <= SPARE_MIN ||
        len > HELD_MAX) {
        return bytes;
    }
    trail->before = trail->last;
    trail->last = Py_NewRef(bytes);
    if (oldest != NULL) {
        bkpy_spare_drop(loop, oldest);
    }
    return bytes;
}

static inline void
collect(LoopObject *loop, PyObject **place)
{
    PyObject *bytes = *place;

    if (bytes != NULL && Py_REFCNT(bytes) == 1) {
        *place = NULL;
        bkpy_spare_drop(loop, bytes);
    }
}

BKPY_HOT void
bkpy_spare_collect(LoopObject *loop, bkpy_spare_trail *trail)
{
    collect(loop, &trail->before);
    collect(loop, &trail->last);
}

void
bkpy_spare_hold(LoopObject *loop, PyObject *bytes)
{
    struct bkpy_spares *spares = NULL;

    if (PyBytes_CheckExact(bytes)) {
        spares = spares_for(loop, PyBytes_GET_SIZE(bytes), HELD_MAX);
    }
    if (spares == NULL || spares->held_count == COUNT_MAX) {
        Py_DECREF(bytes);
        return;
    }
    spares->held[spares->held_count++] = bytes;
}

void
bkpy_spare_drop_held(LoopObject *loop)
{
    struct bkpy_spares *spares = loop->spares;

    while (spares != NULL && spares->held_count > 0) {
        bkpy_spare_drop(loop, spares->held[--spares->held_count]);
    }
}

void
bkpy_spares_clear(LoopObject *loop)
{
    struct bkpy_spares *spares = loop->spares;

    bkpy_spare_drop_held(loop); /* a closed loop keeps none */
    loop->spares = NULL;
    while (spares != NULL && spares->free_count > 0) {
        Py_DECREF(pop(spares));
    }
    PyMem_Free(spares);
}
