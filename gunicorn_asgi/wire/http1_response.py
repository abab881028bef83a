"""Heads and chunks of HTTP/1 responses as bytes (RFC 9112 sections 4, 6 and 7)."""

import http
from collections.abc import Iterable
from typing import Final, TypeAlias

from ..asgi_types import Field, ResponseFields
from ..errors import ApplicationError
from .headers import CONNECTION_SPECIFIC, checked_field, parse_content_length, parse_list

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

UNKNOWN_LENGTH: Final = -1
"""Content-Length of a response that names none."""

BODYLESS_STATUS: Final = (204, 304)
"""RFC 9110 section 6.4.1: these never have content."""

# What a field of the application means for the response besides its own line. A number of 0 and more is a
# Content-Length.
_CLOSE: Final = -1
_DROP: Final = -2
_DATE: Final = -3
_SERVER: Final = -4
_PLAIN: Final = -5

# Encoding and checking a field costs 0.6 us, the look-up 0.06; putting two known fields together 0.3 us, the look-up of
# both 0.1, and that of a whole head the same. Applications repeat most fields and most heads; the caps bound memory
# when they do not.
_MAX_CACHED: Final = 1024
_MAX_CACHED_HEADS: Final = 256
_MAX_CACHED_FIELD_BYTES: Final = 256
_MAX_CACHED_BLOCK_BYTES: Final = 1024

# Encoded fields of a head: their lines, Content-Length, whether to close, and which of our fields the application sends
# itself.
_Block: TypeAlias = tuple[bytes, int, bool, tuple[int, ...]]

STATUS_LINES: Final[dict[int, bytes]] = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode("ascii")) for status in http.HTTPStatus
}


def plain_answer(status: int) -> tuple[list[Field], bytes]:
    """Fields and content of an answer of our own: the phrase of its status, and nothing of the request."""
    content = STATUS_LINES[status][13:-2]
    return [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(content))], content


EncodedHead: TypeAlias = tuple[bytes, int, bool]
"""A checked head without what frames the body and what concerns the connection.

Lines, each with its CRLF (a header block in HTTP/2); the Content-Length in bytes or `UNKNOWN_LENGTH`; whether the
application asks for the connection to be closed.
"""


class ResponseEncoder:
    """Turns status and fields of an application into bytes. One for a whole worker, whose caches it holds."""

    __slots__ = ("_blocks", "_date", "_defaults", "_fields", "_heads", "_prefixes", "_server")

    def __init__(self, server: bytes, defaults: Iterable[Field] = ()) -> None:
        """`server` is the value of the Server field; empty for none. `defaults` are fields that every response gets."""
        self._server = self._own_line(b"server", server) if server else b""
        self._defaults = b"".join([self._own_line(name, value) for name, value in defaults])
        self._date = b""
        self._prefixes: dict[int, bytes] = {}
        self._heads: dict[object, EncodedHead] = {}
        self._fields: dict[object, tuple[bytes, int]] = {}
        self._blocks: dict[object, _Block] = {}

    def set_date(self, value: bytes) -> None:
        """Send this Date with all that follows; empty for none. To be called once a second."""
        self._date = self._own_line(b"date", value) if value else b""
        self._prefixes.clear()
        self._heads.clear()

    def encode(self, status: int, fields: ResponseFields) -> EncodedHead:
        """Check and encode a head.

        Raises ApplicationError for a status that is no int from 200 to 999, names that are no tokens, control
        characters in values, and a Content-Length that is repeated or no length.
        """
        try:
            if type(status) is int:
                return self._heads[status, fields]
        except (KeyError, TypeError):  # New, or fields that are lists and have no hash.
            pass
        prefix = self._prefixes.get(status) if type(status) is int else None
        if prefix is None:
            prefix = self._prefix(status)
        given = sent = tuple(fields)
        if status == 204:  # RFC 9110 section 8.6: no Content-Length there.
            sent = tuple(field for field in given if next(iter(field), b"").lower() != b"content-length")
        try:
            text, content_length, close, own = self._blocks[sent]
            is_known = type(status) is int
        except (KeyError, TypeError):
            text, content_length, close, own = self._encode_block(sent)
            is_known = False
        for line in own:
            prefix = prefix.replace(self._date if line == _DATE else self._server, b"", 1)
        head = prefix + text, content_length, close
        # A head with a field of its own, such as a cookie, is not kept: nobody would look it up again.
        if is_known:
            if len(self._heads) >= _MAX_CACHED_HEADS:
                self._heads.clear()
            self._heads[status, given] = head
        return head

    def encode_switching(self, upgrade: bytes, fields: ResponseFields) -> bytes:
        """A whole head that switches to another protocol (RFC 9110 section 15.2.2).

        Raises ApplicationError for fields that `encode` does not allow either.
        """
        lines, _, _ = self.encode(200, fields)
        lines = lines.replace(STATUS_LINES[200], STATUS_LINES[101], 1)
        return b"%bupgrade: %b\r\nconnection: upgrade\r\n\r\n" % (lines, upgrade)

    def _encode_block(self, fields: tuple[Iterable[bytes], ...]) -> _Block:
        cached = self._fields
        lines: list[bytes] = []
        content_length = UNKNOWN_LENGTH
        close = False
        own: set[int] = set()
        all_known = True
        for field in fields:
            try:
                line, meaning = cached[field]
            except (KeyError, TypeError):
                all_known = False
                line, meaning = self._encode_field(field)
            if meaning >= 0:
                if content_length != UNKNOWN_LENGTH:
                    raise ApplicationError("response has more than one content-length")
                content_length = meaning
            elif meaning == _CLOSE:
                close = True
            elif meaning in (_DATE, _SERVER):
                own.add(meaning)
            if meaning not in (_CLOSE, _DROP):
                lines.append(line)
        block = b"".join(lines), content_length, close, tuple(own)
        # A field of its own for each response, such as a cookie, never gets this far: its line is not known.
        if all_known and len(block[0]) <= _MAX_CACHED_BLOCK_BYTES:
            if len(self._blocks) >= _MAX_CACHED:
                self._blocks.clear()
            self._blocks[fields] = block
        return block

    def _prefix(self, status: int) -> bytes:
        """Status line, Date, Server and the default fields, the same for all responses of this second."""
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise ApplicationError("response status is not an integer from 200 to 999")
        prefix = self._status_line(status) + self._date + self._server + self._defaults
        self._prefixes[int(status)] = prefix
        return prefix

    def _encode_field(self, field: Iterable[bytes]) -> tuple[bytes, int]:
        name, value = checked_field(field)
        encoded = (self._line(name, value), _meaning(name, value))
        if type(field) is tuple and len(name) + len(value) <= _MAX_CACHED_FIELD_BYTES and self._is_settled(name, value):
            if len(self._fields) >= _MAX_CACHED:
                self._fields.clear()
            self._fields[field] = encoded
        return encoded

    # What differs between the versions of HTTP

    def _status_line(self, status: int) -> bytes:
        return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status

    def _line(self, name: bytes, value: bytes) -> bytes:
        return b"%b: %b\r\n" % (name, value)

    def _own_line(self, name: bytes, value: bytes) -> bytes:
        """A line of many responses."""
        return self._line(name, value)

    def _is_settled(self, name: bytes, value: bytes) -> bool:
        """Whether the line of a field would be the same next time."""
        return True


def _meaning(name: bytes, value: bytes) -> int:
    if name == b"content-length":
        try:
            return parse_content_length(value)
        except ValueError:
            raise ApplicationError("response header b'content-length': the value is not a length") from None
    if name == b"connection":
        return _CLOSE if b"close" in parse_list(value) else _DROP
    if name in CONNECTION_SPECIFIC:
        return _DROP
    if name == b"date":
        return _DATE
    return _SERVER if name == b"server" else _PLAIN


def encode_interim(status: int, fields: Iterable[Field]) -> bytes:
    """An informational response."""
    return b"%b%b\r\n" % (STATUS_LINES[status], _lines(fields))


def encode_last_chunk(trailers: Iterable[Field]) -> bytes:
    """The end of a chunked body with trailers behind it."""
    return b"0\r\n%b\r\n" % _lines(trailers)


def _lines(fields: Iterable[Field]) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def encode_chunk(data: bytes) -> bytes:
    """One chunk; `data` must not be empty, since an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
