"""A blocked event loop: what is written down, when the worker is given up, and when it is not."""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http1 import request

ABORT_HOOKS = """\
def worker_abort(worker):
    worker.log.info("hook: worker_abort %s", worker.pid)


def worker_exit(server, worker):
    worker.log.info("hook: worker_exit %s", worker.pid)
"""


def errors_of(server: Gunicorn, pid: int) -> str:
    """What one worker has logged, from its first report on."""
    return server.log.partition("Fatal Python error: Aborted")[2]


@pytest.mark.load
def test_a_blocked_worker_says_why_and_ends(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(ABORT_HOOKS)
    server = gunicorns.start("probe", "--timeout", "2", "--config", str(tmp_path / "conf.py"))
    pid = server.worker_pids[0]
    with server.connect() as held, server.connect() as blocked:
        held.send(request("/hold"))
        server.get("/journal/held")
        blocked.send(request("/block-loop", method="PUT"))
        server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    report = errors_of(server, pid)
    assert re.search(r'File ".*probe\.py", line \d+ in block_loop', report), "the stack of the thread"
    assert "in hold" in report
    assert "Requests in flight: 2" in report
    assert re.search(r"  PUT '/block-loop' from 127\.0\.0\.1, \d+\.\d s", report)
    assert re.search(r"  GET '/hold' from 127\.0\.0\.1, \d+\.\d s", report)
    assert f"hook: worker_abort {pid}" in report
    assert report.index("hook: worker_abort") < report.index(f"hook: worker_exit {pid}")
    assert re.search(rf"Worker \(pid:{pid}\) exited with code 1", report)
    assert "SIGKILL" not in server.log
    assert int(server.get("/pid").body) == server.worker_pids[1]


@pytest.mark.load
def test_a_worker_that_is_stuck_in_c_code_leaves_its_stacks(gunicorns: GunicornStarter) -> None:
    """Nothing of Python runs there any more, and so no handler of a signal: only faulthandler does."""
    server = gunicorns.start("probe", "--timeout", "2")
    with server.connect() as connection:
        connection.send(request("/block-in-c"))
        server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    assert re.search(r'File ".*probe\.py", line \d+ in block_in_c', errors_of(server, server.worker_pids[0]))


@pytest.mark.load
def test_a_lag_is_reported_once_while_it_lasts(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", env={"GUNICORN_ASGI_LOOP_LAG_WARNING": "0.4"})
    with server.connect() as connection:
        connection.send(request("/block-for?3"))
        server.wait_for_log("The event loop has been blocked for")
        # It is still blocked: the answer has not come, and nobody else is answered.
        connection.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.sock.recv(1)
        connection.sock.settimeout(20)
        assert connection.read_response().status == 200
    match = server.wait_for_log(r"blocked for (\d\.\d) s by:\n(?s:.*)in block_for(?s:.*)GET '/block-for' from 127")
    assert 0.4 <= float(match[1]) < 3.0
    assert server.get("/hello").status == 200
    assert server.log.count("The event loop has been blocked for") == 1


def test_no_lag_is_reported_where_nobody_asks(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", env={"GUNICORN_ASGI_LOOP_LAG_WARNING": "0"})
    assert server.get("/block-for?1.6").status == 200
    assert server.get("/hello").status == 200
    assert "blocked" not in server.log


@pytest.mark.load
@pytest.mark.parametrize("at_once", [False, True], ids=["one after the other", "at once"])
def test_requests_that_block_for_less_than_the_timeout_do_not_end_the_worker(
    gunicorns: GunicornStarter, at_once: bool
) -> None:
    """At once they run in one turn of the event loop, in which no timer runs."""
    server = gunicorns.start("probe", "--timeout", "3")
    count = 4
    if at_once:
        with ThreadPoolExecutor(count) as pool:
            statuses = list(pool.map(lambda _: server.get("/block-for?1.1").status, range(count)))
    else:
        with server.connect() as connection:
            statuses = [connection.get("/block-for?1.1").status for _ in range(count)]
    assert statuses == [200] * count
    assert "WORKER TIMEOUT" not in server.log


@pytest.mark.load
def test_a_worker_that_was_stopped_is_not_taken_for_blocked(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", env={"GUNICORN_ASGI_LOOP_LAG_WARNING": "0.4"})
    pid = server.worker_pids[0]
    for _ in range(5):  # Which of its threads goes on first is a matter of chance.
        server.get("/hello")
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.7)
        os.kill(pid, signal.SIGCONT)
        server.get("/hello")
        time.sleep(0.2)
    assert "blocked" not in server.log
