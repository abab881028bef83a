"""What is served with `--reload` in place of an application that has a SyntaxError."""

from typing import Any

from .asgi_types import Application, Receive, Send


def failed_application(text: str) -> Application:
    """An ASGI application that answers each request with `text`, which says what is wrong."""
    content = text.encode("utf-8", "backslashreplace")
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(content))]

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await send({"type": "http.response.start", "status": 500, "headers": headers})
            await send({"type": "http.response.body", "body": content})

    return application
