"""A worker from the fork to its first request, and workers that do not get there."""

import itertools
import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.gunicorn import KNOWN_SETTINGS, GunicornStarter, run_gunicorn


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A module of the application that can be changed."""
    # The directories of the tests are namespace packages: a second path may add to them.
    path = tmp_path / "tests" / "integration" / "apps" / "changing.py"
    path.parent.mkdir(parents=True)
    return path


def test_nothing_of_a_worker_is_made_before_the_fork(gunicorns: GunicornStarter) -> None:
    """Also where the application is loaded there: no event loop, no thread."""
    server = gunicorns.start("probe", "--preload", "--workers", "2")
    server.get("/hello")
    master = psutil.Process(server.pid)
    # Newer versions of Gunicorn have a thread of their own for their control socket, which the tests switch off.
    assert master.num_threads() == 1
    files = [str(file.readlink()) for file in Path(f"/proc/{server.pid}/fd").iterdir()]
    assert not [file for file in files if "eventpoll" in file]


def test_a_startup_that_hangs_is_ended(tmp_path: Path) -> None:
    code, output = run_gunicorn("probe", env={"PROBE_STARTUP_SECONDS": "60", "GUNICORN_ASGI_STARTUP_TIMEOUT": "0.5"})
    assert code == 3
    assert output.count("Application startup failed: it was not complete within 0.5 s (startup_timeout)") == 1
    assert "not supported" not in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("phase", ["import", "lifespan"])
def test_a_worker_that_starts_leaves_when_it_is_told_to(
    gunicorns: GunicornStarter, number: signal.Signals, phase: str
) -> None:
    env = {"PROBE_STARTUP_SECONDS": "60"} if phase == "lifespan" else {"PROBE_IMPORT_SECONDS": "60"}
    server = gunicorns.start("probe", env=env)
    worker = psutil.Process(server.worker_pids[0])
    server.wait_for_log(f"probe: {phase} has begun")
    begun = time.monotonic()
    worker.send_signal(number)
    server.wait_for_log(rf"Worker exiting \(pid: {worker.pid}\)")
    assert time.monotonic() - begun < 10
    assert "Traceback" not in server.log
    assert "exited with code" not in server.log
    assert "was sent" not in server.log


def test_a_signal_between_the_fork_and_the_first_handler_is_not_lost(
    gunicorns: GunicornStarter, tmp_path: Path
) -> None:
    """There it reaches the handler of the master, which the worker has inherited."""
    (tmp_path / "conf.py").write_text(
        "import os, signal\n\n\n"
        "def post_fork(server, worker):\n"
        "    if worker.age == 1:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    server = gunicorns.start("probe", "--config", str(tmp_path / "conf.py"))
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    first, second = server.worker_pids[:2]
    server.wait_for_log(rf"Worker exiting \(pid: {first}\)")
    assert int(server.get("/pid").body) == second
    assert "exited with code" not in server.log
    assert "was sent" not in server.log


WRAPS_WHAT_IT_CATCHES = """\
import sys
import time

print("module: import has begun", file=sys.stderr)
try:
    time.sleep(60)
except BaseException as error:
    raise RuntimeError("no application") from error
"""


def test_an_import_that_fails_because_of_a_signal_to_stop_is_no_failure(
    gunicorns: GunicornStarter, module: Path
) -> None:
    module.write_text(WRAPS_WHAT_IT_CATCHES)
    server = gunicorns.start("changing", env={"PYTHONPATH": str(module.parents[3])})
    server.wait_for_log("module: import has begun")
    os.kill(server.worker_pids[0], signal.SIGTERM)
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    assert "exited with code" not in server.log
    assert "[ERROR]" not in server.log


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("os:getcwd", "makes no event loop but '/"),
        ("os:strerror", "makes no event loop: TypeError("),
    ],
)
def test_a_factory_that_makes_no_event_loop_ends_the_boot(factory: str, reason: str) -> None:
    code, output = run_gunicorn("probe", env={"GUNICORN_ASGI_LOOP": factory})
    assert code == 3
    assert output.count(f"[ERROR] The worker cannot start: loop={factory!r} {reason}") == 1
    assert output.count("Booting worker") == 1


BROKEN = {
    "import": "import nothing_of_this_name",
    "name": "applikation = None",
    "exit": "import sys; sys.exit(1)",
    "lifespan": "async def app(scope, receive, send): await receive(); await send({'type': 'lifespan.startup.failed'})",
}


WORKING = """\
import os
from tests.integration.apps.probe import app
"""


@pytest.mark.parametrize("fault", BROKEN)
def test_a_first_worker_that_cannot_start_ends_the_master(module: Path, fault: str) -> None:
    module.write_text(BROKEN[fault])
    code, output = run_gunicorn("changing", env={"PYTHONPATH": str(module.parents[3])})
    assert code == 3
    assert output.count("Booting worker") == 1
    lines = [
        line for line in output.splitlines() if "[ERROR] The worker cannot start" in line or "startup failed" in line
    ]
    assert len(lines) == 1


@pytest.mark.load
@pytest.mark.parametrize("fault", ["import", "lifespan"])
def test_a_replacement_that_cannot_start_leaves_the_others_alone_and_heals(
    gunicorns: GunicornStarter, module: Path, fault: str
) -> None:
    module.write_text(WORKING)
    server = gunicorns.start("changing", "--workers", "2", env={"PYTHONPATH": str(module.parents[3])})
    server.wait_for_log(r"(?s)(lifespan has begun.*){2}")  # Both have imported what is going to be broken.
    first, second = server.worker_pids
    server.get("/hello")
    module.write_text(BROKEN[fault])
    os.kill(first, signal.SIGKILL)
    server.wait_for_log(r"(?s)(exited with code 1.*){2}")
    assert int(server.get("/pid").body) == second
    # At most one attempt a second; the master adds its own pace.
    times = re.findall(r":(\d\d) \+\d{4}\] \[\d+\] \[INFO\] Booting worker", server.log)
    attempts = [int(time) for time in times[2:]]
    assert len(attempts) <= 60
    assert all((later - earlier) % 60 >= 1 for earlier, later in itertools.pairwise(attempts))
    module.write_text(WORKING)
    deadline = time.monotonic() + 30
    while int(server.get("/pid").body) == second:
        assert time.monotonic() < deadline, server.log
    assert server.stop() == 0


def test_lifespan_state_reaches_requests(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("lifespans:shared_state")
    assert server.get("/a").body == b"['/a'] False"
    assert server.get("/b").body == b"['/a', '/b'] False", "the dict is copied for each request, what it holds is not"


def test_lifespan_auto_serves_applications_without_lifespan(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("lifespans:raises")
    assert server.get("/").body == b"hello"
    assert "[INFO] ASGI lifespan is not supported by the application: KeyError('lifespan')" in server.log
    assert "ERROR" not in server.log


needs_asgi_settings = pytest.mark.skipif(
    "asgi_lifespan" not in KNOWN_SETTINGS, reason="this Gunicorn has no setting asgi_lifespan"
)


@needs_asgi_settings
def test_lifespan_off_does_not_ask(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("lifespans:counts_lifespans", "--asgi-lifespan", "off")
    assert server.get("/").body == b"{}"


@needs_asgi_settings
def test_lifespan_on_demands_it() -> None:
    code, output = run_gunicorn("lifespans:raises", "--asgi-lifespan", "on")
    assert code == 3
    assert "KeyError: 'lifespan'" in output
    assert output.count("[ERROR] Application startup failed") == 1


def test_startup_failed_ends_the_master(tmp_path: Path) -> None:
    code, output = run_gunicorn("lifespans:startup_failed")
    assert code == 3
    errors = [line for line in output.splitlines() if "[ERROR]" in line and "pid" not in line]
    assert [line.partition("[ERROR] ")[2] for line in errors if "Application" in line] == [
        "Application startup failed: the database is away"
    ]
    assert "Traceback" not in output


def test_an_exit_in_the_startup_ends_the_master() -> None:
    code, output = run_gunicorn("lifespans:exits")
    assert code == 3
    lines = [line for line in output.splitlines() if "[ERROR]" in line and "Application" in line]
    assert [line.partition("[ERROR] ")[2] for line in lines] == [
        "Application startup failed: the application raised SystemExit(1)"
    ]
    assert output.count("Booting worker") == 1


def test_a_long_startup_is_not_killed(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--timeout", "1", env={"PROBE_STARTUP_SECONDS": "4"})
    assert server.get("/pid").body == b"%d" % server.worker_pids[0]
    assert "WORKER TIMEOUT" not in server.log


def test_missing_uvloop_is_one_line_and_serves(gunicorns: GunicornStarter, without: dict[str, str]) -> None:
    server = gunicorns.start("probe", worker="gunicorn_asgi.Worker", env={**without, "BLOCKED_IMPORTS": "uvloop"})
    assert server.get("/hello").status == 200
    assert server.log.count("uvloop is not installed") == 1


def test_uvloop_is_used(gunicorns: GunicornStarter) -> None:
    pytest.importorskip("uvloop")
    server = gunicorns.start("probe", worker="gunicorn_asgi.Worker")
    server.get("/hello")
    assert "uvloop" not in server.log
    libraries = {Path(mapping.path).parent.name for mapping in psutil.Process(server.worker_pids[0]).memory_maps()}
    assert "uvloop" in libraries


def test_the_alias_of_uvicorns_worker(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", worker="gunicorn_asgi.workers.UvicornWorker")
    assert server.get("/hello").get(b"server") == b"gunicorn-asgi"


def test_preload_and_several_workers(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--preload", "--workers", "2")
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    assert int(server.get("/pid").body) in server.worker_pids
    for pid in server.worker_pids:
        assert psutil.Process(pid).ppid() == server.pid
    assert server.stop() == 0
