"""Applications of every interface, and what they see of the process that they run in."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .probe import Receive, Scope, Send, lifespan, respond

LOADED_WITH = os.environ.get("READ_WHILE_LOADING", "")


async def about(scope: Scope, receive: Receive, send: Send) -> None:
    """What runs here, as JSON; lifespan is that of the probe."""
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    print(f"printed for {scope['path']}")
    seen = {
        "asgi": scope["asgi"],
        "root_path": scope["root_path"],
        "loop": type(asyncio.get_running_loop()).__module__.partition(".")[0],
        "loaded_with": LOADED_WITH,
        "loaded_in": LOADED_IN,
        "variable": os.environ.get("READ_WHILE_LOADING", ""),
        "pid": os.getpid(),
        "parsers": [name for name in ("h11", "httptools") if name in sys.modules],
    }
    await respond(send, json.dumps(seen).encode())


LOADED_IN = os.getpid()


def make() -> Callable[..., Any]:
    """A factory."""
    return about


def make_with_default(config: str | None = None) -> Callable[..., Any]:
    return about


class Asgi2:
    """An application of ASGI 2, as Django Channels 2 had them."""

    def __init__(self, scope: Scope) -> None:
        if scope["type"] != "http":
            raise ValueError(scope["type"])
        self._scope = scope

    async def __call__(self, receive: Receive, send: Send) -> None:
        await about(self._scope, receive, send)


def plain_function(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    """ASGI 3 without being a coroutine function."""
    return about(scope, receive, send)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start_response("201 Created", [("Content-Type", "text/plain"), ("X-Thread", threading.current_thread().name)])
    return [environ["REQUEST_METHOD"].encode(), b" ", environ["PATH_INFO"].encode(), b" ", body]


def wsgi_addresses(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """What the environ says of server and client, as JSON."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({name: environ[name] for name in ("SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR")}).encode()]


async def threads(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer when as many threads as the query string says wait in the default executor at the same time."""
    if scope["type"] == "lifespan":
        raise ValueError("not supported")
    count = int(scope["query_string"])
    barrier = threading.Barrier(count, timeout=20)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, barrier.wait) for _ in range(count)))
    await respond(send, b"together")


not_callable = "an application"
