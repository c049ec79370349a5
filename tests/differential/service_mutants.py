# SPDX-License-Identifier: MIT
"""Loops that are broken on purpose: TLS, subprocesses, servers, files.

As those of mutants.py, which has the rest.
"""

import asyncio
import contextlib
import ssl
from asyncio import base_events, base_subprocess, sslproto

from mutants import (
    HARMLESS,
    KINDS,
    LOOP,
    MUTANTS,
    TRANSPORT,
    becket_mutant,
    mutant,
    with_connections,
)

import becket.subprocesses
from support.loops import make_loop

__all__ = ["HARMLESS", "KINDS", "MUTANTS"]

TLS = sslproto.SSLProtocol
CHILD = base_subprocess.BaseSubprocessTransport
SERVER = base_events.Server
# The kinds of programs that can notice them.
TLS_KINDS = ("tls", "tls_stream")
CHILD_KINDS = ("child", "process")
SERVER_KINDS = ("server", "stream_server")

# --- TLS ---


@mutant(TLS, "_do_shutdown", kinds=TLS_KINDS)
def close_notify_lost(original, count, self):
    self._on_shutdown_complete(None)


@mutant(TLS, "_do_write", kinds=TLS_KINDS)
def record_lost(original, count, self):
    if next(count) % 3 == 0 and self._write_backlog:
        self._write_buffer_size -= len(self._write_backlog.popleft())
    original(self)


@mutant(TLS, "_call_eof_received", kinds=TLS_KINDS)
def goodbye_not_told(original, count, self):
    pass


@mutant(TLS, "_check_handshake_timeout", kinds=TLS_KINDS)
def handshake_without_limit(original, count, self):
    pass


@mutant(TLS, "_check_shutdown_timeout", kinds=TLS_KINDS)
def goodbye_without_limit(original, count, self):
    pass


@mutant(TLS, "connection_lost", kinds=TLS_KINDS)
def tls_loss_not_told(original, count, self, exc):
    if self._app_state is sslproto.AppProtocolState.STATE_CON_MADE:
        self._app_state = sslproto.AppProtocolState.STATE_CON_LOST
    original(self, exc)


@mutant(TLS, "_fatal_error", kinds=TLS_KINDS)
def tls_error_forgotten(original, count, self, exc, message="x"):
    if self._transport is not None:
        self._transport._force_close(None)


@mutant(TLS, "_control_app_writing", kinds=TLS_KINDS)
def tls_never_paused(original, count, self):
    pass


@mutant(TLS, "_resume_reading", kinds=TLS_KINDS)
def tls_never_resumed(original, count, self):
    pass


@mutant(TLS, "_start_shutdown", kinds=TLS_KINDS)
def tls_close_aborts(original, count, self):
    self._abort(None)


@mutant(TLS, "_do_read__copied", kinds=TLS_KINDS)
def tls_reads_one_record(original, count, self):
    with contextlib.suppress(ssl.SSLWantReadError):
        chunk = self._sslobj.read(self.max_size)
        if chunk:
            self._app_protocol.data_received(chunk)
            self._loop.call_soon(self._do_read)
        else:
            self._start_shutdown()


# --- subprocesses ---


@mutant(CHILD, "_process_exited", kinds=CHILD_KINDS)
def exit_code_swapped(original, count, self, returncode):
    original(self, returncode ^ 1)


@mutant(CHILD, "_pipe_data_received", kinds=CHILD_KINDS)
def outputs_swapped(original, count, self, fd, data):
    original(self, 3 - fd, data)


@mutant(CHILD, "_pipe_connection_lost", kinds=CHILD_KINDS)
def end_of_output_not_told(original, count, self, fd, exc):
    self._try_finish()


@mutant(CHILD, "kill", kinds=CHILD_KINDS)
def kill_only_asks(original, count, self):
    self.terminate()


@mutant(CHILD, "_call_connection_lost", kinds=CHILD_KINDS)
def child_lost_twice(original, count, self, exc):
    self._protocol.connection_lost(exc)
    original(self, exc)


@mutant(CHILD, "_try_finish", kinds=CHILD_KINDS)
def child_ends_with_its_process(original, count, self):
    if self._returncode is not None and not self._finished:
        self._finished = True
        self._call(self._call_connection_lost, None)


# --- servers ---


@mutant(TRANSPORT, "_call_connection_lost", kinds=SERVER_KINDS)
def loss_of_accepted_not_told(original, count, self, exc):
    if self._server is not None:
        self._protocol.connection_lost = lambda exc: None
    original(self, exc)


@mutant(SERVER, "_detach", kinds=SERVER_KINDS)
def closed_server_waits_for_ever(original, count, self, *transport):
    pass


@mutant(SERVER, "close", kinds=SERVER_KINDS)
def closed_server_accepts(original, count, self):
    self._serving = False


@mutant(SERVER, "is_serving", kinds=SERVER_KINDS)
def server_always_serves(original, count, self):
    return True


@mutant(SERVER, "start_serving", kinds=SERVER_KINDS)
async def server_never_starts(original, count, self):
    await asyncio.sleep(0)


# --- files ---


@mutant(LOOP, "sock_sendfile", kinds=("transport",))
async def file_cut(original, count, self, sock, file, offset, size, **how):
    return await original(self, sock, file, offset, max(1, size - 1), **how)


# --- becket's own ---

BECKET_CHILD = becket.subprocesses._UnixSubprocessTransport


def becket_loop():
    return make_loop("epoll")


@mutant(BECKET_CHILD, "_process_exited", kinds=CHILD_KINDS, make=becket_loop)
def becket_exit_code_swapped(original, count, self, returncode):
    original(self, returncode ^ 1)


@mutant(
    BECKET_CHILD, "_pipe_data_received", kinds=CHILD_KINDS, make=becket_loop
)
def becket_output_lost(original, count, self, fd, data):
    if next(count) % 2:
        original(self, fd, data)


@mutant(BECKET_CHILD, "_try_finish", kinds=CHILD_KINDS, make=becket_loop)
def becket_child_never_lost(original, count, self):
    pass


@becket_mutant(TLS_KINDS)
def becket_close_notify_lost(base):
    class Transport:
        def __init__(self, transport):
            self._real = transport

        def __getattr__(self, name):
            return getattr(self._real, name)

        def close(self):
            self._real.abort()

    def change(transport, protocol):
        protocol._owner.transport = Transport(transport)
        return transport, protocol

    return with_connections(base, change)


@becket_mutant(SERVER_KINDS)
def becket_loss_of_accepted_not_told(base):
    def deaf(factory):
        def make():
            protocol = factory()
            protocol.connection_lost = lambda exc: None
            return protocol

        return make

    class Broken(base):
        async def create_server(self, factory, *args, **kwargs):
            return await super().create_server(deaf(factory), *args, **kwargs)

        async def create_unix_server(self, factory, *args, **kwargs):
            return await super().create_unix_server(
                deaf(factory), *args, **kwargs
            )

    return Broken
