"""What a connection finds around it, for tests: logs that remember, and a loop whose time can be moved on."""

import asyncio
import contextvars
import importlib.util
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from gunicorn_asgi.access_line import AccessRecord, FinishedExchange
from gunicorn_asgi.asgi_types import Application, HTTPScope, SendMessage
from gunicorn_asgi.connection.context import ServingContext
from gunicorn_asgi.settings import Settings
from gunicorn_asgi.wire.http1_httptools import HttptoolsFieldParser
from gunicorn_asgi.wire.http1_request import FieldParser

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

STEP_SECONDS: Final = 10.0
"""For one wait of a test: far above what it takes, so that only what hangs is hit."""

# The worker also serves where uvloop is not installed, and so its tests run there too.
LOOPS: Final[dict[str, LoopFactory]] = {"asyncio": asyncio.new_event_loop}
if importlib.util.find_spec("uvloop"):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


class RecordingLog:
    """An error log that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.exceptions: list[BaseException] = []

    def debug(self, msg: str, *args: object) -> None:
        self.lines.append(("debug", msg % args))

    def info(self, msg: str, *args: object) -> None:
        self.lines.append(("info", msg % args))

    def warning(self, msg: str, *args: object) -> None:
        self.lines.append(("warning", msg % args))

    def error(self, msg: str, *args: object, exc_info: Any = None) -> None:
        self.lines.append(("error", msg % args))
        if exc_info is not None:
            self.exceptions.append(exc_info)

    def of(self, level: str) -> list[str]:
        """The lines of one level."""
        return [text for line_level, text in self.lines if line_level == level]


class RecordingAccessLog:
    """An access log that remembers."""

    def __init__(self) -> None:
        self.records: list[AccessRecord] = []
        self.durations_seconds: list[float] = []

    def write(self, exchange: FinishedExchange, duration_seconds: float) -> None:
        # As it is now: an exchange goes on changing.
        self.records.append(AccessRecord(*(getattr(exchange, name) for name in AccessRecord._fields)))
        self.durations_seconds.append(duration_seconds)

    @property
    def lines(self) -> list[tuple[str, int, int]]:
        """Path, status and content bytes of each record."""
        return [(record.scope["path"], record.status, record.sent_bytes) for record in self.records]


class PassingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time can be moved on, so that a clock is tested without waiting for it."""

    _passed_seconds = 0.0

    def time(self) -> float:
        return super().time() + self._passed_seconds

    async def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass in small steps, with all timers that fall due."""
        while seconds > 0:
            step = min(seconds, 0.5)
            seconds -= step
            self._passed_seconds += step
            await turns(3)


async def turns(count: int = 12) -> None:
    """Let the loop turn. Without sockets all that was set off by now has then happened."""
    for _ in range(count):
        await asyncio.sleep(0)


async def soon(awaitable: Awaitable[T]) -> T:
    """The result of what must not hang."""
    return await asyncio.wait_for(awaitable, STEP_SECONDS)


def run(main: Coroutine[Any, Any, T], new_loop: LoopFactory = asyncio.new_event_loop) -> T:
    """Run `main` on a loop of its own. What the loop has to complain about fails the test."""
    complaints: list[dict[str, Any]] = []
    loop = new_loop()
    loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))
    try:
        result = loop.run_until_complete(main)
        loop.run_until_complete(_end_all_tasks())
        assert complaints == []
    finally:
        loop.run_until_complete(_end_all_tasks())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    return result


async def _end_all_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STEP_SECONDS)
    await turns()


def serving_context(
    app: Application,
    *,
    settings: Settings | None = None,
    log: RecordingLog | None = None,
    access_log: RecordingAccessLog | None = None,
    task_context: contextvars.Context | None = None,
    last_exchange: int = 0,
    on_last_exchange: Callable[[], None] = lambda: None,
    field_parser: FieldParser | None = None,
) -> ServingContext:
    """A context on the running loop."""
    return ServingContext(
        app=app,
        settings=settings or Settings(),
        loop=asyncio.get_running_loop(),
        field_parser=field_parser or HttptoolsFieldParser(),
        error_log=log or RecordingLog(),
        access_log=access_log,
        state={},
        task_context=task_context or contextvars.copy_context(),
        last_exchange=last_exchange,
        on_last_exchange=on_last_exchange,
    )


def http_scope(path: str = "/", method: str = "GET") -> HTTPScope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("192.0.2.1", 50000),
        "scheme": "http",
        "method": method,
        "root_path": "",
        "path": path,
        "raw_path": path.encode("utf-8"),
        "query_string": b"",
        "headers": [],
        "state": {},
        "extensions": {},
    }


def start(status: int = 200, *fields: tuple[bytes, bytes]) -> SendMessage:
    return {"type": "http.response.start", "status": status, "headers": list(fields)}


def body(content: bytes = b"", *, more: bool = False) -> SendMessage:
    return {"type": "http.response.body", "body": content, "more_body": more}
