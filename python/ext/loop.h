/* loop.h -- the Python loop object, for the files of the binding.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKPY_LOOP_H
#define BKPY_LOOP_H

#include "module.h"

/* A strong reference that the loop holds to an object which the core may
 * still call (a transport, a listener, a watch, a lookup). The loop's traverse
 * visits them all; closing the loop drops them all. */
typedef struct bkpy_anchor {
    struct bkpy_anchor *next;
    struct bkpy_anchor *prev;
    PyObject *owner; /* owned while linked, NULL otherwise */
} bkpy_anchor;

typedef struct LoopObject {
    PyObject_HEAD
    bkpy_state *state;     /* borrowed: our type keeps the module alive */
    bk_loop *core;         /* owned; NULL only before __init__ */
    bkpy_anchor anchors;   /* head of the list of held objects */
    PyObject *watches;     /* owned dict: fd -> Watch (loop_watch.c) */
    PyObject **transports; /* owned table: fd -> borrowed transport */
    size_t transports_size;
    PyObject *poller;       /* owned: the external selector or NULL */
    PyObject *poller_error; /* owned: what the selector raised, until told */
    size_t poller_offset;   /* external_poller.c: where to go on reading */
    PyObject *exit; /* owned: the exception that ends the run, or NULL */
    PyObject *task_factory;   /* owned, NULL for the default */
    PyObject *current_handle; /* borrowed: the handle that runs, debug mode */
    PyThreadState *blocked;   /* saved while the GIL is given up */
    /* Owned by the loop as well as by the state: cached memory of handles
     * points to them after the module may have gone. */
    PyTypeObject *handle_type;
    PyTypeObject *timer_handle_type;
    PyTypeObject *sock_op_type; /* likewise of operations */
    void *free_handles;         /* handle.c: cached memory, bounded */
    void *free_sock_ops;        /* sock_op.c: likewise */
    unsigned free_handle_count;
    unsigned free_sock_op_count;
    void *free_wakeups; /* future_wake.c: likewise */
    unsigned free_wakeup_count;
    PyObject *spare_future;     /* future.c: owned, or NULL */
    struct bkpy_spares *spares; /* spare.c: owned, or NULL */
    struct bkpy_peers *peers;   /* peers.c: owned, or NULL */
    char *sock_landing;         /* sock_attempt.c: owned memory, or NULL */
    bool is_sock_bulky;         /* the last sock_recv() got much */
    PyObject *context_keyword;  /* loop_call.c: owned string, or NULL */
    unsigned type_version;   /* overridden holds for this version of the type */
    unsigned overridden;     /* BKPY_OWN_x that the class overrides */
    PyObject **dict_place;   /* our __dict__, for the same version */
    uint64_t turn;           /* counts turns, see loop_watch.c */
    uint64_t last_time_ns;   /* what an overridden time() said last */
    unsigned long thread_id; /* threading.get_ident() of the run, 0: none */
    double slow_callback_duration;
    bool is_debug;
    bool is_closed;        /* set as the first thing of closing */
    bool is_executor_shut; /* shutdown_default_executor or close came */
} LoopObject;

static inline LoopObject *
LoopObject_CAST(PyObject *op)
{
    return (LoopObject *)op;
}

/* What a subclass or an instance may put in place of ours, and we then honour
 * where CPython's loop calls it through self. */
enum {
    BKPY_OWN_TIME = 1 << 0,
    BKPY_OWN_CALL_SOON = 1 << 1,
    BKPY_OWN_CALL_AT = 1 << 2,
    BKPY_OWN_TIMER_CANCELLED = 1 << 3, /* _timer_handle_cancelled */
    BKPY_OWN_CREATE_FUTURE = 1 << 4,
    BKPY_OWN_GET_DEBUG = 1 << 5,
};

/* Which of these (several BKPY_OWN_x) are overridden. Cannot fail. */
unsigned bkpy_loop_find_overrides(LoopObject *self, unsigned which);

static inline unsigned
bkpy_loop_overrides(LoopObject *self, unsigned which)
{
    return self->type_version != 0 &&
                   self->type_version == bkpy_type_version(Py_TYPE(self)) &&
                   (self->dict_place == NULL || *self->dict_place == NULL)
               ? self->overridden & which
               : bkpy_loop_find_overrides(self, which);
}

/* 0, or -1 with RuntimeError('Event loop is closed'). */
int bkpy_loop_check_closed(LoopObject *self);

/* Debug mode: RuntimeError when a loop that runs is used by another thread. */
int bkpy_loop_check_thread(LoopObject *self);

/* With an exception set: KeyboardInterrupt and SystemExit are taken, end the
 * run after this callback and leave run_forever; returns true and no exception
 * is set any more. Anything else: false, and it is still set. While the loop
 * does not run: false. */
bool bkpy_loop_take_exit(LoopObject *self);

/* With an exception set that nothing can handle (the exception handler itself
 * has raised it, say): take it; it ends the run and leaves run_forever. While
 * the loop does not run it is written as unraisable. */
void bkpy_loop_leave(LoopObject *self);

/* With an exception set, take it: hand it to loop.call_exception_handler()
 * with this message and, where not NULL, these context entries.
 * KeyboardInterrupt and SystemExit go to bkpy_loop_take_exit() instead. What
 * the handler itself raises goes to bkpy_loop_leave(). No exception is set on
 * return. */
void bkpy_loop_report(LoopObject *self, const char *message,
                      PyObject *transport, PyObject *protocol,
                      PyObject *handle);

/* Hold owner (a new strong reference) until dropped; both idempotent. drop may
 * run owner's deallocation: look at nothing of it afterwards. */
void bkpy_anchor_hold(LoopObject *self, bkpy_anchor *anchor, PyObject *owner);
void bkpy_anchor_drop(bkpy_anchor *anchor);

/* loop.call_soon(callback, *args, context=context) as a user's override or the
 * original has it; the handle (new reference) or NULL. context may be NULL. */
PyObject *bkpy_loop_call_soon(LoopObject *self, PyObject *callback,
                              PyObject *const *args, Py_ssize_t nargs,
                              PyObject *context);

/* The same past any override and all checks: for the binding's own I/O. */
PyObject *bkpy_loop_add_handle(LoopObject *self, PyObject *callback,
                               PyObject *const *args, Py_ssize_t nargs,
                               PyObject *context);

/* loop.time() as a user's override or the original has it. 0 or -1 with an
 * exception. */
int bkpy_loop_time(LoopObject *self, double *ret_seconds);

/* Seconds of loop.time() as a point in time of the core: the first nanosecond
 * that is not before it, so that a timer is never early. *ret_rank: its place
 * among those that become the same nanosecond. */
uint64_t bkpy_seconds_to_ns(double seconds, uint16_t *ret_rank);
double bkpy_ns_to_seconds(uint64_t ns);

/* A future of this loop: loop.create_future() past overrides. New reference. */
PyObject *bkpy_loop_create_future(LoopObject *self);

/* Whether loop.create_future() is ours and gives an exact _asyncio.Future, and
 * get_debug() is ours as well. */
bool bkpy_loop_makes_own_futures(LoopObject *self);

/* future.done(): 1, 0, or -1 with an exception. */
int bkpy_future_is_done(bkpy_state *state, PyObject *future);

/* Wake a future: set_result(value), unless it is done already (cancelled).
 * -1 with an exception only for failures of the machinery. Likewise
 * set_exception. value/exception borrowed. */
int bkpy_future_set_result(bkpy_state *state, PyObject *future,
                           PyObject *value);
int bkpy_future_set_exception(bkpy_state *state, PyObject *future,
                              PyObject *exception);

/* Call callable(*args) inside context (entered and left here; what the call
 * wrote is flushed inside it, so that failures are scheduled in that context).
 * New reference or NULL with an exception. */
PyObject *bkpy_context_call(LoopObject *self, PyObject *context,
                            PyObject *callable, PyObject *const *args,
                            size_t nargsf);
/* The end of that: after PyContext_Enter(), with what the call gave, which is
 * given back. */
PyObject *bkpy_context_leave(LoopObject *self, PyObject *context,
                             PyObject *result);
/* The same for obj.name(*args), args[0] being obj. */
PyObject *bkpy_context_call_method(LoopObject *self, PyObject *context,
                                   PyObject *name, PyObject *const *args,
                                   size_t nargsf);

/* fd-level watching, see also loop_watch.h: a watch has for each direction a
 * Handle whose callback runs whenever the fd is ready, or a SockOp.
 * 1 removed, 0 there was none, -1 exception. Only removes when the direction's
 * watcher is `watcher` (NULL: any). */
int bkpy_loop_unwatch_fd(LoopObject *self, int fd, unsigned events,
                         PyObject *watcher);

/* Send what transports have kept back, in the order of their writes. Another
 * thread's call does nothing while the loop runs. */
void bkpy_loop_flush(const LoopObject *self);

/* RuntimeError 'File descriptor N is used by transport ...' when a transport
 * that is not closing has the fd. file is what the text shows as N. */
int bkpy_loop_check_fd_free(LoopObject *self, int fd);
int bkpy_loop_check_file_free(LoopObject *self, PyObject *file, int fd);
int bkpy_loop_check_sock_free(LoopObject *self, PyObject *sock);
/* The table of transport_table.c: fd -> transport (borrowed: it must be
 * forgotten before it dies). */
int bkpy_loop_note_transport(LoopObject *self, int fd, PyObject *transport);
void bkpy_loop_forget_transport(LoopObject *self, int fd, PyObject *transport);

/* Methods of the loop, for the table in loop_methods.c. METH_FASTCALL |
 * METH_KEYWORDS unless said otherwise. */
#define BKPY_KWMETHOD(name)                                                    \
    PyObject *name(PyObject *self, PyObject *const *args, Py_ssize_t nargs,    \
                   PyObject *kwnames)

/* loop.c */
PyObject *loop_close_core(PyObject *self, PyObject *ignored);
/* loop_clock.c */
PyObject *loop_time(PyObject *self, PyObject *ignored);
/* loop_info.c */
PyObject *loop_stop(PyObject *self, PyObject *ignored);
PyObject *loop_is_running(PyObject *self, PyObject *ignored);
PyObject *loop_is_closed(PyObject *self, PyObject *ignored);
PyObject *loop_get_debug(PyObject *self, PyObject *ignored);
PyObject *loop_set_debug(PyObject *self, PyObject *enabled);
PyObject *loop_flush(PyObject *self, PyObject *ignored);
PyObject *loop_check_closed(PyObject *self, PyObject *ignored);
PyObject *loop_timer_handle_cancelled(PyObject *self, PyObject *handle);
PyObject *loop_stats(PyObject *self, PyObject *ignored);
PyObject *bkpy_loop_repr(PyObject *self);
extern PyGetSetDef bkpy_loop_getset[];
extern PyMemberDef bkpy_loop_members[];
/* loop_methods.c */
extern PyMethodDef bkpy_loop_methods[];
/* loop_call.c */
BKPY_KWMETHOD(loop_call_soon);
BKPY_KWMETHOD(loop_call_soon_threadsafe);
BKPY_KWMETHOD(loop_call_later);
BKPY_KWMETHOD(loop_call_at);
/* loop_task.c */
BKPY_KWMETHOD(loop_create_task);
PyObject *loop_create_future(PyObject *self, PyObject *ignored);
BKPY_KWMETHOD(loop_set_task_factory);
PyObject *loop_get_task_factory(PyObject *self, PyObject *ignored);
/* loop_run.c: _run() -> None, and the hooks for bk_loop_new. */
PyObject *loop_run(PyObject *self, PyObject *ignored);
void bkpy_loop_hooks(LoopObject *self, bk_loop_hooks *ret_hooks);
/* loop_watch.c */
BKPY_KWMETHOD(loop_add_reader);
BKPY_KWMETHOD(loop_add_writer);
BKPY_KWMETHOD(loop_set_waker); /* fd, is_waker: for signals.py */
BKPY_KWMETHOD(loop_remove_reader);
BKPY_KWMETHOD(loop_remove_writer);
/* The same past the check for transports, as asyncio's own transports use
 * them: _add_reader and so on. */
BKPY_KWMETHOD(loop_add_reader_unchecked);
BKPY_KWMETHOD(loop_add_writer_unchecked);
BKPY_KWMETHOD(loop_remove_reader_unchecked);
BKPY_KWMETHOD(loop_remove_writer_unchecked);
/* sock_calls.c: each returns an awaitable that is a coroutine for asyncio. */
BKPY_KWMETHOD(loop_sock_recv);             /* sock, nbytes */
BKPY_KWMETHOD(loop_sock_recv_into);        /* sock, buf */
BKPY_KWMETHOD(loop_sock_recvfrom);         /* sock, bufsize */
BKPY_KWMETHOD(loop_sock_recvfrom_into);    /* sock, buf, nbytes=0 */
BKPY_KWMETHOD(loop_sock_sendall);          /* sock, data */
BKPY_KWMETHOD(loop_sock_sendto);           /* sock, data, address */
BKPY_KWMETHOD(loop_sock_accept);           /* sock */
BKPY_KWMETHOD(loop_sock_connect_resolved); /* _sock_connect(sock, address) */
/* resolver.c: futures.
 * _getaddrinfo(host: bytes|None, service: bytes|None, family, type, proto,
 *              flags) -> Future[list[(int, int, int, str, tuple)]]
 * _getnameinfo(sockaddr: tuple, flags: int) -> Future[(str, str)] */
BKPY_KWMETHOD(loop_getaddrinfo);
BKPY_KWMETHOD(loop_getnameinfo);
/* stream_transport.c: _make_stream_transport(sock, protocol, waiter=None,
 * extra=None, server=None, context=None) -> StreamTransport: takes over a
 * connected non-blocking socket object; queues connection_made, the start of
 * reading and the waking of waiter. context counts where a transport has one
 * for its whole life; None: a copy of the current one. */
BKPY_KWMETHOD(loop_make_stream_transport);
/* transport_table.c: _check_sock_free(sock): RuntimeError if another transport
 * has it. */
PyObject *loop_check_sock_free(PyObject *op, PyObject *sock);
/* datagram_transport.c: _make_datagram_transport(sock, protocol, address=None,
 * waiter=None, extra=None) -> DatagramTransport, likewise. address: the only
 * one to send to. */
BKPY_KWMETHOD(loop_make_datagram_transport);
/* server.c: Server is a base class; it has its own methods, see server.c. */

/* Negative result of a call into the core: what an external selector raised
 * meanwhile, else the exception for the code. Always NULL. */
PyObject *bkpy_loop_raise(LoopObject *self, int code);

/* Each file's part of traverse, clear and close. */
void bkpy_watches_close(LoopObject *self);
void bkpy_transports_free(LoopObject *self);

/* external_poller.c: bk_poller_ops over an object with the selectors
 * interface; poller_self is the LoopObject (borrowed). */
extern const bk_poller_ops bkpy_external_poller;

#endif
