/* hint.h -- what the compiler cannot know of the way of a message.
 *
 * SPDX-License-Identifier: MIT
 *
 * Between two system calls the kernel's code has filled the caches, so that a
 * message costs what it touches of the code rather than what it executes: what
 * seldom runs is kept out of the lines that always do.
 */
#ifndef BKI_HINT_H
#define BKI_HINT_H

#define BKI_LIKELY(condition)   __builtin_expect((condition) ? 1 : 0, 1)
#define BKI_UNLIKELY(condition) __builtin_expect((condition) ? 1 : 0, 0)

/* A function that is seldom called: apart from those that call it, which then
 * save no registers for it. */
#define BKI_COLD __attribute__((cold, noinline))

/* A function through which each message goes: kept together with its like. */
#define BKI_HOT __attribute__((hot))

#endif
