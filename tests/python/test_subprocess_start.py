# SPDX-License-Identifier: MIT
"""subprocess_exec() and subprocess_shell(): what they take and start."""

import asyncio
import errno
import logging
import os
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT

import pytest

from support.children import CAT, SLEEP, children, children_left, python
from support.net import connected

row = pytest.mark.row


@pytest.fixture(autouse=True)
def no_child_left():
    before = children()
    yield
    left = children_left(before)
    assert not left, f"left behind: {left}"


class Nothing(asyncio.SubprocessProtocol):
    """Takes what comes."""

    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def output_of(*command, **options):
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, **options
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


async def test_begins_behind_what_transports_wrote(loop, monkeypatch):
    async with connected(loop, asyncio.Protocol) as (transport, _, peer):
        found = []

        begin = subprocess._fork_exec

        def look_and_begin(*args):
            found.append(peer.recv(100))
            return begin(*args)

        monkeypatch.setattr(subprocess, "_fork_exec", look_and_begin)
        peer.setblocking(False)
        transport.write(b"just now")
        assert await output_of("true") == b""
        assert found == [b"just now"]


@row("P1A-003", "P2A-046", "P4G-025")
async def test_exec(loop):
    process = await asyncio.create_subprocess_exec(
        *python(
            "import sys; data = sys.stdin.read(); print(data.upper());"
            "print(sys.argv[1], file=sys.stderr); sys.exit(3)",
            "argument",
        ),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.pid > 0
    assert process.returncode is None
    assert isinstance(process._transport, asyncio.SubprocessTransport)
    out, err = await process.communicate(b"hello")
    assert (out, err) == (b"HELLO\n", b"argument\n")
    assert process.returncode == 3
    assert await process.wait() == 3


@row("P1A-003", "P2A-047")
@pytest.mark.parametrize("kind", [str, bytes])
async def test_shell(loop, kind):
    command = "echo $((6 * 7)); cat; exit 5"
    process = await asyncio.create_subprocess_shell(
        command if kind is str else command.encode(), stdin=PIPE, stdout=PIPE
    )
    out, err = await process.communicate(b"in")
    assert (out, err) == (b"42\nin", None)
    assert process.returncode == 5


@row("P2A-046", "P2A-047")
@pytest.mark.parametrize("method", ["subprocess_exec", "subprocess_shell"])
async def test_pipes_are_the_default(loop, method):
    transport, protocol = await getattr(loop, method)(Nothing, "true")
    assert type(protocol) is Nothing
    assert transport.get_protocol() is protocol
    assert all(transport.get_pipe_transport(fd) for fd in range(3))
    transport.close()
    await protocol.lost


REFUSED = [
    ("universal_newlines", True, "universal_newlines must be False"),
    ("bufsize", 4096, "bufsize must be 0"),
    ("text", True, "text must be False"),
    ("encoding", "utf-8", "encoding must be None"),
    ("errors", "strict", "errors must be None"),
]


@row("P2A-045", "P2A-046", "P2A-047")
@pytest.mark.parametrize("method", ["subprocess_exec", "subprocess_shell"])
@pytest.mark.parametrize(("name", "value", "text"), REFUSED)
async def test_text_is_refused(loop, method, name, value, text):
    def never():
        raise AssertionError("called")

    with pytest.raises(ValueError, match=text):
        await getattr(loop, method)(never, "true", **{name: value})


@row("P2A-046", "P2A-047")
async def test_shell_is_refused(loop):
    with pytest.raises(ValueError, match="shell must be False"):
        await loop.subprocess_exec(Nothing, "true", shell=True)
    with pytest.raises(ValueError, match="shell must be True"):
        await loop.subprocess_shell(Nothing, "true", shell=False)
    for command in (["true"], None, 1):
        with pytest.raises(ValueError, match="cmd must be a string"):
            await loop.subprocess_shell(Nothing, command)


@row("P2A-046")
@pytest.mark.parametrize(
    ("program", "options", "error"),
    [
        ("/no/such/program", {}, FileNotFoundError),
        ("no-such-program-anywhere", {}, FileNotFoundError),
        ("/", {}, PermissionError),
        ("true", {"cwd": "/no/such/folder"}, FileNotFoundError),
        ("true", {"cwd": "/etc/passwd"}, NotADirectoryError),
        ("tr\0ue", {}, ValueError),
        (5, {}, TypeError),
        ("true", {"no_such_option": 1}, TypeError),
        ("true", {"env": {"A=B": "C"}}, ValueError),
        ("true", {"stdin": "in"}, AttributeError),
        ("true", {"preexec_fn": lambda: 1 / 0}, subprocess.SubprocessError),
    ],
)
async def test_bad_input(loop, errors, program, options, error):
    """What Popen raises arrives, and nothing is left."""
    with pytest.raises(error) as caught:
        await asyncio.create_subprocess_exec(
            program,
            **{"stdin": PIPE, "stdout": PIPE, "stderr": PIPE} | options,
        )
    with pytest.raises(error) as expected:
        subprocess.Popen(
            (program,), **{"stdin": PIPE, "stdout": PIPE} | options
        )
    assert str(caught.value) == str(expected.value)


async def test_not_executable(loop, tmp_path):
    path = tmp_path / "program"
    path.write_text("#!/bin/sh\n")
    with pytest.raises(PermissionError) as caught:
        await asyncio.create_subprocess_exec(path, stdout=PIPE)
    assert caught.value.errno == errno.EACCES
    path.chmod(0o755)
    process = await asyncio.create_subprocess_exec(path)
    assert await process.wait() == 0
    path.write_bytes(b"\x7fELF")
    with pytest.raises(OSError) as caught:
        await asyncio.create_subprocess_exec(path, stdout=PIPE)
    assert caught.value.errno == errno.ENOEXEC


# --- the keywords of Popen ---


async def test_cwd_and_env(loop, tmp_path):
    code = "import os; print(os.getcwd(), os.environ['NAME'])"
    out = await output_of(
        *python(code), cwd=tmp_path, env={**os.environ, "NAME": "value"}
    )
    assert out.decode() == f"{tmp_path} value\n"


async def test_executable_and_path_like(loop, tmp_path):
    code = "import sys; print(sys.argv)"
    out = await output_of(
        "another name", *python(code)[1:], "x", executable=sys.executable
    )
    assert out == b"['-c', 'x']\n"
    link = tmp_path / "link"
    link.symlink_to(sys.executable)
    assert await output_of(link, "-S", "-c", "print(1)") == b"1\n"


async def test_session_group_and_umask(loop):
    code = "import os; print(os.getsid(0) == os.getpid(), os.umask(0))"
    out = await output_of(*python(code), start_new_session=True, umask=0o27)
    assert out == f"True {0o27}\n".encode()
    code = "import os; print(os.getpgrp() == os.getpid())"
    assert await output_of(*python(code), process_group=0) == b"True\n"


async def test_pass_fds(loop):
    read, write = os.pipe()
    try:
        code = f"import os; os.write({write}, b'through')"
        assert await output_of(*python(code), pass_fds=[write]) == b""
        assert os.read(read, 100) == b"through"
    finally:
        os.close(read)
        os.close(write)


async def test_nothing_else_is_passed(loop):
    code = "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"
    first = await asyncio.create_subprocess_exec(*SLEEP, stdin=PIPE)
    out = await output_of(*python(code))
    # The last is of listdir() itself.
    assert out == b"[0, 1, 2, 3]\n"
    first.kill()
    await first.wait()


async def test_preexec_fn_and_signals(loop):
    code = "import signal; print(signal.getsignal(signal.SIGPIPE).name)"
    assert await output_of(*python(code), restore_signals=True) == b"SIG_IGN\n"
    code = "import os; print(os.nice(0))"
    before = os.nice(0)
    out = await output_of(*python(code), preexec_fn=lambda: os.nice(3))
    assert int(out) == before + 3


async def test_files(loop, tmp_path):
    (tmp_path / "in").write_bytes(b"content")
    with (tmp_path / "in").open() as file, (tmp_path / "out").open("w") as out:
        process = await asyncio.create_subprocess_exec(
            *CAT, stdin=file, stdout=out.fileno(), stderr=DEVNULL
        )
        assert process.stdin is process.stdout is process.stderr is None
        assert await process.wait() == 0
    assert (tmp_path / "out").read_bytes() == b"content"


async def test_stderr_into_stdout(loop):
    process = await asyncio.create_subprocess_shell(
        "echo 1; echo 2 >&2; echo 3", stdout=PIPE, stderr=STDOUT
    )
    assert process.stderr is None
    assert await process.communicate() == (b"1\n2\n3\n", None)


async def test_limit(loop):
    process = await asyncio.create_subprocess_exec(
        *CAT, stdin=PIPE, stdout=PIPE, limit=16
    )
    process.stdin.write(b"x" * 64 + b"\n")
    with pytest.raises(ValueError):
        await process.stdout.readline()
    process.kill()
    assert await process.wait() == -signal.SIGKILL


# --- around them ---


async def test_replaced_popen_is_called(loop, monkeypatch):
    """Tracers and tests replace it."""
    seen = []

    class Traced(subprocess.Popen):
        def __init__(self, *args, **options):
            seen.append((args, options))
            super().__init__(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", Traced)
    transport, protocol = await loop.subprocess_exec(
        Nothing, "true", stdin=None, stdout=DEVNULL, stderr=DEVNULL, cwd="/"
    )
    await protocol.lost
    transport.close()
    assert len(seen) == 1
    (args,), options = seen[0]
    assert args == ("true",)
    assert options["cwd"] == "/"
    assert options["bufsize"] == 0
    assert options["shell"] is False


async def test_factory_raises(loop):
    def factory():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await loop.subprocess_exec(factory, "true")


@pytest.mark.one_poller
async def test_debug_log(loop, caplog):
    loop.set_debug(True)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", "exit 3", "secret"), stdout=PIPE, stderr=STDOUT
        )
        await process.communicate()
        process = await asyncio.create_subprocess_shell(
            "exec sleep 1000", stdin=DEVNULL, stderr=PIPE
        )
        process._transport.close()
        await process.wait()
    said = [record.getMessage() for record in caplog.records]
    assert "execute program 'sh' stdout=stderr=<pipe>" in said
    expected = (
        f"run shell command 'exec sleep 1000' stdin={DEVNULL} stderr=<pipe>"
    )
    assert expected in said
    started = [line for line in said if line.startswith("run shell command")]
    # Told of the transport as it is when the record is read.
    assert f"'exec sleep 1000': {process._transport!r}" in started[1]
    assert any("exited with return code 3" in line for line in said)
    killed = [line for line in said if line.startswith("Close running child")]
    assert len(killed) == 1
    assert f"pid={process.pid}" in killed[0]
    # As asyncio says: arguments may be secrets.
    assert not any("secret" in line for line in said)


HANGS = pytest.mark.oracle_skip(
    "waits for ever", when=sys.version_info < (3, 14, 1)
)


@pytest.mark.parametrize(
    "fails",
    [
        None,
        pytest.param("read", marks=HANGS),
        pytest.param("write", marks=HANGS),
    ],
)
async def test_replaced_methods_connect_the_pipes(loop, errors, fails):
    """The loop's own methods connect them, overridden or not."""
    made = []

    def replace(kind):
        original = getattr(loop, f"connect_{kind}_pipe")

        async def connect(factory, pipe):
            made.append(kind)
            if kind == fails:
                raise ZeroDivisionError
            return await original(factory, pipe)

        setattr(loop, f"connect_{kind}_pipe", connect)

    replace("read")
    replace("write")
    if fails is None:
        transport, protocol = await loop.subprocess_exec(Nothing, *CAT)
        assert made == ["write", "read", "read"]
        transport.close()
        await protocol.lost
    else:
        with pytest.raises(ZeroDivisionError):
            await loop.subprocess_exec(Nothing, *CAT)
        assert made == ["write", "read"][: 2 if fails == "read" else 1]


@pytest.mark.oracle_skip("it waits for ever")
async def test_failure_to_tell_the_protocol_is_raised(loop):
    """As when memory fails: nobody waits for ever, and nothing is left."""
    before = children()
    protocol = asyncio.SubprocessProtocol()
    call_soon = loop.call_soon

    def failing(callback, *args, **kwargs):
        if getattr(callback, "__self__", None) is protocol:
            raise MemoryError("no room")
        return call_soon(callback, *args, **kwargs)

    loop.call_soon = failing
    try:
        async with asyncio.timeout(10):
            with pytest.raises(MemoryError, match="no room"):
                await loop.subprocess_exec(lambda: protocol, *CAT)
    finally:
        del loop.call_soon
    assert not children_left(before)
