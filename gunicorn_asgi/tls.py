"""TLS: the context of the server, and what an application gets to know of a connection.

Fails closed: whatever is wrong ends the boot with one line, and nothing is ever served in clear instead.
"""

import re
import ssl
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NoReturn

from .errors import SettingsError
from .settings import TlsOptions

ContextFactory = Callable[[], ssl.SSLContext]

_PEM_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----").search
# Attribute of a context that says which certificate it shows: the ssl module tells that to clients only.
_CERTIFICATE: Final = "gunicorn_asgi_certificate"

_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304, "TLSv1.1": 0x0302, "TLSv1": 0x0301}

# RFC 4514 section 3, and the names that OpenSSL has for them.
_SHORT_NAMES: Final = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_TO_ESCAPE_IN_NAMES: Final = str.maketrans({character: f"\\{character}" for character in '"+,;<>\\'})


def server_context(
    tls: TlsOptions, hook: Callable[[ContextFactory], ssl.SSLContext] | None, config: object
) -> ssl.SSLContext | None:
    """The TLS context of a server; None where none is asked for.

    `hook` is Gunicorn's, if there is one; `config` is what an ssl_context_factory is called with. Raises SettingsError
    for whatever is wrong.
    """
    if not tls.is_on:
        shown = {
            "ca_certs": repr(tls.ca_certs),
            "cert_reqs": str(int(tls.cert_reqs)),
            "ciphers": repr(tls.ciphers),
            "keyfile_password": "...",
        }
        for name, value in shown.items():
            if getattr(tls, name):
                raise SettingsError(f"{name}={value} asks for TLS without a certificate; set certfile, or remove it")
        return None

    def from_hook() -> ssl.SSLContext:
        return _from_options(tls) if hook is None else _called("ssl_context", hook, lambda: _from_options(tls))

    if tls.context_factory is not None:
        return _called("ssl_context_factory", tls.context_factory, config, from_hook)
    context = from_hook()
    if hook is None and context.verify_mode is not ssl.CERT_NONE and not tls.ca_certs:
        raise SettingsError(
            f"cert_reqs={int(tls.cert_reqs)!r} without ca_certs: no certificate of a client could be verified; "
            "set ca_certs to the file of their authority"
        )
    return context


def _called(name: str, function: Callable[..., Any], *arguments: object) -> ssl.SSLContext:
    """The context that a function of the user makes."""
    try:
        context = function(*arguments)
    except SettingsError:
        raise
    except Exception as error:  # Whatever it is, there would be no TLS.
        raise SettingsError(f"{name}={function!r} failed with {error!r}; correct it, or remove it") from error
    if not isinstance(context, ssl.SSLContext):
        raise SettingsError(f"{name}={function!r} returned {context!r}; it must return an ssl.SSLContext")
    return context


def _from_options(tls: TlsOptions) -> ssl.SSLContext:
    for name, path in (("certfile", tls.certfile), ("keyfile", tls.keyfile), ("ca_certs", tls.ca_certs)):
        if path:
            _check_readable(name, path)
    if not tls.certfile:
        raise SettingsError(f"keyfile={tls.keyfile!r} without a certificate; set certfile too")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # RFC 8996 forbids what is older. What a system may have set above that stays.
    if context.minimum_version is not ssl.TLSVersion.TLSv1_3:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    password = tls.keyfile_password
    try:
        # Without a password OpenSSL would ask for it on the terminal.
        context.load_cert_chain(tls.certfile, tls.keyfile, _no_password(tls) if password is None else password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError.
        hint = "the password is wrong, or the files" if password is not None else "these files"
        raise SettingsError(
            f"certfile={tls.certfile!r}, keyfile={tls.keyfile!r}: {error}; "
            f"{hint} are not PEM files of a certificate and of its key"
        ) from None
    if tls.ca_certs:
        try:
            context.load_verify_locations(tls.ca_certs)
        except (OSError, ValueError) as error:
            raise SettingsError(f"ca_certs={tls.ca_certs!r}: {error}; it must hold certificates in PEM form") from None
    try:
        context.verify_mode = ssl.VerifyMode(tls.cert_reqs)
    except ValueError:
        raise SettingsError(
            f"cert_reqs={tls.cert_reqs!r} is none of 0 (no certificate), 1 (optional) and 2 (required)"
        ) from None
    if tls.ciphers:
        try:
            context.set_ciphers(tls.ciphers)
        except ssl.SSLError:
            raise SettingsError(
                f"ciphers={tls.ciphers!r} selects no cipher; 'openssl ciphers' shows which there are"
            ) from None
    setattr(context, _CERTIFICATE, _first_certificate(Path(tls.certfile)))
    return context


def _no_password(tls: TlsOptions) -> Callable[[], NoReturn]:
    def refuse() -> NoReturn:
        raise SettingsError(
            f"keyfile={tls.keyfile or tls.certfile!r} is encrypted and ssl_keyfile_password is not set; "
            "set it, or decrypt the key"
        )

    return refuse


def _check_readable(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except (OSError, ValueError) as error:  # ValueError where no path can be so.
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{name}={path!r}: {reason}; correct the path, or the rights of the file") from None


def _first_certificate(path: Path) -> str | None:
    """The certificate of the server itself, in PEM form, out of the file of its chain."""
    match = _PEM_CERTIFICATE(path.read_text("ascii", "replace"))
    return match[0] + "\n" if match is not None else None


# The ASGI extension


def tls_extension(context: ssl.SSLContext, connection: ssl.SSLObject) -> dict[str, Any]:
    """The content of the `tls` extension of ASGI for a connection whose handshake is done."""
    cipher = connection.cipher()
    return {
        "server_cert": getattr(context, _CERTIFICATE, None),
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(certificate) for certificate in _client_chain(connection)],
        "client_cert_name": _client_name(connection),
        "client_cert_error": None,  # A client whose certificate is wrong gets no further than the handshake.
        "tls_version": _VERSIONS.get(connection.version() or ""),
        "cipher_suite": _cipher_numbers(context).get(cipher[0]) if cipher is not None else None,
    }


def _client_chain(connection: ssl.SSLObject) -> list[bytes]:
    get_chain = getattr(connection, "get_verified_chain", None)
    leaf = connection.getpeercert(binary_form=True)
    if leaf is None:
        return []
    # Before Python 3.13 the rest of the chain is known to OpenSSL only.
    return list(get_chain()) if get_chain is not None else [leaf]


def _client_name(connection: ssl.SSLObject) -> str | None:
    """The subject of the client's certificate as RFC 4514 writes it, last part first."""
    certificate: Any = connection.getpeercert()
    if not certificate:
        return None
    return ",".join(
        "+".join(f"{_SHORT_NAMES.get(name, name)}={_escaped(value)}" for name, value in part)
        for part in reversed(certificate["subject"])
    )


def _escaped(value: str) -> str:
    """RFC 4514 section 2.4."""
    escaped = value.translate(_TO_ESCAPE_IN_NAMES).replace("\0", "\\00")
    if escaped[:1] in ("#", " "):
        escaped = "\\" + escaped
    return escaped[:-1] + "\\ " if len(escaped) > 1 and escaped.endswith(" ") else escaped


@lru_cache(maxsize=8)
def _cipher_numbers(context: ssl.SSLContext) -> dict[str, int]:
    """The numbers of IANA for the cipher suites of a context, by OpenSSL's names."""
    return {cipher["name"]: cipher["id"] & 0xFFFF for cipher in context.get_ciphers()}
