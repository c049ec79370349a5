/* error.c -- names and words for the codes of error.h.
 *
 * SPDX-License-Identifier: MIT
 *
 * A table instead of strerror(3): the words do not depend on a locale, are
 * static, and may be read by any thread.
 */
#include "becket/error.h"

#include <errno.h>
#include <netdb.h>

struct code {
    int code;
    const char *name;
    const char *words;
};

#define ERRNO(name, words)                                                     \
    {                                                                          \
        -(name), #name, words                                                  \
    }
#define CODE(name, words)                                                      \
    {                                                                          \
        name, #name, words                                                     \
    }

static const struct code codes[] = {
    CODE(BK_EOF, "the peer has finished sending"),
    CODE(BK_EAI_ADDRFAMILY, "name has no address of this family"),
    CODE(BK_EAI_AGAIN, "temporary failure in name resolution"),
    CODE(BK_EAI_BADFLAGS, "bad flags for name resolution"),
    CODE(BK_EAI_FAIL, "permanent failure in name resolution"),
    CODE(BK_EAI_FAMILY, "address family not supported by name resolution"),
    CODE(BK_EAI_MEMORY, "name resolution is out of memory"),
    CODE(BK_EAI_NODATA, "name has no address"),
    CODE(BK_EAI_NONAME, "name or service not known"),
    CODE(BK_EAI_OVERFLOW, "name does not fit"),
    CODE(BK_EAI_SERVICE, "service not known for this socket type"),
    CODE(BK_EAI_SOCKTYPE, "socket type not supported by name resolution"),
    CODE(BK_TLS_ERROR, "TLS connection failed"),
    CODE(BK_EXIT_UNKNOWN, "somebody else has taken the exit status"),
    ERRNO(E2BIG, "argument list too long"),
    ERRNO(EACCES, "permission denied"),
    ERRNO(EADDRINUSE, "address already in use"),
    ERRNO(EADDRNOTAVAIL, "address not available"),
    ERRNO(EAFNOSUPPORT, "address family not supported"),
    ERRNO(EAGAIN, "resource temporarily unavailable"),
    ERRNO(EALREADY, "operation already in progress"),
    ERRNO(EBADF, "bad file descriptor"),
    ERRNO(EBUSY, "busy"),
    ERRNO(ECANCELED, "operation cancelled"),
    ERRNO(ECHILD, "no child process"),
    ERRNO(ECONNABORTED, "connection aborted"),
    ERRNO(ECONNREFUSED, "connection refused"),
    ERRNO(ECONNRESET, "connection reset by peer"),
    ERRNO(EDESTADDRREQ, "destination address required"),
    ERRNO(EEXIST, "already exists"),
    ERRNO(EFAULT, "bad address"),
    ERRNO(EHOSTDOWN, "host is down"),
    ERRNO(EHOSTUNREACH, "no route to host"),
    ERRNO(EINPROGRESS, "operation in progress"),
    ERRNO(EINTR, "interrupted by a signal"),
    ERRNO(EINVAL, "invalid argument"),
    ERRNO(EIO, "input/output error"),
    ERRNO(EISDIR, "is a folder"),
    ERRNO(EISCONN, "already connected"),
    ERRNO(ELOOP, "too many levels of symbolic links"),
    ERRNO(EMFILE, "too many open files in this process"),
    ERRNO(EMSGSIZE, "message too long"),
    ERRNO(ENAMETOOLONG, "file name too long"),
    ERRNO(ENETDOWN, "network is down"),
    ERRNO(ENETRESET, "connection dropped by the network"),
    ERRNO(ENETUNREACH, "network unreachable"),
    ERRNO(ENFILE, "too many open files in the system"),
    ERRNO(ENOBUFS, "no buffer space available"),
    ERRNO(ENODEV, "no such device"),
    ERRNO(ENOEXEC, "not an executable program"),
    ERRNO(ENOENT, "no such file or directory"),
    ERRNO(ENOMEM, "out of memory"),
    ERRNO(ENOPROTOOPT, "protocol option not available"),
    ERRNO(ENOSPC, "no space left"),
    ERRNO(ENOSYS, "function not implemented"),
    ERRNO(ENOTCONN, "not connected"),
    ERRNO(ENOTDIR, "not a directory"),
    ERRNO(ENOTSOCK, "not a socket"),
    ERRNO(EOPNOTSUPP, "operation not supported"),
    ERRNO(EPERM, "operation not permitted"),
    ERRNO(EPIPE, "broken pipe"),
    ERRNO(EPROTO, "protocol error"),
    ERRNO(EPROTONOSUPPORT, "protocol not supported"),
    ERRNO(EPROTOTYPE, "wrong protocol for this socket type"),
    ERRNO(ESRCH, "no such process"),
    ERRNO(ESHUTDOWN, "socket has been shut down"),
    ERRNO(ESOCKTNOSUPPORT, "socket type not supported"),
    ERRNO(ETIMEDOUT, "timed out"),
    ERRNO(ETXTBSY, "program is being written"),
};

struct eai {
    int code;
    int eai;
};

static const struct eai eais[] = {
    {BK_EAI_ADDRFAMILY, EAI_ADDRFAMILY}, {BK_EAI_AGAIN, EAI_AGAIN},
    {BK_EAI_BADFLAGS, EAI_BADFLAGS},     {BK_EAI_FAIL, EAI_FAIL},
    {BK_EAI_FAMILY, EAI_FAMILY},         {BK_EAI_MEMORY, EAI_MEMORY},
    {BK_EAI_NODATA, EAI_NODATA},         {BK_EAI_NONAME, EAI_NONAME},
    {BK_EAI_OVERFLOW, EAI_OVERFLOW},     {BK_EAI_SERVICE, EAI_SERVICE},
    {BK_EAI_SOCKTYPE, EAI_SOCKTYPE},
};

/* Failures are rare enough for a walk. */
static const struct code *
find(int code)
{
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].code == code) {
            return &codes[i];
        }
    }
    return NULL;
}

const char *
bk_err_name(int code)
{
    const struct code *found = find(code);

    return found != NULL ? found->name : "BK_UNKNOWN";
}

const char *
bk_strerror(int code)
{
    const struct code *found = find(code);

    if (code == 0) {
        return "success";
    }
    return found != NULL ? found->words : "unknown error";
}

int
bk_err_to_eai(int code)
{
    for (size_t i = 0; i < sizeof(eais) / sizeof(eais[0]); i++) {
        if (eais[i].code == code) {
            return eais[i].eai;
        }
    }
    return 0;
}
