"""A worker from boot to exit."""

import json
import signal
from pathlib import Path

import pytest

from tests.support.gunicorn import KNOWN_SETTINGS, Gunicorn, GunicornStarter
from tests.support.http1 import request


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where the probe application writes what outlives it."""
    return tmp_path / "journal"


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
FORMAT += "|%({script_name}e)s|%({path_info}e)s"

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
if "forwarder_headers" in KNOWN_SETTINGS:
    LOGGED += [
        request("/app/x", fields="SCRIPT_NAME: /app\r\n"),
        request("/app", fields="SCRIPT_NAME: /app\r\n"),
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


LOGGERS = """
from gunicorn.glogging import Logger


class WithOwnAtoms(Logger):
    def atoms(self, resp, req, environ, request_time):
        return {**super().atoms(resp, req, environ, request_time), "number": 7}


class WithoutFormat(Logger):
    def access(self, resp, req, environ, request_time):
        self.access_log.info("%s took %s%%", req.path, "long")
"""


@pytest.mark.parametrize(
    ("logger", "access_log_format", "line"),
    [("WithOwnAtoms", "%(number)05d %(U)s", "00007 /hello"), ("WithoutFormat", "100%", "/hello took long%")],
)
def test_an_access_log_format_that_only_a_logger_class_of_the_user_can_fill_in(
    gunicorns: GunicornStarter, tmp_path: Path, logger: str, access_log_format: str, line: str
) -> None:
    (tmp_path / "own_loggers.py").write_text(LOGGERS)
    server = gunicorns.start(
        *("probe", "--access-logfile", "-", "--access-logformat", access_log_format),
        *("--logger-class", f"own_loggers.{logger}"),
        env={"PYTHONPATH": str(tmp_path)},
    )
    server.get("/hello")
    server.wait_for_log(rf"(?m)^{line}$")


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


# Proxies


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
