/* socket_io.c -- one send or receive on a socket that somebody else owns.
 *
 * SPDX-License-Identifier: MIT
 */

#include "becket/socket.h"

#include <errno.h>

#include "base/sys.h"

int64_t
bk_socket_recv(int fd, void *buf, size_t len)
{
    if (fd < 0) {
        return -EBADF;
    }
    return bki_sys_recv(fd, buf, len);
}

int64_t
bk_socket_send(int fd, const void *data, size_t len)
{
    if (fd < 0) {
        return -EBADF;
    }
    return bki_sys_send(fd, data, len);
}
