"""A plain ASGI application for WebSockets: it echoes, and on /broadcast sends each message to all who are there."""

from .apps import Receive, Scope, Send, hello

_audience: set[Send] = set()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Requests get the 13 bytes of `hello`."""
    if scope["type"] != "websocket":
        await hello(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/broadcast":
        await _broadcast(receive, send)
        return
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            return
        content = message.get("bytes")
        if content is None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": content})


async def _broadcast(receive: Receive, send: Send) -> None:
    _audience.add(send)
    try:
        while (message := await receive())["type"] == "websocket.receive":
            content = message["bytes"]
            for member in tuple(_audience):
                await member({"type": "websocket.send", "bytes": content})
    finally:
        _audience.discard(send)
