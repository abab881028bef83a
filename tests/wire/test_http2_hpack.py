"""Header compression (RFC 7541) against the examples of the RFC, the `hpack` library, and each error."""

from collections.abc import Iterable

import hpack
import hpack.huffman_constants
import hpack.table
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_asgi.asgi_types import Field
from gunicorn_asgi.wire import http2_hpack, http2_huffman
from gunicorn_asgi.wire.http2_hpack import (
    STATIC_TABLE,
    HeaderDecoder,
    HeaderEncoder,
    HeaderListTooLarge,
    HpackError,
    encode_integer,
)
from gunicorn_asgi.wire.http2_response import Http2ResponseEncoder

DATE_21 = b"Mon, 21 Oct 2013 20:13:21 GMT"
DATE_22 = b"Mon, 21 Oct 2013 20:13:22 GMT"
GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
GET_HTTPS = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/index.html"),
    (b":authority", b"www.example.com"),
]
REQUESTS = [GET, [*GET, (b"cache-control", b"no-cache")], [*GET_HTTPS, (b"custom-key", b"custom-value")]]
LOCATION = (b"location", b"https://www.example.com")
COOKIE = (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1")
RESPONSES = [
    [(b":status", b"302"), (b"cache-control", b"private"), (b"date", DATE_21), LOCATION],
    [(b":status", b"307"), (b"cache-control", b"private"), (b"date", DATE_21), LOCATION],
    [
        (b":status", b"200"),
        (b"cache-control", b"private"),
        (b"date", DATE_22),
        LOCATION,
        (b"content-encoding", b"gzip"),
        COOKIE,
    ],
]

# RFC 7541 appendix C: example, size of the table, blocks, lists.
EXAMPLES: list[tuple[str, int, list[str], list[list[Field]]]] = [
    ("C.2.1", 4096, ["400a637573746f6d2d6b65790d637573746f6d2d686561646572"], [[(b"custom-key", b"custom-header")]]),
    ("C.2.2", 4096, ["040c2f73616d706c652f70617468"], [[(b":path", b"/sample/path")]]),
    ("C.2.3", 4096, ["100870617373776f726406736563726574"], [[(b"password", b"secret")]]),
    ("C.2.4", 4096, ["82"], [[(b":method", b"GET")]]),
    (
        "C.3",
        4096,
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        REQUESTS,
    ),
    (
        "C.4",
        4096,
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
        REQUESTS,
    ),
    (
        "C.5",
        256,
        [
            (
                "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768"
                "747470733a2f2f7777772e6578616d706c652e636f6d"
            ),
            "4803333037c1c0bf",
            (
                "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153"
                "444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e"
                "3d31"
            ),
        ],
        RESPONSES,
    ),
    (
        "C.6",
        256,
        [
            (
                "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8"
                "e9ae82ae43d3"
            ),
            "4883640effc1c0bf",
            (
                "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b"
                "3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"
            ),
        ],
        RESPONSES,
    ),
]

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=40).map(str.encode)
values = st.one_of(
    st.binary(max_size=40), st.text("abcdefghijklmnopqrstuvwxyz=/; 0123456789", max_size=200).map(str.encode)
)
known_names = st.sampled_from([name for name, _ in STATIC_TABLE[1:]])
header_fields = st.one_of(
    st.sampled_from(STATIC_TABLE[1:]), st.tuples(st.one_of(names, known_names), values), st.tuples(known_names, values)
)
lists = st.lists(st.lists(header_fields, max_size=12), min_size=1, max_size=6)


def decoder(max_table_bytes: int = 4096, max_list_bytes: int = 65536) -> HeaderDecoder:
    return HeaderDecoder(max_table_bytes, max_list_bytes=max_list_bytes)


def as_field(header: Iterable[object]) -> Field:
    name, value = header
    assert isinstance(name, bytes)
    assert isinstance(value, bytes)
    return name, value


def decode_with_library(library: hpack.Decoder, block: bytes) -> list[Field]:
    return [as_field(header) for header in library.decode(block, raw=True)]


def test_tables_are_those_of_the_rfc() -> None:
    assert STATIC_TABLE[1:] == hpack.table.HeaderTable.STATIC_TABLE
    assert http2_huffman.codes() == [
        f"{code:0{length}b}"
        for code, length in zip(
            hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH, strict=True
        )
    ]


@pytest.mark.parametrize(("table_bytes", "blocks", "expected"), [e[1:] for e in EXAMPLES], ids=[e[0] for e in EXAMPLES])
def test_examples_of_the_rfc(table_bytes: int, blocks: list[str], expected: list[list[Field]]) -> None:
    ours = decoder(table_bytes)
    assert [ours.decode(bytes.fromhex(block)) for block in blocks] == expected


@pytest.mark.parametrize(
    ("value", "bits", "encoded"), [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a"), (30, 5, "1e"), (31, 5, "1f00")]
)
def test_integers_are_encoded_as_in_appendix_c_1(value: int, bits: int, encoded: str) -> None:
    assert encode_integer(value, bits, 0) == bytes.fromhex(encoded)


@settings(deadline=None, max_examples=50)
@given(lists, st.booleans(), st.lists(st.sampled_from([0, 64, 128, 4096]), min_size=6, max_size=6))
def test_decodes_what_the_library_encodes(
    header_lists: list[list[Field]], huffman: bool, table_sizes: list[int]
) -> None:
    library, ours = hpack.Encoder(), decoder()
    for headers, size in zip(header_lists, table_sizes, strict=False):
        library.header_table_size = size
        assert ours.decode(library.encode(headers, huffman=huffman)) == headers


@settings(deadline=None, max_examples=50)
@given(lists, st.sampled_from([0, 100, 4096, 65536]))
def test_the_library_decodes_what_is_encoded(header_lists: list[list[Field]], table_bytes: int) -> None:
    library = hpack.Decoder(2**24)
    library.max_allowed_table_size = table_bytes
    ours = HeaderEncoder()
    ours.set_max_table_bytes(table_bytes)
    for headers in header_lists:
        for _ in range(3):  # New, repeated, known.
            assert decode_with_library(library, ours.encode(headers)) == headers


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_block_is_decoded_as_by_the_library_or_refused(block: bytes) -> None:
    """The library knows some rules less than the RFC; it never refuses what is decoded here."""
    library, ours = hpack.Decoder(2**24), decoder(max_list_bytes=2**24)
    try:
        fields = ours.decode(block)
    except HpackError:
        return
    assert decode_with_library(library, block) == fields


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_huffman_both_ways(data: bytes) -> None:
    assert http2_huffman.decode(http2_huffman.encode(data)) == data


@pytest.mark.parametrize("symbol", range(256))
def test_huffman_code_of_each_symbol_at_each_bit(symbol: int) -> None:
    for before in range(8):  # `0` has 5 bits, so that each start of a byte is met.
        data = b"0" * before + bytes((symbol,)) * 3
        assert http2_huffman.decode(http2_huffman.encode(data)) == data


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("80", "index 0"),
        ("be", "beyond the table"),
        ("ff80808001", "beyond the table"),
        ("ff8080808001", "28 bits"),
        ("ffffffffff7f", "28 bits"),
        ("ff", "cut off"),
        ("ff80", "cut off"),
        ("7e0161", "beyond the table"),
        ("3e", "over SETTINGS_HEADER_TABLE_SIZE"),
        ("3fe21f", "over SETTINGS_HEADER_TABLE_SIZE"),
        ("823fe11f", "behind a field"),
        ("8220", "behind a field"),
        ("40", "cut off"),
        ("4001", "beyond the block"),
        ("400161", "cut off"),
        ("40016102", "beyond the block"),
        ("4001610261", "beyond the block"),
        ("00016181", "beyond the block"),
        ("0001617f", "cut off"),
        ("0001617f8080808001", "28 bits"),
        ("00016181ff", "padding"),  # Eight bits of padding.
        ("000161821fff", "padding"),  # `a` and eleven bits of padding.
        ("0001618118", "padding"),  # Zeros as padding.
        ("00016184ffffffff", "EOS"),
        ("00016184fffffffc", "EOS"),
        ("0081ff0161", "padding"),
    ],
)
def test_errors(block: str, reason: str) -> None:
    with pytest.raises(HpackError, match=reason):
        decoder(16).decode(bytes.fromhex(block))


def test_size_updates_at_the_start_of_a_block() -> None:
    ours = decoder(256)
    assert ours.decode(bytes.fromhex("3fe101203fe1014001610162")) == [(b"a", b"b")]
    assert ours.decode(b"\xbe") == [(b"a", b"b")]
    assert ours.decode(b"\x20") == []
    with pytest.raises(HpackError):
        ours.decode(b"\xbe")


def test_a_size_of_exactly_the_setting_is_allowed() -> None:
    assert decoder(4096).decode(bytes.fromhex("3fe11f82")) == [(b":method", b"GET")]


def test_entries_are_evicted_from_the_oldest_on() -> None:
    ours = decoder(3 * 34)
    ours.decode(b"\x40\x01a\x011\x40\x01b\x012\x40\x01c\x013")
    assert ours.decode(b"\xbe\xbf\xc0") == [(b"c", b"3"), (b"b", b"2"), (b"a", b"1")]
    ours.decode(b"\x40\x01d\x014")
    assert ours.decode(b"\xbe\xbf\xc0") == [(b"d", b"4"), (b"c", b"3"), (b"b", b"2")]
    with pytest.raises(HpackError):
        ours.decode(b"\xc1")


def test_an_entry_larger_than_the_table_empties_it() -> None:
    """RFC 7541 section 4.4."""
    ours = decoder(64)
    ours.decode(b"\x40\x01a\x011")
    assert ours.decode(b"\x40\x01b\x28" + 40 * b"x") == [(b"b", 40 * b"x")]
    with pytest.raises(HpackError):
        ours.decode(b"\xbe")


def test_a_new_entry_may_take_its_name_from_one_that_it_evicts() -> None:
    """RFC 7541 section 4.4."""
    ours = decoder(34)
    ours.decode(b"\x40\x01a\x011")
    assert ours.decode(b"\x7e\x012") == [(b"a", b"2")]
    assert ours.decode(b"\xbe") == [(b"a", b"2")]


def test_a_repeated_block_means_what_the_table_makes_of_it() -> None:
    ours = decoder()
    ours.decode(b"\x40\x01a\x011")
    first = ours.decode(b"\xbe")
    assert ours.decode(b"\xbe") is first
    ours.decode(b"\x40\x01b\x012")
    assert ours.decode(b"\xbe") == [(b"b", b"2")]
    assert ours.decode(b"\xbe") == [(b"b", b"2")]
    ours.decode(b"\x20")
    with pytest.raises(HpackError):
        ours.decode(b"\xbe")


@pytest.mark.parametrize("repetition", [1, 20, 2000])
def test_too_large_a_list_leaves_the_decoder_usable(repetition: int) -> None:
    ours = decoder(max_list_bytes=2000)
    assert ours.decode(b"\x40\x01a" + encode_integer(512, 7, 0) + 512 * b"x") == [(b"a", 512 * b"x")]
    assert ours.decode(b"\xbe\xbe\xbe") == 3 * [(b"a", 512 * b"x")]
    with pytest.raises(HeaderListTooLarge):
        ours.decode(b"\xbe\xbe\xbe\xbe" * repetition + b"\x40\x01b\x012")
    assert ours.decode(b"\xbe") == [(b"b", b"2")]


@settings(deadline=None, max_examples=50)
@given(lists, st.integers(0, 600))
def test_the_limit_of_a_list_is_exact(header_lists: list[list[Field]], limit: int) -> None:
    library, ours = hpack.Encoder(), decoder(max_list_bytes=limit)
    for headers in header_lists:
        block = library.encode(headers)
        if sum(len(name) + len(value) + 32 for name, value in headers) > limit:
            with pytest.raises(HeaderListTooLarge):
                ours.decode(block)
        else:
            assert ours.decode(block) == headers


def test_a_block_of_indexes_of_a_large_entry_costs_no_memory() -> None:
    """The "HPACK bomb": 16 KiB that stand for 64 MiB."""
    ours = decoder()
    ours.decode(b"\x40\x01a" + encode_integer(3967, 7, 0) + 3967 * b"x")
    with pytest.raises(HeaderListTooLarge):
        ours.decode(16384 * b"\xbe")
    assert ours.decode(b"\xbe") == [(b"a", 3967 * b"x")]


def test_fields_that_are_not_valid_are_noticed_out_of_the_table_too() -> None:
    asked = []

    def is_valid(name: bytes, value: bytes) -> bool:
        asked.append((name, value))
        return name == name.lower()

    ours = HeaderDecoder(max_list_bytes=65536, is_valid_field=is_valid)
    for block, malformed in [
        (b"\x82", False),
        (b"\x40\x01a\x011", False),
        (b"\xbe", False),
        (b"\x82\x40\x01B\x012", True),
        (b"\xbe", True),
        (b"\xbe", True),
        (b"\xbf", False),
        (b"\x00\x01B\x013", True),
        (b"\x82\xbf", False),
    ]:
        ours.decode(block)
        assert ours.malformed is malformed
    assert asked == [(b"a", b"1"), (b"B", b"2"), (b"B", b"3")]


@pytest.mark.parametrize(
    "name", [b"authorization", b"cookie", b"set-cookie", b"proxy-authorization", b"www-authenticate"]
)
def test_secrets_are_never_indexed(name: bytes) -> None:
    """RFC 7541 section 7.1.3."""
    ours = HeaderEncoder()
    for _ in range(3):
        block = ours.encode([(name, b"secret")])
        assert block[0] & 0xF0 == 0x10
        [header] = hpack.Decoder().decode(block, raw=True)
        assert type(header) is hpack.NeverIndexedHeaderTuple
        assert as_field(header) == (name, b"secret")


def test_a_repeated_field_becomes_shorter() -> None:
    ours, field = HeaderEncoder(), (b"x-repeated", b"aaaaaaaaaaaaaaaaaaaaaaaa")
    first, second, third = (ours.encode([field]) for _ in range(3))
    assert len(first) > len(second) == len(third)
    assert HeaderEncoder().encode([field]) == second


def test_caches_of_the_encoder_are_bounded() -> None:
    ours, library = HeaderEncoder(), hpack.Decoder()
    for number in range(3000):
        fields = [(b":status", b"200"), (b"x-id", b"%d" % number)]
        for _ in range(3):
            assert decode_with_library(library, ours.encode(fields)) == fields
        ours.encode([(b"x-once", b"%d" % number)])
    assert len(http2_hpack._encoded) <= 1024
    assert len(http2_hpack._seen_once) <= 1024


@pytest.mark.parametrize("table_bytes", [0, 1, 4095])
def test_a_client_with_a_small_table_is_told_that_none_is_used(table_bytes: int) -> None:
    """RFC 7541 section 4.2, and a client that insists on it."""
    ours, library = HeaderEncoder(), hpack.Decoder()
    assert decode_with_library(library, ours.encode([(b"a", b"1")])) == [(b"a", b"1")]
    ours.set_max_table_bytes(table_bytes)
    library.max_allowed_table_size = table_bytes
    blocks = [ours.encode([(b":status", b"200"), (b"a", value)]) for value in (b"1", b"2")]
    for block, value in zip(reversed(blocks), (b"2", b"1"), strict=True):  # In whichever order they are sent.
        assert decode_with_library(library, block) == [(b":status", b"200"), (b"a", value)]


@given(
    paths=st.lists(st.binary(max_size=200), min_size=2, max_size=8),
    fields=st.lists(st.tuples(st.sampled_from([b"a", b"b", b":path", b"x-y"]), st.binary(max_size=20)), max_size=4),
    inserted=st.booleans(),
)
def test_a_changed_path_is_what_decoding_finds(
    paths: list[bytes], fields: list[tuple[bytes, bytes]], inserted: bool
) -> None:
    """The short way, on whichever blocks, against a decoder that does not know it."""
    short, long = HeaderDecoder(max_list_bytes=1000), HeaderDecoder(max_list_bytes=1000)
    encoder = HeaderEncoder()
    taken = 0
    for number, path in enumerate(paths):
        block = encoder.encode([(b":method", b"GET"), (b":path", path), *fields])
        if inserted and number == 1:
            block += b"\x40\x01i\x011"
        changed = short.changed_path(block) if short.path_room >= 0 else None
        try:
            expected = long.decode(block)
        except HeaderListTooLarge:
            assert changed is None
            expected = None
        if changed is not None:
            taken += 1
            before = [field for field in short.last_fields if field[0] == b":path"][-1]
            index = len(short.last_fields) - 1 - short.last_fields[::-1].index(before)
            assert expected == [*short.last_fields[:index], (b":path", changed), *short.last_fields[index + 1 :]]
        elif expected is not None:
            assert short.decode(block) == expected
        else:
            with pytest.raises(HeaderListTooLarge):
                short.decode(block)
    if not fields and not inserted and all(1 < len(path) < 60 for path in paths):
        assert taken >= len(paths) - 2


def test_what_is_repeated_in_responses_becomes_shorter() -> None:
    """Also beside a field that each response has of its own, which stays plain."""
    encoder = Http2ResponseEncoder(b"a-server-with-a-name")
    encoder.set_date(b"Fri, 27 Nov 2026 22:45:52 GMT")
    fields = ((b"content-type", b"application/x-never-seen"), (b"x-frame-options", b"a-value-never-seen"))
    block, sizes = b"", []
    for number in range(10, 15):
        own = (b"etag", b"%d-abcdefghijklmnopqrstuvwxyz" % number)
        block, _, _ = encoder.encode(200, (*fields, own))
        assert HeaderDecoder(max_list_bytes=65536).decode(block)[-3:] == [*fields, own]
        assert own[1] in block
        assert b"a-server-with-a-name" not in block
        assert b"Nov" not in block
        sizes.append(len(block))
    assert sizes[1:] == [sizes[1]] * 4
    assert sizes[1] < sizes[0] - 15
