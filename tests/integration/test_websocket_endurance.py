"""Clients come, talk and vanish in every way there is; in the end the worker is as it was before.

By hand, on a quiet machine, with the numbers that count:

    MESSAGES=1000000 CONNECTIONS=2000 make test TESTS="-n 0 tests/integration/test_websocket_endurance.py"
"""

import asyncio
import json
import os
import random
import resource
import socket
import struct
import time
from typing import Any, Final

import pytest

from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.websocket import BINARY, TEXT, close, frame, handshake

MESSAGES: Final = int(os.environ.get("MESSAGES", "40000"))
CONNECTIONS: Final = int(os.environ.get("CONNECTIONS", "200"))
BATCH: Final = 20
SETTLE_SECONDS: Final = 30.0
MIB: Final = 1024 * 1024

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
SMALL = [frame(TEXT, b"x" * size) for size in (0, 5, 60, 63)] + [frame(BINARY, bytes(size)) for size in (1, 60)]


class Crowd:
    """Connections that together send a number of messages; each leaves after some of them and another comes."""

    def __init__(self, address: tuple[str, int], messages: int) -> None:
        self._address = address
        self._left = messages
        self._random = random.Random(messages)
        self.connections = 0

    async def run(self) -> None:
        await asyncio.gather(*(self._place() for _ in range(CONNECTIONS)))

    async def _place(self) -> None:
        while self._left > 0:
            self.connections += 1
            await self._connection()

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        writer.write(handshake("/echo", self._random.choice(("", DEFLATE))))
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(self._random.randint(0, 10)):
            if self._left <= 0:
                break
            self._left -= BATCH
            batch = [self._random.choice(SMALL) for _ in range(BATCH)]
            writer.write(b"".join(batch))
            # All of them are too short to be compressed: an echo is its message without the mask.
            await reader.readexactly(sum(map(len, batch)) - 4 * BATCH)
        await self._leave(reader, writer)

    async def _leave(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way = self._random.randrange(5)
        if way == 0:  # In order.
            writer.write(close(1000))
            await reader.read()
        elif way == 1:  # In the middle of a frame.
            writer.write(frame(BINARY, bytes(1000))[:500])
        elif way == 2:  # With an answer under way, and a reset.
            writer.write(frame(BINARY, bytes(60)))
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif way == 3:  # By breaking a rule.
            writer.write(frame(3))
            await reader.read()
        writer.close()


def resources(server: Gunicorn) -> dict[str, Any]:
    counted: dict[str, Any] = json.loads(server.get("/resources").body)
    return counted


def settled(server: Gunicorn, tasks: int, files: int) -> dict[str, Any]:
    """What is in use when it is no more than it was, or after a while: connections end a moment after their clients."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (counted := resources(server))["tasks"] > tasks or counted["files"] > files:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return counted


@pytest.mark.load
@pytest.mark.parametrize("worker", ["gunicorn_asgi.Worker", "gunicorn_asgi.H11Worker"])
def test_nothing_is_left_behind(gunicorns: GunicornStarter, worker: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * CONNECTIONS + 200
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    server = gunicorns.start("websocket_probe", worker=worker)
    assert isinstance(server.address, tuple)
    at_rest = resources(server)
    # The first crowd fills caches, and what the allocator keeps for the next time.
    asyncio.run(Crowd(server.address, MESSAGES // 4).run())
    before = settled(server, at_rest["tasks"], at_rest["files"])
    crowd = Crowd(server.address, MESSAGES)
    asyncio.run(crowd.run())
    after = settled(server, at_rest["tasks"], at_rest["files"])
    print(f"{crowd.connections} connections: {at_rest}, {before}, {after}")
    assert (after["tasks"], after["files"]) == (at_rest["tasks"], at_rest["files"])
    assert after["objects"] - before["objects"] < 1000
    assert after["bytes"] - before["bytes"] < 4 * MIB
    assert "Traceback" not in server.log
