"""The head of an HTTP/1 request: what both parsers must check beyond their parser (RFC 9112 sections 2 to 6).

A parser library only splits the field lines (`FieldParser`). Request line, limits, Host, framing and connection options
are decided here, so that every parser gives the same verdict. The whole head is in memory before it is parsed: that
makes each limit exact, and leaves the parser library no state between requests and no body to misread.
"""

import re
from typing import Final, Protocol, TypeAlias
from urllib.parse import unquote

from ..asgi_types import Field
from ..errors import RemoteProtocolError
from ..settings import HeadLimits
from .headers import TOKEN, is_valid_host, join_repeated, parse_content_length, parse_list

CHUNKED: Final = -1
"""The `body_length` of a body in chunked transfer coding."""

HEAD_END: Final = b"\r\n\r\n"

MAX_METHOD_BYTES: Final = 32
"""Longer than any registered method; the application decides which ones it knows."""

MAX_EMPTY_LINES: Final = 4
"""Empty lines that may precede a request line. RFC 9112 section 2.2 asks to ignore at least one; some old clients send
one after a body."""

# Methods as the str that the scope wants; a bytes.decode() for each request would cost more than the look-up.
COMMON_METHODS: Final = {
    name.encode("ascii"): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
}

_VERSIONS_SERVED: Final = (b"HTTP/1.1\r\n", b"HTTP/1.0\r\n")
_VERSION: Final = re.compile(rb"HTTP/([0-9])\.[0-9]\r\n").match
_ABSOLUTE_FORM: Final = re.compile(rb"(?i:https?)://([^/?]+)([/?].*)?").fullmatch
_BARE_LF_OR_CR: Final = re.compile(rb"(?<!\r)\n|\r(?=[^\n])").search

# Hosts that were found valid. A server sees a handful of names; the cap keeps a hostile client from filling memory.
_known_hosts: set[bytes] = set()
_MAX_KNOWN_HOSTS: Final = 1024


class FieldParser(Protocol):
    """What a parser library provides: the field lines of a complete head.

    It never sees method and target, of which each library has its own opinion: llhttp refuses methods that it does not
    know, and a line break hidden in a target would show it other fields than the next parser.
    """

    def parse(self, lines: bytes) -> list[Field]:
        """Names in lower case and values of the fields in `lines`: a complete head from its version on, which is
        `HTTP/1.1` here, whatever the client said.

        Raises RemoteProtocolError(400) for fields that do not fit the grammar.
        """

    def reset(self) -> None:
        """Forget what the last head announced; called when a body or another protocol follows it."""


FieldSection: TypeAlias = tuple[bytes, str, list[Field], dict[bytes, bytes], int, bool, bool]
"""The fields of a request and what they decide, everything in it checked.

    lines               as received: the head from its version on
    http_version        `1.0` or `1.1`
    headers             as received, names in lower case; to be copied before they are given away
    fields              one value for each name, for look-ups
    body_length         in bytes; `CHUNKED` where the body tells its own end
    keep_alive          whether the client lets the connection live on
    expects_continue    whether the client waits for a 100

A plain tuple, because every request takes one apart: a NamedTuple costs 0.2 us more.
"""

NO_FIELDS: Final[FieldSection] = (b"", "1.1", [], {}, 0, True, False)
"""Before the first request of a connection."""

RequestHead: TypeAlias = tuple[str, str, str, bytes, bytes, FieldSection]
"""A request as far as its head tells, everything in it checked: method; target as received, in ASCII; path,
percent-decoded once as UTF-8 with invalid bytes replaced; raw path; query string; fields."""


def read_request_head(head: bytes, parser: FieldParser, limits: HeadLimits, known: FieldSection) -> RequestHead:
    """Parse and check one complete head, from its request line to its empty line inclusive.

    `known` is the field section of an earlier request. A client that sends one request after the other repeats its
    fields: where they are the same byte for byte, `known` is what they say, and they are not read again.

    Raises RemoteProtocolError: 414 and 431 for what is over a limit, 501 for CONNECT, for methods that are too long and
    transfer codings that are well-formed and not served, 505 for another major version, 400 for everything else.
    """
    if len(head) > limits.small_head_bytes:
        _check_line_sizes(head, limits)
    try:
        method, target, lines = head.split(b" ", 2)
        is_origin_form = target[0] == 47  # "/"
    except (ValueError, IndexError):
        raise RemoteProtocolError(400, "bad-request-line") from None
    is_known = lines == known[0]
    if not is_known:
        _check_version(lines)
    method_name = COMMON_METHODS.get(method) or other_method(method)
    section = known if is_known else _read_fields(lines, parser, limits)
    try:
        uri = path = target.decode("ascii")
    except UnicodeDecodeError:
        raise RemoteProtocolError(400, "bad-target") from None
    if not path.isprintable() or "#" in path:
        raise RemoteProtocolError(400, "bad-target")
    if not is_origin_form:
        target, section = _other_target_form(target, method, section)
        path = target.decode("ascii")
    raw_path = target
    query_string = b""
    if "?" in path:
        raw_path, _, query_string = target.partition(b"?")
        path = path[: len(raw_path)]
    if "%" in path:
        path = unquote(path)
    return method_name, uri, path, raw_path, query_string, section


def _read_fields(lines: bytes, parser: FieldParser, limits: HeadLimits) -> FieldSection:
    """The field section in `lines`, a complete head from its version on."""
    is_http_11 = lines[7] == 49  # "1"
    try:
        headers = parser.parse(lines if is_http_11 else b"HTTP/1.1" + lines[8:])
        if len(headers) > limits.fields:
            raise RemoteProtocolError(431, "too-many-fields")
        fields = dict(headers)
        if len(fields) != len(headers):
            fields = join_repeated(headers)

        host = fields.get(b"host")
        if host not in _known_hosts:
            _check_host(host, is_http_11)

        keep_alive = is_http_11
        if (connection := fields.get(b"connection")) is not None:
            options = parse_list(connection)
            keep_alive = b"close" not in options and (is_http_11 or b"keep-alive" in options)

        body_length = 0
        if b"transfer-encoding" in fields or b"content-length" in fields:
            body_length = _body_length(fields, is_http_11)
        if body_length or not keep_alive or b"upgrade" in fields or b"proxy-connection" in fields:
            # llhttp takes what comes next for a body, another protocol, or nothing at all.
            parser.reset()
    except RemoteProtocolError:
        parser.reset()
        # A head that comes in pieces is refused for its size before anybody looks at the fields.
        if lines.count(b"\r\n") - 2 > limits.fields:
            raise RemoteProtocolError(431, "too-many-fields") from None
        raise
    expects_continue = b"expect" in fields and is_http_11 and fields[b"expect"].lower() == b"100-continue"
    return lines, "1.1" if is_http_11 else "1.0", headers, fields, body_length, keep_alive, expects_continue


def skip_empty_lines(data: bytes) -> bytes:
    """`data` from its request line on; empty where nothing but empty lines is there yet.

    Raises RemoteProtocolError(400) for more than `MAX_EMPTY_LINES`. To see an endless row of them, the caller keeps the
    empty lines until more has come.
    """
    start = 0
    while data.startswith(b"\r\n", start):
        start += 2
        if start > 2 * MAX_EMPTY_LINES:
            raise RemoteProtocolError(400, "too-many-empty-lines")
    rest = data[start:]
    return b"" if rest == b"\r" else rest


class IncompleteHead:
    """Refuses the beginning of a head as soon as no further byte can make it valid, so that nothing endless is stored.

    Each byte is looked at once: a head that drips in costs no more than one that comes at once.
    """

    __slots__ = ("_limits", "_line_start", "_lines", "_seen")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._lines = 0
        self._line_start = 0
        self._seen = 0

    def check(self, data: bytes) -> None:
        """Look at `data`, all that has come of the head, which begins with what `check` has seen before.

        Raises RemoteProtocolError: 414, 431, or 400 for a line that ends in a bare LF or holds a bare CR.
        """
        limits = self._limits
        # What was last may have been the CR of a CRLF.
        new_from = max(self._seen - 1, 0)
        while (line_end := data.find(b"\r\n", max(self._line_start, new_from))) >= 0:
            self._check_line(line_end - self._line_start)
            self._lines += 1
            self._line_start = line_end + 2
        self._check_line(len(data) - self._line_start - data.endswith(b"\r"))
        if len(data) > limits.head_bytes:
            raise RemoteProtocolError(431 if self._lines else 414, "head-too-large")
        if _BARE_LF_OR_CR(data, new_from):
            raise RemoteProtocolError(400, "bare-lf-or-cr")
        if self._lines > limits.fields + 1:
            raise RemoteProtocolError(431, "too-many-fields")
        self._seen = len(data)

    def _check_line(self, length: int) -> None:
        if self._lines == 0:
            if length > self._limits.request_line_bytes:
                raise RemoteProtocolError(414, "request-line-too-long")
        elif length + 2 > self._limits.field_bytes:
            raise RemoteProtocolError(431, "field-too-large")


def _check_line_sizes(head: bytes, limits: HeadLimits) -> None:
    """Hold each line of a complete head against its limit. Lines are objects, so their number is looked at first."""
    if head.find(b"\r\n") > limits.request_line_bytes:
        raise RemoteProtocolError(414, "request-line-too-long")
    if len(head) > limits.head_bytes:
        raise RemoteProtocolError(431, "head-too-large")
    if head.count(b"\r\n") - 2 > limits.fields:
        raise RemoteProtocolError(431, "too-many-fields")
    if any(len(line) + 2 > limits.field_bytes for line in head.split(b"\r\n")[1:]):
        raise RemoteProtocolError(431, "field-too-large")


def _check_version(lines: bytes) -> None:
    """`lines` is what follows the second space of the request line, where the version should be."""
    if lines[:10] in _VERSIONS_SERVED:
        return
    match = _VERSION(lines)
    # HTTP/0.9 never had this form, so the name says that something else is spoken here.
    if match is None or match[1] == b"0":
        raise RemoteProtocolError(400, "bad-version")
    if match[1] == b"1":
        raise RemoteProtocolError(400, "unknown-minor-version")
    raise RemoteProtocolError(505, "unsupported-version")


def other_method(method: bytes) -> str:
    """A method that is none of `COMMON_METHODS`. Raises RemoteProtocolError(400 or 501)."""
    if not TOKEN(method):
        raise RemoteProtocolError(400, "bad-method")
    if len(method) > MAX_METHOD_BYTES:
        # RFC 9112 section 3: a method longer than any that the server implements.
        raise RemoteProtocolError(501, "method-too-long")
    if method == b"CONNECT":
        raise RemoteProtocolError(501, "connect")
    return method.decode("ascii")


def _other_target_form(target: bytes, method: bytes, section: FieldSection) -> tuple[bytes, FieldSection]:
    """The origin form of an absolute-form target, whose authority replaces Host (RFC 9112 section 3.2.2)."""
    if target == b"*" and method == b"OPTIONS":
        return target, section
    match = _ABSOLUTE_FORM(target)
    if match is None:
        raise RemoteProtocolError(400, "bad-target")
    authority, path = match.groups()
    # RFC 9110 section 4.2.1: an http URI with an empty host MUST be rejected as invalid.
    if not is_valid_host(authority) or authority.startswith(b":"):
        raise RemoteProtocolError(400, "bad-target-authority")
    _, http_version, headers, fields, body_length, keep_alive, expects_continue = section
    if b"host" in fields:
        headers = [field if field[0] != b"host" else (b"host", authority) for field in headers]
    else:
        headers = [*headers, (b"host", authority)]
    if path is None:
        path = b"/"
    elif path[:1] != b"/":
        path = b"/" + path
    # Without `lines`, so that nobody takes it for what the next request says.
    fields = {**fields, b"host": authority}
    return path, (b"", http_version, headers, fields, body_length, keep_alive, expects_continue)


def _check_host(host: bytes | None, is_http_11: bool) -> None:
    if host is None:
        # RFC 9112 section 3.2: a server MUST answer 400 to an HTTP/1.1 request that lacks Host.
        if is_http_11:
            raise RemoteProtocolError(400, "missing-host")
        return
    if not is_valid_host(host):
        raise RemoteProtocolError(400, "bad-host")
    if len(_known_hosts) < _MAX_KNOWN_HOSTS:
        _known_hosts.add(host)


def _body_length(fields: dict[bytes, bytes], is_http_11: bool) -> int:
    """The framing of the body (RFC 9112 section 6.3). Whatever two servers could read differently is refused."""
    coding = fields.get(b"transfer-encoding")
    if coding is None:
        try:
            return parse_content_length(fields[b"content-length"])
        except ValueError:
            raise RemoteProtocolError(400, "bad-content-length") from None
    if b"content-length" in fields:
        raise RemoteProtocolError(400, "length-and-transfer-encoding")
    if not is_http_11:
        raise RemoteProtocolError(400, "transfer-encoding-in-http-1.0")
    coding = coding.strip(b" \t").lower()
    if coding == b"chunked":
        return CHUNKED
    names = [name.strip(b" \t") for name in coding.split(b",")]
    if b"chunked" in names[:-1] or not all(TOKEN(name) for name in names):
        raise RemoteProtocolError(400, "bad-transfer-encoding")
    raise RemoteProtocolError(501, "unknown-transfer-encoding")
