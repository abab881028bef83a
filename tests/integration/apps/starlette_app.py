"""The routes of test_frameworks.py in Starlette."""

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from .contents import DOCUMENT, FILE, PIECES


async def document(request: Request) -> Response:
    return JSONResponse(DOCUMENT)


async def stream(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece

    return StreamingResponse(pieces(), media_type="text/plain")


async def file(request: Request) -> Response:
    return FileResponse(FILE, media_type="text/plain")


async def upload(request: Request) -> Response:
    return Response(await request.body(), media_type="application/octet-stream")


async def error(request: Request) -> Response:
    raise ValueError("raised on purpose")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol=websocket.scope["subprotocols"][0], headers=[(b"x-framework", b"starlette")])
    while True:
        await websocket.send_text(await websocket.receive_text())


async def denied(websocket: WebSocket) -> None:
    await websocket.send_denial_response(Response("who are you?", status_code=401, headers={"x-why": "because"}))


async def closed(websocket: WebSocket) -> None:
    await websocket.close()


app = Starlette(
    routes=[
        Route("/json", document),
        Route("/stream", stream),
        Route("/file", file),
        Route("/upload", upload, methods=["POST"]),
        Route("/error", error),
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/denied", denied),
        WebSocketRoute("/closed", closed),
    ]
)
