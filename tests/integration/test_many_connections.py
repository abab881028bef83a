"""Ten thousand connections at once."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.gunicorn import GunicornStarter, open_files
from tests.support.http1 import Connection, request

CONNECTIONS = 10_000


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process, and gunicorn that inherits it, open as many files as they may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTIONS + 500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} open files, and the hard limit is {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_10000_keep_alive_connections(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--keep-alive", "120")
    with ExitStack() as stack:
        connections = []
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(Connection(server.address))
            connections.append(connection)
            assert connection.get("/hello").status == 200
        assert open_files(server.worker_pids[0]) > CONNECTIONS
        for connection in connections:
            connection.send(request("/hello"))
        for connection in connections:
            assert connection.read_response().body == b"hello"
