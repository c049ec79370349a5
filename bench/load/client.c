/* SPDX-License-Identifier: MIT */
/* One connection to the server under test.
 *
 * Design notes. The generator must be faster than the server, or the server
 * waits and its turns get smaller. So once client_prove() has compared the
 * bytes of an echo, the kernel throws them away unread (MSG_TRUNC). The
 * sockets are blocking ones, for client_prove(); the rest asks for what is
 * there now (MSG_DONTWAIT).
 */
#include "client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"

static const char http_ok[] = "HTTP/1.1 200";
static char scratch[MESSAGE_BYTES_MAX];

int
client_open(struct client *c, const struct exchange *x, size_t i)
{
    int r;

    *c = (struct client){.fd = -1};
    c->request = x->request + (x->is_http ? 0 : i);
    r = peer_connect(&x->peer, &c->fd);
    if (r == 0 && x->peer.transport == TLS) {
        r = tls_open(&c->tls, c->fd);
    }
    return r;
}

void
client_close(struct client *c)
{
    tls_close(&c->tls);
    if (c->fd >= 0) {
        (void)close(c->fd);
        c->fd = -1;
    }
}

static int
send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n < 0) {
            return -errno;
        }
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

ssize_t
client_wait(struct client *c, char *data, size_t len)
{
    ssize_t n;

    if (c->tls.ssl != NULL) {
        return tls_receive(&c->tls, data, len);
    }
    n = recv(c->fd, data, len, 0);
    return n < 0 ? -errno : n;
}

static int
prove_echo(struct client *c, const struct exchange *x)
{
    const char *expected = x->reply != NULL ? x->reply : c->request;
    char *reply = malloc(x->reply_len);
    int r = 0;

    if (reply == NULL) {
        return -ENOMEM;
    }
    for (size_t have = 0; r == 0 && have < x->reply_len;) {
        ssize_t n = client_wait(c, reply + have, x->reply_len - have);

        if (n <= 0) {
            r = n < 0 ? (int)n : -ECONNRESET;
        }
        else {
            have += (size_t)n;
        }
    }
    if (r == 0 && memcmp(reply, expected, x->reply_len) != 0) {
        r = -EBADMSG;
    }
    free(reply);
    return r;
}

int
client_prove(struct client *c, struct exchange *x)
{
    int r = c->tls.ssl != NULL
                ? tls_send_all(&c->tls, c->request, x->request_len)
                : send_all(c->fd, c->request, x->request_len);

    if (r < 0) {
        return r;
    }
    if (!x->is_http) {
        return prove_echo(c, x);
    }
    return http_receive(c, &x->reply_len);
}

int
client_send(struct client *c)
{
    ssize_t n;

    if (c->unsent_len == 0) {
        return 0;
    }
    n = send(c->fd, c->unsent, c->unsent_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN ? 0 : -errno;
    }
    c->unsent += n;
    c->unsent_len -= (size_t)n;
    return 0;
}

int
client_begin(struct client *c, const struct exchange *x)
{
    c->missing = x->reply_len;
    c->unsent = c->request;
    c->unsent_len = x->request_len;
    if (c->tls.ssl != NULL) {
        int r = tls_encrypt(&c->tls, c->request, x->request_len, &c->unsent,
                            &c->unsent_len);

        if (r < 0) {
            return r;
        }
    }
    return client_send(c);
}

/* Replies to the same request have the same length, the date included. */
static ssize_t
receive_http(struct client *c, const struct exchange *x)
{
    ssize_t n = recv(c->fd, scratch, c->missing, MSG_DONTWAIT);

    if (n >= (ssize_t)strlen(http_ok) && c->missing == x->reply_len &&
        memcmp(scratch, http_ok, strlen(http_ok)) != 0) {
        errno = EBADMSG;
        return -1;
    }
    return n;
}

/* Plain bytes, up to the end of the reply or of what is here. */
static ssize_t
receive_tls(struct client *c)
{
    size_t plain = 0;

    while (plain < c->missing) {
        ssize_t n = recv(c->fd, scratch, sizeof(scratch), MSG_DONTWAIT);

        if (n <= 0) {
            return plain > 0 && n < 0 && errno == EAGAIN ? (ssize_t)plain : n;
        }
        n = tls_count(&c->tls, scratch, (size_t)n);
        if (n < 0) {
            errno = (int)-n;
            return -1;
        }
        plain += (size_t)n;
    }
    return (ssize_t)plain;
}

static ssize_t
receive(struct client *c, const struct exchange *x)
{
    if (x->is_http) {
        return receive_http(c, x);
    }
    switch (x->peer.transport) {
    case UNIX: /* here the kernel copies, whatever the flags */
        return recv(c->fd, scratch, c->missing, MSG_DONTWAIT);
    case UDP: /* here it would copy as much as there is room for */
        return recv(c->fd, NULL, 0, MSG_DONTWAIT | MSG_TRUNC);
    default:
        return recv(c->fd, NULL, c->missing, MSG_DONTWAIT | MSG_TRUNC);
    }
}

int
client_receive(struct client *c, const struct exchange *x)
{
    ssize_t n = c->tls.ssl != NULL ? receive_tls(c) : receive(c, x);

    if (n < 0) {
        return errno == EAGAIN ? 0 : -errno;
    }
    if (n == 0) {
        return c->missing == 0 ? 0 : -ECONNRESET;
    }
    if ((size_t)n > c->missing) {
        return -EBADMSG; /* a datagram or a record has its own length */
    }
    c->missing -= (size_t)n;
    return c->missing == 0;
}
