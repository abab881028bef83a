"""The server inside one worker: lifespan, listeners, heartbeat, and the drain at its end."""

import asyncio
import math
import socket
import ssl
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Final

from .access_log import AccessLog
from .asgi_types import Application
from .connection.context import ErrorLog, ServingContext
from .connection.negotiation import protocol_factory
from .lifespan import Lifespan
from .settings import Settings
from .wire.http1_request import FieldParser

QUICK_SHUTDOWN_SECONDS: Final = 2.0
"""For lifespan shutdown after SIGINT or SIGQUIT. A master that was asked twice to stop kills 2 s after the second."""

EXIT_SECONDS: Final = 0.5
"""Of graceful_timeout, kept for the way out of the process."""

DRAIN_POLL_SECONDS: Final = 0.02
"""How often a drain looks whether it is done."""

LAST_FLUSH_SECONDS: Final = 0.5
"""For the last bytes of responses that are complete, before the connections are cut."""

# Of graceful_timeout, kept for cancelling, lifespan shutdown and the way out before the master's SIGKILL.
_DRAIN_MARGIN: Final = 0.15
_MAX_DRAIN_MARGIN_SECONDS: Final = 3.0


class Stop(Enum):
    """How a server is asked to end."""

    GRACEFUL = auto()
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
    ) -> None:
        """`heartbeat` is called every `settings.heartbeat_seconds` from `serve` on, startup and drain included."""
        self._app = app
        self._settings = settings
        self._sockets = sockets
        self._ssl_context = ssl_context
        self._field_parser = field_parser
        self._error_log = error_log
        self._access_log = access_log
        self._heartbeat = heartbeat
        self.serving = False
        """Whether the listeners have ever been open: before that, every failure is a failure to boot."""
        self._stop: Stop | None = None
        self._stop_asked = asyncio.Event()

    def stop(self, how: Stop) -> None:
        """Ask `serve` to end; QUICK overrides GRACEFUL, asking again changes nothing."""
        if self._stop is not Stop.QUICK:
            self._stop = how
        self._stop_asked.set()

    async def serve(self) -> None:
        """Start the application, accept connections, and return after an orderly stop.

        Raises LifespanFailed when the application does not start.
        """
        loop = asyncio.get_running_loop()
        heartbeat = loop.create_task(self._beat(), name="heartbeat")
        try:
            lifespan = Lifespan(self._app, self._settings.lifespan, self._error_log)
            startup = loop.create_task(lifespan.startup(), name="lifespan startup")
            stop = loop.create_task(self._stop_asked.wait(), name="stop")
            await asyncio.wait({startup, stop}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not startup.done():
                startup.cancel()
                await lifespan.abandon()
                return
            startup.result()
            deadline = await self._serve_requests(lifespan)
            await self._shut_down(lifespan, deadline)
        finally:
            heartbeat.cancel()

    async def _beat(self) -> None:
        while True:
            self._heartbeat()
            await asyncio.sleep(self._settings.heartbeat_seconds)

    async def _shut_down(self, lifespan: Lifespan, deadline: float) -> None:
        """Run lifespan shutdown until loop time `deadline`, or only a little longer once a quick stop is asked for."""
        loop = asyncio.get_running_loop()
        shutdown = loop.create_task(lifespan.shutdown(max(deadline - loop.time(), 0.5)), name="lifespan shutdown")
        await _wait_until(lambda: shutdown.done() or self._is_quick(), math.inf)
        await asyncio.wait({shutdown}, timeout=QUICK_SHUTDOWN_SECONDS)
        if not shutdown.done():
            shutdown.cancel()
            self._error_log.error("ASGI lifespan shutdown was cut off by a quick stop")
            await lifespan.abandon()

    async def _serve_requests(self, lifespan: Lifespan) -> float:
        """Serve until asked to stop, then drain. Returns the loop time by which lifespan shutdown has to be done."""
        loop = asyncio.get_running_loop()
        context = ServingContext(
            app=self._app,
            settings=self._settings,
            loop=loop,
            field_parser=self._field_parser,
            error_log=self._error_log,
            access_log=self._access_log,
            state=lifespan.state,
            task_context=lifespan.task_context,
        )
        listeners = [
            await context.task_context.run(loop.create_task, self._listen(loop, context, sock))
            for sock in self._sockets
        ]
        self.serving = True
        try:
            await self._stop_asked.wait()
            deadline = loop.time() + self._settings.graceful_timeout_seconds
            context.begin_drain()
            await _wait_until(self._is_quick, loop.time() + self._settings.drain_delay_seconds)
        finally:
            for listener in listeners:
                listener.close()
        await self._drain(context, deadline)
        context.clock.stop()
        return deadline - EXIT_SECONDS

    async def _listen(
        self, loop: asyncio.AbstractEventLoop, context: ServingContext, sock: socket.socket
    ) -> asyncio.AbstractServer:
        options: dict[str, Any] = {"sock": sock, "backlog": self._settings.backlog, "ssl": self._ssl_context}
        if self._ssl_context is not None:
            # A handshake comes before the first byte of a head, under the same clock.
            options["ssl_handshake_timeout"] = self._settings.header_timeout_seconds
        protocol = protocol_factory(context)
        if sock.family == socket.AF_UNIX:
            return await loop.create_unix_server(protocol, **options)
        return await loop.create_server(protocol, **options)

    def _is_quick(self) -> bool:
        return self._stop is Stop.QUICK

    async def _drain(self, context: ServingContext, deadline: float) -> None:
        """Let running exchanges finish, cancel what is left shortly before `deadline`, then close all connections."""
        loop = asyncio.get_running_loop()
        margin = min(self._settings.graceful_timeout_seconds * _DRAIN_MARGIN, _MAX_DRAIN_MARGIN_SECONDS)

        def is_done() -> bool:
            return self._is_quick() or not (context.exchanges or context.connections)

        await _wait_until(is_done, min(loop.time() + self._settings.drain_grace_seconds, deadline - margin))
        context.end_grace()
        await _wait_until(is_done, deadline - margin)
        tasks = {exchange.task for exchange in context.exchanges}
        for task in tasks:
            task.cancel()
        if tasks:
            self._error_log.warning("%d requests were cancelled at the end of the worker", len(tasks))
            await asyncio.wait(tasks, timeout=1.0)
        for connection in tuple(context.connections):
            connection.close()
        await _wait_until(lambda: not context.connections, loop.time() + LAST_FLUSH_SECONDS)
        for connection in tuple(context.connections):
            connection.abort()


async def _wait_until(done: Callable[[], bool], deadline: float) -> None:
    """Wait until `done()` or the loop time `deadline`.

    It looks again and again, which happens once in the life of a worker. Otherwise every request would have to report
    its end.
    """
    loop = asyncio.get_running_loop()
    while not done() and loop.time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(DRAIN_POLL_SECONDS)
