"""What Gunicorn has loaded as one ASGI 3 application: factories, older interfaces, and a limit on how many run at once.

An application is wrapped once, when it is loaded; one that needs nothing of this is served as it is.
"""

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, Protocol

from .asgi_types import Application, Receive, Send
from .errors import SettingsError
from .scope import wsgi_server
from .wire.http1_response import plain_answer

Interface = Literal["auto", "asgi3", "asgi2", "wsgi"]

DEFAULT_WSGI_THREADS: Final = 10
"""As in uvicorn."""

_LOG_PAUSE_SECONDS: Final = 10.0


class _Log(Protocol):
    def warning(self, msg: str, *args: object) -> None: ...


def adapt(
    loaded: Any,
    *,
    interface: Interface,
    factory: bool,
    wsgi_threads: int,
    limit_concurrency: int | None,
    log: _Log,
) -> Application:
    """The application that is served where Gunicorn has loaded `loaded`.

    Raises SettingsError for what is no application of this interface, and what a factory raises.
    """
    if factory or _is_factory(loaded):
        if not factory:
            log.warning("The application takes no arguments, so it is called as a factory; set factory=True to say so")
        loaded = _call_factory(loaded)
    if not callable(loaded):
        raise SettingsError(f"the application is {loaded!r}, which cannot be called; name an ASGI application")
    app = _as_asgi3(loaded, interface, wsgi_threads)
    return app if limit_concurrency is None else ConcurrencyLimit(app, limit_concurrency, log)


def _call_factory(loaded: Any) -> Any:
    if not callable(loaded) or not _takes(loaded, 0):
        raise SettingsError(
            f"factory=True, but {loaded!r} cannot be called without arguments; "
            "name a function that returns an application"
        )
    return loaded()


def _as_asgi3(app: Any, interface: Interface, wsgi_threads: int) -> Application:
    if interface == "auto":
        interface = _interface_of(app)
    else:
        _check_interface(app, interface)
    if interface == "wsgi":
        try:
            from a2wsgi import WSGIMiddleware
        except ImportError as error:
            raise SettingsError(
                f"interface='wsgi' needs the a2wsgi package, which cannot be imported ({error}); "
                "run 'pip install gunicorn-asgi[wsgi]'"
            ) from None
        middleware: Any = WSGIMiddleware
        app, interface = _with_addresses(middleware(app, workers=wsgi_threads)), "asgi3"
    application: Application = _from_asgi2(app) if interface == "asgi2" else app
    return application


def _with_addresses(middleware: Application) -> Application:
    """For requests on a unix socket, which has no addresses in ASGI: WSGI requires that of the server, and applications
    count on REMOTE_ADDR."""

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["server"] is None or scope["server"][1] is None):
            client, port = scope["client"] or ("", None)
            scope = {**scope, "server": wsgi_server(scope), "client": (client, port or 0)}
        await middleware(scope, receive, send)

    return application


def _interface_of(app: Any) -> Interface:
    """Found out by how many arguments the application takes, which says more than whether it is a coroutine function.

    An ASGI 3 application may also be a plain function that returns an awaitable.
    """
    if _takes(app, 3) is not False:
        return "asgi3"
    if _takes(app, 1):
        return "asgi2"
    if _takes(app, 2):
        raise SettingsError(
            f"interface='auto': the application {app!r} takes two arguments, as WSGI applications do; "
            "set the option interface to 'wsgi', or name an ASGI application"
        )
    return "asgi3"


_CALLED_WITH: Final = {
    "asgi3": (3, "scope, receive and send"),
    "asgi2": (1, "the scope"),
    "wsgi": (2, "environ and start_response"),
}


def _check_interface(app: Any, interface: Interface) -> None:
    """Raises SettingsError where every call of the application would fail."""
    count, arguments = _CALLED_WITH[interface]
    if _takes(app, count) is False or (interface != "asgi3" and inspect.iscoroutinefunction(app)):
        raise SettingsError(
            f"interface={interface!r}: the application {app!r} cannot be called with {arguments}; "
            "remove the option, or name another application"
        )


def _is_factory(app: Any) -> bool:
    return callable(app) and _takes(app, 0) is True and _takes(app, 3) is False


def _takes(app: Any, count: int) -> bool | None:
    """Whether `app` can be called with `count` positional arguments; None where nobody can tell."""
    try:
        inspect.signature(app).bind(*range(count))
    except ValueError:  # Made in C, without a signature.
        return None
    except TypeError:
        return False
    return True


def _from_asgi2(app: Callable[[Any], Callable[[Receive, Send], Awaitable[None]]]) -> Application:
    """ASGI 2: called with the scope, it returns what is called with `receive` and `send`."""

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await app({**scope, "asgi": {**scope["asgi"], "version": "2.0"}})(receive, send)

    return application


class ConcurrencyLimit:
    """Answers 503 while `limit` requests run.

    Counted are requests and WebSocket connections of this worker. Connections that wait for their next request are not.
    """

    def __init__(self, app: Application, limit: int, log: _Log) -> None:
        self._app = app
        self._limit = limit
        self._log = log
        self._running = 0
        self._refused = 0
        self._silent_until = 0.0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif self._running >= self._limit:
            self._count_refusal()
            await _refuse(scope, send)
        else:
            self._running += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._running -= 1

    def _count_refusal(self) -> None:
        self._refused += 1
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + _LOG_PAUSE_SECONDS
            self._log.warning(
                "limit_concurrency: %d requests run, %d have been answered with 503 so far",
                self._running,
                self._refused,
            )


async def _refuse(scope: Any, send: Send) -> None:
    if scope["type"] == "http":
        prefix = "http"
    elif "websocket.http.response" in scope.get("extensions", {}):
        prefix = "websocket.http"
    else:
        await send({"type": "websocket.close", "code": 1013})
        return
    fields, content = plain_answer(503)
    await send({"type": f"{prefix}.response.start", "status": 503, "headers": fields})
    await send({"type": f"{prefix}.response.body", "body": content})
