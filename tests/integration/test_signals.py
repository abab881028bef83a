"""Signals to a worker and to all of a terminal, and what runs at the end of a worker."""

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.gunicorn import GunicornStarter
from tests.support.http1 import request

HOOKS = """\
import atexit


def note(worker, what):
    worker.log.info("hook: %s", what)


def post_worker_init(worker):
    note(worker, "post_worker_init")
    atexit.register(note, worker, "atexit")


def worker_int(worker):
    note(worker, "worker_int")


def worker_exit(server, worker):
    note(worker, "worker_exit")


def child_exit(server, worker):
    note(worker, "child_exit")
"""


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where the probe application writes what outlives it."""
    return tmp_path / "journal"


@pytest.fixture
def hooks(tmp_path: Path) -> tuple[str, str]:
    """Options of Gunicorn: hooks that log their names."""
    path = tmp_path / "hooks.py"
    path.write_text(HOOKS)
    return "--config", str(path)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2, signal.SIGWINCH])
def test_signals_that_are_meant_for_the_master_do_nothing_to_a_worker(
    gunicorns: GunicornStarter, number: signal.Signals
) -> None:
    server = gunicorns.start("probe")
    worker = int(server.get("/pid").body)
    with server.connect() as connection:
        connection.get("/hello")
        for _ in range(3):
            os.kill(worker, number)
            assert connection.get("/pid").body == b"%d" % worker
    assert server.log.count("Booting worker") == 1


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGTERM, ["post_worker_init", "worker_exit", "atexit"]),
        (signal.SIGINT, ["post_worker_init", "worker_int", "worker_exit", "atexit"]),
        (signal.SIGQUIT, ["post_worker_init", "worker_int", "worker_exit", "atexit"]),
    ],
)
def test_hooks_at_the_end_of_a_worker(
    gunicorns: GunicornStarter, hooks: tuple[str, str], number: signal.Signals, expected: list[str]
) -> None:
    server = gunicorns.start("probe", *hooks)
    worker = int(server.get("/pid").body)
    os.kill(worker, number)
    server.wait_for_log("hook: child_exit")
    seen = [line.partition("hook: ")[2] for line in server.log.splitlines() if f"[{worker}]" in line and "hook" in line]
    assert seen == expected
    assert "exited with code" not in server.log
    assert "was sent" not in server.log


def test_control_c_in_a_terminal_is_one_clean_stop(gunicorns: GunicornStarter, hooks: tuple[str, str]) -> None:
    """It goes to the master and to each worker, and then the master tells the workers to quit."""
    server = gunicorns.start("probe", "--workers", "2", *hooks)
    server.wait_for_log(r"(?s)(hook: post_worker_init.*){2}")
    with server.connect() as connection:
        connection.send(request("/ticks"))
        connection.read_until(b"tick\r\n")
        begun = time.monotonic()
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait() == 0
        assert time.monotonic() - begun < 10
    assert "Traceback" not in server.log
    assert "KeyboardInterrupt" not in server.log
    assert server.log.count("hook: worker_int") == 2
    assert server.log.count("hook: worker_exit") == 2
    assert "exited with code" not in server.log
    assert "SIGKILL" not in server.log


def test_a_quick_stop_is_quick_whatever_the_application_does(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    journal = tmp_path / "ledger"
    server = gunicorns.start("ledger", env={"LEDGER": str(journal)})
    worker = psutil.Process(server.worker_pids[0])
    with server.connect() as connection:
        connection.send(request("/ignore-cancel/1?60"))
        server.wait_for_text(journal, "begin 1")
        begun = time.monotonic()
        worker.send_signal(signal.SIGQUIT)
        server.wait_for_log(rf"Worker exiting \(pid: {worker.pid}\)")
        assert time.monotonic() - begun < 10
    assert "1 requests have ignored their cancellation" in server.log
    assert "shutdown" in journal.read_text()
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    assert "exited with code" not in server.log


def test_usr1_in_the_middle_of_a_flood_of_lines_drops_none(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    path = tmp_path / "access"
    server = gunicorns.start("probe", "--access-logfile", str(path), "--keep-alive", "30")
    requests = 0
    with server.connect() as connection:
        for number in range(4):
            while (tmp_path / f"rotated.{number}").exists() is False:
                connection.send(request("/target/line") * 20)
                for _ in range(20):
                    connection.read_response()
                requests += 20
                if requests % 60 == 0 and path.exists():
                    path.rename(tmp_path / f"rotated.{number}")
                    server.signal(signal.SIGUSR1)
    assert server.stop() == 0
    logged = "".join(file.read_text() for file in (path, *tmp_path.glob("rotated.*")) if file.exists())
    assert logged.count("/target/line") == requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_runs_the_shutdown(gunicorns: GunicornStarter, journal: Path, number: signal.Signals) -> None:
    server = gunicorns.start("probe", env={"PROBE_JOURNAL": str(journal)})
    with server.connect() as connection:
        connection.send(request("/hold"))
        server.get("/journal/held")
        begun = time.monotonic()
        server.signal(number)
        assert server.wait() == 0
        assert time.monotonic() - begun < 10
    assert journal.read_text().splitlines() == ["startup", "held", "cancelled", "shutdown"]
    assert "Traceback" not in server.log


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_tasks_that_are_left_clean_up_behind_the_shutdown(gunicorns: GunicornStarter, journal: Path, loop: str) -> None:
    server = gunicorns.start(
        "lifespans:leaves_tasks",
        *("--timeout", "1"),
        worker="tests.integration.apps.worker_classes.Lasting",
        env={"PROBE_JOURNAL": str(journal), "GUNICORN_ASGI_LOOP": loop},
    )
    server.wait_for_text(journal, "notified\n")
    assert server.stop() == 0
    shutdown, *ends = journal.read_text().splitlines()[-4:]
    assert shutdown == "shutdown"
    assert sorted(ends) == ["callback has ended", "failing has ended", "working has ended"]
    assert server.log.count("A task has failed when it was cancelled") == 1
    assert server.log.count("RuntimeError: raised on purpose, in the background") == 1
    assert "was destroyed" not in server.log
    assert "exited with code" not in server.log


def test_tasks_that_are_left_clean_up_when_the_application_exits(gunicorns: GunicornStarter, journal: Path) -> None:
    server = gunicorns.start("lifespans:leaves_tasks", env={"PROBE_JOURNAL": str(journal)})
    with server.connect() as connection:
        connection.send(request("/exit"))
        server.wait_for_text(journal, "working has ended\n")
    server.wait_for_log(r"(?s)Worker exiting.*Booting worker")
    assert "was destroyed" not in server.log


def test_term_during_the_startup(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", env={"PROBE_STARTUP_SECONDS": "60"})
    server.wait_for_log("Booting worker")
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 10


def test_a_worker_that_is_asked_to_stop_again_and_again_exits_in_order(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe")
    worker = psutil.Process(int(server.get("/pid").body))
    # Until it is gone, also in the last moments of the interpreter.
    with contextlib.suppress(psutil.NoSuchProcess):
        while worker.status() != psutil.STATUS_ZOMBIE:
            worker.send_signal(signal.SIGTERM)
    server.wait_for_log(r"(?s)Worker exiting.*Booting worker")
    assert "was sent SIGTERM" not in server.log
    assert "exited with code" not in server.log


def test_no_worker_survives(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--workers", "2")
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    pids = server.worker_pids
    server.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
