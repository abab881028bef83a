"""Cases in which a client keeps to HTTP/2 or breaks it: what it sends, and what a server has to make of it.

Each case runs on a connection on which another stream is at work, and beside another connection. The stream must be
answered unless the case ends its connection, the other connection always.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from gunicorn_asgi.wire.http2_frames import ErrorCode

from .gunicorn import Gunicorn
from .http2_wire import Http2Connection, data, post

NEIGHBOUR: Final = 1
"""The stream that is at work while a case runs; those of the case begin at 3."""

Outcome: TypeAlias = Callable[[Http2Connection], bool]
"""Waits for what has to happen and checks it. Returns whether the connection lives on."""


@dataclass(frozen=True)
class Case:
    section: str
    """Of RFC 9113, unless it says otherwise."""
    what: str
    frames: bytes = field(repr=False)
    outcome: Outcome = field(repr=False)

    def __str__(self) -> str:
        return f"{self.section} {self.what}"


def connection_error(*codes: ErrorCode) -> Outcome:
    """GOAWAY with one of these codes, then the end of the connection (section 5.4.1)."""

    def check(connection: Http2Connection) -> bool:
        last_stream, code = connection.goaway()
        assert code in codes
        # Section 8.7: it has been given to the application.
        assert last_stream >= NEIGHBOUR
        return False

    return check


def stream_error(*codes: ErrorCode, stream: int = 3) -> Outcome:
    """RST_STREAM with one of these codes; the connection lives (section 5.4.2)."""

    def check(connection: Http2Connection) -> bool:
        connection.round_trip()
        response = connection.streams[stream]
        assert response.reset in codes, response
        return True

    return check


def answered(status: int = 200, body: bytes | None = None, stream: int = 3) -> Outcome:
    """An answer on the stream."""

    def check(connection: Http2Connection) -> bool:
        response = connection.response(stream)
        assert response.reset is None, response
        assert response.status == status
        assert body is None or response.body == body
        return True

    return check


def nothing(connection: Http2Connection) -> bool:
    """Neither RST_STREAM nor GOAWAY."""
    connection.round_trip()
    assert all(stream.reset is None for stream in connection.streams.values())
    return True


def run(case: Case, server: Gunicorn, other: Http2Connection) -> None:
    with Http2Connection(server.address) as connection:
        connection.send(post(NEIGHBOUR))
        connection.round_trip()
        connection.send(case.frames)
        if case.outcome(connection):
            check_neighbour(connection)
    assert other.get().body == b"hello"


def check_neighbour(connection: Http2Connection) -> None:
    """The stream that was at work before is answered, and so is a new one."""
    connection.send(data(NEIGHBOUR, b"neighbour", end_stream=True))
    assert connection.response(NEIGHBOUR).body == b"neighbour"
    assert connection.get().body == b"hello"
    assert not connection.goaways
