"""The routes of test_frameworks.py in FastAPI."""

from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, StreamingResponse

from .contents import DOCUMENT, FILE, PIECES

app = FastAPI()


@app.api_route("/json", methods=["GET", "HEAD"])
async def document() -> dict[str, object]:
    return dict(DOCUMENT)


@app.get("/stream")
def stream() -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/file")
def file() -> FileResponse:
    return FileResponse(FILE, media_type="text/plain")


@app.post("/upload")
async def upload(request: Request) -> Response:
    return Response(await request.body(), media_type="application/octet-stream")


@app.get("/error")
async def error() -> None:
    raise ValueError("raised on purpose")


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol=websocket.scope["subprotocols"][0], headers=[(b"x-framework", b"fastapi")])
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


@app.websocket("/denied")
async def denied(websocket: WebSocket) -> None:
    raise HTTPException(status_code=401, detail="who are you?", headers={"x-why": "because"})


@app.websocket("/closed")
async def closed(websocket: WebSocket) -> None:
    await websocket.close()
