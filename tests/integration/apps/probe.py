"""A plain ASGI application that does what a test asks for, and tells what it has seen.

The first segment of the path names the function. What happens to a request is written into a journal; `/journal/NAME`
answers as soon as NAME is in there, so that a test can wait for it.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PIECE: Final = b"0123456789abcdef" * 4096
"""64 KiB."""

_ballast: list[bytes] = []
_journal: dict[str, Any] = {}
_journal_grew = asyncio.Condition()
_released = asyncio.Event()
_unshielded = asyncio.Event()

if seconds := os.environ.get("PROBE_IMPORT_SECONDS"):
    print("probe: import has begun", file=sys.stderr)
    time.sleep(float(seconds))


async def note(name: str, value: Any = None) -> None:
    """Write into the journal, and into a file that outlives the process where the test asks for one."""
    if path := os.environ.get("PROBE_JOURNAL"):
        with Path(path).open("a") as file:  # noqa: ASYNC230  # A line of text into a local file.
            file.write(f"{name}\n")
    async with _journal_grew:
        _journal[name] = value
        _journal_grew.notify_all()


async def respond(send: Send, body: bytes, status: int = 200, fields: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body)), *fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, b"hello")


async def target(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with path and query string."""
    await respond(send, scope["path"].encode() + b"?" + scope["query_string"])


async def pid(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, b"%d" % os.getpid())


async def scope_of_request(scope: Scope, receive: Receive, send: Send) -> None:
    shown = {
        **scope,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "raw_path": scope["raw_path"].decode("latin-1"),
        "query_string": scope["query_string"].decode("latin-1"),
    }
    await respond(send, json.dumps(shown).encode())


async def journal(scope: Scope, receive: Receive, send: Send) -> None:
    name = scope["path"].removeprefix("/journal/")
    async with _journal_grew:
        await _journal_grew.wait_for(lambda: name in _journal)
    await respond(send, json.dumps(_journal[name]).encode())


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send each part of the body back as it comes, in chunks."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    more = True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def size(scope: Scope, receive: Receive, send: Send) -> None:
    """Count the bytes of the body without keeping them, and the most that came at once."""
    total = largest = 0
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        total += len(message["body"])
        largest = max(largest, len(message["body"]))
        if not message["more_body"]:
            break
    await respond(send, json.dumps({"total": total, "largest": largest}).encode())


async def whole_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell that the request has come, read its body, and answer with it."""
    await note("begun")
    await respond(send, await read_body(receive))


async def download(scope: Scope, receive: Receive, send: Send) -> None:
    """As many pieces of 64 KiB as the query string says, without a length."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(int(scope["query_string"])):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body"})


async def blocked_download(scope: Scope, receive: Receive, send: Send) -> None:
    """Send until `send()` waits, tell after how many pieces, then send so many again."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    sent = 0
    while True:
        sending = asyncio.ensure_future(send({"type": "http.response.body", "body": PIECE, "more_body": True}))
        sent += 1
        _, waiting = await asyncio.wait({sending}, timeout=1.0)
        if waiting:
            break
    await note("blocked", sent)
    await sending
    await send({"type": "http.response.body", "body": PIECE * sent})


async def status(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the status that the query string says, and with content, which some must not have."""
    headers = [(b"etag", b'"1"')]
    await send({"type": "http.response.start", "status": int(scope["query_string"]), "headers": headers})
    await send({"type": "http.response.body", "body": b"content"})


async def ignore_body(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, b"ignored")


async def hold(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer when `/release` is asked for."""
    await note("held")
    try:
        await _released.wait()
    except asyncio.CancelledError:
        await note("cancelled")
        raise
    _released.clear()
    await respond(send, b"released")


async def release(scope: Scope, receive: Receive, send: Send) -> None:
    _released.set()
    await respond(send, b"releasing")


async def await_cancel(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait until the task is cancelled."""
    key = scope["query_string"].decode()
    await note(f"awaiting-{key}")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await note(f"cancelled-{key}", "cancelled")
        raise


async def shielded(scope: Scope, receive: Receive, send: Send) -> None:
    """Go on until `/unshield`, cancelled or not."""
    await note(f"shielded-{scope['query_string'].decode()}")
    while not _unshielded.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await _unshielded.wait()


async def unshield(scope: Scope, receive: Receive, send: Send) -> None:
    _unshielded.set()
    await respond(send, b"unshielded")


async def await_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait in `receive()` until the client has gone, then try to answer."""
    key = scope["query_string"].decode()
    await note(f"waiting-{key}")
    types = []
    while True:
        message = await receive()
        types.append(message["type"])
        if message["type"] == "http.disconnect":
            break
    await note(f"disconnect-{key}", types)
    await respond(send, b"nobody reads this")


class ClientDisconnect(Exception):
    """As frameworks raise it where `receive()` gives `http.disconnect`."""


async def long_poll(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait until the client has gone, and leave it at that: by returning, or by an exception as that of Starlette."""
    key = scope["query_string"].decode()
    await note(f"waiting-{key}")
    while (await receive())["type"] != "http.disconnect":
        pass
    if key == "raise":
        raise ClientDisconnect


async def half_closed(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer long after the client has stopped sending."""
    await asyncio.sleep(2.5)
    await respond(send, b"late but whole")


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    """Send until the client has gone."""
    key = scope["query_string"].decode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while True:
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            await asyncio.sleep(0)
    except OSError as error:
        await note(f"gone-{key}", type(error).__name__)
        raise


async def tireless(scope: Scope, receive: Receive, send: Send) -> None:
    """Send as many bytes at a time as the query string says until the client has gone, and wait for nothing else."""
    size, _, key = scope["query_string"].decode().partition("-")
    message = {"type": "http.response.body", "body": b"x" * int(size), "more_body": True}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while True:
            await send(message)
    except (OSError, asyncio.CancelledError):
        await note(f"gone-{key}")
        raise


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("raised on purpose, before the head")


async def fail_after_start(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ValueError("raised on purpose, after the start message")


async def fail_after_head(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the beginning", "more_body": True})
    raise ValueError("raised on purpose, after the head")


async def send_messages(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the messages that the body of the request holds; note the error of the first that is refused."""
    spoken = json.loads(await read_body(receive))
    key = scope["query_string"].decode()
    try:
        for message in spoken:
            if "body" in message:
                message["body"] = message["body"].encode()
            if "headers" in message:
                message["headers"] = [[part.encode("latin-1") for part in field] for field in message["headers"]]
            await send(message)
    except Exception as error:
        await note(f"refused-{key}", [type(error).__name__, str(error)])
        raise
    await note(f"refused-{key}", None)


async def hints_and_trailers(scope: Scope, receive: Receive, send: Send) -> None:
    """Early hints where they are offered, an answer with a length, and trailers behind it."""
    if "http.response.early_hint" in scope["extensions"]:
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload", b"</more.js>"]})
    headers = [(b"content-length", b"7"), (b"trailer", b"x-extensions")]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
    await send({"type": "http.response.body", "body": b"content"})
    offered = b",".join(sorted(name.encode() for name in scope["extensions"]))
    await send({"type": "http.response.trailers", "headers": [(b"x-extensions", offered)]})


async def block_for(scope: Scope, receive: Receive, send: Send) -> None:
    """Block the event loop for as many seconds as the query string says, then answer."""
    time.sleep(float(scope["query_string"]))  # noqa: ASYNC251  # This is what the test is about.
    await respond(send, b"blocked")


async def block_in_c(scope: Scope, receive: Receive, send: Send) -> None:
    """Block the interpreter, so that no thread and no handler of a signal can run."""
    ctypes.PyDLL(None).usleep(60_000_000)


async def ticks(scope: Scope, receive: Receive, send: Send) -> None:
    """Send events until told to stop, and say goodbye then."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    disconnect = asyncio.ensure_future(receive())
    while not disconnect.done():
        await send({"type": "http.response.body", "body": b"tick\r\n", "more_body": True})
        await asyncio.wait({disconnect}, timeout=0.05)
    await send({"type": "http.response.body", "body": b"goodbye\r\n"})


async def endless_quietly(scope: Scope, receive: Receive, send: Send) -> None:
    """Begin a response, and neither go on nor listen."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun\r\n", "more_body": True})
    await asyncio.Event().wait()


async def hang_in_thread(scope: Scope, receive: Receive, send: Send) -> None:
    """Leave a thread behind that does not end."""
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
    await respond(send, b"hanging")


async def work_in_thread(scope: Scope, receive: Receive, send: Send) -> None:
    """Leave a thread behind that works for as many seconds as the query string says."""

    def work(seconds: float) -> None:
        time.sleep(seconds)
        print("probe: thread is done", file=sys.stderr)

    asyncio.get_running_loop().run_in_executor(None, work, float(scope["query_string"]))
    await respond(send, b"working")


async def grow(scope: Scope, receive: Receive, send: Send) -> None:
    """Keep as many MiB of memory as the query string says."""
    _ballast.append(b"x" * (int(scope["query_string"]) << 20))
    await respond(send, b"grown")


async def block_loop(scope: Scope, receive: Receive, send: Send) -> None:
    time.sleep(60)  # noqa: ASYNC251  # This is what the test is about.


async def loop_name(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, json.dumps(type(asyncio.get_running_loop()).__module__).encode())


FUNCTIONS: Final = {
    "block-for": block_for,
    "block-in-c": block_in_c,
    "endless-quietly": endless_quietly,
    "grow": grow,
    "hang-in-thread": hang_in_thread,
    "ticks": ticks,
    "work-in-thread": work_in_thread,
    "await-cancel": await_cancel,
    "await-disconnect": await_disconnect,
    "block-loop": block_loop,
    "blocked-download": blocked_download,
    "download": download,
    "echo": echo,
    "endless": endless,
    "fail": fail,
    "fail-after-head": fail_after_head,
    "fail-after-start": fail_after_start,
    "half-closed": half_closed,
    "hello": hello,
    "hints-and-trailers": hints_and_trailers,
    "hold": hold,
    "ignore-body": ignore_body,
    "long-poll": long_poll,
    "journal": journal,
    "loop": loop_name,
    "pid": pid,
    "release": release,
    "scope": scope_of_request,
    "send": send_messages,
    "shielded": shielded,
    "size": size,
    "status": status,
    "target": target,
    "tireless": tireless,
    "unshield": unshield,
    "whole-body": whole_body,
}


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    print("probe: lifespan has begun", file=sys.stderr)
    await asyncio.sleep(float(os.environ.get("PROBE_STARTUP_SECONDS", "0")))
    scope["state"]["from_lifespan"] = "set in startup"
    await note("startup")
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await note("shutdown")
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    function = FUNCTIONS.get(scope["path"].lstrip("/").split("/")[0], target)
    await function(scope, receive, send)
