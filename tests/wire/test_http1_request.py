"""The verdict on every head of an HTTP/1 request (RFC 9112 sections 2 to 6).

Each head is received whole and byte by byte, as a connection receives it, and must get the same verdict.
"""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_asgi.asgi_types import Field
from gunicorn_asgi.errors import RemoteProtocolError
from gunicorn_asgi.settings import HeadLimits
from gunicorn_asgi.wire.headers import is_valid_host, parse_field_line
from gunicorn_asgi.wire.http1_h11 import H11FieldParser
from gunicorn_asgi.wire.http1_httptools import HttptoolsFieldParser
from gunicorn_asgi.wire.http1_request import (
    CHUNKED,
    HEAD_END,
    FieldParser,
    IncompleteHead,
)
from tests.support.heads import RequestHead, check_incomplete_head, read_request_head

ParserFactory = Callable[[], FieldParser]
Receive = Callable[..., RequestHead]

DEFAULT = HeadLimits()
PLAIN = b"GET /plain HTTP/1.1\r\nHost: plain.example\r\n\r\n"


# Module scope, because Hypothesis runs many examples in one test; what a parser keeps belongs to no test.
@pytest.fixture(params=[HttptoolsFieldParser, H11FieldParser], ids=["httptools", "h11"], scope="module")
def make_parser(request: pytest.FixtureRequest) -> ParserFactory:
    """Every parser library that serves HTTP/1."""
    factory: ParserFactory = request.param
    return factory


@pytest.fixture
def parser(make_parser: ParserFactory) -> FieldParser:
    return make_parser()


@pytest.fixture
def receive(parser: FieldParser) -> Receive:
    """Receive bytes as a connection does, whole and byte by byte: wait for the end of the head, refuse early what is
    lost already. The verdict must be the same."""

    def receive(data: bytes, limits: HeadLimits = DEFAULT) -> RequestHead:
        end = data.find(HEAD_END)
        before_end = len(data) if end < 0 else end + len(HEAD_END) - 1
        status: int | None = None
        try:
            incomplete_head = IncompleteHead(limits)
            for received in range(1, before_end + 1):
                incomplete_head.check(data[:received])
            if end >= 0:
                read_request_head(data[: end + len(HEAD_END)], parser, limits)
        except RemoteProtocolError as error:
            status = error.status
        try:
            if end < 0:
                check_incomplete_head(data, limits)
                pytest.fail("neither a whole head nor refused")
            head = read_request_head(data[: end + len(HEAD_END)], parser, limits)
        except RemoteProtocolError as error:
            if error.status != status:
                pytest.fail(f"{error.status} for the whole, {status} for its bytes one by one")
            raise
        assert status is None
        return head

    return receive


def status_of(receive: Receive, data: bytes, limits: HeadLimits = DEFAULT) -> int:
    """The status code that a head is refused with."""
    with pytest.raises(RemoteProtocolError) as refusal:
        receive(data, limits)
    return refusal.value.status


def head_of(
    *field_lines: bytes, method: bytes = b"GET", target: bytes = b"/", version: bytes = b"HTTP/1.1", host: bool = True
) -> bytes:
    lines = [b" ".join((method, target, version)), *([b"Host: example.org"] if host else []), *field_lines]
    return b"\r\n".join(lines) + HEAD_END


# What a head tells


def test_a_head_tells_what_the_scope_needs(receive: Receive) -> None:
    head = receive(
        b"POST /a%20b/c?d=%20e HTTP/1.1\r\n"
        b"Host: example.org:8000\r\nX-One: 1\r\nx-ONE: two \r\nContent-Length: 12\r\n\r\n"
    )
    assert head.method == "POST"
    assert head.http_version == "1.1"
    assert head.path == "/a b/c"
    assert head.raw_path == b"/a%20b/c"
    assert head.query_string == b"d=%20e"
    assert head.headers == [
        (b"host", b"example.org:8000"),
        (b"x-one", b"1"),
        (b"x-one", b"two"),
        (b"content-length", b"12"),
    ]
    assert head.fields == {b"host": b"example.org:8000", b"x-one": b"1, two", b"content-length": b"12"}
    assert head.body_length == 12
    assert head.keep_alive
    assert not head.expects_continue


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query_string"),
    [
        pytest.param(b"/", "/", b"/", b"", id="root"),
        pytest.param(b"/a?", "/a", b"/a", b"", id="empty query"),
        pytest.param(b"/a?b?c=/d", "/a", b"/a", b"b?c=/d", id="first question mark splits"),
        pytest.param(b"/a?b%20c", "/a", b"/a", b"b%20c", id="query is left encoded"),
        pytest.param(b"/caf%C3%A9", "/caf\u00e9", b"/caf%C3%A9", b"", id="UTF-8"),
        pytest.param(b"/%ff", "/\ufffd", b"/%ff", b"", id="bad UTF-8 is replaced"),
        pytest.param(b"/%2F%3F%23", "//?#", b"/%2F%3F%23", b"", id="delimiters are decoded"),
        pytest.param(b"/%2525", "/%25", b"/%2525", b"", id="decoded once"),
        pytest.param(b"/%zz%4", "/%zz%4", b"/%zz%4", b"", id="bad escapes stay"),
        pytest.param(b"/%00%0a", "/\x00\n", b"/%00%0a", b"", id="control characters"),
        pytest.param(b"//a/../b/./c//", "//a/../b/./c//", b"//a/../b/./c//", b"", id="nothing is removed"),
        pytest.param(b"/a+b;c=d", "/a+b;c=d", b"/a+b;c=d", b"", id="plus and semicolon"),
        pytest.param(b"/a:b@c", "/a:b@c", b"/a:b@c", b"", id="colon and at"),
    ],
)
def test_the_path_is_decoded_once_and_kept_as_received(
    receive: Receive, target: bytes, path: str, raw_path: bytes, query_string: bytes
) -> None:
    head = receive(head_of(target=target))
    assert (head.path, head.raw_path, head.query_string) == (path, raw_path, query_string)


@pytest.mark.parametrize(
    ("version", "field_lines", "keep_alive"),
    [
        (b"HTTP/1.1", [], True),
        (b"HTTP/1.1", [b"Connection: close"], False),
        (b"HTTP/1.1", [b"Connection: CLOSE"], False),
        (b"HTTP/1.1", [b"Connection: keep-alive, close"], False),
        (b"HTTP/1.1", [b"Connection: keep-alive", b"Connection: close"], False),
        (b"HTTP/1.1", [b"Connection: x-close"], True),
        (b"HTTP/1.1", [b"Connection: "], True),
        (b"HTTP/1.0", [], False),
        (b"HTTP/1.0", [b"Connection: Keep-Alive"], True),
        (b"HTTP/1.0", [b"Connection: keep-alive, close"], False),
        (b"HTTP/1.0", [b"Connection: x-keep-alive"], False),
    ],
)
def test_the_connection_lives_on_unless_the_client_ends_it(
    receive: Receive, version: bytes, field_lines: list[bytes], keep_alive: bool
) -> None:
    assert receive(head_of(*field_lines, version=version)).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("version", "expectation", "expects_continue"),
    [
        (b"HTTP/1.1", b"100-continue", True),
        (b"HTTP/1.1", b"100-Continue", True),
        (b"HTTP/1.0", b"100-continue", False),
        (b"HTTP/1.1", b"something-else", False),
        (b"HTTP/1.1", b"", False),
    ],
)
def test_only_100_continue_is_expected_and_never_by_1_0(
    receive: Receive, version: bytes, expectation: bytes, expects_continue: bool
) -> None:
    head = receive(head_of(b"Content-Length: 1", b"Expect: " + expectation, version=version))
    assert head.expects_continue is expects_continue
    assert head.body_length == 1


@pytest.mark.parametrize("upgrade", [b"h2c", b"TLS/1.3", b"unknown", b"h2c, unknown/2"])
@pytest.mark.parametrize(
    ("framing", "body_length"),
    [([], 0), ([b"Content-Length: 5"], 5), ([b"Transfer-Encoding: chunked"], CHUNKED)],
    ids=["no body", "length", "chunked"],
)
def test_an_upgrade_that_nobody_serves_changes_nothing(
    receive: Receive, upgrade: bytes, framing: list[bytes], body_length: int
) -> None:
    field_lines = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + upgrade, b"HTTP2-Settings: AAMAAABk"]
    head = receive(head_of(*field_lines, *framing, method=b"POST"))
    assert head.body_length == body_length
    assert head.keep_alive


# Framing of the body


@pytest.mark.parametrize(
    "coding", [b"chunked", b"Chunked", b"CHUNKED", b" \tchunked", b"chunked ", b"chunked\t", b" \tchunked\t "]
)
def test_chunked_is_known_in_any_case_with_white_space_around(receive: Receive, coding: bytes) -> None:
    assert receive(head_of(b"Transfer-Encoding:" + coding)).body_length == CHUNKED


@pytest.mark.parametrize("length", [0, 1, 2**63 - 1])
def test_a_content_length_frames_the_body(receive: Receive, length: int) -> None:
    assert receive(head_of(b"Content-Length: %d" % length)).body_length == length


@pytest.mark.parametrize(
    "field_lines",
    [
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 0"],
        [b"transfer-encoding: CHUNKED", b"X: y", b"CONTENT-LENGTH: 5"],
    ],
)
def test_length_together_with_transfer_encoding_is_400(receive: Receive, field_lines: list[bytes]) -> None:
    assert status_of(receive, head_of(*field_lines)) == 400


@pytest.mark.parametrize(
    "field_lines",
    [
        pytest.param([b"Transfer-Encoding: gzip"], id="gzip"),
        pytest.param([b"Transfer-Encoding: identity"], id="identity"),
        pytest.param([b"Transfer-Encoding: xchunked"], id="xchunked"),
        pytest.param([b"Transfer-Encoding: gzip, chunked"], id="gzip, chunked"),
        pytest.param([b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"], id="two fields"),
    ],
)
def test_another_transfer_coding_is_501(receive: Receive, field_lines: list[bytes]) -> None:
    assert status_of(receive, head_of(*field_lines)) == 501


@pytest.mark.parametrize(
    "field_lines",
    [
        pytest.param([b"Transfer-Encoding:"], id="empty"),
        pytest.param([b"Transfer-Encoding: ,"], id="comma"),
        pytest.param([b"Transfer-Encoding: chunked,"], id="trailing comma"),
        pytest.param([b"Transfer-Encoding: ,chunked"], id="leading comma"),
        pytest.param([b"Transfer-Encoding: chunked, chunked"], id="twice in a list"),
        pytest.param([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], id="twice in two fields"),
        pytest.param([b"Transfer-Encoding: chunked, gzip"], id="not the last"),
        pytest.param([b"Transfer-Encoding: chunked;a=b"], id="parameter on chunked"),
        pytest.param([b"Transfer-Encoding: chun ked"], id="space inside"),
        pytest.param([b'Transfer-Encoding: "chunked"'], id="quoted"),
        pytest.param([b"Transfer-Encoding: \xa0chunked"], id="no-break space"),
        pytest.param([b"Transfer-Encoding: \x0bchunked"], id="vertical tab before"),
        pytest.param([b"Transfer-Encoding: chunked\x0c"], id="form feed behind"),
        pytest.param([b"Transfer-Encoding: chunked\x00"], id="NUL"),
    ],
)
def test_a_malformed_or_repeated_transfer_coding_is_400(receive: Receive, field_lines: list[bytes]) -> None:
    assert status_of(receive, head_of(*field_lines)) == 400


@pytest.mark.parametrize("coding", [b"chunked", b"gzip", b"gzip, chunked"])
def test_a_transfer_coding_in_1_0_is_400(receive: Receive, coding: bytes) -> None:
    assert status_of(receive, head_of(b"Transfer-Encoding: " + coding, version=b"HTTP/1.0")) == 400


@pytest.mark.parametrize(
    "field_lines",
    [
        pytest.param([b"Content-Length: 5, 5"], id="list"),
        pytest.param([b"Content-Length: 5,5"], id="list without space"),
        pytest.param([b"Content-Length: 5", b"Content-Length: 5"], id="repeated"),
        pytest.param([b"Content-Length: 5", b"Content-Length: 6"], id="contradicting"),
        pytest.param([b"Content-Length: 0", b"Content-Length: 0"], id="repeated zero"),
        pytest.param([b"Content-Length:"], id="empty"),
        pytest.param([b"Content-Length: +5"], id="plus"),
        pytest.param([b"Content-Length: -5"], id="minus"),
        pytest.param([b"Content-Length: 0x5"], id="hex prefix"),
        pytest.param([b"Content-Length: a"], id="hex digit"),
        pytest.param([b"Content-Length: 1_0"], id="underscore"),
        pytest.param([b"Content-Length: 1 0"], id="space"),
        pytest.param([b"Content-Length: 1.0"], id="fraction"),
        pytest.param([b"Content-Length: \xd9\xa5"], id="Arabic digit"),
        pytest.param([b"Content-Length: \xb2"], id="superscript"),
        pytest.param([b"Content-Length: 9223372036854775808"], id="2**63"),
        pytest.param([b"Content-Length: 18446744073709551616"], id="2**64"),
        pytest.param([b"Content-Length: 00000000000000000005"], id="20 digits"),
    ],
)
def test_a_content_length_that_two_servers_could_read_differently_is_400(
    receive: Receive, field_lines: list[bytes]
) -> None:
    assert status_of(receive, head_of(*field_lines, method=b"POST")) == 400


# Version, method, target


@pytest.mark.parametrize(("version", "name"), [(b"HTTP/1.1", "1.1"), (b"HTTP/1.0", "1.0")])
def test_versions_1_0_and_1_1_are_served(receive: Receive, version: bytes, name: str) -> None:
    assert receive(head_of(version=version)).http_version == name


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/3.0", b"HTTP/2.1", b"HTTP/9.9"])
def test_another_major_version_is_505(receive: Receive, version: bytes) -> None:
    assert status_of(receive, head_of(version=version)) == 505


@pytest.mark.parametrize(
    "version",
    [
        b"HTTP/0.9",
        b"HTTP/1.2",
        b"HTTP/1",
        b"HTTP/2",
        b"HTTP/1.",
        b"HTTP/.1",
        b"HTTP/1.10",
        b"HTTP/11.1",
        b"HTTP/1,1",
        b"HTTP/a.b",
        b"HTTP 1.1",
        b"http/1.1",
        b"Http/1.1",
        b"XHTTP/1.1",
        b"HTTPS/1.1",
        b"ICY/1.1",
        b"RTSP/1.0",
        b"HTTP/1.1 ",
        b" HTTP/1.1",
        b"HTTP/1.1\t",
        b"HTTP/1.1 HTTP/1.1",
        b"",
        b"/1.1",
        b"HTTP/\xb2.0",
    ],
)
def test_another_version_or_protocol_is_400(receive: Receive, version: bytes) -> None:
    assert status_of(receive, head_of(version=version)) == 400


@pytest.mark.parametrize(
    "request_line",
    [
        pytest.param(b"GET /", id="HTTP/0.9"),
        pytest.param(b"GET", id="method only"),
        pytest.param(b"", id="empty"),
        pytest.param(b" ", id="space"),
        pytest.param(b"  ", id="two spaces"),
        pytest.param(b" GET / HTTP/1.1", id="leading space"),
        pytest.param(b"GET  / HTTP/1.1", id="two spaces behind the method"),
        pytest.param(b"GET /  HTTP/1.1", id="two spaces behind the target"),
        pytest.param(b"GET  HTTP/1.1", id="empty target"),
        pytest.param(b"GET\t/\tHTTP/1.1", id="tabs"),
        pytest.param(b"GET\x0b/ HTTP/1.1", id="vertical tab"),
        pytest.param(b" / HTTP/1.1", id="empty method"),
        pytest.param(b"HTTP/1.1 200 OK", id="a response"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00 \x01\xfc \x03", id="TLS"),
        pytest.param(b"\x00GET / HTTP/1.1", id="NUL before"),
        pytest.param(b"GET / HTTP/1.1\x00", id="NUL behind"),
    ],
)
def test_a_broken_request_line_is_400(receive: Receive, request_line: bytes) -> None:
    assert status_of(receive, request_line + b"\r\nHost: example.org\r\n\r\n") == 400


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_the_methods_of_the_standards_are_served(receive: Receive, method: str) -> None:
    assert receive(head_of(method=method.encode())).method == method


@pytest.mark.parametrize(
    "method",
    [
        *[
            "PROPFIND",
            "MKCOL",
            "M-SEARCH",
            "PURGE",
            "QUERY",
            "SOURCE",
            "PRI",
            "BREW",
            "get",
            "Get",
            "X",
            "A!#$%&'*+.^_`|~9",
        ],
        *["DESCRIBE", "ANNOUNCE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER", "REDIRECT"],
        *["RECORD", "FLUSH", "M" * 32],
    ],
)
def test_any_other_token_is_served(receive: Receive, method: str) -> None:
    assert receive(head_of(method=method.encode())).method == method


@pytest.mark.parametrize("method", [b"M" * 33, b"get" * 100])
def test_a_method_longer_than_any_that_is_known_is_501(receive: Receive, method: bytes) -> None:
    assert status_of(receive, head_of(method=method)) == 501


def test_connect_is_501(receive: Receive) -> None:
    assert status_of(receive, head_of(method=b"CONNECT", target=b"example.org:443")) == 501


@pytest.mark.parametrize(
    "method",
    [b"GE(T" * 20, b"GE(T", b"GET/", b"G\xc9T", b"G\x00T", b"G\x7fT", b"GET,", b"G:T", b'"GET"', b"[GET]", b"{"],
)
def test_a_method_that_is_no_token_is_400(receive: Receive, method: bytes) -> None:
    assert status_of(receive, head_of(method=method)) == 400


@pytest.mark.parametrize(
    ("target", "host", "raw_path", "query_string"),
    [
        (b"http://other.example/a/b?c", b"other.example", b"/a/b", b"c"),
        (b"HTTPS://Other.Example:8443/", b"Other.Example:8443", b"/", b""),
        (b"http://other.example", b"other.example", b"/", b""),
        (b"http://other.example?q", b"other.example", b"/", b"q"),
        (b"http://[::1]:80/a", b"[::1]:80", b"/a", b""),
    ],
)
def test_the_authority_of_an_absolute_target_replaces_host(
    receive: Receive, target: bytes, host: bytes, raw_path: bytes, query_string: bytes
) -> None:
    head = receive(head_of(b"X: y", target=target))
    assert (head.raw_path, head.query_string) == (raw_path, query_string)
    assert head.path == raw_path.decode()
    assert head.headers == [(b"host", host), (b"x", b"y")]
    assert head.fields[b"host"] == host


def test_the_authority_of_an_absolute_target_is_the_host_of_a_1_0_request_without_one(receive: Receive) -> None:
    """RFC 9112 section 3.2.2: the server MUST use the host information of the target, whatever Host says."""
    head = receive(head_of(target=b"http://other.example/", version=b"HTTP/1.0", host=False))
    assert head.fields[b"host"] == b"other.example"
    assert (b"host", b"other.example") in head.headers


def test_an_absolute_target_does_not_save_1_1_from_sending_host(receive: Receive) -> None:
    assert status_of(receive, head_of(target=b"http://other.example/", host=False)) == 400


def test_an_absolute_target_does_not_hide_a_bad_host(receive: Receive) -> None:
    assert status_of(receive, head_of(b"Host: a b", target=b"http://other.example/", host=False)) == 400


def test_options_asks_about_the_whole_server(receive: Receive) -> None:
    head = receive(head_of(method=b"OPTIONS", target=b"*"))
    assert (head.path, head.raw_path, head.query_string) == ("*", b"*", b"")


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"*", id="asterisk without OPTIONS"),
        pytest.param(b"a", id="no slash"),
        pytest.param(b"?a", id="query only"),
        pytest.param(b"example.org:443", id="authority form"),
        pytest.param(b"/a#b", id="fragment"),
        pytest.param(b"/a?b#c", id="fragment behind query"),
        pytest.param(b"#", id="fragment only"),
        pytest.param(b"/a b", id="space"),
        pytest.param(b"/a\tb", id="tab"),
        pytest.param(b"/a\x00b", id="NUL"),
        pytest.param(b"/a\x0bb", id="vertical tab"),
        pytest.param(b"/a\x1fb", id="unit separator"),
        pytest.param(b"/a\x7fb", id="DEL"),
        pytest.param(b"/a\rb", id="CR"),
        pytest.param(b"/a\nb", id="LF"),
        pytest.param(b"/caf\xe9", id="Latin-1"),
        pytest.param("/caf\u00e9".encode(), id="UTF-8"),
        pytest.param(b"/?\xff", id="non-ASCII query"),
        pytest.param(b"ftp://example.org/", id="other scheme"),
        pytest.param(b"http:/example.org/", id="one slash"),
        pytest.param(b"http:///a", id="empty authority"),
        # RFC 9110 section 4.2.1: a recipient MUST reject an "http" URI with an empty host.
        pytest.param(b"http://:80/a", id="port without host"),
        pytest.param(b"http://user@example.org/", id="userinfo"),
        pytest.param(b"http://user:password@example.org/", id="userinfo with password"),
        pytest.param(b"http://a:b/", id="bad port"),
        pytest.param(b"http://[::1/", id="bad IPv6"),
        pytest.param(b"http://[::g]/", id="bad IPv6 digit"),
        pytest.param(b"http://a%zz/", id="bad escape"),
        pytest.param(b"http://example.org#a", id="fragment behind authority"),
        pytest.param(b"http://example.org/a#b", id="fragment behind path"),
        pytest.param(b"http://ex\xe4mple.org/", id="non-ASCII authority"),
    ],
)
def test_any_other_target_is_400(receive: Receive, target: bytes) -> None:
    assert status_of(receive, head_of(target=target)) == 400


def test_the_asterisk_of_options_stands_alone(receive: Receive) -> None:
    for target in (b"*/", b"*?a", b"**"):
        assert status_of(receive, head_of(method=b"OPTIONS", target=target)) == 400


# Host


@pytest.mark.parametrize("host", [b"", b"example.org", b"EXAMPLE.org:80", b"192.0.2.1:", b"[2001:db8::1]:8000"])
def test_a_valid_host_is_served_again_and_again(receive: Receive, host: bytes) -> None:
    for _ in range(2):
        assert receive(head_of(b"Host:" + host, host=False)).fields[b"host"] == host


@pytest.mark.parametrize(
    "field_lines",
    [
        pytest.param([], id="missing"),
        pytest.param([b"Host: a", b"Host: a"], id="repeated"),
        pytest.param([b"Host: a", b"Host: b"], id="two"),
        pytest.param([b"Host: a", b"Host:"], id="second is empty"),
        pytest.param([b"Host: a, b"], id="list"),
        pytest.param([b"Host: a b"], id="space"),
        pytest.param([b"Host: a/b"], id="path"),
        pytest.param([b"Host: http://a"], id="URI"),
        pytest.param([b"Host: user@a"], id="userinfo"),
        pytest.param([b"Host: a:b"], id="bad port"),
        pytest.param([b"Host: ::1"], id="IPv6 without brackets"),
        pytest.param([b"Host: [::1"], id="open bracket"),
        pytest.param([b"Host: [127.0.0.1]"], id="IPv4 in brackets"),
        pytest.param([b"Host: caf\xe9"], id="non-ASCII"),
    ],
)
def test_a_missing_repeated_or_bad_host_is_400(receive: Receive, field_lines: list[bytes]) -> None:
    for _ in range(2):
        assert status_of(receive, head_of(*field_lines, host=False)) == 400


def test_1_0_may_leave_host_out(receive: Receive) -> None:
    assert receive(head_of(version=b"HTTP/1.0", host=False)).headers == []


@pytest.mark.parametrize("field_lines", [[b"Host: a b"], [b"Host: a", b"Host: b"]])
def test_a_host_in_1_0_is_checked_too(receive: Receive, field_lines: list[bytes]) -> None:
    assert status_of(receive, head_of(*field_lines, version=b"HTTP/1.0", host=False)) == 400


# Field lines


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"X:1", (b"x", b"1")),
        (b"X:", (b"x", b"")),
        (b"X: \t ", (b"x", b"")),
        (b"X: \t1\t ", (b"x", b"1")),
        (b"X: a\tb", (b"x", b"a\tb")),
        (b"X: a:b", (b"x", b"a:b")),
        (b"X: \x80\xff", (b"x", b"\x80\xff")),
        (b"X: \x85", (b"x", b"\x85")),
        (b"X: a\xa0", (b"x", b"a\xa0")),
        (b"!#$%&'*+-.^_`|~9: 1", (b"!#$%&'*+-.^_`|~9", b"1")),
    ],
)
def test_a_field_is_lower_case_name_and_bare_value(receive: Receive, line: bytes, field: Field) -> None:
    assert receive(head_of(line)).headers == [(b"host", b"example.org"), field]


@pytest.mark.parametrize("byte", [byte for byte in range(0x80) if byte not in b"\t\r\n" and not 0x20 <= byte < 0x7F])
@pytest.mark.parametrize("place", [b"X: a%bb", b"X: %ba", b"X: a%b", b"X%b: a", b"%bX: a"])
def test_a_control_byte_is_400(receive: Receive, byte: int, place: bytes) -> None:
    assert status_of(receive, head_of(place % bytes([byte]))) == 400


@pytest.mark.parametrize("byte", [*b'"(),/:;<=>?@[\\]{}', 0xE9, 0xFF])
def test_a_name_that_is_no_token_is_400(receive: Receive, byte: int) -> None:
    assert status_of(receive, head_of(bytes([byte]) + b"x: y")) == 400
    if byte != ord(":"):
        assert status_of(receive, head_of(b"x" + bytes([byte]) + b": y")) == 400


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"X : y", id="space before the colon"),
        pytest.param(b"X\t: y", id="tab before the colon"),
        pytest.param(b"Content-Length : 5", id="space behind Content-Length"),
        pytest.param(b"Transfer-Encoding : chunked", id="space behind Transfer-Encoding"),
        pytest.param(b"X Y: z", id="space in the name"),
        pytest.param(b"X", id="no colon"),
        pytest.param(b": y", id="no name"),
        pytest.param(b" y", id="folded line"),
        pytest.param(b"\ty", id="line folded with a tab"),
        pytest.param(b" X: y", id="leading space"),
        pytest.param(b" ", id="line of white space"),
        pytest.param(b"X:\r\n y", id="folded empty value"),
        pytest.param(b"X: a\r\n b", id="folded value"),
        pytest.param(b"Transfer-Encoding:\r\n chunked", id="folded Transfer-Encoding"),
    ],
)
@pytest.mark.parametrize("first", [False, True], ids=["behind Host", "before Host"])
def test_a_malformed_field_line_is_400(receive: Receive, line: bytes, first: bool) -> None:
    lines = [line, b"Host: example.org"] if first else [b"Host: example.org", line]
    assert status_of(receive, head_of(*lines, host=False)) == 400


# Line ends


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\nHost: a\r\n\r\n", id="LF behind the request line"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", id="LF only"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\n\r\n", id="LF behind a field"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", id="LF between fields"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n", id="LF for the empty line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\n\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n", id="LF LF ends the head"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\nTransfer-Encoding: chunked\r\n\r\n", id="field behind LF"),
        pytest.param(b"GET / HTTP/1.1\rHost: a\r\r", id="CR only"),
        pytest.param(b"GET / HTTP/1.1\rHost: a\r\n\r\n", id="CR behind the request line"),
        pytest.param(b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", id="CR CR LF behind the request line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", id="CR between fields"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", id="CR CR LF behind a field"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", id="CR in a value"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX:\ra\r\n\r\n", id="CR behind the colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX:\na\r\n\r\n", id="LF behind the colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX\r: a\r\n\r\n", id="CR in a name"),
        pytest.param(b"GET / HTTP/1.1\r\n\rHost: a\r\n\r\n", id="CR before a name"),
        pytest.param(b"GET / HTTP/1.1\r\n\nHost: a\r\n\r\n", id="LF before a name"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\rHost: a\r\n\r\n", id="broken empty line"),
    ],
)
def test_a_bare_lf_or_cr_is_400(receive: Receive, data: bytes) -> None:
    assert status_of(receive, data) == 400


# Limits


@pytest.mark.parametrize("limit", [1000, 4094])
def test_a_request_line_up_to_its_limit_is_served_and_over_it_414(receive: Receive, limit: int) -> None:
    limits = HeadLimits(request_line_bytes=limit)
    target = b"/" + b"a" * (limit - len(b"GET / HTTP/1.1"))
    assert receive(head_of(target=target), limits).raw_path == target
    assert status_of(receive, head_of(target=target + b"a"), limits) == 414


@pytest.mark.parametrize("beginning", [b"GET /", b"M", b"", b"GET / HTTP/1.1"])
def test_a_request_line_without_end_is_414(receive: Receive, beginning: bytes) -> None:
    assert status_of(receive, beginning + b"a" * 200, HeadLimits(request_line_bytes=100)) == 414


def test_a_request_line_without_end_and_limit_is_414_at_the_limit_of_the_head(receive: Receive) -> None:
    limits = HeadLimits(request_line_bytes=0, head_bytes=300)
    assert status_of(receive, b"GET /" + b"a" * 300, limits) == 414


def test_a_field_line_up_to_its_limit_is_served_and_over_it_431(receive: Receive) -> None:
    limits = HeadLimits(field_bytes=100)
    line = b"X: " + b"y" * (100 - len(b"X: \r\n"))
    assert receive(head_of(line, b"Z: z"), limits).fields[b"x"] == line[3:]
    assert receive(head_of(b"Z: z", line), limits).fields[b"x"] == line[3:]
    assert status_of(receive, head_of(line + b"y", b"Z: z"), limits) == 431
    assert status_of(receive, head_of(b"Z: z", line + b"y"), limits) == 431


def test_a_field_line_without_end_is_431(receive: Receive) -> None:
    limits = HeadLimits(field_bytes=100)
    assert status_of(receive, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200, limits) == 431
    assert status_of(receive, b"GET / HTTP/1.1\r\n" + b"y" * 200, limits) == 431


def test_fields_up_to_their_limit_are_served_and_over_it_431(receive: Receive) -> None:
    limits = HeadLimits(fields=10)
    assert len(receive(head_of(*[b"X: y"] * 9), limits).headers) == 10
    assert status_of(receive, head_of(*[b"X: y"] * 10), limits) == 431


def test_fields_without_end_are_431(receive: Receive) -> None:
    assert status_of(receive, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 30, HeadLimits(fields=10)) == 431


def test_a_head_without_end_is_431_at_its_limit(receive: Receive) -> None:
    limits = HeadLimits(fields=0, field_bytes=0, head_bytes=300)
    assert status_of(receive, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100, limits) == 431


def test_limits_of_0_leave_the_limit_of_the_head(receive: Receive) -> None:
    limits = HeadLimits(request_line_bytes=0, fields=0, field_bytes=0, head_bytes=3000)
    head = receive(head_of(*[b"X: y"] * 101, b"Z: " + b"z" * 1000, target=b"/" + b"a" * 1000), limits)
    assert len(head.headers) == 103


def test_the_defaults_are_those_of_gunicorn(receive: Receive) -> None:
    assert receive(head_of(*[b"X: y"] * 99)).headers[-1] == (b"x", b"y")
    assert status_of(receive, head_of(*[b"X: y"] * 100)) == 431
    with pytest.raises(RemoteProtocolError) as refusal:
        check_incomplete_head(b"GET / HTTP/1.1\r\nX: " + b"y" * 8190, DEFAULT)
    assert refusal.value.status == 431


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(head_of(*[b"X: y"] * 9, target=b"/" + b"a" * 36), id="longest request line and most fields"),
        pytest.param(head_of(b"X: " + b"y" * 45, b"Y:", version=b"HTTP/1.0"), id="longest field"),
    ],
)
def test_no_beginning_of_a_valid_head_is_refused(make_parser: ParserFactory, data: bytes) -> None:
    limits = HeadLimits(request_line_bytes=50, fields=10, field_bytes=50, head_bytes=len(data))
    read_request_head(data, make_parser(), limits)
    for size in range(1, len(data)):
        check_incomplete_head(data[:size], limits)


# One parser serves all connections of a worker


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(PLAIN, id="a plain request"),
        pytest.param(head_of(b"Connection: close"), id="close"),
        pytest.param(head_of(version=b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(head_of(b"Connection: keep-alive", version=b"HTTP/1.0"), id="HTTP/1.0 keep-alive"),
        pytest.param(head_of(b"Content-Length: 0"), id="empty body"),
        pytest.param(head_of(b"Content-Length: 0", b"Connection: close"), id="empty body and close"),
        pytest.param(head_of(b"Content-Length: 5"), id="length"),
        pytest.param(head_of(b"Transfer-Encoding: chunked"), id="chunked"),
        pytest.param(head_of(b"Connection: upgrade", b"Upgrade: h2c"), id="upgrade"),
        pytest.param(head_of(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: 5"), id="upgrade and length"),
        pytest.param(head_of(b"Connection: upgrade"), id="upgrade to nothing"),
        pytest.param(head_of(b"Proxy-Connection: close"), id="close for proxies of old"),
        pytest.param(head_of(b"Proxy-Connection: upgrade", b"Upgrade: x"), id="upgrade for proxies of old"),
        pytest.param(head_of(method=b"CONNECT", target=b"a:1"), id="CONNECT"),
        pytest.param(head_of(b"Content-Length: 5", host=False), id="refused with length"),
        pytest.param(head_of(b"Transfer-Encoding: chunked", host=False), id="refused with chunked"),
        pytest.param(head_of(b"Connection: upgrade", b"Upgrade: x", host=False), id="refused with upgrade"),
        pytest.param(head_of(b"Connection: close", host=False), id="refused with close"),
        pytest.param(head_of(b"Transfer-Encoding: chunked", version=b"HTTP/1.0"), id="refused chunked in 1.0"),
        pytest.param(head_of(b"Content-Length: 5", target=b"/#"), id="refused target with length"),
        pytest.param(head_of(b"Content-Length: 5", *[b"X: y"] * 100), id="too many fields with length"),
        pytest.param(head_of(b"Transfer-Encoding: gzip, chunked"), id="unknown coding"),
        pytest.param(head_of(b"X: a\x00b"), id="control byte"),
        pytest.param(head_of(b"X: a\nb"), id="bare LF"),
        pytest.param(head_of(b" X: a"), id="white space"),
        pytest.param(head_of(method=b"BREW"), id="unknown method"),
        pytest.param(head_of(b"X: " + b"y" * 9000), id="long field"),
        pytest.param(b"\r\n\r\n", id="empty"),
    ],
)
def test_a_head_leaves_nothing_behind_for_the_next_connection(parser: FieldParser, before: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        read_request_head(before, parser, DEFAULT)
    head = read_request_head(PLAIN, parser, DEFAULT)
    assert (head.path, head.headers, head.body_length) == ("/plain", [(b"host", b"plain.example")], 0)


def test_heads_of_one_parser_do_not_share_their_headers(parser: FieldParser) -> None:
    first = read_request_head(head_of(b"X: 1"), parser, DEFAULT)
    second = read_request_head(head_of(b"X: 2"), parser, DEFAULT)
    assert first.headers == [(b"host", b"example.org"), (b"x", b"1")]
    assert second.headers == [(b"host", b"example.org"), (b"x", b"2")]


# Generated heads

TCHAR = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VALUE_CHARACTERS = "".join(map(chr, [0x09, *range(0x20, 0x7F), *range(0x80, 0x100)]))

field_names = st.one_of(
    st.sampled_from(
        ["Accept", "Connection", "Cookie", "Expect", "Upgrade", "Via", "Proxy-Connection", "TE", "Trailer"]
    ),
    st.text(TCHAR, min_size=1, max_size=20).filter(
        lambda name: name.lower() not in ("host", "content-length", "transfer-encoding")
    ),
)
field_values = st.text(VALUE_CHARACTERS, max_size=40).map(lambda value: value.strip(" \t"))
white_space = st.text(" \t", max_size=2)


@settings(max_examples=200)
@given(st.lists(st.tuples(field_names, white_space, field_values, white_space), max_size=12))
def test_every_valid_field_round_trips(make_parser: ParserFactory, generated: list[tuple[str, str, str, str]]) -> None:
    lines = [f"{name}:{before}{value}{after}".encode("latin-1") for name, before, value, after in generated]
    head = read_request_head(head_of(*lines), make_parser(), DEFAULT)
    assert head.headers == [
        (b"host", b"example.org"),
        *((name.lower().encode(), value.encode("latin-1")) for name, _, value, _ in generated),
    ]


@settings(max_examples=200)
@given(st.text("".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#"), max_size=40))
def test_every_printable_target_is_served(make_parser: ParserFactory, target: str) -> None:
    raw_path, _, query_string = target.partition("?")
    head = read_request_head(head_of(target=b"/" + target.encode()), make_parser(), DEFAULT)
    assert (head.raw_path, head.query_string) == (b"/" + raw_path.encode(), query_string.encode())


VALID_LINES = [
    [b"GET / HTTP/1.1", b"Host: example.org", b"Accept: */*"],
    [b"POST /a?b=c HTTP/1.1", b"Host: example.org:8000", b"Content-Length: 5", b"Expect: 100-continue"],
    [b"PUT /%C3%A9 HTTP/1.1", b"Host: [::1]", b"Transfer-Encoding: chunked", b"Trailer: X"],
    [b"GET http://example.org/ HTTP/1.1", b"Host: example.org", b"Connection: upgrade", b"Upgrade: websocket"],
    [b"OPTIONS * HTTP/1.0", b"Connection: keep-alive", b"Cookie: a=b", b"Cookie: c=d"],
]
PIECES = [
    *[
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n\n",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"\x00",
        b"\x0b",
        b"\x7f",
        b"\x80",
        b"\xff",
    ],
    *[
        b"#",
        b"?",
        b"/",
        b"*",
        b"%",
        b"%00",
        b"[",
        b"]",
        b"@",
        b"//",
        b"0",
        b"9" * 20,
        b"-",
        b"_",
        b"HTTP/1.1",
        b"HTTP/2.0",
    ],
    *[b"\r\nHost: other", b"\r\nContent-Length: 7", b"\r\nTransfer-Encoding: chunked", b"\r\nTransfer-Encoding: gzip"],
    *[b"\r\nConnection: close", b"\r\nUpgrade: h2c", b"\r\n folded", b"chunked", b"x" * 300, b"\r\nX: y" * 20],
]


@st.composite
def mutated_heads(draw: st.DrawFn) -> bytes:
    """A valid head after a few insertions, deletions, repetitions and replacements."""
    data = b"\r\n".join(draw(st.sampled_from(VALID_LINES))) + HEAD_END
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=3)))
        data = draw(
            st.sampled_from(
                [
                    data[:start] + piece + data[start:],
                    data[:start] + piece + data[end:],
                    data[:start] + data[end:],
                    data[:end] + data[start:],
                ]
            )
        )
    return data


def first_head(data: bytes) -> bytes:
    """What a connection takes for the head in `data`, which is ended where it has no end."""
    return data[: (data + HEAD_END).find(HEAD_END)] + HEAD_END


TIGHT = HeadLimits(request_line_bytes=200, fields=15, field_bytes=250, head_bytes=1000)


@settings(max_examples=200)
@given(data=st.one_of(mutated_heads(), st.binary(max_size=100)), limits=st.sampled_from([DEFAULT, TIGHT]))
def test_no_head_raises_anything_else_and_what_is_accepted_is_valid(
    make_parser: ParserFactory, data: bytes, limits: HeadLimits
) -> None:
    data = first_head(data)
    try:
        head = read_request_head(data, make_parser(), limits)
    except RemoteProtocolError as error:
        if error.status not in (400, 414, 431, 501, 505):
            raise
        return
    # The same fields by the grammar of RFC 9112, whatever the parser library thinks of it.
    lines = data[: -len(HEAD_END)].split(b"\r\n")
    fields = [parse_field_line(line) for line in lines[1:]]
    assert [name for name, _ in head.headers] == [name for name, _ in fields]
    assert [field for field in head.headers if field[0] != b"host"] == [
        field for field in fields if field[0] != b"host"
    ]
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    assert codings in ([], [b"chunked"])
    assert (CHUNKED if codings else int(lengths[0]) if lengths else 0) == head.body_length
    assert len(lengths) + len(codings) <= 1
    hosts = [value for name, value in head.headers if name == b"host"]
    assert all(is_valid_host(host) for host in hosts)
    assert len(hosts) <= 1 if head.http_version == "1.0" else len(hosts) == 1
    assert head.raw_path[:1] == b"/" or (head.method, head.raw_path) == ("OPTIONS", b"*")


@settings(max_examples=200)
@given(st.lists(mutated_heads(), min_size=1, max_size=3))
def test_no_head_changes_the_verdict_on_the_next(make_parser: ParserFactory, heads: list[bytes]) -> None:
    parser = make_parser()
    for data in heads:
        with contextlib.suppress(RemoteProtocolError):
            read_request_head(first_head(data), parser, DEFAULT)
    assert read_request_head(PLAIN, parser, DEFAULT) == read_request_head(PLAIN, make_parser(), DEFAULT)


@settings(max_examples=200)
@given(data=st.one_of(mutated_heads(), st.binary(min_size=1)), size=st.integers(1, 400), tight=st.booleans())
def test_no_beginning_of_a_head_raises_anything_else(data: bytes, size: int, tight: bool) -> None:
    try:
        check_incomplete_head(data[:size], TIGHT if tight else DEFAULT)
    except RemoteProtocolError as error:
        if error.status not in (400, 414, 431):
            raise


@settings(max_examples=100)
@given(data=mutated_heads(), size=st.integers(1, 400))
def test_an_accepted_head_was_never_refused_before_its_end(make_parser: ParserFactory, data: bytes, size: int) -> None:
    data = first_head(data)
    try:
        read_request_head(data, make_parser(), TIGHT)
    except RemoteProtocolError:
        return
    check_incomplete_head(data[: min(size, len(data) - 1)], TIGHT)
