"""Applications of five frameworks answer with the same bytes as under uvicorn-worker."""

from collections.abc import Iterator

import pytest
from xprocess import XProcess

from tests.integration.apps.contents import DOCUMENT, FILE, PIECES
from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http1 import Response, request

UPLOAD = bytes(range(256)) * 800

REQUESTS = {
    "json": request("/json"),
    "missing": request("/missing?a=1"),
    "head": request("/json", method="HEAD"),
    "head of a missing resource": request("/missing", method="HEAD"),
    "options": request("/json", method="OPTIONS"),
    "wrong method": request("/json", method="DELETE"),
    "streaming": request("/stream"),
    "file": request("/file"),
    "range of a file": request("/file", fields="Range: bytes=10-19\r\n"),
    "upload": request("/upload", method="POST", body=UPLOAD),
    "exception": request("/error"),
    "json, closing": request("/json", fields="Connection: close\r\n"),
    "streaming, closing": request("/stream", fields="Connection: close\r\n"),
    "json over HTTP/1.0": request("/json", version="1.0"),
}


@pytest.fixture(scope="module", params=["fastapi_app", "starlette_app", "django_app", "quart_app", "litestar_app"])
def servers(request: pytest.FixtureRequest, xprocess: XProcess) -> Iterator[tuple[Gunicorn, Gunicorn]]:
    """The same application under both workers, uvicorn's first."""
    starter = GunicornStarter(xprocess)
    # Frameworks write the methods of "Allow" in the order of a set.
    env = {"PYTHONHASHSEED": "0"}
    theirs = starter.start(request.param, worker="uvicorn_worker.UvicornWorker", env=env)
    yield theirs, starter.start(request.param, env=env)
    starter.end_all()


def answer(server: Gunicorn, request: bytes) -> Response:
    with server.connect() as connection:
        connection.send(request)
        return connection.read_response(head_only=request.startswith(b"HEAD "))


@pytest.mark.parametrize("name", REQUESTS)
def test_same_bytes(servers: tuple[Gunicorn, Gunicorn], name: str) -> None:
    theirs, ours = (answer(server, REQUESTS[name]) for server in servers)
    # Quart computes "Expires" from the clock, a second of which may pass between the two.
    assert (ours.get(b"expires") is None) == (theirs.get(b"expires") is None)
    ignored = (b"date", b"server", b"expires")
    assert ours.raw_without(*ignored) == theirs.raw_without(*ignored)


def test_same_bytes_but_for_the_framing_of_streaming_over_http_1_0(servers: tuple[Gunicorn, Gunicorn]) -> None:
    # uvicorn sends chunks, which HTTP/1.0 does not know and RFC 9112 section 6.1 forbids there. Ours end with the
    # connection.
    theirs, ours = (answer(server, request("/stream", version="1.0")) for server in servers)
    framing = (b"date", b"server", b"transfer-encoding")
    assert ours.get(b"transfer-encoding") is None
    assert ours.body == theirs.body == b"".join(PIECES)
    assert Response(ours.head, b"", b"").raw_without(*framing) == Response(theirs.head, b"", b"").raw_without(*framing)


def test_the_answers_are_those_of_the_application(servers: tuple[Gunicorn, Gunicorn]) -> None:
    _, ours = servers
    answers = {name: answer(ours, data) for name, data in REQUESTS.items()}
    statuses = {name: response.status for name, response in answers.items()}
    bodies = {name: response.body for name, response in answers.items()}
    assert statuses["json"] == statuses["head"] == statuses["streaming"] == statuses["file"] == 200
    assert statuses["upload"] in (200, 201)
    assert statuses["missing"] == 404
    assert statuses["exception"] == 500
    assert bodies["streaming"] == b"".join(PIECES)
    assert bodies["file"] == FILE.read_bytes()
    assert bodies["upload"] == UPLOAD
    assert bodies["head"] == b""
    assert str(DOCUMENT["numbers"]) in bodies["json"].decode().replace(",", ", ").replace("  ", " ")
