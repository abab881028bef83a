"""Requests that are refused: before the application sees them, with nothing echoed, and a line in the error log."""

import re

import pytest

from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http1 import chunked, request

MARK = b"echoed-mark"

REFUSED: dict[str, tuple[bytes, int]] = {
    "garbage": (b"\x16\x03\x01\x02" + MARK + b"\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /" + MARK + b"\r\n\r\n", 400),
    "another protocol": (request("/").replace(b"HTTP/1.1", b"ICE/1.0"), 400),
    "HTTP/2 without its preface": (request("/").replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
    "HTTP/1.2": (request("/").replace(b"HTTP/1.1", b"HTTP/1.2"), 400),
    "no host": (b"GET /" + MARK + b" HTTP/1.1\r\n\r\n", 400),
    "two hosts": (request("/", fields="Host: example.com\r\n"), 400),
    "bad host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "length and coding": (
        request("/echo", method="POST", fields="Content-Length: 4\r\nTransfer-Encoding: chunked\r\n") + chunked(b"a"),
        400,
    ),
    "two lengths": (request("/", fields="Content-Length: 1\r\nContent-Length: 1\r\n") + b"a", 400),
    "list of lengths": (request("/", fields="Content-Length: 1, 1\r\n") + b"a", 400),
    "signed length": (request("/", fields="Content-Length: +1\r\n") + b"a", 400),
    "huge length": (request("/", fields=f"Content-Length: {2**63}\r\n"), 400),
    "unknown coding": (request("/", fields="Transfer-Encoding: gzip\r\n"), 501),
    "chunked twice": (request("/", fields="Transfer-Encoding: chunked, chunked\r\n"), 400),
    "chunked in HTTP/1.0": (request("/", fields="Transfer-Encoding: chunked\r\n", version="1.0"), 400),
    "CONNECT": (request("example.org:443", method="CONNECT"), 501),
    "endless method": (request("/", method="FROBNICATE" * 4), 501),
    "bad method": (request("/", method="G@T"), 400),
    "fragment": (request("/#" + MARK.decode()), 400),
    "raw non-ASCII": (request("/ä" + MARK.decode()), 400),
    "space in the target": (request("/ " + MARK.decode()), 400),
    "space before the colon": (request("/", fields="X-One : 1\r\n"), 400),
    "folded field": (request("/", fields="X-One: 1\r\n 2\r\n"), 400),
    "control in a value": (request("/", fields="X-One: \x01\r\n"), 400),
    "NUL in a value": (request("/", fields="X-One: \x00\r\n"), 400),
    "bare LF": (request("/").replace(b"\r\n", b"\n"), 400),
    "bare CR": (request("/", fields="X-One: a\rb\r\n"), 400),
    "long request line": (request("/" + "a" * 5000), 414),
    "endless request line": (b"GET /" + b"a" * 5000, 414),
    "long field": (request("/", fields=f"X-One: {'a' * 9000}\r\n"), 431),
    "endless field": (request("/")[:-2] + b"X-One: " + b"a" * 9000, 431),
    "many fields": (request("/", fields="X-One: 1\r\n" * 200), 431),
    "many fields without an end": (request("/")[:-2] + b"X-One: 1\r\n" * 200, 431),
    "bad chunk size": (
        request("/whole-body", method="POST", fields="Transfer-Encoding: chunked\r\n") + b"0x1\r\na\r\n0\r\n\r\n",
        400,
    ),
    "bare LF after a chunk size": (
        request("/whole-body", method="POST", fields="Transfer-Encoding: chunked\r\n") + b"1\na\r\n0\r\n\r\n",
        400,
    ),
    "no CRLF after a chunk": (
        request("/whole-body", method="POST", fields="Transfer-Encoding: chunked\r\n") + b"1\r\nab\r\n0\r\n\r\n",
        400,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(probe: Gunicorn, name: str) -> None:
    data, status = REFUSED[name]
    with probe.connect() as connection:
        connection.send(data)
        response = connection.read_response()
        assert response.status == status
        assert response.get(b"connection") == b"close"
        assert len(response.body) < 64
        assert MARK not in response.head + response.body
        assert connection.is_closed_by_server()


@pytest.mark.parametrize("name", ["two lengths", "unknown coding", "long request line", "HTTP/2 without its preface"])
def test_a_refusal_waits_for_the_responses_before_it(probe: Gunicorn, name: str) -> None:
    data, status = REFUSED[name]
    with probe.connect() as connection:
        connection.send(request("/target/first") + data)
        assert connection.read_response().body == b"/target/first?"
        assert connection.read_response().status == status
        assert connection.is_closed_by_server()


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_request_leaves_no_trace_in_the_next(probe: Gunicorn, name: str) -> None:
    """The parser library may be shared by all connections, and must not carry over what it has been told."""
    with probe.connect() as other, probe.connect() as connection:
        connection.send(REFUSED[name][0])
        connection.read_response()
        assert other.get("/echo", method="POST", body=b"of another connection").body == b"of another connection"


def test_what_follows_a_refused_request_is_not_served(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(REFUSED["length and coding"][0] + request("/target/second"))
        assert connection.read_response().status == 400
        assert connection.is_closed_by_server()


def test_a_refusal_is_logged_with_peer_and_reason_but_without_input(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe")
    names = ["fragment", "unknown coding", "long request line", "HTTP/0.9"]
    for name in names:
        with server.connect() as connection:
            connection.send(REFUSED[name][0])
            connection.read_response()
    lines = re.findall(r"\[WARNING\] (Refused request from .*)", server.log)
    assert len(lines) == len(names)
    for name, line in zip(names, lines, strict=True):
        assert re.fullmatch(rf"Refused request from 127\.0\.0\.1: {REFUSED[name][1]} [a-z0-9.-]+", line)
    assert MARK.decode() not in server.log


def test_a_flood_of_bad_requests_is_no_flood_of_log_lines(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe")
    for _ in range(200):
        with server.connect() as connection:
            connection.send(b"garbage\r\n\r\n")
            assert connection.read_response().status == 400
    # 200 requests take less than 4 s on any machine.
    assert server.log.count("Refused request") <= 50


@pytest.mark.parametrize(
    ("option", "value", "data", "status"),
    [
        ("--limit-request-line", "100", request("/" + "a" * 100), 414),
        ("--limit-request-fields", "3", request("/", fields="X-One: 1\r\n" * 3), 431),
        ("--limit-request-field_size", "50", request("/", fields=f"X-One: {'a' * 60}\r\n"), 431),
    ],
)
def test_gunicorns_limits_are_honoured(
    gunicorns: GunicornStarter, option: str, value: str, data: bytes, status: int
) -> None:
    server = gunicorns.start("probe", option, value)
    with server.connect() as connection:
        connection.send(data)
        assert connection.read_response().status == status
    assert server.get("/hello").status == 200
