"""The end of a worker that serves: announced, graceful, bounded (docs/operations.md has the time line)."""

import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.certificates import Certificates
from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http1 import request


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where an application writes what outlives it."""
    return tmp_path / "journal"


def drain(server: Gunicorn) -> int:
    """Tell the one worker, once it serves, to drain. Its process."""
    worker = int(server.get("/pid").body)
    os.kill(worker, signal.SIGTERM)
    return worker


def summary(server: Gunicorn) -> tuple[int, int, int]:
    """Requests finished, requests cancelled, connections cut, as the log says."""
    match = server.wait_for_log(
        r"Drained in \d+\.\d s: (\d+) requests finished, (\d+) cancelled, (\d+) connections cut"
    )
    return int(match[1]), int(match[2]), int(match[3])


def test_a_request_that_comes_within_the_grace_is_answered(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--keep-alive", "60", env={"GUNICORN_ASGI_DRAIN_GRACE": "10"})
    with server.connect() as connection:
        assert connection.get("/hello").get(b"connection") is None
        with server.connect() as other:
            worker = int(other.get("/pid").body)
            os.kill(worker, signal.SIGTERM)
            # The drain has begun when an answer says so.
            while other.get("/hello").get(b"connection") is None:
                pass
            assert other.is_closed_by_server()
        response = connection.get("/pid")
        assert response.body == b"%d" % worker
        assert response.get(b"connection") == b"close"
        assert connection.is_closed_by_server()
    finished, cancelled, cut = summary(server)
    assert finished >= 2
    assert (cancelled, cut) == (0, 0)


def test_idle_connections_are_closed_behind_the_grace_and_not_before(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--keep-alive", "60", env={"GUNICORN_ASGI_DRAIN_GRACE": "1.5"})
    with server.connect() as connection:
        connection.get("/hello")
        begun = time.monotonic()
        drain(server)
        assert connection.is_closed_by_server()
        assert time.monotonic() - begun >= 1.5
    assert summary(server) == (0, 0, 0)


@pytest.mark.parametrize("waits_for", ["TLS", "a preamble"])
def test_a_silent_client_does_not_hold_up_the_end(gunicorns: GunicornStarter, tmp_path: Path, waits_for: str) -> None:
    options: tuple[str, ...] = ("--proxy-protocol", "--proxy-allow-from", "127.0.0.1")
    if waits_for == "TLS":
        options = Certificates(tmp_path).server.options
    server = gunicorns.start("probe", *options)
    with server.connect() as silent:
        server.wait_for_log("Booting worker")
        worker = psutil.Process(server.worker_pids[0])
        while not any(each.status == psutil.CONN_ESTABLISHED for each in worker.net_connections()):
            time.sleep(0.02)  # Accepting has no event that could be seen from outside.
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 6
        assert silent.is_closed_by_server()


def test_a_stream_without_end_is_told_and_may_say_goodbye(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--graceful-timeout", "60")
    with server.connect() as connection:
        connection.send(request("/ticks"))
        connection.read_until(b"tick\r\n")
        drain(server)
        # It ends as a whole response, with what the application sends last.
        connection.read_until(b"goodbye\r\n\r\n0\r\n\r\n")
        assert connection.is_closed_by_server()
    assert summary(server) == (1, 0, 0)


def test_drain_delay_keeps_accepting_and_says_close(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--keep-alive", "60", env={"GUNICORN_ASGI_DRAIN_DELAY": "30"})
    worker = drain(server)
    closed = 0
    while closed < 3:
        response = server.get("/pid")
        assert int(response.body) == worker
        closed += response.get(b"connection") == b"close"
    # Whoever does not want to wait for that says so.
    os.kill(worker, signal.SIGQUIT)
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    assert int(server.get("/pid").body) == server.worker_pids[1]


@pytest.mark.load
def test_an_application_that_ignores_its_cancellation_ends_before_the_master_kills(
    gunicorns: GunicornStarter, journal: Path
) -> None:
    server = gunicorns.start("ledger", "--graceful-timeout", "3", env={"LEDGER": str(journal)})
    with server.connect() as connection:
        connection.send(request("/ignore-cancel/1?60"))
        server.wait_for_text(journal, "begin 1")
        assert server.stop() == 0
    assert "ignored 1" in journal.read_text()
    assert "shutdown" in journal.read_text(), "lifespan shutdown runs always"
    assert "1 requests have ignored their cancellation" in server.log
    assert re.search(r"Worker exiting \(pid: \d+\)", server.log)
    assert "SIGKILL" not in server.log


@pytest.mark.load
def test_a_thread_that_hangs_does_not_hold_up_the_exit(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    """The interpreter would wait for it, and atexit would not run."""
    (tmp_path / "conf.py").write_text(
        "import atexit\n\n\n"
        "def post_worker_init(worker):\n"
        "    atexit.register(worker.log.info, 'hook: atexit')\n\n\n"
        "def worker_exit(server, worker):\n"
        "    worker.log.info('hook: worker_exit')\n"
    )
    server = gunicorns.start("probe", "--graceful-timeout", "3", "--config", str(tmp_path / "conf.py"))
    assert server.get("/hang-in-thread").status == 200
    worker = psutil.Process(server.worker_pids[0])
    begun = time.monotonic()
    drain(server)
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    assert time.monotonic() - begun < 15
    assert "hook: worker_exit" in server.log
    assert "hook: atexit" in server.log
    assert f"Worker (pid:{worker.pid}) exited with code" not in server.log
    assert "was sent" not in server.log


def test_a_thread_that_works_is_waited_for(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe")
    assert server.get("/work-in-thread?1.5").status == 200
    drain(server)
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    # While the heart still beats and no hook of the end has run.
    assert server.log.index("thread is done") < server.log.index("Worker exiting")


@pytest.mark.load
@pytest.mark.parametrize("fault", ["hangs", "raises", "fails"])
def test_a_shutdown_that_goes_wrong_ends_the_worker_in_time(gunicorns: GunicornStarter, fault: str) -> None:
    server = gunicorns.start(f"lifespans:shutdown_{fault}", "--graceful-timeout", "3")
    assert server.get("/").status == 200
    assert server.stop() == 0
    expected = {
        "hangs": r"\[ERROR\] ASGI lifespan shutdown did not end within \d\.\d s; cancelled",
        "raises": r"\[ERROR\] Exception in ASGI lifespan shutdown\nTraceback",
        "fails": r"\[ERROR\] ASGI lifespan shutdown failed: the tide is out",
    }[fault]
    assert re.search(expected, server.log)
    assert "Worker exiting" in server.log


def test_a_worker_that_quits_leaves_waiting_connections_to_the_others(gunicorns: GunicornStarter) -> None:
    """The queue of a listener belongs to all of them."""
    server = gunicorns.start("probe", "--workers", "2")
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    first, second = server.worker_pids
    os.kill(second, signal.SIGSTOP)
    try:
        os.kill(first, signal.SIGQUIT)
        server.wait_for_log(rf"Worker exiting \(pid: {first}\)")
        with server.connect() as connection:
            connection.send(request("/pid"))
            os.kill(second, signal.SIGCONT)
            assert int(connection.read_response().body) in (second, *server.worker_pids[2:])
    finally:
        os.kill(second, signal.SIGCONT)


def test_term_lets_a_running_request_finish(gunicorns: GunicornStarter, journal: Path) -> None:
    server = gunicorns.start("probe", "--keep-alive", "60", env={"PROBE_JOURNAL": str(journal)})
    with server.connect() as idle, server.connect() as busy:
        idle.get("/hello")
        busy.send(request("/whole-body", method="POST", fields="Content-Length: 200000\r\n") + b"a" * 100_000)
        idle.get("/journal/begun")
        server.signal(signal.SIGTERM)
        # The idle connection is the first to go: when it has ended, the drain has begun.
        assert idle.is_closed_by_server()
        assert "shutdown" not in journal.read_text()
        busy.send(b"a" * 100_000)
        response = busy.read_response()
        assert response.body == b"a" * 200_000
        assert response.get(b"connection") == b"close"
        assert busy.is_closed_by_server()
    assert server.wait() == 0
    assert journal.read_text().splitlines() == ["startup", "begun", "shutdown"]
    assert "ERROR" not in server.log


def test_a_request_longer_than_graceful_timeout_is_cancelled(gunicorns: GunicornStarter, journal: Path) -> None:
    server = gunicorns.start("probe", "--graceful-timeout", "2", env={"PROBE_JOURNAL": str(journal)})
    with server.connect() as connection:
        connection.send(request("/hold"))
        server.get("/journal/held")
        assert server.stop() == 0
    assert journal.read_text().splitlines() == ["startup", "held", "cancelled", "shutdown"]
    assert ", 1 cancelled, 0 connections cut" in server.log


def test_a_response_under_way_is_finished(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe")
    with server.connect() as connection:
        connection.send(request("/download?200"))
        connection.read_until(b"\r\n\r\n")
        server.signal(signal.SIGTERM)
        server.wait_for_log("Handling signal: term")
        received = 0
        while size := int(connection.read_until(b"\r\n"), 16):
            connection.read_exactly(size + 2)
            received += size
        assert received == 200 * 65536
    assert server.wait() == 0


def test_hup_replaces_the_workers_without_losing_a_request(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe")
    old = int(server.get("/pid").body)
    with server.connect() as connection:
        connection.send(request("/whole-body", method="POST", fields="Content-Length: 4\r\n"))
        server.get("/journal/begun")
        server.signal(signal.SIGHUP)
        server.wait_for_log(r"(?s)Booting worker.*Booting worker")
        connection.send(b"body")
        assert connection.read_response().body == b"body"
    psutil.wait_procs([psutil.Process(old)] if psutil.pid_exists(old) else [], timeout=20)
    assert int(server.get("/pid").body) == server.worker_pids[-1] != old
