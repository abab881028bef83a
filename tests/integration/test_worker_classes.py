"""What sets the worker classes apart: parser library and event loop, and nothing that a client could see."""

import pytest

from tests.support.gunicorn import Gunicorn, GunicornStarter, run_gunicorn
from tests.support.http1 import chunked, request


def served(server: Gunicorn) -> list[tuple[int, bytes]]:
    """Status and body of requests with each kind of framing, and of a refused one."""
    with server.connect() as connection:
        connection.send(
            request("/hello")
            + request("/echo", method="POST", body=b"with a length")
            + request("/echo", method="M-SEARCH", fields="Transfer-Encoding: chunked\r\n")
            + chunked(b"in ", b"chunks")
            + request("/hello", fields="Content-Length: 1, 1\r\n")
        )
        responses = [connection.read_response() for _ in range(4)]
        assert connection.is_closed_by_server()
    return [(response.status, response.body) for response in responses]


SERVED = [(200, b"hello"), (200, b"with a length"), (200, b"in chunks"), (400, b"Bad Request")]


@pytest.mark.parametrize("worker", ["gunicorn_asgi.H11Worker", "gunicorn_asgi.workers.UvicornH11Worker"])
def test_h11_worker_needs_nothing_compiled(gunicorns: GunicornStarter, without: dict[str, str], worker: str) -> None:
    server = gunicorns.start("probe", worker=worker, env={**without, "BLOCKED_IMPORTS": "httptools,uvloop"})
    assert served(server) == SERVED
    assert "uvloop" not in server.log, "it is not missed where nobody asks for it"


def test_worker_serves_the_same(gunicorns: GunicornStarter) -> None:
    assert served(gunicorns.start("probe", worker="gunicorn_asgi.Worker")) == SERVED


@pytest.mark.parametrize(
    ("worker", "library"), [("gunicorn_asgi.Worker", "httptools"), ("gunicorn_asgi.H11Worker", "h11")]
)
def test_a_missing_parser_is_one_clear_line(without: dict[str, str], worker: str, library: str) -> None:
    code, output = run_gunicorn("probe", worker=worker, env={**without, "BLOCKED_IMPORTS": library})
    assert code not in (0, None)
    lines = [line for line in output.splitlines() if library in line]
    assert len(lines) == 1, output
    assert f"pip install {library}" in lines[0]
    assert "Traceback" not in output
