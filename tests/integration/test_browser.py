"""Chromium opens a page that speaks WebSocket, fetch and EventSource with the worker, all at once."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gunicorn import STOP_SECONDS, GunicornStarter
from tests.support.system import find_program, needs

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--remote-debugging-port=0",
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


@needs("chromium", "chromium")
@pytest.mark.load
def test_websocket_fetch_and_events_at_once(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    server = gunicorns.start("browser_page", "--access-logfile", "-")
    with chromium(server.url + "/", tmp_path), server.connect() as client:
        # A browser that starts on a busy machine takes its time.
        client.sock.settimeout(90.0)
        report = json.loads(json.loads(client.get("/journal/report").body))
    assert report == {
        "texts": [[0, 1, 1000, 200_000], "v2", "permessage-deflate", 4000, "done", True],
        "bytes": [[3, 300_000], "v2", "permessage-deflate", 4000, "done", True],
        "denied": [1006, "", False],
        "closed": [4002, "enough", True],
        "fetches": [f"/target?{number}" for number in range(20)],
        "events": [f"event {number}" for number in range(5)],
        "more events": [f"event {number}" for number in range(5)],
    }
    assert "Traceback" not in server.log
    server.wait_for_log(r'"GET /echo HTTP/1\.1" 101 ')
