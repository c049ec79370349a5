# SPDX-License-Identifier: MIT
"""Addresses that need no resolver, and the order in which to try several."""

import socket
from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import Any, TypeAlias

Host: TypeAlias = str | bytes | None
Port: TypeAlias = str | bytes | int | None
# family, type, proto, canonical name, socket address
AddrInfo: TypeAlias = tuple[Any, Any, int, str, Any]

# The protocol of a literal's only entry, by socket type.
_PROTOCOLS = {
    socket.SOCK_STREAM: socket.IPPROTO_TCP,
    socket.SOCK_DGRAM: socket.IPPROTO_UDP,
}


def literal(
    address: Iterable[Any], family: int, type: int, proto: int
) -> AddrInfo | None:
    """Return the entry for an IP address that is written as numbers.

    None when the resolver must be asked: for names, service names, scope ids,
    and protocols other than TCP and UDP.
    """
    host, port, *rest = address
    if len(rest) > 2:
        raise TypeError(f"address {address!r} has more than 4 parts")
    kind = next((kind for kind in _PROTOCOLS if kind == type), None)
    known_proto = proto == 0 or proto in _PROTOCOLS.values()
    if kind is None or host is None or not known_proto:
        return None
    number = _port_number(port)
    if number is None:
        return None
    if isinstance(host, bytes):
        host = host.decode("idna")
    if "%" in host:
        return None
    for candidate in _families(family):
        if _is_literal(candidate, host):
            sockaddr: tuple[Any, ...] = (host, number)
            if candidate == socket.AF_INET6:
                flowinfo, scope_id = [*rest, 0, 0][:2]
                sockaddr = (host, number, flowinfo, scope_id)
            return candidate, type, _PROTOCOLS[kind], "", sockaddr
    return None


def interleave(infos: list[AddrInfo], first_count: int) -> list[AddrInfo]:
    """Reorder entries so that the families take turns.

    The first entry's family comes first_count times before the next one
    (RFC 8305, section 4: "First Address Family Count").
    """
    groups: dict[int, list[AddrInfo]] = {}
    for info in infos:
        groups.setdefault(info[0], []).append(info)
    head, *others = groups.values()
    lead = head[: first_count - 1] if first_count > 1 else []
    turns = zip_longest(head[len(lead) :], *others)
    return lead + [info for info in chain(*turns) if info is not None]


def _port_number(port: Any) -> int | None:
    """The port as a number, or None for the name of a service."""
    # Not compared with str and bytes at once: that warns under -b.
    if port is None or (isinstance(port, (str, bytes)) and not port):
        return 0
    try:
        return int(port)
    except (TypeError, ValueError):
        return None


def _families(family: int) -> tuple[int, ...]:
    if family == socket.AF_UNSPEC:
        return socket.AF_INET, socket.AF_INET6
    return (family,)


def _is_literal(family: int, host: str) -> bool:
    try:
        socket.inet_pton(family, host)
    except OSError:
        return False
    return True
