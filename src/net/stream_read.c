/* stream_read.c -- the receiving half of a stream.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The engine asks for a buffer (on_alloc), receives once, and tells what came
 * (on_read). Both belong together and nothing of the user's runs in between
 * but get_buffer itself. If that closes the stream, what was received is
 * delivered all the same, as in asyncio.
 */

#include <errno.h>

#include "becket/error.h"

#include "base/hint.h"
#include "net/internal.h"

void
bki_stream_read_start(bk_transport *t)
{
    int r;

    if (t->_state != BKI_STREAM_STARTED || t->_is_read_paused) {
        return;
    }
    r = t->_io._loop->engine->ops->read_start(&t->_io);
    if (r < 0) {
        bki_stream_lose(t, r);
    }
}

void
bki_stream_read_stop(bk_transport *t)
{
    t->_io._loop->engine->ops->read_stop(&t->_io);
}

static int
use_scratch(bk_transport *t, struct bki_buffer *ret_buf)
{
    char *scratch = bki_loop_scratch(t->_io._loop);

    if (BKI_UNLIKELY(scratch == NULL)) {
        return -ENOMEM;
    }
    t->_is_buffer_lent = false;
    ret_buf->data = scratch;
    ret_buf->len = BK_READ_MAX;
    return 0;
}

BKI_HOT struct bki_buffer
bki_stream_on_alloc(bk_io *io)
{
    bk_transport *t = BKI_CONTAINER_OF(io, bk_transport, _io);
    struct bki_buffer buf = {.data = NULL};
    int r = 0;

    t->_is_buffer_lent = true;
    if (t->_protocol->get_buffer != NULL) {
        r = t->_protocol->get_buffer(t, &buf.data, &buf.len, t->_self);
    }
    if (r == 0) {
        r = use_scratch(t, &buf);
    }
    if (BKI_UNLIKELY(r < 0)) {
        buf.data = NULL;
        if (r != -EAGAIN) {
            bki_stream_lose(t, r);
        }
    }
    return buf;
}

static void
tell_received(bk_transport *t, size_t len)
{
    const bk_protocol *protocol = t->_protocol;

    if (t->_is_buffer_lent) {
        if (protocol->buffer_updated != NULL) {
            protocol->buffer_updated(t, len, t->_self);
        }
    }
    else if (protocol->data_received != NULL) {
        protocol->data_received(t, t->_io._loop->scratch, len, t->_self);
    }
}

static void
tell_unused(bk_transport *t)
{
    if (t->_is_buffer_lent && t->_protocol->buffer_unused != NULL) {
        t->_protocol->buffer_unused(t, t->_self);
    }
}

BKI_COLD static void
tell_eof(bk_transport *t)
{
    const bk_protocol *protocol = t->_protocol;
    bool is_kept_open =
        protocol->eof_received != NULL && protocol->eof_received(t, t->_self);

    if (t->_io._loop->is_breaking) {
        return; /* not dealt with: the next run meets the end again */
    }
    if (is_kept_open) {
        bki_stream_read_stop(t);
    }
    else {
        bk_transport_close(t);
    }
}

BKI_HOT void
bki_stream_on_read(bk_io *io, ssize_t n)
{
    bk_transport *t = BKI_CONTAINER_OF(io, bk_transport, _io);

    if (BKI_LIKELY(n > 0)) {
        tell_received(t, (size_t)n);
    }
    else if (n == BK_EOF) {
        tell_eof(t);
    }
    else {
        tell_unused(t);
        if (n != -EAGAIN) {
            bki_stream_lose(t, (int)n);
        }
    }
}

void
bk_transport_pause_reading(bk_transport *t)
{
    if (!bki_stream_is_open(t) || t->_is_read_paused ||
        t->_kind == BKI_STREAM_WRITER) {
        return;
    }
    t->_is_read_paused = true;
    bki_stream_read_stop(t);
}

/* After eof_received this begins receiving again and meets the end once more,
 * as in asyncio. */
void
bk_transport_resume_reading(bk_transport *t)
{
    if (!bki_stream_is_open(t) || !t->_is_read_paused ||
        t->_kind == BKI_STREAM_WRITER) {
        return;
    }
    t->_is_read_paused = false;
    bki_stream_read_start(t);
}

bool
bk_transport_is_reading(bk_transport *t)
{
    bki_stream_flush(t);
    return t->_state < BKI_STREAM_CLOSING && !t->_is_read_paused &&
           t->_kind != BKI_STREAM_WRITER;
}
