"""Applications whose lifespan does something special."""

import asyncio
import sys
from typing import Any

from .probe import Receive, Scope, Send, note, respond


async def startup_failed(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is away"})


async def exits(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that gives up while it starts."""
    await receive()
    sys.exit(1)


async def serves_until_shutdown(scope: Scope, receive: Receive, send: Send) -> None:
    """Start, answer requests, and return when the shutdown is asked for."""
    if scope["type"] == "http":
        await respond(send, b"hello")
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()


async def shutdown_hangs(scope: Scope, receive: Receive, send: Send) -> None:
    await serves_until_shutdown(scope, receive, send)
    if scope["type"] == "lifespan":
        await asyncio.Event().wait()


async def shutdown_raises(scope: Scope, receive: Receive, send: Send) -> None:
    await serves_until_shutdown(scope, receive, send)
    if scope["type"] == "lifespan":
        raise RuntimeError("raised on purpose, in the shutdown")


async def shutdown_fails(scope: Scope, receive: Receive, send: Send) -> None:
    await serves_until_shutdown(scope, receive, send)
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.shutdown.failed", "message": "the tide is out"})


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that knows nothing of lifespan."""
    if scope["type"] != "http":
        raise KeyError(scope["type"])
    await respond(send, b"hello")


async def counts_lifespans(scope: Scope, receive: Receive, send: Send) -> None:
    """Tells whether it was asked to start."""
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["asked"] = True
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await respond(send, repr(scope["state"]).encode())


async def _stay(name: str) -> None:
    """Work in the background, with something to clean up at the end, which takes a turn of the event loop."""
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        await note(f"{name} has ended")
        if name == "failing":
            raise RuntimeError("raised on purpose, in the background")


_background: list[asyncio.Task[None]] = []


async def leaves_tasks(scope: Scope, receive: Receive, send: Send) -> None:
    """Starts tasks that nobody ends, and exits in the middle of a request if it is asked to."""
    if scope["type"] == "lifespan":
        await receive()
        _background.extend(asyncio.create_task(_stay(name)) for name in ("working", "failing"))
        await asyncio.sleep(0)  # A task that has not begun has nothing to clean up.
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await note("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["path"] == "/exit":
        sys.exit(0)
    else:
        await respond(send, b"hello")


async def shared_state(scope: Scope, receive: Receive, send: Send) -> None:
    """State is copied for each request, but not what it holds."""
    state: dict[str, Any] = scope["state"]
    if scope["type"] == "lifespan":
        await receive()
        state["visits"] = []
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await note("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        return
    state["visits"].append(scope["path"])
    leaked = "leaked" in state
    state["leaked"] = True
    await respond(send, f"{state['visits']} {leaked}".encode())
