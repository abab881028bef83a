"""Every rule about header fields, each exactly once (RFC 9110 section 5, RFC 3986 section 3.2.2)."""

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from ..asgi_types import Field
from ..errors import ApplicationError, RemoteProtocolError

TOKEN: Final[Callable[[bytes], object]] = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
"""RFC 9110 section 5.6.2."""

FORBIDDEN_IN_VALUE: Final[Callable[[bytes], object]] = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
"""RFC 9110 section 5.5: CR, LF and NUL are dangerous, other control characters invalid; HTAB is white space."""

# The grammar of a field line with its CRLF removed. Obsolete folding and white space before the colon do not fit it,
# which RFC 9112 sections 5.1 and 5.2 want refused.
_FIELD_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)").fullmatch

_REG_NAME: Final = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*(?::[0-9]*)?").fullmatch
_IP_LITERAL: Final = re.compile(rb"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?").fullmatch
_CONTENT_LENGTH: Final = re.compile(rb"[0-9]{1,19}").fullmatch

CONNECTION_SPECIFIC: Final = frozenset((b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
"""RFC 9110 section 7.6.1: these speak of the connection, which is not the application's. Connection itself is a case of
its own."""

# RFC 9110 section 6.5.1: what frames or routes a message must not come behind it.
_NOT_IN_TRAILERS: Final = CONNECTION_SPECIFIC | {b"connection", b"content-length", b"host", b"te", b"trailer"}

MAX_CONTENT_LENGTH: Final = 2**63 - 1
"""What a signed 64-bit size holds; parsers on the way may know no more."""


def parse_field_line(line: bytes) -> Field:
    """Split one field line, without its CRLF, into lower-case name and value.

    Raises RemoteProtocolError(400) for anything but `token ":" OWS value OWS`.
    """
    match = _FIELD_LINE(line)
    if match is None:
        raise RemoteProtocolError(400, "bad-field-line")
    name, value = match.groups()
    return name.lower(), value.rstrip(b" \t")


def parse_field_lines(lines: bytes) -> list[Field]:
    """The fields of a head by the grammar of RFC 9112 alone; `lines` as `FieldParser.parse` gets them.

    It has the last word where a parser library refuses a head, since the libraries are stricter than the grammar, each
    elsewhere. Raises RemoteProtocolError(400).
    """
    return [parse_field_line(line) for line in lines[:-4].split(b"\r\n")[1:]]


def is_valid_host(value: bytes) -> bool:
    """Whether `value` is a Host: registered name, IPv4 address or [IPv6 address], then an optional port.

    The empty value is valid: RFC 9110 section 7.2 has a client send it when the target has no authority.
    """
    if value[:1] != b"[":
        return _REG_NAME(value) is not None
    match = _IP_LITERAL(value)
    if match is None:
        return False
    try:
        IPv6Address(match[1].decode("ascii"))
    except AddressValueError:
        return False
    return True


def parse_content_length(value: bytes) -> int:
    """The number of bytes that a Content-Length announces.

    Raises ValueError for a sign, a list, white space, non-ASCII digits, and more than 19 digits or 2^63-1.
    """
    if _CONTENT_LENGTH(value) is None:
        raise ValueError("not a Content-Length")
    length = int(value)
    if length > MAX_CONTENT_LENGTH:
        raise ValueError("Content-Length is over 2^63-1")
    return length


def parse_list(value: bytes) -> list[bytes]:
    """The lower-case members of a comma-separated list such as Connection, empty members left out."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


def join_repeated(headers: Sequence[Field]) -> dict[bytes, bytes]:
    """One value per name, repeated fields joined with commas (RFC 9110 section 5.3).

    Raises RemoteProtocolError(400) for a repeated field that must stand alone: with two hosts or two lengths, the next
    server on the way may choose the other one.
    """
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in fields:
            fields[name] = value
        elif name == b"host":
            raise RemoteProtocolError(400, "repeated-host")
        elif name == b"content-length":
            raise RemoteProtocolError(400, "repeated-content-length")
        else:
            fields[name] += b", " + value
    return fields


def join_cookies(headers: list[Field]) -> list[Field]:
    """The headers of an HTTP/2 request with one cookie field in the place of the first.

    RFC 9113 section 8.2.3: they may come in pieces, and have to be one before anybody else sees them.
    """
    cookies = [value for name, value in headers if name == b"cookie"]
    if len(cookies) < 2:
        return headers
    first = next(index for index, field in enumerate(headers) if field[0] == b"cookie")
    rest = [field for field in headers[first:] if field[0] != b"cookie"]
    return [*headers[:first], (b"cookie", b"; ".join(cookies)), *rest]


def accepts_trailers(fields: dict[bytes, bytes]) -> bool:
    """Whether the client of a request wants trailers behind the response (RFC 9110 section 10.1.4)."""
    return b"te" in fields and b"trailers" in parse_list(fields[b"te"])


def checked_field(field: Iterable[bytes]) -> Field:
    """A field of the application, its name in lower case.

    Raises ApplicationError, which names the field but never its value, for what is no pair of bytes, for a name that is
    no token and for a control character in the value.
    """
    try:
        name, value = field
    except (TypeError, ValueError):
        raise ApplicationError("response header is not a pair of name and value") from None
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        raise ApplicationError(f"response header {name!r}: name and value must be bytes")
    if not TOKEN(name):
        raise ApplicationError(f"response header {name!r}: the name is not a token")
    if FORBIDDEN_IN_VALUE(value):
        raise ApplicationError(f"response header {name!r}: the value holds a control character")
    return name.lower(), value


def checked_trailers(fields: Iterable[Iterable[bytes]]) -> list[Field]:
    """Trailers of the application without those that have no business there. Raises as `checked_field` does."""
    return [field for field in map(checked_field, fields) if field[0] not in _NOT_IN_TRAILERS]
