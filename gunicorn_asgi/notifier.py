"""The option `callback_notify`: a coroutine function of the user, called now and then while the worker lives."""

import asyncio
from collections.abc import Awaitable, Callable

from .connection.context import ErrorLog


class Notifier:
    """Calls `callback` every `seconds`, one call after the other, and no more than once a heartbeat. An exception in
    there is logged, and no more."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        callback: Callable[[], Awaitable[None]],
        seconds: float,
        error_log: ErrorLog,
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._seconds = seconds
        self._error_log = error_log
        self._due = loop.time() + seconds
        self._task: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        """To be called with each heartbeat."""
        if self._loop.time() < self._due or (self._task is not None and not self._task.done()):
            return
        self._due = self._loop.time() + self._seconds
        self._task = self._loop.create_task(self._call(), name="callback_notify")

    async def _call(self) -> None:
        try:
            await self._callback()
        except Exception as error:
            self._error_log.error("Exception in callback_notify", exc_info=error)
