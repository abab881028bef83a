"""RFC 9113 section 5, and flow control of section 6.9: states of streams, their identifiers, number and windows."""

import json
from collections.abc import Iterator

import pytest

from gunicorn_asgi.wire.http2_frames import (
    FLAG_END_STREAM,
    PRIORITY,
    SETTINGS_INITIAL_WINDOW_SIZE,
    SETTINGS_MAX_FRAME_SIZE,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    rst_stream_frame,
    window_update_frame,
)
from tests.support.gunicorn import Gunicorn
from tests.support.http2_conformance import (
    Case,
    answered,
    check_neighbour,
    connection_error,
    nothing,
    run,
    stream_error,
)
from tests.support.http2_wire import (
    Http2Connection,
    data,
    headers,
    post,
    request_fields,
)

PRIORITY_OF_7 = b"\x00\x00\x00\x07\x0f"
CANCEL = rst_stream_frame(3, ErrorCode.CANCEL)

PROTOCOL_ERROR = connection_error(ErrorCode.PROTOCOL_ERROR)
STREAM_CLOSED = stream_error(ErrorCode.STREAM_CLOSED)
TRAILERS = headers(3, [(b"x-trailer", b"1")])
HOLD = headers(3, request_fields("/await-disconnect?conformance"))

CASES = [
    # Section 5.1, idle
    Case("5.1", "DATA on an idle stream", data(3, b"abc"), PROTOCOL_ERROR),
    Case("5.1", "DATA on an idle stream far away", data(2**31 - 1, b"abc"), PROTOCOL_ERROR),
    Case("5.1", "RST_STREAM on an idle stream", CANCEL, PROTOCOL_ERROR),
    Case("5.1", "WINDOW_UPDATE on an idle stream", window_update_frame(3, 1), PROTOCOL_ERROR),
    Case("5.1", "PRIORITY on an idle stream", frame(PRIORITY, 0, 3, PRIORITY_OF_7) + headers(3), answered()),
    # Half-closed (remote): the request has ended, the response not
    Case("5.1", "DATA behind END_STREAM", HOLD + data(3, b"abc"), STREAM_CLOSED),
    Case("5.1", "HEADERS behind END_STREAM", HOLD + TRAILERS, STREAM_CLOSED),
    Case("5.1", "PRIORITY behind END_STREAM", headers(3) + frame(PRIORITY, 0, 3, PRIORITY_OF_7), answered()),
    Case("5.1", "WINDOW_UPDATE behind END_STREAM", headers(3) + window_update_frame(3, 1000), answered()),
    Case("5.1", "RST_STREAM behind END_STREAM", HOLD + CANCEL, nothing),
    Case(
        "5.1",
        "DATA behind DATA with END_STREAM",
        post(3, "/hold") + data(3, b"a", end_stream=True) + data(3, b"b"),
        STREAM_CLOSED,
    ),
    Case("5.1", "HEADERS behind trailers", post(3, "/hold") + TRAILERS + TRAILERS, STREAM_CLOSED),
    # Closed by RST_STREAM of the client
    Case("5.1", "DATA behind RST_STREAM", post(3) + CANCEL + data(3, b"abc"), STREAM_CLOSED),
    Case("5.1", "HEADERS behind RST_STREAM", post(3) + CANCEL + TRAILERS, STREAM_CLOSED),
    Case("5.1", "PRIORITY behind RST_STREAM", post(3) + CANCEL + frame(PRIORITY, 0, 3, PRIORITY_OF_7), nothing),
    Case("5.1", "RST_STREAM twice", post(3) + CANCEL + CANCEL, nothing),
    Case("5.1", "WINDOW_UPDATE behind RST_STREAM", post(3) + CANCEL + window_update_frame(3, 1), nothing),
    # Section 5.1.1: identifiers
    Case("5.1.1", "an even identifier", headers(2), PROTOCOL_ERROR),
    Case("5.1.1", "a lower identifier than before", headers(5) + headers(3), PROTOCOL_ERROR),
    Case(
        "5.1.1",
        "DATA on a stream that was skipped",
        headers(5) + data(3, b"abc"),
        connection_error(ErrorCode.PROTOCOL_ERROR, ErrorCode.STREAM_CLOSED),
    ),
    Case("5.1.1", "identifiers may be skipped", headers(1001) + headers(2001), answered(stream=2001)),
    Case("5.1.1", "the same identifier again", HOLD + headers(3), STREAM_CLOSED),
    # Section 5.2, 6.9
    Case("6.9", "WINDOW_UPDATE on a stream of the server", window_update_frame(2, 1), PROTOCOL_ERROR),
    # Section 5.4.2
    Case(
        "5.4.2",
        "frames on their way behind a stream error are ignored",
        post(3)
        + frame(WINDOW_UPDATE, 0, 3, bytes(4))
        + data(3, b"abc")
        + window_update_frame(3, 1)
        + data(3, b"", end_stream=True),
        stream_error(ErrorCode.PROTOCOL_ERROR),
    ),
    Case(
        "5.4.2",
        "trailers on their way behind a stream error are ignored",
        post(3) + frame(WINDOW_UPDATE, 0, 3, bytes(4)) + TRAILERS,
        stream_error(ErrorCode.PROTOCOL_ERROR),
    ),
    Case(
        "5.4.2",
        "RST_STREAM on its way behind a stream error is ignored",
        post(3) + frame(WINDOW_UPDATE, 0, 3, bytes(4)) + CANCEL,
        stream_error(ErrorCode.PROTOCOL_ERROR),
    ),
]


@pytest.fixture
def connection(h2c: Gunicorn) -> Iterator[Http2Connection]:
    with Http2Connection(h2c.address) as connection:
        yield connection


@pytest.mark.parametrize("case", CASES, ids=str)
def test_streams(case: Case, h2c: Gunicorn, bystander: Http2Connection) -> None:
    run(case, h2c, bystander)


# Section 5.1, closed: what may come late, and what may not


def ended_stream(connection: Http2Connection) -> None:
    """A neighbour on stream 1, and stream 3 that both sides have ended."""
    connection.send(post(1))
    connection.send(headers(3))
    assert connection.response(3).body == b"hello"


@pytest.mark.parametrize(
    "late",
    [
        frame(PRIORITY, 0, 3, PRIORITY_OF_7),
        window_update_frame(3, 1),
        window_update_frame(3, 2**31 - 1),
        rst_stream_frame(3, ErrorCode.NO_ERROR),
    ],
    ids=["PRIORITY", "WINDOW_UPDATE", "a large WINDOW_UPDATE", "RST_STREAM"],
)
def test_late_frames_on_a_closed_stream_are_ignored(late: bytes, connection: Http2Connection) -> None:
    ended_stream(connection)
    connection.send(late)
    connection.round_trip()
    assert connection.streams[3].reset is None
    check_neighbour(connection)


@pytest.mark.parametrize(
    "late",
    [data(3, b"abc"), data(3, b"", end_stream=True), headers(3), TRAILERS],
    ids=["DATA", "END", "HEADERS", "trailers"],
)
def test_content_on_a_closed_stream_breaks_the_protocol(late: bytes, connection: Http2Connection) -> None:
    """Section 5.1: the client itself has ended this stream, so that it cannot be late."""
    ended_stream(connection)
    connection.send(late)
    assert connection.goaway()[1] == ErrorCode.STREAM_CLOSED


def test_content_of_a_stream_that_the_server_has_ended_is_taken(connection: Http2Connection) -> None:
    """Section 5.1, half-closed (local): the response was complete before the request was."""
    connection.send(post(1))
    connection.send(post(3, "/hello"))
    assert connection.response(3).body == b"hello"
    connection.send(data(3, b"nobody reads this") + data(3, b"", end_stream=True))
    connection.round_trip()
    check_neighbour(connection)


def test_a_stream_that_the_server_has_ended_may_be_reset(connection: Http2Connection) -> None:
    connection.send(post(1))
    connection.send(post(3, "/hello"))
    assert connection.response(3).body == b"hello"
    connection.send(CANCEL)
    connection.round_trip()
    check_neighbour(connection)


def test_a_request_whose_end_comes_late(connection: Http2Connection) -> None:
    """END_STREAM may come in an empty DATA frame, long after the rest."""
    connection.send(post(1) + data(1, b"abc"))
    connection.round_trip()
    connection.send(frame(0, FLAG_END_STREAM, 1))
    assert connection.response(1).body == b"abc"


# Section 5.1.2: concurrency


def test_streams_above_the_limit_are_refused(connection: Http2Connection) -> None:
    """With REFUSED_STREAM, which says that they may be sent again; those below are answered."""
    limit = 100
    for number in range(limit):
        connection.send(post(2 * number + 1))
    connection.send(headers(2 * limit + 1) + post(2 * limit + 3))
    connection.round_trip()
    assert connection.streams[2 * limit + 1].reset == ErrorCode.REFUSED_STREAM
    assert connection.streams[2 * limit + 3].reset == ErrorCode.REFUSED_STREAM
    # What was under way on a refused stream is ignored.
    connection.send(data(2 * limit + 3, b"abc", end_stream=True))
    for number in range(limit):
        connection.send(data(2 * number + 1, b"%d" % number, end_stream=True))
    for number in range(limit):
        assert connection.response(2 * number + 1).body == b"%d" % number
    assert connection.get().body == b"hello"


def test_a_refused_stream_keeps_the_header_tables_in_step(connection: Http2Connection) -> None:
    """Section 4.3: its block is decoded, as what follows depends on it."""
    for number in range(100):
        connection.send(post(2 * number + 1))
    inserting = b"\x40\x06x-late\x05value"
    connection.send(frame(1, 5, 201, headers(201)[9:] + inserting))
    connection.round_trip()
    assert connection.streams[201].reset == ErrorCode.REFUSED_STREAM
    connection.send(data(1, b"", end_stream=True))
    connection.response(1)
    connection.send(frame(1, 5, 203, headers(203, request_fields("/scope"))[9:] + b"\xbe"))
    assert ["x-late", "value"] in json.loads(connection.response(203).body)["headers"]


# Sections 5.2 and 6.9: flow control. That no window is exceeded is checked by the client for each frame.


def test_nothing_is_sent_into_a_window_of_0(h2c: Gunicorn) -> None:
    with Http2Connection(h2c.address, settings={SETTINGS_INITIAL_WINDOW_SIZE: 0}, gives_window=False) as connection:
        connection.send(headers(1))
        assert connection.head(1).status == 200
        assert connection.content(1, 0) == b""
        assert not connection.streams[1].ended
        connection.give(1, 1)
        assert connection.content(1, 1) == b"h"
        connection.give(1, 100)
        assert connection.response(1).body == b"hello"


def test_a_response_without_content_needs_no_window(h2c: Gunicorn) -> None:
    with Http2Connection(h2c.address, settings={SETTINGS_INITIAL_WINDOW_SIZE: 0}, gives_window=False) as connection:
        assert connection.get("/status?204").status == 204


def test_the_window_of_the_connection_is_kept(h2c: Gunicorn) -> None:
    """Section 6.9.1: windows of streams are large, that of the connection is not."""
    with Http2Connection(h2c.address, settings={SETTINGS_INITIAL_WINDOW_SIZE: 2**20}, gives_window=False) as connection:
        connection.send(headers(1, request_fields("/download?2")) + headers(3, request_fields("/download?2")))
        connection.round_trip()
        while connection.window:
            connection.receive()
        # A response without content is not held up.
        assert connection.get("/status?204").status == 204
        connection.give(0, 2**20)
        for stream in (1, 3):
            assert len(connection.response(stream).body) == 2 * 65536


def test_a_stream_without_window_does_not_hold_up_others(h2c: Gunicorn) -> None:
    """Section 5.2.1."""
    with Http2Connection(h2c.address, gives_window=False) as connection:
        connection.send(headers(1, request_fields("/download?4")))
        connection.content(1, 65535)
        connection.give(0, 2**20)
        for _ in range(3):
            assert connection.get().body == b"hello"
        connection.gives_window = True
        connection.give(1, 65535)
        assert len(connection.response(1).body) == 4 * 65536


def test_a_setting_changes_the_windows_of_open_streams(h2c: Gunicorn) -> None:
    """Section 6.9.2, upwards."""
    with Http2Connection(h2c.address, settings={SETTINGS_INITIAL_WINDOW_SIZE: 10}, gives_window=False) as connection:
        connection.send(headers(1, request_fields("/download?1")))
        connection.content(1, 10)
        connection.set({SETTINGS_INITIAL_WINDOW_SIZE: 30})
        connection.content(1, 30)


def test_a_window_may_become_negative(h2c: Gunicorn) -> None:
    """Section 6.9.2, downwards: nothing is sent until it is positive again."""
    with Http2Connection(h2c.address, settings={SETTINGS_INITIAL_WINDOW_SIZE: 1000}, gives_window=False) as connection:
        connection.send(headers(1, request_fields("/download?1")))
        connection.content(1, 1000)
        connection.set({SETTINGS_INITIAL_WINDOW_SIZE: 0})
        assert connection.streams[1].window == -1000
        connection.give(1, 1000)
        connection.content(1, 1000)
        connection.give(1, 1)
        connection.content(1, 1001)


def test_a_setting_does_not_change_the_window_of_the_connection(h2c: Gunicorn) -> None:
    """Section 6.9.2: only WINDOW_UPDATE does."""
    with Http2Connection(h2c.address, gives_window=False) as connection:
        connection.set({SETTINGS_INITIAL_WINDOW_SIZE: 2**31 - 1})
        connection.send(headers(1, request_fields("/download?2")))
        connection.content(1, 65535)
        connection.give(0, 65537)
        assert len(connection.response(1).body) == 2 * 65536


def test_larger_frames_are_allowed_and_not_needed(h2c: Gunicorn) -> None:
    """Section 4.2: the limit of the client, above which each frame would fail the test."""
    with Http2Connection(h2c.address, settings={SETTINGS_MAX_FRAME_SIZE: 2**20}) as connection:
        assert len(connection.get("/download?4").body) == 4 * 65536


def test_the_windows_of_the_server_are_given_back(connection: Http2Connection) -> None:
    """Section 6.9: an upload of many windows arrives whole, as long as the client keeps to them."""
    window = connection.server_settings.get(SETTINGS_INITIAL_WINDOW_SIZE, 65535)
    connection.send(post(1, "/size"))
    total, sent, piece = 40 * 65536, 0, bytes(16384)
    while sent < total:
        size = min(len(piece), total - sent, connection.credit, window + connection.stream_credits.get(1, 0) - sent)
        if size <= 0:
            connection.receive()
            continue
        connection.send(data(1, piece[:size]))
        connection.credit -= size
        sent += size
    connection.send(data(1, b"", end_stream=True))
    assert json.loads(connection.response(1).body)["total"] == total


def test_padding_counts_and_is_given_back(connection: Http2Connection) -> None:
    """Section 6.9.1: the whole payload of DATA counts, although the application gets nothing of the padding."""
    window = connection.server_settings.get(SETTINGS_INITIAL_WINDOW_SIZE, 65535)
    connection.send(post(1, "/size"))
    padded = frame(0, 0x8, 1, b"\xff" + b"a" + bytes(255))
    frames = total = 4 * window // 257
    sent = 0
    while frames:
        if min(connection.credit, window + connection.stream_credits.get(1, 0) - sent) < 257:
            connection.receive()
            continue
        connection.send(padded)
        connection.credit -= 257
        sent += 257
        frames -= 1
    connection.send(data(1, b"", end_stream=True))
    assert json.loads(connection.response(1).body)["total"] == total


def test_a_client_that_exceeds_the_window_of_a_stream(connection: Http2Connection) -> None:
    """Section 6.9.1: the application has not begun to read, so that nothing is given back."""
    window = connection.server_settings.get(SETTINGS_INITIAL_WINDOW_SIZE, 65535)
    connection.send(post(1) + post(3, "/hold"))
    sent = 0
    while sent <= window:
        connection.send(data(3, bytes(min(16384, window + 1 - sent))))
        sent += 16384
    connection.round_trip()
    assert connection.streams[3].reset == ErrorCode.FLOW_CONTROL_ERROR
    check_neighbour(connection)


def test_data_for_a_stream_that_was_reset_still_counts(connection: Http2Connection) -> None:
    """Sections 5.1 and 6.9: otherwise the window of the connection would leak away."""
    window = connection.server_settings.get(SETTINGS_INITIAL_WINDOW_SIZE, 65535)
    for _ in range(40):
        stream = connection.next_id
        pieces = b"".join(data(stream, bytes(min(16384, window - start))) for start in range(0, window, 16384))
        while connection.credit < window:
            connection.receive()
        connection.credit -= window
        connection.send(post(stream, "/hold"))
        connection.send(pieces + rst_stream_frame(stream, ErrorCode.CANCEL))
    assert connection.get("/size", b"POST", body=b"abc").status == 200
