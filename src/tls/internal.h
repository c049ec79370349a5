/* internal.h -- what the files of src/tls share.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKI_TLS_INTERNAL_H
#define BKI_TLS_INTERNAL_H

#include <errno.h>

#include "becket/tls_pump.h"

#include "net/internal.h"

/* RFC 8446 5.1: plain bytes of a record. */
#define BKI_TLS_PLAIN_MAX ((size_t)16384)

/* --- pump.c --- */

/* The peer's close_notify, or the end of the carrier, was read. */
int bki_tls_call_eof(bk_tls_pump *pump);

/* --- pump_data.c --- */

/* Deliver what there is, encrypt what waits, look at the marks. Failures end
 * in fail(); only what stops everything is returned. */
int bki_tls_read(bk_tls_pump *pump);

/* Encrypt the backlog, then bki_tls_send(). */
int bki_tls_write(bk_tls_pump *pump);

/* Hand the records to the carrier, and look at the marks of writing. */
int bki_tls_send(bk_tls_pump *pump);

/* Hand over the last records of a connection that has failed; its user is told
 * of nothing but that. */
int bki_tls_send_alert(bk_tls_pump *pump);

/* --- warm.c --- */

/* The SSL is new; its first handshake is done. */
void bki_tls_before_handshake(bk_tls_openssl_session *session);
void bki_tls_after_handshake(bk_tls_openssl_session *session);

/* OpenSSL has done something: what it has taken for that goes back, unless the
 * connection is warm. */
void bki_tls_tidy(bk_tls_openssl_session *session);

/* It has read something: it may keep OpenSSL's buffers from here on. */
void bki_tls_warm_up(bk_tls_openssl_session *session);

/* It gives them back, if it has them. */
void bki_tls_cool(bk_tls_openssl_session *session);

/* --- pump_buffer.c --- */

/* Records that are left of the receive under way are kept. -ENOMEM. */
int bki_tls_keep_window(bk_tls_pump *pump);

/* Plain bytes for one call of the engine: at most one record's worth, from
 * several small writes if need be. The buffer is borrowed until
 * bki_tls_give_back(). 0, or -ENOMEM. */
struct bki_tls_plain {
    const void *data;
    size_t len;
    void *buffer; /* owned, of the loop's pool, or NULL */
};
int bki_tls_gather(bk_tls_pump *pump, struct bki_tls_plain *ret_plain);
void bki_tls_give_back(struct bki_tls_plain *plain);

/* Drop len bytes of the backlog, or all that waits anywhere. */
void bki_tls_consume_backlog(bk_tls_pump *pump, size_t len);
void bki_tls_drop_all(bk_tls_pump *pump);

/* The engine calls: between the two the pump's other functions stay out. The
 * second gives -ENOMEM when a record was lost meanwhile, else r. */
static inline void
bki_tls_enter_engine(bk_tls_pump *pump)
{
    pump->_is_in_engine = true;
}

static inline ssize_t
bki_tls_leave_engine(bk_tls_pump *pump, ssize_t r)
{
    pump->_is_in_engine = false;
    if (pump->_is_drop_asked) {
        bki_tls_drop_all(pump);
    }
    if (pump->_has_no_memory) {
        pump->_has_no_memory = false;
        return -ENOMEM;
    }
    return r;
}

#endif
