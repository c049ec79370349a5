# SPDX-License-Identifier: MIT
"""Streams as a client of openssl s_server."""

import asyncio
import contextlib
import os
import ssl
import subprocess

import pytest

from support.certificates import NAME, client_context, make_certificate
from support.programs import find, running

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.one_poller]

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
OTHER = "other.test"
PERSON = "a-person"

each_version = pytest.mark.parametrize(
    "version", VERSIONS, ids=lambda version: version.name
)


@pytest.fixture
def server(tmp_path):
    """s_server on a port that the system chose."""

    @contextlib.asynccontextmanager
    async def server(*options):
        """Gives the running program and its port."""
        certificate, key = make_certificate(NAME)
        command = [find("openssl", "openssl"), "s_server", *options]
        command += ["-accept", "127.0.0.1:0", "-cert", certificate]
        command += ["-key", key]
        program = running(
            command,
            tmp_path / "server",
            r"ACCEPT 127\.0\.0\.1:(\d+)",
            stdin=subprocess.PIPE,
            cwd=tmp_path,
        )
        opened, found = await asyncio.to_thread(program.__enter__)
        try:
            yield opened, int(found[1])
        finally:
            await asyncio.to_thread(program.__exit__, None, None, None)

    return server


@contextlib.asynccontextmanager
async def connected(port, context=None, name=NAME):
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        port,
        ssl=context or client_context(),
        server_hostname=name,
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(reader, writer, line):
    """With -rev, the server gives each line back in reverse."""
    writer.write(line + b"\n")
    assert await reader.readline() == line[::-1] + b"\n"


@each_version
async def test_versions_and_alpn(loop, server, version):
    context = client_context(version)
    context.set_alpn_protocols(["spdy/3", "http/1.1"])
    async with server("-rev", "-alpn", "h2,http/1.1") as (_, port):
        async with connected(port, context) as (reader, writer):
            sslobj = writer.get_extra_info("ssl_object")
            assert sslobj.version() == version.name.replace("_", ".")
            assert sslobj.selected_alpn_protocol() == "http/1.1"
            for size in (1, 100, 3000):
                await ask(reader, writer, os.urandom(size).hex().encode())


async def test_certificate_by_name(loop, server):
    certificate, key = make_certificate(OTHER)
    options = ("-rev", "-servername", OTHER, "-cert2", certificate)
    async with server(*options, "-key2", key) as (_, port):
        for name in (OTHER, NAME):
            context = client_context(name=name)
            async with connected(port, context, name) as (reader, writer):
                found = writer.get_extra_info("peercert")
                assert found["subjectAltName"] == (("DNS", name),)
                await ask(reader, writer, b"hello")


async def test_certificate_is_checked(loop, server):
    async with server("-rev") as (_, port):
        for context, name in (
            (ssl.create_default_context(), NAME),
            (client_context(), OTHER),
            (client_context(name=OTHER), NAME),
        ):
            with pytest.raises(ssl.SSLCertVerificationError):
                async with connected(port, context, name):
                    pass
        async with connected(port) as (reader, writer):
            await ask(reader, writer, b"hello")


def demand(person=PERSON):
    """Options for a server that wants a client's certificate."""
    trusted = make_certificate(person)[0]
    return ("-rev", "-Verify", "1", "-verify_return_error", "-CAfile", trusted)


@each_version
async def test_client_certificate(loop, server, version):
    context = client_context(version)
    context.load_cert_chain(*make_certificate(PERSON))
    async with server(*demand()) as (program, port):
        async with connected(port, context) as (reader, writer):
            await ask(reader, writer, b"hello")
        await asyncio.to_thread(program.wait_for, f"CN ?= ?{PERSON}")


@each_version
async def test_missing_client_certificate(loop, server, version):
    """With TLS 1.3 the client learns it once it reads."""
    async with server(*demand()) as (_, port):
        with pytest.raises(ssl.SSLError) as caught:
            async with connected(port, client_context(version)) as (reader, _):
                await reader.read()
        alerts = {
            "TLSv1_2": "SSLV3_ALERT_HANDSHAKE_FAILURE",
            "TLSv1_3": "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        }
        assert caught.value.reason == alerts[version.name]


@each_version
async def test_large_file(loop, server, version, tmp_path):
    body = os.urandom(8 << 20)
    (tmp_path / "large").write_bytes(body)
    async with server("-HTTP") as (_, port):
        async with connected(port, client_context(version)) as streams:
            reader, writer = streams
            writer.write(b"GET /large HTTP/1.0\r\n\r\n")
            assert await reader.read() == body


async def converse(program, reader, writer, number):
    """A line from the server's terminal, and one onto it."""
    program.type(b"from the server %d\n" % number)
    assert await reader.readline() == b"from the server %d\n" % number
    writer.write(b"from the client %d\n" % number)
    await asyncio.to_thread(program.wait_for, f"from the client {number}\n")


async def command(program, letter, message, number):
    """Type a command; a line typed before its number-th use is over is lost.

    The server shows its messages (-msg).
    """
    program.type(letter + b"\n")
    sent = rf"(?s)(>>> [^\n]*, {message}\n.*){{{number}}}"
    await asyncio.to_thread(program.wait_for, sent)


async def test_key_update(loop, server):
    """k: the server's keys; K: the client's, too."""
    async with server("-msg") as (program, port):
        async with connected(port) as (reader, writer):
            for number in range(1, 11):
                letter = b"K" if number % 2 else b"k"
                await command(program, letter, "KeyUpdate", number)
                await converse(program, reader, writer, number)
        answers = [
            line
            for line in program.output.splitlines()
            if line.startswith("<<<") and line.endswith(", KeyUpdate")
        ]
        assert len(answers) == 5


async def test_renegotiation(loop, server):
    """TLS 1.2: the server may ask for another handshake."""
    context = client_context(ssl.TLSVersion.TLSv1_2)
    async with server("-msg") as (program, port):
        async with connected(port, context) as (reader, writer):
            await converse(program, reader, writer, 0)
            for number in range(1, 4):
                await command(program, b"r", "HelloRequest", number)
                await converse(program, reader, writer, number)
        assert program.output.count(", ClientHello\n") == 4


async def test_certificate_asked_for_later(loop, server):
    """TLS 1.3: authentication after the handshake."""
    context = client_context(ssl.TLSVersion.TLSv1_3)
    context.post_handshake_auth = True
    context.load_cert_chain(*make_certificate(PERSON))
    trusted = make_certificate(PERSON)[0]
    options = ("-msg", "-CAfile", trusted, "-verify", "1")
    async with server(*options) as (program, port):
        async with connected(port, context) as (reader, writer):
            await converse(program, reader, writer, 0)
            await command(program, b"c", "CertificateRequest", 2)
            await converse(program, reader, writer, 1)
            verified = (
                rf"(?s)(depth=0 CN ?= ?{PERSON}\nverify return:1.*){{2}}"
            )
            await asyncio.to_thread(program.wait_for, verified)


@each_version
async def test_server_ends(loop, server, version):
    """Q closes properly, a kill does not; both are an end, none hangs."""
    for is_killed in (False, True):
        async with server() as (program, port):
            context = client_context(version)
            async with connected(port, context) as (reader, writer):
                await converse(program, reader, writer, 0)
                if is_killed:
                    program.process.kill()
                else:
                    program.type(b"Q\n")
                with contextlib.suppress(OSError):
                    assert await reader.read() == b""
