"""The access log and the error log of real processes: what is in them, and what becomes of those that cannot be
written."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from xprocess import XProcess

from tests.support.gunicorn import KNOWN_SETTINGS, Gunicorn, GunicornStarter
from tests.support.http1 import TIMEOUT_SECONDS, request

FORMAT = "%(s)s %(B)s %(D)s <%(r)s>"


@pytest.fixture(scope="module")
def server(xprocess: XProcess) -> Iterator[Gunicorn]:
    starter = GunicornStarter(xprocess)
    yield starter.start("probe", "--access-logfile", "-", "--access-logformat", FORMAT)
    starter.end_all()


def line(server: Gunicorn, pattern: str) -> re.Match[str]:
    """The line of the access log for a request: status, bytes and duration."""
    return server.wait_for_log(rf"(?m)^(\d+) (\d+) (\d+) <{pattern}>$")


# What is in it


def test_a_stream_is_logged_with_all_its_bytes(server: Gunicorn) -> None:
    assert len(server.get("/download?3").body) == 3 * 65536
    assert line(server, r"GET /download\?3 HTTP/1\.1").groups()[:2] == ("200", str(3 * 65536))


def test_the_answer_to_head_has_no_bytes(server: Gunicorn) -> None:
    assert server.get("/hello?head", method="HEAD").status == 200
    assert line(server, r"HEAD /hello\?head HTTP/1\.1").groups()[:2] == ("200", "0")


def test_an_application_that_fails_in_the_middle_is_logged_with_what_it_sent(server: Gunicorn) -> None:
    with server.connect() as connection:
        connection.send(request("/fail-after-head"))
        with pytest.raises((ConnectionError, EOFError)):
            connection.read_response()
    status, sent_bytes, _ = line(server, r"GET /fail-after-head HTTP/1\.1").groups()
    assert (status, sent_bytes) == ("200", str(len(b"the beginning")))


def test_a_client_that_leaves_before_its_answer_is_499(server: Gunicorn) -> None:
    with server.connect() as connection:
        connection.send(request("/await-disconnect?499"))
        server.get("/journal/waiting-499")
        connection.reset()
    assert line(server, r"GET /await-disconnect\?499 HTTP/1\.1").groups()[:2] == ("499", "0")


@pytest.mark.parametrize("ends", ["return", "raise"])
def test_a_client_that_closes_before_its_answer_is_499(server: Gunicorn, ends: str) -> None:
    """The end of its sending side is all that the server sees: the application is told, and ends."""
    with server.connect() as connection:
        connection.send(request(f"/long-poll?{ends}"))
        server.get(f"/journal/waiting-{ends}")
    assert line(server, rf"GET /long-poll\?{ends} HTTP/1\.1").groups()[:2] == ("499", "0")
    assert "ClientDisconnect" not in server.log


def test_a_client_that_leaves_in_the_middle_is_logged_with_what_was_sent(server: Gunicorn) -> None:
    with server.connect() as connection:
        connection.send(request("/endless"))
        connection.read_until(b"\r\n\r\n")
        connection.reset()
    status, sent_bytes, _ = line(server, r"GET /endless HTTP/1\.1").groups()
    assert status == "200"
    assert int(sent_bytes) > 0


def test_the_duration_is_that_of_the_whole_response(server: Gunicorn) -> None:
    """Of an application that waits for a client which takes its time with the request body."""
    with server.connect() as connection:
        connection.send(request("/whole-body", fields="Content-Length: 4\r\n", method="POST"))
        server.get("/journal/begun")
        time.sleep(0.3)  # The passing of time is what is tested.
        connection.send(b"body")
        assert connection.read_response().body == b"body"
    assert int(line(server, r"POST /whole-body HTTP/1\.1")[3]) >= 300_000


@pytest.mark.parametrize(
    ("data", "status", "shown"),
    [
        (b"GET /no-host HTTP/1.1\r\n\r\n", 400, r"GET /no-host HTTP/1\.1"),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, r"GET /a{1023} HTTP/1\.1"),
        (b"GET /large HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431, r"GET /large HTTP/1\.1"),
        (b"\x1b[31m\xff\r\n\r\n", 400, r"- - HTTP/1\.1"),
        (b"POST /chunk HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, r"POST /chunk HTTP/1\.1"),
    ],
)
def test_a_refused_request_has_a_line_in_both_logs(server: Gunicorn, data: bytes, status: int, shown: str) -> None:
    with server.connect() as connection:
        connection.send(data)
        response = connection.read_response()
    assert response.status == status
    logged = line(server, shown)
    assert logged.groups()[:2] == (str(status), str(len(response.body)))
    server.wait_for_log(rf"\[WARNING\] Refused request from 127\.0\.0\.1: {status} [a-z0-9-]+\n")
    assert "\x1b" not in server.log
    assert "\udcff" not in server.log


def test_a_request_that_never_ends_has_a_line(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start(
        *("probe", "--access-logfile", "-", "--access-logformat", FORMAT), env={"GUNICORN_ASGI_HEADER_TIMEOUT": "1"}
    )
    with server.connect() as connection:
        connection.send(b"GET /slow HTTP/1.1\r\nHos")
        assert connection.read_response().status == 408
    assert line(server, r"GET /slow HTTP/1\.1")[1] == "408"


def refuse(server: Gunicorn, times: int) -> int:
    """Send so many requests that are refused. How many seconds were begun meanwhile."""
    begun = time.monotonic()
    for _ in range(times):
        with server.connect() as connection:
            connection.send(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.read_response().status == 400
    return int(time.monotonic() - begun) + 2


def refusals(server: Gunicorn) -> tuple[int, int]:
    """How many have a line, and how many a line has counted."""
    lines = server.log.count("Refused request from 127.0.0.1: 400 missing-host")
    counted = re.findall(r"(\d+) more refused requests in one second were not logged", server.log)
    return lines, sum(map(int, counted))


def test_a_flood_of_refused_requests_is_no_flood_of_lines(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe")
    seconds = refuse(server, 200)
    if 10 * seconds < 200:  # Else the machine is so busy that there was no flood.
        server.wait_for_log("more refused requests in one second were not logged")
    assert server.stop() == 0
    lines, counted = refusals(server)
    assert 10 <= lines <= 10 * seconds
    assert lines + counted == 200


def test_how_many_refused_requests_have_no_line_is_told_at_the_end_too(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe")
    refuse(server, 50)
    server.signal(signal.SIGQUIT)
    assert server.wait() == 0
    lines, counted = refusals(server)
    assert lines + counted == 50


# Where it goes


def test_what_an_application_attaches_when_it_starts_gets_every_line(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("logging_at_startup", "--access-logfile", "-", "--access-logformat", "%(U)s %(s)s")
    for target in ("/one", "/healthy", "/two"):
        assert server.get(target).body == b"hello"
    server.wait_for_log("(?m)^/two 200$")
    logged = server.wait_for_log(r'(?m)^({"level": .*/two 200"})$')
    assert json.loads(logged[1]) == {"level": "INFO", "access": "/two 200"}
    assert server.log.count("/one 200") == 2, "the handler of the application and that of Gunicorn"
    assert "/healthy" not in server.log


LOGCONFIG = """
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "tests.integration.apps.logging_at_startup.JSONFormatter"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler"},
        "json": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"},
    },
    "root": {"handlers": ["json"], "level": "INFO"},
    "loggers": {
        "gunicorn.access": {"handlers": ["json"], "level": "INFO", "propagate": False},
        "gunicorn.error": {"handlers": ["console"], "level": "INFO", "propagate": False},
    },
}
access_log_format = "%(U)s %(s)s"
"""


def test_a_logging_configuration_decides_about_the_lines(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    configuration = tmp_path / "gunicorn.conf.py"
    configuration.write_text(LOGCONFIG)
    server = gunicorns.start("probe", "--config", str(configuration))
    assert server.get("/hello").body == b"hello"
    logged = server.wait_for_log(r'(?m)^({"level": .*})$')
    assert json.loads(logged[1]) == {"level": "INFO", "access": "/hello 200"}


@pytest.mark.skipif("logconfig_json" not in KNOWN_SETTINGS, reason="this Gunicorn has no logconfig_json")
def test_a_logging_configuration_in_json(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    configuration = tmp_path / "log.json"
    configuration.write_text(
        json.dumps(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"marked": {"format": "marked: %(message)s"}},
                "handlers": {
                    "console": {"class": "logging.StreamHandler"},
                    "marked": {"class": "logging.StreamHandler", "formatter": "marked"},
                },
                "loggers": {
                    "gunicorn.access": {"handlers": ["marked"], "level": "INFO", "propagate": False},
                    "gunicorn.error": {"handlers": ["console"], "level": "INFO", "propagate": False},
                },
            }
        )
    )
    server = gunicorns.start("probe", "--log-config-json", str(configuration), "--access-logformat", "%(U)s %(s)s")
    assert server.get("/hello").body == b"hello"
    server.wait_for_log("(?m)^marked: /hello 200$")


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(TIMEOUT_SECONDS)
        yield sock


def receive_until(sock: socket.socket, *patterns: str) -> str:
    """All that was received until each of the patterns was in it."""
    text = ""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while missing := [pattern for pattern in patterns if not re.search(pattern, text)]:
        assert time.monotonic() < deadline, f"{missing} not in {text}"
        text += sock.recv(65536).decode() + "\n"
    return text


def test_lines_go_to_syslog(gunicorns: GunicornStarter, datagrams: socket.socket) -> None:
    port = datagrams.getsockname()[1]
    server = gunicorns.start(
        *("probe", "--log-syslog", "--log-syslog-to", f"udp://127.0.0.1:{port}", "--access-logformat", "%(U)s %(s)s")
    )
    assert server.get("/hello").body == b"hello"
    receive_until(datagrams, r"gunicorn\.\S*access: \[\d+\] /hello 200")


def test_accesses_can_be_kept_out_of_syslog(gunicorns: GunicornStarter, datagrams: socket.socket) -> None:
    port = datagrams.getsockname()[1]
    server = gunicorns.start(
        *("probe", "--log-syslog", "--log-syslog-to", f"udp://127.0.0.1:{port}"),
        *("--disable-redirect-access-to-syslog", "--access-logfile", "-", "--access-logformat", "%(U)s %(s)s"),
    )
    assert server.get("/hello").body == b"hello"
    server.wait_for_log("(?m)^/hello 200$")
    with server.connect() as connection:
        connection.send(b"nonsense\r\n\r\n")
        connection.read_response()
    assert "/hello" not in receive_until(datagrams, "Refused request")


def test_metrics_have_the_tags_of_dogstatsd(gunicorns: GunicornStarter, datagrams: socket.socket) -> None:
    port = datagrams.getsockname()[1]
    server = gunicorns.start("probe", "--statsd-host", f"127.0.0.1:{port}", "--dogstatsd-tags", "place:here")
    assert server.get("/hello").body == b"hello"
    receive_until(
        datagrams,
        r"gunicorn\.requests:1\|c(\|@1\.0)?\|#place:here",
        r"gunicorn\.worker\.\d+\.connections:\d+\|g\|#place:here",
    )


@pytest.mark.parametrize(
    ("options", "env", "lines"),
    [
        ((), {}, 0),
        (("--access-logfile", "-"), {}, 3),
        (("--access-logfile", "-"), {"GUNICORN_ASGI_ACCESS_LOG": "false"}, 0),
        (("--access-logfile", "-"), {"GUNICORN_ASGI_LOG_LEVEL": "warning"}, 0),
    ],
    ids=["no access log", "access log", "access log turned off", "log level above it"],
)
def test_statsd_gets_its_metrics_with_and_without_an_access_log(
    gunicorns: GunicornStarter,
    datagrams: socket.socket,
    options: tuple[str, ...],
    env: dict[str, str],
    lines: int,
) -> None:
    port = datagrams.getsockname()[1]
    server = gunicorns.start(
        *("probe", "--statsd-host", f"127.0.0.1:{port}", "--statsd-prefix", "site", "--keep-alive", "60", *options),
        env=env,
    )
    with server.connect() as connection:
        for _ in range(3):
            assert connection.get("/hello").body == b"hello"
        text = receive_until(
            datagrams,
            r"(?s)(site\.gunicorn\.requests:1\|c.*){3}",
            r"(?s)(site\.gunicorn\.request\.status\.200:1\|c.*){3}",
            r"(?s)(site\.gunicorn\.request\.duration:[0-9.]+\|ms.*){3}",
            r"site\.gunicorn\.worker\.\d+\.connections:1\|g",
            r"site\.gunicorn\.worker\.\d+\.in_flight:0\|g",
            r"site\.gunicorn\.worker\.\d+\.loop_lag:\d+\|g",
        )
    assert text.count("site.gunicorn.requests:1|c") == 3
    assert server.log.count('"GET /hello HTTP/1.1" 200') == lines


# Where it cannot go


def test_a_full_disk_never_reaches_a_request(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--access-logfile", "/dev/full")
    with server.connect() as connection:
        for _ in range(100):
            assert connection.get("/hello").body == b"hello"
    server.wait_for_log(r"\[ERROR\] The access log cannot be written: OSError\(28")
    assert server.log.count("cannot be written") < 10
    assert server.log.count("Traceback") == 0
    assert server.stop() == 0


def test_a_closed_pipe_never_reaches_a_request(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    server = gunicorns.start("probe", "--access-logfile", str(pipe))
    assert server.get("/hello").body == b"hello"
    os.close(reader)
    with server.connect() as connection:
        for _ in range(20):
            assert connection.get("/hello").body == b"hello"
    server.wait_for_log(r"\[ERROR\] The access log cannot be written: BrokenPipeError")
    assert server.log.count("cannot be written") < 10
    assert server.stop() == 0


REOPENED = """\
import logging

logging.raiseExceptions = False
logconfig_dict = {{
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {{"line": {{"format": "%(message)s"}}}},
    "handlers": {{
        "full": {{"class": "logging.FileHandler", "filename": {full!r}, "formatter": "line"}},
        "access": {{"class": "logging.FileHandler", "filename": {access!r}, "formatter": "line"}},
        "console": {{"class": "logging.StreamHandler", "formatter": "line"}},
    }},
    "root": {{"level": "INFO", "handlers": []}},
    "loggers": {{
        "gunicorn.error": {{"level": "INFO", "handlers": ["full", "console"], "propagate": False}},
        "gunicorn.access": {{"level": "INFO", "handlers": ["access"], "propagate": False}},
    }},
}}
"""


def test_a_full_disk_does_not_keep_other_log_files_from_being_reopened(
    gunicorns: GunicornStarter, tmp_path: Path
) -> None:
    full, access = tmp_path / "full", tmp_path / "access"
    full.symlink_to("/dev/full")
    (tmp_path / "conf.py").write_text(REOPENED.format(full=str(full), access=str(access)))
    server = gunicorns.start("probe", "--config", str(tmp_path / "conf.py"))
    server.get("/target/before")
    server.wait_for_text(access, "/target/before")
    full.unlink()
    access.rename(tmp_path / "rotated")
    os.kill(int(server.get("/pid").body), signal.SIGUSR1)
    server.wait_for_log(r"A log file cannot be reopened: OSError\(28, ")
    server.get("/target/behind")
    server.wait_for_text(access, "/target/behind")
    assert server.stop() == 0
    assert "Drained in" in full.read_text(), "what has found no room before goes on"
    assert "Traceback" not in server.log
