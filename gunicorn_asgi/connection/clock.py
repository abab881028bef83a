"""The coarse clock of a worker: one timer for all connections instead of one timer handle for each request."""

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

TICK_SECONDS: Final = 0.5
"""How often deadlines are looked at. A deadline passes up to twice this late, and never early."""

NEVER: Final = float("inf")


class Clock:
    """Calls `on_tick` every `TICK_SECONDS` and keeps the time of the last tick for all who need no finer one."""

    __slots__ = ("_date_second", "_loop", "_on_date", "_on_tick", "_timer", "lag_seconds", "late_seconds", "now")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_tick: Callable[[], None], on_date: Callable[[bytes], None]
    ) -> None:
        """`on_date` gets the value of the Date field (RFC 9110 section 5.6.7) whenever it changes, and at once."""
        self._loop = loop
        self._on_tick = on_tick
        self._on_date = on_date
        self._date_second = 0
        self.now = loop.time()
        """Monotonic seconds of the loop at the last tick."""
        self.late_seconds = 0.0
        """How much too late the last tick came, however little that is."""
        self.lag_seconds = 0.0
        """How much too late the last tick came, where that is more than a tick: the loop was blocked."""
        self._timer: asyncio.TimerHandle = loop.call_later(TICK_SECONDS, self._tick)
        self._set_date()

    def deadline(self, seconds: float) -> float:
        """The time at which `seconds` have surely passed from now on."""
        return self.now + seconds + TICK_SECONDS

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        # Armed first, so that an error in a callback never stops the clock.
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        last, self.now = self.now, self._loop.time()
        late = self.now - last - TICK_SECONDS
        self.late_seconds = max(late, 0.0)
        self.lag_seconds = late if late > TICK_SECONDS else 0.0
        self._set_date()
        self._on_tick()

    def _set_date(self) -> None:
        second = int(time.time())
        if second != self._date_second:
            self._date_second = second
            self._on_date(formatdate(second, usegmt=True).encode("ascii"))
