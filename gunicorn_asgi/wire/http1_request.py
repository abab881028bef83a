"""The head of an HTTP/1 request: what both parsers must check beyond their parser (RFC 9112 sections 2 to 6).

A parser library only splits the field lines (`FieldParser`). Request line, limits, Host, framing and connection options
are decided here, so that every parser gives the same verdict. The whole head is in memory before it is parsed: that
makes each limit exact, and leaves the parser library no state between requests and no body to misread.
"""

import re
from typing import Final, Protocol
from urllib.parse import unquote

from ..asgi_types import Field
from ..errors import RemoteProtocolError
from ..settings import HeadLimits
from .headers import TOKEN, is_valid_host, join_repeated, parse_content_length, parse_list

CHUNKED: Final = -1
"""`RequestHead.body_length` of a body in chunked transfer coding."""

HEAD_END: Final = b"\r\n\r\n"

MAX_METHOD_BYTES: Final = 32
MAX_EMPTY_LINES: Final = 4
"""Empty lines that may precede a request line. RFC 9112 section 2.2 asks to ignore at least one; some old clients send
one after a body."""

# Methods as the str that the scope wants; a bytes.decode() for each request would cost more than the look-up.
_METHODS: Final = {
    name.encode("ascii"): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
}

_VERSION: Final = re.compile(rb"HTTP/([0-9])\.([0-9])").fullmatch
_ABSOLUTE_FORM: Final = re.compile(rb"(?i:https?)://([^/?]+)([/?].*)?").fullmatch
_BARE_LF_OR_CR: Final = re.compile(rb"(?<!\r)\n|\r(?=[^\n])").search

# Hosts that were found valid. A server sees a handful of names; the cap keeps a hostile client from filling memory.
_known_hosts: set[bytes] = set()
_MAX_KNOWN_HOSTS: Final = 1024


class FieldParser(Protocol):
    """What a parser library provides: the field lines of a complete head."""

    def parse(self, head: bytes) -> list[Field]:
        """Names in lower case and values of the fields of `head`, which ends with its empty line.

        Raises RemoteProtocolError for what the library refuses.
        """

    def reset(self) -> None:
        """Forget what the last head announced; called when a body or another protocol follows it."""


class RequestHead:
    """A request as far as its head tells. Everything in it is checked."""

    __slots__ = (
        "body_length",
        "expects_continue",
        "fields",
        "headers",
        "http_version",
        "keep_alive",
        "method",
        "path",
        "query_string",
        "raw_path",
    )

    def __init__(
        self,
        method: str,
        http_version: str,
        path: str,
        raw_path: bytes,
        query_string: bytes,
        headers: list[Field],
        fields: dict[bytes, bytes],
        body_length: int,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self.method = method
        self.http_version = http_version
        """`1.0` or `1.1`."""
        self.path = path
        """Percent-decoded once as UTF-8, invalid bytes replaced."""
        self.raw_path = raw_path
        self.query_string = query_string
        self.headers = headers
        """As received, names in lower case."""
        self.fields = fields
        """One value for each name, for look-ups."""
        self.body_length = body_length
        """In bytes; `CHUNKED` where the body tells its own end."""
        self.keep_alive = keep_alive
        """Whether the client lets the connection live on."""
        self.expects_continue = expects_continue


def read_request_head(head: bytes, parser: FieldParser, limits: HeadLimits) -> RequestHead:
    """Parse and check one complete head, from its request line to its empty line inclusive.

    Raises RemoteProtocolError with the status that HTTP.md section 1 names for each violation.
    """
    line_end = head.find(b"\r\n")
    if line_end > limits.request_line_bytes > 0:
        raise RemoteProtocolError(414, "request-line-too-long")
    try:
        method, target, version = head[:line_end].split(b" ")
    except ValueError:
        raise RemoteProtocolError(400, "bad-request-line") from None
    is_http_11 = version == b"HTTP/1.1"
    if not is_http_11 and version != b"HTTP/1.0":
        raise _version_error(version)
    method_name = _METHODS.get(method) or _other_method(method)

    headers = parser.parse(head)
    if len(headers) > limits.fields > 0:
        raise RemoteProtocolError(431, "too-many-fields")
    if len(head) - line_end > limits.field_bytes > 0:
        _check_field_sizes(head, limits.field_bytes)
    fields = dict(headers)
    if len(fields) != len(headers):
        fields = join_repeated(headers)

    if target[0:1] != b"/":
        target = _other_target_form(target, method, headers, fields)
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
    if body_length or b"upgrade" in fields:
        parser.reset()
    return RequestHead(
        method_name,
        "1.1" if is_http_11 else "1.0",
        path,
        raw_path,
        query_string,
        headers,
        fields,
        body_length,
        keep_alive,
        b"expect" in fields and is_http_11 and fields[b"expect"].lower() == b"100-continue",
    )


def check_incomplete_head(data: bytes, limits: HeadLimits) -> None:
    """Refuse the beginning of a head as soon as no further byte can make it valid, so that nothing endless is stored.

    Raises RemoteProtocolError: 414, 431, or 400 for a line that ends in a bare LF or holds a bare CR.
    """
    line_end = data.find(b"\r\n")
    if limits.request_line_bytes > 0 and (len(data) if line_end < 0 else line_end) > limits.request_line_bytes:
        raise RemoteProtocolError(414, "request-line-too-long")
    if len(data) >= limits.head_bytes:
        raise RemoteProtocolError(431 if line_end >= 0 else 414, "head-too-large")
    if limits.field_bytes > 0 and len(data) - line_end > limits.field_bytes:
        _check_field_sizes(data, limits.field_bytes)
    if _BARE_LF_OR_CR(data):
        raise RemoteProtocolError(400, "bare-lf-or-cr")
    if limits.fields > 0 and data.count(b"\r\n") > limits.fields + 1:
        raise RemoteProtocolError(431, "too-many-fields")


def _check_field_sizes(head: bytes, limit: int) -> None:
    lines = head.split(b"\r\n")
    if any(len(line) + 2 > limit for line in lines[1:]):
        raise RemoteProtocolError(431, "field-too-large")


def _version_error(version: bytes) -> RemoteProtocolError:
    match = _VERSION(version)
    # HTTP/0.9 never had this form, so the name says that something else is spoken here.
    if match is None or version == b"HTTP/0.9":
        return RemoteProtocolError(400, "bad-version")
    if match[1] == b"1":
        return RemoteProtocolError(400, "unknown-minor-version")
    return RemoteProtocolError(505, "unsupported-version")


def _other_method(method: bytes) -> str:
    if not TOKEN(method) or len(method) > MAX_METHOD_BYTES:
        raise RemoteProtocolError(400, "bad-method")
    if method == b"CONNECT":
        raise RemoteProtocolError(501, "connect")
    return method.decode("ascii")


def _other_target_form(target: bytes, method: bytes, headers: list[Field], fields: dict[bytes, bytes]) -> bytes:
    """The origin form of an absolute-form target, whose authority replaces Host (RFC 9112 section 3.2.2)."""
    if target == b"*" and method == b"OPTIONS":
        return target
    match = _ABSOLUTE_FORM(target)
    if match is None:
        raise RemoteProtocolError(400, "bad-target")
    authority, path = match.groups()
    if not is_valid_host(authority):
        raise RemoteProtocolError(400, "bad-target-authority")
    if b"host" in fields:
        if not is_valid_host(fields[b"host"]):
            raise RemoteProtocolError(400, "bad-host")
        position = next(position for position, field in enumerate(headers) if field[0] == b"host")
        headers[position] = (b"host", authority)
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
