"""Clients that hold a server up: a thousand of them, beside others who want their answers."""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median, quantiles

import pytest

from tests.support.gunicorn import ROOT, Gunicorn, GunicornStarter
from tests.support.http1 import Connection, request

SLOW_CLIENTS = 1000
ROUND_SECONDS = 0.6
ROUNDS = 12
ATTEMPTS = 3


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = SLOW_CLIENTS + 200
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} open files, and the hard limit is {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def p99(connection: Connection) -> float:
    """The 99th percentile of the seconds that an answer takes, over a round that the worker's clock ticks in."""
    data = request("/hello")
    times: list[float] = []
    end = time.perf_counter() + ROUND_SECONDS
    while (begun := time.perf_counter()) < end or len(times) < 100:
        connection.send(data)
        connection.read_response()
        times.append(time.perf_counter() - begun)
    return quantiles(times, n=100)[98]


def median_p99(connection: Connection) -> float:
    return median(p99(connection) for _ in range(3))


@contextmanager
def slow_clients(server: Gunicorn) -> Iterator[None]:
    assert isinstance(server.address, tuple)
    host, port = server.address
    command = [sys.executable, "-m", "tests.support.slow_clients", str(host), str(port), str(SLOW_CLIENTS)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield
        assert process.poll() is None, "the slow clients have given up"
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.load
@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("worker", ["gunicorn_asgi.Worker", "gunicorn_asgi.H11Worker"])
def test_a_thousand_slow_clients_do_not_slow_the_others_down(gunicorns: GunicornStarter, worker: str) -> None:
    server = gunicorns.start("probe", "--keep-alive", "60", worker=worker)
    measured = []
    with server.connect() as connection:
        p99(connection)  # Warms up.
        for _ in range(ATTEMPTS):
            before, beside = median_p99(connection), []
            with slow_clients(server):
                for _ in range(ROUNDS):
                    beside.append(p99(connection))
                    if beside[-1] <= 2 * before:
                        break
            alone = max(before, median_p99(connection))
            # What else the machine does makes a round slower and never faster.
            if min(beside) <= 2 * alone:
                return
            measured.append((alone, beside))
    pytest.fail(f"seconds alone, and beside slow clients: {measured}")
