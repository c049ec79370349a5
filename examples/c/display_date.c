/* display_date.c -- the date every second, with bk_loop_call_later().
 *
 * SPDX-License-Identifier: MIT
 *
 *     display_date [seconds]
 *
 * The callback schedules itself again, and stops the loop at the end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "becket/becket.h"

#define SECOND_NS UINT64_C(1000000000)

struct clock {
    bk_loop *loop;
    uint64_t end_ns;
};

static void
print_date(void)
{
    struct timespec now;
    struct tm date;
    char text[sizeof("2000-01-01 00:00:00") + 16];

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)localtime_r(&now.tv_sec, &date);
    (void)strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &date);
    (void)printf("%s.%06ld\n", text, now.tv_nsec / 1000);
}

static void
display_date(void *arg)
{
    struct clock *self = arg;
    int r;

    print_date();
    if (bk_loop_time(self->loop) + SECOND_NS >= self->end_ns) {
        bk_loop_stop(self->loop);
        return;
    }
    r = bk_loop_call_later(self->loop, SECOND_NS, display_date, self, NULL);
    if (r < 0) {
        bk_loop_break(self->loop, r); /* bk_loop_run_forever() returns it */
    }
}

int
main(int argc, char **argv)
{
    unsigned long seconds = argc > 1 ? strtoul(argv[1], NULL, 10) : 5;
    struct clock self = {0};
    int r = bk_loop_new(NULL, &self.loop);

    if (r == 0) {
        self.end_ns = bk_loop_time(self.loop) + seconds * SECOND_NS;
        r = bk_loop_call_soon(self.loop, display_date, &self, NULL);
    }
    if (r == 0) {
        r = bk_loop_run_forever(self.loop);
    }
    bk_loop_free(self.loop);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
