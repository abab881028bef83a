"""Who the client is when trusted proxies stand in between: X-Forwarded-For and the scheme headers."""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from .asgi_types import Address
from .errors import RemoteProtocolError, SettingsError

_X_FORWARDED_FOR: Final = b"x-forwarded-for"
_MAX_CACHED: Final = 4096

# The outer form of a hop. Whether the digits make an address is left to `ipaddress`; what must not get there is a zone
# id (`%` and any text), a length that nothing limits, and digits that are not ASCII.
_HOP: Final = re.compile(
    r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]{2,45})\]|(?P<ipv4>[0-9.]{7,15}))(?::(?P<port>[0-9]{1,5}))?"
    r"|(?P<bare>[0-9A-Fa-f:.]{2,45})"
).fullmatch


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
        """Whether `peer` may speak for others. One on a unix socket has no address and is trusted, as in Gunicorn."""
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
            if name not in fields:
                continue
            # A repeated field arrives here as one list, and each of its members must say the same.
            for member in fields[name].split(b","):
                is_secure = member.strip(b" \t") == secure_value
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
            address = _parse_hop(hop.strip(" \t"))
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
    match = _HOP(hop)
    if match is None:
        return None
    host = match["bracketed"] or match["ipv4"] or match["bare"]
    port = int(match["port"] or "0")
    if port > 65535 or _ip_version(host) != (4 if match["ipv4"] else 6):
        return None
    return host, port


@lru_cache(maxsize=_MAX_CACHED)  # `ipaddress` needs 2 us, for clients that come again with every request.
def _ip_version(host: str) -> int | None:
    """4 or 6; None where `host` is no IP address."""
    try:
        return ip_address(host).version
    except ValueError:
        return None
