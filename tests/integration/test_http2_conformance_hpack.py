"""RFC 7541 sections 2 to 6, and 4.3 of RFC 9113: header blocks on the wire, and tables that outlive them."""

import json
from collections.abc import Iterator

import hpack
import pytest

from gunicorn_asgi.wire.http2_frames import (
    CONTINUATION,
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    HEADERS,
    SETTINGS_HEADER_TABLE_SIZE,
    ErrorCode,
    frame,
)
from tests.support.gunicorn import Gunicorn
from tests.support.http2_conformance import Case, answered, check_neighbour, connection_error, run
from tests.support.http2_wire import Http2Connection, block, literal, post, request_fields, string

COMPRESSION_ERROR = connection_error(ErrorCode.COMPRESSION_ERROR)
BLOCK = block(request_fields())
WHOLE = FLAG_END_HEADERS | FLAG_END_STREAM
INSERT = b"\x40"
LATE_UPDATE = b"\x3f\xe1\x1f"  # 4096


def request(encoded: bytes, stream: int = 3) -> bytes:
    return frame(HEADERS, WHOLE, stream, encoded)


CASES = [
    # Section 2.3: indexes
    Case("RFC 7541 2.3.3", "an index beyond both tables", request(BLOCK + b"\xbe"), COMPRESSION_ERROR),
    Case("RFC 7541 2.3.3", "an index far beyond both tables", request(BLOCK + b"\xff\xff\x7f"), COMPRESSION_ERROR),
    Case("RFC 7541 2.3.3", "a name far beyond both tables", request(BLOCK + b"\x7f\x80\x01\x01a"), COMPRESSION_ERROR),
    # Section 4.2: the size of the table
    Case("RFC 7541 4.2", "a size update behind a field", request(b"\x82" + LATE_UPDATE), COMPRESSION_ERROR),
    Case("RFC 7541 4.2", "a size update at the end", request(BLOCK + LATE_UPDATE), COMPRESSION_ERROR),
    Case(
        "RFC 7541 4.2",
        "a size update between fields",
        request(BLOCK + b"\x20" + literal(b"a", b"b")),
        COMPRESSION_ERROR,
    ),
    Case("RFC 7541 4.2", "a size update in front", request(LATE_UPDATE + BLOCK), answered()),
    Case("RFC 7541 4.2", "size updates to 0 and back", request(b"\x20" + LATE_UPDATE + BLOCK), answered()),
    # Section 5.1: integers
    Case(
        "RFC 7541 5.1",
        "an index that is too long",
        request(BLOCK + b"\xff\xff\xff\xff\xff\xff\xff\x01"),
        COMPRESSION_ERROR,
    ),
    Case(
        "RFC 7541 5.1",
        "an index padded with zeros without end",
        request(BLOCK + b"\xff" + 20 * b"\x80"),
        COMPRESSION_ERROR,
    ),
    Case("RFC 7541 5.1", "an index that is cut off", request(BLOCK + b"\xff\x80"), COMPRESSION_ERROR),
    Case(
        "RFC 7541 5.1",
        "a length that is too long",
        request(BLOCK + b"\x00\x01a\x7f\xff\xff\xff\xff\x0f"),
        COMPRESSION_ERROR,
    ),
    Case("RFC 7541 5.1", "an index with needless zeros", request(BLOCK + b"\x0f\x84\x00\x01b"), answered()),
    # Section 5.2: strings
    Case("RFC 7541 5.2", "a string beyond the block", request(BLOCK + b"\x00\x01a\x02b"), COMPRESSION_ERROR),
    Case("RFC 7541 5.2", "a name beyond the block", request(BLOCK + b"\x00\x05a"), COMPRESSION_ERROR),
    Case("RFC 7541 5.2", "a name without value", request(BLOCK + b"\x00\x01a"), COMPRESSION_ERROR),
    Case(
        "RFC 7541 5.2",
        "padding longer than 7 bits",
        request(BLOCK + b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
        COMPRESSION_ERROR,
    ),
    Case(
        "RFC 7541 5.2",
        "padding of zeros",
        request(BLOCK + b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
        COMPRESSION_ERROR,
    ),
    Case(
        "RFC 7541 5.2",
        "EOS in a string",
        request(BLOCK + b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f"),
        COMPRESSION_ERROR,
    ),
    Case("RFC 7541 5.2", "padding of 7 bits", request(BLOCK + b"\x00\x82\x1c\x7f\x00"), answered()),
    # Section 6.1: indexed fields
    Case("RFC 7541 6.1", "index 0", request(BLOCK + b"\x80"), COMPRESSION_ERROR),
    Case(
        "RFC 7541 6.1",
        "fields of the static table",
        request(b"\x82\x86\x84" + literal(b":authority", b"example.org")),
        answered(body=b"/?"),
    ),
    # Section 6.2: literals
    Case(
        "RFC 7541 6.2.1",
        "with incremental indexing",
        request(BLOCK + INSERT + string(b"a") + string(b"b") + b"\xbe"),
        answered(),
    ),
    Case("RFC 7541 6.2.1", "with an indexed name", request(b"\x82\x86\x44\x06/hello\x41\x0bexample.org"), answered()),
    Case("RFC 7541 6.2.2", "without indexing", request(BLOCK + b"\x00\x01a\x01b"), answered()),
    Case(
        "RFC 7541 6.2.2",
        "without indexing, nothing is indexed",
        request(BLOCK + b"\x00\x01a\x01b\xbe"),
        COMPRESSION_ERROR,
    ),
    Case("RFC 7541 6.2.3", "never indexed", request(BLOCK + b"\x10\x01a\x01b"), answered()),
    Case(
        "RFC 7541 6.2.3", "never indexed, nothing is indexed", request(BLOCK + b"\x10\x01a\x01b\xbe"), COMPRESSION_ERROR
    ),
    # Section 6.3: size updates
    Case("RFC 7541 6.3", "above SETTINGS_HEADER_TABLE_SIZE", request(b"\x3f\xe2\x1f" + BLOCK), COMPRESSION_ERROR),
    Case(
        "RFC 7541 6.3",
        "far above SETTINGS_HEADER_TABLE_SIZE",
        request(b"\x3f\xff\xff\xff\x7f" + BLOCK),
        COMPRESSION_ERROR,
    ),
    Case(
        "RFC 7541 6.3", "above it, behind one that is allowed", request(b"\x20\x3f\xe2\x1f" + BLOCK), COMPRESSION_ERROR
    ),
    Case(
        "4.3",
        "the fragment of a field at the end of a frame",
        frame(HEADERS, FLAG_END_STREAM, 3, BLOCK + b"\x40\x03a")
        + frame(CONTINUATION, FLAG_END_HEADERS, 3, b"bc\x01d\xbe"),
        answered(),
    ),
]


@pytest.fixture
def connection(h2c: Gunicorn) -> Iterator[Http2Connection]:
    with Http2Connection(h2c.address) as connection:
        yield connection


@pytest.mark.parametrize("case", CASES, ids=str)
def test_header_blocks(case: Case, h2c: Gunicorn, bystander: Http2Connection) -> None:
    run(case, h2c, bystander)


def shown_fields(connection: Http2Connection, encoded: bytes) -> list[list[str]]:
    """What the application sees of a block, without the host."""
    stream = connection.next_id
    connection.send(frame(HEADERS, WHOLE, stream, encoded))
    fields = json.loads(connection.response(stream).body)["headers"]
    assert isinstance(fields, list)
    return fields[1:]


SCOPE = block(request_fields("/scope"))


def test_entries_are_there_for_the_next_block(connection: Http2Connection) -> None:
    """RFC 7541 section 2.3.2: first in, first out."""
    assert shown_fields(connection, SCOPE + b"\x40\x01a\x011\x40\x01b\x012") == [["a", "1"], ["b", "2"]]
    assert shown_fields(connection, SCOPE + b"\xbe\xbf") == [["b", "2"], ["a", "1"]]
    assert shown_fields(connection, SCOPE + b"\x7e\x013") == [["b", "3"]]
    assert shown_fields(connection, SCOPE + b"\xbe\xbf\xc0") == [["b", "3"], ["b", "2"], ["a", "1"]]


def test_entries_of_trailers_and_of_refused_requests_are_there(connection: Http2Connection) -> None:
    """RFC 9113 section 4.3: the tables belong to the connection."""
    connection.send(post(1, "/echo"))
    connection.send(frame(HEADERS, WHOLE, 1, b"\x40\x01a\x011"))
    connection.response(1)
    malformed = connection.next_id
    connection.send(frame(HEADERS, WHOLE, malformed, b"\x40\x01b\x012"))
    assert connection.response(malformed).reset == ErrorCode.PROTOCOL_ERROR
    large = connection.next_id
    connection.send(frame(HEADERS, WHOLE, large, BLOCK + literal(b"x-large", b"x" * 9000) + b"\x40\x01c\x013"))
    assert connection.response(large).status == 431
    assert shown_fields(connection, SCOPE + b"\xbe\xbf\xc0") == [["c", "3"], ["b", "2"], ["a", "1"]]


def test_an_update_to_0_empties_the_table(connection: Http2Connection, bystander: Http2Connection) -> None:
    """RFC 7541 section 4.3."""
    shown_fields(connection, SCOPE + b"\x40\x01a\x011")
    shown_fields(connection, b"\x20" + SCOPE + b"\x40\x01b\x012")
    connection.send(frame(HEADERS, WHOLE, connection.next_id, SCOPE + b"\xbe"))
    assert connection.goaway()[1] == ErrorCode.COMPRESSION_ERROR
    assert bystander.get().body == b"hello"


def test_entries_are_evicted_as_the_table_gets_full(connection: Http2Connection, bystander: Http2Connection) -> None:
    """RFC 7541 section 4.4: 4096 bytes hold 40 entries of 100."""
    for number in range(41):
        shown_fields(connection, SCOPE + b"\x40\x04n%03d" % number + string(b"v" * 64))
    assert shown_fields(connection, SCOPE + b"\xe5") == [["n001", "v" * 64]]
    connection.send(frame(HEADERS, WHOLE, connection.next_id, SCOPE + b"\xe6"))
    assert connection.goaway()[1] == ErrorCode.COMPRESSION_ERROR
    assert bystander.get().body == b"hello"


def test_an_entry_larger_than_the_table_empties_it(connection: Http2Connection, bystander: Http2Connection) -> None:
    """RFC 7541 section 4.4: no error."""
    shown_fields(connection, SCOPE + b"\x40\x01a\x011")
    assert shown_fields(connection, SCOPE + b"\x40\x01b" + string(b"v" * 4064)) == [["b", "v" * 4064]]
    connection.send(frame(HEADERS, WHOLE, connection.next_id, SCOPE + b"\xbe"))
    assert connection.goaway()[1] == ErrorCode.COMPRESSION_ERROR
    assert bystander.get().body == b"hello"


def test_cookie_crumbs_out_of_the_table(connection: Http2Connection) -> None:
    """RFC 9113 section 8.2.3."""
    shown_fields(connection, SCOPE + b"\x60\x03a=1\x60\x03b=2")
    assert shown_fields(connection, SCOPE + b"\xbf\xbe") == [["cookie", "a=1; b=2"]]


@pytest.mark.parametrize("size", [0, 64, 4096, 2**32 - 1])
def test_the_table_of_a_client_may_have_any_size(h2c: Gunicorn, size: int) -> None:
    """RFC 9113 section 4.3.1: the decoder of the client insists on an update after a smaller setting."""
    with Http2Connection(h2c.address) as connection:
        connection.send(post(1))
        for _ in range(3):
            assert connection.get().body == b"hello"
        connection.set({SETTINGS_HEADER_TABLE_SIZE: size})
        connection.set_max_table_bytes(size)
        for _ in range(3):
            assert connection.get().body == b"hello"
        check_neighbour(connection)


def test_requests_of_the_hpack_library(connection: Http2Connection) -> None:
    """An encoder that indexes, with the Huffman code, and a table that overflows again and again."""
    encoder = hpack.Encoder()
    for number in range(200):
        fields = [(b"x-number", b"%d" % number), (b"x-text", b"some text " * (number % 30 + 1) + b".")]
        fields += [(b"authorization", b"secret"), (b"x-same", b"same")]
        encoded = encoder.encode([*request_fields("/scope"), *fields], huffman=number % 3 > 0)
        assert shown_fields(connection, encoded) == [[name.decode(), value.decode()] for name, value in fields]
