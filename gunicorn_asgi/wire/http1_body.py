"""The body of an HTTP/1 request, taken out of its framing (RFC 9112 sections 6 and 7)."""

import re
from enum import Enum, auto
from typing import Final, Protocol

from ..errors import RemoteProtocolError
from ..settings import HeadLimits
from .headers import parse_field_line
from .http1_request import CHUNKED

MAX_CHUNK_LINE_BYTES: Final = 4096
MAX_EXTENSION_BYTES: Final = 16 * 1024
"""Chunk extensions a body, all together. Nobody uses them, so whoever sends this much does it to hurt."""

# RFC 9112 section 7.1; at most 16 digits, what 64 bits hold. Extensions are skipped, with control bytes refused.
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})([ \t]*;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
_CONTROL_IN_LINE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


class BodyDecoder(Protocol):
    """Turns received bytes into content."""

    complete: bool
    """Whether the body has ended."""

    rest: bytes
    """After the end: the bytes behind it, which belong to the next request."""

    def feed(self, data: bytes) -> bytes:
        """The content in `data`, possibly none. Raises RemoteProtocolError(400 or 431) for broken framing."""


def body_decoder(body_length: int, limits: HeadLimits) -> BodyDecoder:
    """The decoder for a `body_length` of a `RequestHead` other than 0."""
    return ChunkedBody(limits) if body_length == CHUNKED else LengthBody(body_length)


class LengthBody:
    """A body of `length` bytes (Content-Length)."""

    __slots__ = ("_remaining", "complete", "rest")

    def __init__(self, length: int) -> None:
        self._remaining = length
        self.complete = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        remaining = self._remaining
        if len(data) < remaining:
            self._remaining = remaining - len(data)
            return data
        self.complete = True
        if len(data) > remaining:
            self.rest = data[remaining:]
            return data[:remaining]
        return data


class _Expect(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()


class ChunkedBody:
    """A body in chunked transfer coding. Trailers are checked under the limits of the head and dropped."""

    __slots__ = (
        "_expect",
        "_extension_bytes",
        "_limits",
        "_line",
        "_remaining",
        "_trailer_bytes",
        "_trailers",
        "complete",
        "rest",
    )

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._expect = _Expect.SIZE
        self._line = b""
        self._remaining = 0
        self._extension_bytes = 0
        self._trailers = 0
        self._trailer_bytes = 0
        self.complete = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        content: list[bytes] = []
        position, size = 0, len(data)
        while position < size and not self.complete:
            if self._expect is _Expect.DATA:
                end = min(position + self._remaining, size)
                content.append(data[position:end])
                self._remaining -= end - position
                position = end
                if not self._remaining:
                    self._expect = _Expect.DATA_END
                continue
            end = data.find(b"\n", position) + 1
            if not end:
                # Of a line without an end no more is copied than it takes to refuse it.
                line = self._line + data[position : position + max(self._limits.head_bytes, MAX_CHUNK_LINE_BYTES) + 2]
                self._check_unfinished(line)
                self._line = line
                position = size
                break
            line = self._line + data[position:end]
            self._line = b""
            position = end
            if line[-2:] != b"\r\n":
                raise RemoteProtocolError(400, "bare-lf-in-chunked-body")
            self._read_line(line[:-2])
        if self.complete:
            self.rest = data[position:]
        return content[0] if len(content) == 1 else b"".join(content)

    def _read_line(self, line: bytes) -> None:
        if self._expect is _Expect.DATA_END:
            if line:
                raise RemoteProtocolError(400, "bad-chunk-end")
            self._expect = _Expect.SIZE
        elif self._expect is _Expect.SIZE:
            self._read_chunk_line(line)
        elif line:
            self._read_trailer(line)
        else:
            self.complete = True

    def _read_chunk_line(self, line: bytes) -> None:
        match = _CHUNK_LINE(line)
        if match is None or len(line) > MAX_CHUNK_LINE_BYTES:
            raise RemoteProtocolError(400, "bad-chunk-line")
        digits, extension = match.groups()
        if extension:
            self._extension_bytes += len(extension)
            if self._extension_bytes > MAX_EXTENSION_BYTES:
                raise RemoteProtocolError(400, "chunk-extensions-too-large")
        self._remaining = int(digits, 16)
        self._expect = _Expect.DATA if self._remaining else _Expect.TRAILER

    def _read_trailer(self, line: bytes) -> None:
        limits = self._limits
        self._trailers += 1
        self._trailer_bytes += len(line) + 2
        if self._trailers > limits.fields:
            raise RemoteProtocolError(431, "too-many-trailers")
        if len(line) + 2 > limits.field_bytes or self._trailer_bytes > limits.head_bytes:
            raise RemoteProtocolError(431, "trailers-too-large")
        parse_field_line(line)

    def _check_unfinished(self, line: bytes) -> None:
        """Refuse a line as soon as its end can no longer save it."""
        if self._expect is _Expect.DATA_END:
            if line != b"\r":
                raise RemoteProtocolError(400, "bad-chunk-end")
        elif _CONTROL_IN_LINE(line.removesuffix(b"\r")):
            raise RemoteProtocolError(400, "control-byte-in-chunked-body")
        elif self._expect is _Expect.SIZE:
            if len(line) > MAX_CHUNK_LINE_BYTES + 1:
                raise RemoteProtocolError(400, "bad-chunk-line")
        elif len(line) > min(self._limits.field_bytes, self._limits.head_bytes):
            raise RemoteProtocolError(431, "trailers-too-large")
