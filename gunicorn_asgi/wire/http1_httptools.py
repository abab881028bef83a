"""Field lines by httptools (llhttp, strict: none of its leniencies is ever switched on)."""

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from ..asgi_types import Field
from .headers import parse_field_lines


class HttptoolsFieldParser:
    """One for a whole worker: it is fed complete heads only, so it keeps nothing between two of them."""

    __slots__ = ("_fields", "_parser")

    def __init__(self) -> None:
        self._fields: list[Field] = []
        self._parser = HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp has refused control bytes, so rstrip() can only find the SP and HTAB that llhttp leaves at the end.
        self._fields.append((name.lower(), value.rstrip()))

    def parse(self, lines: bytes) -> list[Field]:
        """See `FieldParser.parse`."""
        fields: list[Field] = []
        self._fields = fields
        try:
            self._parser.feed_data(b"GET / " + lines)
        except HttpParserUpgrade:
            pass  # Not a failure: llhttp stops here by itself, as it is wanted to.
        except HttpParserError:
            return parse_field_lines(lines)
        return fields

    def reset(self) -> None:
        """See `FieldParser.reset`."""
        self._parser = HttpRequestParser(self)
