/* fuzz_loop.c -- random programs of the C interface.
 *
 * SPDX-License-Identifier: MIT
 *
 * Each byte is an operation on one of a few handles, timers, watches and
 * streams over socket pairs; callbacks go on with the same program, so that
 * everything is also done from within everything. What must hold: a callback
 * runs as often as it was asked for, connection_made comes first and
 * connection_lost last and once, bytes arrive in order, and nothing is left.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "becket/becket.h"
#include "input.h"

enum {
    HANDLES = 4,
    TIMERS = 4,
    PAIRS = 3,
    STREAMS = 2 * PAIRS,
    WATCHES = 2,
    TURNS_MAX = 64,
    OPERATIONS_MAX = 2000,
    OPERATIONS_IN_CALLBACK = 3,
    DEPTH_MAX = 4,
};

struct stream {
    bk_transport transport;
    struct stream *peer;
    uint8_t sent;     /* the next byte to send: they count up */
    uint8_t received; /* the next byte to arrive */
    uint8_t is_begun; /* handed to the loop */
    uint8_t made;
    uint8_t lost;
    uint8_t is_closed; /* on_closed came: the memory is ours */
    uint8_t has_eof;
    uint8_t is_paused;
};

static struct {
    struct input input;
    bk_loop *loop;
    int depth;
    int operations;
    bk_handle handles[HANDLES];
    int due[HANDLES]; /* runs that were asked for and have not been */
    bk_timer timers[TIMERS];
    int timers_due[TIMERS];
    struct stream streams[STREAMS];
    bk_watch watches[WATCHES];
    int watch_fds[WATCHES];
    int watch_peers[WATCHES];
    bool has_watch[WATCHES];
} fuzz;

static void operate(int count);

static void
in_callback(void)
{
    if (fuzz.depth >= DEPTH_MAX) {
        return;
    }
    fuzz.depth++;
    operate((int)(input_byte(&fuzz.input) % (OPERATIONS_IN_CALLBACK + 1)));
    fuzz.depth--;
}

/* --- handles and timers --- */

static void
on_handle(bk_handle *handle)
{
    int i = (int)(handle - fuzz.handles);

    EXPECT(fuzz.due[i] == 1);
    fuzz.due[i] = 0;
    in_callback();
}

static void
on_timer(bk_handle *handle)
{
    int i = (int)(bk_timer_of(handle) - fuzz.timers);

    EXPECT(fuzz.timers_due[i] == 1);
    fuzz.timers_due[i] = 0;
    in_callback();
}

static void
operate_handle(unsigned what, int i)
{
    bk_handle *handle = &fuzz.handles[i];

    EXPECT(bk_handle_is_scheduled(handle) == (fuzz.due[i] == 1));
    if (what == 0) {
        if (bk_loop_schedule(fuzz.loop, handle) == 0) {
            EXPECT(fuzz.due[i]++ == 0);
        }
    }
    else if (what == 1) {
        if (bk_loop_schedule_threadsafe(fuzz.loop, handle) == 0) {
            EXPECT(fuzz.due[i]++ == 0);
        }
    }
    else if (bk_handle_cancel(handle) == 1) {
        EXPECT(fuzz.due[i]-- == 1);
    }
}

static void
operate_timer(unsigned what, int i)
{
    bk_timer *timer = &fuzz.timers[i];

    EXPECT(bk_timer_is_scheduled(timer) == (fuzz.timers_due[i] == 1));
    if (what == 0) {
        uint64_t delay_ns = (uint64_t)input_byte(&fuzz.input) * 1000;

        if (bk_loop_schedule_at(fuzz.loop, timer,
                                bk_loop_time(fuzz.loop) + delay_ns) == 0) {
            fuzz.timers_due[i] = 1;
        }
    }
    else if (bk_timer_cancel(timer) == 1) {
        EXPECT(fuzz.timers_due[i]-- == 1);
    }
}

/* --- watches --- */

static void
on_watch(bk_watch *watch, unsigned event)
{
    int i = (int)(watch - fuzz.watches);
    char byte;

    EXPECT(fuzz.has_watch[i]);
    if (event == BK_READABLE) {
        (void)!read(fuzz.watch_fds[i], &byte, 1);
    }
    else {
        (void)bk_watch_set(watch, BK_READABLE);
    }
    in_callback();
}

static void
operate_watch(unsigned what, int i)
{
    if (!fuzz.has_watch[i]) {
        return;
    }
    switch (what) {
    case 0:
        (void)bk_watch_set(&fuzz.watches[i], input_byte(&fuzz.input) % 4);
        break;
    case 1:
        (void)send(fuzz.watch_peers[i], "w", 1, MSG_NOSIGNAL);
        break;
    case 2:
        (void)bk_watch_set(&fuzz.watches[i], 0);
        break;
    default:
        (void)shutdown(fuzz.watch_peers[i], SHUT_WR);
        break;
    }
}

/* --- streams --- */

static struct stream *
stream_of(bk_transport *transport, void *self)
{
    struct stream *stream = self;

    EXPECT(&stream->transport == transport);
    EXPECT(!stream->is_closed);
    return stream;
}

static void
on_made(bk_transport *transport, void *self)
{
    EXPECT(stream_of(transport, self)->made++ == 0);
    in_callback();
}

static void
on_data(bk_transport *transport, const void *data, size_t len, void *self)
{
    struct stream *stream = stream_of(transport, self);
    const uint8_t *bytes = data;

    EXPECT(stream->made && !stream->lost && !stream->has_eof && len > 0);
    for (size_t i = 0; i < len; i++) {
        EXPECT(bytes[i] == stream->received);
        stream->received++;
    }
    in_callback();
}

static bool
on_eof(bk_transport *transport, void *self)
{
    struct stream *stream = stream_of(transport, self);

    /* Again after pause and resume, as asyncio's. */
    EXPECT(stream->made && !stream->lost);
    stream->has_eof = 1;
    in_callback();
    return input_byte(&fuzz.input) % 2 == 0;
}

static void
on_pause(bk_transport *transport, void *self)
{
    EXPECT(stream_of(transport, self)->is_paused++ == 0);
    in_callback();
}

static void
on_resume(bk_transport *transport, void *self)
{
    EXPECT(stream_of(transport, self)->is_paused-- == 1);
    in_callback();
}

static void
on_lost(bk_transport *transport, int error, void *self)
{
    struct stream *stream = stream_of(transport, self);

    EXPECT(error <= 0 && stream->made && stream->lost++ == 0);
    in_callback();
}

static void
on_closed(bk_transport *transport, void *self)
{
    struct stream *stream = stream_of(transport, self);

    EXPECT(stream->lost == 1);
    stream->is_closed = 1;
}

static const bk_protocol protocol = {
    .connection_made = on_made,
    .data_received = on_data,
    .eof_received = on_eof,
    .pause_writing = on_pause,
    .resume_writing = on_resume,
    .connection_lost = on_lost,
    .on_closed = on_closed,
};

static void
release_copy(void *owner)
{
    free(owner);
}

static void
send_some(struct stream *stream, bool is_lent)
{
    size_t len = (size_t)input_byte(&fuzz.input) * 40 + 1;
    uint8_t *data = malloc(len);
    uint8_t next = stream->sent;
    bool is_dropped = bk_transport_is_closing(&stream->transport);
    int r;

    EXPECT(data != NULL);
    for (size_t i = 0; i < len; i++) {
        data[i] = next++;
    }
    /* Before the write: what it calls may write more. */
    if (!is_dropped && !bk_transport_is_eof_asked(&stream->transport)) {
        stream->sent = next;
    }
    if (is_lent) {
        r = bk_transport_write_lent(&stream->transport, data, len, release_copy,
                                    data);
    }
    else {
        r = bk_transport_write(&stream->transport, data, len);
        free(data);
    }
    EXPECT(r == 0 || bk_transport_is_eof_asked(&stream->transport));
}

static void
operate_stream(unsigned what, struct stream *stream)
{
    bk_transport *transport = &stream->transport;

    if (!stream->is_begun || stream->is_closed) {
        return;
    }
    switch (what) {
    case 0:
    case 1:
        send_some(stream, what == 1);
        break;
    case 2:
        (void)bk_transport_write_eof(transport);
        break;
    case 3:
        bk_transport_close(transport);
        break;
    case 4:
        bk_transport_abort(transport, -(int)(input_byte(&fuzz.input) % 2));
        break;
    case 5:
        bk_transport_pause_reading(transport);
        break;
    case 6:
        bk_transport_resume_reading(transport);
        break;
    case 7: {
        size_t high = (size_t)input_byte(&fuzz.input) * 16;

        (void)bk_transport_set_write_buffer_limits(transport, high, high / 4);
        break;
    }
    case 8:
        (void)bk_transport_get_write_buffer_size(transport);
        break;
    default:
        bk_transport_flush(transport);
        break;
    }
}

/* --- the program --- */

static void
operate_loop(unsigned what)
{
    switch (what) {
    case 0:
        bk_loop_stop(fuzz.loop);
        break;
    case 1:
        bk_loop_flush(fuzz.loop);
        break;
    case 2:
        bk_loop_set_write_through(fuzz.loop,
                                  !bk_loop_get_write_through(fuzz.loop));
        break;
    default:
        /* A callback of a call from outside of a run could close it. */
        EXPECT(!bk_loop_is_running(fuzz.loop) ||
               bk_loop_close(fuzz.loop) == -EBUSY);
        break;
    }
}

static void
operate(int count)
{
    while (count-- > 0 && fuzz.operations++ < OPERATIONS_MAX) {
        unsigned what = input_byte(&fuzz.input);
        unsigned which = what >> 4;

        switch (what % 16) {
        case 0:
            operate_handle(which % 3, (int)(which / 4));
            break;
        case 1:
            operate_timer(which % 2, (int)(which / 4));
            break;
        case 2:
            operate_watch(which / 4, (int)(which % WATCHES));
            break;
        case 3:
            if (fuzz.depth > 0) {
                operate_loop(which % 4);
            }
            break;
        default:
            operate_stream(what % 16 - 4, &fuzz.streams[which % STREAMS]);
            break;
        }
    }
}

static void
begin(void)
{
    bk_loop_options options = {
        .backend = input_byte(&fuzz.input) % 2 == 0 ? "epoll" : "poll"};
    int fds[2];

    EXPECT(bk_loop_new(&options, &fuzz.loop) == 0);
    for (int i = 0; i < HANDLES; i++) {
        bk_handle_init(&fuzz.handles[i], on_handle);
    }
    for (int i = 0; i < TIMERS; i++) {
        bk_timer_init(&fuzz.timers[i], on_timer);
    }
    for (int i = 0; i < WATCHES; i++) {
        EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
        fuzz.watch_fds[i] = fds[0];
        fuzz.watch_peers[i] = fds[1];
        EXPECT(bk_watch_init(&fuzz.watches[i], fuzz.loop, fds[0], on_watch) ==
               0);
        fuzz.has_watch[i] = true;
    }
    for (int i = 0; i < STREAMS; i++) {
        struct stream *stream = &fuzz.streams[i];

        if (i % 2 == 0) {
            EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) ==
                   0);
        }
        EXPECT(bk_transport_init(&stream->transport, fuzz.loop, &protocol,
                                 stream) == 0);
        EXPECT(bk_transport_open_fd(&stream->transport, fds[i % 2]) == 0);
        EXPECT(bk_transport_start(&stream->transport) == 0);
        stream->is_begun = 1;
    }
}

static void
run_turn(void)
{
    bk_loop_stop(fuzz.loop);
    EXPECT(bk_loop_run_forever(fuzz.loop) == 0);
}

/* Everything is closed, and has been told so. */
static void
end(void)
{
    for (int i = 0; i < STREAMS; i++) {
        if (!fuzz.streams[i].is_closed) {
            bk_transport_abort(&fuzz.streams[i].transport, 0);
        }
    }
    for (int i = 0; i < 4; i++) {
        run_turn();
    }
    for (int i = 0; i < STREAMS; i++) {
        EXPECT(fuzz.streams[i].is_closed);
    }
    for (int i = 0; i < WATCHES; i++) {
        (void)bk_watch_set(&fuzz.watches[i], 0);
        (void)close(fuzz.watch_fds[i]);
        (void)close(fuzz.watch_peers[i]);
    }
    for (int i = 0; i < HANDLES; i++) {
        (void)bk_handle_cancel(&fuzz.handles[i]);
    }
    for (int i = 0; i < TIMERS; i++) {
        (void)bk_timer_cancel(&fuzz.timers[i]);
    }
    bk_loop_free(fuzz.loop);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    memset(&fuzz, 0, sizeof(fuzz));
    fuzz.input.data = data;
    fuzz.input.len = len;
    begin();
    for (int i = 0; i < TURNS_MAX && fuzz.input.len > 0; i++) {
        operate((int)(input_byte(&fuzz.input) % 8));
        run_turn();
    }
    fuzz.input.len = 0;
    end();
    return 0;
}
