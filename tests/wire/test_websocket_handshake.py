"""The opening handshake of a WebSocket, out of the fields of a request (RFC 6455 section 4.2, RFC 7692 section 7.1)."""

import pytest

from gunicorn_asgi.errors import RemoteProtocolError
from gunicorn_asgi.wire.websocket_handshake import (
    Handshake,
    asks_for_websocket,
    read_http1_handshake,
    read_http2_handshake,
)
from tests.support.websocket import KEY, accept_value

FIELDS = {
    b"host": b"example.org",
    b"connection": b"Upgrade",
    b"upgrade": b"websocket",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": KEY,
}


def read(
    fields: dict[bytes, bytes] | None = None,
    *,
    method: str = "GET",
    body_length: int = 0,
    without: bytes = b"",
    per_message_deflate: bool = True,
) -> Handshake:
    asked = {name: value for name, value in {**FIELDS, **(fields or {})}.items() if name != without}
    return read_http1_handshake(method, asked, body_length, per_message_deflate=per_message_deflate)


@pytest.mark.parametrize(
    ("upgrade", "connection", "version", "asks"),
    [
        (b"websocket", b"upgrade", "1.1", True),
        (b"WebSocket", b"keep-alive, Upgrade", "1.1", True),
        (b"h2c, websocket", b"Upgrade", "1.1", True),
        (b"websocket", b"upgrade", "1.0", False),
        (b"websocket", b"keep-alive", "1.1", False),
        (b"websocket", None, "1.1", False),
        (b"h2c", b"upgrade", "1.1", False),
        (b"websockets", b"upgrade", "1.1", False),
        (b"", b"upgrade", "1.1", False),
    ],
)
def test_which_requests_ask_for_a_websocket(upgrade: bytes, connection: bytes | None, version: str, asks: bool) -> None:
    fields = {b"upgrade": upgrade}
    if connection is not None:
        fields[b"connection"] = connection
    assert asks_for_websocket(fields, version) is asks


def test_the_key_is_answered() -> None:
    handshake = read()
    assert handshake.accept_fields == [(b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]
    assert handshake.accept_fields == [(b"sec-websocket-accept", accept_value())]
    assert handshake.subprotocols == []
    assert handshake.deflate is None


@pytest.mark.parametrize(
    "key", [b"", b"a", KEY[:-4], KEY + b"AAAA", b"=" * 24, b"dGhlIHNhbXBsZSBub25jZQ", KEY + b", " + KEY]
)
def test_keys_that_are_none(key: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read({b"sec-websocket-key": key})
    assert (caught.value.status, caught.value.reason) == (400, "websocket-key")


def test_a_missing_key() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read(without=b"sec-websocket-key")
    assert caught.value.status == 400


@pytest.mark.parametrize("version", [b"8", b"0", b"14", b"", b"13, 13", b"thirteen", None])
def test_other_versions(version: bytes | None) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read(
            {b"sec-websocket-version": version} if version is not None else {},
            without=b"" if version is not None else b"sec-websocket-version",
        )
    assert caught.value.status == 426
    assert dict(caught.value.fields) == {b"sec-websocket-version": b"13", b"upgrade": b"websocket"}


def test_other_methods() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read(method="POST")
    assert caught.value.status == 405
    assert dict(caught.value.fields) == {b"sec-websocket-version": b"13", b"allow": b"GET"}


@pytest.mark.parametrize("length", [1, -1])
def test_a_body(length: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read(body_length=length)
    assert caught.value.status == 400


def test_subprotocols_in_their_order() -> None:
    assert read({b"sec-websocket-protocol": b"chat.v2,  Chat ,x"}).subprotocols == ["chat.v2", "Chat", "x"]


@pytest.mark.parametrize(("value", "names"), [(b"", []), (b" , ,", []), (b"a,", ["a"]), (b",a,, b", ["a", "b"])])
def test_empty_members_of_a_list_are_ignored(value: bytes, names: list[str]) -> None:
    """RFC 9110 section 5.6.1."""
    assert read({b"sec-websocket-protocol": value}).subprotocols == names
    offers = value.replace(b"a", b"x-other").replace(b"b", b"permessage-deflate")
    assert (read({b"sec-websocket-extensions": offers}).deflate is not None) == ("b" in names)


@pytest.mark.parametrize("value", [b"a b", b"a;b", b"\xe4"])
def test_subprotocols_that_are_no_tokens(value: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read({b"sec-websocket-protocol": value})
    assert caught.value.status == 400


def deflate_of(offers: bytes) -> tuple[bytes, tuple[int, int, bool, bool]] | None:
    handshake = read({b"sec-websocket-extensions": offers})
    deflate = handshake.deflate
    answers = [value for name, value in handshake.accept_fields if name == b"sec-websocket-extensions"]
    assert (deflate is None) == (answers == [])
    if deflate is None:
        return None
    return answers[0], (
        deflate.server_window_bits,
        deflate.client_window_bits,
        deflate.server_no_context_takeover,
        deflate.client_no_context_takeover,
    )


@pytest.mark.parametrize(
    ("offers", "answer", "agreed"),
    [
        (b"permessage-deflate", b"; server_max_window_bits=12", (12, 15, False, False)),
        (
            b"permessage-deflate; client_max_window_bits",
            b"; server_max_window_bits=12; client_max_window_bits=12",
            (12, 12, False, False),
        ),
        (
            b"permessage-deflate; client_max_window_bits=10; server_max_window_bits=9",
            b"; server_max_window_bits=9; client_max_window_bits=10",
            (9, 10, False, False),
        ),
        (
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            b"; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
            (12, 15, True, True),
        ),
        (b"permessage-deflate; unknown, permessage-deflate", b"; server_max_window_bits=12", (12, 15, False, False)),
        (b"x-other, permessage-deflate", b"; server_max_window_bits=12", (12, 15, False, False)),
        (b"permessage-deflate, permessage-deflate", b"; server_max_window_bits=12", (12, 15, False, False)),
    ],
)
def test_compression_is_negotiated(offers: bytes, answer: bytes, agreed: tuple[int, int, bool, bool]) -> None:
    assert deflate_of(offers) == (b"permessage-deflate" + answer, agreed)


@pytest.mark.parametrize(
    "offers",
    [
        b"x-webkit-deflate-frame",
        b"permessage-deflate; server_max_window_bits",
        b"permessage-deflate; server_max_window_bits=16",
        b"permessage-deflate; server_max_window_bits=8",
        b"permessage-deflate; server_max_window_bits=8; server_no_context_takeover",
        b"permessage-deflate; client_max_window_bits=7",
        b"permessage-deflate; server_no_context_takeover=1",
        b"permessage-deflate; client_max_window_bits; client_max_window_bits",
    ],
)
def test_offers_that_cannot_be_met_are_declined(offers: bytes) -> None:
    assert deflate_of(offers) is None


def test_compression_that_is_switched_off() -> None:
    handshake = read({b"sec-websocket-extensions": b"permessage-deflate"}, per_message_deflate=False)
    assert handshake.deflate is None
    assert len(handshake.accept_fields) == 1


@pytest.mark.parametrize("offers", [b"permessage-deflate;", b"=", b"a b", b"permessage-deflate; \xe4"])
def test_a_list_of_extensions_that_is_none(offers: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read({b"sec-websocket-extensions": offers})
    assert caught.value.status == 400


def test_http_2_has_no_key() -> None:
    fields = {b"sec-websocket-version": b"13", b"sec-websocket-extensions": b"permessage-deflate"}
    handshake = read_http2_handshake(fields, per_message_deflate=True)
    assert handshake.deflate is not None
    assert handshake.accept_fields == [(b"sec-websocket-extensions", b"permessage-deflate; server_max_window_bits=12")]
    with pytest.raises(RemoteProtocolError):
        read_http2_handshake({}, per_message_deflate=True)
