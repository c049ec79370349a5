# SPDX-License-Identifier: MIT
"""What differs between the Pythons that becket runs on.

Behaviour follows the running Python. This table is the only place that asks
for its version; the code asks for a name of this table.
"""

import sys
from typing import Final, Literal

# A plain tuple, so that type checkers do not take one version's branch for
# the only one.
_RUNNING: Final[tuple[int, ...]] = tuple(sys.version_info[:3])


def _since(*firsts: tuple[int, int, int]) -> bool:
    """For what was also added to older series: the first release of each."""
    for first in firsts:
        if first[:2] == _RUNNING[:2]:
            return first <= _RUNNING
    return max(firsts) <= _RUNNING


# Event loop policies: deprecated in 3.14, gone in 3.16.
HAS_POLICIES: Final = _RUNNING < (3, 16)
DEPRECATES_POLICIES: Final = _RUNNING >= (3, 14)

# asyncio.iscoroutinefunction() warns since 3.14.
DEPRECATES_ISCOROUTINEFUNCTION: Final = _RUNNING >= (3, 14)

# asyncio.run(loop_factory=).
RUN_TAKES_LOOP_FACTORY: Final = _RUNNING >= (3, 12)

# The exception handler runs in the context of the task, future or handle
# that failed.
HANDLER_RUNS_IN_CONTEXT: Final = _RUNNING >= (3, 12)

# A protocol factory that fails takes the socket of create_connection(sock=)
# and of connect_accepted_socket() with it.
FAILED_FACTORY_CLOSES_SOCKET: Final = _since((3, 14, 8))

# serve_forever() closes the clients as well when it is cancelled.
CANCEL_CLOSES_CLIENTS: Final = _since((3, 13, 15), (3, 14, 7))

# start_tls() of a server takes what the StreamReader has kept for the first
# bytes of the handshake, instead of leaving it to be read as plain text.
START_TLS_TAKES_BUFFER: Final = _since((3, 13, 13), (3, 14, 4))

# How many connections more than the backlog a server accepts at once, which
# is how many the kernel holds for it.
ACCEPTS_BEYOND_BACKLOG: Final = 1 if _since((3, 13, 12), (3, 14, 0)) else 0

# A stream transport has one context for its whole life. Before, each of its
# callbacks runs in a copy of the context in which it was asked for.
TRANSPORT_HAS_CONTEXT: Final = _RUNNING >= (3, 15)

# "[Errno 98] Address already in use" instead of "address already in use" in
# what create_connection() and create_server() say about a failed bind().
BIND_TEXT_HAS_ERRNO: Final = _RUNNING >= (3, 12, 5)

# create_server() leaves out an address that the machine does not have
# (EADDRNOTAVAIL), as long as another one can be bound.
SKIPS_UNAVAILABLE_ADDRESS: Final = _since((3, 11, 8), (3, 12, 2))

# reuse_port= is for AF_INET and AF_INET6 alone: Linux 6.12.9 and later refuse
# SO_REUSEPORT on other families.
REUSE_PORT_IS_INET_ONLY: Final = _RUNNING >= (3, 14)

# create_datagram_endpoint(sock=) takes SOCK_DGRAM alone; later ones take
# everything but SOCK_STREAM.
ENDPOINT_TAKES_DATAGRAM_SOCKETS_ONLY: Final = not _since(
    (3, 11, 8), (3, 12, 2)
)

# socket.getaddrinfo() hands a port of any size to the resolver; before, one
# that does not fit a C long is an OverflowError.
HUGE_PORT_IS_RESOLVED: Final = _RUNNING >= (3, 13)

# create_unix_server(cleanup_socket=) came, and is True unless given.
CLEANS_UP_UNIX_SOCKETS: Final = _RUNNING >= (3, 13)

# The fallback of sendfile() waits for room after each block; before, it did so
# in front of each, and not after the last.
SENDFILE_DRAINS_AFTER_WRITE: Final = _since((3, 13, 3), (3, 14, 0))

# sendfile() and sock_sendfile() begin at offset 0, too, wherever the file
# stands, and by the kernel set its position also when nothing was sent.
SENDFILE_SEEKS_TO_ZERO: Final = _since((3, 13, 14), (3, 14, 6))

# Process.wait() returns when the process has ended; before, it also waits for
# the end of the pipes.
WAIT_ENDS_AT_EXIT: Final = _since((3, 13, 15), (3, 14, 7))

# How many turns after a process was reaped its transport learns of it, so that
# what its pipes still hold may come first.
TURNS_TO_EXIT: Final = (
    2 if _RUNNING < (3, 12) else 0 if _since((3, 14, 7)) else 1
)

# What Server.wait_closed() waits for:
# "close": returns at once when the server is closed, whoever is connected;
# "clients": returns at once when nobody is connected, open server or not;
# "both": the server is closed and nobody is connected.
WAIT_CLOSED: Final[Literal["close", "clients", "both"]] = (
    "close"
    if _RUNNING < (3, 12)
    else "clients"
    if _RUNNING < (3, 12, 1)
    else "both"
)
