"""A client of HTTP/2 that speaks in frames: it sends anything at all, and is strict about what the server sends.

Each frame of the server is held against RFC 9113 as it comes in: sizes, flags, the order of frames in a header block,
states of streams, both flow-control windows, and what a response must not say.
"""

import contextlib
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

import hpack

from gunicorn_asgi.asgi_types import Field
from gunicorn_asgi.wire.http2_frames import (
    CONTINUATION,
    DATA,
    FLAG_ACK,
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    FLAG_PADDED,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    SETTINGS_INITIAL_WINDOW_SIZE,
    SETTINGS_MAX_FRAME_SIZE,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    ping_frame,
    settings_frame,
    window_update_frame,
)

from .http1 import TIMEOUT_SECONDS, Address

ANY_CODE: Final = tuple(ErrorCode)

_ALLOWED_FLAGS: Final = {
    DATA: FLAG_END_STREAM | FLAG_PADDED,
    HEADERS: FLAG_END_STREAM | FLAG_END_HEADERS | FLAG_PADDED,
    RST_STREAM: 0,
    SETTINGS: FLAG_ACK,
    PING: FLAG_ACK,
    GOAWAY: 0,
    WINDOW_UPDATE: 0,
    CONTINUATION: FLAG_END_HEADERS,
}
"""What this server may send, with the flags that it may set (section 4.1)."""

_FIXED_LENGTHS: Final = {RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_CONNECTION_SPECIFIC: Final = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}


def string(value: bytes) -> bytes:
    """A string of HPACK, plain (RFC 7541 section 5.2)."""
    if len(value) < 0x7F:
        return bytes((len(value),)) + value
    rest, length = len(value) - 0x7F, bytearray(b"\x7f")
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*length, rest)) + value


def literal(name: bytes, value: bytes) -> bytes:
    """A field without indexing, so that blocks do not depend on one another."""
    return b"\x00" + string(name) + string(value)


def block(fields: Iterable[Field]) -> bytes:
    """A header block that leaves all tables as they are."""
    return b"".join([literal(name, value) for name, value in fields])


def request_fields(
    target: bytes | str = b"/hello", method: bytes = b"GET", extra: Iterable[Field] = (), without: Iterable[bytes] = ()
) -> list[Field]:
    """A valid request, but for what is added or left out."""
    target = target.encode("ascii") if isinstance(target, str) else target
    fields = [(b":method", method), (b":scheme", b"http"), (b":path", target), (b":authority", b"example.org")]
    return [item for item in fields if item[0] not in set(without)] + list(extra)


def headers(
    stream_id: int,
    fields: Iterable[Field] | None = None,
    *,
    end_stream: bool = True,
    end_headers: bool = True,
    flags: int = 0,
) -> bytes:
    """HEADERS with a block of `fields`, by default a valid request."""
    flags |= (FLAG_END_STREAM if end_stream else 0) | (FLAG_END_HEADERS if end_headers else 0)
    return frame(HEADERS, flags, stream_id, block(request_fields() if fields is None else fields))


def post(stream_id: int, target: bytes | str = b"/echo", extra: Iterable[Field] = ()) -> bytes:
    """HEADERS of a request whose content follows."""
    return headers(stream_id, request_fields(target, b"POST", extra), end_stream=False)


def data(stream_id: int, content: bytes, *, end_stream: bool = False) -> bytes:
    return frame(DATA, FLAG_END_STREAM if end_stream else 0, stream_id, content)


@dataclass
class Frame:
    """One frame of the server."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


@dataclass
class StreamResponse:
    """What has come on one stream so far."""

    interim: list[list[Field]] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)
    body: bytes = b""
    trailers: list[Field] | None = None
    ended: bool = False
    """By END_STREAM."""
    reset: ErrorCode | None = None
    window: int = 0
    """What the server may still send."""

    @property
    def status(self) -> int:
        assert self.fields, f"no response: {self}"
        return int(self.fields[0][1])

    def get(self, name: bytes) -> bytes | None:
        """The value of a field that must not be repeated; None where it is missing."""
        values = [value for other, value in self.fields if other == name]
        assert len(values) <= 1, f"{name!r} is repeated: {self.fields}"
        return values[0] if values else None


class ConnectionEnded(EOFError):
    """The server has closed the connection."""


class Http2Connection:
    """One connection of a client. Every read fails after `TIMEOUT_SECONDS` instead of hanging."""

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        settings: Mapping[int, int] | None = None,
        handshake: bool = True,
        gives_window: bool = True,
    ) -> None:
        """`settings` are the client's. `gives_window` returns what was received to both windows at once."""
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(TIMEOUT_SECONDS)
            self.sock.connect(address)
        else:
            self.sock = socket.create_connection(address, timeout=TIMEOUT_SECONDS)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self.gives_window = gives_window
        self.streams: dict[int, StreamResponse] = {}
        self.goaways: list[tuple[int, ErrorCode]] = []
        """Last stream and code of each."""
        self.server_settings: dict[int, int] = {}
        self.pongs: list[bytes] = []
        self.window = 65535
        """What the server may still send on all streams together."""
        self.credit = 65535
        """What the client may still send on all streams together."""
        self.stream_credits: dict[int, int] = {}
        """WINDOW_UPDATEs of the server for single streams."""
        self.acknowledged = 0
        """Of the client's SETTINGS."""
        self._initial_window = 65535
        self._max_frame = 16384
        self._decoder = hpack.Decoder()
        self._received = b""
        self._frames_received = 0
        self._block: tuple[int, int, bytes] | None = None
        self.next_id = 1
        if handshake:
            self.send(PREFACE + settings_frame(settings or {}))
            if settings:
                self._max_frame = settings.get(SETTINGS_MAX_FRAME_SIZE, 16384)
                self._initial_window = settings.get(SETTINGS_INITIAL_WINDOW_SIZE, 65535)
            while not self.acknowledged:
                self.receive()

    def __enter__(self) -> "Http2Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.sock.close()

    # What the client sends

    def send(self, frames: bytes) -> None:
        """Any bytes. Streams that they open are noted."""
        position = 24 if frames.startswith(PREFACE[:4]) else 0
        while position + 9 <= len(frames):
            length = int.from_bytes(frames[position : position + 3], "big")
            stream_id = int.from_bytes(frames[position + 5 : position + 9], "big") & 0x7FFFFFFF
            if frames[position + 3] == HEADERS and stream_id not in self.streams:
                self.streams[stream_id] = StreamResponse(window=self._initial_window)
                self.next_id = max(self.next_id, stream_id + 2)
            position += 9 + length
        self.sock.sendall(frames)

    def request(
        self, target: bytes | str = b"/hello", method: bytes = b"GET", extra: Iterable[Field] = (), body: bytes = b""
    ) -> int:
        """Send a whole request and return its stream. `body` has to fit into the window."""
        stream_id = self.next_id
        content = [body[start : start + 16384] for start in range(0, len(body), 16384)]
        sent = headers(stream_id, request_fields(target, method, extra), end_stream=not content)
        for position, piece in enumerate(content, 1):
            sent += data(stream_id, piece, end_stream=position == len(content))
        self.credit -= len(body)
        self.send(sent)
        return stream_id

    def set(self, settings: Mapping[int, int]) -> None:
        """Send SETTINGS and wait until they are acknowledged."""
        before, old_window = self.acknowledged, self._initial_window
        new_window = settings.get(SETTINGS_INITIAL_WINDOW_SIZE, old_window)
        self._initial_window = max(old_window, new_window)
        for stream in self.streams.values():
            stream.window += max(new_window - old_window, 0)
        self.send(settings_frame(settings))
        while self.acknowledged == before:
            self.receive()
        self._initial_window = new_window
        for stream in self.streams.values():
            stream.window += min(new_window - old_window, 0)

    def set_max_table_bytes(self, size: int) -> None:
        """What the decoder of the client allows from now on, strictly."""
        self._decoder.max_allowed_table_size = size

    def give(self, stream_id: int, size: int) -> None:
        """WINDOW_UPDATE, for the connection with 0."""
        if stream_id:
            self.streams[stream_id].window += size
        else:
            self.window += size
        self.send(window_update_frame(stream_id, size))

    # What the server sends

    def receive(self) -> Frame:
        """The next frame, checked and noted. Raises ConnectionEnded, also for a reset."""
        head = self.read(9)
        result = Frame(head[3], head[4], int.from_bytes(head[5:], "big"), self.read(int.from_bytes(head[:3], "big")))
        self._frames_received += 1
        self._check(result)
        self._note(result)
        return result

    def response(self, stream_id: int) -> StreamResponse:
        """Wait until the stream has ended or was reset."""
        stream = self.streams[stream_id]
        while not stream.ended and stream.reset is None:
            self.receive()
        return stream

    def get(
        self, target: bytes | str = b"/hello", method: bytes = b"GET", extra: Iterable[Field] = (), body: bytes = b""
    ) -> StreamResponse:
        """Send a whole request and wait for its end."""
        return self.response(self.request(target, method, extra, body))

    def head(self, stream_id: int) -> StreamResponse:
        """Wait for the head of a response."""
        stream = self.streams[stream_id]
        while not stream.fields and stream.reset is None:
            self.receive()
        return stream

    def content(self, stream_id: int, size: int) -> bytes:
        """Wait until so much of a response has come, and check that it is all that comes for now."""
        stream = self.streams[stream_id]
        while len(stream.body) < size:
            self.receive()
        self.round_trip()
        assert len(stream.body) == size
        return stream.body

    def round_trip(self) -> None:
        """Wait until the server has dealt with all that was sent before."""
        payload = b"%08d" % self._frames_received
        self.send(ping_frame(payload))
        while payload not in self.pongs:
            self.receive()

    def goaway(self) -> tuple[int, ErrorCode]:
        """Wait for the end of the connection. The last GOAWAY before it: its last stream and its code."""
        with contextlib.suppress(ConnectionEnded):
            while True:
                self.receive()
        assert self.goaways, "the connection ended without GOAWAY"
        return self.goaways[-1]

    def read(self, size: int) -> bytes:
        """So many bytes. Raises ConnectionEnded."""
        while len(self._received) < size:
            try:
                received = self.sock.recv(1 << 18)
            except ConnectionError as error:
                raise ConnectionEnded(str(error)) from None
            if not received:
                assert not self._received, f"the connection ended within a frame: {self._received!r}"
                raise ConnectionEnded
            self._received += received
        result, self._received = self._received[:size], self._received[size:]
        return result

    def _check(self, received: Frame) -> None:
        kind, flags, stream_id, payload = received.kind, received.flags, received.stream_id, received.payload
        assert self._frames_received > 1 or (kind == SETTINGS and not flags), "section 3.4: SETTINGS come first"
        assert kind in _ALLOWED_FLAGS, f"unexpected {received}"
        assert not flags & ~_ALLOWED_FLAGS[kind], f"section 4.1: unused flags are unset: {received}"
        assert not stream_id & 0x80000000, "section 4.1: the reserved bit is unset"
        assert len(payload) <= self._max_frame, "section 4.2: frame too large"
        assert len(payload) == _FIXED_LENGTHS.get(kind, len(payload)), received
        if self._block is not None:
            assert (kind, stream_id) == (CONTINUATION, self._block[0]), "section 4.3: header blocks are contiguous"
        else:
            assert kind != CONTINUATION, "section 6.10"
        if kind in (SETTINGS, PING, GOAWAY):
            assert stream_id == 0, received
        elif kind != WINDOW_UPDATE or stream_id:
            stream = self.streams.get(stream_id)
            assert stream is not None, f"a stream that was never opened: {received}"
            assert stream.reset is None, f"section 5.1: a frame after RST_STREAM: {received}"
            assert not stream.ended or kind in (RST_STREAM, WINDOW_UPDATE), f"a frame after END_STREAM: {received}"
        if kind == WINDOW_UPDATE:
            assert 0 < int.from_bytes(payload, "big") < 2**31, received

    def _note(self, received: Frame) -> None:
        kind, stream_id, payload = received.kind, received.stream_id, received.payload
        if kind == DATA:
            self._note_data(received)
        elif kind == HEADERS:
            assert not received.flags & FLAG_PADDED
            self._block = stream_id, received.flags, payload
        elif kind == CONTINUATION:
            assert self._block is not None
            self._block = stream_id, self._block[1] | received.flags, self._block[2] + payload
        elif kind == SETTINGS:
            if received.flags:
                assert not payload, received
                self.acknowledged += 1
            else:
                assert len(payload) % 6 == 0, received
                for start in range(0, len(payload), 6):
                    name = int.from_bytes(payload[start : start + 2], "big")
                    self.server_settings[name] = int.from_bytes(payload[start + 2 : start + 6], "big")
                self.send(SETTINGS_ACK)
        elif kind == PING:
            if received.flags:
                self.pongs.append(payload)
            else:
                self.send(ping_frame(payload, ack=True))
        elif kind == GOAWAY:
            last = int.from_bytes(payload[:4], "big")
            assert not self.goaways or last <= self.goaways[-1][0], "section 6.8: the last stream never grows"
            self.goaways.append((last, ErrorCode(int.from_bytes(payload[4:8], "big"))))
        elif kind == RST_STREAM:
            self.streams[stream_id].reset = ErrorCode(int.from_bytes(payload, "big"))
        elif kind == WINDOW_UPDATE:
            if stream_id:
                increment = int.from_bytes(payload, "big")
                self.stream_credits[stream_id] = self.stream_credits.get(stream_id, 0) + increment
            else:
                self.credit += int.from_bytes(payload, "big")
                assert self.credit < 2**31, "section 6.9.1"
        if self._block is not None and self._block[1] & FLAG_END_HEADERS:
            (stream_id, flags, encoded), self._block = self._block, None
            self._note_fields(stream_id, encoded, ends=bool(flags & FLAG_END_STREAM))

    def _note_data(self, received: Frame) -> None:
        stream, payload = self.streams[received.stream_id], received.payload
        assert stream.fields, "section 8.1: DATA before a final HEADERS"
        size = len(payload)
        self.window -= size
        stream.window -= size
        assert not size or (self.window >= 0 and stream.window >= 0), "section 6.9.1: window exceeded"
        if received.flags & FLAG_PADDED:
            assert not any(payload[len(payload) - payload[0] :]), "section 6.1: padding is zero"
            payload = payload[1 : len(payload) - payload[0]]
        stream.body += payload
        stream.ended = bool(received.flags & FLAG_END_STREAM)
        if size and self.gives_window:
            self.give(0, size)
            if not stream.ended:
                self.give(received.stream_id, size)

    def _note_fields(self, stream_id: int, encoded: bytes, *, ends: bool) -> None:
        stream = self.streams[stream_id]
        fields = []
        for name, value in self._decoder.decode(encoded, raw=True):
            assert isinstance(name, bytes)
            assert isinstance(value, bytes)
            assert name == name.lower(), f"section 8.2: {name!r}"
            assert name not in _CONNECTION_SPECIFIC, f"section 8.2.2: {name!r}"
            assert not set(b"\x00\r\n") & set(value), f"section 8.2.1: {name!r}"
            assert value == value.strip(b" \t"), f"section 8.2.1: {name!r}"
            fields.append((name, value))
        pseudo = [name for name, _ in fields if name.startswith(b":")]
        if stream.fields:
            assert not pseudo, "section 8.1: pseudo-header fields in trailers"
            assert ends, "section 8.1: trailers end the stream"
            stream.trailers = fields
        else:
            assert pseudo == [b":status"] and fields[0][0] == b":status", f"section 8.3.2: {fields}"
            if fields[0][1].startswith(b"1"):
                assert not ends, "section 8.1: an interim response ends nothing"
                stream.interim.append(fields)
                return
            stream.fields = fields
        stream.ended = ends
