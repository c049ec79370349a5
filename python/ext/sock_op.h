/* sock_op.h -- one sock_*() call, and the ways to attempt it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKPY_SOCK_OP_H
#define BKPY_SOCK_OP_H

#include "loop.h"

typedef enum { OP_NEW, OP_WAITING, OP_DONE } op_state;

struct SockOpObject;

/* One kind of operation. attempt: a result (new reference), or NULL with an
 * exception; none at all, BlockingIOError and InterruptedError mean "wait". */
typedef struct {
    const char *name;
    unsigned events;
    PyObject *(*attempt)(struct SockOpObject *self);
} op_kind;

typedef struct SockOpObject {
    PyObject_HEAD
    LoopObject *loop;  /* owned */
    bkpy_state *state; /* borrowed */
    const op_kind *kind;
    PyObject *sock;    /* owned; NULL once done */
    PyObject *arg;     /* owned: data, buffer or size; may be NULL */
    PyObject *extra;   /* owned: second argument; may be NULL */
    PyObject *future;  /* owned while waiting */
    PyObject *awaited; /* owned while waiting: the future's iterator */
    /* What the fd's watch calls while waiting: a Handle of ours (owned), or
     * this operation itself (borrowed). */
    PyObject *watcher;
    PyObject *weakrefs;
    Py_ssize_t sent; /* sock_sendall: bytes that are on their way */
    int fd;          /* registered while waiting, else -1 */
    op_state step;
    bool is_running; /* a step or an attempt is under way: nothing may end it */
} SockOpObject;

static inline SockOpObject *
SockOpObject_CAST(PyObject *op)
{
    return (SockOpObject *)op;
}

/* sock_op.c: a new operation, which has not begun; arg and extra may be NULL.
 * New reference, or NULL with an exception. */
PyObject *bkpy_sock_op_new(PyObject *loop, const op_kind *kind, PyObject *sock,
                           PyObject *arg, PyObject *extra);

/* The fd is ready, of an operation that is its own watcher. Runs outside of any
 * context. */
void bkpy_sock_op_run_now(PyObject *op);

/* Free the cached memory of operations. */
void bkpy_sock_op_free_cache(LoopObject *loop);

/* sock_attempt.c */
extern const op_kind bkpy_op_recv;
extern const op_kind bkpy_op_recv_into;
extern const op_kind bkpy_op_recvfrom;
extern const op_kind bkpy_op_recvfrom_into;
extern const op_kind bkpy_op_sendall;
extern const op_kind bkpy_op_sendto;
extern const op_kind bkpy_op_accept;
extern const op_kind bkpy_op_connect;

#endif
