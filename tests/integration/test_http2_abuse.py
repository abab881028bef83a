"""What a client can do to a server by keeping to HTTP/2, more or less (RFC 9113 section 10.5): each is counted, and
ends with its own connection. A connection beside it is served all the time."""

import json
import random
import time
from collections.abc import Callable

import pytest

from gunicorn_asgi.wire.http2_frames import (
    ALL_STREAMS,
    CONTINUATION,
    DATA,
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    FLAG_PADDED,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_UPDATE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_INITIAL_WINDOW_SIZE,
    SETTINGS_MAX_CONCURRENT_STREAMS,
    ErrorCode,
    frame,
    ping_frame,
    rst_stream_frame,
    settings_frame,
    window_update_frame,
)
from tests.support.gunicorn import Gunicorn, GunicornStarter, peak_memory_bytes, reset_peak_memory
from tests.support.http2_conformance import check_neighbour
from tests.support.http2_wire import (
    ConnectionEnded,
    Http2Connection,
    block,
    data,
    headers,
    literal,
    post,
    request_fields,
)

MIB = 1024 * 1024
CALM = ErrorCode.ENHANCE_YOUR_CALM
LIMIT = 100
"""Of what is counted in 10 seconds."""

Start = Callable[..., Gunicorn]


@pytest.fixture
def start(gunicorns: GunicornStarter) -> Start:
    """Start a server of one test, with these options of the worker."""

    def start(*options: str, **env: str) -> Gunicorn:
        return gunicorns.start("probe", "--keep-alive", "600", *options, worker="gunicorn_asgi.H2CWorker", env=env)

    return start


# Resets


def test_resets_are_counted(h2c: Gunicorn, bystander: Http2Connection) -> None:
    """CVE-2023-44487, "rapid reset": requests that are taken back at once."""
    with Http2Connection(h2c.address) as connection:
        for number in range(LIMIT):
            stream = 2 * number + 1
            connection.send(headers(stream) + rst_stream_frame(stream, ErrorCode.CANCEL))
            if number % 10 == 9:  # Applications that have not ended yet count as streams.
                connection.round_trip()
        assert connection.get().body == b"hello"
        stream = connection.next_id
        connection.send(headers(stream) + rst_stream_frame(stream, ErrorCode.CANCEL))
        assert connection.goaway()[1] == CALM
    assert bystander.get().body == b"hello"


def test_resets_that_the_client_provokes_are_counted(h2c: Gunicorn, bystander: Http2Connection) -> None:
    """CVE-2025-8671, "made you reset": the server itself is made to send them."""
    with Http2Connection(h2c.address) as connection:
        for number in range(LIMIT + 1):
            stream = 2 * number + 1
            connection.send(post(stream, "/hold") + window_update_frame(stream, 2**31 - 1))
            if number % 10 == 9 and number < LIMIT - 1:
                connection.round_trip()
        assert connection.goaway()[1] == CALM
        resets = [stream.reset for stream in connection.streams.values() if stream.reset is not None]
        assert len(resets) >= LIMIT
        assert set(resets) == {ErrorCode.FLOW_CONTROL_ERROR}
    assert bystander.get().body == b"hello"


def test_refused_streams_are_counted(h2c: Gunicorn, bystander: Http2Connection) -> None:
    with Http2Connection(h2c.address) as connection:
        for number in range(100):
            connection.send(post(2 * number + 1))
        connection.send(b"".join(headers(201 + 2 * number) for number in range(LIMIT + 1)))
        connection.send(data(1, b"abc", end_stream=True))
        assert connection.response(1).body == b"abc", "what runs is finished"
        while len(connection.goaways) < 2:
            connection.receive()
        assert connection.goaways == [(ALL_STREAMS, CALM), (401, CALM)]
        connection.send(b"".join(headers(403 + 2 * number) for number in range(1001)))
        assert connection.goaway() == (401, CALM)
    assert bystander.get().body == b"hello"


def test_a_reset_cancels_the_application(h2c: Gunicorn, bystander: Http2Connection) -> None:
    with Http2Connection(h2c.address) as connection:
        connection.send(headers(1, request_fields("/await-cancel?reset")))
        bystander.get("/journal/awaiting-reset")
        connection.send(rst_stream_frame(1, ErrorCode.CANCEL))
        assert json.loads(bystander.get("/journal/cancelled-reset").body) == "cancelled"
        assert connection.get().body == b"hello"


def test_applications_that_outlive_their_reset_count_as_streams(start: Start) -> None:
    """Otherwise resets would start any number of them."""
    server = start()
    with Http2Connection(server.address) as connection, Http2Connection(server.address) as other:
        for number in range(60):
            connection.send(headers(2 * number + 1, request_fields(f"/shielded?{number}")))
        for number in range(60):
            other.get(f"/journal/shielded-{number}")
            connection.send(rst_stream_frame(2 * number + 1, ErrorCode.CANCEL))
        for number in range(60, 100):
            connection.send(post(2 * number + 1))
        connection.send(headers(201))
        assert connection.response(201).reset == ErrorCode.REFUSED_STREAM
        assert other.get("/unshield").body == b"unshielded"
        connection.send(data(121, b"abc", end_stream=True))
        assert connection.response(121).body == b"abc"
        assert connection.get().body == b"hello"


# Frames that cost more than they bring

FLOODS: dict[str, Callable[[int], bytes]] = {
    "SETTINGS": lambda _: settings_frame({SETTINGS_MAX_CONCURRENT_STREAMS: 1}),
    "PING": lambda _: ping_frame(b"pingpong"),
    "PING with ACK": lambda _: ping_frame(b"pingpong", ack=True),
    "PRIORITY": lambda stream: frame(PRIORITY, 0, stream, b"\x00\x00\x00\x00\x0f"),
    "PRIORITY_UPDATE": lambda stream: frame(PRIORITY_UPDATE, 0, 0, stream.to_bytes(4, "big") + b"u=1"),
    "empty DATA": lambda stream: data(stream, b""),
    "DATA of nothing but padding": lambda stream: frame(DATA, FLAG_PADDED, stream, b"\x09" + bytes(9)),
    "an unknown type": lambda stream: frame(0xBA, 0, stream, b"x"),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_frames_without_requests_are_counted(
    flood: Callable[[int], bytes], h2c: Gunicorn, bystander: Http2Connection
) -> None:
    with Http2Connection(h2c.address) as connection:
        connection.send(post(1))
        connection.send((LIMIT - 20) * flood(1))
        assert connection.get().body == b"hello"
        # The request has shown that the client wants something: the count begins anew.
        connection.send((LIMIT - 20) * flood(1))
        check_neighbour(connection)
        connection.send(post(101) + (LIMIT + 1) * flood(101))
        assert connection.goaway()[1] == CALM
    assert bystander.get().body == b"hello"


# Header blocks


def test_a_header_list_over_its_limit_is_431(h2c: Gunicorn, bystander: Http2Connection) -> None:
    with Http2Connection(h2c.address) as connection:
        connection.send(post(1))
        encoded = block(request_fields()) + 20 * literal(b"x-large", b"v" * 4000)
        pieces = [encoded[start : start + 16384] for start in range(0, len(encoded), 16384)]
        connection.send(frame(HEADERS, FLAG_END_STREAM, 3, pieces[0]))
        for piece in pieces[1:-1]:
            connection.send(frame(CONTINUATION, 0, 3, piece))
        connection.streams[3].window = 65535
        connection.send(frame(CONTINUATION, FLAG_END_HEADERS, 3, pieces[-1]))
        assert connection.response(3).status == 431
        check_neighbour(connection)
    assert bystander.get().body == b"hello"


@pytest.mark.parametrize("piece", [b"", literal(b"x-piece", b"v" * 4000)], ids=["empty", "not empty"])
def test_endless_continuation(piece: bytes, h2c: Gunicorn, bystander: Http2Connection) -> None:
    """CVE-2024-27316 and others: 8 CONTINUATION frames are enough for any list that is allowed."""
    with Http2Connection(h2c.address) as connection:
        connection.send(frame(HEADERS, FLAG_END_STREAM, 1, block(request_fields())))
        connection.send(8 * frame(CONTINUATION, 0, 1, b""))
        connection.send(frame(CONTINUATION, 0, 1, piece))
        assert connection.goaway() == (0, CALM)
    assert bystander.get().body == b"hello"


def test_as_many_continuations_as_are_allowed(h2c: Gunicorn) -> None:
    with Http2Connection(h2c.address) as connection:
        connection.send(frame(HEADERS, FLAG_END_STREAM, 1, block(request_fields())))
        connection.send(7 * frame(CONTINUATION, 0, 1) + frame(CONTINUATION, FLAG_END_HEADERS, 1))
        assert connection.response(1).body == b"hello"


@pytest.mark.load
def test_small_blocks_that_stand_for_large_lists(start: Start) -> None:
    """The "HPACK bomb": 16 KiB of indexes of an entry of 4 KiB are 64 MiB of fields."""
    server = start()
    with Http2Connection(server.address) as connection, Http2Connection(server.address) as other:
        pid = int(other.get("/pid").body)
        inserting = b"\x40\x01a\x7f\x80\x1e" + 3967 * b"v"
        connection.send(frame(HEADERS, FLAG_END_STREAM | FLAG_END_HEADERS, 1, block(request_fields()) + inserting))
        assert connection.response(1).status == 200
        before = reset_peak_memory(pid)
        for number in range(1, 20):
            encoded = block(request_fields()) + 16000 * b"\xbe"
            connection.send(frame(HEADERS, FLAG_END_STREAM | FLAG_END_HEADERS, 2 * number + 1, encoded))
            assert connection.response(2 * number + 1).status == 431
        assert peak_memory_bytes(pid) - before < 8 * MIB
        assert connection.get().body == other.get().body == b"hello"


# Windows


def test_send_waits_for_a_window(start: Start) -> None:
    """A client that gives no window does not fill memory."""
    server = start()
    with (
        Http2Connection(server.address, settings={SETTINGS_INITIAL_WINDOW_SIZE: 0}, gives_window=False) as connection,
        Http2Connection(server.address) as other,
    ):
        connection.send(headers(1, request_fields("/blocked-download")))
        sent = json.loads(other.get("/journal/blocked").body)
        assert sent <= 2
        connection.gives_window = True
        connection.give(0, MIB)
        connection.give(1, MIB)
        assert len(connection.response(1).body) == 2 * sent * 65536


@pytest.mark.load
def test_a_stream_whose_window_stays_at_0_is_reset(start: Start) -> None:
    """After write_timeout without progress; its neighbours are served."""
    server = start(GUNICORN_ASGI_WRITE_TIMEOUT="1")
    with Http2Connection(server.address, gives_window=False) as connection:
        connection.send(post(1))
        connection.send(headers(3, request_fields("/download?16")))
        connection.content(3, 65535)
        connection.give(0, MIB)
        began = time.monotonic()
        assert connection.response(3).reset == ErrorCode.CANCEL
        assert time.monotonic() - began >= 0.5
        check_neighbour(connection)


@pytest.mark.load
def test_answers_that_nobody_reads_do_not_fill_memory(start: Start) -> None:
    """200 MiB in 50 streams with endless windows, on a connection whose socket is not read."""
    server = start()
    with Http2Connection(server.address, settings={SETTINGS_INITIAL_WINDOW_SIZE: 2**31 - 1}) as connection:
        with Http2Connection(server.address) as other:
            pid = int(other.get("/pid").body)
            other.get("/download?8")
            before = reset_peak_memory(pid)
            connection.give(0, 2**31 - 65536)
            for number in range(50):
                connection.send(headers(2 * number + 1, request_fields("/download?64")))
            for _ in range(20):
                assert other.get().body == b"hello"
            # Each stream may have one piece of the application waiting, and the transport its buffer.
            assert peak_memory_bytes(pid) - before < 24 * MIB
        connection.gives_window = False
        assert len(connection.response(1).body) == 64 * 65536


def test_empty_frames_do_not_open_the_window_of_what_is_not_read(h2c: Gunicorn, bystander: Http2Connection) -> None:
    with Http2Connection(h2c.address) as connection:
        connection.send(post(1) + post(3, "/await-cancel?unread"))
        bystander.get("/journal/awaiting-unread")
        connection.send((data(3, bytes(16000)) + data(3, b"")) * 5)
        assert connection.response(3).reset == ErrorCode.FLOW_CONTROL_ERROR
        check_neighbour(connection)
    assert bystander.get().body == b"hello"


@pytest.mark.load
def test_many_window_sizes_in_one_frame(start: Start) -> None:
    """2700 of them, for 100 streams with answers that wait: it took seconds and hundreds of MiB."""
    server = start()
    closed = settings_frame({SETTINGS_INITIAL_WINDOW_SIZE: 0})
    with Http2Connection(server.address, gives_window=False) as connection, Http2Connection(server.address) as other:
        pid = int(other.get("/pid").body)
        for number in range(100):
            connection.send(headers(2 * number + 1, request_fields("/download?1")))
        connection.round_trip()
        before = reset_peak_memory(pid)
        entries = (closed[9:] + settings_frame({SETTINGS_INITIAL_WINDOW_SIZE: MIB})[9:]) * 1350
        began = time.monotonic()
        connection.send(frame(SETTINGS, 0, 0, entries) * 20)
        connection.round_trip()
        assert time.monotonic() - began < 2
        assert peak_memory_bytes(pid) - before < 8 * MIB
        assert other.get().body == b"hello"


# Silence and garbage


@pytest.mark.load
@pytest.mark.parametrize("first", [PREFACE[:20], PREFACE, PREFACE + settings_frame({})[:5]])
def test_settings_that_do_not_come(first: bytes, h2c: Gunicorn, bystander: Http2Connection) -> None:
    """Within 5 seconds."""
    with Http2Connection(h2c.address, handshake=False) as connection:
        connection.sock.sendall(first)
        assert connection.goaway() == (0, ErrorCode.PROTOCOL_ERROR)
    assert bystander.get().body == b"hello"


@pytest.mark.load
def test_a_header_block_that_does_not_end(start: Start) -> None:
    server = start(GUNICORN_ASGI_HEADER_TIMEOUT="1")
    with Http2Connection(server.address) as connection:
        connection.send(headers(1, end_headers=False))
        assert connection.goaway() == (0, ErrorCode.PROTOCOL_ERROR)


def test_garbage(h2c: Gunicorn, bystander: Http2Connection) -> None:
    """Whatever comes, the worker goes on, and a connection that is ended is told why."""
    chance = random.Random(9113)
    for _ in range(60):
        with Http2Connection(h2c.address) as connection:
            garbage = b""
            for _ in range(8):
                kind = chance.choice([DATA, HEADERS, RST_STREAM, PING, CONTINUATION, chance.randrange(256)])
                payload = chance.randbytes(chance.choice([0, 4, 5, 8, 100]))
                garbage += frame(kind, chance.randrange(256), chance.choice([0, 1, 2, 3, 2**31 - 1]), payload)
            connection.sock.sendall(garbage + chance.randbytes(chance.randrange(40)))
            # It may be waiting for the rest of a frame.
            connection.sock.shutdown(1)
            try:
                while True:
                    frame_of_server(connection)
            except ConnectionEnded:
                pass
    assert bystander.get().body == b"hello"
    assert "Traceback" not in h2c.log


def frame_of_server(connection: Http2Connection) -> None:
    """One frame, of which nothing is expected but that it is one."""
    head = connection.read(9)
    connection.read(int.from_bytes(head[:3], "big"))
