"""One HTTP/1 connection: bytes in, exchanges one after the other, bytes out.

Reading goes through these states. Only `data_received` and what it calls change them, and the end of a response.

    HEAD ----head----> BODY ----end of body----> AHEAD ----end of response----> HEAD
      \\____________________________________________/
    response ends in BODY: DISCARD the rest of the body ----> HEAD, or LINGER where there is too much of it
    a refusal, or a response that closes while input may follow: LINGER ----> closed

In AHEAD the request is whole and its response is not: what arrives now belongs to the next request and waits.
"""

import asyncio
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from ..asgi_types import Address, Field
from ..errors import ClientDisconnected, RemoteProtocolError
from ..proxy import UNSEEN
from ..scope import build_http_scope
from ..wire.headers import accepts_trailers, join_repeated
from ..wire.http1_body import BodyDecoder, body_decoder
from ..wire.http1_request import HEAD_END, NO_FIELDS, FieldSection, IncompleteHead, read_request_head, skip_empty_lines
from ..wire.http1_response import CONTINUE, plain_answer
from ..wire.http2_request import UNKNOWN_LENGTH as UNKNOWN_CONTENT_LENGTH
from ..wire.http2_upgrade import SWITCHING, http2_settings, upgraded_headers
from ..wire.websocket_handshake import Handshake, asks_for_websocket, read_http1_handshake
from .clock import NEVER
from .context import MEMORY_SECONDS, ServingContext
from .exchange import Exchange, ExchangeState
from .http1_writing import ResponseWriter
from .http2 import Http2Connection
from .websocket import WebSocketConnection
from .websocket_exchange import WebSocketExchange

_MAX_KNOWN_FIELDS_BYTES: Final = 4 * 1024
"""Of a head whose fields are kept for the next request. A browser's is under 2 KiB."""

_NO_ORIGIN: Final[tuple[Address | None, str]] = (None, "")


class Reading(Enum):
    """What the next bytes are."""

    HEAD = auto()
    BODY = auto()
    AHEAD = auto()
    DISCARD = auto()
    LINGER = auto()


_HEAD: Final = Reading.HEAD
_BODY: Final = Reading.BODY
_AHEAD: Final = Reading.AHEAD
_DISCARD: Final = Reading.DISCARD
_LINGER: Final = Reading.LINGER


class Http1Connection(ResponseWriter):
    """The protocol of one accepted socket. It is also the `ResponseStream` of its one running exchange."""

    __slots__ = (
        "_body",
        "_exchange",
        "_incomplete_head",
        "_known_fields",
        "_known_origin",
        "_pending",
        "_reading",
    )

    def __init__(self, context: ServingContext) -> None:
        super().__init__(context)
        self._reading = _HEAD
        self._pending = b""
        self._incomplete_head = IncompleteHead(context.head_limits)
        self._body: BodyDecoder | None = None
        self._exchange: Exchange | None = None
        self._known_fields = NO_FIELDS
        self._known_origin = _NO_ORIGIN
        self.deadline = context.clock.deadline(context.settings.header_timeout_seconds)

    # Transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._context.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._reading is not _HEAD:
            self._receive_other(data)
            return
        search_from = 0
        if self._pending:
            search_from = max(len(self._pending) - 3, 0)
            if len(data) > self._context.head_limits.head_bytes:
                data = self._cut_too_large(data)
            data = self._pending + data
        context = self._context
        try:
            if data[0] == 13:  # CR
                head = skip_empty_lines(data)
                if not head:
                    self._await_head(data)
                    return
                data, search_from = head, 0
            end = data.find(HEAD_END, search_from) + 4
            if end < 4:
                self._await_head(data)
                self._incomplete_head.check(data)
                return
            rest = b""
            if end != len(data):
                data, rest = data[:end], data[end:]
            known = self._known_fields
            method, uri, path, raw_path, query, section = read_request_head(
                data, context.field_parser, context.head_limits, known
            )
            if context.casefold_methods:
                method = method.upper()
            _, http_version, headers, fields, body_length, keep_alive, expects_continue = section
            headers = headers.copy()
            root_path = context.root_path
            handshake = None
            if section is known:
                client, scheme = self._known_origin
            elif b"upgrade" in fields and self._switch_to_http2(method, uri, path, raw_path, query, section, rest):
                return
            else:
                client, scheme, root_path, handshake = self._read_new_fields(method, section, headers, len(data))
        except RemoteProtocolError as error:
            self.refuse(error, data)
            return
        self.deadline = NEVER
        self._http_version = http_version
        self._keep_alive = keep_alive and context.keep_alive
        extensions = self._extensions.copy()
        if http_version == "1.0":
            del extensions["http.response.early_hint"]
        elif b"te" in fields and accepts_trailers(fields):
            extensions["http.response.trailers"] = {}
        server, state = self._server, context.state
        scope = build_http_scope(
            method, http_version, path, raw_path, query, headers, client, server, scheme, root_path, state, extensions
        )
        name = f"{method} {path}"
        if handshake is None:
            self._exchange = Exchange(context, self, scope, fields, method, uri, name, body_length != 0)
        else:
            self._exchange = WebSocketExchange(context, self, scope, fields, method, uri, name, handshake)
        if body_length:
            self._continue_wanted = expects_continue and not rest
            self._begin_body(body_length, rest)
        else:
            self._reading = _AHEAD
            self._pending = rest
            if rest:
                self._limit_pending()

    def _read_new_fields(
        self, method: str, section: FieldSection, headers: list[Field], head_bytes: int
    ) -> tuple[Address | None, str, str, Handshake | None]:
        """Client, scheme, root path and WebSocket handshake of a request whose fields differ from the last one's. They
        are kept for the next. `headers` lose what must not reach the application. Raises RemoteProtocolError."""
        context = self._context
        _, http_version, _, fields, body_length, _, _ = section
        client, scheme, root_path, shape, handshake = self._client, self._scheme, context.root_path, None, None
        # Host alone says nothing, and is quicker to see.
        if len(fields) > 1 or b"host" not in fields:
            shape = self._shapes.get(tuple(fields), UNSEEN)
            if shape is not None:
                client, scheme, root_path = self._forwarded(headers, fields, shape)
            if b"upgrade" in fields and context.settings.websockets and asks_for_websocket(fields, http_version):
                handshake = read_http1_handshake(
                    method, fields, body_length, per_message_deflate=context.settings.ws_per_message_deflate
                )
        # Fields with an underscore may have been dropped, or have changed more than the origin. Large ones would make
        # idle connections expensive.
        may_change = (
            handshake is not None
            or (shape is not None and shape.has_underscore)
            or head_bytes > _MAX_KNOWN_FIELDS_BYTES
        )
        self._known_fields = NO_FIELDS if may_change else section
        self._known_origin = client, scheme
        return client, scheme, root_path, handshake

    def _switch_to_http2(
        self, method: str, uri: str, path: str, raw_path: bytes, query: bytes, section: FieldSection, rest: bytes
    ) -> bool:
        """Go on as HTTP/2 where the request asks for it and the settings allow it (`Upgrade: h2c`)."""
        context, transport = self._context, self._transport
        settings = context.settings
        _, http_version, headers, fields, body_length, _, _ = section
        if settings.http2_cleartext not in ("upgrade", "both") or self._scheme == "https":
            return False
        if settings.http2_cleartext_peers == "trusted" and not self.peer_is_trusted:
            return False
        payload = http2_settings(fields, http_version, body_length)
        if payload is None:
            return False
        transport.write(SWITCHING)
        context.connections.discard(self)
        self._pending = b""
        self._reading = _LINGER
        headers = upgraded_headers(headers)
        connection = Http2Connection(context)
        transport.set_protocol(connection)
        head = method, path, raw_path, query, headers, join_repeated(headers), UNKNOWN_CONTENT_LENGTH, b"", uri
        connection.begin_upgraded(transport, payload, head)
        if rest:
            connection.data_received(rest)
        return True

    def _receive_other(self, data: bytes) -> None:
        if self._reading is _BODY:
            self._receive_body(data)
        elif self._reading is _AHEAD:
            self._pending += data
            self._limit_pending()
        else:
            self._receive_unwanted(data)

    def eof_received(self) -> bool:
        """Keep the sending side open while a response is owed (RFC 9112 section 9.6: a client may half-close)."""
        self._half_closed = True
        if self._scheme == "https":
            return False  # TLS has no half-closed connections; asyncio would warn about True.
        if self._reading is _AHEAD:
            self.deadline = self._context.clock.deadline(self._context.settings.linger_seconds)
            return True
        if self._exchange is not None:
            # Without its end a body is not a request that may be answered.
            self._exchange.on_disconnect()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        context = self._context
        context.remove_connection(self)
        context.unsent.discard(self)
        self.deadline = NEVER
        self._reading = _LINGER
        self._pending = b""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.on_disconnect()
        self.write_gate.open()

    # Reading

    def _await_head(self, data: bytes) -> None:
        """Keep the beginning of a head. Its clock starts with its first byte and is not reset by more of them."""
        if not self._pending:
            self.deadline = self._context.clock.deadline(self._context.settings.header_timeout_seconds)
            self._incomplete_head = IncompleteHead(self._context.head_limits)
        self._pending = data

    def _cut_too_large(self, data: bytes) -> bytes:
        """`data`, which is larger than a head may be, without what need not be copied to refuse it."""
        head_bytes = self._context.head_limits.head_bytes
        return data if HEAD_END in self._pending[-3:] + data[:head_bytes] else data[:head_bytes]

    def _begin_body(self, body_length: int, rest: bytes) -> None:
        self._pending = b""
        self._body = body_decoder(body_length, self._context.head_limits)
        self._reading = _BODY
        if rest:
            self._receive_body(rest)

    def _receive_body(self, data: bytes) -> None:
        exchange, decoder = self._exchange, self._body
        assert exchange is not None and decoder is not None
        self._continue_wanted = False
        try:
            content = decoder.feed(data)
        except RemoteProtocolError as error:
            self.refuse(error)
            return
        self.deadline = NEVER  # Whoever still waits sets it anew.
        if decoder.complete:
            self._body = None
            self._reading = _AHEAD
            self._pending = decoder.rest
        untaken_bytes = exchange.on_body(content, decoder.complete)
        if untaken_bytes >= self._context.settings.read_buffer_bytes:
            self._pause_reading()
        else:
            self._limit_pending()

    def _receive_unwanted(self, data: bytes) -> None:
        """Bytes of a body that nobody read, or behind a response that closes the connection."""
        if self._reading is _LINGER:
            self._discard(data)
            return
        self._discarded_bytes += len(data)
        decoder = self._body
        assert decoder is not None
        try:
            decoder.feed(data)
        except RemoteProtocolError as error:
            self._log_refusal(error)
            self._linger()
            return
        if decoder.complete:
            self._body = None
            self._reading = _AHEAD
            self._pending = decoder.rest
            self._begin_next()
        elif self._discarded_bytes > self._context.settings.linger_bytes:
            self._linger()

    def _limit_pending(self) -> None:
        """Read on behind a request, since only a read shows that a client has gone, but not without end."""
        if len(self._pending) >= self._context.settings.read_buffer_bytes:
            self._pause_reading()

    # The rest of the response stream of the running exchange

    def on_body_wanted(self) -> None:
        """See `ResponseStream.on_body_wanted`."""
        if self._continue_wanted and self._exchange is not None and not self._exchange.head_sent:
            self._continue_wanted = False
            self._transport.write(CONTINUE)
        if self.deadline is NEVER:
            self.deadline = self._context.clock.deadline(self._context.settings.body_timeout_seconds)

    def on_body_taken(self) -> None:
        """See `ResponseStream.on_body_taken`."""
        if len(self._pending) < self._context.settings.read_buffer_bytes:
            self._resume_reading()

    def accept_websocket(self, fields: Sequence[Field]) -> None:
        """See `WebSocketStream.accept_websocket`."""
        if self._reading is not _AHEAD:
            raise ClientDisconnected("the connection has been closed")
        self._transport.write(self._context.encoder.encode_switching(b"websocket", fields))

    def begin_websocket(self, websocket: WebSocketConnection) -> None:
        """See `WebSocketStream.begin_websocket`."""
        context, transport = self._context, self._transport
        self._resume_reading()
        context.connections.discard(self)
        context.unsent.discard(self)
        data, self._pending = self._pending, b""
        self._exchange = None
        self._reading = _LINGER
        transport.set_protocol(websocket)
        websocket.begin(transport, data)
        if self.write_gate.closed:
            websocket.pause_writing()
        if self._half_closed and not transport.is_closing():
            websocket.eof_received()
            transport.close()

    # Ends

    def _end_response(self) -> None:
        self._exchange = None
        if self._reading is _AHEAD:
            if self._keep_alive and not self._half_closed and not self._pending and not self._reading_paused:
                self._reading = _HEAD
                self.deadline = self._context.idle_deadline
            elif self._keep_alive and (self._pending or not self._half_closed):
                self._schedule_next()
            elif self._pending:
                self._linger()
            else:
                self.close()
        elif self._keep_alive:
            self._reading = _DISCARD
            self.deadline = self._context.clock.deadline(self._context.settings.linger_seconds)
            self._resume_reading()
        else:
            self._linger()

    def _schedule_next(self) -> None:
        """Go on with the bytes that have come behind a request, but not at once: this runs inside the send() of the
        application whose response has just ended. Until then the connection stays in AHEAD, so that bytes which arrive
        meanwhile queue up behind the others."""
        self._context.loop.call_soon(self._begin_next, context=self._context.task_context)

    def _begin_next(self) -> None:
        if self._reading is not _AHEAD or self._transport.is_closing():
            return
        self._reading = _HEAD
        self._discarded_bytes = 0
        self.deadline = self._context.idle_deadline
        data, self._pending = self._pending, b""
        self._resume_reading()
        if data:
            self.data_received(data)
        if self._reading is _HEAD and self._half_closed:
            self.close()

    def refuse(self, error: RemoteProtocolError, head: bytes = b"") -> None:
        """Answer what cannot be served, or no longer, and let go of the connection. `head` is what has come of a
        request that is no exchange yet."""
        self._log_refusal(error)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            head_sent = exchange.head_sent
            exchange.on_disconnect(error.status)
            if head_sent:
                self.abort()
                return
        else:
            self._log_refused_request(error.status, head)
        fields, content = plain_answer(error.status)
        head, _, _ = self._context.encoder.encode(error.status, fields)
        # Not through the encoder, which leaves out what an application may not say, such as Upgrade.
        lines = [b"%b: %b\r\n" % field for field in error.fields]
        self._transport.write(b"".join([head, *lines, b"connection: close\r\n\r\n", content]))
        self._linger()

    def _linger(self) -> None:
        self._reading = _LINGER
        self._pending = b""
        self._body = None
        self._shut()

    def close(self) -> None:
        """See `WatchedConnection.close`."""
        if self._exchange is not None and self._exchange.head_sent:
            self.abort()  # Its application runs on, but nobody waits for it any more.
            return
        self._reading = _LINGER
        self._close_transport()

    def begin_drain(self) -> None:
        """See `WatchedConnection.begin_drain`."""
        self._keep_alive = False
        if self._reading is _DISCARD:
            self._linger()

    def end_grace(self) -> None:
        """See `WatchedConnection.end_grace`."""
        if self._exchange is not None:
            self._exchange.end_grace()
        elif self._reading is _HEAD and not self._pending:
            self._close_idle()

    def _close_idle(self) -> None:
        """Close a connection on which nothing runs, but not under a request that is there and has not been read."""
        if self.has_unread_input():
            self.deadline = self._context.clock.now
        else:
            self.close()

    # Clocks

    def _on_idle(self) -> None:
        """Nothing has come for `MEMORY_SECONDS`, or for as long as the connection is kept."""
        seconds_left = self._context.settings.keepalive_seconds - MEMORY_SECONDS
        if seconds_left > 0 and self._known_origin is not _NO_ORIGIN:
            self._known_fields, self._known_origin = NO_FIELDS, _NO_ORIGIN
            self.deadline = self._context.clock.deadline(seconds_left)
        else:
            self._close_idle()

    def on_deadline(self) -> None:
        """See `WatchedConnection.on_deadline`: what is due depends on what is awaited."""
        self.deadline = NEVER
        exchange = self._exchange
        if self._reading is _HEAD:
            if self._pending:
                self.refuse(RemoteProtocolError(408, "head-timeout"), self._pending)
            else:
                self._on_idle()
        elif self._reading is _BODY:
            if exchange is not None and exchange.state is ExchangeState.AWAITING_START:
                self.refuse(RemoteProtocolError(408, "body-timeout"))
        elif self._reading is _AHEAD:
            if exchange is not None:
                exchange.on_half_close()
        elif self._reading is _DISCARD:
            self._linger()
        else:
            self._on_shut_deadline()
