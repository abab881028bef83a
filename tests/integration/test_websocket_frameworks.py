"""WebSockets of the frameworks: their way to accept, to deny and to learn that the client has gone."""

from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol
from xprocess import XProcess

from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.websocket import TEXT, WebSocketClient

TIMEOUT_SECONDS = 20.0
FRAMEWORKS = ["starlette", "fastapi", "channels", "litestar"]


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(framework: str, xprocess: XProcess) -> Iterator[Gunicorn]:
    starter = GunicornStarter(xprocess)
    yield starter.start(f"{framework}_app", "--access-logfile", "-")
    starter.end_all()


def url(server: Gunicorn, target: str) -> str:
    return server.url.replace("http", "ws", 1) + target


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_echo(server: Gunicorn, framework: str, compression: str | None) -> None:
    with connect(
        url(server, "/echo"),
        sock=server.connect().sock,
        compression=compression,
        subprotocols=[Subprotocol("v2"), Subprotocol("v1")],
        open_timeout=TIMEOUT_SECONDS,
    ) as client:
        assert client.subprotocol == "v2"
        assert client.response is not None
        assert client.response.headers["x-framework"] == framework
        for message in ("hällo", "x" * 100_000, ""):
            client.send(message)
            assert client.recv(TIMEOUT_SECONDS) == message
        client.close(3000)
    server.wait_for_log(r'"GET /echo HTTP/1\.1" 101 ')
    assert "Traceback" not in server.log
    assert "[ERROR]" not in server.log


def test_a_client_that_vanishes(server: Gunicorn) -> None:
    logged = server.log.count('"GET /echo?gone HTTP/1.1" 101 ')
    with WebSocketClient(server.address) as client:
        assert client.open("/echo?gone", "Sec-WebSocket-Protocol: v1\r\n").status == 101
        client.send_frame(TEXT, b"a")
        assert client.read_frame().payload == b"a"
        client.reset()
    server.wait_for_log(rf'(?s)("GET /echo\?gone HTTP/1\.1" 101 .*){{{logged + 1}}}')
    assert "Traceback" not in server.log


def test_a_handshake_that_the_application_closes(server: Gunicorn) -> None:
    with pytest.raises(InvalidStatus) as caught, connect(url(server, "/closed"), sock=server.connect().sock):
        pass
    assert caught.value.response.status_code == 403


# The others know no denial responses.
@pytest.mark.parametrize("framework", ["starlette", "fastapi"], indirect=True, scope="module")
def test_a_denial_response(server: Gunicorn) -> None:
    with pytest.raises(InvalidStatus) as caught, connect(url(server, "/denied"), sock=server.connect().sock):
        pass
    assert caught.value.response.status_code == 401
    assert caught.value.response.headers["x-why"] == "because"
    assert b"who are you?" in (caught.value.response.body or b"")


def test_http_beside_it(server: Gunicorn) -> None:
    assert server.get("/json").status == 200


def test_the_chat_of_the_examples(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("chat_example")
    assert b"<h1>Chat</h1>" in server.get("/").body
    with WebSocketClient(server.address) as one, WebSocketClient(server.address) as other:
        assert one.open("/chat").status == other.open("/chat").status == 101
        # Both are guests as soon as each has got a line of its own.
        for guest in (one, other):
            guest.send_frame(TEXT, b"here")
            assert guest.read_frame().payload == b"here"
        other.send_frame(TEXT, "hällo".encode())
        while (line := one.read_frame().payload) != "hällo".encode():
            assert line == b"here"
