/* replay.c -- a fuzz target as a test: runs each file of a folder.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "input.h"

enum { LEN_MAX = 1 << 16 };

static int
replay(const char *path)
{
    uint8_t *data = malloc(LEN_MAX);
    FILE *file = fopen(path, "rb");
    size_t len;

    if (data == NULL || file == NULL) {
        perror(path);
        free(data);
        return -1;
    }
    len = fread(data, 1, LEN_MAX, file);
    (void)fclose(file);
    (void)LLVMFuzzerTestOneInput(data, len);
    free(data);
    return 0;
}

int
main(int argc, char **argv)
{
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    struct dirent *entry;
    int count = 0;

    if (folder == NULL) {
        (void)fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 1;
    }
    while ((entry = readdir(folder)) != NULL) {
        char path[4096];

        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
        if (replay(path) < 0) {
            return 1;
        }
        count++;
    }
    (void)closedir(folder);
    printf("%d files\n", count);
    return count > 0 ? 0 : 1;
}
