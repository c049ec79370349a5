/* handle.h -- asyncio.Handle and asyncio.TimerHandle.
 *
 * SPDX-License-Identifier: MIT
 *
 * Both types share one struct, so that one free list serves both. While a
 * handle is queued in the core, the queue owns one reference to it.
 */
#ifndef BKPY_HANDLE_H
#define BKPY_HANDLE_H

#include "loop.h"

typedef enum {
    BKPY_HANDLE_SOON,       /* call_soon */
    BKPY_HANDLE_THREADSAFE, /* call_soon_threadsafe */
    BKPY_HANDLE_IO,         /* add_reader and the like: never queued itself */
    BKPY_HANDLE_TIMER,      /* call_at */
} bkpy_handle_kind;

/* So many arguments are held inline; more of them in one tuple. */
#define BKPY_INLINE_ARGS 3

typedef struct {
    PyObject_HEAD
    LoopObject *loop;   /* owned */
    PyObject *callback; /* owned; NULL once cancelled */
    PyObject *context;  /* owned */
    /* Owned: the arguments, or, with more of them, a tuple in args[0]. */
    PyObject *args[BKPY_INLINE_ARGS];
    Py_ssize_t nargs;
    PyObject *source_traceback; /* owned; debug mode, else NULL */
    PyObject *repr;             /* owned; frozen by cancel in debug mode */
    PyObject *weakrefs;
    PyObject *gate;        /* owned lock that cancel() waits at, or NULL */
    unsigned long runner;  /* thread-safe kind: the thread that runs it */
    unsigned running;      /* how many calls of the callback are under way */
    uint8_t kind;          /* bkpy_handle_kind */
    bool is_cancelled;
    bool is_queued;        /* the core holds it, with a reference */
    double when;           /* timers: in seconds of loop.time() */
    PyObject *when_object; /* owned; what call_at got if that was no float */
    bk_timer timer;        /* a plain handle uses only its first member */
} HandleObject;

static inline HandleObject *
HandleObject_CAST(PyObject *op)
{
    return (HandleObject *)op;
}

/* A handle that is not queued yet. context NULL: a copy of the current one.
 * Arguments are borrowed. New reference, or NULL with an exception. */
PyObject *bkpy_handle_new(LoopObject *loop, PyObject *callback,
                          PyObject *const *args, Py_ssize_t nargs,
                          PyObject *context, bkpy_handle_kind kind);

/* Queue it: the next turn runs it. 0, or -1 with an exception. */
int bkpy_handle_schedule(PyObject *handle);

/* The same for a timer. when_object is what the user gave: any number. */
int bkpy_handle_schedule_at(PyObject *handle, PyObject *when_object);

/* Run its callback in its context as the loop does: failures go to the
 * exception handler, KeyboardInterrupt and SystemExit end the run. A cancelled
 * handle does nothing. No exception is set afterwards. */
void bkpy_handle_run_now(PyObject *handle);

/* As handle.cancel(). Callback and arguments are dropped at once (after the
 * callback, if it runs); that may run any Python code. */
void bkpy_handle_cancel(PyObject *handle);

bool bkpy_handle_is_cancelled(PyObject *handle);

/* The handle that a node of the core belongs to (borrowed), or NULL when the
 * node is none of a handle. */
PyObject *bkpy_handle_of(const bk_handle *node);

/* The node has left the core's queues without running: drop the queue's
 * reference. */
void bkpy_handle_dequeued(PyObject *handle);

/* Free the memory that a loop has cached. */
void bkpy_handle_free_cache(LoopObject *loop);

#endif
