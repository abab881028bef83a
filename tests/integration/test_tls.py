"""TLS as Gunicorn's settings and the options of the worker describe it."""

import contextlib
import json
import re
import ssl
import time
from pathlib import Path

import pytest

from tests.support.certificates import PASSWORD, Certificates
from tests.support.gunicorn import Gunicorn, GunicornStarter, run_gunicorn
from tests.support.http1 import Connection, request


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def server(gunicorns: GunicornStarter, certificates: Certificates) -> Gunicorn:
    return gunicorns.start("probe", *certificates.server.options)


@pytest.fixture(scope="module")
def tls(certificates: Certificates) -> ssl.SSLContext:
    return certificates.client()


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


def test_empty_options_do_not_take_tls_away(gunicorns: GunicornStarter, certificates: Certificates) -> None:
    """As docker compose passes on variables without a value."""
    server = gunicorns.start(
        "probe",
        *certificates.server.options,
        env={"GUNICORN_ASGI_SSL_CERTFILE": "", "GUNICORN_ASGI_SSL_KEYFILE": ""},
    )
    with Connection(server.address, certificates.client()) as connection:
        assert connection.get("/hello").body == b"hello"
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


def hello_of(server: Gunicorn, tls: ssl.SSLContext) -> bytes:
    with Connection(server.address, tls) as connection:
        return connection.get("/hello").body


def test_a_client_certificate_is_asked_for_and_shown_to_the_application(
    gunicorns: GunicornStarter, certificates: Certificates
) -> None:
    options = ("--ca-certs", str(certificates.authority), "--cert-reqs", "2", "--ciphers", "ECDHE+AESGCM")
    server = gunicorns.start("probe", *certificates.server.options, *options)
    with Connection(server.address, certificates.known_client()) as connection:
        shown = json.loads(connection.get("/scope").body)["extensions"]["tls"]
        assert shown["tls_version"] == 0x0304
        assert len(shown["client_cert_chain"]) >= 1
        assert shown["client_cert_chain"][0].startswith("-----BEGIN CERTIFICATE-----")
        assert shown["server_cert"] in certificates.server.chain.read_text()
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        hello_of(server, certificates.client())  # With TLS 1.3 it is the first read that fails.


def test_a_client_certificate_can_be_optional(
    gunicorns: GunicornStarter, certificates: Certificates, tmp_path: Path
) -> None:
    options = ("--ca-certs", str(certificates.authority), "--cert-reqs", "1")
    server = gunicorns.start("probe", *certificates.server.options, *options)
    for client, certified in ((certificates.client(), False), (certificates.known_client(), True)):
        with Connection(server.address, client) as connection:
            shown = json.loads(connection.get("/scope").body)["extensions"]["tls"]
            assert bool(shown["client_cert_chain"]) is bool(shown["client_cert_name"]) is certified
    stranger = certificates.client()
    unknown = Certificates(tmp_path).issue("nobody@example.org")
    stranger.load_cert_chain(unknown.chain, unknown.key)
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        hello_of(server, stranger)


def test_options_of_the_worker_switch_tls_on(gunicorns: GunicornStarter, certificates: Certificates) -> None:
    server = gunicorns.start(
        "probe",
        env={
            "GUNICORN_ASGI_SSL_CERTFILE": str(certificates.server.chain),
            "GUNICORN_ASGI_SSL_KEYFILE": str(certificates.server.encrypted_key),
            "GUNICORN_ASGI_SSL_KEYFILE_PASSWORD": PASSWORD,
        },
    )
    with Connection(server.address, certificates.client()) as connection:
        assert json.loads(connection.get("/scope").body)["scheme"] == "https"
    with server.connect() as connection:
        connection.send(request("/hello"))
        assert b"hello" not in connection.read_to_end()


HOOK = """
import ssl


def ssl_context(conf, default_ssl_context_factory):
    context = default_ssl_context_factory()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
"""


def test_the_hook_changes_the_context(gunicorns: GunicornStarter, certificates: Certificates, tmp_path: Path) -> None:
    configuration = tmp_path / "gunicorn.conf.py"
    configuration.write_text(HOOK)
    server = gunicorns.start("probe", "--config", str(configuration), *certificates.server.options)
    with Connection(server.address, certificates.client()) as connection:
        assert json.loads(connection.get("/scope").body)["extensions"]["tls"]["tls_version"] == 0x0303


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--cert-reqs", "2"), "cert_reqs=2 asks for TLS without a certificate"),
        (("--ciphers", "AES"), "ciphers='AES' asks for TLS without a certificate"),
        (("CERTIFICATE", "--ciphers", "NO-SUCH-CIPHER"), "ciphers='NO-SUCH-CIPHER' selects no cipher"),
        (("CERTIFICATE", "--cert-reqs", "2"), "cert_reqs=2 without ca_certs"),
    ],
)
def test_a_mistake_ends_the_boot_with_one_line(
    certificates: Certificates, options: tuple[str, ...], named: str
) -> None:
    if options[0] == "CERTIFICATE":
        options = (*certificates.server.options, *options[1:])
    code, output = run_gunicorn("probe", *options)
    assert code not in (0, None)
    assert len([line for line in output.splitlines() if named in line]) == 1, output
    assert "Traceback" not in output
    assert "Booting worker" not in output


def test_a_hook_alone_does_not_serve_cleartext(tmp_path: Path) -> None:
    configuration = tmp_path / "gunicorn.conf.py"
    configuration.write_text(HOOK)
    code, output = run_gunicorn("probe", "--config", str(configuration))
    assert code == 1
    assert len(re.findall("(?m)^Error: ssl_context=<function .* asks for TLS without a certificate; set ", output)) == 1
    assert "Traceback" not in output


@pytest.mark.load
def test_silent_and_slow_clients_cost_their_connections_and_no_more(
    gunicorns: GunicornStarter, certificates: Certificates
) -> None:
    server = gunicorns.start("probe", *certificates.server.options, env={"GUNICORN_ASGI_HEADER_TIMEOUT": "4"})
    client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(server.connect()) for _ in range(20)]
        for stranger in strangers[::2]:
            stranger.send(client_hello)
        with Connection(server.address, certificates.client()) as connection:
            assert connection.get("/hello").body == b"hello"
        for stranger in strangers:
            assert stranger.is_closed_by_server()
        with Connection(server.address, certificates.client()) as connection:
            assert connection.get("/hello").body == b"hello"
    assert "Traceback" not in server.log
