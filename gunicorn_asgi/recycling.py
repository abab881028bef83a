"""When a worker is to be replaced because it has done enough, or grown too large (max_requests, max_rss)."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .connection.context import ErrorLog
from .fleet import Member
from .settings import Settings

_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Recycling:
    """Decides when a worker leaves: always by an ordinary drain, and in turn with the others."""

    def __init__(
        self, settings: Settings, member: Member | None, error_log: ErrorLog, leave: Callable[[], None]
    ) -> None:
        """`leave` asks the worker to drain. It is called once."""
        self._member = member if settings.max_requests_stagger else None
        self._max_rss_bytes = settings.max_rss_bytes
        self._error_log = error_log
        self._leave = leave
        self._reason: str | None = None
        self._has_left = False
        self.last_exchange = 0
        """The number of the exchange from which on the worker is due; 0 for never."""
        if settings.max_requests:
            self.last_exchange = settings.max_requests + random.randint(0, settings.max_requests_jitter)  # noqa: S311

    def on_last_exchange(self) -> None:
        """Exchange number `last_exchange` has begun."""
        self._reason = f"{self.last_exchange} requests"
        self._leave_in_turn()

    def on_beat(self) -> None:
        """Look at the memory, and whether it is this worker's turn; on each heartbeat."""
        if self._max_rss_bytes is not None and self._reason is None:
            rss_bytes = resident_bytes()
            if rss_bytes > self._max_rss_bytes:
                self._reason = f"{rss_bytes >> 20} MiB of resident memory (max_rss)"
        if self._reason is not None:
            self._leave_in_turn()

    def _leave_in_turn(self) -> None:
        if not self._has_left and (self._member is None or self._member.take_turn()):
            self._has_left = True
            self._error_log.info("Autorestarting worker after %s", self._reason)
            self._leave()


def resident_bytes() -> int:
    """The resident memory of this process; 0 where the system has no /proc."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
