"""Gunicorn's hooks around each request, with objects that have the attributes which Gunicorn documents.

They are a layer around the application, and only there when a hook is set: without one a request costs nothing more.
"""

from collections.abc import Callable
from typing import Any

from .asgi_types import Application, Receive, ReceiveMessage, Send, SendMessage
from .connection.context import ErrorLog
from .gunicorn_objects import GunicornRequest, GunicornResponse


def hook_environ(scope: dict[str, Any], request: GunicornRequest) -> dict[str, Any]:
    """What `post_request` gets for `environ`: the values of a WSGI environ that are known here."""
    server = scope.get("server") or ("", "")
    root_path = scope.get("root_path", "")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.uri,
        "SCRIPT_NAME": root_path,
        "PATH_INFO": scope["path"].removeprefix(root_path).encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": str(server[0]),
        "SERVER_PORT": str(server[1] or ""),
        "SERVER_SOFTWARE": "gunicorn-asgi",
        "REMOTE_ADDR": str(request.remote_addr[0]),
        "REMOTE_PORT": str(request.remote_addr[1] or ""),
        "wsgi.url_scheme": request.scheme,
        "asgi.scope": scope,
    }
    for name, value in request.headers:
        key = name.replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


def with_hooks(
    app: Application,
    worker: Any,
    pre_request: Callable[[Any, Any], object] | None,
    post_request: Callable[[Any, Any, Any, Any], object] | None,
    error_log: ErrorLog,
) -> Application:
    """`app` with the hooks around each of its requests and WebSockets; `app` itself where none is set.

    An error in `pre_request` is one of the application: the client gets a 500. One in `post_request` is logged.
    """
    if pre_request is None and post_request is None:
        return app

    async def hooked(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        request = GunicornRequest(scope)
        response = GunicornResponse(request.method)
        environ = hook_environ(scope, request)  # Before the application changes the scope.
        disconnected = False

        async def seen_receive() -> ReceiveMessage:
            nonlocal disconnected
            message = await receive()
            disconnected = disconnected or message["type"] in ("http.disconnect", "websocket.disconnect")
            return message

        async def seen_send(message: SendMessage) -> None:
            nonlocal disconnected
            try:
                await send(message)
            except OSError:
                disconnected = True
                raise
            response.see(message)

        try:
            if pre_request is not None:
                pre_request(worker, request)
            await app(scope, seen_receive, seen_send)
        finally:
            if not response.headers_sent and not disconnected:
                response.start(500, ())
            if post_request is not None:
                try:
                    post_request(worker, request, environ, response)
                except Exception as error:
                    error_log.error("Exception in the post_request hook", exc_info=error)

    return hooked
