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


RequestHead: TypeAlias = tuple[str, str, str, bytes, bytes, list[Field], dict[bytes, bytes], int, bool, bool]
"""A request as far as its head tells, everything in it checked.

    method
    http_version        `1.0` or `1.1`
    path                percent-decoded once as UTF-8, invalid bytes replaced
    raw_path
    query_string
    headers             as received, names in lower case
    fields              one value for each name, for look-ups
    body_length         in bytes; `CHUNKED` where the body tells its own end
    keep_alive          whether the client lets the connection live on
    expects_continue    whether the client waits for a 100

A plain tuple, because every request makes one and takes it apart: a NamedTuple costs 0.2 us more.
"""


def read_request_head(head: bytes, parser: FieldParser, limits: HeadLimits) -> RequestHead:
    """Parse and check one complete head, from its request line to its empty line inclusive.

    Raises RemoteProtocolError: 414 and 431 for what is over a limit, 501 for CONNECT, for methods that are too long and
    transfer codings that are well-formed and not served, 505 for another major version, 400 for everything else.
    """
    try:
        if len(head) > limits.small_head_bytes:
            _check_line_sizes(head, limits)
        try:
            method, target, rest = head.split(b" ", 2)
            is_origin_form = target[0] == 47  # "/"
        except (ValueError, IndexError):
            raise RemoteProtocolError(400, "bad-request-line") from None
        is_http_11 = rest[:10] == b"HTTP/1.1\r\n"
        if not is_http_11:
            if rest[:10] != b"HTTP/1.0\r\n":
                raise _version_error(rest)
            rest = b"HTTP/1.1\r\n" + rest[10:]
        method_name = COMMON_METHODS.get(method) or _other_method(method)

        headers = parser.parse(rest)
        if len(headers) > limits.fields:
            raise RemoteProtocolError(431, "too-many-fields")
        fields = dict(headers)
        if len(fields) != len(headers):
            fields = join_repeated(headers)

        if not is_origin_form:
            target = _other_target_form(target, method, headers, fields, is_http_11)
        try:
            path = target.decode("ascii")
        except UnicodeDecodeError:
            raise RemoteProtocolError(400, "bad-target") from None
        if not path.isprintable() or "#" in path:
            raise RemoteProtocolError(400, "bad-target")
        raw_path = target
        query_string = b""
        if "?" in path:
            raw_path, _, query_string = target.partition(b"?")
            path = path[: len(raw_path)]
        if "%" in path:
            path = unquote(path)

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
        raise
    expects_continue = b"expect" in fields and is_http_11 and fields[b"expect"].lower() == b"100-continue"
    http_version = "1.1" if is_http_11 else "1.0"
    return (
        method_name,
        http_version,
        path,
        raw_path,
        query_string,
        headers,
        fields,
        body_length,
        keep_alive,
        expects_continue,
    )


def skip_empty_lines(data: bytes) -> bytes:
    """`data` from its request line on; empty where nothing but empty lines is there yet.

    Raises RemoteProtocolError(400) for more than `MAX_EMPTY_LINES`. To see an endless row of them, the caller keeps the
    empty lines until more has come.
    """
    for _ in range(MAX_EMPTY_LINES):
        data = data.removeprefix(b"\r\n")
    if data.startswith(b"\r\n"):
        raise RemoteProtocolError(400, "too-many-empty-lines")
    return b"" if data == b"\r" else data


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
    """Hold each line of a complete head against its limit."""
    request_line, *field_lines = head.split(b"\r\n")
    if len(request_line) > limits.request_line_bytes:
        raise RemoteProtocolError(414, "request-line-too-long")
    if any(len(line) + 2 > limits.field_bytes for line in field_lines):
        raise RemoteProtocolError(431, "field-too-large")
    if len(head) > limits.head_bytes:
        raise RemoteProtocolError(431, "head-too-large")


def _version_error(rest: bytes) -> RemoteProtocolError:
    """`rest` is what follows the second space of the request line, where the version should be."""
    match = _VERSION(rest)
    # HTTP/0.9 never had this form, so the name says that something else is spoken here.
    if match is None or match[1] == b"0":
        return RemoteProtocolError(400, "bad-version")
    if match[1] == b"1":
        return RemoteProtocolError(400, "unknown-minor-version")
    return RemoteProtocolError(505, "unsupported-version")


def _other_method(method: bytes) -> str:
    if not TOKEN(method):
        raise RemoteProtocolError(400, "bad-method")
    if len(method) > MAX_METHOD_BYTES:
        # RFC 9112 section 3: a method longer than any that the server implements.
        raise RemoteProtocolError(501, "method-too-long")
    if method == b"CONNECT":
        raise RemoteProtocolError(501, "connect")
    return method.decode("ascii")


def _other_target_form(
    target: bytes, method: bytes, headers: list[Field], fields: dict[bytes, bytes], is_http_11: bool
) -> bytes:
    """The origin form of an absolute-form target, whose authority replaces Host (RFC 9112 section 3.2.2)."""
    if target == b"*" and method == b"OPTIONS":
        return target
    match = _ABSOLUTE_FORM(target)
    if match is None:
        raise RemoteProtocolError(400, "bad-target")
    authority, path = match.groups()
    # RFC 9110 section 4.2.1: an http URI with an empty host MUST be rejected as invalid.
    if not is_valid_host(authority) or authority.startswith(b":"):
        raise RemoteProtocolError(400, "bad-target-authority")
    if b"host" in fields:
        if not is_valid_host(fields[b"host"]):
            raise RemoteProtocolError(400, "bad-host")
        headers[:] = [field if field[0] != b"host" else (b"host", authority) for field in headers]
        fields[b"host"] = authority
    elif not is_http_11:
        headers.append((b"host", authority))
        fields[b"host"] = authority
    if path is None:
        return b"/"
    return path if path[:1] == b"/" else b"/" + path


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
