# SPDX-License-Identifier: MIT
"""Random programs: a hypothesis strategy whose values are source texts."""

import contextlib
import functools
import re
import textwrap

import flaws
import grammar
import hypothesis.strategies as st
from processes import COMMANDS

PLACE = re.compile(r"\{(\w+)\}")
REFERENCE = re.compile(r"\b([crot])(\d)\b(?=[,()])")
AWAITABLES = ("w.f0", "w.f1", "w.t0", "w.t1", "t0()", "t1()")
WAKES = re.compile("threadsafe|executor")
POOLS = {
    "h": ("0", "1"),
    "f": ("0", "1"),
    "t": ("0", "1"),
    "k2": ("0", "1"),
    "c": ("0", "1", "2"),
    "k": ("0", "1", "2", "3", "7"),
    "d": ("1", "2", "3"),
    "n": ("1", "5", "20", "100", "70000", "300000", "2000000"),
    "any": AWAITABLES,
    "size": ("1", "5", "0", "100", "4000"),
    "flag": ("False", "True"),
}
DEPTH = 2
KINDS = (
    "scheduling",
    "tasks",
    "transport",
    "pair",
    "watched",
    "stream",
    "datagrams",
    "pipe",
    "mixed",
    "server",
    "stream_server",
    "tls",
    "tls_pair",
    "tls_stream",
    "tls_server",
    "child",
    "process",
)
TLS_HOW = (
    "connection",
    "accepted",
    "upgraded connection",
    "upgraded accepted",
)
PIPES = (
    ("stdin", "stdout"),
    ("stdin", "stdout", "stderr"),
    ("stdout",),
    ("stdin",),
    (),
)
TLS_KINDS = ("new", "new", "new", "old", "untrusted", "stranger")
HEADS = {
    "c": "@w.callback\ndef c{}(*args):",
    "r": "@w.reader\ndef r{}(x, *args):",
    "o": "@w.writer\ndef o{}(x, *args):",
    "t": "@w.task\nasync def t{}(say):",
}
# Watched by the program, used with sock_*(), or both.
USES = (
    (grammar.WATCHERS + grammar.WATCHERS_ALONE, ()),
    (grammar.SOCK_PLAIN, grammar.SOCK_CALLS),
    (grammar.WATCHERS, grammar.SOCK_CALLS),
)
SMALL = grammar.SCHEDULING[:5] + (
    "loop.stop()",
    "raise w.Error({k})",
    "w.t{t} = loop.create_task(t{k2}())",
    "w.t{t}.cancel()",
)
SCHEDULING = grammar.SCHEDULING
if not flaws.NESTED_RUN_FORGETS:
    SCHEDULING += ("w.tried(loop.run_forever)",)
SMALL_AWAITING = grammar.AWAITING[:3] + grammar.AWAITING[-8:]


@functools.cache
def pool_of(values):
    return st.sampled_from(values)


MORE = st.integers(0, 2)


class Thing:
    """An object that the program makes, and what may be said of it."""

    def __init__(self, line, names, plain, awaiting=(), methods=()):
        self.line = line
        self.plain = tuple(
            each.replace("{x}", name) for name in names for each in plain
        )
        self.awaiting = tuple(
            each.replace("{x}", name) for name in names for each in awaiting
        )
        self.hooks = tuple(
            f"{name}.{method}" for name in names for method in methods
        )


class Writer:
    """Writes one program, of what hypothesis draws."""

    def __init__(self, draw):
        self.draw = draw
        self.things = []
        self.plain = [SCHEDULING]
        self.awaiting = [grammar.AWAITING]

    @contextlib.contextmanager
    def drawing(self, draw):
        before, self.draw = self.draw, draw
        try:
            yield
        finally:
            self.draw = before

    def one_of(self, values):
        return self.draw(pool_of(values))

    def number(self, low, high):
        return self.draw(st.integers(low, high))

    # --- sentences ---

    def sentence(self, groups, depth):
        pool = self.one_of(tuple(groups))
        text = self.one_of(pool)
        if depth >= DEPTH and "{async}" in text:
            text = pool[0]
        lines = []
        for line in text.split("\n"):
            bare = line.lstrip()
            filled = PLACE.sub(lambda match: self._fill(match, depth), bare)
            indent = line[: len(line) - len(bare)]
            lines.append(textwrap.indent(filled, indent))
        return "\n".join(lines)

    def _fill(self, match, depth):
        if match[1] == "async":
            return self.block(True, depth + 1, 2)
        return self.one_of(POOLS[match[1]])

    def block(self, is_async=False, depth=0, most=3):
        """Some statements; at least one."""
        lines = []
        while True:
            lines.append(self.draw(statement(self, is_async, depth)))
            if len(lines) >= most or self.draw(MORE) == 0:
                return "\n".join(lines)

    # --- the program ---

    def function(self, head, is_async=False, answers=()):
        body = self.block(is_async)
        if answers and self.draw(MORE) == 0:
            body += "\n" + self.one_of(answers)
        return f"{head}\n{textwrap.indent(body, '    ')}"

    def step(self):
        kind = self.number(0, 6)
        if kind == 0:
            return f"w.advance({self.number(1, 3)})"
        if kind >= 4:
            return self.function("@w.step\nasync def step(say):", True)
        return self.function("@w.step\ndef step():")

    def hook(self):
        names = tuple(name for each in self.things for name in each.hooks)
        name = self.one_of(names)
        head = f'@w.on("{name}", {self.number(1, 2)})\ndef hook():'
        is_eof = name.endswith("eof_received")
        return self.function(head, answers=grammar.EOF_ANSWERS * is_eof)

    def several(self, make, least, most):
        parts = []
        while len(parts) < most:
            if len(parts) >= least and self.draw(MORE) == 0:
                break
            parts.append(self.draw(part(make)))
        return parts

    def functions_for(self, parts):
        """The functions that the parts speak of, and those that these do."""
        found = {}
        waiting = list(parts)
        while waiting:
            for kind, number in REFERENCE.findall(waiting.pop()):
                if (kind, number) not in found:
                    text = self.function(
                        HEADS[kind].format(number), kind == "t"
                    )
                    found[kind, number] = text
                    waiting.append(text)
        return [found[key] for key in sorted(found)]

    def program(self, kind):
        parts = []
        if any(each.hooks for each in self.things):
            parts += self.several(self.hook, 0, 3)
        parts += self.several(self.step, 1, 6)
        lines = [each.line for each in self.things]
        if self.number(0, 9) == 9:
            lines.append("w.ends_abruptly = True")
        blocks = ["\n".join(["loop = w.loop", *lines])]
        blocks += self.functions_for(parts) + parts
        body = textwrap.indent("\n\n".join(blocks), "    ")
        return f"def program(w):  # {kind}\n{body}\n"


@st.composite
def statement(draw, writer, is_async, depth):
    with writer.drawing(draw):
        if is_async and writer.draw(MORE) != 0:
            return writer.sentence(writer.awaiting, depth)
        return writer.sentence(writer.plain, depth)


@st.composite
def part(draw, make):
    """What belongs together is drawn together, so that it can be left out."""
    with make.__self__.drawing(draw):
        return make()


# --- the objects ---


def transport(writer, name, over="unix"):
    how = writer.one_of(("connection", "accepted"))
    buffer = writer.one_of((0, 0, 8, 65536))
    methods = grammar.BUFFERED_METHODS if buffer else grammar.METHODS
    return Thing(
        f'{name} = w.transport("{name}", "{over}", "{how}", {buffer})',
        (name,),
        grammar.TRANSPORTS + grammar.PEERS,
        grammar.SENDFILE,
        methods=methods,
    )


def pair(writer, names, over="unix"):
    how = writer.one_of(("connection", "accepted"))
    buffer = writer.one_of((0, 0, 0, 65536))
    methods = grammar.BUFFERED_METHODS if buffer else grammar.METHODS
    a, b = names
    return Thing(
        f'{a}, {b} = w.pair("{a}{b}", "{over}", "{how}", {buffer})',
        names,
        grammar.TRANSPORTS,
        methods=methods,
    )


def watched(writer, name, over="unix"):
    plain, calls = writer.one_of(USES)
    return Thing(
        f'{name} = w.watched("{name}", "{over}")',
        (name,),
        plain + grammar.PEERS,
        calls,
    )


def stream(writer, name, over="unix"):
    limit = writer.one_of((64, 16, 65536))
    return Thing(
        f'{name} = w.stream("{name}", "{over}", limit={limit})',
        (name,),
        grammar.STREAMS + grammar.PEERS + grammar.LINES,
        grammar.STREAM_CALLS,
    )


def tls(writer, name):
    over = writer.one_of(("unix", "tcp"))
    how = writer.one_of(TLS_HOW)
    buffer = writer.one_of((0, 0, 8, 65536))
    kind = writer.one_of(TLS_KINDS)
    methods = grammar.BUFFERED_METHODS if buffer else grammar.METHODS
    is_by_hand = writer.one_of((False, False, True))
    plain = grammar.TLS + grammar.TLS_PEERS
    if is_by_hand:
        plain += grammar.TLS_HANDSHAKES * 6
    return Thing(
        f'{name} = w.tls("{name}", "{over}", "{how}", {buffer}, "{kind}"'
        f"{', by_hand=True' * is_by_hand})",
        (name,),
        plain,
        grammar.SENDFILE,
        methods=methods,
    )


def tls_pair(writer, names):
    over = writer.one_of(("unix", "tcp"))
    buffer = writer.one_of((0, 0, 0, 65536))
    kind = writer.one_of(("new", "old"))
    methods = grammar.BUFFERED_METHODS if buffer else grammar.METHODS
    a, b = names
    return Thing(
        f'{a}, {b} = w.tls_pair("{a}{b}", "{over}", {buffer}, "{kind}")',
        names,
        grammar.TLS,
        methods=methods,
    )


def tls_stream(writer, name):
    over = writer.one_of(("unix", "tcp"))
    limit = writer.one_of((64, 16, 65536))
    is_plain = writer.one_of((False, False, True))
    return Thing(
        f'{name} = w.tls_stream("{name}", "{over}", {limit}, {is_plain})',
        (name,),
        grammar.TLS_STREAMS + grammar.TLS_PEERS + grammar.LINES,
        grammar.STREAM_CALLS + grammar.START_TLS * 6 * is_plain,
    )


def hooks_of(name, methods):
    """Those of a server's connections."""
    lanes = [lane.replace("{x}", name) for lane in grammar.SERVER_LANES]
    return tuple(f"{lane}.{method}" for lane in lanes for method in methods)


def server(writer, name):
    over = writer.one_of(("unix", "tcp"))
    is_started = writer.one_of((True, True, True, False))
    thing = Thing(
        f'{name} = w.server("{name}", "{over}", {is_started})',
        (name,),
        grammar.SERVERS + grammar.PEERS,
        grammar.SERVER_CALLS,
    )
    thing.hooks = hooks_of(name, grammar.METHODS)
    return thing


def tls_server(writer, name):
    over = writer.one_of(("unix", "tcp"))
    thing = Thing(
        f'{name} = w.tls_server("{name}", "{over}")',
        (name,),
        grammar.SERVERS + grammar.TLS_PEERS,
        grammar.SERVER_CALLS,
    )
    thing.hooks = hooks_of(name, grammar.METHODS)
    return thing


def stream_server(writer, name):
    over = writer.one_of(("unix", "tcp"))
    does = writer.one_of(("talk", "talk", "plain", "leave", "fail"))
    is_tls = writer.one_of((False, False, True))
    kind = "tls_stream_server" if is_tls else "stream_server"
    thing = Thing(
        f'{name} = w.{kind}("{name}", "{over}", "{does}")',
        (name,),
        grammar.STREAM_SERVERS
        + (grammar.TLS_PEERS if is_tls else grammar.PEERS),
        grammar.STREAM_SERVER_CALLS,
    )
    thing.hooks = hooks_of(name, ("client_connected",))
    return thing


def datagrams(writer, name, over="unix"):
    return Thing(
        f'{name} = w.datagrams("{name}", "{over}")',
        (name,),
        grammar.DATAGRAMS + grammar.DATAGRAM_PEERS,
        methods=grammar.DATAGRAM_METHODS,
    )


def pipe(writer, name):
    if writer.one_of((True, False)):
        return Thing(
            f'{name} = w.pipe("{name}", is_reader=True)',
            (name,),
            grammar.READ_PIPES,
            methods=grammar.READ_METHODS,
        )
    return Thing(
        f'{name} = w.pipe("{name}", is_reader=False)',
        (name,),
        grammar.WRITE_PIPES,
        methods=grammar.WRITE_METHODS,
    )


def made_child(writer, name, maker):
    command = writer.one_of(tuple(COMMANDS))
    is_shell = writer.one_of((False, True))
    pipes = writer.one_of(PIPES)
    return f'{name} = w.{maker}("{name}", "{command}", {is_shell}, {pipes})'


def child(writer, name):
    return Thing(
        made_child(writer, name, "child"),
        (name,),
        grammar.CHILDREN,
        methods=grammar.CHILD_METHODS,
    )


def process(writer, name):
    return Thing(
        made_child(writer, name, "process"),
        (name,),
        grammar.PROCESSES,
        grammar.PROCESS_CALLS,
    )


MAKERS = {
    "transport": lambda writer: transport(
        writer, "a", writer.one_of(("unix", "tcp"))
    ),
    "pair": lambda writer: pair(writer, ("a", "b")),
    "watched": lambda writer: watched(writer, "s"),
    "stream": lambda writer: stream(writer, "s"),
    "server": lambda writer: server(writer, "v"),
    "stream_server": lambda writer: stream_server(writer, "v"),
    "datagrams": lambda writer: datagrams(
        writer, "d", writer.one_of(("unix", "udp"))
    ),
    "pipe": lambda writer: pipe(writer, "p"),
    "tls": lambda writer: tls(writer, "a"),
    "tls_pair": lambda writer: tls_pair(writer, ("a", "b")),
    "tls_stream": lambda writer: tls_stream(writer, "s"),
    "tls_server": lambda writer: tls_server(writer, "v"),
    "child": lambda writer: child(writer, "p"),
    "process": lambda writer: process(writer, "p"),
}


def mixed(writer):
    makers = {"a": transport, "s": watched, "z": stream}
    first = writer.one_of(tuple(makers))
    second = writer.one_of(tuple(makers))
    return [
        makers[first](writer, first),
        makers[second](writer, second * 2),
    ]


def things_of(writer, kind):
    return mixed(writer) if kind == "mixed" else [MAKERS[kind](writer)]


def scheduling(writer):
    """Signals or threads: CPython wakes up by one socket for both, so that
    each may be seen a turn earlier for the other's sake."""
    if writer.number(0, 2) > 0:
        return [SCHEDULING, SCHEDULING, grammar.FUTURES]
    alone = tuple(
        tuple(each for each in pool if not WAKES.search(each))
        for pool in (SCHEDULING, grammar.FUTURES)
    )
    return [*alone, grammar.SIGNALS]


@st.composite
def programs(draw, kinds=KINDS):
    writer = Writer(draw)
    kind = writer.one_of(tuple(kinds))
    if kind == "tasks":
        writer.plain = [grammar.FUTURES, grammar.FUTURES, SMALL]
    elif kind == "scheduling":
        writer.plain = scheduling(writer)
    else:
        writer.things = things_of(writer, kind)
        writer.plain = [each.plain for each in writer.things] + [SMALL]
        writer.awaiting = [
            each.awaiting for each in writer.things if each.awaiting
        ] + [SMALL_AWAITING]
    return writer.program(kind)
