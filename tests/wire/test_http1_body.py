"""Bodies of HTTP/1 requests, taken out of their framing (RFC 9112 sections 6 and 7).

Each case is fed whole, byte by byte, and with the next request behind it.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_asgi.errors import RemoteProtocolError
from gunicorn_asgi.settings import HeadLimits
from gunicorn_asgi.wire.http1_body import (
    MAX_CHUNK_LINE_BYTES,
    MAX_EXTENSION_BYTES,
    BodyDecoder,
    ChunkedBody,
    LengthBody,
    body_decoder,
)
from gunicorn_asgi.wire.http1_request import CHUNKED

DEFAULT = HeadLimits()
NEXT_REQUEST = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"

Read = Callable[[BodyDecoder, bytes], bytes]


def feed_pieces(decoder: BodyDecoder, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Content and rest: what a connection makes of bytes that arrive in these pieces."""
    content = b""
    for position, piece in enumerate(pieces):
        content += decoder.feed(piece)
        if decoder.complete:
            return content, decoder.rest + b"".join(pieces[position + 1 :])
        assert decoder.rest == b""
    return content, b""


@pytest.fixture(params=["whole", "byte by byte", "with the next request behind it"])
def read(request: pytest.FixtureRequest) -> Read:
    """Feed a decoder in one of the three ways and return the content, having checked what is left."""

    def read(decoder: BodyDecoder, data: bytes) -> bytes:
        if request.param == "byte by byte":
            content, rest = feed_pieces(decoder, [data[i : i + 1] for i in range(len(data))])
            assert rest == b""
        elif request.param == "whole":
            content, rest = feed_pieces(decoder, [data])
            assert rest == b""
        else:
            content, rest = feed_pieces(decoder, [data + NEXT_REQUEST])
            assert rest == NEXT_REQUEST
        assert decoder.complete
        return content

    return read


def status_of(read: Read, data: bytes, limits: HeadLimits = DEFAULT) -> int:
    """The status code that a chunked body is refused with."""
    with pytest.raises(RemoteProtocolError) as refusal:
        read(ChunkedBody(limits), data)
    return refusal.value.status


# Content-Length


@pytest.mark.parametrize("content", [b"a", b"hello", bytes(range(256)), b"0\r\n\r\n"])
def test_a_length_body_ends_after_its_length(read: Read, content: bytes) -> None:
    assert read(body_decoder(len(content), DEFAULT), content) == content


def test_a_length_body_is_complete_no_sooner_than_its_last_byte() -> None:
    decoder = LengthBody(3)
    assert decoder.feed(b"ab") == b"ab"
    assert not decoder.complete
    assert decoder.feed(b"c") == b"c"
    assert decoder.complete


def test_a_length_body_may_be_as_long_as_a_content_length() -> None:
    decoder = LengthBody(2**63 - 1)
    assert decoder.feed(b"a" * 1000) == b"a" * 1000
    assert not decoder.complete


def test_the_decoder_follows_the_length_of_the_head() -> None:
    assert isinstance(body_decoder(5, DEFAULT), LengthBody)
    assert isinstance(body_decoder(CHUNKED, DEFAULT), ChunkedBody)


# Chunks


@pytest.mark.parametrize(
    ("data", "content"),
    [
        pytest.param(b"0\r\n\r\n", b"", id="empty"),
        pytest.param(b"000\r\n\r\n", b"", id="several zeros end the body too"),
        pytest.param(b"5\r\nhello\r\n0\r\n\r\n", b"hello", id="one chunk"),
        pytest.param(b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n", b"abcdef", id="several chunks"),
        pytest.param(b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", id="hex digit"),
        pytest.param(b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", id="upper-case hex digit"),
        pytest.param(b"00000000000005\r\nhello\r\n0\r\n\r\n", b"hello", id="leading zeros"),
        pytest.param(b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", b"hello", id="16 digits"),
        pytest.param(b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", id="line ends are content"),
        pytest.param(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", id="a last chunk inside of a chunk"),
        pytest.param(b"3\r\n\x00\n\xff\r\n0\r\n\r\n", b"\x00\n\xff", id="any byte is content"),
        pytest.param(b"2;a=b\r\nhi\r\n0;c\r\n\r\n", b"hi", id="extensions"),
        pytest.param(b"2 \t;a\r\nhi\r\n0 ;\r\n\r\n", b"hi", id="white space before the semicolon"),
        pytest.param(b'2; a = "b;\\"c" ;d\t\r\nhi\r\n0\r\n\r\n', b"hi", id="quoted extension"),
        pytest.param(b"2;\x80\xff~ \r\nhi\r\n0\r\n\r\n", b"hi", id="non-ASCII extension"),
        pytest.param(b"2\r\nhi\r\n0\r\nX: y\r\nZ:\r\n\r\n", b"hi", id="trailers"),
        pytest.param(
            b"0\r\nContent-Length: 5\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n", b"", id="framing trailers"
        ),
    ],
)
def test_chunks_become_content(read: Read, data: bytes, content: bytes) -> None:
    assert read(body_decoder(CHUNKED, DEFAULT), data) == content


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="empty line"),
        pytest.param(b"g", id="no hex digit"),
        pytest.param(b"0x5", id="prefix"),
        pytest.param(b"x5", id="half a prefix"),
        pytest.param(b"+5", id="plus"),
        pytest.param(b"-5", id="minus"),
        pytest.param(b"-0", id="minus zero"),
        pytest.param(b"0_5", id="underscore"),
        pytest.param(b"5.0", id="fraction"),
        pytest.param(b"5 5", id="two numbers"),
        pytest.param(b" 5", id="leading space"),
        pytest.param(b"\t5", id="leading tab"),
        pytest.param(b"5 ", id="trailing space"),
        pytest.param(b"5\t", id="trailing tab"),
        pytest.param(b"5,", id="comma"),
        pytest.param(b"5 a", id="extension without semicolon"),
        pytest.param(b";a", id="extension without size"),
        pytest.param(b"\xd9\xa5", id="Arabic digit"),
        pytest.param(b"\xb2", id="superscript"),
        pytest.param(b"00000000000000005", id="17 digits"),
        pytest.param(b"10000000000000005", id="2**64 and more"),
        pytest.param(b"5\x00", id="NUL"),
        pytest.param(b"5\x0b", id="vertical tab"),
        pytest.param(b"5\x0c;a", id="form feed before the semicolon"),
        pytest.param(b"5\r", id="CR CR LF"),
        pytest.param(b"\r5", id="CR before the size"),
    ],
)
@pytest.mark.parametrize("before", [b"", b"1\r\na\r\n"], ids=["first chunk", "later chunk"])
def test_a_chunk_size_that_is_not_1_to_16_hex_digits_is_400(read: Read, before: bytes, line: bytes) -> None:
    assert status_of(read, before + line + b"\r\nhello\r\n0\r\n\r\n") == 400


def test_a_chunk_of_2_64_bytes_is_awaited() -> None:
    decoder = ChunkedBody(DEFAULT)
    assert decoder.feed(b"ffffffffffffffff\r\n" + b"a" * 1000) == b"a" * 1000
    assert not decoder.complete


@pytest.mark.parametrize("byte", [byte for byte in range(0x80) if byte not in b"\t\r\n" and not 0x20 <= byte < 0x7F])
@pytest.mark.parametrize("line", [b"5;%b", b"5;a%bb", b"5;a=%bb"])
def test_a_control_byte_in_an_extension_is_400(read: Read, line: bytes, byte: int) -> None:
    assert status_of(read, line % bytes([byte]) + b"\r\nhello\r\n0\r\n\r\n") == 400


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"5\nhello\r\n0\r\n\r\n", id="LF behind a size"),
        pytest.param(b"5;a\nhello\r\n0\r\n\r\n", id="LF behind an extension"),
        pytest.param(b"5;a\n0\r\nhello\r\n0\r\n\r\n", id="LF inside of an extension"),
        pytest.param(b"5;a\rb\r\nhello\r\n0\r\n\r\n", id="CR inside of an extension"),
        pytest.param(b"5\rhello\r\n0\r\n\r\n", id="CR behind a size"),
        pytest.param(b"5\r\nhello\n0\r\n\r\n", id="LF behind data"),
        pytest.param(b"5\r\nhello\r0\r\n\r\n", id="CR behind data"),
        pytest.param(b"5\r\nhello\r\r\n0\r\n\r\n", id="CR CR LF behind data"),
        pytest.param(b"5\r\nhello\n\r\n0\r\n\r\n", id="LF CR LF behind data"),
        pytest.param(b"5\r\nhello\n\r0\r\n\r\n", id="LF CR behind data"),
        pytest.param(b"5\r\nhello0\r\n\r\n", id="nothing behind data"),
        pytest.param(b"5\r\nhello!\r\n0\r\n\r\n", id="longer than its size"),
        pytest.param(b"5\r\nhello!!\r\n0\r\n\r\n", id="longer than its size by a line end"),
        pytest.param(b"5\r\nhello \r\n0\r\n\r\n", id="space behind data"),
        pytest.param(b"6\r\nhello\r\n0\r\n\r\n", id="shorter than its size"),
        pytest.param(b"0\n\r\n", id="LF behind the last chunk"),
        pytest.param(b"0\r\n\n", id="LF for the last line"),
        pytest.param(b"0\r\n\r\r\n", id="CR CR LF for the last line"),
        pytest.param(b"0\r\nX: y\n\r\n", id="LF behind a trailer"),
        pytest.param(b"0\r\nX: y\rZ: z\r\n\r\n", id="CR between trailers"),
    ],
)
def test_every_line_end_is_crlf_or_400(read: Read, data: bytes) -> None:
    assert status_of(read, data) == 400


@pytest.mark.parametrize(
    "trailer",
    [b"X", b": y", b"X : y", b" X: y", b"X: y\r\n z", b"X\xe9: y", b"X: a\x00b", b"X: a\x7fb", b"X(: y", b" ", b"\t"],
)
@pytest.mark.parametrize("before", [b"", b"Y: z\r\n"], ids=["first", "later"])
def test_a_trailer_that_is_no_field_line_is_400(read: Read, before: bytes, trailer: bytes) -> None:
    assert status_of(read, b"0\r\n" + before + trailer + b"\r\n\r\n") == 400


def test_trailers_are_no_content_and_no_next_request(read: Read) -> None:
    assert read(ChunkedBody(DEFAULT), b"1\r\na\r\n0\r\nGET: / HTTP/1.1\r\n\r\n") == b"a"


# Limits


def test_a_chunk_line_up_to_4_kib_is_read_and_over_it_400(read: Read) -> None:
    line = b"1;" + b"a" * (MAX_CHUNK_LINE_BYTES - 2)
    assert MAX_CHUNK_LINE_BYTES == 4096
    assert read(ChunkedBody(DEFAULT), line + b"\r\nx\r\n0\r\n\r\n") == b"x"
    assert status_of(read, line + b"a\r\nx\r\n0\r\n\r\n") == 400


def test_a_chunk_line_without_end_is_400(read: Read) -> None:
    assert status_of(read, b"1;" + b"a" * (MAX_CHUNK_LINE_BYTES + 100)) == 400


def test_extensions_up_to_16_kib_a_body_are_read_and_over_it_400(read: Read) -> None:
    chunk = b"1;" + b"a" * 1023 + b"\r\nx\r\n"
    assert MAX_EXTENSION_BYTES == 16 * 1024
    assert read(ChunkedBody(DEFAULT), chunk * 16 + b"0\r\n\r\n") == b"x" * 16
    assert status_of(read, chunk * 16 + b"0;\r\n\r\n") == 400


def test_trailers_up_to_the_limit_of_fields_are_read_and_over_it_431(read: Read) -> None:
    limits = HeadLimits(fields=5)
    assert read(ChunkedBody(limits), b"0\r\n" + b"X: y\r\n" * 5 + b"\r\n") == b""
    assert status_of(read, b"0\r\n" + b"X: y\r\n" * 6 + b"\r\n", limits) == 431


def test_a_trailer_up_to_the_limit_of_a_field_is_read_and_over_it_431(read: Read) -> None:
    limits = HeadLimits(field_bytes=50)
    line = b"X: " + b"y" * (50 - len(b"X: \r\n"))
    assert read(ChunkedBody(limits), b"0\r\n" + line + b"\r\n\r\n") == b""
    assert status_of(read, b"0\r\n" + line + b"y\r\n\r\n", limits) == 431


@pytest.mark.parametrize("field_bytes", [0, 50])
def test_a_trailer_without_end_is_431(read: Read, field_bytes: int) -> None:
    limits = HeadLimits(field_bytes=field_bytes, head_bytes=300)
    assert status_of(read, b"0\r\nX: " + b"y" * 400, limits) == 431


def test_trailers_together_over_the_limit_of_a_head_are_431(read: Read) -> None:
    limits = HeadLimits(fields=0, field_bytes=0, head_bytes=300)
    assert read(ChunkedBody(limits), b"0\r\n" + b"X: y\r\n" * 50 + b"\r\n") == b""
    assert status_of(read, b"0\r\n" + b"X: y\r\n" * 51 + b"\r\n", limits) == 431


# The end


@pytest.mark.parametrize("data", [b"5\r\nhello\r\n2;a\r\nhi\r\n0\r\nX: y\r\n\r\n", b"0\r\n\r\n"])
def test_a_chunked_body_that_is_cut_off_is_never_complete(data: bytes) -> None:
    for size in range(1, len(data)):
        decoder = ChunkedBody(DEFAULT)
        content = decoder.feed(data[:size])
        assert not decoder.complete
        assert b"hellohi".startswith(content)


def test_content_is_given_as_soon_as_it_has_come() -> None:
    decoder = ChunkedBody(DEFAULT)
    assert [decoder.feed(piece) for piece in (b"5\r\nhel", b"l", b"o\r", b"\n2", b"\r\nhi\r\n0\r\n\r\n")] == [
        *(b"hel", b"l", b"o", b"", b"hi"),
    ]


# Generated bodies

extensions = st.text("".join(map(chr, [0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])), max_size=20).map(
    lambda text: b";" + text.encode("latin-1")
)


@st.composite
def chunked_bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """The content and its chunked coding."""
    data = content = b""
    for chunk in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6)):
        size = draw(st.sampled_from([b"%x", b"%X", b"%08x"])) % len(chunk)
        data += size + draw(st.one_of(st.just(b""), extensions)) + b"\r\n" + chunk + b"\r\n"
        content += chunk
    trailers = draw(st.sampled_from([b"", b"X: y\r\n", b"Expires: never\r\nDigest:\r\n"]))
    return content, data + b"0" + draw(st.one_of(st.just(b""), extensions)) + b"\r\n" + trailers + b"\r\n"


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """The pieces of `data` between the positions `cuts`, none of them empty."""
    positions = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(positions)]


cuts = st.lists(st.integers(0, 10_000), max_size=12)
rests = st.sampled_from([b"", NEXT_REQUEST, b"\r\n", b"0\r\n\r\n", b"\x00"])


@settings(max_examples=200)
@given(body=chunked_bodies(), rest=rests, cuts=cuts)
def test_a_chunked_body_is_the_same_however_it_is_split(
    body: tuple[bytes, bytes], rest: bytes, cuts: list[int]
) -> None:
    content, data = body
    assert feed_pieces(ChunkedBody(DEFAULT), split(data + rest, cuts)) == (content, rest)


@settings(max_examples=200)
@given(content=st.binary(min_size=1, max_size=100), rest=rests, cuts=cuts)
def test_a_length_body_is_the_same_however_it_is_split(content: bytes, rest: bytes, cuts: list[int]) -> None:
    assert feed_pieces(LengthBody(len(content)), split(content + rest, cuts)) == (content, rest)


TIGHT = HeadLimits(fields=2, field_bytes=30, head_bytes=50)
PIECES = [
    b"\r",
    b"\n",
    b"\r\n",
    b"0",
    b"5",
    b"f" * 17,
    b";",
    b" ",
    b"\t",
    b":",
    b"X: y\r\n",
    b"\x00",
    b"\x7f",
    b"\xff",
    b"-",
]


@st.composite
def mutated_bodies(draw: st.DrawFn) -> bytes:
    _, data = draw(chunked_bodies())
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 4)))
        data = data[:start] + draw(st.sampled_from([b"", *PIECES])) + data[end:]
    return data + NEXT_REQUEST


def verdict(pieces: list[bytes], limits: HeadLimits) -> tuple[bytes, bytes] | None:
    """Content and rest, or None for a refusal."""
    try:
        return feed_pieces(ChunkedBody(limits), pieces)
    except RemoteProtocolError as error:
        if error.status not in (400, 431):
            raise
        return None


@settings(max_examples=200)
@given(data=st.one_of(mutated_bodies(), st.binary(min_size=1)), cuts=cuts, limits=st.sampled_from([DEFAULT, TIGHT]))
def test_no_chunked_body_raises_anything_else_and_no_split_changes_the_verdict(
    data: bytes, cuts: list[int], limits: HeadLimits
) -> None:
    assert verdict(split(data, cuts), limits) == verdict([data], limits)
