"""The routes of test_frameworks.py in Litestar."""

from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, Request, Response, WebSocket, get, head, post, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.response import File, Stream

from .contents import DOCUMENT, FILE, PIECES


@get("/json")
async def document() -> dict[str, object]:
    return dict(DOCUMENT)


@head("/json")
async def document_head() -> None:
    return None


@get("/stream")
async def stream() -> Stream:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece

    return Stream(pieces(), media_type="text/plain")


@get("/file")
async def file() -> File:
    return File(FILE, media_type="text/plain")


@post("/upload")
async def upload(request: Request[Any, Any, Any]) -> Response[bytes]:
    return Response(await request.body(), media_type="application/octet-stream")


@get("/error")
async def error() -> None:
    raise ValueError("raised on purpose")


@websocket("/echo")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept(subprotocols=socket.scope["subprotocols"][0], headers={"x-framework": "litestar"})
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


@websocket("/closed")
async def closed(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.close()


app = Litestar([document, document_head, stream, file, upload, error, echo, closed], request_max_body_size=None)
