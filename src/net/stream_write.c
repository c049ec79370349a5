/* stream_write.c -- the sending half of a stream.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * asyncio sends inside write(). Here, what a callback writes is sent when that
 * callback returns, and nobody can tell except by a clock:
 *
 *  - Everything that could tell flushes first (getters, close, abort, ...),
 *    and a queue that passes the high-water mark is sent at once, so that
 *    pause_writing comes from the write it belongs to.
 *  - A send that fails in asyncio puts connection_lost in the ready queue
 *    before anything that the callback schedules after the write. So the first
 *    write of a callback puts the stream's _lost node there to keep the place.
 *    The flush either takes it out again or makes it real. The loop never
 *    meets one that is not real, for it flushes before it looks at the queue;
 *    visitors skip it (BKI_HANDLE_PLACEHOLDER).
 *
 * The queue is in one of three states: empty; not blocked, in the loop's list
 * of streams to flush or corked; blocked, and the engine calls on_writable.
 * A stream that is closing is always blocked, but for the time in which its
 * on_writable runs.
 *
 * Failures never reach the writer: the connection is lost.
 */

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/hint.h"
#include "base/sys.h"
#include "engine/write.h"
#include "net/internal.h"

/* A mutable write as large as this is sent at once, so that only what the
 * kernel does not take is copied. Below it the copy is cheaper than a system
 * call of its own. */
#define COPY_MAX ((size_t)16 * 1024)

static bool
has_unsent(const bk_transport *t)
{
    return t->_queue._len > 0 && !t->_is_blocked;
}

/* Another thread may not call, but when it does (and an embedder's lock makes
 * that harmless) its write shall not wait for a callback that it is not in. */
static bool
is_loops_thread(const bk_loop *loop)
{
    return __atomic_load_n(&loop->thread, __ATOMIC_RELAXED) ==
           bki_sys_thread_id();
}

static bool
should_defer(const bk_transport *t)
{
    const bk_loop *loop = t->_io._loop;

    if (t->_cork_depth > 0) {
        return true;
    }
    if (t->_is_immediate) {
        return false;
    }
    return loop->is_in_callback && !loop->is_write_through &&
           t->_queue._len <= t->_high_bytes && is_loops_thread(loop);
}

static bool
has_place(const bk_transport *t)
{
    return (t->_lost._flags & BKI_HANDLE_PLACEHOLDER) != 0;
}

static void
link_flush(bk_transport *t)
{
    bk_loop *loop = t->_io._loop;

    if (t->_cork_depth > 0) {
        return;
    }
    bki_flush_add(loop, t);
    if (!has_place(t)) {
        t->_lost._flags |= BKI_HANDLE_PLACEHOLDER;
        bki_ready_push(loop, &t->_lost);
    }
}

bool
bki_stream_unlink_flush(bk_transport *t, bool keep_place)
{
    bk_loop *loop = t->_io._loop;

    bki_flush_remove(loop, t);
    if (!has_place(t)) {
        return false;
    }
    t->_lost._flags &= (uint16_t)~BKI_HANDLE_PLACEHOLDER;
    if (!keep_place) {
        (void)bki_ready_remove(loop, &t->_lost);
    }
    return keep_place;
}

void
bki_stream_check_pause(bk_transport *t)
{
    if (t->_queue._len <= t->_high_bytes || t->_is_write_paused ||
        t->_cork_depth > 0) {
        return;
    }
    t->_is_write_paused = true;
    if (t->_protocol->pause_writing != NULL) {
        t->_protocol->pause_writing(t, t->_self);
    }
}

/* asyncio's pipes wait until all is written. */
static void
check_resume(bk_transport *t)
{
    size_t low_bytes = t->_kind == BKI_STREAM_WRITER ? 0 : t->_low_bytes;

    if (!t->_is_write_paused || t->_queue._len > low_bytes) {
        return;
    }
    t->_is_write_paused = false;
    if (t->_protocol->resume_writing != NULL) {
        t->_protocol->resume_writing(t, t->_self);
    }
}

/* Before the water marks are looked at: asyncio's add_writer comes first. */
static void
check_blocked(bk_transport *t)
{
    if (!t->_is_blocked || t->_is_blocked_told ||
        t->_state >= BKI_STREAM_LOST) {
        return;
    }
    t->_is_blocked_told = true;
    if (t->_protocol->write_blocked != NULL) {
        t->_protocol->write_blocked(t, t->_self);
    }
}

static void
tell_drained(bk_transport *t)
{
    t->_is_blocked_told = false;
    if (t->_protocol->write_drained != NULL) {
        t->_protocol->write_drained(t, t->_self);
    }
}

/* How many parts one call may write: those that are not torn together. */
static int
keep_whole(const struct iovec *iov, int count)
{
    size_t len = count > 0 ? iov[0].iov_len : 0;

    for (int i = 1; i < count; i++) {
        len += iov[i].iov_len;
        if (len > PIPE_BUF) {
            return i;
        }
    }
    return count;
}

/* Several pieces with so few bytes are copied together: sendmsg's way through
 * the kernel is some 150 ns longer than send's, which is two pages copied. A
 * response's header and body, most often. */
#define JOINED_MAX ((size_t)2 * 1024)

static ssize_t
send_joined(bk_transport *t, int fd, const struct iovec *iov, size_t len)
{
    char joined[JOINED_MAX];
    struct iovec all = {.iov_base = joined, .iov_len = len};
    size_t done = 0;

    assert(len <= sizeof(joined));
    for (; done < len; iov++) {
        memcpy(joined + done, iov->iov_base, iov->iov_len);
        done += iov->iov_len;
    }
    return bki_engine_write_piece(&t->_io, fd, &all);
}

/* The queue, and behind it what the cursor holds, in one call. */
static ssize_t
send_gathered(bk_transport *t, int fd, const struct bki_slice_cursor *cursor,
              size_t *ret_offered)
{
    struct iovec iov[BKI_IOV_MAX];
    int count = bki_queue_gather(&t->_queue, iov, BKI_IOV_MAX);
    size_t offered = 0;

    count += bki_cursor_gather(cursor, iov + count, BKI_IOV_MAX - count);
    if (t->_is_atomic) {
        count = keep_whole(iov, count);
    }
    for (int i = 0; i < count; i++) {
        offered += iov[i].iov_len;
    }
    *ret_offered = offered;
    if (offered == 0) {
        return 0;
    }
    if (count > 1 && offered <= JOINED_MAX) {
        return send_joined(t, fd, iov, offered);
    }
    return t->_io._loop->engine->ops->write(&t->_io, fd, iov, count);
}

/* The same for what is sent most often: a queue of one piece. */
static ssize_t
send_piece(bk_transport *t, int fd, const struct bki_segment *piece,
           size_t *ret_offered)
{
    struct iovec iov = {
        .iov_base = (void *)(uintptr_t)piece->data,
        .iov_len = piece->len,
    };

    *ret_offered = piece->len;
    return bki_engine_write_piece(&t->_io, fd, &iov);
}

/* One system call. Bytes taken or the failure; *ret_offered is how many it was
 * given. Asking for the fd may run the socket object's code, which may write,
 * close and abort: so the queue is looked at afterwards. */
static inline ssize_t
send_once(bk_transport *t, const struct bki_slice_cursor *cursor,
          size_t *ret_offered)
{
    int fd = bki_io_fileno(&t->_io);
    const struct bki_segment *piece = t->_queue._head;

    if (BKI_UNLIKELY(t->_state >= BKI_STREAM_LOST)) {
        return -ECANCELED; /* who has lost it has told why */
    }
    if (BKI_UNLIKELY(bki_loop_is_forked(t->_io._loop))) {
        *ret_offered = SIZE_MAX; /* a forked child's copy is the parent's */
        return 0;
    }
    if (BKI_LIKELY(piece != NULL && piece->next == NULL &&
                   cursor->count == 0)) {
        return send_piece(t, fd, piece, ret_offered);
    }
    return send_gathered(t, fd, cursor, ret_offered);
}

/* Send queue and cursor until the kernel takes no more. */
static inline int
send_all(bk_transport *t, struct bki_slice_cursor *cursor, bk_queue *done)
{
    size_t offered;

    do {
        ssize_t r = send_once(t, cursor, &offered);
        size_t taken;
        size_t from_queue;

        if (BKI_UNLIKELY(r < 0)) {
            return (int)r;
        }
        taken = (size_t)r;
        from_queue = taken < t->_queue._len ? taken : t->_queue._len;
        bki_queue_consume(&t->_queue, from_queue, done);
        bki_cursor_advance(cursor, taken - from_queue);
        if (BKI_UNLIKELY(taken < offered)) {
            t->_is_blocked = true;
            return 0;
        }
    } while (offered > 0 && (t->_queue._len > 0 || cursor->count > 0));
    return 0;
}

static void
stop_waiting(bk_transport *t)
{
    if (BKI_UNLIKELY(t->_is_waiting)) {
        t->_is_waiting = false;
        t->_io._loop->engine->ops->write_stop(&t->_io);
    }
}

BKI_COLD static void
start_waiting(bk_transport *t)
{
    int r;

    if (t->_state >= BKI_STREAM_LOST || bki_loop_is_forked(t->_io._loop)) {
        return;
    }
    t->_is_waiting = true;
    r = t->_io._loop->engine->ops->write_wait(&t->_io);
    if (r < 0) {
        bki_stream_lose(t, r);
    }
}

/* Tell the engine what a send has come to: last of all, since a poller from
 * outside may run any code. */
static inline void
tell_engine(bk_transport *t)
{
    if (BKI_UNLIKELY(t->_is_blocked)) {
        start_waiting(t);
    }
    else {
        stop_waiting(t);
    }
}

static void
send_queue(bk_transport *t)
{
    bk_loop *loop = t->_io._loop;
    struct bki_slice_cursor nothing = {.slices = NULL};
    bk_queue done = {._head = NULL};
    int r = send_all(t, &nothing, &done);

    if (BKI_UNLIKELY(r < 0)) {
        bki_stream_lose(t, r);
    }
    else {
        (void)bki_stream_unlink_flush(t, false);
        tell_engine(t);
        check_blocked(t);
        bki_stream_check_pause(t);
    }
    bki_queue_release(loop, &done);
}

/* Have the protocol write what it has kept back; corked, since the flush that
 * follows sends it. */
static void
collect(bk_transport *t)
{
    t->_is_flush_asked = false;
    t->_cork_depth++;
    t->_protocol->flushing(t, t->_self);
    t->_cork_depth--;
    if (!has_unsent(t)) {
        (void)bki_stream_unlink_flush(t, false);
        bki_stream_check_pause(t); /* it is blocked */
    }
}

/* A release callback may write: that is sent as well, so that afterwards the
 * queue is empty, or blocked, or the connection lost. */
BKI_HOT void
bki_stream_flush_alone(bk_transport *t)
{
    if (BKI_UNLIKELY(t->_is_flush_asked)) {
        collect(t);
    }
    while (has_unsent(t)) {
        send_queue(t);
    }
}

BKI_HOT void
bki_stream_flush(bk_transport *t)
{
    if (t->_is_flush_asked || has_unsent(t)) {
        bki_loop_flush_earlier(t->_io._loop, t);
        bki_stream_flush_alone(t);
    }
}

bool
bk_transport_flush_later(bk_transport *t)
{
    if (!bki_stream_is_open(t) || t->_is_blocked || t->_cork_depth > 0 ||
        t->_protocol->flushing == NULL || !should_defer(t)) {
        return false;
    }
    t->_is_flush_asked = true;
    link_flush(t);
    return true;
}

/* 1: go on. 0: taken by doing nothing. Else the code for the writer. */
static int
check_write(bk_transport *t, size_t len)
{
    if (BKI_UNLIKELY(t->_is_flush_asked)) {
        bki_stream_flush(t); /* what the protocol has kept back goes first */
    }
    if (t->_state == BKI_STREAM_NEW) {
        return -EINVAL;
    }
    if (t->_kind == BKI_STREAM_READER) {
        return -EBADF;
    }
    if (t->_is_eof_asked) {
        return -EPIPE;
    }
    if (t->_kind == BKI_STREAM_WRITER) {
        return len > 0 && t->_state < BKI_STREAM_CLOSING;
    }
    return len > 0 && t->_state < BKI_STREAM_LOST;
}

/* Data has been appended: send it now, when the callback returns, or when the
 * kernel takes more. */
BKI_HOT static void
appended(bk_transport *t)
{
    if (BKI_UNLIKELY(t->_is_blocked)) {
        bki_stream_check_pause(t);
    }
    else if (should_defer(t)) {
        link_flush(t);
    }
    else {
        bki_stream_flush(t);
    }
}

/* What the kernel did not take of a write that was sent at once. sent: a part
 * of it has gone, so that losing the rest would leave a gap in the stream. */
static int
keep_rest(bk_transport *t, const struct bki_slice_cursor *cursor, size_t len,
          bool is_partly_sent)
{
    int r = bki_queue_append_copy(&t->_queue, cursor, len);

    if (r < 0 && is_partly_sent) {
        bki_stream_lose(t, r);
    }
    return r;
}

static int
write_now(bk_transport *t, const bk_slice *slices, size_t count, size_t len)
{
    bk_loop *loop = t->_io._loop;
    struct bki_slice_cursor cursor = {.slices = slices, .count = count};
    bk_queue done = {._head = NULL};
    size_t left;
    int r = send_all(t, &cursor, &done);

    if (r < 0) {
        bki_stream_lose(t, r);
        bki_queue_release(loop, &done);
        return 0;
    }
    (void)bki_stream_unlink_flush(t, false);
    left = bki_slices_len(cursor.slices, cursor.count) - cursor.offset;
    if (left > 0) {
        r = keep_rest(t, &cursor, left, left < len);
    }
    tell_engine(t);
    check_blocked(t);
    bki_stream_check_pause(t);
    bki_queue_release(loop, &done);
    return r;
}

int
bk_transport_writev(bk_transport *t, const bk_slice *slices, size_t count)
{
    struct bki_slice_cursor all = {.slices = slices, .count = count};
    size_t len = bki_slices_len(slices, count);
    int r;

    if (len >= COPY_MAX || !should_defer(t)) {
        bki_loop_flush_earlier(t->_io._loop, t);
    }
    r = check_write(t, len);
    if (r <= 0) {
        return r;
    }
    if (!t->_is_blocked && (len >= COPY_MAX || !should_defer(t)) &&
        t->_cork_depth == 0) {
        return write_now(t, slices, count, len);
    }
    r = bki_queue_append_copy(&t->_queue, &all, len);
    if (r == 0) {
        appended(t);
    }
    return r;
}

int
bk_transport_write(bk_transport *t, const void *data, size_t len)
{
    bk_slice slice = {.data = data, .len = len};

    return bk_transport_writev(t, &slice, 1);
}

BKI_HOT int
bk_transport_write_lent(bk_transport *t, const void *data, size_t len,
                        bk_release_cb release, void *owner)
{
    bk_slice slice = {.data = data, .len = len};
    int r = check_write(t, len);

    if (r > 0) {
        r = bki_queue_append_lent(&t->_queue, t->_io._loop, &slice, release,
                                  owner);
        if (r == 0) {
            appended(t);
            return 0;
        }
    }
    release(owner);
    return r;
}

int
bki_stream_write_queue(bk_transport *t, bk_queue *queue)
{
    bk_queue done = {._head = NULL};
    int r = check_write(t, queue->_len);

    if (r > 0) {
        bki_queue_move(&t->_queue, queue);
        appended(t);
        return 0;
    }
    bki_queue_move(&done, queue);
    bki_queue_release(t->_io._loop, &done);
    return r;
}

void
bk_transport_cork(bk_transport *t)
{
    t->_cork_depth++;
}

void
bk_transport_uncork(bk_transport *t)
{
    if (t->_cork_depth == 0 || --t->_cork_depth > 0) {
        return;
    }
    if (t->_queue._len > 0) {
        appended(t);
    }
}

void
bk_transport_flush(bk_transport *t)
{
    bki_stream_flush(t);
}

size_t
bk_transport_get_write_buffer_size(bk_transport *t)
{
    bki_stream_flush(t);
    return t->_queue._len;
}

int
bk_transport_set_write_buffer_limits(bk_transport *t, size_t high_bytes,
                                     size_t low_bytes)
{
    if (high_bytes < low_bytes) {
        return -EINVAL;
    }
    bki_stream_flush(t);
    t->_high_bytes = high_bytes;
    t->_low_bytes = low_bytes;
    bki_stream_check_pause(t);
    return 0;
}

void
bk_transport_get_write_buffer_limits(const bk_transport *t,
                                     size_t *ret_high_bytes,
                                     size_t *ret_low_bytes)
{
    *ret_high_bytes = t->_high_bytes;
    *ret_low_bytes = t->_low_bytes;
}

/* A failure means that the connection is gone already, which its next receive
 * or send tells. */
static void
shut_down(bk_transport *t)
{
    (void)bki_sys_shutdown(bki_io_fileno(&t->_io), SHUT_WR);
}

int
bk_transport_write_eof(bk_transport *t)
{
    if (t->_kind == BKI_STREAM_WRITER) {
        bk_transport_close(t);
        return 0;
    }
    bki_loop_flush_earlier(t->_io._loop, NULL); /* the end is sent at once */
    bki_stream_flush(t);
    if (!bki_stream_is_open(t) || t->_is_eof_asked) {
        return 0;
    }
    t->_is_eof_asked = true;
    if (t->_queue._len == 0) {
        shut_down(t);
    }
    return 0;
}

bool
bk_transport_is_writing_paused(bk_transport *t)
{
    bk_transport_flush(t);
    return t->_is_write_paused;
}

bool
bk_transport_is_eof_asked(const bk_transport *t)
{
    return t->_is_eof_asked;
}

/* What resume_writing wrote is sent before the end of the queue is looked at,
 * as asyncio does by sending inside write(). */
void
bki_stream_on_writable(bk_io *io)
{
    bk_transport *t = BKI_CONTAINER_OF(io, bk_transport, _io);

    if (t->_state >= BKI_STREAM_LOST) {
        return;
    }
    t->_is_blocked = false;
    bki_stream_flush(t);
    if (t->_state >= BKI_STREAM_LOST) {
        return;
    }
    if (t->_queue._len == 0) {
        /* What resume_writing writes is blocked, if it is, anew. */
        t->_is_blocked_told = false;
    }
    check_resume(t);
    bki_stream_flush(t);
    if (t->_queue._len > 0 || t->_state >= BKI_STREAM_LOST) {
        return;
    }
    if (t->_state == BKI_STREAM_CLOSING) {
        bki_stream_finish(t);
        return;
    }
    if (t->_is_eof_asked) {
        shut_down(t);
    }
    tell_drained(t);
}
