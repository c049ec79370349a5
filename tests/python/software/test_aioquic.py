# SPDX-License-Identifier: MIT
"""aioquic, server and client: QUIC streams and HTTP/3 over UDP."""

import asyncio
import contextlib
import functools
import os
import random
import socket

import pytest

from support.certificates import NAME, make_certificate

pytest.importorskip("aioquic")

from aioquic.asyncio import QuicConnectionProtocol, connect  # noqa: E402
from aioquic.asyncio.server import QuicServer  # noqa: E402
from aioquic.h3.connection import H3_ALPN, H3Connection  # noqa: E402
from aioquic.h3.events import DataReceived, HeadersReceived  # noqa: E402
from aioquic.quic import events  # noqa: E402
from aioquic.quic.configuration import QuicConfiguration  # noqa: E402

pytestmark = pytest.mark.one_poller

CLIENTS = 8
# For a peer whose last word, a datagram, got lost; aioquic waits a minute.
IDLE_LIMIT = 4.0
SIZES = (0, 1, 1200, 65537, 1 << 20)


class Peer(QuicConnectionProtocol):
    """Keeps what is not about streams; echoes datagrams if it serves."""

    def __init__(self, quic, *args, **kwargs):
        super().__init__(quic, *args, **kwargs)
        self.datagrams = asyncio.Queue()
        self.handshake = None

    def quic_event_received(self, event):
        super().quic_event_received(event)
        if isinstance(event, events.HandshakeCompleted):
            self.handshake = event
        elif isinstance(event, events.DatagramFrameReceived):
            if self._quic.configuration.is_client:
                self.datagrams.put_nowait(event.data)
            else:
                self.send_datagram(event.data[::-1])

    def send_datagram(self, data):
        self._quic.send_datagram_frame(data)
        self.transmit()


class Http(QuicConnectionProtocol):
    """HTTP/3: a server that echoes bodies, and its client."""

    def __init__(self, quic, *args, **kwargs):
        super().__init__(quic, *args, **kwargs)
        self._http = H3Connection(quic)
        self._headers = {}
        self._bodies = {}
        self._answers = {}

    def quic_event_received(self, event):
        if isinstance(event, events.ConnectionTerminated):
            for answer in self._answers.values():
                answer.cancel()
        for found in self._http.handle_event(event):
            body = self._bodies.setdefault(found.stream_id, bytearray())
            if isinstance(found, HeadersReceived):
                self._headers[found.stream_id] = dict(found.headers)
            elif isinstance(found, DataReceived):
                body += found.data
            if found.stream_ended:
                self._message_received(found.stream_id, bytes(body))

    def _message_received(self, stream_id, body):
        headers = self._headers[stream_id]
        if self._quic.configuration.is_client:
            answer = self._answers.pop(stream_id)
            answer.set_result((headers[b":status"], body))
        else:
            body = body or headers[b":path"]
            self._send(stream_id, [(b":status", b"200")], body)

    def _send(self, stream_id, headers, body):
        self._http.send_headers(stream_id, headers)
        self._http.send_data(stream_id, body, end_stream=True)
        self.transmit()

    async def ask(self, method, path, body=b""):
        """Returns the status and the body of the answer."""
        stream_id = self._quic.get_next_available_stream_id()
        answer = asyncio.get_running_loop().create_future()
        self._answers[stream_id] = answer
        headers = [
            (b":method", method),
            (b":scheme", b"https"),
            (b":authority", NAME.encode()),
            (b":path", path),
        ]
        self._send(stream_id, headers, body)
        return await answer


async def echo(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.write_eof()


class Servers:
    """Runs a server, and ends it once its connections are over."""

    def __init__(self, peer):
        self.peer = peer
        self.peers = []
        self.tasks = []

    def make_peer(self, *args, **kwargs):
        self.peers.append(self.peer(*args, **kwargs))
        return self.peers[-1]

    def serve_stream(self, reader, writer):
        self.tasks.append(asyncio.create_task(echo(reader, writer)))

    async def finish(self):
        for peer in self.peers:
            await peer.wait_closed()
        await asyncio.gather(*self.tasks)


@contextlib.asynccontextmanager
async def serving(
    peer=Peer, alpn=("echo",), tickets=None, retry=True, **kwargs
):
    """Gives the servers' side and its port."""
    configuration = QuicConfiguration(
        is_client=False,
        alpn_protocols=list(alpn),
        max_datagram_frame_size=65536,
        **{"idle_timeout": IDLE_LIMIT, **kwargs},
    )
    configuration.load_cert_chain(*make_certificate(NAME))
    store = {} if tickets is None else tickets
    servers = Servers(peer)
    (
        transport,
        server,
    ) = await asyncio.get_running_loop().create_datagram_endpoint(
        functools.partial(
            QuicServer,
            configuration=configuration,
            create_protocol=servers.make_peer,
            stream_handler=servers.serve_stream,
            session_ticket_handler=lambda t: store.__setitem__(t.ticket, t),
            session_ticket_fetcher=lambda label: store.pop(label, None),
            retry=retry,
        ),
        local_addr=("127.0.0.1", 0),
    )
    try:
        yield servers, transport.get_extra_info("sockname")[1]
        await servers.finish()
    finally:
        server.close()
        await asyncio.sleep(0)


def client(port, peer=Peer, alpn=("echo",), trusted=NAME, ticket=None, **more):
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=list(alpn),
        server_name=NAME,
        max_datagram_frame_size=65536,
        idle_timeout=IDLE_LIMIT,
        session_ticket=ticket,
    )
    configuration.load_verify_locations(str(make_certificate(trusted)[0]))
    return connect(
        "127.0.0.1",
        port,
        configuration=configuration,
        create_protocol=peer,
        **more,
    )


async def exchange(peer, body):
    """All of a stream there and back."""
    reader, writer = await peer.create_stream()
    writer.write(body)
    writer.write_eof()
    assert await reader.read() == body


async def test_streams(loop):
    async with serving() as (_, port), client(port) as peer:
        assert peer.handshake.alpn_protocol == "echo"
        for size in SIZES:
            await exchange(peer, os.urandom(size))


async def test_many_streams(loop):
    async with serving() as (_, port), client(port) as peer:
        bodies = [os.urandom(number * 500) for number in range(60)]
        await asyncio.gather(*[exchange(peer, body) for body in bodies])


async def test_many_clients(loop):
    async with serving() as (servers, port):

        async def one(number):
            async with client(port) as peer:
                await exchange(peer, b"%d." % number * 5000)

        await asyncio.gather(*map(one, range(CLIENTS)))
        assert len(servers.peers) == CLIENTS


async def test_keys_and_identities_change(loop):
    async with serving() as (_, port), client(port) as peer:
        for _ in range(5):
            await exchange(peer, os.urandom(50_000))
            peer.request_key_update()
            await exchange(peer, os.urandom(50_000))
            peer.change_connection_id()
            await peer.ping()


async def test_datagrams(loop):
    async with serving() as (_, port), client(port) as peer:
        for size in (0, 1, 500, 1000):
            body = os.urandom(size)
            peer.send_datagram(body)
            assert await peer.datagrams.get() == body[::-1]


async def test_resumption_and_early_data(loop):
    tickets, stored = asyncio.Queue(), {}
    async with serving(tickets=stored, retry=False) as (_, port):
        async with client(
            port, session_ticket_handler=tickets.put_nowait
        ) as peer:
            ticket = await tickets.get()
            assert not peer.handshake.session_resumed
        async with client(port, ticket=ticket, wait_connected=False) as peer:
            await exchange(peer, b"early")
            await peer.ping()
            assert peer.handshake.session_resumed
            assert peer.handshake.early_data_accepted


async def test_http3(loop):
    async with serving(Http, H3_ALPN) as (_, port):
        async with client(port, Http, H3_ALPN) as http:
            assert await http.ask(b"GET", b"/path") == (b"200", b"/path")
            for size in SIZES[1:]:
                body = os.urandom(size)
                assert await http.ask(b"POST", b"/", body) == (b"200", body)
            paths = [b"/%d" % number for number in range(50)]
            asked = [http.ask(b"GET", path) for path in paths]
            answers = await asyncio.gather(*asked)
            assert answers == [(b"200", path) for path in paths]


@pytest.mark.parametrize(
    "wrong", [{"alpn": ("other",)}, {"trusted": "other.test"}], ids=str
)
async def test_refused(loop, wrong):
    async with serving() as (_, port):
        with pytest.raises(ConnectionError):
            async with client(port, **wrong):
                pass
        async with client(port) as peer:
            await exchange(peer, b"fine")


class Void(asyncio.DatagramTransport):
    """Where datagrams get lost."""

    def sendto(self, data, addr=None):
        pass


async def test_client_vanishes(loop):
    """The server notices by its idle timeout."""
    async with serving(idle_timeout=0.3) as (servers, port):
        async with client(port) as peer:
            await exchange(peer, b"hello")
            # From now on it says nothing, not even goodbye.
            peer.connection_made(Void())
            await servers.peers[0].wait_closed()


async def test_nonsense(loop):
    """Datagrams that are no QUIC disturb nobody."""
    chance = random.Random(1)
    async with serving() as (_, port), client(port) as peer:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(200):
                data = chance.randbytes(chance.randrange(1500))
                sock.sendto(data, ("127.0.0.1", port))
        await exchange(peer, os.urandom(100_000))
