# SPDX-License-Identifier: MIT
"""Each allocation of what TLS does fails in turn, as in nomemory.py.

Run as: nomemory_tls.py SCENARIO. The memory is the interpreter's: OpenSSL has
its own. It fails in all threads, so the peer has none of its own.
"""

import asyncio
import contextlib
import functools
import socket
import ssl
import time

import nomemory
from nomemory import (
    ALLOWED,
    Connection,
    Pair,
    Protocol,
    sweep,
    sweep_turn,
)

from support.certificates import NAME, client_context, server_context
from support.loops import turns
from support.net import LIMIT, tcp_pair

contexts = {False: client_context(), True: server_context()}


class Tls(Connection):
    """A TLS transport of the loop; its peer is a blocking SSLSocket."""

    def __init__(self, loop, factory=Protocol, is_server=False):
        super().__init__(loop, factory)
        self.is_server = is_server

    def make(self):
        self.ours, plain = tcp_pair()
        self.peer = wrap(plain, not self.is_server)
        connecting = self.loop.create_task(self.connect())
        deadline = time.monotonic() + LIMIT
        while not (shake_hands(self.peer) and connecting.done()):
            assert time.monotonic() < deadline
            turns(self.loop, 1)
        self.transport, self.protocol = connecting.result()
        self.peer.settimeout(LIMIT)
        turns(self.loop, 2)

    def connect(self):
        context = contexts[self.is_server]
        if self.is_server:
            return self.loop.connect_accepted_socket(
                self.factory, self.ours, ssl=context
            )
        return self.loop.create_connection(
            self.factory, sock=self.ours, ssl=context, server_hostname=NAME
        )


def wrap(sock, is_server):
    """The peer's end, which does not wait: see shake_hands()."""
    contexts[True].num_tickets = 0  # nothing but what a scenario sends
    sock.setblocking(False)
    return contexts[is_server].wrap_socket(
        sock,
        server_side=is_server,
        server_hostname=None if is_server else NAME,
        do_handshake_on_connect=False,
    )


def shake_hands(peer):
    """Go on with the peer's handshake as far as it can; whether it is done."""
    try:
        peer.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def tls_transport(loop):
    connection = Tls(loop)
    for name, *args in (
        ("write", b"x" * 100),
        ("write", bytearray(b"x" * 20000)),
        ("write", memoryview(b"x" * 100)),
        ("write", b"x" * (4 << 20)),
        ("writelines", [b"a", bytearray(b"b"), memoryview(b"c")]),
        ("get_extra_info", "socket"),
        ("get_extra_info", "peercert"),
        ("get_extra_info", "ssl_object"),
        ("get_extra_info", "nothing"),
        ("get_write_buffer_size",),
        ("get_read_buffer_size",),
        ("set_write_buffer_limits", 1000),
        ("pause_reading",),
        ("resume_reading",),
        ("is_closing",),
        ("set_protocol", Protocol()),
        ("close",),
        ("abort",),
    ):
        sweep(connection.call(name, *args), connection.make, connection.end)


def tls_reading(loop):
    connection = Tls(loop)
    for size in 100, 16384, 60000:

        def prepare(size=size):
            connection.make()
            connection.peer.sendall(b"x" * size)

        sweep_turn(loop, prepare, connection.end)

    def saying_goodbye():
        connection.make()
        connection.peer.setblocking(False)
        with contextlib.suppress(OSError):
            connection.peer.unwrap()

    sweep_turn(loop, saying_goodbye, connection.end)

    def ending():
        connection.make()
        connection.peer.shutdown(socket.SHUT_WR)

    sweep_turn(loop, ending, connection.end)

    def garbage():
        connection.make()
        with socket.socket(fileno=connection.peer.detach()) as plain:
            plain.send(b"this is no record")

    sweep_turn(loop, garbage, connection.end)


def tls_writing(loop):
    connection = Tls(loop)

    def prepare():
        connection.make()
        loop.call_soon(connection.transport.write, b"x" * 100)
        loop.call_soon(connection.transport.write, bytearray(b"y" * 100))
        loop.call_soon(connection.transport.writelines, [b"z"] * 20)

    sweep_turn(loop, prepare, connection.end)

    def blocked():
        connection.make()
        connection.transport.write(bytes(8 << 20))
        connection.peer.recv(1 << 20)

    sweep_turn(loop, blocked, connection.end)


def tls_closing(loop):
    connection = Tls(loop)
    connection.sweep_closing()

    def closing():
        connection.make()
        loop.call_soon(connection.transport.close)

    sweep_turn(loop, closing, connection.end)


def tls_reader(loop):
    """The direct path to a StreamReader, with and without a waiting read."""
    made = []

    def factory():
        reader = asyncio.StreamReader(loop=loop)
        made.append(reader)
        return asyncio.StreamReaderProtocol(reader, loop=loop)

    connection = Tls(loop, factory)

    def prepare():
        connection.make()
        connection.peer.sendall(b"x" * 3000)

    def waiting():
        connection.make()
        made.append(made[0].read(100))
        made[-1].send(None)
        connection.peer.sendall(b"x" * 100)

    def end(_=None):
        if len(made) > 1:
            with contextlib.suppress(*ALLOWED):
                made.pop().close()
        made.clear()
        connection.end()

    sweep_turn(loop, prepare, end)
    sweep_turn(loop, waiting, end)


class Handshake(Pair):
    """A TLS connection that is still being made."""

    def __init__(self, loop, is_server, turn):
        super().__init__(loop)
        self.is_server = is_server
        self.turn = turn

    def make(self):
        from becket import _core

        self.ours, plain = tcp_pair()
        self.peer = wrap(plain, not self.is_server)
        self.tls = _core.SSLProtocol(
            self.loop,
            Protocol(),
            contexts[self.is_server],
            self.loop.create_future(),
            self.is_server,
            None if self.is_server else NAME,
        )
        connecting = self.loop.create_connection(
            lambda: self.tls, sock=self.ours
        )
        self.transport, _ = self.loop.run_until_complete(connecting)
        for _ in range(self.turn):
            shake_hands(self.peer)
            turns(self.loop, 1)
        shake_hands(self.peer)

    def end(self, _=None):
        super().end()
        self.tls = None


def tls_handshake(loop):
    for is_server in True, False:
        for turn in range(1, 5):
            handshake = Handshake(loop, is_server, turn)
            sweep_turn(loop, handshake.make, handshake.end)


def tls_beginning(loop):
    """A protocol is made, and told of its transport."""
    from becket import _core

    waiter = loop.create_future()
    sweep(
        functools.partial(
            _core.SSLProtocol, loop, Protocol(), contexts[True], waiter, True
        )
    )
    sweep(
        functools.partial(
            *(_core.SSLProtocol, loop, Protocol(), contexts[False], waiter),
            *(False, NAME),
        )
    )


SCENARIOS = {
    function.__name__: function
    for function in (
        tls_transport,
        tls_reading,
        tls_writing,
        tls_closing,
        tls_reader,
        tls_handshake,
        tls_beginning,
    )
}


if __name__ == "__main__":
    nomemory.main(SCENARIOS)
