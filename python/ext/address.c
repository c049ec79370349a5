/* address.c -- socket addresses as the socket module shows them.
 *
 * SPDX-License-Identifier: MIT
 */

#include "address.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

/* Write a byte's decimal digits; returns where they end. */
static char *
put_byte(char *to, unsigned byte)
{
    if (byte >= 100) {
        *to++ = (char)('0' + byte / 100);
    }
    if (byte >= 10) {
        *to++ = (char)('0' + byte / 10 % 10);
    }
    *to++ = (char)('0' + byte % 10);
    return to;
}

/* As inet_ntop() and Py_BuildValue() would, in a third of the time: datagrams
 * have one each.
 */
static PyObject *
inet_to_python(const struct sockaddr_in *in)
{
    const unsigned char *bytes = (const unsigned char *)&in->sin_addr;
    char text[INET_ADDRSTRLEN];
    char *end = text;
    PyObject *host, *port;
    PyObject *pair = NULL;

    for (int i = 0; i < 4; i++) {
        end = put_byte(end, bytes[i]);
        *end++ = '.';
    }
    host = PyUnicode_FromStringAndSize(text, end - text - 1);
    port = PyLong_FromLong(ntohs(in->sin_port));
    if (host != NULL && port != NULL) {
        pair = PyTuple_Pack(2, host, port);
    }
    Py_XDECREF(host);
    Py_XDECREF(port);
    return pair;
}

static PyObject *
inet6_to_python(const struct sockaddr_in6 *in6)
{
    char host[INET6_ADDRSTRLEN];

    if (inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host)) == NULL) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("siII", host, (int)ntohs(in6->sin6_port),
                         (unsigned)ntohl(in6->sin6_flowinfo),
                         (unsigned)in6->sin6_scope_id);
}

static PyObject *
unix_to_python(const struct sockaddr_un *un, socklen_t len)
{
    size_t path_len;

    if (len <= offsetof(struct sockaddr_un, sun_path)) {
        return PyUnicode_FromString("");
    }
    path_len = len - offsetof(struct sockaddr_un, sun_path);
    if (un->sun_path[0] == '\0') {
        /* Abstract, unix(7): a leading NUL, and the length counts. */
        return PyBytes_FromStringAndSize(un->sun_path, (Py_ssize_t)path_len);
    }
    return PyUnicode_DecodeFSDefaultAndSize(
        un->sun_path, (Py_ssize_t)strnlen(un->sun_path, path_len));
}

PyObject *
bkpy_address_to_python(const struct sockaddr *address, socklen_t len)
{
    if (len == 0) {
        Py_RETURN_NONE;
    }
    switch (address->sa_family) {
    case AF_INET:
        return inet_to_python((const void *)address);
    case AF_INET6:
        return inet6_to_python((const void *)address);
    case AF_UNIX:
        return unix_to_python((const void *)address, len);
    default:
        return Py_BuildValue("iy#", (int)address->sa_family, address->sa_data,
                             (Py_ssize_t)sizeof(address->sa_data));
    }
}

PyObject *
bkpy_bk_address_to_python(const bk_address *address)
{
    return bkpy_address_to_python(&address->u.sa, address->len);
}

int
bkpy_address_from_python(PyObject *tuple, bk_address *ret_address)
{
    const char *host;
    int port;
    unsigned flowinfo = 0;
    unsigned scope_id = 0;
    Py_ssize_t size = PyTuple_Check(tuple) ? PyTuple_GET_SIZE(tuple) : 0;
    bk_address address;

    if (size < 2 || size > 4 || !PyUnicode_Check(PyTuple_GET_ITEM(tuple, 0))) {
        return 0;
    }
    if (!PyArg_ParseTuple(tuple, "si|II", &host, &port, &flowinfo, &scope_id)) {
        return -1;
    }
    if (port < 0 || port > 65535 || flowinfo > 0xfffff ||
        bk_address_parse(host, (uint16_t)port, AF_UNSPEC, &address) < 0) {
        return 0;
    }
    if (bk_address_family(&address) == AF_INET6) {
        address.u.in6.sin6_flowinfo = htonl(flowinfo);
        address.u.in6.sin6_scope_id = scope_id;
    }
    else if (size != 2) {
        return 0;
    }
    *ret_address = address;
    return 1;
}
