/* warm.c -- connections that keep OpenSSL's buffers between two records.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * With SSL_MODE_RELEASE_BUFFERS an SSL gives its two buffers, 17 KiB each, back
 * after every record, and takes them anew for the next one: an idle connection
 * is small, and a busy one pays for it. So some of a loop's connections, which
 * are warm, are without that mode. They are few, since they keep what they
 * have; a place is another's when its owner has read nothing for some turns. A
 * busy loop with more connections than places so has the same ones warm for a
 * while, and the rest are no worse off. When a loop has had nothing to do for a
 * moment, none stay warm. Nor does one that has ended, whose SSL may be kept.
 *
 * The list is the loop's, which may look at an SSL whose other owner has let go
 * of it: a session has a reference of its own.
 *
 * From OpenSSL 3.2 on, reading and writing each have a copy of the mode. That
 * of reading is made anew whenever a mode is set, be it none; that of writing
 * only when keys change. So the mode is off until the handshake is over, and
 * what a connection that is not warm has written with goes back by hand.
 *
 * Buffers are taken from an SSL only between two records, when it has given all
 * that was in the last one: before OpenSSL 3.0.14 SSL_free_buffers() took them
 * in other states as well (CVE-2024-4741). In those the mode is back, and
 * OpenSSL gives them back itself when it is done with the record.
 */

#include "tls/internal.h"

#include "loop/internal.h"

/* 2 MiB a loop. */
#define WARM_MAX 64

/* A connection that waits for its peer's next message is not stale at once,
 * even where each turn brings the messages of a few only. */
#define STALE_TURNS 64

/* Of <openssl/ssl.h>: parts of OpenSSL's ABI. */
enum {
    SSL_CTRL_MODE = 33,
    SSL_CTRL_CLEAR_MODE = 78,
    SSL_MODE_RELEASE_BUFFERS = 0x10,
};

static bk_tls_openssl_session *
session_of(bk_handle *node)
{
    return BKI_CONTAINER_OF(node, bk_tls_openssl_session, _warm);
}

static void
leave(bk_loop *loop, bk_tls_openssl_session *session)
{
    session->_is_warm = false;
    bki_list_remove(&session->_warm);
    loop->tls_warm_count--;
}

static bool
is_between_records(const bk_tls_openssl_session *session)
{
    return session->_record_left == 0 && session->_header_len == 0 &&
           !session->_is_unframed &&
           session->_openssl->SSL_has_pending(session->_ssl) == 0;
}

static void
give_back(const bk_tls_openssl_session *session)
{
    if (is_between_records(session)) {
        (void)session->_openssl->SSL_free_buffers(session->_ssl);
    }
}

static void
set_mode(const bk_tls_openssl_session *session, bool is_releasing)
{
    const bk_tls_openssl *openssl = session->_openssl;
    struct ssl_st *ssl = session->_ssl;

    if (is_releasing) {
        (void)openssl->SSL_ctrl(ssl, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS,
                                NULL);
        return;
    }
    (void)openssl->SSL_ctrl(ssl, SSL_CTRL_CLEAR_MODE, SSL_MODE_RELEASE_BUFFERS,
                            NULL);
    (void)openssl->SSL_ctrl(ssl, SSL_CTRL_MODE, 0, NULL);
}

static void
cool(bk_loop *loop, bk_tls_openssl_session *session)
{
    leave(loop, session);
    set_mode(session, true);
    give_back(session);
}

static void
cool_all(bk_loop *loop)
{
    bk_handle *node;

    while ((node = bki_list_first(&loop->tls_warm)) != NULL) {
        cool(loop, session_of(node));
    }
}

/* The one that came first goes if it is stale; else it is asked last again. */
static bool
make_room(bk_loop *loop)
{
    bk_tls_openssl_session *first = session_of(bki_list_first(&loop->tls_warm));

    if (loop->stats.turns - first->_turn >= STALE_TURNS) {
        cool(loop, first);
        return true;
    }
    bki_list_remove(&first->_warm);
    bki_list_append(&loop->tls_warm, &first->_warm);
    return false;
}

void
bki_tls_warm_up(bk_tls_openssl_session *session)
{
    bk_loop *loop = session->_pump->_loop;

    if (loop->cool_tls == NULL) {
        bki_list_init(&loop->tls_warm);
        loop->cool_tls = cool_all;
    }
    if (loop->tls_warm_count >= WARM_MAX && !make_room(loop)) {
        return;
    }
    bki_list_append(&loop->tls_warm, &session->_warm);
    loop->tls_warm_count++;
    session->_is_warm = true;
    session->_turn = loop->stats.turns;
    set_mode(session, false);
}

void
bki_tls_before_handshake(bk_tls_openssl_session *session)
{
    set_mode(session, false);
}

void
bki_tls_after_handshake(bk_tls_openssl_session *session)
{
    set_mode(session, true);
}

void
bki_tls_tidy(bk_tls_openssl_session *session)
{
    if (!session->_is_warm) {
        give_back(session);
    }
}

void
bki_tls_cool(bk_tls_openssl_session *session)
{
    if (session->_is_warm) {
        cool(session->_pump->_loop, session);
    }
    else {
        give_back(session);
    }
}
