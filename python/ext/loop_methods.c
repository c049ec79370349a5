/* loop_methods.c -- the loop's table of methods.
 *
 * SPDX-License-Identifier: MIT
 *
 * The first line of each text is the signature that inspect shows; it is that
 * of asyncio.AbstractEventLoop.
 */

#include "loop.h"

#define KEYWORDS         (METH_FASTCALL | METH_KEYWORDS)
#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

static PyObject *loop_adopt_methods(PyObject *cls, PyObject *ignored);

PyMethodDef bkpy_loop_methods[] = {
    /* Scheduling. */
    {"call_soon", METHOD(loop_call_soon), KEYWORDS,
     "call_soon($self, /, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) in the next turn; a Handle."},
    {"call_soon_threadsafe", METHOD(loop_call_soon_threadsafe), KEYWORDS,
     "call_soon_threadsafe($self, /, callback, *args, context=None)\n--\n\n"
     "call_soon() for any thread: the loop wakes up for it."},
    {"call_later", METHOD(loop_call_later), KEYWORDS,
     "call_later($self, /, delay, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) after delay seconds; a TimerHandle."},
    {"call_at", METHOD(loop_call_at), KEYWORDS,
     "call_at($self, /, when, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) when time() has reached when; a TimerHandle."},
    {"time", loop_time, METH_NOARGS,
     "time($self, /)\n--\n\n"
     "The time on the loop's clock, in seconds."},
    {"_timer_handle_cancelled", loop_timer_handle_cancelled, METH_O,
     "_timer_handle_cancelled($self, handle, /)\n--\n\n"
     "Called for each timer that is cancelled, where overridden."},

    /* Futures and tasks. */
    {"create_future", loop_create_future, METH_NOARGS,
     "create_future($self, /)\n--\n\n"
     "An asyncio.Future of this loop."},
    {"create_task", METHOD(loop_create_task), KEYWORDS,
     BKPY_CREATE_TASK_SIGNATURE "\n--\n\n"
                                "A task that runs the coroutine."},
    {"set_task_factory", METHOD(loop_set_task_factory), KEYWORDS,
     "set_task_factory($self, /, factory)\n--\n\n"
     "What create_task() calls with the loop and the coroutine."},
    {"get_task_factory", loop_get_task_factory, METH_NOARGS,
     "get_task_factory($self, /)\n--\n\n"
     "The task factory, or None."},

    /* Running. */
    {"_run", loop_run, METH_NOARGS,
     "_run($self, /)\n--\n\n"
     "Run until stop(), or until an exception leaves the loop."},
    {"stop", loop_stop, METH_NOARGS,
     "stop($self, /)\n--\n\n"
     "End the run after the callbacks that are due now."},
    {"is_running", loop_is_running, METH_NOARGS,
     "is_running($self, /)\n--\n\n"
     "True while the loop runs."},
    {"is_closed", loop_is_closed, METH_NOARGS,
     "is_closed($self, /)\n--\n\n"
     "True once the loop is closed."},
    {"_close_core", loop_close_core, METH_NOARGS,
     "_close_core($self, /)\n--\n\n"
     "Close the loop: all that is queued is dropped."},
    {"_check_closed", loop_check_closed, METH_NOARGS,
     "_check_closed($self, /)\n--\n\n"
     "RuntimeError once the loop is closed."},
    {"get_debug", loop_get_debug, METH_NOARGS,
     "get_debug($self, /)\n--\n\n"
     "True in debug mode."},
    {"_set_debug", loop_set_debug, METH_O,
     "_set_debug($self, enabled, /)\n--\n\n"
     "Turn debug mode on or off."},
    {"_flush", loop_flush, METH_NOARGS,
     "_flush($self, /)\n--\n\n"
     "Send what transports have queued."},
    {"_stats", loop_stats, METH_NOARGS,
     "_stats($self, /)\n--\n\n"
     "The core's counters, see becket.LoopStats."},

    /* File descriptors. */
    {"add_reader", METHOD(loop_add_reader), KEYWORDS,
     "add_reader($self, /, fd, callback, *args)\n--\n\n"
     "Call callback(*args) whenever fd can be read."},
    {"add_writer", METHOD(loop_add_writer), KEYWORDS,
     "add_writer($self, /, fd, callback, *args)\n--\n\n"
     "Call callback(*args) whenever fd can be written."},
    {"_set_waker", METHOD(loop_set_waker), KEYWORDS,
     "_set_waker($self, fd, is_waker, /)\n--\n\n"
     "Whether a watched fd only has to end a wait."},
    {"remove_reader", METHOD(loop_remove_reader), KEYWORDS,
     "remove_reader($self, /, fd)\n--\n\n"
     "Take back add_reader(); False if there was none."},
    {"remove_writer", METHOD(loop_remove_writer), KEYWORDS,
     "remove_writer($self, /, fd)\n--\n\n"
     "Take back add_writer(); False if there was none."},
    {"_add_reader", METHOD(loop_add_reader_unchecked), KEYWORDS,
     "_add_reader($self, /, fd, callback, *args)\n--\n\n"
     "add_reader() also where a transport has the fd; the Handle."},
    {"_add_writer", METHOD(loop_add_writer_unchecked), KEYWORDS,
     "_add_writer($self, /, fd, callback, *args)\n--\n\n"
     "add_writer() also where a transport has the fd; the Handle."},
    {"_remove_reader", METHOD(loop_remove_reader_unchecked), KEYWORDS,
     "_remove_reader($self, /, fd)\n--\n\n"
     "remove_reader() also where a transport has the fd."},
    {"_remove_writer", METHOD(loop_remove_writer_unchecked), KEYWORDS,
     "_remove_writer($self, /, fd)\n--\n\n"
     "remove_writer() also where a transport has the fd."},

    /* Sockets. */
    {"sock_recv", METHOD(loop_sock_recv), KEYWORDS,
     "sock_recv($self, /, sock, nbytes)\n--\n\n"
     "Receive up to nbytes bytes; b'' at the end."},
    {"sock_recv_into", METHOD(loop_sock_recv_into), KEYWORDS,
     "sock_recv_into($self, /, sock, buf)\n--\n\n"
     "Receive into buf; how many bytes."},
    {"sock_recvfrom", METHOD(loop_sock_recvfrom), KEYWORDS,
     "sock_recvfrom($self, /, sock, bufsize)\n--\n\n"
     "Receive a datagram; (bytes, address)."},
    {"sock_recvfrom_into", METHOD(loop_sock_recvfrom_into), KEYWORDS,
     "sock_recvfrom_into($self, /, sock, buf, nbytes=0)\n--\n\n"
     "Receive a datagram into buf; (how many bytes, address)."},
    {"sock_sendall", METHOD(loop_sock_sendall), KEYWORDS,
     "sock_sendall($self, /, sock, data)\n--\n\n"
     "Send all of data."},
    {"sock_sendto", METHOD(loop_sock_sendto), KEYWORDS,
     "sock_sendto($self, /, sock, data, address)\n--\n\n"
     "Send a datagram; how many bytes."},
    {"sock_accept", METHOD(loop_sock_accept), KEYWORDS,
     "sock_accept($self, /, sock)\n--\n\n"
     "Accept a connection; (socket, address)."},
    {"_sock_connect", METHOD(loop_sock_connect_resolved), KEYWORDS,
     "_sock_connect($self, /, sock, address)\n--\n\n"
     "Connect to an address that needs no resolving."},
    {"_getaddrinfo", METHOD(loop_getaddrinfo), KEYWORDS,
     "_getaddrinfo($self, host, service, family, type, proto, flags, "
     "/)\n--\n\n"
     "Look up addresses in becket's own threads; a future."},
    {"_getnameinfo", METHOD(loop_getnameinfo), KEYWORDS,
     "_getnameinfo($self, sockaddr, flags, /)\n--\n\n"
     "Look up names in becket's own threads; a future."},
    {"_check_sock_free", loop_check_sock_free, METH_O,
     "_check_sock_free($self, sock, /)\n--\n\n"
     "RuntimeError if a transport of this loop has it."},
    {"_make_stream_transport", METHOD(loop_make_stream_transport), KEYWORDS,
     "_make_stream_transport($self, /, sock, protocol, waiter=None, "
     "extra=None, server=None, context=None)\n--\n\n"
     "A transport that takes over a connected socket."},
    {"_make_datagram_transport", METHOD(loop_make_datagram_transport), KEYWORDS,
     "_make_datagram_transport($self, /, sock, protocol, address=None, "
     "waiter=None, extra=None)\n--\n\n"
     "A transport that takes over a datagram socket."},

    {"_adopt_methods", loop_adopt_methods, METH_NOARGS | METH_CLASS,
     "_adopt_methods($type, /)\n--\n\n"
     "Make this class the one that defines these methods."},
    {NULL, NULL, 0, NULL},
};

/* --- the class that defines them --- */

/* 1: the class has the method that we define, 0: another one; or -1. */
static int
inherits(PyObject *cls, PyObject *definer, const char *name)
{
    PyObject *ours = PyObject_GetAttrString(definer, name);
    PyObject *found = PyObject_GetAttrString(cls, name);
    int r = ours == NULL || found == NULL ? -1 : ours == found;

    Py_XDECREF(ours);
    Py_XDECREF(found);
    return r;
}

static int
adopt(PyObject *cls, PyMethodDef *method)
{
    PyObject *own = PyDescr_NewMethod((PyTypeObject *)cls, method);
    int r = -1;

    if (own != NULL) {
        r = PyObject_SetAttrString(cls, method->ml_name, own);
        Py_DECREF(own);
    }
    return r;
}

/* The interpreter calls a method in C directly on instances of the very class
 * that defines it; on all others it goes through the descriptor, which looks
 * through their bases first: twice the cost of call_soon() itself. So the class
 * of the loops takes over what its parts in Python leave to us. */
static PyObject *
loop_adopt_methods(PyObject *cls, PyObject *Py_UNUSED(ignored))
{
    bkpy_state *state = bkpy_state_of_type((PyTypeObject *)cls);
    PyObject *definer = (PyObject *)state->LoopType;

    for (PyMethodDef *method = bkpy_loop_methods; method->ml_name != NULL;
         method++) {
        int r = (method->ml_flags & METH_CLASS) != 0
                    ? 0
                    : inherits(cls, definer, method->ml_name);

        if (r < 0 || (r > 0 && adopt(cls, method) < 0)) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}
