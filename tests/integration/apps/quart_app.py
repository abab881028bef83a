"""The routes of test_frameworks.py in Quart."""

from collections.abc import AsyncIterator

from quart import Quart, Response, request, send_file

from .contents import DOCUMENT, FILE, PIECES

app = Quart(__name__)


@app.get("/json")
async def document() -> dict[str, object]:
    return dict(DOCUMENT)


@app.get("/stream")
async def stream() -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece

    return Response(pieces(), mimetype="text/plain")


@app.get("/file")
async def file() -> Response:
    return await send_file(FILE, mimetype="text/plain")


@app.post("/upload")
async def upload() -> Response:
    return Response(await request.get_data(as_text=False), mimetype="application/octet-stream")


@app.get("/error")
async def error() -> str:
    raise ValueError("raised on purpose")
