# SPDX-License-Identifier: MIT
"""Where a system call's failure has to arrive.

Whoever asked is told: the coroutine raises it, connection_lost() gets it, or
the exception handler does, as the very OSError that the errno stands for. The
tables name the exceptions, each with its reason; anything else is a fault of
the loop.
"""

from support.faults import PASSING

TOLD = ("raised", "lost", "reported")

# Calls whose failure may go unnoticed, since nothing is lost by it.
UNNOTICED = {
    "close": "Linux has closed the fd whatever it says",
    "cond_init": "lookups then go on with the threads that there are",
    "epoll_ctl": "as epoll_del and epoll_mod, which libc tells apart",
    "epoll_del": "the fd is closed next, or its events are nobody's",
    "epoll_mod": "told again at the next wait; the call itself is tried",
    "epoll_pwait2": "epoll_wait() is there",
    "getpeername": "get_extra_info() says None",
    "getsockname": "get_extra_info() says None",
    "madvise": "a fork is then noticed by the process id",
    "mmap": "a fork is then noticed by the process id",
    "setsockopt": "TCP_NODELAY is a wish",
    "shutdown": "the connection is gone, which connection_lost() tells",
    "waitpid": "Popen then kills the process all the same",
}

# A peer that gave up while it waited to be accepted is nobody's error.
UNNOTICED_ERRORS = {("accept", "ECONNABORTED")}

# Scenarios that have another way to their end.
SURVIVED = {
    "connect_by_name": "the name may have several addresses",
    "connect_to_one_of_many": "one of the other addresses answers",
    "connect_refused": "it is refused either way",
    "connect_socket_refused": "it is refused either way",
}
SURVIVED_CALLS = (
    {
        (name, call): "read and sent by blocks"
        for name in (
            "send_file_by_kernel",
            "send_file_by_transport",
            "send_part_of_file_by_unix_transport",
        )
        for call in ("sendfile", "fcntl")
    }
    | {
        (name, call): way
        for name in (
            "talk_to_a_process",
            "run_in_a_shell",
            "end_a_process",
            "end_a_process_by_its_number",
            "lose_a_process",
            "lose_a_process_by_its_number",
            "handle_the_end_of_a_process",
        )
        for call, way in {
            # How its end is learnt: where the loop cannot watch it.
            "epoll_add": "a thread waits for it",
            "fcntl": "a thread waits for it",
            "pidfd_open": "a thread waits for it",
            "pidfd_send_signal": "kill() does it",
            "waitid": "waitpid() does it",
        }.items()
    }
    | {
        ("handle_what_cannot_be", "sigaction"): "it is refused either way",
    }
)

# What is not true: the process runs on, and nobody kills or reaps it.
LIES = {
    ("kill", "EPERM"),  # a program of another user
    ("kill", "ESRCH"),
    ("pidfd_send_signal", "ESRCH"),
    ("waitid", "ECHILD"),
    ("waitpid", "ECHILD"),
}

# Where CPython's text replaces the error: "could not bind on any address".
REPLACED = {("bind", "EADDRNOTAVAIL")} | {
    ("socket", error)
    for error in (
        "EMFILE",
        "ENFILE",
        "ENOBUFS",
        "ENOMEM",
        "EACCES",
        "EAFNOSUPPORT",
    )
}
REPLACING = ("create_server", "start_server")

# A socket object's close() that raises, where nobody called it, and the
# interpreter's own write of a signal's number.
UNRAISABLE = ("close", "write")


def is_right(scenario, fault, arrived):
    """Whether this failure was to arrive there in this scenario."""
    if arrived in TOLD:
        return fault.error not in PASSING or fault.call == "close"
    if arrived == "unraisable":
        return fault.call in UNRAISABLE
    if arrived == "unnoticed":
        return may_go_unnoticed(scenario, fault)
    return (
        fault.call,
        fault.error,
    ) in REPLACED and scenario.method in REPLACING


def is_lie(fault):
    return (fault.call, fault.error) in LIES


def may_go_unnoticed(scenario, fault):
    return (
        fault.error in PASSING
        or is_lie(fault)
        or fault.call in UNNOTICED
        or (fault.call, fault.error) in UNNOTICED_ERRORS
        or scenario.name in SURVIVED
        or (scenario.name, fault.call) in SURVIVED_CALLS
    )
