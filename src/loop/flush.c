/* flush.c -- the transports that wrote in the current callback.
 *
 * SPDX-License-Identifier: MIT
 *
 * Every stream that queued data is sent when the callback returns, in the
 * order of their first write; and if one is sent earlier, those before it are.
 * Datagram transports hold back what is sent while several datagrams are
 * delivered; src/net/datagram_read.c ends that, or whoever sends next. For what
 * one of them holds back is older than what streams have queued, or what the
 * next transport sends: sendto() sends all that others have.
 */
#include <assert.h>

#include "base/hint.h"
#include "loop/internal.h"

void
bki_flush_add(bk_loop *loop, bk_transport *transport)
{
    if (transport->_is_flushing) {
        return;
    }
    transport->_is_flushing = 1;
    transport->_flush_next = NULL;
    transport->_flush_prev = loop->flush_tail;
    if (loop->flush_tail == NULL) {
        loop->flush_head = transport;
    }
    else {
        loop->flush_tail->_flush_next = transport;
    }
    loop->flush_tail = transport;
}

void
bki_flush_remove(bk_loop *loop, bk_transport *transport)
{
    bk_transport *next = transport->_flush_next;
    bk_transport *prev = transport->_flush_prev;

    if (!transport->_is_flushing) {
        return;
    }
    transport->_is_flushing = 0;
    transport->_flush_next = NULL;
    transport->_flush_prev = NULL;
    if (prev == NULL) {
        loop->flush_head = next;
    }
    else {
        prev->_flush_next = next;
    }
    if (next == NULL) {
        loop->flush_tail = prev;
    }
    else {
        next->_flush_prev = prev;
    }
}

static void
flush_datagrams(bk_loop *loop)
{
    if (BKI_UNLIKELY(!bki_list_is_empty(&loop->unsent))) {
        assert(loop->flush_unsent != NULL);
        loop->flush_unsent(loop);
    }
}

/* In a forked child the streams are only taken out: what they hold is the
 * parent's to send. */
BKI_HOT void
bki_loop_flush_before(bk_loop *loop, const bk_transport *transport)
{
    bool can_send;

    if (loop->flush_head == NULL || loop->flush_head == transport) {
        return;
    }
    loop->ended_ns = 0; /* sending takes time */
    flush_datagrams(loop);
    can_send = !bki_loop_is_forked(loop);
    while (loop->flush_head != NULL && loop->flush_head != transport) {
        bk_transport *first = loop->flush_head;

        bki_flush_remove(loop, first);
        if (can_send) {
            assert(loop->flush_stream != NULL);
            loop->flush_stream(first);
        }
        flush_datagrams(loop); /* what the owners of its buffers have sent */
    }
}

void
bki_loop_flush_earlier(bk_loop *loop, const bk_transport *transport)
{
    if (bk_loop_has_pending_writes(loop) && bki_loop_is_own_thread(loop)) {
        flush_datagrams(loop);
        bki_loop_flush_before(loop, transport);
    }
}

void
bki_loop_flush_streams(bk_loop *loop)
{
    if (loop->flush_head != NULL && bki_loop_is_own_thread(loop)) {
        bki_loop_flush_before(loop, NULL);
    }
}

void
bk_loop_flush(bk_loop *loop)
{
    if (loop == NULL) {
        return;
    }
    flush_datagrams(loop);
    bki_loop_flush_before(loop, NULL);
}

bool
bk_loop_has_pending_writes(const bk_loop *loop)
{
    return loop != NULL &&
           (loop->flush_head != NULL || !bki_list_is_empty(&loop->unsent));
}
