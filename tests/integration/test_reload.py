"""`--reload`: a changed application is served soon, whatever is still open, and a broken one is shown."""

import importlib.util
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http1 import Response, request
from tests.support.websocket import TEXT, WebSocketClient, close, frame

APP = """\
from tests.integration.apps.probe import respond
from tests.integration.apps.websocket_probe import app as probe


async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/":
        await respond(send, b"{}")
    else:
        await probe(scope, receive, send)
"""

ENGINES = ["poll", "auto"] + (["inotify"] if importlib.util.find_spec("inotify") else [])


class Application:
    """A module that changes, and the server that reloads it."""

    def __init__(self, path: Path, server: Gunicorn) -> None:
        self.path = path
        self.server = server

    def save(self, text: str) -> None:
        """Write the file until the reloader has seen that it changed: only what changes behind its first look has. Then
        wait for the next worker, since the old one may answer until it has heard of it."""
        booted = len(self.server.worker_pids)
        count = self.server.log.count("Worker reloading")
        changed = time.time()
        begun = time.monotonic()
        while self.server.log.count("Worker reloading") == count:
            changed += 1
            self.path.write_text(text)
            os.utime(self.path, (changed, changed))
            assert time.monotonic() - begun < 20, self.server.log
            time.sleep(0.02)
        while len(self.server.worker_pids) == booted:
            assert time.monotonic() - begun < 30, self.server.log
            time.sleep(0.02)

    def next_answer(self, last: bytes) -> Response:
        """The first answer that is not `last`: a request may still get to the old worker."""
        begun = time.monotonic()
        while (response := self.server.get("/")).body == last:
            assert time.monotonic() - begun < 20, self.server.log
        return response


@pytest.fixture
def path(tmp_path: Path) -> Path:
    # The directories of the tests are namespace packages: a second path may add to them.
    path = tmp_path / "tests" / "integration" / "apps" / "reloaded.py"
    path.parent.mkdir(parents=True)
    path.write_text(APP.format("before"))
    return path


def start(gunicorns: GunicornStarter, path: Path, *options: str) -> Application:
    env = {"PYTHONPATH": str(path.parents[3]), "PYTHONDONTWRITEBYTECODE": "1"}
    server = gunicorns.start("reloaded", "--keep-alive", "60", *options, env=env)
    return Application(path, server)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_changed_file_is_served_at_once(gunicorns: GunicornStarter, path: Path, engine: str) -> None:
    """Also with an idle connection and a stream without end."""
    application = start(gunicorns, path, "--reload", "--reload-engine", engine)
    server = application.server
    with server.connect() as idle, server.connect() as stream, server.connect() as waiting:
        assert idle.get("/").body == b"before"
        stream.send(request("/endless-quietly"))
        stream.read_until(b"begun\r\n")
        waiting.send(request("/hold"))
        server.get("/journal/held")
        application.save(APP.format("after"))
        begun = time.monotonic()
        assert application.next_answer(b"before").body == b"after"
        seconds = time.monotonic() - begun
        assert idle.is_closed_by_server()
    assert seconds < 15, "2 s on a machine that has nothing else to do"
    assert "SIGKILL" not in server.log
    assert "WORKER TIMEOUT" not in server.log


@pytest.mark.parametrize("how", ["reload", "HUP"])
def test_open_websockets_are_told_to_connect_again(gunicorns: GunicornStarter, path: Path, how: str) -> None:
    options = ("--reload", "--reload-engine", "poll") if how == "reload" else ()
    application = start(gunicorns, path, *options)
    server = application.server
    with WebSocketClient(server.address) as client, WebSocketClient(server.address) as stuck:
        assert client.open("/echo").status == 101
        assert stuck.open("/stuck").status == 101
        stuck.send(frame(TEXT, b"a") * 100)
        if how == "reload":
            application.save(APP.format("after"))
        else:
            path.write_text(APP.format("after"))
            server.signal(signal.SIGHUP)
        assert client.read_close().code == 1012
        client.send(close(1012))
        assert client.is_closed_by_server()
        assert stuck.read_close().code == 1012
        assert application.next_answer(b"before").body == b"after"
    with WebSocketClient(server.address) as client:
        assert client.open("/echo").status == 101
        client.send_frame(TEXT, b"hello")
        assert client.read_frame().payload == b"hello"
    assert "SIGKILL" not in server.log


def test_a_syntax_error_is_shown_and_healed_by_the_next_save(gunicorns: GunicornStarter, path: Path) -> None:
    application = start(gunicorns, path, "--reload", "--reload-engine", "poll")
    server = application.server
    assert server.get("/").body == b"before"
    application.save("async def app(scope, receive, send):\n    return (\n")
    shown = application.next_answer(b"before")
    assert shown.status == 500
    assert b"SyntaxError" in shown.body
    assert b"reloaded.py" in shown.body
    assert server.get("/any/path", method="POST", body=b"body").body == shown.body
    application.save(APP.format("healed"))
    assert application.next_answer(shown.body).body == b"healed"
    assert "exited with code" not in server.log


READS_A_FILE = """\
from pathlib import Path

from tests.integration.apps.probe import respond

content = Path({!r}).read_bytes()


async def app(scope, receive, send):
    if scope["type"] == "http":
        await respond(send, content)
"""


def test_an_extra_file_is_watched(gunicorns: GunicornStarter, path: Path, tmp_path: Path) -> None:
    extra = tmp_path / "extra.txt"
    extra.write_text("one")
    path.write_text(READS_A_FILE.format(str(extra)))
    application = start(gunicorns, path, "--reload", "--reload-engine", "poll", "--reload-extra-file", str(extra))
    assert application.server.get("/").body == b"one"
    application.path = extra
    application.save("two")
    assert application.next_answer(b"one").body == b"two"
