"""The routes of test_frameworks.py in Starlette."""

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

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


app = Starlette(
    routes=[
        Route("/json", document),
        Route("/stream", stream),
        Route("/file", file),
        Route("/upload", upload, methods=["POST"]),
        Route("/error", error),
    ]
)
