/* stress_fds.c -- random lives of fds whose numbers are reused.
 *
 * SPDX-License-Identifier: MIT
 *
 * A few places, each with a connection of its own: the library's fd, one of a
 * socket object, or a watched number. Users close theirs too early, keep
 * copies, and forget to tell. Each connection carries one letter only, so that
 * data of another one is seen at once; in the end everybody who still listens
 * must hear.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"
#include "loop/internal.h"
#include "support.h"

enum {
    PLACES = 24,
    STEPS = 40000,
    COPIES = 8,
};

enum kind {
    EMPTY,
    OURS,
    SOCKET,
    WATCH,
    KINDS,
};

struct place {
    bk_watch watch; /* its io is also that of the other kinds */
    enum kind kind;
    int peer;        /* owned; -1 */
    int user_fd;     /* of a socket or a watch; -1 once the user closed it */
    bool is_started; /* asked to read, and was not refused */
    char letter;
    char buf[256];
    int heard;
};

static bk_loop *loop;
static struct place places[PLACES];
static int copies[COPIES]; /* of fds that their users closed */
static unsigned seed;
static int letters_used;

static unsigned
random_below(unsigned limit)
{
    return (unsigned)rand_r(&seed) % limit;
}

static const struct bki_engine_ops *
ops(void)
{
    return loop->engine->ops;
}

static bk_io *
io_of(struct place *place)
{
    return &place->watch._io;
}

/* Nobody is called without a reason. */
static void
check_heard(struct place *place, ssize_t n)
{
    ck_assert_int_ne(n, -EAGAIN);
    for (ssize_t i = 0; i < n; i++) {
        ck_assert_int_eq(place->buf[i], place->letter);
    }
    if (n > 0) {
        place->heard++;
    }
}

static struct bki_buffer
on_alloc(bk_io *io)
{
    struct place *place = (struct place *)(void *)io;

    return (struct bki_buffer){.data = place->buf, .len = sizeof(place->buf)};
}

static void
on_read(bk_io *io, ssize_t n)
{
    struct place *place = (struct place *)(void *)io;

    check_heard(place, n);
    if (n < 0) {
        ck_assert_int_eq(place->user_fd, -1);
        ops()->read_stop(io);
        place->is_started = false;
    }
}

static const struct bki_io_ops place_ops = {
    .on_alloc = on_alloc,
    .on_read = on_read,
};

/* A user who has closed the fd knows, and does not read from its number. */
static void
on_watch(bk_watch *watch, unsigned events)
{
    struct place *place = (struct place *)(void *)watch;

    ck_assert_uint_eq(events, BK_READABLE);
    if (place->user_fd >= 0) {
        ssize_t n = read(place->user_fd, place->buf, sizeof(place->buf));

        check_heard(place, n < 0 ? -errno : n);
    }
}

static int
socket_fileno(void *self)
{
    return ((struct place *)self)->user_fd;
}

static void
close_user_fd(struct place *place)
{
    if (place->user_fd >= 0) {
        ck_assert_int_eq(close(place->user_fd), 0);
        place->user_fd = -1;
    }
}

static void
socket_close(void *self)
{
    close_user_fd(self);
}

static const bk_socket_ops socket_ops = {socket_fileno, socket_close};

/* A refusal is right only where the poller goes by numbers and an earlier
 * watch still stands on this one. */
static void
start(struct place *place)
{
    int r;

    if (place->kind == WATCH) {
        r = bk_watch_set(&place->watch, BK_READABLE);
        ck_assert(r == 0 || r == -EEXIST);
    }
    else {
        r = ops()->read_start(io_of(place));
        ck_assert_int_eq(r, 0);
    }
    place->is_started = r == 0;
}

static void
stop(struct place *place)
{
    if (place->kind == WATCH) {
        ck_assert_int_eq(bk_watch_set(&place->watch, 0), 0);
    }
    else {
        ops()->read_stop(io_of(place));
    }
    place->is_started = false;
}

static void
open_place(struct place *place)
{
    int fds[2];

    support_pair(fds);
    *place = (struct place){
        .kind = (enum kind)(1 + random_below(KINDS - 1)),
        .peer = fds[1],
        .user_fd = fds[0],
        .letter = (char)('a' + letters_used++ % 26),
    };
    if (place->kind == WATCH) {
        ck_assert_int_eq(bk_watch_init(&place->watch, loop, fds[0], on_watch),
                         0);
    }
    else {
        bki_io_init(io_of(place), loop, &place_ops);
    }
    if (place->kind == SOCKET) {
        io_of(place)->_socket = &socket_ops;
        io_of(place)->_socket_self = place;
    }
    if (place->kind == OURS) {
        io_of(place)->_fd = fds[0];
        place->user_fd = -1;
    }
    start(place);
}

static void
close_place(struct place *place)
{
    if (place->kind == WATCH) {
        stop(place);
        close_user_fd(place);
    }
    else {
        ops()->close(io_of(place));
    }
    ck_assert_int_eq(close(place->peer), 0);
    place->kind = EMPTY;
}

/* The user closes, and tells nobody; perhaps a copy of the fd lives on. */
static void
close_too_early(struct place *place)
{
    int *copy = &copies[random_below(COPIES)];

    if (place->user_fd < 0) {
        return;
    }
    if (*copy >= 0) {
        ck_assert_int_eq(close(*copy), 0);
        *copy = -1;
    }
    if (random_below(2) == 0) {
        *copy = dup(place->user_fd);
        ck_assert_int_ge(*copy, 0);
    }
    close_user_fd(place);
}

/* A socket object takes over what was the library's. */
static void
give_to_socket(struct place *place)
{
    place->kind = SOCKET;
    place->user_fd = io_of(place)->_fd;
    io_of(place)->_fd = -1;
    io_of(place)->_socket = &socket_ops;
    io_of(place)->_socket_self = place;
}

/* The user gets the number again, and watches it again: same watch, another
 * connection. */
static void
open_again(struct place *place)
{
    int fd = bk_watch_fd(&place->watch);
    int fds[2];

    if (place->user_fd >= 0 || fcntl(fd, F_GETFD) >= 0) {
        return;
    }
    support_pair(fds);
    if (fds[0] != fd && fds[1] != fd) {
        ck_assert_int_eq(dup3(fds[0], fd, O_CLOEXEC), fd);
        ck_assert_int_eq(close(fds[0]), 0);
        fds[0] = fd;
    }
    else if (fds[1] == fd) {
        fds[1] = fds[0];
        fds[0] = fd;
    }
    ck_assert_int_eq(close(place->peer), 0);
    place->peer = fds[1];
    place->user_fd = fd;
    place->letter = (char)('a' + letters_used++ % 26);
    start(place);
}

static void
send_letter(struct place *place)
{
    (void)send(place->peer, &place->letter, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
do_step(void)
{
    struct place *place = &places[random_below(PLACES)];

    if (place->kind == EMPTY) {
        open_place(place);
        return;
    }
    switch (random_below(8)) {
    case 0:
        close_place(place);
        return;
    case 1:
        close_too_early(place);
        return;
    case 2:
        stop(place);
        return;
    case 3:
        if (place->kind == OURS || place->user_fd >= 0) {
            start(place);
        }
        else if (place->kind == WATCH) {
            open_again(place);
        }
        return;
    case 4:
        support_turns(loop, 1);
        return;
    case 5:
        if (place->kind == OURS && random_below(4) == 0) {
            give_to_socket(place);
        }
        return;
    default:
        send_letter(place);
        return;
    }
}

/* Still listening, on an fd that is still there. */
static bool
is_listening(const struct place *place)
{
    return place->kind != EMPTY && place->is_started &&
           (place->kind == OURS || place->user_fd >= 0);
}

static void
check_everybody_hears(void)
{
    int listening = 0;

    for (int i = 0; i < PLACES; i++) {
        places[i].heard = 0;
        if (places[i].kind != EMPTY) {
            send_letter(&places[i]);
        }
    }
    support_turns(loop, 4);
    for (int i = 0; i < PLACES; i++) {
        if (is_listening(&places[i])) {
            listening++;
            ck_assert_int_gt(places[i].heard, 0);
        }
        else if (places[i].kind != EMPTY && !places[i].is_started) {
            ck_assert_int_eq(places[i].heard, 0);
        }
    }
    ck_assert_int_gt(listening, 0);
}

START_TEST(test_reused_numbers)
{
    seed = (unsigned)time(NULL);
    printf("# seed %u\n", seed);
    loop = support_new_loop(_i);
    for (int i = 0; i < COPIES; i++) {
        copies[i] = -1;
    }
    for (int i = 0; i < STEPS; i++) {
        do_step();
        if (i % 1000 == 999) {
            check_everybody_hears();
        }
    }
    for (int i = 0; i < PLACES; i++) {
        if (places[i].kind != EMPTY) {
            close_place(&places[i]);
        }
    }
    for (int i = 0; i < COPIES; i++) {
        if (copies[i] >= 0) {
            ck_assert_int_eq(close(copies[i]), 0);
        }
    }
    support_free_loop(loop);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("stress_fds");
    TCase *tcase = tcase_create("fds");

    tcase_add_loop_test(tcase, test_reused_numbers, 0, SUPPORT_POLLERS);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
