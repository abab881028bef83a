"""The opening handshake of a WebSocket (RFC 6455 section 4.2), out of a request that has been parsed already."""

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension
from websockets.utils import accept_key

from ..asgi_types import Field
from ..errors import RemoteProtocolError
from .headers import TOKEN, parse_list
from .websocket_deflate import DeflateParameters

_VERSION: Final = b"13"
_VERSION_FIELD: Final = (b"sec-websocket-version", _VERSION)
_KEY_BYTES: Final = 16
_MIN_WINDOW_BITS: Final = 9

# A window of 4 KiB instead of 32 is what websockets and uvicorn ask for too: nearly the same compression for an eighth
# of the memory.
_deflate: Final = ServerPerMessageDeflateFactory(server_max_window_bits=12, client_max_window_bits=12)


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a valid request for a WebSocket asks for, and what accepting it has to say."""

    subprotocols: list[str]
    """As the client offers them, in its order of preference."""

    accept_fields: list[Field]
    """Fields of the response that accepts, whatever the application adds."""

    deflate: DeflateParameters | None
    """None where messages are not compressed."""


def asks_for_websocket(fields: dict[bytes, bytes], http_version: str) -> bool:
    """Whether an HTTP/1 request wants to go on as a WebSocket. Anything else in Upgrade is ignored, and so is all of it
    in HTTP/1.0 and where Connection does not name it (RFC 9110 section 7.8)."""
    return (
        http_version == "1.1"
        and b"websocket" in parse_list(fields[b"upgrade"])
        and b"upgrade" in parse_list(fields.get(b"connection", b""))
    )


def read_http1_handshake(
    method: str, fields: dict[bytes, bytes], body_length: int, *, per_message_deflate: bool
) -> Handshake:
    """Check a request that `asks_for_websocket`.

    Raises RemoteProtocolError: 405 for a method but GET, 426 for another version of the protocol, 400 for everything
    else.
    """
    if body_length:
        raise _error(400, "websocket-request-with-body")
    if method != "GET":
        raise _error(405, "websocket-method", (b"allow", b"GET"))
    _check_version(fields)
    key = fields.get(b"sec-websocket-key", b"")
    try:
        is_valid = len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except binascii.Error:
        is_valid = False
    if not is_valid:
        raise _error(400, "websocket-key")
    return _handshake(
        fields, per_message_deflate, [(b"sec-websocket-accept", accept_key(key.decode("ascii")).encode("ascii"))]
    )


def read_http2_handshake(fields: dict[bytes, bytes], *, per_message_deflate: bool) -> Handshake:
    """Check an extended CONNECT with `:protocol` websocket (RFC 8441 section 5), which has no key.

    Raises RemoteProtocolError as `read_http1_handshake` does.
    """
    _check_version(fields)
    return _handshake(fields, per_message_deflate, [])


def _check_version(fields: dict[bytes, bytes]) -> None:
    if fields.get(b"sec-websocket-version") != _VERSION:
        # RFC 9110 section 15.5.22 wants an Upgrade field in there.
        raise _error(426, "websocket-version", (b"upgrade", b"websocket"))


def _handshake(fields: dict[bytes, bytes], per_message_deflate: bool, accept_fields: list[Field]) -> Handshake:
    deflate: DeflateParameters | None = None
    offers = fields.get(b"sec-websocket-extensions")
    # A list may be empty (RFC 9110 section 5.6.1), which `parse_extension` does not know.
    if offers is not None and offers.strip(b" \t,") and per_message_deflate:
        deflate, response = _negotiate(offers)
        if deflate is not None:
            accept_fields.append((b"sec-websocket-extensions", response))
    return Handshake(_subprotocols(fields), accept_fields, deflate)


def _negotiate(offers: bytes) -> tuple[DeflateParameters | None, bytes]:
    """The first offer that can be met, and the value of the field that says so."""
    try:
        parsed = parse_extension(offers.decode("latin-1"))
    except InvalidHeader:
        raise _error(400, "websocket-extensions") from None
    for name, parameters in parsed:
        if name != _deflate.name:
            continue
        try:
            agreed, extension = _deflate.process_request_params(parameters, [])
        except (NegotiationError, ValueError):
            continue
        # zlib deflates with 9 bits and more only. Before websockets 16 that was left to the one who tries.
        if extension.local_max_window_bits < _MIN_WINDOW_BITS:
            continue
        deflate = DeflateParameters(
            server_window_bits=extension.local_max_window_bits,
            client_window_bits=extension.remote_max_window_bits,
            server_no_context_takeover=extension.local_no_context_takeover,
            client_no_context_takeover=extension.remote_no_context_takeover,
        )
        return deflate, build_extension([(name, agreed)]).encode("ascii")
    return None, b""


def _subprotocols(fields: dict[bytes, bytes]) -> list[str]:
    offered = fields.get(b"sec-websocket-protocol")
    if offered is None:
        return []
    names = [name for part in offered.split(b",") if (name := part.strip(b" \t"))]
    if not all(TOKEN(name) for name in names):
        raise _error(400, "websocket-subprotocol")
    return [name.decode("ascii") for name in names]


def _error(status: int, reason: str, *fields: Field) -> RemoteProtocolError:
    return RemoteProtocolError(status, reason, (_VERSION_FIELD, *fields))
