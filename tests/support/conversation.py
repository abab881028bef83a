"""A connection on a fake transport, driven from outside: bytes in pieces, then the answers."""

import asyncio
from collections.abc import Iterable

from gunicorn_asgi.connection.context import ServingContext
from gunicorn_asgi.connection.http1 import Http1Connection

from .fake_transport import FakeTransport


async def converse(context: ServingContext, pieces: Iterable[bytes]) -> FakeTransport:
    """Send the pieces one after the other and wait until the server has answered what there is to answer."""
    loop = asyncio.get_running_loop()
    transport = FakeTransport(loop, Http1Connection(context))
    for piece in pieces:
        transport.feed(piece)
        await asyncio.sleep(0)
    await quiet(context, transport)
    return transport


async def quiet(context: ServingContext, transport: FakeTransport) -> None:
    """Let the loop turn until nothing runs, and nothing that waited has begun to; or, where an application waits for a
    body that does not come, until nothing is sent any more."""
    still = sent = 0
    while still < (12 if context.exchanges else 3):
        await asyncio.sleep(0)
        still = still + 1 if len(transport.received) == sent else 0
        sent = len(transport.received)


def answers(received: bytes) -> list[tuple[int, str]]:
    """Status and `x-seen` field of each response in `received`: of tests/integration/apps/mirror.py, which sends no
    content, or a refusal."""
    found = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        assert end, f"half a head: {head!r}"
        status_line, *lines = head.split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines)
        if int(status_line[9:12]) >= 200:
            received = received[int(fields[b"content-length"]) :]
        found.append((int(status_line[9:12]), fields.get(b"x-seen", b"").decode()))
    return found


async def let_go(transport: FakeTransport) -> None:
    """The client goes away."""
    if not transport.lost:
        transport.lose()
    await asyncio.sleep(0)
