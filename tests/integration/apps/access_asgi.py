"""The answers of access_wsgi.py, in ASGI."""

from .access_wsgi import answer
from .probe import Receive, Scope, Send, read_body


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    scope["root_path"] += "/mounted"  # As frameworks do.
    await read_body(receive)
    status, fields, body = answer(scope["path"])
    headers = [(name.lower().encode(), value.encode()) for name, value in fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
