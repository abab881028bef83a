"""permessage-deflate (RFC 7692): messages inflated and deflated with the parameters that a handshake has agreed on."""

import sys
import zlib
from dataclasses import dataclass
from typing import Final

from ..errors import CloseCode, WebSocketError

_SYNC_FLUSH_END: Final = b"\x00\x00\xff\xff"
"""The end of each flushed deflate stream, which is left out on the wire (RFC 7692 section 7.2.1)."""

_MEMORY_LEVEL: Final = 5
"""Of zlib's 1 to 9, as in uvicorn: with a window of 4 KiB, compression needs 30 KiB a connection instead of 256."""

_MAX_RESTARTS: Final = 8
"""Deflate streams that may end within what arrives at once. Each costs the making of an inflater, and takes 2 bytes."""


def max_deflated_bytes(size: int) -> int:
    """As how many bytes a compressor may send `size` bytes. What deflate cannot compress becomes longer: with zlib,
    whatever its parameters, by up to 13 % and a few bytes."""
    return size + size // 7 + 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DeflateParameters:
    """What both sides have agreed on."""

    server_window_bits: int
    client_window_bits: int
    server_no_context_takeover: bool
    client_no_context_takeover: bool


class PerMessageDeflate:
    """Both directions of one connection. What zlib needs is made with the first message that needs it."""

    __slots__ = ("_deflater", "_inflater", "_parameters")

    def __init__(self, parameters: DeflateParameters) -> None:
        self._parameters = parameters
        self._inflater: zlib._Decompress | None = None
        self._deflater: zlib._Compress | None = None

    def inflate(self, data: bytes, max_bytes: int) -> bytes:
        """The next piece of a message.

        Raises WebSocketError: TOO_BIG for more than `max_bytes`, of which no more than one too many is ever inflated,
        and PROTOCOL_ERROR for what is no deflate stream.
        """
        inflater = self._inflater
        if inflater is None:
            inflater = self._new_inflater()
        # zlib takes no larger number than sys.maxsize, which stands for no limit.
        max_bytes = min(max_bytes, sys.maxsize - 1)
        try:
            content = inflater.decompress(data, max_bytes + 1)
            restarts = 0
            # Behind one byte too many `max_length` would be 0, which stands for no limit.
            while len(content) <= max_bytes and inflater.eof and (rest := inflater.unused_data):
                # A sender may end a deflate stream and begin another within a message (RFC 7692 section 7.2.3.4).
                restarts += 1
                if restarts > _MAX_RESTARTS:
                    raise WebSocketError(CloseCode.PROTOCOL_ERROR, "too many deflate streams")
                inflater = self._new_inflater()
                content += inflater.decompress(rest, max_bytes + 1 - len(content))
        except zlib.error:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "data cannot be inflated") from None
        if len(content) > max_bytes:
            raise WebSocketError(CloseCode.TOO_BIG, "message is too big")
        if inflater.eof:
            self._inflater = None
        return content

    def end_inflate(self, max_bytes: int) -> bytes:
        """What was held back until the end of the message. Raises WebSocketError as `inflate` does."""
        if self._inflater is None:  # An empty message, or one that ended its deflate stream.
            return b""
        content = self.inflate(_SYNC_FLUSH_END, max_bytes)
        if self._parameters.client_no_context_takeover:
            self._inflater = None
        return content

    def deflate(self, data: bytes) -> bytes:
        """One whole message."""
        deflater = self._deflater
        if deflater is None:
            deflater = zlib.compressobj(wbits=-self._parameters.server_window_bits, memLevel=_MEMORY_LEVEL)
            if not self._parameters.server_no_context_takeover:
                self._deflater = deflater
        return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def _new_inflater(self) -> "zlib._Decompress":
        inflater = self._inflater = zlib.decompressobj(wbits=-self._parameters.client_window_bits)
        return inflater
