"""`Upgrade: h2c` of HTTP/1.1 (RFC 7540 section 3.2; RFC 9113 has dropped it, clients such as curl still ask)."""

import base64
import binascii
import re
from typing import Final

from ..asgi_types import Field
from .headers import join_cookies, parse_list

SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"

_BASE64URL: Final = re.compile(rb"[A-Za-z0-9_-]*").fullmatch

# What has brought the request here does not belong to it any more (RFC 9113 section 8.2.2).
_OF_THE_UPGRADE: Final = frozenset((b"connection", b"upgrade", b"http2-settings", b"keep-alive", b"proxy-connection"))


def http2_settings(fields: dict[bytes, bytes], http_version: str, body_length: int) -> bytes | None:
    """The payload of the SETTINGS frame that an upgrade brings; None where the request asks for none that can be done.

    An upgrade may be ignored, and is where the request has content: all of it would have to be read before HTTP/2 could
    begin. A value that is no base64url, or several of them, must not be followed.
    """
    encoded = fields.get(b"http2-settings")
    if encoded is None or http_version != "1.1" or body_length or b"h2c" not in parse_list(fields[b"upgrade"]):
        return None
    options = parse_list(fields.get(b"connection", b""))
    if b"upgrade" not in options or b"http2-settings" not in options or _BASE64URL(encoded) is None:
        return None
    try:
        payload = base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except binascii.Error:
        return None
    return payload if len(payload) % 6 == 0 else None


def upgraded_headers(headers: list[Field]) -> list[Field]:
    """The headers that the request has over HTTP/2."""
    return join_cookies([field for field in headers if field[0] not in _OF_THE_UPGRADE])
