/* internal.h -- what the files of src/net share.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKI_NET_INTERNAL_H
#define BKI_NET_INTERNAL_H

#include <stddef.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "becket/address.h"
#include "becket/server.h"
#include "becket/transport.h"

#include "engine/engine.h"
#include "loop/internal.h"

struct addrinfo;
struct bki_socket_file;

/* The object that embeds this member. */
#define BKI_CONTAINER_OF(pointer, type, member)                                \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* A stream's life, in this order; abort leaves out what lies between. */
enum bki_stream_state {
    BKI_STREAM_NEW,     /* no fd yet */
    BKI_STREAM_OPEN,    /* has its fd, not started */
    BKI_STREAM_STARTED, /* connection_made is queued or was called */
    BKI_STREAM_CLOSING, /* close() sends what is queued */
    BKI_STREAM_LOST,    /* connection_lost is queued or runs */
    BKI_STREAM_CLOSED,  /* the fd is gone */
};

/* What a stream is opened on. */
enum bki_stream_kind {
    BKI_STREAM_SOCKET, /* both directions */
    BKI_STREAM_READER, /* one: pipe.c */
    BKI_STREAM_WRITER,
};

/* A piece of data in a stream's write queue. Lent pieces come from the loop's
 * slab. A copy is one allocation with its bytes behind the struct, and later
 * small writes fill the room that it has left. */
struct bki_segment {
    struct bki_segment *next;
    const char *data;      /* what is left to send of it */
    size_t len;            /* bytes from data on, never 0 in a queue */
    size_t room;           /* a copy's free bytes after data + len */
    bk_release_cb release; /* NULL: a copy */
    void *owner;           /* given to release */
};

/* Slices of which a part has been sent. */
struct bki_slice_cursor {
    const bk_slice *slices; /* borrowed */
    size_t count;
    size_t offset; /* bytes of slices[0] that were sent */
};

/* The write queue, segment.c. Consuming calls nothing: it moves segments to a
 * queue that is released last of all, since a release callback may use what the
 * queue belongs to. append_lent: -ENOMEM, and nothing was taken. */
int bki_queue_append_lent(bk_queue *queue, bk_loop *loop, const bk_slice *data,
                          bk_release_cb release, void *owner);
int bki_queue_append_copy(bk_queue *queue, const struct bki_slice_cursor *from,
                          size_t len);
int bki_queue_gather(const bk_queue *queue, struct iovec *iov, int iov_max);
void bki_queue_consume(bk_queue *queue, size_t len, bk_queue *done);
void bki_queue_move(bk_queue *to, bk_queue *from);     /* append all of it */
void bki_queue_release(bk_loop *loop, bk_queue *done); /* which is gone then */

/* Slices, segment.c. */
size_t bki_slices_len(const bk_slice *slices, size_t count);
int bki_cursor_gather(const struct bki_slice_cursor *cursor, struct iovec *iov,
                      int iov_max);
void bki_cursor_advance(struct bki_slice_cursor *cursor, size_t len);

/* Parts of a stream. All of stream.c unless it says otherwise. */

static inline bool
bki_stream_is_open(const bk_transport *transport)
{
    return transport->_state == BKI_STREAM_OPEN ||
           transport->_state == BKI_STREAM_STARTED;
}

/* End the connection: asyncio's _force_close. No effect once it is lost. */
void bki_stream_lose(bk_transport *transport, int error);

/* A flush that close() began has ended, in the stream's own I/O callback:
 * connection_lost(0) follows from here, as in asyncio. */
void bki_stream_finish(bk_transport *transport);

/* stream_read.c: begin or end receiving, as far as the state allows. */
void bki_stream_read_start(bk_transport *transport);
void bki_stream_read_stop(bk_transport *transport);
struct bki_buffer bki_stream_on_alloc(bk_io *io);
void bki_stream_on_read(bk_io *io, ssize_t n);

/* stream_write.c: send what can be sent now, after what others of this callback
 * wrote before; alone is the loop's flush_stream, which knows the order. */
void bki_stream_flush(bk_transport *transport);
void bki_stream_flush_alone(bk_transport *transport);
void bki_stream_on_writable(bk_io *io);

/* Leave the list of streams to flush. With keep_place, connection_lost stays
 * where the first write of this callback put it, if there was one (true); else
 * it leaves the ready queue. stream_write.c. */
bool bki_stream_unlink_flush(bk_transport *transport, bool keep_place);
void bki_stream_check_pause(bk_transport *transport);

/* bk_transport_write_lent() of all of a queue, which is empty afterwards. */
int bki_stream_write_queue(bk_transport *transport, bk_queue *queue);

/* What the library allocated for C users: transports of servers and
 * connectors, and connectors. Closing the loop releases them. owned.c. */
struct bki_owned {
    struct bki_owned *next;
    struct bki_owned *prev;
    void (*release)(struct bki_owned *owned); /* free, calling nothing */
};

void bki_owned_add(bk_loop *loop, struct bki_owned *owned,
                   void (*release)(struct bki_owned *owned));
void bki_owned_remove(bk_loop *loop, struct bki_owned *owned);

/* A transport of the library's own, open but not started; takes the fd, also
 * on failure. peer may be NULL. owned.c. */
int bki_transport_alloc(bk_loop *loop, const bk_protocol *protocol, void *self,
                        bk_transport **ret_transport); /* not open */
int bki_transport_new(bk_loop *loop, const bk_protocol *protocol, void *self,
                      int fd, const bk_address *peer,
                      bk_transport **ret_transport);
void bki_transport_free(bk_transport *transport);

/* A place in a server's list of its connections, which it can leave without
 * knowing the server. owned.c. */
struct bki_client {
    struct bki_client *next;
    struct bki_client **link; /* what points here; NULL: in no list */
};

void bki_client_add(struct bki_client **head, struct bki_client *client);
void bki_client_remove(struct bki_client *client); /* in no list: no-op */

/* Of a transport that bki_transport_new() made, and back. */
struct bki_client *bki_transport_client(bk_transport *transport);
bk_transport *bki_client_transport(struct bki_client *client);

/* socket.c. Each works on an fd and keeps nothing. */
int bki_socket_get_name(int fd, bool is_peer, bk_address *ret_address);
void bki_socket_set_nodelay(int fd);

/* Bind a socket that shall listen. */
struct bki_bind_options {
    bool has_reuse_address;
    bool has_reuse_port;
    bool has_keep_alive;
};
int bki_socket_bind(int fd, const struct addrinfo *info,
                    const struct bki_bind_options *options);

/* What the calls that create servers share; server.c. The server is owned by
 * the caller, and closed with the loop. */
struct bki_server_calls {
    int (*protocol_factory)(bk_server *server, const bk_protocol **ret_protocol,
                            void **ret_self, void *self);
    void (*on_error)(bk_server *server, int error, void *self);
};
int bki_server_new(bk_loop *loop, const bk_protocol *protocol, void *self,
                   const struct bki_server_calls *calls, size_t sockets_max,
                   bk_server **ret_server);

/* Takes a bound socket, on failure too. It accepts from bki_server_listen() on,
 * which is called once all are added: nobody connects to a server that then
 * fails. */
int bki_server_add(bk_server *server, int fd, int backlog);
int bki_server_listen(bk_server *server, int backlog);

/* Takes the file of its socket, to be removed when it is closed; may be
 * NULL. */
void bki_server_own_file(bk_server *server, struct bki_socket_file *file);

/* unix_socket.c. path_len 0: up to the NUL. -EINVAL, -ENAMETOOLONG. */
int bki_unix_address_init(struct sockaddr_un *address, socklen_t *ret_len,
                          const char *path, size_t path_len);

/* Remove the file from its folder, if it is still the same, and free this.
 * NULL is a no-op. */
void bki_socket_file_remove(struct bki_socket_file *file);

/* Give an io its fd: our own, or that of a socket object. socket.c. */
int bki_io_open_fd(bk_io *io, int fd);
int bki_io_open_socket(bk_io *io, const bk_socket_ops *socket_ops,
                       void *socket);

/* An io's own fd becomes that of a socket object, which holds it already. */
void bki_io_give_socket(bk_io *io, const bk_socket_ops *socket_ops,
                        void *socket);

/* address.c. -EAFNOSUPPORT: a family that does not fit. */
int bki_address_from_sockaddr(const struct sockaddr *address, socklen_t len,
                              bk_address *ret_address);

#endif
