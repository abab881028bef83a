"""An application whose access log is compared; in WSGI, for Gunicorn's gthread worker."""

import http
from collections.abc import Callable, Iterable
from typing import Any

Fields = list[tuple[str, str]]


def answer(path: str) -> tuple[int, Fields, bytes]:
    """Status, fields and content for a path."""
    status, body = (404, b"nothing here") if path == "/missing" else (200, b"" if path == "/empty" else b"content")
    return status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))], body


def app(environ: dict[str, Any], start_response: Callable[[str, Fields], object]) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    status, fields, body = answer(environ["PATH_INFO"])
    start_response(f"{status} {http.HTTPStatus(status).phrase}", fields)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
