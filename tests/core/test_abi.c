/* test_abi.c -- what a compiled program relies on.
 *
 * SPDX-License-Identifier: MIT
 *
 * Structs that callers embed may not change their size without a new soname,
 * nor may codes change their values. Sizes are those of 64-bit systems.
 */
#include "becket/becket.h"

#include "support.h"

#define SIZE_IS(type, size)                                                    \
    _Static_assert(sizeof(void *) != 8 || sizeof(type) == (size), #type)

SIZE_IS(bk_address, 32);
SIZE_IS(bk_connect_options, 32);
SIZE_IS(bk_datagram_options, 40);
SIZE_IS(bk_datagram_protocol, 104);
SIZE_IS(bk_datagram_transport, 352);
SIZE_IS(bk_handle, 32);
SIZE_IS(bk_io, 120);
SIZE_IS(bk_listener, 192);
SIZE_IS(bk_loop_hooks, 48);
SIZE_IS(bk_loop_options, 72);
SIZE_IS(bk_loop_stats, 304);
SIZE_IS(bk_packet_queue, 16);
SIZE_IS(bk_poller_event, 8);
SIZE_IS(bk_poller_ops, 48);
SIZE_IS(bk_process_options, 64);
SIZE_IS(bk_protocol, 112);
SIZE_IS(bk_queue, 24);
SIZE_IS(bk_server_options, 40);
SIZE_IS(bk_slice, 16);
SIZE_IS(bk_socket_ops, 16);
SIZE_IS(bk_stdio, 8);
SIZE_IS(bk_subprocess_protocol, 48);
SIZE_IS(bk_timer, 56);
SIZE_IS(bk_tls_engine, 48);
SIZE_IS(bk_tls_openssl_session, 88);
SIZE_IS(bk_tls_ops, 136);
SIZE_IS(bk_tls_options, 40);
SIZE_IS(bk_tls_protocol, 56);
SIZE_IS(bk_tls_pump, 176);
SIZE_IS(bk_transport, 344);
SIZE_IS(bk_unix_server_options, 48);
SIZE_IS(bk_watch, 128);

/* bk_timer_of() is a cast. */
_Static_assert(offsetof(bk_timer, _handle) == 0, "handle first");

_Static_assert(BK_READABLE == 1, "BK_READABLE");
_Static_assert(BK_WRITABLE == 2, "BK_WRITABLE");
_Static_assert(BK_TIME_NEVER == UINT64_MAX, "BK_TIME_NEVER");

START_TEST(test_codes)
{
    ck_assert_int_eq(BK_EOF, -4097);
    ck_assert_int_eq(BK_TLS_ERROR, -4201);
    ck_assert_int_eq(BK_EXIT_UNKNOWN, -4301);
    ck_assert_int_eq(BK_EAI_ADDRFAMILY, -4101);
    ck_assert_int_eq(BK_EAI_AGAIN, -4102);
    ck_assert_int_eq(BK_EAI_BADFLAGS, -4103);
    ck_assert_int_eq(BK_EAI_FAIL, -4104);
    ck_assert_int_eq(BK_EAI_FAMILY, -4105);
    ck_assert_int_eq(BK_EAI_MEMORY, -4106);
    ck_assert_int_eq(BK_EAI_NODATA, -4107);
    ck_assert_int_eq(BK_EAI_NONAME, -4108);
    ck_assert_int_eq(BK_EAI_OVERFLOW, -4109);
    ck_assert_int_eq(BK_EAI_SERVICE, -4110);
    ck_assert_int_eq(BK_EAI_SOCKTYPE, -4111);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("test_abi");
    TCase *tcase = tcase_create("abi");

    tcase_add_test(tcase, test_codes);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
