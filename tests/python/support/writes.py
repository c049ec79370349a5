# SPDX-License-Identifier: MIT
"""Ways to write to a stream transport, as each leads to a flush of its own."""


def write_much(transport):
    transport.write(bytearray(20_000))


def write_past_the_limit(transport):
    transport.set_write_buffer_limits(high=10)
    transport.write(b"more than that")


def write_and_look(transport):
    transport.write(b"a little")
    transport.get_write_buffer_size()
