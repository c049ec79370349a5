/* datagram_peer.c -- where datagrams come from and go to.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * An address tuple costs more than the rest of a small datagram. Peers repeat
 * themselves, and replies are sent to the very object that came with the
 * request: so the last sender's object is used again, and an object that was
 * seen before is not parsed again. Both rest on that such objects, of str and
 * int, never change.
 */

#include "datagram_transport.h"

#include <string.h>

#include "address.h"
#include "peers.h"

static void
keep(bkpy_peer *peer, PyObject *object, const struct sockaddr *address,
     socklen_t len)
{
    PyObject *before = peer->object;

    memcpy(&peer->u, address, len);
    peer->len = len;
    peer->object = Py_NewRef(object);
    Py_XDECREF(before);
}

PyObject *
bkpy_datagram_sender(DatagramTransportObject *self,
                     const struct sockaddr *address, socklen_t len)
{
    bkpy_peer *peer = &self->sender;
    PyObject *object;

    if (peer->object != NULL && peer->len == len &&
        memcmp(&peer->u, address, len) == 0) {
        return Py_NewRef(peer->object);
    }
    /* Most sockets hear from one peer only, and need no table. */
    object = peer->object == NULL || self->loop == NULL
                 ? bkpy_address_to_python(address, len)
                 : bkpy_peers_find(self->loop, address, len);
    if (object != NULL && len > 0 && len <= sizeof(peer->u)) {
        keep(peer, object, address, len);
    }
    return object;
}

/* Of what makes an INET or INET6 address, nothing that could change. */
static bool
is_constant(PyObject *object)
{
    if (!PyTuple_CheckExact(object)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); i++) {
        PyObject *item = PyTuple_GET_ITEM(object, i);

        if (!PyUnicode_CheckExact(item) && !PyLong_CheckExact(item)) {
            return false;
        }
    }
    return true;
}

const bkpy_peer *
bkpy_datagram_target(DatagramTransportObject *self, PyObject *object)
{
    bk_address address;
    int r;

    if (object == self->sender.object) {
        return &self->sender;
    }
    if (object == self->target.object) {
        return &self->target;
    }
    if (!is_constant(object)) {
        return NULL;
    }
    r = bkpy_address_from_python(object, &address);
    if (r < 0) {
        PyErr_Clear(); /* the method has the right words for it */
    }
    if (r <= 0 || bk_address_family(&address) != self->family) {
        return NULL;
    }
    keep(&self->target, object, &address.u.sa, address.len);
    return &self->target;
}
