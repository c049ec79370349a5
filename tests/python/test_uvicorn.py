# SPDX-License-Identifier: MIT
"""uvicorn and FastAPI, unmodified: in a process, and inside the test."""

import asyncio
import contextlib
import io
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from support.leaks import join_all
from support.loops import ORACLE
from support.net import reset, url_of
from support.procs import ROOT, environment

for name in ("uvicorn", "fastapi", "httptools", "aiohttp"):
    pytest.importorskip(name)

import aiohttp  # noqa: E402
import uvicorn  # noqa: E402

STAND_IN = ROOT / "tests" / "python" / "support" / "stand_in"
LIMIT = aiohttp.ClientTimeout(total=10)
RUNNING = re.compile(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")

APPLICATION = """
    import asyncio, contextlib, os
    from fastapi import FastAPI, Request, WebSocket
    from fastapi.responses import Response, StreamingResponse
    from pydantic import BaseModel

    events = []

    @contextlib.asynccontextmanager
    async def lifespan(app):
        print("started", flush=True)
        yield
        print("stopped", flush=True)

    app = FastAPI(lifespan=lifespan)

    class Order(BaseModel):
        name: str
        count: int = 1

    @app.get("/loop")
    async def loop():
        loop = asyncio.get_running_loop()
        return {
            "module": type(loop).__module__,
            "backend": getattr(loop, "backend", None),
        }

    @app.get("/items/{number}")
    async def item(number: int, q: str = ""):
        return {"number": number, "q": q}

    @app.get("/blocking")
    def blocking():
        return {"where": "a thread"}

    @app.post("/orders")
    async def order(order: Order):
        return order

    @app.post("/echo")
    async def echo(request: Request):
        return Response(await request.body())

    @app.get("/stream")
    async def stream():
        async def lines():
            for number in range(50):
                yield b"%d\\n" % number
                await asyncio.sleep(0)
        return StreamingResponse(lines())

    @app.websocket("/ws")
    async def ws(socket: WebSocket):
        await socket.accept()
        with contextlib.suppress(Exception):
            while True:
                await socket.send_text((await socket.receive_text()).upper())
"""


class Process:
    """uvicorn started from its command line, with its own loop option."""

    def __init__(self, backend, folder, *options):
        (folder / "application.py").write_text(textwrap.dedent(APPLICATION))
        env = environment(backend)
        env["PYTHONPATH"] += f":{folder}"
        loop = "support.loops:loop_from_environment"
        if backend in ("epoll", ORACLE):
            # As a user gives it.
            loop = "becket:new_event_loop"
        if backend == ORACLE:
            env["PYTHONPATH"] += f":{STAND_IN}"
        command = [sys.executable, "-m", "uvicorn", "application:app"]
        command += ["--loop", loop, "--no-use-colors", *options]
        if "--fd" not in options:
            command += ["--port", "0"]
        self.log = []
        self._port = queue.SimpleQueue()
        keep = [int(options[1])] if options[:1] == ("--fd",) else []
        self.process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=keep,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.log.append(line)
            if found := RUNNING.search(line):
                self._port.put(int(found[1]))
            elif "Application startup complete" in line:
                self._port.put(None)
        self._port.put(-1)

    def wait_for_port(self):
        while (port := self._port.get(timeout=20)) is None:
            pass
        assert port != -1, "".join(self.log)
        return port

    def wait_started(self):
        assert self._port.get(timeout=20) is None, "".join(self.log)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        try:
            code = self.process.wait(15)
        finally:
            self.process.kill()
            join_all([self._thread])
            self.process.stdout.close()
        return code


@pytest.fixture
def start(backend, tmp_path):
    processes = []

    def start(*options):
        process = Process(backend, tmp_path, *options)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.process.poll() is None:
            process.stop()


def ask(coroutine):
    """The client's side runs on CPython's own loop."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(asyncio.wait_for(coroutine, 20))


async def use_everything(url, backend):
    async with aiohttp.ClientSession(url, timeout=LIMIT) as session:
        async with session.get("/loop") as response:
            found = await response.json()
            assert found["module"].split(".")[0] == "becket"
            if backend != ORACLE:
                assert found["backend"] == backend
        for number in range(20):
            async with session.get(f"/items/{number}?q=x") as response:
                assert await response.json() == {"number": number, "q": "x"}
        async with session.get("/items/x") as response:
            assert response.status == 422
        async with session.get("/blocking") as response:
            assert await response.json() == {"where": "a thread"}
        async with session.post("/orders", json={"name": "rope"}) as response:
            assert await response.json() == {"name": "rope", "count": 1}
        body = os.urandom(3 << 20)
        async with session.post("/echo", data=io.BytesIO(body)) as response:
            assert await response.read() == body
        async with session.get("/stream") as response:
            wanted = b"".join([b"%d\n" % number for number in range(50)])
            assert await response.read() == wanted

        async def one(number):
            async with session.get(f"/items/{number}") as response:
                assert (await response.json())["number"] == number

        await asyncio.gather(*map(one, range(100)))


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_command_line(backend, start, http):
    process = start("--http", http)
    port = process.wait_for_port()
    ask(use_everything(f"http://127.0.0.1:{port}", backend))
    # uvicorn raises the signal again once it has shut down.
    assert process.stop() in (0, -signal.SIGTERM)
    text = "".join(process.log)
    assert "started" in text and "stopped" in text
    assert "Finished server process" in text
    assert "Traceback" not in text and "Exception" not in text


def test_ctrl_c(start):
    process = start()
    process.wait_for_port()
    process.stop(signal.SIGINT)
    text = "".join(process.log)
    assert "stopped" in text
    assert "Finished server process" in text


def test_keep_alive_connection_at_shutdown(start):
    """An idle kept-alive connection does not hold the server up."""
    process = start()
    address = ("127.0.0.1", process.wait_for_port())
    with socket.create_connection(address, 10) as sock:
        sock.sendall(b"GET /items/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK")
        assert process.stop() in (0, -signal.SIGTERM)


def test_pipelined_requests(start):
    process = start("--http", "httptools")
    address = ("127.0.0.1", process.wait_for_port())
    with socket.create_connection(address, 10) as sock:
        request = b"GET /items/%d HTTP/1.1\r\nHost: x\r\n\r\n"
        sock.sendall(b"".join([request % number for number in range(20)]))
        got = b""
        while got.count(b'"number":') < 20:
            got += sock.recv(65536)
        numbers = re.findall(rb'"number":(\d+)', got)
        assert numbers == [b"%d" % number for number in range(20)]


def test_inherited_descriptor(start):
    """--fd: uvicorn makes a socket object of the wrong family for it."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.set_inheritable(True)
        process = start("--fd", str(sock.fileno()))
        process.wait_started()
        with socket.create_connection(sock.getsockname(), 10) as client:
            client.sendall(
                b"GET /items/5 HTTP/1.1\r\nHost: x\r\n"
                b"Connection: close\r\n\r\n"
            )
            answer = b""
            while data := client.recv(65536):
                answer += data
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.endswith(b'{"number":5,"q":""}')


async def plain(scope, receive, send):
    """An ASGI application without a framework."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    answer = {"path": scope["path"], "length": len(body)}
    await send(
        {"type": "http.response.body", "body": json.dumps(answer).encode()}
    )


@contextlib.asynccontextmanager
async def server_inside(**kwargs):
    """uvicorn as a task of the test's own loop."""
    config = uvicorn.Config(
        plain,
        port=0,
        lifespan="off",
        log_config=None,
        access_log=False,
        **kwargs,
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), task
        await asyncio.sleep(0.001)
    address = server.servers[0].sockets[0].getsockname()
    try:
        yield url_of(address)
    finally:
        server.should_exit = True
        await task
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_inside_the_loop(loop, http):
    async with server_inside(http=http) as url:
        async with aiohttp.ClientSession(url, timeout=LIMIT) as session:

            async def one(number):
                path, body = f"/{number}", bytes(number * 1000)
                async with session.post(path, data=body) as response:
                    assert await response.json() == {
                        "path": path,
                        "length": len(body),
                    }

            await asyncio.gather(*map(one, range(100)))
        await asyncio.sleep(0.02)


async def test_clients_that_vanish(loop):
    """Peers that reset in the middle of things disturb nobody."""
    async with server_inside(http="httptools") as url:
        port = int(url.rpartition(":")[2])
        for number in range(30):
            sock = socket.create_connection(("127.0.0.1", port), 10)
            if number % 3:
                sock.send(b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\nx")
            await asyncio.sleep(0)
            reset(sock)
        async with aiohttp.ClientSession(url, timeout=LIMIT) as session:
            async with session.get("/alive") as response:
                assert response.status == 200
        await asyncio.sleep(0.02)
