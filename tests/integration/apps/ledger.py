"""An application that keeps a ledger: a line in a file for the begin and the end of each request, with its identifier.

`/work/ID?SECONDS` answers `ID` after so many seconds, in a form that depends on ID: with a length, in chunks, or as a
large body. `/ignore-cancel/ID` cannot be cancelled, `/block/ID?SECONDS` blocks the event loop.
"""

import asyncio
import os
import time
from typing import Final

from .probe import Receive, Scope, Send, read_body

_JOURNAL: Final = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(what: str, name: str) -> None:
    """One write, so that lines of several processes do not mix."""
    os.write(_JOURNAL, f"{what} {name} {os.getpid()}\n".encode())


def content_of(name: str) -> bytes:
    """What answers the request `name`: its name, so often that it does not leave in one piece every third time."""
    return f"{name};".encode() * (20_000 if name.endswith("0") else 1)


async def lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await asyncio.sleep(float(os.environ.get("LEDGER_STARTUP_SECONDS", "0")))
    note("startup", "-")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    note("shutdown", "-")
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    kind, name = scope["path"].split("/")[1:3]
    seconds = float(scope["query_string"] or b"0")
    note("begin", name)
    body = await read_body(receive)
    assert not body or body == content_of(name), "somebody else's body"
    if kind == "block":
        time.sleep(seconds)  # noqa: ASYNC251  # This is what the test is about.
    elif kind == "ignore-cancel":
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                note("ignored", name)
    else:
        await asyncio.sleep(seconds)
    content = content_of(name)
    headers = [] if name.endswith(("1", "0")) else [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    half = len(content) // 2
    await send({"type": "http.response.body", "body": content[:half], "more_body": True})
    await send({"type": "http.response.body", "body": content[half:]})
    note("end", name)
