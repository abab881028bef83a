"""Certificates for tests: an authority, a server, and clients that are known to it or not."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

PASSWORD: Final = "the pass phrase"


@dataclass(frozen=True)
class CertificateFiles:
    """A certificate with its chain and its key, as files."""

    chain: Path
    key: Path
    encrypted_key: Path
    """The same key, with `PASSWORD`."""

    @property
    def options(self) -> tuple[str, ...]:
        """For the command line of gunicorn."""
        return "--certfile", str(self.chain), "--keyfile", str(self.key)


class Certificates:
    """An authority, and what it has issued, in files below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = trustme.CA()
        self.authority = directory / "authority.pem"
        """The certificate of the authority."""
        self._authority.cert_pem.write_to_path(self.authority)
        self.server = self.issue("localhost")

    def issue(self, name: str) -> CertificateFiles:
        """A certificate for a host or a person."""
        issued = self._authority.issue_cert(name)
        stem = name.partition("@")[0]
        files = CertificateFiles(
            self._directory / f"{stem}.pem",
            self._directory / f"{stem}.key",
            self._directory / f"{stem}.encrypted.key",
        )
        files.chain.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(files.key)
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        encryption = BestAvailableEncryption(PASSWORD.encode("ascii"))
        files.encrypted_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return files

    def client(self, *, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """A context of a client that knows the authority; `alpn` are the protocols that it offers."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def known_client(self, name: str = "someone@example.org") -> ssl.SSLContext:
        """A context of a client that has a certificate of its own."""
        context = self.client()
        files = self.issue(name)
        context.load_cert_chain(files.chain, files.key)
        return context
