"""Field lines by httptools (llhttp, strict: none of its leniencies is ever switched on)."""

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from ..asgi_types import Field
from ..errors import RemoteProtocolError


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
        """See `FieldParser.parse`. A method that llhttp does not know is 501."""
        self._fields = fields = []
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            pass  # Not a failure: llhttp stops here by itself, as it is wanted to.
        except HttpParserError as error:
            self.reset()
            if isinstance(error, HttpParserInvalidMethodError):
                raise RemoteProtocolError(501, "unknown-method") from None
            raise RemoteProtocolError(400, "bad-head") from None
        return fields

    def reset(self) -> None:
        """See `FieldParser.reset`."""
        self._parser = HttpRequestParser(self)
