"""Starlette, serving one file."""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route


async def file(request: Request) -> FileResponse:
    return FileResponse(os.environ["FILE_TO_SERVE"])


app = Starlette(routes=[Route("/", file)])
