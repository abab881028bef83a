"""Field lines by httptools (llhttp, strict: none of its leniencies is ever switched on)."""

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from ..asgi_types import Field
from ..errors import RemoteProtocolError
from .headers import parse_field_line
from .http1_request import COMMON_METHODS


class HttptoolsFieldParser:
    """One for a whole worker: it is fed complete heads only, so it keeps nothing between two of them."""

    __slots__ = ("_fields", "_parser")

    def __init__(self) -> None:
        self._fields: list[Field] = []
        self._parser = HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp has refused control bytes, so rstrip() can only find the SP and HTAB that llhttp leaves at the end.
        self._fields.append((name.lower(), value.rstrip()))

    def parse(self, head: bytes) -> list[Field]:
        """See `FieldParser.parse`."""
        fields: list[Field] = []
        self._fields = fields
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            pass  # Not a failure: llhttp stops here by itself, as it is wanted to.
        except HttpParserError:
            return _read_again(head)
        return fields

    def reset(self) -> None:
        """See `FieldParser.reset`."""
        self._parser = HttpRequestParser(self)


def _read_again(head: bytes) -> list[Field]:
    """The fields of a head that llhttp refused, where the verdict is not llhttp's: transfer codings and methods."""
    request_line, *lines = head[:-4].split(b"\r\n")
    fields = [parse_field_line(line) for line in lines]
    if request_line.split(b" ", 1)[0] not in COMMON_METHODS:
        raise RemoteProtocolError(501, "unknown-method")
    if all(name != b"transfer-encoding" for name, _ in fields):
        raise RemoteProtocolError(400, "bad-head")
    return fields
