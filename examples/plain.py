"""A plain ASGI application, without any framework.

gunicorn -k gunicorn_asgi.Worker plain:app

curl http://127.0.0.1:8000/
curl http://127.0.0.1:8000/echo --data-binary @some-file
curl -N http://127.0.0.1:8000/stream
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

TEXT = [(b"content-type", b"text/plain; charset=utf-8")]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        # The way to say that something is not supported, such as lifespan.
        raise NotImplementedError(scope["type"])
    if scope["path"] == "/":
        await respond(send, 200, b"Hello from gunicorn-asgi. Try /stream, or POST something to /echo.\n")
    elif scope["path"] == "/echo" and scope["method"] == "POST":
        await echo(receive, send)
    elif scope["path"] == "/stream":
        await stream(send)
    else:
        await respond(send, 404, b"There is nothing here.\n")


async def respond(send: Send, status: int, body: bytes) -> None:
    headers = [*TEXT, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(receive: Receive, send: Send) -> None:
    """Send the body back while it comes in. However large it is, only a small part is ever in memory."""
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/octet-stream")]}
    )
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def stream(send: Send) -> None:
    """One line a second. The server notices a client that leaves, and send() raises an OSError then."""
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    for number in range(1, 11):
        await send({"type": "http.response.body", "body": b"line %d of 10\n" % number, "more_body": True})
        await asyncio.sleep(1)
    await send({"type": "http.response.body", "body": b"done\n"})
