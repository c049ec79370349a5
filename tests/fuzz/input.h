/* input.h -- a fuzzer's bytes, taken from the front.
 *
 * SPDX-License-Identifier: MIT
 *
 * A target implements LLVMFuzzerTestOneInput(). Linked with libFuzzer it is a
 * fuzzer; with replay.c, a test that runs the files it is given.
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct input {
    const uint8_t *data;
    size_t len;
};

/* Zeros behind the end: every program ends. */
static inline unsigned
input_byte(struct input *input)
{
    if (input->len == 0) {
        return 0;
    }
    input->len--;
    return *input->data++;
}

/* What must hold, in every build. */
#define EXPECT(condition)                                                      \
    ((condition) ? (void)0 : input_fail(#condition, __FILE__, __LINE__))

static inline void
input_fail(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
    abort();
}

#endif
