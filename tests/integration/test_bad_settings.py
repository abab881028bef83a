"""What cannot be honoured is refused in one line, when Gunicorn starts and by `--check-config`."""

import re
import signal
import sys
from pathlib import Path

import pytest

from tests.support.certificates import PASSWORD, Certificates
from tests.support.gunicorn import KNOWN_SETTINGS, GunicornStarter, run_gunicorn
from tests.support.http1 import Connection, request

CLASSES = "tests.integration.apps.worker_classes"

BAD: dict[str, tuple[list[str], dict[str, str], str, str]] = {
    "misspelt option of a class": (
        [],
        {},
        f"{CLASSES}.Broken",
        "CONFIG_KWARGS of Broken: there is no option 'ws_max_sise'; did you mean 'ws_max_size'?",
    ),
    "misspelt variable": (
        [],
        {"GUNICORN_ASGI_DRAIN_GRAZE": "1"},
        "gunicorn_asgi.Worker",
        "environment variable GUNICORN_ASGI_DRAIN_GRAZE='1': there is no option 'drain_graze'; did you mean",
    ),
    "wrong type, in raw_env": (
        ["--env", "GUNICORN_ASGI_WS_MAX_QUEUE=many"],
        {},
        "gunicorn_asgi.Worker",
        "environment variable GUNICORN_ASGI_WS_MAX_QUEUE: ws_max_queue='many': expected a whole number from 1",
    ),
    "zttp": (
        [],
        {"GUNICORN_ASGI_HTTP": "zttp"},
        "gunicorn_asgi.Worker",
        (
            "environment variable GUNICORN_ASGI_HTTP: http='zttp': zttp cannot be used here; "
            "use 'auto', which speaks HTTP/2 too where http2 is set"
        ),
    ),
    "weak framing": (
        ["--strip-header-spaces"],
        {},
        "gunicorn_asgi.Worker",
        "strip_header_spaces=True is refused, since ",
    ),
    "weak version": (
        ["--permit-unconventional-http-version"],
        {},
        "gunicorn_asgi.Worker",
        "permit_unconventional_http_version=True is refused, since ",
    ),
    "proxies": (
        ["--env", "GUNICORN_ASGI_FORWARDED_ALLOW_IPS=10.0.0.0/99"],
        {},
        "gunicorn_asgi.Worker",
        "forwarded_allow_ips: '10.0.0.0/99' is not an IP address, a network or '*'; correct or remove it",
    ),
    "access log": (
        ["--access-logformat", "%(h)q"],
        {},
        "gunicorn_asgi.Worker",
        "access_log_format",
    ),
    "unreadable certificate": (
        ["--certfile", __file__, "--keyfile", __file__],
        {},
        "gunicorn_asgi.Worker",
        f"certfile={__file__!r}, keyfile=",
    ),
    "key without certificate": (
        [],
        {"GUNICORN_ASGI_SSL_CA_CERTS": "ca.pem"},
        "gunicorn_asgi.Worker",
        "ssl_ca_certs='ca.pem' without a certificate; set ssl_certfile too, or remove it",
    ),
    "environment file": (
        [],
        {"GUNICORN_ASGI_ENV_FILE": "/no/such/file"},
        "gunicorn_asgi.Worker",
        "env_file='/no/such/file' cannot be read: No such file or directory; correct or remove it",
    ),
    "loop": (
        [],
        {"GUNICORN_ASGI_LOOP": "nowhere:make"},
        "gunicorn_asgi.Worker",
        "loop='nowhere:make' cannot be imported: No module named 'nowhere'; correct it, or use 'auto'",
    ),
}
BAD |= {
    "no options": (
        [],
        {},
        f"{CLASSES}.WithoutOptions",
        "CONFIG_KWARGS of WithoutOptions=None: expected a dictionary of options",
    ),
    "no connections": (
        ["--worker-connections", "0"],
        {},
        "gunicorn_asgi.Worker",
        "worker_connections=0: expected a whole number from 1",
    ),
    "too large a number": (
        [],
        {"GUNICORN_ASGI_BACKLOG": "3000000000"},
        "gunicorn_asgi.Worker",
        "environment variable GUNICORN_ASGI_BACKLOG: backlog='3000000000': expected a whole number from 1 to",
    ),
    "too long a time": (
        [],
        {"GUNICORN_ASGI_WS_PING_INTERVAL": "1e300"},
        "gunicorn_asgi.Worker",
        "environment variable GUNICORN_ASGI_WS_PING_INTERVAL: ws_ping_interval='1e300': expected seconds as a number ",
    ),
    "root path": (
        [],
        {"GUNICORN_ASGI_ROOT_PATH": "//evil"},
        "gunicorn_asgi.Worker",
        "environment variable GUNICORN_ASGI_ROOT_PATH: root_path='//evil': expected a path that begins with one slash",
    ),
    "misspelt secret": (
        [],
        {"GUNICORN_ASGI_SSL_KEYFILE_PASSWROD": "hunter2"},
        "gunicorn_asgi.Worker",
        (
            "environment variable GUNICORN_ASGI_SSL_KEYFILE_PASSWROD=...: there is no option 'ssl_keyfile_passwrod'; "
            "did you mean 'ssl_keyfile_password'?"
        ),
    ),
    "environment file that is none": (
        [],
        {"GUNICORN_ASGI_ENV_FILE": sys.executable},
        "gunicorn_asgi.Worker",
        f"env_file={sys.executable!r} is no text in UTF-8 (",
    ),
    "what cannot even be shown": (
        [],
        {},
        f"{CLASSES}.WithoutWords",
        "the settings cannot be checked: ",
    ),
}
if "protocol" in KNOWN_SETTINGS:
    BAD["uwsgi"] = (
        ["--protocol", "uwsgi"],
        {},
        "gunicorn_asgi.Worker",
        "protocol='uwsgi' is not served by this worker; use 'http' on both sides",
    )
if "permit_obsolete_folding" in KNOWN_SETTINGS:
    BAD["folding"] = (
        ["--permit-obsolete-folding"],
        {},
        "gunicorn_asgi.Worker",
        "permit_obsolete_folding=True is refused, since ",
    )


def is_refused(code: int, output: str, line: str) -> None:
    assert code == 1, output
    errors = re.findall(r"^Error: (.*)$", output, re.MULTILINE)
    assert len(errors) == 1, output
    assert errors[0].startswith(line)
    assert "Traceback" not in output
    assert "hunter2" not in output
    assert "Booting worker" not in output


# The last of each is how the line begins; whole lines are looked at in tests/test_gunicorn_config.py.


@pytest.mark.parametrize("name", BAD)
def test_at_boot(name: str) -> None:
    options, env, worker, line = BAD[name]
    is_refused(*run_gunicorn("probe", *options, worker=worker, env=env), line)


@pytest.mark.parametrize("name", BAD)
def test_by_check_config(name: str) -> None:
    options, env, worker, line = BAD[name]
    is_refused(
        *run_gunicorn("probe", "--check-config", *options, worker=worker, env=env, program="gunicorn_asgi"), line
    )


def test_check_config_of_what_is_right() -> None:
    """The class need not be named there."""
    code, output = run_gunicorn("probe", "--check-config", worker=None, program="gunicorn_asgi")
    assert (code, output) == (0, "")


def test_check_config_looks_at_the_application() -> None:
    code, output = run_gunicorn("interfaces:wsgi", "--check-config", worker=None, program="gunicorn_asgi")
    is_refused(code, output, "interface='auto': the application <function wsgi at ")
    code, output = run_gunicorn("probe:nothing", "--check-config", worker=None, program="gunicorn_asgi")
    is_refused(code, output, "Failed to find attribute 'nothing' in 'tests.integration.apps.probe'.")
    code, output = run_gunicorn("nowhere", "--check-config", worker=None, program="gunicorn_asgi")
    assert code == 1
    assert "ModuleNotFoundError: No module named 'tests.integration.apps.nowhere'" in output


def test_check_config_makes_an_event_loop() -> None:
    env = {"GUNICORN_ASGI_LOOP": "os:getcwd"}
    code, output = run_gunicorn("probe", "--check-config", worker=None, env=env, program="gunicorn_asgi")
    is_refused(code, output, "loop='os:getcwd' makes no event loop but '/")


@pytest.mark.parametrize(
    ("worker", "reason"),
    [
        ("gunicorn_asgi.Wroker", "there is no such class in its module; use 'gunicorn_asgi.Worker'"),
        ("nowhere.Worker", "No module named 'nowhere'; use 'gunicorn_asgi.Worker'"),
    ],
)
def test_check_config_looks_at_the_worker_class(worker: str, reason: str) -> None:
    code, output = run_gunicorn("probe", "--check-config", worker=worker, program="gunicorn_asgi")
    is_refused(code, output, f"worker_class={worker!r} cannot be imported: {reason}")


def test_what_a_cluster_puts_into_the_environment_is_no_mistake(gunicorns: GunicornStarter) -> None:
    """Kubernetes does so, where a service is called gunicorn-asgi. The last one is of the operator."""
    env = {
        "GUNICORN_ASGI_PORT": "tcp://10.0.0.1:8000",
        "GUNICORN_ASGI_SERVICE_HOST": "10.0.0.1",
        "GUNICORN_ASGI_SERVICE_PORT": "8000",
        "GUNICORN_ASGI_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "GUNICORN_ASGI_PORT_8000_TCP_ADDR": "10.0.0.1",
        "GUNICORN_ASGI_USE_COLORS": "0",
        "GUNICORN_ASGI_HOST": "0.0.0.0",
    }
    server = gunicorns.start("probe", "--workers", "2", env=env)
    assert server.get("/hello").body == b"hello"
    (line,) = re.findall(r"\[WARNING\] (.*)", server.log)
    assert line == "environment variable GUNICORN_ASGI_HOST='0.0.0.0' has no effect; use Gunicorn's bind"


def test_a_mistake_in_init_ends_the_boot() -> None:
    """Nobody can see it before the worker is made."""
    code, output = run_gunicorn("probe", worker=f"{CLASSES}.BrokenInInit")
    assert code == 3
    assert output.count("CONFIG_KWARGS of BrokenInInit: there is no option 'interfaze'; did you mean 'interface'?") == 1
    assert "Traceback" not in output


def test_what_gunicorn_decides_is_warned_about_once(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--workers", "2", worker=f"{CLASSES}.WarnedAbout", bind="127.0.0.1:0")
    assert server.get("/hello").body == b"hello"
    lines = re.findall(r"\[WARNING\] CONFIG_KWARGS of WarnedAbout: (\w+)=.* has no effect; use Gunicorn's", server.log)
    assert lines == ["host", "workers", "reload", "log_config"]


def test_settings_without_effect_are_warned_about_once(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--workers", "2", "--do-handshake-on-connect", "--forwarded-allow-ips", "*")
    assert server.get("/hello").body == b"hello"
    assert server.log.count("[WARNING] do_handshake_on_connect=True: it is ignored") == 1
    assert "forwarded_allow_ips='*'" not in server.log, "only this machine can connect"


def test_trust_in_everybody_is_warned_about() -> None:
    code, output = run_gunicorn(
        "probe",
        "--check-config",
        *("--bind", "0.0.0.0:0", "--forwarded-allow-ips", "*"),
        worker=None,
        program="gunicorn_asgi",
    )
    assert code == 0
    assert output.count("[WARNING] forwarded_allow_ips='*' with bind='0.0.0.0:0': every client can choose") == 1


# A HUP

CONFIG = """\
import gunicorn_asgi
worker_class = gunicorn_asgi.Worker.configure({options})
"""


def test_mistakes_that_come_with_a_hup_do_not_take_the_service_down(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    config = tmp_path / "conf.py"
    config.write_text(CONFIG.format(options="headers=[('x-version', '1')]"))
    server = gunicorns.start("probe", "--config", str(config), "--workers", "2", worker=None)
    assert server.get("/hello").get(b"x-version") == b"1"

    config.write_text(CONFIG.format(options="headers=[('x-version', '2')], ws_max_sise=5"))
    server.signal(signal.SIGHUP)
    server.wait_for_log(
        r"\[ERROR\] The new settings are refused, workers go on with those from before: "
        r"Worker.configure: there is no option 'ws_max_sise'; did you mean 'ws_max_size'\?"
    )
    server.wait_for_log(r"(?s)(Booting worker.*){4}")
    server.wait_for_log(r"(?s)(Worker exiting.*){2}")
    assert server.get("/hello").get(b"x-version") == b"1"
    assert server.log.count("The new settings are refused") == 1

    config.write_text(CONFIG.format(options="headers=[('x-version', '3')]") + "access_log_format = '%(h)q'\n")
    server.signal(signal.SIGHUP)
    server.wait_for_log(r"(?s)(The new settings are refused.*){2}")
    server.wait_for_log(r"(?s)(Worker exiting.*){4}")
    assert server.get("/hello").get(b"x-version") == b"1"

    config.write_text(CONFIG.format(options="headers=[('x-version', '4')]"))
    server.signal(signal.SIGHUP)
    server.wait_for_log(r"(?s)(Worker exiting.*){6}")
    assert server.get("/hello").get(b"x-version") == b"4"
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (
            CONFIG.format(options="") + 'secure_scheme_headers = {"X-Scheme": 1}',
            "secure_scheme_headers: 'X-Scheme': 1 names no scheme",
        ),
        (f"worker_class = '{CLASSES}.WithoutOptions'", "CONFIG_KWARGS of WithoutOptions=None: expected a dictionary"),
        (
            CONFIG.format(options=r"env_file='a\0b'"),
            r"Worker.configure: env_file='a\x00b': expected the path",
        ),
        (CONFIG.format(options="headers=[('x', 0)]"), r"Worker.configure: headers=[('x', 0)]: expected pairs"),
        (f"worker_class = '{CLASSES}.WithoutWords'", "the settings cannot be checked: ValueError('no words')"),
        (CONFIG.format(options=f"env_file={sys.executable!r}"), f"env_file={sys.executable!r} is no text in UTF-8"),
    ],
)
def test_wrong_types_that_come_with_a_hup_do_not_take_the_service_down(
    gunicorns: GunicornStarter, tmp_path: Path, configuration: str, message: str
) -> None:
    config = tmp_path / "conf.py"
    config.write_text(CONFIG.format(options="headers=[('x-version', '1')]"))
    server = gunicorns.start("probe", "--config", str(config), worker=None)
    config.write_text(configuration)
    server.signal(signal.SIGHUP)
    server.wait_for_log(
        rf"\[ERROR\] The new settings are refused, workers go on with those from before: {re.escape(message)}"
    )
    server.wait_for_log("Worker exiting")
    assert server.get("/hello").get(b"x-version") == b"1"
    assert "Traceback" not in server.log
    assert server.stop() == 0


def test_workers_with_the_settings_from_before_end_before_the_master_loses_patience(
    gunicorns: GunicornStarter, tmp_path: Path
) -> None:
    config = tmp_path / "conf.py"
    config.write_text(CONFIG.format(options="") + "graceful_timeout = 60")
    server = gunicorns.start("probe", "--config", str(config), worker=None)
    config.write_text(CONFIG.format(options="ws_max_sise=5") + "graceful_timeout = 2")
    server.signal(signal.SIGHUP)
    server.wait_for_log(r"Worker exiting")
    with server.connect() as connection:
        connection.send(request("/hold"))
        server.get("/journal/held")
        assert server.stop() == 0
    assert server.log.count("0 requests finished, 1 cancelled, 0 connections cut") == 1


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        ("gunicorn_asgi.H11Worker", "worker_class: H11Worker needs the h11 package"),
        ("gunicorn_asgi.H2CWorker.configure(ws_max_sise=5)", "H2CWorker.configure: there is no option 'ws_max_sise'"),
        ("gunicorn_asgi.Worker.configure(ws_max_sise=5)", "Worker.configure: there is no option 'ws_max_sise'"),
    ],
)
@pytest.mark.parametrize("before", ["gunicorn_asgi.Worker", "gunicorn_asgi.Worker.configure(headers=[('x', 'y')])"])
def test_the_worker_class_is_one_of_the_settings_that_are_refused(
    gunicorns: GunicornStarter, tmp_path: Path, without: dict[str, str], before: str, worker: str, message: str
) -> None:
    config = tmp_path / "conf.py"
    config.write_text(f"import gunicorn_asgi\nworker_class = {before}\n")
    env = {**without, "BLOCKED_IMPORTS": "h11"}
    server = gunicorns.start("probe", "--config", str(config), worker=None, env=env)
    config.write_text(f"import gunicorn_asgi\nworker_class = {worker}\n")
    server.signal(signal.SIGHUP)
    server.wait_for_log(rf"The new settings are refused, workers go on with those from before: {re.escape(message)}")
    server.wait_for_log("Worker exiting")
    assert server.get("/hello").get(b"x") == (b"y" if "configure" in before else None)
    with server.connect() as connection:
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert connection.read_response().status == 505, "HTTP/2 is not served without TLS"
    assert server.stop() == 0


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
@pytest.mark.parametrize(
    ("options", "kept", "message"),
    [
        ("interface='wsgi'", "interface='auto', factory=False", "interface='wsgi': the application"),
        ("factory=True", "interface='auto', factory=False", "factory=True, but"),
        ("loop='os:getcwd'", "loop='asyncio'", "loop='os:getcwd' makes no event loop"),
    ],
)
def test_what_only_a_worker_can_find_out_does_not_take_the_service_down(
    gunicorns: GunicornStarter, tmp_path: Path, options: str, kept: str, message: str, preload: tuple[str, ...]
) -> None:
    config = tmp_path / "conf.py"
    before = "loop='asyncio'"
    config.write_text(CONFIG.format(options=before))
    server = gunicorns.start("probe", "--config", str(config), *preload, worker=None)
    # Once more, for what was accepted last may itself be a mistake.
    for version in ("1", "2"):
        given = f"**{{**dict({before}), **dict({options})}}, headers=[('x-v', {version!r})]"
        config.write_text(CONFIG.format(options=given))
        server.signal(signal.SIGHUP)
        server.wait_for_log(
            rf"(?s)(\[ERROR\] The new settings are refused in part, the worker goes on with {re.escape(kept)} from "
            rf"before: {re.escape(message)}.*){{{version}}}"
        )
        server.wait_for_log(rf"(?s)(Worker exiting.*){{{version}}}")
        assert server.get("/hello").get(b"x-v") == version.encode(), "the rest of the new settings is in force"
    assert "Traceback" not in server.log
    assert server.stop() == 0


def test_a_certificate_that_was_half_renewed_does_not_take_the_service_down(
    gunicorns: GunicornStarter, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    server = gunicorns.start(
        "probe", "--certfile", str(certificates.server.chain), "--keyfile", str(certificates.server.key)
    )
    whole = certificates.server.chain.read_bytes()
    certificates.server.chain.write_bytes(whole[:100])
    server.signal(signal.SIGHUP)
    server.wait_for_log("The new settings are refused, .*: certfile=")
    server.wait_for_log("The certificate that the master has read goes on")
    server.wait_for_log(r"Worker exiting")
    with Connection(server.address, certificates.client()) as connection:
        assert connection.get("/hello").body == b"hello"
    certificates.server.chain.write_bytes(whole)
    server.signal(signal.SIGHUP)
    server.wait_for_log(r"(?s)(Worker exiting.*){2}")
    with Connection(server.address, certificates.client()) as connection:
        assert connection.get("/hello").body == b"hello"
    assert server.stop() == 0


def test_a_key_with_a_password(gunicorns: GunicornStarter, certificates: Certificates) -> None:
    options = {
        "GUNICORN_ASGI_SSL_CERTFILE": str(certificates.server.chain),
        "GUNICORN_ASGI_SSL_KEYFILE": str(certificates.server.encrypted_key),
    }
    server = gunicorns.start("probe", env={**options, "GUNICORN_ASGI_SSL_KEYFILE_PASSWORD": PASSWORD})
    with Connection(server.address, certificates.client()) as connection:
        assert connection.get("/hello").body == b"hello"
    code, output = run_gunicorn("probe", env={**options, "GUNICORN_ASGI_SSL_KEYFILE_PASSWORD": "sesame"})
    is_refused(code, output, "certfile=")
    assert "sesame" not in output
