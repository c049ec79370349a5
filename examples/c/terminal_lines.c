/* terminal_lines.c -- answers each line typed at a terminal.
 *
 * SPDX-License-Identifier: MIT
 *
 * stdin is watched like any other fd; a pipe will do as well. The fd stays in
 * blocking mode, since that belongs to whoever started the program, too: there
 * is one read for each event, and an event says that it will not block.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "becket/becket.h"

enum { LINE_MAX = 256 };

struct terminal {
    bk_watch watch; /* first: its address is the terminal's */
    unsigned count; /* of lines answered */
    size_t len;
    char text[LINE_MAX];
};

/* "quit" is the last one; every other comes back in capitals. */
static void
answer(struct terminal *self, const char *line, size_t len)
{
    if (len == 4 && memcmp(line, "quit", 4) == 0) {
        bk_loop_stop(bk_watch_loop(&self->watch));
        return;
    }
    (void)printf("%u: ", ++self->count);
    for (size_t i = 0; i < len; i++) {
        (void)putchar(toupper((unsigned char)line[i]));
    }
    (void)putchar('\n');
    (void)fflush(stdout);
}

static void
on_readable(bk_watch *watch, unsigned events)
{
    struct terminal *self = (struct terminal *)(void *)watch;
    char *line = self->text;
    char *end;
    ssize_t n = read(bk_watch_fd(watch), self->text + self->len,
                     sizeof(self->text) - self->len);

    (void)events;
    if (n <= 0) { /* Ctrl-D, or the terminal has gone */
        bk_loop_stop(bk_watch_loop(watch));
        return;
    }
    self->len += (size_t)n;
    while ((end = memchr(line, '\n', self->len)) != NULL) {
        answer(self, line, (size_t)(end - line));
        self->len -= (size_t)(end + 1 - line);
        line = end + 1;
    }
    if (self->len == sizeof(self->text)) { /* too long: two lines of it */
        answer(self, line, self->len);
        self->len = 0;
    }
    memmove(self->text, line, self->len);
}

int
main(void)
{
    static struct terminal self;
    bk_loop *loop = NULL;
    int r = bk_loop_new(NULL, &loop);

    if (r == 0) {
        r = bk_watch_init(&self.watch, loop, STDIN_FILENO, on_readable);
    }
    if (r == 0) {
        /* A file is always ready: epoll refuses it, with EPERM. */
        r = bk_watch_set(&self.watch, BK_READABLE);
    }
    if (r == 0) {
        r = bk_loop_run_forever(loop);
        (void)bk_watch_set(&self.watch, 0);
    }
    bk_loop_free(loop);
    if (r < 0) {
        (void)fprintf(stderr, "stdin: %s\n", bk_strerror(r));
    }
    return r < 0;
}
