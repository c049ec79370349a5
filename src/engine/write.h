/* write.h -- an engine's write, in line for what is written most often.
 *
 * SPDX-License-Identifier: MIT
 *
 * That is one piece to a socket, of the readiness engine: by way of the table
 * it would be one more frame above the system call (readiness_io.c).
 */
#ifndef BKI_ENGINE_WRITE_H
#define BKI_ENGINE_WRITE_H

#include "base/hint.h"
#include "base/sys.h"
#include "engine/readiness.h"

static inline ssize_t
bki_engine_write_piece(bk_io *io, int fd, const struct iovec *piece)
{
    const struct bki_engine_ops *ops = io->_loop->engine->ops;

    if (BKI_LIKELY(ops->write == bki_readiness_write && !io->_is_file)) {
        return bki_readiness_written(
            io, bki_sys_send(fd, piece->iov_base, piece->iov_len));
    }
    return ops->write(io, fd, piece, 1);
}

#endif
