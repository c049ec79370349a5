/* process_output.c -- run a program and read its output.
 *
 * SPDX-License-Identifier: MIT
 *
 *     process_output program [argument ...]
 *
 * Prints what it writes, line by line, and how it ended. Its errors go where
 * those of this program go.
 */
#include <stdio.h>

#include "becket/becket.h"

struct output {
    bk_loop *loop;
    unsigned lines;
    bool is_in_line;
};

static void
on_data(bk_process *process, int fd, const void *data, size_t len, void *self)
{
    struct output *output = self;
    const char *text = data;

    (void)process;
    (void)fd;
    for (size_t i = 0; i < len; i++) {
        if (!output->is_in_line) {
            (void)printf("%u: ", ++output->lines);
        }
        (void)putchar(text[i]);
        output->is_in_line = text[i] != '\n';
    }
}

/* The program may have ended long before its output has: what it has started
 * may still write. This is called after both. */
static void
on_lost(bk_process *process, void *self)
{
    struct output *output = self;
    int returncode;

    if (output->is_in_line) {
        (void)putchar('\n');
    }
    if (bk_process_get_returncode(process, &returncode) == 0) {
        (void)printf("%u lines, returncode %d\n", output->lines, returncode);
    }
    bk_loop_stop(output->loop);
}

static const bk_subprocess_protocol protocol = {
    .pipe_data_received = on_data,
    .connection_lost = on_lost,
};

static int
run(bk_loop *loop, const char *const *argv)
{
    struct output output = {.loop = loop};
    bk_process *process = NULL;
    bk_process_options options = {.argv = argv};
    int r;

    options.stdio[0].kind = BK_STDIO_NULL;
    options.stdio[1].kind = BK_STDIO_PIPE;
    r = bk_loop_subprocess_exec(loop, &protocol, &output, &options, &process);
    if (r == 0) {
        r = bk_loop_run_forever(loop);
    }
    bk_process_free(process);
    return r;
}

int
main(int argc, char **argv)
{
    bk_loop *loop = NULL;
    int r;

    if (argc < 2) {
        (void)fprintf(stderr, "usage: process_output program [argument ...]\n");
        return 2;
    }
    r = bk_loop_new(NULL, &loop);
    if (r == 0) {
        r = run(loop, (const char *const *)argv + 1);
    }
    bk_loop_free(loop);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", argv[1], bk_strerror(r));
    }
    return r < 0;
}
