"""Which version of HTTP is spoken, by setting and by worker class, and what of a request depends on it."""

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import KNOWN_SETTINGS as GUNICORN_SETTINGS

from gunicorn_asgi.wire.http2_frames import ALL_STREAMS, PREFACE, ErrorCode, settings_frame
from tests.support.certificates import Certificates
from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http1 import Connection, request
from tests.support.http2_client import LibraryClient
from tests.support.http2_wire import (
    ConnectionEnded,
    Http2Connection,
    StreamResponse,
    data,
    headers,
    post,
)

WORKER = "gunicorn_asgi.Worker"
KNOWN_SETTINGS = {setting.name for setting in GUNICORN_SETTINGS}
needs_http2_settings = pytest.mark.skipif("http2_cleartext" not in KNOWN_SETTINGS, reason="this Gunicorn has none")

UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


def upgraded(server: Gunicorn, fields: str = "", target: str = "/scope") -> StreamResponse | None:
    """The response to a request that asks for an upgrade; None where it is answered over HTTP/1.1."""
    with Http2Connection(server.address, handshake=False) as connection:
        connection.sock.sendall(request(target, fields=UPGRADE + fields))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.read(1)
        if not head.startswith(b"HTTP/1.1 101 "):
            return None
        connection.streams[1] = StreamResponse(window=65535)
        connection.send(PREFACE + settings_frame({}))
        return connection.response(1)


def speaks_at_once(server: Gunicorn) -> bool:
    """Whether a client with prior knowledge is served."""
    with Http2Connection(server.address, handshake=False) as connection:
        connection.send(PREFACE + settings_frame({}))
        try:
            return connection.get().body == b"hello"
        except (AssertionError, ConnectionEnded):  # What it gets is HTTP/1.1.
            return False


@needs_http2_settings
@pytest.mark.parametrize(
    ("value", "at_once", "by_upgrade"),
    [("off", False, False), ("prior-knowledge", True, False), ("upgrade", False, True), ("both", True, True)],
)
def test_http2_cleartext(gunicorns: GunicornStarter, value: str, at_once: bool, by_upgrade: bool) -> None:
    """Gunicorn documents it for peers that are trusted."""
    server = gunicorns.start("probe", "--http2-cleartext", value, worker=WORKER)
    assert speaks_at_once(server) is at_once
    if value != "prior-knowledge":  # Else nothing but HTTP/2 is expected of such a peer.
        assert (upgraded(server) is not None) is by_upgrade
        assert server.get("/hello").body == b"hello"


@needs_http2_settings
def test_http2_cleartext_without_the_headers_of_proxies(gunicorns: GunicornStarter) -> None:
    """Who may speak HTTP/2 is one question, whose headers are believed another."""
    options = ("--http2-cleartext", "both")
    server = gunicorns.start("probe", *options, worker=WORKER, env={"GUNICORN_ASGI_PROXY_HEADERS": "0"})
    assert speaks_at_once(server)
    assert _seen(upgraded(server, "X-Forwarded-Proto: https\r\n"))["scheme"] == "http"


@needs_http2_settings
def test_http1_where_http2_is_expected(gunicorns: GunicornStarter) -> None:
    options = ("--http2-cleartext", "prior-knowledge", "--access-logfile", "-")
    server = gunicorns.start("probe", *options, worker=WORKER)
    with server.connect() as connection:
        # More than is read before the answer: its rest must not cost the client the answer.
        answer = connection.get("/upload", fields="Content-Length: 60000\r\n", method="POST", body=b"." * 60_000)
        assert answer.status == 400
    server.wait_for_log(r'"POST /upload HTTP/1.1" 400 ')
    assert "no-http2-preface" in server.log


@needs_http2_settings
def test_http2_cleartext_is_for_trusted_peers(gunicorns: GunicornStarter) -> None:
    options = ("--http2-cleartext", "both", "--forwarded-allow-ips", "192.0.2.1")
    server = gunicorns.start("probe", *options, worker=WORKER)
    assert not speaks_at_once(server)
    assert upgraded(server) is None
    assert server.get("/hello").body == b"hello"


@needs_http2_settings
@pytest.mark.parametrize(("protocols", "chosen"), [("h2,h1", "h2"), ("h2", "h2"), ("h1", "http/1.1")])
def test_http_protocols(gunicorns: GunicornStarter, tmp_path: Path, protocols: str, chosen: str) -> None:
    certificates = Certificates(tmp_path)
    server = gunicorns.start("probe", *certificates.server.options, "--http-protocols", protocols, worker=WORKER)
    tls = ssl.create_default_context(cafile=str(certificates.authority))
    tls.set_alpn_protocols(["h2", "http/1.1"])
    if chosen == "h2":
        with LibraryClient(server.address, tls) as client:
            assert json.loads(client.get("/scope").body)["http_version"] == "2"
    else:
        with Connection(server.address, tls) as connection:
            assert json.loads(connection.get("/scope").body)["http_version"] == "1.1"


@pytest.fixture(scope="module", params=["gunicorn_asgi.H2CWorker", "gunicorn_asgi.workers.UvicornH2CWorker"])
def worker(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_the_workers_for_cleartext(gunicorns: GunicornStarter, worker: str) -> None:
    """For every peer, and HTTP/1.1 on the same port."""
    server = gunicorns.start("probe", "--forwarded-allow-ips", "192.0.2.1", worker=worker)
    assert speaks_at_once(server)
    assert server.get("/hello").body == b"hello"
    response = upgraded(server)
    assert response is not None
    assert json.loads(response.body)["http_version"] == "2"


def _seen(response: StreamResponse | None) -> dict[str, Any]:
    assert response is not None
    seen: dict[str, Any] = json.loads(response.body)
    return seen


def test_an_upgrade_through_a_proxy(h2c: Gunicorn) -> None:
    """Its fields mean what they mean over HTTP/1.1, repeated ones too; what has asked for the upgrade is gone."""
    fields = (
        "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n"
        "Cookie: a=1\r\nX-Two: 1\r\nCookie: b=2\r\nX-Two: 2\r\n"
    )
    seen = _seen(upgraded(h2c, fields))
    assert (seen["client"], seen["scheme"]) == (["198.51.100.7", 0], "https")
    names = [name for name, _ in seen["headers"]]
    assert ["cookie", "a=1; b=2"] in seen["headers"]
    assert [value for name, value in seen["headers"] if name == "x-two"] == ["1", "2"]
    assert not {"connection", "upgrade", "http2-settings"} & set(names)


def test_an_upgrade_with_fields_that_contradict_each_other(h2c: Gunicorn) -> None:
    response = upgraded(h2c, "X-Forwarded-Proto: http\r\nX-Forwarded-Ssl: on\r\nX-Forwarded-Proto: https\r\n")
    assert response is not None
    assert (response.status, response.ended) == (400, True)


def test_early_hints(h2c: Gunicorn) -> None:
    with Http2Connection(h2c.address) as connection:
        response = connection.get("/hints-and-trailers", extra=[(b"te", b"trailers")])
        assert response.interim == [
            [(b":status", b"103"), (b"link", b"</style.css>; rel=preload"), (b"link", b"</more.js>")]
        ]
        assert (response.status, response.body) == (200, b"content")
        assert response.trailers is not None


def _bad_requests(connection: Http2Connection) -> None:
    connection.send(b"".join(headers(connection.next_id + 2 * number, [(b"a", b"b")]) for number in range(10)))


def _bad_trailers(connection: Http2Connection) -> None:
    first = connection.next_id
    for stream in range(first, first + 20, 2):
        connection.send(post(stream) + headers(stream, [(b":path", b"/")]))


@pytest.mark.parametrize("offence", [_bad_requests, _bad_trailers])
def test_neighbours_when_a_counter_trips(h2c: Gunicorn, offence: Callable[[Http2Connection], None]) -> None:
    with Http2Connection(h2c.address) as connection:
        connection.send(post(1) + data(1, b"abc"))
        offence(connection)
        while not connection.goaways:
            connection.receive()
        assert connection.goaways == [(ALL_STREAMS, ErrorCode.PROTOCOL_ERROR)]
        connection.send(headers(23))
        assert connection.response(23).body == b"hello"
        connection.send(data(1, b"def", end_stream=True))
        assert connection.response(1).body == b"abcdef"
        assert connection.goaway() == (23, ErrorCode.PROTOCOL_ERROR)


def test_trailers_over_a_limit(h2c: Gunicorn) -> None:
    with Http2Connection(h2c.address) as connection:
        connection.send(post(1) + data(1, b"abc") + headers(1, [(b"x", b"v" * 9000)]))
        assert connection.response(1).status == 431
        assert connection.get().body == b"hello"
