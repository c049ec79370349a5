/* transport.h -- a byte stream: TCP, and any other connected stream socket;
 * pipe.h has those of one direction.
 *
 * SPDX-License-Identifier: MIT
 *
 *   connecting -> open -> closing (flushes) -> closed
 *   abort and errors lead from anywhere to closed
 *
 * Reading: one receive per stream and turn, at most BK_READ_MAX bytes.
 * Writing: what a callback writes leaves in one send when that callback
 * returns; at once when no callback runs, past the high-water mark, and with
 * bk_loop_set_write_through().
 *
 * asyncio: asyncio.Transport, asyncio.Protocol, asyncio.BufferedProtocol.
 */
#ifndef BECKET_TRANSPORT_H
#define BECKET_TRANSPORT_H

#include "becket/address.h"
#include "becket/handle.h"
#include "becket/types.h"
#include "becket/watch.h"

BK_BEGIN_DECLS

/* asyncio's size of one read (256 KiB); the loop's scratch buffer is as big. */
#define BK_READ_MAX (256u * 1024u)

/* What the user of a stream supplies. Members may be NULL. All run in the
 * loop's thread; self is what was given with the protocol. The transport may
 * be closed or aborted from inside any of them. */
struct bk_protocol {
    /* First of all, from its own place in the ready queue. Reading starts
     * when it has returned, unless it paused reading or closed. */
    void (*connection_made)(bk_transport *transport, void *self);

    /* len > 0 bytes, borrowed for the call. */
    void (*data_received)(bk_transport *transport, const void *data, size_t len,
                          void *self);

    /* Where to receive: return 1 and a buffer of at least one byte, lent
     * until buffer_updated, eof_received or connection_lost follows; or 0 to
     * get data_received() from the loop's scratch buffer; or -EAGAIN to
     * receive nothing this time; or another negative code to fail the
     * connection with. Asked anew for each receive. */
    int (*get_buffer)(bk_transport *transport, void **ret_buf, size_t *ret_len,
                      void *self);
    void (*buffer_updated)(bk_transport *transport, size_t len, void *self);

    /* A receive into get_buffer()'s buffer brought nothing (EAGAIN or an
     * error); the buffer is the owner's again. */
    void (*buffer_unused)(bk_transport *transport, void *self);

    /* The peer has finished sending. True: keep the writing half open; false
     * (and NULL): close, after what is queued has been sent. After a
     * bk_loop_break() from inside, the next run asks again. */
    bool (*eof_received)(bk_transport *transport, void *self);

    /* More than the high-water mark is queued (called from inside the write),
     * and later not more than the low-water mark. Strictly in turn. */
    void (*pause_writing)(bk_transport *transport, void *self);
    void (*resume_writing)(bk_transport *transport, void *self);

    /* The kernel did not take all of a write (called from inside the write or
     * the flush): an embedder takes the context in which what comes of it
     * shall run, that is resume_writing, and a connection_closing outside of
     * any call. Then: all has been sent. In turn, but what resume_writing
     * writes after all was sent may be blocked again first, and instead of the
     * second connection_closing may follow. The first may not write. */
    void (*write_blocked)(bk_transport *transport, void *self);
    void (*write_drained)(bk_transport *transport, void *self);

    /* Asked for with bk_transport_flush_later(): write now what the protocol
     * has kept back. */
    void (*flushing)(bk_transport *transport, void *self);

    /* connection_lost has been placed in the ready queue, or follows at once
     * because a flush that close() began has ended: an embedder takes the
     * context that it shall run in. error as there. */
    void (*connection_closing)(bk_transport *transport, int error, void *self);

    /* Exactly once, after every other call but on_closed. error: 0 after
     * close() and abort(), else the negative code. The fd is still open, and
     * is closed when this returns. */
    void (*connection_lost)(bk_transport *transport, int error, void *self);

    /* The fd is closed and the transport's memory is the caller's again. Only
     * for embedded transports; the library frees its own. */
    void (*on_closed)(bk_transport *transport, void *self);
};

/* Gives back lent data: called once, when it has been sent or dropped. */
typedef void (*bk_release_cb)(void *owner);

typedef struct {
    const void *data;
    size_t len;
} bk_slice;

/* Data on its way out, in order. Private: embedded in what sends it. */
typedef struct {
    struct bki_segment *_head; /* owned: oldest first */
    struct bki_segment *_tail;
    size_t _len; /* bytes in all */
} bk_queue;

struct bk_transport {
    bk_io _io;
    /* What each message needs comes first, in few cache lines. */
    const bk_protocol *_protocol; /* borrowed */
    void *_self;
    bk_queue _queue;
    uint8_t _state;          /* enum in src/net/internal.h */
    uint8_t _is_buffer_lent; /* the receive goes to get_buffer()'s buffer */
    uint8_t _is_read_paused;
    uint8_t _is_write_paused; /* pause_writing was called last */
    uint8_t _is_eof_asked;    /* write_eof */
    uint8_t _is_blocked;      /* the kernel takes no more for now */
    uint8_t _is_blocked_told; /* write_blocked was called last */
    uint8_t _is_waiting;      /* the engine was told to say when it does */
    uint8_t _is_flushing;     /* in the loop's list of streams to flush */
    uint8_t _is_flush_asked;  /* flushing is to be called first */
    uint8_t _is_immediate;    /* no write is held back */
    uint8_t _is_atomic;       /* writes up to PIPE_BUF stay whole */
    uint8_t _is_owned;        /* the library allocated it */
    uint8_t _kind;            /* enum in src/net/internal.h */
    uint32_t _cork_depth;
    int _error; /* what connection_lost will tell */
    size_t _high_bytes;
    bk_transport *_flush_next; /* list of streams to flush */
    bk_transport *_flush_prev;
    bk_handle _lost; /* connection_lost; keeps its place, stream_write.c */
    size_t _low_bytes;
    bk_handle _start;     /* connection_made, then the start of reading */
    bk_address _peername; /* len 0: not yet asked for */
    bk_address _sockname;
};

/* Prepare the caller's storage. The protocol is borrowed until on_closed.
 * -EINVAL, -EBADF (closed loop). Thread: loop. */
BK_API int bk_transport_init(bk_transport *transport, bk_loop *loop,
                             const bk_protocol *protocol, void *self);

/* Give it its connected stream socket, non-blocking. The first form takes the
 * fd (on failure too); the second leaves it to a socket object, which the
 * library closes through socket_ops and otherwise only borrows. Sets
 * TCP_NODELAY on a TCP socket. Nothing is called yet. -EBADF, -EINVAL.
 * Thread: loop. */
BK_API int bk_transport_open_fd(bk_transport *transport, int fd);
BK_API int bk_transport_open_socket(bk_transport *transport,
                                    const bk_socket_ops *socket_ops,
                                    void *socket);

/* Queue connection_made (if there is one) and the start of reading.
 * From here on the transport is lent until on_closed. -EINVAL: not open.
 * Thread: loop. */
BK_API int bk_transport_start(bk_transport *transport);

/* A socket object takes over an fd that the library made: from now on it is
 * asked for the number and closed in its stead. The object must hold the same
 * fd. -EINVAL: it has an owner already. -EBADF: closed. Thread: loop. */
BK_API int bk_transport_give_socket(bk_transport *transport,
                                    const bk_socket_ops *socket_ops,
                                    void *socket);

/* End at once, calling nothing: withdraw, drop the queue, close the fd (or the
 * socket object). For transports that nobody needs any more and for those of
 * a closed loop; the memory is the caller's afterwards, but inside one of the
 * protocol's methods only from the loop's next callback on. Not for a transport
 * that the library owns: abort that. Idempotent. Thread: loop. */
BK_API void bk_transport_release(bk_transport *transport);

/* Queue data. Nothing is reported here: failures of the connection arrive in
 * connection_lost, and what is written after the connection has gone is
 * dropped. 0: taken, also when dropped. -ENOMEM. -EPIPE: after write_eof.
 * The first form copies what the kernel does not take at once. The second
 * queues the caller's own memory, lent until release(owner) (which is called
 * on failure too). The third is as one write of all slices, copying.
 * Thread: loop. */
BK_API int bk_transport_write(bk_transport *transport, const void *data,
                              size_t len);
BK_API int bk_transport_write_lent(bk_transport *transport, const void *data,
                                   size_t len, bk_release_cb release,
                                   void *owner);
BK_API int bk_transport_writev(bk_transport *transport, const bk_slice *slices,
                               size_t count);

/* Hold sending back while several writes follow each other, as when a list is
 * written, and check the water marks only at the end. Calls pair up.
 * Thread: loop. */
BK_API void bk_transport_cork(bk_transport *transport);
BK_API void bk_transport_uncork(bk_transport *transport);

/* Finish sending after what is queued: shutdown(SHUT_WR). Idempotent, ignored
 * when closing. 0 always. Thread: loop. */
BK_API int bk_transport_write_eof(bk_transport *transport);

/* Stop reading, send what is queued, then connection_lost(0). Idempotent. */
BK_API void bk_transport_close(bk_transport *transport);

/* Drop what is queued, then connection_lost with error (0 or a negative
 * code). No effect once connection_lost is in the queue. Thread: loop. */
BK_API void bk_transport_abort(bk_transport *transport, int error);

/* Idempotent; no effect when closing. Thread: loop. */
BK_API void bk_transport_pause_reading(bk_transport *transport);
BK_API void bk_transport_resume_reading(bk_transport *transport);

/* Not paused and not closing; still true after eof_received. Sends first, as
 * bk_transport_is_closing(). Thread: loop. */
BK_API bool bk_transport_is_reading(bk_transport *transport);

/* True from close(), abort() or a failure on. What is queued in the current
 * callback is sent first, since that may fail. Thread: loop. */
BK_API bool bk_transport_is_closing(bk_transport *transport);

/* True once connection_lost is in the queue or has been called: writes are
 * dropped. Thread: loop. */
BK_API bool bk_transport_is_lost(const bk_transport *transport);

/* True between pause_writing() and resume_writing(). What is queued in the
 * current callback is sent first. Thread: loop. */
BK_API bool bk_transport_is_writing_paused(bk_transport *transport);

/* True once write_eof() was accepted. Thread: loop. */
BK_API bool bk_transport_is_eof_asked(const bk_transport *transport);

/* Send now what this callback has queued. Thread: loop. */
BK_API void bk_transport_flush(bk_transport *transport);

/* For a protocol that collects what it is given to write, as TLS fills its
 * records: true when this callback's writes wait for its end. flushing() is
 * then called once, before anything that could tell, at the latest when the
 * callback returns; connection_lost keeps its place as if something had been
 * written now. false: write at once. Thread: loop. */
BK_API bool bk_transport_flush_later(bk_transport *transport);

/* Bytes that the kernel has not taken. Sends first. Thread: loop. */
BK_API size_t bk_transport_get_write_buffer_size(bk_transport *transport);

/* Water marks in bytes, high >= low; -EINVAL otherwise. May call
 * pause_writing. Defaults: 64 KiB and 16 KiB. Thread: loop. */
BK_API int bk_transport_set_write_buffer_limits(bk_transport *transport,
                                                size_t high_bytes,
                                                size_t low_bytes);
BK_API void bk_transport_get_write_buffer_limits(const bk_transport *transport,
                                                 size_t *ret_high_bytes,
                                                 size_t *ret_low_bytes);

/* Change the protocol; takes effect with the next call. Sends first.
 * Thread: loop. */
BK_API void bk_transport_set_protocol(bk_transport *transport,
                                      const bk_protocol *protocol, void *self);
BK_API void *bk_transport_get_self(const bk_transport *transport);

BK_API bk_loop *bk_transport_loop(const bk_transport *transport);

/* The fd's number now, or -1. Borrowed. Thread: loop. */
BK_API int bk_transport_fileno(const bk_transport *transport);

/* The ends' addresses, asked from the kernel once and remembered beyond the
 * close. -ENOTCONN, -EBADF, -EAFNOSUPPORT (a family that does not fit
 * bk_address). Thread: loop. */
BK_API int bk_transport_getpeername(bk_transport *transport,
                                    bk_address *ret_address);
BK_API int bk_transport_getsockname(bk_transport *transport,
                                    bk_address *ret_address);

/* The same of any family, asked from the kernel each time: *len is the size of
 * the buffer, and then that of the address. Thread: loop. */
BK_API int bk_transport_get_sockaddr(const bk_transport *transport,
                                     bool is_peer, struct sockaddr *ret_address,
                                     socklen_t *len);

/* Make known what accept(2) told, so that the kernel need not be asked. */
BK_API void bk_transport_set_peername(bk_transport *transport,
                                      const bk_address *address);

BK_END_DECLS

#endif
