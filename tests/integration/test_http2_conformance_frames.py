"""RFC 9113 sections 3 to 7, frame by frame: what a server has to do with each that is right, wrong, or unknown."""

from collections.abc import Iterator

import pytest

from gunicorn_asgi.wire.http2_frames import (
    CONTINUATION,
    DATA,
    FLAG_ACK,
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    FLAG_PADDED,
    FLAG_PRIORITY,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    SETTINGS_ENABLE_CONNECT_PROTOCOL,
    SETTINGS_ENABLE_PUSH,
    SETTINGS_HEADER_TABLE_SIZE,
    SETTINGS_INITIAL_WINDOW_SIZE,
    SETTINGS_MAX_CONCURRENT_STREAMS,
    SETTINGS_MAX_FRAME_SIZE,
    SETTINGS_MAX_HEADER_LIST_SIZE,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    goaway_frame,
    ping_frame,
    rst_stream_frame,
    settings_frame,
    window_update_frame,
)
from tests.support.gunicorn import Gunicorn
from tests.support.http2_conformance import Case, answered, connection_error, nothing, run, stream_error
from tests.support.http2_wire import (
    Http2Connection,
    block,
    data,
    headers,
    literal,
    post,
    request_fields,
)

COMPRESSION_ERROR = connection_error(ErrorCode.COMPRESSION_ERROR)
FLOW_CONTROL_ERROR = connection_error(ErrorCode.FLOW_CONTROL_ERROR)
FRAME_SIZE_ERROR = connection_error(ErrorCode.FRAME_SIZE_ERROR)
PROTOCOL_ERROR = connection_error(ErrorCode.PROTOCOL_ERROR)
STREAM_FRAME_SIZE_ERROR = stream_error(ErrorCode.FRAME_SIZE_ERROR)

WHOLE = FLAG_END_STREAM | FLAG_END_HEADERS
UNKNOWN_TYPE = 0xBA
BLOCK = block(request_fields())
OPEN_BLOCK = headers(3, end_headers=False)
PRIORITY_OF_7 = b"\x00\x00\x00\x07\x0f"
PAD = b"\x05" + BLOCK + bytes(5)


def large_block(size: int) -> bytes:
    """A block of exactly so many bytes, in fields below the limits of the server."""
    result = BLOCK
    while size - len(result) > 5000:
        result += literal(b"x-pad", bytes(4000).replace(b"\x00", b"a"))
    missing = size - len(result) - len(literal(b"x-pad", b"a" * 900)) + 900
    result += literal(b"x-pad", b"a" * missing)
    assert len(result) == size
    return result


def raw_settings(*pairs: tuple[int, int]) -> bytes:
    """SETTINGS in which an identifier may be repeated."""
    return frame(SETTINGS, 0, 0, b"".join((name << 32 | value).to_bytes(6, "big") for name, value in pairs))


CASES = [
    # Section 4.1: frame layout
    Case("4.1", "unknown type on the connection is ignored", frame(UNKNOWN_TYPE, 0xFF, 0, b"12345"), nothing),
    Case("4.1", "unknown type on an idle stream is ignored", frame(UNKNOWN_TYPE, 0xFF, 5, b"12345"), nothing),
    Case("4.1", "unknown type on an open stream is ignored", frame(UNKNOWN_TYPE, 0xFF, 1, b""), nothing),
    Case(
        "4.1",
        "unknown type between HEADERS and DATA is ignored",
        post(3) + frame(UNKNOWN_TYPE, 0, 3, b"x") + data(3, b"abc", end_stream=True),
        answered(body=b"abc"),
    ),
    Case("4.1", "unused flags of HEADERS are ignored", headers(3, flags=0xD2), answered()),
    Case(
        "4.1",
        "unused flags of DATA are ignored",
        post(3) + frame(DATA, 0xF6 | FLAG_END_STREAM, 3, b"abc"),
        answered(body=b"abc"),
    ),
    Case("4.1", "unused flags of SETTINGS are ignored", frame(SETTINGS, 0xFE, 0) + headers(3), answered()),
    Case("4.1", "unused flags of PING are ignored", frame(PING, 0xFE, 0, b"pingpong") + headers(3), answered()),
    Case(
        "4.1",
        "unused flags of WINDOW_UPDATE are ignored",
        frame(WINDOW_UPDATE, 0xFF, 0, b"\x00\x00\x00\x01") + headers(3),
        answered(),
    ),
    Case(
        "4.1", "unused flags of PRIORITY are ignored", frame(PRIORITY, 0xFF, 3, PRIORITY_OF_7) + headers(3), answered()
    ),
    Case(
        "4.1",
        "unused flags of RST_STREAM are ignored",
        post(3) + frame(RST_STREAM, 0xFF, 3, b"\x00\x00\x00\x08"),
        nothing,
    ),
    Case("4.1", "the reserved bit of HEADERS is ignored", frame(HEADERS, WHOLE, 3 | 1 << 31, BLOCK), answered()),
    Case("4.1", "the reserved bit of PING is ignored", frame(PING, 0, 1 << 31, b"pingpong") + headers(3), answered()),
    Case(
        "4.1",
        "the reserved bit of DATA is ignored",
        post(3) + frame(DATA, FLAG_END_STREAM, 3 | 1 << 31, b"abc"),
        answered(body=b"abc"),
    ),
    Case(
        "6.9",
        "the reserved bit of an increment is ignored",
        frame(WINDOW_UPDATE, 0, 0, b"\x80\x00\x00\x01") + headers(3),
        answered(),
    ),
    # Section 4.2: frame size
    Case(
        "4.2", "DATA of 2^14 is received", post(3) + data(3, bytes(16384), end_stream=True), answered(body=bytes(16384))
    ),
    Case("4.2", "HEADERS of 2^14 are received", frame(HEADERS, WHOLE, 3, large_block(16384)), answered()),
    Case("4.2", "DATA above SETTINGS_MAX_FRAME_SIZE", post(3) + data(3, bytes(16385)), FRAME_SIZE_ERROR),
    Case(
        "4.2", "HEADERS above SETTINGS_MAX_FRAME_SIZE", frame(HEADERS, WHOLE, 3, large_block(16385)), FRAME_SIZE_ERROR
    ),
    Case(
        "4.2",
        "CONTINUATION above SETTINGS_MAX_FRAME_SIZE",
        OPEN_BLOCK + frame(CONTINUATION, FLAG_END_HEADERS, 3, literal(b"a", b"b" * 4000) * 5),
        FRAME_SIZE_ERROR,
    ),
    Case("4.2", "SETTINGS above SETTINGS_MAX_FRAME_SIZE", raw_settings(*[(0xAA, 1)] * 2731), FRAME_SIZE_ERROR),
    Case(
        "4.2", "unknown type above SETTINGS_MAX_FRAME_SIZE", frame(UNKNOWN_TYPE, 0, 0, bytes(16385)), FRAME_SIZE_ERROR
    ),
    Case("4.2", "only the head of a huge frame", b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", FRAME_SIZE_ERROR),
    # Section 4.3: field sections
    Case("4.3", "a block that cannot be decoded", frame(HEADERS, WHOLE, 3, b"\xbf\xff\xff"), COMPRESSION_ERROR),
    Case("4.3", "a block that is cut off", frame(HEADERS, WHOLE, 3, BLOCK[:-1]), COMPRESSION_ERROR),
    Case(
        "4.3",
        "trailers that cannot be decoded",
        post(3) + frame(HEADERS, WHOLE, 3, b"\x80"),
        COMPRESSION_ERROR,
    ),
    Case(
        "4.3",
        "a block for a stream that was reset is decoded",
        post(3) + rst_stream_frame(3, ErrorCode.CANCEL) + frame(HEADERS, WHOLE, 3, b"\x80"),
        COMPRESSION_ERROR,
    ),
    Case(
        "4.3",
        "a block in many frames",
        frame(HEADERS, FLAG_END_STREAM, 3, BLOCK[:1])
        + b"".join(frame(CONTINUATION, 0, 3, BLOCK[i : i + 9]) for i in range(1, 55, 9))
        + frame(CONTINUATION, FLAG_END_HEADERS, 3, BLOCK[55:]),
        answered(),
    ),
    Case(
        "4.3",
        "a block that begins in an empty HEADERS",
        frame(HEADERS, FLAG_END_STREAM, 3) + frame(CONTINUATION, FLAG_END_HEADERS, 3, BLOCK),
        answered(),
    ),
    *(
        Case("4.3, 6.2, 6.10", f"{name} within a header block", OPEN_BLOCK + inner, PROTOCOL_ERROR)
        for name, inner in [
            ("DATA of the same stream", data(3, b"abc")),
            ("DATA of another stream", data(1, b"abc")),
            ("HEADERS of the same stream", headers(3)),
            ("HEADERS of another stream", headers(5)),
            ("PRIORITY", frame(PRIORITY, 0, 3, PRIORITY_OF_7)),
            ("RST_STREAM", rst_stream_frame(3, ErrorCode.CANCEL)),
            ("SETTINGS", settings_frame({})),
            ("the acknowledgement of SETTINGS", SETTINGS_ACK),
            ("PING", ping_frame(b"pingpong")),
            ("GOAWAY", goaway_frame(0, ErrorCode.NO_ERROR)),
            ("WINDOW_UPDATE of the connection", window_update_frame(0, 1)),
            ("WINDOW_UPDATE of a stream", window_update_frame(1, 1)),
            ("CONTINUATION of another stream", frame(CONTINUATION, FLAG_END_HEADERS, 5, BLOCK)),
            ("an unknown type (section 5.5)", frame(UNKNOWN_TYPE, 0, 3, b"")),
        ]
    ),
    Case(
        "6.10",
        "PRIORITY between CONTINUATION frames",
        OPEN_BLOCK + frame(CONTINUATION, 0, 3) + frame(PRIORITY, 0, 3, PRIORITY_OF_7),
        PROTOCOL_ERROR,
    ),
    # Section 6.1: DATA
    Case("6.1", "DATA on stream 0", data(0, b"abc"), PROTOCOL_ERROR),
    Case("6.1", "DATA on a stream of the server", data(2, b"abc"), PROTOCOL_ERROR),
    Case(
        "6.1",
        "padding is removed",
        post(3) + frame(DATA, FLAG_PADDED | FLAG_END_STREAM, 3, b"\x04abc" + bytes(4)),
        answered(body=b"abc"),
    ),
    Case(
        "6.1",
        "content may be all padding",
        post(3)
        + frame(DATA, FLAG_PADDED, 3, b"\x00")
        + frame(DATA, FLAG_PADDED | FLAG_END_STREAM, 3, b"\x02" + bytes(2)),
        answered(body=b""),
    ),
    Case("6.1", "255 bytes of padding", post(3) + frame(DATA, 9, 3, b"\xff" + bytes(255)), answered(body=b"")),
    Case("6.1", "as much padding as payload", post(3) + frame(DATA, FLAG_PADDED, 3, b"\x03ab"), PROTOCOL_ERROR),
    Case("6.1", "more padding than payload", post(3) + frame(DATA, FLAG_PADDED, 3, b"\xffab"), PROTOCOL_ERROR),
    Case(
        "6.1",
        "no room for the length of the padding",
        post(3) + frame(DATA, FLAG_PADDED, 3),
        connection_error(ErrorCode.FRAME_SIZE_ERROR, ErrorCode.PROTOCOL_ERROR),
    ),
    # Section 6.2: HEADERS
    Case("6.2", "HEADERS on stream 0", headers(0), PROTOCOL_ERROR),
    Case("6.2", "padding is removed", frame(HEADERS, WHOLE | FLAG_PADDED, 3, PAD), answered()),
    Case(
        "6.2",
        "padding and priority are removed",
        frame(HEADERS, WHOLE | FLAG_PADDED | FLAG_PRIORITY, 3, b"\x02" + PRIORITY_OF_7 + BLOCK + bytes(2)),
        answered(),
    ),
    Case("6.2", "priority is removed", frame(HEADERS, WHOLE | FLAG_PRIORITY, 3, PRIORITY_OF_7 + BLOCK), answered()),
    Case("6.2", "more padding than payload", frame(HEADERS, WHOLE | FLAG_PADDED, 3, b"\xff" + BLOCK), PROTOCOL_ERROR),
    Case(
        "6.2",
        "as much padding as payload",
        frame(HEADERS, WHOLE | FLAG_PADDED, 3, bytes((len(BLOCK) + 1,)) + BLOCK),
        PROTOCOL_ERROR,
    ),
    Case(
        "6.2",
        "padding reaches into the priority",
        frame(HEADERS, WHOLE | FLAG_PADDED | FLAG_PRIORITY, 3, b"\x03" + PRIORITY_OF_7),
        connection_error(ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR),
    ),
    Case(
        "4.2", "HEADERS too short for a priority", frame(HEADERS, WHOLE | FLAG_PRIORITY, 3, b"1234"), FRAME_SIZE_ERROR
    ),
    # Section 6.3: PRIORITY
    Case("6.3", "PRIORITY on stream 0", frame(PRIORITY, 0, 0, PRIORITY_OF_7), PROTOCOL_ERROR),
    Case(
        "6.3",
        "PRIORITY of 4 bytes on an open stream",
        post(3) + frame(PRIORITY, 0, 3, b"1234"),
        STREAM_FRAME_SIZE_ERROR,
    ),
    Case(
        "6.3",
        "PRIORITY of 6 bytes on an open stream",
        post(3) + frame(PRIORITY, 0, 3, b"123456"),
        STREAM_FRAME_SIZE_ERROR,
    ),
    # An idle stream must not be reset (section 6.4), so that only the connection is left.
    Case("6.3", "PRIORITY of 4 bytes on an idle stream", frame(PRIORITY, 0, 3, b"1234"), FRAME_SIZE_ERROR),
    Case("6.3", "PRIORITY on an idle stream", frame(PRIORITY, 0, 3, PRIORITY_OF_7) + headers(3), answered()),
    Case("6.3", "PRIORITY on an idle stream far away", frame(PRIORITY, 0, 99, PRIORITY_OF_7) + headers(3), answered()),
    Case(
        "5.3.2",
        "a stream that depends on itself",
        frame(PRIORITY, 0, 3, b"\x00\x00\x00\x03\x0f") + headers(3),
        answered(),
    ),
    Case(
        "5.3.2",
        "HEADERS of a stream that depends on itself",
        frame(HEADERS, WHOLE | FLAG_PRIORITY, 3, b"\x00\x00\x00\x03\x0f" + BLOCK),
        answered(),
    ),
    # Section 6.4: RST_STREAM
    Case("6.4", "RST_STREAM on stream 0", rst_stream_frame(0, ErrorCode.CANCEL), PROTOCOL_ERROR),
    Case("6.4", "RST_STREAM on an idle stream", rst_stream_frame(3, ErrorCode.CANCEL), PROTOCOL_ERROR),
    Case("6.4", "RST_STREAM on an idle stream of the server", rst_stream_frame(2, ErrorCode.CANCEL), PROTOCOL_ERROR),
    Case("6.4", "RST_STREAM of 3 bytes", post(3) + frame(RST_STREAM, 0, 3, b"123"), FRAME_SIZE_ERROR),
    Case("6.4", "RST_STREAM of 5 bytes", post(3) + frame(RST_STREAM, 0, 3, b"12345"), FRAME_SIZE_ERROR),
    Case("6.4", "RST_STREAM of no bytes on stream 0", frame(RST_STREAM, 0, 0), connection_error(*ErrorCode)),
    Case("5.4.2", "RST_STREAM is not answered", post(3) + rst_stream_frame(3, ErrorCode.PROTOCOL_ERROR), nothing),
    Case("7", "an unknown error code of RST_STREAM", post(3) + rst_stream_frame(3, 0xFFFFFFFF), nothing),
    # Section 6.5: SETTINGS
    Case("6.5", "ACK with a payload", frame(SETTINGS, FLAG_ACK, 0, bytes(6)), FRAME_SIZE_ERROR),
    Case("6.5", "ACK with a payload of one byte", frame(SETTINGS, FLAG_ACK, 0, b"\x00"), FRAME_SIZE_ERROR),
    Case("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    Case("6.5", "ACK on a stream", frame(SETTINGS, FLAG_ACK, 1), PROTOCOL_ERROR),
    Case("6.5", "SETTINGS of 3 bytes", frame(SETTINGS, 0, 0, b"\x00\x03\x00"), FRAME_SIZE_ERROR),
    Case("6.5", "SETTINGS of 7 bytes", frame(SETTINGS, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    Case("6.5.2", "ENABLE_PUSH of 2", raw_settings((SETTINGS_ENABLE_PUSH, 2)), PROTOCOL_ERROR),
    Case("6.5.2", "ENABLE_PUSH of 0", raw_settings((SETTINGS_ENABLE_PUSH, 0)), nothing),
    Case("6.5.2", "ENABLE_PUSH of 1", raw_settings((SETTINGS_ENABLE_PUSH, 1)), nothing),
    Case(
        "6.5.2", "INITIAL_WINDOW_SIZE of 2^31", raw_settings((SETTINGS_INITIAL_WINDOW_SIZE, 2**31)), FLOW_CONTROL_ERROR
    ),
    Case(
        "6.5.2",
        "INITIAL_WINDOW_SIZE of 2^32-1",
        raw_settings((SETTINGS_INITIAL_WINDOW_SIZE, 2**32 - 1)),
        FLOW_CONTROL_ERROR,
    ),
    Case("6.5.2", "MAX_FRAME_SIZE of 2^14-1", raw_settings((SETTINGS_MAX_FRAME_SIZE, 2**14 - 1)), PROTOCOL_ERROR),
    Case("6.5.2", "MAX_FRAME_SIZE of 2^24", raw_settings((SETTINGS_MAX_FRAME_SIZE, 2**24)), PROTOCOL_ERROR),
    Case(
        "6.5.2", "MAX_FRAME_SIZE of 2^24-1", raw_settings((SETTINGS_MAX_FRAME_SIZE, 2**24 - 1)) + headers(3), answered()
    ),
    Case(
        "6.5.2",
        "MAX_CONCURRENT_STREAMS of 0",
        raw_settings((SETTINGS_MAX_CONCURRENT_STREAMS, 0)) + headers(3),
        answered(),
    ),
    Case(
        "6.5.2",
        "MAX_HEADER_LIST_SIZE",
        raw_settings((SETTINGS_MAX_HEADER_LIST_SIZE, 2**32 - 1)) + headers(3),
        answered(),
    ),
    Case(
        "6.5.2",
        "HEADER_TABLE_SIZE of 2^32-1",
        raw_settings((SETTINGS_HEADER_TABLE_SIZE, 2**32 - 1)) + headers(3),
        answered(),
    ),
    Case("6.5.2", "an unknown setting is ignored", raw_settings((0xABCD, 2**32 - 1)) + headers(3), answered()),
    Case("6.5.2", "settings of 0 are ignored", raw_settings((0, 0)) + headers(3), answered()),
    Case(
        "RFC 8441 3",
        "ENABLE_CONNECT_PROTOCOL of a client means nothing",
        raw_settings((SETTINGS_ENABLE_CONNECT_PROTOCOL, 1)) + headers(3),
        answered(),
    ),
    Case("6.5.3", "an ACK that nobody waits for", SETTINGS_ACK + SETTINGS_ACK + headers(3), answered()),
    # Section 6.6: PUSH_PROMISE
    Case(
        "6.6, 8.4",
        "PUSH_PROMISE",
        frame(PUSH_PROMISE, FLAG_END_HEADERS, 1, b"\x00\x00\x00\x02" + BLOCK),
        PROTOCOL_ERROR,
    ),
    Case(
        "6.6", "PUSH_PROMISE on stream 0", frame(PUSH_PROMISE, FLAG_END_HEADERS, 0, b"\x00\x00\x00\x02"), PROTOCOL_ERROR
    ),
    # Section 6.7: PING
    Case("6.7", "PING on a stream", frame(PING, 0, 1, b"pingpong"), PROTOCOL_ERROR),
    Case("6.7", "PING of 7 bytes", frame(PING, 0, 0, b"pingpon"), FRAME_SIZE_ERROR),
    Case("6.7", "PING of 9 bytes", frame(PING, 0, 0, b"pingpong!"), FRAME_SIZE_ERROR),
    Case("6.7", "ACK of 6 bytes", frame(PING, FLAG_ACK, 0, b"pingpo"), FRAME_SIZE_ERROR),
    # Section 6.8: GOAWAY
    Case("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
    Case("4.2", "GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    # Section 6.9: WINDOW_UPDATE
    Case("6.9", "WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, b"\x00\x00\x01"), FRAME_SIZE_ERROR),
    Case("6.9", "WINDOW_UPDATE of 5 bytes on a stream", frame(WINDOW_UPDATE, 0, 1, bytes(5)), FRAME_SIZE_ERROR),
    Case("6.9", "an increment of 0 for the connection", frame(WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL_ERROR),
    Case(
        "6.9",
        "an increment of 0 for a stream",
        post(3) + frame(WINDOW_UPDATE, 0, 3, bytes(4)),
        stream_error(ErrorCode.PROTOCOL_ERROR),
    ),
    Case(
        "6.9.1", "the window of the connection grows too large", window_update_frame(0, 2**31 - 1), FLOW_CONTROL_ERROR
    ),
    Case(
        "6.9.1",
        "the window of a stream grows too large",
        post(3) + window_update_frame(3, 2**31 - 1),
        stream_error(ErrorCode.FLOW_CONTROL_ERROR),
    ),
    Case(
        "6.9.1",
        "the window of a stream grows too large in two steps",
        post(3) + window_update_frame(3, 2**31 - 65536) + window_update_frame(3, 1),
        stream_error(ErrorCode.FLOW_CONTROL_ERROR),
    ),
    Case("6.9.1", "the largest window of a stream", headers(3) + window_update_frame(3, 2**31 - 65536), answered()),
    Case(
        "6.9.2",
        "a setting that makes the window of a stream too large",
        post(3) + window_update_frame(3, 1) + settings_frame({SETTINGS_INITIAL_WINDOW_SIZE: 2**31 - 1}),
        FLOW_CONTROL_ERROR,
    ),
    # Section 6.10: CONTINUATION
    Case("6.10", "CONTINUATION on stream 0", frame(CONTINUATION, FLAG_END_HEADERS, 0, BLOCK), PROTOCOL_ERROR),
    Case("6.10", "CONTINUATION on an idle stream", frame(CONTINUATION, FLAG_END_HEADERS, 3, BLOCK), PROTOCOL_ERROR),
    Case(
        "6.10",
        "CONTINUATION behind END_HEADERS",
        post(3) + frame(CONTINUATION, FLAG_END_HEADERS, 3, b""),
        PROTOCOL_ERROR,
    ),
    Case(
        "6.10",
        "CONTINUATION behind CONTINUATION with END_HEADERS",
        OPEN_BLOCK + 2 * frame(CONTINUATION, FLAG_END_HEADERS, 3),
        PROTOCOL_ERROR,
    ),
    Case("6.10", "CONTINUATION behind DATA", post(3) + data(3, b"a") + frame(CONTINUATION, 4, 3), PROTOCOL_ERROR),
]


@pytest.fixture
def connection(h2c: Gunicorn) -> Iterator[Http2Connection]:
    with Http2Connection(h2c.address) as connection:
        yield connection


@pytest.mark.parametrize("case", CASES, ids=str)
def test_frames(case: Case, h2c: Gunicorn, bystander: Http2Connection) -> None:
    run(case, h2c, bystander)


@pytest.mark.parametrize(
    "first",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!" + settings_frame({}),
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        PREFACE + headers(1),
        PREFACE + ping_frame(b"pingpong"),
        PREFACE + SETTINGS_ACK,
        PREFACE + window_update_frame(0, 1),
        PREFACE + frame(UNKNOWN_TYPE, 0, 0),
    ],
    ids=["its end", "its middle", "HEADERS", "PING", "ACK", "WINDOW_UPDATE", "unknown"],
)
def test_a_wrong_connection_preface_ends_the_connection(
    first: bytes, h2c: Gunicorn, bystander: Http2Connection
) -> None:
    """Section 3.4."""
    with Http2Connection(h2c.address, handshake=False) as connection:
        connection.send(first)
        assert connection.goaway() == (0, ErrorCode.PROTOCOL_ERROR)
    assert bystander.get().body == b"hello"


def test_the_preface_may_come_byte_by_byte(h2c: Gunicorn) -> None:
    """Section 3.4, and a request in the same trickle."""
    with Http2Connection(h2c.address, handshake=False) as connection:
        for byte in PREFACE + settings_frame({}):
            connection.sock.sendall(bytes((byte,)))
        connection.send(headers(1))
        assert connection.response(1).body == b"hello"
        assert connection.acknowledged == 1


def test_preface_settings_and_requests_may_come_at_once(h2c: Gunicorn) -> None:
    """Section 3.4: a client need not wait for the SETTINGS of the server."""
    with Http2Connection(h2c.address, handshake=False) as connection:
        connection.send(PREFACE + settings_frame({}) + headers(1) + headers(3))
        assert connection.response(1).body == connection.response(3).body == b"hello"


def test_the_server_sends_its_settings_without_waiting(h2c: Gunicorn) -> None:
    """Section 3.4: its preface is SETTINGS, and nothing that section 6.5.2 forbids to a server."""
    with Http2Connection(h2c.address) as connection:
        assert connection.server_settings.get(SETTINGS_ENABLE_PUSH, 0) == 0
        assert 2**14 <= connection.server_settings.get(SETTINGS_MAX_FRAME_SIZE, 2**14) < 2**24
        assert connection.server_settings[SETTINGS_MAX_CONCURRENT_STREAMS] == 100


def test_each_settings_frame_is_acknowledged(connection: Http2Connection) -> None:
    """Section 6.5.3."""
    connection.send(3 * settings_frame({SETTINGS_HEADER_TABLE_SIZE: 100}))
    connection.round_trip()
    assert connection.acknowledged == 4


def test_a_ping_is_answered_with_its_payload(connection: Http2Connection) -> None:
    """Section 6.7. An ACK is not answered."""
    connection.send(ping_frame(b"\x00\xff234567") + ping_frame(b"answered", ack=True) + ping_frame(b"76543210"))
    connection.round_trip()
    assert connection.pongs[:2] == [b"\x00\xff234567", b"76543210"]
    assert b"answered" not in connection.pongs


def test_settings_are_applied_in_their_order(connection: Http2Connection) -> None:
    """Section 6.5.3: of a repeated setting the last one counts."""
    connection.send(raw_settings((SETTINGS_INITIAL_WINDOW_SIZE, 100), (SETTINGS_INITIAL_WINDOW_SIZE, 1)))
    connection.gives_window = False
    connection.send(headers(1))
    connection.head(1)
    connection.round_trip()
    assert connection.streams[1].body == b"h"
    connection.give(1, 4)
    assert connection.response(1).body == b"hello"


@pytest.mark.parametrize(
    "goaway",
    [
        goaway_frame(0, ErrorCode.NO_ERROR),
        goaway_frame(2**31 - 1, ErrorCode.PROTOCOL_ERROR),
        goaway_frame(0, 0xFFFFFFFF, b"debug data"),
        frame(GOAWAY, 0xFF, 0, bytes(8)),
    ],
    ids=["NO_ERROR", "PROTOCOL_ERROR", "an unknown code (section 7)", "unused flags (section 4.1)"],
)
def test_streams_before_goaway_are_answered_before_the_connection_ends(
    goaway: bytes, connection: Http2Connection
) -> None:
    """Section 6.8: the client is about to leave, and wants the answers that it has asked for."""
    connection.send(post(1) + headers(3) + goaway)
    assert connection.response(3).body == b"hello"
    connection.send(data(1, b"neighbour", end_stream=True))
    assert connection.response(1).body == b"neighbour"
    assert connection.goaway() == (3, ErrorCode.NO_ERROR)
