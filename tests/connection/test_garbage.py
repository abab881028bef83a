"""What a request leaves behind: nothing that would have to wait for the garbage collector.

That would cost each request 12 %, and memory until the collector runs.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from gunicorn_asgi.asgi_types import Receive, Send
from gunicorn_asgi.wire import http2_frames as frames
from gunicorn_asgi.wire.http2_frames import ErrorCode
from tests.connection import test_http1 as http1
from tests.connection import test_http2 as http2
from tests.connection.serving import body, start, turns
from tests.support import websocket
from tests.support.http1 import request
from tests.support.http2_frames import GET, POST, data, headers

CONNECT = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:], (b"sec-websocket-version", b"13"))
TEXT = websocket.frame(websocket.TEXT, b"a")


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def left() -> list[str]:
    """What is ours in circles that nobody refers to."""
    gc.garbage.clear()
    gc.collect()
    kinds = [type(found) for found in gc.garbage]
    return [kind.__qualname__ for kind in kinds if kind.__module__.startswith("gunicorn_asgi.")]


async def app(scope: Any, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await speak(scope["path"], receive, send)
        return
    if scope["path"] != "/early":
        while (await receive()).get("more_body"):
            pass
    if scope["path"] == "/fails":
        raise ValueError("on purpose")
    await send(start(200))
    await send(body(b"a", more=True))
    if scope["path"] == "/breaks":
        raise ValueError("on purpose")
    if scope["path"] == "/waits":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await asyncio.sleep(0)
    await send(body(b"b"))


async def speak(path: str, receive: Receive, send: Send) -> None:
    await receive()
    if path == "/denied":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    if path == "/fails":
        raise ValueError("on purpose")
    if path == "/sends":
        while True:
            await asyncio.sleep(0)
            await send({"type": "websocket.send", "text": "b"})
    if path == "/closes":
        await send({"type": "websocket.close"})
    while (await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": "b"})


@pytest.mark.parametrize(
    "sent",
    [
        request("/"),
        request("/", method="POST", body=b"abc"),
        request("/", method="POST", body=b"abc")[:-1],
        request("/early", method="POST", body=b"abc"),
        request("/fails"),
        request("/breaks"),
        request("/waits"),
    ],
)
def test_a_request(sent: bytes) -> None:
    async def steps(client: http1.Client) -> None:
        await client.send(sent)
        if client.is_open:
            client.transport.lose()
        await turns()
        assert left() == []

    http1.serve(app, steps)


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        (GET, None),
        (POST, b"abc"),
        (http2.get("/fails"), None),
        (http2.get("/breaks"), None),
        (http2.get("/waits"), None),
        ((POST[0], *http2.get("/early")[1:]), b"abc"),
        ((POST[0], *http2.get("/breaks")[1:]), b"abc"),
    ],
)
@pytest.mark.parametrize("how", ["end", "reset", "loss"])
def test_a_request_over_http_2(fields: Any, content: bytes | None, how: str) -> None:
    async def steps(client: http2.Client) -> None:
        await client.send(headers(1, fields, ended=content is None))
        if how == "loss":
            client.transport.lose()
        elif how == "reset":
            await client.send(frames.rst_stream_frame(1, ErrorCode.CANCEL))
        elif content is not None:
            await client.send(data(1, content, ended=True))
        await turns()
        await client.pass_time(4)
        # Those of the connection itself are another matter.
        assert not {"Exchange", "Http2Stream", "RequestBody"} & set(left())

    http2.serve(app, steps, keepalive_seconds=60)


Ends = Callable[[Any], Awaitable[None]]
PATHS = ["/", "/closes", "/denied", "/fails", "/sends"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("how", ["close", "loss", "error"])
@pytest.mark.parametrize("stalled", [False, True])
def test_a_websocket(path: str, how: str, stalled: bool) -> None:
    async def steps(client: http1.Client) -> None:
        await client.send(websocket.handshake(path) + (TEXT * 10 if stalled else b""))
        if client.transport.is_closing() or how == "loss":
            client.transport.lose()
        else:
            await client.send(websocket.close() if how == "close" else websocket.frame(3))
        await turns(30)
        await client.pass_time(4)
        assert left() == []

    http1.serve(app, steps, ws_max_queue=1)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("how", ["close", "reset", "end", "loss", "error"])
@pytest.mark.parametrize("stalled", [False, True])
def test_a_websocket_over_http_2(path: str, how: str, stalled: bool) -> None:
    fields = tuple((name, path.encode()) if name == b":path" else (name, value) for name, value in CONNECT)

    async def steps(client: http2.Client) -> None:
        await client.send(headers(1, fields, ended=False))
        if stalled:
            await client.send(data(1, TEXT * 10))
        if how == "loss":
            client.transport.lose()
        elif how == "reset":
            await client.send(frames.rst_stream_frame(1, ErrorCode.CANCEL))
        elif how == "end":
            await client.send(data(1, b"", ended=True))
        else:
            await client.send(data(1, websocket.close() if how == "close" else websocket.frame(3)))
        await turns(30)
        await client.pass_time(4)
        assert not {"WebSocketExchange", "WebSocketConnection", "Http2Stream", "Http2Tunnel"} & set(left())

    http2.serve(app, steps, ws_max_queue=1, keepalive_seconds=60)
