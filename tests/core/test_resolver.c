/* test_resolver.c -- names to addresses and back.
 *
 * SPDX-License-Identifier: MIT
 *
 * getaddrinfo(3) is replaced by one that waits when it is told to, in the way
 * that a name server that does not answer makes it wait.
 */
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "net_support.h"

static bk_loop *loop;

/* Names that end in ".stuck" wait until gate_open. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moved = PTHREAD_COND_INITIALIZER;
static bool gate_open;
static int waiting;         /* threads at the gate */
static int most;            /* ever */
static int passed;          /* calls that went through the gate */
static int open_to_signals; /* threads that do not block them */

typedef int (*getaddrinfo_call)(const char *, const char *,
                                const struct addrinfo *, struct addrinfo **);

static bool
is_stuck(const char *host, const struct addrinfo *hints)
{
    size_t len = host == NULL ? 0 : strlen(host);

    return len > 6 && strcmp(host + len - 6, ".stuck") == 0 &&
           (hints == NULL || (hints->ai_flags & AI_NUMERICHOST) == 0);
}

static void
wait_at_gate(void)
{
    sigset_t blocked;

    (void)pthread_mutex_lock(&gate);
    (void)pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    open_to_signals += sigismember(&blocked, SIGINT) != 1 ||
                       sigismember(&blocked, SIGTERM) != 1;
    waiting++;
    most = waiting > most ? waiting : most;
    (void)pthread_cond_broadcast(&gate_moved);
    while (!gate_open) {
        (void)pthread_cond_wait(&gate_moved, &gate);
    }
    waiting--;
    passed++;
    (void)pthread_cond_broadcast(&gate_moved);
    (void)pthread_mutex_unlock(&gate);
}

int
getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
            struct addrinfo **ret_result)
{
    getaddrinfo_call real;

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (is_stuck(host, hints)) {
        wait_at_gate();
        return real("127.0.0.1", service, hints, ret_result);
    }
    return real(host, service, hints, ret_result);
}

static void
open_gate(void)
{
    (void)pthread_mutex_lock(&gate);
    gate_open = true;
    (void)pthread_cond_broadcast(&gate_moved);
    (void)pthread_mutex_unlock(&gate);
}

static int
count_of(const int *counter)
{
    int count;

    (void)pthread_mutex_lock(&gate);
    count = *counter;
    (void)pthread_mutex_unlock(&gate);
    return count;
}

static void
await_gate(const int *count, int wanted)
{
    (void)pthread_mutex_lock(&gate);
    while (*count < wanted) {
        (void)pthread_cond_wait(&gate_moved, &gate);
    }
    (void)pthread_mutex_unlock(&gate);
}

struct answer {
    int calls;
    int error;
    bk_address first;
    char host[NI_MAXHOST];
    char service[NI_MAXSERV];
};

static int answers;

static void
on_addresses(bk_lookup *lookup, int error, struct addrinfo *found, void *self)
{
    struct answer *answer = self;

    ck_assert_ptr_nonnull(lookup);
    ck_assert_int_eq(error == 0, found != NULL);
    answer->calls++;
    answer->error = error;
    answers++;
    if (found != NULL) {
        ck_assert_uint_le(found->ai_addrlen, sizeof(answer->first.u));
        answer->first.len = found->ai_addrlen;
        memcpy(&answer->first.u, found->ai_addr, found->ai_addrlen);
        freeaddrinfo(found);
    }
}

static void
on_names(bk_lookup *lookup, int error, const char *host, const char *service,
         void *self)
{
    struct answer *answer = self;

    ck_assert_ptr_nonnull(lookup);
    answer->calls++;
    answer->error = error;
    if (error == 0) {
        (void)snprintf(answer->host, sizeof(answer->host), "%s", host);
        (void)snprintf(answer->service, sizeof(answer->service), "%s", service);
    }
    else {
        ck_assert_ptr_null(host);
        ck_assert_ptr_null(service);
    }
}

static const struct addrinfo stream_hints = {.ai_socktype = SOCK_STREAM};

static bk_lookup *
look_up(const char *host, const char *service, struct answer *answer)
{
    bk_lookup *lookup = NULL;

    ck_assert_int_eq(bk_loop_getaddrinfo(loop, host, service, &stream_hints,
                                         on_addresses, answer, &lookup),
                     0);
    ck_assert_ptr_nonnull(lookup);
    return lookup;
}

static void
expect_port(const struct answer *answer, uint16_t port)
{
    ck_assert_int_eq(answer->error, 0);
    ck_assert_uint_eq(bk_address_port(&answer->first), port);
}

START_TEST(literals_need_no_thread)
{
    struct answer v4 = {0};
    struct answer v6 = {0};
    struct answer none = {0};

    loop = new_threaded_loop(_i);
    (void)look_up("127.0.0.1", "80", &v4);
    (void)look_up("::1", NULL, &v6);
    (void)look_up(NULL, "8080", &none);
    ck_assert_int_eq(answers, 0); /* never from inside the call */
    support_turns(loop, 1);
    ck_assert_int_eq(answers, 3);
    expect_port(&v4, 80);
    expect_port(&v6, 0);
    expect_port(&none, 8080);
    free_threaded_loop(loop);
}
END_TEST

START_TEST(errors_that_need_no_thread)
{
    struct addrinfo hints = {.ai_family = AF_INET6};
    struct answer wrong_family = {0};
    struct answer nothing = {0};

    loop = new_threaded_loop(_i);
    ck_assert_int_eq(bk_loop_getaddrinfo(loop, "127.0.0.1", NULL, &hints,
                                         on_addresses, &wrong_family, NULL),
                     0);
    hints.ai_family = 12345;
    ck_assert_int_eq(bk_loop_getaddrinfo(loop, "127.0.0.1", NULL, &hints,
                                         on_addresses, &nothing, NULL),
                     0);
    support_turns(loop, 1);
    ck_assert_int_eq(wrong_family.error, BK_EAI_ADDRFAMILY);
    ck_assert_int_eq(nothing.error, BK_EAI_FAMILY);
    free_threaded_loop(loop);
}
END_TEST

START_TEST(names_take_a_thread)
{
    struct answer answer = {0};
    struct answer service = {0};

    loop = new_threaded_loop(_i);
    (void)look_up("localhost", "80", &answer);
    (void)look_up("127.0.0.1", "no such service", &service);
    RUN_UNTIL(loop, answers == 2);
    expect_port(&answer, 80);
    ck_assert_int_eq(service.error, BK_EAI_SERVICE);
    free_threaded_loop(loop);
}
END_TEST

START_TEST(nothing_to_look_up)
{
    struct answer answer = {0};

    loop = new_threaded_loop(_i);
    (void)look_up(NULL, NULL, &answer);
    RUN_UNTIL(loop, answers == 1);
    ck_assert_int_eq(answer.error, BK_EAI_NONAME);
    free_threaded_loop(loop);
}
END_TEST

START_TEST(hints_may_be_missing)
{
    struct answer answer = {0};

    loop = new_threaded_loop(_i);
    ck_assert_int_eq(bk_loop_getaddrinfo(loop, "127.0.0.1", "1", NULL,
                                         on_addresses, &answer, NULL),
                     0);
    RUN_UNTIL(loop, answers == 1);
    expect_port(&answer, 1);
    free_threaded_loop(loop);
}
END_TEST

START_TEST(a_stuck_name_delays_nobody)
{
    struct answer stuck = {0};
    struct answer quick = {0};

    loop = new_threaded_loop(_i);
    (void)look_up("a.stuck", NULL, &stuck);
    (void)look_up("localhost", NULL, &quick);
    RUN_UNTIL(loop, quick.calls == 1);
    ck_assert_int_eq(stuck.calls, 0);
    open_gate();
    RUN_UNTIL(loop, stuck.calls == 1);
    ck_assert_int_eq(stuck.error, 0);
    ck_assert_int_eq(count_of(&open_to_signals), 0);
    free_threaded_loop(loop);
}
END_TEST

START_TEST(at_most_four_threads)
{
    struct answer stuck[20] = {0};

    loop = new_threaded_loop(_i);
    for (int i = 0; i < 20; i++) {
        (void)look_up("a.stuck", NULL, &stuck[i]);
    }
    await_gate(&waiting, 4);
    support_turns(loop, 20);
    ck_assert_int_eq(answers, 0);
    open_gate();
    RUN_UNTIL(loop, answers == 20);
    ck_assert_int_eq(count_of(&most), 4);
    free_threaded_loop(loop);
}
END_TEST

START_TEST(cancel_before_during_and_after)
{
    struct answer running[4] = {0};
    struct answer waits = {0};
    struct answer done = {0};
    bk_lookup *lookups[4];
    bk_lookup *waiting_lookup;
    bk_lookup *done_lookup;

    loop = new_threaded_loop(_i);
    for (int i = 0; i < 4; i++) {
        lookups[i] = look_up("a.stuck", NULL, &running[i]);
    }
    await_gate(&waiting, 4);
    waiting_lookup = look_up("b.stuck", NULL, &waits);
    done_lookup = look_up("127.0.0.1", NULL, &done);
    bk_lookup_cancel(waiting_lookup);
    bk_lookup_cancel(waiting_lookup);
    bk_lookup_cancel(done_lookup);
    bk_lookup_cancel(lookups[0]);
    bk_lookup_cancel(lookups[1]);
    ck_assert_int_eq(answers, 0);
    support_turns(loop, 1);
    ck_assert_int_eq(answers, 4);
    ck_assert_int_eq(waits.error, -ECANCELED);
    ck_assert_int_eq(running[0].error, -ECANCELED);
    ck_assert_int_eq(running[1].error, -ECANCELED);
    ck_assert_int_eq(done.error, 0);
    open_gate();
    RUN_UNTIL(loop, answers == 6);
    await_gate(&passed, 4);
    support_turns(loop, 3);
    ck_assert_int_eq(count_of(&passed), 4); /* b.stuck was never looked up */
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(running[i].calls, 1);
        ck_assert_int_eq(running[i].error, i < 2 ? -ECANCELED : 0);
    }
    free_threaded_loop(loop);
}
END_TEST

START_TEST(closing_does_not_wait)
{
    struct answer stuck[6] = {0};
    uint64_t since_ns;

    loop = new_threaded_loop(_i);
    for (int i = 0; i < 6; i++) {
        (void)look_up("a.stuck", NULL, &stuck[i]);
    }
    await_gate(&waiting, 4);
    since_ns = bk_clock_now();
    bk_loop_free(loop);
    ck_assert_uint_lt(bk_clock_now() - since_ns, 5 * S);
    ck_assert_int_eq(answers, 0);
    open_gate();
    await_threads();
    ck_assert_int_eq(count_of(&passed), 4); /* the other two were never begun */
    ck_assert_int_eq(answers, 0);
    support_leaks_end();
}
END_TEST

START_TEST(closing_with_answers_under_way)
{
    struct answer stuck[3] = {0};
    struct answer literal = {0};
    bk_lookup *cancelled;

    loop = new_threaded_loop(_i);
    (void)look_up("a.stuck", NULL, &stuck[0]);
    (void)look_up("b.stuck", NULL, &stuck[1]);
    await_gate(&waiting, 2);
    open_gate();
    await_gate(&passed, 2); /* sent, or about to be */
    (void)look_up("127.0.0.1", NULL, &literal);
    cancelled = look_up("localhost", NULL, &stuck[2]);
    bk_lookup_cancel(cancelled);
    free_threaded_loop(loop);
    ck_assert_int_eq(answers, 0);
}
END_TEST

START_TEST(closed_loop_refuses)
{
    struct sockaddr_in address = {.sin_family = AF_INET};

    loop = new_threaded_loop(_i);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_int_eq(bk_loop_getaddrinfo(loop, "127.0.0.1", NULL, NULL,
                                         on_addresses, NULL, NULL),
                     -EBADF);
    ck_assert_int_eq(bk_loop_getnameinfo(loop, (struct sockaddr *)&address,
                                         sizeof(address), 0, on_names, NULL,
                                         NULL),
                     -EBADF);
    free_threaded_loop(loop);
}
END_TEST

START_TEST(names_of_addresses)
{
    const int numeric = NI_NUMERICHOST | NI_NUMERICSERV;
    struct answer number = {0};
    struct answer name = {0};
    struct answer wrong = {0};
    bk_address address;

    loop = new_threaded_loop(_i);
    ck_assert_int_eq(bk_address_parse("127.0.0.1", 80, AF_INET, &address), 0);
    ck_assert_int_eq(bk_loop_getnameinfo(loop, &address.u.sa, address.len,
                                         numeric, on_names, &number, NULL),
                     0);
    ck_assert_int_eq(bk_loop_getnameinfo(loop, &address.u.sa, address.len,
                                         NI_NUMERICSERV, on_names, &name, NULL),
                     0);
    ck_assert_int_eq(bk_loop_getnameinfo(loop, &address.u.sa, 3, numeric,
                                         on_names, &wrong, NULL),
                     0);
    ck_assert_int_eq(number.calls, 0);
    support_turns(loop, 1);
    ck_assert_str_eq(number.host, "127.0.0.1");
    ck_assert_str_eq(number.service, "80");
    ck_assert_int_eq(wrong.error, BK_EAI_FAMILY);
    RUN_UNTIL(loop, name.calls == 1);
    ck_assert_int_eq(name.error, 0);
    ck_assert_str_eq(name.service, "80");
    ck_assert_int_eq(
        bk_loop_getnameinfo(loop, NULL, 0, 0, on_names, NULL, NULL), -EINVAL);
    ck_assert_int_eq(
        bk_loop_getnameinfo(loop, &address.u.sa, 1000, 0, on_names, NULL, NULL),
        -EINVAL);
    free_threaded_loop(loop);
}
END_TEST

START_TEST(many_at_once)
{
    static struct answer many[500];
    static const char *const hosts[] = {"localhost", "127.0.0.1", "::1",
                                        "a.stuck"};

    loop = new_threaded_loop(_i);
    open_gate();
    for (int i = 0; i < 500; i++) {
        bk_lookup *lookup = look_up(hosts[i % 4], "1", &many[i]);

        if (i % 7 == 0) {
            bk_lookup_cancel(lookup);
        }
        if (i % 50 == 0) {
            support_turns(loop, 1);
        }
    }
    RUN_UNTIL(loop, answers == 500);
    for (int i = 0; i < 500; i++) {
        ck_assert_int_eq(many[i].calls, 1);
        ck_assert(many[i].error == 0 ||
                  (many[i].error == -ECANCELED && i % 7 == 0));
    }
    free_threaded_loop(loop);
}
END_TEST

#define ADD(tcase, test) tcase_add_loop_test(tcase, test, 0, SUPPORT_POLLERS)

int
main(void)
{
    Suite *suite = suite_create("resolver");
    TCase *tcase = tcase_create("resolver");

    ADD(tcase, literals_need_no_thread);
    ADD(tcase, errors_that_need_no_thread);
    ADD(tcase, names_take_a_thread);
    ADD(tcase, nothing_to_look_up);
    ADD(tcase, hints_may_be_missing);
    ADD(tcase, a_stuck_name_delays_nobody);
    ADD(tcase, at_most_four_threads);
    ADD(tcase, cancel_before_during_and_after);
    ADD(tcase, closing_does_not_wait);
    ADD(tcase, closing_with_answers_under_way);
    ADD(tcase, closed_loop_refuses);
    ADD(tcase, names_of_addresses);
    ADD(tcase, many_at_once);
    suite_add_tcase(suite, tcase);
    return support_main_with_names(suite);
}
