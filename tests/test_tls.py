"""The TLS context of a server: what it allows, and every mistake in one line that names the setting."""

import dataclasses
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gunicorn_asgi.errors import SettingsError
from gunicorn_asgi.settings import TlsOptions
from gunicorn_asgi.tls import server_context, tls_extension
from tests.support.certificates import PASSWORD, CertificateFiles, Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def options(files: CertificateFiles, **others: Any) -> TlsOptions:
    return dataclasses.replace(TlsOptions(certfile=str(files.chain), keyfile=str(files.key)), **others)


def context_of(tls: TlsOptions, hook: Any = None) -> ssl.SSLContext:
    context = server_context(tls, hook, "the config")
    assert context is not None
    return context


def connected(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[1], ends[0]


def test_without_options_there_is_no_tls() -> None:
    assert server_context(TlsOptions(), None, None) is None


@pytest.mark.parametrize(
    "given", [{"ca_certs": "ca.pem"}, {"cert_reqs": 2}, {"ciphers": "AES"}, {"keyfile_password": "secret"}]
)
def test_whatever_asks_for_tls_without_a_certificate_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as error:
        server_context(TlsOptions(**given), None, None)
    assert str(error.value).startswith(f"{next(iter(given))}=")
    assert "certfile" in str(error.value)
    assert "secret" not in str(error.value)


def test_old_versions_are_not_spoken(certificates: Certificates) -> None:
    context = context_of(options(certificates.server))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    client = certificates.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    server, _ = connected(context, client)
    assert server.version() == "TLSv1.2"


def test_a_key_with_a_password(certificates: Certificates) -> None:
    files = certificates.server
    tls = options(files, keyfile=str(files.encrypted_key), keyfile_password=PASSWORD)
    assert connected(context_of(tls), certificates.client())[0].version() == "TLSv1.3"


def test_ciphers(certificates: Certificates) -> None:
    context = context_of(options(certificates.server, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"))
    client = certificates.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    cipher = connected(context, client)[0].cipher()
    assert cipher is not None
    assert cipher[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


def test_hook_and_factory_are_applied(certificates: Certificates) -> None:
    seen: list[object] = []

    def hook(default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        context = default()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    def factory(config: object, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        seen.append(config)
        return default()

    context = context_of(options(certificates.server, context_factory=factory), hook)
    assert context.maximum_version is ssl.TLSVersion.TLSv1_2
    assert seen == ["the config"]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"certfile": "{missing}"}, "certfile='{missing}': No such file or directory"),
    ({"keyfile": "{missing}"}, "keyfile='{missing}': No such file or directory"),
    ({"ca_certs": "{missing}"}, "ca_certs='{missing}': No such file or directory"),
    ({"ca_certs": "a\0b"}, "ca_certs='a\\x00b': embedded null byte"),
    ({"certfile": None}, "keyfile='{key}' without a certificate"),
    ({"certfile": "{garbage}"}, "certfile='{garbage}', keyfile='{key}': "),
    ({"keyfile": "{garbage}"}, "certfile='{chain}', keyfile='{garbage}': "),
    ({"keyfile": "{other_key}"}, "certfile='{chain}', keyfile='{other_key}': "),
    ({"keyfile": "{encrypted}"}, "keyfile='{encrypted}' is encrypted and ssl_keyfile_password is not set"),
    ({"keyfile": "{encrypted}", "keyfile_password": "secret"}, "certfile='{chain}', keyfile='{encrypted}': "),
    ({"ca_certs": "{garbage}"}, "ca_certs='{garbage}': "),
    ({"ciphers": "NO-SUCH-CIPHER"}, "ciphers='NO-SUCH-CIPHER' selects no cipher"),
    ({"cert_reqs": 2}, "cert_reqs=2 without ca_certs"),
    ({"cert_reqs": 7}, "cert_reqs=7 is none of 0"),
    ({"context_factory": lambda config, default: 1 / 0}, "ssl_context_factory="),
    ({"context_factory": lambda config, default: None}, "ssl_context_factory="),
]


@pytest.mark.parametrize(("given", "begin"), MISTAKES)
def test_a_mistake_is_one_line(certificates: Certificates, tmp_path: Path, given: dict[str, Any], begin: str) -> None:
    files = certificates.server
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    names = {
        "missing": tmp_path / "missing.pem",
        "garbage": garbage,
        "chain": files.chain,
        "key": files.key,
        "encrypted": files.encrypted_key,
        "other_key": certificates.issue("other.example").key,
    }
    filled = {name: value.format(**names) if isinstance(value, str) else value for name, value in given.items()}
    with pytest.raises(SettingsError) as error:
        server_context(options(files, **filled), None, None)
    assert str(error.value).startswith(begin.format(**names))
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("hook", [lambda default: 1 / 0, lambda default: None])
def test_a_hook_that_fails_is_named(certificates: Certificates, hook: Any) -> None:
    with pytest.raises(SettingsError, match=r"^ssl_context="):
        server_context(options(certificates.server), hook, None)


# The ASGI extension


def test_the_extension_tells_of_server_version_and_cipher(certificates: Certificates) -> None:
    context = context_of(options(certificates.server))
    server, client = connected(context, certificates.client())
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    extension = tls_extension(context, server)
    assert ssl.PEM_cert_to_DER_cert(extension["server_cert"]) == shown
    assert (extension["client_cert_chain"], extension["client_cert_name"]) == ([], None)
    assert extension["tls_version"] == 0x0304
    assert extension["cipher_suite"] in (0x1301, 0x1302, 0x1303)


def test_the_extension_tells_of_the_client(certificates: Certificates) -> None:
    context = context_of(options(certificates.server, ca_certs=str(certificates.authority), cert_reqs=2))
    server, _ = connected(context, certificates.known_client())
    extension = tls_extension(context, server)
    leaf = server.getpeercert(binary_form=True)
    assert leaf is not None
    assert ssl.PEM_cert_to_DER_cert(extension["client_cert_chain"][0]) == leaf
    parts = extension["client_cert_name"].split(",")
    assert parts[-1].startswith("O=trustme")
    assert extension["client_cert_error"] is None


def test_a_client_without_a_certificate_gets_nowhere(certificates: Certificates) -> None:
    context = context_of(options(certificates.server, ca_certs=str(certificates.authority), cert_reqs=2))
    with pytest.raises(ssl.SSLError):
        connected(context, certificates.client())
