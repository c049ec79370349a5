/* segment.c -- the pieces of a write queue.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Nothing here calls foreign code but bki_queue_release(). A callback that
 * takes lent data back may be the destructor of anything, and write to the
 * stream or abort it. So whoever consumes or drops finishes what it does with
 * the queue's owner first, and gives the pieces back at the very end.
 */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/hint.h"
#include "base/slab.h"
#include "base/sys.h"
#include "net/internal.h"

/* Least room that a copy is made with. A response's status line and headers,
 * written one by one, then share one piece; more would be wasted on the many
 * writes that stand alone. */
#define COPY_ROOM_MIN 512

/* Freed segments to keep, 48 bytes each: a turn in which a thousand streams
 * write is served without malloc. */
#define SEGMENTS_CACHED_MAX 1024

static void
link_segment(bk_queue *queue, struct bki_segment *segment)
{
    segment->next = NULL;
    if (queue->_tail == NULL) {
        queue->_head = segment;
    }
    else {
        queue->_tail->next = segment;
    }
    queue->_tail = segment;
    queue->_len += segment->len;
}

BKI_HOT int
bki_queue_append_lent(bk_queue *queue, bk_loop *loop, const bk_slice *data,
                      bk_release_cb release, void *owner)
{
    struct bki_slab *slab = &loop->segments;
    struct bki_segment *segment;

    assert(data->len > 0);
    assert(release != NULL);
    if (slab->item_size == 0) {
        bki_slab_init(slab, sizeof(*segment), SEGMENTS_CACHED_MAX);
    }
    segment = bki_slab_alloc(slab);
    if (segment == NULL) {
        return -ENOMEM;
    }
    *segment = (struct bki_segment){.data = data->data,
                                    .len = data->len,
                                    .release = release,
                                    .owner = owner};
    link_segment(queue, segment);
    return 0;
}

/* The bytes behind the cursor, len in all. */
static void
copy_slices(char *to, const struct bki_slice_cursor *from, size_t len)
{
    size_t offset = from->offset;

    for (const bk_slice *slice = from->slices; len > 0; slice++) {
        size_t n = slice->len - offset;

        if (n > 0) {
            memcpy(to, (const char *)slice->data + offset, n);
        }
        to += n;
        len -= n;
        offset = 0;
    }
}

static struct bki_segment *
new_copy(size_t len)
{
    size_t room = len < COPY_ROOM_MIN ? COPY_ROOM_MIN : len;
    struct bki_segment *segment;

    if (room > SIZE_MAX - sizeof(*segment)) {
        return NULL;
    }
    segment = bki_sys_malloc(sizeof(*segment) + room);
    if (segment == NULL) {
        return NULL;
    }
    *segment = (struct bki_segment){
        .data = (const char *)(segment + 1), .len = len, .room = room - len};
    return segment;
}

int
bki_queue_append_copy(bk_queue *queue, const struct bki_slice_cursor *from,
                      size_t len)
{
    struct bki_segment *segment = queue->_tail;

    assert(len > 0);
    if (segment != NULL && segment->room >= len) {
        /* data is const for lent bytes; a copy's are our own. */
        copy_slices((char *)(uintptr_t)segment->data + segment->len, from, len);
        segment->len += len;
        segment->room -= len;
        queue->_len += len;
        return 0;
    }
    segment = new_copy(len);
    if (segment == NULL) {
        return -ENOMEM;
    }
    copy_slices((char *)(segment + 1), from, len);
    link_segment(queue, segment);
    return 0;
}

int
bki_queue_gather(const bk_queue *queue, struct iovec *iov, int iov_max)
{
    int count = 0;

    for (const struct bki_segment *segment = queue->_head;
         segment != NULL && count < iov_max; segment = segment->next) {
        iov[count].iov_base = (void *)(uintptr_t)segment->data;
        iov[count].iov_len = segment->len;
        count++;
    }
    return count;
}

BKI_HOT void
bki_queue_move(bk_queue *to, bk_queue *from)
{
    if (from->_head == NULL) {
        return;
    }
    if (to->_tail == NULL) {
        to->_head = from->_head;
    }
    else {
        to->_tail->next = from->_head;
    }
    to->_tail = from->_tail;
    to->_len += from->_len;
    *from = (bk_queue){._head = NULL};
}

void
bki_queue_consume(bk_queue *queue, size_t len, bk_queue *done)
{
    assert(len <= queue->_len);
    if (len == queue->_len) {
        bki_queue_move(done, queue);
        return;
    }
    queue->_len -= len;
    while (len >= queue->_head->len) {
        struct bki_segment *segment = queue->_head;

        queue->_head = segment->next; /* there is one: not all is consumed */
        len -= segment->len;
        link_segment(done, segment);
    }
    queue->_head->data += len;
    queue->_head->len -= len;
}

BKI_HOT void
bki_queue_release(bk_loop *loop, bk_queue *done)
{
    struct bki_segment *segment = done->_head;

    while (segment != NULL) {
        struct bki_segment *next = segment->next;
        bk_release_cb release = segment->release;
        void *owner = segment->owner;

        if (release == NULL) {
            bki_sys_free(segment);
        }
        else {
            bki_slab_free(&loop->segments, segment);
            release(owner);
        }
        segment = next;
    }
}

size_t
bki_slices_len(const bk_slice *slices, size_t count)
{
    size_t len = 0;

    for (size_t i = 0; i < count; i++) {
        len += slices[i].len;
    }
    return len;
}

int
bki_cursor_gather(const struct bki_slice_cursor *cursor, struct iovec *iov,
                  int iov_max)
{
    size_t offset = cursor->offset;
    int count = 0;

    for (size_t i = 0; i < cursor->count && count < iov_max; i++) {
        const bk_slice *slice = &cursor->slices[i];

        if (slice->len > offset) {
            iov[count].iov_base =
                (void *)(uintptr_t)((const char *)slice->data + offset);
            iov[count].iov_len = slice->len - offset;
            count++;
        }
        offset = 0;
    }
    return count;
}

void
bki_cursor_advance(struct bki_slice_cursor *cursor, size_t len)
{
    while (len > 0) {
        size_t left = cursor->slices->len - cursor->offset;

        if (len < left) {
            cursor->offset += len;
            return;
        }
        len -= left;
        cursor->slices++;
        cursor->count--;
        cursor->offset = 0;
    }
}
