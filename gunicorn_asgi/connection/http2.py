"""One HTTP/2 connection: an endpoint of frames between a transport and many exchanges.

What `Endpoint` finds in received bytes becomes exchanges, each with an `Http2Stream` behind it. What they write gathers
in the sender and leaves in one write for each turn of the event loop. Reading has no states here, the endpoint knows
them; what the connection waits for decides which clock runs:

    SETTINGS        the client's preface, within 5 s
    HEADER_BLOCK    the rest of a header block, within `header_timeout` from its first bytes
    STREAMS         nothing; each stream that waits for its client has a clock of its own
    REQUEST         the first request, within `header_timeout`, or the next one, within `keepalive`
    CLOSE           the client's end, within `linger`

A connection that is to end says so by GOAWAY, finishes its streams and then shuts its sending side, reading on for a
moment: a reset for a window update that crosses the end would take the last response away from the client.
"""

import asyncio
import functools
from enum import Enum, auto
from typing import Any, Final

from ..errors import RemoteProtocolError
from ..proxy import UNSEEN
from ..scope import build_http_scope
from ..wire import http2_frames as frames
from ..wire.headers import accepts_trailers
from ..wire.http1_response import plain_answer
from ..wire.http2_connection import CONNECTION_WINDOW_BYTES, Endpoint
from ..wire.http2_frames import ErrorCode, Http2Error
from ..wire.http2_request import RequestHead, read_priority
from ..wire.http2_streams import StreamState
from ..wire.websocket_handshake import Handshake, read_http2_handshake
from .clock import NEVER
from .context import ServingContext
from .exchange import Exchange, ExchangeState
from .http import HttpConnection
from .http2_stream import Http2Stream, Tunnel
from .http2_tunnel import Http2Tunnel
from .websocket_exchange import ACCEPTED, WebSocketExchange

SETTINGS_SECONDS: Final = 5.0
"""From accept to the client's preface and SETTINGS, which every client sends at once."""

OFFENCE_GRACE_SECONDS: Final = 1.0
"""From the first GOAWAY for an offence to the last: as long as it takes a proxy to see the first, and what it has sent
before to arrive."""

_OPEN: Final = StreamState.OPEN
_HALF_CLOSED_REMOTE: Final = StreamState.HALF_CLOSED_REMOTE


class Awaiting(Enum):
    """What the clock of the connection is for."""

    SETTINGS = auto()
    HEADER_BLOCK = auto()
    STREAMS = auto()
    REQUEST = auto()
    CLOSE = auto()


_SENT_BY_CLIENT: Final = (Awaiting.SETTINGS, Awaiting.HEADER_BLOCK, Awaiting.REQUEST)
"""What nobody can see come while reading is paused."""


class Http2Connection(HttpConnection):
    """The protocol of one accepted socket. It gets the client's preface as its first bytes."""

    __slots__ = (
        "_awaiting",
        "_block",
        "_coming_content",
        "_content_sent",
        "_endpoint",
        "_leaving",
        "_paused_at",
        "_timed",
        "encoder",
        "flush_scheduled",
        "loop",
        "sender",
    )

    _endpoint: Endpoint[Http2Stream]

    def __init__(self, context: ServingContext) -> None:
        super().__init__(context)
        self.loop = context.loop
        self.encoder = context.http2_encoder
        self.flush_scheduled = False
        self._awaiting = Awaiting.SETTINGS
        self._block = 0
        """The stream of the header block whose clock runs; 0 for none."""
        self._coming_content = (0, 0)
        """See `Endpoint.coming_content`, when the clock last ticked for a stream."""
        self._content_sent = False
        """Whether content was sent since then."""
        self._leaving = False
        """Whether the last GOAWAY was sent, or is to be sent as soon as what has arrived is read."""
        self._paused_at = 0.0
        """Loop time since which the client is not heard, where reading is paused."""
        self._timed: set[Http2Stream] = set()
        """Streams with a clock."""
        self.deadline = context.clock.deadline(SETTINGS_SECONDS)

    # Transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        context = self._context
        self._endpoint = Endpoint(
            context.settings,
            context.http2_requests,
            self,
            watched_names=self._forwarding_names,
            connect_protocol=context.settings.websockets,
        )
        self.sender = self._endpoint.sender
        self._endpoint.begin()
        if context.draining:
            self._send_goaway(frames.ALL_STREAMS, frames.NO_ERROR)
            self._leaving = context.leaving
        self._flush()
        context.connections.add(self)

    def begin_upgraded(self, transport: asyncio.Transport, settings_payload: bytes, head: RequestHead) -> None:
        """Take over from HTTP/1 after `Upgrade: h2c`: `head` is the request of stream 1, without content.

        The preface of the client is still to come.
        """
        self.connection_made(transport)
        endpoint = self._endpoint
        endpoint.rules.noted = True  # Nobody has looked for forwarding headers yet.
        try:
            endpoint.begin_upgraded(settings_payload)
            endpoint.streams.open[1] = self.on_request(1, head, ended=True)
        except Http2Error as error:
            self._fail(error)
        except RemoteProtocolError as error:
            self.on_refused_request(1, error, f"{head[0]} {head[8]}".encode())
        else:
            self._watch_clock()

    def data_received(self, data: bytes) -> None:
        if self._awaiting is Awaiting.CLOSE:
            self._discard(data, CONNECTION_WINDOW_BYTES)
            return
        try:
            self._endpoint.receive(data, self._context.clock.now)
        except Http2Error as error:
            self._fail(error)
            return
        self._watch_clock()
        # Behind the tasks that have just been made: what they write at once leaves in the same turn.
        if not self.flush_scheduled:
            self.schedule_flush()

    def eof_received(self) -> bool:
        """Finish what can be finished without another byte from the client."""
        self._half_closed = True
        if self._scheme == "https" or self._awaiting is Awaiting.CLOSE:
            return False  # TLS has no half-closed connections.
        for stream in [stream for stream in self._endpoint.streams.open.values() if stream.state is _OPEN]:
            # Without its end a request may not be answered.
            self._endpoint.reset_stream(stream.id, frames.CANCEL)
            self.on_stream_reset(stream)
        if not self._endpoint.streams.open:
            return False
        self._awaiting = Awaiting.STREAMS
        self.deadline = self._context.clock.deadline(self._context.settings.linger_seconds)
        self.schedule_flush()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        context = self._context
        context.remove_connection(self)
        context.unsent.discard(self)
        self._awaiting = Awaiting.CLOSE
        self.deadline = NEVER
        self._end_streams()
        self._timed.clear()
        self.write_gate.open()

    def pause_writing(self) -> None:
        super().pause_writing()
        # Who takes no answers gets no more questions answered: RST_STREAM, PING and SETTINGS cost answers too.
        self._pause_reading()
        self._paused_at = self.loop.time()
        for _, tunnel in self._tunnels():
            tunnel.on_no_room()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reading_paused:
            self._resume_reading()
            self._add_time(self.loop.time() - self._paused_at)
        for stream, tunnel in self._tunnels():
            if stream.queue is None:  # Else its own window still holds it up.
                tunnel.on_room()
        if self.sender.has_sendable:
            self.schedule_flush()

    # What the endpoint has found

    def on_request(self, stream_id: int, head: RequestHead, ended: bool) -> Http2Stream:
        """See `Http2Events.on_request`."""
        method, path, raw_path, query, headers, fields, length, protocol, uri = head
        context = self._context
        if context.casefold_methods:
            method = method.upper()
        headers = headers.copy()
        client, scheme, root_path = self._client, self._scheme, context.root_path
        endpoint = self._endpoint
        if endpoint.rules.noted and (shape := self._shapes.get(tuple(fields), UNSEEN)) is not None:
            fields = fields.copy()
            client, scheme, root_path = self._forwarded(headers, fields, shape)
        extensions = self._extensions.copy()
        if b"te" in fields and accepts_trailers(fields):
            extensions["http.response.trailers"] = {}
        if b"priority" in fields:
            extensions["http.request.priority"] = read_priority(fields[b"priority"])
        server, state = self._server, context.state
        scope = build_http_scope(
            method, "2", path, raw_path, query, headers, client, server, scheme, root_path, state, extensions
        )
        window = self.sender.initial_window
        if ended:
            stream = Http2Stream(self, stream_id, _HALF_CLOSED_REMOTE, window, None)
        else:
            stream = Http2Stream(self, stream_id, _OPEN, window, endpoint.incoming_content(length))
            stream.continue_wanted = fields.get(b"expect", b"").lower() == b"100-continue"
            stream.tunnel = None
        name = f"{method} {path}"
        if protocol:
            handshake = _websocket_handshake(protocol, fields, ended, context)
            stream.tunnel = Http2Tunnel(self, stream)
            stream.exchange = WebSocketExchange(context, stream, scope, fields, method, uri, name, handshake)
            return stream
        stream.exchange = Exchange(context, stream, scope, fields, method, uri, name, not ended)
        return stream

    def on_refused_request(self, stream_id: int, error: RemoteProtocolError, line: bytes) -> None:
        """See `Http2Events.on_refused_request`."""
        self._log_refusal(error)
        self._log_refused_request(error.status, line, "2")
        block, content = self._own_answer(error, self.sender.initial_window, line.startswith(b"HEAD "))
        self.sender.send_answer(stream_id, block, content)
        self.schedule_flush()

    def on_content(self, stream: Http2Stream, content: bytes, ended: bool) -> None:
        """See `Http2Events.on_content`."""
        if stream.tunnel is not None:
            stream.tunnel.feed(content, ended)
            return
        stream.continue_wanted = False
        stream.deadline = NEVER  # Whoever still waits sets it anew.
        stream.exchange.on_body(content, ended)

    def on_stream_reset(self, stream: Http2Stream) -> None:
        """See `Http2Events.on_stream_reset`: nobody waits for the application any more."""
        self._timed.discard(stream)
        exchange = stream.exchange
        if exchange.state is not ExchangeState.COMPLETE and not exchange.task.done():
            self._count_until_ended(exchange)
            # An open WebSocket learns of it by its own disconnect, over whatever version of HTTP.
            if exchange.state not in ACCEPTED:
                exchange.task.cancel()
        if stream.incoming is not None and stream.tunnel is not None:
            stream.tunnel.on_reset()
        exchange.on_disconnect()
        stream.on_closed()

    def on_refused_trailers(self, stream: Http2Stream, error: RemoteProtocolError) -> bool:
        """See `Http2Events.on_refused_trailers`."""
        if stream.exchange.state not in (ExchangeState.AWAITING_START, ExchangeState.HEAD_HELD):
            return False
        self._answer_instead(stream, error)
        return True

    def on_stream_error(self, reason: str) -> None:
        """See `Http2Events.on_stream_error`."""
        self._context.log_refusal(self.peer, 400, reason)

    def on_offence(self, reason: str) -> None:
        """See `Http2Events.on_offence`."""
        self._context.log_refusal(self.peer, 400, reason)
        self.loop.call_later(OFFENCE_GRACE_SECONDS, self._begin_leaving, context=self._context.task_context)

    def on_ping_ack(self, payload: bytes) -> None:
        """See `Http2Events.on_ping_ack`: none is ever sent."""

    def _count_until_ended(self, exchange: Exchange) -> None:
        self._endpoint.ending_tasks += 1
        exchange.task.add_done_callback(functools.partial(self._on_task_ended, exchange))

    def _on_task_ended(self, exchange: Exchange, _task: "asyncio.Task[None]") -> None:
        self._endpoint.ending_tasks -= 1
        # A task that is cancelled before its first step never gets to its own end.
        self._context.exchanges.discard(exchange)
        # It keeps its cancellation, whose traceback keeps the exchange: one more circle.
        del exchange.task

    # What the streams ask for

    def on_body_wanted(self, stream: Http2Stream) -> None:
        """See `StreamOwner.on_body_wanted`."""
        if stream.continue_wanted and not stream.exchange.head_sent:
            stream.continue_wanted = False
            self.sender.send_interim(stream.id, self.encoder.encode_interim(100))
            self.schedule_flush()
        # RFC 9113 section 8.1 lets both sides speak at once; what has begun to answer decides itself how long it waits.
        if stream.deadline is NEVER and stream.exchange.state is ExchangeState.AWAITING_START:
            self._watch_content(stream)

    def on_body_taken(self, stream: Http2Stream) -> None:
        """See `StreamOwner.on_body_taken`."""
        self._endpoint.acknowledge(stream)
        if self.sender.out:
            self.schedule_flush()

    def on_early_response(self, stream: Http2Stream) -> None:
        """See `StreamOwner.on_early_response`: a client that sends before it reads must be able to end."""
        stream.deadline = self._context.clock.deadline(self._context.settings.linger_seconds)
        self._add_timed(stream)

    def watch(self, stream: Http2Stream) -> None:
        """See `StreamOwner.watch`."""
        stream.write_deadline = self._context.clock.deadline(self._context.settings.write_timeout_seconds)
        self._add_timed(stream)

    def abort_stream(self, stream: Http2Stream) -> None:
        """See `StreamOwner.abort_stream`."""
        self._reset(stream, frames.INTERNAL_ERROR)

    def cancel_stream(self, stream: Http2Stream) -> None:
        """See `StreamOwner.cancel_stream`."""
        self._reset(stream, frames.CANCEL)

    def acknowledge(self, stream: Http2Stream) -> None:
        """See `StreamOwner.acknowledge`."""
        self._endpoint.acknowledge(stream)
        if self.sender.out:
            self.schedule_flush()

    def get_extra_info(self, name: str) -> Any:
        """See `StreamOwner.get_extra_info`."""
        return self._client if name == "peername" else self._transport.get_extra_info(name)

    def _tunnels(self) -> list[tuple[Http2Stream, Tunnel]]:
        return [
            (stream, stream.tunnel)
            for stream in self._endpoint.streams.open.values()
            if stream.incoming is not None and stream.tunnel is not None
        ]

    def _reset(self, stream: Http2Stream, code: ErrorCode) -> None:
        """End a stream from this side, where it has not ended yet."""
        if stream.id in self._endpoint.streams.open:
            self._endpoint.reset_stream(stream.id, code)
            self._timed.discard(stream)
            stream.on_closed()
            self.schedule_flush()

    def _own_answer(self, error: RemoteProtocolError, stream_window: int, is_head: bool) -> tuple[bytes, bytes]:
        """Header block and content of a response of our own, which has to do without content where there is no room."""
        fields, content = plain_answer(error.status)
        if is_head or len(content) > min(self.sender.window, stream_window):
            fields, content = [], b""
        block, _, _ = self.encoder.encode(error.status, (*fields, *error.fields))
        return block, content

    def _answer_instead(self, stream: Http2Stream, error: RemoteProtocolError) -> None:
        """Answer a request that its application has not begun to answer, and will not any more."""
        self._log_refusal(error)
        exchange = stream.exchange
        block, content = self._own_answer(error, stream.send_window, exchange.method == "HEAD")
        self.sender.send_response(stream, block, content, True)
        exchange.on_disconnect(error.status)
        if not exchange.task.done():
            self._count_until_ended(exchange)
        if stream.state is StreamState.CLOSED:
            stream.on_closed()
        else:
            self._reset(stream, frames.NO_ERROR)
        self.schedule_flush()

    # Writing

    def schedule_flush(self) -> None:
        """See `StreamOwner.schedule_flush`."""
        if not self.flush_scheduled:
            self.flush_scheduled = True
            self.loop.call_soon(self._flush, context=self._context.task_context)

    def after_content(self) -> None:
        """See `StreamOwner.after_content`."""
        if self.sender.out_bytes >= self._context.settings.write_buffer_bytes:
            # An application that writes without a pause must meet the limits of the transport, and its end.
            self._write()
            if self._transport.is_closing():
                self._await_loss()
        if not self.flush_scheduled:
            self.schedule_flush()

    def _flush(self) -> None:
        self.flush_scheduled = False
        if self.sender.has_sendable and not self.write_gate.closed:
            self.sender.pump()
        if self._half_closed and not self.sender.has_sendable:
            self._reset_stuck()
        self._write()
        if self._awaiting is not Awaiting.CLOSE:
            self._watch_clock()
            if self.sender.has_sendable and not self.write_gate.closed:
                self.schedule_flush()

    def _reset_stuck(self) -> None:
        """The client has closed its sending side, and so will never make room for what no window lets through."""
        for stream in [stream for stream in self._endpoint.streams.open.values() if stream.queue is not None]:
            self._endpoint.reset_stream(stream.id, frames.CANCEL)
            self.on_stream_reset(stream)

    def _write(self) -> None:
        sender = self.sender
        out = sender.out
        if out:
            if sender.out_bytes:
                sender.out_bytes = 0
                self._content_sent = True
                self._endpoint.on_content_sent()
            data = b"".join(out)
            out.clear()
            if self._awaiting is not Awaiting.CLOSE and not self._transport.is_closing():
                self._transport.write(data)

    # Clocks

    def _watch_clock(self) -> None:
        """Let the right clock run, and close what has nothing left to wait for."""
        endpoint = self._endpoint
        block = endpoint.coming_block
        # One that begins a stream behind the last GOAWAY is refused anyway.
        if block and block <= endpoint.goaway_id and not self._half_closed:
            awaiting = Awaiting.HEADER_BLOCK
        elif endpoint.streams.open:
            awaiting = Awaiting.STREAMS
        elif endpoint.awaits_settings:
            awaiting = Awaiting.SETTINGS
        else:
            awaiting = Awaiting.REQUEST
            if self._leaving or endpoint.goaway_received or self._half_closed:
                self._leave()
                return
        if awaiting is not self._awaiting or block != self._block:
            self._awaiting = awaiting
            self._block = block
            if awaiting is Awaiting.STREAMS:
                self.deadline = NEVER
            elif awaiting is Awaiting.REQUEST and endpoint.streams.last_id:
                self.deadline = self._context.keepalive_deadline
            else:
                self.deadline = self._context.clock.deadline(self._context.settings.header_timeout_seconds)

    def _watch_content(self, stream: Http2Stream) -> None:
        stream.deadline = self._context.clock.deadline(self._context.settings.body_timeout_seconds)
        self._add_timed(stream)

    def _add_timed(self, stream: Http2Stream) -> None:
        self._timed.add(stream)
        self._context.unsent.add(self)

    def _add_time(self, seconds: float) -> None:
        """For so long the client was not heard: it may well have sent what is awaited."""
        if self._awaiting in _SENT_BY_CLIENT:
            self.deadline += seconds
        for stream in self._timed:
            stream.add_time(seconds)

    def on_tick(self) -> None:
        """See `UnsentConnection.on_tick`: also the clocks of the streams."""
        super().on_tick()
        if not self._reading_paused:
            self._look_at_streams()
        if self._timed:
            self._context.unsent.add(self)

    def _look_at_streams(self) -> None:
        clock = self._context.clock
        content_sent, self._content_sent = self._content_sent, False
        before, self._coming_content = self._coming_content, self._endpoint.coming_content
        arriving = self._coming_content[0] if self._coming_content != before else 0
        for stream in tuple(self._timed):
            if stream.state is StreamState.CLOSED:
                self._timed.discard(stream)
                continue
            stream.add_time(clock.lag_seconds)
            if stream.queue is not None:
                # With room in its own window it waits for its turn within that of the connection.
                if stream.queue_moves or (content_sent and stream.send_window > 0):
                    stream.queue_moves = False
                    self.watch(stream)
                elif stream.write_deadline <= clock.now:
                    self._on_nothing_taken(stream)
                    continue
            elif stream.deadline is NEVER:
                self._timed.discard(stream)
                continue
            if stream.id == arriving and stream.state is _OPEN and stream.deadline is not NEVER:
                self._watch_content(stream)
            elif stream.deadline <= clock.now:
                self._on_nothing_sent(stream)

    def _on_nothing_taken(self, stream: Http2Stream) -> None:
        self._context.error_log.info("Client %s takes no data; stream reset", self.peer)
        self._endpoint.reset_stream(stream.id, frames.CANCEL)
        self.on_stream_reset(stream)
        self.schedule_flush()

    def _on_nothing_sent(self, stream: Http2Stream) -> None:
        stream.deadline = NEVER
        if stream.state is StreamState.HALF_CLOSED_LOCAL:
            self._reset(stream, frames.NO_ERROR)
        elif stream.exchange.state is ExchangeState.AWAITING_START:
            self._answer_instead(stream, RemoteProtocolError(408, "body-timeout"))

    def on_deadline(self) -> None:
        """See `WatchedConnection.on_deadline`: what is due depends on what is awaited."""
        if self._reading_paused and self._awaiting in _SENT_BY_CLIENT:
            return  # It may have been sent. `resume_writing` moves the deadline.
        self.deadline = NEVER
        awaiting = self._awaiting
        if awaiting is Awaiting.SETTINGS:
            self._fail(Http2Error(frames.PROTOCOL_ERROR, "settings-timeout"))
        elif awaiting is Awaiting.HEADER_BLOCK:
            self._fail(Http2Error(frames.PROTOCOL_ERROR, "head-timeout"))
        elif awaiting is Awaiting.STREAMS:  # The client has half-closed the connection.
            for stream in tuple(self._endpoint.streams.open.values()):
                stream.exchange.on_half_close()
        elif awaiting is Awaiting.REQUEST:
            if self.has_unread_input() and not self._leaving:
                self.deadline = self._context.clock.now
            else:
                self._leave()
        else:
            self._on_shut_deadline()

    # Ends

    def begin_drain(self) -> None:
        """See `WatchedConnection.begin_drain`: RFC 9113 section 6.8 announces the end before it names the last
        stream."""
        if self._awaiting is not Awaiting.CLOSE and not self._leaving:
            self._send_goaway(frames.ALL_STREAMS, frames.NO_ERROR)
            self.schedule_flush()

    def end_grace(self) -> None:
        """See `WatchedConnection.end_grace`."""
        for stream in tuple(self._endpoint.streams.open.values()):
            stream.exchange.end_grace()
        self._begin_leaving()

    def _begin_leaving(self) -> None:
        """From now on no request is served that has not been read."""
        if self._awaiting is Awaiting.CLOSE:
            return
        self._leaving = True
        if self._endpoint.streams.open:
            self._endpoint.refuse_further()
            self.schedule_flush()
        elif self.has_unread_input():  # A request, most likely: it is read before the last GOAWAY.
            self.deadline = self._context.clock.now
        else:
            self._leave()

    def _leave(self) -> None:
        """Nothing runs and nothing more is to come."""
        self._endpoint.refuse_further()
        self._linger()

    def _fail(self, error: Http2Error) -> None:
        """RFC 9113 section 5.4.1: tell the client why, and end."""
        self._context.log_refusal(self.peer, 400, error.reason)
        # It may not grow from one GOAWAY to the next.
        self._send_goaway(min(self._endpoint.streams.last_id, self._endpoint.goaway_id), error.code)
        self._end_streams()
        self._linger()

    def _end_streams(self) -> None:
        """The end of the connection is a reset of all its streams: else it would be the cheaper one for the client."""
        streams = self._endpoint.streams
        for stream in tuple(streams.open.values()):
            streams.reset(stream.id, StreamState.RESET_BY_SERVER)
            self.on_stream_reset(stream)

    def _send_goaway(self, last_id: int, code: int) -> None:
        self.sender.out.append(frames.goaway_frame(last_id, code))

    def _linger(self) -> None:
        self._write()
        self._awaiting = Awaiting.CLOSE
        if not self._transport.is_closing():
            self._shut()

    def close(self) -> None:
        """See `WatchedConnection.close`."""
        if self._awaiting is not Awaiting.CLOSE:
            self._endpoint.refuse_further()
            self._write()
            self._awaiting = Awaiting.CLOSE
        self._close_transport()


def _websocket_handshake(
    protocol: bytes, fields: dict[bytes, bytes], ended: bool, context: ServingContext
) -> Handshake:
    """What an extended CONNECT asks for (RFC 8441 sections 4 and 5). Raises RemoteProtocolError."""
    if protocol != b"websocket":
        raise RemoteProtocolError(501, "unknown-protocol")
    if ended:
        raise RemoteProtocolError(400, "websocket-without-stream")
    return read_http2_handshake(fields, per_message_deflate=context.settings.ws_per_message_deflate)
