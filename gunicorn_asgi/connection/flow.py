"""Back pressure: who waits until something may go on."""

import asyncio
from typing import Final


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
        await waiter
