"""Who the client is where trusted proxies stand in between, its scheme, and where it sees the application."""

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import quote

from .asgi_types import Address, Field
from .errors import RemoteProtocolError, SettingsError
from .settings import Settings

_X_FORWARDED_FOR: Final = b"x-forwarded-for"
_SCRIPT_NAME: Final = b"script_name"
_PATH_INFO: Final = b"path_info"

# Of clients, and of the combinations of scheme headers; with values up to this size, which a client may choose.
_MAX_CACHED: Final = 4096
_MAX_CACHED_SCHEMES: Final = 64
_MAX_CACHED_BYTES: Final = 256

# The outer form of a hop. Whether the digits make an address is left to `ipaddress`; what must not get there is a zone
# id (`%` and any text), a length that nothing limits, and digits that are not ASCII.
_HOP: Final = re.compile(
    r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]{2,45})\]|(?P<ipv4>[0-9.]{7,15}))(?::(?P<port>[0-9]{1,5}))?"
    r"|(?P<bare>[0-9A-Fa-f:.]{2,45})"
).fullmatch


class TrustedProxies:
    """Reads what a proxy says of its client, but only from peers that `forwarded_allow_ips` names.

    Raises SettingsError for an entry of `forwarded_allow_ips` that is no address, no network and not `*`.
    """

    __slots__ = (
        "_all",
        "_enabled",
        "_forwarder_names",
        "_header_map",
        "_hops",
        "_known_clients",
        "_known_schemes",
        "_networks",
        "_root_path",
        "_scheme_names",
        "_schemes",
        "_trusted_hosts",
        "header_names",
    )

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.proxy_headers
        self._hops = settings.forwarded_hops
        self._header_map = settings.header_map
        self._forwarder_names = frozenset(settings.forwarder_headers)
        self._root_path = settings.root_path
        self._all = False
        self._networks: list[IPv4Network | IPv6Network] = []
        self._schemes = settings.secure_scheme_headers
        self._scheme_names = tuple(name for name, _ in self._schemes)
        self._trusted_hosts: dict[str, bool] = {}
        self._known_clients: dict[bytes, Address | None] = {}
        self._known_schemes: dict[tuple[bytes | None, ...], bool | None] = {}
        self.header_names = frozenset((_X_FORWARDED_FOR, *self._scheme_names))
        """Lower-case names of the headers that matter here, beside those with an underscore: a request without any of
        them needs no `resolve`."""
        for entry in settings.forwarded_allow_ips:
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
        return self._enabled and (peer is None or peer[1] is None or self._trusts_host(peer[0]))

    def resolve(self, fields: dict[bytes, bytes], client: Address | None, scheme: str) -> tuple[Address | None, str]:
        """Client and scheme of a request from a trusted peer whose own address is `client`.

        Raises RemoteProtocolError(400) when the scheme headers contradict each other.
        """
        forwarded_for = fields.get(_X_FORWARDED_FOR)
        if forwarded_for is not None:
            # Clients come again with every request of theirs, and a list takes 5 us to read.
            known_clients = self._known_clients
            if forwarded_for in known_clients:
                client = known_clients[forwarded_for] or client
            else:
                client = self._new_client(forwarded_for) or client
        values = tuple(map(fields.get, self._scheme_names))
        known_schemes = self._known_schemes
        secure = known_schemes[values] if values in known_schemes else self._new_scheme(values)
        if secure is not None:
            scheme = "https" if secure else "http"
        return client, scheme

    def map_names(self, headers: list[Field], fields: dict[bytes, bytes], trusted: bool) -> None:
        """Treat fields whose names have an underscore as `header_map` says, in place.

        Applications and the environ of CGI take `_` and `-` for the same, so that a client could name a header that a
        proxy in front has taken care of. A trusted peer may send those of `forwarder_headers`.

        Raises RemoteProtocolError(400) where such names are refused.
        """
        if self._header_map == "dangerous":
            return
        allowed = self._forwarder_names if trusted else frozenset[bytes]()
        if b"*" in allowed:
            return
        dropped = {name for name in fields if b"_" in name and name not in allowed}
        if not dropped:
            return
        if self._header_map == "refuse":
            raise RemoteProtocolError(400, "underscore-in-field-name")
        headers[:] = [field for field in headers if field[0] not in dropped]
        for name in dropped:
            del fields[name]

    def mount(
        self, headers: list[Field], fields: dict[bytes, bytes], path: str, raw_path: bytes
    ) -> tuple[str, str, bytes]:
        """Root path, path and raw path of a request from a trusted peer, as its SCRIPT_NAME and PATH_INFO say.

        Raises RemoteProtocolError(400) where one of both is there twice, or is no path.
        """
        root_path = self._root_path
        script_name = self._forwarded_path(_SCRIPT_NAME, headers, fields)
        if script_name is not None:
            root_path = script_name.rstrip("/")
        path_info = self._forwarded_path(_PATH_INFO, headers, fields)
        if path_info is not None:
            path = path_info or root_path or "/"
            raw_path = quote(path).encode("ascii")
        return root_path, path, raw_path

    def _forwarded_path(self, name: bytes, headers: list[Field], fields: dict[bytes, bytes]) -> str | None:
        if name not in fields or not (name in self._forwarder_names or b"*" in self._forwarder_names):
            return None
        # Repeated fields are joined with commas, and a path may have a comma in it.
        if [field_name for field_name, _ in headers].count(name) > 1:
            raise RemoteProtocolError(400, "repeated-forwarder-header")
        path = fields[name].decode("utf-8", "replace")
        # A path that begins with two slashes is a host to a browser that is redirected to it.
        if path and (path[0] != "/" or path[:2] == "//" or not path.isprintable()):
            raise RemoteProtocolError(400, "bad-forwarder-header")
        return path

    def _new_client(self, forwarded_for: bytes) -> Address | None:
        client = self._client(forwarded_for)
        if len(forwarded_for) <= _MAX_CACHED_BYTES:
            if len(self._known_clients) >= _MAX_CACHED:
                self._known_clients.clear()
            self._known_clients[forwarded_for] = client
        return client

    def _new_scheme(self, values: tuple[bytes | None, ...]) -> bool | None:
        secure = self._scheme(values)
        if sum(len(value) for value in values if value) <= _MAX_CACHED_BYTES:
            if len(self._known_schemes) >= _MAX_CACHED_SCHEMES:
                self._known_schemes.clear()
            self._known_schemes[values] = secure
        return secure

    def _client(self, forwarded_for: bytes) -> Address | None:
        """The rightmost address that no trusted proxy has, since all to the left of it may be made up by a client.

        With `*` every proxy is trusted, so the leftmost, unless the number of proxies is known: then each of them has
        added one. None where that place holds no IP address.
        """
        hops = forwarded_for.decode("latin-1").split(",")
        if self._hops is not None:
            return _parse_hop(hops[max(len(hops) - self._hops, 0)].strip(" \t"))
        if self._all:
            return _parse_hop(hops[0].strip(" \t"))
        client: Address | None = None
        for hop in reversed(hops):
            address = _parse_hop(hop.strip(" \t"))
            if address is None:
                return client
            client = address
            if not self._trusts_host(address[0]):
                return client
        return client

    def _scheme(self, values: tuple[bytes | None, ...]) -> bool | None:
        """Whether the values of the scheme headers mean https; None where there are none."""
        secure: bool | None = None
        for (_, secure_value), value in zip(self._schemes, values, strict=True):
            if value is None:
                continue
            # A repeated field arrives here as one list, and each of its members must say the same.
            for member in value.split(b","):
                scheme = member.strip(b" \t")
                # Some proxies name the scheme of a WebSocket: Traefik sends wss.
                is_secure = scheme == secure_value or (scheme == b"wss" and secure_value == b"https")
                if secure is not None and secure is not is_secure:
                    raise RemoteProtocolError(400, "contradicting-scheme-headers")
                secure = is_secure
        return secure

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
