"""Gunicorn's hooks around requests, with objects that have the documented attributes."""

import json
from pathlib import Path

import pytest

from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.websocket import BINARY, TEXT, WebSocketClient, close, frame, handshake

BOTH = """\
import json


def pre_request(worker, req):
    if req.path == "/refused-by-hook":
        raise RuntimeError("the hook says no")
    worker.log.info(
        "pre %s",
        json.dumps(
            [worker.pid, req.method, req.path, req.query, req.uri, req.version, req.headers, req.scheme,
             req.remote_addr[0], req.peer_addr[0], req.fragment, req.trailers]
        ),
    )


def post_request(worker, req, environ, resp):
    worker.log.info(
        "post %s",
        json.dumps(
            [worker.pid, req.uri, environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"],
             environ.get("HTTP_X_ONE"), environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["SERVER_PROTOCOL"],
             resp.status, resp.status_code, resp.sent, resp.response_length, dict(resp.headers).get("content-type")]
        ),
    )
    if req.path == "/hello":
        raise RuntimeError("the hook has failed")
"""

TWO_ARGUMENTS = """\
def post_request(worker, req):
    worker.log.info("post %s", req.path)
"""


@pytest.fixture
def server(gunicorns: GunicornStarter, tmp_path: Path) -> Gunicorn:
    path = tmp_path / "hooks.py"
    path.write_text(BOTH)
    return gunicorns.start("probe", "--config", str(path))


def test_what_the_hooks_get(server: Gunicorn) -> None:
    server.get("/target/a%20b?c=d", fields="X-One: 1\r\nX-One: 2\r\n")
    pid = server.worker_pids[0]
    seen = json.loads(server.wait_for_log(r"pre (\[.*\])\n")[1])
    headers = [["HOST", "example.org"], ["X-ONE", "1"], ["X-ONE", "2"]]
    assert seen == [
        pid, "GET", "/target/a%20b", "c=d", "/target/a%20b?c=d", [1, 1], headers, "http", "127.0.0.1", "127.0.0.1",
        "", [],
    ]  # fmt: skip
    seen = json.loads(server.wait_for_log(r"post (\[.*\])\n")[1])
    assert seen == [
        pid, "/target/a%20b?c=d", "GET", "/target/a b", "c=d", "1,2", "127.0.0.1", "http", "HTTP/1.1",
        "200 OK", 200, 15, 15, "text/plain",
    ]  # fmt: skip


def posted(server: Gunicorn, uri: str) -> tuple[str | None, int, int]:
    """Status, its code and the bytes that `post_request` has seen."""
    seen = json.loads(server.wait_for_log(rf"post (\[\d+, \"{uri}\".*\])\n")[1])
    return seen[9], seen[10], seen[11]


def test_a_websocket_is_seen_with_what_was_sent(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    path = tmp_path / "hooks.py"
    path.write_text(BOTH)
    server = gunicorns.start("websocket_probe", "--config", str(path))
    with WebSocketClient(server.address) as client:
        assert client.open("/echo").status == 101
        client.send(frame(TEXT, "ü".encode()) + frame(BINARY, b"abc"))
        assert [client.read_frame().payload for _ in range(2)] == ["ü".encode(), b"abc"]
        client.send(close())
        client.read_close()
    assert posted(server, "/echo") == ("101 Switching Protocols", 101, 5)
    with WebSocketClient(server.address) as client:
        assert client.open("/deny").status == 403
    assert posted(server, "/deny")[1] == 403
    with WebSocketClient(server.address) as client:
        client.send(handshake("/hesitate"))
        assert server.get("/journal/hesitating").status == 200
        client.reset()
    assert posted(server, "/hesitate") == (None, 0, 0)


def test_an_error_in_a_hook(server: Gunicorn) -> None:
    assert server.get("/refused-by-hook").status == 500
    assert "RuntimeError: the hook says no" in server.log
    assert server.get("/hello").status == 200
    server.wait_for_log(r"(?s)Exception in the post_request hook\nTraceback.*RuntimeError: the hook has failed")
    assert server.get("/fail").status == 500
    assert json.loads(server.wait_for_log(r"post (\[.*\"/fail\".*\])\n")[1])[9:11] == ["500 Internal Server Error", 500]


def test_a_hook_with_two_arguments(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    path = tmp_path / "hooks.py"
    path.write_text(TWO_ARGUMENTS)
    server = gunicorns.start("probe", "--config", str(path))
    server.get("/target/two")
    server.wait_for_log("post /target/two\n")
