"""How long applications may take: `request_timeout` and `disconnect_grace_period`.

Both are looked at on the ticks of the coarse clock, over the exchanges that run anyway, and only where one of them is
set: a request pays nothing for them. An exchange gets its time from the first tick that sees it in a phase, so it ends
up to one tick late and never early.
"""

import asyncio
from collections.abc import Iterable
from enum import Enum, auto
from typing import Protocol

from ..settings import Settings
from .clock import NEVER


class Phase(Enum):
    """What an exchange waits for, as far as its time is limited."""

    UNANSWERED = auto()
    """Nothing of the response has been sent."""

    ABANDONED = auto()
    """The client has gone before it had the whole response."""

    UNLIMITED = auto()


class TimedExchange(Protocol):
    """An exchange whose application may take too long."""

    task: "asyncio.Task[None]"

    @property
    def phase(self) -> Phase: ...

    def time_out(self) -> None:
        """Answer with 504 in place of the application, and cancel it."""


class Overtime:
    """Ends what takes too long."""

    def __init__(self, settings: Settings, exchanges: Iterable[TimedExchange]) -> None:
        """`exchanges` are those that run, now and later."""
        self._seconds = {
            Phase.UNANSWERED: _or_never(settings.request_timeout_seconds),
            Phase.ABANDONED: _or_never(settings.disconnect_grace_seconds),
            Phase.UNLIMITED: NEVER,
        }
        self._exchanges = exchanges
        self._deadlines: dict[TimedExchange, tuple[Phase, float]] = {}
        self.is_limited = any(seconds is not NEVER for seconds in self._seconds.values())
        """Whether there is anything to look at."""

    def on_tick(self, now: float, lag_seconds: float) -> None:
        """Called on each tick. `now` is the time of the loop; for `lag_seconds` the loop was blocked."""
        deadlines = {}
        for exchange in tuple(self._exchanges):
            phase = exchange.phase
            seen, deadline = self._deadlines.get(exchange, (None, NEVER))
            if seen is not phase:
                deadline = now + self._seconds[phase]
            else:
                deadline += lag_seconds
            if deadline <= now:
                deadline = NEVER
                if phase is Phase.UNANSWERED:
                    exchange.time_out()
                    phase = exchange.phase
                else:
                    exchange.task.cancel()
            deadlines[exchange] = phase, deadline
        self._deadlines = deadlines


def _or_never(seconds: float | None) -> float:
    return NEVER if seconds is None else seconds
