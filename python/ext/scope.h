/* scope.h -- Python code that runs as a callback of the loop does.
 *
 * SPDX-License-Identifier: MIT
 *
 * For I/O callbacks, which have no Handle: the same context rules, the same
 * reports and the same debug mode as if they had one.
 */
#ifndef BKPY_SCOPE_H
#define BKPY_SCOPE_H

#include "loop.h"

typedef struct {
    LoopObject *loop;  /* owned until left */
    PyObject *context; /* owned: what was entered; NULL for none */
    uint64_t since_ns; /* debug mode: when it began, else 0 */
} bkpy_scope;

/* A callback that is only shown in messages, as owner.text(), never called. */
#define BKPY_SHOWN_CALLBACK(variable, text)                                    \
    static const PyMethodDef variable = {text, NULL, METH_NOARGS, NULL}

/* For a context that could not be entered since it is entered already, as by a
 * loop that runs inside its own callback: enters a copy of it and returns that,
 * a new reference; NULL: none. Clears the exception. */
BKPY_COLD PyObject *bkpy_scope_enter_copy(PyObject *context);

/* Enter context (NULL: none). Holds owner and loop until left. */
static inline void
bkpy_scope_enter(bkpy_scope *scope, PyObject *owner, LoopObject *loop,
                 PyObject *context)
{
    assert(PyErr_Occurred() == NULL);
    Py_INCREF(owner);
    scope->loop = (LoopObject *)Py_NewRef((PyObject *)loop);
    scope->since_ns = loop->is_debug ? bk_clock_now() : 0;
    scope->context = NULL;
    if (context != NULL) {
        scope->context = PyContext_Enter(context) == 0
                             ? Py_NewRef(context)
                             : bkpy_scope_enter_copy(context);
    }
}

/* The rest of bkpy_scope_leave(). */
void bkpy_scope_end(bkpy_scope *scope, PyObject *owner,
                    const PyMethodDef *name);

/* Send what was written meanwhile, and leave. In debug mode a slow one is
 * logged under this name. No exception may be set. In line, since what sends is
 * best called from near: see src/engine/readiness_io.c. */
static inline void
bkpy_scope_leave(bkpy_scope *scope, PyObject *owner, const PyMethodDef *name)
{
    assert(PyErr_Occurred() == NULL);
    if (!scope->loop->is_closed) {
        bk_loop_flush(scope->loop->core);
    }
    bkpy_scope_end(scope, owner, name);
}

/* With an exception set, take it: report it as one of the callback
 * owner.name(arg), which ran in this context; arg may be NULL. Call outside of
 * the scope, since the handler is called in the context. */
void bkpy_scope_report(LoopObject *loop, PyObject *owner,
                       const PyMethodDef *name, PyObject *arg,
                       PyObject *context);

/* KeyboardInterrupt or SystemExit is set. */
bool bkpy_is_exit_set(void);

#endif
