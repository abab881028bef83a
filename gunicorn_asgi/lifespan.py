"""Start and stop of the application (ASGI lifespan spec 2.0)."""

import asyncio
import contextvars
from enum import Enum
from typing import Any, Final, Literal

from .asgi_types import Application, LifespanScope, ReceiveMessage, SendMessage
from .connection.context import ErrorLog
from .errors import ApplicationError, LifespanFailed, MessageOrderError
from .scope import ASGI_VERSIONS

ABANDON_SECONDS: Final = 1.0
"""How long a cancelled lifespan task may take. SIGTERM during startup has to end the worker within 2 s."""


class LifespanState(Enum):
    """Where the dialogue stands. The value completes the sentence of a `MessageOrderError`."""

    STARTING = "lifespan startup is under way"
    STARTED = "lifespan startup is complete"
    STOPPING = "lifespan shutdown is under way"
    ENDED = "lifespan has ended"


class Lifespan:
    """The one lifespan task of a worker.

    `mode` is `auto` (an application that raises before it has answered the startup does not support lifespan), `on`
    (that is a failure) or `off` (the application is not asked).
    """

    def __init__(self, app: Application, mode: Literal["auto", "on", "off"], error_log: ErrorLog) -> None:
        self._app: Final = app
        self._mode: Final = mode
        self._error_log: Final = error_log
        self._state = LifespanState.STARTING
        self._asked_for_startup = False
        self._shutdown_wanted = asyncio.Event()
        self._answered = asyncio.Event()
        self._failure: str | None = None
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}
        """What the application left for `scope["state"]`."""
        self.task_context = contextvars.copy_context()
        """The context variables that startup left, for the tasks of requests."""

    async def startup(self) -> None:
        """Run the application's startup. Raises LifespanFailed where the worker must not serve."""
        if self._mode == "off":
            return
        self._task = asyncio.get_running_loop().create_task(self._run(), name="lifespan")
        await self._first_of_answer_and_end()
        if self._failure is not None:
            await self.abandon()
            raise LifespanFailed(self._failure)
        if self._state is LifespanState.STARTED:
            return
        error = self._task.exception() if not self._task.cancelled() else None
        if isinstance(error, LifespanFailed):
            raise error
        if self._mode == "on":
            raise LifespanFailed("the application ended before it completed the startup") from error
        if error is not None:
            self._error_log.info("ASGI lifespan is not supported by the application: %r", error)
        self._state = LifespanState.ENDED

    async def abandon(self) -> None:
        """End the task of a startup that is no longer wanted."""
        task = self._task
        if task is None:
            return
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=ABANDON_SECONDS)
        if task.done() and not task.cancelled():
            task.exception()  # Seen: what it says was said in the answer, or nobody wants to know any more.

    async def shutdown(self, timeout_seconds: float) -> None:
        """Run the application's shutdown, if it was started, for at most `timeout_seconds`. Failures are logged."""
        task = self._task
        if task is None or self._state is not LifespanState.STARTED:
            return
        if not task.done():
            self._state = LifespanState.STOPPING
            self._answered.clear()
            self._shutdown_wanted.set()
            await self._first_of_answer_and_end(timeout_seconds)
            if self._answered.is_set():
                await asyncio.wait({task}, timeout=ABANDON_SECONDS)
            elif not task.done():
                self._error_log.error("ASGI lifespan shutdown did not end within %.1f s; cancelled", timeout_seconds)
            await self.abandon()
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            self._error_log.error("Exception in ASGI lifespan shutdown", exc_info=error)
        elif self._failure is not None:
            self._error_log.error("ASGI lifespan shutdown failed: %s", self._failure)

    async def _first_of_answer_and_end(self, timeout_seconds: float | None = None) -> None:
        assert self._task is not None
        answer = asyncio.ensure_future(self._answered.wait())
        try:
            await asyncio.wait({self._task, answer}, return_when=asyncio.FIRST_COMPLETED, timeout=timeout_seconds)
        finally:
            answer.cancel()

    async def _run(self) -> None:
        scope: LifespanScope = {"type": "lifespan", "asgi": ASGI_VERSIONS, "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except (SystemExit, KeyboardInterrupt) as error:
            # Out of a task these would go straight through the event loop, past all who wait for this one.
            raise LifespanFailed(f"the application raised {error!r}") from error

    async def _receive(self) -> ReceiveMessage:
        if not self._asked_for_startup:
            self._asked_for_startup = True
            return {"type": "lifespan.startup"}
        await self._shutdown_wanted.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: SendMessage) -> None:
        kind = message["type"]
        if kind in ("lifespan.startup.complete", "lifespan.startup.failed"):
            if self._state is not LifespanState.STARTING:
                raise MessageOrderError(self._state.value, kind)
            if kind == "lifespan.startup.failed":
                self._failure = message.get("message", "") or "the application gave no reason"
                self._state = LifespanState.ENDED
            else:
                self.task_context = contextvars.copy_context()
                self._state = LifespanState.STARTED
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            if self._state is not LifespanState.STOPPING:
                raise MessageOrderError(self._state.value, kind)
            if kind == "lifespan.shutdown.failed":
                self._failure = message.get("message", "") or "the application gave no reason"
            self._state = LifespanState.ENDED
        else:
            raise ApplicationError(f"{kind!r} is not a lifespan message")
        self._answered.set()
