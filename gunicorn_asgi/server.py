"""The server inside one worker: lifespan, listeners, heartbeat, and the drain at its end."""

import asyncio
import math
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from enum import IntEnum, auto
from typing import Final

from .access_log import AccessLog
from .asgi_types import Application
from .blocked_loop import LoopWatch
from .connection.context import ErrorLog, RunningExchange, ServingContext
from .connection.negotiation import protocol_factory
from .errors import LifespanFailed
from .fleet import Member
from .lifespan import Lifespan
from .listener import Listeners
from .recycling import Recycling
from .settings import Settings
from .wire.http1_request import FieldParser

QUICK_SECONDS: Final = 2.5
"""From SIGINT or SIGQUIT to the end of the process."""

RELOAD_SECONDS: Final = 0.5
"""For what runs while a changed application is reloaded. Somebody waits in front of a browser for the new one."""

EXIT_SECONDS: Final = 0.5
"""Of the time to the end of the process, kept for the way out of it."""

DRAIN_POLL_SECONDS: Final = 0.02
"""How often a drain looks whether it is done."""

LAST_FLUSH_SECONDS: Final = 0.5
"""For the last bytes of responses that are complete, before the connections are cut."""

CANCEL_SECONDS: Final = 1.0
"""For cancelled requests to clean up. Nobody waits longer for those that ignore their cancellation."""

# After the grace of a drain, for those who have not got through the handshake of TLS or the PROXY preamble by then:
# they have asked for nothing yet.
_OPENING_SECONDS: Final = 2.0

# Of graceful_timeout, kept for cancelling, lifespan shutdown and the way out before the master's SIGKILL.
_DRAIN_MARGIN: Final = 0.15
_MAX_DRAIN_MARGIN_SECONDS: Final = 3.0


class Stop(IntEnum):
    """How a server is asked to end. What is more urgent overrides the rest."""

    GRACEFUL = auto()
    RELOAD = auto()
    QUICK = auto()


class Server:
    """Serves one application on some listening sockets until it is asked to stop."""

    def __init__(
        self,
        *,
        app: Application,
        settings: Settings,
        sockets: Sequence[socket.socket],
        ssl_context: ssl.SSLContext | None,
        field_parser: FieldParser,
        error_log: ErrorLog,
        access_log: AccessLog | None,
        heartbeat: Callable[[], None],
        member: Member | None = None,
    ) -> None:
        """`heartbeat` is called every `settings.heartbeat_seconds` from `serve` on, startup and drain included.
        `member` is this worker among its siblings, where it has some."""
        self._app = app
        self._settings = settings
        self._sockets = sockets
        self._ssl_context = ssl_context
        self._field_parser = field_parser
        self._error_log = error_log
        self._access_log = access_log
        self._heartbeat = heartbeat
        self._member = member
        self._recycling = Recycling(settings, member, error_log, lambda: self.stop(Stop.GRACEFUL))
        self._context: ServingContext | None = None
        self._listeners: Listeners | None = None
        self._beat_timer: asyncio.TimerHandle | None = None
        self.serving = False
        """Whether the listeners have ever been open: before that, every failure is a failure to boot."""
        self._stop: Stop | None = None
        self._stop_asked = asyncio.Event()
        self.exit_deadline = math.inf
        """The loop time at which the process has to have ended; not known before it is asked to stop."""

    @property
    def exchanges(self) -> Collection[RunningExchange]:
        """Requests in flight."""
        return self._context.exchanges if self._context is not None else ()

    def stop(self, how: Stop) -> None:
        """Ask `serve` to end. What is more urgent overrides the rest, asking for the same again does nothing."""
        if self._stop is not None and self._stop >= how:
            return
        now = asyncio.get_running_loop().time()
        seconds = QUICK_SECONDS if how is Stop.QUICK else self._settings.graceful_timeout_seconds
        self.exit_deadline = min(self.exit_deadline, now + seconds)
        self._stop = how
        self._stop_asked.set()

    async def serve(self, *, replaces_another: bool = False) -> None:
        """Start the application, accept connections, and return after an orderly stop.

        Raises LifespanFailed when the application does not start.
        """
        loop = asyncio.get_running_loop()
        watch = LoopWatch(
            self._settings.loop_lag_warning_seconds,
            self._settings.heartbeat_seconds,
            self._error_log,
            lambda: self.exchanges,
            self._on_overdue,
        )
        watch.start(loop)
        self._beat(loop)
        try:
            lifespan = Lifespan(self._app, self._settings.lifespan, self._error_log)
            if not await self._start_up(lifespan):
                return
            await self._serve_requests(lifespan, replaces_another)
            await self._shut_down(lifespan)
        finally:
            watch.stop()
            if self._beat_timer is not None:
                self._beat_timer.cancel()

    def gauges(self) -> dict[str, int]:
        """Connections, requests in flight, and by how many milliseconds the event loop was late."""
        context = self._context
        if context is None:
            return {}
        return {
            "connections": context.socket_count,
            "in_flight": len(context.exchanges),
            "loop_lag": round(context.clock.late_seconds * 1000),
        }

    # Heartbeat

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        # Armed first, so that an error in what follows never stops the heart.
        self._beat_timer = loop.call_later(self._settings.heartbeat_seconds, self._beat, loop)
        self._heartbeat()
        if self.serving:
            self._recycling.on_beat()
            if self._listeners is not None:
                self._listeners.report()

    def _on_overdue(self) -> None:
        """Called in another thread: the heartbeat is late. If requests block one behind the other, each of them for
        less than the master's patience, the next one has to beat."""
        if self._context is not None:
            self._context.heartbeat_is_due = True

    # Start and end of the application

    async def _start_up(self, lifespan: Lifespan) -> bool:
        """Whether the application has started: it has not if the server was asked to stop meanwhile."""
        loop = asyncio.get_running_loop()
        timeout = self._settings.startup_timeout_seconds
        startup = loop.create_task(lifespan.startup(), name="lifespan startup")
        stop = loop.create_task(self._stop_asked.wait(), name="stop")
        await asyncio.wait({startup, stop}, return_when=asyncio.FIRST_COMPLETED, timeout=timeout)
        stop.cancel()
        if startup.done():
            startup.result()
            return True
        startup.cancel()
        await lifespan.abandon()
        if self._stop is None:
            raise LifespanFailed(f"it was not complete within {timeout} s (startup_timeout)")
        return False

    async def _shut_down(self, lifespan: Lifespan) -> None:
        """Run lifespan shutdown, for a short time only once a quick stop is asked for."""
        loop = asyncio.get_running_loop()
        seconds = max(self.exit_deadline - EXIT_SECONDS - loop.time(), 0.5)
        shutdown = loop.create_task(lifespan.shutdown(seconds), name="lifespan shutdown")
        await _wait_until(lambda: shutdown.done() or self._is_quick(), math.inf)
        if not shutdown.done():
            # A shutdown that was begun after the quick stop ends by itself a little earlier, in its own words.
            await asyncio.wait({shutdown}, timeout=max(self._seconds_left() - EXIT_SECONDS / 2, 0.0))
        if not shutdown.done():
            shutdown.cancel()
            self._error_log.error("ASGI lifespan shutdown was cut off by a quick stop")
            await lifespan.abandon()

    def _seconds_left(self) -> float:
        return max(self.exit_deadline - asyncio.get_running_loop().time(), 0.0)

    # Serving

    async def _serve_requests(self, lifespan: Lifespan, replaces_another: bool) -> None:
        """Serve until asked to stop, then drain."""
        loop = asyncio.get_running_loop()
        context = self._context = ServingContext(
            app=self._app,
            settings=self._settings,
            loop=loop,
            field_parser=self._field_parser,
            error_log=self._error_log,
            access_log=self._access_log,
            state=lifespan.state,
            task_context=lifespan.task_context,
            last_exchange=self._recycling.last_exchange,
            on_last_exchange=self._recycling.on_last_exchange,
            heartbeat=self._heartbeat,
        )
        listeners = self._listeners = Listeners(
            context, self._sockets, protocol_factory(context), self._ssl_context, self._member
        )
        listeners.open()
        self.serving = True
        if self._member is not None:
            self._member.on_serving(replaces_another=replaces_another)
        try:
            await self._stop_asked.wait()
            await self._drain(context, listeners)
        finally:
            listeners.close()
            context.close()

    def _is_quick(self) -> bool:
        return self._stop is Stop.QUICK

    async def _drain(self, context: ServingContext, listeners: Listeners) -> None:
        """Let running exchanges finish, cancel what is left shortly before the end, then close all connections."""
        loop = asyncio.get_running_loop()
        settings = self._settings
        begun_at, begun = loop.time(), context.exchanges_begun - len(context.exchanges)
        margin = min(settings.graceful_timeout_seconds * _DRAIN_MARGIN, _MAX_DRAIN_MARGIN_SECONDS)
        deadline = self.exit_deadline - margin

        def is_cut_short() -> bool:
            return self._stop is not Stop.GRACEFUL

        def is_done() -> bool:
            return self._is_quick() or not (context.exchanges or context.connections or listeners.opening)

        context.begin_drain()
        await _wait_until(is_cut_short, min(begun_at + settings.drain_delay_seconds, deadline))
        if self._member is not None:
            self._member.leave()
        if self._is_quick():
            listeners.close()
        else:
            await listeners.close_gently()
        grace_end = min(loop.time() + settings.drain_grace_seconds, deadline)
        await _wait_until(lambda: is_cut_short() or is_done(), grace_end)
        context.end_grace()
        await _wait_until(lambda: is_cut_short() or is_done(), min(loop.time() + _OPENING_SECONDS, deadline))
        listeners.abandon()
        await _wait_until(lambda: is_cut_short() or is_done(), deadline)
        if self._stop is Stop.RELOAD:
            await _wait_until(is_done, loop.time() + RELOAD_SECONDS)

        cancelled = await self._cancel(context)
        listeners.abandon()
        # WebSockets on streams first: what they say has to leave before their connection closes.
        for connection in (*context.tunnels, *context.connections):
            connection.close()
        await _wait_until(lambda: not context.connections, loop.time() + LAST_FLUSH_SECONDS)
        cut = tuple(context.connections)
        for connection in cut:
            connection.abort()
        log = self._error_log.warning if cancelled or cut else self._error_log.info
        log(
            "Drained in %.1f s: %d requests finished, %d cancelled, %d connections cut",
            loop.time() - begun_at,
            context.exchanges_begun - begun - cancelled,
            cancelled,
            len(cut),
        )

    async def _cancel(self, context: ServingContext) -> int:
        """Cancel all exchanges and wait a moment for them. How many there were."""
        tasks = {exchange.task for exchange in context.exchanges}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=min(CANCEL_SECONDS, self._seconds_left() / 4))
            if ignoring := sum(not task.done() for task in tasks):
                self._error_log.error("%d requests have ignored their cancellation", ignoring)
        return len(tasks)


async def _wait_until(done: Callable[[], bool], deadline: float) -> None:
    """Wait until `done()` or the loop time `deadline`.

    It looks again and again, which happens once in the life of a worker. Otherwise every request would have to report
    its end.
    """
    loop = asyncio.get_running_loop()
    while not done() and loop.time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(DRAIN_POLL_SECONDS)
