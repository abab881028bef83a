"""The receiving side of one HTTP/2 connection: bytes to requests, content and resets (RFC 9113).

`Endpoint.receive` goes through the frames of a buffer in one loop. A mistake of the client is an `Http2Error` for the
connection, after which nothing may be received any more, or a `StreamError`, which ends here as RST_STREAM. Which of
them a frame is that does not fit the state of its stream stands in one table (`http2_streams.VERDICTS`).

Too many mistakes on streams end the connection too, but not its other streams: behind a proxy that multiplexes, they
are those of other people. So it ends as in a drain, by a GOAWAY that still lets come what is on its way and another one
that names the last stream; only a client that goes on is cut off.

Nearly all frames of a busy connection are HEADERS of requests without content, so that these have a short way of their
own; everything else goes through `_receive_frame`.

Flow control: what comes is given back to the window of the connection at once, and to that of its stream when the
application has taken it. So a stream that nobody reads holds up nobody else, and what it can put into memory is its own
window. What all streams together can is that times `http2_max_concurrent_streams`.
"""

import struct
from enum import Enum, auto
from typing import Final, Generic

from ..errors import RemoteProtocolError
from ..settings import Settings
from . import http2_frames as frames
from .http2_allowance import MAX_BAD_STREAMS, MAX_CONTROL_FRAMES, MAX_LATE_STREAMS, MAX_RESETS, Allowance
from .http2_events import Http2Events
from .http2_frames import ALL_STREAMS, PREFACE, ErrorCode, Http2Error
from .http2_header_blocks import MAX_CONTINUATIONS, HeaderBlocks, PartialBlock
from .http2_request import RequestReader
from .http2_sending import DEFAULT_WINDOW_BYTES, FrameSender
from .http2_streams import VERDICTS, IncomingContent, StreamError, StreamState, StreamT, StreamTable, Verdict

CONNECTION_WINDOW_BYTES: Final = 1024 * 1024
"""What may be on its way on all streams together. At 100 ms of round trip it lets 10 MiB a second through; it is not
what bounds memory."""

_FRAME_HEAD: Final = struct.Struct(">HBBBL").unpack_from
_HALF_CLOSED_REMOTE: Final = StreamState.HALF_CLOSED_REMOTE
_OPEN: Final = StreamState.OPEN


class _Expect(Enum):
    """What the next bytes have to be."""

    PREFACE = auto()
    SETTINGS = auto()
    FRAMES = auto()


class Endpoint(Generic[StreamT]):
    """The server's end of one connection. What it has to send is in `sender.out` whenever a call returns."""

    __slots__ = (
        "_bad_streams",
        "_block",
        "_blocks",
        "_chunks",
        "_chunks_bytes",
        "_connect_protocol",
        "_control_frames",
        "_events",
        "_expect",
        "_goaway_code",
        "_late_streams",
        "_max_block",
        "_max_frame",
        "_max_streams",
        "_missing_bytes",
        "_now",
        "_offended",
        "_receive_window",
        "_resets",
        "_settings",
        "_settings_acknowledged",
        "ending_tasks",
        "goaway_id",
        "goaway_received",
        "rules",
        "sender",
        "streams",
    )

    def __init__(
        self,
        settings: Settings,
        reader: RequestReader,
        events: Http2Events[StreamT],
        *,
        watched_names: frozenset[bytes] = frozenset(),
        connect_protocol: bool = False,
    ) -> None:
        """`watched_names` are for `rules`; `connect_protocol` allows extended CONNECT (RFC 8441)."""
        self._settings = settings
        self._events = events
        self._connect_protocol = connect_protocol
        self._max_frame = settings.http2_max_frame_bytes
        self._max_streams = settings.http2_max_concurrent_streams
        # As many frames of the usual size as are allowed, or what a list within its limit can measure at the worst.
        self._max_block = max((MAX_CONTINUATIONS + 1) * 16384, 2 * settings.http2_max_header_list_bytes)
        self._blocks = HeaderBlocks(
            reader, settings.http2_max_header_list_bytes, watched_names, connect_protocol=connect_protocol
        )
        self.rules = self._blocks.rules
        self.streams: StreamTable[StreamT] = StreamTable(self._max_streams)
        self.sender: FrameSender[StreamT] = FrameSender(self.streams, settings.write_buffer_bytes)
        self.ending_tasks = 0
        """Applications of streams that are reset and have not returned. They count as streams, since they cost as
        much."""
        self.goaway_id = ALL_STREAMS
        """The last stream that a GOAWAY of ours still allows."""
        self._goaway_code = frames.NO_ERROR
        self.goaway_received = False
        self._expect = _Expect.PREFACE
        self._chunks: list[bytes] = []
        self._chunks_bytes = 0
        self._missing_bytes = 0
        self._block: PartialBlock | None = None
        self._receive_window = CONNECTION_WINDOW_BYTES
        self._settings_acknowledged = False
        self._resets = Allowance(MAX_RESETS)
        self._control_frames = Allowance(MAX_CONTROL_FRAMES)
        self._bad_streams = 0
        self._late_streams = 0
        self._offended = False
        """Whether the client has gone too far once."""
        self._now = 0.0

    def begin(self) -> None:
        """Send our connection preface (RFC 9113 section 3.4)."""
        settings = self._settings
        values = {
            frames.SETTINGS_MAX_CONCURRENT_STREAMS: settings.http2_max_concurrent_streams,
            frames.SETTINGS_INITIAL_WINDOW_SIZE: settings.http2_initial_window_bytes,
            frames.SETTINGS_MAX_FRAME_SIZE: settings.http2_max_frame_bytes,
            frames.SETTINGS_MAX_HEADER_LIST_SIZE: settings.http2_max_header_list_bytes,
            # RFC 9218 section 2.1.1: the priorities of RFC 7540 mean nothing here.
            frames.SETTINGS_NO_RFC7540_PRIORITIES: 1,
        }
        if self._connect_protocol:
            values[frames.SETTINGS_ENABLE_CONNECT_PROTOCOL] = 1
        self.sender.out.append(frames.settings_frame(values))
        self.sender.out.append(frames.window_update_frame(0, CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES))

    def begin_upgraded(self, settings_payload: bytes) -> None:
        """Take over after `Upgrade: h2c` (RFC 7540 section 3.2): `settings_payload` is what HTTP2-Settings held, and
        stream 1 is the request of the upgrade. Raises Http2Error."""
        self._apply_settings(settings_payload)
        self.streams.last_id = 1

    @property
    def awaits_settings(self) -> bool:
        """Whether the client has not yet sent its preface and SETTINGS."""
        return self._expect is not _Expect.FRAMES

    @property
    def coming_block(self) -> int:
        """The stream whose header block has begun to come and is not complete; 0 for none."""
        if self._block is not None:
            return self._block.stream_id
        return self._coming(frames.HEADERS) if self._chunks else 0

    @property
    def coming_content(self) -> tuple[int, int]:
        """The stream whose DATA frame has begun to come and is not complete, 0 for none; and how much of it is here."""
        return self._coming(frames.DATA), self._chunks_bytes

    def _coming(self, kind: int) -> int:
        """The stream of the frame that is not complete, where it is of this type."""
        if self._chunks and self._expect is _Expect.FRAMES:
            begun = self._chunks[0]
            if len(begun) >= frames.HEAD_BYTES and begun[3] == kind:
                return int.from_bytes(begun[5:9], "big") & 0x7FFFFFFF
        return 0

    def receive(self, data: bytes, now: float) -> None:
        """Look through received bytes; `now` is the time in seconds of any clock that never goes back.

        Raises Http2Error when the connection has to end.
        """
        self._now = now
        if self._chunks:
            self._chunks.append(data)
            self._chunks_bytes += len(data)
            if self._chunks_bytes < self._missing_bytes:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
        position, size = 0, len(data)
        if self._expect is _Expect.PREFACE:
            if not PREFACE.startswith(data[:24]):
                raise Http2Error(frames.PROTOCOL_ERROR, "bad-preface")
            if size < 24:
                self._keep(data, 24)
                return
            self._expect = _Expect.SETTINGS
            position = 24
        streams = self.streams
        missing = 9
        while size - position >= 9:
            # The length has three bytes; the first two and the third.
            high, low, kind, flags, stream_id = _FRAME_HEAD(data, position)
            start = position + 9
            end = start + (high << 8 | low)
            if end - start > 16384:  # Smaller ones are allowed to everybody (RFC 9113 section 4.2).
                if end - start > self._max_frame:
                    raise Http2Error(frames.FRAME_SIZE_ERROR, "frame-too-large")
                if kind == frames.HEADERS and end - start > self._max_block:
                    raise Http2Error(frames.ENHANCE_YOUR_CALM, "header-block-too-large")
            if end > size:
                missing = end - position
                break
            position = end
            if (
                kind == 1  # HEADERS
                and flags & 0x0D == 0x05  # END_HEADERS, END_STREAM, not PADDED
                and streams.last_id < stream_id <= self.goaway_id
                and self._block is None
                and stream_id & 1
                and self._expect is _Expect.FRAMES
            ):
                if flags & 0x20:
                    start += 5  # The priority of RFC 7540 means nothing any more.
                    if start > end:
                        raise Http2Error(frames.FRAME_SIZE_ERROR, "headers-too-short")
                self._begin_stream(stream_id, data[start:end], True)
            else:
                try:
                    self._receive_frame(kind, flags, stream_id & 0x7FFFFFFF, data[start:end])
                except StreamError as error:
                    self._fail_stream(stream_id & 0x7FFFFFFF, error)
        if position < size:
            self._keep(data[position:] if position else data, missing)

    def _keep(self, data: bytes, missing: int) -> None:
        """Wait until there are `missing` bytes, so that a frame that drips in is put together once."""
        self._chunks.append(data)
        self._chunks_bytes = len(data)
        self._missing_bytes = missing

    # Requests

    def _begin_stream(self, stream_id: int, block: bytes, ended: bool) -> None:
        """A complete header block opens a stream."""
        streams = self.streams
        if stream_id != streams.last_id + 2 and stream_id > 1:
            streams.skip_to(stream_id)
        streams.last_id = stream_id
        head = None
        try:
            head = self._blocks.read_request(block, ended)
            if self._control_frames.spent:
                self._control_frames.renew()
            if len(streams.open) + self.ending_tasks >= self._max_streams:
                # RFC 9113 section 5.1.2; this code says that the request may be sent again.
                self._provoked_reset(stream_id, frames.REFUSED_STREAM)
                return
            streams.open[stream_id] = self._events.on_request(stream_id, head, ended)
        except RemoteProtocolError as error:
            if head is None and error.status == 400:
                # RFC 9113 section 8.1.1: a malformed request is a stream error, whatever the mistake.
                self._fail_stream(stream_id, StreamError(frames.PROTOCOL_ERROR, error.reason))
            else:
                self._refuse(stream_id, error, ended)

    def _refuse(self, stream_id: int, error: RemoteProtocolError, ended: bool) -> None:
        self._events.on_refused_request(stream_id, error, self._blocks.request_line)
        if not ended:
            # RFC 9113 section 8.1: the answer is complete, the rest of the request not wanted.
            self._provoked_reset(stream_id, frames.NO_ERROR)

    def _fail_stream(self, stream_id: int, error: StreamError) -> None:
        self._events.on_stream_error(error.reason)
        if error.code == frames.PROTOCOL_ERROR:
            self._bad_streams += 1
            if self._bad_streams >= MAX_BAD_STREAMS:
                self._offend(frames.PROTOCOL_ERROR, "too-many-bad-streams")
        self._provoked_reset(stream_id, error.code)

    def _provoked_reset(self, stream_id: int, code: int) -> None:
        """Reset a stream through the client's fault, which counts as if it had done so itself."""
        stream = self.reset_stream(stream_id, code)
        if stream is not None:
            self._events.on_stream_reset(stream)
        self._count_reset()

    def _count_reset(self) -> None:
        if not self._resets.spend(self._now):
            self._offend(frames.ENHANCE_YOUR_CALM, "too-many-resets")

    def _offend(self, code: ErrorCode, reason: str) -> None:
        """The client has gone too far. Raises Http2Error where that is not the first time."""
        if self._offended:
            raise Http2Error(code, reason)
        self._offended = True
        self._goaway_code = code
        self._bad_streams = 0
        self._resets.renew()
        if self.goaway_id == ALL_STREAMS:
            # As in a drain: what the client has sent before it sees this is still served.
            self.sender.out.append(frames.goaway_frame(ALL_STREAMS, code))
        self._events.on_offence(reason)

    def refuse_further(self) -> None:
        """Let the client know that the streams which are there are the last (RFC 9113 section 6.8)."""
        if self.goaway_id == ALL_STREAMS:
            self.goaway_id = self.streams.last_id
            self.sender.out.append(frames.goaway_frame(self.goaway_id, self._goaway_code))

    def reset_stream(self, stream_id: int, code: int) -> StreamT | None:
        """Send RST_STREAM and forget the stream, which is returned where it was not closed before."""
        self.sender.out.append(frames.rst_stream_frame(stream_id, code))
        return self.streams.reset(stream_id, StreamState.RESET_BY_SERVER)

    def acknowledge(self, stream: StreamT) -> None:
        """The application has taken all content of `stream` that has come: let the client send more."""
        incoming = stream.incoming
        if incoming is not None:
            incoming.owed_bytes += incoming.untaken_bytes
            incoming.untaken_bytes = 0
            self._give_back(stream, incoming)

    def _give_back(self, stream: StreamT, incoming: IncomingContent) -> None:
        # Not for each frame: half a window is still there while the update is on its way.
        if stream.state is _OPEN and incoming.owed_bytes * 2 >= self._settings.http2_initial_window_bytes:
            self.sender.out.append(frames.window_update_frame(stream.id, incoming.owed_bytes))
            incoming.window += incoming.owed_bytes
            incoming.owed_bytes = 0

    def incoming_content(self, content_length: int) -> IncomingContent:
        """For a new stream whose request has content."""
        window = self._settings.http2_initial_window_bytes if self._settings_acknowledged else DEFAULT_WINDOW_BYTES
        return IncomingContent(window, content_length)

    # Frames

    def _receive_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._expect is _Expect.SETTINGS:
            if kind != frames.SETTINGS or flags & frames.FLAG_ACK:
                raise Http2Error(frames.PROTOCOL_ERROR, "no-settings-first")
            self._expect = _Expect.FRAMES
        if self._block is not None and kind != frames.CONTINUATION:
            raise Http2Error(frames.PROTOCOL_ERROR, "interrupted-header-block")
        if kind == frames.DATA:
            self._receive_data(flags, stream_id, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._receive_window_update(stream_id, payload)
        elif kind == frames.HEADERS:
            self._receive_headers(flags, stream_id, payload)
        elif kind == frames.CONTINUATION:
            self._receive_continuation(flags, stream_id, payload)
        elif kind == frames.RST_STREAM:
            self._receive_rst_stream(stream_id, payload)
        elif kind == frames.SETTINGS:
            self._receive_settings(flags, stream_id, payload)
        elif kind == frames.PING:
            self._receive_ping(flags, stream_id, payload)
        elif kind == frames.PRIORITY:
            self._count_control_frame()
            if not stream_id:
                raise Http2Error(frames.PROTOCOL_ERROR, "priority-on-stream-0")
            if len(payload) != 5:
                if stream_id not in self.streams.open:  # RFC 9113 sections 5.1 and 6.4: it must not be reset.
                    raise Http2Error(frames.FRAME_SIZE_ERROR, "bad-priority")
                raise StreamError(frames.FRAME_SIZE_ERROR, "bad-priority")
        elif kind == frames.GOAWAY:
            if stream_id:
                raise Http2Error(frames.PROTOCOL_ERROR, "goaway-on-a-stream")
            if len(payload) < 8:
                raise Http2Error(frames.FRAME_SIZE_ERROR, "bad-goaway")
            self.goaway_received = True
        elif kind == frames.PUSH_PROMISE:
            raise Http2Error(frames.PROTOCOL_ERROR, "push-by-a-client")
        else:  # RFC 9113 section 5.5: types that are not known are ignored.
            self._count_control_frame()

    def _count_control_frame(self) -> None:
        if not self._control_frames.spend(self._now):
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "too-many-control-frames")

    def on_content_sent(self) -> None:
        """Content was sent: a client may well ask for the round-trip time meanwhile."""
        self._control_frames.renew()

    def _accepts(self, kind: int, stream_id: int) -> bool:
        """Whether a frame fits the state of its stream; False where it is ignored.

        Raises Http2Error or StreamError for what the table says.
        """
        if (
            not stream_id & 1
        ):  # Also 0: these frames belong to a stream, and even ones are ours, of which there is none.
            raise Http2Error(frames.PROTOCOL_ERROR, "bad-stream-identifier")
        if self.goaway_id < stream_id <= self.streams.last_id:
            return False  # RFC 9113 section 6.8: the client may not know yet that it was refused.
        verdict = VERDICTS[self.streams.state_of(stream_id), kind]
        if verdict is Verdict.STREAM_CLOSED:
            raise StreamError(frames.STREAM_CLOSED, "frame-on-closed-stream")
        if verdict is Verdict.CONNECTION_STREAM_CLOSED:
            raise Http2Error(frames.STREAM_CLOSED, "frame-on-closed-stream")
        if verdict is Verdict.CONNECTION_PROTOCOL_ERROR:
            raise Http2Error(frames.PROTOCOL_ERROR, "frame-on-idle-stream")
        return verdict is Verdict.ACCEPT

    def _receive_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise Http2Error(frames.PROTOCOL_ERROR, "bad-stream-identifier")
        if flags & frames.FLAG_PADDED:
            payload = _without_padding(payload)
        if flags & frames.FLAG_PRIORITY:
            if len(payload) < 5:
                raise Http2Error(frames.FRAME_SIZE_ERROR, "headers-too-short")
            payload = payload[5:]
        ended = bool(flags & frames.FLAG_END_STREAM)
        if flags & frames.FLAG_END_HEADERS:
            self._receive_block(stream_id, payload, ended)
        else:
            self._block = PartialBlock(stream_id, payload, ended)

    def _receive_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None or block.stream_id != stream_id:
            raise Http2Error(frames.PROTOCOL_ERROR, "unexpected-continuation")
        block.append(payload, self._max_block)
        if flags & frames.FLAG_END_HEADERS:
            self._block = None
            self._receive_block(stream_id, block.whole(), block.ended)

    def _receive_block(self, stream_id: int, block: bytes, ended: bool) -> None:
        """A complete header block: a request, trailers, or one that comes too late and still has to be decoded."""
        if stream_id > self.streams.last_id and stream_id <= self.goaway_id:
            self._begin_stream(stream_id, block, ended)
            return
        mistake = None
        try:
            self._blocks.read_trailers(block)  # Whatever it is: blocks after it depend on it.
        except RemoteProtocolError as error:
            mistake = error
        if stream_id > self.streams.last_id:
            # RFC 9113 section 6.8: we have said that it will not be served, but the client may not know yet. So this
            # is not its fault, up to a point.
            self._late_streams += 1
            if self._late_streams > MAX_LATE_STREAMS:
                raise Http2Error(frames.ENHANCE_YOUR_CALM, "too-many-late-streams")
            self.streams.last_id = stream_id
            self.sender.out.append(frames.rst_stream_frame(stream_id, frames.REFUSED_STREAM))
            return
        if not self._accepts(frames.HEADERS, stream_id):
            return
        stream = self.streams.open[stream_id]
        if not ended:
            raise StreamError(frames.PROTOCOL_ERROR, "header-block-in-content")
        if mistake is not None:
            self._refuse_trailers(stream, mistake)
        else:
            self._receive_content(stream, b"", ended=True)

    def _refuse_trailers(self, stream: StreamT, error: RemoteProtocolError) -> None:
        """As `_refuse`, where the request is under way."""
        if error.status != 400 and stream.state is _OPEN:
            stream.state = _HALF_CLOSED_REMOTE
            if self._events.on_refused_trailers(stream, error):
                return
        raise StreamError(frames.PROTOCOL_ERROR, error.reason)

    def _receive_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        # RFC 9113 section 6.9.1: all of the frame counts, padding too, also where the stream is closed.
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise Http2Error(frames.FLOW_CONTROL_ERROR, "connection-window-exceeded")
        if self._receive_window * 2 <= CONNECTION_WINDOW_BYTES:
            self.sender.out.append(frames.window_update_frame(0, CONNECTION_WINDOW_BYTES - self._receive_window))
            self._receive_window = CONNECTION_WINDOW_BYTES
        if flags & frames.FLAG_PADDED:
            payload = _without_padding(payload)
        if not self._accepts(frames.DATA, stream_id):
            return
        stream = self.streams.open[stream_id]
        ended = bool(flags & frames.FLAG_END_STREAM)
        if payload:
            if self._control_frames.spent:
                self._control_frames.renew()
        elif not ended:
            self._count_control_frame()
        incoming = stream.incoming
        assert incoming is not None, "a stream whose request has no content is not open"
        incoming.window -= size
        if size and incoming.window < 0:  # Section 6.9.1: what is empty needs no window.
            raise StreamError(frames.FLOW_CONTROL_ERROR, "stream-window-exceeded")
        incoming.untaken_bytes += len(payload)
        self._receive_content(stream, payload, ended)
        if size != len(payload):
            # There is nothing in padding that the application could take.
            incoming.owed_bytes += size - len(payload)
            self._give_back(stream, incoming)

    def _receive_content(self, stream: StreamT, content: bytes, ended: bool) -> None:
        incoming = stream.incoming
        assert incoming is not None
        if incoming.remaining >= 0:
            # RFC 9113 section 8.1.1: the sum of all content has to be what Content-Length says.
            incoming.remaining -= len(content)
            if incoming.remaining < 0 or (ended and incoming.remaining):
                raise StreamError(frames.PROTOCOL_ERROR, "content-length-mismatch")
        if stream.state is StreamState.HALF_CLOSED_LOCAL:  # The response is complete: nobody wants this.
            if ended:
                stream.state = StreamState.CLOSED
                del self.streams.open[stream.id]
                stream.on_closed()
            return
        if ended:
            stream.state = _HALF_CLOSED_REMOTE
        self._events.on_content(stream, content, ended)

    def _receive_rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "bad-rst-stream")
        if self._accepts(frames.RST_STREAM, stream_id):
            stream = self.streams.reset(stream_id, StreamState.RESET_BY_CLIENT)
            if stream is not None:
                self._events.on_stream_reset(stream)
        self._count_reset()

    def _receive_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "bad-window-update")
        increment = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if not stream_id:
            self.sender.on_window_update(None, increment)
        elif self._accepts(frames.WINDOW_UPDATE, stream_id):
            self.sender.on_window_update(self.streams.open[stream_id], increment)

    def _receive_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Http2Error(frames.PROTOCOL_ERROR, "ping-on-a-stream")
        if len(payload) != 8:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "bad-ping")
        if flags & frames.FLAG_ACK:
            self._events.on_ping_ack(payload)
        else:
            self.sender.out.append(frames.ping_frame(payload, ack=True))
        self._count_control_frame()

    def _receive_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Http2Error(frames.PROTOCOL_ERROR, "settings-on-a-stream")
        if flags & frames.FLAG_ACK:
            if payload:
                raise Http2Error(frames.FRAME_SIZE_ERROR, "settings-ack-with-content")
            self._on_settings_acknowledged()
        else:
            self._apply_settings(payload)
            self.sender.out.append(frames.SETTINGS_ACK)
        self._count_control_frame()

    def _on_settings_acknowledged(self) -> None:
        """RFC 9113 section 6.5.3: from now on the client keeps to our window, which may be smaller than the default."""
        if not self._settings_acknowledged:
            self._settings_acknowledged = True
            change = self._settings.http2_initial_window_bytes - DEFAULT_WINDOW_BYTES
            for stream in self.streams.open.values():
                if stream.incoming is not None:
                    stream.incoming.window += change

    def _apply_settings(self, payload: bytes) -> None:
        if len(payload) % 6:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "bad-settings")
        window = None
        for identifier, value in struct.iter_unpack(">HL", payload):
            if identifier == frames.SETTINGS_HEADER_TABLE_SIZE:
                self.sender.set_header_table_size(value)
            elif identifier == frames.SETTINGS_ENABLE_PUSH:
                if value > 1:
                    raise Http2Error(frames.PROTOCOL_ERROR, "bad-enable-push")
            elif identifier == frames.SETTINGS_INITIAL_WINDOW_SIZE:
                if value > 2**31 - 1:
                    raise Http2Error(frames.FLOW_CONTROL_ERROR, "bad-initial-window-size")
                window = value
            elif identifier == frames.SETTINGS_MAX_FRAME_SIZE and not 2**14 <= value <= 2**24 - 1:
                raise Http2Error(frames.PROTOCOL_ERROR, "bad-max-frame-size")
        # Nothing can be sent between the values of one frame, and each concerns all streams: the last one counts.
        if window is not None:
            self.sender.set_initial_window(window)


def _without_padding(payload: bytes) -> bytes:
    """What a frame with the flag PADDED holds (RFC 9113 sections 6.1 and 6.2)."""
    if not payload:
        raise Http2Error(frames.FRAME_SIZE_ERROR, "no-pad-length")
    end = len(payload) - payload[0]
    if end < 1:
        raise Http2Error(frames.PROTOCOL_ERROR, "too-much-padding")
    return payload[1:end]
