/* linked.c -- the OpenSSL that this library is linked with.
 *
 * SPDX-License-Identifier: MIT
 */

#include "becket/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/sys.h"

static bk_tls_openssl *
new_table(void)
{
#define FILL(result, name, parameters) .name = name,
    const bk_tls_openssl filled = {BK_TLS_OPENSSL_FUNCTIONS(FILL)};
#undef FILL
    bk_tls_openssl *table = bki_sys_malloc(sizeof(*table));

    if (table == NULL) {
        return NULL;
    }
    *table = filled;
    if (bk_tls_openssl_method(table) < 0) {
        bki_sys_free(table);
        return NULL;
    }
    return table;
}

/* Like its BIO method, one for the process and for ever. */
const bk_tls_openssl *
bk_tls_openssl_linked(void)
{
    static bk_tls_openssl *linked;
    bk_tls_openssl *table = __atomic_load_n(&linked, __ATOMIC_ACQUIRE);
    bk_tls_openssl *none = NULL;

    if (table != NULL) {
        return table;
    }
    table = new_table();
    if (table == NULL ||
        __atomic_compare_exchange_n(&linked, &none, table, false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        return table;
    }
    bki_sys_free(table); /* another thread was faster */
    return none;
}
