"""The way out of a worker process: no later than it must be, with the exit code that belongs to it."""

import atexit
import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Final

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

_JOIN_STEP_SECONDS: Final = 0.1


def exit_by(seconds: float, code: int) -> None:
    """End the process with `code` at the latest in `seconds`, whatever its threads do then.

    The interpreter waits at its end for every thread that is no daemon, those of executors among them, and runs the
    functions of `atexit` only behind that. One thread that hangs would keep them from running at all.
    """

    def end() -> None:
        time.sleep(seconds)
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    threading.Thread(target=end, name="exit deadline", daemon=True).start()


def shut_down(executor: ThreadPoolExecutor, until: Callable[[], bool], on_wait: Callable[[], None]) -> None:
    """Wait for what runs in `executor`, until `until()`; what has not begun is dropped.

    `on_wait` is called all the while. (`loop.shutdown_default_executor` knows no end before Python 3.12.)
    """
    joining = threading.Thread(
        target=executor.shutdown, kwargs={"wait": True, "cancel_futures": True}, name="executor shutdown", daemon=True
    )
    joining.start()
    while joining.is_alive() and not until():
        on_wait()
        joining.join(_JOIN_STEP_SECONDS)


def disregard_stop_signals() -> None:
    """Asked to stop once more, a worker on its way out goes its way.

    By handlers that do nothing, for a signal may have been taken note of already, by another thread, that Python has
    yet to handle: finding SIG_IGN in the place of a handler then, it writes a traceback to standard error.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _disregard)


def _disregard(number: int, frame: FrameType | None) -> None:
    """See `disregard_stop_signals`."""


def ignore_stop_signals_at_exit() -> None:
    """Have the process end with the exit code of an orderly exit also if it is asked to stop in its last moments.

    The interpreter puts handlers back to their defaults as it ends, but leaves ignored signals alone. To be called
    early: the functions of `atexit` that come after it run before.
    """
    atexit.register(_ignore_stop_signals)


def _ignore_stop_signals() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def swallowed_stop_signal() -> signal.Signals | None:
    """A signal to stop that came between the fork and the worker's own handlers; the first of them.

    Until then the handlers are those of the master, which put signals into a queue that nobody reads in the worker.
    What was in there before the fork means the same: the master, which will read it, is about to stop its workers.
    """
    master = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    caught = getattr(master, "SIG_QUEUE", ())
    numbers: list[int] = []
    if hasattr(caught, "get_nowait"):
        with contextlib.suppress(queue.Empty):
            while True:
                numbers.append(caught.get_nowait())
    else:  # A list in old versions of Gunicorn.
        numbers = list(caught)
    return next((signal.Signals(number) for number in numbers if number in STOP_SIGNALS), None)
