"""A worker from boot to exit."""

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.gunicorn import KNOWN_SETTINGS, Gunicorn, GunicornStarter, run_gunicorn
from tests.support.http1 import request


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where the probe application writes what outlives it."""
    return tmp_path / "journal"


# Boot


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


def test_a_blocked_loop_is_killed(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--timeout", "2")
    with server.connect() as connection:
        connection.send(request("/block-loop"))
        server.wait_for_log(rf"WORKER TIMEOUT \(pid:{server.worker_pids[0]}\)")
        server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    assert int(server.get("/pid").body) == server.worker_pids[1]


def test_missing_uvloop_is_one_line_and_serves(gunicorns: GunicornStarter, without: dict[str, str]) -> None:
    server = gunicorns.start("probe", env={**without, "BLOCKED_IMPORTS": "uvloop"})
    assert server.get("/hello").status == 200
    assert server.log.count("uvloop is not installed") == 1


def test_uvloop_is_used(gunicorns: GunicornStarter) -> None:
    pytest.importorskip("uvloop")
    server = gunicorns.start("probe")
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


# End


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_runs_the_shutdown(gunicorns: GunicornStarter, journal: Path, number: signal.Signals) -> None:
    server = gunicorns.start("probe", env={"PROBE_JOURNAL": str(journal)})
    with server.connect() as connection:
        connection.send(request("/hold"))
        server.get("/journal/held")
        begun = time.monotonic()
        server.signal(number)
        assert server.wait() == 0
        assert time.monotonic() - begun < 5
    assert journal.read_text().splitlines() == ["startup", "held", "cancelled", "shutdown"]
    assert "Traceback" not in server.log


def test_term_during_the_startup(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", env={"PROBE_STARTUP_SECONDS": "60"})
    server.wait_for_log("Booting worker")
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 4


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


RELOADED = """\
from tests.integration.apps.probe import respond


async def app(scope, receive, send):
    if scope["type"] == "http":
        await respond(send, b"{}")
"""


def test_a_changed_file_is_reloaded(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    # The directories of the tests are namespace packages: a second path may add to them.
    path = tmp_path / "tests" / "integration" / "apps" / "reloaded.py"
    path.parent.mkdir(parents=True)
    path.write_text(RELOADED.format("before"))
    server = gunicorns.start(
        "reloaded", "--reload", "--reload-engine", "poll", "--keep-alive", "60", env={"PYTHONPATH": str(tmp_path)}
    )
    with server.connect() as idle:
        assert idle.get("/").body == b"before"
        path.write_text(RELOADED.format("after"))
        # Only a file that changes after the first look of the reloader has changed for it.
        changed = time.time()
        begun = time.monotonic()
        while "Worker reloading" not in server.log:
            changed += 1
            os.utime(path, (changed, changed))
            assert time.monotonic() - begun < 20
        assert idle.is_closed_by_server()
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    assert server.get("/").body == b"after"
    assert "SIGKILL" not in server.log
    assert "WORKER TIMEOUT" not in server.log


# Logs


def test_no_access_log_unless_asked_for(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe")
    server.get("/hello")
    assert "/hello" not in server.log
    assert "HTTP/1.1" not in server.log


def test_access_log_on_standard_output(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--access-logfile", "-")
    server.get("/hello?a=b", fields="User-Agent: tester\r\nReferer: http://example.com/\r\n")
    server.wait_for_log(
        r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /hello\?a=b HTTP/1\.1" 200 5 '
        r'"http://example.com/" "tester"\n'
    )


def test_refused_and_failed_requests_in_the_access_log(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--access-logfile", "-")
    server.get("/fail")
    server.wait_for_log(r'"GET /fail HTTP/1\.1" 500 21 ')


ATOMS = {name: f"%({name})s" for name in ("h", "l", "u", "r", "s", "m", "U", "q", "H", "b", "B", "f", "a")}
FORMAT = "|".join([*ATOMS.values(), "%({x-one}i)s", "%({content-type}o)s", "%({x-none}i)s", "%({raw_uri}e)s", "%(x)s"])

LOGGED = [
    request("/plain"),
    request("/query?a=b&c=%20"),
    request("/head", method="HEAD"),
    request("/options", method="OPTIONS"),
    request("/upload", method="POST", body=b"body"),
    request("/a%20b/%C3%BC?%C3%BC"),
    request("/fields", fields='X-One: 1\r\nUser-Agent: a "quoted" agent\r\nReferer: http://example.com/?a="b"\r\n'),
    request("/latin", fields="User-Agent: \xe4\xf6\xfc\r\n"),
    request("/backslash", fields="User-Agent: a\\b\r\n"),
    request("/basic", fields="Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n"),
    request("/bad-basic", fields="Authorization: Basic ???\r\n"),
    request("/other-scheme", fields="Authorization: Bearer dXNlcg==\r\n"),
    request("/missing"),
    request("/empty"),
    request("/old", version="1.0"),
    request("/forwarded", fields="X-One: a, b\r\n"),
]


def access_lines(gunicorns: GunicornStarter, path: Path, app: str, worker: str) -> list[str]:
    server = gunicorns.start(
        app, "--access-logfile", str(path), "--access-logformat", FORMAT, worker=worker, env={"PYTHONUTF8": "1"}
    )
    for data in LOGGED:
        with server.connect() as connection:
            connection.send(data)
            connection.read_response(head_only=data.startswith(b"HEAD"))
    assert server.stop() == 0
    return path.read_text("utf-8", "surrogateescape").splitlines()


def test_access_log_is_that_of_gthread(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    ours = access_lines(gunicorns, tmp_path / "ours", "access_asgi", "gunicorn_asgi.Worker")
    theirs = access_lines(gunicorns, tmp_path / "theirs", "access_wsgi", "gthread")
    assert len(ours) == len(theirs) == len(LOGGED)
    assert [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]] == []


def test_control_characters_are_escaped_in_the_access_log(gunicorns: GunicornStarter) -> None:
    """The one difference to gthread, which writes them as they come."""
    server = gunicorns.start("probe", "--access-logfile", "-")
    server.get("/hello", fields="User-Agent: a\tb\x85c\r\n")
    server.wait_for_log(r'"GET /hello HTTP/1\.1" 200 5 "-" "a\\tb\\x85c"\n')


def test_access_log_through_a_logger_class_of_the_user(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    (tmp_path / "own_logger.py").write_text(
        "from gunicorn.glogging import Logger\n\n\n"
        "class OwnLogger(Logger):\n"
        "    def access(self, resp, req, environ, request_time):\n"
        "        self.error_log.info('own %s %s', resp.status, environ['RAW_URI'])\n"
    )
    server = gunicorns.start("probe", "--logger-class", "own_logger.OwnLogger", env={"PYTHONPATH": str(tmp_path)})
    server.get("/hello?x")
    server.wait_for_log(r"own 200 OK /hello\?x\n")


def test_usr1_reopens_the_access_log(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    path = tmp_path / "access"
    server = gunicorns.start("probe", "--access-logfile", str(path))
    server.get("/target/before")
    server.wait_for_text(path, "/target/before")
    path.rename(tmp_path / "rotated")
    server.signal(signal.SIGUSR1)
    # Until the worker has handled the signal, its lines go on into the old file.
    requests = 0
    while not path.exists() or "/target/after" not in path.read_text():
        server.get("/target/after")
        requests += 1
        assert requests < 5000
    assert server.stop() == 0
    logged = (tmp_path / "rotated").read_text() + path.read_text()
    assert logged.count("/target/before") == 1
    assert logged.count("/target/after") == requests


# Listeners and proxies


def test_unix_socket(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = gunicorns.start("probe", bind=f"unix:{path}")
    assert server.address == str(path)
    scope = json.loads(server.get("/scope").body)
    assert scope["server"] == [str(path), None]
    assert scope["client"] is None
    assert server.stop() == 0
    assert not path.exists()


def test_several_binds(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = gunicorns.start("probe", "--bind", f"unix:{path}")
    assert server.get("/hello").status == 200
    server.address = str(path)
    assert server.get("/hello").status == 200


def test_ipv6(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", bind="[::1]:0")
    server.address = ("::1", int(re.findall(r"Listening at: http://\[::1\]:(\d+)", server.log)[0]))
    scope = json.loads(server.get("/scope").body)
    assert scope["client"][0] == scope["server"][0] == "::1"


FORWARDED = "X-Forwarded-For: 192.0.2.1, 198.51.100.7\r\nX-Forwarded-Proto: https\r\n"


def test_a_trusted_proxy_speaks_for_its_client(probe: Gunicorn) -> None:
    scope = json.loads(probe.get("/scope", fields=FORWARDED).body)
    assert scope["scheme"] == "https"
    assert scope["client"] == ["198.51.100.7", 0]


def test_others_speak_for_themselves(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--forwarded-allow-ips", "192.0.2.200")
    scope = json.loads(server.get("/scope", fields=FORWARDED).body)
    assert scope["scheme"] == "http"
    assert scope["client"][0] == "127.0.0.1"
    assert ["x-forwarded-proto", "https"] in scope["headers"]
