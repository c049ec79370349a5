# SPDX-License-Identifier: MIT
"""Programs written for asyncio alone, as its documentation has them.

They name no loop: asyncio.get_event_loop() gives them one, and with becket's
policy installed it is becket's.
"""

import signal
import textwrap

import pytest

from support.loops import ORACLE
from support.procs import check, finish, run_code, start_code

row = pytest.mark.row
pytestmark = [
    pytest.mark.before(3, 14),  # there, no loop is made for the asking
    pytest.mark.one_poller,
]
OPTIONS = ("-W", "ignore::DeprecationWarning")

INSTALL = """\
import becket
becket.install()
"""

HELLO_WORLD = """
import asyncio

def hello_world(loop):
    print('Hello World')
    loop.stop()

loop = asyncio.get_event_loop()
loop.call_soon(hello_world, loop)
loop.run_forever()
loop.close()
"""

DISPLAY_DATE = """
import asyncio
import datetime

def display_date(end_time, loop):
    print(datetime.datetime.now())
    if (loop.time() + 0.3) < end_time:
        loop.call_later(0.3, display_date, end_time, loop)
    else:
        loop.stop()

loop = asyncio.get_event_loop()
end_time = loop.time() + 1.5
loop.call_soon(display_date, end_time, loop)
loop.run_forever()
loop.close()
"""

WATCH_SOCKET = """
import asyncio
try:
    from socket import socketpair
except ImportError:
    from asyncio.windows_utils import socketpair

rsock, wsock = socketpair()
loop = asyncio.get_event_loop()

def reader():
    data = rsock.recv(100)
    print("Received:", data.decode())
    loop.remove_reader(rsock)
    loop.stop()

loop.add_reader(rsock, reader)
loop.call_soon(wsock.send, 'abc'.encode())
loop.run_forever()
rsock.close()
wsock.close()
loop.close()
"""

SIGNAL_HANDLERS = """
import asyncio
import functools
import os
import signal

def ask_exit(signame):
    print("got signal %s: exit" % signame)
    loop.stop()

loop = asyncio.get_event_loop()
for signame in ('SIGINT', 'SIGTERM'):
    loop.add_signal_handler(getattr(signal, signame),
                            functools.partial(ask_exit, signame))

print("Event loop running forever, press Ctrl+C to interrupt.")
print("pid %s: send SIGINT or SIGTERM to exit." % os.getpid())
try:
    loop.run_forever()
finally:
    loop.close()
"""

PROACTOR_ON_WINDOWS = """
import asyncio, sys

if sys.platform == 'win32':
    loop = asyncio.ProactorEventLoop()
    asyncio.set_event_loop(loop)

loop = asyncio.get_event_loop()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
print("done")
"""

OTHER_SELECTOR = """
import asyncio
import selectors

selector = selectors.SelectSelector()
loop = asyncio.SelectorEventLoop(selector)
asyncio.set_event_loop(loop)
asyncio.get_event_loop().run_until_complete(asyncio.sleep(0))
loop.close()
print("done")
"""

KIND = """
print(type(loop).__module__.partition('.')[0])
"""


def program(backend, code):
    """The code of a program that has one more line to say."""
    start = "" if backend == ORACLE else INSTALL
    return start + textwrap.dedent(code) + KIND


def output(backend, code):
    done = check(run_code(backend, program(backend, code), options=OPTIONS))
    assert done.stderr == ""
    *lines, module = done.stdout.splitlines()
    assert module == ("asyncio" if backend == ORACLE else "becket")
    return lines


@row("P1A-235")
def test_hello_world(backend):
    assert output(backend, HELLO_WORLD) == ["Hello World"]


@row("P1A-237")
def test_display_date(backend):
    lines = output(backend, DISPLAY_DATE)
    assert 4 <= len(lines) <= 5
    assert lines == sorted(lines)


@row("P1A-239")
def test_watch_socket(backend):
    assert output(backend, WATCH_SOCKET) == ["Received: abc"]


@row("P1A-241")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signal_handlers(backend, name):
    code = program(backend, SIGNAL_HANDLERS)
    process = start_code(backend, code, options=OPTIONS)
    first = process.stdout.readline()
    second = process.stdout.readline()
    process.send_signal(getattr(signal, name))
    done = check(finish(process))
    assert first == "Event loop running forever, press Ctrl+C to interrupt.\n"
    assert second == f"pid {process.pid}: send SIGINT or SIGTERM to exit.\n"
    assert done.stdout.startswith(f"got signal {name}: exit\n")
    assert done.stderr == ""


@row("P1B-011")
def test_proactor_on_windows(backend):
    """Elsewhere the program goes on with the loop that there is."""
    assert output(backend, PROACTOR_ON_WINDOWS) == ["done"]


@row("P1B-021")
def test_another_selector(backend):
    """Who names asyncio's own class gets it, whatever is installed."""
    code = program(backend, OTHER_SELECTOR)
    done = check(run_code(backend, code, options=OPTIONS))
    assert done.stdout == "done\nasyncio\n"
    # becket's class takes its place, selector and all.
    if backend != ORACLE:
        mine = code.replace("asyncio.Selector", "becket.Selector")
        done = check(run_code(backend, mine, options=OPTIONS))
        assert done.stdout == "done\nbecket\n"
