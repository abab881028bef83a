"""Header lists of HTTP/2 requests (RFC 9113 section 8)."""

import pytest

from gunicorn_asgi.asgi_types import Field
from gunicorn_asgi.errors import RemoteProtocolError
from gunicorn_asgi.settings import HeadLimits
from gunicorn_asgi.wire.http2_request import UNKNOWN_LENGTH, FieldRules, RequestReader, read_priority

METHOD = (b":method", b"GET")
SCHEME = (b":scheme", b"https")
PATH = (b":path", b"/a%20b?q=1")
AUTHORITY = (b":authority", b"example.org:8443")
FOUR = [METHOD, SCHEME, PATH, AUTHORITY]


def reader(**limits: int) -> RequestReader:
    return RequestReader(HeadLimits(**limits))


def refusal(received: list[Field], *, ended: bool = True, **limits: int) -> tuple[int, str]:
    with pytest.raises(RemoteProtocolError) as caught:
        reader(**limits).read(received, ended)
    return caught.value.status, caught.value.reason


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_a_request(order: list[int]) -> None:
    received = [*(FOUR[index] for index in order), (b"accept", b"*/*"), (b"user-agent", b"me")]
    method, path, raw_path, query, headers, fields, length, protocol, uri = reader().read(received, True)
    assert (method, path, raw_path, query) == ("GET", "/a b", b"/a%20b", b"q=1")
    # ASGI HTTP spec: `host` comes first, made of `:authority`.
    assert headers == [(b"host", b"example.org:8443"), (b"accept", b"*/*"), (b"user-agent", b"me")]
    assert fields == dict(headers)
    assert (length, protocol) == (UNKNOWN_LENGTH, b"")
    assert uri.encode() == dict(received)[b":path"]
    assert received[4:] == [(b"accept", b"*/*"), (b"user-agent", b"me")], "the list of the decoder was changed"


def test_host_takes_the_place_of_authority() -> None:
    headers = reader().read([METHOD, SCHEME, PATH, (b"x", b"1"), (b"host", b"example.org")], True)[4]
    assert headers == [(b"x", b"1"), (b"host", b"example.org")]


def test_host_beside_an_equal_authority() -> None:
    head = reader().read([*FOUR, (b"x", b"1"), (b"host", b"EXAMPLE.org:8443")], True)
    assert head[4] == [(b"host", b"example.org:8443"), (b"x", b"1")]
    assert head[5] == dict(head[4])


@pytest.mark.parametrize(
    ("cookies", "joined"),
    [
        ([b"a=1"], b"a=1"),
        ([b"a=1", b"b=2", b"c=3"], b"a=1; b=2; c=3"),
    ],
)
def test_cookies_are_one_field(cookies: list[bytes], joined: bytes) -> None:
    """RFC 9113 section 8.2.3."""
    received = [*FOUR, (b"x", b"1"), *((b"cookie", cookie) for cookie in cookies), (b"x", b"2")]
    head = reader().read(received, True)
    assert head[4][1:] == [(b"x", b"1"), (b"cookie", joined), (b"x", b"2")]
    assert head[5] == {b"host": AUTHORITY[1], b"x": b"1, 2", b"cookie": joined}


def test_limits_count_fields_and_not_pieces_of_cookies() -> None:
    cookies = [(b"cookie", b"%d=1" % number) for number in range(200)]
    assert reader().read([*FOUR, *cookies], True)[4][1][0] == b"cookie"
    fields = [(b"x%d" % number, b"1") for number in range(101)]
    assert refusal([*FOUR, *fields]) == (431, "too-many-fields")


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        ([SCHEME, PATH, AUTHORITY], "missing-pseudo-field"),
        ([METHOD, PATH, AUTHORITY], "missing-pseudo-field"),
        ([METHOD, SCHEME, AUTHORITY], "missing-pseudo-field"),
        ([], "missing-pseudo-field"),
        ([METHOD, SCHEME, PATH], "missing-host"),
        ([*FOUR, METHOD], "misplaced-pseudo-field"),
        ([METHOD, METHOD, SCHEME, PATH, AUTHORITY], "misplaced-pseudo-field"),
        ([METHOD, SCHEME, PATH, (b"x", b"1"), AUTHORITY], "misplaced-pseudo-field"),
        ([METHOD, (b"x", b"1"), SCHEME, PATH, AUTHORITY], "misplaced-pseudo-field"),
        ([(b"x", b"1"), METHOD, SCHEME, PATH, AUTHORITY], "misplaced-pseudo-field"),
        ([(b"x", b"1"), METHOD, SCHEME, PATH, (b"host", b"a"), (b"y", b"1")], "misplaced-pseudo-field"),
        ([*FOUR, (b"host", b"other")], "host-is-not-authority"),
        ([METHOD, SCHEME, PATH, (b"host", b"a"), (b"host", b"a")], "repeated-host"),
        ([METHOD, SCHEME, PATH, (b"host", b"a b")], "bad-host"),
        ([METHOD, SCHEME, PATH, (b":authority", b"user@host")], "bad-host"),
        ([METHOD, SCHEME, PATH, (b":authority", b"")], "bad-host"),
        ([METHOD, SCHEME, PATH, (b":authority", b":80")], "bad-host"),
        ([METHOD, (b":scheme", b"ftp"), PATH, AUTHORITY], "bad-scheme"),
        ([METHOD, SCHEME, (b":path", b""), AUTHORITY], "bad-target"),
        ([METHOD, SCHEME, (b":path", b"x"), AUTHORITY], "bad-target"),
        ([METHOD, SCHEME, (b":path", b"*"), AUTHORITY], "bad-target"),
        ([METHOD, SCHEME, (b":path", b"http://example.org/"), AUTHORITY], "bad-target"),
        ([METHOD, SCHEME, (b":path", b"/a b"), AUTHORITY], "bad-target"),
        ([METHOD, SCHEME, (b":path", b"/a\tb"), AUTHORITY], "bad-target"),
        ([METHOD, SCHEME, (b":path", b"/a#b"), AUTHORITY], "bad-target"),
        ([METHOD, SCHEME, (b":path", b"/\xc3\xa4"), AUTHORITY], "bad-target"),
        ([(b":method", b"GE T"), SCHEME, PATH, AUTHORITY], "bad-method"),
        ([(b":method", b""), SCHEME, PATH, AUTHORITY], "bad-method"),
        ([METHOD, SCHEME, PATH, AUTHORITY, (b":protocol", b"websocket")], "protocol-without-connect"),
        ([(b":method", b"CONNECT"), SCHEME, PATH, AUTHORITY], "connect-with-target"),
        ([(b":method", b"CONNECT"), SCHEME, AUTHORITY], "missing-pseudo-field"),
        ([(b":method", b"CONNECT")], "missing-pseudo-field"),
        ([*FOUR, (b"content-length", b"1, 1")], "bad-content-length"),
        ([*FOUR, (b"content-length", b"+1")], "bad-content-length"),
        ([*FOUR, (b"content-length", b"1")], "body-shorter-than-content-length"),
        ([*FOUR, (b"content-length", b"0"), (b"content-length", b"0")], "repeated-content-length"),
    ],
)
def test_what_is_malformed(received: list[Field], reason: str) -> None:
    """RFC 9113 section 8.1.1: each of these is a stream error."""
    assert refusal(received) == (400, reason)


@pytest.mark.parametrize(
    ("received", "answer"),
    [
        ([(b":method", b"CONNECT"), AUTHORITY], (501, "connect")),
        ([(b":method", b"M" * 33), SCHEME, PATH, AUTHORITY], (501, "method-too-long")),
        ([METHOD, SCHEME, (b":path", b"/" + b"a" * 4094), AUTHORITY], (414, "target-too-long")),
    ],
)
def test_what_is_answered(received: list[Field], answer: tuple[int, str]) -> None:
    assert refusal(received) == answer


def test_content_length() -> None:
    assert reader().read([*FOUR, (b"content-length", b"5")], False)[6] == 5
    assert reader().read([*FOUR, (b"content-length", b"0")], True)[6] == 0


def test_asterisk_form() -> None:
    head = reader().read([(b":method", b"OPTIONS"), SCHEME, (b":path", b"*"), AUTHORITY], True)
    assert head[:3] == ("OPTIONS", "*", b"*")


def test_extended_connect() -> None:
    """RFC 8441 section 4."""
    received = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), SCHEME, PATH, AUTHORITY]
    head = reader().read(received, False)
    assert (head[0], head[7]) == ("CONNECT", b"websocket")


def test_field_sizes() -> None:
    large = (b"x", b"1" * 8190)
    with pytest.raises(RemoteProtocolError, match="431"):
        reader().check_sizes([*FOUR, large])
    reader().check_sizes([*FOUR, (b"x", b"1" * 8185)])
    # No field of a block below this size can be too large: 5 bits a byte at the best.
    assert reader().small_block_bytes == 8190 * 5 // 8
    assert reader(field_bytes=100).small_block_bytes == 0


@pytest.mark.parametrize(
    ("name", "value", "valid"),
    [
        (b"x-y", b"a b\tc", True),
        (b"x-y", b"", True),
        (b"X", b"", False),
        (b"", b"", False),
        (b"a b", b"", False),
        (b"a:", b"", False),
        (b":unknown", b"", False),
        (b":status", b"200", False),
        (b":path", b"/", True),
        (b":path", b"/\x00", False),
        (b"x", b"a\nb", False),
        (b"x", b"a\rb", False),
        (b"x", b"a\x00b", False),
        (b"x", b"a\x7fb", False),
        (b"x", b" a", False),
        (b"x", b"a\t", False),
        (b"connection", b"close", False),
        (b"keep-alive", b"1", False),
        (b"proxy-connection", b"x", False),
        (b"transfer-encoding", b"chunked", False),
        (b"upgrade", b"h2c", False),
        (b"te", b"trailers", True),
        (b"te", b"Trailers", True),
        (b"te", b"gzip", False),
    ],
)
def test_rules_of_a_field(name: bytes, value: bytes, valid: bool) -> None:
    """RFC 9113 sections 8.2.1, 8.2.2 and 8.3."""
    assert FieldRules(frozenset()).is_valid(name, value) is valid


def test_fields_to_note() -> None:
    rules = FieldRules(frozenset((b"x-forwarded-for",)))
    assert rules.is_valid(b"x", b"_")
    assert not rules.noted
    assert rules.is_valid(b"x-forwarded-for", b"1")
    assert rules.noted
    rules = FieldRules(frozenset())
    assert rules.is_valid(b"x_y", b"1")
    assert rules.noted


@pytest.mark.parametrize(
    ("value", "urgency", "incremental"),
    [
        (b"", 3, False),
        (b"u=0", 0, False),
        (b"u=7, i", 7, True),
        (b"i,u=1;x=y", 1, True),
        (b"i=?0", 3, False),
        (b"i=?1", 3, True),
        (b"u=8", 3, False),
        (b"u=-1, i=yes", 3, False),
        (b"u=1, u=5", 5, False),
        (b"a=b, u", 3, False),
    ],
)
def test_priority(value: bytes, urgency: int, incremental: bool) -> None:
    """RFC 9218 section 4."""
    assert read_priority(value) == {"urgency": urgency, "incremental": incremental}


@pytest.mark.parametrize(
    ("trailers", "reason"),
    [([(b":path", b"/")], "pseudo-field-in-trailers"), ([(b"x", b"1")] * 101, "too-many-trailers")],
)
def test_trailers(trailers: list[Field], reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        reader().check_trailers(trailers)
    reader().check_trailers([(b"x", b"1")])
