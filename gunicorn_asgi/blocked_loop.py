"""What a worker tells of an event loop that does not turn: while it happens, and when the master gives it up.

`LoopWatch` is a thread that looks whether the loop still turns. `report_on_abort` makes SIGABRT, with which the master
gives up a worker without a heartbeat, write down the stacks of all threads at once, also when the interpreter is stuck
in C code (`faulthandler`); the worker's own handler then adds what only Python knows, as far as Python still runs.
"""

import asyncio
import contextlib
import faulthandler
import io
import logging
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, Final

from .connection.context import ErrorLog, ExchangeDescription, RunningExchange
from .process_exit import STOP_SIGNALS

MAX_PERIOD_SECONDS: Final = 0.5
_PERIODS: Final = 4
"""Turns that the loop is given within the time from which on it counts as blocked."""

MAX_DESCRIBED: Final = 50
"""Requests and tasks in one report. A worker may hold thousands, of which the oldest tell the most."""


class LoopWatch:
    """Reports a blocked event loop once while it is blocked, with the stack that blocks it."""

    def __init__(
        self,
        lag_seconds: float,
        overdue_seconds: float,
        error_log: ErrorLog,
        exchanges: Callable[[], Iterable[RunningExchange]],
        on_overdue: Callable[[], None],
    ) -> None:
        """A loop that has not turned for `lag_seconds` (0: for ever) is reported. `on_overdue` is called, in the thread
        of the watch, at the latest when it has not for `overdue_seconds`, and again and again until it does."""
        self._lag_seconds = lag_seconds
        self._error_log = error_log
        self._exchanges = exchanges
        self._on_overdue = on_overdue
        # Within two of them the thread has seen that the loop does not turn.
        self._period = min(MAX_PERIOD_SECONDS, overdue_seconds / 2, lag_seconds / _PERIODS or MAX_PERIOD_SECONDS)
        self._turned_at = time.monotonic()
        self._blocked_thread = threading.get_ident()
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch `loop`, which runs in the thread that calls this."""
        self._loop = loop
        self._turn()
        threading.Thread(target=self._watch, name="event loop watch", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        assert self._loop is not None
        self._turned_at = time.monotonic()
        self._timer = self._loop.call_later(self._period, self._turn)

    def _watch(self) -> None:
        # The main thread handles them, and gets them late where another thread takes them from the kernel first.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        seen_turn = reported_turn = 0.0
        while True:
            looked_at = time.monotonic()
            if self._stopped.wait(self._period):
                return
            now = time.monotonic()
            if now - looked_at > 2 * self._period + 0.1:
                continue  # The whole process stood still, or the machine did. It is not the application's doing.
            turned_at = self._turned_at
            if turned_at == seen_turn:
                self._on_overdue()
            seen_turn = turned_at
            blocked_seconds = now - turned_at - self._period
            if self._lag_seconds and blocked_seconds >= self._lag_seconds and turned_at != reported_turn:
                reported_turn = turned_at
                self._error_log.warning(
                    "The event loop has been blocked for %.1f s by:\n%s%s",
                    blocked_seconds,
                    _stack_of(self._blocked_thread),
                    describe_exchanges(self._exchanges()),
                )


def report_on_abort(logger: logging.Logger | None) -> bool:
    """Have SIGABRT write the stacks of all threads before its handler runs, which must be in place already.

    They go where `logger` writes. Where that is no file (syslog, or a handler of the user's), they go to standard
    error, and False is returned. To be called again when log files are reopened.
    """
    # Else, where PYTHONFAULTHANDLER has enabled it, it would not put itself in front of the worker's handler again. In
    # front it writes, steps aside and raises the signal once more.
    faulthandler.disable()
    for handler in logger.handlers if logger is not None else ():
        if isinstance(handler, logging.StreamHandler):
            with contextlib.suppress(OSError, ValueError, AttributeError, io.UnsupportedOperation):
                faulthandler.enable(file=handler.stream, all_threads=True)
                return True
    with contextlib.suppress(OSError, ValueError, AttributeError, io.UnsupportedOperation):
        faulthandler.enable(file=sys.stderr, all_threads=True)
    return False


def abort_report(
    loop: asyncio.AbstractEventLoop | None, exchanges: Iterable[RunningExchange], *, with_threads: bool
) -> str:
    """What Python knows at the moment of SIGABRT: stacks of threads (if asked for) and of tasks, requests in flight."""
    report = io.StringIO()
    if with_threads:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident in sys._current_frames():
            report.write(f"Thread {names.get(ident, ident)}:\n{_stack_of(ident)}")
    if loop is not None:
        tasks = asyncio.all_tasks(loop)
        for number, task in enumerate(tasks):
            if number == MAX_DESCRIBED:
                report.write(f"... and {len(tasks) - number} more tasks\n")
                break
            report.write(f"{task!r}:\n{''.join(_stack_of_task(task).format())}")
    report.write(describe_exchanges(exchanges))
    return report.getvalue()


def describe_exchanges(exchanges: Iterable[RunningExchange]) -> str:
    """A line for each request in flight, the oldest first."""
    # The main thread may change a set meanwhile, but a tuple of it is made in one step.
    described = sorted((exchange.describe() for exchange in tuple(exchanges)), key=_age, reverse=True)
    lines = [f"Requests in flight: {len(described)}"]
    lines += [
        f"  {one.method} {one.path!r} from {one.client}, {one.age_seconds:.1f} s" for one in described[:MAX_DESCRIBED]
    ]
    if len(described) > MAX_DESCRIBED:
        lines.append(f"  ... and {len(described) - MAX_DESCRIBED} more")
    return "\n".join(lines)


def _stack_of_task(task: "asyncio.Task[Any]") -> traceback.StackSummary:
    """Where a task waits, through all that it awaits: `Task.get_stack` ends at the coroutine of the task itself."""
    frames: list[tuple[FrameType, int]] = []
    awaited: Any = task.get_coro()
    while awaited is not None and len(frames) < MAX_DESCRIBED:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return traceback.StackSummary.extract(iter(frames))


def _age(description: ExchangeDescription) -> float:
    return description.age_seconds


def _stack_of(ident: int) -> str:
    frame = sys._current_frames().get(ident)
    return "".join(traceback.format_stack(frame)) if frame is not None else "  (the thread has ended)\n"
