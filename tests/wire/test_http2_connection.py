"""The endpoint of an HTTP/2 connection on bytes, each case whole, byte by byte and in pieces (RFC 9113)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gunicorn_asgi.errors import RemoteProtocolError
from gunicorn_asgi.settings import HeadLimits, Settings
from gunicorn_asgi.wire import http2_frames as frames
from gunicorn_asgi.wire.http2_allowance import (
    MAX_BAD_STREAMS,
    MAX_CONTROL_FRAMES,
    MAX_LATE_STREAMS,
    MAX_RESETS,
    PERIOD_SECONDS,
)
from gunicorn_asgi.wire.http2_connection import CONNECTION_WINDOW_BYTES, Endpoint
from gunicorn_asgi.wire.http2_frames import ErrorCode, Http2Error
from gunicorn_asgi.wire.http2_request import RequestHead, RequestReader
from gunicorn_asgi.wire.http2_streams import VERDICTS, Stream, StreamState, Verdict
from tests.support.http2_frames import BEGIN, GET, POST, Reader, block, continuation, data, headers

Cut = Callable[[bytes], list[bytes]]
KIB = 1024
ALL_STREAMS = frames.ALL_STREAMS


@pytest.fixture(params=["whole", "byte by byte", "in pieces"])
def cut(request: pytest.FixtureRequest) -> Cut:
    """How bytes arrive."""
    size = {"whole": 2**30, "byte by byte": 1, "in pieces": 7}[request.param]
    return lambda data: [data[start : start + size] for start in range(0, len(data), size)]


class TestStream(Stream):
    __test__ = False

    def on_queue_sent(self) -> None:
        pass

    def on_closed(self) -> None:
        pass


@dataclass
class Client:
    """A client, and what the endpoint makes of it."""

    settings: Settings = field(default_factory=Settings)
    cut: Cut = lambda data: [data]
    connect_protocol: bool = False

    def __post_init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.heads: dict[int, RequestHead] = {}
        self.endpoint: Endpoint[TestStream] = Endpoint(
            self.settings, RequestReader(self.settings.head_limits), self, connect_protocol=self.connect_protocol
        )
        self.reader = Reader()
        self.now = 1000.0
        self.answer_has_begun = False
        self.endpoint.begin()

    def send(self, *parts: bytes) -> "Client":
        for piece in self.cut(b"".join(parts)):
            self.endpoint.receive(piece, self.now)
        return self

    def error(self, *parts: bytes) -> tuple[ErrorCode, str]:
        """The connection error that these bytes are."""
        with pytest.raises(Http2Error) as caught:
            self.send(*parts)
        return caught.value.code, caught.value.reason

    def received(self) -> Reader:
        """What the server has sent."""
        out = self.endpoint.sender.out
        self.reader.feed(b"".join(out))
        out.clear()
        return self.reader

    def stream(self, stream_id: int) -> TestStream:
        return self.endpoint.streams.open[stream_id]

    def answer(self, stream_id: int, content: bytes = b"") -> None:
        """The application answers."""
        self.endpoint.sender.send_response(self.stream(stream_id), block([(b":status", b"200")]), content, True)

    # The connection's side

    def on_request(self, stream_id: int, head: RequestHead, ended: bool) -> TestStream:
        self.events.append(("request", stream_id, ended))
        self.heads[stream_id] = head
        state = StreamState.HALF_CLOSED_REMOTE if ended else StreamState.OPEN
        incoming = None if ended else self.endpoint.incoming_content(head[6])
        return TestStream(stream_id, state, self.endpoint.sender.initial_window, incoming)

    def on_refused_request(self, stream_id: int, error: RemoteProtocolError, line: bytes) -> None:
        self.events.append(("refused", stream_id, error.status, error.reason))
        self.endpoint.sender.send_answer(stream_id, block([(b":status", b"%d" % error.status)]), b"no")

    def on_content(self, stream: TestStream, content: bytes, ended: bool) -> None:
        self.events.append(("content", stream.id, content, ended))

    def on_refused_trailers(self, stream: TestStream, error: RemoteProtocolError) -> bool:
        self.events.append(("refused trailers", stream.id, error.status, error.reason))
        return not self.answer_has_begun

    def on_stream_reset(self, stream: TestStream) -> None:
        self.events.append(("reset", stream.id))

    def on_stream_error(self, reason: str) -> None:
        self.events.append(("error", reason))

    def on_offence(self, reason: str) -> None:
        self.events.append(("offence", reason))

    def on_ping_ack(self, payload: bytes) -> None:
        self.events.append(("ping ack", payload))


def connected(settings: Settings | None = None, cut: Cut | None = None, *, connect_protocol: bool = False) -> Client:
    client = Client(settings or Settings(), cut or (lambda data: [data]), connect_protocol)
    client.send(BEGIN)
    client.received()
    client.events.clear()
    return client


# The preface (section 3.4)


def test_the_preface_of_the_server_comes_first() -> None:
    settings = Settings(http2_max_concurrent_streams=7)
    first, second = Client(settings).received().frames
    assert (first.kind, first.flags, first.stream_id) == (frames.SETTINGS, 0, 0)
    assert first.payload == (
        b"\x00\x03\x00\x00\x00\x07\x00\x04\x00\x00\xff\xff\x00\x05\x00\x00\x40\x00\x00\x06\x00\x01\x00\x00"
        b"\x00\x09\x00\x00\x00\x01"
    )
    assert second == (frames.WINDOW_UPDATE, 0, 0, (CONNECTION_WINDOW_BYTES - 65535).to_bytes(4, "big"))


def test_settings_are_acknowledged(cut: Cut) -> None:
    client = Client(cut=cut).send(BEGIN)
    assert client.received().frames[2:] == [(frames.SETTINGS, frames.FLAG_ACK, 0, b"")]


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", b"\x16\x03\x01", b"x"]
)
def test_anything_but_the_preface(first: bytes, cut: Cut) -> None:
    assert Client(cut=cut).error(first) == (ErrorCode.PROTOCOL_ERROR, "bad-preface")


@pytest.mark.parametrize("first", [headers(1), frames.ping_frame(bytes(8)), frames.SETTINGS_ACK])
def test_anything_but_settings_first(first: bytes) -> None:
    assert Client().error(frames.PREFACE + first) == (ErrorCode.PROTOCOL_ERROR, "no-settings-first")


def test_awaits_settings() -> None:
    client = Client()
    assert client.endpoint.awaits_settings
    client.send(frames.PREFACE)
    assert client.endpoint.awaits_settings
    client.send(frames.settings_frame({}))
    assert not client.endpoint.awaits_settings


# Requests


def test_requests(cut: Cut) -> None:
    client = connected(cut=cut).send(headers(1), headers(3, POST, ended=False), headers(5))
    assert client.events == [("request", 1, True), ("request", 3, False), ("request", 5, True)]
    assert client.heads[3][:3] == ("POST", "/", b"/")


def test_a_request_that_is_repeated_is_the_same() -> None:
    client = connected().send(headers(1), headers(3), headers(5, POST), headers(7))
    assert client.heads[1] == client.heads[3] == client.heads[7]
    assert client.heads[5][0] == "POST"


def test_a_repeated_list_is_checked_anew_where_its_end_differs() -> None:
    """A Content-Length is right before content and wrong without it."""
    fields = (*POST, (b"content-length", b"3"))
    client = connected().send(headers(1, fields, ended=False), headers(3, fields, ended=True))
    assert client.events == [("request", 1, False), ("error", "body-shorter-than-content-length")]


def test_padding_and_priority(cut: Cut) -> None:
    flags = frames.FLAG_END_HEADERS | frames.FLAG_END_STREAM
    priority = b"\x80\x00\x00\x00\x10"
    payloads = {
        1: (flags | frames.FLAG_PRIORITY, priority + block(GET)),
        3: (flags | frames.FLAG_PADDED, b"\x05" + block(GET) + bytes(5)),
        5: (flags | frames.FLAG_PADDED | frames.FLAG_PRIORITY, b"\x00" + priority + block(GET)),
    }
    client = connected(cut=cut)
    for stream_id, (flag, payload) in payloads.items():
        client.send(frames.frame(frames.HEADERS, flag, stream_id, payload))
    assert client.events == [("request", 1, True), ("request", 3, True), ("request", 5, True)]
    assert client.heads[1] == client.heads[3] == client.heads[5]


@pytest.mark.parametrize(("whole", "block_of"), [(headers(3), 3), (data(1, b"abcdefgh"), 0)])
def test_a_frame_that_has_come_in_part(whole: bytes, block_of: int) -> None:
    """It is a header block from the end of its head on."""
    client = connected().send(headers(1, POST, ended=False))
    for number, byte in enumerate(whole, 1):
        client.send(bytes((byte,)))
        assert client.endpoint.coming_block == (block_of if 9 <= number < len(whole) else 0)


@pytest.mark.parametrize("pieces", [1, 2, 8])
def test_continuations(pieces: int, cut: Cut) -> None:
    whole = block([*GET, (b"x", b"1" * 100)])
    size = len(whole) // (pieces + 1) + 1
    first, *rest = [whole[start : start + size] for start in range(0, len(whole), size)]
    client = connected(cut=cut)
    client.send(frames.frame(frames.HEADERS, frames.FLAG_END_STREAM, 1, first))
    assert client.endpoint.coming_block == 1
    for index, piece in enumerate(rest):
        client.send(continuation(1, piece, ended=index == len(rest) - 1))
    assert client.endpoint.coming_block == 0
    assert client.events == [("request", 1, True)]
    assert (b"x", b"1" * 100) in client.heads[1][4]


@pytest.mark.parametrize(
    "bytes_",
    [
        headers(2),  # section 5.1.1
        headers(0),
        data(0, b"x"),
        data(2, b"x"),
        data(1, b"x"),
        frames.rst_stream_frame(0, 0),
        frames.rst_stream_frame(1, 0),
        frames.window_update_frame(1, 1),
        frames.window_update_frame(0, 0),
        frames.frame(frames.SETTINGS, 0, 1),
        frames.frame(frames.PING, 0, 1, bytes(8)),
        frames.frame(frames.GOAWAY, 0, 1, bytes(8)),
        frames.frame(frames.PRIORITY, 0, 0, bytes(5)),
        frames.frame(frames.PUSH_PROMISE, 4, 1, bytes(4)),
        frames.frame(frames.HEADERS, 0x0D, 1, b"\x05abc"),  # more padding than there is
        frames.frame(frames.CONTINUATION, 4, 1, b""),
        frames.frame(frames.HEADERS, 0, 1, b"") + headers(3),
        frames.frame(frames.HEADERS, 0, 1, b"") + frames.ping_frame(bytes(8)),
        frames.frame(frames.HEADERS, 0, 1, b"") + frames.frame(0x77, 0, 1),
        frames.frame(frames.HEADERS, 0, 1, b"") + continuation(3, b"", ended=True),
        headers(5) + headers(3),  # section 5.1.1: 3 was closed when 5 was opened
        headers(5) + data(3, b"x"),
        frames.settings_frame({frames.SETTINGS_ENABLE_PUSH: 2}),
        frames.settings_frame({frames.SETTINGS_MAX_FRAME_SIZE: 2**14 - 1}),
        frames.settings_frame({frames.SETTINGS_MAX_FRAME_SIZE: 2**24}),
    ],
)
def test_protocol_errors_of_the_connection(bytes_: bytes, cut: Cut) -> None:
    assert connected(cut=cut).error(bytes_)[0] is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "bytes_",
    [
        frames.frame(frames.DATA, 0, 1, bytes(16385)),
        frames.frame(frames.SETTINGS, 0, 0, bytes(5)),
        frames.frame(frames.SETTINGS, 1, 0, bytes(6)),
        frames.frame(frames.PING, 0, 0, bytes(7)),
        frames.frame(frames.RST_STREAM, 0, 1, bytes(3)),
        frames.frame(frames.WINDOW_UPDATE, 0, 0, bytes(5)),
        frames.frame(frames.GOAWAY, 0, 0, bytes(7)),
        frames.frame(frames.HEADERS, 0x25, 1, bytes(4)),
        frames.frame(frames.HEADERS, 0x21, 1, bytes(4)),
        frames.frame(frames.HEADERS, 0x0D, 1),
    ],
)
def test_frame_size_errors(bytes_: bytes, cut: Cut) -> None:
    """Section 4.2."""
    assert connected(cut=cut).error(bytes_)[0] is ErrorCode.FRAME_SIZE_ERROR


def test_a_frame_that_is_too_large_is_found_by_its_head() -> None:
    assert connected().error(frames.frame(frames.DATA, 0, 1, bytes(16385))[:9])[0] is ErrorCode.FRAME_SIZE_ERROR


@pytest.mark.parametrize("bad", [b"\xff\xff\xff\xff\xff\xff", b"\xfe", b"\x80", b"\x40\x85abc"])
def test_compression_error(bad: bytes, cut: Cut) -> None:
    """Section 4.3."""
    frame = frames.frame(frames.HEADERS, 5, 1, bad)
    assert connected(cut=cut).error(frame)[0] is ErrorCode.COMPRESSION_ERROR


def test_unknown_frames_are_ignored(cut: Cut) -> None:
    """Section 5.5."""
    client = connected(cut=cut).send(frames.frame(0x77, 0xFF, 1, b"x"), frames.frame(0x10, 0, 0, b"xxxx"), headers(1))
    assert client.events == [("request", 1, True)]


def test_the_reserved_bit_is_ignored() -> None:
    """Section 4.1."""
    frame = bytearray(headers(1))
    frame[5] |= 0x80
    assert connected().send(bytes(frame)).events == [("request", 1, True)]


# What is malformed (section 8.1.1)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([*GET, (b"X", b"1")], "bad-field"),
        ([*GET, (b"connection", b"close")], "bad-field"),
        ([*GET, (b":unknown", b"")], "bad-field"),
        ([*GET, (b"x", b"a\nb")], "bad-field"),
        ([*GET, (b"x", b"1"), (b":path", b"/")], "misplaced-pseudo-field"),
        (GET[1:], "missing-pseudo-field"),
        ([(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]], "unknown-pseudo-field"),
    ],
)
def test_a_malformed_request_is_reset_and_the_connection_lives(
    fields: list[tuple[bytes, bytes]], reason: str, cut: Cut
) -> None:
    client = connected(cut=cut).send(headers(1, fields), headers(3))
    assert client.events == [("error", reason), ("request", 3, True)]
    assert client.received().resets == {1: ErrorCode.PROTOCOL_ERROR}


def test_a_malformed_field_out_of_the_table_is_still_malformed() -> None:
    """A field is looked at when it comes as a literal; the table must remember what was found."""
    indexed = b"\x40\x01X\x011"  # with incremental indexing: X: 1
    client = connected()
    client.send(frames.frame(frames.HEADERS, 5, 1, block(GET) + indexed))
    client.send(frames.frame(frames.HEADERS, 5, 3, block(GET) + b"\xbe"))
    client.send(headers(5))
    assert client.events == [("error", "bad-field"), ("error", "bad-field"), ("request", 5, True)]


def test_many_bad_streams_are_the_last() -> None:
    client = connected().send(headers(1))
    for number in range(1, MAX_BAD_STREAMS):
        client.send(headers(2 * number + 1, GET[1:]))
    assert client.received().goaways == []
    client.send(headers(99, GET[1:]))
    client.send(headers(101))
    assert client.events[-2:] == [("offence", "too-many-bad-streams"), ("request", 101, True)]
    client.endpoint.refuse_further()
    client.send(headers(103))
    goaways = [(ALL_STREAMS, ErrorCode.PROTOCOL_ERROR), (101, ErrorCode.PROTOCOL_ERROR)]
    assert client.received().goaways == goaways
    assert client.received().resets[103] == ErrorCode.REFUSED_STREAM
    client.answer(1)
    assert client.received().responses[1].ended


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(b":method", b"CONNECT"), GET[3]], 501),
        ([*GET[:2], (b":path", b"/" + b"a" * 5000), GET[3]], 414),
        ([*GET, *((b"x%d" % number, b"") for number in range(101))], 431),
        ([*GET, (b"x", b"1" * 9000)], 431),
        ([*GET, *((b"x", b"1" * 8000),) * 9], 431),
    ],
)
@pytest.mark.parametrize("ended", [True, False])
def test_what_is_answered(fields: list[tuple[bytes, bytes]], status: int, ended: bool) -> None:
    whole = block(fields)
    first, *rest = [whole[start : start + 16384] for start in range(0, len(whole), 16384)]
    client = connected()
    flags = (0 if rest else frames.FLAG_END_HEADERS) | (frames.FLAG_END_STREAM if ended else 0)
    client.send(frames.frame(frames.HEADERS, flags, 1, first))
    for index, piece in enumerate(rest):
        client.send(continuation(1, piece, ended=index == len(rest) - 1))
    client.send(headers(3))
    assert client.events[0][:3] == ("refused", 1, status)
    assert client.events[1:] == [("request", 3, True)]
    response = client.received().responses[1]
    assert (response.status, response.content) == (status, b"no")
    # Section 8.1: NO_ERROR behind a complete response asks for no more content.
    assert response.reset == (None if ended else ErrorCode.NO_ERROR)


def test_extended_connect_where_it_is_allowed() -> None:
    client = connected(connect_protocol=True)
    client.send(headers(1, [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]], ended=False))
    assert client.heads[1][7] == b"websocket"


# States (section 5.1)


def test_every_state_has_a_verdict_for_every_frame_of_a_stream() -> None:
    kinds = (frames.HEADERS, frames.DATA, frames.RST_STREAM, frames.WINDOW_UPDATE)
    assert set(VERDICTS) == {(state, kind) for state in StreamState for kind in kinds}


_LATE = {
    frames.HEADERS: headers(1, [(b"x", b"1")]),
    frames.DATA: data(1, b"x", ended=True),
    frames.RST_STREAM: frames.rst_stream_frame(1, ErrorCode.CANCEL),
    frames.WINDOW_UPDATE: frames.window_update_frame(1, 10),
}


def _bring(client: Client, state: StreamState) -> None:
    """Bring stream 1 into `state`."""
    if state is StreamState.IDLE:
        return
    if state is StreamState.UNUSED:
        client.send(headers(3))
    elif state is StreamState.OPEN:
        client.send(headers(1, POST, ended=False))
    elif state is StreamState.HALF_CLOSED_LOCAL:
        client.send(headers(1, POST, ended=False))
        client.answer(1)
    else:
        client.send(headers(1))
        if state is StreamState.CLOSED:
            client.answer(1)
        elif state is StreamState.RESET_BY_CLIENT:
            client.send(frames.rst_stream_frame(1, ErrorCode.CANCEL))
        elif state is StreamState.RESET_BY_SERVER:
            client.endpoint.reset_stream(1, ErrorCode.CANCEL)
    client.received()


@pytest.mark.parametrize("kind", _LATE)
@pytest.mark.parametrize("state", StreamState)
def test_each_frame_in_each_state(state: StreamState, kind: int) -> None:
    client = connected()
    _bring(client, state)
    assert client.endpoint.streams.state_of(1) is state
    verdict = VERDICTS[state, kind]
    late = dict(_LATE)
    if state is StreamState.IDLE:
        late[frames.HEADERS] = headers(1)
    if verdict is Verdict.CONNECTION_PROTOCOL_ERROR:
        assert client.error(late[kind])[0] is ErrorCode.PROTOCOL_ERROR
    elif verdict is Verdict.CONNECTION_STREAM_CLOSED:
        assert client.error(late[kind])[0] is ErrorCode.STREAM_CLOSED
    else:
        before = len(client.received().frames)
        client.send(late[kind])
        sent = [frame for frame in client.received().frames[before:] if frame.kind == frames.RST_STREAM]
        if verdict is Verdict.STREAM_CLOSED:
            assert [frame.payload for frame in sent] == [b"\x00\x00\x00\x05"]
        else:
            assert sent == []
        client.send(headers(5))
        assert client.events[-1] == ("request", 5, True)


def test_what_is_remembered_of_closed_streams_is_bounded() -> None:
    client = connected()
    for number in range(2000):
        client.now += 1
        client.send(headers(4 * number + 1), frames.rst_stream_frame(4 * number + 1, ErrorCode.CANCEL))
    table = client.endpoint.streams
    assert len(table.open) == 0
    assert len(table._reset) <= 256
    assert len(table._unused) <= 64


# Content and flow control (sections 5.2, 6.1 and 6.9)


def test_content(cut: Cut) -> None:
    client = connected(cut=cut).send(
        headers(1, POST, ended=False), data(1, b"ab"), data(1, b"c", padding=9), data(1, b"", padding=0)
    )
    client.send(data(1, b"d", ended=True))
    assert client.events == [
        ("request", 1, False),
        ("content", 1, b"ab", False),
        ("content", 1, b"c", False),
        ("content", 1, b"", False),
        ("content", 1, b"d", True),
    ]


@pytest.mark.parametrize("trailers", [[(b"x", b"1")], []])
def test_trailers_end_the_content(trailers: list[tuple[bytes, bytes]], cut: Cut) -> None:
    client = connected(cut=cut).send(headers(1, POST, ended=False), data(1, b"ab"), headers(1, trailers))
    assert client.events[1:] == [("content", 1, b"ab", False), ("content", 1, b"", True)]


@pytest.mark.parametrize(
    "bytes_",
    [
        headers(1, [(b"x", b"1")], ended=False),
        headers(1, [(b":path", b"/")]),
        headers(1, [(b"X", b"1")]),
    ],
)
def test_bad_trailers(bytes_: bytes) -> None:
    """Section 8.1."""
    client = connected().send(headers(1, POST, ended=False), bytes_, headers(3))
    assert client.received().resets == {1: ErrorCode.PROTOCOL_ERROR}
    assert client.events[-1] == ("request", 3, True)


@pytest.mark.parametrize(
    ("trailers", "reason"),
    [
        ([(b"x%d" % number, b"") for number in range(101)], "too-many-trailers"),
        ([(b"x", b"1" * 9000)], "field-too-large"),
        ([(b"x", b"1" * 400)] * 20, "trailers-too-large"),
    ],
)
@pytest.mark.parametrize("answer_has_begun", [False, True])
def test_trailers_over_a_limit(trailers: list[tuple[bytes, bytes]], reason: str, answer_has_begun: bool) -> None:
    client = connected(Settings(http2_max_header_list_bytes=9100 if reason == "field-too-large" else 5000))
    client.answer_has_begun = answer_has_begun
    client.send(headers(1, POST, ended=False), headers(1, trailers), headers(3))
    assert ("refused trailers", 1, 431, reason) in client.events
    assert client.received().resets == ({1: ErrorCode.PROTOCOL_ERROR} if answer_has_begun else {})
    assert client.events[-1] == ("request", 3, True)


@pytest.mark.parametrize(
    "frames_",
    [
        [data(1, b"abcd")],
        [data(1, b"ab", ended=True)],
        [data(1, b"ab"), data(1, b"cd")],
        [data(1, b"ab"), headers(1, [])],
        [data(1, b"", ended=True)],
    ],
)
def test_content_that_is_not_as_long_as_announced(frames_: list[bytes]) -> None:
    """Section 8.1.1."""
    client = connected().send(headers(1, [*POST, (b"content-length", b"3")], ended=False), *frames_)
    assert client.received().resets == {1: ErrorCode.PROTOCOL_ERROR}
    assert ("reset", 1) in client.events


def test_content_as_long_as_announced() -> None:
    client = connected().send(headers(1, [*POST, (b"content-length", b"3")], ended=False), data(1, b"ab"))
    client.send(data(1, b"c", ended=True))
    assert client.events[-1] == ("content", 1, b"c", True)


def test_the_window_of_the_connection_is_given_back_at_once() -> None:
    client = connected(Settings(http2_initial_window_bytes=4 * CONNECTION_WINDOW_BYTES))
    client.send(frames.SETTINGS_ACK, headers(1, POST, ended=False))
    for _ in range(CONNECTION_WINDOW_BYTES // 16384 * 2):
        client.send(data(1, bytes(16384)))
    updates = client.received().of(frames.WINDOW_UPDATE)[1:]
    assert {frame.stream_id for frame in updates} == {0}
    assert sum(int.from_bytes(frame.payload, "big") for frame in updates) == 2 * CONNECTION_WINDOW_BYTES


def test_the_window_of_a_stream_is_given_back_when_its_content_is_taken() -> None:
    client = connected().send(headers(1, POST, ended=False))
    client.send(data(1, bytes(16384)), data(1, bytes(16000), padding=200))
    client.endpoint.acknowledge(client.stream(1))
    assert [frame for frame in client.received().of(frames.WINDOW_UPDATE) if frame.stream_id] == []
    client.send(data(1, bytes(1000)))
    client.endpoint.acknowledge(client.stream(1))
    (update,) = [frame for frame in client.received().of(frames.WINDOW_UPDATE) if frame.stream_id]
    assert (update.stream_id, update.payload) == (1, (16384 + 16000 + 201 + 1000).to_bytes(4, "big"))


@pytest.mark.parametrize("empty", [data(1), data(1, padding=0), data(1, padding=255)])
def test_what_is_empty_gives_back_nothing_that_was_not_taken(empty: bytes) -> None:
    client = connected().send(headers(1, POST, ended=False), *[data(1, bytes(16000))] * 3, *[empty] * 50)
    assert [frame for frame in client.received().of(frames.WINDOW_UPDATE) if frame.stream_id] == []
    client.send(data(1, bytes(16000)), data(1, bytes(16000)))
    assert client.received().resets == {1: ErrorCode.FLOW_CONTROL_ERROR}


def test_padding_is_given_back_at_once() -> None:
    client = connected().send(headers(1, POST, ended=False), *[data(1, b"x", padding=255)] * 129)
    (update,) = [frame for frame in client.received().of(frames.WINDOW_UPDATE) if frame.stream_id]
    assert (update.stream_id, update.payload) == (1, (128 * 256).to_bytes(4, "big"))


def test_an_empty_end_needs_no_window() -> None:
    """Section 6.9.1, where a smaller window has made it negative."""
    client = connected(Settings(http2_initial_window_bytes=100)).send(headers(1, POST, ended=False))
    client.send(data(1, bytes(200)), frames.SETTINGS_ACK, data(1, ended=True))
    assert client.received().resets == {}
    assert client.events[-1] == ("content", 1, b"", True)


def test_more_than_the_window_of_a_stream() -> None:
    client = connected().send(headers(1, POST, ended=False), headers(3, POST, ended=False))
    client.send(*[data(1, bytes(16384))] * 3, data(1, bytes(16383)))
    assert client.received().resets == {}
    client.send(data(1, b"x"), data(3, b"x"))
    assert client.received().resets == {1: ErrorCode.FLOW_CONTROL_ERROR}
    assert client.events[-1] == ("content", 3, b"x", False)


def test_a_smaller_window_counts_from_the_acknowledgement_on() -> None:
    """Section 6.5.3: the client may not have seen our settings yet."""
    client = connected(Settings(http2_initial_window_bytes=100)).send(headers(1, POST, ended=False), data(1, bytes(90)))
    client.send(headers(3, POST, ended=False), data(3, bytes(200)))
    assert client.received().resets == {}
    client.send(frames.SETTINGS_ACK, data(1, bytes(10)))
    assert client.received().resets == {}
    client.send(data(1, b"x"), headers(5, POST, ended=False), data(5, bytes(101)))
    assert client.received().resets == {1: ErrorCode.FLOW_CONTROL_ERROR, 5: ErrorCode.FLOW_CONTROL_ERROR}


def test_more_than_the_window_of_the_connection() -> None:
    """No honest client gets there, since the window is given back at once; a reset stream counts as well."""
    client = connected()
    client.endpoint._receive_window = 10
    assert client.error(data(1, bytes(11)))[0] is ErrorCode.FLOW_CONTROL_ERROR


def test_what_comes_for_an_answered_request_is_not_given_to_anybody() -> None:
    client = connected().send(headers(1, POST, ended=False))
    client.answer(1)
    client.events.clear()
    client.send(data(1, b"ab"), data(1, b"", ended=True))
    assert client.events == []
    assert client.endpoint.streams.state_of(1) is StreamState.CLOSED


# Other frames


def test_ping(cut: Cut) -> None:
    client = connected(cut=cut).send(frames.ping_frame(b"12345678"), frames.ping_frame(b"abcdefgh", ack=True))
    assert client.received().of(frames.PING) == [(frames.PING, frames.FLAG_ACK, 0, b"12345678")]
    assert client.events == [("ping ack", b"abcdefgh")]


def test_goaway_of_the_client() -> None:
    client = connected().send(frames.goaway_frame(0, 0, b"bye"), headers(1))
    assert client.endpoint.goaway_received
    assert client.events == [("request", 1, True)]


def test_priority_frames_mean_nothing(cut: Cut) -> None:
    client = connected(cut=cut).send(frames.frame(frames.PRIORITY, 0, 1, bytes(5)), headers(1))
    assert client.events == [("request", 1, True)]


def test_a_priority_frame_of_another_size() -> None:
    """Section 6.3: a stream error."""
    client = connected().send(headers(1), frames.frame(frames.PRIORITY, 0, 1, bytes(4)))
    assert client.received().resets == {1: ErrorCode.FRAME_SIZE_ERROR}


def test_streams_behind_the_last_goaway_are_refused_and_still_decoded() -> None:
    """Section 6.8."""
    client = connected().send(headers(1))
    client.endpoint.goaway_id = 1
    indexed = b"\x40\x01y\x011"
    client.send(frames.frame(frames.HEADERS, 5, 3, block(GET) + indexed))
    assert client.received().resets == {3: ErrorCode.REFUSED_STREAM}
    client.endpoint.goaway_id = 2**31 - 1
    client.send(frames.frame(frames.HEADERS, 5, 5, block(GET) + b"\xbe"))
    assert client.heads[5][5][b"y"] == b"1"


# Abuse


def test_more_streams_than_allowed() -> None:
    client = connected(Settings(http2_max_concurrent_streams=2)).send(headers(1), headers(3), headers(5))
    assert client.received().resets == {5: ErrorCode.REFUSED_STREAM}
    client.answer(1)
    client.send(headers(7))
    assert client.events == [("request", 1, True), ("request", 3, True), ("request", 7, True)]


def test_tasks_of_reset_streams_count_as_streams() -> None:
    client = connected(Settings(http2_max_concurrent_streams=2)).send(headers(1))
    client.endpoint.ending_tasks = 1
    client.send(headers(3))
    assert client.received().resets == {3: ErrorCode.REFUSED_STREAM}


def _reset_by_client(number: int) -> bytes:
    return headers(2 * number + 1) + frames.rst_stream_frame(2 * number + 1, ErrorCode.CANCEL)


def _window_of_0(number: int) -> bytes:
    """Provokes FLOW_CONTROL_ERROR, which is no PROTOCOL_ERROR and so limited as a reset only."""
    update = frames.window_update_frame(2 * number + 1, 2**31 - 1)
    return headers(2 * number + 1) + update


def _content_behind_the_end(number: int) -> bytes:
    return headers(2 * number + 1) + data(2 * number + 1, b"x")


@pytest.mark.parametrize("attack", [_reset_by_client, _window_of_0, _content_behind_the_end])
def test_resets(attack: Callable[[int], bytes]) -> None:
    """Rapid reset, and made-you-reset."""
    client = connected()
    for number in range(MAX_RESETS):
        client.send(attack(number))
    assert client.received().goaways == []
    client.send(attack(MAX_RESETS))
    assert client.received().goaways == [(ALL_STREAMS, ErrorCode.ENHANCE_YOUR_CALM)]
    assert client.events[-1] == ("offence", "too-many-resets")


def test_a_client_that_goes_on_behind_the_goaway_is_cut_off() -> None:
    """A few resets are allowed: its users go on leaving pages whose requests still run."""
    client = connected().send(headers(1))
    for number in range(1, MAX_RESETS + 2):
        client.send(_reset_by_client(number))
    client.send(*[frames.rst_stream_frame(3, ErrorCode.CANCEL)] * MAX_RESETS)
    assert list(client.endpoint.streams.open) == [1]
    assert client.error(frames.rst_stream_frame(3, ErrorCode.CANCEL)) == (
        ErrorCode.ENHANCE_YOUR_CALM,
        "too-many-resets",
    )


def test_endless_requests_behind_the_last_goaway() -> None:
    client = connected().send(headers(1))
    client.endpoint.refuse_further()
    for number in range(1, MAX_LATE_STREAMS + 1):
        client.send(headers(2 * number + 1))
    assert list(client.endpoint.streams.open) == [1]
    late = headers(2 * MAX_LATE_STREAMS + 3)
    assert client.error(late) == (ErrorCode.ENHANCE_YOUR_CALM, "too-many-late-streams")


def test_frames_of_streams_that_were_refused_behind_the_last_goaway() -> None:
    """RFC 9113 section 6.8: the client may not know yet."""
    client = connected().send(headers(1))
    client.endpoint.refuse_further()
    last = 2 * MAX_LATE_STREAMS + 1
    for stream_id in range(3, last + 2, 2):
        client.send(headers(stream_id, POST, ended=False))
    for stream_id in (3, 1001, last):
        client.send(data(stream_id, b"x"), frames.window_update_frame(stream_id, 1), data(stream_id, ended=True))
    assert client.error(data(last + 2, b"x")) == (ErrorCode.PROTOCOL_ERROR, "frame-on-idle-stream")


def test_content_that_was_on_its_way_to_many_streams_that_were_reset() -> None:
    """RFC 9113 section 5.1."""
    client = connected(Settings(http2_max_concurrent_streams=1000))
    ids = range(1, 2001, 2)
    client.send(*(headers(stream_id, POST, ended=False) for stream_id in ids))
    for stream_id in ids:
        client.endpoint.reset_stream(stream_id, ErrorCode.NO_ERROR)
    client.send(*(data(stream_id, b"x") for stream_id in ids))
    assert client.received().goaways == []


def test_resets_are_forgotten() -> None:
    client = connected()
    for number in range(5 * MAX_RESETS):
        client.now += PERIOD_SECONDS / (MAX_RESETS - 1)
        client.send(_reset_by_client(number))


@pytest.mark.parametrize(
    "frame",
    [
        frames.settings_frame({}),
        frames.SETTINGS_ACK,
        frames.ping_frame(bytes(8)),
        frames.ping_frame(bytes(8), ack=True),
        frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
        frames.frame(0x77, 0, 0, b""),
    ],
)
def test_control_frames(frame: bytes) -> None:
    client = connected()
    client.send(headers(1))  # SETTINGS have been there already.
    for _ in range(MAX_CONTROL_FRAMES):
        client.send(frame)
    assert client.error(frame) == (ErrorCode.ENHANCE_YOUR_CALM, "too-many-control-frames")


def test_empty_content() -> None:
    client = connected().send(headers(1, POST, ended=False))
    client.send(*[data(1)] * MAX_CONTROL_FRAMES)
    assert client.error(data(1)) == (ErrorCode.ENHANCE_YOUR_CALM, "too-many-control-frames")


@pytest.mark.parametrize("between", ["request", "content", "content sent", "time"])
def test_control_frames_between_what_is_useful(between: str) -> None:
    client = connected().send(headers(1, POST, ended=False))
    for number in range(3 * MAX_CONTROL_FRAMES):
        client.send(frames.ping_frame(bytes(8)))
        if number % MAX_CONTROL_FRAMES == MAX_CONTROL_FRAMES - 1:
            if between == "request":
                client.send(headers(number * 2 + 3))
            elif between == "content":
                client.send(data(1, b"x"))
            elif between == "content sent":
                client.endpoint.on_content_sent()
            else:
                client.now += PERIOD_SECONDS + 1


def test_an_endless_header_block() -> None:
    client = connected()
    client.send(frames.frame(frames.HEADERS, 0, 1, block(GET)))
    client.send(*[continuation(1, b"", ended=False)] * 8)
    assert client.error(continuation(1, b"", ended=True)) == (ErrorCode.ENHANCE_YOUR_CALM, "endless-header-block")


def test_a_header_block_in_frames_that_may_be_huge() -> None:
    client = connected(Settings(http2_max_frame_bytes=2**24 - 1))
    huge = frames.frame(frames.HEADERS, 5, 1, b"\x82" * 200_000)
    assert client.error(huge) == (ErrorCode.ENHANCE_YOUR_CALM, "header-block-too-large")
    client = connected(Settings(http2_max_frame_bytes=2**24 - 1))
    client.send(frames.frame(frames.HEADERS, 0, 1, b"\x82" * 100_000))
    assert client.error(continuation(1, b"\x82" * 100_000, ended=True))[1] == "endless-header-block"


# Windows of the client


def test_windows_that_grow_too_large() -> None:
    client = connected().send(headers(1))
    assert client.error(frames.window_update_frame(0, 2**31 - 1)) == (
        ErrorCode.FLOW_CONTROL_ERROR,
        "window-too-large",
    )
    client = connected().send(headers(1), frames.window_update_frame(1, 2**31 - 1))
    assert client.received().resets == {1: ErrorCode.FLOW_CONTROL_ERROR}
    client = connected().send(headers(1), frames.window_update_frame(1, 2**31 - 1 - 65535))
    too_large = frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 65536})
    assert client.error(too_large)[0] is ErrorCode.FLOW_CONTROL_ERROR
    too_large = frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 2**31})
    assert connected().error(too_large)[0] is ErrorCode.FLOW_CONTROL_ERROR


def test_the_last_of_many_windows_in_one_frame_counts() -> None:
    """What lies between them would be work for all streams, 2700 times a frame."""
    values = [frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: size})[9:] for size in (0, 2**31 - 1, 7)]
    client = connected().send(headers(1), frames.window_update_frame(1, 1))
    client.send(frames.frame(frames.SETTINGS, 0, 0, b"".join(values)))
    assert (client.endpoint.sender.initial_window, client.stream(1).send_window) == (7, 8)
    too_large = frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 2**31})[9:]
    assert client.error(frames.frame(frames.SETTINGS, 0, 0, too_large + values[0]))[0] is ErrorCode.FLOW_CONTROL_ERROR


def test_a_window_update_of_0() -> None:
    client = connected().send(headers(1), frames.window_update_frame(1, 0))
    assert client.received().resets == {1: ErrorCode.PROTOCOL_ERROR}


# Requests that differ in their path


def test_requests_that_differ_in_their_path() -> None:
    client = connected()
    paths = [b"/", b"/a?b=c", b"/%C3%A4", b"/" + b"x" * 200, b"/a?b=c", b"/z" * 20]
    for number, path in enumerate(paths):
        fields = [*GET[:2], (b":path", path), GET[3], (b"x-y", b"z"), (b"cookie", b"a"), (b"cookie", b"b")]
        client.send(headers(2 * number + 1, fields))
    heads = [client.heads[2 * number + 1] for number in range(len(paths))]
    assert [head[2] + (b"?" + head[3] if head[3] else b"") for head in heads] == paths
    assert heads[2][1] == "/ä"
    assert all(head[4:8] == heads[0][4:8] for head in heads)
    assert [head[8].encode() for head in heads] == paths
    assert heads[0][4] == [(b"host", b"example.org"), (b"x-y", b"z"), (b"cookie", b"a; b")]


@pytest.mark.parametrize("path", [b"x", b"/ ", b"/\n", b"/\xff", b"*", b"/#", b""])
def test_a_bad_path_behind_a_good_one(path: bytes) -> None:
    client = connected()
    for number, each in enumerate([b"/good", b"/better", path, b"/best"]):
        client.send(headers(2 * number + 1, [*GET[:2], (b":path", each), GET[3]]))
    assert sorted(client.heads) == [1, 3, 7]
    assert client.received().resets == {5: ErrorCode.PROTOCOL_ERROR}
    assert client.heads[7][2] == b"/best"


def test_a_path_that_is_too_long_behind_a_short_one() -> None:
    client = connected(Settings(head_limits=HeadLimits(request_line_bytes=20)))
    for number, path in enumerate([b"/good", b"/" + b"x" * 20, b"/better"]):
        client.send(headers(2 * number + 1, [*GET[:2], (b":path", path), GET[3]]))
    assert [event[0] for event in client.events] == ["request", "refused", "request"]


def test_a_new_path_without_the_content_that_the_length_announces() -> None:
    fields = [(b"content-length", b"3")]
    client = connected()
    client.send(headers(1, [*POST[:2], (b":path", b"/1"), POST[3], *fields], ended=False))
    client.send(headers(3, [*POST[:2], (b":path", b"/2"), POST[3], *fields], ended=True))
    client.send(headers(5, [*POST[:2], (b":path", b"/3"), POST[3], *fields], ended=False))
    assert sorted(client.heads) == [1, 5]


def test_the_same_bytes_with_another_table_are_another_request() -> None:
    """An index means something else behind an insertion, also one in a list that was refused."""

    def send(stream_id: int, more: bytes, path: bytes) -> None:
        short = block([*GET[:2], (b":path", path), GET[3]])
        client.send(frames.frame(frames.HEADERS, 5, stream_id, short + more))

    client = connected(Settings(http2_max_header_list_bytes=400))
    send(1, b"\x40\x01a\x011", b"/1")
    send(3, b"\xbe", b"/2")
    send(5, b"\xbe", b"/3")
    send(7, b"\x40\x01b\x012" + b"\xbe" * 20, b"/4")
    send(9, b"\xbe", b"/3")
    send(11, b"\xbe", b"/5")
    assert [event[0] for event in client.events] == ["request"] * 3 + ["refused"] + ["request"] * 2
    assert [client.heads[number][4][-1] for number in (3, 5, 9, 11)] == [(b"a", b"1")] * 2 + [(b"b", b"2")] * 2
