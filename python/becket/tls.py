# SPDX-License-Identifier: MIT
"""TLS over connections.

asyncio: the arguments ssl, server_hostname and so on; loop.start_tls().
"""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from becket import _core, versions
from becket.base import LoopBase

if TYPE_CHECKING:
    import ssl as ssl_module
else:
    try:
        import ssl as ssl_module
    except ImportError:
        ssl_module = None


class Tls:
    """What a connection with ssl= is made with; None does without."""

    def __init__(
        self,
        ssl: Any,
        *,
        is_server: bool,
        server_hostname: str | None = None,
        handshake_timeout: float | None = None,
        shutdown_timeout: float | None = None,
    ) -> None:
        self.context = None if isinstance(ssl, bool) else ssl
        self.is_server: Final = is_server
        self.server_hostname: Final = server_hostname
        self.handshake_timeout: Final = handshake_timeout
        self.shutdown_timeout: Final = shutdown_timeout

    def protocol(
        self,
        loop: LoopBase,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[Any]",
        call_connection_made: bool = True,
    ) -> "_core.SSLProtocol":
        """The protocol to put between a transport and this protocol."""
        if ssl_module is None:
            raise RuntimeError("stdlib ssl module not available")
        context = self.context or _default_context(
            self.is_server, self.server_hostname
        )
        return _core.SSLProtocol(
            loop,
            protocol,
            context,
            waiter,
            self.is_server,
            self.server_hostname,
            call_connection_made,
            self.handshake_timeout,
            self.shutdown_timeout,
        )


def _default_context(
    is_server: bool, server_hostname: str | None
) -> "ssl_module.SSLContext":
    if is_server:
        raise ValueError("Server side SSL needs a valid SSLContext")
    context = ssl_module.create_default_context()
    if not server_hostname:
        context.check_hostname = False
    return context


def _take_kept(protocol: asyncio.BaseProtocol) -> bytes:
    """What a StreamReader has received of the handshake already."""
    if not versions.START_TLS_TAKES_BUFFER or not isinstance(
        protocol, asyncio.StreamReaderProtocol
    ):
        return b""
    buffer: bytearray | None = getattr(
        getattr(protocol, "_stream_reader", None), "_buffer", None
    )
    if not buffer:
        return b""
    kept = bytes(buffer)
    buffer.clear()
    return kept


class TlsMixin(LoopBase):
    """start_tls()."""

    async def start_tls(
        self,
        transport: asyncio.WriteTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: "ssl_module.SSLContext",
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport | None:
        """Go on with TLS on a connection.

        Returns the transport that protocol has from now on; None if the
        connection was closed meanwhile.
        """
        if ssl_module is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, ssl_module.SSLContext):
            raise TypeError(
                "sslcontext is expected to be an instance of ssl.SSLContext,"
                f" got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(
                f"transport {transport!r} is not supported by start_tls()"
            )
        waiter = self.create_future()
        tls = Tls(
            sslcontext,
            is_server=server_side,
            server_hostname=server_hostname,
            handshake_timeout=ssl_handshake_timeout,
            shutdown_timeout=ssl_shutdown_timeout,
        ).protocol(self, protocol, waiter, call_connection_made=False)
        # Nothing may come before connection_made().
        lower: Any = transport
        lower.pause_reading()
        lower.set_protocol(tls)
        made = self.call_soon(tls.connection_made, transport)
        kept = _take_kept(protocol) if server_side else b""
        if kept:
            self.call_soon(tls._feed, kept)
        resumed = self.call_soon(lower.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            made.cancel()
            resumed.cancel()
            del waiter  # it has the exception, which has this frame
            raise
        return tls._app_transport
