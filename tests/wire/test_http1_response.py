"""Heads of HTTP/1 responses: what an application may send and what becomes of it (RFC 9112 sections 4, 6 and 7)."""

import http
from collections.abc import Iterable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_asgi.errors import ApplicationError
from gunicorn_asgi.settings import HeadLimits
from gunicorn_asgi.wire.headers import parse_field_line
from gunicorn_asgi.wire.http1_body import ChunkedBody
from gunicorn_asgi.wire.http1_response import (
    BODYLESS_STATUS,
    CONTINUE,
    LAST_CHUNK,
    UNKNOWN_LENGTH,
    ResponseEncoder,
    encode_chunk,
)

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.fixture
def encoder() -> ResponseEncoder:
    """Without Date and Server."""
    return ResponseEncoder(b"")


@pytest.fixture
def full_encoder() -> ResponseEncoder:
    encoder = ResponseEncoder(b"a-server")
    encoder.set_date(DATE)
    return encoder


def encode(
    encoder: ResponseEncoder, fields: Iterable[Iterable[bytes]] = (), status: Any = 200
) -> tuple[bytes, int, bool]:
    """The head without its empty line, its Content-Length, and whether the application wants the connection closed."""
    return encoder.encode(status, fields)


def error_of(encoder: ResponseEncoder, fields: object = (), status: Any = 200) -> str:
    """What the error log will say about a head that is refused, the first time and again."""
    messages = []
    for _ in range(2):
        with pytest.raises(ApplicationError) as error:
            encode(encoder, cast("Iterable[Iterable[bytes]]", fields), status)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    return messages[0]


# Status


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (404, b"HTTP/1.1 404 Not Found\r\n"),
        (http.HTTPStatus.NO_CONTENT, b"HTTP/1.1 204 No Content\r\n"),
        # RFC 9112 section 4: the space stays where there is no reason phrase.
        (299, b"HTTP/1.1 299 \r\n"),
        (999, b"HTTP/1.1 999 \r\n"),
    ],
)
def test_a_status_becomes_a_status_line(encoder: ResponseEncoder, status: int, line: bytes) -> None:
    assert encode(encoder, status=status) == (line, UNKNOWN_LENGTH, False)


@pytest.mark.parametrize(
    "status", [199, 100, 101, 0, -200, 1000, 99999, True, "200", b"200", 200.0, 200.5, None, (200,), [200], {}]
)
def test_a_status_that_is_no_int_from_200_to_999_is_refused(encoder: ResponseEncoder, status: object) -> None:
    assert "status" in error_of(encoder, status=status)


def test_a_status_is_refused_also_when_it_equals_one_that_was_sent_before(encoder: ResponseEncoder) -> None:
    encode(encoder, status=200)
    assert "status" in error_of(encoder, status=200.0)


# Fields


def test_fields_are_sent_in_their_order_with_lower_case_names(encoder: ResponseEncoder) -> None:
    fields = [(b"X-One", b"1"), (b"set-cookie", b"a=b"), (b"Set-Cookie", b"c=d"), (b"x-one", b"1"), (b"ETag", b'"X"')]
    for _ in range(2):
        head, content_length, close = encode(encoder, fields)
        assert head == (
            b'HTTP/1.1 200 OK\r\nx-one: 1\r\nset-cookie: a=b\r\nset-cookie: c=d\r\nx-one: 1\r\netag: "X"\r\n'
        )
        assert content_length == UNKNOWN_LENGTH
        assert not close


@pytest.mark.parametrize("value", [b"", b"a\tb", b"a b", b"\x80\xff", b"a: b", b"a" * 10_000])
def test_a_value_may_hold_anything_but_control_bytes(encoder: ResponseEncoder, value: bytes) -> None:
    assert encode(encoder, [(b"x", value)])[0] == b"HTTP/1.1 200 OK\r\nx: " + value + b"\r\n"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([[b"x", b"y"]], id="lists"),
        pytest.param(((b"x", b"y"),), id="tuples"),
        pytest.param(iter([(b"x", b"y")]), id="iterator"),
        pytest.param({b"x": b"y"}.items(), id="items"),
        pytest.param([iter((b"x", b"y"))], id="field is an iterator"),
    ],
)
def test_fields_come_in_any_iterable(encoder: ResponseEncoder, fields: Iterable[Iterable[bytes]]) -> None:
    assert encode(encoder, fields)[0] == b"HTTP/1.1 200 OK\r\nx: y\r\n"


def test_two_fields_of_the_same_list_object_are_read_anew(encoder: ResponseEncoder) -> None:
    field = [b"x", b"1"]
    encode(encoder, [field])
    field[1] = b"2"
    assert encode(encoder, [field])[0] == b"HTTP/1.1 200 OK\r\nx: 2\r\n"


@pytest.mark.parametrize("byte", [byte for byte in range(0x80) if byte != 0x09 and not 0x20 <= byte < 0x7F])
@pytest.mark.parametrize("value", [b"secret%bvalue", b"%bsecretvalue", b"secretvalue%b"])
def test_a_control_byte_in_a_value_is_refused_by_name_alone(encoder: ResponseEncoder, byte: int, value: bytes) -> None:
    message = error_of(encoder, [(b"ok", b"fine"), (b"X-Bad", value % bytes([byte]))])
    assert "X-Bad" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    "name", [b"", b" x", b"x ", b"x:", b"x y", b"x\r\ny", b"x\n", b"x\x00", b"x\xe9", b"(x)", b"x/y", b":status"]
)
def test_a_name_that_is_no_token_is_refused_by_name_alone(encoder: ResponseEncoder, name: bytes) -> None:
    message = error_of(encoder, [(name, b"secret")])
    assert repr(name) in message
    assert "secret" not in message


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(("x-bad", b"secret"), id="name is a str"),
        pytest.param((b"x-bad", "secret"), id="value is a str"),
        pytest.param((b"x-bad", bytearray(b"secret")), id="value is a bytearray"),
        pytest.param((b"x-bad", None), id="value is None"),
        pytest.param((b"x-bad", 1), id="value is a number"),
        pytest.param((b"x-bad", [b"secret"]), id="value is a list"),
    ],
)
def test_a_field_that_is_not_bytes_is_refused_by_name_alone(encoder: ResponseEncoder, field: object) -> None:
    message = error_of(encoder, [field])
    assert "x-bad" in message
    assert "secret" not in message


@pytest.mark.parametrize("field", [(), (b"x",), (b"x", b"secret", b"z"), None, 5, b"x: secret", []])
def test_a_field_that_is_no_pair_is_refused(encoder: ResponseEncoder, field: object) -> None:
    assert "secret" not in error_of(encoder, [field])


@pytest.mark.parametrize("length", [0, 5, 2**63 - 1])
@pytest.mark.parametrize("name", [b"content-length", b"Content-Length", b"CONTENT-LENGTH"])
def test_a_content_length_is_sent_and_told(encoder: ResponseEncoder, name: bytes, length: int) -> None:
    for _ in range(2):
        head, content_length, _ = encode(encoder, [(name, b"%d" % length)])
        assert head == b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n" % length
        assert content_length == length


@pytest.mark.parametrize(
    "value",
    [b"", b"-1", b"+1", b"1, 1", b"0x1", b"1_0", b" 1", b"1 ", b"1.0", b"\xb2", b"9223372036854775808", b"secret"],
)
def test_a_content_length_that_is_no_length_is_refused(encoder: ResponseEncoder, value: bytes) -> None:
    message = error_of(encoder, [(b"Content-Length", value)])
    assert "content-length" in message.lower()
    assert "secret" not in message


@pytest.mark.parametrize("second", [(b"content-length", b"5"), (b"Content-Length", b"5"), (b"content-length", b"0")])
def test_a_second_content_length_is_refused(encoder: ResponseEncoder, second: tuple[bytes, bytes]) -> None:
    assert "content-length" in error_of(encoder, [(b"content-length", b"5"), (b"x", b"y"), second])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Transfer-Encoding", b"chunked"),
        (b"transfer-encoding", b"gzip"),
        (b"Connection", b"keep-alive"),
        (b"Connection", b"upgrade, x"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"close"),
        (b"Upgrade", b"h2c"),
    ],
)
def test_fields_about_the_connection_are_dropped(encoder: ResponseEncoder, name: bytes, value: bytes) -> None:
    for _ in range(2):
        assert encode(encoder, [(name, value), (b"x", b"y")]) == (b"HTTP/1.1 200 OK\r\nx: y\r\n", UNKNOWN_LENGTH, False)


@pytest.mark.parametrize("value", [b"close", b"Close", b"x, CLOSE", b"close,keep-alive"])
def test_connection_close_is_honoured_and_left_to_the_server_to_send(encoder: ResponseEncoder, value: bytes) -> None:
    for _ in range(2):
        assert encode(encoder, [(b"Connection", value)]) == (b"HTTP/1.1 200 OK\r\n", UNKNOWN_LENGTH, True)


def test_a_dropped_field_is_checked_like_any_other(encoder: ResponseEncoder) -> None:
    assert "upgrade" in error_of(encoder, [(b"upgrade", b"a\r\nb")])


# Date and Server


def test_date_and_server_are_added(full_encoder: ResponseEncoder) -> None:
    head, _, _ = encode(full_encoder, [(b"x", b"y")])
    assert head == b"HTTP/1.1 200 OK\r\ndate: " + DATE + b"\r\nserver: a-server\r\nx: y\r\n"


def test_date_and_server_may_be_switched_off() -> None:
    encoder = ResponseEncoder(b"")
    encoder.set_date(b"")
    assert encode(encoder, [(b"date", b"today"), (b"server", b"mine")])[0] == (
        b"HTTP/1.1 200 OK\r\ndate: today\r\nserver: mine\r\n"
    )


@pytest.mark.parametrize("status", [200, 404, 299])
def test_the_date_is_that_of_the_latest_second(full_encoder: ResponseEncoder, status: int) -> None:
    assert DATE in encode(full_encoder, status=status)[0]
    full_encoder.set_date(b"later")
    head = encode(full_encoder, status=status)[0]
    assert b"\r\ndate: later\r\n" in head
    assert DATE not in head


@pytest.mark.parametrize("order", [1, -1], ids=["date first", "server first"])
def test_date_and_server_of_the_application_replace_ours(full_encoder: ResponseEncoder, order: int) -> None:
    fields = [(b"Date", b"today"), (b"Server", b"mine")][::order]
    lines = encode(full_encoder, fields)[0].splitlines()
    assert sorted(lines[1:]) == [b"date: today", b"server: mine"]


def test_date_of_the_application_does_not_stay_for_the_next_response(full_encoder: ResponseEncoder) -> None:
    encode(full_encoder, [(b"date", b"today"), (b"server", b"mine")])
    assert encode(full_encoder)[0] == b"HTTP/1.1 200 OK\r\ndate: " + DATE + b"\r\nserver: a-server\r\n"


# Caches


def test_more_different_fields_than_any_cache_holds_are_encoded(encoder: ResponseEncoder) -> None:
    for number in range(3000):
        value = b"%d" % number
        assert encode(encoder, [(b"x", value)])[0] == b"HTTP/1.1 200 OK\r\nx: " + value + b"\r\n"


def test_a_head_that_is_repeated_is_the_same_until_the_date_changes(full_encoder: ResponseEncoder) -> None:
    for fields in [((b"x", b"y"),), [(b"x", b"y")], ([b"x", b"y"],), ((b"date", b"mine"), (b"x", b"y"))]:
        heads = [encode(full_encoder, fields, status)[0] for status in (200, 404, 200, 404, 200)]
        assert heads[0] == heads[2] == heads[4] != heads[1] == heads[3]
    full_encoder.set_date(b"later")
    assert b"date: later\r\n" in encode(full_encoder, ((b"x", b"y"),))[0]


# Generated heads

TCHAR = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VALUE_CHARACTERS = "".join(map(chr, [0x09, *range(0x20, 0x7F), *range(0x80, 0x100)]))
MEANINGFUL = {"content-length", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}

names = st.text(TCHAR, min_size=1, max_size=20).filter(lambda name: name.lower() not in MEANINGFUL)
values = st.text(VALUE_CHARACTERS, max_size=40).map(lambda value: value.strip(" \t").encode("latin-1"))


@settings(max_examples=200)
@given(st.lists(st.tuples(names.map(str.encode), values), max_size=10))
def test_every_valid_field_round_trips(fields: list[tuple[bytes, bytes]]) -> None:
    head, _, _ = encode(ResponseEncoder(b""), fields)
    lines = head.split(b"\r\n")[1:-1]
    assert [parse_field_line(line) for line in lines] == [(name.lower(), value) for name, value in fields]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.binary(max_size=10), st.binary(max_size=10)), max_size=3))
def test_no_field_breaks_out_of_its_line(fields: list[tuple[bytes, bytes]]) -> None:
    try:
        head, _, _ = encode(ResponseEncoder(b""), fields)
    except ApplicationError:
        return
    assert head.endswith(b"\r\n")
    assert head.count(b"\r") == head.count(b"\n") == head.count(b"\r\n") <= len(fields) + 1
    for line in head.split(b"\r\n")[1:-1]:
        parse_field_line(line)


# Bodies


@pytest.mark.parametrize(
    ("data", "chunk"),
    [(b"a", b"1\r\na\r\n"), (b"a" * 26, b"1a\r\n" + b"a" * 26 + b"\r\n"), (b"\r\n", b"2\r\n\r\n\r\n")],
)
def test_a_chunk_is_its_hex_size_and_its_data(data: bytes, chunk: bytes) -> None:
    assert encode_chunk(data) == chunk


@settings(max_examples=100)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5))
def test_chunks_round_trip(chunks: list[bytes]) -> None:
    decoder = ChunkedBody(HeadLimits())
    assert decoder.feed(b"".join(map(encode_chunk, chunks)) + LAST_CHUNK) == b"".join(chunks)
    assert decoder.complete
    assert decoder.rest == b""


def test_100_continue_is_a_head_of_its_own() -> None:
    assert CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_204_and_304_have_no_body() -> None:
    assert set(BODYLESS_STATUS) == {204, 304}
