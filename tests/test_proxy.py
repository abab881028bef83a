"""Whose forwarding headers are believed, and what is made of them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_asgi import options
from gunicorn_asgi.asgi_types import Address, Field
from gunicorn_asgi.errors import RemoteProtocolError, SettingsError
from gunicorn_asgi.proxy import UNSEEN, TrustedProxies
from gunicorn_asgi.settings import HeadLimits, Settings
from gunicorn_asgi.wire.http1_httptools import HttptoolsFieldParser
from tests.support.heads import read_request_head

# The defaults of Gunicorn.
SECURE_SCHEMES = ((b"x-forwarded-protocol", b"ssl"), (b"x-forwarded-proto", b"https"), (b"x-forwarded-ssl", b"on"))
PEER: Address = ("10.0.0.1", 4711)


def proxies(*allowed: str, **settings: Any) -> TrustedProxies:
    return TrustedProxies(Settings(forwarded_allow_ips=allowed, secure_scheme_headers=SECURE_SCHEMES, **settings))


def resolve(
    trusted: TrustedProxies, fields: dict[bytes, bytes], client: Address | None = PEER, scheme: str = "http"
) -> tuple[Address | None, str]:
    """As a connection does it that has a trusted peer."""
    shape = trusted.trusted_shapes.get(tuple(fields), UNSEEN)
    if shape is UNSEEN:
        shape = trusted.new_shape(fields, trusted=True)
    return (client, scheme) if shape is None else trusted.resolve(shape, fields, client, scheme)


def client_of(
    forwarded_for: str | bytes, *allowed: str, peer: Address | None = PEER, hops: int | None = None
) -> Address | None:
    value = forwarded_for if isinstance(forwarded_for, bytes) else forwarded_for.encode("latin-1")
    trusted = proxies(*allowed, forwarded_hops=hops)
    client, scheme = resolve(trusted, {b"x-forwarded-for": value}, peer)
    assert scheme == "http"
    assert resolve(trusted, {b"x-forwarded-for": value}, peer) == (client, scheme), "the second time it is known"
    return client


def scheme_of(headers: list[tuple[bytes, bytes]], scheme: str = "http") -> str:
    """The scheme of a request with these header fields, as a connection finds it out."""
    lines = [b"GET / HTTP/1.1", b"Host: a", *(name + b": " + value for name, value in headers)]
    head = read_request_head(b"\r\n".join([*lines, b"", b""]), HttptoolsFieldParser(), HeadLimits())
    client, scheme = resolve(proxies("10.0.0.1"), head.fields, PEER, scheme)
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
        (("::ffff:127.0.0.1",), "::ffff:127.0.0.1"),
        (("::ffff:127.0.0.1",), "127.0.0.1"),
        (("::ffff:10.0.0.0/104",), "::ffff:10.1.2.3"),
        (("::ffff:0:0/96",), "203.0.113.9"),
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
        (("::ffff:127.0.0.1",), "127.0.0.2"),
        (("::ffff:10.0.0.0/104",), "11.0.0.1"),
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


def test_requests_with_the_same_names_are_told_apart_by_who_sends_them() -> None:
    trusted = proxies("10.0.0.1")
    fields = {b"host": b"a", b"x-forwarded-for": b"192.0.2.7"}
    for _ in range(2):
        assert trusted.new_shape(fields, trusted=False) is None
        shape = trusted.new_shape(fields, trusted=True)
        assert shape is not None
        assert (shape.names, shape.has_underscore) == ((b"x-forwarded-for",), False)


def test_shapes_are_right_for_more_names_than_any_cache_holds() -> None:
    trusted = proxies("10.0.0.1")
    for number in range(3000):
        name = b"x-%d" % number
        assert trusted.new_shape({b"host": b"a", name: b""}, trusted=True) is None
        assert trusted.new_shape({b"host": b"a", name + b"_": b""}, trusted=True) is not None
    assert trusted.new_shape({b"x" * 5000 + b"_": b""}, trusted=False) is not None
    assert len(trusted.trusted_shapes) <= 1024
    assert not trusted.untrusted_shapes, "long names are not kept"


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
    assert resolve(proxies("10.0.0.0/8"), fields) == (("192.0.2.7", 0), "http")


def test_without_forwarding_headers_client_and_scheme_stay() -> None:
    for scheme in ("http", "https"):
        assert resolve(proxies("10.0.0.1"), {b"host": b"a"}, PEER, scheme) == (PEER, scheme)


def test_a_new_client_is_not_taken_for_a_known_one() -> None:
    trusted = proxies("10.0.0.0/8")
    for number in [*range(5000), *range(5)]:
        host = f"192.0.{number // 256}.{number % 256}"
        assert resolve(trusted, {b"x-forwarded-for": host.encode()}) == ((host, 0), "http")


@pytest.mark.parametrize("allowed", ["*", "10.0.0.1", "0.0.0.0/0"])
@pytest.mark.parametrize(
    ("hops", "forwarded_for", "client"),
    [
        pytest.param(1, "203.0.113.1, 192.0.2.7", ("192.0.2.7", 0), id="one proxy"),
        pytest.param(2, "203.0.113.1, 192.0.2.7, 198.51.100.2", ("192.0.2.7", 0), id="two proxies"),
        pytest.param(2, "198.51.100.2", ("198.51.100.2", 0), id="past the outer proxy"),
        pytest.param(2, "192.0.2.7:80, unknown", ("192.0.2.7", 80), id="only the place of the client matters"),
        pytest.param(1, "192.0.2.7, unknown", PEER, id="garbage in the place of the client"),
        pytest.param(9, "", PEER, id="empty"),
    ],
)
def test_the_number_of_proxies_tells_where_the_client_is(
    allowed: str, hops: int, forwarded_for: str, client: Address
) -> None:
    assert client_of(forwarded_for, allowed, hops=hops) == client


@given(
    made_up=st.lists(st.text("0123456789abcdef.:[],% ", max_size=20)),
    hops=st.integers(1, 4),
    proxy_addresses=st.lists(st.ip_addresses(v=4).map(str), min_size=3, max_size=3),
)
def test_with_a_number_of_proxies_what_a_client_makes_up_never_matters(
    made_up: list[str], hops: int, proxy_addresses: list[str]
) -> None:
    chain = ["192.0.2.7", *proxy_addresses[: hops - 1]]
    assert client_of(", ".join([*made_up, *chain]), "*", hops=hops) == ("192.0.2.7", 0)


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
        ([(b"X-Forwarded-Proto", b"wss")], "https"),
        ([(b"X-Forwarded-Proto", b"ws")], "http"),
        ([(b"X-Forwarded-Proto", b"wss"), (b"X-Forwarded-Ssl", b"on")], "https"),
        ([(b"X-Forwarded-Ssl", b"wss")], "http"),
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
    for _ in range(2):
        with pytest.raises(RemoteProtocolError) as refusal:
            scheme_of(headers)
        assert refusal.value.status == 400


def test_client_and_scheme_are_found_together() -> None:
    fields = {b"x-forwarded-for": b"192.0.2.7", b"x-forwarded-proto": b"https"}
    assert resolve(proxies("10.0.0.1"), fields) == (("192.0.2.7", 0), "https")


# Names with an underscore


def mapped(*names: bytes, trusted: bool, **settings: Any) -> list[bytes]:
    """The names of the header fields that are left."""
    headers: list[Field] = [(name, b"value") for name in names]
    fields = dict(headers)
    proxies(**settings).map_names(headers, fields, trusted)
    assert list(fields) == list(dict(headers))
    return [name for name, _ in headers]


@pytest.mark.parametrize("trusted", [True, False])
def test_fields_with_an_underscore_are_left_out(trusted: bool) -> None:
    assert mapped(b"host", b"x_a", b"x-a", b"_", b"x_a", trusted=trusted) == [b"host", b"x-a"]


@pytest.mark.parametrize("trusted", [True, False])
def test_fields_with_an_underscore_are_refused_on_request(trusted: bool) -> None:
    assert mapped(b"host", b"x-a", trusted=trusted, header_map="refuse") == [b"host", b"x-a"]
    with pytest.raises(RemoteProtocolError) as refusal:
        mapped(b"host", b"x_a", trusted=trusted, header_map="refuse")
    assert refusal.value.status == 400


@pytest.mark.parametrize("trusted", [True, False])
def test_fields_with_an_underscore_are_kept_on_request(trusted: bool) -> None:
    assert mapped(b"host", b"x_a", trusted=trusted, header_map="dangerous") == [b"host", b"x_a"]


@pytest.mark.parametrize("header_map", ["drop", "refuse"])
def test_a_trusted_peer_may_send_the_forwarder_headers(header_map: str) -> None:
    names = (b"host", b"script_name", b"path_info")
    assert mapped(*names, trusted=True, header_map=header_map) == list(names)
    assert mapped(*names, b"x_a", trusted=True, header_map=header_map, forwarder_headers=(b"*",)) == [*names, b"x_a"]


def test_others_may_not_send_the_forwarder_headers() -> None:
    names = (b"host", b"script_name", b"path_info", b"remote_user")
    assert mapped(*names, trusted=False) == [b"host"]
    assert mapped(*names, trusted=False, forwarder_headers=(b"*",)) == [b"host"]
    assert mapped(*names, trusted=True, forwarder_headers=(b"remote_user",)) == [b"host", b"remote_user"]


# SCRIPT_NAME


def root_path(*headers: Field, **settings: Any) -> str:
    return proxies(**{"root_path": "/from-settings", **settings}).root_path(list(headers), dict(headers))


def test_without_forwarder_headers_the_root_path_is_that_of_the_settings() -> None:
    assert root_path() == "/from-settings"
    assert root_path((b"script-name", b"/app")) == "/from-settings"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"/app", "/app"), (b"/app/", "/app"), (b"/", ""), (b"", ""), (b"/a/b", "/a/b"), (b"/caf\xc3\xa9", "/caf\xe9")],
)
def test_script_name_is_the_root_path(value: bytes, expected: str) -> None:
    assert root_path((b"script_name", value)) == expected
    assert root_path((b"script_name", value), forwarder_headers=(b"*",)) == expected


@pytest.mark.parametrize(
    "value",
    [
        *[b"app", b"//app", b"//", b"/a//b", b"/app//", b"/a\tb", b"http://example.org/", b"*"],
        *[b"/\\evil.example", b"/a\\b", b"/a?b", b"/a#b"],
    ],
)
def test_what_is_no_path_is_refused(value: bytes) -> None:
    """Neither in a header nor as an option."""
    with pytest.raises(SettingsError, match="expected a path"):
        options.read("root_path", value.decode(), "environment")
    with pytest.raises(RemoteProtocolError) as refusal:
        root_path((b"script_name", value))
    assert refusal.value.status == 400


def test_a_repeated_script_name_is_refused() -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        root_path((b"script_name", b"/a"), (b"host", b"a"), (b"script_name", b"/a"))
    assert refusal.value.status == 400


def test_a_script_name_that_is_not_allowed_means_nothing() -> None:
    """It is a plain field where `header_map` lets it through."""
    assert root_path((b"script_name", b"/app"), forwarder_headers=(), header_map="dangerous") == "/from-settings"
