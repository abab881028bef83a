"""What all connections of a worker share."""

import asyncio
import contextvars
import sys
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from ..access_log import AccessLog
from ..asgi_types import Application
from ..proxy import TrustedProxies
from ..settings import Settings
from ..wire.http1_request import FieldParser
from ..wire.http1_response import ResponseEncoder
from .clock import Clock

MAX_REFUSALS_LOGGED_PER_SECOND: Final = 10
"""A flood of bad requests must not become a flood of log lines."""


class ErrorLog(Protocol):
    """The part of Gunicorn's logger that a connection writes to."""

    def info(self, msg: str, *args: object) -> None: ...
    def warning(self, msg: str, *args: object) -> None: ...
    def error(self, msg: str, *args: object, exc_info: Any = None) -> None: ...


class Deadlined(Protocol):
    """A connection as the clock sees it."""

    deadline: float

    def on_deadline(self) -> None: ...

    def on_tick(self) -> None:
        """Called on each tick while the connection is in `ServingContext.unsent`."""

    def begin_drain(self) -> None:
        """Finish what runs, start nothing new."""

    def abort(self) -> None: ...


class RunningExchange(Protocol):
    """An exchange as the worker sees it until its task has ended."""

    task: "asyncio.Task[None] | None"


class ServingContext:
    """Application, settings, log and registries: made once a worker, after lifespan startup."""

    __slots__ = (
        "_refusals_logged",
        "_refusals_second",
        "_task_context",
        "access_log",
        "app",
        "clock",
        "connections",
        "draining",
        "encoder",
        "error_log",
        "exchanges",
        "field_parser",
        "loop",
        "proxies",
        "settings",
        "state",
        "unsent",
    )

    def __init__(
        self,
        *,
        app: Application,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        field_parser: FieldParser,
        error_log: ErrorLog,
        access_log: AccessLog | None,
        state: dict[str, Any],
        task_context: contextvars.Context,
    ) -> None:
        """`state` and `task_context` are what lifespan startup left: `scope["state"]` and its context variables."""
        self.app = app
        self.settings = settings
        self.loop = loop
        self.field_parser = field_parser
        self.error_log = error_log
        self.access_log = access_log
        self.state = state
        self._task_context = task_context
        self.proxies = TrustedProxies(settings.forwarded_allow_ips, settings.secure_scheme_headers)
        self.encoder = ResponseEncoder(b"gunicorn-asgi" if settings.server_header else b"")
        self.connections: set[Deadlined] = set()
        self.unsent: set[Deadlined] = set()
        """Connections with a response that the client does not take; watched for progress."""
        self.exchanges: set[RunningExchange] = set()
        """Exchanges whose application has not returned."""
        self.draining = False
        self._refusals_second = 0
        self._refusals_logged = 0
        self.clock = Clock(loop, self._on_tick, self._on_date)

    def create_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """A task in a fresh copy of the context that lifespan startup left.

        Not of the current one: a pipelined request starts from within its predecessor, whose context variables it must
        not see.
        """
        if sys.version_info >= (3, 11):
            return self.loop.create_task(coroutine, name=name, context=self._task_context.copy())
        return self._task_context.copy().run(self.loop.create_task, coroutine, name=name)

    def log_refusal(self, peer: str, status: int, reason: str) -> None:
        """One line for a refused request, at most 10 a second; `reason` is a code of ours."""
        second = int(self.clock.now)
        if second != self._refusals_second:
            suppressed = self._refusals_logged - MAX_REFUSALS_LOGGED_PER_SECOND
            if suppressed > 0:
                self.error_log.warning("%d more refused requests in one second were not logged", suppressed)
            self._refusals_second = second
            self._refusals_logged = 0
        self._refusals_logged += 1
        if self._refusals_logged <= MAX_REFUSALS_LOGGED_PER_SECOND:
            self.error_log.warning("Refused request from %s: %d %s", peer, status, reason)

    def _on_date(self, date: bytes) -> None:
        self.encoder.set_date(date if self.settings.date_header else b"")

    def _on_tick(self) -> None:
        now = self.clock.now
        for connection in [connection for connection in self.connections if connection.deadline <= now]:
            connection.on_deadline()
        for connection in tuple(self.unsent):
            connection.on_tick()
