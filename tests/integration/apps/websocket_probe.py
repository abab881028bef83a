"""A plain ASGI application for WebSockets: the first segment of the path names what it does with one.

Everything that is no WebSocket goes to `probe`, whose journal tells what has happened here.
"""

import asyncio
import gc
import json
from typing import Final

import psutil

from . import probe
from .probe import PIECE, Receive, Scope, Send, note


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    subprotocols = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": subprotocols[0] if subprotocols else None})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    key = scope["query_string"].decode()
    if key:
        await note(f"end-{key}", message)


async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept and take nothing before `/release` is asked for; then count."""
    await receive()
    await send({"type": "websocket.accept"})
    await note("accepted")
    await probe._released.wait()
    probe._released.clear()
    count = 0
    while (await receive())["type"] == "websocket.receive":
        count += 1
    await note("taken", count)


async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Send until it raises."""
    key = scope["query_string"].decode()
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while True:
            await send({"type": "websocket.send", "bytes": PIECE})
    except OSError as error:
        await note(f"gone-{key}", type(error).__name__)
        raise


async def deny(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close", "code": 1008})


async def hesitate(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer nothing while the client waits."""
    await receive()
    await note("hesitating")
    await receive()


async def respond(scope: Scope, receive: Receive, send: Send) -> None:
    # With a length: older versions of the `websockets` client do not know chunks.
    headers = [(b"x-why", b"because"), (b"content-length", b"12")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"who are you?"})


async def close(scope: Scope, receive: Receive, send: Send) -> None:
    """Close at once, with what the query string says."""
    code, _, reason = scope["query_string"].decode().partition("-")
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": int(code), "reason": reason})


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    raise ValueError("raised on purpose")


async def show_scope(scope: Scope, receive: Receive, send: Send) -> None:
    shown = {name: scope[name] for name in ("scheme", "path", "extensions")}
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": json.dumps(shown)})


FUNCTIONS: Final = {
    "close": close,
    "deny": deny,
    "echo": echo,
    "fail": fail,
    "flood": flood,
    "hesitate": hesitate,
    "respond": respond,
    "scope": show_scope,
    "stuck": stuck,
}


async def resources(send: Send) -> None:
    """What the worker has in use."""
    gc.collect()
    process = psutil.Process()
    counted = {
        "tasks": len(asyncio.all_tasks()),
        "files": process.num_fds(),
        "objects": len(gc.get_objects()),
        "bytes": process.memory_info().rss,
    }
    await probe.respond(send, json.dumps(counted).encode())


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await FUNCTIONS[scope["path"].split("/")[1]](scope, receive, send)
    elif scope.get("path") == "/resources":
        await resources(send)
    else:
        await probe.app(scope, receive, send)
