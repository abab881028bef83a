"""The routes of test_frameworks.py in FastAPI."""

from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
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
