"""Frames of HTTP/2 (RFC 9113 sections 4, 6, 7 and 11): their numbers, and those that a server sends, as bytes.

The numbers are plain integers under their names in the RFC, since the loop that reads frames compares them for each
frame. Heads and content of responses are put together where they are sent.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends before its first frame (section 3.4)."""

HEAD_BYTES: Final = 9
"""Length (24 bits), type (8), flags (8), a reserved bit and the stream identifier (31) before each payload."""

ALL_STREAMS: Final = 2**31 - 1
"""The last stream of a GOAWAY that only announces another one (section 6.8)."""

# Types (section 6).
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9
PRIORITY_UPDATE: Final = 0x10
"""RFC 9218 section 7.1."""

# Flags (section 6).
FLAG_ACK: Final = 0x1
FLAG_END_STREAM: Final = 0x1
FLAG_END_HEADERS: Final = 0x4
FLAG_PADDED: Final = 0x8
FLAG_PRIORITY: Final = 0x20

# Settings (section 6.5.2).
SETTINGS_HEADER_TABLE_SIZE: Final = 0x1
SETTINGS_ENABLE_PUSH: Final = 0x2
SETTINGS_MAX_CONCURRENT_STREAMS: Final = 0x3
SETTINGS_INITIAL_WINDOW_SIZE: Final = 0x4
SETTINGS_MAX_FRAME_SIZE: Final = 0x5
SETTINGS_MAX_HEADER_LIST_SIZE: Final = 0x6
SETTINGS_ENABLE_CONNECT_PROTOCOL: Final = 0x8
"""RFC 8441 section 3."""
SETTINGS_NO_RFC7540_PRIORITIES: Final = 0x9
"""RFC 9218 section 2.1."""


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


NO_ERROR: Final = ErrorCode.NO_ERROR
PROTOCOL_ERROR: Final = ErrorCode.PROTOCOL_ERROR
INTERNAL_ERROR: Final = ErrorCode.INTERNAL_ERROR
FLOW_CONTROL_ERROR: Final = ErrorCode.FLOW_CONTROL_ERROR
SETTINGS_TIMEOUT: Final = ErrorCode.SETTINGS_TIMEOUT
STREAM_CLOSED: Final = ErrorCode.STREAM_CLOSED
FRAME_SIZE_ERROR: Final = ErrorCode.FRAME_SIZE_ERROR
REFUSED_STREAM: Final = ErrorCode.REFUSED_STREAM
CANCEL: Final = ErrorCode.CANCEL
COMPRESSION_ERROR: Final = ErrorCode.COMPRESSION_ERROR
CONNECT_ERROR: Final = ErrorCode.CONNECT_ERROR
ENHANCE_YOUR_CALM: Final = ErrorCode.ENHANCE_YOUR_CALM
INADEQUATE_SECURITY: Final = ErrorCode.INADEQUATE_SECURITY
HTTP_1_1_REQUIRED: Final = ErrorCode.HTTP_1_1_REQUIRED


class Http2Error(Exception):
    """The client broke a rule of HTTP/2 so that its connection has to end (section 5.4.1).

    `code` goes into the GOAWAY. `reason` is a short code for the error log, such as `bad-preface`; it is one of ours
    and never holds anything that the client sent.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame (section 4.1). A payload longer than the client takes is the caller's mistake."""
    return (len(payload) << 48 | kind << 40 | flags << 32 | stream_id).to_bytes(HEAD_BYTES, "big") + payload


SETTINGS_ACK: Final = frame(SETTINGS, FLAG_ACK, 0)


def settings_frame(values: Mapping[int, int]) -> bytes:
    """SETTINGS with 16 bits of identifier and 32 of value each (section 6.5.1)."""
    return frame(SETTINGS, 0, 0, b"".join([(name << 32 | value).to_bytes(6, "big") for name, value in values.items()]))


def window_update_frame(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE by 1 to 2^31-1 bytes of a stream, or of the connection with 0 (section 6.9)."""
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def rst_stream_frame(stream_id: int, code: int) -> bytes:
    """RST_STREAM (section 6.4)."""
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def ping_frame(payload: bytes, *, ack: bool = False) -> bytes:
    """PING with 8 bytes of payload (section 6.7)."""
    return frame(PING, FLAG_ACK if ack else 0, 0, payload)


def goaway_frame(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """GOAWAY with the last stream that was or may yet be worked on (section 6.8)."""
    return frame(GOAWAY, 0, 0, (last_stream_id << 32 | code).to_bytes(8, "big") + debug)
