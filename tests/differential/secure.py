# SPDX-License-Identifier: MIT
"""Connections over TLS: transports, pairs of them, streams.

The far end is a TlsPeer, which speaks TLS in memory over a plain socket, so
that no call of it waits. It answers a handshake once in every turn.
"""

import asyncio
import contextlib
import functools
import ssl

from endpoints import AcceptedStream, MoreThings, Server, StreamServer
from record import show
from things import (
    BufferedRecorder,
    Connection,
    Data,
    Peer,
    Recorder,
    Stream,
    stream_pair,
)

from support.certificates import NAME, client_context, server_context

# Of handshakes and of goodbyes, in seconds of the clock that programs move.
TIMEOUT = 2
# Less than what a socket takes at once.
LARGEST = 100_000


@functools.cache
def context_of(is_server, kind):
    """One side's context; those of both sides belong together.

    new and old: TLS 1.3 and 1.2. untrusted: the client does not know who has
    signed the server. stranger: the server wants a certificate, and the client
    has none.
    """
    version = (
        ssl.TLSVersion.TLSv1_2 if kind == "old" else ssl.TLSVersion.TLSv1_3
    )
    if not is_server:
        known = "elsewhere" if kind == "untrusted" else NAME
        context = client_context(version, known)
        context.check_hostname = kind != "untrusted"
        return context
    context = server_context(version)
    context.num_tickets = 0  # they arrive when they please
    if kind == "stranger":
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def flush_socket(transport):
    """Have all sent that TLS has given to the transport below it."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.fileno()


@contextlib.contextmanager
def ending():
    """What CPython's close() raises when a callback of it has aborted."""
    try:
        yield
    except RuntimeError as exc:
        if "cannot switch state" not in str(exc):
            raise


class TlsPeer(Peer):
    """The far end of a connection over TLS."""

    def __init__(self, world, lane, sock, flush, is_server, kind):
        super().__init__(world, lane, sock, flush)
        self.data = Data(most=LARGEST)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context_of(is_server, kind).wrap_bio(
            self._incoming,
            self._outgoing,
            is_server,
            None if is_server else NAME,
        )
        self._unsent = b""
        self._is_over = False
        self._is_done = False
        self._has_failed = False

    def answer(self):
        """From now on, in every turn, until the handshake is over."""
        self._world.each_turn(self._is_answering)

    def _is_answering(self):
        self.handshake()
        return not self._is_done

    def handshake(self):
        """Do of the handshake what can be done now."""
        if self._is_done or self.sock.fileno() == -1:
            return
        self._flush()
        self._take()
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except OSError:
            self._has_failed = True
            self._end_handshake("handshake failed")
        else:
            self._end_handshake("handshake made")
        self._give()

    def _end_handshake(self, what):
        self._is_done = True
        self._note(what)

    def _take(self):
        """Give TLS what has arrived."""
        while not self._is_over:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._incoming.write(data)
            else:
                self._is_over = True
                self._incoming.write_eof()

    def _give(self):
        """Send what TLS has to say; the rest waits for the next call."""
        self._unsent += self._outgoing.read()
        try:
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = b""

    def send(self, data):
        self.handshake()
        try:
            self._tls.write(data)
        except OSError as exc:
            # An alert or none, see docs/differences.md.
            name = "" if self._has_failed else type(exc).__name__
            self._note(f"send failed {name}")
        else:
            self._note("sent")
        self._give()

    def recv(self, most=1 << 22):
        self._flush()
        self.handshake()
        parts = []
        # An alert or none, see docs/differences.md.
        state = "cut off" if self._has_failed else "open"
        while most > 0 and state == "open":
            self._take()
            try:
                data = self._tls.read(min(most, 65536))
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError:
                state, data = "cut off", b""
                self._has_failed = True
            else:
                state = state if data else "told the end"
            parts.append(data)
            most -= len(data)
        self._give()
        self._world.note(self._lane, f"received, {state}", b"".join(parts))

    def write_eof(self):
        """Say goodbye, as TLS does."""
        self._flush()
        self._take()
        with contextlib.suppress(OSError):
            self._tls.unwrap()
        self._give()

    def cut(self):
        """End without a goodbye."""
        self._flush()
        super().write_eof()

    def garble(self):
        """Send what is no TLS at all."""
        with contextlib.suppress(OSError):
            self.sock.send(b"GET / HTTP/1.0\r\n\r\n")


class TlsRecorder(Recorder):
    def connection_made(self, transport):
        try:
            return Recorder.connection_made(self, transport)
        except BaseException:
            # CPython closes it twice then: docs/differences.md.
            self._owner.transport = self._world.nothing
            raise


class ViewRecorder(BufferedRecorder):
    """Its buffer is a view: see docs/differences.md."""

    connection_made = TlsRecorder.connection_made

    def get_buffer(self, sizehint):
        return memoryview(super().get_buffer(sizehint))


class TlsConnection(Connection):
    """A transport over TLS; maybe a plain one, upgraded."""

    def __init__(self, world, lane, sock, how, buffer, kind):
        super().__init__(world, lane, sock, how, buffer)
        self.transport = world.nothing
        self.data = Data(most=LARGEST)
        self._kind = kind
        self._is_server = "accepted" in how
        self.by_hand = False
        self._connecting = None

    def _make_protocol(self, lane, buffer):
        if buffer:
            return ViewRecorder(self._world, lane, self, buffer)
        return TlsRecorder(self._world, lane, self)

    async def create(self):
        if self.by_hand:
            self._connecting = self._world.loop.create_task(self._create())
        else:
            self.peer.answer()
            await self._create()

    async def _create(self):
        try:
            await self._connect()
        except BaseException as exc:
            # CPython has closed it twice: docs/differences.md.
            self.transport = self._world.nothing
            self._world.note(self.lane, f"is not connected: {show(exc)}")
            if not isinstance(exc, Exception):
                raise
        else:
            self._world.note(self.lane, "is connected")

    def give_up(self):
        """Cancel what connects it."""
        self._connecting.cancel()

    def _tls(self):
        name = {} if self._is_server else {"server_hostname": NAME}
        return {
            "ssl_handshake_timeout": TIMEOUT,
            "ssl_shutdown_timeout": TIMEOUT,
            **name,
        }

    async def _connect(self):
        loop = self._world.loop
        context = context_of(self._is_server, self._kind)
        if "upgraded" in self._how:
            plain, _ = await loop.create_connection(
                lambda: self.protocol, sock=self._sock
            )
            made = await loop.start_tls(
                plain,
                self.protocol,
                context,
                server_side=self._is_server,
                **self._tls(),
            )
            # Lost meanwhile, CPython's is None: docs/differences.md.
            is_lost = made is None or made.is_closing()
            self.transport = self._world.nothing if is_lost else made
            return
        make = (
            loop.connect_accepted_socket
            if self._is_server
            else functools.partial(
                loop.create_connection, server_hostname=NAME
            )
        )
        options = self._tls()
        options.pop("server_hostname", None)
        await make(
            lambda: self.protocol, sock=self._sock, ssl=context, **options
        )

    def is_made(self):
        return self.transport is not self._world.nothing

    def is_over(self):
        return False

    def write_eof(self):
        if self.is_secure():
            self._world.tried(self.transport.write_eof)

    def close(self):
        # Closed twice, CPython's fails: docs/differences.md.
        if self.is_secure() and not self.transport.is_closing():
            with ending():
                super().close()

    def can_send_file(self):
        return self.is_secure() and super().can_send_file()

    def write(self, size):
        # The far end knows nothing but TLS.
        if self.is_secure():
            super().write(size)

    def limit(self, *marks):
        if not self.is_gone():
            self.transport.set_write_buffer_limits(*marks)

    def swap(self, buffer=0):
        """Go on with another protocol."""
        if self.is_secure():
            self.transport.set_protocol(self.new_protocol(buffer))

    def is_secure(self):
        """Of an upgraded connection, the transport is a plain one at first."""
        return hasattr(self.transport, "get_read_buffer_size")

    def writelines(self, *sizes):
        if self.is_secure() and not self.is_sending():
            self.transport.writelines([self.data(size) for size in sizes])

    def is_gone(self):
        """CPython's has no protocol any more, and counts what was lost."""
        if not self.is_made() or self.is_lost:
            return True
        sock = self.transport.get_extra_info("socket")
        return sock is None or sock.fileno() == -1

    def is_pending(self):
        if self.is_gone():
            return False
        return self.transport.get_write_buffer_size() > 0

    def flush(self):
        self.is_pending()
        if self.is_made():
            flush_socket(self.transport)

    def info(self):
        """What is known of the other side."""
        ask = self.transport.get_extra_info
        cipher, certificate = ask("cipher"), ask("peercert")
        self._world.note(self.lane, f"{show(cipher)} {bool(certificate)}")

    def state(self):
        if not self.is_made():
            return "never made"
        closing = "closing" if self.transport.is_closing() else "open"
        pending = ", data pending" if self.is_pending() else ""
        fd = "no fd" if self._sock.fileno() == -1 else "an fd"
        return f"{closing}, {fd}{pending}"

    def abort(self):
        if self.is_made():
            super().abort()


class TlsStream(Stream):
    """A reader and a writer over TLS."""

    async def create(self):
        self.peer.answer()
        self.reader, self.writer = await asyncio.open_connection(
            sock=self._sock,
            limit=self._limit,
            ssl=context_of(False, "new"),
            server_hostname=NAME,
            ssl_shutdown_timeout=TIMEOUT,
        )
        self.data = Data(most=LARGEST)
        self._world.note(self.lane, "is connected")

    def writelines(self, *sizes):
        self.writer.writelines([self.data(size) for size in sizes])

    def flush(self):
        if self.writer is not None:
            super().flush()
            flush_socket(self.writer)

    def close(self):
        if not self.writer.is_closing():
            self.writer.close()

    def state(self):
        if self.writer is None:
            return "never made"
        closing = "closing" if self.writer.is_closing() else "open"
        end = "" if self.reader.at_eof() else " not"
        fd = "no fd" if self._sock.fileno() == -1 else "an fd"
        return f"{closing}, {fd},{end} at its end"


class PlainStream(TlsStream):
    """One that becomes a TlsStream when the program says so."""

    _is_upgraded = False

    async def create(self):
        await Stream.create(self)

    async def start_tls(self):
        if self._is_upgraded:
            return
        self._is_upgraded = True
        self.peer.answer()
        writer, before = self.writer, self.writer.transport
        try:
            await writer.start_tls(
                context_of(False, "new"),
                server_hostname=NAME,
                ssl_handshake_timeout=TIMEOUT,
            )
        except AttributeError:
            if writer.transport is not None:
                raise
        if writer.transport is None or writer.is_closing():
            # Lost meanwhile, CPython's is None: docs/differences.md.
            writer._transport = writer.transport or before
            self.writer = self._world.nothing

    def flush(self):
        if self.writer is not self._world.nothing:
            super().flush()

    def writelines(self, *sizes):
        if hasattr(self.writer.transport, "get_read_buffer_size"):
            super().writelines(*sizes)
        else:
            Stream.writelines(self, *sizes)

    def state(self):
        if self.writer is self._world.nothing:
            return "lost"
        return super().state()


class AcceptedOverTls(TlsConnection):
    """A connection that a TLS server has accepted."""

    def __init__(self, world, lane):
        super().__init__(world, lane, None, "accepted", 0, "new")

    def state(self):
        if not self.is_made():
            return "never made"
        return "closing" if self.transport.is_closing() else "open"


class OverTls:
    """What makes a server speak TLS; its clients are TlsPeers."""

    async def _serve(self, **where):
        return await super()._serve(
            ssl=context_of(True, "new"),
            ssl_handshake_timeout=TIMEOUT,
            ssl_shutdown_timeout=TIMEOUT,
            **where,
        )

    def _make_peer(self, lane, sock):
        peer = TlsPeer(self._world, lane, sock, self.flush, False, "new")
        peer.answer()
        return peer


class TlsServer(OverTls, Server):
    def _make_accepted(self):
        return AcceptedOverTls(self._world, self.new_lane())

    def _are_all_made(self):
        return all(each.is_made() for each in self.accepted)


class AcceptedTlsStream(AcceptedStream):
    """Of one that is closing nothing is asked.

    asyncio itself closes it twice, and CPython's fails then:
    docs/differences.md.
    """

    def write(self, size):
        if not self.writer.is_closing():
            super().write(size)

    def flush(self):
        if not self.writer.is_closing():
            super().flush()
            flush_socket(self.writer)

    def is_over(self):
        return not self.writer.is_closing() and super().is_over()

    def state(self):
        closing = "closing" if self.writer.is_closing() else "open"
        return f"{closing}, {'' if self.reader.at_eof() else 'not '}at its end"


class TlsStreamServer(OverTls, StreamServer):
    accepted_type = AcceptedTlsStream


class SecureThings(MoreThings):
    """Makes these, next to those of MoreThings."""

    def tls(self, lane, over, how, buffer=0, kind="new", by_hand=False):
        """A connection whose far end is a TlsPeer."""
        sock, far = stream_pair(over)
        thing = TlsConnection(self, lane, sock, how, buffer, kind)
        thing.by_hand = by_hand
        thing.peer = self._add_tls_peer(
            thing, far, "accepted" not in how, kind
        )
        thing.peer.keep_while(thing.is_sending)
        return self._add(thing)

    def tls_pair(self, lanes, over, buffer=0, kind="new"):
        """Two connections of the loop, to each other."""
        things = [
            TlsConnection(self, lane, sock, how, buffer, kind)
            for lane, sock, how in zip(
                lanes, stream_pair(over), ("connection", "accepted")
            )
        ]
        for thing in things:
            thing.by_hand = True
        self._things += things
        return things

    def tls_stream(self, lane, over, limit=64, is_plain=False):
        sock, far = stream_pair(over)
        kind = PlainStream if is_plain else TlsStream
        thing = kind(self, lane, sock, limit)
        thing.peer = self._add_tls_peer(thing, far, True, "new")
        return self._add(thing)

    def tls_server(self, lane, over="unix"):
        return self._add_server(TlsServer(self, lane, over))

    def tls_stream_server(self, lane, over="unix", does="talk"):
        return self._add_server(TlsStreamServer(self, lane, over, does))

    def _add_tls_peer(self, thing, sock, is_server, kind):
        peer = TlsPeer(
            self, f"{thing.lane}.peer", sock, thing.flush, is_server, kind
        )
        self.keep_peer(peer)
        return peer
