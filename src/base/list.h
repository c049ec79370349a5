/* list.h -- a doubly linked list of handles.
 *
 * SPDX-License-Identifier: MIT
 *
 * Circular, through a root that is no handle of anybody: a handle can leave
 * whichever list holds it without knowing the list, also after a splice.
 * The functions touch the two links only; _state is the caller's business.
 */
#ifndef BKI_LIST_H
#define BKI_LIST_H

#include "becket/handle.h"

struct bki_list {
    bk_handle root; /* _next: the first handle, _prev: the last */
};

/* The list may not change inside, except that node itself may not be used
 * after it has left. */
#define BK_LIST_FOREACH(node, list)                                            \
    for (bk_handle *node = (list)->root._next; node != &(list)->root;          \
         node = node->_next)

static inline void
bki_list_init(struct bki_list *list)
{
    list->root._next = &list->root;
    list->root._prev = &list->root;
}

static inline bool
bki_list_is_empty(const struct bki_list *list)
{
    return list->root._next == &list->root;
}

/* The first handle, or NULL. */
static inline bk_handle *
bki_list_first(const struct bki_list *list)
{
    return bki_list_is_empty(list) ? NULL : list->root._next;
}

static inline void
bki_list_append(struct bki_list *list, bk_handle *node)
{
    bk_handle *last = list->root._prev;

    node->_next = &list->root;
    node->_prev = last;
    last->_next = node;
    list->root._prev = node;
}

/* Take a node out of the list that holds it. */
static inline void
bki_list_remove(bk_handle *node)
{
    node->_next->_prev = node->_prev;
    node->_prev->_next = node->_next;
    node->_next = NULL;
    node->_prev = NULL;
}

/* Take out the first, or NULL when there is none. */
static inline bk_handle *
bki_list_pop(struct bki_list *list)
{
    bk_handle *node = bki_list_first(list);

    if (node != NULL) {
        bki_list_remove(node);
    }
    return node;
}

/* Put everything of source before everything of list; source is then empty. */
static inline void
bki_list_splice_front(struct bki_list *list, struct bki_list *source)
{
    if (bki_list_is_empty(source)) {
        return;
    }
    source->root._prev->_next = list->root._next;
    list->root._next->_prev = source->root._prev;
    list->root._next = source->root._next;
    list->root._next->_prev = &list->root;
    bki_list_init(source);
}

#endif
