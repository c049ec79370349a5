/* resolver.c -- names to addresses and back, without blocking the loop.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A lookup is shared by the loop's thread, until its callback is called or the
 * loop closes, and by a thread of the pool, from submit until its call of the
 * C library returns. Each side holds a reference; the resolver's lock guards
 * the count, and whether anybody still wants the result.
 *
 *   loop's thread                      pool's thread
 *   begin: list, submit                run: getaddrinfo
 *   deliver: unlist, callback          lock: done, send the handle; or
 *   cancel: lock: unwanted; schedule         unwanted, drop the result
 *   close: lock: all unwanted          unlock, drop its reference
 *
 * A result is sent under the lock, in which the loop is known to be open. So
 * the loop never waits for a lookup, and a stuck one finds nobody when it ends.
 */

#include "becket/resolver.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>

#include "becket/error.h"

#include "base/sys.h"
#include "net/internal.h"
#include "pool/pool.h"

/* Name servers that do not answer must not take every thread of the process;
 * with four, three slow names do not delay the fourth. */
#define THREADS_MAX 4

/* Lookups that may wait for a thread; more are refused with -EAGAIN. At about
 * 1.5 KiB each that is 96 MiB, which only a runaway program gets to. */
#define QUEUED_MAX ((size_t)65536)

/* A thread that has had nothing to do for so long ends. */
#define IDLE_NS UINT64_C(10000000000)

struct bki_resolver {
    pthread_mutex_t lock;
    bk_loop *loop;         /* borrowed; lock; NULL once it is closed */
    size_t refs;           /* lock; the loop's, and each lookup's */
    struct bki_pool *pool; /* owned; abandoned when the loop closes */
    bk_lookup *head;       /* loop's thread: lookups not yet delivered */
};

struct bk_lookup {
    bk_handle handle; /* delivers */
    struct bki_job job;
    struct bki_resolver *resolver; /* counted */
    bk_lookup *next;
    bk_lookup *prev;
    unsigned refs;    /* lock; the loop's, and the pool's */
    bool is_done;     /* lock; the result is there, and on its way */
    bool is_unwanted; /* lock; cancelled, or the loop is closed */
    int error;        /* the call's result; written by whoever makes it */
    int (*call)(bk_lookup *lookup);
    void (*tell)(bk_lookup *lookup, int error); /* the user's callback */
    void *self;                                 /* given to it */
    struct addrinfo *found;                     /* owned; of a forward one */
};

struct forward_lookup {
    bk_lookup base;
    bk_getaddrinfo_cb callback;
    const char *host; /* in text, or NULL */
    const char *service;
    struct addrinfo hints;
    bool has_hints;
    char text[];
};

struct reverse_lookup {
    bk_lookup base;
    bk_getnameinfo_cb callback;
    int flags;
    socklen_t address_len;
    struct sockaddr_storage address;
    char host[NI_MAXHOST];
    char service[NI_MAXSERV];
};

static void
free_lookup(bk_lookup *lookup)
{
    bki_sys_freeaddrinfo(lookup->found);
    bki_sys_free(lookup);
}

/* Drop a reference of each, with the lock held; opens it. */
static void
unref_and_unlock(struct bki_resolver *resolver, bk_lookup *lookup)
{
    bool is_lookup_unused = --lookup->refs == 0;
    bool is_unused = is_lookup_unused && --resolver->refs == 0;

    bki_sys_mutex_unlock(&resolver->lock);
    if (is_lookup_unused) {
        free_lookup(lookup);
    }
    if (is_unused) {
        bki_sys_mutex_destroy(&resolver->lock);
        bki_sys_free(resolver);
    }
}

static void
unref(bk_lookup *lookup)
{
    bki_sys_mutex_lock(&lookup->resolver->lock);
    unref_and_unlock(lookup->resolver, lookup);
}

/* In the loop's thread: the lookup does not wait to be delivered any more. */
static void
unlist(bk_lookup *lookup)
{
    if (lookup->prev == NULL) {
        lookup->resolver->head = lookup->next;
    }
    else {
        lookup->prev->next = lookup->next;
    }
    if (lookup->next != NULL) {
        lookup->next->prev = lookup->prev;
    }
}

static void
list(bk_lookup *lookup)
{
    struct bki_resolver *resolver = lookup->resolver;

    lookup->prev = NULL;
    lookup->next = resolver->head;
    if (lookup->next != NULL) {
        lookup->next->prev = lookup;
    }
    resolver->head = lookup;
}

/* Nobody writes is_done any more: it is set, or the lookup is unwanted. */
static void
on_deliver(bk_handle *handle)
{
    bk_lookup *lookup = BKI_CONTAINER_OF(handle, bk_lookup, handle);

    unlist(lookup);
    lookup->tell(lookup, lookup->is_done ? lookup->error : -ECANCELED);
    unref(lookup);
}

/* In a thread of the pool. */
static void
on_run(struct bki_job *job)
{
    bk_lookup *lookup = BKI_CONTAINER_OF(job, bk_lookup, job);
    struct bki_resolver *resolver = lookup->resolver;

    lookup->error = lookup->call(lookup);
    bki_sys_mutex_lock(&resolver->lock);
    if (!lookup->is_unwanted) {
        lookup->is_done = true;
        (void)bk_loop_schedule_threadsafe(resolver->loop, &lookup->handle);
    }
    unref_and_unlock(resolver, lookup);
}

static void
on_drop(struct bki_job *job)
{
    unref(BKI_CONTAINER_OF(job, bk_lookup, job));
}

/* Mark all as unwanted; then nobody touches the loop any more. */
static void
part_from_loop(struct bki_resolver *resolver)
{
    bki_sys_mutex_lock(&resolver->lock);
    resolver->loop = NULL;
    for (bk_lookup *lookup = resolver->head; lookup != NULL;
         lookup = lookup->next) {
        lookup->is_unwanted = true;
    }
    bki_sys_mutex_unlock(&resolver->lock);
}

/* In a forked child the threads are gone and the locks may be held for ever:
 * all is left alone. */
static void
close_resolver(struct bki_resolver *resolver)
{
    bk_loop *loop = resolver->loop;
    bool is_unused;

    if (bki_loop_is_forked(loop)) {
        return;
    }
    part_from_loop(resolver);
    bki_inbox_take(loop); /* so that each handle can be cancelled */
    bki_pool_abandon(resolver->pool, on_drop);
    while (resolver->head != NULL) {
        bk_lookup *lookup = resolver->head;

        unlist(lookup);
        (void)bk_handle_cancel(&lookup->handle);
        unref(lookup);
    }
    bki_sys_mutex_lock(&resolver->lock);
    is_unused = --resolver->refs == 0;
    bki_sys_mutex_unlock(&resolver->lock);
    if (is_unused) {
        bki_sys_mutex_destroy(&resolver->lock);
        bki_sys_free(resolver);
    }
}

static int
open_resolver(bk_loop *loop)
{
    const struct bki_pool_options options = {.threads_max = THREADS_MAX,
                                             .queued_max = QUEUED_MAX,
                                             .idle_ns = IDLE_NS};
    struct bki_resolver *resolver;
    int r;

    if (loop->resolver != NULL) {
        return 0;
    }
    resolver = bki_sys_calloc(1, sizeof(*resolver));
    if (resolver == NULL) {
        return -ENOMEM;
    }
    r = bki_sys_mutex_init(&resolver->lock);
    if (r < 0) {
        bki_sys_free(resolver);
        return r;
    }
    r = bki_pool_new(&options, &resolver->pool);
    if (r < 0) {
        bki_sys_mutex_destroy(&resolver->lock);
        bki_sys_free(resolver);
        return r;
    }
    resolver->loop = loop;
    resolver->refs = 1;
    loop->resolver = resolver;
    loop->free_resolver = close_resolver;
    return 0;
}

/* Storage for a lookup of this size, with the loop's reference. */
static int
new_lookup(bk_loop *loop, size_t size, bk_lookup **ret_lookup)
{
    bk_lookup *lookup;
    int r;

    if (bk_loop_is_closed(loop)) {
        return -EBADF;
    }
    r = open_resolver(loop);
    if (r < 0) {
        return r;
    }
    lookup = bki_sys_calloc(1, size);
    if (lookup == NULL) {
        return -ENOMEM;
    }
    bk_handle_init(&lookup->handle, on_deliver);
    lookup->job.run = on_run;
    lookup->resolver = loop->resolver;
    lookup->refs = 1;
    bki_sys_mutex_lock(&loop->resolver->lock);
    loop->resolver->refs++;
    bki_sys_mutex_unlock(&loop->resolver->lock);
    *ret_lookup = lookup;
    return 0;
}

/* The answer is there already: it comes in the next turn. */
static int
answer(bk_loop *loop, bk_lookup *lookup, int error)
{
    lookup->error = error;
    lookup->is_done = true;
    return bk_loop_schedule(loop, &lookup->handle);
}

static int
submit(bk_lookup *lookup)
{
    int r;

    lookup->refs++; /* the pool's; no lock, since only we know the lookup */
    r = bki_pool_submit(lookup->resolver->pool, &lookup->job);
    if (r < 0) {
        lookup->refs--;
    }
    return r;
}

/* Listed, or, after a failure, given up. */
static int
begun(bk_lookup *lookup, int r, bk_lookup **ret_lookup)
{
    if (r < 0) {
        unref(lookup);
        return r;
    }
    list(lookup);
    if (ret_lookup != NULL) {
        *ret_lookup = lookup;
    }
    return 0;
}

static int
call_getaddrinfo(bk_lookup *lookup)
{
    struct forward_lookup *self =
        BKI_CONTAINER_OF(lookup, struct forward_lookup, base);

    return bki_sys_getaddrinfo(self->host, self->service,
                               self->has_hints ? &self->hints : NULL,
                               &lookup->found);
}

static void
tell_getaddrinfo(bk_lookup *lookup, int error)
{
    struct forward_lookup *self =
        BKI_CONTAINER_OF(lookup, struct forward_lookup, base);
    struct addrinfo *found = NULL;

    if (error == 0) {
        found = lookup->found;
        lookup->found = NULL;
    }
    if (self->callback != NULL) {
        self->callback(lookup, error, found, lookup->self);
    }
    else {
        bki_sys_freeaddrinfo(found);
    }
}

/* Literals and numbers need no resolver. BK_EAI_NONAME says that something
 * here is a name; all else is what the full call would say as well. */
static int
call_numeric(struct forward_lookup *self)
{
    struct addrinfo hints = self->hints;

    if (self->host != NULL) {
        hints.ai_flags |= AI_NUMERICHOST;
    }
    if (self->service != NULL) {
        hints.ai_flags |= AI_NUMERICSERV;
    }
    return bki_sys_getaddrinfo(self->host, self->service, &hints,
                               &self->base.found);
}

/* The default hints of getaddrinfo(3) without hints, a GNU extension. */
static void
copy_hints(struct forward_lookup *self, const struct addrinfo *hints)
{
    self->has_hints = hints != NULL;
    if (hints == NULL) {
        self->hints.ai_flags = AI_V4MAPPED | AI_ADDRCONFIG;
        return;
    }
    self->hints.ai_flags = hints->ai_flags;
    self->hints.ai_family = hints->ai_family;
    self->hints.ai_socktype = hints->ai_socktype;
    self->hints.ai_protocol = hints->ai_protocol;
}

static size_t
text_size(const char *text)
{
    return text == NULL ? 0 : strlen(text) + 1;
}

static void
copy_texts(struct forward_lookup *self, const char *host, const char *service)
{
    size_t host_size = text_size(host);

    if (host != NULL) {
        self->host = memcpy(self->text, host, host_size);
    }
    if (service != NULL) {
        self->service =
            memcpy(self->text + host_size, service, text_size(service));
    }
}

int
bk_loop_getaddrinfo(bk_loop *loop, const char *host, const char *service,
                    const struct addrinfo *hints, bk_getaddrinfo_cb callback,
                    void *user, bk_lookup **ret_lookup)
{
    struct forward_lookup *self;
    bk_lookup *lookup;
    int r = new_lookup(
        loop, sizeof(*self) + text_size(host) + text_size(service), &lookup);

    if (r < 0) {
        return r;
    }
    self = BKI_CONTAINER_OF(lookup, struct forward_lookup, base);
    lookup->call = call_getaddrinfo;
    lookup->tell = tell_getaddrinfo;
    lookup->self = user;
    self->callback = callback;
    copy_hints(self, hints);
    copy_texts(self, host, service);
    r = call_numeric(self);
    r = r == BK_EAI_NONAME ? submit(lookup) : answer(loop, lookup, r);
    return begun(lookup, r, ret_lookup);
}

static int
call_getnameinfo(bk_lookup *lookup)
{
    struct reverse_lookup *self =
        BKI_CONTAINER_OF(lookup, struct reverse_lookup, base);

    return bki_sys_getnameinfo(
        (const struct sockaddr *)&self->address, self->address_len, self->host,
        sizeof(self->host), self->service, sizeof(self->service), self->flags);
}

static void
tell_getnameinfo(bk_lookup *lookup, int error)
{
    struct reverse_lookup *self =
        BKI_CONTAINER_OF(lookup, struct reverse_lookup, base);
    bool is_ok = error == 0;

    if (self->callback != NULL) {
        self->callback(lookup, error, is_ok ? self->host : NULL,
                       is_ok ? self->service : NULL, lookup->self);
    }
}

int
bk_loop_getnameinfo(bk_loop *loop, const struct sockaddr *address,
                    socklen_t address_len, int flags,
                    bk_getnameinfo_cb callback, void *user,
                    bk_lookup **ret_lookup)
{
    const int numeric = NI_NUMERICHOST | NI_NUMERICSERV;
    struct reverse_lookup *self;
    bk_lookup *lookup;
    int r;

    if (address == NULL || address_len > sizeof(self->address)) {
        return -EINVAL;
    }
    r = new_lookup(loop, sizeof(*self), &lookup);
    if (r < 0) {
        return r;
    }
    self = BKI_CONTAINER_OF(lookup, struct reverse_lookup, base);
    lookup->call = call_getnameinfo;
    lookup->tell = tell_getnameinfo;
    lookup->self = user;
    self->callback = callback;
    self->flags = flags;
    self->address_len = address_len;
    memcpy(&self->address, address, address_len);
    r = (flags & numeric) == numeric
            ? answer(loop, lookup, call_getnameinfo(lookup))
            : submit(lookup);
    return begun(lookup, r, ret_lookup);
}

/* A job that no thread has taken is taken back; one that runs goes on, and
 * its result is dropped. */
void
bk_lookup_cancel(bk_lookup *lookup)
{
    struct bki_resolver *resolver = lookup->resolver;
    bool is_over;

    bki_sys_mutex_lock(&resolver->lock);
    is_over = lookup->is_done || lookup->is_unwanted;
    lookup->is_unwanted = !lookup->is_done;
    bki_sys_mutex_unlock(&resolver->lock);
    if (is_over) {
        return;
    }
    if (bki_pool_withdraw(resolver->pool, &lookup->job)) {
        unref(lookup);
    }
    (void)bk_loop_schedule(resolver->loop, &lookup->handle);
}
