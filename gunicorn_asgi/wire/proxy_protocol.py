"""The PROXY protocol, versions 1 and 2: who the client is, told by a proxy before the first byte of that client.

The specification is HAProxy's doc/proxy-protocol.txt. Behind the preamble begins whatever the client sends, TLS for
example, so the reader says at each moment how many bytes are still sure to belong to the preamble. Who reads no more
than these at a time leaves the rest on the socket.
"""

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal, NamedTuple

from ..asgi_types import Address
from ..errors import RemoteProtocolError

Version = Literal["v1", "v2", "auto"]

MAX_V1_BYTES: Final = 107
"""Section 2.1: the longest line with its CRLF."""

MAX_V2_BYTES: Final = 4096
"""Addresses take at most 216 bytes. What follows are TLVs, which nobody here reads; a proxy that passes on a client's
certificate needs 2 to 3 KiB."""

_V1_START: Final = b"PROXY "
_V2_START: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED_BYTES: Final = 16
_UNKNOWN: Final = b"PROXY UNKNOWN"
_V1_FIELDS: Final = 6

_V1: Final = re.compile(
    rb"PROXY (?P<family>TCP[46]) (?P<source>[0-9A-Fa-f:.]{2,39}) (?P<destination>[0-9A-Fa-f:.]{2,39})"
    rb" (?P<source_port>0|[1-9][0-9]{0,4}) (?P<destination_port>0|[1-9][0-9]{0,4})\r\n"
).fullmatch
_V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n").fullmatch

_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
# AF_UNSPEC, AF_INET, AF_INET6 and AF_UNIX, each with any, stream and datagram.
_FAMILIES: Final = frozenset(family << 4 | kind for family in range(4) for kind in range(3))


class Relayed(NamedTuple):
    """What a preamble says of the connection that it begins."""

    is_local: bool
    """Whether the proxy itself wants something, such as to know whether the server lives."""

    client: Address | None
    """Whom the proxy speaks for; None if it does not say, or for itself."""


class PreambleReader:
    """Reads the preamble of one connection."""

    __slots__ = ("_data", "_length", "_starts", "needed")

    def __init__(self, version: Version) -> None:
        self._data = b""
        self._length = 0
        self._starts = {"v1": (_V1_START,), "v2": (_V2_START,), "auto": (_V1_START, _V2_START)}[version]
        self.needed = len(_V2_START)
        """Bytes, at least 1, that belong to the preamble beyond those that were fed."""

    def feed(self, data: bytes) -> Relayed | None:
        """Take up to `needed` bytes more. What they tell once they are all there.

        Raises RemoteProtocolError(400) for anything but a preamble of the right version.
        """
        data = self._data = self._data + data
        if not any(start.startswith(data) or data.startswith(start) for start in self._starts):
            raise RemoteProtocolError(400, "no-proxy-preamble")
        if len(data) < len(_V2_START):
            self.needed = len(_V2_START) - len(data)
            return None
        return self._feed_v1(data) if data.startswith(_V1_START) else self._feed_v2(data)

    def _feed_v1(self, line: bytes) -> Relayed | None:
        if line.endswith(b"\r\n"):
            return _read_v1(line)
        if b"\n" in line or b"\r" in line[:-1] or len(line) >= MAX_V1_BYTES:
            raise RemoteProtocolError(400, "bad-proxy-preamble")
        if line.endswith(b"\r"):
            self.needed = 1
        elif _UNKNOWN.startswith(line):
            self.needed = len(_UNKNOWN) - len(line) + 2
        elif line.startswith(_UNKNOWN):
            self.needed = 2
        else:
            # A space and a character for each field to come, then CRLF.
            fields = len(line.split(b" "))
            self.needed = 2 * max(_V1_FIELDS - fields, 0) + 2
        return None

    def _feed_v2(self, data: bytes) -> Relayed | None:
        if len(data) < _V2_FIXED_BYTES:
            self.needed = _V2_FIXED_BYTES - len(data)
            return None
        if not self._length:
            self._length = _V2_FIXED_BYTES + int.from_bytes(data[14:16], "big")
            if self._length > MAX_V2_BYTES:
                raise RemoteProtocolError(400, "proxy-preamble-too-long")
        if len(data) < self._length:
            self.needed = self._length - len(data)
            return None
        return _read_v2(data)


def _read_v1(line: bytes) -> Relayed:
    if _V1_UNKNOWN(line):
        return Relayed(is_local=False, client=None)
    match = _V1(line)
    if match is None:
        raise RemoteProtocolError(400, "bad-proxy-preamble")
    version = 4 if match["family"] == b"TCP4" else 6
    hosts = [match["source"].decode("ascii"), match["destination"].decode("ascii")]
    ports = [int(match["source_port"]), int(match["destination_port"])]
    try:
        fits = all(ip_address(host).version == version for host in hosts)
    except ValueError:
        fits = False
    if not fits or max(ports) > 65535:
        raise RemoteProtocolError(400, "bad-proxy-preamble")
    return Relayed(is_local=False, client=(hosts[0], ports[0]))


def _read_v2(data: bytes) -> Relayed:
    command, family, length = struct.unpack_from("!BBH", data, len(_V2_START))
    if command == _LOCAL:
        return Relayed(is_local=True, client=None)
    if command != _PROXY or family not in _FAMILIES:
        raise RemoteProtocolError(400, "bad-proxy-preamble")
    host_bytes = {_TCP4: 4, _TCP6: 16}.get(family)
    if host_bytes is None:
        # A unix socket of another machine, or a datagram, is no address of a client of HTTP.
        return Relayed(is_local=False, client=None)
    if length < 2 * host_bytes + 4:
        raise RemoteProtocolError(400, "bad-proxy-preamble")
    host = data[_V2_FIXED_BYTES : _V2_FIXED_BYTES + host_bytes]
    (port,) = struct.unpack_from("!H", data, _V2_FIXED_BYTES + 2 * host_bytes)
    address = IPv4Address(host) if host_bytes == 4 else IPv6Address(host)
    return Relayed(is_local=False, client=(str(address), port))
