"""Whom a request comes from, as a connection sees it: from trusted peers and from others."""

import asyncio
import contextlib
import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_asgi.asgi_types import HTTPScope
from gunicorn_asgi.connection.http import HttpConnection
from gunicorn_asgi.connection.http1 import Http1Connection
from gunicorn_asgi.connection.http2 import Http2Connection
from gunicorn_asgi.settings import Settings
from gunicorn_asgi.wire.http1_response import plain_answer
from tests.connection.serving import PassingLoop, RecordingAccessLog, run, serving_context, turns
from tests.support.fake_transport import FakeTransport
from tests.support.http2_frames import BEGIN, headers

PROXY = ("10.0.0.1", 4711)
STRANGER = ("192.0.2.1", 50000)
TRUSTING = Settings(forwarded_allow_ips=("10.0.0.0/8",), root_path="/root")


def request(*field_lines: bytes, target: bytes = b"/a") -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % target, b"Host: a", *field_lines, b"", b""])


def serve(data: bytes, peer: object, config: Settings = TRUSTING, **transport_options: Any) -> HTTPScope | bytes:
    """The scope that the application got, or the first line of the answer to a request that was refused."""
    scopes: list[HTTPScope] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def main() -> bytes:
        context = serving_context(app, settings=config)
        transport = FakeTransport(context.loop, Http1Connection(context), peername=peer, **transport_options)
        transport.feed(data)
        await turns()
        transport.lose()
        context.clock.stop()
        assert transport.misuse == []
        return bytes(transport.received)

    received = run(main())
    return scopes[0] if scopes else received.partition(b"\r\n")[0]


FORWARDED = request(
    b"X-Forwarded-For: 203.0.113.7:80", b"X-Forwarded-Proto: https", b"SCRIPT_NAME: /app", b"X_Other: 1"
)


@pytest.mark.parametrize("peer", [PROXY, "/run/app.sock", ""], ids=["address", "unix socket", "unnamed unix socket"])
def test_a_trusted_peer_speaks_for_its_client(peer: object) -> None:
    scope = serve(FORWARDED, peer)
    assert not isinstance(scope, bytes)
    assert (scope["client"], scope["scheme"]) == (("203.0.113.7", 80), "https")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/app", "/app/a", b"/app/a")
    assert [name for name, _ in scope["headers"]] == [
        *(b"host", b"x-forwarded-for", b"x-forwarded-proto", b"script_name"),
    ]


def test_a_peer_that_was_reset_and_has_no_name_any_more_is_not_taken_for_one_on_a_unix_socket() -> None:
    scope = serve(FORWARDED, None)
    assert not isinstance(scope, bytes)
    assert (scope["client"], scope["scheme"]) == (None, "http")
    assert (scope["root_path"], scope["path"]) == ("/root", "/root/a")


@pytest.mark.parametrize(("protocol", "data"), [(Http1Connection, request()), (Http2Connection, BEGIN + headers(1))])
@pytest.mark.parametrize(
    ("peer", "client"),
    [(STRANGER, "192.0.2.1"), ("/run/app.sock", "/run/app.sock"), ("", "unix socket"), (None, "unknown")],
)
def test_the_report_on_a_blocked_loop_names_the_peer_as_the_log_does(
    protocol: type[HttpConnection], data: bytes, peer: object, client: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        context = serving_context(app)
        connection = protocol(context)
        transport = FakeTransport(context.loop, connection, peername=peer)
        transport.feed(data)
        [exchange] = context.exchanges
        assert exchange.describe().client == connection.peer == client
        transport.lose()
        context.clock.stop()

    run(main())


def test_the_only_field_of_a_request_is_looked_at_like_any_other() -> None:
    """HTTP/1.0 does not need Host."""
    forwarded = serve(b"GET /a HTTP/1.0\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n", PROXY)
    assert not isinstance(forwarded, bytes)
    assert forwarded["client"] == ("203.0.113.7", 0)
    underscore = b"GET /a HTTP/1.0\r\nX_Auth_User: admin\r\n\r\n"
    dropped = serve(underscore, STRANGER)
    assert not isinstance(dropped, bytes)
    assert dropped["headers"] == []
    assert serve(underscore, STRANGER, Settings(header_map="refuse")) == b"HTTP/1.1 400 Bad Request"


@pytest.mark.parametrize("forwarder_headers", [(b"script_name", b"path_info"), (b"path_info",), (b"*",)])
def test_path_info_is_a_header_and_not_the_path(forwarder_headers: tuple[bytes, ...]) -> None:
    settings = Settings(forwarded_allow_ips=("*",), forwarder_headers=forwarder_headers)
    scope = serve(request(b"PATH_INFO: /admin"), PROXY, settings)
    assert not isinstance(scope, bytes)
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("", "/a", b"/a")
    assert (b"path_info", b"/admin") in scope["headers"]


HANDSHAKE = (
    *(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@pytest.mark.parametrize(
    ("peer", "forwarded", "scheme"),
    [(PROXY, b"https", "wss"), (PROXY, b"wss", "wss"), (PROXY, b"http", "ws"), (STRANGER, b"https", "ws")],
)
def test_a_websocket_has_the_scheme_that_its_proxy_names(peer: object, forwarded: bytes, scheme: str) -> None:
    lines = (*HANDSHAKE, b"X-Forwarded-Proto: " + forwarded, b"X-Forwarded-For: 203.0.113.7", b"SCRIPT_NAME: /app")
    scope: Any = serve(request(*lines), peer)
    assert (scope["type"], scope["scheme"]) == ("websocket", scheme)
    assert (scope["client"], scope["root_path"]) == (
        (("203.0.113.7", 0), "/app") if peer is PROXY else (STRANGER, "/root")
    )


@pytest.mark.parametrize("peer", [PROXY, STRANGER, "/run/app.sock"])
def test_nobody_is_believed_where_proxy_headers_are_off(peer: object) -> None:
    scope = serve(FORWARDED, peer, Settings(forwarded_allow_ips=("*",), proxy_headers=False))
    assert not isinstance(scope, bytes)
    assert scope["client"] == (peer if isinstance(peer, tuple) else (peer, None))
    assert (scope["scheme"], scope["root_path"], scope["path"]) == ("http", "", "/a")


def test_a_refused_name_with_an_underscore_is_400() -> None:
    refusing = Settings(header_map="refuse")
    assert serve(request(b"x_a: 1"), STRANGER, refusing) == b"HTTP/1.1 400 Bad Request"
    assert isinstance(serve(request(b"x-a: a_b"), STRANGER, refusing), dict)


def test_a_repeated_script_name_is_400() -> None:
    fields = (b"SCRIPT_NAME: /app", b"SCRIPT_NAME: /b")
    assert serve(request(*fields), PROXY) == b"HTTP/1.1 400 Bad Request"
    assert isinstance(serve(request(*fields), STRANGER), dict)


def test_scheme_headers_that_contradict_each_other_are_400_from_a_proxy_only() -> None:
    fields = (b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: http")
    assert serve(request(*fields), PROXY) == b"HTTP/1.1 400 Bad Request"
    assert isinstance(serve(request(*fields), STRANGER), dict)


NAMES = [
    *(b"X-Forwarded-For", b"X_Forwarded_For", b"X-Forwarded-Proto", b"X_Forwarded_Proto", b"X-Forwarded-Ssl"),
    *(b"X-Forwarded-Protocol", b"Forwarded", b"X-Real-IP", b"Script-Name", b"SCRIPT_NAME", b"PATH_INFO", b"Path-Info"),
    *(b"REMOTE_ADDR", b"X-Forwarded-Prefix", b"X-Forwarded-Host", b"X-Forwarded-Port", b"X-Script-Name"),
]
values = st.sampled_from(
    [b"10.0.0.1", b"127.0.0.1, 10.0.0.9", b"https", b"wss", b"on", b"ssl", b"/app", b"//", b"*", b""]
)
field_lines = st.lists(
    st.tuples(st.sampled_from(NAMES), values | st.binary(max_size=20).filter(lambda value: value.isalnum())).map(
        lambda field: b"%b: %b" % field
    ),
    max_size=8,
)


@settings(max_examples=60)
@given(fields=field_lines, header_map=st.sampled_from(["drop", "dangerous"]), tls=st.booleans())
def test_no_header_of_an_untrusted_peer_changes_client_scheme_or_root_path(
    fields: list[bytes], header_map: Any, tls: bool
) -> None:
    config = Settings(
        forwarded_allow_ips=("10.0.0.0/8", "127.0.0.1"), root_path="/root", header_map=header_map, forwarded_hops=2
    )
    scope = serve(request(*fields), STRANGER, config, sslcontext=contextlib if tls else None)
    assert not isinstance(scope, bytes)
    assert (scope["client"], scope["scheme"]) == (STRANGER, "https" if tls else "http")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/root", "/root/a", b"/root/a")


@pytest.mark.parametrize("header_map", ["drop", "dangerous"])
@pytest.mark.parametrize("peer", [PROXY, STRANGER])
@pytest.mark.parametrize("lines", [(), (b"SCRIPT_NAME: /app",)])
def test_the_access_log_gets_the_root_path_that_came(lines: tuple[bytes, ...], peer: object, header_map: Any) -> None:
    access_log = RecordingAccessLog()
    seen = ""

    async def mounting(scope: Any, receive: Any, send: Any) -> None:
        nonlocal seen
        seen = scope["root_path"]
        scope["root_path"] += "/mounted"
        await answering(scope, receive, send)

    async def main() -> None:
        config = dataclasses.replace(TRUSTING, header_map=header_map)
        context = serving_context(mounting, settings=config, access_log=access_log)
        transport = FakeTransport(context.loop, Http1Connection(context), peername=peer)
        transport.feed(request(*lines))
        await turns()
        transport.lose()
        context.clock.stop()

    run(main())
    (record,) = access_log.records
    assert record.root_path == seen == ("/app" if lines and peer is PROXY else "/root")


def records_of(*data: bytes, seconds: float = 0.0) -> list[tuple[str, bytes, str, int, int]]:
    """Method, target, version, status and content bytes of each line in the access log."""
    access_log = RecordingAccessLog()

    async def main() -> None:
        context = serving_context(answering, access_log=access_log)
        transport = FakeTransport(context.loop, Http1Connection(context))
        for part in data:
            transport.feed(part)
            await turns()
        loop = context.loop
        assert isinstance(loop, PassingLoop)
        await loop.pass_time(seconds)
        assert bytes(transport.received).count(b"HTTP/1.1 ") == len(access_log.records)
        for record in access_log.records:
            assert record.sent_bytes == len(bytes(transport.received).partition(b"\r\n\r\n")[2])
        transport.lose()
        context.clock.stop()

    run(main(), PassingLoop)
    return [
        (
            record.scope["method"],
            record.scope["raw_path"] + (b"?" + record.scope["query_string"] if record.scope["query_string"] else b""),
            record.scope["http_version"],
            record.status,
            record.sent_bytes,
        )
        for record in access_log.records
    ]


async def answering(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


def content_bytes(status: int) -> int:
    return len(plain_answer(status)[1])


@pytest.mark.parametrize(
    ("data", "method", "target", "version", "status"),
    [
        pytest.param(b"GET /a?b HTTP/1.1\r\n\r\n", "GET", b"/a?b", "1.1", 400, id="no host"),
        pytest.param(b"GET /a HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "GET", b"/a", "1.0", 400, id="two hosts"),
        pytest.param(request(b"X: " + b"a" * 9000), "GET", b"/a", "1.1", 431, id="large field"),
        pytest.param(b"GET /" + b"a" * 5000, "GET", b"/" + b"a" * 1023, "1.1", 414, id="long target"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "GET", b"/", "2.0", 505, id="version"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", "-", b"-", "1.1", 400, id="TLS"),
        pytest.param(b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n", "GET", b"/", "1.1", 400, id="control character"),
        pytest.param(b"G\x1bET / HTTP/1.1\r\nHost: a\r\n\r\n", "-", b"-", "1.1", 400, id="bad method"),
    ],
)
def test_a_refused_request_is_in_the_access_log(
    data: bytes, method: str, target: bytes, version: str, status: int
) -> None:
    assert records_of(data) == [(method, target, version, status, content_bytes(status))]


def test_an_unfinished_request_is_in_the_access_log() -> None:
    records = records_of(b"GET /slow HTTP/1.1\r\nHo", seconds=20)
    assert records == [("GET", b"/slow", "1.1", 408, content_bytes(408))]


@pytest.mark.parametrize(
    ("body", "status", "seconds"), [(b"zz\r\n", 400, 0.0), (b"", 408, 90.0)], ids=["bad chunk", "no body"]
)
def test_a_request_whose_body_is_refused_is_in_the_access_log_once(body: bytes, status: int, seconds: float) -> None:
    head = b"POST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    records = records_of(*filter(None, (head, body)), seconds=seconds)
    assert records == [("POST", b"/a?b", "1.1", status, content_bytes(status))]
