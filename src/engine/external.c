/* external.c -- a poller that the embedder supplies.
 *
 * SPDX-License-Identifier: MIT
 *
 * It may run any code, and report any fd: whose it is is looked up where the
 * events are linked, as for all pollers.
 */
#include <assert.h>
#include <errno.h>

#include "base/sys.h"
#include "engine/poller.h"

/* As epoll.c has it. */
enum { EVENTS_MAX = 1024 };

struct external_poller {
    struct bki_poller base;
    const bk_poller_ops *ops; /* borrowed until closed, as its self */
    void *self;
    bk_poller_event events[EVENTS_MAX];
};

static struct external_poller *
external_of(struct bki_poller *poller)
{
    return (struct external_poller *)(void *)poller;
}

static int
external_add(struct bki_poller *poller, int fd, unsigned events,
             uint32_t generation)
{
    struct external_poller *external = external_of(poller);

    (void)generation;
    return external->ops->add(external->self, fd, events);
}

static int
external_modify(struct bki_poller *poller, int fd, unsigned events,
                uint32_t generation)
{
    struct external_poller *external = external_of(poller);

    (void)generation;
    return external->ops->modify(external->self, fd, events);
}

static int
external_remove(struct bki_poller *poller, int fd)
{
    struct external_poller *external = external_of(poller);

    return external->ops->remove(external->self, fd);
}

static int
external_wait(struct bki_poller *poller, uint64_t timeout_ns, bk_loop *hooks,
              struct bki_poller_event *events, size_t capacity)
{
    struct external_poller *external = external_of(poller);
    size_t room = capacity < EVENTS_MAX ? capacity : EVENTS_MAX;
    int found =
        external->ops->wait(external->self, timeout_ns, external->events, room);

    (void)hooks; /* it gives up the embedder's lock by itself */
    if (found > (int)room) {
        return -EINVAL;
    }
    for (int i = 0; i < found; i++) {
        events[i] = (struct bki_poller_event){
            .fd = external->events[i].fd,
            .events = external->events[i].events,
        };
    }
    return found;
}

static void
external_close(struct bki_poller *poller)
{
    struct external_poller *external = external_of(poller);
    const bk_poller_ops *ops = external->ops;

    external->ops = NULL;
    ops->close(external->self);
}

static void
external_free(struct bki_poller *poller)
{
    bki_sys_free(poller);
}

static const struct bki_poller_ops external_ops = {
    .is_external = true,
    .add = external_add,
    .modify = external_modify,
    .remove = external_remove,
    .wait = external_wait,
    .close = external_close,
    .free = external_free,
};

int
bki_external_new(const bk_poller_ops *ops, void *self,
                 struct bki_poller **ret_poller)
{
    struct external_poller *external;

    if (ops->name == NULL || ops->add == NULL || ops->modify == NULL ||
        ops->remove == NULL || ops->wait == NULL || ops->close == NULL) {
        return -EINVAL;
    }
    external = bki_sys_calloc(1, sizeof(*external));
    if (external == NULL) {
        return -ENOMEM;
    }
    external->base.ops = &external_ops;
    external->base.name = ops->name;
    external->ops = ops;
    external->self = self;
    *ret_poller = &external->base;
    return 0;
}
