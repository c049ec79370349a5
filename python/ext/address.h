/* address.h -- socket addresses as the socket module shows them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKPY_ADDRESS_H
#define BKPY_ADDRESS_H

#include "module.h"

/* (host, port) for INET, (host, port, flowinfo, scope_id) for INET6, str or
 * bytes for UNIX, (family, bytes) for the rest, None for no address. New
 * reference or NULL with an exception. */
PyObject *bkpy_address_to_python(const struct sockaddr *address, socklen_t len);

/* The same for what the core keeps. */
PyObject *bkpy_bk_address_to_python(const bk_address *address);

/* From (literal, port[, flowinfo[, scope_id]]): 1 and the address, 0 when the
 * tuple is of another shape or the host is no literal, -1 with an exception. */
int bkpy_address_from_python(PyObject *tuple, bk_address *ret_address);

#endif
