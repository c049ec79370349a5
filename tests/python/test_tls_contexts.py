# SPDX-License-Identifier: MIT
"""TLS contexts: whose is used, names, certificates, ALPN, sessions."""

import asyncio
import contextlib
import re
import socket
import ssl

import pytest

from support.certificates import (
    NAME,
    client_context,
    make_certificate,
    server_context,
)
from support.net import served, spin, tcp_pair
from support.protocols import Echo, Recorder
from support.tls import accepted, pair

row = pytest.mark.row

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.one_poller]

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
OTHER = "other.example"
PERSON = "somebody.example"


@contextlib.asynccontextmanager
async def tls_server(loop, context=None, factory=Echo, host="localhost"):
    """The address of a TLS server."""
    context = context or server_context()
    async with served(loop, factory, host, ssl=context) as (_, address):
        yield address
        await spin(5)


async def talk(loop, address, data=b"ping", **kwargs):
    """Connect, send, receive, leave; returns the client's protocol."""
    kwargs.setdefault("server_hostname", NAME)
    transport, protocol = await loop.create_connection(
        Recorder, *address[:2], **kwargs
    )
    transport.write(data)
    assert await protocol.received(len(data)) == data
    transport.close()
    assert await protocol.lost is None
    return protocol


@contextlib.contextmanager
def refused(message):
    """The handshake fails at the server.

    becket's server says why, CPython's just leaves.
    """
    with pytest.raises((ssl.SSLError, ConnectionResetError)) as info:
        yield
    if isinstance(info.value, ssl.SSLError):
        assert re.search(message, str(info.value))


# Whose context, and which name.


async def test_a_server_tells_others_its_context(loop):
    """It is no public name, but websockets' own tests ask for it."""
    context = server_context()
    async with served(loop, Echo, ssl=context) as (server, _):
        assert server._ssl_context is context
    async with served(loop, Echo) as (server, _):
        assert server._ssl_context is None


@row("P1A-077", "P1A-129", "P1A-142")
async def test_the_given_context_is_used(loop):
    ours, theirs = client_context(), server_context()
    async with pair(ours, theirs) as (client, server):
        assert client.transport.get_extra_info("sslcontext") is ours
        assert server.transport.get_extra_info("sslcontext") is theirs
        sslobj = client.transport.get_extra_info("ssl_object")
        assert sslobj.context is ours
        assert sslobj.server_side is False
        assert sslobj.server_hostname == NAME
        sslobj = server.transport.get_extra_info("ssl_object")
        assert sslobj.context is theirs
        assert sslobj.server_side is True


@row("P1A-078")
async def test_true_is_the_default_context(loop, monkeypatch):
    default = client_context()
    default.check_hostname = True
    async with tls_server(loop) as address:
        with pytest.raises(ssl.SSLCertVerificationError):
            await talk(loop, address, ssl=True, server_hostname=NAME)
        monkeypatch.setattr(ssl, "create_default_context", lambda: default)
        client = await talk(loop, address, ssl=True, server_hostname=NAME)
    assert client.transport.get_extra_info("sslcontext") is default
    assert default.check_hostname


def naming_context(names):
    """A server's context that writes down the names clients ask for."""
    context = server_context()
    context.sni_callback = lambda sslobj, name, context: names.append(name)
    return context


@row("P1A-080")
async def test_name_is_the_host_by_default(loop):
    names = []
    # "localhost" may be two addresses, which get a port each.
    served_at = "127.0.0.1"
    async with tls_server(
        loop, naming_context(names), host=served_at
    ) as address:
        port = address[1]
        context = client_context()
        await talk(
            loop, ("localhost", port), ssl=context, server_hostname=None
        )
        await talk(
            loop, ("127.0.0.1", port), ssl=context, server_hostname=NAME
        )
        with pytest.raises(
            ssl.SSLCertVerificationError, match="IP address mismatch"
        ):
            await talk(
                loop, ("127.0.0.1", port), ssl=context, server_hostname=None
            )
    assert names == ["localhost", NAME, None]


@row("P1A-081")
async def test_without_a_host_a_name_is_needed(loop):
    ours, theirs = tcp_pair()
    with ours, theirs:
        with pytest.raises(
            ValueError,
            match="^You must set server_hostname when using ssl without",
        ):
            await loop.create_connection(
                Recorder, sock=ours, ssl=client_context()
            )
        assert ours.fileno() != -1


@row("P1A-082")
async def test_empty_name_turns_matching_off(loop, monkeypatch):
    contexts = [client_context(name=OTHER) for _ in range(3)]
    own = client_context(name=OTHER)
    own.check_hostname = False
    monkeypatch.setattr(ssl, "create_default_context", contexts.pop)
    async with tls_server(loop, server_context(name=OTHER)) as address:
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            await talk(loop, address, ssl=True)
        await talk(loop, address, ssl=True, server_hostname="")
        await talk(loop, address, ssl=own, server_hostname="")
    assert len(contexts) == 1


@row("P1A-082")
async def test_empty_name_is_stronger_than_the_context(loop):
    """An SSLObject without a name matches none, whatever check_hostname.

    Newer Pythons make none such, and say so.
    """
    context = client_context(name=OTHER)
    assert context.check_hostname
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    except ValueError as exc:
        refusal = pytest.raises(ValueError, match=str(exc))
    else:
        refusal = contextlib.nullcontext()
    async with tls_server(loop, server_context(name=OTHER)) as address:
        with refusal:
            await talk(loop, address, ssl=context, server_hostname="")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
async def test_certificate_by_name(loop, version):
    """SNI: the server changes the context in the middle of the handshake."""
    context = server_context(version)
    contexts = {NAME: context, OTHER: server_context(version, OTHER)}

    def choose(sslobj, name, given):
        assert given is context
        assert isinstance(sslobj, ssl.SSLObject)
        sslobj.context = contexts[name]

    context.sni_callback = choose
    async with tls_server(loop, context) as address:
        for name in (NAME, OTHER, NAME):
            client = await talk(
                loop,
                address,
                ssl=client_context(name=name),
                server_hostname=name,
            )
            certificate = client.transport.get_extra_info("peercert")
            assert certificate["subjectAltName"] == (("DNS", name),)


async def test_name_refused(loop):
    context = server_context()
    context.sni_callback = lambda *args: (
        ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    )
    async with tls_server(loop, context) as address:
        with refused("(?i)unrecognized.name"):
            await talk(loop, address, ssl=client_context())


# Certificates of clients.


def demanding_context(version):
    """A server's, which wants a certificate of its clients."""
    context = server_context(version)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(make_certificate(PERSON)[0])
    return context


def presenting_context(name):
    context = client_context()
    context.load_cert_chain(*make_certificate(name))
    return context


@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
async def test_client_certificate(loop, version):
    demanding = demanding_context(version)
    presenting = presenting_context(PERSON)
    async with pair(presenting, demanding) as (client, server):
        certificate = server.transport.get_extra_info("peercert")
        assert certificate["subjectAltName"] == (("DNS", PERSON),)
        sslobj = server.transport.get_extra_info("ssl_object")
        assert sslobj.getpeercert(True).startswith(b"\x30\x82")
        client.transport.write(b"it is me")
        assert await server.received(8) == b"it is me"


@pytest.mark.parametrize("name", [None, OTHER])
@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
async def test_client_certificate_refused(loop, version, name):
    """With TLS 1.3 the client is through before the server has looked."""
    context = client_context() if name is None else presenting_context(name)
    made = []

    def factory():
        made.append(Recorder())
        return made[-1]

    demanding = demanding_context(version)
    async with tls_server(loop, demanding, factory) as address:
        connecting = loop.create_connection(
            Recorder, *address[:2], ssl=context, server_hostname=NAME
        )
        if version is ssl.TLSVersion.TLSv1_2:
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await connecting
        else:
            transport, protocol = await connecting
            exc = await protocol.lost
            assert exc is None or isinstance(exc, OSError)
            assert "data_received" not in protocol.calls
    assert [protocol.calls for protocol in made] == [[]]


# Protocols, ciphers and sessions that are agreed on.


@pytest.mark.parametrize(
    "ours, theirs, agreed",
    [
        (["h2", "http/1.1"], ["http/1.1"], "http/1.1"),
        (["h2", "http/1.1"], ["http/1.1", "h2"], "http/1.1"),
        (["h2"], None, None),
        (None, ["h2"], None),
        (["h2"], ["http/1.1"], None),
    ],
)
async def test_alpn(loop, ours, theirs, agreed):
    client, server = client_context(), server_context()
    if ours:
        client.set_alpn_protocols(ours)
    if theirs:
        server.set_alpn_protocols(theirs)
    async with pair(client, server) as protocols:
        for protocol in protocols:
            sslobj = protocol.transport.get_extra_info("ssl_object")
            assert sslobj.selected_alpn_protocol() == agreed


async def test_versions_that_do_not_meet(loop):
    old, new = VERSIONS
    async with tls_server(loop, server_context(new)) as address:
        with refused("(?i)protocol.version"):
            await talk(loop, address, ssl=client_context(old))


async def test_ciphers_that_do_not_meet(loop):
    theirs = server_context(ssl.TLSVersion.TLSv1_2)
    theirs.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    ours = client_context(ssl.TLSVersion.TLSv1_2)
    ours.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    async with tls_server(loop, theirs) as address:
        with refused("(?i)handshake.failure"):
            await talk(loop, address, ssl=ours)
        ours.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        client = await talk(loop, address, ssl=ours)
    cipher = client.transport.get_extra_info("cipher")
    assert cipher == ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2", 128)


class Resuming(ssl.SSLContext):
    """A user's, which goes on with the session of before."""

    session = None

    def wrap_bio(self, *args, **kwargs):
        return super().wrap_bio(*args, session=self.session, **kwargs)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
async def test_session_resumed(loop, version):
    context = Resuming(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(make_certificate(NAME)[0])
    context.minimum_version = context.maximum_version = version
    resumed = []
    async with tls_server(loop) as address:
        for _ in range(3):
            client = await talk(loop, address, ssl=context)
            sslobj = client.transport.get_extra_info("ssl_object")
            resumed.append(sslobj.session_reused)
            context.session = sslobj.session
            assert context.session is not None
    assert resumed == [False, True, True]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
async def test_channel_binding(loop, version):
    """The object of both ends tells what they have in common."""
    async with pair(client_context(version)) as protocols:
        found = [
            protocol.transport.get_extra_info(
                "ssl_object"
            ).get_channel_binding("tls-unique")
            for protocol in protocols
        ]
        assert found[0] == found[1]
        assert len(found[0]) >= 12


async def test_message_callback(loop):
    """A context with a debugging hook sees every message."""
    seen = []
    context = client_context()
    context._msg_callback = lambda *args: seen.append(args[1])
    async with pair(context) as (client, server):
        client.transport.write(b"seen")
        assert await server.received(4) == b"seen"
    assert {"read", "write"} <= set(seen)


async def test_context_is_shared(loop):
    """One context for many connections, in both directions of time."""
    ours, theirs = client_context(), server_context()
    async with tls_server(loop, theirs) as address:
        await asyncio.gather(
            *(
                talk(loop, address, b"%d" % number * 1000, ssl=ours)
                for number in range(20)
            )
        )


# What is no context.


@row("P1A-129")
@pytest.mark.parametrize("bad", [True, False])
async def test_server_needs_a_context(loop, bad):
    with pytest.raises(
        TypeError, match="^ssl argument must be an SSLContext or None$"
    ):
        await loop.create_server(Recorder, "127.0.0.1", 0, ssl=bad)


@row("P1A-142")
async def test_accepted_socket_needs_a_context(loop):
    ours, theirs = tcp_pair()
    with ours, theirs:
        with pytest.raises(
            ValueError, match="^Server side SSL needs a valid SSLContext$"
        ):
            await loop.connect_accepted_socket(Recorder, ours, ssl=True)


@row("P1A-142")
async def test_accepted_socket_is_served(loop):
    async with accepted(Echo) as (transport, _, peer):
        await asyncio.to_thread(peer.sendall, b"over TLS")
        assert await asyncio.to_thread(peer.recv, 100) == b"over TLS"
        assert transport.get_extra_info("ssl_object").server_side


KEYWORDS = ["ssl_handshake_timeout", "ssl_shutdown_timeout"]


@row("P2A-006", "P2A-008", "P2A-026", "P2A-028", "P2A-010", "P2A-030")
@pytest.mark.parametrize("value", [0, -1, -0.5])
@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize("how", ["client", "unix client", "accepted"])
@pytest.mark.oracle_skip("it leaves the socket to the collector")
async def test_timeouts_are_positive(loop, how, keyword, value):
    ours, theirs = tcp_pair()
    text = f"^{keyword} should be a positive number, got {value}$"
    calls = {
        "client": lambda **kwargs: loop.create_connection(
            Recorder,
            sock=ours,
            ssl=client_context(),
            server_hostname=NAME,
            **kwargs,
        ),
        "unix client": lambda **kwargs: loop.create_unix_connection(
            Recorder,
            sock=unix,
            ssl=client_context(),
            server_hostname=NAME,
            **kwargs,
        ),
        "accepted": lambda **kwargs: loop.connect_accepted_socket(
            Recorder, ours, ssl=server_context(), **kwargs
        ),
    }
    unix, unix_peer = socket.socketpair()
    with ours, theirs, unix, unix_peer:
        with pytest.raises(ValueError, match=text):
            await calls[how](**{keyword: value})
