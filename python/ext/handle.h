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
    PyObject *callback; /* owned; NULL once dropped */
    PyObject *context;  /* owned */
    /* Owned: the arguments, or, with more of them, a tuple in args[0]. */
    PyObject *args[BKPY_INLINE_ARGS];
    Py_ssize_t nargs;
    PyObject *source_traceback; /* owned; debug mode, else NULL */
    PyObject *repr;             /* owned; frozen by cancel in debug mode */
    PyObject *weakrefs;
    PyObject *gate;       /* owned lock that cancel() waits at, or NULL */
    unsigned long runner; /* thread-safe kind: the thread that runs it */
    unsigned running;     /* how many calls of the callback are under way */
    uint8_t kind;         /* bkpy_handle_kind */
    bool is_cancelled;
    bool is_dropped;       /* cancelled: callback and arguments are no more
                              seen, but stay while a call uses them */
    bool is_queued;        /* the core holds it, with a reference */
    double when;           /* timers: in seconds of loop.time() */
    PyObject *when_object; /* owned; what call_at got if that was no float */
    union {
        bk_handle handle; /* a timer starts with one */
        bk_timer timer;
    } node;
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

/* The same from any thread; wakes the loop. */
int bkpy_handle_schedule_threadsafe(PyObject *handle);

/* The same for a timer. when_object is what the user gave if it was no float,
 * else NULL. */
int bkpy_handle_schedule_at(PyObject *handle, double when,
                            PyObject *when_object);

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

/* At the end of a run: the collector has to see what is still queued, see
 * handle.c. */
void bkpy_handle_track_queued(LoopObject *loop);

/* The node has left the core's queues without running: drop the queue's
 * reference. */
void bkpy_handle_dequeued(PyObject *handle);

/* For the files of the two types: asyncio's Handle._run(), 0, or -1 with the
 * exception that leaves it. */
int bkpy_handle_run(HandleObject *self);

/* The callback has raised: take the exception to the exception handler. An
 * exception that is set afterwards has to leave the loop. */
void bkpy_handle_report(HandleObject *self);

/* From 3.14 on: the handle of call_soon_threadsafe(), whose cancel() and
 * cancelled() wait while another thread runs it. wait: -1 with an exception
 * (of a signal handler). */
bool bkpy_handle_is_guarded(const HandleObject *self);
int bkpy_handle_wait_for_runner(HandleObject *self);

/* Forget callback and arguments, or hide them while a call uses them. */
void bkpy_handle_drop_call(HandleObject *self);

/* Slots that both types have. */
int bkpy_handle_traverse(PyObject *op, visitproc visit, void *arg);
int bkpy_handle_clear(PyObject *op);
void bkpy_handle_dealloc(PyObject *op);
PyObject *bkpy_handle_repr(PyObject *op);

/* Free the memory that a loop has cached. */
void bkpy_handle_free_cache(LoopObject *loop);

#endif
