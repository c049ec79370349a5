/* types.h -- names and marks that every public header shares.
 *
 * SPDX-License-Identifier: MIT
 *
 * Words used in all headers:
 *   owned     this object frees it
 *   borrowed  valid for the call, or for the stated time
 *   lent      given to an operation; do not touch or free until it completes
 *   taken     ownership passes in, also on failure unless it says otherwise
 *
 * Every function returns 0 or a count, or a negative code of error.h. Outputs
 * come last, are named ret_x, and are written only on success. Time is in
 * nanoseconds on the loop's monotonic clock.
 *
 * "Thread: loop" functions may be called only by the thread that runs the
 * loop (or, while it does not run, by one thread at a time). "Thread: any"
 * functions may be called by all threads at all times between bk_loop_new()
 * and bk_loop_free().
 *
 * Members whose names start with an underscore are private: their structs are
 * complete only so that a caller can embed them.
 */
#ifndef BECKET_TYPES_H
#define BECKET_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#    define BK_BEGIN_DECLS extern "C" {
#    define BK_END_DECLS   }
#else
#    define BK_BEGIN_DECLS
#    define BK_END_DECLS
#endif

#define BK_API __attribute__((visibility("default")))

/* Never, as a point in time or a duration. */
#define BK_TIME_NEVER UINT64_MAX

typedef struct bk_loop bk_loop;
typedef struct bk_handle bk_handle;
typedef struct bk_timer bk_timer;
typedef struct bk_io bk_io;
typedef struct bk_watch bk_watch;
typedef struct bk_address bk_address;
typedef struct bk_datagram_protocol bk_datagram_protocol;
typedef struct bk_datagram_transport bk_datagram_transport;
typedef struct bk_protocol bk_protocol;
typedef struct bk_transport bk_transport;
typedef struct bk_listener bk_listener;
typedef struct bk_server bk_server;
typedef struct bk_connector bk_connector;
typedef struct bk_lookup bk_lookup;
typedef struct bk_process bk_process;
typedef struct bk_subprocess_protocol bk_subprocess_protocol;
typedef struct bk_loop_stats bk_loop_stats;
typedef struct bk_tls bk_tls;
typedef struct bk_tls_pump bk_tls_pump;

/* A callback of the convenient calls: it gets the argument given with it. */
typedef void (*bk_callback)(void *arg);

#endif
