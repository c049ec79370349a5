/* audit.c -- telling Python before another process can look.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * What a callback writes leaves when the callback returns. A process that the
 * callback starts, or a signal that it sends, may come before that; asyncio's
 * loop has sent the data by then. The interpreter says so by audit events,
 * subprocess.Popen() included, which forks without the fork hooks. There is no
 * event of signal.pidfd_send_signal(): children.py, which uses it, flushes.
 *
 * Audit hooks are called for every event of the process and cannot be taken
 * back, so this one is in C, looks at the event's name alone, and is added when
 * the first loop is made. It has no state: it asks the interpreter that raises
 * the event for becket.fork.
 */

#include "module.h"

#include <string.h>

/* os.fork() runs the fork hooks. */
static const char *const watched[] = {
    "os.exec",          "os.kill",   "os.killpg",
    "os.posix_spawn",   "os.system", "signal.pthread_kill",
    "subprocess.Popen",
};

static bool
is_watched(const char *event)
{
    /* Most events are none of these modules', and those of socket, which come
     * with every datagram, can be told by their second letter. */
    if ((event[0] != 'o' && event[0] != 's') || event[1] == 'o') {
        return false;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(watched); i++) {
        if (strcmp(event, watched[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int
flush_running_loop(void)
{
    PyObject *name = PyUnicode_FromString("becket.fork");
    PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
    PyObject *result = NULL;

    Py_XDECREF(name);
    if (module != NULL) {
        result = PyObject_CallMethod(module, "flush_running_loop", NULL);
        Py_DECREF(module);
    }
    Py_XDECREF(result);
    return PyErr_Occurred() == NULL ? 0 : -1;
}

static int
on_audit_event(const char *event, PyObject *Py_UNUSED(args),
               void *Py_UNUSED(user))
{
    return is_watched(event) ? flush_running_loop() : 0;
}

static PyObject *
add_audit_hook(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (PySys_AddAuditHook(on_audit_event, NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef audit_methods[] = {
    {"_add_audit_hook", add_audit_hook, METH_NOARGS,
     "_add_audit_hook($module, /)\n--\n\n"
     "Have becket.fork.flush_running_loop() called before processes start."},
    {NULL, NULL, 0, NULL},
};

int
bkpy_audit_setup(PyObject *module, bkpy_state *Py_UNUSED(state))
{
    return PyModule_AddFunctions(module, audit_methods);
}
