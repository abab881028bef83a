"""Settings and options that no other test file needs for its own purpose: each against a real server."""

import json
import re
import select
import ssl
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.gunicorn import KNOWN_SETTINGS, Gunicorn, GunicornStarter
from tests.support.http1 import Connection, request
from tests.support.http2_wire import Http2Connection
from tests.support.websocket import WebSocketClient


def option(name: str, value: object) -> dict[str, str]:
    return {f"GUNICORN_ASGI_{name.upper()}": str(value)}


def scope_seen(server: Gunicorn, fields: str) -> dict[str, object]:
    response = server.get("/scope", fields=fields)
    assert response.status == 200, response
    seen: dict[str, object] = json.loads(response.body)
    return seen


def test_worker_connections_hold_further_clients_back(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--worker-connections", "2", "--keep-alive", "60")
    with server.connect() as first, server.connect() as second, server.connect() as third:
        for connection in (first, second):
            assert connection.get("/hello").status == 200
        third.send(request("/hello"))
        server.wait_for_log(r"max_connections \(2\) is reached")
        assert select.select([third.sock], [], [], 0.3)[0] == [], "answered beyond the limit"
        first.sock.close()
        assert third.read_response().status == 200


def test_limit_max_requests_replaces_the_worker(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", env=option("limit_max_requests", 3))
    for _ in range(3):
        assert server.get("/hello").status == 200
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    assert server.get("/hello").status == 200


def test_timeout_graceful_shutdown_cuts_what_takes_longer(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--graceful-timeout", "60", env=option("timeout_graceful_shutdown", 1))
    with server.connect() as connection:
        connection.send(request("/hold"))
        assert server.get("/journal/held").status == 200
        assert server.stop() == 0
    assert re.search(r"Drained in [0-9.]+ s: \d+ requests finished, 1 cancelled", server.log)


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_h11_max_incomplete_event_size_limits_the_head(gunicorns: GunicornStarter, http: str) -> None:
    env = {**option("h11_max_incomplete_event_size", 1000), **option("http", http)}
    server = gunicorns.start("probe", env=env)
    assert server.get("/hello", fields=f"X: {'x' * 800}\r\n").status == 200
    assert server.get("/hello", fields=f"X: {'x' * 1000}\r\n").status == 431


def test_body_timeout_answers_408(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", env=option("body_timeout", 1))
    with server.connect() as connection:
        connection.send(request("/size", method="POST", fields="Content-Length: 5\r\n") + b"12")
        assert connection.read_response().status == 408


@pytest.mark.skipif("http2_max_concurrent_streams" not in KNOWN_SETTINGS, reason="this Gunicorn has no http2 settings")
def test_http2_settings_are_announced(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start(
        "probe",
        *("--http2-max-concurrent-streams", "7", "--http2-initial-window-size", "70000"),
        *("--http2-max-frame-size", "20000", "--http2-max-header-list-size", "5000"),
        worker="gunicorn_asgi.H2CWorker",
    )
    with Http2Connection(server.address) as connection:
        announced = connection.server_settings
        # RFC 9113 section 6.5.2.
        assert {number: announced.get(number) for number in (3, 4, 5, 6)} == {3: 7, 4: 70000, 5: 20000, 6: 5000}
        assert connection.get("/hello").status == 200


def test_forwarded_hops_count_the_proxies(gunicorns: GunicornStarter) -> None:
    fields = "X-Forwarded-For: 192.0.2.1, 192.0.2.2, 192.0.2.3\r\n"
    for hops, client in ((1, "192.0.2.3"), (2, "192.0.2.2")):
        server = gunicorns.start("probe", "--forwarded-allow-ips", "*", env=option("forwarded_hops", hops))
        assert scope_seen(server, fields)["client"] == [client, 0]


@pytest.mark.parametrize(
    ("header_map", "status", "arrives"), [("drop", 200, False), ("refuse", 400, False), ("dangerous", 200, True)]
)
def test_header_map_decides_about_underscores(
    gunicorns: GunicornStarter, header_map: str, status: int, arrives: bool
) -> None:
    server = gunicorns.start("probe", "--header-map", header_map)
    response = server.get("/scope", fields="X_Odd: 1\r\n")
    assert response.status == status
    assert (b"x_odd" in response.body) == arrives


@pytest.mark.skipif("forwarder_headers" not in KNOWN_SETTINGS, reason="this Gunicorn has no forwarder_headers")
@pytest.mark.parametrize(("named", "path"), [("SCRIPT_NAME,PATH_INFO", "/mounted/deep"), ("REMOTE_USER", "/deep")])
def test_forwarder_headers_name_what_a_proxy_may_set(gunicorns: GunicornStarter, named: str, path: str) -> None:
    server = gunicorns.start("probe", "--forwarder-headers", named)
    assert server.get("/deep", fields="SCRIPT_NAME: /mounted\r\n").body == f"{path}?".encode()


def test_secure_scheme_headers_name_what_means_https(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    configuration = tmp_path / "gunicorn.conf.py"
    configuration.write_text('secure_scheme_headers = {"X-Scheme": "secure"}\n')
    server = gunicorns.start("probe", "--config", str(configuration))
    assert scope_seen(server, "X-Scheme: secure\r\n")["scheme"] == "https"
    assert scope_seen(server, "X-Scheme: other\r\n")["scheme"] == "http"
    assert scope_seen(server, "X-Forwarded-Proto: https\r\n")["scheme"] == "http"


@pytest.mark.parametrize("nobody", ["", "none", " "])
def test_an_empty_forwarded_allow_ips_trusts_nobody(gunicorns: GunicornStarter, nobody: str) -> None:
    server = gunicorns.start("probe", env=option("forwarded_allow_ips", nobody))
    seen = scope_seen(server, "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n")
    assert isinstance(seen["client"], list)
    assert (seen["client"][0], seen["scheme"]) == ("127.0.0.1", "http")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_ssl_options_ask_for_a_client_certificate_and_choose_ciphers(
    gunicorns: GunicornStarter, certificates: Certificates
) -> None:
    cipher = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    env = {
        **option("ssl_certfile", certificates.server.chain),
        **option("ssl_keyfile", certificates.server.key),
        **option("ssl_ca_certs", certificates.authority),
        **option("ssl_cert_reqs", int(ssl.CERT_REQUIRED)),
        **option("ssl_ciphers", cipher),
    }
    server = gunicorns.start("probe", env=env)
    known = certificates.known_client()
    known.maximum_version = ssl.TLSVersion.TLSv1_2  # Those of 1.3 are not chosen by this setting.
    with Connection(server.address, known) as connection:
        assert isinstance(connection.sock, ssl.SSLSocket)
        chosen = connection.sock.cipher()
        assert chosen is not None
        assert chosen[0] in cipher
        assert connection.get("/hello").status == 200
    stranger = certificates.client()
    stranger.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)), Connection(server.address, stranger) as connection:
        connection.get("/hello")


@pytest.mark.skipif("websocket_max_message_size" not in KNOWN_SETTINGS, reason="this Gunicorn has no such setting")
def test_websocket_max_message_size(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("websocket_probe", "--websocket-max-message-size", "1000")
    with WebSocketClient(server.address) as client:
        assert client.open("/echo").status == 101
        client.send_frame(2, b"x" * 1001)
        assert client.read_close().code == 1009


def test_reset_contextvars_is_what_this_worker_always_does(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", env=option("reset_contextvars", "true"))
    assert server.get("/hello").status == 200


@pytest.mark.parametrize(("http", "parser"), [("h11", "h11"), ("httptools", "httptools")])
def test_http_chooses_the_parser_library(gunicorns: GunicornStarter, http: str, parser: str) -> None:
    server = gunicorns.start("interfaces:about", env=option("http", http), worker="gunicorn_asgi.Worker")
    assert json.loads(server.get("/").body)["parsers"] == [parser]
