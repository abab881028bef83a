"""Field lines by h11: pure Python, for PyPy and wherever nothing compiled can be installed."""

import re
from typing import Final

import h11

from ..asgi_types import Field
from .headers import parse_field_lines

# What h11 lets pass and RFC 9112 sections 2.2 and 5 want refused: control characters, lines that end in a bare LF, a
# bare CR, and obsolete folding, which h11 unfolds.
_LENIENCY: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n)|\r\n[ \t]").search

# h11 rewrites their values (`1, 1` becomes `1`) or refuses them; framing is decided in `read_request_head`.
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))


class H11FieldParser:
    """One for a whole worker. It keeps nothing: each head gets a connection of h11 of its own."""

    __slots__ = ()

    def parse(self, lines: bytes) -> list[Field]:
        """See `FieldParser.parse`."""
        if _LENIENCY(lines):
            return parse_field_lines(lines)
        connection = h11.Connection(h11.SERVER)
        # In the words of HTTP/1.0, since h11 would look for a Host in 1.1, which is not its to decide here.
        connection.receive_data(b"GET / HTTP/1.0" + lines[8:])
        try:
            request = connection.next_event()
        except h11.RemoteProtocolError:
            return parse_field_lines(lines)
        assert isinstance(request, h11.Request), "a complete head is a request or an error"
        fields = list(request.headers)
        if any(name in _FRAMING for name, _ in fields):
            return parse_field_lines(lines)
        return fields

    def reset(self) -> None:
        """See `FieldParser.reset`."""
