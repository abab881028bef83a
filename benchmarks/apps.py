"""Plain ASGI applications: all that is measured around them is the server.

Frameworks have modules of their own, since each object that a process holds makes its garbage collection slower.
"""

from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HELLO = b"Hello, World!"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """The same 13 bytes for every request. It has no lifespan, which each server has to accept."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": HELLO})
