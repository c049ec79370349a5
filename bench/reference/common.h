/* SPDX-License-Identifier: MIT */
/* What the reference programs have in common: each of them serves until it is
 * killed or its parent dies, and ends with a message when something fails.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

/* End the program, saying what failed and errno's reason. */
void fail(const char *what) __attribute__((noreturn));

/* Fail if the result is negative. */
void must(int result, const char *what);

void die_with_parent(void);

/* A bound socket that does not block, and listens if it is of streams, at an
 * address that the kernel chose. It is printed: the port, or for Unix the name
 * in the abstract namespace.
 */
int listen_tcp(void);
int listen_unix(void);
int bind_udp(void);

#endif
