# SPDX-License-Identifier: MIT
"""Every state of a loop, and how it may end there: a table.

Each cell is played in a child of its own: it brings a loop into a state of
support/states.py, and then the interpreter exits, or the loop is closed, or
left to the collector, or the process forks. Nothing may crash, hang, or say
what CPython's loop does not say; what is collected leaves no descriptor; and
after a fork the parent's loop goes on as if nothing had been.

    BECKET_TEST_LOOP=epoll python tests/python/isolated/ends.py fork
"""

import argparse
import atexit
import contextlib
import gc
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from support import states_of_things  # noqa: F401 (adds to STATES)
from support.leaks import leaked_fds, open_fds
from support.loops import ORACLE, VARIABLE
from support.net import tcp_pair
from support.stage import make_stage_loop
from support.states import STATES, turn

LIMIT = 25  # seconds for one cell
MODULES = ("becket", "asyncio", "support")

# What may be said at the end: that things were left open.
HARMLESS = (
    "Task was destroyed but it is pending!",
    "task: <Task",
    "source_traceback",
    "ResourceWarning",
    "Enable tracemalloc",
    "Implicitly cleaning up",
)


def make_loop():
    return make_stage_loop(os.environ[VARIABLE])


class Cell:
    """One state, prepared in this process."""

    def __init__(self, prepare):
        self.files = open_fds()
        self.loop = make_loop()
        self.state = prepare(self.loop)

    def drop(self):
        """The program lets go of everything."""
        self.loop = self.state = None

    def go_on(self):
        """The loop does what it was about to do, and more."""
        if self.loop.is_closed():
            return
        if self.state.go_on is not None:
            self.loop.run_until_complete(self.state.go_on())
        self.loop.run_until_complete(echo(self.loop))


async def echo(loop):
    ours, theirs = tcp_pair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        await loop.sock_sendall(ours, b"ping")
        assert await loop.sock_recv(theirs, 10) == b"ping"


EVENTS = {}


def event(kind):
    """Register a function of a Cell as something that happens."""

    def register(function):
        EVENTS[function.__name__] = (kind, function)
        return function

    return register


# --- the interpreter exits ---


@event("exit")
def the_end(cell):
    """Of the program; the interpreter takes everything down."""
    keep_alive(cell)


def keep_alive(cell):
    """In the main module, which is cleared late."""
    sys.modules["__main__"].kept = cell


@event("exit")
def a_global_cycle(cell):
    keep_alive(cell)
    cell.loop.cell = cell


@event("exit")
def exit_in_a_callback(cell):
    keep_alive(cell)
    if cell.loop.is_closed():
        sys.exit(0)
    cell.loop.call_soon(sys.exit, 0)
    cell.loop.run_forever()


@event("exit")
def exit_at_once_in_a_callback(cell):
    keep_alive(cell)
    if not cell.loop.is_closed():
        cell.loop.call_soon(os._exit, 0)
        cell.loop.run_forever()


@event("exit")
def exit_in_a_task(cell):
    async def leave():
        sys.exit(0)

    keep_alive(cell)
    if not cell.loop.is_closed():
        cell.loop.run_until_complete(leave())


@event("exit")
def closing_before_the_end(cell):
    keep_alive(cell)
    cell.loop.close()
    cell.loop.close()


@event("exit")
def closing_at_exit(cell):
    keep_alive(cell)
    atexit.register(cell.loop.close)


@event("exit")
def running_at_exit(cell):
    def last():
        if not cell.loop.is_closed():
            turn(cell.loop)
            cell.loop.close()

    atexit.register(last)


def give_back_signals(cell):
    """Only the main thread can."""
    cell.loop.remove_signal_handler(signal.SIGUSR1)


@event("exit")
def exit_while_a_daemon_thread_runs_it(cell):
    keep_alive(cell)
    if cell.loop.is_closed():
        return
    is_running = threading.Event()
    cell.loop.call_soon(is_running.set)
    give_back_signals(cell)
    threading.Thread(target=cell.loop.run_forever, daemon=True).start()
    is_running.wait(LIMIT)


@event("exit")
def exit_while_a_daemon_thread_is_busy(cell):
    def again():
        cell.loop.call_soon(again)

    if not cell.loop.is_closed():
        cell.loop.call_soon(again)
    exit_while_a_daemon_thread_runs_it(cell)


@event("exit")
def modules_gone(cell):
    keep_alive(cell)
    for name in list(sys.modules):
        if name.partition(".")[0] in MODULES:
            del sys.modules[name]
    gc.collect()


@event("exit")
def a_finalizer_uses_it(cell):
    class Last:
        def __del__(self):
            for use in (cell.loop.stop, cell.loop.close, cell.loop.time):
                use()

    keep_alive(Last())


# --- the garbage collector ---


def no_descriptor_is_left(cell):
    gc.collect()
    leaked = leaked_fds(cell.files)
    assert not leaked, f"left open: {leaked}"


@event("garbage")
def dropped(cell):
    cell.drop()
    no_descriptor_is_left(cell)


@event("garbage")
def dropped_in_a_cycle(cell):
    cell.loop.kept = cell.state.kept
    cell.loop.me = cell.loop
    cell.drop()
    no_descriptor_is_left(cell)


@event("garbage")
def closed_and_dropped(cell):
    cell.loop.close()
    cell.drop()
    no_descriptor_is_left(cell)


@event("garbage")
def dropped_by_another_thread(cell):
    def drop():
        cell.drop()
        gc.collect()

    give_back_signals(cell)
    thread = threading.Thread(target=drop)
    thread.start()
    thread.join(LIMIT)
    no_descriptor_is_left(cell)


@event("garbage")
def the_loop_first(cell):
    """The transports, tasks and handles survive it."""
    kept = cell.state.kept
    cell.drop()
    gc.collect()
    for thing in kept:
        repr(thing)
    del kept
    thing = None  # noqa: F841
    no_descriptor_is_left(cell)


@event("garbage")
def collected_all_the_time(cell):
    gc.set_threshold(1)
    cell.go_on()
    gc.set_threshold(700)
    cell.loop.close()
    cell.drop()
    no_descriptor_is_left(cell)


@event("garbage")
def collected_in_a_callback(cell):
    if not cell.loop.is_closed():
        cell.loop.call_soon(gc.collect)
        turn(cell.loop)
    cell.go_on()
    cell.loop.close()
    cell.drop()
    no_descriptor_is_left(cell)


# --- fork ---


def in_child(function):
    """Run it in a forked child, which must end well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(LIMIT)
            function()
            code = 0
        except SystemExit:
            raise
        except BaseException:
            traceback.print_exc()
        finally:
            if code == 0 or sys.exc_info()[0] is not SystemExit:
                os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"the child ended with {status}"


def fork_event(function):
    """An event: a child does this, and the parent goes on."""

    def happen(cell):
        in_child(lambda: function(cell))
        cell.go_on()
        cell.loop.close()

    happen.__name__ = function.__name__
    happen.__doc__ = function.__doc__
    return event("fork")(happen)


@fork_event
def child_leaves_at_once(cell):
    pass


@fork_event
def child_exits(cell):
    """With the copies of everything."""
    sys.exit(0)


@fork_event
def child_closes_the_loop(cell):
    cell.loop.close()
    assert cell.loop.is_closed()


@fork_event
def child_drops_everything(cell):
    cell.drop()
    gc.collect()


@fork_event
def child_makes_a_loop(cell):
    loop = make_loop()
    loop.run_until_complete(echo(loop))
    loop.close()


@fork_event
def child_drops_and_makes_a_loop(cell):
    """The new one may get the numbers that the copies had."""
    cell.loop.close()
    cell.drop()
    gc.collect()
    child_makes_a_loop_now()
    gc.collect()


def child_makes_a_loop_now():
    loop = make_loop()
    loop.run_until_complete(echo(loop))
    loop.close()


@fork_event
def grandchild_makes_a_loop(cell):
    in_child(child_makes_a_loop_now)


@fork_event
def child_runs_the_copy(cell):
    """Which says no."""
    try:
        cell.loop.run_forever()
    except RuntimeError:
        return
    raise AssertionError("the copy of a loop runs")


@fork_event
def child_uses_the_copies(cell):
    """Every one of them says what it says; no byte reaches a peer."""
    for thing in flatten(cell.state.kept):
        for name in ("cancel", "get_write_buffer_size", "is_closing"):
            use = getattr(thing, name, None)
            if use is not None:
                with contextlib.suppress(RuntimeError):
                    use()
    with contextlib.suppress(RuntimeError):
        cell.loop.call_soon(print)
    with contextlib.suppress(RuntimeError):
        cell.loop.call_soon_threadsafe(print)
    cell.loop.stop()


def flatten(things):
    for thing in things:
        if isinstance(thing, (list, tuple)):
            yield from flatten(thing)
        else:
            yield thing


@event("fork")
def forked_in_a_callback(cell):
    """While the loop runs; the child makes one of its own."""
    if not cell.loop.is_closed():
        cell.loop.call_soon(in_child, child_makes_a_loop_now)
        turn(cell.loop)
    cell.go_on()
    cell.loop.close()


@event("fork")
def forked_by_another_thread(cell):
    failures = []

    def work():
        try:
            in_child(child_makes_a_loop_now)
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(LIMIT)
    assert not failures, failures
    cell.go_on()
    cell.loop.close()


# --- the table ---


# Here CPython's copy disturbs the parent's loop: they share an epoll set, or
# the child waits for the threads that it has not got.
CPYTHON_DISTURBS = (
    "child_exits",
    "child_closes_the_loop",
    "child_drops_everything",
    "child_drops_and_makes_a_loop",
    "child_runs_the_copy",
)

# Of these its loop leaves pidfds open, and says that it is closed.
CPYTHON_LEAVES = ("a_subprocess", "shaking_hands")


def chosen(wanted):
    """The events of a kind, or the one of this name."""
    found = [
        (name, happen)
        for name, (kind, happen) in EVENTS.items()
        if wanted in (name, kind)
    ]
    if not found:
        raise SystemExit(f"no event, and no kind of events, is {wanted!r}")
    if os.environ[VARIABLE] == ORACLE:
        return [one for one in found if one[0] not in CPYTHON_DISTURBS]
    return found


def play(prepare, happen, output):
    """In the child: what is said goes into a file."""
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    signal.alarm(LIMIT)
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork()
    happen(Cell(prepare))


def complaints(text):
    """What of it is not harmless."""
    lines = []
    for line in text.splitlines():
        if line and not any(word in line for word in HARMLESS):
            lines.append(line)
    return lines


def judge(name, pid, output):
    """What is wrong with a child that has ended, or nothing."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    output.seek(0)
    text = output.read().decode(errors="replace")
    if status == 0 and not complaints(text):
        return ""
    return f"--- {name}: exit code {status}\n{text}"


def play_column(happen, states):
    """Whether this process is a child, whose part is over; and the faults."""
    faults = []
    for name in states:
        with tempfile.TemporaryFile() as output:
            pid = os.fork()
            if pid == 0:
                play(STATES[name], happen, output)
                return True, []
            if fault := judge(name, pid, output):
                faults.append(fault)
    return False, faults


def share(number, options):
    """The states for this event: all of them, or a different part of each."""
    names = [options.state] if options.state else list(STATES)
    if os.environ[VARIABLE] == ORACLE:
        names = [name for name in names if not name.endswith(CPYTHON_LEAVES)]
    return [
        name
        for index, name in enumerate(names)
        if options.state or (index + number) % options.share == 0
    ]


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("event", help="exit, garbage, fork, or one event")
    parser.add_argument("--state", choices=STATES)
    parser.add_argument(
        "--share", type=int, default=1, help="one cell of so many"
    )
    return parser.parse_args(argv)


def main():
    options = parse(sys.argv[1:])
    started = time.monotonic()
    tempfile.tempdir = folder = tempfile.mkdtemp()
    played = 0
    for number, (name, happen) in enumerate(chosen(options.event)):
        states = share(number, options)
        is_child, faults = play_column(happen, states)
        if is_child:
            return
        if faults:
            shutil.rmtree(folder)
            sys.exit(f"{name}:\n" + "\n".join(faults))
        played += len(states)
    shutil.rmtree(folder)
    print(
        f"{played} cells in {time.monotonic() - started:.1f} s:"
        f" {options.event} in {len(STATES)} states, nothing crashed,"
        " nothing was left"
    )


if __name__ == "__main__":
    main()
