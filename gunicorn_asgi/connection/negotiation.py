"""What is spoken on an accepted socket."""

import asyncio
import functools
from collections.abc import Callable
from typing import Final, TypeVar

from ..errors import RemoteProtocolError
from ..wire.http2_frames import PREFACE
from .clock import NEVER
from .context import ServingContext
from .http import HttpConnection
from .http1 import Http1Connection
from .http2 import Http2Connection
from .transport import TransportProtocol

_PREFACE_LINE: Final = PREFACE[:16]
"""`PRI * HTTP/2.0`: no request of HTTP/1 begins so (RFC 9113 section 3.4)."""

ConnectionT = TypeVar("ConnectionT", bound=HttpConnection)


def protocol_factory(context: ServingContext) -> Callable[[], asyncio.Protocol]:
    """Makes the protocol of one accepted socket."""
    settings = context.settings
    if settings.http2 or settings.http2_cleartext in ("prior-knowledge", "both"):
        return functools.partial(Negotiation, context)
    return functools.partial(Http1Connection, context)


class Negotiation(TransportProtocol):
    """Stands in until it is known which version of HTTP a client speaks: by ALPN, or by its first bytes."""

    __slots__ = ("_received", "deadline")

    def __init__(self, context: ServingContext) -> None:
        super().__init__(context)
        self._received = b""
        self.deadline = context.clock.deadline(context.settings.header_timeout_seconds)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        context = self._context
        settings = context.settings
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            is_http2 = settings.http2 and tls.selected_alpn_protocol() == "h2"
            self._hand_over(Http2Connection if is_http2 else Http1Connection)
        elif settings.http2_cleartext in ("prior-knowledge", "both") and (
            settings.http2_cleartext_peers == "all" or self.peer_is_trusted
        ):
            context.connections.add(self)
        else:
            self._hand_over(Http1Connection)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        if received.startswith(_PREFACE_LINE):
            self._hand_over(Http2Connection)
        elif not _PREFACE_LINE.startswith(received):
            if self._context.settings.http2_cleartext == "prior-knowledge":
                # Gunicorn documents that a peer which is expected to speak HTTP/2 gets no HTTP/1, which would only hide
                # a mistake in its configuration.
                self._begin(Http1Connection).refuse(RemoteProtocolError(400, "no-http2-preface"), received)
            else:
                self._hand_over(Http1Connection)

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline = NEVER
        self._context.remove_connection(self)

    def _begin(self, version: type[ConnectionT]) -> ConnectionT:
        """Let another protocol take the place of this one."""
        protocol = version(self._context)
        self._context.connections.discard(self)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        return protocol

    def _hand_over(self, version: type[HttpConnection]) -> None:
        protocol = self._begin(version)
        if self._received:
            protocol.data_received(self._received)

    def on_deadline(self) -> None:
        """See `WatchedConnection.on_deadline`."""
        self.close()

    def begin_drain(self) -> None:
        """See `WatchedConnection.begin_drain`: whichever version it will be finds the worker draining."""

    def end_grace(self) -> None:
        """See `WatchedConnection.end_grace`."""
        if not self.has_unread_input():
            self.close()

    def close(self) -> None:
        """See `WatchedConnection.close`."""
        self.deadline = NEVER
        self._transport.close()
