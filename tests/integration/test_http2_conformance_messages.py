"""RFC 9113 section 8: requests that are right or malformed, responses, trailers, and what the application sees."""

import json
from collections.abc import Iterator

import pytest

from gunicorn_asgi.asgi_types import Field
from gunicorn_asgi.wire.http2_frames import DATA, FLAG_END_STREAM, FLAG_PADDED, ErrorCode, frame
from tests.support.gunicorn import Gunicorn
from tests.support.http2_conformance import Case, answered, check_neighbour, run, stream_error
from tests.support.http2_wire import Http2Connection, StreamResponse, data, headers, post, request_fields

MALFORMED = stream_error(ErrorCode.PROTOCOL_ERROR)


def get(*extra: Field, without: tuple[bytes, ...] = (), target: bytes = b"/hello", method: bytes = b"GET") -> bytes:
    return headers(3, request_fields(target, method, extra, without))


def connect(*extra: Field, without: tuple[bytes, ...] = (), protocol: bytes = b"websocket") -> bytes:
    """The head of an extended CONNECT."""
    fields = request_fields("/chat", b"CONNECT", without=without)
    return headers(3, [*fields, (b":protocol", protocol), *extra, (b"sec-websocket-version", b"13")], end_stream=False)


def trailers(*fields: Field) -> bytes:
    """A request with content and these trailers."""
    return post(3) + data(3, b"abc") + headers(3, fields)


def repeated(name: bytes, value: bytes) -> bytes:
    """A valid request in which a pseudo-header field is repeated."""
    return headers(3, [(name, value), *request_fields()])


def with_length(length: bytes, *content: bytes) -> bytes:
    """A request whose Content-Length may not be that of its content; none of it for no content."""
    fields = request_fields("/echo", b"POST", [(b"content-length", length)])
    if not content:
        return headers(3, fields)
    pieces = [data(3, piece, end_stream=number == len(content)) for number, piece in enumerate(content, 1)]
    return headers(3, fields, end_stream=False) + b"".join(pieces)


CASES = [
    # Section 8.1: framing
    Case(
        "8.1", "a second HEADERS without END_STREAM", post(3) + headers(3, [(b"a", b"b")], end_stream=False), MALFORMED
    ),
    Case("8.1", "trailers end the request", trailers((b"x-trailer", b"1")), answered(body=b"abc")),
    Case("8.1", "empty trailers end the request", trailers(), answered(body=b"abc")),
    Case("8.1", "trailers without content", post(3) + headers(3, [(b"a", b"b")]), answered(body=b"")),
    Case("8.1", "pseudo-header field in trailers", trailers((b":method", b"POST")), MALFORMED),
    Case("8.1", "unknown pseudo-header field in trailers", trailers((b":x", b"1")), MALFORMED),
    Case("8.2", "upper case in trailers", trailers((b"X-Trailer", b"1")), MALFORMED),
    Case("8.2.2", "connection-specific field in trailers", trailers((b"connection", b"close")), MALFORMED),
    # Section 8.1.1: Content-Length
    Case("8.1.1", "a length that matches", with_length(b"3", b"abc"), answered(body=b"abc")),
    Case("8.1.1", "a length that matches in pieces", with_length(b"3", b"a", b"b", b"c"), answered(body=b"abc")),
    Case(
        "8.1.1",
        "a length that matches with padding",
        headers(3, request_fields("/echo", b"POST", [(b"content-length", b"3")]), end_stream=False)
        + frame(DATA, FLAG_PADDED | FLAG_END_STREAM, 3, b"\x02abc\x00\x00"),
        answered(body=b"abc"),
    ),
    Case("8.1.1", "a length of 0 without content", with_length(b"0"), answered(body=b"")),
    Case("8.1.1", "less content than announced", with_length(b"4", b"abc"), MALFORMED),
    Case("8.1.1", "more content than announced", with_length(b"2", b"abc"), MALFORMED),
    Case("8.1.1", "more content than announced in pieces", with_length(b"2", b"a", b"b", b"c"), MALFORMED),
    Case("8.1.1", "no content and a length", with_length(b"1"), MALFORMED),
    Case("8.1.1", "empty content and a length", with_length(b"1", b""), MALFORMED),
    Case(
        "8.1.1",
        "less content than announced before trailers",
        with_length(b"4", b"ab")[:-11] + data(3, b"ab") + headers(3, [(b"a", b"b")]),
        MALFORMED,
    ),
    Case("8.1.1", "two lengths", get((b"content-length", b"0"), (b"content-length", b"0")), MALFORMED),
    Case("8.1.1", "a list of lengths", with_length(b"3, 3", b"abc"), MALFORMED),
    Case("8.1.1", "a length with a sign", with_length(b"+3", b"abc"), MALFORMED),
    Case("8.1.1", "a length below 0", with_length(b"-1", b"abc"), MALFORMED),
    Case("8.1.1", "a length in hexadecimal", with_length(b"0x3", b"abc"), MALFORMED),
    Case("8.1.1", "a length with an underscore", with_length(b"1_0", b"abc"), MALFORMED),
    Case("8.1.1", "an empty length", with_length(b"", b"abc"), MALFORMED),
    Case("8.1.1", "a length over 2^63-1", with_length(b"9223372036854775808", b"abc"), MALFORMED),
    # Section 8.2.1: fields
    *(
        Case("8.2.1", f"{name!r} as a name", get((name, b"1")), MALFORMED)
        for name in (
            b"X-Upper",
            b"uppeR",
            b"",
            b" ",
            b"a b",
            b"a\tb",
            b"a\x00",
            b"a\r\nb",
            b"a\x7f",
            b"\xc3\xa4",
            b"a:b",
            b"a:",
            b"a(b)",
            b"a,b",
            b"a/b",
            b"a;b",
            b"a=b",
            b'a"b',
            b"a{b}",
        )
    ),
    *(
        Case("8.2.1", f"{value!r} in a value", get((b"x-value", value)), MALFORMED)
        for value in (
            b"a\x00b",
            b"a\nb",
            b"a\rb",
            b"a\r\nb",
            b"\x00",
            b" a",
            b"a ",
            b"\ta",
            b"a\t",
            b" ",
            b"a\x7fb",
            b"a\x01b",
        )
    ),
    *(
        Case("8.2.1", f"{value!r} in a value is allowed", get((b"x-value", value)), answered())
        for value in (b"", b"a b", b"a\tb", b"\xc3\xa4", b"\xff", b":", b'"')
    ),
    Case("8.2.1", "each name that is a token", get((b"!#$%&'*+-.^_`|~09az", b"1")), answered()),
    # Section 8.2.2: connection-specific fields
    *(
        Case("8.2.2", f"{name.decode()}: {value.decode()}", get((name, value)), MALFORMED)
        for name, value in [
            (b"connection", b"close"),
            (b"connection", b"keep-alive"),
            (b"connection", b""),
            (b"keep-alive", b"timeout=5"),
            (b"proxy-connection", b"keep-alive"),
            (b"transfer-encoding", b"chunked"),
            (b"transfer-encoding", b"identity"),
            (b"upgrade", b"websocket"),
            (b"upgrade", b"h2c"),
            (b"te", b"gzip"),
            (b"te", b"trailers, deflate"),
            (b"te", b""),
        ]
    ),
    Case("8.2.2", "te: trailers is allowed", get((b"te", b"trailers")), answered()),
    # Section 8.3: pseudo-header fields
    Case("8.3", "an unknown one", headers(3, [(b":unknown", b"1"), *request_fields()]), MALFORMED),
    Case("8.3", "one without a name", headers(3, [(b":", b"1"), *request_fields()]), MALFORMED),
    Case(
        "8.3", "one in upper case", headers(3, [(b":Method", b"GET"), *request_fields(without=[b":method"])]), MALFORMED
    ),
    Case("8.3", "one of responses", headers(3, [(b":status", b"200"), *request_fields()]), MALFORMED),
    Case(
        "8.3",
        "one behind a field",
        headers(3, [*request_fields(without=[b":path"]), (b"a", b"b"), (b":path", b"/")]),
        MALFORMED,
    ),
    Case("8.3", "all behind a field", headers(3, [(b"a", b"b"), *request_fields()]), MALFORMED),
    Case("8.3", ":protocol without CONNECT", headers(3, [(b":protocol", b"websocket"), *request_fields()]), MALFORMED),
    *(
        Case("8.3", f"{name.decode()} twice", repeated(name, value), MALFORMED)
        for name, value in [
            (b":method", b"GET"),
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/hello"),
            (b":path", b"/other"),
            (b":authority", b"example.org"),
            (b":authority", b"other"),
        ]
    ),
    # Section 8.3.1: of requests
    *(
        Case("8.3.1", f"without {name.decode()}", get(without=(name,)), MALFORMED)
        for name in (b":method", b":scheme", b":path")
    ),
    Case("8.3.1", "no fields at all", headers(3, []), MALFORMED),
    Case("8.3.1", "neither :authority nor host", get(without=(b":authority",)), MALFORMED),
    Case("8.3.1", "host instead of :authority", get((b"host", b"example.org"), without=(b":authority",)), answered()),
    Case("8.3.1", "host like :authority", get((b"host", b"example.org")), answered()),
    Case("8.3.1", "host unlike :authority", get((b"host", b"other.example")), MALFORMED),
    Case(
        "8.3.1",
        "two hosts",
        get((b"host", b"example.org"), (b"host", b"example.org"), without=(b":authority",)),
        MALFORMED,
    ),
    Case("8.3.1", "an empty :path", get(target=b""), MALFORMED),
    Case("8.3.1", ":path without a slash", get(target=b"hello"), MALFORMED),
    Case("8.3.1", ":path in absolute form", get(target=b"http://example.org/hello"), MALFORMED),
    Case("8.3.1", ":path with a fragment", get(target=b"/hello#there"), MALFORMED),
    Case("8.3.1", ":path with a space", get(target=b"/hello there"), MALFORMED),
    Case("8.3.1", ":path with a control character", get(target=b"/hello\x01"), MALFORMED),
    Case("8.3.1", ":path with a line end", get(target=b"/hello\r\nx: y"), MALFORMED),
    Case("8.3.1", ":path that is not ASCII", get(target=b"/\xc3\xa4"), MALFORMED),
    Case("8.3.1", ":path of * without OPTIONS", get(target=b"*"), MALFORMED),
    Case("8.3.1", ":path of * with OPTIONS", get(target=b"*", method=b"OPTIONS"), answered()),
    Case(
        "8.3.1",
        ":scheme that HTTP does not have",
        headers(3, [(b":scheme", b"ftp"), *request_fields(without=[b":scheme"])]),
        MALFORMED,
    ),
    Case(
        "8.3.1", "an empty :scheme", headers(3, [(b":scheme", b""), *request_fields(without=[b":scheme"])]), MALFORMED
    ),
    Case("8.3.1", "an empty :method", get(method=b""), MALFORMED),
    Case("8.3.1", ":method that is no token", get(method=b"GE T"), MALFORMED),
    *(
        Case(
            "8.3.1",
            f"{value!r} as :authority",
            headers(3, [*request_fields(without=[b":authority"]), (b":authority", value)]),
            MALFORMED,
        )
        for value in (
            b"",
            b"user@example.org",
            b"user:secret@example.org",
            b"exa mple",
            b"example.org/",
            b"[::1",
            b":80",
        )
    ),
    # Section 8.5: CONNECT, which is not served
    Case("8.5", "CONNECT", headers(3, [(b":method", b"CONNECT"), (b":authority", b"example.org:443")]), answered(501)),
    Case("8.5", "CONNECT without :authority", headers(3, [(b":method", b"CONNECT")]), MALFORMED),
    Case("8.5", "CONNECT with :path", get(method=b"CONNECT"), MALFORMED),
    # RFC 8441 section 4: CONNECT with :protocol
    Case("RFC 8441 4", "extended CONNECT without :path", connect(without=(b":path",)), MALFORMED),
    Case("RFC 8441 4", "extended CONNECT without :scheme", connect(without=(b":scheme",)), MALFORMED),
    Case("RFC 8441 4", "extended CONNECT without :authority", connect(without=(b":authority",)), MALFORMED),
    Case("RFC 8441 4", "two protocols", connect((b":protocol", b"websocket")), MALFORMED),
    Case("RFC 8441 4", "a protocol that is not served", connect(protocol=b"connect-udp"), answered(501)),
    # Further rules of requests, as for HTTP/1
    Case("RFC 9110 9.1", "an unknown method is for the application", get(method=b"BREW", target=b"/hello"), answered()),
    Case("RFC 9110 5.4", "a field above its limit", get((b"x-large", b"a" * 9000)), answered(431)),
    Case("10.5.1", "too many fields", get(*[(b"x-many", b"1")] * 120), answered(431)),
    Case("RFC 9110 4.1", ":path above its limit", get(target=b"/" + b"a" * 5000), answered(414)),
]


@pytest.fixture
def connection(h2c: Gunicorn) -> Iterator[Http2Connection]:
    with Http2Connection(h2c.address) as connection:
        yield connection


@pytest.mark.parametrize("case", CASES, ids=str)
def test_messages(case: Case, h2c: Gunicorn, bystander: Http2Connection) -> None:
    run(case, h2c, bystander)


def scope(response: StreamResponse) -> dict[str, object]:
    result = json.loads(response.body)
    assert isinstance(result, dict)
    return result


def test_what_the_application_sees(connection: Http2Connection) -> None:
    """Sections 8.3.1 and 8.2.3: pseudo-header fields become the scope, `:authority` the host."""
    extra = [(b"cookie", b"a=1"), (b"x-first", b"1"), (b"cookie", b"b=2"), (b"x-first", b"2"), (b"te", b"trailers")]
    shown = scope(connection.get("/scope/a%20b/%C3%A4?q=1&r=%20", extra=extra))
    assert (shown["type"], shown["http_version"]) == ("http", "2")
    assert (shown["method"], shown["scheme"]) == ("GET", "http")
    assert (shown["path"], shown["raw_path"]) == ("/scope/a b/ä", "/scope/a%20b/%C3%A4")
    assert shown["query_string"] == "q=1&r=%20"
    assert shown["headers"] == [
        ["host", "example.org"],
        ["cookie", "a=1; b=2"],
        ["x-first", "1"],
        ["x-first", "2"],
        ["te", "trailers"],
    ]


def test_host_is_used_once_and_comes_first(connection: Http2Connection) -> None:
    """Section 8.3.1: the Host field is not used where there is `:authority`."""
    shown = scope(connection.get("/scope", extra=[(b"x-a", b"1"), (b"host", b"example.org")]))
    assert shown["headers"] == [["host", "example.org"], ["x-a", "1"]]


def test_repeated_requests_do_not_share_their_fields(connection: Http2Connection) -> None:
    """What one application does to its scope is not seen by the next, though the block is the same."""
    shown = [scope(connection.get("/scope", extra=[(b"x-a", b"1")])) for _ in range(3)]
    assert shown[0] == shown[1] == shown[2]


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500])
def test_responses_say_their_status_and_end(connection: Http2Connection, status: int) -> None:
    """Section 8.3.2; all other rules of responses are checked by the client."""
    response = connection.get(f"/status?{status}")
    assert response.status == status
    assert response.body == (b"" if status in (204, 304) else b"content")


def test_a_response_to_head_has_no_content(connection: Http2Connection) -> None:
    response = connection.get(method=b"HEAD")
    assert (response.status, response.get(b"content-length"), response.body) == (200, b"5", b"")


def test_fields_of_the_connection_are_taken_out_of_responses(connection: Http2Connection) -> None:
    """Section 8.2.2: an application for HTTP/1 may send them."""
    messages = [
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                ["Connection", "keep-alive"],
                ["keep-alive", "timeout=5"],
                ["Transfer-Encoding", "chunked"],
                ["upgrade", "h2c"],
                ["proxy-connection", "close"],
                ["X-Kept", "1"],
            ],
        },
        {"type": "http.response.body", "body": "abc"},
    ]
    response = connection.get("/send?connection-fields", b"POST", body=json.dumps(messages).encode())
    assert response.body == b"abc"
    assert response.get(b"x-kept") == b"1"


def test_content_beyond_content_length_is_not_sent(connection: Http2Connection) -> None:
    """Section 8.1.1: a response must not be malformed; the stream is reset."""
    messages = [
        {"type": "http.response.start", "status": 200, "headers": [["content-length", "3"]]},
        {"type": "http.response.body", "body": "ab", "more_body": True},
        {"type": "http.response.body", "body": "cd"},
    ]
    connection.send(post(1))
    response = connection.get("/send?too-long", b"POST", body=json.dumps(messages).encode())
    assert len(response.body) <= 3
    assert response.reset is not None or response.body == b"abc"
    check_neighbour(connection)


def test_content_short_of_content_length_is_not_ended(connection: Http2Connection) -> None:
    """Section 8.1.1: the client learns that it has not got all."""
    messages = [
        {"type": "http.response.start", "status": 200, "headers": [["content-length", "3"]]},
        {"type": "http.response.body", "body": "a", "more_body": True},
        {"type": "http.response.body", "body": "b"},
    ]
    connection.send(post(1))
    response = connection.get("/send?too-short", b"POST", body=json.dumps(messages).encode())
    assert response.reset is not None
    check_neighbour(connection)


@pytest.mark.parametrize("target", ["/fail", "/fail-after-start"])
def test_an_application_that_fails_is_a_500(connection: Http2Connection, target: str) -> None:
    connection.send(post(1))
    assert connection.get(target).status == 500
    check_neighbour(connection)


def test_an_application_that_fails_in_its_content_resets_the_stream(connection: Http2Connection) -> None:
    connection.send(post(1))
    response = connection.get("/fail-after-head")
    assert response.reset == ErrorCode.INTERNAL_ERROR
    check_neighbour(connection)


def test_a_response_before_the_end_of_the_request_ends_the_stream(connection: Http2Connection) -> None:
    """Section 8.1: the rest is not wanted, and the client told so with NO_ERROR, behind the whole response."""
    connection.send(post(1))
    connection.send(post(3, "/ignore-body"))
    response = connection.response(3)
    assert response.body == b"ignored"
    connection.send(data(3, bytes(16384)))
    connection.round_trip()
    assert response.reset in (None, ErrorCode.NO_ERROR)
    check_neighbour(connection)


def test_large_response_heads_are_split(connection: Http2Connection) -> None:
    """Section 6.10: HEADERS and CONTINUATION, each within the frame size of the client."""
    fields = [[f"x-{number}", "v" * 4000] for number in range(12)]
    messages = [
        {"type": "http.response.start", "status": 200, "headers": fields},
        {"type": "http.response.body", "body": "abc"},
    ]
    # The request does not fit into one frame, either.
    response = connection.get("/send?large-head", b"POST", body=json.dumps(messages).encode())
    assert response.body == b"abc"
    assert [value for name, value in response.fields if name.startswith(b"x-")] == [b"v" * 4000] * 12


def test_ten_malformed_requests_end_the_connection(h2c: Gunicorn, bystander: Http2Connection) -> None:
    """One client may have a bug; nine streams die for it, at the tenth the client is at fault as a whole."""
    with Http2Connection(h2c.address) as connection:
        for number in range(9):
            connection.send(headers(2 * number + 1, [(b"a", b"b")]))
        connection.round_trip()
        assert [stream.reset for stream in connection.streams.values()] == [ErrorCode.PROTOCOL_ERROR] * 9
        assert connection.get().body == b"hello"
        connection.send(headers(connection.next_id, [(b"a", b"b")]))
        assert connection.goaway()[1] == ErrorCode.PROTOCOL_ERROR
    assert bystander.get().body == b"hello"
