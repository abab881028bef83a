"""Who the client is when trusted proxies stand in between: X-Forwarded-For and the scheme headers."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from .asgi_types import Address
from .errors import RemoteProtocolError, SettingsError

_X_FORWARDED_FOR: Final = b"x-forwarded-for"
_MAX_CACHED: Final = 4096


class TrustedProxies:
    """Reads forwarding headers, but only from peers that `forwarded_allow_ips` names.

    `allowed` holds addresses, networks or `*`. `secure_schemes` are pairs of lower-case header name and the value that
    means https. Raises SettingsError for an entry of `allowed` that is none of these.
    """

    __slots__ = ("_all", "_networks", "_schemes", "_trusted_hosts", "header_names")

    def __init__(self, allowed: Iterable[str], secure_schemes: Iterable[tuple[bytes, bytes]]) -> None:
        self._all = False
        self._networks: list[IPv4Network | IPv6Network] = []
        self._schemes = tuple(secure_schemes)
        self._trusted_hosts: dict[str, bool] = {}
        self.header_names = frozenset((_X_FORWARDED_FOR, *(name for name, _ in self._schemes)))
        """Lower-case names of all headers that matter here; a request without them needs no `resolve`."""
        for entry in allowed:
            if entry == "*":
                self._all = True
                continue
            try:
                self._networks.append(ip_network(entry, strict=False))
            except ValueError:
                raise SettingsError(
                    f"forwarded_allow_ips: {entry!r} is not an IP address, a network or '*'; correct or remove it"
                ) from None

    def trusts(self, peer: Address | None) -> bool:
        """Whether `peer` may speak for others. A peer on a unix socket has no address and is trusted, as in Gunicorn."""
        return peer is None or peer[1] is None or self._trusts_host(peer[0])

    def resolve(self, fields: dict[bytes, bytes], client: Address | None, scheme: str) -> tuple[Address | None, str]:
        """Client and scheme of a request from a trusted peer whose own address is `client`.

        Raises RemoteProtocolError(400) when the scheme headers contradict each other.
        """
        forwarded_for = fields.get(_X_FORWARDED_FOR)
        if forwarded_for is not None:
            client = self._client(forwarded_for) or client
        secure: bool | None = None
        for name, secure_value in self._schemes:
            value = fields.get(name)
            if value is not None:
                is_secure = value == secure_value
                if secure is not None and secure is not is_secure:
                    raise RemoteProtocolError(400, "contradicting-scheme-headers")
                secure = is_secure
        if secure is not None:
            scheme = "https" if secure else "http"
        return client, scheme

    def _client(self, forwarded_for: bytes) -> Address | None:
        """The rightmost address that no trusted proxy has, since all to the left of it may be made up by a client.

        With `*` every proxy is trusted, so the leftmost. None where that place holds no IP address.
        """
        hops = forwarded_for.decode("latin-1").split(",")
        client: Address | None = None
        for hop in hops[:1] if self._all else reversed(hops):
            address = _parse_hop(hop.strip())
            if address is None:
                return client
            client = address
            if not self._all and not self._trusts_host(address[0]):
                return client
        return client

    def _trusts_host(self, host: str) -> bool:
        if self._all:
            return True
        trusted = self._trusted_hosts.get(host)
        if trusted is None:
            try:
                address = ip_address(host)
            except ValueError:
                return False
            # A dual-stack listener shows IPv4 peers as ::ffff:a.b.c.d; the operator writes a.b.c.d.
            address = getattr(address, "ipv4_mapped", None) or address
            trusted = any(address in network for network in self._networks)
            if len(self._trusted_hosts) >= _MAX_CACHED:
                self._trusted_hosts.clear()
            self._trusted_hosts[host] = trusted
        return trusted


def _parse_hop(hop: str) -> Address | None:
    """Address and port (0 where none is given) of `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]` or `[::1]:5`."""
    host, port = hop, "0"
    if hop.startswith("["):
        host, _, rest = hop[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else rest or "0"
    elif hop.count(":") == 1:
        host, _, port = hop.partition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        return None
    try:
        ip_address(host)
    except ValueError:
        return None
    return host, int(port)
