"""The life of a worker process between Gunicorn's fork and its end: boot, signals, hooks, exit code.

    fork ---> init_process: signals, application ---> run: event loop, server ---> the master's `worker_exit`
       \\______________a signal to stop: exit 0_____/        \\___a signal to stop: drain, exit 0

A boot that fails ends the first workers of a master with `Arbiter.WORKER_BOOT_ERROR`, so that the master stops instead
of looping. A worker that replaces another one waits and ends with `REPLACEMENT_FAILED` instead: the others serve on,
and the master tries again.
"""

import asyncio
import contextlib
import math
import os
import signal
import sys
import time
import traceback
from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, ClassVar, Final, NoReturn

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker as BaseWorker

from .blocked_loop import abort_report, report_on_abort
from .errors import LifespanFailed, SettingsError
from .failed_application import failed_application
from .fleet import Fleet, Member
from .process_exit import (
    STOP_SIGNALS,
    disregard_stop_signals,
    exit_by,
    ignore_stop_signals_at_exit,
    shut_down,
    swallowed_stop_signal,
)
from .server import EXIT_SECONDS, Server, Stop

REPLACEMENT_FAILED: Final = 1
"""Exit code of a worker that cannot start while others serve. The master starts another one."""

_UNEXPECTED: Final = 255
"""What Gunicorn makes of an exception that a worker did not handle."""

ABORT_SECONDS: Final = 0.5
"""From SIGABRT to the end. The master sends SIGKILL with the next look at its workers."""

_CANCEL_SECONDS: Final = 1.0
_MAX_REOPEN_ROUNDS: Final = 10  # One for each file that fails, and who has more?
_STRAY_SIGNALS: Final = (signal.SIGHUP, signal.SIGUSR2)
_HOW: Final = {signal.SIGTERM: Stop.GRACEFUL, signal.SIGINT: Stop.QUICK, signal.SIGQUIT: Stop.QUICK}


class LifeCycle(BaseWorker):  # type: ignore[misc]  # Gunicorn ships no types.
    """Gunicorn's worker without what it serves."""

    _fleet: ClassVar[Fleet | None] = None
    alive: bool
    wsgi: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Called by Gunicorn in its master, before the fork."""
        super().__init__(*args, **kwargs)
        # One for all workers of the master, whatever their class: made here because it is inherited by the fork.
        if LifeCycle._fleet is None:
            LifeCycle._fleet = Fleet()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Server | None = None
        self._is_stopping = False
        self._is_interrupted = False
        self._logs_threads = False
        self.executor_threads: int | None = None
        """Size of the default executor of the event loop; None for that of Python."""

    # What a class of workers serves

    @abstractmethod
    def make_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of this worker; sets `executor_threads`. Raises SettingsError for what cannot be honoured."""

    @abstractmethod
    def make_server(self, loop: asyncio.AbstractEventLoop, member: Member) -> Server:
        """What this worker serves with; its heartbeat has to be `self.beat`. Called while the loop runs."""

    def close_logs(self) -> None:
        """Write out what has not been written yet."""

    # Boot

    def init_process(self) -> None:
        """Called by Gunicorn in the new process."""
        try:
            super().init_process()
        except SystemExit as error:
            if self.booted or self._is_stopping or self.aborted or not error.code:
                raise
            self._fail_boot(f"The worker cannot start: the application raised {error!r}", None)
        except Exception as error:
            if self.booted:
                raise
            self._fail_start(error)

    def load_wsgi(self) -> None:
        """Load the application, or with `--reload` what shows its SyntaxError in a browser.

        Gunicorn has a WSGI application for that, whose text is without the error itself in old versions.
        """
        try:
            self.wsgi = self.app.wsgi()
        except SyntaxError as error:
            if not self.cfg.reload:
                raise
            self.log.error("The application cannot be loaded", exc_info=error)
            if self.reloader is not None and error.filename is not None:
                self.reloader.add_extra_file(error.filename)
            self.wsgi = failed_application("".join(traceback.format_exception(error)))

    def run(self) -> None:
        """Serve until told to stop. Called by Gunicorn in the worker process, after the application is loaded."""
        try:
            with _blocked_stop_signals():
                loop = self.make_loop()
                asyncio.set_event_loop(loop)
                self._loop = loop  # From now on signals are handled by the loop.
        except Exception as error:
            self._fail_start(error)
        executor = ThreadPoolExecutor(self.executor_threads, thread_name_prefix="asyncio")
        loop.set_default_executor(executor)
        serving = loop.create_task(self._serve(loop), name="serve")
        exit_code = _UNEXPECTED
        try:
            loop.run_until_complete(serving)
            exit_code = 0
        except SystemExit as error:
            exit_code = error.code if isinstance(error.code, int) else int(error.code is not None)
            raise
        finally:
            disregard_stop_signals()
            if not self.aborted:
                self._leave(loop, executor, exit_code)

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        assert LifeCycle._fleet is not None
        try:
            server = self._server = self.make_server(loop, LifeCycle._fleet.join(self.age))
            if not self.alive:  # A signal to stop came before.
                return
            loop.add_reader(self.PIPE[0], self._on_pipe)
            await server.serve(replaces_another=self._replaces_another)
        except Exception as error:
            if self._server is not None and self._server.serving:
                raise
            if self.aborted:
                sys.exit(1)
            if isinstance(error, LifespanFailed):
                self._fail_boot(f"Application startup failed: {error}", error.__cause__)
            self._fail_start(error)

    @property
    def _replaces_another(self) -> bool:
        return bool(self.age > self.cfg.workers)

    def _fail_start(self, error: Exception) -> NoReturn:
        # A mistake in the settings is told in one line, and what it comes from is the user's.
        self._fail_boot(
            f"The worker cannot start: {error}", error.__cause__ if isinstance(error, SettingsError) else error
        )

    def _fail_boot(self, reason: str, error: BaseException | None) -> NoReturn:
        """End a worker that cannot serve."""
        if self._is_stopping:  # What failed is what a signal to stop has interrupted.
            sys.exit(0)
        self._loop = None  # A signal to stop ends the pause at once.
        self.log.error("%s", reason, exc_info=error)
        if not self._replaces_another:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        assert LifeCycle._fleet is not None
        pause = LifeCycle._fleet.join(self.age).boot_pause()
        self.log.error("The next attempt to replace a worker comes in %.1f s", pause)
        end = time.monotonic() + pause
        while (left := end - time.monotonic()) > 0 and self.alive and os.getppid() == self.ppid:
            self.notify()
            time.sleep(min(left, 0.1))
        sys.exit(REPLACEMENT_FAILED)

    # Heartbeat

    def beat(self) -> None:
        """Tell the master that the worker is alive, and see whether it still has a master."""
        self.notify()
        if os.getppid() != self.ppid and self.alive:
            self.alive = False
            self._is_stopping = True
            self.log.warning("The master (pid %s) has gone: the worker finishes what it does and ends", self.ppid)
            if self._server is not None:
                self._server.stop(Stop.GRACEFUL)

    def _on_pipe(self) -> None:
        """Gunicorn's reloader has seen a change, or a signal has come."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.PIPE[0], 4096)
        if not self.alive and not self._is_stopping and self._server is not None:
            self._is_stopping = True
            self._server.stop(Stop.RELOAD)

    # Signals

    def init_signals(self) -> None:
        """Called by Gunicorn early in the new process."""
        with _blocked_stop_signals():
            number = swallowed_stop_signal()
            super().init_signals()
            for stop_signal in STOP_SIGNALS:
                signal.signal(stop_signal, self._handle_stop)
            ignore_stop_signals_at_exit()
            signal.siginterrupt(signal.SIGTERM, False)
            for stray in _STRAY_SIGNALS:
                # Not SIG_IGN, which programs that the application starts would inherit.
                signal.signal(stray, self._handle_stray)
            self._logs_threads = report_on_abort(getattr(self.log, "error_log", None))
        if number is not None:
            self._handle_stop(number, None)

    def _handle_stop(self, number: int, frame: FrameType | None) -> None:
        """Not by `loop.add_signal_handler`, whose handlers go away with the loop: a second SIGTERM would kill the
        worker in the last moments of an orderly exit."""
        how = _HOW[signal.Signals(number)]
        if self._loop is not None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._stop, how)
        elif not self._is_stopping:
            # Nothing is served yet, and what is imported may take its time.
            self._is_stopping = True
            self.alive = False
            disregard_stop_signals()
            if how is Stop.QUICK:
                self.cfg.worker_int(self)
            sys.exit(0)

    def _stop(self, how: Stop) -> None:
        self.alive = False
        self._is_stopping = True
        if self._server is not None:
            self._server.stop(how)
        if how is Stop.QUICK and not self._is_interrupted:
            self._is_interrupted = True
            self.cfg.worker_int(self)

    def _handle_stray(self, number: int, frame: FrameType | None) -> None:
        """What is meant for the master changes nothing here."""

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """SIGUSR1: reopen the log files, but not in the middle of a line that is being written."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._reopen_logs)
        else:
            self._reopen_logs()

    def _reopen_logs(self) -> None:
        # Gunicorn ends at a file that fails. That one is closed by then, and opened again for its next line, so that
        # another round comes to those behind it.
        errors: list[Exception] = []
        while len(errors) < _MAX_REOPEN_ROUNDS and (error := self._failure_to_reopen()) is not None:
            errors.append(error)
        for error in errors:
            self.log.error("A log file cannot be reopened: %r", error)
        self._logs_threads = report_on_abort(getattr(self.log, "error_log", None))

    def _failure_to_reopen(self) -> Exception | None:
        """The last lines of a file find no room on the disk, or it cannot be opened any more."""
        try:
            self.log.reopen_files()
        except (OSError, ValueError) as error:
            return error
        return None

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """SIGABRT: the master has waited in vain for the heartbeat."""
        self.aborted = True
        self.alive = False
        exit_by(ABORT_SECONDS, 1)
        exchanges = self._server.exchanges if self._server is not None else ()
        report = abort_report(self._loop, exchanges, with_threads=not self._logs_threads)
        self.log.error("The worker is aborted: the event loop has not turned for %s s\n%s", self.cfg.timeout, report)
        self.cfg.worker_abort(self)
        sys.exit(1)

    # End

    def _leave(self, loop: asyncio.AbstractEventLoop, executor: ThreadPoolExecutor, exit_code: int) -> None:
        """Take the loop down, no matter how the worker came here, and bound what is still to come."""
        deadline = min(
            loop.time() + self.cfg.graceful_timeout, self._server.exit_deadline if self._server else math.inf
        )
        exit_by(max(deadline - EXIT_SECONDS / 2 - loop.time(), 0.1), exit_code)
        self.close_logs()
        # Tasks that the application has left on the loop. The server is one of them if the application has raised
        # SystemExit: then the worker leaves without serving on.
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        self._wait_for(loop, left, deadline)
        for task in left:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                context = {"message": "A task has failed when it was cancelled", "exception": error, "task": task}
                loop.call_exception_handler(context)
        self._wait_for(loop, {loop.create_task(loop.shutdown_asyncgens())}, deadline)
        shut_down(executor, lambda: loop.time() > deadline - EXIT_SECONDS, self.notify)
        loop.close()

    def _wait_for(self, loop: asyncio.AbstractEventLoop, tasks: "set[asyncio.Task[Any]]", deadline: float) -> None:
        """Give `tasks` a moment to end. What goes on without an end is left where it is."""
        self.notify()
        if tasks:
            seconds = min(_CANCEL_SECONDS, max(deadline - EXIT_SECONDS - loop.time(), 0.0))
            loop.run_until_complete(asyncio.wait(tasks, timeout=seconds))


@contextlib.contextmanager
def _blocked_stop_signals() -> Iterator[None]:
    """Hold signals back until there is somebody to handle them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
