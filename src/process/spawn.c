/* spawn.c -- what a child is given: streams, and a file to execute.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Between vfork(2) and execve(2) the child runs in its parent's memory, so
 * everything that allocates is done here, before: the child only makes system
 * calls (src/base/sys_process.c). What it gets is moved above 2 here, unless it
 * is in its place already, so that putting one stream in its place cannot
 * overwrite another.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "process/internal.h"

static const char default_path[] = "/bin:/usr/bin"; /* os.defpath */

static void
close_child(struct bki_stdio *stdio, int i)
{
    if (stdio->is_owned[i]) {
        (void)bki_sys_close(stdio->child[i]);
    }
    stdio->child[i] = -1;
    stdio->is_owned[i] = false;
}

void
bki_stdio_close(struct bki_stdio *stdio)
{
    for (int i = 0; i < 3; i++) {
        close_child(stdio, i);
        if (stdio->parent[i] >= 0) {
            (void)bki_sys_close(stdio->parent[i]);
        }
        stdio->parent[i] = -1;
    }
}

static int
open_pipe(struct bki_stdio *stdio, int i)
{
    bool is_stdin = i == 0;
    int fds[2];
    int r = bki_sys_pipe(fds);

    if (r < 0) {
        return r;
    }
    stdio->child[i] = is_stdin ? fds[0] : fds[1];
    stdio->parent[i] = is_stdin ? fds[1] : fds[0];
    stdio->is_owned[i] = true;
    return 0;
}

static int
open_null(struct bki_stdio *stdio, int i)
{
    int fd = bki_sys_open("/dev/null");

    if (fd < 0) {
        return fd;
    }
    stdio->child[i] = fd;
    stdio->is_owned[i] = true;
    return 0;
}

static int
open_one(struct bki_stdio *stdio, int i, const bk_stdio *wanted)
{
    switch (wanted->kind) {
    case BK_STDIO_INHERIT:
        return 0;
    case BK_STDIO_NULL:
        return open_null(stdio, i);
    case BK_STDIO_PIPE:
        return open_pipe(stdio, i);
    case BK_STDIO_FD:
        stdio->child[i] = wanted->fd;
        return wanted->fd >= 0 ? 0 : -EBADF;
    case BK_STDIO_STDOUT:
        stdio->child[i] = stdio->child[1] >= 0 ? stdio->child[1] : 1;
        return i == 2 ? 0 : -EINVAL;
    default:
        return -EINVAL;
    }
}

static int
move_away(struct bki_stdio *stdio, int i)
{
    int fd = stdio->child[i];

    if (fd < 0 || fd > 2 || fd == i) {
        return 0;
    }
    fd = bki_sys_dup_above(fd, 3);
    if (fd < 0) {
        return fd;
    }
    close_child(stdio, i);
    stdio->child[i] = fd;
    stdio->is_owned[i] = true;
    return 0;
}

int
bki_stdio_open(struct bki_stdio *stdio, const bk_process_options *options)
{
    int r = 0;

    *stdio = (struct bki_stdio){{-1, -1, -1}, {-1, -1, -1}, {false}};
    for (int i = 0; r == 0 && i < 3; i++) {
        r = open_one(stdio, i, &options->stdio[i]);
        if (r == 0) {
            r = move_away(stdio, i);
        }
    }
    if (r < 0) {
        bki_stdio_close(stdio);
    }
    return r;
}

/* PATH as the child has it. */
static const char *
find_path(const char *const *env)
{
    static const char name[] = "PATH=";
    const char *path = NULL;

    if (env == NULL) {
        path = getenv("PATH");
    }
    for (; path == NULL && env != NULL && *env != NULL; env++) {
        if (strncmp(*env, name, sizeof(name) - 1) == 0) {
            path = *env + sizeof(name) - 1;
        }
    }
    return path != NULL ? path : default_path;
}

/* Append folder/program and its NUL; an empty folder is the current one. */
static char *
append_file(char *end, const char *folder, size_t folder_len,
            const char *program)
{
    size_t len = strlen(program) + 1;

    if (folder_len > 0) {
        memcpy(end, folder, folder_len);
        end += folder_len;
        *end++ = '/';
    }
    memcpy(end, program, len);
    return end + len;
}

/* The files to try in turn, each with its NUL, and an empty one at the end. */
static char *
list_files(const char *program, const char *path)
{
    size_t folders = 1;
    char *files;
    char *end;

    for (const char *p = path; *p != '\0'; p++) {
        folders += *p == ':';
    }
    files = bki_sys_malloc(strlen(path) + folders * (strlen(program) + 2) + 1);
    if (files == NULL) {
        return NULL;
    }
    end = files;
    for (;;) {
        size_t len = strcspn(path, ":");

        end = append_file(end, path, len, program);
        path += len;
        if (*path == '\0') {
            break;
        }
        path++;
    }
    *end = '\0';
    return files;
}

int
bki_spawn(const bk_process_options *options, const struct bki_stdio *stdio,
          int *ret_pid)
{
    const char *program =
        options->program != NULL ? options->program : options->argv[0];
    bool is_path = strchr(program, '/') != NULL;
    struct bki_child child = {
        .argv = options->argv,
        .env = options->env,
        .cwd = options->cwd,
        .fds = stdio->child,
        .has_new_session = options->has_new_session,
        .has_new_group = options->has_new_group,
        .has_open_fds = options->has_open_fds,
    };
    char *files;
    int r;

    if (program[0] == '\0') {
        return -ENOENT;
    }
    files = list_files(program, is_path ? "" : find_path(options->env));
    if (files == NULL) {
        return -ENOMEM;
    }
    child.files = files;
    r = bki_sys_spawn(&child, ret_pid);
    bki_sys_free(files);
    return r;
}
