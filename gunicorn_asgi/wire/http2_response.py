"""Heads of HTTP/2 responses as header blocks (RFC 9113 section 8.3.2)."""

from collections.abc import Iterable

from ..asgi_types import Field
from .http1_response import ResponseEncoder
from .http2_hpack import HeaderEncoder, encode_lasting, is_settled


class Http2ResponseEncoder(ResponseEncoder):
    """Checks heads as for HTTP/1 and encodes them. One for a whole worker, whose caches it holds: our blocks use no
    dynamic table, so that they are the same for all connections."""

    __slots__ = ("_hpack",)

    def __init__(self, server: bytes, defaults: Iterable[Field] = ()) -> None:
        self._hpack = HeaderEncoder()
        super().__init__(server, defaults)

    def encode_fields(self, fields: Iterable[Field]) -> bytes:
        """A header block without a status: trailers."""
        return self._hpack.encode(fields)

    def encode_interim(self, status: int, fields: Iterable[Field] = ()) -> bytes:
        """The header block of a 1xx response."""
        return self._hpack.encode(((b":status", b"%d" % status), *fields))

    def _status_line(self, status: int) -> bytes:
        return self._own_line(b":status", b"%d" % status)

    def _line(self, name: bytes, value: bytes) -> bytes:
        return self._hpack.encode(((name, value),))

    def _own_line(self, name: bytes, value: bytes) -> bytes:
        return encode_lasting((name, value))

    def _is_settled(self, name: bytes, value: bytes) -> bool:
        return is_settled((name, value))
