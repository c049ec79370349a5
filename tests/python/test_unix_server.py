# SPDX-License-Identifier: MIT
"""create_unix_server: its socket file, its arguments, its end."""

import asyncio
import inspect
import logging
import os
import pathlib
import socket
import stat

import pytest

from support.loops import PY313
from support.net import LIMIT, spin
from support.procs import check, run_code
from support.protocols import Echo, Recorder

row = pytest.mark.row


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose paths fit into a Unix address, which are short."""
    monkeypatch.chdir(tmp_path)
    return pathlib.Path(".")


async def close(server):
    server.close()
    await server.wait_closed()


async def echoes(path):
    """Whether somebody at path sends back what it gets."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"there?")
    answer = await asyncio.wait_for(reader.read(100), LIMIT)
    writer.close()
    await writer.wait_closed()
    await spin(3)
    return answer == b"there?"


@row("P1A-138", "P1A-136", "P1A-137", "P2A-014")
@pytest.mark.parametrize(
    "path",
    ["s", b"s", pathlib.Path("s"), "\0becket-server", b"\0becket\xff"],
    ids=repr,
)
async def test_serves(loop, folder, path):
    coroutine = loop.create_unix_server(Echo, path)
    assert inspect.iscoroutine(coroutine)
    server = await coroutine
    assert isinstance(server, asyncio.AbstractServer)
    assert server.is_serving()
    (sock,) = server.sockets
    assert sock.family == socket.AF_UNIX
    assert await echoes(path)
    await close(server)
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        await asyncio.open_unix_connection(path)


@row("P1A-136")
async def test_names_of_a_client(loop, folder):
    """The peer of a server has no name, unless it has bound its socket."""
    made = []

    class Protocol(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            made.append(self)

    for name in ("s", "n" * 100):
        server = await loop.create_unix_server(Protocol, name)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(name)
            while not made:
                await asyncio.sleep(0)
            protocol = made.pop()
        await protocol.lost
        assert protocol.transport.get_extra_info("sockname") == name
        assert protocol.transport.get_extra_info("peername") == ""
        with socket.socket(socket.AF_UNIX) as client:
            client.bind("c" * 100)
            client.connect(name)
            while not made:
                await asyncio.sleep(0)
            protocol = made.pop()
        await protocol.lost
        assert protocol.transport.get_extra_info("peername") == "c" * 100
        os.unlink("c" * 100)
        await close(server)


@row("P1A-136", "P4G-033")
async def test_stale_socket_is_replaced(loop, folder):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind("s")
    before = os.stat("s")
    server = await loop.create_unix_server(Echo, "s")
    assert os.stat("s").st_mtime_ns != before.st_mtime_ns
    assert await echoes("s")
    await close(server)


@row("P1A-136")
async def test_other_files_stay(loop, folder):
    (folder / "file").write_text("precious")
    (folder / "folder").mkdir()
    for name in ("file", "folder"):
        with pytest.raises(OSError) as caught:
            await loop.create_unix_server(Echo, name)
        assert caught.value.strerror == f"Address {name!r} is already in use"
        assert caught.value.errno == 98
    assert (folder / "file").read_text() == "precious"


@row("P1A-136")
async def test_failures_of_bind(loop, folder):
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_server(Echo, "missing/s")
    with pytest.raises(OSError, match="too long"):
        await loop.create_unix_server(Echo, "x" * 200)
    with pytest.raises(TypeError):
        await loop.create_unix_server(Echo, 12)
    with pytest.raises(TypeError):
        await loop.create_unix_server(Echo, ["s"])
    server = await loop.create_unix_server(Echo, "\0becket-twice")
    with pytest.raises(OSError, match="already in use"):
        await loop.create_unix_server(Echo, "\0becket-twice")
    await close(server)
    assert os.listdir(".") == []


@pytest.mark.becket_only("CPython fails with an IndexError from inside")
async def test_empty_path(loop):
    with pytest.raises(ValueError, match="path must not be empty"):
        await loop.create_unix_server(Echo, "")


@row("P1A-136")
@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({}, ValueError, "path was not specified, and no sock specified"),
        (
            {"path": "x", "sock": True},
            ValueError,
            "path and sock can not be specified at the same time",
        ),
        (
            {"path": "x", "ssl": True},
            TypeError,
            "ssl argument must be an SSLContext or None",
        ),
        (
            {"path": "x", "ssl_handshake_timeout": 1},
            ValueError,
            "ssl_handshake_timeout is only meaningful with ssl",
        ),
        (
            {"path": "x", "ssl_shutdown_timeout": 1},
            ValueError,
            "ssl_shutdown_timeout is only meaningful with ssl",
        ),
    ],
)
async def test_arguments_that_do_not_fit(loop, arguments, error, text):
    with pytest.raises(error) as caught:
        await loop.create_unix_server(Recorder, **arguments)
    assert str(caught.value) == text


@row("P1A-136")
@pytest.mark.parametrize(
    "family, kind",
    [
        (socket.AF_INET, socket.SOCK_STREAM),
        (socket.AF_UNIX, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET),
    ],
)
async def test_socket_of_another_kind(loop, family, kind):
    with socket.socket(family, kind) as sock:
        with pytest.raises(ValueError, match="A UNIX Domain Stream Socket"):
            await loop.create_unix_server(Recorder, sock=sock)
        assert sock.fileno() != -1


@row("P1A-136")
async def test_given_socket(loop, folder):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("s")
    server = await loop.create_unix_server(Echo, sock=sock)
    assert sock.gettimeout() == 0
    assert await echoes("s")
    await close(server)
    assert sock.fileno() == -1


@row("P2A-012", "P2D-003")
async def test_start_serving_later(loop, folder):
    server = await loop.create_unix_server(Echo, "s", start_serving=False)
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_unix_connection("s")
    await server.start_serving()
    assert await echoes("s")
    await close(server)


@row("P2D-004")
async def test_serve_forever(loop, folder):
    server = await loop.create_unix_server(Echo, "s", start_serving=False)
    task = loop.create_task(server.serve_forever())
    await spin(2)
    assert await echoes("s")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.is_serving()


@row("P1A-136")
async def test_backlog(loop, folder):
    """More clients than the backlog are not let in before they are taken."""
    server = await loop.create_unix_server(
        Echo, "s", backlog=2, start_serving=False
    )
    server._sockets[0].listen(2)
    waiting = []
    with pytest.raises(BlockingIOError):
        for _ in range(10):
            sock = socket.socket(socket.AF_UNIX)
            waiting.append(sock)
            sock.setblocking(False)
            sock.connect("s")
    assert len(waiting) == 4
    for sock in waiting:
        sock.close()
    await close(server)


# --- what becomes of the file ---


@row("P2A-043", "P4G-033")
async def test_default_of_cleanup(loop, folder):
    server = await loop.create_unix_server(Echo, "s")
    server.close()
    assert os.path.exists("s") is not PY313
    await server.wait_closed()


@row("P2A-043", "P4G-033")
@pytest.mark.since(3, 13)
async def test_cleanup(loop, folder):
    for path in ("s", b"t", folder / "u"):
        server = await loop.create_unix_server(Echo, path, cleanup_socket=True)
        assert os.path.exists(path)
        server.close()
        assert not os.path.exists(path)
        await server.wait_closed()


@row("P2A-043")
@pytest.mark.since(3, 13)
async def test_cleanup_of_a_given_socket(loop, folder):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("s")
    server = await loop.create_unix_server(Echo, sock=sock)
    await close(server)
    assert not os.path.exists("s")


@row("P2A-043")
@pytest.mark.since(3, 13)
async def test_no_cleanup(loop, folder):
    server = await loop.create_unix_server(Echo, "s", cleanup_socket=False)
    await close(server)
    assert os.path.exists("s")


@row("P2A-043")
@pytest.mark.since(3, 13)
async def test_file_is_gone_already(loop, folder, caplog):
    server = await loop.create_unix_server(Echo, "s")
    os.unlink("s")
    await close(server)
    assert not caplog.records


@row("P2A-043", "P4G-033")
@pytest.mark.since(3, 13)
@pytest.mark.oracle_skip(
    "compares the inode's number alone, which file systems use again"
)
async def test_replaced_file_stays(loop, folder):
    first = await loop.create_unix_server(Echo, "s")
    second = await loop.create_unix_server(Echo, "s")
    await close(first)
    assert await echoes("s")
    await close(second)
    assert not os.path.exists("s")


@row("P2A-043")
@pytest.mark.since(3, 13)
async def test_file_that_cannot_be_removed(loop, folder, caplog, monkeypatch):
    server = await loop.create_unix_server(Echo, "s")

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        server.close()
    assert caplog.messages == [
        "Unable to clean up listening UNIX socket 's': "
        "PermissionError(13, 'Permission denied')"
    ]
    await server.wait_closed()


async def test_stale_file_that_cannot_be_removed(
    loop, folder, caplog, monkeypatch
):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind("s")

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "remove", refuse)
        with pytest.raises(OSError, match="already in use"):
            await loop.create_unix_server(Echo, "s")
    assert caplog.messages == [
        "Unable to check or remove stale UNIX socket 's': "
        "PermissionError(13, 'Permission denied')"
    ]


@row("P2A-044")
@pytest.mark.becket_only("comes with Python 3.16")
async def test_mode(loop, folder):
    for mode in (0o600, 0o666, 0o750):
        server = await asyncio.start_unix_server(
            lambda reader, writer: writer.close(),
            "s",
            mode=mode,
            cleanup_socket=True,
        )
        assert stat.S_IMODE(os.stat("s").st_mode) == mode
        await close(server)


@row("P2A-044")
@pytest.mark.becket_only("comes with Python 3.16")
async def test_mode_that_cannot_be_set(loop, folder, monkeypatch):
    with socket.socket(socket.AF_UNIX) as sock:
        with pytest.raises(ValueError, match="mode"):
            await loop.create_unix_server(Echo, sock=sock, mode=0o600)
    with pytest.raises(ValueError, match="mode"):
        await loop.create_unix_server(Echo, "\0becket-mode", mode=0o600)
    with pytest.raises(TypeError):
        await loop.create_unix_server(Echo, "s", mode="rw")
    assert os.listdir(".") == []


@pytest.mark.oracle_skip("leaves the server behind")
async def test_cancelled_while_it_starts(loop, folder):
    """Nobody has the server, so it does not stay."""
    task = loop.create_task(loop.create_unix_server(Echo, "s"))
    await spin()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        await asyncio.open_unix_connection("s")


@pytest.mark.becket_only("CPython's child removes its parent's file")
def test_forked_child_leaves_the_file(backend, tmp_path):
    check(
        run_code(
            backend,
            """
            import asyncio, os, sys
            from support.loops import loop_from_environment

            async def main():
                server = await asyncio.get_running_loop().create_unix_server(
                    asyncio.Protocol, "s", cleanup_socket=True
                )
                pid = os.fork()
                if pid == 0:
                    server.close()
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
                assert os.path.exists("s")
                reader, writer = await asyncio.open_unix_connection("s")
                writer.close()
                server.close()
                assert not os.path.exists("s")

            os.chdir(sys.argv[1])
            loop = loop_from_environment()
            loop.run_until_complete(main())
            loop.close()
            """,
            str(tmp_path),
            options=("-W", "ignore::DeprecationWarning"),
        )
    )


def test_closed_loop_leaves_the_file(new_loop, folder):
    """As with asyncio: only closing the server removes it."""
    loop = new_loop()
    server = loop.run_until_complete(loop.create_unix_server(Echo, "s"))
    sock = server._sockets[0]
    loop.close()
    assert os.path.exists("s")
    sock.close()


async def test_debug_log(loop, folder, caplog):
    caplog.set_level(logging.DEBUG, "asyncio")
    loop.set_debug(True)
    server = await loop.create_unix_server(Echo, "s")
    assert await echoes("s")
    await close(server)
    assert any("got a new connection" in text for text in caplog.messages)


async def test_many_clients(loop, folder):
    """More than the backlog, all of them served."""
    server = await loop.create_unix_server(Echo, "s", backlog=8)
    gate = asyncio.Semaphore(8)

    async def client():
        async with gate:
            assert await echoes("s")

    await asyncio.gather(*(client() for _ in range(200)))
    await close(server)
