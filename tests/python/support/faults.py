# SPDX-License-Identifier: MIT
"""Making system calls fail.

Two ways with one interface. Libc stands between the whole process and the C
library, so that it reaches the calls of the interpreter's socket module and
of CPython's own loop too; a script calls Libc.preload() first. Core speaks to
becket's own wrappers, in a build with fault injection, and reaches memory,
threads and lookups as well.
"""

import contextlib
import ctypes
import errno
import os
import sys

from support.native import bind, load, preloaded

# What the man pages say can happen to a program that makes no mistake, with
# the permanent errors first: of each kind, one that others are handled like.
ERRNOS = {
    "accept": "EMFILE ENFILE ENOBUFS ENOMEM ECONNABORTED EPERM EPROTO EINTR"
    " EAGAIN",
    "bind": "EADDRINUSE EADDRNOTAVAIL EACCES",
    "calloc": "ENOMEM",
    "close": "EIO EINTR",
    "cond_init": "ENOMEM EAGAIN",
    "connect": "ECONNREFUSED EHOSTUNREACH ENETUNREACH ETIMEDOUT EACCES EPERM"
    " EADDRNOTAVAIL EADDRINUSE EINTR",
    "dup": "EMFILE",
    "epoll_add": "ENOMEM ENOSPC EPERM",
    "epoll_create": "EMFILE ENFILE ENOMEM",
    "epoll_ctl": "ENOMEM ENOSPC EPERM",
    "epoll_del": "ENOMEM",
    "epoll_mod": "ENOMEM",
    "epoll_wait": "EINTR",
    "epoll_pwait2": "EINTR ENOSYS EPERM",
    "eventfd": "EMFILE ENFILE ENOMEM",
    "fcntl": "EPERM",
    "getaddrinfo": "ENOMEM",
    "getnameinfo": "ENOMEM",
    "getpeername": "ENOTCONN ENOBUFS",
    "getsockname": "ENOBUFS",
    "getsockopt": "ENOBUFS ENOMEM",
    "ioctl": "EIO",
    "kill": "EPERM ESRCH",
    "listen": "EADDRINUSE",
    "lseek": "EINVAL",
    "madvise": "EINVAL",
    "malloc": "ENOMEM",
    "mmap": "ENOMEM",
    "mutex_init": "ENOMEM EAGAIN",
    # The first two are also what sandboxes say, to all of these.
    "pidfd_open": "ENOSYS EPERM EMFILE ENFILE ENOMEM EINVAL ENODEV ESRCH",
    "pidfd_send_signal": "ENOSYS EPERM EINVAL ESRCH EBADF",
    "poll": "EINTR",
    "read": "EIO EINTR EAGAIN",
    "realloc": "ENOMEM",
    "recv": "ECONNRESET ETIMEDOUT EHOSTUNREACH ENOMEM EINTR EAGAIN",
    "recvfrom": "ECONNRESET ECONNREFUSED ENOMEM EINTR EAGAIN",
    "recvmmsg": "ECONNREFUSED ENOMEM EINTR EAGAIN",
    "select": "EINTR",
    "send": "EPIPE ECONNRESET ETIMEDOUT ENOBUFS ENOMEM EINTR EAGAIN",
    "sendfile": "EIO EINVAL ENOMEM EPIPE ECONNRESET EINTR EAGAIN",
    "sendmmsg": "ECONNREFUSED EMSGSIZE ENETUNREACH ENOBUFS ENOMEM EPERM EINTR"
    " EAGAIN",
    "sendmsg": "EPIPE ECONNRESET ENOBUFS ENOMEM EINTR EAGAIN",
    "sendto": "ECONNREFUSED ENETUNREACH ENOBUFS ENOMEM EINTR EAGAIN",
    "setsockopt": "ENOMEM ENOPROTOOPT",
    "shutdown": "ENOTCONN",
    "sigaction": "EINVAL EPERM",
    "socket": "EMFILE ENFILE ENOBUFS ENOMEM EACCES EAFNOSUPPORT",
    "socketpair": "EMFILE",
    "thread_create": "EAGAIN EPERM",
    "waitid": "ENOSYS EPERM EINVAL ENOMEM ESRCH ECHILD EINTR",
    "waitpid": "ENOSYS EPERM EINVAL ECHILD EINTR",
    "write": "EIO EINTR EAGAIN",
}

# After these the call is simply made again, and nobody ever hears of it.
PASSING = ("EINTR", "EAGAIN")


def errnos(call):
    """The names of the errnos that are tried for a call."""
    return ERRNOS[call].split()


def number(name):
    return getattr(errno, name)


class _Faults:
    """Calls are named as in ERRNOS; nth counts from 1."""

    def __init__(self, names):
        self._numbers = {name: i for i, name in enumerate(names)}

    @property
    def calls(self):
        return tuple(self._numbers)

    def counts(self):
        """How often each call was made since the last arm()."""
        found = {name: self.count(name) for name in self._numbers}
        return {name: count for name, count in found.items() if count}

    @contextlib.contextmanager
    def aside(self):
        """Calls in here are the test's own: they neither count nor fail."""
        yield


class Libc(_Faults):
    """Every call of this thread, through the C library."""

    SIGNATURES = {
        "interpose_arm": (
            None,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_int,
        ),
        "interpose_disarm": (ctypes.c_uint,),
        "interpose_pause": (ctypes.c_int, ctypes.c_int),
        "interpose_count": (ctypes.c_uint, ctypes.c_int),
        "interpose_name": (ctypes.c_char_p, ctypes.c_int),
        "interpose_log": (ctypes.c_int, ctypes.c_uint, ctypes.c_void_p),
    }

    class _Entry(ctypes.Structure):
        _fields_ = (
            ("call", ctypes.c_int),
            ("fd", ctypes.c_int),
            ("error", ctypes.c_int),
        )

    @staticmethod
    def preload():
        """Start the program that calls this anew, with interpose.c.

        LD_PRELOAD is looked at when a process begins, and not later.
        """
        if "interpose" not in os.environ.get("LD_PRELOAD", ""):
            os.environ["LD_PRELOAD"] = preloaded("interpose")
            os.execv(sys.executable, [sys.executable, *sys.argv])

    def __init__(self):
        if "interpose" not in os.environ.get("LD_PRELOAD", ""):
            raise RuntimeError("interpose.c was not preloaded")
        self._native = load("interpose", self.SIGNATURES)
        self._depth = 0
        names = []
        while name := self._native.interpose_name(len(names)):
            names.append(name.decode())
        self._names = names
        super().__init__(names)

    def arm(self, call, nth, error, is_sticky=False):
        """Call number nth of this kind fails; call None: of any kind."""
        kind = len(self._names) if call is None else self._numbers[call]
        self._native.interpose_arm(kind, nth, error, is_sticky)

    def disarm(self):
        """Let everything through; how many calls were made to fail."""
        return self._native.interpose_disarm()

    def count(self, call):
        return self._native.interpose_count(self._numbers[call])

    @contextlib.contextmanager
    def aside(self):
        was_counted = self._native.interpose_pause(True)
        try:
            yield
        finally:
            if was_counted:
                self._native.interpose_pause(False)

    def log(self):
        """What was called since the last arm(): 'close(7)=EIO' and so on."""
        entry = self._Entry()
        texts = []
        while self._native.interpose_log(len(texts), ctypes.byref(entry)):
            text = f"{self._names[entry.call]}({entry.fd})"
            if entry.error:
                text += f"={errno.errorcode[entry.error]}"
            texts.append(text)
        return texts


class Core(_Faults):
    """The wrappers in becket's src/base/sys.c, of every thread."""

    SIGNATURES = {
        "bki_fault_arm": (None, ctypes.c_uint, ctypes.c_uint, ctypes.c_int),
        "bki_fault_arm_all": (
            None,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_int,
        ),
        "bki_fault_disarm": (ctypes.c_bool,),
        "bki_fault_count": (ctypes.c_uint, ctypes.c_uint),
        "bki_fault_limit": (None, ctypes.c_uint, ctypes.c_size_t),
        "bki_fault_live_allocations": (ctypes.c_size_t,),
        "bki_fault_name": (ctypes.c_char_p, ctypes.c_uint),
    }

    @staticmethod
    def is_built():
        """Whether the becket that is imported has fault injection."""
        from becket import _core

        return hasattr(ctypes.PyDLL(_core.__file__), "bki_fault_arm")

    def __init__(self):
        from becket import _core

        self._native = bind(ctypes.PyDLL(_core.__file__), self.SIGNATURES)
        names = []
        while name := self._native.bki_fault_name(len(names)):
            names.append(name.decode().lower())
        super().__init__(names)

    def arm(self, call, nth, error, is_sticky=False):
        """Call number nth of this kind fails; call None: of any kind."""
        kind = len(self._numbers) if call is None else self._numbers[call]
        arm = self._native.bki_fault_arm
        if is_sticky:
            arm = self._native.bki_fault_arm_all
        arm(kind, nth, -error)

    def disarm(self):
        return int(self._native.bki_fault_disarm())

    def count(self, call):
        return self._native.bki_fault_count(self._numbers[call])

    def limit(self, call, length):
        """The call moves at most so many bytes; 0 ends that, as disarm()."""
        self._native.bki_fault_limit(self._numbers[call], length)

    def live_allocations(self):
        """Blocks of memory that the library holds now."""
        return self._native.bki_fault_live_allocations()

    def log(self):
        return []
