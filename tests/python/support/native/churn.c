/* churn.c -- threads that open and close fds at full speed, for tests.
 *
 * SPDX-License-Identifier: MIT
 *
 * Every fd here is a canary: a socket pair, a pipe, or a file, whose content,
 * inode, flags and position nobody else has any business with. The threads
 * never take the interpreter's lock, so a number that the code under test has
 * just closed is a canary's before its next instruction. A canary lives for a
 * random number of rounds; before it is closed it is looked at.
 *
 * The threads can be paused, so that the open fds of the process can be
 * compared with what they were.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum {
    THREADS_MAX = 4,
    CANARIES = 6, /* of a thread: few, so that low numbers soon come back */
    TEXT_MAX = 2000,
    FILE_POSITION = 3,
    /* A round that is not quite so fast, so that numbers stay free and are
     * taken at other moments as well. */
    REST_EVERY = 64,
};

enum kind { NONE, PAIR, PIPE, FILE_KIND, KINDS };

struct canary {
    enum kind kind;
    int fds[2]; /* -1: none */
    struct stat stats[2];
    int flags[2];
    char token[24];
};

struct churner {
    pthread_t thread;
    struct canary canaries[CANARIES];
    unsigned seed;
    unsigned long rounds;
    bool is_parked;
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct churner churners[THREADS_MAX];
    int threads;
    int pauses; /* atomic: how many asked the threads to park */
    bool is_ending;
    unsigned faults;
    char text[TEXT_MAX];
} churn = {.mutex = PTHREAD_MUTEX_INITIALIZER,
           .changed = PTHREAD_COND_INITIALIZER};

__attribute__((format(printf, 1, 2))) static void
complain(const char *format, ...)
{
    size_t used;
    va_list args;

    pthread_mutex_lock(&churn.mutex);
    churn.faults++;
    used = strlen(churn.text);
    va_start(args, format);
    (void)vsnprintf(churn.text + used, TEXT_MAX - used, format, args);
    va_end(args);
    pthread_mutex_unlock(&churn.mutex);
}

/* --- one canary --- */

static int
open_fds(struct canary *canary)
{
    switch (canary->kind) {
    case PAIR:
        return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                          0, canary->fds);
    case PIPE:
        return pipe2(canary->fds, O_NONBLOCK | O_CLOEXEC);
    default:
        canary->fds[1] = -1;
        canary->fds[0] = memfd_create("canary", MFD_CLOEXEC);
        return canary->fds[0];
    }
}

static void
fill(struct canary *canary)
{
    ssize_t len = (ssize_t)strlen(canary->token);
    int end = canary->kind == FILE_KIND ? 0 : 1;

    if (write(canary->fds[end], canary->token, (size_t)len) != len) {
        complain("cannot fill canary %d: %s; ", canary->fds[end],
                 strerror(errno));
    }
    if (canary->kind == FILE_KIND) {
        (void)lseek(canary->fds[0], FILE_POSITION, SEEK_SET);
    }
}

static void
hatch(struct churner *self, struct canary *canary)
{
    canary->kind = (enum kind)(1 + rand_r(&self->seed) % (KINDS - 1));
    (void)snprintf(canary->token, sizeof(canary->token), "canary %08x",
                   (unsigned)rand_r(&self->seed));
    if (open_fds(canary) < 0) {
        /* The code under test may have been given no room for more. */
        canary->kind = NONE;
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (canary->fds[i] >= 0) {
            (void)fstat(canary->fds[i], &canary->stats[i]);
            canary->flags[i] = fcntl(canary->fds[i], F_GETFL);
        }
    }
    fill(canary);
}

/* False: the number is no longer that of this canary. */
static bool
is_same_file(const struct canary *canary, int i)
{
    const struct stat *before = &canary->stats[i];
    int fd = canary->fds[i];
    struct stat now;

    if (fstat(fd, &now) < 0) {
        complain("canary %d: %s; ", fd, strerror(errno));
        return false;
    }
    if (now.st_ino != before->st_ino || now.st_dev != before->st_dev) {
        complain("canary %d is another file; ", fd);
        return false;
    }
    return true;
}

static void
check_flags(const struct canary *canary, int i)
{
    int fd = canary->fds[i];
    int flags = fcntl(fd, F_GETFL);

    if (fcntl(fd, F_GETFD) != FD_CLOEXEC) {
        complain("canary %d is no longer close-on-exec; ", fd);
    }
    if (flags != canary->flags[i]) {
        complain("canary %d has flags %x, not %x; ", fd, (unsigned)flags,
                 (unsigned)canary->flags[i]);
    }
}

/* Reads what is there, at most; -EAGAIN: nothing. Never waits, even if somebody
 * has made the fd a blocking one. */
static ssize_t
read_now(int fd, char *buf, size_t len)
{
    struct pollfd probe = {.fd = fd, .events = POLLIN};
    ssize_t n;

    if (poll(&probe, 1, 0) == 0) {
        return -EAGAIN;
    }
    n = read(fd, buf, len);
    return n < 0 ? -errno : n;
}

/* What can be read is the token and nothing else, and no end of file. */
static void
check_stream(const struct canary *canary, int end, const char *expected)
{
    char buf[256];
    ssize_t len = (ssize_t)strlen(expected);
    ssize_t n;

    if (len > 0) {
        n = read_now(canary->fds[end], buf, sizeof(buf));
        if (n != len || memcmp(buf, expected, (size_t)len) != 0) {
            complain("canary %d has %zd bytes, '%.*s'; ", canary->fds[end], n,
                     n > 0 ? (int)n : 0, buf);
        }
    }
    n = read_now(canary->fds[end], buf, sizeof(buf));
    if (n != -EAGAIN) {
        complain("canary %d got '%.*s' (%zd) on top; ", canary->fds[end],
                 n > 0 ? (int)n : 0, buf, n);
    }
}

static void
check_file(const struct canary *canary)
{
    char buf[256];
    ssize_t len = (ssize_t)strlen(canary->token);
    ssize_t n = pread(canary->fds[0], buf, sizeof(buf), 0);
    off_t position = lseek(canary->fds[0], 0, SEEK_CUR);

    if (n != len || memcmp(buf, canary->token, (size_t)len) != 0) {
        complain("canary file %d has %zd bytes, '%.*s'; ", canary->fds[0], n,
                 n > 0 ? (int)n : 0, buf);
    }
    if (position != FILE_POSITION) {
        complain("canary file %d was moved to %ld; ", canary->fds[0],
                 (long)position);
    }
}

static void
check_content(const struct canary *canary)
{
    if (canary->kind == FILE_KIND) {
        check_file(canary);
        return;
    }
    check_stream(canary, 0, canary->token);
    if (canary->kind == PAIR) {
        check_stream(canary, 1, "");
    }
}

/* Look at it, then close it. */
static void
release(struct canary *canary)
{
    bool is_whole = true;

    if (canary->kind == NONE) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (canary->fds[i] < 0) {
            continue;
        }
        if (!is_same_file(canary, i)) {
            canary->fds[i] = -1; /* not ours to close */
            is_whole = false;
        }
        else {
            check_flags(canary, i);
        }
    }
    if (is_whole) {
        check_content(canary);
    }
    for (int i = 0; i < 2; i++) {
        if (canary->fds[i] >= 0 && close(canary->fds[i]) < 0) {
            complain("canary %d closed: %s; ", canary->fds[i], strerror(errno));
        }
    }
    canary->kind = NONE;
}

static void
release_all(struct churner *self)
{
    for (int i = 0; i < CANARIES; i++) {
        release(&self->canaries[i]);
    }
}

/* --- the threads --- */

static void
park(struct churner *self)
{
    pthread_mutex_lock(&churn.mutex);
    self->is_parked = true;
    pthread_cond_broadcast(&churn.changed);
    while (__atomic_load_n(&churn.pauses, __ATOMIC_SEQ_CST) > 0) {
        pthread_cond_wait(&churn.changed, &churn.mutex);
    }
    self->is_parked = false;
    pthread_mutex_unlock(&churn.mutex);
}

static void *
run(void *arg)
{
    struct churner *self = arg;

    while (!__atomic_load_n(&churn.is_ending, __ATOMIC_SEQ_CST)) {
        struct canary *canary =
            &self->canaries[(unsigned)rand_r(&self->seed) % CANARIES];

        if (__atomic_load_n(&churn.pauses, __ATOMIC_SEQ_CST) > 0) {
            park(self);
            continue;
        }
        release(canary);
        hatch(self, canary);
        __atomic_add_fetch(&self->rounds, 1, __ATOMIC_RELAXED);
        if (rand_r(&self->seed) % REST_EVERY == 0) {
            (void)usleep(20);
        }
    }
    return NULL;
}

static bool
all_are_parked(void)
{
    for (int i = 0; i < churn.threads; i++) {
        if (!churn.churners[i].is_parked) {
            return false;
        }
    }
    return true;
}

/* 0 or a positive errno. */
EXPORT int
churn_start(int threads, unsigned seed)
{
    if (threads > THREADS_MAX || churn.threads > 0) {
        return EINVAL;
    }
    churn.is_ending = false;
    churn.faults = 0;
    churn.text[0] = '\0';
    for (int i = 0; i < threads; i++) {
        struct churner *self = &churn.churners[i];
        int r;

        *self = (struct churner){.seed = seed + (unsigned)i};
        r = pthread_create(&self->thread, NULL, run, self);
        if (r != 0) {
            return r;
        }
        churn.threads++;
    }
    return 0;
}

/* Every canary has been looked at once the threads have ended. */
EXPORT void
churn_stop(void)
{
    __atomic_store_n(&churn.is_ending, true, __ATOMIC_SEQ_CST);
    for (int i = 0; i < churn.threads; i++) {
        (void)pthread_join(churn.churners[i].thread, NULL);
        release_all(&churn.churners[i]);
    }
    churn.threads = 0;
}

/* Park the threads, look at every canary and close it: the fds that are open
 * from here to churn_resume() are those of others. */
EXPORT void
churn_pause(void)
{
    pthread_mutex_lock(&churn.mutex);
    __atomic_add_fetch(&churn.pauses, 1, __ATOMIC_SEQ_CST);
    while (!all_are_parked()) {
        pthread_cond_wait(&churn.changed, &churn.mutex);
    }
    pthread_mutex_unlock(&churn.mutex);
    for (int i = 0; i < churn.threads; i++) {
        release_all(&churn.churners[i]);
    }
}

EXPORT void
churn_resume(void)
{
    pthread_mutex_lock(&churn.mutex);
    __atomic_sub_fetch(&churn.pauses, 1, __ATOMIC_SEQ_CST);
    pthread_cond_broadcast(&churn.changed);
    pthread_mutex_unlock(&churn.mutex);
}

EXPORT unsigned long
churn_rounds(void)
{
    unsigned long rounds = 0;

    for (int i = 0; i < churn.threads; i++) {
        rounds += __atomic_load_n(&churn.churners[i].rounds, __ATOMIC_RELAXED);
    }
    return rounds;
}

EXPORT unsigned
churn_faults(void)
{
    return __atomic_load_n(&churn.faults, __ATOMIC_SEQ_CST);
}

EXPORT const char *
churn_text(void)
{
    return churn.text;
}
