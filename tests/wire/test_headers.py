"""The rules about single header fields (RFC 9110 section 5, RFC 3986 section 3.2.2)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_asgi.asgi_types import Field
from gunicorn_asgi.errors import RemoteProtocolError
from gunicorn_asgi.wire.headers import (
    FORBIDDEN_IN_VALUE,
    TOKEN,
    is_valid_host,
    join_repeated,
    parse_content_length,
    parse_field_line,
    parse_list,
)

TCHAR = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VALUE_BYTES = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])

tokens = st.lists(st.sampled_from(TCHAR), min_size=1, max_size=20).map(bytes)
values = st.lists(st.sampled_from(VALUE_BYTES), max_size=40).map(lambda value: bytes(value).strip(b" \t"))
optional_white_space = st.text(" \t", max_size=3).map(str.encode)


@pytest.mark.parametrize("byte", range(256))
def test_a_token_holds_tchar_only(byte: int) -> None:
    assert bool(TOKEN(bytes([byte]))) is (byte in TCHAR)
    assert bool(TOKEN(b"a" + bytes([byte]) + b"b")) is (byte in TCHAR)


def test_a_token_is_not_empty() -> None:
    assert not TOKEN(b"")


@pytest.mark.parametrize("byte", range(256))
def test_a_value_holds_no_control_byte_but_tab(byte: int) -> None:
    assert bool(FORBIDDEN_IN_VALUE(b"a" + bytes([byte]) + b"b")) is (byte not in VALUE_BYTES)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"Host: example.org", (b"host", b"example.org")),
        (b"X:1", (b"x", b"1")),
        (b"X: \t 1 \t ", (b"x", b"1")),
        (b"X:", (b"x", b"")),
        (b"X: \t", (b"x", b"")),
        (b"X: a:b", (b"x", b"a:b")),
        (b"X: a \t b", (b"x", b"a \t b")),
        (b"X: \xe9", (b"x", b"\xe9")),
        (b"X-Upper-CASE: Kept", (b"x-upper-case", b"Kept")),
    ],
)
def test_a_field_line_becomes_lower_case_name_and_bare_value(line: bytes, field: Field) -> None:
    assert parse_field_line(line) == field


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"X", id="no colon"),
        pytest.param(b": 1", id="no name"),
        pytest.param(b"X : 1", id="space before colon"),
        pytest.param(b"X\t: 1", id="tab before colon"),
        pytest.param(b" X: 1", id="leading space"),
        pytest.param(b"\tX: 1", id="leading tab"),
        pytest.param(b"X\xe9: 1", id="non-ASCII name"),
        pytest.param(b"X(y): 1", id="delimiters in name"),
        pytest.param(b"X: a\x00b", id="NUL"),
        pytest.param(b"X: a\nb", id="LF"),
        pytest.param(b"X: a\rb", id="CR"),
        pytest.param(b"X: a\r", id="CR at the end"),
        pytest.param(b"X: a\r\n b", id="obsolete folding"),
        pytest.param(b"X: a\x1bb", id="ESC"),
        pytest.param(b"X: a\x7fb", id="DEL"),
        pytest.param(b"X: \x0ba", id="vertical tab is not white space"),
    ],
)
def test_a_bad_field_line_is_400(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        parse_field_line(line)
    assert refusal.value.status == 400


@settings(max_examples=200)
@given(name=tokens, before=optional_white_space, value=values, after=optional_white_space)
def test_every_valid_field_round_trips(name: bytes, before: bytes, value: bytes, after: bytes) -> None:
    assert parse_field_line(name + b":" + before + value + after) == (name.lower(), value)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_no_field_line_raises_anything_else(line: bytes) -> None:
    try:
        name, value = parse_field_line(line)
    except RemoteProtocolError as error:
        if error.status != 400:
            raise
        return
    assert TOKEN(name)
    assert name == name.lower()
    assert value == value.strip(b" \t")
    assert not FORBIDDEN_IN_VALUE(value)


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b":80",
        b"example.org",
        b"example.org.",
        b"EXAMPLE.org:8080",
        b"example.org:",
        b"under_score.local",
        b"xn--bcher-kva.example",
        b"%C3%BC.example",
        b"a-b~c!$&'()*+,;=",
        b"127.0.0.1",
        b"127.0.0.1:65535",
        b"[::1]",
        b"[::1]:80",
        b"[::1]:",
        b"[2001:DB8::192.0.2.1]:443",
    ],
)
def test_a_host_is_a_name_or_address_with_an_optional_port(host: bytes) -> None:
    assert is_valid_host(host)


@pytest.mark.parametrize(
    "host",
    [
        b" ",
        b"a b",
        b"a\tb",
        b"user@example.org",
        b"example.org/path",
        b"example.org?query",
        b"example.org#fragment",
        b"http://example.org",
        b"example.org, example.com",
        b"example.org:80:80",
        b"example.org:8o",
        b"example.org:-1",
        b"example.org:+1",
        "example.org:\u0661".encode(),
        b"%",
        b"%4",
        b"%GG",
        b"caf\xe9.example",
        b"a\x00b",
        b"a\x7fb",
        b"a\\b",
        b'a"b',
        b"<a>",
        b"a|b",
        b"a^b",
        b"{a}",
        b"::1",
        b"[",
        b"[]",
        b"[::1",
        b"::1]",
        b"[::1]80",
        b"[::1]:x",
        b"[::1].example",
        b"[[::1]]",
        b"[1:2]",
        b"[::g]",
        b"[127.0.0.1]",
        b"[example.org]",
        b"[fe80::1%25eth0]",
        b"[v1.fe80::a]",
        b"a[::1]",
        b"example.org\n",
        b"[::1]\n",
    ],
)
def test_anything_else_is_no_host(host: bytes) -> None:
    assert not is_valid_host(host)


@pytest.mark.parametrize(
    ("value", "length"),
    [
        (b"0", 0),
        (b"5", 5),
        (b"005", 5),
        (b"9223372036854775807", 2**63 - 1),
        (b"0000000000000000005", 5),
    ],
)
def test_a_content_length_is_a_decimal_number_up_to_2_63(value: bytes, length: int) -> None:
    assert parse_content_length(value) == length


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b" 5",
        b"5 ",
        b"5\n",
        b"+5",
        b"-5",
        b"-0",
        b"5, 5",
        b"5,5",
        b"5 5",
        b"0x5",
        b"a",
        b"1_0",
        b"1.0",
        b"1e3",
        "\u0665".encode(),
        b"\xb2",
        b"9223372036854775808",
        b"9999999999999999999",
        b"00000000000000000005",
        b"18446744073709551621",
        b"9" * 5000,
    ],
)
def test_anything_else_is_no_content_length(value: bytes) -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        parse_content_length(value)


@settings(max_examples=100)
@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_every_content_length_round_trips(length: int) -> None:
    assert parse_content_length(b"%d" % length) == length


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", []),
        (b" , \t,", []),
        (b"close", [b"close"]),
        (b"Keep-Alive, \tUPGRADE ,close", [b"keep-alive", b"upgrade", b"close"]),
        (b",a,,b,", [b"a", b"b"]),
        (b"a b", [b"a b"]),
    ],
)
def test_a_list_is_split_at_commas_without_case_or_empty_members(value: bytes, members: list[bytes]) -> None:
    assert parse_list(value) == members


def test_repeated_fields_are_joined_in_their_order() -> None:
    headers = [(b"accept", b"a"), (b"x", b"1"), (b"accept", b"b, c"), (b"accept", b"")]
    assert join_repeated(headers) == {b"accept": b"a, b, c, ", b"x": b"1"}


@pytest.mark.parametrize("name", [b"host", b"content-length"])
@pytest.mark.parametrize("second", [b"1", b"2"], ids=["same value", "other value"])
def test_a_repeated_host_or_content_length_is_400(name: bytes, second: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        join_repeated([(name, b"1"), (b"x", b"y"), (name, second)])
    assert refusal.value.status == 400
