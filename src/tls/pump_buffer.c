/* pump_buffer.c -- the buffers of a TLS connection.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Records lie in blocks of the loop's pool, each of which holds one of full
 * size. A block belongs to a segment of a queue (net/segment.c), and so it can
 * pass from the pump into a transport's write queue without being copied; it
 * comes back to the pool when it has been sent. An idle connection has none:
 * what was received is decrypted from where it was received to, and only what
 * is left of it is kept.
 *
 * The engine may give up an embedder's lock while it shakes hands, and the
 * loop's pool belongs to the loop's thread; so blocks are taken from malloc
 * until the handshake is over.
 */

#include "tls/internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/slab.h"
#include "base/sys.h"

/* A record of the largest size, RFC 8446 5.2 (and RFC 5246 6.2.3 for the
 * 1024 + 1024 bytes that TLS 1.2 may add), and its header. */
#define RECORD_MAX ((size_t)16384 + 2048 + 5)

/* Blocks to keep, 18 KiB each: one callback's echo of 256 KiB. */
#define BLOCKS_CACHED_MAX 16

struct block {
    struct bki_slab *pool; /* borrowed; NULL: it came from malloc */
    char bytes[RECORD_MAX];
};

static struct block *
new_block(bk_tls_pump *pump)
{
    struct bki_slab *pool = &pump->_loop->tls_blocks;
    struct block *block;

    if (pump->_state == BK_TLS_HANDSHAKE || pump->_state == BK_TLS_SHUTDOWN) {
        pool = NULL;
        block = bki_sys_malloc(sizeof(*block));
    }
    else {
        if (pool->item_size == 0) {
            bki_slab_init(pool, sizeof(*block), BLOCKS_CACHED_MAX);
        }
        block = bki_slab_alloc(pool);
    }
    if (block != NULL) {
        block->pool = pool;
    }
    return block;
}

static void
free_block(void *owner)
{
    struct block *block = owner;

    if (block->pool == NULL) {
        bki_sys_free(block);
    }
    else {
        bki_slab_free(block->pool, block);
    }
}

/* --- records in queues --- */

/* Fill the room that the last block has left. */
static size_t
fill_tail(bk_queue *queue, const void *data, size_t len)
{
    struct bki_segment *tail = queue->_tail;
    size_t n;

    if (tail == NULL || tail->room == 0) {
        return 0;
    }
    n = tail->room < len ? tail->room : len;
    /* data is const for lent bytes; a block's are our own. */
    memcpy((char *)(uintptr_t)tail->data + tail->len, data, n);
    tail->len += n;
    tail->room -= n;
    queue->_len += n;
    return n;
}

static int
append_block(bk_tls_pump *pump, bk_queue *queue, const void *data, size_t len)
{
    struct block *block = new_block(pump);
    bk_slice slice;

    if (block == NULL) {
        return -ENOMEM;
    }
    slice.data = block->bytes;
    slice.len = len;
    memcpy(block->bytes, data, len);
    if (bki_queue_append_lent(queue, pump->_loop, &slice, free_block, block) <
        0) {
        free_block(block);
        return -ENOMEM;
    }
    queue->_tail->room = RECORD_MAX - len;
    return 0;
}

static int
append(bk_tls_pump *pump, bk_queue *queue, const char *data, size_t len)
{
    size_t done = fill_tail(queue, data, len);

    while (done < len) {
        size_t n = len - done < RECORD_MAX ? len - done : RECORD_MAX;
        int r = append_block(pump, queue, data + done, n);

        if (r < 0) {
            return r;
        }
        done += n;
    }
    return 0;
}

/* Blocks come back at once: giving one back calls no foreign code. */
static size_t
take(bk_tls_pump *pump, bk_queue *queue, char *buf, size_t len)
{
    size_t done = 0;

    while (done < len && queue->_head != NULL) {
        bk_queue used = {._head = NULL};
        size_t n =
            queue->_head->len < len - done ? queue->_head->len : len - done;

        memcpy(buf + done, queue->_head->data, n);
        done += n;
        bki_queue_consume(queue, n, &used);
        bki_queue_release(pump->_loop, &used);
    }
    return done;
}

/* --- what was received --- */

size_t
bk_tls_pump_take_input(bk_tls_pump *pump, void *buf, size_t len)
{
    size_t done = 0;

    if (pump->_in._len > 0) {
        done = take(pump, &pump->_in, buf, len);
    }
    if (done < len && pump->_window_len > 0) {
        size_t n =
            len - done < pump->_window_len ? len - done : pump->_window_len;

        memcpy((char *)buf + done, pump->_window, n);
        pump->_window += n;
        pump->_window_len -= n;
        done += n;
    }
    return done;
}

int
bki_tls_keep_window(bk_tls_pump *pump)
{
    size_t len = pump->_window_len;

    pump->_window_len = 0;
    if (len == 0 || pump->_state == BK_TLS_UNWRAPPED) {
        return 0;
    }
    return append(pump, &pump->_in, pump->_window, len);
}

size_t
bk_tls_pump_read_size(const bk_tls_pump *pump)
{
    size_t size = pump->_in._len + pump->_window_len;

    if (pump->_engine != NULL && pump->_engine->pending != NULL) {
        size += pump->_engine->pending(pump, pump->_engine_self);
    }
    return size;
}

/* --- what is to be sent --- */

int
bk_tls_pump_put_output(bk_tls_pump *pump, const void *data, size_t len)
{
    int r = append(pump, &pump->_out, data, len);

    if (r < 0) {
        pump->_has_no_memory = true;
    }
    return r;
}

size_t
bk_tls_pump_output_size(const bk_tls_pump *pump)
{
    return pump->_out._len;
}

int
bk_tls_pump_output_write(bk_tls_pump *pump, bk_transport *transport)
{
    return bki_stream_write_queue(transport, &pump->_out);
}

void
bk_tls_pump_output_take(bk_tls_pump *pump, void *buf, size_t len)
{
    (void)take(pump, &pump->_out, buf, len);
}

/* --- plain bytes --- */

int
bk_tls_pump_append(bk_tls_pump *pump, const void *data, size_t len)
{
    bk_slice slice = {.data = data, .len = len};
    struct bki_slice_cursor cursor = {.slices = &slice, .count = 1};

    return len == 0 ? 0 : bki_queue_append_copy(&pump->_backlog, &cursor, len);
}

int
bk_tls_pump_append_lent(bk_tls_pump *pump, const void *data, size_t len,
                        bk_release_cb release, void *owner)
{
    bk_slice slice = {.data = data, .len = len};
    int r = 0;

    if (len > 0) {
        r = bki_queue_append_lent(&pump->_backlog, pump->_loop, &slice, release,
                                  owner);
        if (r == 0) {
            return 0;
        }
    }
    release(owner);
    return r;
}

/* One segment, unless it is small and more follows. The engine cuts a large
 * one into records by itself. */
int
bki_tls_gather(bk_tls_pump *pump, struct bki_tls_plain *ret_plain)
{
    const struct bki_segment *segment = pump->_backlog._head;
    size_t len = 0;
    char *to;

    *ret_plain =
        (struct bki_tls_plain){.data = segment->data, .len = segment->len};
    if (segment->next == NULL || segment->len >= BKI_TLS_PLAIN_MAX) {
        return 0;
    }
    ret_plain->buffer = new_block(pump);
    if (ret_plain->buffer == NULL) {
        return -ENOMEM;
    }
    to = ((struct block *)ret_plain->buffer)->bytes;
    for (; segment != NULL && len < BKI_TLS_PLAIN_MAX;
         segment = segment->next) {
        size_t n = segment->len < BKI_TLS_PLAIN_MAX - len
                       ? segment->len
                       : BKI_TLS_PLAIN_MAX - len;

        memcpy(to + len, segment->data, n);
        len += n;
    }
    ret_plain->data = to;
    ret_plain->len = len;
    return 0;
}

void
bki_tls_give_back(struct bki_tls_plain *plain)
{
    if (plain->buffer != NULL) {
        free_block(plain->buffer);
    }
}

/* Giving lent bytes back may run any code, which may write: that is appended,
 * and the writer who is at work deals with it. */
void
bki_tls_consume_backlog(bk_tls_pump *pump, size_t len)
{
    bk_queue done = {._head = NULL};
    bk_loop *loop = pump->_loop;

    if (len > pump->_backlog._len) {
        len = pump->_backlog._len; /* the carrier was lost meanwhile */
    }
    bki_queue_consume(&pump->_backlog, len, &done);
    bki_queue_release(loop, &done);
}

size_t
bk_tls_pump_write_size(const bk_tls_pump *pump)
{
    return pump->_out._len + pump->_backlog._len;
}

size_t
bk_tls_pump_backlog_size(const bk_tls_pump *pump)
{
    return pump->_backlog._len;
}

void
bki_tls_drop_all(bk_tls_pump *pump)
{
    bk_queue done = {._head = NULL};
    bk_loop *loop = pump->_loop;

    pump->_window_len = 0;
    pump->_is_flush_asked = false;
    pump->_is_drop_asked = false;
    bki_queue_move(&done, &pump->_in);
    bki_queue_move(&done, &pump->_out);
    bki_queue_move(&done, &pump->_backlog);
    bki_queue_release(loop, &done);
}
