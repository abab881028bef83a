"""One open WebSocket: frames in, messages out, from the answered handshake to the end of the connection.

    OPEN --our close frame--> CLOSING --the client's close frame, or 10 s--> ENDED
      |--the client's close frame, which is answered------------------------>|
      |--a broken rule: our close frame, then nothing is read any more------>|
      |--connection lost--> LOST --what has been received is taken---------->|

The application has its end as soon as one side has closed; what is left then concerns the connection only.

**The seam.** Nothing in here knows HTTP. A `WebSocketConnection` is an `asyncio.Protocol` that talks to an
`asyncio.Transport`: to that of a socket, which HTTP/1 hands over after its 101, or to a stream of an HTTP/2 connection
(RFC 8441) that behaves like one. Of the transport it uses `write`, `writelines`, `write_eof` where `can_write_eof`,
`close` (send all, then end), `abort` (now: RST_STREAM), `is_closing`, `pause_reading`, `resume_reading`,
`get_write_buffer_size`, `set_write_buffer_limits` and `get_extra_info`; a stream has no socket. The transport
calls `data_received(bytes)`, `eof_received()`, `pause_writing()`, `resume_writing()` and at last, once,
`connection_lost(error)`. A stream with flow-control windows maps them so:

    what the peer may send      DATA goes to `data_received` and is acknowledged at once, but for the time between
                                `pause_reading` and `resume_reading`: then it is kept, and acknowledged afterwards
    what we may send            `pause_writing` when more than the limit waits for window, `resume_writing` below it
    END_STREAM, RST_STREAM      `eof_received`, whose False asks for `close`; `connection_lost`

The HTTP version makes the `WebSocketExchange` (connection/websocket_exchange.py), which makes this object once the
application has accepted and gives it to `WebSocketStream.accept_websocket`. That sends the head of the response, then
calls `begin(transport, data)` with what has arrived behind the request.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from ..asgi_types import WebSocketMessage
from ..errors import CloseCode, WebSocketError
from ..wire.websocket_deflate import DeflateParameters, PerMessageDeflate
from ..wire.websocket_frames import (
    BINARY_HEADS,
    MIN_DEFLATED_BYTES,
    TEXT_HEADS,
    FrameReader,
    encode_close,
    encode_ping,
    encode_pong,
    message_head,
)
from .clock import NEVER
from .context import ServingContext
from .transport import TransportProtocol

CLOSE_SECONDS: Final = 10.0
"""How long the client has to answer a close frame, as in websockets and uvicorn. Where much is still to be sent before
it, up to twice as long from when that has been."""

_COPY_BELOW_BYTES: Final = 64 * 1024
"""Messages from this size on are handed to the transport as they are instead of being copied behind their head."""


class WebSocketState(Enum):
    """Where the closing handshake stands (RFC 6455 section 7)."""

    OPEN = auto()
    CLOSING = auto()
    LOST = auto()
    ENDED = auto()


_OPEN: Final = WebSocketState.OPEN
_CLOSING: Final = WebSocketState.CLOSING
_LOST: Final = WebSocketState.LOST
_ENDED: Final = WebSocketState.ENDED


class WebSocketConnection(TransportProtocol):
    """The protocol of a connection, or of a stream, on which WebSocket is spoken."""

    __slots__ = (
        "_awaits_pong",
        "_deflate",
        "_has_received",
        "_messages",
        "_on_end",
        "_on_loss",
        "_pings",
        "_reader",
        "_state",
        "_unanswered_ping",
        "_waiters",
        "deadline",
        "stalled",
    )

    def __init__(
        self,
        context: ServingContext,
        messages: "deque[WebSocketMessage]",
        waiters: "deque[asyncio.Future[WebSocketMessage]]",
        on_loss: Callable[[], None],
        on_end: Callable[[int, str], None],
        deflate: DeflateParameters | None,
    ) -> None:
        """Messages go to the first of `waiters`, else to `messages`. `on_end` is called once, with the code and the
        reason of the first close frame of either side, or ABNORMAL_CLOSURE. Where the client has gone and has left more
        than is in `messages`, `on_loss` is called at once and `on_end` when all of it is taken, if ever it is."""
        super().__init__(context)
        settings = context.settings
        self._messages = messages
        self._waiters = waiters
        self._on_loss = on_loss
        self._on_end = on_end
        self._deflate = PerMessageDeflate(deflate) if deflate is not None else None
        self._reader = FrameReader(
            messages,
            max_message_bytes=settings.ws_max_message_bytes,
            max_messages=settings.ws_max_queue,
            deflate=self._deflate,
        )
        self._state = _OPEN
        self._awaits_pong = False
        self._pings = 0
        self._has_received = False
        """Whether anything has come since the last look at the clock for a pong."""
        self._unanswered_ping: bytes | None = None
        self.deadline = NEVER
        self.stalled = False
        """Whether reading waits until the application takes messages: then call `read_on` when it has taken all."""

    # Transport callbacks

    def begin(self, transport: asyncio.Transport, data: bytes) -> None:
        """Speak WebSocket on `transport` from now on. `data` is what has been received of it."""
        self.connection_made(transport)
        self._context.connections.add(self)
        if transport.get_extra_info("socket") is None:
            self._context.tunnels.add(self)
        self._await_ping()
        if data:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        self._has_received = True
        try:
            if self._reader.feed(data):
                self._on_control_frames()
        except WebSocketError as error:
            self._fail(error)
        messages = self._messages
        if messages:
            waiters = self._waiters
            while waiters and messages:
                waiter = waiters.popleft()
                if not waiter.done():
                    waiter.set_result(messages.popleft())
            if self._reader.stopped:
                if messages:
                    self.stalled = True
                    self._pause_reading()
                else:
                    self.data_received(b"")

    def eof_received(self) -> bool:
        """The client has ended, with a close frame before it or without. False: the transport closes."""
        self._half_closed = True
        self._lose()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        context = self._context
        context.remove_connection(self)
        context.unsent.discard(self)
        self.deadline = NEVER
        self._lose()

    def _lose(self) -> None:
        """The client has gone. What has been received is still taken, maybe with its close frame at the end."""
        if self._state is _OPEN and self.stalled:
            self._state = _LOST
            self._on_loss()
            self.write_gate.open()
        elif self._state is not _LOST:
            self._end(CloseCode.ABNORMAL_CLOSURE.value, "")

    def resume_writing(self) -> None:
        super().resume_writing()
        ping, self._unanswered_ping = self._unanswered_ping, None
        if ping is not None and self._state is _OPEN:
            self._transport.write(encode_pong(ping))

    # The application's side

    def send_message(self, payload: bytes, is_text: bool) -> None:
        """Send a message. To be called while the connection is open, and better not while `write_gate` is closed."""
        if self._transport.is_closing():
            self._await_loss()
        size = len(payload)
        deflate = self._deflate
        if deflate is not None and size >= MIN_DEFLATED_BYTES:
            payload = deflate.deflate(payload)
            head = message_head(len(payload), is_text=is_text, compressed=True)
        elif size < 126:
            self._transport.write((TEXT_HEADS if is_text else BINARY_HEADS)[size] + payload)
            return
        else:
            head = message_head(size, is_text=is_text, compressed=False)
            if size >= _COPY_BELOW_BYTES:
                self._write_large(head, payload)
                return
        self._transport.write(head + payload)

    def read_on(self) -> None:
        """The application has taken all messages of a connection that was `stalled`."""
        self.stalled = False
        self.data_received(b"")
        if self.stalled:
            return
        if self._state is _LOST:
            self._end(CloseCode.ABNORMAL_CLOSURE.value, "")
        else:
            self._resume_reading()

    def begin_close(self, code: int, reason: str) -> None:
        """Send a close frame and wait for that of the client. Nothing is received any more."""
        if self._state is not _OPEN:
            return
        self._transport.write(encode_close(code, reason))
        self._state = _CLOSING
        self.deadline = self._context.clock.deadline(CLOSE_SECONDS)
        self._watch_unsent()
        self._reader.discard_messages()
        self.stalled = False
        self._on_end(code, reason)
        self.write_gate.wake()
        # The client's close frame may be there already.
        self.data_received(b"")
        self._resume_reading()

    # Control frames

    def _on_control_frames(self) -> None:
        reader = self._reader
        if reader.closed is not None:
            code, reason = reader.closed
            if self._state is _OPEN:
                self._transport.write(encode_close(code, reason))
            self._end(code, reason)
            self._close_transport()
            return
        pings, reader.pings = reader.pings, []
        pong, reader.pong = reader.pong, None
        if self._state is not _OPEN:
            return
        if pings:
            if self.write_gate.closed:
                self._unanswered_ping = pings[-1]
            else:
                self._transport.write(b"".join(map(encode_pong, pings)))
        if self._awaits_pong and pong == self._ping_payload:
            self._await_ping()

    @property
    def _ping_payload(self) -> bytes:
        """Of the last ping that was sent. Pongs to anything else were not asked for, and are ignored."""
        return self._pings.to_bytes(4, "big")

    def _await_ping(self) -> None:
        """Set the clock for the next ping."""
        self._awaits_pong = False
        interval = self._context.settings.ws_ping_interval_seconds
        self.deadline = self._context.clock.deadline(interval) if interval else NEVER

    def _send_ping(self) -> None:
        self._pings = (self._pings + 1) % (1 << 32)
        self._transport.write(encode_ping(self._ping_payload))
        self._has_received = False
        self._await_ping()
        timeout = self._context.settings.ws_ping_timeout_seconds
        if timeout:
            self._awaits_pong = True
            self.deadline = self._context.clock.deadline(timeout)

    def _probe(self) -> None:
        """Find out whether there is still somebody where a pong could not be read, being behind what nobody takes.

        What is sent shows it: to a client that has gone it fails, and one that takes nothing has the write timeout.
        """
        if self._transport.get_write_buffer_size() == 0:
            self._transport.write(encode_ping(self._ping_payload))
        elif self not in self._context.unsent:
            self._watch_unsent()
        self._await_ping()

    # Ends

    def _end(self, code: int, reason: str) -> None:
        """Both sides are done with each other, in one way or the other."""
        told = self._state in (_CLOSING, _ENDED)
        self._state = _ENDED
        if not told:
            self._on_end(code, reason)
        self.write_gate.open()

    def _fail(self, error: WebSocketError) -> None:
        """Close because of what the client has sent (RFC 6455 section 7.1.7)."""
        self._fail_with(error.code, error.reason)

    def _fail_with(self, code: CloseCode, reason: str) -> None:
        state = self._state
        self._reader.stop()
        if state is _OPEN:
            self._transport.write(encode_close(code, reason))
        self._end(code.value, reason)
        if state is _LOST:
            return
        if self._half_closed or not self._transport.can_write_eof():
            self._close_transport()
            return
        # Only the sending side, for a moment: a close under bytes that nobody reads would become a reset, and the
        # client might never see the close frame.
        self._transport.write_eof()
        self._resume_reading()
        self._watch_unsent()
        self.deadline = self._context.clock.deadline(self._context.settings.linger_seconds)

    def _close_transport(self) -> None:
        if self._transport.is_closing():
            return
        self.deadline = self._context.clock.deadline(self._context.settings.linger_seconds)
        self._watch_unsent()
        self._transport.close()

    def close(self) -> None:
        """See `WatchedConnection.close`."""
        if self._state is _OPEN:
            self._transport.write(encode_close(CloseCode.SERVICE_RESTART))
        self._end(CloseCode.SERVICE_RESTART.value, "")
        self._close_transport()

    # Clocks and the drain

    def begin_drain(self) -> None:
        """See `WatchedConnection.begin_drain`: a WebSocket has no way to announce its end before it comes."""

    def end_grace(self) -> None:
        """See `WatchedConnection.end_grace`."""
        self.begin_close(CloseCode.SERVICE_RESTART, "")

    def on_deadline(self) -> None:
        """See `WatchedConnection.on_deadline`: a ping is due, or its pong, or the client's close frame."""
        if self._state is _OPEN:
            if self.stalled or self.write_gate.closed:
                self._probe()
            elif not self._awaits_pong:
                self._send_ping()
            elif self._has_received:
                # The pong is behind a long frame, or behind all that a slow network still has to bring.
                self._has_received = False
                self.deadline = self._context.clock.deadline(self._context.settings.ws_ping_timeout_seconds or 0)
            else:
                self._fail_with(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
        elif self._transport.get_write_buffer_size():
            # The client cannot have got our close frame. As long as it takes something, it may take its time.
            seconds = CLOSE_SECONDS if self._state is _CLOSING else self._context.settings.linger_seconds
            self.deadline = self._context.clock.deadline(seconds)
        else:
            self.abort()
