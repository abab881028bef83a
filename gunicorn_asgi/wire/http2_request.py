"""The header list of an HTTP/2 request: the rules of HTTP/1 heads on pseudo-header fields and all others (RFC 9113
section 8)."""

import re
from collections.abc import Sequence
from typing import Final, TypeAlias
from urllib.parse import unquote

from ..asgi_types import Field
from ..errors import RemoteProtocolError
from ..settings import HeadLimits
from .headers import FORBIDDEN_IN_VALUE, is_valid_host, join_cookies, join_repeated, parse_content_length
from .http1_request import COMMON_METHODS, other_method

UNKNOWN_LENGTH: Final = -1
"""The `content_length` of a request that names none."""

# RFC 9113 section 8.2.1: tokens without upper-case letters.
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch

_PSEUDO_FIELDS: Final = frozenset((b":method", b":path", b":scheme", b":authority", b":protocol"))

# RFC 9113 section 8.2.2: they speak of an HTTP/1 connection.
_CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)

# Hosts that were found valid, as the field that the application gets. The cap bounds memory.
_MAX_KNOWN_HOSTS: Final = 1024

# What the dynamic table of a client may hold at most is below the usual limit of a field.
_TABLE_BYTES: Final = 4096

RequestHead: TypeAlias = tuple[str, str, bytes, bytes, list[Field], dict[bytes, bytes], int, bytes, str]
"""A request as far as its header list tells, everything in it checked.

    method
    path                percent-decoded once as UTF-8, invalid bytes replaced
    raw_path
    query_string
    headers             `host` first, made of `:authority`; cookies joined
    fields              one value for each name, for look-ups
    content_length      in bytes, or `UNKNOWN_LENGTH`
    protocol            of an extended CONNECT (RFC 8441), which must be asked for; else empty
    uri                 `:path` as received

A plain tuple, because every request makes one and takes it apart. A request that is repeated gets the same one again:
`headers` and `fields` are to be copied before they are changed.
"""


class FieldRules:
    """What each field must fulfil by itself. One for a connection: its decoder asks once for each literal."""

    __slots__ = ("_watched_names", "noted")

    def __init__(self, watched_names: frozenset[bytes]) -> None:
        self._watched_names = watched_names
        self.noted = False
        """Whether one of `watched_names`, or any name with an underscore, has ever been there: to look for them in
        each list would cost more than all the rest."""

    def is_valid(self, name: bytes, value: bytes) -> bool:
        """Whether a request may have this field (RFC 9113 sections 8.2.1, 8.2.2 and 8.3)."""
        if _NAME(name) is None:
            return name in _PSEUDO_FIELDS and FORBIDDEN_IN_VALUE(value) is None
        if b"_" in name or name in self._watched_names:
            self.noted = True
        if FORBIDDEN_IN_VALUE(value) is not None or value != value.strip(b" \t"):
            return False
        return name not in _CONNECTION_SPECIFIC and (name != b"te" or value.lower() == b"trailers")


class RequestReader:
    """Checks header lists whose fields have passed `FieldRules`. One for a whole worker."""

    __slots__ = ("_hosts", "_limits", "small_block_bytes")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._hosts: dict[bytes, Field] = {}
        # The shortest Huffman code has 5 bits.
        self.small_block_bytes = limits.field_bytes * 5 // 8 if limits.field_bytes >= _TABLE_BYTES else 0
        """The fields of a block up to this size are below the limit of a field."""

    def read(self, received: list[Field], ended: bool) -> RequestHead:
        """Check the decoded header list of a request; `ended` says that no content follows.

        Raises RemoteProtocolError: 400 for what is malformed, which RFC 9113 section 8.1.1 wants to be a stream error
        of type PROTOCOL_ERROR; 414, 431 and 501 for what can be answered, as in HTTP/1.
        """
        fields = dict(received)
        try:
            method = fields.pop(b":method")
            target = fields.pop(b":path")
            scheme = fields.pop(b":scheme")
        except KeyError:
            raise _without_target(received) from None
        authority = fields.pop(b":authority", None)
        pseudo = 3 if authority is None else 4
        protocol = b""
        if b":protocol" in fields:
            protocol = fields.pop(b":protocol")
            pseudo += 1
        headers = received[pseudo:]
        # 58 is the colon: RFC 9113 section 8.3 wants pseudo-header fields first. The last place shows most mistakes.
        if received[pseudo - 1][0][0] != 58 or len(headers) != len(fields):
            headers, fields = _repeated(headers, pseudo, received)
        elif (
            received[0][0][0] != 58
            or received[1][0][0] != 58
            or received[2][0][0] != 58
            or (pseudo == 5 and received[3][0][0] != 58)
        ):
            raise RemoteProtocolError(400, "misplaced-pseudo-field")
        limits = self._limits
        if len(headers) > limits.fields:
            raise RemoteProtocolError(431, "too-many-fields")

        if authority is not None:
            host = self._hosts.get(authority) or self._check_host(authority)
            if b"host" in fields:
                # RFC 9113 section 8.3.1: both have to name the same authority.
                if fields[b"host"].lower() != authority.lower():
                    raise RemoteProtocolError(400, "host-is-not-authority")
                headers = [field for field in headers if field[0] != b"host"]
            headers.insert(0, host)
            fields[b"host"] = authority
        elif b"host" in fields:
            self._check_host(fields[b"host"])
        else:
            raise RemoteProtocolError(400, "missing-host")

        method_name = COMMON_METHODS.get(method)
        if method_name is None:
            if method == b"CONNECT" and not protocol:
                # RFC 9113 section 8.5: it has neither :scheme nor :path, and these are there.
                raise RemoteProtocolError(400, "connect-with-target")
            method_name = "CONNECT" if method == b"CONNECT" else other_method(method)
        if protocol and method != b"CONNECT":
            raise RemoteProtocolError(400, "protocol-without-connect")
        if scheme not in (b"http", b"https"):
            raise RemoteProtocolError(400, "bad-scheme")

        uri, path, raw_path, query_string = self._target(target, method_name)
        content_length = UNKNOWN_LENGTH
        if b"content-length" in fields:
            content_length = _content_length(fields[b"content-length"], ended)
        return method_name, path, raw_path, query_string, headers, fields, content_length, protocol, uri

    def read_path(self, head: RequestHead, target: bytes) -> RequestHead:
        """The request that differs from `head` in nothing but `:path`. Raises RemoteProtocolError as `read` does."""
        method, _, _, _, headers, fields, content_length, protocol, _ = head
        uri, path, raw_path, query_string = self._target(target, method)
        return method, path, raw_path, query_string, headers, fields, content_length, protocol, uri

    def _target(self, target: bytes, method: str) -> tuple[str, str, bytes, bytes]:
        """The target as text, its path, raw path and query string."""
        if len(target) > self._limits.request_line_bytes:
            raise RemoteProtocolError(414, "target-too-long")
        if target[:1] != b"/" and (target != b"*" or method != "OPTIONS"):
            raise RemoteProtocolError(400, "bad-target")
        try:
            uri = path = target.decode("ascii")
        except UnicodeDecodeError:
            raise RemoteProtocolError(400, "bad-target") from None
        if not path.isprintable() or " " in path or "#" in path:
            raise RemoteProtocolError(400, "bad-target")
        raw_path = target
        query_string = b""
        if "?" in path:
            raw_path, _, query_string = target.partition(b"?")
            path = path[: len(raw_path)]
        if "%" in path:
            path = unquote(path)
        return uri, path, raw_path, query_string

    def check_sizes(self, received: Sequence[Field]) -> None:
        """Hold each field of a large block against its limit, measured as a field line. Raises
        RemoteProtocolError(431)."""
        limit = self._limits.field_bytes - 4  # `: ` and CRLF
        if any(len(name) + len(value) > limit for name, value in received if name != b":path"):
            raise RemoteProtocolError(431, "field-too-large")

    def check_trailers(self, received: Sequence[Field]) -> None:
        """Check the header list behind content (RFC 9113 section 8.1). Raises RemoteProtocolError(400 or 431)."""
        if len(received) > self._limits.fields:
            raise RemoteProtocolError(431, "too-many-trailers")
        if any(name[:1] == b":" for name, _ in received):
            raise RemoteProtocolError(400, "pseudo-field-in-trailers")

    def _check_host(self, authority: bytes) -> Field:
        # An empty one is for targets without an authority, of which http and https have none (RFC 9110 section 4.2.1).
        if not is_valid_host(authority) or authority[:1] in (b"", b":"):
            raise RemoteProtocolError(400, "bad-host")
        host = (b"host", authority)
        if len(self._hosts) < _MAX_KNOWN_HOSTS:
            self._hosts[authority] = host
        return host


def read_priority(value: bytes) -> dict[str, int | bool]:
    """The `priority` field of a request as `urgency` (0 to 7) and `incremental` (RFC 9218 section 4).

    What is out of range or malformed is as if it was not there; an intermediary may have merged several.
    """
    priority: dict[str, int | bool] = {"urgency": 3, "incremental": False}
    for member in value.split(b","):
        key, _, argument = member.strip(b" \t").partition(b"=")
        argument = argument.partition(b";")[0]
        if key == b"u" and len(argument) == 1 and argument in b"01234567":
            priority["urgency"] = int(argument)
        elif key == b"i" and argument in (b"", b"?1", b"?0"):
            priority["incremental"] = argument != b"?0"
    return priority


def _repeated(headers: list[Field], pseudo: int, received: list[Field]) -> tuple[list[Field], dict[bytes, bytes]]:
    """Header list and look-up of a request with repeated names; cookies become one field."""
    if any(name[:1] != b":" for name, _ in received[:pseudo]) or any(name[:1] == b":" for name, _ in headers):
        raise RemoteProtocolError(400, "misplaced-pseudo-field")
    headers = join_cookies(headers)
    return headers, join_repeated(headers)


def _without_target(received: list[Field]) -> RemoteProtocolError:
    """Why a request lacks a pseudo-header field that all but CONNECT must have (RFC 9113 sections 8.3.1 and 8.5)."""
    names = [name for name, _ in received]
    if (b":method", b"CONNECT") in received and [name for name in names if name[:1] == b":"] in (
        [b":method", b":authority"],
        [b":authority", b":method"],
    ):
        return RemoteProtocolError(501, "connect")
    return RemoteProtocolError(400, "missing-pseudo-field")


def _content_length(value: bytes, ended: bool) -> int:
    try:
        length = parse_content_length(value)
    except ValueError:
        raise RemoteProtocolError(400, "bad-content-length") from None
    if ended and length:
        raise RemoteProtocolError(400, "body-shorter-than-content-length")
    return length
