# SPDX-License-Identifier: MIT
"""What is measured: one row of the table each."""

from typing import NamedTuple

KB = 1024
MB = 1024 * KB

NETWORK = "network"
TLS_ECHO = "tls"
HTTP = "http"
OPERATIONS = "operations"
MEMORY = "memory"
GROUPS = (NETWORK, TLS_ECHO, HTTP, OPERATIONS, MEMORY)


# The transports, as the load generator calls them.
TCP, TLS, UDP, UNIX = "tcp", "tls", "udp", "unix"


class Row(NamedTuple):
    """One workload."""

    name: str
    group: str
    title: str
    program: str  # of the measured process: in SERVERS, or in OPERATIONS
    size: int = KB  # bytes of a message
    connections: int = 32
    has_threads: bool = False  # it may use both cores, and time is the clock's
    transport: str = TCP
    is_file: bool = False  # a message is a short request, and a file of size


def _network(
    name: str, title: str, program: str, size: int, connections: int = 32
) -> Row:
    return Row(name, NETWORK, title, program, size, connections)


def _unix(name: str, size: int) -> Row:
    title = f"Unix protocol echo, {size // KB} KB"
    return Row(name, NETWORK, title, "unix", size, transport=UNIX)


def _udp(in_flight: int) -> Row:
    name, title = f"udp_{in_flight}", f"Datagrams, 1 KB, {in_flight} clients"
    return Row(name, NETWORK, title, "udp", KB, in_flight, transport=UDP)


def _tls(name: str, title: str, program: str, size: int) -> Row:
    return Row(name, TLS_ECHO, title, program, size, transport=TLS)


def _operation(name: str, title: str, has_threads: bool = False) -> Row:
    return Row(name, OPERATIONS, title, name, has_threads=has_threads)


ALL = (
    _network("tcp_1k", "Protocol echo, 1 KB", "protocol", KB),
    _network("tcp_10k", "Protocol echo, 10 KB", "protocol", 10 * KB),
    _network("tcp_64k", "Protocol echo, 64 KB", "protocol", 64 * KB),
    _network(
        "tcp_1k_500c", "Protocol echo, 500 connections", "protocol", KB, 500
    ),
    _network("bproto_64k", "BufferedProtocol echo", "buffered", 64 * KB),
    _network("stream_1k", "streams echo, 1 KB", "stream", KB),
    _network("stream_64k", "streams echo, 64 KB", "stream", 64 * KB),
    _network("sock_1k", "sock_* echo, 1 KB", "sock", KB),
    _network("sock_64k", "sock_* echo, 64 KB", "sock", 64 * KB),
    _unix("unix_1k", KB),
    _unix("unix_10k", 10 * KB),
    _unix("unix_64k", 64 * KB),
    _udp(16),
    _udp(64),
    Row("sendfile", NETWORK, "sendfile, 1 MB", "sendfile", MB, is_file=True),
    _tls("tls_1k", "TLS protocol echo, 1 KB", "tls_protocol", KB),
    _tls("tls_16k", "TLS protocol echo, 16 KB", "tls_protocol", 16 * KB),
    _tls("tls_64k", "TLS protocol echo, 64 KB", "tls_protocol", 64 * KB),
    _tls("tls_stream_1k", "TLS streams echo, 1 KB", "tls_stream", KB),
    Row("uvicorn", HTTP, "uvicorn, httptools", "uvicorn"),
    Row("uvicorn_tls", HTTP, "uvicorn, HTTPS", "uvicorn_tls", transport=TLS),
    Row("aiohttp", HTTP, "aiohttp's server", "aiohttp"),
    _operation("call_soon", "call_soon, self-rescheduling"),
    _operation("call_soon_batch", "call_soon, batch"),
    _operation("call_soon_args", "call_soon, 3 args, batch"),
    _operation("call_later_cancel", "call_later + cancel (200k pending)"),
    _operation("call_later_fire", "call_later, fire"),
    _operation("timeout_rearmed", "re-armed timeout"),
    _operation("sleep_0", "sleep(0)"),
    _operation("gather_100", "gather of 100 tasks (tasks)"),
    _operation("future", "future set by call_soon, awaited"),
    _operation("queue", "queue ping-pong"),
    _operation("call_soon_threadsafe", "call_soon_threadsafe, 1 thread", True),
    _operation("executor", "run_in_executor", True),
    _operation("getaddrinfo", "getaddrinfo of a literal", True),
    _operation("connect_accept", "connect + accept"),
    _operation("pipe_1k", "pipes, 1 KB there and back"),
    _operation("pipe_64k", "pipes, 64 KB one way, flow control"),
    _operation("subprocess", "subprocess, spawn and wait"),
    Row("idle_protocol", MEMORY, "Protocol, TCP", "protocol"),
    Row("idle_stream", MEMORY, "streams, TCP", "stream"),
    Row("idle_tls", MEMORY, "Protocol, TLS", "tls_protocol", transport=TLS),
)


def choose(names: list[str]) -> list[Row]:
    """Rows by name or by group, in the table's order; all for no name.

    Raises ValueError for a name that is neither.
    """
    known = {row.name for row in ALL} | set(GROUPS)
    for name in names:
        if name not in known:
            raise ValueError(f"no row or group {name}: see --list")
    return [
        row
        for row in ALL
        if not names or row.name in names or row.group in names
    ]
