"""Options beyond Gunicorn's settings, and those settings of which the worker itself has to make something."""

import json
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.gunicorn import KNOWN_SETTINGS, Gunicorn, GunicornStarter, run_gunicorn
from tests.support.http1 import Connection, request


def about(server: Gunicorn) -> dict[str, object]:
    response = server.get("/")
    assert response.status == 200, response
    seen: dict[str, object] = json.loads(response.body)
    return seen


def environment(**options: str) -> dict[str, str]:
    return {f"GUNICORN_ASGI_{name.upper()}": value for name, value in options.items()}


# The three ways in


def test_class_environment_and_edits(gunicorns: GunicornStarter) -> None:
    """A subclass with CONFIG_KWARGS that edits `self.config`, and an operator who overrides it."""
    worker = "tests.integration.apps.worker_classes.Configured"
    edited = {"EDIT_ROOT_PATH": "1"}
    server = gunicorns.start("interfaces:about", worker=worker, env=edited)
    assert about(server)["root_path"] == "/edited"
    assert server.get("/").get(b"x-from") == b"class"
    assert server.stop() == 0

    server = gunicorns.start("interfaces:about", worker=worker, env={**edited, **environment(root_path="/operator")})
    assert about(server)["root_path"] == "/operator"


def test_configure_in_a_configuration_file(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    config = tmp_path / "conf.py"
    config.write_text(
        "import gunicorn_asgi\n"
        "worker_class = gunicorn_asgi.Worker.configure(root_path='/file', server_header=False, date_header=False)\n"
    )
    options = [] if "root_path" not in KNOWN_SETTINGS else ["--root-path", "/gunicorn"]
    server = gunicorns.start("interfaces:about", "--config", str(config), *options, worker=None)
    assert about(server)["root_path"] == "/file", "the class wins over Gunicorn's setting"
    response = server.get("/")
    assert response.get(b"server") is None
    assert response.get(b"date") is None


@pytest.mark.skipif("root_path" not in KNOWN_SETTINGS, reason="this Gunicorn has no setting root_path")
def test_gunicorns_setting_without_an_option(gunicorns: GunicornStarter) -> None:
    assert about(gunicorns.start("interfaces:about", "--root-path", "/gunicorn"))["root_path"] == "/gunicorn"


def test_raw_env_sets_options_and_variables(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start(
        "interfaces:about",
        "--env",
        "GUNICORN_ASGI_HEADERS=X-One: 1\nServer: other",
        "--env",
        "READ_WHILE_LOADING=raw_env",
    )
    assert about(server)["loaded_with"] == "raw_env"
    response = server.get("/")
    assert response.get(b"x-one") == b"1"
    assert response.get(b"server") == b"other", "one among the default headers replaces ours"
    with server.connect() as connection:
        connection.send(request("/", fields="Content-Length: x\r\n"))
        assert connection.read_response().get(b"x-one") == b"1", "refusals have them, too"


# The application


@pytest.mark.parametrize(
    ("app", "options", "version"),
    [
        ("about", {}, "3.0"),
        ("plain_function", {}, "3.0"),
        ("Asgi2", {}, "2.0"),
        ("Asgi2", {"interface": "asgi2"}, "2.0"),
        ("make", {"factory": "true"}, "3.0"),
        ("make_with_default", {}, "3.0"),
    ],
)
def test_interfaces(gunicorns: GunicornStarter, app: str, options: dict[str, str], version: str) -> None:
    server = gunicorns.start(f"interfaces:{app}", env=environment(**options))
    versions = about(server)["asgi"]
    assert isinstance(versions, dict)
    assert versions["version"] == version
    assert ("called as a factory" in server.log) is (app == "make_with_default")
    assert "[ERROR]" not in server.log


def test_wsgi(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("interfaces:wsgi", env=environment(interface="wsgi"))
    response = server.get("/path", method="POST", body=b"x" * 100_000)
    assert response.status == 201
    assert response.body == b"POST /path " + b"x" * 100_000
    assert response.get(b"x-thread") != b"MainThread"
    assert server.stop() == 0
    assert "[ERROR]" not in server.log


@pytest.mark.parametrize("worker", ["gunicorn_asgi.Worker", "gthread"])
def test_wsgi_on_a_unix_socket(gunicorns: GunicornStarter, tmp_path: Path, worker: str) -> None:
    """The same as with Gunicorn's own worker."""
    server = gunicorns.start(
        "interfaces:wsgi_addresses", bind=f"unix:{tmp_path}/s", worker=worker, env=environment(interface="wsgi")
    )

    def addresses(host: str) -> tuple[str, str, str]:
        with server.connect() as connection:
            connection.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            seen = json.loads(connection.read_response().body)
            return seen["SERVER_NAME"], seen["SERVER_PORT"], seen["REMOTE_ADDR"]

    assert addresses("example.org") == ("example.org", "80", "")
    assert addresses("example.org:8080") == ("example.org", "8080", "")


def test_wsgi_without_its_package(without: dict[str, str]) -> None:
    code, output = run_gunicorn(
        "interfaces:wsgi", env={**without, "BLOCKED_IMPORTS": "a2wsgi", **environment(interface="wsgi")}
    )
    assert code == 3
    assert "run 'pip install gunicorn-asgi[wsgi]'" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("app", "options", "message"),
    [
        ("wsgi", {}, "takes two arguments, as WSGI applications do; set the option interface to 'wsgi'"),
        ("about", {"factory": "1"}, "cannot be called without arguments; name a function that returns an application"),
    ],
)
def test_what_is_no_such_application_is_refused(app: str, options: dict[str, str], message: str) -> None:
    code, output = run_gunicorn(f"interfaces:{app}", env=environment(**options))
    assert code == 3
    assert output.count(message) == 1
    assert "Traceback" not in output


def test_env_file(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    """Read before the application is; what the environment has already, stays."""
    path = tmp_path / "variables"
    path.write_text("READ_WHILE_LOADING=file\n")
    assert about(gunicorns.start("interfaces:about", env=environment(env_file=str(path))))["loaded_with"] == "file"
    server = gunicorns.start("interfaces:about", "--env", "READ_WHILE_LOADING=set", env=environment(env_file=str(path)))
    assert about(server)["loaded_with"] == "set"


def test_env_file_is_read_before_a_preloaded_application(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    """And anew when the master reloads, which must not take what it finds in its environment for the operator's."""
    path = tmp_path / "variables"
    path.write_text("READ_WHILE_LOADING=file\nREAD_LATER=1\n")
    config = tmp_path / "gunicorn.conf.py"
    config.write_text("import os\nassert 'READ_LATER' not in os.environ\npreload_app = True\n")
    server = gunicorns.start("interfaces:about", "--config", str(config), env=environment(env_file=str(path)))
    seen = about(server)
    assert (seen["loaded_with"], seen["loaded_in"]) == ("file", server.pid)

    path.write_text("READ_WHILE_LOADING=changed\n")
    server.signal(signal.SIGHUP)
    server.wait_for_log("Worker exiting")
    seen = about(server)
    # Gunicorn does not load a preloaded module again, but the variables of its workers are those of the file.
    assert (seen["loaded_with"], seen["variable"]) == ("file", "changed")


def test_a_preloaded_application_and_an_env_file_that_comes_too_late(
    gunicorns: GunicornStarter, tmp_path: Path
) -> None:
    path = tmp_path / "variables"
    path.write_text("READ_WHILE_LOADING=file\n")
    server = gunicorns.start("interfaces:about", "--preload", "--env", f"GUNICORN_ASGI_ENV_FILE={path}")
    assert about(server)["loaded_with"] == ""
    assert len(re.findall(r"\[WARNING\] env_file='.*' in raw_env comes too late for preload_app", server.log)) == 1


def test_options_in_an_env_file_are_warned_about(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    path = tmp_path / "variables"
    path.write_text("GUNICORN_ASGI_ROOT_PATH=/file\n")
    server = gunicorns.start("interfaces:about", "--workers", "2", env=environment(env_file=str(path)))
    assert about(server)["root_path"] == ""
    assert len(re.findall(r"\[WARNING\] env_file='.*': GUNICORN_ASGI_ROOT_PATH has no effect there", server.log)) == 1


def test_preload_app(gunicorns: GunicornStarter) -> None:
    seen = about(server := gunicorns.start("interfaces:about", "--preload"))
    assert seen["loaded_in"] == server.pid
    assert seen["pid"] == server.worker_pids[0]


def test_limit_concurrency(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", env=environment(limit_concurrency="1"))
    with server.connect() as holding, server.connect() as idle:
        holding.send(request("/hold"))
        server.wait_for_log("Booting")
        assert idle.get("/hello").status in (200, 503)  # The first may not have been read yet.
        while idle.get("/hello").status == 200:
            pass
        refused = idle.get("/hello", method="POST", body=b"x" * 1000)
        assert refused.status == 503
        assert refused.body == b"Service Unavailable"
        holding.reset()
    assert re.search(r"\[WARNING\] limit_concurrency: 1 requests run, 1 have been answered with 503", server.log)


def test_request_timeout(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--access-logfile", "-", env=environment(request_timeout="0.5"))
    with server.connect() as connection:
        answer = connection.get("/hold")
        assert (answer.status, answer.body) == (504, b"Gateway Timeout")
        assert connection.is_closed_by_server()
    assert server.get("/journal/cancelled").body == b"null"
    server.wait_for_log(r"\[ERROR\] The application took longer than request_timeout for 'GET /hold': cancelled, 504")
    server.wait_for_log(r'"GET /hold HTTP/1.1" 504 15 ')
    assert "Traceback" not in server.log


def test_disconnect_grace_period(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", env=environment(disconnect_grace_period="0"))
    with server.connect() as connection:
        connection.send(request("/hold"))
        assert server.get("/journal/held").body == b"null"
        connection.reset()
    assert server.get("/journal/cancelled").body == b"null"
    assert "[ERROR]" not in server.log


# The loop


def test_loop(gunicorns: GunicornStarter) -> None:
    assert about(gunicorns.start("interfaces:about", env=environment(loop="asyncio")))["loop"] == "asyncio"
    server = gunicorns.start("interfaces:about", env=environment(loop="asyncio:SelectorEventLoop"))
    assert about(server)["loop"] == "asyncio"


@pytest.mark.skipif("asgi_loop" not in KNOWN_SETTINGS, reason="this Gunicorn has no setting asgi_loop")
def test_asgi_loop(gunicorns: GunicornStarter) -> None:
    assert about(gunicorns.start("interfaces:about", "--asgi-loop", "asyncio"))["loop"] == "asyncio"


def test_threads_size_the_default_executor(gunicorns: GunicornStarter) -> None:
    """Forty at once are more than Python's own default allows on any machine."""
    server = gunicorns.start("interfaces:threads", "--threads", "40")
    assert server.get("/?40").body == b"together"


@pytest.mark.parametrize(
    "chooses", [environment(http="h11"), {"GUNICORN_CMD_ARGS": "--permit-unconventional-http-method"}]
)
def test_the_h11_parser_needs_no_other(
    gunicorns: GunicornStarter, without: dict[str, str], chooses: dict[str, str]
) -> None:
    server = gunicorns.start(
        "probe", worker="gunicorn_asgi.Worker", env={**without, "BLOCKED_IMPORTS": "httptools", **chooses}
    )
    assert server.get("/hello").body == b"hello"


@pytest.mark.parametrize("name", ["NOTIFIED", "Overriding"])
def test_callback_notify(gunicorns: GunicornStarter, tmp_path: Path, name: str) -> None:
    journal = tmp_path / "journal"
    server = gunicorns.start(
        "probe",
        "--timeout",
        "1",
        worker=f"tests.integration.apps.worker_classes.{name}",
        env={"PROBE_JOURNAL": str(journal)},
    )
    server.wait_for_text(journal, "startup\nnotified\nnotified\n")
    assert server.stop() == 0


# Logs


@pytest.mark.parametrize(
    ("options", "accesses", "infos"),
    [
        ({}, 1, True),
        ({"access_log": "0"}, 0, True),
        ({"log_level": "warning"}, 0, False),
        ({"log_level": "info"}, 1, True),
    ],
    ids=str,
)
def test_what_is_logged(gunicorns: GunicornStarter, options: dict[str, str], accesses: int, infos: bool) -> None:
    server = gunicorns.start("probe", "--access-logfile", "-", env=environment(**options))
    assert server.get("/hello").status == 200
    assert server.stop() == 0
    assert server.log.count("GET /hello") == accesses
    assert ("Worker exiting" in server.log) is infos


def test_errorlog_and_capture_output(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    """What the application prints goes where errors go."""
    path = tmp_path / "errors"
    server = gunicorns.start("interfaces:about", "--capture-output", errorlog=path)
    about(server)
    with server.connect() as connection:
        connection.send(b"nonsense\r\n\r\n")
        connection.read_response()
    server.wait_for_text(path, "printed for /")
    server.wait_for_text(path, "Refused request from 127.0.0.1.*400")


@pytest.mark.skipif("enable_backlog_metric" not in KNOWN_SETTINGS, reason="this Gunicorn has no such setting")
def test_enable_backlog_metric(gunicorns: GunicornStarter) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(20)
        host, port = statsd.getsockname()
        gunicorns.start("probe", "--statsd-host", f"{host}:{port}", "--enable-backlog-metric")
        while b"gunicorn.backlog" not in statsd.recv(4096):
            pass


# TLS


def test_ssl_options_switch_tls_on(gunicorns: GunicornStarter, certificates: Certificates) -> None:
    server = gunicorns.start(
        "probe", env=environment(ssl_certfile=str(certificates.server.chain), ssl_keyfile=str(certificates.server.key))
    )
    with Connection(server.address, certificates.client()) as connection:
        assert json.loads(connection.get("/scope").body)["scheme"] == "https"
    with server.connect() as connection:
        connection.send(request("/hello"))
        assert b"hello" not in connection.read_to_end()


def test_methods_become_upper_case_where_gunicorn_is_told_so(gunicorns: GunicornStarter) -> None:
    def seen_by(server: Gunicorn) -> str:
        return str(json.loads(server.get("/", method="get").get(b"x-seen") or b"")["method"])

    server = gunicorns.start("mirror", "--casefold-http-method")
    assert [seen_by(server) for _ in range(2)] == ["GET", "GET"]
    assert seen_by(gunicorns.start("mirror")) == "get"
