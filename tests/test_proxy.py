"""Whose forwarding headers are believed, and what is made of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_asgi.asgi_types import Address
from gunicorn_asgi.errors import RemoteProtocolError, SettingsError
from gunicorn_asgi.proxy import TrustedProxies
from gunicorn_asgi.settings import HeadLimits
from gunicorn_asgi.wire.http1_httptools import HttptoolsFieldParser
from tests.support.heads import read_request_head

# The defaults of Gunicorn.
SECURE_SCHEMES = [(b"x-forwarded-protocol", b"ssl"), (b"x-forwarded-proto", b"https"), (b"x-forwarded-ssl", b"on")]
PEER: Address = ("10.0.0.1", 4711)


def proxies(*allowed: str) -> TrustedProxies:
    return TrustedProxies(allowed, SECURE_SCHEMES)


def client_of(forwarded_for: str | bytes, *allowed: str, peer: Address | None = PEER) -> Address | None:
    value = forwarded_for if isinstance(forwarded_for, bytes) else forwarded_for.encode("latin-1")
    client, scheme = proxies(*allowed).resolve({b"x-forwarded-for": value}, peer, "http")
    assert scheme == "http"
    return client


def scheme_of(headers: list[tuple[bytes, bytes]], scheme: str = "http") -> str:
    """The scheme of a request with these header fields, as a connection finds it out."""
    lines = [b"GET / HTTP/1.1", b"Host: a", *(name + b": " + value for name, value in headers)]
    head = read_request_head(b"\r\n".join([*lines, b"", b""]), HttptoolsFieldParser(), HeadLimits())
    client, scheme = proxies("10.0.0.1").resolve(head.fields, PEER, scheme)
    assert client == PEER
    return scheme


# Trust


@pytest.mark.parametrize("allowed", [(), ("127.0.0.1",), ("*",)])
@pytest.mark.parametrize("peer", [None, ("/run/app.sock", None), ("", None)])
def test_a_peer_on_a_unix_socket_is_always_trusted(allowed: tuple[str, ...], peer: Address | None) -> None:
    assert proxies(*allowed).trusts(peer)


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        (("127.0.0.1",), "127.0.0.1"),
        (("192.0.2.1", "127.0.0.1"), "127.0.0.1"),
        (("10.0.0.0/8",), "10.255.0.1"),
        (("10.1.2.3/8",), "10.255.0.1"),
        (("0.0.0.0/0",), "203.0.113.9"),
        (("::1",), "::1"),
        (("2001:db8::/32",), "2001:db8:1::1"),
        (("2001:DB8::0001",), "2001:db8:0::1"),
        (("127.0.0.1",), "::ffff:127.0.0.1"),
        (("10.0.0.0/8",), "::ffff:10.1.2.3"),
        (("*",), "203.0.113.9"),
        (("*",), "2001:db8::1"),
        (("127.0.0.1", "*"), "203.0.113.9"),
    ],
)
def test_a_peer_in_forwarded_allow_ips_is_trusted(allowed: tuple[str, ...], host: str) -> None:
    trusted = proxies(*allowed)
    for _ in range(2):
        assert trusted.trusts((host, 1234))


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ((), "127.0.0.1"),
        (("127.0.0.1",), "127.0.0.2"),
        (("127.0.0.1",), "::1"),
        (("10.0.0.0/8",), "11.0.0.1"),
        (("::1",), "::2"),
        (("::1",), "127.0.0.1"),
        (("2001:db8::/32",), "2001:db9::1"),
        (("0.0.0.0/0",), "2001:db8::1"),
        (("127.0.0.1",), "::ffff:127.0.0.2"),
        (("127.0.0.1",), "localhost"),
        (("127.0.0.1",), ""),
    ],
)
def test_any_other_peer_is_not_trusted(allowed: tuple[str, ...], host: str) -> None:
    trusted = proxies(*allowed)
    for _ in range(2):
        assert not trusted.trusts((host, 1234))


def test_trust_is_right_for_more_hosts_than_any_cache_holds() -> None:
    trusted = proxies("10.0.0.0/24")
    for number in range(5000):
        assert trusted.trusts((f"10.0.{number // 256}.{number % 256}", 1)) is (number < 256)


@pytest.mark.parametrize(
    "entry", ["", "localhost", "proxy.example", "10.0.0", "10.0.0.0/33", "[::1]", "10.0.0.1:80", "**", " ", "10.0.0.*"]
)
def test_an_entry_that_is_no_address_is_refused_at_boot(entry: str) -> None:
    with pytest.raises(SettingsError) as error:
        proxies("127.0.0.1", entry)
    assert "forwarded_allow_ips" in str(error.value)
    assert repr(entry) in str(error.value)


def test_the_headers_that_matter_are_known_in_advance() -> None:
    assert proxies().header_names == {
        *(b"x-forwarded-for", b"x-forwarded-protocol", b"x-forwarded-proto", b"x-forwarded-ssl"),
    }


# X-Forwarded-For


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        pytest.param("192.0.2.7", ("192.0.2.7", 0), id="one"),
        pytest.param("192.0.2.7, 10.0.0.2", ("192.0.2.7", 0), id="behind one more proxy"),
        pytest.param("192.0.2.7, 10.0.0.3, 10.0.0.2", ("192.0.2.7", 0), id="behind two more proxies"),
        pytest.param("203.0.113.1, 192.0.2.7", ("192.0.2.7", 0), id="made up by the client"),
        pytest.param("10.0.0.9, 192.0.2.7, 10.0.0.2", ("192.0.2.7", 0), id="a made-up proxy"),
        pytest.param("10.0.0.3, 10.0.0.2", ("10.0.0.3", 0), id="a client among the proxies"),
        pytest.param("192.0.2.7,10.0.0.2", ("192.0.2.7", 0), id="no space"),
        pytest.param(" 192.0.2.7 \t,\t10.0.0.2 ", ("192.0.2.7", 0), id="white space"),
        pytest.param("192.0.2.7, ::ffff:10.0.0.2", ("192.0.2.7", 0), id="mapped proxy"),
        pytest.param("192.0.2.7:5678", ("192.0.2.7", 5678), id="port"),
        pytest.param("192.0.2.7:5678, 10.0.0.2:80", ("192.0.2.7", 5678), id="port behind a proxy with one"),
        pytest.param("192.0.2.7:0", ("192.0.2.7", 0), id="port 0"),
        pytest.param("192.0.2.7:65535", ("192.0.2.7", 65535), id="highest port"),
        pytest.param("2001:db8::7", ("2001:db8::7", 0), id="IPv6"),
        pytest.param("[2001:db8::7]", ("2001:db8::7", 0), id="IPv6 in brackets"),
        pytest.param("[2001:db8::7]:5678", ("2001:db8::7", 5678), id="IPv6 with port"),
        pytest.param("[2001:db8::7]:5678, [fd00::2]:80, 10.0.0.2", ("2001:db8::7", 5678), id="IPv6 proxy"),
        pytest.param("2001:db8::7:5678", ("2001:db8::7:5678", 0), id="IPv6 that looks like a port"),
    ],
)
def test_the_client_is_the_first_untrusted_hop_from_the_right(forwarded_for: str, client: Address) -> None:
    assert client_of(forwarded_for, "10.0.0.0/8", "fd00::/8") == client


@pytest.mark.parametrize("peer", [None, ("/run/app.sock", None)])
def test_a_proxy_on_a_unix_socket_names_the_client(peer: Address | None) -> None:
    assert client_of("203.0.113.1, 192.0.2.7", peer=peer) == ("192.0.2.7", 0)


GARBAGE = [
    *[
        "",
        "unknown",
        "_hidden",
        "example.org",
        "localhost",
        "-",
        "*",
        "192.0.2",
        "192.0.2.256",
        "0x7f.0.0.1",
        "192.0.2.07",
    ],
    *["192.0.2.7:", "192.0.2.7:x", "192.0.2.7:-1", "192.0.2.7:+1", "192.0.2.7: 80", "192.0.2.7:65536", "192.0.2.7:1_0"],
    *["192.0.2.7:\xb2", "192.0.2.7:80:80", "192.0.2.7/24", "192.0.2.7 192.0.2.8", "192.0.2.7;x", '"192.0.2.7"', ":80"],
    *[
        "[",
        "[]",
        "[]:80",
        "[::1",
        "::1]",
        "[::1]80",
        "[::1]x",
        "[::1]:",
        "[::1]:x",
        "[::1]:65536",
        "[[::1]]",
        "[192.0.2.7]",
    ],
    *[
        "::g",
        ":::",
        "1:2:3:4:5:6:7:8:9",
        "fe80::1%eth0",
        "[fe80::1%eth0]:80",
        'fe80::1%" 200 -',
        "caf\xe9",
        "\x85",
        "\xa0192.0.2.8",
        "\x00",
    ],
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_no_address_and_ends_the_walk(garbage: str) -> None:
    assert client_of(garbage, "10.0.0.0/8") == PEER
    assert client_of(f"192.0.2.7, {garbage}", "10.0.0.0/8") == PEER
    assert client_of(f"192.0.2.7, {garbage}, 10.0.0.2", "10.0.0.0/8") == ("10.0.0.2", 0)
    assert client_of(f"{garbage}, 192.0.2.7", "10.0.0.0/8") == ("192.0.2.7", 0)


@pytest.mark.parametrize("hop", ["192.0.2.7:%s", "[::1]:%s", "%s", "192.0.2.%s"])
def test_a_very_long_number_is_garbage(hop: str) -> None:
    """int() raises ValueError above 4300 digits, which a header field has room for."""
    assert client_of(hop % ("9" * 5000), "10.0.0.0/8") == PEER


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        ("192.0.2.7", ("192.0.2.7", 0)),
        ("203.0.113.1, 192.0.2.7, 10.0.0.2", ("203.0.113.1", 0)),
        ("[2001:db8::7]:5678, 192.0.2.7", ("2001:db8::7", 5678)),
    ],
)
def test_with_an_asterisk_the_client_is_the_leftmost_hop(forwarded_for: str, client: Address) -> None:
    assert client_of(forwarded_for, "*") == client
    assert client_of(forwarded_for, "127.0.0.1", "*") == client


@pytest.mark.parametrize("garbage", GARBAGE)
def test_with_an_asterisk_garbage_on_the_left_leaves_the_peer(garbage: str) -> None:
    assert client_of(f"{garbage}, 192.0.2.7", "*") == PEER


def test_repeated_fields_are_one_list() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 10.0.0.2\r\n\r\n"
    fields = read_request_head(data, HttptoolsFieldParser(), HeadLimits()).fields
    assert proxies("10.0.0.0/8").resolve(fields, PEER, "http") == (("192.0.2.7", 0), "http")


def test_without_forwarding_headers_client_and_scheme_stay() -> None:
    for scheme in ("http", "https"):
        assert proxies("10.0.0.1").resolve({b"host": b"a"}, PEER, scheme) == (PEER, scheme)


untrusted = st.one_of(st.ip_addresses(network="203.0.113.0/24"), st.ip_addresses(network="2001:db8::/32")).map(str)


@settings(max_examples=200)
@given(host=untrusted, port=st.integers(0, 65535), before=st.lists(st.text("0123456789abcdef.:[],% ", max_size=20)))
def test_what_stands_left_of_an_untrusted_hop_never_matters(host: str, port: int, before: list[str]) -> None:
    literal = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    assert client_of(", ".join([*before, literal, "10.0.0.2"]), "10.0.0.2") == (host, port)


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=60), st.text("0123456789abcdef.:[],% ", max_size=60).map(str.encode)))
def test_no_header_raises_anything(forwarded_for: bytes) -> None:
    for allowed in ("10.0.0.0/8", "*"):
        client = client_of(forwarded_for, allowed)
        assert client is not None
        assert all(character in "0123456789abcdefABCDEF.:" for character in client[0])


# Scheme


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [
        ([(b"X-Forwarded-Proto", b"https")], "https"),
        ([(b"X-Forwarded-Proto", b"http")], "http"),
        ([(b"X-Forwarded-Proto", b"ftp")], "http"),
        ([(b"X-Forwarded-Proto", b"")], "http"),
        ([(b"X-Forwarded-Protocol", b"ssl")], "https"),
        ([(b"X-Forwarded-Ssl", b"on")], "https"),
        ([(b"X-Forwarded-Ssl", b"off")], "http"),
        ([(b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Ssl", b"on"), (b"X-Forwarded-Protocol", b"ssl")], "https"),
        ([(b"X-Forwarded-Proto", b"http"), (b"X-Forwarded-Ssl", b"off")], "http"),
        ([(b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Proto", b"https")], "https"),
        ([(b"X-Forwarded-Proto", b"https,https")], "https"),
        ([(b"X-Forwarded-Proto", b"http, ftp")], "http"),
        ([(b"X-Scheme", b"https")], "http"),
    ],
)
def test_the_scheme_is_what_the_secure_scheme_headers_say(headers: list[tuple[bytes, bytes]], scheme: str) -> None:
    assert scheme_of(headers) == scheme


def test_a_header_may_say_that_the_client_came_in_clear() -> None:
    assert scheme_of([(b"X-Forwarded-Proto", b"http")], "https") == "http"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Ssl", b"off")],
        [(b"X-Forwarded-Proto", b"http"), (b"X-Forwarded-Protocol", b"ssl")],
        [(b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Ssl", b"on"), (b"X-Forwarded-Protocol", b"tcp")],
        [(b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Proto", b"http")],
        [(b"X-Forwarded-Proto", b"http"), (b"X-Forwarded-Proto", b"https")],
        [(b"X-Forwarded-Proto", b"https, http")],
        [(b"X-Forwarded-Proto", b"https,")],
    ],
)
def test_contradicting_scheme_headers_are_400(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        scheme_of(headers)
    assert refusal.value.status == 400


def test_client_and_scheme_are_found_together() -> None:
    fields = {b"x-forwarded-for": b"192.0.2.7", b"x-forwarded-proto": b"https"}
    assert proxies("10.0.0.1").resolve(fields, PEER, "http") == (("192.0.2.7", 0), "https")
