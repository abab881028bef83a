"""WebSockets know nothing of the version of HTTP that brings them: one over a stream in an encoding made up here.

It stands for a stream of HTTP/2, which is a transport as well (RFC 8441).
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gunicorn_asgi.asgi_types import Application, Field, Receive, Send
from gunicorn_asgi.connection.websocket import WebSocketConnection
from gunicorn_asgi.connection.websocket_exchange import WebSocketExchange
from gunicorn_asgi.errors import ApplicationError
from gunicorn_asgi.wire.websocket_handshake import read_http2_handshake
from tests.connection.serving import LOOPS, LoopFactory, http_scope, run, serving_context, turns
from tests.connection.test_exchange import AngleStream
from tests.support.fake_transport import FakeTransport
from tests.support.websocket import CLOSE, TEXT, Frame, close, frame, frames_in


@pytest.fixture(params=LOOPS)
def new_loop(request: pytest.FixtureRequest) -> LoopFactory:
    return LOOPS[request.param]


class Stream(AngleStream):
    """Accepts with `<200 name=value>`; from then on it is a transport."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.transport = FakeTransport(loop, asyncio.Protocol(), can_write_eof=False)

    def accept_websocket(self, fields: Sequence[Field]) -> None:
        if any(name == b"forbidden" for name, _ in fields):
            raise ApplicationError("response header b'forbidden'")
        self.writes.append(f"<200{self._shown(list(fields))}>")

    def begin_websocket(self, websocket: WebSocketConnection) -> None:
        self.transport.set_protocol(websocket)
        websocket.begin(self.transport, frame(TEXT, b"early"))


async def opened(app: Application) -> tuple[Stream, Any]:
    loop = asyncio.get_running_loop()
    context = serving_context(app)
    stream = Stream(loop)
    fields = {b"sec-websocket-version": b"13", b"sec-websocket-protocol": b"chat"}
    handshake = read_http2_handshake(fields, per_message_deflate=True)
    WebSocketExchange(
        context, stream, http_scope("/chat", "CONNECT"), fields, "CONNECT", "/chat", "CONNECT /chat", handshake
    )
    await turns()
    return stream, context


def test_an_echo(new_loop: LoopFactory) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "websocket.connect"}
        with pytest.raises(ApplicationError):
            await send({"type": "websocket.accept", "headers": [(b"forbidden", b"")]})
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
        while True:
            message: Any = await receive()
            if message["type"] == "websocket.disconnect":
                return
            await send({**message, "type": "websocket.send"})

    async def main() -> None:
        stream, context = await opened(app)
        assert stream.sent == "<200 sec-websocket-protocol=chat>"
        transport = stream.transport
        transport.feed(frame(TEXT, b"a") + close(3000))
        await turns()
        written = frames_in(bytes(transport.received))
        assert written[0] == Frame(TEXT, b"early")
        assert written[-1] == Frame(CLOSE, b"\x0b\xb8")
        assert transport.closed
        assert transport.misuse == []
        assert (context.exchanges, context.connections) == (set(), set())
        context.clock.stop()

    run(main(), new_loop)


def test_a_denial(new_loop: LoopFactory) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"a", b"b")]})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async def main() -> None:
        stream, context = await opened(app)
        assert stream.sent == "<401 a=b>[no]!"
        assert context.exchanges == set()
        context.clock.stop()

    run(main(), new_loop)
