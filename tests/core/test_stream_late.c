/* test_stream_late.c -- byte streams: a protocol that keeps its data back.
 *
 * SPDX-License-Identifier: MIT
 *
 * bk_transport_flush_later(): what TLS is built on.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "stream_support.h"

static const char *kept; /* what flushing() writes */
static void (*on_flushing)(void);
static bool was_later;

static void
flushing(bk_transport *transport, void *self)
{
    const char *text = kept;

    ck_assert_ptr_eq(self, &recorder);
    note(&recorder, "flushing");
    kept = NULL;
    if (on_flushing != NULL) {
        on_flushing();
    }
    if (text != NULL) {
        ck_assert_int_eq(bk_transport_write(transport, text, strlen(text)), 0);
    }
}

/* The recorder's, with flushing(). */
static bk_protocol late_protocol;

static void
begin_late(int poller)
{
    begin(poller);
    late_protocol = recorder_protocol;
    late_protocol.flushing = flushing;
    bk_transport_set_protocol(stream(), &late_protocol, &recorder);
}

static void
keep(const char *text)
{
    kept = text;
    was_later = bk_transport_flush_later(stream());
}

static void
keep_in_callback(void *arg)
{
    (void)arg;
    keep("kept");
    expect_log("");
    expect_peer_gets_nothing();
}

START_TEST(called_when_the_callback_returns)
{
    begin_late(_i);
    do_in_callback(stream_loop, keep_in_callback, NULL);
    ck_assert(was_later);
    expect_log("flushing ");
    expect_peer_gets("kept");
    do_in_callback(stream_loop, support_stop, stream_loop);
    expect_log(""); /* once */
    end();
}
END_TEST

START_TEST(not_outside_of_a_callback)
{
    begin_late(_i);
    keep("never");
    ck_assert(!was_later);
    expect_log("");
    end();
}
END_TEST

static void
keep_with_write_through(void *arg)
{
    bk_loop_set_write_through(stream_loop, true);
    keep_in_callback(arg);
    bk_loop_set_write_through(stream_loop, false);
}

START_TEST(not_with_write_through)
{
    begin_late(_i);
    do_in_callback(stream_loop, keep_with_write_through, NULL);
    ck_assert(!was_later);
    end();
}
END_TEST

static void
keep_and_write(void *arg)
{
    (void)arg;
    keep("first ");
    write_text("second");
}

START_TEST(kept_data_goes_before_later_writes)
{
    begin_late(_i);
    do_in_callback(stream_loop, keep_and_write, NULL);
    expect_peer_gets("first second");
    expect_log("flushing ");
    end();
}
END_TEST

static void (*look)(void);

static void
look_size(void)
{
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(stream()), 0);
}

static void
look_closing(void)
{
    ck_assert(!bk_transport_is_closing(stream()));
}

static void
look_flush(void)
{
    bk_loop_flush(stream_loop);
}

static void
look_close(void)
{
    bk_transport_close(stream());
}

static void
look_abort(void)
{
    bk_transport_abort(stream(), 0);
}

static void
look_protocol(void)
{
    bk_transport_set_protocol(stream(), &recorder_protocol, &recorder);
}

static void (*const looks[])(void) = {
    look_size, look_closing, look_flush, look_close, look_abort, look_protocol,
};

static void
keep_and_look(void *arg)
{
    (void)arg;
    keep("kept");
    look();
    ck_assert_ptr_null(kept);
    expect_peer_gets("kept");
}

START_TEST(called_before_whatever_could_tell)
{
    look = looks[_i];
    begin_late(SUPPORT_EPOLL);
    do_in_callback(stream_loop, keep_and_look, NULL);
    support_turns(stream_loop, 2);
    end();
}
END_TEST

static void
note_after(void *arg)
{
    (void)arg;
    note(&recorder, "after");
}

static void
keep_and_schedule(void *arg)
{
    (void)arg;
    keep("into the void");
    call_in_loop(stream_loop, note_after, NULL);
}

/* The reset is met by the late send. In asyncio the write has met it, and
 * connection_lost goes before what was scheduled after the write. */
START_TEST(loss_keeps_its_place)
{
    begin_late(_i);
    bk_transport_pause_reading(stream());
    reset_fd(stream_fds[1]);
    stream_fds[1] = -1;
    do_in_callback(stream_loop, keep_and_schedule, NULL);
    support_turns(stream_loop, 1);
    expect_log("flushing lost:ECONNRESET closed after ");
    end();
}
END_TEST

static void
abort_now(void)
{
    bk_transport_abort(stream(), -EPROTO);
}

START_TEST(abort_inside_flushing)
{
    begin_late(_i);
    on_flushing = abort_now;
    do_in_callback(stream_loop, keep_and_schedule, NULL);
    support_turns(stream_loop, 1);
    expect_log("flushing lost:EPROTO closed after ");
    end();
}
END_TEST

static void
keep_nothing(void *arg)
{
    (void)arg;
    keep(NULL);
    call_in_loop(stream_loop, note_after, NULL);
}

START_TEST(nothing_kept_after_all)
{
    begin_late(_i);
    do_in_callback(stream_loop, keep_nothing, NULL);
    support_turns(stream_loop, 1);
    expect_log("flushing after ");
    end();
}
END_TEST

START_TEST(not_while_blocked)
{
    begin_late(_i);
    shrink_buffers(stream_fds[0]);
    (void)write_until_paused();
    /* More than the peer's kernel may still take: it stays paused. */
    ck_assert_int_eq(bk_transport_write(stream(), big_data, (size_t)512 * 1024),
                     0);
    was_later = true;
    do_in_callback(stream_loop, keep_nothing, NULL);
    ck_assert(!was_later);
    support_turns(stream_loop, 1);
    expect_log("pause after ");
    end();
}
END_TEST

static void
keep_and_release(void *arg)
{
    (void)arg;
    keep("dropped");
    bk_transport_release(stream());
}

START_TEST(release_drops)
{
    begin_late(_i);
    do_in_callback(stream_loop, keep_and_release, NULL);
    expect_log("");
    end();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("stream late");
    TCase *late = new_stream_case(suite, "late");

    ADD(late, called_when_the_callback_returns);
    ADD(late, not_outside_of_a_callback);
    ADD(late, not_with_write_through);
    ADD(late, kept_data_goes_before_later_writes);
    tcase_add_loop_test(late, called_before_whatever_could_tell, 0, 6);
    ADD(late, loss_keeps_its_place);
    ADD(late, abort_inside_flushing);
    ADD(late, nothing_kept_after_all);
    ADD(late, not_while_blocked);
    ADD(late, release_drops);
    return support_main(suite);
}
