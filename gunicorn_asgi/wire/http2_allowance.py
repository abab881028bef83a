"""How often a client may do what costs the server more than itself."""

from collections import deque
from typing import Final

PERIOD_SECONDS: Final = 10.0

MAX_RESETS: Final = 100
"""Streams that are reset, by the client or through its fault, in one period. A browser that leaves a page resets all
of its streams at once, of which there are at most as many as `http2_max_concurrent_streams` allows; endless resets are
how CVE-2023-44487 and its kin keep a server at work for nothing."""

MAX_CONTROL_FRAMES: Final = 100
"""SETTINGS, PING, PRIORITY, and DATA without content, in one period without anything of a request between them. Each
costs an answer or at least a look."""

MAX_BAD_STREAMS: Final = 10
"""Streams that break the protocol, in the life of a connection: no honest client does that again and again."""

MAX_LATE_STREAMS: Final = 1000
"""Streams behind our last GOAWAY, in the life of a connection. An honest client has opened them before it saw that: as
many as may run at once, and once more as many for those whose answers it saw before."""


class Allowance:
    """So many times in `PERIOD_SECONDS`, whichever moment the period begins at."""

    __slots__ = ("spent",)

    def __init__(self, times: int) -> None:
        self.spent = deque[float](maxlen=times)
        """When it was spent."""

    def spend(self, now: float) -> bool:
        """Once more, at `now` in seconds of any clock. False when that is too often."""
        times = self.spent
        allowed = len(times) != times.maxlen or now - times[0] > PERIOD_SECONDS
        times.append(now)
        return allowed

    def renew(self) -> None:
        """Forget what was spent."""
        self.spent.clear()
