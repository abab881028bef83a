"""What all connections of a worker share.

The drain of a worker goes through these steps; `Server` calls the first two, each connection does its part:

    begin_drain()       announce. Every connection is told at once, and one that is accepted later finds `draining` set.
                        HTTP/1: each response says `Connection: close`; idle connections stay open, since their client
                        may just be sending. HTTP/2: GOAWAY with the highest possible stream identifier. Nothing is
                        refused, nothing is cut, and new WebSockets may still open.
    end_grace()         `drain_delay` and `drain_grace` later, no earlier than the listeners are closed. What is idle is
                        closed, unless bytes of a request are there already; exchanges that stream are told by
                        `http.disconnect`; WebSockets are closed with 1012; HTTP/2 sends the GOAWAY that counts.
    task.cancel()       shortly before the master's patience ends, for every exchange that is left in `exchanges`. An
                        exchange of any protocol is cancelled in this way if its task is known there.
    close(), abort()    for what is left of the connections.
"""

import asyncio
import contextvars
import functools
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, Protocol

from ..access_log import AccessLog
from ..asgi_types import Address, Application
from ..proxy import TrustedProxies
from ..settings import Settings
from ..wire.http1_request import FieldParser
from ..wire.http1_response import ResponseEncoder
from ..wire.http2_request import RequestReader
from ..wire.http2_response import Http2ResponseEncoder
from .clock import NEVER, Clock
from .overtime import Overtime, Phase

MAX_REFUSALS_LOGGED_PER_SECOND: Final = 10
"""A flood of bad requests must not become a flood of log lines."""


MEMORY_SECONDS: Final = 5.0
"""How long an idle connection remembers the fields of its last request, which may be some KiB."""


SENDING_SECONDS: Final = 0.002
"""How often applications that send piece after piece look whether the event loop turns. A turn costs some 20 us."""


class ErrorLog(Protocol):
    """The part of Gunicorn's logger that a connection writes to."""

    def debug(self, msg: str, *args: object) -> None: ...
    def info(self, msg: str, *args: object) -> None: ...
    def warning(self, msg: str, *args: object) -> None: ...
    def error(self, msg: str, *args: object, exc_info: Any = None) -> None: ...


class WatchedConnection(Protocol):
    """A connection as the worker sees it: its clock, and what a drain asks of it."""

    deadline: float
    """Loop time at which `on_deadline` is due."""

    write_deadline: float
    """Loop time by which the client must have taken something."""

    def on_deadline(self) -> None: ...

    def begin_drain(self) -> None:
        """Announce the end: say in every further answer that the connection will not go on."""

    def end_grace(self) -> None:
        """Close what is idle, tell what streams, finish what runs, start nothing new."""

    def close(self) -> None:
        """Close once all is sent."""

    def abort(self) -> None:
        """Close at once, with a reset."""


class UnsentConnection(Protocol):
    """A connection with a response that the client does not take."""

    def on_tick(self) -> None:
        """Look whether there was progress; called on each tick of the clock."""


class ExchangeDescription(NamedTuple):
    """What a report says of a request in flight."""

    method: str
    path: str
    client: str
    age_seconds: float


class RunningExchange(Protocol):
    """An exchange as the worker sees it until its task has ended: a request, a stream, a WebSocket."""

    task: "asyncio.Task[None]"

    @property
    def phase(self) -> Phase:
        """Which of the limits on the time of an application holds now."""

    def time_out(self) -> None:
        """Answer with 504 in place of the application, and cancel it."""

    def describe(self) -> ExchangeDescription:
        """For the report on a blocked event loop; may be called from another thread."""


class TaskFactory(Protocol):
    """`loop.create_task` with the name always given."""

    def __call__(self, coroutine: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]": ...


def _nothing() -> None:
    """What a worker does that is never due for replacement."""


class ServingContext:
    """Application, settings, log and registries: made once a worker, after lifespan startup."""

    __slots__ = (
        "_heartbeat",
        "_idle_seconds",
        "_last_exchange",
        "_on_last_exchange",
        "_on_room",
        "_refusals",
        "_refusals_second",
        "_turn_awaited",
        "access_log",
        "app",
        "casefold_methods",
        "clock",
        "connections",
        "create_task",
        "draining",
        "encoder",
        "error_log",
        "exchanges",
        "exchanges_begun",
        "field_parser",
        "gathers_writes",
        "give_way_at",
        "head_limits",
        "heartbeat_is_due",
        "http2_encoder",
        "http2_requests",
        "idle_deadline",
        "keep_alive",
        "keepalive_deadline",
        "leaving",
        "loop",
        "overtime",
        "proxies",
        "relayed",
        "root_path",
        "settings",
        "state",
        "task_context",
        "tunnels",
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
        last_exchange: int = 0,
        on_last_exchange: Callable[[], None] = _nothing,
        heartbeat: Callable[[], None] = _nothing,
    ) -> None:
        """`state` and `task_context` are what lifespan startup left: `scope["state"]` and its context variables.
        `on_last_exchange` is called when exchange number `last_exchange` begins (0: never); the worker is then due for
        replacement, and serves on until it is told to drain."""
        self.app = app
        self.settings = settings
        self.head_limits = settings.head_limits
        self.root_path = settings.root_path
        self.casefold_methods = settings.casefold_http_method
        self.loop = loop
        self.field_parser = field_parser
        self.error_log = error_log
        self.access_log = access_log
        self.state = state
        self.proxies = TrustedProxies(settings)
        self.relayed: dict[int, Address | None] = {}
        """By the number of its socket: whom the PROXY protocol names as the client of a connection, or None where a
        proxy passes on a connection and does not say whose."""
        self.encoder = ResponseEncoder(settings.server, settings.default_headers)
        self.http2_encoder = Http2ResponseEncoder(settings.server, settings.default_headers)
        self.http2_requests = RequestReader(settings.head_limits)
        self.connections: set[WatchedConnection] = set()
        """All that is watched. To be left by `remove_connection`."""
        self.tunnels: set[WatchedConnection] = set()
        """Those of them that are a stream of another one."""
        self.unsent: set[UnsentConnection] = set()
        self.exchanges: set[RunningExchange] = set()
        """Exchanges whose application has not returned. To be entered by `begin_exchange`."""
        self.overtime = Overtime(settings, self.exchanges)
        self.exchanges_begun = 0
        self._last_exchange = last_exchange
        self._on_last_exchange = on_last_exchange
        self._on_room: Callable[[], None] | None = None
        self._heartbeat = heartbeat
        self.heartbeat_is_due = False
        """Set, from another thread, while the event loop does not turn: an exchange that starts its work then beats."""
        self.draining = False
        self.leaving = False
        """Whether the grace of the drain is over: what begins now has to be told at once."""
        self.gathers_writes = _is_uvloop(loop)
        """Whether `writelines()` respects the limits of the write buffer. On asyncio it does not before Python 3.12.9
        and 3.13.2 (CVE-2024-12254)."""
        self.keep_alive = settings.keepalive_seconds > 0
        """Whether a connection may be used again after a response."""
        self.give_way_at = 0.0
        """Time of `time.perf_counter()` from which on a `send()` that has not waited calls `give_way`."""
        self._turn_awaited = False
        self.task_context = task_context
        self.create_task: Final = _task_factory(loop, task_context)
        """Starts a coroutine in a fresh copy of `task_context`. To be called from a transport's callbacks or from
        callbacks that were scheduled in `task_context`, never from within a request: the next one on the connection
        must not see its context variables."""
        self._refusals_second = 0
        self._refusals = 0
        self.clock = Clock(loop, self._on_tick, self._on_date)
        self._idle_seconds = min(settings.keepalive_seconds, MEMORY_SECONDS)
        self.idle_deadline = self.clock.deadline(self._idle_seconds)
        """When a connection that becomes idle now is looked at; kept here because every request needs it."""
        self.keepalive_deadline = self.clock.deadline(settings.keepalive_seconds)
        """When one that remembers nothing is closed."""

    def begin_exchange(self, exchange: RunningExchange) -> None:
        """Enter an exchange and count it: the one place that sees each request, stream and WebSocket handshake."""
        self.exchanges.add(exchange)
        self.exchanges_begun = number = self.exchanges_begun + 1
        if number == self._last_exchange:
            self._on_last_exchange()

    async def give_way(self) -> None:
        """Let the event loop turn if it has not since the last call. Where the client takes everything at once, nothing
        else would make an application wait that sends without a pause, and nobody else would be served. It is one clock
        for all exchanges."""
        if self._turn_awaited:
            await asyncio.sleep(0)
        else:
            self._turn_awaited = True
            self.loop.call_soon(self._on_turn, context=self.task_context)
        self.give_way_at = time.perf_counter() + SENDING_SECONDS

    def _on_turn(self) -> None:
        self._turn_awaited = False

    def beat(self) -> None:
        """The heartbeat for which the event loop does not find the time."""
        self.heartbeat_is_due = False
        self._heartbeat()

    @property
    def socket_count(self) -> int:
        """How many connections have a socket."""
        return len(self.connections) - len(self.tunnels)

    def remove_connection(self, connection: WatchedConnection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self.tunnels.discard(connection)
        self.make_room()

    def make_room(self) -> None:
        """There may be room for another connection: one has ended, or one that was accepted is none any more."""
        if self._on_room is not None:
            on_room, self._on_room = self._on_room, None
            on_room()

    def call_on_room(self, on_room: Callable[[], None]) -> None:
        """Call `on_room` once, with the next `make_room`."""
        self._on_room = on_room

    def begin_drain(self) -> None:
        """From now on every connection is closed after the response that runs on it."""
        self.draining = True
        self.keep_alive = False
        for connection in tuple(self.connections):
            connection.begin_drain()

    def end_grace(self) -> None:
        """From now on idle connections are closed, and those that stream are told to end."""
        self.leaving = True
        for connection in tuple(self.connections):
            connection.end_grace()

    def log_refusal(self, peer: str, status: int, reason: str) -> None:
        """One line for a refused request, at most 10 a second; `reason` is a code of ours."""
        self._refusals += 1
        if self._refusals <= MAX_REFUSALS_LOGGED_PER_SECOND:
            self.error_log.warning("Refused request from %s: %d %s", peer, status, reason)

    def close(self) -> None:
        """The worker serves nobody any more: stop the clock, and say what is still to be said."""
        self.clock.stop()
        self._end_second_of_refusals()

    def _end_second_of_refusals(self) -> None:
        suppressed = self._refusals - MAX_REFUSALS_LOGGED_PER_SECOND
        self._refusals = 0
        if suppressed > 0:
            self._refusals = 1  # The line that follows.
            self.error_log.warning("%d more refused requests in one second were not logged", suppressed)

    def _on_date(self, date: bytes) -> None:
        value = date if self.settings.date_header else b""
        self.encoder.set_date(value)
        self.http2_encoder.set_date(value)

    def _on_tick(self) -> None:
        now = self.clock.now
        if int(now) != self._refusals_second:
            self._refusals_second = int(now)
            self._end_second_of_refusals()
        if self.clock.lag_seconds:
            # The loop was blocked: nobody's time has passed while nobody was served.
            for connection in self.connections:
                if connection.deadline is not NEVER:
                    connection.deadline += self.clock.lag_seconds
                if connection.write_deadline is not NEVER:
                    connection.write_deadline += self.clock.lag_seconds
        self.idle_deadline = self.clock.deadline(self._idle_seconds)
        self.keepalive_deadline = self.clock.deadline(self.settings.keepalive_seconds)
        if self.overtime.is_limited:
            self.overtime.on_tick(now, self.clock.lag_seconds)
        for connection in [connection for connection in self.connections if connection.deadline <= now]:
            connection.on_deadline()
        for unsent in tuple(self.unsent):
            unsent.on_tick()


def _is_uvloop(loop: asyncio.AbstractEventLoop) -> bool:
    return type(loop).__module__.partition(".")[0] == "uvloop"


def _task_factory(loop: asyncio.AbstractEventLoop, task_context: contextvars.Context) -> TaskFactory:
    """The cheapest way to start a task in a fresh copy of `task_context`."""
    copy_context = task_context.copy
    if sys.version_info < (3, 11):
        return lambda coroutine, name: copy_context().run(loop.create_task, coroutine, name=name)
    if loop.get_task_factory() is not None:
        return lambda coroutine, name: loop.create_task(coroutine, name=name, context=copy_context())
    # What loop.create_task() does, for 0.25 us less: uvloop passes its keywords on through Python.
    if _is_uvloop(loop):
        # uvloop calls a protocol in the context in which its listener was made, which is `task_context`
        # (`Server._listen`), and a task copies the current context by itself: 0.1 us less again.
        return functools.partial(asyncio.Task, loop=loop)
    # A protocol of asyncio is called in the context that resumed reading, which may be that of a request.
    return lambda coroutine, name: asyncio.Task(coroutine, loop=loop, name=name, context=copy_context())
