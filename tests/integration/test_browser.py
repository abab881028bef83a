"""Chromium opens a page that speaks WebSocket, fetch and EventSource with the worker, all at once."""

import contextlib
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.gunicorn import STOP_SECONDS, GunicornStarter
from tests.support.http2_client import LibraryClient
from tests.support.system import find_program, needs

BROWSER_SECONDS = 90.0

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--remote-debugging-port=0", "--ignore-certificate-errors",
)  # fmt: skip


@contextlib.contextmanager
def chromium(url: str, directory: Path) -> Iterator[None]:
    """Keep a page open. Chromium is a number of processes, which are all ended."""
    program = find_program("chromium")
    assert program is not None
    with (directory / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={directory / 'profile'}", url],
            stdout=log,
            stderr=log,
            env={**os.environ, "HOME": str(directory)},
            start_new_session=True,
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)


def check_report(report: object) -> None:
    """All that the page has done has come back right."""
    assert report == {
        "texts": [[0, 1, 1000, 200_000], "v2", "permessage-deflate", 4000, "done", True],
        "bytes": [[3, 300_000], "v2", "permessage-deflate", 4000, "done", True],
        "denied": [1006, "", False],
        "closed": [4002, "enough", True],
        "fetches": [f"/target?{number}" for number in range(20)],
        "events": [f"event {number}" for number in range(5)],
        "more events": [f"event {number}" for number in range(5)],
    }


@needs("chromium", "chromium")
@pytest.mark.load
def test_websocket_fetch_and_events_at_once(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    server = gunicorns.start("browser_page", "--access-logfile", "-")
    with chromium(server.url + "/", tmp_path), server.connect() as client:
        # A browser that starts on a busy machine takes its time.
        client.sock.settimeout(BROWSER_SECONDS)
        check_report(json.loads(json.loads(client.get("/journal/report").body)))
    assert "Traceback" not in server.log
    server.wait_for_log(r'"GET /echo HTTP/1\.1" 101 ')


@needs("chromium", "chromium")
@pytest.mark.load
def test_all_of_that_over_http2(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    """Over TLS a browser speaks HTTP/2: one connection for the page, its fetches and events, and for WebSockets, which
    are streams of it (RFC 8441)."""
    certificates = Certificates(tmp_path)
    env = {"GUNICORN_ASGI_HTTP2": "1"}
    server = gunicorns.start("browser_page", "--access-logfile", "-", *certificates.server.options, env=env)
    assert isinstance(server.address, tuple)
    tls = ssl.create_default_context(cafile=str(certificates.authority))
    tls.set_alpn_protocols(["h2"])
    with (
        chromium(f"https://localhost:{server.address[1]}/", tmp_path),
        LibraryClient(server.address, tls) as client,
    ):
        client.sock.settimeout(BROWSER_SECONDS)
        check_report(json.loads(json.loads(client.get("/journal/report").body)))
    assert "Traceback" not in server.log
    server.wait_for_log(r'"GET /target\?19 HTTP/2" 200 ')
    server.wait_for_log(r'"CONNECT /echo HTTP/2"')
    assert "HTTP/1.1" not in server.log
