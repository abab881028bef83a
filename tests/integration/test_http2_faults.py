"""Nothing is lost with HTTP/2 either: strict clients under load while workers come and go."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http2_ledger import Http2Load
from tests.support.http2_wire import Http2Connection
from tests.support.ledger import Load

pytestmark = pytest.mark.load

Start = Callable[..., Gunicorn]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def start(gunicorns: GunicornStarter, journal: Path) -> Start:
    """Start the ledger application with HTTP/2."""

    def start(*options: str) -> Gunicorn:
        env = {"LEDGER": str(journal)}
        return gunicorns.start("ledger", "--keep-alive", "5", *options, worker="gunicorn_asgi.H2CWorker", env=env)

    return start


def serving(server: Gunicorn, load: Load, count: int) -> None:
    """Wait until so many workers have been started since the server was, and the newest two have begun requests."""
    deadline = time.monotonic() + 30
    while len(server.worker_pids) < count or not all(map(load.ledger.begun_by, server.worker_pids[-2:])):
        assert time.monotonic() < deadline, server.log
        time.sleep(0.02)


def clean(server: Gunicorn) -> None:
    """No worker had to be forced."""
    for trouble in ("SIGKILL", "WORKER TIMEOUT", "Traceback", "[ERROR]"):
        assert trouble not in server.log, server.log


def test_hup_again_and_again(start: Start, journal: Path) -> None:
    server = start("--workers", "2")
    with Http2Load(server.address, journal) as load:
        for number in range(1, 4):
            server.signal(signal.SIGHUP)
            serving(server, load, 2 + 2 * number)
            load.more_answers(200)
    load.ledger.check()
    clean(server)


def test_max_requests(start: Start, journal: Path) -> None:
    server = start("--workers", "2", "--max-requests", "100", "--max-requests-jitter", "20")
    with Http2Load(server.address, journal) as load:
        serving(server, load, 6)
    load.ledger.check()
    clean(server)


def test_workers_are_added_and_taken_away(start: Start, journal: Path) -> None:
    server = start("--workers", "2")
    with Http2Load(server.address, journal) as load:
        for number in range(1, 3):
            server.signal(signal.SIGTTIN)
            serving(server, load, 2 + number)
            load.more_answers(100)
            server.signal(signal.SIGTTOU)
            load.more_answers(200)
    load.ledger.check()
    clean(server)


def test_a_worker_that_is_killed_takes_only_its_own_requests_with_it(start: Start, journal: Path) -> None:
    server = start("--workers", "2")
    with Http2Load(server.address, journal, clients=20) as load:
        victim = server.worker_pids[0]
        os.kill(victim, signal.SIGKILL)
        serving(server, load, 3)
        load.more_answers(200)
    load.ledger.check(may_fail=True, killed=victim)
    # Some streams on each connection, and none that the other worker has begun.
    assert len(load.ledger.failed) <= 20 * 4
    assert set(load.ledger.failed_after_begin().values()) <= {victim}


def test_term_under_load_finishes_what_has_begun(start: Start, journal: Path) -> None:
    server = start("--workers", "2")
    with Http2Load(server.address, journal, clients=20) as load:
        serving(server, load, 2)
        assert server.stop() == 0
    load.ledger.check(may_fail=True)
    assert load.ledger.failed_after_begin() == {}
    clean(server)
    assert load.ledger.count("shutdown") == 2


def test_an_idle_connection_is_kept_for_as_long_as_the_setting_says(gunicorns: GunicornStarter) -> None:
    """And not only for the 5 seconds after which an idle connection is looked at."""
    server = gunicorns.start("probe", "--keep-alive", "9", worker="gunicorn_asgi.H2CWorker")
    with Http2Connection(server.address) as connection:
        assert connection.get().body == b"hello"
        time.sleep(6.5)
        assert connection.get().body == b"hello"
