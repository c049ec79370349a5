# SPDX-License-Identifier: MIT
"""Between the arrival of bytes and the turn of the read that waits for them.

A read that the loop serves may be given its bytes past the reader's buffer.
Whatever a program does meanwhile, it sees them in the buffer all the same.
"""

import asyncio
import contextlib

import pytest

from support.streams import loop_reader, play_twice, tls_reader

DATA = b"0123456789"


def window(*read, data=DATA):
    """Steps up to the window: the harness goes before the read."""
    return [
        ("start", *read),
        ("turn",),
        ("feed", data),
        ("turn",),
        ("turn",),
    ]


async def check(steps, limit=1 << 16):
    for reader in loop_reader, tls_reader:
        plain, served = await play_twice(steps, limit, served=reader)
        assert served == plain


AFTER = [("turn",), ("turn",), ("start", "read", 4), ("turn",), ("turn",)]


class Reader(asyncio.StreamReader):
    pass


def replace_buffer(connection):
    connection.reader._buffer = bytearray(b"mine")


def drop_transport(connection):
    connection.reader._transport = None


def exchange_class(connection):
    connection.reader.__class__ = Reader
    return bytes(connection.reader._buffer)


def replace_dict(connection):
    connection.reader.__dict__ = dict(connection.reader.__dict__)
    return bytes(connection.reader._buffer)


def delete_buffer(connection):
    buffer = connection.reader._buffer
    del connection.reader._buffer
    with pytest.raises(AttributeError, match="no attribute '_buffer'"):
        connection.reader._buffer  # noqa: B018
    connection.reader._buffer = buffer
    return bytes(buffer)


def take_some(connection):
    taken = bytes(connection.reader._buffer[:3])
    del connection.reader._buffer[:3]
    return taken


def hold_a_view(connection):
    connection.view = memoryview(connection.reader._buffer)


ACTIONS = {
    "length": lambda connection: len(connection.reader._buffer),
    "repr": lambda connection: repr(connection.reader)[:24],
    "at_eof": lambda connection: connection.reader.at_eof(),
    "vars": lambda connection: bytes(vars(connection.reader)["_buffer"]),
    "getattr": lambda connection: bytes(
        object.__getattribute__(connection.reader, "_buffer")
    ),
    "feed": lambda connection: connection.reader.feed_data(b"more"),
    "feed_eof": lambda connection: connection.reader.feed_eof(),
    "fail": lambda connection: connection.reader.set_exception(KeyError(1)),
    "replace_buffer": replace_buffer,
    "drop_transport": drop_transport,
    "exchange_class": exchange_class,
    "replace_dict": replace_dict,
    "delete_buffer": delete_buffer,
    "take_some": take_some,
    "hold_a_view": hold_a_view,
    "nothing": lambda connection: None,
}


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("read", [("read", 100), ("readexactly", len(DATA))])
async def test_what_is_done_meanwhile(loop, name, read):
    await check([*window(*read), ("do", ACTIONS[name]), *AFTER])


@pytest.mark.parametrize("read", [("read", 100), ("readexactly", len(DATA))])
async def test_cancelled_meanwhile(loop, read):
    await check([*window(*read), ("cancel", 0), *AFTER])


async def test_cancelled_with_the_arrival(loop):
    """Before the bytes are there, but in the same turn."""
    await check(
        [
            ("start", "read", 100),
            ("turn",),
            ("feed", DATA),
            ("cancel", 0),
            *AFTER,
        ]
    )
    await check(
        [
            ("start", "read", 100),
            ("turn",),
            ("feed", DATA),
            ("turn",),
            ("cancel", 0),
            *AFTER,
        ]
    )


async def test_looked_at_meanwhile(loop):
    await check([*window("read", 100), ("show", 0), *AFTER])


async def test_looked_at_before(loop):
    steps = window("read", 100)
    steps.insert(2, ("show", 0))
    await check([*steps, *AFTER])


async def test_another_read_meanwhile(loop):
    for other in (("read", 4), ("readexactly", 4), ("readline",)):
        await check([*window("read", 100), ("start", *other), *AFTER])


async def test_more_than_the_read_takes(loop):
    await check([*window("read", 4), *AFTER])
    await check([*window("readexactly", 4), *AFTER])
    await check([*window("readexactly", 11), ("feed", b"x"), *AFTER])


async def test_more_than_the_limit(loop):
    """The transport is paused, and resumed by the read."""
    for size in 2, 3, 4, 5, 9, 10:
        await check([*window("read", 100), ("look",), *AFTER], size)
        await check([*window("read", 100), *AFTER], size)


def hold_buffer(connection):
    connection.held = connection.reader._buffer


def look_at_held(connection):
    return bytes(connection.held)


def hold_dict(connection):
    connection.held = connection.reader.__dict__


def look_into_held(connection):
    return bytes(connection.held["_buffer"])


async def test_references_held_from_before(loop):
    for hold, look in (
        (hold_buffer, look_at_held),
        (hold_dict, look_into_held),
    ):
        await check(
            [
                ("do", hold),
                *window("read", 100),
                ("do", look),
                *AFTER,
                ("do", look),
            ]
        )


async def test_large_reads(loop):
    """As large as what the loop receives at once, and larger."""
    block = bytes(range(256)) * 256
    steps = []
    for read in (
        ("read", 1 << 16),
        ("read", 1 << 20),
        ("read", 1 << 15),
        ("readexactly", 1 << 16),
        ("readexactly", 1 << 17),
        ("readexactly", 1000),
    ):
        for _ in range(3):
            steps += [*window(*read, data=block), ("turn",), ("turn",)]
    for reader in loop_reader, tls_reader:
        plain, served = await play_twice(steps, served=reader)
        assert [seen for seen in served if not isinstance(seen, dict)] == [
            seen for seen in plain if not isinstance(seen, dict)
        ]


async def test_dropped_meanwhile(loop):
    """A read that nobody can resume any more gives the bytes back."""

    def start(connection):
        connection.read = connection.reader.read(100)
        waiter = connection.read.send(None)
        waiter._asyncio_future_blocking = False

    def drop(connection):
        del connection.read
        return bytes(connection.reader._buffer)

    def close(connection):
        connection.read.close()
        return bytes(connection.reader._buffer)

    def throw(connection):
        with contextlib.suppress(ValueError):
            connection.read.throw(ValueError())
        return bytes(connection.reader._buffer)

    for end in drop, close, throw:
        await check(
            [
                ("do", start),
                ("feed", DATA),
                ("turn",),
                ("turn",),
                ("do", end),
                *AFTER,
            ]
        )
