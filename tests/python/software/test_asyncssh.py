# SPDX-License-Identifier: MIT
"""asyncssh, server and client: commands, redirection, SFTP, forwarding."""

import asyncio
import contextlib
import functools
import os
import pty
import signal
import socket
import subprocess

import pytest

from support.net import recv_exactly, spin
from support.protocols import Echo

asyncssh = pytest.importorskip("asyncssh")

pytestmark = pytest.mark.one_poller

USER = "tester"
MEBIBYTE = 1 << 20
END = b"the end"


@functools.cache
def key_of(owner):
    return asyncssh.generate_private_key("ssh-ed25519", owner)


class Server(asyncssh.SSHServer):
    """Lets its user forward everything."""

    def connection_requested(self, *_):
        return True

    def server_requested(self, *_):
        return True

    def unix_connection_requested(self, *_):
        return True

    def unix_server_requested(self, *_):
        return True


async def run_streams(process):
    """The command behind it is asyncio's, its streams are redirected."""
    local = await asyncio.create_subprocess_shell(
        process.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    await redirect(process, local)
    await finish(process, await local.wait())


async def run_pipes(process):
    """The same with a Popen object, whose pipes are the loop's from then on.

    It closes them, nobody else.
    """
    local = subprocess.Popen(
        process.command,
        shell=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    await redirect(process, local)
    await finish(process, await asyncio.to_thread(local.wait))


async def run_terminal(process):
    """The command has a terminal; its other side is the loop's."""
    ours, theirs = pty.openpty()
    local = subprocess.Popen(
        process.command,
        shell=True,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    await process.redirect(os.dup(ours), ours, send_eof=False)
    await process.stdout.drain()
    await finish(process, await asyncio.to_thread(local.wait))


async def redirect(process, local):
    """The end of one output is not that of the other."""
    await process.redirect(
        local.stdin, local.stdout, local.stderr, send_eof=False
    )
    await process.stdout.drain()
    await process.stderr.drain()


async def finish(process, code):
    if code < 0:
        name = signal.Signals(-code).name.removeprefix("SIG")
        process.exit_with_signal(name)
    else:
        process.exit(code)
    await process.wait_closed()


@contextlib.asynccontextmanager
async def serving(run=run_streams, folder=None):
    """Gives its port."""
    trusted = key_of(USER).export_public_key().decode()
    options = {}
    if folder is not None:
        options["sftp_factory"] = functools.partial(
            asyncssh.SFTPServer, chroot=os.fsencode(folder)
        )
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Server,
        server_host_keys=[key_of("host")],
        authorized_client_keys=asyncssh.import_authorized_keys(trusted),
        process_factory=run,
        encoding=None,
        line_editor=False,
        **options,
    )
    async with server:
        yield server.get_port()
    await asyncio.sleep(0.02)


def connect(port, **kwargs):
    options = {
        "username": USER,
        "client_keys": [key_of(USER)],
        "known_hosts": ([key_of("host").convert_to_public()], [], []),
        "config": None,
        "agent_path": None,
        **kwargs,
    }
    return asyncssh.connect("127.0.0.1", port, **options)


@contextlib.asynccontextmanager
async def connected(**kwargs):
    async with serving(**kwargs) as port, connect(port) as connection:
        yield connection


DROPS = "drops what resume_writing() writes to a pipe before it ends it"
RUNS = [
    run_streams,
    pytest.param(run_pipes, marks=pytest.mark.oracle_skip(DROPS)),
]


@pytest.fixture(params=RUNS, ids=lambda run: run.__name__)
def run(request):
    return request.param


async def test_commands(loop, run):
    async with connected(run=run) as ssh:
        done = await ssh.run("sort", input="b\nc\na\n")
        assert (done.stdout, done.exit_status) == ("a\nb\nc\n", 0)
        done = await ssh.run("echo out; echo err >&2; exit 3")
        assert (done.stdout, done.stderr) == ("out\n", "err\n")
        assert done.exit_status == 3
        done = await ssh.run("kill -9 $$")
        assert done.exit_signal[0] == "KILL"


async def test_large_input_and_output(loop, run):
    async with connected(run=run) as ssh:
        body = os.urandom(3 * MEBIBYTE)
        done = await ssh.run("cat", input=body, encoding=None)
        assert done.stdout == body


async def test_many_commands_at_once(loop, run):
    async with connected(run=run) as ssh:

        async def one(number):
            text = f"number {number}\n" * 1000
            done = await ssh.run("cat; cat /dev/null >&2", input=text)
            assert done.stdout == text

        await asyncio.gather(*map(one, range(9)))


async def test_conversation(loop, run):
    async with connected(run=run) as ssh:
        async with ssh.create_process("cat") as process:
            for number in range(50):
                process.stdin.write(f"line {number}\n")
                assert await process.stdout.readline() == f"line {number}\n"
            process.stdin.write_eof()
            assert await process.stdout.read() == ""
            await process.wait_closed()
            assert process.exit_status == 0


async def test_redirected_to_files(loop, run, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    body = os.urandom(MEBIBYTE)
    source.write_bytes(body)
    async with connected(run=run) as ssh:
        async with ssh.create_process(
            "cat; echo done >&2",
            stdin=str(source),
            stdout=str(target),
            encoding=None,
        ) as process:
            assert await process.stderr.read() == b"done\n"
            await process.wait_closed()
    assert target.read_bytes() == body


async def test_redirected_to_a_local_command(loop, run):
    """stdin from a local process, stdout to another, by their pipes."""
    async with connected(run=run) as ssh:
        with (
            subprocess.Popen(
                ["seq", "20000"], stdout=subprocess.PIPE
            ) as counting,
            subprocess.Popen(
                ["sort", "-n", "-r"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as sorting,
        ):
            async with ssh.create_process(
                "cat",
                stdin=counting.stdout,
                stdout=sorting.stdin,
                encoding=None,
            ) as process:
                await process.wait_closed()
            answer = await asyncio.to_thread(sorting.stdout.read)
        assert answer.split() == [b"%d" % n for n in range(20000, 0, -1)]


async def test_redirected_to_sockets(loop, run):
    """One for each way: a pipe that is written is closed by what it reads."""
    source, stdin = socket.socketpair()
    target, stdout = socket.socketpair()
    with source, target:
        target.settimeout(10)
        async with connected(run=run) as ssh:
            async with ssh.create_process(
                "cat", stdin=stdin, stdout=stdout, encoding=None
            ) as process:
                for number in range(10):
                    text = b"%d." % number * 1000
                    source.sendall(text)
                    got = await asyncio.to_thread(
                        recv_exactly, target, len(text)
                    )
                    assert got == text
                source.close()
                await process.wait_closed()
        assert target.recv(1) == b""


async def test_one_command_feeds_another(loop, run):
    async with connected(run=run) as ssh:
        async with ssh.create_process("seq 1000") as first:
            done = await ssh.run("wc -l", stdin=first.stdout)
            assert done.stdout.strip() == "1000"


async def test_terminal(loop):
    """It echoes what is typed, and its size is the client's."""
    command = "read a; stty size; read b; stty size; exit 5"
    sizes = [(100, 30), (80, 25)]
    async with connected(run=run_terminal) as ssh:
        async with ssh.create_process(
            command, term_type="xterm", term_size=sizes[0]
        ) as process:
            for columns, rows in sizes:
                process.change_terminal_size(columns, rows)
                process.stdin.write("typed\n")
                assert await process.stdout.readline() == "typed\r\n"
                wanted = f"{rows} {columns}\r\n"
                assert await process.stdout.readline() == wanted
            await process.wait_closed()
            assert process.exit_status == 5


async def test_client_ends_the_connection(loop):
    """The command's standard input ends with it."""
    ended = loop.create_future()

    async def run(process):
        local = await asyncio.create_subprocess_shell(
            process.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        await process.redirect(local.stdin, local.stdout)
        await process.wait_closed()
        ended.set_result(await local.wait())

    async with serving(run=run) as port:
        async with connect(port) as ssh:
            process = await ssh.create_process("cat")
            process.stdin.write("hello\n")
            assert await process.stdout.readline() == "hello\n"
        assert await ended == 0


async def test_files(loop, tmp_path):
    """SFTP, from one folder into another and back."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    bodies = {
        f"file{number}": os.urandom(number * 300_000) for number in range(6)
    }
    for name, body in bodies.items():
        (here / name).write_bytes(body)
    async with connected(folder=there) as ssh:
        async with ssh.start_sftp_client() as sftp:
            await sftp.mkdir("/sub")
            await sftp.mput(str(here / "*"), "/sub")
            for name, body in bodies.items():
                assert (there / "sub" / name).read_bytes() == body
            names = set(await sftp.listdir("/sub")) - {".", ".."}
            assert names == set(bodies)
            await sftp.rename("/sub/file5", "/moved")
            await sftp.get("/moved", str(here / "back"))
            assert (here / "back").read_bytes() == bodies["file5"]
            async with sftp.open("/moved", "rb") as file:
                await file.seek(1_000_000)
                part = await file.read(1000)
            assert part == bodies["file5"][1_000_000:1_001_000]
            with pytest.raises(asyncssh.SFTPNoSuchFile):
                await sftp.get("/missing", str(here / "missing"))
            await sftp.rmtree("/sub")
            assert not (there / "sub").exists()


async def test_files_at_once(loop, tmp_path):
    body = os.urandom(MEBIBYTE)
    (tmp_path / "large").write_bytes(body)
    async with connected(folder=tmp_path) as ssh:
        async with ssh.start_sftp_client() as sftp:

            async def one(_):
                async with sftp.open("/large", "rb") as file:
                    assert await file.read() == body

            await asyncio.gather(*map(one, range(8)))


async def chat(reader, writer):
    """A large body there and back, and the end."""
    body = os.urandom(MEBIBYTE)
    writer.write(body + END)
    got = await reader.readexactly(len(body) + len(END))
    assert got == body + END
    writer.close()
    await writer.wait_closed()


@contextlib.asynccontextmanager
async def echoing(loop, path=None):
    """A server that echoes, on a port or a path; gives its address."""
    if path is None:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
    else:
        server = await loop.create_unix_server(Echo, path)
    async with server:
        yield server.sockets[0].getsockname()
    await spin(3)


async def test_local_forwarding(loop):
    async with echoing(loop) as (host, port), connected() as ssh:
        async with ssh.forward_local_port("127.0.0.1", 0, host, port) as there:

            async def one():
                address = ("127.0.0.1", there.get_port())
                await chat(*await asyncio.open_connection(*address))

            await asyncio.gather(*[one() for _ in range(5)])


async def test_remote_forwarding(loop):
    async with echoing(loop) as (host, port), connected() as ssh:
        there = await ssh.forward_remote_port("127.0.0.1", 0, host, port)
        async with there:
            address = ("127.0.0.1", there.get_port())
            await chat(*await asyncio.open_connection(*address))


async def test_forwarded_paths(loop, tmp_path):
    inner, outer = str(tmp_path / "inner"), str(tmp_path / "outer")
    async with echoing(loop, inner), connected() as ssh:
        async with ssh.forward_local_path(outer, inner):
            await chat(*await asyncio.open_unix_connection(outer))


async def test_refused(loop):
    async with serving() as port:
        with pytest.raises(asyncssh.PermissionDenied):
            async with connect(port, client_keys=[key_of("stranger")]):
                pass
        wrong = ([key_of("stranger").convert_to_public()], [], [])
        with pytest.raises(asyncssh.HostKeyNotVerifiable):
            async with connect(port, known_hosts=wrong):
                pass
        async with connect(port) as ssh:
            assert (await ssh.run("echo fine")).stdout == "fine\n"
