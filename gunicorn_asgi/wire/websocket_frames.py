"""WebSocket frames as bytes (RFC 6455 section 5): messages out of them, and frames made of messages.

Reading is the hard part, for three reasons. A small message in one frame is nearly all that real clients send, so it is
read in one pass over what has arrived, with no object but the message itself. Everything else, a frame of which only a
part is there, a fragmented or compressed message, goes through a message under construction, piece by piece as it
arrives: bad UTF-8 and a message that is too large, also one that only inflates to be, are found with the first byte
that shows it, and nothing is stored twice. And what a client may send without end is bounded: messages that nobody
takes (the reader stops and keeps the rest), fragments that carry nothing, pings (of many, only the newest is answered).
"""

import codecs
import sys
from collections import deque
from typing import Final

try:
    from websockets.speedups import apply_mask
except ImportError:  # PyPy, and where no wheel fits.
    from websockets.utils import apply_mask

from ..asgi_types import WebSocketMessage
from ..errors import CloseCode, WebSocketError
from .websocket_deflate import PerMessageDeflate, max_deflated_bytes

MAX_FRAGMENTS: Final = 1024
"""Fragments of one message, unless they carry `MIN_FRAGMENT_BYTES` each on average: a client that sends a file in
small pieces is served, one that sends fragments for their own sake is not."""

MIN_FRAGMENT_BYTES: Final = 64

MAX_PINGS: Final = 16
"""Pings that arrive at once before only the newest is answered. No client needs more than one; some test with ten."""

MAX_REASON_BYTES: Final = 123
"""What a close frame has room for behind its code."""

MIN_DEFLATED_BYTES: Final = 64
"""Below that, deflate saves next to nothing and costs 10 us."""

_FINAL: Final = 0x80
_RSV1: Final = 0x40
_CONTINUATION: Final = 0
_TEXT: Final = 1
_BINARY: Final = 2
_CLOSE: Final = 8
_PING: Final = 9
_PONG: Final = 10
_FINAL_TEXT: Final = _FINAL | _TEXT
_FINAL_BINARY: Final = _FINAL | _BINARY
_WHOLE_MESSAGES: Final = (_FINAL_TEXT, _FINAL_BINARY)

# 1004 is reserved; 1005, 1006 and 1015 say what no frame has said.
_CODES_ON_THE_WIRE: Final = frozenset((1000, 1001, 1002, 1003, *range(1007, 1015)))

_MAX_PIECES: Final = 1024
"""Pieces of a message before they are joined: a message that drips in byte by byte would take 60 times its size."""

_VIEW_FROM_BYTES: Final = 2048
"""From here on unmasking through a memoryview is cheaper than copying the payload out of the buffer first."""

_utf8_decoder: Final = codecs.getincrementaldecoder("utf-8")


class FrameReader:
    """Reads what one client sends.

    Complete messages go to the end of `messages`, ready for the application. What else has come is in the attributes
    after `feed` has returned True: the owner answers and resets them.
    """

    __slots__ = (
        "_compressed",
        "_decoder",
        "_deflate",
        "_discarding",
        "_final",
        "_flooded",
        "_fragments",
        "_is_text",
        "_large_bytes",
        "_mask",
        "_max_bytes",
        "_max_messages",
        "_message_bytes",
        "_messages",
        "_open",
        "_pending",
        "_pieces",
        "_remaining",
        "_texts",
        "_whole_frames",
        "closed",
        "ended",
        "pings",
        "pong",
        "stopped",
    )

    def __init__(
        self,
        messages: "deque[WebSocketMessage]",
        *,
        max_message_bytes: int,
        max_messages: int,
        deflate: PerMessageDeflate | None = None,
    ) -> None:
        """`max_messages` is how many may wait in `messages` before reading stops."""
        self._messages = messages
        self._max_bytes = max_message_bytes
        self._max_messages = max_messages
        self._deflate = deflate
        self._pending = b""
        # The frame of which only a part is there.
        self._remaining = 0
        self._mask = b""
        self._final = False
        # The message of which only a part is there.
        self._open = False
        self._is_text = False
        self._compressed = False
        self._pieces: list[bytes] = []
        self._texts: list[str] = []
        self._message_bytes = 0
        self._fragments = 0
        self._decoder = _utf8_decoder()
        self._large_bytes = 0
        self._flooded = False
        self._discarding = False
        self._whole_frames = True
        self.pings: list[bytes] = []
        """Payloads of the pings that have come; of many at once only the newest (RFC 6455 section 5.5.3)."""
        self.pong: bytes | None = None
        """Payload of the newest pong."""
        self.closed: tuple[int, str] | None = None
        """Code and reason of the client's close frame."""
        self.ended = False
        """Whether nothing is read any more: behind a close frame, or after `stop`."""
        self.stopped = False
        """Whether reading has stopped for messages that nobody takes. `feed(b"")` goes on when some are taken."""

    def stop(self) -> None:
        """Look at nothing any more."""
        self.ended = True
        self._pending = b""

    def discard_messages(self) -> None:
        """From now on read control frames only; the rest is skipped by its length and never inflated.

        For the time between our close frame and the client's: a deflate bomb in there would otherwise hold the worker
        for nothing.
        """
        self._discarding = True
        self._whole_frames = False
        self._pieces.clear()
        self._texts.clear()
        self._max_messages = sys.maxsize  # Those that are left are no reason to stop.
        self._max_bytes = sys.maxsize

    def feed(self, data: bytes) -> bool:
        """Read what has arrived. True if `pings`, `pong` or `closed` has been set.

        Raises WebSocketError, after which nothing more may be fed: PROTOCOL_ERROR, INVALID_DATA for text that is not
        UTF-8, TOO_BIG.
        """
        messages = self._messages
        if self._pending:
            data = self._pending + data
            self._pending = b""
        self.stopped = self._flooded = False
        if self.ended:
            return False
        if not messages:
            self._large_bytes = 0
        control = False
        position = 0
        size = len(data)
        max_bytes, max_messages = self._max_bytes, self._max_messages
        whole_frames = self._whole_frames
        if self._remaining:
            position = self._continue_frame(data, 0)
            whole_frames = self._whole_frames
        while size - position >= 6:
            if len(messages) >= max_messages or self._large_bytes > max_bytes:
                self._pending = data[position:]
                self.stopped = True
                return control
            first = data[position]
            length = data[position + 1] - 128  # Negative without the mask bit.
            start = position + 6
            if length > 125:
                shorter = 125 if length == 126 else 0xFFFF
                start += 2 if length == 126 else 8
                if start > size:
                    break
                if first & 0x08:
                    self._check_start(first, length)
                length = int.from_bytes(data[position + 2 : start - 4], "big")
                if length <= shorter:  # RFC 6455 section 5.2 has it in the fewest bytes.
                    self._check_start(first, length)
                    raise WebSocketError(CloseCode.PROTOCOL_ERROR, "frame length is not in its shortest form")
            end = start + length
            # Nearly every frame: a message by itself, and all of it here.
            if whole_frames and end <= size and 0 <= length <= max_bytes and first in _WHOLE_MESSAGES:
                if length < _VIEW_FROM_BYTES:
                    payload = apply_mask(data[start:end], data[start - 4 : start])
                else:
                    payload = apply_mask(memoryview(data)[start:end], data[start - 4 : start])
                    self._large_bytes += length
                if first == _FINAL_BINARY:
                    messages.append({"type": "websocket.receive", "bytes": payload})
                else:
                    try:
                        messages.append({"type": "websocket.receive", "text": payload.decode()})
                    except UnicodeDecodeError:
                        raise WebSocketError(CloseCode.INVALID_DATA, "text is not UTF-8") from None
                position = end
                continue
            self._check_start(first, length)
            if first & 0x08:
                if end > size:
                    break
                control = True
                self._control_frame(first & 0x0F, apply_mask(data[start:end], data[start - 4 : start]))
                position = end
                if self.ended:
                    return True
                continue
            self._begin_frame(first, length, data[start - 4 : start])
            position = self._continue_frame(data, start)
            whole_frames = self._whole_frames
        if position != size:
            self._pending = data = data[position:]
            if len(data) >= 2:
                # A frame that is not allowed is refused before it is whole.
                self._check_start(data[0], data[1] - 128)
        return control

    def _check_start(self, first: int, length: int) -> None:
        """What the first two bytes of a frame decide (RFC 6455 section 5.2); `length` is negative without a mask."""
        if length < 0:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "frame is not masked")
        opcode = first & 0x0F
        if first & 0x70 and (first & 0x30 or self._deflate is None or opcode not in (_TEXT, _BINARY)):
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "reserved bit is set")
        if opcode > _BINARY:
            if not _CLOSE <= opcode <= _PONG:
                raise WebSocketError(CloseCode.PROTOCOL_ERROR, "unknown opcode")
            if not first & _FINAL:
                raise WebSocketError(CloseCode.PROTOCOL_ERROR, "fragmented control frame")
            if length > 125:
                raise WebSocketError(CloseCode.PROTOCOL_ERROR, "control frame is too long")
        elif (opcode == _CONTINUATION) is not self._open:
            text = "message begins within another" if self._open else "continuation of no message"
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, text)

    def _control_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            if len(self.pings) >= MAX_PINGS:
                self._flooded = True
            if self._flooded:
                self.pings.clear()
            self.pings.append(payload)
        elif opcode == _PONG:
            self.pong = payload
        else:
            self.closed = _parse_close(payload)
            self.ended = True

    def _begin_frame(self, first: int, length: int, mask: bytes) -> None:
        """Go into a data frame, of which possibly nothing but its head is there. Its length alone may be too much."""
        if length >= 1 << 63:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "frame length is over 63 bits")
        opcode = first & 0x0F
        if opcode != _CONTINUATION:
            self._open = True
            self._is_text = opcode == _TEXT
            self._compressed = bool(first & _RSV1)
            self._message_bytes = 0
            self._fragments = 0
            if self._is_text:
                self._decoder.reset()
        self._final = bool(first & _FINAL)
        self._remaining = length
        self._mask = mask
        self._whole_frames = False
        if self._discarding:
            return
        # What a compressed frame inflates to shows later, but one that no message can need is refused now.
        if self._compressed:
            is_too_long = length > max_deflated_bytes(self._max_bytes)
        else:
            is_too_long = self._message_bytes + length > self._max_bytes
        if is_too_long:
            raise WebSocketError(CloseCode.TOO_BIG, "message is too big")
        if self._fragments >= MAX_FRAGMENTS and self._message_bytes < self._fragments * MIN_FRAGMENT_BYTES:
            raise WebSocketError(CloseCode.TOO_BIG, "message has too many fragments")
        self._fragments += 1

    def _continue_frame(self, data: bytes, start: int) -> int:
        """Take from `data[start:]` what belongs to the current frame. The position behind it."""
        remaining = self._remaining
        end = min(start + remaining, len(data))
        taken = end - start
        self._remaining = remaining = remaining - taken
        if not self._discarding:
            if taken:
                mask = self._mask
                self._take(
                    apply_mask(data[start:end] if taken < _VIEW_FROM_BYTES else memoryview(data)[start:end], mask)
                )
                if turn := taken & 3:
                    self._mask = mask[turn:] + mask[:turn]
            if not remaining and self._final:
                self._end_message()
        if not remaining and self._final:
            self._open = False
            self._whole_frames = not self._discarding
        return end

    def _take(self, payload: bytes) -> None:
        """A piece of the message, unmasked."""
        if self._compressed:
            deflate = self._deflate
            assert deflate is not None
            payload = deflate.inflate(payload, self._max_bytes - self._message_bytes)
        self._append(payload)

    def _append(self, payload: bytes) -> None:
        self._message_bytes += len(payload)
        if self._is_text:
            self._texts.append(self._decode(payload, final=False))
            if len(self._texts) > _MAX_PIECES:
                self._texts = ["".join(self._texts)]
        elif payload:
            self._pieces.append(payload)
            if len(self._pieces) > _MAX_PIECES:
                self._pieces = [b"".join(self._pieces)]

    def _decode(self, payload: bytes, *, final: bool) -> str:
        try:
            return self._decoder.decode(payload, final)
        except UnicodeDecodeError:
            raise WebSocketError(CloseCode.INVALID_DATA, "text is not UTF-8") from None

    def _end_message(self) -> None:
        if self._compressed:
            deflate = self._deflate
            assert deflate is not None
            rest = deflate.end_inflate(self._max_bytes - self._message_bytes)
            if rest:
                self._append(rest)
        self._large_bytes += self._message_bytes
        if self._is_text:
            self._decode(b"", final=True)
            self._messages.append({"type": "websocket.receive", "text": "".join(self._texts)})
            self._texts.clear()
        else:
            self._messages.append({"type": "websocket.receive", "bytes": b"".join(self._pieces)})
            self._pieces.clear()


def _parse_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame (RFC 6455 sections 5.5.1 and 7.4)."""
    if not payload:
        return CloseCode.NO_STATUS.value, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (code in _CODES_ON_THE_WIRE or 3000 <= code <= 4999):
        raise WebSocketError(CloseCode.PROTOCOL_ERROR, "invalid close code")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise WebSocketError(CloseCode.INVALID_DATA, "close reason is not UTF-8") from None


# Writing


TEXT_HEADS: Final = tuple(bytes((_FINAL_TEXT, size)) for size in range(126))
"""Heads of text messages below 126 bytes, by size: two of three messages are that short."""

BINARY_HEADS: Final = tuple(bytes((_FINAL_BINARY, size)) for size in range(126))


def message_head(size: int, *, is_text: bool, compressed: bool) -> bytes:
    """The head of a frame that holds a whole message of `size` bytes on the wire."""
    first = (_FINAL_TEXT if is_text else _FINAL_BINARY) | (_RSV1 if compressed else 0)
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")


def check_close(code: object, reason: object) -> None:
    """Whether both may be sent in a close frame.

    Raises ValueError for a code that must not be sent or that no registry knows, for a reason over 123 bytes, and for
    what is no int and no str.
    """
    if not isinstance(code, int) or not (code in _CODES_ON_THE_WIRE or 3000 <= code <= 4999):
        raise ValueError(f"{code!r} is not a code that a close may have")
    if not isinstance(reason, str):
        raise ValueError(f"the reason of a close must be a str, not {type(reason).__name__}")
    size = len(reason.encode())
    if size > MAX_REASON_BYTES:
        raise ValueError(f"the reason of a close may have {MAX_REASON_BYTES} bytes, not {size}")


def encode_close(code: int, reason: str = "") -> bytes:
    """A close frame. NO_STATUS gives one without a code, as an answer to such a one."""
    if code == CloseCode.NO_STATUS:
        return bytes((_FINAL | _CLOSE, 0))
    payload = reason.encode()
    return bytes((_FINAL | _CLOSE, 2 + len(payload))) + code.to_bytes(2, "big") + payload


def encode_ping(payload: bytes) -> bytes:
    """A ping frame; `payload` has at most 125 bytes."""
    return bytes((_FINAL | _PING, len(payload))) + payload


def encode_pong(payload: bytes) -> bytes:
    """A pong frame; `payload` is that of the ping."""
    return bytes((_FINAL | _PONG, len(payload))) + payload
