"""The PROXY protocol: preambles byte by byte, and never a byte of what follows them."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_asgi.errors import RemoteProtocolError
from gunicorn_asgi.wire.proxy_protocol import PreambleReader, Relayed, Version

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
BEHIND = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def v2(command: int, family: int, content: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(content)) + content


def inet(source: str, port: int, tlvs: bytes = b"") -> bytes:
    family, code = (socket.AF_INET6, 0x21) if ":" in source else (socket.AF_INET, 0x11)
    destination = "2001:db8::1" if ":" in source else "198.51.100.1"
    hosts = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    return v2(0x21, code, hosts + struct.pack("!HH", port, 443) + tlvs)


def read(data: bytes, version: Version = "auto", step: int = 10_000) -> tuple[Relayed | None, bytes]:
    """What a preamble says, and what was left unread; fed as a socket gives it that gets `step` bytes at a time."""
    reader = PreambleReader(version)
    relayed = None
    while relayed is None and data:
        assert reader.needed >= 1
        size = min(reader.needed, step)
        relayed = reader.feed(data[:size])
        data = data[size:]
    return relayed, data


def client(host: str, port: int) -> Relayed:
    return Relayed(is_local=False, client=(host, port))


HIDDEN = Relayed(is_local=False, client=None)
LOCAL = Relayed(is_local=True, client=None)

LONGEST = b":".join([b"ffff"] * 8)
V1 = [
    (b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n", client("203.0.113.7", 56324)),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 0 0\r\n", client("1.1.1.1", 0)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", client("255.255.255.255", 65535)),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n", client("2001:db8::7", 56324)),
    (b"PROXY TCP6 :: ::1 1 2\r\n", client("::", 1)),
    (b"PROXY TCP6 " + b" ".join([LONGEST] * 2) + b" 65535 65535\r\n", client(LONGEST.decode(), 65535)),
    (b"PROXY UNKNOWN\r\n", HIDDEN),
    (b"PROXY UNKNOWN " + b" ".join([LONGEST] * 2) + b" 65535 65535\r\n", HIDDEN),
    (b"PROXY UNKNOWN  what ever\r\n", HIDDEN),
]  # fmt: skip
V2 = [
    (inet("203.0.113.7", 56324), client("203.0.113.7", 56324)),
    (inet("2001:db8::7", 65535), client("2001:db8::7", 65535)),
    (inet("203.0.113.7", 1, b"\x04\x00\x05abcde" * 100), client("203.0.113.7", 1)),
    (v2(0x20, 0, b""), LOCAL),
    (v2(0x20, 0x11, b"x" * 12), LOCAL),
    (v2(0x21, 0, b""), HIDDEN),
    (v2(0x21, 0, b"x" * 50), HIDDEN),
    (v2(0x21, 0x31, b"/run/client".ljust(108, b"\0") * 2), HIDDEN),
    (v2(0x21, 0x12, b"x" * 12), HIDDEN),
]


@pytest.mark.parametrize("behind", [b"", BEHIND, b"\x16\x03\x01", b"\r\n", b"\n"])
@pytest.mark.parametrize("step", [1, 2, 3, 10_000])
@pytest.mark.parametrize(
    ("data", "relayed", "version"), [(*case, "v1") for case in V1] + [(*case, "v2") for case in V2]
)
def test_a_preamble_is_read_and_nothing_behind_it(
    data: bytes, relayed: Relayed, version: Version, step: int, behind: bytes
) -> None:
    assert read(data + behind, version, step) == (relayed, behind)
    assert read(data + behind, "auto", step) == (relayed, behind)


@pytest.mark.parametrize(("data", "version"), [(case[0], "v2") for case in V1] + [(case[0], "v1") for case in V2])
def test_the_other_version_is_refused(data: bytes, version: Version) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        read(data, version)
    assert refusal.value.status == 400


@pytest.mark.parametrize("version", ["v1", "v2", "auto"])
@pytest.mark.parametrize("data", [BEHIND, b"G", b"\x16\x03\x01\x02\x00", b"proxy TCP4 ", b"PROXZ", b"\r\n\r\nX", b"\n"])
def test_what_is_no_preamble_is_refused_with_its_first_wrong_byte(data: bytes, version: Version) -> None:
    for step in (1, 100):
        with pytest.raises(RemoteProtocolError) as refusal:
            read(data, version, step)
        assert (refusal.value.status, refusal.value.reason) == (400, "no-proxy-preamble")


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443 1\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 56324\r\n",
        b"PROXY TCP4  203.0.113.7 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443 \r\n",
        b"PROXY TCP4 203.0.113.256 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100 56324 443\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 56324 443\r\n",
        b"PROXY TCP6 203.0.113.7 198.51.100.1 56324 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 2001:db8::1 56324 443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 65536 443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 1 65536\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 01 443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 -1 443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 +1 443\r\n",
        b"PROXY UDP4 203.0.113.7 198.51.100.1 1 443\r\n",
        b"PROXY tcp4 203.0.113.7 198.51.100.1 1 443\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 1 443\n" + BEHIND,
        b"PROXY TCP4 203.0.113.7 198.51.100.1 1 443\rGET ",
        b"PROXY UNKNOWN\n" + BEHIND,
        b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
        b"PROXY TCP4 " + b"1" * 200,
    ],
)
def test_a_wrong_line_is_refused(line: bytes) -> None:
    for step in (1, 100):
        with pytest.raises(RemoteProtocolError) as refusal:
            read(line, "v1", step)
        assert refusal.value.status == 400


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(v2(0x11, 0x11, b"x" * 12), id="version 1"),
        pytest.param(v2(0x22, 0x11, b"x" * 12), id="unknown command"),
        pytest.param(v2(0x21, 0x41, b"x" * 12), id="unknown family"),
        pytest.param(v2(0x21, 0x13, b"x" * 12), id="unknown transport"),
        pytest.param(v2(0x21, 0x11, b"x" * 11), id="too short for IPv4"),
        pytest.param(v2(0x21, 0x21, b"x" * 35), id="too short for IPv6"),
        pytest.param(v2(0x21, 0x11, b"x" * 4081), id="too long"),
        pytest.param(v2(0x20, 0x00, b"x" * 65535), id="much too long"),
    ],
)
def test_a_wrong_block_is_refused(data: bytes) -> None:
    for step in (1, 100):
        with pytest.raises(RemoteProtocolError) as refusal:
            read(data, "v2", step)
        assert refusal.value.status == 400


def test_the_longest_block_is_read() -> None:
    assert read(inet("203.0.113.7", 1, b"x" * (4096 - 28)), "v2") == (client("203.0.113.7", 1), b"")


@pytest.mark.parametrize("data", [case[0] for case in V1 + V2])
def test_an_unfinished_preamble_says_nothing(data: bytes) -> None:
    assert read(data[:-1])[0] is None


@given(
    st.binary(max_size=300)
    | st.binary(max_size=80).map(SIGNATURE.__add__)
    | st.binary(max_size=90).map(b"PROXY ".__add__)
)
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    outcomes = []
    for step in (1, 7, 10_000):
        try:
            relayed, rest = read(data, "auto", step)
            outcomes.append((relayed, len(rest)))
        except RemoteProtocolError:
            outcomes.append((None, -1))
    assert outcomes[0] == outcomes[1] == outcomes[2]
