"""WebSocket frames as bytes (RFC 6455 section 5): every case whole, byte by byte and in small pieces."""

import random
import sys
import tracemalloc
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.utils import apply_mask as pure_apply_mask

from gunicorn_asgi.asgi_types import WebSocketMessage
from gunicorn_asgi.errors import CloseCode, WebSocketError
from gunicorn_asgi.wire import websocket_frames
from gunicorn_asgi.wire.websocket_deflate import DeflateParameters, PerMessageDeflate
from gunicorn_asgi.wire.websocket_frames import (
    BINARY_HEADS,
    MAX_FRAGMENTS,
    MAX_PINGS,
    MIN_FRAGMENT_BYTES,
    TEXT_HEADS,
    FrameReader,
    check_close,
    encode_close,
    encode_ping,
    encode_pong,
    message_head,
)
from tests.support.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame, frames_in

RSV1, RSV2, RSV3 = 4, 2, 1
PARAMETERS = DeflateParameters(
    server_window_bits=12, client_window_bits=15, server_no_context_takeover=False, client_no_context_takeover=False
)

Cut = Callable[[bytes], list[bytes]]


@pytest.fixture(params=["whole", "byte by byte", "in pieces"])
def cut(request: pytest.FixtureRequest) -> Cut:
    """How bytes arrive."""
    size = {"whole": 2**30, "byte by byte": 1, "in pieces": 7}[request.param]
    return lambda data: [data[start : start + size] for start in range(0, len(data), size)]


@pytest.fixture(params=["speedups", "pure Python"], autouse=True)
def masking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of unmasking: the one in C may be missing, as on PyPy."""
    if request.param == "pure Python":
        monkeypatch.setattr(websocket_frames, "apply_mask", pure_apply_mask)


class Reading:
    """A reader and all that has come out of it."""

    def __init__(self, *, max_message_bytes: int = 1 << 20, max_messages: int = 1 << 20, deflate: bool = False) -> None:
        self.messages: deque[WebSocketMessage] = deque()
        self.reader = FrameReader(
            self.messages,
            max_message_bytes=max_message_bytes,
            max_messages=max_messages,
            deflate=PerMessageDeflate(PARAMETERS) if deflate else None,
        )
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.error: WebSocketError | None = None

    def feed(self, *pieces: bytes) -> "Reading":
        reader = self.reader
        for piece in pieces:
            try:
                told = reader.feed(piece)
            except WebSocketError as error:
                self.error = error
                break
            assert told == (bool(reader.pings) or reader.pong is not None or reader.closed is not self.closed)
            self.pings += reader.pings
            if reader.pong is not None:
                self.pongs.append(reader.pong)
            reader.pings = []
            reader.pong = None
            self.closed = reader.closed
        return self

    @property
    def contents(self) -> list[Any]:
        """What the messages hold, str or bytes."""
        contents = []
        for message in self.messages:
            assert message["type"] == "websocket.receive"
            assert len(message) == 2
            contents.append(message.get("text", message.get("bytes")))
        return contents


def deflated(data: bytes, window_bits: int = 15) -> bytes:
    """One message on its own."""
    deflater = zlib.compressobj(wbits=-window_bits)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


# Messages


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 2047, 2048, 65535, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_in_one_frame(size: int, opcode: int) -> None:
    content = bytes(65 + number % 26 for number in range(size))
    expected = content.decode() if opcode == TEXT else content
    data = frame(opcode, content)
    for step in (len(data), 1000, 7 if size < 5000 else 4097):
        pieces = [data[start : start + step] for start in range(0, len(data), step)]
        assert Reading().feed(*pieces).contents == [expected]


def test_every_split(cut: Cut) -> None:
    data = (
        frame(TEXT, "Grüße".encode())
        + frame(PING, b"1")
        + frame(BINARY, b"\x00\xff" * 70)
        + frame(TEXT, "aé".encode()[:2], final=False)
        + frame(PONG, b"2")
        + frame(CONTINUATION, "é€".encode()[1:3], final=False)
        + frame(CONTINUATION, "€!".encode()[1:])
        + close(3000, b"bye")
    )
    expected = ["Grüße", b"\x00\xff" * 70, "aé€!"]
    readings = [Reading().feed(*cut(data))]
    readings += [Reading().feed(data[:split], data[split:]) for split in range(1, len(data))]
    for reading in readings:
        assert reading.error is None
        assert reading.contents == expected
        assert (reading.pings, reading.pongs, reading.closed) == ([b"1"], [b"2"], (3000, "bye"))


MESSAGES = st.lists(st.text(max_size=300) | st.binary(max_size=300), max_size=5)


@given(data=st.data(), messages=MESSAGES, deflate=st.booleans())
def test_any_messages_in_any_fragments_and_pieces(data: st.DataObject, messages: list[Any], deflate: bool) -> None:
    stream = b""
    for message in messages:
        is_text = isinstance(message, str)
        payload = message.encode() if is_text else message
        compressed = deflate and data.draw(st.booleans())
        if compressed:
            payload = deflated(payload)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(payload)], strict=True)):
            opcode = CONTINUATION if number else TEXT if is_text else BINARY
            reserved = RSV1 if compressed and not number else 0
            mask = data.draw(st.binary(min_size=4, max_size=4))
            stream += frame(opcode, payload[start:end], final=number == len(cuts), reserved=reserved, mask=mask)
            if data.draw(st.booleans()):
                stream += frame(PING, b"ping")
    splits = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    pieces = [stream[start:end] for start, end in zip([0, *splits], [*splits, len(stream)], strict=True)]
    reading = Reading(deflate=deflate).feed(*filter(None, pieces))
    assert reading.error is None
    assert reading.contents == messages


@given(st.binary(max_size=200), st.integers(1, 20))
def test_garbage_is_read_alike_however_it_arrives(garbage: bytes, step: int) -> None:
    whole = Reading(max_message_bytes=1000, deflate=True).feed(garbage)
    pieces = Reading(max_message_bytes=1000, deflate=True).feed(
        *(garbage[start : start + step] for start in range(0, len(garbage), step))
    )
    assert pieces.contents == whole.contents
    assert (pieces.error is None) == (whole.error is None)
    assert pieces.closed == whole.closed


# Broken rules

HELLO = frame(TEXT, b"hello")


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"hello", mask=None),
        frame(BINARY, b"", mask=None),
        frame(PING, b"", mask=None),
        *(frame(TEXT, b"hello", reserved=reserved) for reserved in range(1, 8)),
        *(frame(PING, b"hello", reserved=reserved) for reserved in range(1, 8)),
        *(frame(opcode, b"hello") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        frame(PING, b"a" * 126),
        frame(CLOSE, b"\x03\xe8" + b"a" * 124),
        frame(PING, final=False),
        frame(CLOSE, b"\x03\xe8", final=False),
        frame(CONTINUATION, b"hello"),
        frame(CONTINUATION, b"hello", final=False),
        frame(TEXT, b"a", final=False) + frame(TEXT, b"b"),
        frame(TEXT, b"a", final=False) + frame(BINARY, b"b", final=False),
        frame(TEXT, b"a") + frame(CONTINUATION, b"b"),
        frame(BINARY, b"a", length=1 << 63),
        *(
            bytes((first, 0x80 | form)) + length.to_bytes(2 if form == 126 else 8, "big") + bytes(4 + length)
            for first in (0x80 | TEXT, BINARY, 0x80 | PING, 0x80 | PONG, 0x80 | CLOSE)
            for form, length in ((126, 0), (126, 5), (126, 125), (127, 5), (127, 126), (127, 65535))
        ),
        frame(CLOSE, b"\x03"),
        *(close(code) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)),
    ],
)
def test_protocol_errors(data: bytes, cut: Cut) -> None:
    reading = Reading().feed(*cut(HELLO + data))
    assert reading.error is not None
    assert reading.error.code == CloseCode.PROTOCOL_ERROR
    assert reading.contents[0] == "hello"
    assert reading.closed is None


@pytest.mark.parametrize("split", range(1, 14))
def test_a_length_that_is_not_in_its_shortest_form_is_refused_however_it_arrives(split: int) -> None:
    data = b"\x89\xfe\x00\x05" + bytes(4) + b"hello"
    reading = Reading().feed(data[:split], data[split:])
    assert reading.error is not None
    assert reading.error.args == (CloseCode.PROTOCOL_ERROR, "control frame is too long")


@pytest.mark.parametrize("first", [0x81, 0x82, 0x89, 0x83, 0xC1, 0x09, 0x80])
def test_what_the_first_two_bytes_show_is_refused_with_them(first: int) -> None:
    second = 0x80 if first in (0x83, 0xC1, 0x09, 0x80) else 5
    error = Reading().feed(bytes((first, second))).error
    assert error is not None
    assert error.code == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("reserved", [RSV2, RSV3, RSV1 | RSV2])
def test_other_reserved_bits_stay_forbidden_with_compression(reserved: int) -> None:
    error = Reading(deflate=True).feed(frame(TEXT, deflated(b"a"), reserved=reserved)).error
    assert error is not None
    assert error.code == CloseCode.PROTOCOL_ERROR


def test_compression_is_announced_in_the_first_fragment_only() -> None:
    reading = Reading(deflate=True).feed(frame(TEXT, b"", final=False), frame(CONTINUATION, b"", reserved=RSV1))
    assert reading.error is not None
    assert reading.error.code == CloseCode.PROTOCOL_ERROR


BAD_UTF8 = [
    b"\xff",
    b"\xc3\x28",
    b"\xe2\x82\x28",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\xaf",
    b"\xf8\x88\x80\x80\x80",
]


@pytest.mark.parametrize("bad", BAD_UTF8)
def test_text_that_is_not_utf_8(bad: bytes, cut: Cut) -> None:
    for data in (
        frame(TEXT, b"abc" + bad),
        frame(TEXT, b"abc", final=False) + frame(CONTINUATION, bad),
        frame(TEXT, bad[:1], final=False) + frame(CONTINUATION, bad[1:]),
    ):
        error = Reading().feed(*cut(data)).error
        assert error is not None
        assert error.code == CloseCode.INVALID_DATA
    compressed = Reading(deflate=True).feed(*cut(frame(TEXT, deflated(b"abc" + bad), reserved=RSV1)))
    assert compressed.error is not None
    assert compressed.error.code == CloseCode.INVALID_DATA


@pytest.mark.parametrize("text", [b"\xe2\x82", b"abc\xc3", b"\xf0\x9f\x98"])
def test_text_that_ends_within_a_character(text: bytes, cut: Cut) -> None:
    for data in (frame(TEXT, text), frame(TEXT, text, final=False) + frame(CONTINUATION)):
        error = Reading().feed(*cut(data)).error
        assert error is not None
        assert error.code == CloseCode.INVALID_DATA


@pytest.mark.parametrize("bad", BAD_UTF8)
def test_bad_utf_8_is_found_with_its_first_byte(bad: bytes) -> None:
    """Before its frame has ended, let alone its message."""
    data = frame(TEXT, b"abc" + bad + b"a" * 100, final=False)
    reading = Reading()
    shown = len(data) - 100
    reading.feed(*(data[position : position + 1] for position in range(shown)))
    assert reading.error is not None
    assert reading.error.code == CloseCode.INVALID_DATA


def test_a_reason_that_is_not_utf_8() -> None:
    error = Reading().feed(close(1000, b"\xff")).error
    assert error is not None
    assert error.code == CloseCode.INVALID_DATA


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999])
def test_valid_close_codes(code: int, cut: Cut) -> None:
    reading = Reading().feed(*cut(close(code, "tschüß".encode())))
    assert (reading.error, reading.closed) == (None, (code, "tschüß"))


def test_nothing_is_read_behind_a_close_frame(cut: Cut) -> None:
    reading = Reading().feed(*cut(HELLO + close(None) + frame(3) + HELLO))
    assert reading.error is None
    assert reading.contents == ["hello"]
    assert reading.closed == (CloseCode.NO_STATUS, "")


# Limits


def test_the_largest_message(cut: Cut) -> None:
    for data in (
        frame(BINARY, b"a" * 300),
        frame(BINARY, b"a" * 200, final=False) + frame(CONTINUATION, b"a" * 100),
        frame(BINARY, deflated(b"a" * 300), reserved=RSV1),
    ):
        assert Reading(max_message_bytes=300, deflate=True).feed(*cut(data)).contents == [b"a" * 300]


@pytest.mark.parametrize(
    "data",
    [
        frame(BINARY, length=301),
        frame(TEXT, length=301),
        frame(BINARY, length=2**40),
        frame(BINARY, b"a" * 300, final=False) + frame(CONTINUATION, length=1),
        frame(BINARY, length=500, reserved=RSV1),
    ],
)
def test_too_big_is_seen_from_the_length_alone(data: bytes, cut: Cut) -> None:
    error = Reading(max_message_bytes=300, deflate=True).feed(*cut(data)).error
    assert error is not None
    assert error.code == CloseCode.TOO_BIG


def test_a_message_that_inflates_to_too_much(cut: Cut) -> None:
    for data in (
        frame(BINARY, deflated(b"a" * 301), reserved=RSV1),
        frame(TEXT, deflated(b"a" * 200) + b"\0\0", reserved=RSV1, final=False)
        + frame(CONTINUATION, b"\xff\xff" + deflated(b"b" * 200)),
    ):
        error = Reading(max_message_bytes=300, deflate=True).feed(*cut(data)).error
        assert error is not None
        assert error.code == CloseCode.TOO_BIG


def test_messages_without_a_limit(cut: Cut) -> None:
    data = frame(BINARY, deflated(b"a" * 100_000), reserved=RSV1) + frame(BINARY, b"b" * 70_000)
    reading = Reading(max_message_bytes=sys.maxsize, deflate=True).feed(*cut(data))
    assert reading.error is None
    assert reading.contents == [b"a" * 100_000, b"b" * 70_000]


def test_fragments_that_carry_little_are_limited(cut: Cut) -> None:
    most = frame(TEXT, b"a", final=False) + frame(CONTINUATION, b"a", final=False) * (MAX_FRAGMENTS - 2)
    assert Reading().feed(*cut(most + frame(CONTINUATION, b"a"))).contents == ["a" * MAX_FRAGMENTS]
    for empty in (b"", b"a"):
        flood = frame(TEXT, empty, final=False) + frame(CONTINUATION, empty, final=False) * MAX_FRAGMENTS
        error = Reading().feed(*cut(flood)).error
        assert error is not None
        assert error.code == CloseCode.TOO_BIG


def test_fragments_that_carry_something_are_not() -> None:
    piece = b"a" * MIN_FRAGMENT_BYTES
    data = frame(BINARY, piece, final=False) + frame(CONTINUATION, piece, final=False) * (2 * MAX_FRAGMENTS)
    reading = Reading().feed(data + frame(CONTINUATION))
    assert reading.error is None
    assert [len(content) for content in reading.contents] == [MIN_FRAGMENT_BYTES * (2 * MAX_FRAGMENTS + 1)]


def test_reading_stops_for_messages_that_nobody_takes() -> None:
    reading = Reading(max_messages=3)
    reading.feed(HELLO * 3 + frame(PING, b"a") + HELLO * 2 + close())
    assert reading.reader.stopped
    assert len(reading.messages) == 3
    assert reading.pings == []
    reading.messages.clear()
    reading.feed(b"")
    assert not reading.reader.stopped
    assert len(reading.messages) == 2
    assert reading.pings == [b"a"]
    assert reading.closed == (1000, "")


def test_reading_stops_for_large_messages_before_there_are_many() -> None:
    """A queue of messages of the largest size would be a multiple of what the limit promises."""
    reading = Reading(max_message_bytes=10_000, max_messages=32)
    for data in (frame(BINARY, b"a" * 9_000), frame(BINARY, deflated(b"a" * 9_000), reserved=RSV1)):
        reading = Reading(max_message_bytes=10_000, max_messages=32, deflate=True)
        reading.feed(data * 5)
        assert reading.reader.stopped
        assert len(reading.messages) == 2
        reading.messages.clear()
        reading.feed(b"")
        assert len(reading.messages) == 2


def test_pieces_of_a_dripping_message_are_joined_now_and_then() -> None:
    content = bytes(65 + number % 26 for number in range(5000))
    for opcode, expected in ((BINARY, content), (TEXT, content.decode())):
        data = frame(opcode, content)
        assert Reading().feed(*(data[i : i + 1] for i in range(len(data)))).contents == [expected]


@pytest.mark.parametrize(
    ("count", "answered"), [(1, 1), (10, 10), (MAX_PINGS, MAX_PINGS), (MAX_PINGS + 1, 1), (1000, 1)]
)
def test_of_many_pings_the_newest_counts(count: int, answered: int) -> None:
    reading = Reading().feed(b"".join(frame(PING, b"%d" % number) for number in range(count)))
    assert len(reading.pings) == answered
    assert reading.pings[-1] == b"%d" % (count - 1)


# After our close


def test_messages_are_discarded_unseen_on_request(cut: Cut) -> None:
    """Neither inflated nor checked for anything but their frames."""
    bomb = frame(BINARY, deflated(b"\0" * 1_000_000), reserved=RSV1)
    small = frame(BINARY, deflated(b"small"), reserved=RSV1)
    for before, behind in (
        (b"", b""),
        (frame(TEXT, b"half", final=False), frame(CONTINUATION, b"\xff")),
        (small[:-3], small[-3:]),
        (small[:3], small[3:]),
    ):
        reading = Reading(max_message_bytes=1000, deflate=True)
        reading.feed(before)
        reading.reader.discard_messages()
        reading.feed(*cut(behind + bomb + frame(TEXT, b"\xff") + frame(BINARY, b"a" * 2000) + close(1001)))
        assert reading.error is None
        assert reading.contents == []
        assert reading.closed == (1001, "")


# permessage-deflate


def test_context_is_taken_over_from_message_to_message() -> None:
    deflater = zlib.compressobj(wbits=-15)
    payloads = [(deflater.compress(b"hello " * 20) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(3)]
    assert len(payloads[2]) < len(payloads[0])
    reading = Reading(deflate=True).feed(*(frame(TEXT, payload, reserved=RSV1) for payload in payloads))
    assert reading.contents == ["hello " * 20] * 3


def test_compressed_and_plain_messages_in_turn() -> None:
    reading = Reading(deflate=True)
    reading.feed(HELLO, frame(TEXT, deflated(b"a" * 100), reserved=RSV1), HELLO)
    assert reading.contents == ["hello", "a" * 100, "hello"]


# RFC 7692 section 7.2.3: the same message in all forms that a deflate stream may have.
@pytest.mark.parametrize(
    "payload",
    ["f248cdc9c90700", "000500faff48656c6c6f00", "f348cdc9c9070000", "f248050000 00ffffcac9c90700"],
)
def test_the_examples_of_the_standard(payload: str, cut: Cut) -> None:
    reading = Reading(deflate=True).feed(*cut(frame(TEXT, bytes.fromhex(payload), reserved=RSV1) + HELLO))
    assert reading.error is None
    assert reading.contents == ["Hello", "hello"]


def test_a_message_after_one_that_has_ended_its_deflate_stream() -> None:
    ended = zlib.compressobj(wbits=-15)
    payload = ended.compress(b"Hello") + ended.flush(zlib.Z_FINISH)
    reading = Reading(deflate=True)
    reading.feed(frame(TEXT, payload, reserved=RSV1), frame(TEXT, deflated(b"World"), reserved=RSV1))
    reading.feed(frame(TEXT, payload + b"\0", reserved=RSV1), frame(TEXT, deflated(b"World"), reserved=RSV1))
    assert reading.contents == ["Hello", "World"] * 2


def test_many_deflate_streams_in_one_message_are_refused() -> None:
    error = Reading(deflate=True).feed(frame(TEXT, b"\x03\x00" * 1000, reserved=RSV1)).error
    assert error is not None
    assert error.code == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("size", [1, 300, 70_000])
def test_the_largest_message_may_be_one_that_deflate_makes_longer(size: int) -> None:
    content = random.Random(0).randbytes(size)
    for level in (0, 1, 9):
        for memory_level in range(1, 10):
            for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED):
                deflater = zlib.compressobj(level, wbits=-9, memLevel=memory_level, strategy=strategy)
                payload = deflater.compress(content) + deflater.flush(zlib.Z_SYNC_FLUSH)
                reading = Reading(max_message_bytes=size, deflate=True)
                assert reading.feed(frame(BINARY, payload[:-4], reserved=RSV1)).contents == [content]


@pytest.mark.parametrize("first_bytes", [99_999, 100_000, 100_001, 100_002])
def test_no_deflate_stream_behind_another_is_a_bomb(first_bytes: int) -> None:
    """Whatever the first of them leaves of the limit."""
    ended = [zlib.compressobj(wbits=-15) for _ in range(2)]
    payload = b"".join(
        deflater.compress(bytes(size)) + deflater.flush()
        for deflater, size in zip(ended, (first_bytes, 30_000_000), strict=True)
    )
    reading = Reading(max_message_bytes=100_000, deflate=True)
    tracemalloc.start()
    error = reading.feed(frame(BINARY, payload, reserved=RSV1)).error
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error is not None and error.code is CloseCode.TOO_BIG
    assert peak_bytes < 2_000_000


def test_what_is_no_deflate_stream() -> None:
    error = Reading(deflate=True).feed(frame(TEXT, b"\xff" * 20, reserved=RSV1)).error
    assert error is not None
    assert error.code == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("takeover", [True, False])
def test_deflate_is_undone_by_inflate(takeover: bool) -> None:
    parameters = DeflateParameters(
        server_window_bits=12,
        client_window_bits=12,
        server_no_context_takeover=not takeover,
        client_no_context_takeover=not takeover,
    )
    server, client = PerMessageDeflate(parameters), PerMessageDeflate(parameters)
    sizes = []
    for _ in range(3):
        payload = server.deflate(b"0123456789" * 50)
        sizes.append(len(payload))
        content = client.inflate(payload, 500)
        assert content + client.end_inflate(500 - len(content)) == b"0123456789" * 50
    assert (sizes[1] < sizes[0]) is takeover


# Writing


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 100_000])
@pytest.mark.parametrize("is_text", [True, False])
@pytest.mark.parametrize("compressed", [True, False])
def test_heads_of_messages(size: int, is_text: bool, compressed: bool) -> None:
    head = message_head(size, is_text=is_text, compressed=compressed)
    (written,) = frames_in(head + b"a" * size)
    assert written == (TEXT if is_text else BINARY, b"a" * size, True, RSV1 if compressed else 0)
    if size < 126 and not compressed:
        assert (TEXT_HEADS if is_text else BINARY_HEADS)[size] == head


def test_control_frames() -> None:
    data = encode_ping(b"1") + encode_pong(b"2" * 125) + encode_close(1001, "weg")
    data += encode_close(CloseCode.NO_STATUS)
    assert frames_in(data) == [
        (PING, b"1", True, 0),
        (PONG, b"2" * 125, True, 0),
        (CLOSE, b"\x03\xe9weg", True, 0),
        (CLOSE, b"", True, 0),
    ]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        *((code, "") for code in (1005, 1006, 1015, 999, 0, 70000, 1000.0, "1000", None)),
        *((1000, reason) for reason in ("ä" * 62, b"weg", None, "\ud800")),
    ],
)
def test_a_close_that_cannot_be_sent(code: object, reason: object) -> None:
    with pytest.raises(ValueError, match=r"close|surrogate"):
        check_close(code, reason)


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (CloseCode.SERVICE_RESTART, "ä" * 61), (4999, "weg")])
def test_a_close_that_can_be_sent(code: int, reason: str) -> None:
    check_close(code, reason)
