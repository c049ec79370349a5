/* test_cpp.cpp -- the headers as a strict C++17 program sees them.
 *
 * SPDX-License-Identifier: MIT
 *
 * As test_headers.c, which says more.
 */
#include "becket/becket.h"

namespace {

struct counter {
    bk_timer timer; /* first */
    bk_loop *loop;
    int runs_count;
};

extern "C" void
on_timer(bk_handle *handle)
{
    auto *self = reinterpret_cast<counter *>(bk_timer_of(handle));

    self->runs_count++;
    bk_loop_stop(self->loop);
}

} // namespace

int
main()
{
    counter self{};

    if (bk_loop_new(nullptr, &self.loop) != 0) {
        return 1;
    }
    bk_timer_init(&self.timer, on_timer);
    if (bk_loop_schedule_at(self.loop, &self.timer,
                            bk_loop_time(self.loop) + 1000) != 0 ||
        bk_loop_run_forever(self.loop) != 0) {
        return 1;
    }
    bk_loop_free(self.loop);
    return self.runs_count == 1 ? 0 : 1;
}
