"""What Gunicorn serves with `--reload` in place of an application that has a SyntaxError, as an ASGI application."""

from collections.abc import Callable, Iterable
from typing import Any

from .asgi_types import Application, Receive, Scope, Send

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def failed_application(shows_error: WSGIApplication) -> Application:
    """An ASGI application that answers each request with what `shows_error`, a WSGI application, says to any."""
    heads: list[tuple[str, list[tuple[str, str]]]] = []
    content = b"".join(shows_error({}, lambda status, headers: heads.append((status, headers))))
    [(status, fields)] = heads
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": int(status[:3]), "headers": headers})
            await send({"type": "http.response.body", "body": content})
        else:
            await receive()
            await send({"type": "websocket.close"})

    return application
