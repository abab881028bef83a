"""HTTP/2 under load and at its ends: much content in flat memory beside quick answers, and drains that lose nothing."""

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gunicorn_asgi.wire.http2_frames import SETTINGS_INITIAL_WINDOW_SIZE, ErrorCode
from tests.support.gunicorn import Gunicorn, GunicornStarter, peak_memory_bytes, reset_peak_memory
from tests.support.http2_wire import ConnectionEnded, Http2Connection, data, post

MIB = 1024 * 1024
PIECE = bytes(range(256)) * 64
ALL_STREAMS = 2**31 - 1

# What buffers of the interpreter and of its allocator may add; 100 MiB would show.
MEMORY_SLACK = 12 * MIB

SLOWEST_SECONDS = 0.05
"""For a small answer beside 100 MiB: far below what all of that takes."""


@pytest.fixture
def server(gunicorns: GunicornStarter) -> Gunicorn:
    return gunicorns.start("probe", worker="gunicorn_asgi.H2CWorker")


@contextmanager
def flat_memory(server: Gunicorn) -> Iterator[None]:
    """Fails when a worker that has warmed up needs more memory inside."""
    pid = int(server.get("/pid").body)
    with Http2Connection(server.address) as connection:
        connection.get("/download?8")
        connection.get("/size", b"POST", body=PIECE * 2)
    before = reset_peak_memory(pid)
    yield
    assert peak_memory_bytes(pid) - before < MEMORY_SLACK


def seconds_of_answer(connection: Http2Connection) -> float:
    """How long a small request on another stream takes, with all the frames that come before its answer."""
    begin = time.perf_counter()
    assert connection.get("/hello").body == b"hello"
    return time.perf_counter() - begin


def assert_quick(seconds: list[float]) -> None:
    """Other processes may stop the machine for a moment, but never a quarter of all answers without a reason."""
    assert len(seconds) >= 20
    assert sorted(seconds)[len(seconds) // 4] < SLOWEST_SECONDS


@pytest.mark.load
def test_download_of_100_mib_beside_another_stream(server: Gunicorn) -> None:
    with flat_memory(server), Http2Connection(server.address, settings={SETTINGS_INITIAL_WINDOW_SIZE: MIB}) as client:
        client.give(0, MIB)
        stream = client.streams[client.request("/download?1600")]
        total, seconds = 0, []
        while not stream.ended:
            client.receive()
            if len(stream.body) > MIB or stream.ended:
                total += len(stream.body)
                stream.body = b""
                seconds.append(seconds_of_answer(client))
        assert total + len(stream.body) == 100 * MIB
    assert_quick(seconds)


@pytest.mark.load
def test_upload_of_100_mib_beside_another_stream(server: Gunicorn) -> None:
    with flat_memory(server), Http2Connection(server.address) as client:
        stream_id = client.next_id
        client.send(post(stream_id, "/size"))
        sent, seconds = 0, []
        while sent < 100 * MIB:
            while 65535 + client.stream_credits.get(stream_id, 0) - sent < len(PIECE) or client.credit < len(PIECE):
                client.receive()
            client.send(data(stream_id, PIECE))
            client.credit -= len(PIECE)
            sent += len(PIECE)
            if sent % MIB == 0:
                seconds.append(seconds_of_answer(client))
        client.send(data(stream_id, b"", end_stream=True))
        counted = json.loads(client.response(stream_id).body)
        assert counted["total"] == 100 * MIB
        assert counted["largest"] <= 65535
    assert_quick(seconds)


def test_a_slow_reader_holds_up_nobody(h2c: Gunicorn) -> None:
    """One stream that gives no window, and one whose content nobody takes, beside others."""
    with Http2Connection(h2c.address, gives_window=False) as client:
        client.give(0, 100 * MIB)
        blocked = client.request("/download?20")
        client.content(blocked, 65535)
        unread = client.next_id
        client.send(post(unread, "/hold"))
        client.send(data(unread, PIECE) * 3)
        for _ in range(50):
            assert client.get("/hello").body == b"hello"
            # As much again as the window of the connection, over the time.
            assert client.get("/size", b"POST", body=PIECE * 3).status == 200
        client.give(blocked, 100 * MIB)
        assert len(client.response(blocked).body) == 20 * 65536
        client.get("/release")
        assert client.response(unread).body == b"released"


def test_a_drain_finishes_streams_and_serves_what_comes_in_time(gunicorns: GunicornStarter) -> None:
    """RFC 9113 section 6.8: the first GOAWAY announces, the second one counts."""
    server = gunicorns.start("probe", worker="gunicorn_asgi.H2CWorker")
    with Http2Connection(server.address) as client:
        running = client.next_id
        client.send(post(running, "/whole-body"))
        client.get("/journal/begun")
        server.signal(signal.SIGTERM)
        while not client.goaways:
            client.receive()
        assert client.goaways == [(ALL_STREAMS, ErrorCode.NO_ERROR)]
        last = client.request("/hello")
        assert client.response(last).body == b"hello"
        while len(client.goaways) == 1:
            client.receive()
        assert client.goaways[1:] == [(last, ErrorCode.NO_ERROR)]
        # A new stream is refused, so that it can be sent again elsewhere.
        assert client.get("/hello").reset == ErrorCode.REFUSED_STREAM
        client.send(data(running, b"the end", end_stream=True))
        assert client.response(running).body == b"the end"
        with pytest.raises(ConnectionEnded):
            client.receive()
    assert server.wait() == 0


def test_recycling_loses_no_stream(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--max-requests", "30", worker="gunicorn_asgi.H2CWorker")
    answered = connections = 0
    while answered < 100:
        connections += 1
        with Http2Connection(server.address) as client:
            sent: list[int] = []
            with contextlib.suppress(ConnectionEnded):
                while not client.goaways and answered + len(sent) < 130:
                    batch = [client.request("/hello") for _ in range(8)]
                    sent += batch
                    for stream_id in batch:
                        client.response(stream_id)
                while sent:  # Until the server ends the connection, which it does by itself.
                    client.receive()
            for stream_id in sent:
                stream = client.streams[stream_id]
                if stream.ended:
                    assert stream.body == b"hello"
                    answered += 1
                else:
                    assert stream_id > client.goaways[-1][0], "a request was lost"
    assert connections > 2
