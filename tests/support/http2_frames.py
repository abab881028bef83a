"""Frames of HTTP/2 as a client sends and sees them, for tests that speak bytes."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from gunicorn_asgi.wire import http2_frames as frames
from gunicorn_asgi.wire.http2_hpack import HeaderDecoder, HeaderEncoder

Fields = Iterable[tuple[bytes, bytes]]

GET: Final = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"example.org"))
POST: Final = ((b":method", b"POST"), *GET[1:])

BEGIN: Final = frames.PREFACE + frames.settings_frame({})
"""What a client sends first."""


class Frame(NamedTuple):
    """One frame as it was received."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


def split_frames(data: bytes) -> list[Frame]:
    """The frames in `data`, which must hold whole ones."""
    result: list[Frame] = []
    while data:
        size = int.from_bytes(data[:3], "big")
        assert len(data) >= 9 + size, "half a frame"
        result.append(Frame(data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
        data = data[9 + size :]
    return result


def block(fields: Fields) -> bytes:
    return HeaderEncoder().encode(tuple(fields))


def headers(stream_id: int, fields: Fields = GET, *, ended: bool = True, flags: int | None = None) -> bytes:
    """HEADERS with a whole header block."""
    if flags is None:
        flags = frames.FLAG_END_HEADERS | (frames.FLAG_END_STREAM if ended else 0)
    return frames.frame(frames.HEADERS, flags, stream_id, block(fields))


def continuation(stream_id: int, piece: bytes, *, ended: bool) -> bytes:
    return frames.frame(frames.CONTINUATION, frames.FLAG_END_HEADERS if ended else 0, stream_id, piece)


def data(stream_id: int, content: bytes = b"", *, ended: bool = False, padding: int | None = None) -> bytes:
    flags = frames.FLAG_END_STREAM if ended else 0
    if padding is not None:
        flags |= frames.FLAG_PADDED
        content = bytes((padding,)) + content + bytes(padding)
    return frames.frame(frames.DATA, flags, stream_id, content)


class Http2Response:
    """A response put together from its frames."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.interim: list[list[tuple[bytes, bytes]]] = []
        self.content = b""
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.fields)[b":status"])


class Reader:
    """Reads what a server sends, as far as it is about streams; keeps all frames."""

    def __init__(self) -> None:
        self._decoder = HeaderDecoder(max_list_bytes=2**20)
        self._rest = b""
        self._block = b""
        self.frames: list[Frame] = []
        self.responses: dict[int, Http2Response] = {}

    def feed(self, data: bytes) -> list[Frame]:
        """Take received bytes in. Returns the new frames."""
        data = self._rest + data
        end = 0
        while len(data) - end >= 9:
            size = 9 + int.from_bytes(data[end : end + 3], "big")
            if len(data) - end < size:
                break
            end += size
        self._rest = data[end:]
        new = split_frames(data[:end])
        for frame in new:
            self._take(frame)
        self.frames += new
        return new

    def of(self, kind: int) -> list[Frame]:
        """All frames of one type so far."""
        return [frame for frame in self.frames if frame.kind == kind]

    @property
    def goaways(self) -> list[tuple[int, int]]:
        """Last stream identifier and error code of each GOAWAY."""
        return [
            (int.from_bytes(frame.payload[:4], "big"), int.from_bytes(frame.payload[4:8], "big"))
            for frame in self.of(frames.GOAWAY)
        ]

    @property
    def resets(self) -> dict[int, int]:
        """Error codes by stream."""
        return {number: response.reset for number, response in self.responses.items() if response.reset is not None}

    def _take(self, frame: Frame) -> None:
        if frame.kind not in (frames.HEADERS, frames.CONTINUATION, frames.DATA, frames.RST_STREAM):
            return
        response = self.responses.setdefault(frame.stream_id, Http2Response())
        assert response.reset is None, "a frame behind RST_STREAM"
        if frame.kind == frames.RST_STREAM:
            response.reset = int.from_bytes(frame.payload, "big")
            return
        if frame.kind == frames.CONTINUATION:
            self._block += frame.payload
        else:
            assert not response.ended, "a frame behind the end of the stream"
            response.ended = bool(frame.flags & frames.FLAG_END_STREAM)
            if frame.kind == frames.DATA:
                assert response.fields, "content before the head"
                response.content += frame.payload
                return
            self._block = frame.payload
        if not frame.flags & frames.FLAG_END_HEADERS:
            return
        fields = list(self._decoder.decode(self._block))
        if response.fields:
            response.trailers = fields
        elif fields[0][0] == b":status" and fields[0][1].startswith(b"1"):
            response.interim.append(fields)
        else:
            response.fields = fields
