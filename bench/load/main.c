/* SPDX-License-Identifier: MIT */
/* The load generator: many connections, each with one request at a time.
 *
 * Prints one line of JSON: the operations of the measured time, its seconds,
 * and the processor time that the server spent meanwhile, as the kernel
 * counts it.
 *
 * Design notes. Events are edge-triggered: a reply is received with room for
 * all that is missing of it, so a receive either completes it or has emptied
 * the socket. It sleeps in epoll as a real client does. Spinning there instead
 * was tried: what the server then saves on waking its client is below the
 * noise at 1 and 10 KB.
 *
 * The kernel counts the time of a running process in ticks of some
 * milliseconds, as seen from outside, and exactly when it sleeps. So a
 * measurement starts and ends with a server that has nothing to do.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "client.h"
#include "http.h"
#include "idle.h"
#include "options.h"

#define EVENTS_MAX      256
#define REST_TRIES      100 /* of a millisecond: some servers have a timer */
#define REQUEST_BYTES   1   /* asks for a file */
#define SILENCE_SECONDS 10  /* a server that says nothing for as long is hung */

struct load {
    struct options o;
    struct exchange x;
    struct client *clients; /* owned: o.connections of them */
    clockid_t server_clock;
    int epoll;
    long operations; /* complete ones, since the start */
    size_t waiting;  /* clients that have no reply yet */
    bool is_ending;  /* nobody begins another request */
};

static void
check(int r, const char *what)
{
    if (r < 0) {
        fprintf(stderr, "load: %s: %s\n", what, strerror(-r));
        exit(1);
    }
}

static double
read_clock(clockid_t clock)
{
    struct timespec t;

    check(clock_gettime(clock, &t) < 0 ? -errno : 0, "clock_gettime");
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Bytes that do not repeat, the same in each run. */
static char *
make_payload(size_t len)
{
    char *payload = malloc(len);
    uint32_t state = 2463534242; /* xorshift32's usual seed */

    check(payload == NULL ? -ENOMEM : 0, "payload");
    for (size_t i = 0; i < len; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        payload[i] = (char)(state >> 24);
    }
    return payload;
}

/* As the servers have it: each byte is its place, modulo 256. */
static char *
make_file(size_t len)
{
    char *file = malloc(len);

    check(file == NULL ? -ENOMEM : 0, "file");
    for (size_t i = 0; i < len; i++) {
        file[i] = (char)i;
    }
    return file;
}

static struct exchange
make_exchange(const struct options *o)
{
    size_t shifts = o->is_idle ? IDLE_SHIFTS : o->connections;

    if (o->is_http) {
        return (struct exchange){
            .request = http_request,
            .request_len = strlen(http_request),
            .peer = o->peer,
            .is_http = true,
        };
    }
    if (o->is_file) {
        return (struct exchange){
            .request = make_payload(REQUEST_BYTES + shifts),
            .request_len = REQUEST_BYTES,
            .reply = make_file(o->size),
            .reply_len = o->size,
            .peer = o->peer,
        };
    }
    return (struct exchange){
        .request = make_payload(o->size + shifts),
        .request_len = o->size,
        .reply_len = o->size,
        .peer = o->peer,
    };
}

static void
allow_many_fds(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* socket() tells if in vain */
    }
}

static void
connect_all(struct load *load)
{
    load->clients = calloc(load->o.connections, sizeof(*load->clients));
    check(load->clients == NULL ? -ENOMEM : 0, "clients");
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    check(load->epoll < 0 ? -errno : 0, "epoll_create1");
    for (size_t i = 0; i < load->o.connections; i++) {
        struct client *c = &load->clients[i];
        struct epoll_event event = {
            .events = EPOLLIN | EPOLLOUT | EPOLLET,
            .data.ptr = c,
        };

        check(client_open(c, &load->x, i), "connect");
        check(client_prove(c, &load->x), "first reply");
        check(epoll_ctl(load->epoll, EPOLL_CTL_ADD, c->fd, &event) < 0 ? -errno
                                                                       : 0,
              "epoll_ctl");
    }
}

static void
handle_event(struct load *load, struct client *c)
{
    int r = client_send(c);

    check(r, "send");
    r = client_receive(c, &load->x);
    check(r, "receive");
    if (r == 0) {
        return;
    }
    load->operations++;
    if (load->is_ending) {
        load->waiting--;
        return;
    }
    check(client_begin(c, &load->x), "send");
}

/* One look at what the server has answered. */
static void
turn(struct load *load)
{
    struct epoll_event events[EVENTS_MAX];
    int timeout_ms = SILENCE_SECONDS * 1000;
    int n = epoll_wait(load->epoll, events, EVENTS_MAX, timeout_ms);

    check(n < 0 && errno != EINTR ? -errno : 0, "epoll_wait");
    check(n == 0 ? -ETIMEDOUT : 0, "reply");
    for (int i = 0; i < n; i++) {
        handle_event(load, events[i].data.ptr);
    }
}

static bool
is_over(const struct load *load, double end, long operations)
{
    if (operations > 0) {
        return load->operations >= operations;
    }
    return read_clock(CLOCK_MONOTONIC) >= end;
}

/* Load the server for as many seconds, or operations if that is not 0, and
 * until it has answered everything.
 */
static void
run(struct load *load, double seconds, long operations)
{
    double end = read_clock(CLOCK_MONOTONIC) + seconds;

    load->is_ending = false;
    load->operations = 0;
    load->waiting = load->o.connections;
    for (size_t i = 0; i < load->o.connections; i++) {
        check(client_begin(&load->clients[i], &load->x), "send");
    }
    while (load->waiting > 0) {
        turn(load);
        load->is_ending |= is_over(load, end, operations);
    }
}

/* The server's processor time, once it has come to rest. */
static double
read_server_clock(const struct load *load)
{
    double time = read_clock(load->server_clock);

    for (int i = 0; i < REST_TRIES; i++) {
        struct timespec pause = {.tv_nsec = 1000000};
        double last = time;

        (void)nanosleep(&pause, NULL);
        time = read_clock(load->server_clock);
        if (time == last) {
            break;
        }
    }
    return time;
}

static void
measure(struct load *load)
{
    double start, seconds, cpu;

    check(-clock_getcpuclockid(load->o.server, &load->server_clock), "server");
    connect_all(load);
    if (load->o.warm_up > 0) {
        run(load, load->o.warm_up, 0);
    }
    cpu = read_server_clock(load);
    start = read_clock(CLOCK_MONOTONIC);
    run(load, load->o.seconds, load->o.operations);
    seconds = read_clock(CLOCK_MONOTONIC) - start;
    cpu = read_server_clock(load) - cpu;
    printf("{\"operations\": %ld, \"seconds\": %.9f, \"cpu\": %.9f}\n",
           load->operations, seconds, cpu);
}

int
main(int argc, char **argv)
{
    struct load load = {.o = options_parse(argc, argv)};

    check(prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0, "prctl");
    allow_many_fds();
    load.x = make_exchange(&load.o);
    if (load.o.is_idle) {
        check(idle_run(&load.x), "idle connections");
    }
    else {
        measure(&load);
    }
    return 0;
}
