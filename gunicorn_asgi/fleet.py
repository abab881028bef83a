"""What the workers of one master know of each other.

A `Fleet` is made in the master before the first fork and inherited by every worker: an anonymous shared mapping of a
few numbers, and a file on which record locks are taken. A record lock belongs to a process, so that the kernel lets go
of it however the process ends.
"""

import contextlib
import fcntl
import mmap
import os
import tempfile
import time
from typing import Final

PLACES: Final = 512
"""Workers that are told apart, by their age modulo this number. Two that share a place share their connections better
than not at all."""

STALE_SECONDS: Final = 3.0
"""A worker that has not reported for so long is blocked or dead, and not to be waited for."""

REPLACEMENT_SECONDS: Final = 30.0
"""How long a worker that is due lets the one that has just left be replaced. A replacement that cannot start must not
keep the others from their turn."""

MAX_BOOT_PAUSE_SECONDS: Final = 8.0
"""Longest pause of a replacement that cannot start. They double from 1 s on, while nothing else succeeds."""

BOOT_SPACING_SECONDS: Final = 1.0
"""Between the ends of two replacements that could not start, and so at least between two attempts."""

# Indices of numbers in the mapping.
_LEFT_AT, _FAILED_BOOTS, _LAST_FAILURE, _FIRST_PLACE = range(4)
# Bytes of the lock file.
_TURN, _BOOT = range(2)


class Fleet:
    """Shared by all workers of a master."""

    def __init__(self) -> None:
        self.numbers = memoryview(mmap.mmap(-1, (_FIRST_PLACE + 2 * PLACES) * 8)).cast("d")
        """Doubles, each written by one processor instruction."""
        with tempfile.TemporaryFile(prefix="gunicorn-asgi-") as file:
            # Open as long as the master.
            self._lock_file = os.dup(file.fileno())

    def join(self, age: int) -> "Member":
        """Called in a worker; `age` is Gunicorn's running number of it."""
        return Member(self, age % PLACES)

    def try_lock(self, byte: int) -> bool:
        """Take the record lock on one byte, to be kept until the process ends or `unlock`."""
        try:
            fcntl.lockf(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte, os.SEEK_SET)
        except OSError:
            return False
        return True

    def unlock(self, byte: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.lockf(self._lock_file, fcntl.LOCK_UN, 1, byte, os.SEEK_SET)


class Member:
    """One worker among the others."""

    def __init__(self, fleet: Fleet, place: int) -> None:
        self._fleet = fleet
        self._numbers = fleet.numbers
        self.place = place
        """A number that no other worker has at the same time, as long as it lives."""
        self._stamp = _FIRST_PLACE + 2 * place
        self._others: tuple[int, ...] = ()

    # Sharing connections

    def report(self, connections: int) -> None:
        """Say how many connections this worker has. To be called on each heartbeat while it accepts some."""
        now = time.monotonic()
        numbers = self._numbers
        numbers[self._stamp + 1] = connections
        numbers[self._stamp] = now
        self._others = tuple(
            _FIRST_PLACE + 2 * place + 1
            for place, stamp in enumerate(numbers[_FIRST_PLACE::2].tolist())
            if stamp and now - stamp < STALE_SECONDS and _FIRST_PLACE + 2 * place != self._stamp
        )

    def count(self, connections: int) -> None:
        """The same between two heartbeats."""
        self._numbers[self._stamp + 1] = connections

    def fewest_of_others(self) -> float | None:
        """The connections of the worker with the fewest; None where no other accepts."""
        numbers = self._numbers
        return min([numbers[place] for place in self._others]) if self._others else None

    def leave(self) -> None:
        """This worker accepts no more."""
        self._numbers[self._stamp] = 0.0

    # Taking turns

    def take_turn(self) -> bool:
        """Whether this worker may go and be replaced: no other is on its way, and the last one has its replacement.

        The turn ends with the process.
        """
        fleet = self._fleet
        if not fleet.try_lock(_TURN):
            return False
        now = time.monotonic()
        left_at = self._numbers[_LEFT_AT]
        if left_at and now - left_at < REPLACEMENT_SECONDS:
            fleet.unlock(_TURN)
            return False
        self._numbers[_LEFT_AT] = now
        return True

    def on_serving(self, *, replaces_another: bool) -> None:
        """This worker has begun to serve."""
        self._numbers[_FAILED_BOOTS] = 0.0
        if replaces_another:
            self._numbers[_LEFT_AT] = 0.0

    def boot_pause(self) -> float:
        """How many seconds this worker, which could not start, has to wait before it ends."""
        fleet = self._fleet
        # Held for microseconds, by processes that have nothing else to do.
        while not fleet.try_lock(_BOOT):
            time.sleep(0.001)
        try:
            failures = self._numbers[_FAILED_BOOTS] + 1
            self._numbers[_FAILED_BOOTS] = failures
            now = time.monotonic()
            pause: float = min(2.0 ** (failures - 1), MAX_BOOT_PAUSE_SECONDS)
            end = max(now + pause, self._numbers[_LAST_FAILURE] + BOOT_SPACING_SECONDS)
            self._numbers[_LAST_FAILURE] = end
            return end - now
        finally:
            fleet.unlock(_BOOT)
