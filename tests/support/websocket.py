"""A WebSocket client that shows what is on the wire: any frame can be made, and each frame of the server is seen."""

import base64
import hashlib
import os
from typing import Final, NamedTuple

from .http1 import Connection, Response

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

KEY: Final = b"dGhlIHNhbXBsZSBub25jZQ=="
"""That of RFC 6455 section 1.3."""

HANDSHAKE_FIELDS: Final = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: {KEY.decode('ascii')}\r\n"
)


def handshake(target: str = "/", fields: str = "") -> bytes:
    """A valid opening handshake; `fields` are further complete lines."""
    return f"GET {target} HTTP/1.1\r\nHost: example.org\r\n{HANDSHAKE_FIELDS}{fields}\r\n".encode("latin-1")


def accept_value(key: bytes = KEY) -> bytes:
    """What Sec-WebSocket-Accept has to say (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    mask: bytes | None = b"\x12\x34\x56\x78",
    length: int | None = None,
) -> bytes:
    """A frame of a client. `length` is what its head says where that is not the truth; no `mask` leaves it unmasked."""
    length = len(payload) if length is None else length
    first = (0x80 if final else 0) | reserved << 4 | opcode
    mask_bit = 0 if mask is None else 0x80
    if length < 126:
        head = bytes((first, mask_bit | length))
    elif length < 1 << 16:
        head = bytes((first, mask_bit | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, mask_bit | 127)) + length.to_bytes(8, "big")
    return head + payload if mask is None else head + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


class Frame(NamedTuple):
    """A frame of the server."""

    opcode: int
    payload: bytes
    final: bool = True
    reserved: int = 0

    @property
    def code(self) -> int:
        """Of a close frame; 1005 where it has none."""
        assert self.opcode == CLOSE
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005


def frames_in(data: bytes) -> list[Frame]:
    """The frames one behind the other in what a server has sent."""
    frames: list[Frame] = []
    while data:
        read, size = _frame_at_the_start_of(data)
        frames.append(read)
        data = data[size:]
    return frames


def _frame_at_the_start_of(data: bytes) -> tuple[Frame, int]:
    assert not data[1] & 0x80, "a server must not mask"
    start, length = 2, data[1]
    if length == 126:
        start, length = 4, int.from_bytes(data[2:4], "big")
        assert length > 125
    elif length == 127:
        start, length = 10, int.from_bytes(data[2:10], "big")
        assert length > 65535
    assert len(data) >= start + length, "half a frame"
    first = data[0]
    return Frame(first & 15, data[start : start + length], bool(first & 0x80), first >> 4 & 7), start + length


class WebSocketClient(Connection):
    """On a real socket. Every read fails after a while instead of hanging."""

    def __enter__(self) -> "WebSocketClient":
        return self

    def open(self, target: str = "/", fields: str = "") -> Response:
        """Shake hands; the answer, whatever it is."""
        self.send(handshake(target, fields))
        return self.read_head_or_response()

    def read_head_or_response(self) -> Response:
        head = self.read_until(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 101 "):
            return Response(head, b"", b"")
        self._received = head + self._received
        return self.read_response()

    def send_frame(self, opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0) -> None:
        self.send(frame(opcode, payload, final=final, reserved=reserved, mask=os.urandom(4)))

    def read_frame(self) -> Frame:
        """The next frame of the server. Raises EOFError where the connection ends before it."""
        head = self.read_exactly(2)
        length = head[1]
        if length >= 126:
            head += self.read_exactly(2 if length == 126 else 8)
            length = int.from_bytes(head[2:], "big")
        return _frame_at_the_start_of(head + self.read_exactly(length))[0]

    def read_close(self) -> Frame:
        """The close frame of the server, whatever comes before it."""
        while (received := self.read_frame()).opcode != CLOSE:
            pass
        return received
