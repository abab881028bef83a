"""The commands of docs/deployment.md, and its recipe for log files. test_proxies.py runs its proxies."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.certificates import Certificates
from tests.support.gunicorn import ROOT, Gunicorn, GunicornStarter

PAGE: Final = (ROOT / "docs/deployment.md").read_text("utf-8")
COMMANDS: Final = re.findall(r"(?m)^    gunicorn (.*) main:app$", PAGE)
NGINX_KEEPALIVE_SECONDS: Final = 60
"""Its default for an upstream."""


def start(gunicorns: GunicornStarter, directory: Path, certificates: Certificates, command: str) -> Gunicorn:
    """The command as it stands on the page, with other addresses and paths."""
    text = re.sub(r"/(run|var/log)/app(?=/)", str(directory), command)
    text = text.replace("chain.pem", str(certificates.server.chain)).replace("key.pem", str(certificates.server.key))
    options = shlex.split(re.sub(r"[0-9.]+:[0-9]+", "127.0.0.1:0", text))

    def taken(name: str) -> str | None:
        if name not in options:
            return None
        at = options.index(name)
        value = options[at + 1]
        del options[at : at + 2]
        return value

    worker, bind, errorlog = taken("--worker-class"), taken("--bind"), taken("--error-logfile")
    return gunicorns.start("probe", *options, worker=worker, bind=bind or "127.0.0.1:0", errorlog=errorlog)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(gunicorns: GunicornStarter, tmp_path: Path, certificates: Certificates, command: str) -> None:
    server = start(gunicorns, tmp_path, certificates, command)
    with server.connect() as connection:
        if "--proxy-protocol" in command:
            connection.send(b"PROXY UNKNOWN\r\n")
        if "--certfile" in command:
            connection.sock = certificates.client().wrap_socket(connection.sock, server_hostname="localhost")
        assert connection.get("/hello").body == b"hello"


def test_nginx_is_the_one_that_closes_idle_connections() -> None:
    (command,) = (command for command in COMMANDS if "unix:" in command)
    seconds = re.search(r"--keep-alive (\d+)", command)
    assert seconds is not None
    assert int(seconds[1]) > NGINX_KEEPALIVE_SECONDS


def test_the_recipe_for_log_files(gunicorns: GunicornStarter, tmp_path: Path, certificates: Certificates) -> None:
    (command,) = (command for command in COMMANDS if "--pid" in command)
    server = start(gunicorns, tmp_path, certificates, command)
    log = tmp_path / "access.log"
    server.get("/target/before")
    server.wait_for_text(log, "/target/before")
    log.rename(tmp_path / "access.log.1")
    recipe = re.search(r"(?s)```logrotate\n.*postrotate\n(.*?)endscript", PAGE)
    assert recipe is not None
    subprocess.run(["sh", "-ec", recipe[1].replace("/run/app", str(tmp_path))], check=True)
    # Until the worker has handled the signal, its lines go on into the old file.
    for _ in range(5000):
        server.get("/target/after")
        if log.exists() and "/target/after" in log.read_text("utf-8"):
            return
    pytest.fail("the log file has not been reopened")
