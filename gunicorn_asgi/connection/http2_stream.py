"""One stream of an HTTP/2 connection as the `ResponseStream` of its exchange."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

from ..asgi_types import Field, ResponseFields
from ..errors import ClientDisconnected
from ..wire.http2_response import Http2ResponseEncoder
from ..wire.http2_sending import FrameSender
from ..wire.http2_streams import IncomingContent, Stream, StreamState
from .clock import NEVER
from .exchange import Exchange
from .flow import Gate
from .websocket import WebSocketConnection

_CLOSED: Final = StreamState.CLOSED
_HALF_CLOSED_LOCAL: Final = StreamState.HALF_CLOSED_LOCAL


class StreamOwner(Protocol):
    """The connection, as its streams see it."""

    encoder: Http2ResponseEncoder
    sender: "FrameSender[Http2Stream]"
    write_gate: Gate
    loop: asyncio.AbstractEventLoop
    flush_scheduled: bool

    @property
    def peer(self) -> str:
        """Who is at the other end, for logs."""

    def schedule_flush(self) -> None:
        """Write what has gathered, at the end of this turn of the event loop."""

    def after_content(self) -> None:
        """Content of a stream was added to what is to be written."""

    def watch(self, stream: "Http2Stream") -> None:
        """A stream has something queued that its client has to make room for."""

    def on_early_response(self, stream: "Http2Stream") -> None:
        """A response is complete before its request."""

    def on_body_wanted(self, stream: "Http2Stream") -> None:
        """An application waits for content."""

    def on_body_taken(self, stream: "Http2Stream") -> None:
        """An application has taken all content that has come."""

    def root_path(self, fields: dict[bytes, bytes]) -> str:
        """See `ResponseStream.root_path`."""

    def abort_stream(self, stream: "Http2Stream") -> None:
        """Break a response off."""

    def cancel_stream(self, stream: "Http2Stream") -> None:
        """End a tunnel that cannot be ended in order."""

    def acknowledge(self, stream: "Http2Stream") -> None:
        """Let the client send as much again as it has sent."""

    def get_extra_info(self, name: str) -> Any:
        """See `asyncio.BaseTransport.get_extra_info`; `peername` is whom a proxy speaks for."""


class Tunnel(Protocol):
    """What is spoken on a stream instead of a response (RFC 8441)."""

    def begin(self, protocol: asyncio.Protocol) -> bytes:
        """Serve `protocol` from now on. Returns what has been received before."""

    def feed(self, content: bytes, ended: bool) -> None:
        """Content of the stream, possibly nothing but its end."""

    def on_room(self) -> None:
        """There is nothing more that waits for the client."""

    def on_no_room(self) -> None:
        """The client takes no more, on any stream."""

    def on_reset(self) -> None:
        """The stream is gone."""


class Http2Stream(Stream):
    """What the exchange writes goes into the frames of the connection."""

    __slots__ = (
        "_block",
        "_connection",
        "continue_wanted",
        "deadline",
        "exchange",
        "tunnel",
        "write_deadline",
        "write_gate",
    )

    exchange: Exchange
    continue_wanted: bool
    """Whether the client waits for a 100 before it sends content; set where there is some to come."""
    tunnel: Tunnel | None
    """Set with `incoming`: where the request asks for a tunnel, what will be in it."""
    write_deadline: float
    """Loop time at which the client must have taken more of the queue; set with the queue."""

    def __init__(
        self,
        connection: StreamOwner,
        stream_id: int,
        state: StreamState,
        send_window: int,
        incoming: IncomingContent | None,
    ) -> None:
        # The base class is not called: that would cost 0.2 us in each request.
        self.id = stream_id
        self.state = state
        self.send_window = send_window
        self.incoming = incoming
        self.queue = None
        self._connection = connection
        self.write_gate = connection.write_gate
        """That of the connection, unless this stream alone is held up by its window."""
        self.deadline = NEVER
        """Loop time at which the client must have sent more."""

    # The stream of an exchange

    def root_path(self, fields: dict[bytes, bytes]) -> str:
        """See `ResponseStream.root_path`."""
        return self._connection.root_path(fields)

    @property
    def peer(self) -> str:
        """See `ResponseStream.peer`."""
        return self._connection.peer

    def send_interim(self, status: int, fields: list[Field]) -> None:
        """See `ResponseStream.send_interim`."""
        connection = self._connection
        connection.sender.send_interim(self.id, connection.encoder.encode_interim(status, fields))
        connection.schedule_flush()

    def start(self, status: int, fields: ResponseFields, bodiless: bool, trailers: bool) -> int:
        """See `ResponseStream.start`."""
        self._block, length, _ = self._connection.encoder.encode(status, fields)
        return length

    def write_first(self, body: bytes, last: bool) -> None:
        """See `ResponseStream.write_first`."""
        connection = self._connection
        connection.sender.send_response(self, self._block, body, last)
        if self.state is _CLOSED and self.incoming is None:
            del self.exchange  # All of `on_closed` that is needed here, where its call would cost 1 %.
        else:
            self._settle()
        if not connection.flush_scheduled:
            connection.schedule_flush()

    def write(self, body: bytes, last: bool) -> None:
        """See `ResponseStream.write`."""
        connection = self._connection
        connection.sender.send_content(self, body, last)
        self._settle()
        connection.after_content()

    def write_trailers(self, fields: list[Field]) -> None:
        """See `ResponseStream.write_trailers`."""
        if not fields:
            self.write(b"", True)
            return
        connection = self._connection
        connection.sender.send_trailers(self, connection.encoder.encode_fields(fields))
        self._settle()
        connection.schedule_flush()

    def on_body_wanted(self) -> None:
        """See `ResponseStream.on_body_wanted`."""
        self._connection.on_body_wanted(self)

    def on_body_taken(self) -> None:
        """See `ResponseStream.on_body_taken`."""
        self._connection.on_body_taken(self)

    def close_when_sent(self) -> None:
        """See `ResponseStream.close_when_sent`: the other streams of an HTTP/2 connection do not care."""

    def abort(self) -> None:
        """See `ResponseStream.abort`."""
        self._connection.abort_stream(self)

    def accept_websocket(self, fields: Sequence[Field]) -> None:
        """See `WebSocketStream.accept_websocket`."""
        connection = self._connection
        if self.state not in (StreamState.OPEN, StreamState.HALF_CLOSED_REMOTE):
            raise ClientDisconnected("the stream has been closed")
        block, _, _ = connection.encoder.encode(200, tuple(fields))
        connection.sender.send_response(self, block, b"", False)
        connection.schedule_flush()

    def begin_websocket(self, websocket: WebSocketConnection) -> None:
        """See `WebSocketStream.begin_websocket`."""
        connection, tunnel = self._connection, self.tunnel
        assert tunnel is not None
        websocket.begin(cast(asyncio.Transport, tunnel), tunnel.begin(websocket))
        if connection.write_gate.closed:
            tunnel.on_no_room()

    # The connection's side

    def add_time(self, seconds: float) -> None:
        """For so long the client could not be served, or not be heard."""
        if self.deadline is not NEVER:
            self.deadline += seconds
        if self.queue is not None:
            self.write_deadline += seconds

    def on_queue_sent(self) -> None:
        """See `Stream.on_queue_sent`."""
        tunnel = None if self.incoming is None else self.tunnel
        self._release()
        self._settle()
        if tunnel is not None:
            tunnel.on_room()

    def on_closed(self) -> None:
        """See `Stream.on_closed`; also where the stream has come to another end.

        Its exchange and its tunnel refer to it: in a circle all would wait for the garbage collector, which made each
        request 12 % more expensive.
        """
        self._release()
        del self.exchange
        if self.incoming is not None:
            self.tunnel = None

    def _release(self) -> None:
        """Let the application write, or see that it can no longer."""
        gate, self.write_gate = self.write_gate, self._connection.write_gate
        if gate is not self.write_gate:
            gate.open()

    def _settle(self) -> None:
        """Something was written: let go of what has ended, or wait for what is still to come from the client."""
        connection = self._connection
        if self.state is _CLOSED:
            self.on_closed()
        elif self.queue is not None:
            if self.write_gate is connection.write_gate:
                self.write_gate = Gate(connection.loop, closed=True)
                connection.watch(self)
        elif self.state is _HALF_CLOSED_LOCAL:
            connection.on_early_response(self)
