"""What Gunicorn has loaded, as the application that is served."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from gunicorn_asgi.applications import ConcurrencyLimit, adapt
from gunicorn_asgi.errors import SettingsError


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, msg: str, *args: object) -> None:
        self.lines.append(msg % args)


def adapted(loaded: Any, log: Log | None = None, **options: Any) -> Any:
    given: dict[str, Any] = {"interface": "auto", "factory": False, "wsgi_threads": 1, "limit_concurrency": None}
    return adapt(loaded, **{**given, **options}, log=log or Log())


async def asgi3(scope: Any, receive: Any, send: Any) -> None:
    await send(scope)


def awaitable(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
    return asgi3(scope, receive, send)


async def variadic(*args: Any) -> None:
    await asgi3(*args)


async def with_more(scope: Any, receive: Any, send: Any, more: int = 5) -> None:
    await asgi3(scope, receive, send)


class Instance:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asgi3(scope, receive, send)


class WithoutSignature(Instance):
    @property
    def __signature__(self) -> None:
        raise ValueError("made in C")


@pytest.mark.parametrize(
    "app",
    [
        asgi3,
        awaitable,
        variadic,
        with_more,
        Instance(),
        WithoutSignature(),
        functools.partial(with_more, more=6),
    ],
)
def test_asgi3_is_served_as_it_is(app: Any) -> None:
    assert adapted(app) is app
    assert adapted(app, interface="asgi3") is app


def asgi2(scope: Any) -> Callable[..., Awaitable[None]]:
    async def instance(receive: Any, send: Any) -> None:
        await send(scope)

    return instance


class Asgi2:
    def __init__(self, scope: Any) -> None:
        self._scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        await send(self._scope)


@pytest.mark.parametrize("app", [asgi2, Asgi2])
@pytest.mark.parametrize("interface", ["auto", "asgi2"])
def test_asgi2(app: Any, interface: str) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.5"}}
    asyncio.run(adapted(app, interface=interface)(scope, None, send))
    assert sent == [{"type": "http", "asgi": {"version": "2.0", "spec_version": "2.5"}}]
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}


def make() -> Any:
    return asgi3


def make_by_default(path: str | None = None, debug: bool = False) -> Any:
    return asgi3


class NeedsNothing(Instance):
    """Named itself instead of an instance."""


def test_factories() -> None:
    log = Log()
    assert adapted(make, log, factory=True) is asgi3
    assert log.lines == []
    for factory in (make, make_by_default):
        assert adapted(factory, log) is asgi3
    assert isinstance(adapted(NeedsNothing, log), NeedsNothing)
    assert len(log.lines) == 3
    assert all("set factory=True" in line for line in log.lines)


def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    return []


@pytest.mark.parametrize(
    ("app", "options", "message"),
    [
        (asgi3, {"factory": True}, "factory=True, but .* cannot be called without arguments"),
        ("text", {}, "the application is 'text', which cannot be called"),
        (lambda: 5, {}, "the application is 5, which cannot be called"),
        (wsgi, {"interface": "asgi3"}, "interface='asgi3': .* cannot be called with scope, receive and send; remove"),
        (asgi3, {"interface": "asgi2"}, "interface='asgi2': .* cannot be called with the scope; remove the option"),
        (variadic, {"interface": "asgi2"}, "interface='asgi2': .* cannot be called with the scope; remove the option"),
        (asgi3, {"interface": "wsgi"}, "interface='wsgi': .* cannot be called with environ and start_response; remove"),
        (Instance(), {"interface": "wsgi"}, "interface='wsgi': .* cannot be called with environ and start_response"),
        (wsgi, {}, "interface='auto': .* takes two arguments, as WSGI applications do; set the option interface"),
    ],
)
def test_what_is_no_application_is_refused(app: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        adapted(app, **options)


# The limit


class Held:
    """Runs until it is released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope["type"])
        await self.released.wait()
        if scope["type"] == "fails":
            raise ValueError


def test_the_limit_counts_what_runs() -> None:
    async def scenario() -> None:
        log, held = Log(), Held()
        app: Any = ConcurrencyLimit(held, 2, log)
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        running = [asyncio.ensure_future(app({"type": kind}, None, send)) for kind in ("lifespan", "http", "fails")]
        await asyncio.sleep(0)
        assert held.scopes == ["lifespan", "http", "fails"]
        for _ in range(3):
            await app({"type": "http"}, None, send)
        await app({"type": "websocket"}, None, send)
        await app({"type": "websocket", "extensions": {"websocket.http.response": {}}}, None, send)
        assert [(message["type"], message.get("status")) for message in sent] == [
            *[("http.response.start", 503), ("http.response.body", None)] * 3,
            ("websocket.close", None),
            ("websocket.http.response.start", 503),
            ("websocket.http.response.body", None),
        ]
        assert log.lines == ["limit_concurrency: 2 requests run, 1 have been answered with 503 so far"]
        held.released.set()
        await asyncio.gather(*running, return_exceptions=True)
        held.scopes.clear()
        for _ in range(3):
            await app({"type": "http"}, None, send)
        assert held.scopes == ["http"] * 3

    asyncio.run(scenario())
