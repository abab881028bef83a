"""The header blocks that come on one HTTP/2 connection: requests and trailers, each decoded and checked (RFC 9113
sections 4.3 and 8.1)."""

from typing import Final

from ..asgi_types import Field
from ..errors import RemoteProtocolError
from . import http2_frames as frames
from .http2_frames import Http2Error
from .http2_hpack import HeaderDecoder, HeaderListTooLarge
from .http2_request import FieldRules, RequestHead, RequestReader

MAX_CONTINUATIONS: Final = 8
"""CONTINUATION frames of one header block. With HEADERS, 9 frames of 16 KiB hold more than any list may measure."""


class PartialBlock:
    """A header block of which not all has come."""

    __slots__ = ("_continuations", "_pieces", "_size", "ended", "stream_id")

    def __init__(self, stream_id: int, piece: bytes, ended: bool) -> None:
        """It began with `piece` of a HEADERS frame; `ended` says whether that had END_STREAM."""
        self.stream_id = stream_id
        self.ended = ended
        self._pieces = [piece]
        self._size = len(piece)
        self._continuations = 0

    def append(self, piece: bytes, max_bytes: int) -> None:
        """What a CONTINUATION frame holds. Raises Http2Error where they do not come to an end."""
        self._continuations += 1
        self._size += len(piece)
        if self._continuations > MAX_CONTINUATIONS or self._size > max_bytes:
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "endless-header-block")
        self._pieces.append(piece)

    def whole(self) -> bytes:
        return b"".join(self._pieces)


class HeaderBlocks:
    """Reads complete header blocks, every one of them in the order in which they came.

    A request that repeats the one before it, or differs from it in nothing but its path, is not checked again: clients
    send most of their fields with each request.
    """

    __slots__ = (
        "_connect_protocol",
        "_decoder",
        "_last_ended",
        "_last_head",
        "_last_received",
        "_path",
        "_reader",
        "_received",
        "rules",
    )

    def __init__(
        self, reader: RequestReader, max_list_bytes: int, watched_names: frozenset[bytes], connect_protocol: bool
    ) -> None:
        """`watched_names` are for `rules`; `connect_protocol` allows extended CONNECT (RFC 8441)."""
        self.rules = FieldRules(watched_names)
        self._decoder = HeaderDecoder(max_list_bytes=max_list_bytes, is_valid_field=self.rules.is_valid)
        self._reader = reader
        self._connect_protocol = connect_protocol
        self._last_received: list[Field] = []
        self._last_ended = True
        self._last_head: RequestHead | None = None
        self._received: list[Field] | None = None
        self._path: bytes | None = None

    def read_request(self, block: bytes, ended: bool) -> RequestHead:
        """A request; `ended` says that no content follows.

        Raises HpackError, after which no block can be read, and RemoteProtocolError as `RequestReader.read`.
        """
        decoder = self._decoder
        head = self._last_head
        received = self._last_received
        self._path = None
        if decoder.path_room >= 0 and decoder.last_fields is received and ended is self._last_ended:
            path = decoder.changed_path(block)
            if path is not None and head is not None:
                self._path = path
                return self._reader.read_path(head, path)
        self._received = None
        received = self._received = decoder.decode(block)
        # The decoder gives the same list for the same block: requests that are repeated need no second check.
        if received is self._last_received and head is not None and ended is self._last_ended:
            return head
        if decoder.malformed:
            raise RemoteProtocolError(400, "bad-field")
        if len(block) > self._reader.small_block_bytes:
            self._reader.check_sizes(received)
        head = self._reader.read(received, ended)
        if head[7] and not self._connect_protocol:
            raise RemoteProtocolError(400, "unknown-pseudo-field")
        self._last_received, self._last_ended, self._last_head = received, ended, head
        return head

    @property
    def request_line(self) -> bytes:
        """Method and target of the request that was read last, as they have come; empty where the list was too large
        to be kept."""
        received = self._received if self._path is None else self._last_received
        if received is None:
            return b""
        fields = dict(received)
        path = self._path or fields.get(b":path", b"-")
        return fields.get(b":method", b"-") + b" " + path

    def read_trailers(self, block: bytes) -> None:
        """Raises HpackError, after which no block can be read, and RemoteProtocolError for trailers that are malformed
        (400) or over a limit (431)."""
        try:
            received = self._decoder.decode(block)
        except HeaderListTooLarge:
            raise RemoteProtocolError(431, "trailers-too-large") from None
        if self._decoder.malformed:
            raise RemoteProtocolError(400, "bad-trailer")
        if len(block) > self._reader.small_block_bytes:
            self._reader.check_sizes(received)
        self._reader.check_trailers(received)
