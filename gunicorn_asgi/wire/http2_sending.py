"""The sending side of one HTTP/2 connection: windows, who sends next, and frames gathered for one write.

Content goes out at once while both windows have room and nobody waits for a turn. Else it waits in the queue of its
stream; as soon as there is room again, `pump` takes one frame of each waiting stream in turn, so that a large response
never holds up a small one for longer than a frame (RFC 9113 section 5.3 leaves the order to the server), nor do many
small ones a large one.
"""

import struct
from collections import deque
from typing import Final, Generic

from . import http2_frames as frames
from .http2_frames import Http2Error
from .http2_hpack import HeaderEncoder
from .http2_streams import StreamError, StreamState, StreamT, StreamTable

DEFAULT_WINDOW_BYTES: Final = 65535
"""RFC 9113 section 6.9.2."""

MAX_WINDOW_BYTES: Final = 2**31 - 1
"""RFC 9113 section 6.9.1."""

_MAX_FRAME_BYTES: Final = 16384
"""What every client takes (RFC 9113 section 4.2). Larger frames would save little and make the other streams wait."""

_JOIN_BELOW_BYTES: Final = 1024
"""Smaller pieces are joined in the queue of a stream: each by itself would take 200 bytes more than it holds."""

_FRAME_BYTES: Final = 100
"""What a frame that waits in `out` takes besides its content: two objects and nine bytes on the wire."""

_head: Final = struct.Struct(">xHHL").pack
"""The first nine bytes of a frame: length, which here fits into two of its three bytes; type and flags; stream
identifier. `int.to_bytes` would take half as long again."""

_DATA: Final = frames.DATA << 8
_END_STREAM: Final = frames.FLAG_END_STREAM
_LAST_DATA: Final = _DATA | _END_STREAM
_HEADERS: Final = frames.HEADERS << 8
_END_HEADERS: Final = frames.FLAG_END_HEADERS
_WHOLE_HEADERS: Final = _HEADERS | _END_HEADERS
_WHOLE_RESPONSE: Final = _HEADERS | _END_HEADERS | _END_STREAM

_HALF_CLOSED_REMOTE: Final = StreamState.HALF_CLOSED_REMOTE
_CLOSED: Final = StreamState.CLOSED


class FrameSender(Generic[StreamT]):
    """Turns responses into frames. Whoever owns the transport takes them out of `out`."""

    __slots__ = (
        "_block_prefix",
        "_burst_bytes",
        "_encoder",
        "_ready",
        "_streams",
        "initial_window",
        "out",
        "out_bytes",
        "window",
    )

    def __init__(self, streams: StreamTable[StreamT], burst_bytes: int) -> None:
        """`burst_bytes` is how much content goes into one write, roughly."""
        self._streams = streams
        self._ready = streams.ready
        self._burst_bytes = burst_bytes
        self.initial_window = DEFAULT_WINDOW_BYTES
        """Window of a new stream."""
        self._encoder = HeaderEncoder()
        self._block_prefix = b""
        """What each header block has to begin with."""
        self.window = DEFAULT_WINDOW_BYTES
        """Bytes of content that the client takes on all streams together."""
        self.out: list[bytes | bytearray | memoryview] = []
        """What to write next, in its order."""
        self.out_bytes = 0
        """What the content in `out` takes, roughly."""

    @property
    def has_sendable(self) -> bool:
        """Whether something waits that the windows let through."""
        return bool(self._ready) and self.window > 0

    # Responses

    def send_response(self, stream: StreamT, block: bytes, content: bytes, last: bool) -> None:
        """A head, and with it the first content. `last` says that nothing follows."""
        if self._block_prefix:
            block = self._block_prefix + block
        size = len(content)
        block_size = len(block)
        stream_id = stream.id
        if block_size > _MAX_FRAME_BYTES:
            self._send_large_block(stream_id, block, last and not size)
            if size or not last:
                self.send_content(stream, content, last)
            elif last:
                self._end(stream)
            return
        if not size:
            kind = _WHOLE_RESPONSE if last else _WHOLE_HEADERS
            self.out += (_head(block_size, kind, stream_id), block)
            if last:
                self._end(stream)
        elif (
            last and size <= _MAX_FRAME_BYTES and size <= self.window and size <= stream.send_window and not self._ready
        ):
            # Nearly all responses are this.
            self.out += (
                _head(block_size, _WHOLE_HEADERS, stream_id),
                block,
                _head(size, _LAST_DATA, stream_id),
                content,
            )
            self.out_bytes += size
            self.window -= size
            if stream.state is _HALF_CLOSED_REMOTE:
                stream.state = _CLOSED
                del self._streams.open[stream_id]
            else:
                self._end(stream)
        else:
            self.out += (_head(block_size, _WHOLE_HEADERS, stream_id), block)
            self.send_content(stream, content, last)

    def send_answer(self, stream_id: int, block: bytes, content: bytes) -> None:
        """A whole response on a stream that is in no table. There must be room for its content."""
        size = len(content)
        self._send_block(stream_id, self._block_prefix + block, ends=not size)
        if size:
            self.window -= size
            self.out += (_head(size, _LAST_DATA, stream_id), content)

    def send_interim(self, stream_id: int, block: bytes) -> None:
        """A 1xx response."""
        self._send_block(stream_id, self._block_prefix + block, ends=False)

    def send_content(self, stream: StreamT, content: bytes, last: bool) -> None:
        """More of the content of a response, possibly nothing but its end."""
        if not content:
            if last:
                if stream.queue is not None:
                    stream.ends = True
                else:
                    self._send_data(stream, b"", ends=True)
            return
        position, size = 0, len(content)
        if stream.queue is None:
            # Slices of a view cost no copy.
            view = content if size <= _MAX_FRAME_BYTES else memoryview(content)
            while position < size and self.out_bytes < self._burst_bytes and not self._ready:
                room = min(_MAX_FRAME_BYTES, self.window, stream.send_window)
                if room <= 0:
                    break
                end = position + room
                ends = last and end >= size
                self._send_data(stream, view[position:end] if position or end < size else view, ends)
                position = end
            if position >= size:
                return
            stream.queue = deque()
            stream.queued_bytes = 0
            stream.queue_moves = True
            if stream.send_window > 0:
                self._ready[stream.id] = stream
        self._enqueue(stream, stream.queue, memoryview(content)[position:])
        stream.ends = last

    def _enqueue(self, stream: StreamT, queue: "deque[bytearray | memoryview]", content: memoryview) -> None:
        stream.queued_bytes += len(content)
        if len(content) >= _JOIN_BELOW_BYTES:
            queue.append(content)
            return
        if queue:
            last = queue[-1]
            if isinstance(last, bytearray) and len(last) < _MAX_FRAME_BYTES:
                last += content
                return
        queue.append(bytearray(content))

    def send_trailers(self, stream: StreamT, block: bytes) -> None:
        """Trailers end the stream. Nothing of it may be queued."""
        self._send_block(stream.id, self._block_prefix + block, ends=True)
        self._end(stream)

    def pump(self) -> None:
        """Send what is queued, one frame of each stream in turn, as much as fits into one write."""
        ready = self._ready
        while ready and self.window > 0 and self.out_bytes < self._burst_bytes:
            stream_id, stream = ready.popitem(last=False)
            queue = stream.queue
            assert queue is not None, "a stream whose turn it is has nothing queued"
            room = min(_MAX_FRAME_BYTES, self.window, stream.send_window)
            if room <= 0:
                continue
            content = queue.popleft()
            if len(content) > room:
                view = memoryview(content)
                queue.appendleft(view[room:])
                content = view[:room]
            stream.queued_bytes -= len(content)
            if queue:
                stream.queue_moves = True
                self._send_data(stream, content, ends=False)
                if stream.send_window > 0:
                    ready[stream_id] = stream
            else:
                stream.queue = None
                self._send_data(stream, content, ends=stream.ends)
                stream.on_queue_sent()

    def _send_data(self, stream: StreamT, content: bytes | bytearray | memoryview, ends: bool) -> None:
        size = len(content)
        self.out.append(_head(size, _LAST_DATA if ends else _DATA, stream.id))
        if size:
            self.out.append(content)
            self.out_bytes += size + _FRAME_BYTES
            self.window -= size
            stream.send_window -= size
        if ends:
            self._end(stream)

    def _send_block(self, stream_id: int, block: bytes, ends: bool) -> None:
        if len(block) > _MAX_FRAME_BYTES:
            self._send_large_block(stream_id, block, ends)
        else:
            kind = _WHOLE_RESPONSE if ends else _WHOLE_HEADERS
            self.out += (_head(len(block), kind, stream_id), block)

    def _send_large_block(self, stream_id: int, block: bytes, ends: bool) -> None:
        """HEADERS, then as many CONTINUATION frames as are needed (RFC 9113 section 6.10)."""
        kind = _HEADERS | _END_STREAM if ends else _HEADERS
        for start in range(0, len(block), _MAX_FRAME_BYTES):
            piece = block[start : start + _MAX_FRAME_BYTES]
            if start + _MAX_FRAME_BYTES >= len(block):
                kind |= _END_HEADERS
            self.out += (_head(len(piece), kind, stream_id), piece)
            kind = frames.CONTINUATION << 8

    def _end(self, stream: StreamT) -> None:
        """Our END_STREAM has been sent (RFC 9113 section 5.1)."""
        if stream.state is _HALF_CLOSED_REMOTE:
            stream.state = _CLOSED
            del self._streams.open[stream.id]
        else:
            stream.state = StreamState.HALF_CLOSED_LOCAL

    # Settings of the client

    def set_header_table_size(self, size: int) -> None:
        """SETTINGS_HEADER_TABLE_SIZE: which table our header blocks may use."""
        self._encoder.set_max_table_bytes(size)
        self._block_prefix = self._encoder.encode(())

    def on_window_update(self, stream: StreamT | None, increment: int) -> None:
        """The client gives room on a stream, or on the connection (None).

        Raises Http2Error, or StreamError where it concerns one stream.
        """
        if stream is None:
            if increment == 0:
                raise Http2Error(frames.PROTOCOL_ERROR, "window-update-of-0")
            self.window += increment
            if self.window > MAX_WINDOW_BYTES:
                raise Http2Error(frames.FLOW_CONTROL_ERROR, "window-too-large")
            return
        if increment == 0:
            raise StreamError(frames.PROTOCOL_ERROR, "window-update-of-0")
        if stream.send_window + increment > MAX_WINDOW_BYTES:
            raise StreamError(frames.FLOW_CONTROL_ERROR, "window-too-large")
        self._widen(stream, increment)

    def set_initial_window(self, size: int) -> None:
        """SETTINGS_INITIAL_WINDOW_SIZE, which also moves the windows of open streams (RFC 9113 section 6.9.2).

        Raises Http2Error when a window grows too large; it may well become negative.
        """
        change = size - self.initial_window
        self.initial_window = size
        for stream in self._streams.open.values():
            if stream.send_window + change > MAX_WINDOW_BYTES:
                raise Http2Error(frames.FLOW_CONTROL_ERROR, "window-too-large")
            self._widen(stream, change)

    def _widen(self, stream: StreamT, increment: int) -> None:
        was_blocked = stream.send_window <= 0
        stream.send_window += increment
        if was_blocked and stream.send_window > 0 and stream.queue is not None:
            self._ready[stream.id] = stream
