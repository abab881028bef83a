"""How long an application may take to answer, and to notice that its client has gone."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gunicorn_asgi.asgi_types import Application, Receive, Send
from gunicorn_asgi.connection.clock import TICK_SECONDS
from gunicorn_asgi.connection.exchange import Exchange
from gunicorn_asgi.connection.overtime import Overtime, Phase
from gunicorn_asgi.settings import Settings
from tests.connection.serving import (
    PassingLoop,
    RecordingAccessLog,
    RecordingLog,
    body,
    http_scope,
    run,
    serving_context,
    start,
    turns,
)
from tests.connection.test_exchange import AngleStream


@dataclass
class Running:
    """An exchange on a loop whose time can be moved on."""

    loop: PassingLoop
    stream: AngleStream
    exchange: Exchange
    log: RecordingLog
    accesses: RecordingAccessLog


def exchange_with(
    app: Application, steps: Callable[[Running], Awaitable[None]], settings: Settings, has_body: bool = False
) -> None:
    """Run `app` on one exchange, and `steps` beside it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PassingLoop)
        log, accesses = RecordingLog(), RecordingAccessLog()
        context = serving_context(app, settings=settings, log=log, access_log=accesses)
        stream = AngleStream(loop)
        exchange = Exchange(context, stream, http_scope("/path", "GET"), {}, "GET", "/path", "GET /path", has_body)
        await turns()
        await steps(Running(loop, stream, exchange, log, accesses))
        context.clock.stop()
        if not exchange.task.done():
            exchange.task.cancel()
            await turns()

    run(main(), PassingLoop)


async def never(scope: Any, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def only_begins(scope: Any, receive: Receive, send: Send) -> None:
    await send(start())
    await asyncio.Event().wait()


@pytest.mark.parametrize("app", [never, only_begins])
def test_who_takes_too_long_is_cancelled_and_answered_for(app: Application) -> None:
    async def steps(running: Running) -> None:
        await running.loop.pass_time(3 - TICK_SECONDS)
        assert running.stream.sent == "", "never early"
        await running.loop.pass_time(3 * TICK_SECONDS)
        assert running.stream.sent == (
            "<504 content-type=text/plain; charset=utf-8 content-length=15>[Gateway Timeout]!"
        )
        assert "close" in running.stream.calls
        assert running.exchange.task.cancelled()
        assert running.log.lines == [
            ("error", "The application took longer than request_timeout for 'GET /path': cancelled, 504")
        ]
        assert running.accesses.lines == [("/path", 504, 15)]
        await running.loop.pass_time(10)
        assert len(running.accesses.lines) == 1

    exchange_with(app, steps, Settings(request_timeout_seconds=3))


def test_who_ignores_that_it_is_cancelled_gets_no_second_chance() -> None:
    refused: list[Exception] = []

    async def stubborn(scope: Any, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                await send(start())
            except Exception as error:
                refused.append(error)

    async def steps(running: Running) -> None:
        await running.loop.pass_time(3)
        assert running.stream.sent.count("<") == 1
        assert len(refused) == 1
        assert running.log.exceptions == []

    exchange_with(stubborn, steps, Settings(request_timeout_seconds=1))


def test_a_response_that_has_begun_may_take_its_time() -> None:
    async def streams(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"a", more=True))
        await asyncio.Event().wait()

    async def steps(running: Running) -> None:
        await running.loop.pass_time(100)
        assert running.stream.sent == "<200>[a]"
        assert not running.exchange.task.done()

    exchange_with(streams, steps, Settings(request_timeout_seconds=1, disconnect_grace_seconds=1))


def test_work_behind_the_response_may_take_its_time() -> None:
    async def works_on(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b""))
        await asyncio.Event().wait()

    async def steps(running: Running) -> None:
        running.exchange.on_disconnect()
        await running.loop.pass_time(100)
        assert not running.exchange.task.done()

    exchange_with(works_on, steps, Settings(request_timeout_seconds=1, disconnect_grace_seconds=1))


def test_the_client_has_gone() -> None:
    async def steps(running: Running) -> None:
        await running.loop.pass_time(20)
        running.exchange.on_disconnect()
        await running.loop.pass_time(3 - TICK_SECONDS)
        assert not running.exchange.task.done(), "never early"
        await running.loop.pass_time(3 * TICK_SECONDS)
        assert running.exchange.task.cancelled()
        assert running.log.of("error") == []
        assert running.stream.sent == ""

    exchange_with(never, steps, Settings(disconnect_grace_seconds=3))


def test_the_client_has_ended_its_side() -> None:
    """TCP does not tell a client that has gone from one that only sends nothing more."""

    async def steps(running: Running) -> None:
        running.exchange.on_half_close()
        await running.loop.pass_time(3)
        assert running.exchange.task.cancelled()

    exchange_with(never, steps, Settings(disconnect_grace_seconds=0), has_body=True)


def test_a_cancelled_application_has_time_to_clean_up() -> None:
    cleaned: list[str] = []

    async def cleans_up(scope: Any, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(30)
            cleaned.append("all")

    async def steps(running: Running) -> None:
        running.exchange.on_disconnect()
        await running.loop.pass_time(40)
        assert cleaned == ["all"]

    exchange_with(cleans_up, steps, Settings(disconnect_grace_seconds=1))


def test_nothing_is_limited_by_default() -> None:
    assert not Overtime(Settings(), []).is_limited

    async def steps(running: Running) -> None:
        running.exchange.on_disconnect()
        await running.loop.pass_time(1000)
        assert not running.exchange.task.done()

    exchange_with(never, steps, Settings())


@dataclass(eq=False)
class Timed:
    """An exchange as `Overtime` sees it."""

    phase: Phase = Phase.UNANSWERED
    timed_out: int = 0
    task: Any = None
    ended: list[str] = field(default_factory=list)

    def time_out(self) -> None:
        self.timed_out += 1
        self.phase = Phase.UNLIMITED


def test_a_blocked_loop_takes_nobodys_time() -> None:
    timed = Timed()
    overtime = Overtime(Settings(request_timeout_seconds=5), [timed])
    overtime.on_tick(100.0, 0.0)
    overtime.on_tick(160.0, 59.5)
    assert timed.timed_out == 0
    overtime.on_tick(164.0, 0.0)
    assert timed.timed_out == 0
    overtime.on_tick(164.5, 0.0)
    assert timed.timed_out == 1
    overtime.on_tick(1e9, 0.0)
    assert timed.timed_out == 1


def test_what_has_ended_is_forgotten() -> None:
    running = {Timed(), Timed()}
    overtime = Overtime(Settings(request_timeout_seconds=5), running)
    overtime.on_tick(0.0, 0.0)
    assert len(overtime._deadlines) == 2
    running.clear()
    overtime.on_tick(1.0, 0.0)
    assert len(overtime._deadlines) == 0
