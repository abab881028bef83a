"""Who waits until something may go on: writers for the client, the application for the body of its request."""

import asyncio
from typing import Final

from ..asgi_types import HTTPRequestMessage

_MAX_CHUNKS: Final = 256


class Gate:
    """Open, or closed with coroutines waiting in front of it.

    Each waiter has a future of its own, so that cancelling one leaves the others waiting.
    """

    __slots__ = ("_loop", "_waiters", "closed")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, closed: bool = False) -> None:
        self._loop: Final = loop
        self._waiters: list[asyncio.Future[None]] = []
        self.closed = closed

    def close(self) -> None:
        self.closed = True

    def open(self) -> None:
        """Open and let all pass."""
        self.closed = False
        self.wake()

    def wake(self) -> None:
        """Let all who wait look again at what they wait for; the gate stays as it is."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for the next `open` or `wake`."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter.cancelled():
                self._waiters = [other for other in self._waiters if other is not waiter]


class RequestBody:
    """What has been received of a request body and not yet been taken by the application."""

    __slots__ = ("_chunks", "_gate", "_taken", "buffered_bytes", "complete", "cut_off")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, complete: bool) -> None:
        self._chunks: list[bytes] = []
        self._gate = Gate(loop)
        self._taken = False
        self.buffered_bytes = 0
        self.complete = complete
        """Whether the end has been received."""
        self.cut_off = False
        """Whether the client sends nothing more, whatever is missing."""

    def feed(self, content: bytes, complete: bool) -> None:
        """More has arrived, possibly nothing but the end."""
        if content:
            self._chunks.append(content)
            self.buffered_bytes += len(content)
            # Content in tiny pieces would take fifty times its size.
            if len(self._chunks) >= _MAX_CHUNKS:
                self._chunks = [b"".join(self._chunks)]
        self.complete = complete
        self._gate.wake()

    def take(self) -> HTTPRequestMessage | None:
        """All that is here, as the next message for the application; None where it has to wait or has had the end."""
        chunks = self._chunks
        if self._taken or not (chunks or self.complete):
            return None
        content = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self.buffered_bytes = 0
        self._taken = self.complete
        return {"type": "http.request", "body": content, "more_body": not self.complete}

    def cut(self) -> None:
        """Nothing more will come. What is here can still be taken."""
        self.cut_off = True
        self._gate.wake()

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._gate.wake()

    async def wait(self) -> None:
        """Wait for the next change."""
        await self._gate.wait()
