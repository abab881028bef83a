"""The sending side of HTTP/2: windows, turns and frames (RFC 9113 sections 5.2, 6.9 and 6.10)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_asgi.wire import http2_frames as frames
from gunicorn_asgi.wire.http2_sending import DEFAULT_WINDOW_BYTES, FrameSender
from gunicorn_asgi.wire.http2_streams import IncomingContent, Stream, StreamState, StreamTable
from tests.support.http2_frames import Frame, Reader, block

KIB = 1024
BURST = 64 * KIB
HEAD = block([(b":status", b"200")])


class Waiting(Stream):
    sent = False

    def on_queue_sent(self) -> None:
        self.sent = True

    def on_closed(self) -> None:
        pass


class Server:
    def __init__(self, burst: int = BURST) -> None:
        self.streams: StreamTable[Waiting] = StreamTable(100)
        self.sender: FrameSender[Waiting] = FrameSender(self.streams, burst)
        self.reader = Reader()

    def stream(self, stream_id: int, *, ended: bool = True) -> Waiting:
        state = StreamState.HALF_CLOSED_REMOTE if ended else StreamState.OPEN
        incoming = None if ended else IncomingContent(DEFAULT_WINDOW_BYTES, -1)
        stream = Waiting(stream_id, state, self.sender.initial_window, incoming)
        self.streams.open[stream_id] = stream
        return stream

    def sent(self) -> list[Frame]:
        """What the client gets now."""
        out = b"".join(self.sender.out)
        self.sender.out.clear()
        self.sender.out_bytes = 0
        return self.reader.feed(out)

    def sizes(self) -> list[tuple[int, int]]:
        """Stream and size of each DATA frame that the client gets now."""
        return [(frame.stream_id, len(frame.payload)) for frame in self.sent() if frame.kind == frames.DATA]

    def content(self, stream_id: int) -> bytes:
        return self.reader.responses[stream_id].content


@pytest.mark.parametrize("size", [0, 1, 16 * KIB, 16 * KIB + 1, 40 * KIB])
def test_a_response(size: int) -> None:
    server = Server()
    stream = server.stream(1)
    server.sender.send_response(stream, HEAD, bytes(size), True)
    server.sent()
    response = server.reader.responses[1]
    assert (response.status, response.content, response.ended) == (200, bytes(size), True)
    assert max(len(frame.payload) for frame in server.reader.frames) <= 16 * KIB
    assert server.streams.open == {}
    assert stream.state is StreamState.CLOSED
    assert server.sender.window == DEFAULT_WINDOW_BYTES - size


def test_an_empty_response_is_one_frame() -> None:
    server = Server()
    server.sender.send_response(server.stream(1), HEAD, b"", True)
    assert server.sent() == [(frames.HEADERS, 5, 1, HEAD)]


def test_a_response_in_pieces() -> None:
    server = Server()
    stream = server.stream(1)
    server.sender.send_response(stream, HEAD, b"", False)
    server.sender.send_content(stream, b"ab", False)
    server.sender.send_content(stream, b"", False)
    server.sender.send_content(stream, b"c", False)
    assert server.streams.state_of(1) is StreamState.HALF_CLOSED_REMOTE
    server.sender.send_content(stream, b"", True)
    assert [(frame.flags, frame.payload) for frame in server.sent()] == [
        (frames.FLAG_END_HEADERS, HEAD),
        (0, b"ab"),
        (0, b"c"),
        (frames.FLAG_END_STREAM, b""),
    ]
    assert stream.state is StreamState.CLOSED


def test_a_response_before_the_end_of_its_request() -> None:
    server = Server()
    stream = server.stream(1, ended=False)
    server.sender.send_response(stream, HEAD, b"x", True)
    assert stream.state is StreamState.HALF_CLOSED_LOCAL
    assert list(server.streams.open) == [1]


@pytest.mark.parametrize("content", [b"", b"x"])
@pytest.mark.parametrize("last", [True, False])
def test_a_large_head(content: bytes, last: bool) -> None:
    """Section 6.10."""
    server = Server()
    stream = server.stream(1)
    fields = [(b":status", b"200"), (b"x", bytes(range(33, 126)) * 500)]
    server.sender.send_response(stream, block(fields), content, last)
    sent = server.sent()
    assert [frame.kind for frame in sent][:3] == [frames.HEADERS, frames.CONTINUATION, frames.CONTINUATION]
    response = server.reader.responses[1]
    assert (response.fields, response.content, response.ended) == (fields, content, last)


def test_trailers() -> None:
    server = Server()
    stream = server.stream(1)
    server.sender.send_response(stream, HEAD, b"x", False)
    server.sender.send_trailers(stream, block([(b"grpc-status", b"0")]))
    server.sent()
    response = server.reader.responses[1]
    assert (response.trailers, response.ended, stream.state) == ([(b"grpc-status", b"0")], True, StreamState.CLOSED)


def test_a_client_with_a_smaller_table_is_told() -> None:
    """RFC 7541 section 4.2."""
    server = Server()
    server.sender.set_header_table_size(100)
    server.sender.send_response(server.stream(1), HEAD, b"", True)
    (frame,) = server.sent()
    assert frame.payload == b"\x20" + HEAD


# Windows


def test_content_waits_for_the_window_of_its_stream() -> None:
    server = Server()
    server.sender.set_initial_window(10)
    stream, other = server.stream(1), server.stream(3)
    server.sender.send_response(stream, HEAD, bytes(25), True)
    server.sender.send_response(other, HEAD, bytes(10), True)
    assert server.sizes() == [(1, 10), (3, 10)]
    assert not server.sender.has_sendable
    server.sender.on_window_update(stream, 5)
    assert server.sender.has_sendable
    server.sender.pump()
    assert server.sizes() == [(1, 5)]
    assert not stream.sent
    server.sender.on_window_update(stream, 100)
    server.sender.pump()
    assert server.sizes() == [(1, 10)]
    assert stream.sent
    assert server.reader.responses[1].ended
    assert stream.state is StreamState.CLOSED


def test_a_window_that_opens_again_and_again_gives_no_second_turn() -> None:
    server = Server(burst=2**30)
    first, second = server.stream(1), server.stream(3)
    server.sender.send_response(first, HEAD, bytes(DEFAULT_WINDOW_BYTES), False)
    server.sender.send_response(second, HEAD, bytes(40 * KIB), True)
    for _ in range(100):
        server.sender.set_initial_window(0)
        server.sender.set_initial_window(DEFAULT_WINDOW_BYTES)
    assert list(server.streams.ready) == [3]


def test_content_waits_for_the_window_of_the_connection() -> None:
    server = Server(burst=2**30)
    first, second = server.stream(1), server.stream(3)
    server.sender.send_response(first, HEAD, bytes(DEFAULT_WINDOW_BYTES), False)
    server.sender.send_response(second, HEAD, b"x", True)
    server.sent()
    assert not server.reader.responses[3].ended
    server.sender.pump()
    assert server.sizes() == []
    server.sender.on_window_update(None, 1)
    server.sender.pump()
    assert server.sizes() == [(3, 1)]
    assert server.reader.responses[3].ended


def test_new_responses_wait_behind_those_that_wait_already() -> None:
    server = Server(burst=2**30)
    server.sender.set_initial_window(2 * DEFAULT_WINDOW_BYTES)
    server.sender.send_response(server.stream(1), HEAD, bytes(DEFAULT_WINDOW_BYTES + 20 * KIB), True)
    server.sent()
    server.sender.on_window_update(None, 20 * KIB)
    for stream_id in (3, 5):
        server.sender.send_response(server.stream(stream_id), HEAD, bytes(4 * KIB), True)
    server.sender.send_response(server.stream(7), HEAD, bytes(40 * KIB), True)
    server.sender.pump()
    assert server.sizes() == [(1, 16 * KIB), (3, 4 * KIB)]
    server.sender.on_window_update(None, 32 * KIB)
    server.sender.pump()
    assert server.sizes() == [(5, 4 * KIB), (7, 16 * KIB), (1, 4 * KIB), (7, 8 * KIB)]


def test_the_end_waits_behind_what_is_queued() -> None:
    server = Server()
    server.sender.set_initial_window(1)
    stream = server.stream(1)
    server.sender.send_response(stream, HEAD, b"ab", False)
    server.sender.send_content(stream, b"", True)
    server.sender.on_window_update(stream, 1)
    server.sender.pump()
    server.sent()
    response = server.reader.responses[1]
    assert (response.content, response.ended) == (b"ab", True)


def test_a_window_below_zero() -> None:
    """Section 6.9.2."""
    server = Server()
    stream = server.stream(1)
    server.sender.send_response(stream, HEAD, bytes(1000), False)
    server.sender.set_initial_window(400)
    assert stream.send_window == -600
    server.sender.send_content(stream, b"abc", True)
    server.sender.on_window_update(stream, 600)
    assert not server.sender.has_sendable
    server.sender.on_window_update(stream, 1)
    server.sender.pump()
    assert server.sizes() == [(1, 1000), (1, 1)]
    server.sender.set_initial_window(402)
    server.sender.pump()
    assert server.sizes() == [(1, 2)]


def test_streams_take_turns() -> None:
    server = Server(burst=2**30)
    server.sender.set_initial_window(10**6)
    for stream_id in (1, 3, 5):
        server.sender.send_response(server.stream(stream_id), HEAD, bytes(40 * KIB), True)
    server.sent()
    server.sender.on_window_update(None, 10**6)
    server.sender.pump()
    order = [stream_id for stream_id, _ in server.sizes()]
    assert order == [3, 5, 3, 5, 5]
    assert all(response.ended for response in server.reader.responses.values())


def test_one_write_holds_a_burst_and_no_more() -> None:
    server = Server(burst=32 * KIB)
    server.sender.on_window_update(None, 10**6)
    server.sender.set_initial_window(10**6)
    stream = server.stream(1)
    server.sender.send_response(stream, HEAD, bytes(100 * KIB), True)
    assert server.sizes() == [(1, 16 * KIB)] * 2
    assert server.sender.has_sendable
    server.sender.pump()
    assert server.sizes() == [(1, 16 * KIB)] * 2
    for _ in range(2):
        server.sender.pump()
        server.sent()
    assert len(server.content(1)) == 100 * KIB


def test_what_is_queued_for_a_reset_stream_is_dropped() -> None:
    server = Server(burst=2**30)
    first, second = server.stream(1), server.stream(3)
    server.sender.send_response(first, HEAD, bytes(DEFAULT_WINDOW_BYTES + 10), True)
    server.sender.send_response(second, HEAD, bytes(10), True)
    server.streams.reset(1, StreamState.RESET_BY_CLIENT)
    assert list(server.streams.ready) == [3], "kept until the connection has room"
    server.sent()
    server.sender.on_window_update(None, 100)
    server.sender.pump()
    assert server.sizes() == [(3, 10)]


def test_tiny_pieces_that_wait_are_joined() -> None:
    server = Server()
    stream = server.stream(1)
    server.sender.window = 0
    server.sender.send_response(stream, HEAD, b"", False)
    pieces = [b"%05d" % number for number in range(10_000)]
    for piece in pieces:
        server.sender.send_content(stream, piece, False)
    server.sender.send_content(stream, bytes(2 * KIB), False)
    server.sender.send_content(stream, b"end", True)
    assert stream.queue is not None
    assert len(stream.queue) == 6
    whole = b"".join(pieces) + bytes(2 * KIB) + b"end"
    assert stream.queued_bytes == len(whole)
    # What has left is never changed by what is added.
    for room in (5, 10_000, 100_000):
        server.sender.on_window_update(None, room)
        server.sender.on_window_update(stream, room)
        server.sender.pump()
        assert stream.queue is None or stream.queued_bytes == sum(map(len, stream.queue))
        server.sent()
    assert server.content(1) == whole


def test_tiny_pieces_count_as_what_they_take() -> None:
    """So that what gathers for one write is bounded in memory, not in content."""
    server = Server()
    stream = server.stream(1)
    server.sender.send_response(stream, HEAD, b"", False)
    while server.sender.out_bytes < BURST:
        server.sender.send_content(stream, b"xy", False)
    assert len(server.sender.out) < 2000


@settings(max_examples=200, deadline=None)
@given(
    contents=st.lists(st.lists(st.integers(0, 50_000), min_size=1, max_size=4), min_size=1, max_size=4),
    updates=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 60_000)), max_size=30),
    initial=st.integers(0, 70_000),
)
def test_all_arrives_in_order_and_within_the_windows(
    contents: list[list[int]], updates: list[tuple[int, int]], initial: int
) -> None:
    server = Server()
    server.sender.set_initial_window(initial)
    allowed = {0: DEFAULT_WINDOW_BYTES}
    expected: dict[int, bytes] = {}
    streams: dict[int, Waiting] = {}
    for number, sizes in enumerate(contents):
        stream_id = 2 * number + 1
        streams[stream_id] = server.stream(stream_id)
        allowed[stream_id] = initial
        pieces = [bytes((number + index,)) * size for index, size in enumerate(sizes)]
        expected[stream_id] = b"".join(pieces)
        server.sender.send_response(streams[stream_id], HEAD, pieces[0], len(pieces) == 1)
        for index, piece in enumerate(pieces[1:], 2):
            server.sender.send_content(streams[stream_id], piece, index == len(pieces))

    def check() -> None:
        server.sender.pump()
        server.sent()
        for stream_id, whole in expected.items():
            content = server.content(stream_id)
            assert whole.startswith(content)
            assert len(content) <= allowed[stream_id]
            assert server.reader.responses[stream_id].ended is (len(content) == len(whole))
        assert sum(len(server.content(stream_id)) for stream_id in expected) <= allowed[0]

    check()
    for number, increment in updates:
        stream_id = number and 2 * number - 1
        if stream_id and stream_id not in streams:
            continue
        allowed[stream_id] += increment
        if not stream_id or stream_id in server.streams.open:
            server.sender.on_window_update(server.streams.open.get(stream_id), increment)
        check()
    for stream_id in [0, *streams]:
        if not stream_id or stream_id in server.streams.open:
            server.sender.on_window_update(server.streams.open.get(stream_id), 10**6)
            allowed[stream_id] += 10**6
    for _ in range(20):
        check()
    assert all(server.content(stream_id) == whole for stream_id, whole in expected.items())
