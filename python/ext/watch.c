/* watch.c -- one watched fd: a watcher for each direction.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * loop->watches maps fds to Watch objects, and owns them. A Watch lives as long
 * as one direction has a handle; it leaves the dict before anything of it is
 * dropped, since dropping can run any code.
 *
 * In place of a Handle there may be a SockOp, which is called without one. All
 * said of handles here is true of it as well; but nothing becomes of it when it
 * is cancelled, since it asks its future.
 *
 * A direction that is given a new handle in the middle of a turn may still have
 * an event queued that was found for the old one. The old handle's callback
 * may have been meant to consume what made the fd ready, so asyncio, where the
 * cancelled handle itself is in the queue, calls the new one only after the
 * next poll. So do we: an event that fires in the turn in which its handle
 * took the place of another is passed over. The poller is level-triggered and
 * reports the fd again if it is still ready.
 *
 * After a sock_recv() most often the next one comes. So a socket's fd stays
 * registered, its watch paused and without watchers, until there is an event
 * that nobody waits for. Whether it is still the same socket's is asked of a
 * weak reference.
 */

#include <stddef.h>

#include "handle.h"
#include "loop_watch.h"
#include "sock_op.h"

/* As no turn is called. */
#define NO_TURN UINT64_MAX

struct direction {
    PyObject *handle;  /* owned; NULL: not watched */
    uint64_t replaced; /* the turn in which it replaced another, or NO_TURN */
};

typedef struct {
    PyObject_HEAD
    LoopObject *loop; /* borrowed: it owns us */
    PyObject *file;   /* owned: what add_reader was given first */
    PyObject *sock;   /* owned: weakref to whose it is while paused, or NULL */
    struct direction reader;
    struct direction writer;
    bk_watch watch;
} WatchObject;

static inline WatchObject *
WatchObject_CAST(PyObject *op)
{
    return (WatchObject *)op;
}

/* --- life cycle --- */

static int
watch_traverse(PyObject *op, visitproc visit, void *arg)
{
    WatchObject *self = WatchObject_CAST(op);

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->file);
    Py_VISIT(self->sock);
    Py_VISIT(self->reader.handle);
    Py_VISIT(self->writer.handle);
    return 0;
}

/* Told to the core first: it may still have the watch's nodes queued. */
static int
watch_clear(PyObject *op)
{
    WatchObject *self = WatchObject_CAST(op);

    if (self->loop != NULL) {
        self->loop = NULL;
        (void)bk_watch_set(&self->watch, 0);
    }
    Py_CLEAR(self->file);
    Py_CLEAR(self->sock);
    Py_CLEAR(self->reader.handle);
    Py_CLEAR(self->writer.handle);
    return 0;
}

static void
watch_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    (void)watch_clear(op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

static struct direction *
direction_of(WatchObject *self, unsigned event)
{
    return event == BK_READABLE ? &self->reader : &self->writer;
}

static void
on_ready(bk_watch *watch, unsigned event)
{
    WatchObject *self =
        (WatchObject *)((uintptr_t)watch - offsetof(WatchObject, watch));
    struct direction *direction = direction_of(self, event);
    PyObject *handle;

    if (direction->handle == NULL || direction->replaced == self->loop->turn) {
        return;
    }
    handle = Py_NewRef(direction->handle);
    if (Py_TYPE(handle) == self->loop->sock_op_type) {
        bkpy_sock_op_run_now(handle);
    }
    else {
        bkpy_handle_run_now(handle);
    }
    Py_DECREF(handle);
}

/* A watch without interest, in loop->watches. New reference. */
static WatchObject *
watch_new(LoopObject *loop, PyObject *key, int fd, PyObject *file)
{
    PyTypeObject *tp = loop->state->WatchType;
    WatchObject *self = WatchObject_CAST(tp->tp_alloc(tp, 0));
    int r;

    if (self == NULL) {
        return NULL;
    }
    self->reader.replaced = NO_TURN;
    self->writer.replaced = NO_TURN;
    r = bk_watch_init(&self->watch, loop->core, fd, on_ready);
    if (r < 0) {
        bkpy_loop_raise(loop, r);
        Py_DECREF(self);
        return NULL;
    }
    self->loop = loop;
    self->file = Py_NewRef(file);
    if (PyDict_SetItem(loop->watches, key, (PyObject *)self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

static bool
is_unused(const WatchObject *self)
{
    return self->reader.handle == NULL && self->writer.handle == NULL;
}

/* Whether it is paused, or was, and the weak reference is to this socket. */
static bool
is_of_socket(const WatchObject *self, PyObject *sock)
{
    PyObject *known = NULL;

    if (self->sock == NULL || PyWeakref_GetRef(self->sock, &known) < 0) {
        PyErr_Clear();
        return false;
    }
    Py_XDECREF(known); /* the caller has the socket */
    return known == sock;
}

/* Without a weak reference a watch is not paused. */
static bool
can_note_socket(WatchObject *self, PyObject *sock)
{
    if (!is_of_socket(self, sock)) {
        Py_XSETREF(self->sock, PyWeakref_NewRef(sock, NULL));
        PyErr_Clear();
    }
    return self->sock != NULL;
}

/* --- the loop's watches --- */

/* The fd's watch: 1 and a new reference, 0 if there is none, -1 with an
 * exception. */
static int
find(LoopObject *loop, PyObject *key, WatchObject **ret)
{
    PyObject *found = NULL;
    int r = loop->watches == NULL
                ? 0
                : PyDict_GetItemRef(loop->watches, key, &found);

    *ret = WatchObject_CAST(found);
    return r;
}

static int
find_fd(LoopObject *loop, int fd, WatchObject **ret)
{
    PyObject *key = PyLong_FromLong(fd);
    int r = key == NULL ? -1 : find(loop, key, ret);

    Py_XDECREF(key);
    return r;
}

/* Out of the dict, as it watches nothing any more. The core is told here, as
 * its nodes may still be queued: whoever else holds the watch, such as the
 * collector, may do so for longer than the loop lives. The caller holds a
 * reference. Keeps what is raised. */
static void
forget(LoopObject *loop, WatchObject *self)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *key = PyLong_FromLong(bk_watch_fd(&self->watch));

    if (key == NULL || loop->watches == NULL ||
        PyDict_DelItem(loop->watches, key) < 0) {
        /* It was dropped already, by code that ran in between. */
        PyErr_Clear();
    }
    else {
        (void)bk_watch_set(&self->watch, 0);
        self->loop = NULL;
    }
    Py_XDECREF(key);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

/* Take a direction's handle, NULL if there is none. */
static PyObject *
take_handle(struct direction *direction)
{
    PyObject *handle = direction->handle;

    direction->handle = NULL;
    direction->replaced = NO_TURN;
    return handle;
}

static void
cancel_taken(LoopObject *loop, PyObject *handle)
{
    if (handle != NULL && Py_TYPE(handle) != loop->sock_op_type) {
        bkpy_handle_cancel(handle);
    }
    Py_XDECREF(handle);
}

/* The poller has refused. Where it no longer knows the fd at all the other
 * direction is gone as well, as with asyncio's selectors. */
static void
undo(LoopObject *loop, WatchObject *self, struct direction *direction,
     PyObject *before)
{
    PyObject *refused = direction->handle;

    direction->handle = before;
    if (bk_watch_get(&self->watch) == 0) {
        forget(loop, self);
    }
    Py_XDECREF(refused);
}

/* Give a direction this handle; sock: the socket whose registration may have
 * been kept, or NULL. 0, or -1 with an exception. */
static int
set_handle(LoopObject *loop, WatchObject *self, PyObject *sock, unsigned event,
           PyObject *handle)
{
    struct direction *direction = direction_of(self, event);
    PyObject *before = direction->handle;
    unsigned events = bk_watch_get(&self->watch) | event;
    int r;

    /* Before the poller is told: an external one is given it as data. */
    direction->handle = Py_NewRef(handle);
    r = sock != NULL && is_of_socket(self, sock)
            ? bk_watch_resume(&self->watch, events)
            : bk_watch_set(&self->watch, events);
    if (r < 0) {
        undo(loop, self, direction, before);
        bkpy_loop_raise(loop, r);
        return -1;
    }
    if (before != NULL) {
        direction->replaced = loop->turn;
        cancel_taken(loop, before);
    }
    return 0;
}

/* file: what the user calls the fd; sock: see set_handle(). */
static int
watch_fd(LoopObject *self, PyObject *file, PyObject *sock, int fd,
         unsigned events, PyObject *handle)
{
    PyObject *key;
    WatchObject *watch = NULL;
    int r;

    if (bkpy_loop_check_closed(self) < 0) {
        return -1;
    }
    key = PyLong_FromLong(fd);
    r = key == NULL ? -1 : find(self, key, &watch);
    if (r == 0) {
        watch = watch_new(self, key, fd, file);
        r = watch == NULL ? -1 : 0;
    }
    else if (r > 0 && is_unused(watch)) {
        Py_SETREF(watch->file, Py_NewRef(file));
    }
    if (r >= 0) {
        r = set_handle(self, watch, sock, events, handle);
    }
    Py_XDECREF(key);
    Py_XDECREF(watch);
    return r;
}

int
bkpy_loop_watch_file(LoopObject *self, PyObject *file, int fd, unsigned events,
                     PyObject *handle)
{
    return watch_fd(self, file, NULL, fd, events, handle);
}

int
bkpy_watch_set_waker(LoopObject *self, int fd, bool is_waker)
{
    WatchObject *watch;
    int r = find_fd(self, fd, &watch);

    if (r > 0) {
        bk_watch_set_waker(&watch->watch, is_waker);
        Py_DECREF(watch);
    }
    return r < 0 ? -1 : 0;
}

int
bkpy_watch_begin(LoopObject *self, PyObject *sock, int fd, unsigned events,
                 PyObject *watcher)
{
    return watch_fd(self, Py_None, sock, fd, events, watcher);
}

/* sock: the socket whose registration may be kept, or NULL. Only what has been
 * read can have been taken away: an fd that can be written would be so at each
 * wait. */
static int
unwatch_fd(LoopObject *self, PyObject *sock, int fd, unsigned events,
           PyObject *watcher)
{
    struct direction *direction;
    WatchObject *watch;
    PyObject *taken;
    PyObject *file = NULL;
    bool may_pause;
    int r = find_fd(self, fd, &watch);

    if (r <= 0) {
        return r;
    }
    /* First, since the collector may run code of the user's. */
    may_pause =
        sock != NULL && events == BK_READABLE && can_note_socket(watch, sock);
    direction = direction_of(watch, events);
    if (direction->handle == NULL ||
        (watcher != NULL && direction->handle != watcher)) {
        Py_DECREF(watch);
        return 0;
    }
    taken = take_handle(direction);
    if (may_pause && is_unused(watch) && bk_watch_pause(&watch->watch)) {
        file = watch->file;
        watch->file = Py_NewRef(Py_None);
    }
    else {
        (void)bk_watch_set(&watch->watch,
                           bk_watch_get(&watch->watch) & ~events);
        if (is_unused(watch)) {
            forget(self, watch);
        }
    }
    Py_DECREF(watch);
    Py_XDECREF(file);
    cancel_taken(self, taken);
    return 1;
}

int
bkpy_loop_unwatch_fd(LoopObject *self, int fd, unsigned events,
                     PyObject *watcher)
{
    return unwatch_fd(self, NULL, fd, events, watcher);
}

int
bkpy_watch_end(LoopObject *self, PyObject *sock, int fd, unsigned events,
               PyObject *watcher)
{
    return unwatch_fd(self, sock, fd, events, watcher);
}

PyObject *
bkpy_watch_data(LoopObject *self, int fd)
{
    WatchObject *watch;
    PyObject *data;
    int r = find_fd(self, fd, &watch);

    if (r < 0) {
        return NULL;
    }
    if (r == 0) {
        Py_RETURN_NONE;
    }
    data = PyTuple_Pack(
        2, watch->reader.handle != NULL ? watch->reader.handle : Py_None,
        watch->writer.handle != NULL ? watch->writer.handle : Py_None);
    Py_DECREF(watch);
    return data;
}

int
bkpy_watch_find_file(LoopObject *self, PyObject *file)
{
    Py_ssize_t i = 0;
    PyObject *watch;

    while (self->watches != NULL &&
           PyDict_Next(self->watches, &i, NULL, &watch)) {
        if (WatchObject_CAST(watch)->file == file) {
            return bk_watch_fd(&WatchObject_CAST(watch)->watch);
        }
    }
    return -1;
}

void
bkpy_watches_close(LoopObject *self)
{
    PyObject *watches = self->watches;
    Py_ssize_t i = 0;
    PyObject *watch;

    self->watches = NULL;
    /* The core has forgotten them; whoever else holds one has an empty husk. */
    while (watches != NULL && PyDict_Next(watches, &i, NULL, &watch)) {
        WatchObject_CAST(watch)->loop = NULL;
    }
    Py_XDECREF(watches);
}

/* --- the type --- */

static PyType_Slot watch_slots[] = {
    {Py_tp_doc, "One watched fd. Internal."},
    {Py_tp_traverse, watch_traverse},
    {Py_tp_clear, watch_clear},
    {Py_tp_dealloc, watch_dealloc},
    {0, NULL},
};

static PyType_Spec watch_spec = {
    .name = "becket._core.Watch",
    .basicsize = sizeof(WatchObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = watch_slots,
};

int
bkpy_watch_setup(PyObject *module, bkpy_state *state)
{
    state->WatchType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &watch_spec, NULL);
    return state->WatchType == NULL ? -1 : 0;
}
