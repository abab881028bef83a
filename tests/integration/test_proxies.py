"""Behind real proxies, configured as docs/deployment.md shows, and behind a PROXY protocol that is spoken by hand."""

import json
import os
import re
import signal
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from xprocess import XProcess

from tests.support.certificates import Certificates
from tests.support.gunicorn import ROOT, Gunicorn, GunicornStarter
from tests.support.haproxy import haproxy, needs_haproxy
from tests.support.http1 import Address, Connection, request
from tests.support.nginx import needs_nginx, nginx, upstream_of

SOURCE: Final = "127.0.0.2"
"""A client that no server here trusts."""
PROXY_PROTOCOL: Final = ("--proxy-protocol", "--proxy-allow-from", "127.0.0.1")
"""Without a value, which versions of Gunicorn before 25 do not take."""
MADE_UP: Final = "X-Forwarded-For: 203.0.113.9\r\n"


def documented(language: str, holding: str) -> str:
    """The configuration in docs/deployment.md that holds this text."""
    page = (ROOT / "docs/deployment.md").read_text("utf-8")
    blocks = [block for block in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL) if holding in block]
    assert len(blocks) == 1, f"{holding!r} is in {len(blocks)} blocks"
    block: str = blocks[0]
    return block


def nginx_configuration(holding: str, server: Address) -> str:
    text = documented("nginx", holding)
    return text.replace("listen 80;", "listen 127.0.0.1:PORT;").replace(
        "server unix:/run/app/gunicorn.sock;", f"server {upstream_of(server)};"
    )


def haproxy_configuration(holding: str, server: Address, send_proxy: str = "send-proxy-v2") -> str:
    assert isinstance(server, tuple)
    text = documented("haproxy", holding)
    text = re.sub(r"bind :\d+", "bind 127.0.0.1:PORT", text).replace("send-proxy-v2", send_proxy)
    return text.replace("127.0.0.1:8000", "{}:{}".format(*server))


def scope_of(connection: Connection, target: str = "/scope", fields: str = "") -> dict[str, Any]:
    response = connection.get(target, fields=fields)
    assert response.status == 200, response
    scope: dict[str, Any] = json.loads(response.body)
    return scope


@pytest.fixture(scope="module")
def starter(xprocess: XProcess) -> Iterator[GunicornStarter]:
    starter = GunicornStarter(xprocess)
    yield starter
    starter.end_all()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tcp_server(starter: GunicornStarter) -> Gunicorn:
    return starter.start("probe", "--keep-alive", "30")


@pytest.fixture(scope="module")
def unix_server(starter: GunicornStarter, tmp_path_factory: pytest.TempPathFactory) -> Gunicorn:
    path = tmp_path_factory.mktemp("unix") / "s"
    return starter.start("probe", "--keep-alive", "30", "--forwarded-allow-ips", "192.0.2.1", bind=f"unix:{path}")


@pytest.fixture(scope="module", params=["cleartext", "TLS"])
def proxied_server(
    request: pytest.FixtureRequest, starter: GunicornStarter, certificates: Certificates
) -> tuple[Gunicorn, dict[str, Any]]:
    """A server that requires the PROXY protocol, and how to speak with it."""
    options, client = ((), {}) if request.param == "cleartext" else (
        certificates.server.options, {"tls": certificates.client()}
    )  # fmt: skip
    return starter.start("probe", *PROXY_PROTOCOL, *options), client


# nginx


@needs_nginx
@pytest.mark.parametrize("name", ["tcp_server", "unix_server"])
def test_nginx_names_the_client(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    server: Gunicorn = request.getfixturevalue(name)
    made_up = MADE_UP + "X-Forwarded-Proto: https\r\nSCRIPT_NAME: /made-up\r\n"
    with (
        nginx(tmp_path, nginx_configuration("keepalive 32", server.address)) as address,
        Connection(address, source=SOURCE) as connection,
    ):
        for _ in range(3):
            scope = scope_of(connection, fields=made_up)
            assert scope["client"] == [SOURCE, 0]
            assert (scope["scheme"], scope["root_path"], scope["path"]) == ("http", "", "/scope")
        body = bytes(range(256)) * 4096
        assert connection.get("/whole-body", method="POST", body=body).body == body
        assert len(connection.get("/download?100").body) == 100 * 65536


@needs_nginx
def test_nginx_names_the_path_of_the_application(unix_server: Gunicorn, tmp_path: Path) -> None:
    configuration = nginx_configuration("SCRIPT_NAME", unix_server.address)
    with nginx(tmp_path, configuration) as address, Connection(address, source=SOURCE) as connection:
        # The probe looks at the first segment of the path, which the root path now is.
        response = connection.get("/app/scope")
        assert response.status == 200
        assert connection.get("/scope").status == 404, "nginx answers by itself"
    stripped = configuration.replace("proxy_pass http://app;", "proxy_pass http://app/;")
    with nginx(tmp_path, stripped) as address, Connection(address, source=SOURCE) as connection:
        assert connection.get("/app/scope").body == response.body == b"/app/scope?"


@needs_nginx
def test_a_client_cannot_name_itself_to_a_server_that_does_not_trust_its_proxy(
    starter: GunicornStarter, tmp_path: Path
) -> None:
    server = starter.start("probe", "--forwarded-allow-ips", "192.0.2.1")
    with (
        nginx(tmp_path, nginx_configuration("keepalive 32", server.address)) as address,
        Connection(address, source=SOURCE) as connection,
    ):
        scope = scope_of(connection, fields=MADE_UP)
        assert scope["client"][0] == "127.0.0.1", "that is nginx"


# HAProxy


@needs_haproxy
def test_haproxy_in_http_mode_names_the_client(tcp_server: Gunicorn, tmp_path: Path) -> None:
    configuration = haproxy_configuration("option forwardfor", tcp_server.address)
    with haproxy(tmp_path, configuration) as address, Connection(address, source=SOURCE) as connection:
        scope = scope_of(connection, fields=MADE_UP + "X-Forwarded-Proto: https\r\n")
        assert (scope["client"], scope["scheme"]) == ([SOURCE, 0], "http")


@needs_haproxy
def test_no_client_chooses_a_path_that_haproxy_has_not_seen(tcp_server: Gunicorn, tmp_path: Path) -> None:
    configuration = haproxy_configuration("option forwardfor", tcp_server.address)
    made_up = "SCRIPT_NAME: /scope\r\nPATH_INFO: /hello\r\n"
    with haproxy(tmp_path, configuration) as address, Connection(address, source=SOURCE) as connection:
        scope = scope_of(connection, fields=made_up)
        assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("", "/scope", "/scope")
        assert not {"script_name", "path_info"} & {name for name, _ in scope["headers"]}
    with tcp_server.connect() as connection:
        scope = scope_of(connection, fields="PATH_INFO: /hello\r\n")
        assert scope["path"] == "/scope", "where a proxy passes it on"


@needs_haproxy
@pytest.mark.parametrize("send_proxy", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id"])
def test_haproxy_in_tcp_mode_names_the_client(
    proxied_server: tuple[Gunicorn, dict[str, Any]], tmp_path: Path, send_proxy: str
) -> None:
    server, client = proxied_server
    configuration = haproxy_configuration("mode tcp", server.address, send_proxy)
    with haproxy(tmp_path, configuration) as address, Connection(address, **client, source=SOURCE) as connection:
        source = list(connection.sock.getsockname())
        for fields in ("", MADE_UP + "X-Forwarded-Proto: https\r\n"):
            scope = scope_of(connection, fields=fields)
            assert scope["client"] == source, "and HAProxy, which is trusted, has not written these headers"
            assert scope["scheme"] == ("https" if client else "http")
        body = bytes(range(256)) * 4096
        assert connection.get("/whole-body", method="POST", body=body).body == body


# The PROXY protocol by hand


def v2(command: int, family: int, content: bytes) -> bytes:
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", command, family, len(content)) + content


def inet6(source: str, port: int) -> bytes:
    hosts = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "::1")
    return v2(0x21, 0x21, hosts + struct.pack("!HH", port, 443) + b"\x04\x00\x03abc")


class PreambleFirst(Connection):
    """A client that says who it is before anything else, TLS too."""

    def __init__(self, address: Address, *preamble: bytes, tls: Any = None) -> None:
        super().__init__(address)
        for part in preamble:
            self.send(part)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")


FROM_ELSEWHERE = [
    ([b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n"], ["203.0.113.7", 56324]),
    ([b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n"], ["2001:db8::7", 56324]),
    ([inet6("2001:db8::7", 56324)], ["2001:db8::7", 56324]),
    ([bytes([byte]) for byte in b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n"], ["203.0.113.7", 56324]),
    ([bytes([byte]) for byte in inet6("2001:db8::7", 56324)], ["2001:db8::7", 56324]),
]


@pytest.mark.parametrize(("preamble", "client"), FROM_ELSEWHERE)
def test_the_preamble_names_the_client(
    proxied_server: tuple[Gunicorn, dict[str, Any]], preamble: list[bytes], client: list[object]
) -> None:
    server, options = proxied_server
    with PreambleFirst(server.address, *preamble, **options) as connection:
        for _ in range(2):
            scope = scope_of(connection, fields=MADE_UP)
            assert scope["client"] == client
            assert scope["server"] == list(server.address)


def test_preamble_and_request_may_come_together(starter: GunicornStarter) -> None:
    server = starter.start("probe", *PROXY_PROTOCOL)
    for preamble in (inet6("2001:db8::7", 56324), b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n"):
        with server.connect() as connection:
            connection.send(preamble + request("/scope") + request("/scope"))
            for _ in range(2):
                assert json.loads(connection.read_response().body)["client"] == ["2001:db8::7", 56324]


@pytest.mark.parametrize("preamble", [inet6("2001:db8::7", 56324), b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n"])
def test_preamble_and_handshake_may_come_together(
    starter: GunicornStarter, certificates: Certificates, preamble: bytes
) -> None:
    server = starter.start("probe", *PROXY_PROTOCOL, *certificates.server.options)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificates.client().wrap_bio(incoming, outgoing, server_hostname="localhost")

    with server.connect() as connection:

        def exchange(step: Callable[[], Any], first: bytes = b"") -> Any:
            """Do one step of TLS, however much has to be sent and received for it."""
            while True:
                try:
                    done = step()
                except ssl.SSLWantReadError:
                    connection.send(first + outgoing.read())
                    first = b""
                    incoming.write(connection.sock.recv(1 << 16))
                else:
                    connection.send(outgoing.read())
                    return done

        exchange(tls.do_handshake, preamble)
        exchange(lambda: tls.write(request("/scope")))
        received = b""
        while b'"client": ["2001:db8::7", 56324]' not in received:
            data = exchange(tls.read)
            assert data, received
            received += data


@pytest.mark.parametrize(
    ("preamble", "is_believed"),
    [
        pytest.param(v2(0x20, 0, b""), True, id="the proxy itself"),
        pytest.param(b"PROXY UNKNOWN\r\n", False, id="unknown"),
        pytest.param(v2(0x21, 0, b""), False, id="unspecified"),
        pytest.param(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", True, id="a trusted proxy behind the proxy"),
    ],
)
def test_who_does_not_say_whose_connection_it_is_keeps_its_own_address(
    proxied_server: tuple[Gunicorn, dict[str, Any]], preamble: bytes, is_believed: bool
) -> None:
    """What such a connection brings may come from anybody, unless the proxy has made it for itself."""
    server, options = proxied_server
    with PreambleFirst(server.address, preamble, **options) as connection:
        assert scope_of(connection)["client"][0] == "127.0.0.1"
        client = scope_of(connection, fields=MADE_UP)["client"]
        assert client[0] == ("203.0.113.9" if is_believed else "127.0.0.1")


def test_a_client_of_one_connection_is_not_that_of_the_next(proxied_server: tuple[Gunicorn, dict[str, Any]]) -> None:
    """Numbers of sockets come again."""
    server, options = proxied_server
    preambles: list[tuple[bytes, str]] = [
        (b"PROXY TCP4 203.0.113.%d 198.51.100.1 1 2\r\n" % number, f"203.0.113.{number}") for number in range(1, 6)
    ]
    for preamble, host in [*preambles, (v2(0x20, 0, b""), "127.0.0.1"), *preambles]:
        with PreambleFirst(server.address, preamble, **options) as connection:
            assert scope_of(connection)["client"][0] == host


@pytest.mark.parametrize(
    "preamble",
    [
        request("/hello"),
        b"PROXY TCP4 203.0.113.256 198.51.100.1 56324 443\r\n" + request("/hello"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        v2(0x21, 0x11, b"short"),
    ],
)
def test_a_connection_without_its_preamble_is_closed(
    proxied_server: tuple[Gunicorn, dict[str, Any]], preamble: bytes
) -> None:
    server, _ = proxied_server
    seen = len(server.log)
    with server.connect() as connection:
        connection.send(preamble)
        assert connection.is_closed_by_server()
    server.wait_for_log(r"Refused request from 127\.0\.0\.1: 400 (no|bad)-proxy-preamble")
    assert "hello" not in server.log[seen:]
    assert "Traceback" not in server.log


def test_a_peer_that_may_not_speak_it_is_turned_away(proxied_server: tuple[Gunicorn, dict[str, Any]]) -> None:
    server, _ = proxied_server
    with Connection(server.address, source=SOURCE) as connection:
        connection.send(b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n")
        assert connection.is_closed_by_server()
    server.wait_for_log(rf"Refused request from {re.escape(SOURCE)}: 403 proxy-protocol-not-allowed")


@pytest.mark.parametrize("worker", ["gunicorn_asgi.Worker", "gunicorn_asgi.H11Worker"])
def test_a_client_that_resets_its_connection_speaks_for_nobody(starter: GunicornStarter, worker: str) -> None:
    """getpeername(2) has no name for it any more, as for a peer on a unix socket, which is trusted."""
    server = starter.start(
        "probe",
        "--forwarded-allow-ips",
        "192.0.2.1",
        "--access-logfile",
        "-",
        "--access-logformat",
        "%(h)s|%(r)s",
        worker=worker,
    )
    pid = int(server.get("/pid").body)
    data = request("/scope", fields="X-Forwarded-For: 203.0.113.9\r\nSCRIPT_NAME: /evil\r\n")
    # Stopped, the worker accepts the connections only when they are reset.
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(5):
            with server.connect() as connection:
                connection.send(data)
                connection.reset()
    finally:
        os.kill(pid, signal.SIGCONT)
    server.wait_for_log(r"\|GET /scope HTTP/1\.1")
    server.get("/hello")
    server.wait_for_log(r"\|GET /hello HTTP/1\.1")
    assert "203.0.113.9" not in server.log


@pytest.mark.load
def test_an_unfinished_preamble_costs_no_more_than_its_time(starter: GunicornStarter) -> None:
    server = starter.start("probe", *PROXY_PROTOCOL, env={"GUNICORN_ASGI_HEADER_TIMEOUT": "4"})
    with server.connect() as silent, server.connect() as slow:
        slow.send(b"PROXY TCP4 ")
        with PreambleFirst(server.address, b"PROXY UNKNOWN\r\n") as connection:
            assert connection.get("/hello").body == b"hello"
        assert silent.is_closed_by_server()
        assert slow.is_closed_by_server()
    server.wait_for_log("Refused request from 127.0.0.1: 408 proxy-preamble-timeout")
