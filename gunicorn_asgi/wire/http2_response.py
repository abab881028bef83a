"""Heads of HTTP/2 responses as header blocks (RFC 9113 section 8.3.2)."""

from collections.abc import Iterable
from typing import Final

from ..asgi_types import Field, ResponseFields
from .http1_response import ResponseEncoder
from .http2_hpack import HeaderEncoder

# A whole head looked up at once costs a third of putting it together. Emptied each second, with the date.
_MAX_CACHED_HEADS: Final = 256


class Http2ResponseEncoder(ResponseEncoder):
    """Checks heads as for HTTP/1 and encodes them. One for a whole worker, whose caches it holds: our blocks use no
    dynamic table, so that they are the same for all connections."""

    __slots__ = ("_heads", "_hpack")

    def __init__(self, server: bytes, defaults: Iterable[Field] = ()) -> None:
        self._hpack = HeaderEncoder()
        self._heads: dict[object, tuple[bytes, int]] = {}
        super().__init__(server, defaults)

    def set_date(self, value: bytes) -> None:
        """See `ResponseEncoder.set_date`."""
        super().set_date(value)
        self._heads.clear()

    def encode_block(self, status: int, fields: ResponseFields) -> tuple[bytes, int]:
        """The header block of a response, and its Content-Length in bytes or `UNKNOWN_LENGTH`.

        Raises ApplicationError as `ResponseEncoder.encode` does.
        """
        try:
            if type(status) is int:
                return self._heads[status, fields]
        except (KeyError, TypeError):  # New, or fields that are lists and have no hash.
            pass
        lines, content_length, _ = self.encode(status, fields)
        block = b"".join(lines)
        # A head with a field of its own, such as a cookie, is not kept: nobody would look it up again.
        if type(status) is int and self._is_kept(fields):
            if len(self._heads) >= _MAX_CACHED_HEADS:
                self._heads.clear()
            self._heads[status, fields] = block, content_length
        return block, content_length

    def _is_kept(self, fields: ResponseFields) -> bool:
        try:
            return fields in self._blocks
        except TypeError:
            return False

    def encode_fields(self, fields: Iterable[Field]) -> bytes:
        """A header block without a status: trailers."""
        return self._hpack.encode(fields)

    def encode_interim(self, status: int, fields: Iterable[Field] = ()) -> bytes:
        """The header block of a 1xx response."""
        return self._hpack.encode(((b":status", b"%d" % status), *fields))

    def _status_line(self, status: int) -> bytes:
        return self._line(b":status", b"%d" % status)

    def _line(self, name: bytes, value: bytes) -> bytes:
        return self._hpack.encode(((name, value),))
