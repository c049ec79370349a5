/* unix_socket.c -- Unix sockets: their addresses and their files.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Whose a socket's file is, its inode's number alone does not tell: a server
 * that replaces the file may get the same one, since file systems use numbers
 * again. The modification time of a socket's file is that of its bind(2).
 */

#include "becket/unix_socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "net/internal.h"

/* asyncio's default for create_unix_server(backlog=...). */
#define BACKLOG_DEFAULT 100

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == BK_UNIX_PATH_MAX,
               "BK_UNIX_PATH_MAX is the size of sun_path");

static bool
is_abstract(const struct sockaddr_un *address)
{
    return address->sun_path[0] == '\0';
}

int
bki_unix_address_init(struct sockaddr_un *address, socklen_t *ret_len,
                      const char *path, size_t path_len)
{
    if (path == NULL) {
        return -EINVAL;
    }
    if (path_len == 0) {
        path_len = strlen(path);
    }
    if (path_len == 0) {
        return -EINVAL;
    }
    if (path_len > BK_UNIX_PATH_MAX) {
        return -ENAMETOOLONG;
    }
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, path_len);
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_len);
    return 0;
}

/* --- the file --- */

/* The file that a socket is bound to. */
struct bki_socket_file {
    dev_t device;
    ino_t inode;
    struct timespec bound;
    char path[BK_UNIX_PATH_MAX + 1];
};

static void
copy_path(char path[BK_UNIX_PATH_MAX + 1], const struct sockaddr_un *address)
{
    memcpy(path, address->sun_path, BK_UNIX_PATH_MAX);
    path[BK_UNIX_PATH_MAX] = '\0';
}

static bool
is_same_file(const struct bki_socket_file *file, const struct stat *status)
{
    return file->device == status->st_dev && file->inode == status->st_ino &&
           file->bound.tv_sec == status->st_mtim.tv_sec &&
           file->bound.tv_nsec == status->st_mtim.tv_nsec;
}

/* Remember the file of a socket that has just been bound. */
static int
new_file(const char *path, struct bki_socket_file **ret_file)
{
    struct bki_socket_file *file = bki_sys_calloc(1, sizeof(*file));
    struct stat status;
    int r;

    if (file == NULL) {
        return -ENOMEM;
    }
    (void)snprintf(file->path, sizeof(file->path), "%s", path);
    r = bki_sys_stat(path, &status);
    if (r < 0) {
        bki_sys_free(file);
        return r;
    }
    file->device = status.st_dev;
    file->inode = status.st_ino;
    file->bound = status.st_mtim;
    *ret_file = file;
    return 0;
}

void
bki_socket_file_remove(struct bki_socket_file *file)
{
    struct stat status;

    if (file == NULL) {
        return;
    }
    if (bki_sys_stat(file->path, &status) == 0 && is_same_file(file, &status)) {
        (void)bki_sys_unlink(file->path);
    }
    bki_sys_free(file);
}

/* What cannot be looked at or removed makes bind(2) fail. */
static void
remove_stale(const char *path)
{
    struct stat status;

    if (bki_sys_stat(path, &status) == 0 && S_ISSOCK(status.st_mode)) {
        (void)bki_sys_unlink(path);
    }
}

/* --- servers --- */

/* The file of a socket that has just been bound: its permissions, and who
 * removes it. */
static int
prepare_file(const char *path, const bk_unix_server_options *options,
             struct bki_socket_file **ret_file)
{
    int r = 0;

    if (options->mode != 0) {
        r = bki_sys_chmod(path, options->mode);
    }
    if (r == 0 && !options->is_file_kept) {
        r = new_file(path, ret_file);
    }
    return r;
}

static int
bind_file(int fd, const struct sockaddr_un *address, socklen_t len,
          const bk_unix_server_options *options,
          struct bki_socket_file **ret_file)
{
    char path[BK_UNIX_PATH_MAX + 1];
    int r;

    copy_path(path, address);
    remove_stale(path);
    r = bki_sys_bind(fd, (const struct sockaddr *)address, len);
    if (r < 0) {
        return r;
    }
    r = prepare_file(path, options, ret_file);
    if (r < 0) {
        (void)bki_sys_unlink(path);
    }
    return r;
}

static int
bind_address(int fd, const struct sockaddr_un *address, socklen_t len,
             const bk_unix_server_options *options,
             struct bki_socket_file **ret_file)
{
    if (!is_abstract(address)) {
        return bind_file(fd, address, len, options, ret_file);
    }
    if (options->mode != 0) {
        return -EINVAL;
    }
    return bki_sys_bind(fd, (const struct sockaddr *)address, len);
}

static int
open_server(bk_server *server, const struct sockaddr_un *address, socklen_t len,
            const bk_unix_server_options *options)
{
    int backlog = options->backlog != 0 ? options->backlog : BACKLOG_DEFAULT;
    struct bki_socket_file *file = NULL;
    int fd = bki_sys_socket(AF_UNIX, SOCK_STREAM, 0);
    int r;

    if (fd < 0) {
        return fd;
    }
    r = bind_address(fd, address, len, options, &file);
    if (r < 0) {
        (void)bki_sys_close(fd);
        return r;
    }
    bki_server_own_file(server, file);
    r = bki_server_add(server, fd, backlog);
    return r < 0 ? r : bki_server_listen(server, backlog);
}

int
bk_loop_create_unix_server(bk_loop *loop, const bk_protocol *protocol,
                           void *self, const bk_unix_server_options *options,
                           bk_server **ret_server)
{
    struct sockaddr_un address;
    socklen_t len;
    bk_server *server;
    int r;

    if (options == NULL || options->backlog < 0 || ret_server == NULL) {
        return -EINVAL;
    }
    r = bki_unix_address_init(&address, &len, options->path, options->path_len);
    if (r < 0) {
        return r;
    }
    r = bki_server_new(loop, protocol, self,
                       &(struct bki_server_calls){
                           .protocol_factory = options->protocol_factory,
                           .on_error = options->on_error,
                       },
                       1, &server);
    if (r < 0) {
        return r;
    }
    r = open_server(server, &address, len, options);
    if (r < 0) {
        bk_server_free(server);
        return r;
    }
    *ret_server = server;
    return 0;
}
