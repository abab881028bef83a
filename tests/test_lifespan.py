"""Start and stop of the application."""

import asyncio
import contextvars
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest

from gunicorn_asgi.asgi_types import Application, Receive, Send
from gunicorn_asgi.errors import ApplicationError, LifespanFailed, MessageOrderError
from gunicorn_asgi.lifespan import Lifespan
from tests.connection.serving import PassingLoop, RecordingLog, run, soon, turns

Mode = Literal["auto", "on", "off"]
Steps = Callable[[Lifespan, RecordingLog], Awaitable[None]]

ALL_MODES: list[Mode] = ["auto", "on", "off"]
ASKING_MODES: list[Mode] = ["auto", "on"]

COMPLETE = {"type": "lifespan.startup.complete"}
SHUTDOWN_COMPLETE = {"type": "lifespan.shutdown.complete"}


def with_lifespan(app: Application, steps: Steps, mode: Mode = "auto") -> RecordingLog:
    async def main() -> RecordingLog:
        log = RecordingLog()
        await steps(Lifespan(app, mode, log), log)
        return log

    return run(main(), PassingLoop)


async def start_and_stop(lifespan: Lifespan, log: RecordingLog) -> None:
    await soon(lifespan.startup())
    await soon(lifespan.shutdown(1.0))


class Lived:
    """An application that does all as it should, and remembers."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.received: list[str] = []
        self.ended = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.received.append((await receive())["type"])
        await send(COMPLETE)
        self.received.append((await receive())["type"])
        await send(SHUTDOWN_COMPLETE)
        self.ended = True


@pytest.mark.parametrize("mode", ASKING_MODES)
def test_an_application_is_started_and_stopped(mode: Mode) -> None:
    app = Lived()

    async def steps(lifespan: Lifespan, log: RecordingLog) -> None:
        await soon(lifespan.startup())
        await turns()
        assert (app.received, app.ended) == (["lifespan.startup"], False)
        await soon(lifespan.shutdown(1.0))
        assert (app.received, app.ended) == (["lifespan.startup", "lifespan.shutdown"], True)

    assert with_lifespan(app, steps, mode).lines == []
    [scope] = app.scopes
    assert scope == {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": scope["asgi"]["spec_version"]}} | {
        "state": {}
    }


def test_off_asks_nothing() -> None:
    app = Lived()
    assert with_lifespan(app, start_and_stop, "off").lines == []
    assert app.scopes == []


def test_state_and_context_variables_of_the_startup_are_kept() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        scope["state"]["pool"] = 7
        variable.set("startup")
        await send(COMPLETE)
        variable.set("later")
        await receive()
        await send(SHUTDOWN_COMPLETE)

    async def steps(lifespan: Lifespan, log: RecordingLog) -> None:
        await soon(lifespan.startup())
        await turns()
        assert lifespan.state == {"pool": 7}
        assert lifespan.task_context.run(variable.get) == "startup"
        assert variable.get() == "unset"
        await soon(lifespan.shutdown(1.0))

    with_lifespan(app, steps)


def test_without_a_startup_there_is_a_context_all_the_same() -> None:
    async def steps(lifespan: Lifespan, log: RecordingLog) -> None:
        await soon(lifespan.startup())
        assert lifespan.state == {}
        assert lifespan.task_context.run(lambda: "runs") == "runs"

    with_lifespan(Lived(), steps, "off")


# Failures of the startup


@pytest.mark.parametrize("mode", ASKING_MODES)
@pytest.mark.parametrize("message", ["no database", ""])
@pytest.mark.parametrize("ending", ["returns", "raises", "stays"])
def test_startup_failed_is_a_failure_in_every_mode(mode: Mode, message: str, ending: str) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"} | ({"message": message} if message else {}))
        if ending == "raises":
            raise ValueError("boom")
        if ending == "stays":
            await asyncio.Event().wait()

    async def steps(lifespan: Lifespan, log: RecordingLog) -> None:
        with pytest.raises(LifespanFailed) as raised:
            await soon(lifespan.startup())
        assert message in str(raised.value)
        assert str(raised.value)
        await soon(lifespan.shutdown(1.0))
        await lifespan.abandon()

    assert with_lifespan(app, steps, mode).of("info") == []


async def raises(scope: Any, receive: Receive, send: Send) -> None:
    raise ValueError("boom")


async def raises_when_asked(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    raise ValueError("boom")


async def returns(scope: Any, receive: Receive, send: Send) -> None:
    """Knows nothing of lifespan."""


@pytest.mark.parametrize("app", [raises, raises_when_asked])
def test_auto_takes_an_exception_before_the_answer_for_not_supported(app: Application) -> None:
    log = with_lifespan(app, start_and_stop, "auto")
    [line] = log.of("info")
    assert "not supported" in line
    assert "boom" in line
    assert log.lines == [("info", line)]


def test_auto_takes_an_early_return_for_not_supported() -> None:
    log = with_lifespan(returns, start_and_stop, "auto")
    assert log.of("error") == []


@pytest.mark.parametrize("app", [raises, raises_when_asked, returns])
def test_on_takes_no_answer_for_a_failure(app: Application) -> None:
    async def steps(lifespan: Lifespan, log: RecordingLog) -> None:
        with pytest.raises(LifespanFailed) as raised:
            await soon(lifespan.startup())
        assert (raised.value.__cause__ is None) == (app is returns)
        if app is not returns:
            assert "boom" in str(raised.value.__cause__)

    with_lifespan(app, steps, "on")


@pytest.mark.parametrize("mode", ASKING_MODES)
def test_an_exit_in_the_startup_is_a_failure_in_every_mode(mode: Mode) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        sys.exit(1)

    async def steps(lifespan: Lifespan, log: RecordingLog) -> None:
        with pytest.raises(LifespanFailed) as raised:
            await soon(lifespan.startup())
        assert "SystemExit(1)" in str(raised.value)
        assert isinstance(raised.value.__cause__, SystemExit)
        await soon(lifespan.shutdown(1.0))

    assert with_lifespan(app, steps, mode).lines == []


@pytest.mark.parametrize("mode", ASKING_MODES)
def test_an_exception_behind_the_startup_is_logged_once_and_no_reason_not_to_serve(mode: Mode) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        raise ValueError("boom")

    log = with_lifespan(app, start_and_stop, mode)
    assert [str(error) for error in log.exceptions] == ["boom"]
    assert log.of("info") == []


def test_a_startup_that_is_no_longer_wanted_is_cancelled() -> None:
    cancelled: list[bool] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def steps(lifespan: Lifespan, log: RecordingLog) -> None:
        startup = asyncio.create_task(lifespan.startup())
        await turns()
        startup.cancel()
        await soon(lifespan.abandon())
        assert cancelled == [True]

    with_lifespan(app, steps)


# Failures of the shutdown


def stopping(ending: Callable[[Send], Awaitable[None]]) -> Application:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await ending(send)

    return app


def test_shutdown_failed_is_logged_with_its_reason() -> None:
    async def fails(send: Send) -> None:
        await send({"type": "lifespan.shutdown.failed", "message": "lost the pool"})

    [line] = with_lifespan(stopping(fails), start_and_stop).of("error")
    assert "lost the pool" in line


def test_an_exception_in_the_shutdown_is_logged() -> None:
    async def fails(send: Send) -> None:
        raise ValueError("boom")

    log = with_lifespan(stopping(fails), start_and_stop)
    assert [str(error) for error in log.exceptions] == ["boom"]


def test_an_exit_in_the_shutdown_is_logged() -> None:
    async def exits(send: Send) -> None:
        sys.exit(1)

    log = with_lifespan(stopping(exits), start_and_stop)
    [error] = log.exceptions
    assert "SystemExit(1)" in str(error)


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_hanging_shutdown_is_cancelled_in_time(stubborn: bool) -> None:
    async def hangs(send: Send) -> None:
        while True:
            try:
                await release.wait()
                return
            except asyncio.CancelledError:
                cancelled.append(True)
                if not stubborn:
                    raise

    async def steps(lifespan: Lifespan, log: RecordingLog) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PassingLoop)
        await lifespan.startup()
        stop = asyncio.create_task(lifespan.shutdown(7.0))
        await turns()
        await loop.pass_time(6.5)
        assert not stop.done()
        assert cancelled == []
        await loop.pass_time(2.0)
        await turns()
        assert stop.done()
        assert cancelled == [True]
        [line] = log.of("error")
        assert "7.0 s" in line
        release.set()
        await turns()

    cancelled: list[bool] = []
    release = asyncio.Event()
    with_lifespan(stopping(hangs), steps)


def test_an_application_that_has_ended_by_itself_is_not_stopped_again() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)

    assert with_lifespan(app, start_and_stop).lines == []


# The order of messages


@pytest.mark.parametrize(
    ("when", "wrong", "words"),
    [
        ("starting", "lifespan.shutdown.complete", "startup is under way"),
        ("starting", "lifespan.shutdown.failed", "startup is under way"),
        ("started", "lifespan.startup.complete", "startup is complete"),
        ("started", "lifespan.startup.failed", "startup is complete"),
        ("started", "lifespan.shutdown.complete", "startup is complete"),
        ("stopping", "lifespan.startup.complete", "shutdown is under way"),
        ("ended", "lifespan.shutdown.complete", "has ended"),
        ("ended", "lifespan.startup.complete", "has ended"),
    ],
)
def test_a_message_out_of_order_raises_and_names_state_and_type(when: str, wrong: str, words: str) -> None:
    async def send_wrong(send: Send) -> None:
        with pytest.raises(MessageOrderError) as raised:
            await send({"type": wrong})
        errors.append(str(raised.value))

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        if when == "starting":
            await send_wrong(send)
        await send(COMPLETE)
        if when == "started":
            await send_wrong(send)
        await receive()
        if when == "stopping":
            await send_wrong(send)
        await send(SHUTDOWN_COMPLETE)
        if when == "ended":
            await send_wrong(send)

    errors: list[str] = []
    assert with_lifespan(app, start_and_stop).lines == []
    [error] = errors
    assert repr(wrong) in error
    assert words in error


def test_a_message_of_another_kind_raises() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        with pytest.raises(ApplicationError, match=r"http\.response\.start"):
            await send({"type": "http.response.start", "status": 200})
        await send(COMPLETE)
        await receive()
        await send(SHUTDOWN_COMPLETE)

    assert with_lifespan(app, start_and_stop).lines == []
