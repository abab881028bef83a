"""Who the client is where trusted proxies stand in between, its scheme, and where it sees the application."""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from operator import itemgetter
from typing import Any, Final, TypeAlias

from .asgi_types import Address, Field
from .errors import RemoteProtocolError, SettingsError
from .option_kinds import read_root_path
from .settings import Settings

_X_FORWARDED_FOR: Final = b"x-forwarded-for"
_SCRIPT_NAME: Final = b"script_name"

_MAX_CACHED_HOSTS: Final = 4096

# What is kept of names and values that clients choose is bounded in number and in size.
_MAX_CACHED_SHAPES: Final = 1024
_MAX_CACHED_NAMES: Final = 40
_MAX_CACHED_NAMES_BYTES: Final = 1024
_MAX_CACHED_ORIGINS: Final = 4096
_MAX_CACHED_VALUES_BYTES: Final = 256

# The outer form of a hop. Whether the digits make an address is left to `ipaddress`; what must not get there is a zone
# id (`%` and any text), a length that nothing limits, and digits that are not ASCII.
_HOP: Final = re.compile(
    r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]{2,45})\]|(?P<ipv4>[0-9.]{7,15}))(?::(?P<port>[0-9]{1,5}))?"
    r"|(?P<bare>[0-9A-Fa-f:.]{2,45})"
).fullmatch


class AllowedPeers:
    """Addresses, networks or `*` of a setting.

    Raises SettingsError, which names `setting`, for an entry that is none of these.
    """

    __slots__ = ("_known_hosts", "_networks", "all")

    def __init__(self, setting: str, entries: Iterable[str]) -> None:
        self.all = False
        """Whether `*` is among them."""
        self._networks: list[IPv4Network | IPv6Network] = []
        self._known_hosts: dict[str, bool] = {}
        for entry in entries:
            if entry == "*":
                self.all = True
                continue
            try:
                self._networks.append(_without_mapping(ip_network(entry, strict=False)))
            except ValueError:
                raise SettingsError(
                    f"{setting}: {entry!r} is not an IP address, a network or '*'; correct or remove it"
                ) from None

    def allows(self, host: str) -> bool:
        """Whether `host`, an IP address, is among them."""
        if self.all:
            return True
        allowed = self._known_hosts.get(host)
        if allowed is None:
            try:
                address = ip_address(host)
            except ValueError:
                return False
            # A dual-stack listener shows IPv4 peers so.
            address = getattr(address, "ipv4_mapped", None) or address
            allowed = any(address in network for network in self._networks)
            if len(self._known_hosts) >= _MAX_CACHED_HOSTS:
                self._known_hosts.clear()
            self._known_hosts[host] = allowed
        return allowed


def _without_mapping(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """The IPv4 network where `network` is written as those of a dual-stack listener are: ::ffff:10.0.0.0/104."""
    address = network.network_address
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None and network.prefixlen >= 96:
        return IPv4Network((address.ipv4_mapped, network.prefixlen - 96))
    return network


Origins: TypeAlias = dict[Any, tuple[Address | None, str | None]]
"""Client and scheme by the values of the fields that tell them."""


class FieldShape:
    """Which names in a request are of interest here. Clients send the same names again and again."""

    __slots__ = ("has_underscore", "names", "origins", "values")

    def __init__(self, has_underscore: bool, names: tuple[bytes, ...], origins: Origins) -> None:
        self.has_underscore = has_underscore
        self.names = names
        """Of the fields that tell client and scheme, those that are there."""
        self.values: Callable[[dict[bytes, bytes]], Any] = itemgetter(*names) if names else _nothing
        self.origins = origins
        """What their values were found to tell."""


def _nothing(fields: dict[bytes, bytes]) -> None:
    return None


Shapes: TypeAlias = dict[tuple[bytes, ...], FieldShape | None]
"""By the names of all fields; None where none of them is of interest."""

UNSEEN: Final = FieldShape(True, (), {})
"""The shape of a request whose names have not been seen before."""


class TrustedProxies:
    """Reads what a proxy says of its client, but only from peers that `forwarded_allow_ips` names.

    Raises SettingsError for an entry of `forwarded_allow_ips` that is no address, no network and not `*`.
    """

    __slots__ = (
        "_allowed",
        "_forwarder_names",
        "_header_map",
        "_hops",
        "_origins",
        "_root_path",
        "_schemes",
        "header_names",
        "trusted_shapes",
        "untrusted_shapes",
    )

    def __init__(self, settings: Settings) -> None:
        self._hops = settings.forwarded_hops
        self._header_map = settings.header_map
        self._forwarder_names = frozenset(settings.forwarder_headers)
        self._root_path = settings.root_path
        self._allowed = AllowedPeers("forwarded_allow_ips", settings.forwarded_allow_ips)
        self._schemes = settings.secure_scheme_headers
        self.header_names = frozenset((_X_FORWARDED_FOR, *(name for name, _ in self._schemes)))
        """Lower-case names of the headers that tell client and scheme."""
        self._origins: dict[tuple[bytes, ...], Origins] = {}
        self.trusted_shapes: Shapes = {}
        self.untrusted_shapes: Shapes = {}

    def trusts(self, peer: Address | None) -> bool:
        """Whether `peer` is in `forwarded_allow_ips`. One on a unix socket has no address and is trusted, as in
        Gunicorn."""
        return peer is None or peer[1] is None or self._allowed.allows(peer[0])

    def new_shape(self, fields: dict[bytes, bytes], trusted: bool) -> "FieldShape | None":
        """What the names of `fields` mean, kept in `trusted_shapes` or `untrusted_shapes` for the next such request."""
        names = b"".join(fields)
        present = tuple(sorted(self.header_names.intersection(fields))) if trusted else ()
        has_underscore = b"_" in names
        shape = None
        if has_underscore or present:
            shape = FieldShape(has_underscore, present, self._origins.setdefault(present, {}))
        if len(fields) <= _MAX_CACHED_NAMES and len(names) <= _MAX_CACHED_NAMES_BYTES:
            shapes = self.trusted_shapes if trusted else self.untrusted_shapes
            if len(shapes) >= _MAX_CACHED_SHAPES:
                shapes.clear()
            shapes[tuple(fields)] = shape
        return shape

    def resolve(
        self, shape: "FieldShape", fields: dict[bytes, bytes], client: Address | None, scheme: str
    ) -> tuple[Address | None, str]:
        """Client and scheme of a request from a trusted peer whose own address is `client`.

        Raises RemoteProtocolError(400) when the scheme headers contradict each other.
        """
        values = shape.values(fields)
        origin = shape.origins.get(values)
        if origin is None:
            origin = self._new_origin(shape, fields)
            if sum(len(fields[name]) for name in shape.names) <= _MAX_CACHED_VALUES_BYTES:
                if len(shape.origins) >= _MAX_CACHED_ORIGINS:
                    shape.origins.clear()
                shape.origins[values] = origin
        forwarded_client, forwarded_scheme = origin
        return forwarded_client or client, forwarded_scheme or scheme

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

    def root_path(self, headers: list[Field], fields: dict[bytes, bytes]) -> str:
        """The root path of a request from a trusted peer, as its SCRIPT_NAME says.

        PATH_INFO never takes the place of the path, as in Gunicorn: a proxy that passes on what its client sends would
        let the client choose another path than the one that the proxy has looked at.

        Raises RemoteProtocolError(400) where it is there twice, or is no path.
        """
        if _SCRIPT_NAME not in fields or not self._forwarder_names & {_SCRIPT_NAME, b"*"}:
            return self._root_path
        # Repeated fields are joined with commas, and a path may have a comma in it.
        if [name for name, _ in headers].count(_SCRIPT_NAME) > 1:
            raise RemoteProtocolError(400, "repeated-forwarder-header")
        try:
            return read_root_path(fields[_SCRIPT_NAME].decode("utf-8", "replace"))
        except ValueError:
            raise RemoteProtocolError(400, "bad-forwarder-header") from None

    def _new_origin(self, shape: "FieldShape", fields: dict[bytes, bytes]) -> tuple[Address | None, str | None]:
        client = None
        if _X_FORWARDED_FOR in fields:
            client = self._client(fields[_X_FORWARDED_FOR])
        return client, self._scheme(fields)

    def _client(self, forwarded_for: bytes) -> Address | None:
        """The rightmost address that no trusted proxy has, since all to the left of it may be made up by a client.

        With `*` every proxy is trusted, so the leftmost, unless the number of proxies is known: then each of them has
        added one. None where that place holds no IP address.
        """
        hops = forwarded_for.decode("latin-1").split(",")
        if self._hops is not None:
            return _parse_hop(hops[max(len(hops) - self._hops, 0)].strip(" \t"))
        if self._allowed.all:
            return _parse_hop(hops[0].strip(" \t"))
        client: Address | None = None
        for hop in reversed(hops):
            address = _parse_hop(hop.strip(" \t"))
            if address is None:
                return client
            client = address
            if not self._allowed.allows(address[0]):
                return client
        return client

    def _scheme(self, fields: dict[bytes, bytes]) -> str | None:
        """The scheme that the scheme headers name; None where there are none."""
        schemes: set[str] = set()
        for name, secure_value in self._schemes:
            if name not in fields:
                continue
            # A repeated field arrives here as one list, and each of its members must say the same.
            for member in fields[name].split(b","):
                value = member.strip(b" \t")
                # Some proxies name the scheme of a WebSocket: Traefik sends wss.
                is_secure = value == secure_value or (value == b"wss" and secure_value == b"https")
                schemes.add("https" if is_secure else "http")
        if len(schemes) > 1:
            raise RemoteProtocolError(400, "contradicting-scheme-headers")
        return schemes.pop() if schemes else None


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


@lru_cache(maxsize=_MAX_CACHED_HOSTS)  # `ipaddress` needs 2 us, for clients that come again with every request.
def _ip_version(host: str) -> int | None:
    """4 or 6; None where `host` is no IP address."""
    try:
        return ip_address(host).version
    except ValueError:
        return None
