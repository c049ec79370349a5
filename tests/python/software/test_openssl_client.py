# SPDX-License-Identifier: MIT
"""openssl s_client, and worse peers, against a TLS server of streams."""

import asyncio
import contextlib
import os
import random
import re
import socket
import ssl
import subprocess

import pytest

from support.certificates import (
    NAME,
    client_context,
    make_certificate,
    server_context,
)
from support.net import LIMIT, recv_all, reset
from support.programs import find, running

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.one_poller]

VERSIONS = ["tls1_2", "tls1_3"]
OTHER = "other.test"
PERSON = "a-person"


class Server:
    """Answers each line in capitals; knows its connections and their ends."""

    def __init__(self):
        self.connections = []
        self.ends = asyncio.Queue()

    async def serve(self, reader, writer):
        self.connections.append(writer.get_extra_info("ssl_object"))
        end = None
        try:
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
        except OSError as exc:  # SSLError is one
            end = exc
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self.ends.put_nowait(end)


@contextlib.asynccontextmanager
async def serving(context=None):
    """Gives the server and its address."""
    served = Server()
    server = await asyncio.start_server(
        served.serve, "127.0.0.1", 0, ssl=context or server_context()
    )
    async with server:
        yield served, server.sockets[0].getsockname()


class Client:
    """A running s_client, its waits beside the loop."""

    def __init__(self, program):
        self.program = program

    def type(self, line):
        self.program.type(line.encode() + b"\n")

    async def shows(self, pattern):
        return await asyncio.to_thread(self.program.wait_for, pattern)

    async def ask(self, word):
        """A line there, and its answer back."""
        self.type(word)
        await self.shows(word.upper())

    async def quit(self):
        self.type("Q")
        return await asyncio.to_thread(self.program.wait)


@pytest.fixture
def client(tmp_path):
    """s_client, connected to an address; it checks the certificate."""

    @contextlib.asynccontextmanager
    async def client(address, *options, name=NAME, ready="(?m)^---$"):
        command = [find("openssl", "openssl"), "s_client", *options]
        command += ["-connect", f"{address[0]}:{address[1]}"]
        command += ["-servername", name, "-verify_hostname", name]
        command += ["-CAfile", make_certificate(name)[0]]
        command += ["-verify_return_error"]
        log = tmp_path / f"client-{len(list(tmp_path.iterdir()))}"
        program = running(command, log, ready, stdin=subprocess.PIPE)
        # It waits for the handshake, which is this loop's.
        opened, _ = await asyncio.to_thread(program.__enter__)
        try:
            yield Client(opened)
        finally:
            await asyncio.to_thread(program.__exit__, None, None, None)

    return client


@pytest.mark.parametrize("version", VERSIONS)
async def test_versions_and_alpn(loop, client, version):
    context = server_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(context) as (server, address):
        options = (f"-{version}", "-alpn", "spdy/3,http/1.1")
        async with client(address, *options) as peer:
            spoken = version.replace("tls", "TLSv").replace("_", ".")
            await peer.shows(rf"New, {re.escape(spoken)}, Cipher is")
            await peer.shows(r"ALPN protocol: http/1\.1")
            await peer.shows(r"Verification: OK")
            await peer.ask("hello")
            sslobj = server.connections[0]
            assert sslobj.version() == spoken
            assert sslobj.selected_alpn_protocol() == "http/1.1"
            assert await peer.quit() == 0
        assert await server.ends.get() is None


async def test_certificate_by_name(loop, client):
    context = server_context()

    def choose(sslobj, name, _):
        if name == OTHER:
            sslobj.context = server_context(name=OTHER)

    context.sni_callback = choose
    async with serving(context) as (server, address):
        for name in (NAME, OTHER):
            async with client(address, name=name) as peer:
                await peer.shows(rf"subject=CN ?= ?{re.escape(name)}\n")
                await peer.ask("hello")
                await peer.quit()
            assert await server.ends.get() is None


def demanding_context():
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(make_certificate(PERSON)[0])
    return context


@pytest.mark.parametrize("version", VERSIONS)
async def test_client_certificate(loop, client, version):
    certificate, key = make_certificate(PERSON)
    async with serving(demanding_context()) as (server, address):
        options = (f"-{version}", "-cert", certificate, "-key", key)
        async with client(address, *options) as peer:
            await peer.ask("hello")
            found = server.connections[0].getpeercert()
            assert found["subjectAltName"] == (("DNS", PERSON),)
            await peer.quit()
        assert await server.ends.get() is None


ALERTS = {
    "tls1_2": "alert handshake failure",
    "tls1_3": "certificate required",
}


@pytest.mark.becket_only("CPython ends the connection without an alert")
@pytest.mark.parametrize("version", VERSIONS)
async def test_missing_client_certificate(loop, client, version):
    async with serving(demanding_context()) as (server, address):
        async with client(address, f"-{version}", ready=ALERTS[version]):
            pass
        assert not server.connections


async def test_reconnect(loop, client):
    """TLS 1.2: one full handshake, then five with its session."""
    async with serving() as (server, address):
        options = ("-tls1_2", "-reconnect")
        again = r"(?s)(Reused, TLSv1\.2.*){5}\n---\n"
        async with client(address, *options, ready=again) as peer:
            await peer.ask("hello")
            await peer.quit()
        for _ in range(6):
            await server.ends.get()
        reused = [sslobj.session_reused for sslobj in server.connections]
        assert reused == [False, True, True, True, True, True]


@pytest.mark.parametrize("version", VERSIONS)
async def test_saved_session(loop, client, version, tmp_path):
    session = tmp_path / "session"
    async with serving() as (server, address):
        for option in ("-sess_out", "-sess_in"):
            options = (f"-{version}", option, session)
            async with client(address, *options) as peer:
                # Tickets come before the answer.
                await peer.ask("hello")
                await peer.quit()
            await server.ends.get()
        first, second = server.connections
        assert not first.session_reused
        assert second.session_reused


async def test_key_update(loop, client):
    """k: the client's keys; K: the server's, too."""
    async with serving() as (server, address):
        async with client(address, "-tls1_3") as peer:
            for number in range(10):
                peer.type("kK"[number % 2])
                await peer.shows(rf"(?s)(KEYUPDATE.*){{{number + 1}}}")
                await peer.ask(f"line number {number}")
            await peer.quit()
        assert await server.ends.get() is None


async def test_renegotiation_is_refused(loop, client):
    async with serving() as (server, address):
        async with client(address, "-tls1_2") as peer:
            await peer.ask("hello")
            peer.type("R")
            await peer.shows("(?i)no.renegotiation")
            assert await asyncio.to_thread(peer.program.wait) != 0
        await server.ends.get()
        await still_serves(client, server, address)


async def still_serves(client, server, address):
    async with client(address) as peer:
        await peer.ask("still here")
        await peer.quit()
    assert await server.ends.get() is None


async def test_client_is_killed(loop, client):
    async with serving() as (server, address):
        async with client(address) as peer:
            await peer.ask("hello")
            peer.program.process.kill()
        await server.ends.get()
        await still_serves(client, server, address)


def bytes_of(kind, number):
    """What no TLS client says first."""
    if kind == "plain":
        return b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    chance = random.Random(number)
    if kind == "random":
        return chance.randbytes(chance.randrange(1, 3000))
    # A record of a handshake with nonsense in it.
    size = chance.randrange(1, 2000)
    return b"\x16\x03\x01" + size.to_bytes(2) + chance.randbytes(size)


def talk_nonsense(address, data, is_reset):
    """Send something else than TLS; returns what the server says to it."""
    with socket.create_connection(address, LIMIT) as sock:
        sock.sendall(data)
        if is_reset:
            reset(sock)
            return b""
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            return recv_all(sock)
        return b""


@pytest.mark.parametrize("kind", ["plain", "random", "record"])
async def test_nonsense(loop, client, kind):
    """Nothing but alerts comes back, and others are served."""
    async with serving() as (server, address):
        for number in range(30):
            answer = await asyncio.to_thread(
                talk_nonsense, address, bytes_of(kind, number), number % 5 == 4
            )
            assert answer == b"" or answer[0] == 0x15
        assert not server.connections
        await still_serves(client, server, address)


def break_record(address, data):
    """A proper connection whose next record is none; how the server ends."""
    sock = socket.create_connection(address, LIMIT)
    with client_context().wrap_socket(sock, server_hostname=NAME) as secure:
        secure.sendall(b"hello\n")
        assert secure.recv(100) == b"HELLO\n"
        # The same socket below TLS.
        with socket.socket(fileno=os.dup(secure.fileno())) as plain:
            plain.settimeout(LIMIT)
            plain.sendall(data)
            with contextlib.suppress(ConnectionResetError):
                recv_all(plain)


@pytest.mark.parametrize("kind", ["plain", "random", "record"])
async def test_nonsense_after_the_handshake(loop, client, kind):
    async with serving() as (server, address):
        for number in range(10):
            # What looks like a record's head is one, which has to end.
            data = bytes_of(kind, number) + bytes(1 << 16)
            await asyncio.to_thread(break_record, address, data)
            end = await server.ends.get()
            assert end is None or isinstance(end, (ssl.SSLError, OSError))
        await still_serves(client, server, address)
