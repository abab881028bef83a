"""TLS as Gunicorn's settings describe it."""

import json
import ssl
import time
from pathlib import Path

import pytest
import trustme

from tests.support.gunicorn import Gunicorn, GunicornStarter, run_gunicorn
from tests.support.http1 import Connection, request


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(gunicorns: GunicornStarter, authority: trustme.CA, tmp_path: Path) -> Gunicorn:
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(key)
    return gunicorns.start("probe", "--certfile", str(chain), "--keyfile", str(key))


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_https(server: Gunicorn, tls: ssl.SSLContext) -> None:
    with Connection(server.address, tls) as connection:
        for _ in range(3):
            scope = json.loads(connection.get("/scope").body)
            assert scope["scheme"] == "https"
            assert scope["client"] == list(connection.sock.getsockname())
        body = bytes(range(256)) * 2000
        assert connection.get("/echo", method="POST", body=body).body == body
        assert len(connection.get("/download?100").body) == 100 * 65536


def test_a_closing_request_over_tls(server: Gunicorn, tls: ssl.SSLContext) -> None:
    with Connection(server.address, tls) as connection:
        assert connection.get("/hello", fields="Connection: close\r\n").body == b"hello"
        assert connection.read_to_end() == b""


def test_a_refusal_over_tls(server: Gunicorn, tls: ssl.SSLContext) -> None:
    with Connection(server.address, tls) as connection:
        connection.send(request("/", fields="Content-Length: x\r\n"))
        assert connection.read_response().status == 400
        assert connection.is_closed_by_server()


def test_an_idle_client_that_never_says_farewell_does_not_hold_up_the_end(
    server: Gunicorn, tls: ssl.SSLContext
) -> None:
    """TLS wants an answer to the message that closes a connection; this client does not even read it."""
    with Connection(server.address, tls) as connection:
        assert connection.get("/hello").body == b"hello"
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 6
    assert "SIGKILL" not in server.log
    assert "ERROR" not in server.log


def test_cleartext_is_not_served(server: Gunicorn) -> None:
    with server.connect() as connection:
        connection.send(request("/hello"))
        assert b"hello" not in connection.read_to_end()


def test_a_certificate_that_cannot_be_used_ends_the_boot(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    code, output = run_gunicorn("probe", "--certfile", str(broken), "--keyfile", str(broken))
    assert code not in (0, None)
    lines = [line for line in output.splitlines() if str(broken) in line]
    assert len(lines) == 1, output
    assert "certfile" in lines[0]
    assert "Traceback" not in output
    assert "Booting worker" not in output
