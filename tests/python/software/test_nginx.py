# SPDX-License-Identifier: MIT
"""nginx as a server of HTTPS, and as a proxy in front of becket's servers."""

import asyncio
import contextlib
import functools
import io
import os
import ssl

import pytest

from support.certificates import (
    NAME,
    client_context,
    make_certificate,
    server_context,
)
from support.nginx import nginx

aiohttp = pytest.importorskip("aiohttp")
web = pytest.importorskip("aiohttp.web")
from support import web_handlers as handlers  # noqa: E402

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.one_poller]

LIMIT = aiohttp.ClientTimeout(total=10)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
SIZES = (0, 1, 16384, 65537, 5 << 20)
PROXY = "nginx"

FILES = """
        location / {{ root {folder}; }}
        location = /peer {{ return 200 "$remote_port"; }}
        location = /tls {{ return 200 "$ssl_protocol $ssl_server_name"; }}
"""
# The same server of the test behind each, by another way.
UPSTREAMS = """
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $http_connection;
        proxy_request_buffering off;
        proxy_buffering off;
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate {trusted};
        proxy_ssl_name {name};
        proxy_ssl_server_name on;
        proxy_ssl_certificate {certificate};
        proxy_ssl_certificate_key {key};
        location /tcp/ {{ proxy_pass http://127.0.0.1:{tcp}/; }}
        location /unix/ {{ proxy_pass http://unix:{unix}:/; }}
        location /tls/ {{ proxy_pass https://127.0.0.1:{tls}/; }}
"""
WAYS = ("tcp", "unix", "tls")


@contextlib.asynccontextmanager
async def client(port, **kwargs):
    connector = aiohttp.TCPConnector(ssl=client_context(), **kwargs)
    async with aiohttp.ClientSession(
        f"https://{NAME}:{port}", connector=connector, timeout=LIMIT
    ) as session:
        yield session
    # Connections end after the session, in the loop's own time.
    await asyncio.sleep(0.02)


@pytest.fixture
def files(tmp_path):
    """A web server with a large file; gives its port and the content."""
    body = os.urandom(8 << 20)
    (tmp_path / "large").write_bytes(body)
    with nginx(tmp_path, FILES.format(folder=tmp_path)) as port:
        yield port, body


async def ask(reader, writer, path, *fields):
    """One request of HTTP/1.1 over streams; the body of the answer."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {NAME}", *fields, "", ""]
    writer.write("\r\n".join(lines).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    length = head.lower().partition(b"content-length:")[2].split()[0]
    return await reader.readexactly(int(length))


@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
async def test_streams(loop, files, version):
    port, body = files
    context = client_context(version)
    context.set_alpn_protocols(["spdy/3", "http/1.1"])
    reader, writer = await asyncio.open_connection(NAME, port, ssl=context)
    sslobj = writer.get_extra_info("ssl_object")
    assert sslobj.selected_alpn_protocol() == "http/1.1"
    spoken = version.name.replace("_", ".")
    assert await ask(reader, writer, "/tls") == f"{spoken} {NAME}".encode()
    for _ in range(2):
        assert await ask(reader, writer, "/large") == body
    ours = writer.get_extra_info("sockname")[1]
    assert await ask(reader, writer, "/peer") == b"%d" % ours
    # nginx ends the connection with close_notify.
    last = await ask(reader, writer, "/large", "Connection: close")
    assert last == body
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_http2_is_chosen(loop, files):
    port, _ = files
    context = client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    reader, writer = await asyncio.open_connection(NAME, port, ssl=context)
    sslobj = writer.get_extra_info("ssl_object")
    assert sslobj.selected_alpn_protocol() == "h2"
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4]))
    writer.write(bytes(5))
    # Its settings: the type of the first frame, on stream 0.
    frame = await reader.readexactly(9)
    assert frame[3] == 4 and frame[5:] == bytes(4)
    writer.close()
    # It may have more to say, which is refused after our goodbye.
    with contextlib.suppress(ssl.SSLError):
        await writer.wait_closed()


async def test_keep_alive_and_ranges(loop, files):
    port, body = files
    async with client(port, limit=1) as session:
        peers = set()
        for start in range(0, len(body), 1_000_003):
            wanted = body[start : start + 100_000]
            field = {"Range": f"bytes={start}-{start + 99_999}"}
            async with session.get("/large", headers=field) as response:
                assert response.status == 206
                assert await response.read() == wanted
            async with session.get("/peer") as response:
                peers.add(await response.text())
        assert len(peers) == 1


async def test_many_at_once(loop, files):
    port, body = files
    async with client(port, limit=8) as session:

        async def one(_):
            async with session.get("/large") as response:
                assert await response.read() == body

        await asyncio.gather(*map(one, range(16)))


async def test_half_read_answer_is_dropped(loop, files):
    port, body = files
    async with client(port) as session:
        for _ in range(5):
            async with session.get("/large") as response:
                begun = await response.content.readexactly(100_000)
                assert begun == body[:100_000]
                response.close()


async def who(request):
    """Whom the proxy's own certificate names."""
    certificate = request.transport.get_extra_info("peercert")
    return web.json_response(certificate and certificate["subjectAltName"])


async def slow(story, request):
    """Tells how it went; the test ends it."""
    story.put_nowait("asked")
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        story.put_nowait("cancelled")
        raise
    return web.Response()


def make_runner():
    story = asyncio.Queue()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/echo", handlers.echo)
    app.router.add_get("/stream", handlers.stream)
    app.router.add_get("/chat", handlers.chat)
    app.router.add_get("/who", who)
    app.router.add_get("/slow", functools.partial(slow, story))
    runner = web.AppRunner(
        app, shutdown_timeout=0.2, handler_cancellation=True
    )
    return runner, story


def demanding_context():
    """For a server that wants to see the proxy's certificate."""
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(make_certificate(PROXY)[0])
    return context


@contextlib.asynccontextmanager
async def upstream(runner, folder):
    """Serve by every way; gives the proxy's locations."""
    path = folder / "upstream"
    await runner.setup()
    sites = [
        web.TCPSite(runner, "127.0.0.1", 0),
        web.TCPSite(runner, "127.0.0.1", 0, ssl_context=demanding_context()),
        web.UnixSite(runner, path),
    ]
    for site in sites:
        await site.start()
    certificate, key = make_certificate(PROXY)
    try:
        yield UPSTREAMS.format(
            tcp=runner.addresses[0][1],
            tls=runner.addresses[1][1],
            unix=path,
            name=NAME,
            trusted=make_certificate(NAME)[0],
            certificate=certificate,
            key=key,
        )
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def behind_proxy(folder):
    """A client of the proxy, its port, and the story of a slow request."""
    runner, story = make_runner()
    async with upstream(runner, folder) as locations:
        with nginx(folder, locations) as port:
            async with client(port) as session:
                yield session, port, story


@pytest.mark.parametrize("way", WAYS)
async def test_proxied_bodies(loop, tmp_path, way):
    async with behind_proxy(tmp_path) as (session, *_):
        for size in SIZES:
            body = os.urandom(size)
            async with session.post(
                f"/{way}/echo", data=io.BytesIO(body)
            ) as response:
                assert response.status == 200
                assert await response.read() == body
        async with session.get(f"/{way}/stream") as response:
            lines = [line async for line in response.content]
        assert lines == [b"%04d\n" % number for number in range(100)]


@pytest.mark.parametrize("way", WAYS)
async def test_proxied_websocket(loop, tmp_path, way):
    async with behind_proxy(tmp_path) as (session, *_):
        async with session.ws_connect(f"/{way}/chat") as ws:
            for size in SIZES[:-1]:
                body = os.urandom(size)
                await ws.send_bytes(body)
                assert await ws.receive_bytes() == body[::-1]


async def test_proxys_certificate(loop, tmp_path):
    async with behind_proxy(tmp_path) as (session, *_):
        async with session.get("/tls/who") as response:
            assert await response.json() == [["DNS", PROXY]]


@pytest.mark.parametrize("way", WAYS)
async def test_vanished_client_is_noticed(loop, tmp_path, way):
    """The proxy drops its connection to us, which ends the request."""
    async with behind_proxy(tmp_path) as (_, port, story):
        _, writer = await asyncio.open_connection(
            NAME, port, ssl=client_context()
        )
        request = f"GET /{way}/slow HTTP/1.1\r\nHost: {NAME}\r\n\r\n"
        writer.write(request.encode())
        assert await story.get() == "asked"
        writer.transport.abort()
        assert await story.get() == "cancelled"
