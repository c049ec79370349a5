/* watch.c -- watching a raw fd.
 *
 * SPDX-License-Identifier: MIT
 */
#include "becket/watch.h"

#include <errno.h>

#include "engine/engine.h"
#include "loop/internal.h"

#define EVENTS_ALL ((unsigned)(BK_READABLE | BK_WRITABLE))

static void
on_ready(bk_io *io, unsigned events)
{
    bk_watch *watch = (bk_watch *)(void *)io;

    watch->_callback(watch, events);
}

static const struct bki_io_ops watch_ops = {.on_ready = on_ready};

int
bk_watch_init(bk_watch *watch, bk_loop *loop, int fd, bk_watch_cb callback)
{
    if (watch == NULL || loop == NULL || callback == NULL) {
        return -EINVAL;
    }
    if (fd < 0 || loop->is_closed) {
        return -EBADF;
    }
    bki_io_init(&watch->_io, loop, &watch_ops);
    watch->_io._fd = fd;
    watch->_io._is_borrowed = 1;
    watch->_io._is_sharing = 1;
    watch->_callback = callback;
    return 0;
}

int
bk_watch_set(bk_watch *watch, unsigned events)
{
    if (watch == NULL || watch->_io._loop == NULL ||
        (events & ~EVENTS_ALL) != 0) {
        return -EINVAL;
    }
    return watch->_io._loop->engine->ops->watch(&watch->_io, events);
}

bool
bk_watch_pause(bk_watch *watch)
{
    return watch != NULL && watch->_io._loop != NULL &&
           watch->_io._loop->engine->ops->pause(&watch->_io);
}

int
bk_watch_resume(bk_watch *watch, unsigned events)
{
    if (watch == NULL || watch->_io._loop == NULL || events == 0 ||
        (events & ~EVENTS_ALL) != 0) {
        return -EINVAL;
    }
    return watch->_io._loop->engine->ops->resume(&watch->_io, events);
}

void
bk_watch_set_waker(bk_watch *watch, bool is_waker)
{
    if (watch != NULL && watch->_io._loop != NULL) {
        watch->_io._loop->engine->ops->set_waker(&watch->_io, is_waker);
    }
}

unsigned
bk_watch_get(const bk_watch *watch)
{
    return watch != NULL ? watch->_io._interest : 0;
}

int
bk_watch_fd(const bk_watch *watch)
{
    return watch != NULL ? watch->_io._fd : -1;
}

bk_loop *
bk_watch_loop(const bk_watch *watch)
{
    return watch != NULL ? watch->_io._loop : NULL;
}
