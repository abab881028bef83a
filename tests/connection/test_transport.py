"""What a connection sees of a client through a real socket."""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gunicorn_asgi.connection.http import HttpConnection
from gunicorn_asgi.connection.http1 import Http1Connection
from gunicorn_asgi.connection.http2 import Http2Connection
from gunicorn_asgi.settings import Settings
from gunicorn_asgi.wire import http2_frames as frames
from gunicorn_asgi.wire.http2_frames import ErrorCode
from tests.connection.serving import STEP_SECONDS, PassingLoop, RecordingLog, run, serving_context, soon, turns
from tests.connection.test_http1 import respond
from tests.support.http1 import request
from tests.support.http2_frames import BEGIN, Reader, headers

MIB = 1024 * 1024
READ_BYTES = 64 * 1024

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a client has not acknowledged")

Steps = Callable[[PassingLoop, socket.socket, RecordingLog], Awaitable[None]]


def serve(protocol: type[HttpConnection], data: bytes, size: int, steps: Steps, **settings: Any) -> None:
    """Answer `data` with `size` bytes; then a client with a small buffer takes `steps`."""
    answered = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, bytes(size))
        answered.set()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PassingLoop)
        log = RecordingLog()
        context = serving_context(app, settings=Settings(**settings), log=log)
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            # What fits into it can be read without any progress of the server.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES // 2)
            client.connect(listener.getsockname())
            await loop.connect_accepted_socket(lambda: protocol(context), listener.accept()[0])
            client.sendall(data)
            await soon(answered.wait())
            await steps(loop, client, log)
            await turns()
        context.clock.stop()

    run(main(), PassingLoop)


def test_a_client_that_reads_little_by_little_makes_progress() -> None:
    """The kernel takes more only when a good part of its buffer is free, for which such a client needs a while."""

    async def steps(loop: PassingLoop, client: socket.socket, log: RecordingLog) -> None:
        for _ in range(10):
            assert len(client.recv(READ_BYTES, socket.MSG_WAITALL)) == READ_BYTES
            await loop.pass_time(0.5)
        assert log.of("info") == []
        await loop.pass_time(2.5)
        assert log.of("info") == ["Client 127.0.0.1 takes no data; connection aborted"]

    serve(Http1Connection, request("/"), 16 * MIB, steps, write_timeout_seconds=1.0)


def test_the_end_of_a_connection_waits_for_a_client_that_still_reads() -> None:
    """What it sends meanwhile would turn the end into a reset, and take away what is in the buffer of the kernel."""

    async def steps(loop: PassingLoop, client: socket.socket, log: RecordingLog) -> None:
        client.settimeout(STEP_SECONDS)
        reader = Reader()
        while received := client.recv(READ_BYTES):
            reader.feed(received)
            client.sendall(frames.window_update_frame(0, 1))
            await loop.pass_time(0.5)
        assert reader.goaways == [(1, ErrorCode.NO_ERROR)]
        assert len(reader.responses[1].content) == 2 * MIB

    windows = frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 2**30}) + frames.window_update_frame(0, 2**30)
    serve(Http2Connection, BEGIN + windows + headers(1), 2 * MIB, steps, keepalive_seconds=0.0)
