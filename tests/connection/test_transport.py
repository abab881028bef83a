"""What a connection sees of a client through a real socket."""

import asyncio
import socket
import sys
from typing import Any

import pytest

from gunicorn_asgi.connection.http1 import Http1Connection
from gunicorn_asgi.settings import Settings
from tests.connection.serving import PassingLoop, RecordingLog, run, serving_context, soon, turns
from tests.connection.test_http1 import respond
from tests.support.http1 import request

MIB = 1024 * 1024
READ_BYTES = 64 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a client has not acknowledged")
def test_a_client_that_reads_little_by_little_makes_progress() -> None:
    """The kernel takes more only when a good part of its buffer is free, for which such a client needs a while."""

    answered = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, bytes(16 * MIB))
        answered.set()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PassingLoop)
        log = RecordingLog()
        context = serving_context(app, settings=Settings(write_timeout_seconds=1.0), log=log)
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            # What fits into it can be read without any progress of the server.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES // 2)
            client.connect(listener.getsockname())
            transport, _ = await loop.connect_accepted_socket(lambda: Http1Connection(context), listener.accept()[0])
            client.sendall(request("/"))
            await soon(answered.wait())
            for _ in range(10):
                assert len(client.recv(READ_BYTES, socket.MSG_WAITALL)) == READ_BYTES
                await loop.pass_time(0.5)
            assert transport.get_write_buffer_size() > 0
            assert log.of("info") == []
            await loop.pass_time(2.5)
            assert log.of("info") == ["Client 127.0.0.1 takes no data; connection aborted"]
            await turns()
        context.clock.stop()

    run(main(), PassingLoop)
