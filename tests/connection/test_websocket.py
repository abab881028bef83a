"""One WebSocket from its handshake to its end, on a transport that fails on misuse and a loop whose time moves on."""

import asyncio
import contextlib
import re
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gunicorn_asgi.asgi_types import Receive, Send
from gunicorn_asgi.connection.websocket import CLOSE_SECONDS
from gunicorn_asgi.errors import ClientDisconnected
from tests.connection.serving import turns
from tests.connection.test_http1 import Client, Tireless, serve
from tests.support.http1 import Response, request
from tests.support.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frame,
    accept_value,
    close,
    frame,
    frames_in,
    handshake,
)

KIB = 1024
RSV1 = 4
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\n"

CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}


def text(content: str) -> dict[str, Any]:
    return {"type": "websocket.send", "text": content}


def binary(content: bytes) -> dict[str, Any]:
    return {"type": "websocket.send", "bytes": content}


def disconnect(code: int, reason: str = "") -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


class Recorder:
    """An application that accepts, and remembers what it receives until it is told to stop. Then it does `then`."""

    def __init__(self, then: Callable[[Send], Awaitable[None]] | None = None, *, echo: bool = False) -> None:
        self.received: list[Any] = []
        self.scope: Any = None
        self.sends: Send | None = None
        self.may_receive = asyncio.Event()
        self.may_receive.set()
        self._then = then
        self._echo = echo
        self.ended = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.scope = scope
        assert await receive() == CONNECT
        await send(ACCEPT)
        self.sends = send
        while True:
            await self.may_receive.wait()
            message: Any = await receive()
            self.received.append(message)
            if message["type"] == "websocket.disconnect":
                break
            if self._echo:
                await send({**message, "type": "websocket.send"})
        if self._then is not None:
            await self._then(send)
        self.ended = True

    @property
    def contents(self) -> list[Any]:
        return [message.get("text", message.get("bytes")) for message in self.received if "code" not in message]

    @property
    def end(self) -> Any:
        """What it was told at the end, without its type; None where it has not been told."""
        if not self.received or "code" not in self.received[-1]:
            return None
        return self.received[-1]["code"], self.received[-1]["reason"]


def answer(client: Client) -> Response:
    head, end, _ = bytes(client.transport.received).partition(b"\r\n\r\n")
    assert end
    return Response(head + end, b"", b"")


def frames(client: Client) -> list[Frame]:
    """What the server has sent behind its head."""
    return frames_in(bytes(client.transport.received).partition(b"\r\n\r\n")[2])


async def opened(client: Client, fields: str = "") -> None:
    await client.send(handshake("/chat?a=1", fields))
    assert answer(client).status == 101


# The handshake


def test_an_echo_of_text_and_bytes() -> None:
    app = Recorder(echo=True)

    async def steps(client: Client) -> None:
        await client.send(handshake("/chat?a=1", "Sec-WebSocket-Protocol: v2, v1\r\n"))
        response = answer(client)
        assert response.status == 101
        assert response.get(b"sec-websocket-accept") == accept_value()
        assert response.get(b"upgrade") == b"websocket"
        assert response.get(b"connection") == b"upgrade"
        assert response.get(b"sec-websocket-extensions") is None
        assert response.get(b"sec-websocket-protocol") is None
        assert response.get(b"content-length") is None
        for piece in (frame(TEXT, "hällo".encode()), frame(BINARY, b"\x00\xff"), frame(TEXT), frame(BINARY)):
            await client.send(piece)
        assert frames(client) == [
            Frame(TEXT, "hällo".encode()),
            Frame(BINARY, b"\x00\xff"),
            Frame(TEXT, b""),
            Frame(BINARY, b""),
        ]

    serve(app, steps)
    assert app.contents == ["hällo", b"\x00\xff", "", b""]
    assert app.scope["type"] == "websocket"
    assert app.scope["scheme"] == "ws"
    assert app.scope["path"] == "/chat"
    assert app.scope["query_string"] == b"a=1"
    assert app.scope["subprotocols"] == ["v2", "v1"]
    assert app.scope["extensions"] == {"websocket.http.response": {}}
    assert "method" not in app.scope
    assert app.end == (1006, "")


def test_the_application_chooses_subprotocol_and_headers() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        headers = [
            [b"X-One", b"1"],
            (b"set-cookie", b"a=b"),
            (b"sec-websocket-accept", b"forged"),
            (b"Sec-WebSocket-Version", b"8"),
            (b"server", b"mine"),
        ]
        await send({"type": "websocket.accept", "subprotocol": "v1", "headers": headers})
        await send(text("hello"))
        await receive()
        await receive()

    async def steps(client: Client) -> None:
        await client.send(handshake())
        response = answer(client)
        assert response.get(b"sec-websocket-protocol") == b"v1"
        assert response.get(b"x-one") == b"1"
        assert response.get(b"set-cookie") == b"a=b"
        assert response.get(b"server") == b"mine"
        assert response.get(b"sec-websocket-accept") == accept_value()
        assert response.get(b"sec-websocket-version") is None
        assert frames(client) == [Frame(TEXT, b"hello")]

    serve(app, steps)


def test_what_comes_behind_the_handshake_is_websocket() -> None:
    """Before it is answered, in any pieces, and never taken for a request."""
    app = Recorder(echo=True)
    data = handshake() + frame(TEXT, b"early") + frame(TEXT, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for step in (len(data), 1, 50):

        async def steps(client: Client, step: int = step) -> None:
            for start in range(0, len(data), step):
                client.transport.feed(data[start : start + step])
            await turns()
            assert [received.payload for received in frames(client)] == [b"early", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]

        serve(app, steps)


def test_a_websocket_behind_other_requests() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
        else:
            await Recorder(echo=True)(scope, receive, send)

    async def steps(client: Client) -> None:
        await client.send(request("/") + handshake() + frame(TEXT, b"a"))
        first, _, rest = bytes(client.transport.received).partition(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 204")
        assert rest.startswith(b"HTTP/1.1 101")
        assert frames_in(rest.partition(b"\r\n\r\n")[2]) == [Frame(TEXT, b"a")]

    serve(app, steps)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (handshake().replace(b"Version: 13", b"Version: 8"), 426),
        (handshake().replace(b"Key: ", b"Key: a"), 400),
        (handshake().replace(b"GET", b"PUT"), 405),
        (handshake(fields="Content-Length: 1\r\n") + b"a", 400),
        (handshake(fields="Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", 400),
    ],
)
def test_a_wrong_handshake_is_refused(data: bytes, status: int) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        raise AssertionError("the application is not asked")

    async def steps(client: Client) -> None:
        await client.send(data)
        (response,) = client.responses
        assert response.status == status
        assert response.get(b"connection") == b"close"
        assert response.get(b"sec-websocket-version") == b"13"
        assert client.lingers
        assert len(client.log.of("warning")) == 1

    serve(app, steps)


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        (handshake(), {"websockets": False}),
        (handshake().replace(b"Upgrade: websocket", b"Upgrade: other"), {}),
        (handshake().replace(b"Connection: Upgrade\r\n", b""), {}),
    ],
)
def test_an_upgrade_that_is_not_served_is_ignored(data: bytes, settings: dict[str, Any]) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"plain"})

    async def steps(client: Client) -> None:
        await client.send(data)
        await client.send(request("/"))
        assert client.bodies == [b"plain", b"plain"]

    serve(app, steps, **settings)


def test_an_application_that_closes_instead_of_accepting() -> None:
    received: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        received.append(await receive())
        await send({"type": "websocket.close"})
        received.append(await receive())
        with pytest.raises(RuntimeError, match=r"websocket\.send.*complete"):
            await send(text("late"))

    async def steps(client: Client) -> None:
        await client.send(handshake())
        (response,) = client.responses
        assert response.status == 403
        assert response.get(b"connection") == b"close"
        assert client.transport.closed
        assert client.access_log.lines == [("/", 403, len(response.body))]

    serve(app, steps)
    assert received == [CONNECT, disconnect(1006)]


def test_a_denial_with_a_response_of_the_application() -> None:
    received: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        headers = [(b"x-why", b"because")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"go ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"away"})
        received.append(await receive())
        received.append(await receive())

    async def steps(client: Client) -> None:
        await client.send(handshake())
        (response,) = client.responses
        assert (response.status, response.body) == (401, b"go away")
        assert response.get(b"x-why") == b"because"
        assert response.get(b"connection") == b"close"
        assert client.access_log.lines == [("/", 401, 7)]

    serve(app, steps)
    assert received == [CONNECT, disconnect(1006)]


def test_an_application_that_does_not_answer_in_time() -> None:
    received: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        received.append(await receive())
        try:
            await asyncio.Event().wait()
        finally:
            received.append(await receive())

    async def steps(client: Client) -> None:
        await client.send(handshake())
        await client.pass_time(4.5)
        (response,) = client.responses
        assert response.status == 504
        assert response.get(b"connection") == b"close"
        assert client.access_log.lines == [("/", 504, len(response.body))]
        assert not client.context.exchanges
        assert client.log.exceptions == []

    serve(app, steps, request_timeout_seconds=3.0)
    assert received == [CONNECT, disconnect(1006)]


def test_an_open_websocket_may_take_its_time() -> None:
    async def steps(client: Client) -> None:
        await opened(client)
        await client.pass_time(15.0)
        assert client.is_open

    serve(Recorder(), steps, request_timeout_seconds=3.0, disconnect_grace_seconds=3.0)


def test_an_application_that_does_not_notice_the_loss_is_cancelled() -> None:
    """Where that is asked for, also while messages are left that it has not taken."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await asyncio.Event().wait()

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(frame(TEXT, b"a") * 10)
        client.transport.lose()
        await client.pass_time(5.0)
        assert not client.context.exchanges
        assert client.log.of("error") == []

    serve(app, steps, ws_max_queue=4, disconnect_grace_seconds=3.0)


@pytest.mark.parametrize("answer_with", [401, 101])
def test_an_answer_that_was_not_allowed_is_none(answer_with: int) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        bad = [(b"a b", b"c")]
        for _ in range(2):
            with pytest.raises(RuntimeError, match="token"):
                await send({"type": "websocket.http.response.start", "status": 400, "headers": bad})
            with pytest.raises(RuntimeError, match="token"):
                await send({"type": "websocket.accept", "headers": bad})
        with pytest.raises(RuntimeError, match="no answer, expected"):
            await send({"type": "websocket.http.response.body"})
        if answer_with == 101:
            await send(ACCEPT)
        else:
            await send({"type": "websocket.http.response.start", "status": 401})
            await send({"type": "websocket.http.response.body"})

    async def steps(client: Client) -> None:
        await client.send(handshake())
        assert answer(client).status == answer_with
        assert client.access_log.lines == [("/", answer_with, 0)]

    serve(app, steps)


@pytest.mark.parametrize(
    ("messages", "names"),
    [
        ([text("a")], r"websocket\.send.*no answer"),
        ([ACCEPT, ACCEPT], r"websocket\.accept.*open"),
        ([ACCEPT, {"type": "websocket.http.response.start", "status": 400}], r"http\.response\.start.*open"),
        ([ACCEPT, {"type": "websocket.http.response.body"}], r"http\.response\.body.*open"),
        ([ACCEPT, {"type": "http.response.body"}], r"http\.response\.body.*open"),
        ([ACCEPT, {"type": "websocket.close"}, text("a")], r"websocket\.send.*closed"),
        ([ACCEPT, {"type": "websocket.close"}, {"type": "websocket.close"}], r"websocket\.close.*closed"),
        ([{"type": "http.response.start", "status": 200}], r"http\.response\.start.*no answer"),
        (
            [{"type": "websocket.http.response.start", "status": 400}, ACCEPT],
            r"websocket\.accept.*response has started",
        ),
        ([ACCEPT, {"type": "websocket.send"}], "needs 'bytes' or 'text'"),
        ([ACCEPT, {"type": "websocket.send", "text": b"a"}], "needs 'bytes' or 'text'"),
        ([ACCEPT, {"type": "websocket.send", "bytes": "a"}], "must be bytes, not str"),
        ([ACCEPT, {"type": "websocket.close", "code": 1005}], "1005 is not a code"),
        ([ACCEPT, {"type": "websocket.close", "code": 1006}], "1006 is not a code"),
        ([ACCEPT, {"type": "websocket.close", "code": 1000.0}], "1000.0 is not a code"),
        ([ACCEPT, {"type": "websocket.close", "reason": b"bye"}], "must be a str, not bytes"),
        ([ACCEPT, {"type": "websocket.close", "reason": "a" * 124}], "123 bytes"),
        ([{"type": "websocket.accept", "headers": [(b"a b", b"c")]}], "token"),
        ([{"type": "websocket.accept", "headers": [()]}], "not a pair"),
        ([{"type": "websocket.accept", "subprotocol": b"v1"}], "must be a str that"),
        ([{"type": "websocket.accept", "subprotocol": "v\r\n1"}], "a token"),
        ([{"type": "websocket.accept", "subprotocol": ""}], "a token"),
        ([{"type": "websocket.accept", "subprotocol": "\ud800"}], "a token"),
        ([{"type": "websocket.http.response.start", "status": 401, "headers": [(b"a b", b"c")]}], "token"),
    ],
)
def test_messages_out_of_order_or_shape_raise_in_the_application(messages: list[Any], names: str) -> None:
    errors: list[BaseException] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for message in messages[:-1]:
            await send(message)
        try:
            await send(messages[-1])
        except RuntimeError as error:
            errors.append(error)
            raise

    async def steps(client: Client) -> None:
        await client.send(handshake())
        assert len(client.log.exceptions) == 1

    serve(app, steps)
    (error,) = errors
    assert re.search(names, str(error))


# Ends


def test_the_client_closes() -> None:
    app = Recorder()

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(frame(TEXT, b"a") + close(3001, "tschüß".encode()))
        assert frames(client) == [Frame(CLOSE, b"\x0b\xb9" + "tschüß".encode())]
        assert client.transport.closed
        assert client.access_log.lines == [("/chat", 101, 0)]
        assert not client.context.exchanges

    serve(app, steps)
    assert app.contents == ["a"]
    assert app.end == (3001, "tschüß")


@pytest.mark.parametrize("end", [close(), frame(TEXT, b"a", mask=None)])
def test_the_access_log_when_the_end_comes_with_the_handshake(end: bytes) -> None:
    async def steps(client: Client) -> None:
        await client.send(handshake() + end)
        assert client.access_log.lines == [("/", 101, 0)]
        (record,) = client.access_log.records
        assert b"sec-websocket-accept" in dict(record.response_headers)

    serve(Recorder(), steps)


@pytest.mark.parametrize("how", ["client", "application", "loss"])
def test_the_access_log_shows_how_long_it_was_open(how: str) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await receive()
        await receive()
        await send({"type": "websocket.close"})

    async def steps(client: Client) -> None:
        await client.send(handshake())
        await asyncio.sleep(0.1)
        if how == "loss":
            client.transport.lose()
        else:
            await client.send(close() if how == "client" else frame(TEXT, b"a"))
        (seconds,) = client.access_log.durations_seconds
        assert 0.09 < seconds < 10

    serve(app, steps)


def test_the_client_closes_without_a_code() -> None:
    app = Recorder()

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(close(None))
        assert frames(client) == [Frame(CLOSE, b"")]
        assert client.transport.closed

    serve(app, steps)
    assert app.end == (1005, "")


@pytest.mark.parametrize("how", ["reset", "end"])
def test_the_client_vanishes(how: str) -> None:
    app = Recorder()

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(frame(TEXT, b"a"))
        if how == "reset":
            client.transport.lose(ConnectionResetError())
        else:
            await client.end_sending()
        await turns()
        assert app.ended
        assert not client.context.exchanges
        assert not client.context.connections

    serve(app, steps)
    assert app.end == (1006, "")


@pytest.mark.parametrize("how", ["reset", "end"])
def test_the_client_vanishes_before_it_is_accepted(how: str) -> None:
    go_on = asyncio.Event()
    received: list[Any] = []
    errors: list[OSError] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        received.append(await receive())
        received.append(await receive())
        await go_on.wait()
        try:
            await send(ACCEPT)
            await send(text("a"))
        except OSError as error:
            errors.append(error)

    async def steps(client: Client) -> None:
        await client.send(handshake())
        if how == "reset":
            client.transport.lose(ConnectionResetError())
        else:
            await client.end_sending()
            await client.pass_time(2.0)
        go_on.set()
        await turns()
        assert not client.context.exchanges
        assert not client.context.connections
        assert client.log.exceptions == []

    serve(app, steps)
    assert received == [CONNECT, disconnect(1006)]
    assert len(errors) == 1


def test_send_raises_an_os_error_after_disconnect() -> None:
    errors: list[BaseException] = []

    async def then(send: Send) -> None:
        for message in (text("a"), binary(b"a"), {"type": "websocket.close"}):
            try:
                await send(message)
            except OSError as error:
                errors.append(error)
        await send(text("a"))

    app = Recorder(then)

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(close())
        # What is not caught is no mistake of the application.
        assert client.log.exceptions == []

    serve(app, steps)
    assert [type(error) for error in errors] == [ClientDisconnected] * 3


def test_receive_tells_the_end_again_and_again() -> None:
    received: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        received.extend([await receive() for _ in range(3)])

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(close())

    serve(app, steps)
    assert received == [disconnect(1000)] * 3


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        ({"type": "websocket.close"}, b"\x03\xe8"),
        ({"type": "websocket.close", "code": 4000, "reason": "enough"}, b"\x0f\xa0enough"),
        ({"type": "websocket.close", "code": None, "reason": None}, b"\x03\xe8"),
    ],
)
def test_the_application_closes(message: dict[str, Any], payload: bytes) -> None:
    received: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send(text("bye"))
        await send(message)
        received.append(await receive())

    async def steps(client: Client) -> None:
        await opened(client)
        assert frames(client) == [Frame(TEXT, b"bye"), Frame(CLOSE, payload)]
        assert client.is_open
        assert client.access_log.lines == [("/chat", 101, 3)]
        # What is under way does not matter any more.
        await client.send(frame(TEXT, b"late") + frame(PING, b"late") + close(1000))
        assert client.transport.closed
        assert len(frames(client)) == 2

    serve(app, steps)
    assert received == [disconnect(int.from_bytes(payload[:2], "big"), payload[2:].decode())]


@pytest.mark.parametrize(
    "bad", [{"code": 1006}, {"code": 1000.0}, {"code": "1000"}, {"reason": b"bye"}, {"reason": "a" * 124}]
)
def test_a_close_that_is_not_allowed_changes_nothing(bad: dict[str, Any]) -> None:
    app = Recorder()

    async def steps(client: Client) -> None:
        await opened(client)
        app.may_receive.clear()
        await client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(20)))
        assert app.sends is not None
        with pytest.raises(RuntimeError, match=r"websocket\.close"):
            await app.sends({"type": "websocket.close", **bad})
        app.may_receive.set()
        await turns(50)
        await client.send(frame(TEXT, b"later"))
        assert app.contents == [*map(str, range(20)), "later"]
        await client.send(close(3000))

    serve(app, steps, ws_max_queue=4)
    assert app.end == (3000, "")


def test_a_failed_close_that_is_not_caught_closes_with_1011() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.close", "reason": b"bye"})

    async def steps(client: Client) -> None:
        await opened(client)
        assert frames(client) == [Frame(CLOSE, b"\x03\xf3")]
        assert len(client.log.exceptions) == 1

    serve(app, steps)


def test_an_application_that_returns_closes_normally() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)

    async def steps(client: Client) -> None:
        await opened(client)
        assert frames(client) == [Frame(CLOSE, b"\x03\xe8")]
        assert client.log.exceptions == []
        await client.send(close())
        assert client.transport.closed

    serve(app, steps)


def test_an_application_that_returns_without_an_answer() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()

    async def steps(client: Client) -> None:
        await client.send(handshake())
        (response,) = client.responses
        assert response.status == 500
        assert response.get(b"connection") == b"close"
        assert len(client.log.exceptions) == 1

    serve(app, steps)


def test_an_application_that_fails_before_it_accepts() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        raise ValueError("on purpose")

    async def steps(client: Client) -> None:
        await client.send(handshake())
        (response,) = client.responses
        assert response.status == 500
        assert [str(error) for error in client.log.exceptions] == ["on purpose"]

    serve(app, steps)


def test_an_application_that_fails() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        raise ValueError("on purpose")

    async def steps(client: Client) -> None:
        await opened(client)
        assert frames(client) == [Frame(CLOSE, b"\x03\xf3")]
        assert [str(error) for error in client.log.exceptions] == ["on purpose"]
        assert client.access_log.lines == [("/chat", 101, 0)]

    serve(app, steps)


def test_an_exception_that_stands_for_the_disconnect_is_no_error() -> None:
    class WebSocketDisconnect(Exception):
        """As Starlette raises it."""

    async def then(send: Send) -> None:
        raise WebSocketDisconnect

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(close())
        assert client.log.of("error") == []
        assert len(client.log.of("debug")) == 1

    serve(Recorder(then), steps)


def test_a_group_of_exceptions_that_stand_for_the_disconnect_is_no_error() -> None:
    class WebSocketDisconnect(Exception):
        """As Starlette raises it."""

    class Group(Exception):
        """As `ExceptionGroup`, which Python 3.10 does not have."""

        exceptions: tuple[Exception, ...] = ()

    async def then(send: Send) -> None:
        group = Group()
        group.exceptions = (WebSocketDisconnect(), members[-1])
        raise group

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(close())

    members: list[Exception] = [WebSocketDisconnect()]
    assert serve(Recorder(then), steps).log.of("error") == []
    members.append(ValueError("on purpose"))
    assert len(serve(Recorder(then), steps).log.of("error")) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_client_that_ends_its_side_before_the_answer(fails: bool) -> None:
    class WebSocketDisconnect(Exception):
        """As Starlette raises it."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass
        if fails:
            raise WebSocketDisconnect

    async def steps(client: Client) -> None:
        await client.send(handshake())
        await client.end_sending()
        await client.pass_time(3.0)
        assert not client.is_open
        assert client.log.of("error") == []
        assert client.access_log.lines == [("/", 499, 0)]

    serve(app, steps)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"a", mask=None), 1002),
        (frame(3), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(BINARY, length=2**30), 1009),
    ],
)
def test_a_client_that_breaks_a_rule(data: bytes, code: int) -> None:
    app = Recorder()

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(frame(TEXT, b"good") + data)
        (received,) = frames(client)
        assert received.code == code
        # A close under unread bytes would become a reset, and destroy the close frame on its way.
        assert client.lingers
        await client.send(b"anything " * 1000)
        assert len(frames(client)) == 1
        await client.pass_time(3.0)
        assert client.transport.is_closing()

    serve(app, steps)
    assert app.contents == ["good"]
    assert app.end is not None
    assert app.end[0] == code


def test_a_client_that_breaks_a_rule_and_goes() -> None:
    app = Recorder()

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(frame(3))
        await client.end_sending()
        assert client.transport.closed

    serve(app, steps)


def test_a_client_that_breaks_a_rule_over_tls() -> None:
    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(frame(3))
        assert frames(client)[0].code == 1002
        assert client.transport.closed

    serve(Recorder(), steps, can_write_eof=False)


def test_a_client_that_does_not_answer_a_close() -> None:
    """Slowly sending something else is no answer."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)

    async def steps(client: Client) -> None:
        await opened(client)
        for _ in range(8):
            await client.pass_time(1.0)
            await client.send(frame(TEXT, b"still here"))
        assert not client.transport.is_closing()
        await client.pass_time(CLOSE_SECONDS - 8 + 1.5)
        assert client.transport.aborted

    serve(app, steps)


def test_garbage_instead_of_the_answer_to_a_close() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(frame(3))
        assert len(frames(client)) == 1
        assert client.lingers

    serve(app, steps)


def test_a_bomb_behind_our_close_is_not_inflated() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)

    deflater = zlib.compressobj(wbits=-15)
    bomb = deflater.compress(bytes(2**20)) + deflater.flush(zlib.Z_SYNC_FLUSH)[:-4]

    async def steps(client: Client) -> None:
        await opened(client, DEFLATE)
        assert frames(client)[0].code == 1000
        # Twice too large, which would be told if anybody looked.
        await client.send(frame(BINARY, bomb, reserved=RSV1) + frame(TEXT, b"\xff", reserved=RSV1))
        assert len(frames(client)) == 1
        assert client.is_open
        await client.send(close())
        assert client.transport.closed

    serve(app, steps, ws_max_message_bytes=KIB)


# Compression


def test_compression_from_64_bytes_on() -> None:
    app = Recorder(echo=True)

    async def steps(client: Client) -> None:
        await opened(client, DEFLATE)
        assert answer(client).get(b"sec-websocket-extensions") == b"permessage-deflate; server_max_window_bits=12"
        deflater, inflater = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-12)
        for content in (b"a" * 1000, b"a" * 64, b"a" * 100_000):
            payload = (deflater.compress(content) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
            await client.send(frame(TEXT, payload, reserved=RSV1))
            echo = frames(client)[-1]
            assert (echo.opcode, echo.reserved) == (TEXT, RSV1)
            assert inflater.decompress(echo.payload + b"\x00\x00\xff\xff") == content
        await client.send(frame(TEXT, b"a" * 63))
        assert frames(client)[-1] == Frame(TEXT, b"a" * 63)

    serve(app, steps)


def test_compression_switched_off() -> None:
    async def steps(client: Client) -> None:
        await opened(client, DEFLATE)
        assert answer(client).get(b"sec-websocket-extensions") is None
        await client.send(frame(TEXT, b"a" * 1000))
        assert frames(client) == [Frame(TEXT, b"a" * 1000)]

    serve(Recorder(echo=True), steps, ws_per_message_deflate=False)


def test_a_deflate_bomb() -> None:
    app = Recorder()
    deflater = zlib.compressobj(9, wbits=-15)
    bomb = (deflater.compress(bytes(2**24)) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(bomb) < 20_000

    async def steps(client: Client) -> None:
        await opened(client, DEFLATE)
        await client.send(frame(BINARY, bomb, reserved=RSV1))
        assert frames(client)[0].code == 1009

    serve(app, steps, ws_max_message_bytes=64 * KIB)
    assert app.contents == []


# Pings


def test_pings_are_answered() -> None:
    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(frame(PING, b"a" * 125) + frame(TEXT, b"b"))
        assert frames(client) == [Frame(PONG, b"a" * 125)]

    serve(Recorder(), steps)


def test_a_flood_of_pings_gets_one_answer() -> None:
    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(b"".join(frame(PING, b"%d" % number) for number in range(10_000)))
        assert frames(client) == [Frame(PONG, b"9999")]
        client.transport.stalled = True
        await client.send(frame(TEXT, b"go"))
        for number in range(100):
            await client.send(frame(PING, b"%d" % number))
        written = len(client.transport.writes)
        client.transport.stalled = False
        client.transport.take()
        await turns()
        assert len(client.transport.writes) == written + 1
        assert frames(client)[-1] == Frame(PONG, b"99")

    class Flooding(Recorder):
        async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
            await send(ACCEPT)
            await receive()
            await receive()
            await send(binary(bytes(100 * KIB)))
            await receive()

    serve(Flooding(), steps)


def test_an_idle_client_is_pinged_and_kept_while_it_answers() -> None:
    app = Recorder()

    async def steps(client: Client) -> None:
        await opened(client)
        pings: list[Frame] = []
        for number in range(1, 4):
            await client.pass_time(11.5)
            pings = [received for received in frames(client) if received.opcode == PING]
            assert len(pings) == number
            await client.send(frame(PONG, pings[-1].payload))
        assert len({ping.payload for ping in pings}) == 3
        assert client.is_open

    serve(app, steps, ws_ping_interval_seconds=10.0, ws_ping_timeout_seconds=5.0)


@pytest.mark.parametrize("noise", [None, frame(PONG, b"unasked"), frame(TEXT, b"a"), frame(PING)])
def test_a_client_that_does_not_answer_a_ping_is_given_up(noise: bytes | None) -> None:
    """As a peer whose machine has gone: nothing says so but its silence. What it was sending before may still come."""
    app = Recorder()

    async def steps(client: Client) -> None:
        await opened(client)
        await client.pass_time(11.5)
        if noise is not None:
            await client.send(noise)
            await client.pass_time(5.0)
        await client.pass_time(4.0)
        assert client.is_open
        await client.pass_time(2.5)
        assert frames(client)[-1].code == 1011
        assert app.ended
        await client.pass_time(3.0)
        assert client.transport.is_closing()
        assert not client.context.connections

    serve(app, steps, ws_ping_interval_seconds=10.0, ws_ping_timeout_seconds=5.0)
    assert app.end == (1011, "keepalive ping timeout")


@pytest.mark.parametrize("settings", [{"ws_ping_interval_seconds": None}, {"ws_ping_timeout_seconds": None}])
def test_pings_or_their_timeout_can_be_switched_off(settings: dict[str, Any]) -> None:
    async def steps(client: Client) -> None:
        await opened(client)
        await client.pass_time(70.0)
        assert client.is_open
        assert len(frames(client)) == (0 if "ws_ping_interval_seconds" in settings else 3)

    serve(Recorder(), steps, **settings)


def test_a_client_is_also_pinged_while_nobody_takes_its_messages() -> None:
    """Its pong could not be read. But what is sent to one that has gone fails, which nothing else would show."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await asyncio.Event().wait()

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(frame(TEXT, b"a") * 10)
        assert not client.transport.reading
        await client.pass_time(10 * 12.0)
        assert [received.opcode for received in frames(client)] == [PING] * len(frames(client))
        assert 8 < len(frames(client)) < 13
        assert client.is_open
        client.transport.stalled = True
        await client.pass_time(40.0)
        assert client.transport.aborted
        assert client.access_log.lines == [("/chat", 101, 0)]
        (exchange,) = client.context.exchanges
        exchange.task.cancel()
        await turns()
        assert client.log.of("error") == []

    serve(
        app,
        steps,
        ws_max_queue=4,
        ws_ping_interval_seconds=10.0,
        ws_ping_timeout_seconds=5.0,
        write_timeout_seconds=15.0,
    )


def test_many_frames_on_their_way_may_hold_up_the_pong() -> None:
    async def steps(client: Client) -> None:
        await opened(client)
        for _ in range(8):
            await client.pass_time(5.0)
            await client.send(frame(BINARY, bytes(1000)))
        assert client.is_open
        ping = [received for received in frames(client) if received.opcode == PING][-1]
        await client.send(frame(PONG, ping.payload))
        await client.pass_time(15.0)
        assert frames(client)[-1].code == 1011

    serve(Recorder(), steps, ws_ping_interval_seconds=5.0, ws_ping_timeout_seconds=5.0)


def test_a_long_frame_on_its_way_may_hold_up_the_pong() -> None:
    async def steps(client: Client) -> None:
        await opened(client)
        long = frame(BINARY, bytes(1000))
        await client.send(long[:100])
        for number in range(1, 8):
            await client.pass_time(6.0)
            await client.send(long[number * 100 : number * 100 + 100])
        assert client.is_open
        await client.pass_time(12.0)
        assert frames(client)[-1].code == 1011

    serve(Recorder(), steps, ws_ping_interval_seconds=5.0, ws_ping_timeout_seconds=5.0)


# Flow control


def test_the_queue_is_bounded_and_nothing_is_lost() -> None:
    app = Recorder()

    async def steps(client: Client) -> None:
        await opened(client)
        app.may_receive.clear()
        await client.send(frame(TEXT, b"first"))
        for number in range(10):
            await client.send(b"".join(frame(TEXT, b"%d" % (10 * number + i)) for i in range(10)))
        assert not client.transport.reading
        app.may_receive.set()
        await turns(200)
        assert client.transport.reading
        assert app.contents == ["first", *map(str, range(100))]
        assert client.is_open

    serve(app, steps, ws_max_queue=4)


@pytest.mark.parametrize("max_queue", [1, 2, 32])
def test_many_messages_at_once(max_queue: int) -> None:
    app = Recorder(echo=True)

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(3000)))
        await turns(3000)
        assert [int(received.payload) for received in frames(client)] == list(range(3000))
        assert client.transport.reading

    serve(app, steps, ws_max_queue=max_queue)


@pytest.mark.parametrize("farewell", [b"", close(3000)])
def test_what_was_received_before_the_client_went_is_still_delivered(farewell: bytes) -> None:
    app = Recorder()

    async def steps(client: Client) -> None:
        await opened(client)
        app.may_receive.clear()
        await client.send(frame(TEXT, b"x"))
        await client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(20)) + farewell)
        client.transport.lose()
        await turns()
        assert app.sends is not None
        with pytest.raises(OSError, match=r"has gone"):
            await app.sends(text("a"))
        app.may_receive.set()
        await turns(100)
        assert app.contents == ["x", *map(str, range(20))]
        assert app.ended

    serve(app, steps, ws_max_queue=4)
    assert app.end == (3000 if farewell else 1006, "")


def test_an_application_that_only_sends_learns_that_the_client_has_gone() -> None:
    received: list[Any] = []
    errors: list[OSError] = []
    lost = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await lost.wait()
        for message in (text("a"), {"type": "websocket.close"}):
            try:
                await send(message)
            except OSError as error:
                errors.append(error)
        received.extend([await receive() for _ in range(22)])
        await send(text("a"))

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(20)))
        client.transport.lose(ConnectionResetError())
        assert client.access_log.lines == [("/chat", 101, 0)]
        lost.set()
        await turns(50)
        assert client.log.of("error") == []
        assert len(client.access_log.lines) == 1

    serve(app, steps, ws_max_queue=4)
    assert [type(error) for error in errors] == [ClientDisconnected] * 2
    assert [message.get("text") for message in received[:20]] == [str(number) for number in range(20)]
    assert received[20:] == [disconnect(1006)] * 2


def test_who_waits_to_send_learns_that_the_client_has_gone() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        while True:
            await send(binary(bytes(20 * KIB)))

    async def steps(client: Client) -> None:
        client.transport.stalled = True
        await client.send(handshake() + frame(TEXT, b"a") * 20)
        client.transport.lose(ConnectionResetError())
        await turns()
        assert not client.context.exchanges
        assert client.log.of("error") == []

    serve(app, steps, ws_max_queue=4)


def test_a_message_is_not_lost_when_its_receive_is_cancelled() -> None:
    received: list[Any] = []
    waiting = asyncio.Event()
    receives: list[asyncio.Task[Any]] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        receives.append(asyncio.ensure_future(receive()))
        await waiting.wait()
        received.append(await receive())

    async def steps(client: Client) -> None:
        await opened(client)
        await turns()
        client.transport.feed(frame(TEXT, b"a"))
        receives[0].cancel()
        await turns()
        waiting.set()
        await turns()

    serve(app, steps)
    assert received == [{"type": "websocket.receive", "text": "a"}]


def test_a_message_that_comes_back_wakes_another_receive() -> None:
    received: list[Any] = []
    receives: list[asyncio.Task[Any]] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        receives.extend(asyncio.ensure_future(receive()) for _ in range(2))
        received.append(await receives[1])

    async def steps(client: Client) -> None:
        await opened(client)
        client.transport.feed(frame(TEXT, b"a"))
        receives[0].cancel()
        await turns()
        assert received == [{"type": "websocket.receive", "text": "a"}]

    serve(app, steps)


def test_the_last_message_is_not_lost_when_its_receive_is_cancelled() -> None:
    received: list[Any] = []
    go_on = asyncio.Event()
    receives: list[asyncio.Task[Any]] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        receives.append(asyncio.ensure_future(receive()))
        await go_on.wait()
        received.extend([await receive(), await receive()])

    async def steps(client: Client) -> None:
        await opened(client)
        client.transport.feed(frame(TEXT, b"a") + close(3000))
        receives[0].cancel()
        await turns()
        go_on.set()
        await turns()

    serve(app, steps)
    assert received == [{"type": "websocket.receive", "text": "a"}, disconnect(3000)]


def test_a_receive_that_is_cancelled_leaves_nothing_behind() -> None:
    """As with `asyncio.wait({receive, something else})`, again and again."""
    held: list[int] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for _ in range(2):
            tracemalloc.start()
            for _ in range(1000):
                task = asyncio.ensure_future(receive())
                await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            held.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()

    async def steps(client: Client) -> None:
        await opened(client)
        await turns(10_000)
        assert held[-1] < 64 * KIB

    serve(app, steps)


def test_several_receives_at_once() -> None:
    received: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        received.extend(await asyncio.gather(receive(), receive(), receive()))

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(frame(TEXT, b"a"))
        await client.send(frame(TEXT, b"b") + close())

    serve(app, steps)
    assert [message.get("text", message.get("code")) for message in received] == ["a", "b", 1000]


def test_send_waits_for_a_client_that_does_not_read() -> None:
    sent: list[int] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for number in range(10):
            await send(binary(bytes(20 * KIB)))
            sent.append(number)
        await receive()

    async def steps(client: Client) -> None:
        client.transport.stalled = True
        await client.send(handshake())
        assert len(sent) == 4
        client.transport.stalled = False
        client.transport.take()
        await turns()
        assert len(sent) == 10

    serve(app, steps)


@pytest.mark.parametrize("size", [1, 100, 100 * KIB])
@pytest.mark.parametrize("fields", ["", DEFLATE])
def test_a_reset_ends_an_application_that_sends_without_a_pause(size: int, fields: str) -> None:
    app = Tireless([ACCEPT], binary(bytes(size)))

    async def steps(client: Client) -> None:
        await opened(client, fields)
        app.go.set()
        client.transport.reset()
        await turns()
        assert (app.sent, type(app.error)) == (1, ClientDisconnected)

    client = serve(app, steps)
    assert client.log.of("error") == []
    assert len(client.access_log.records) == 1


def test_a_client_that_never_reads_is_given_up() -> None:
    errors: list[OSError] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        try:
            while True:
                await send(binary(bytes(20 * KIB)))
        except OSError as error:
            errors.append(error)

    async def steps(client: Client) -> None:
        client.transport.stalled = True
        await client.send(handshake())
        await client.pass_time(12.0)
        assert client.transport.aborted
        assert not client.context.connections

    serve(app, steps, write_timeout_seconds=10.0)
    assert len(errors) == 1


def test_a_client_that_does_not_even_read_its_close() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send(binary(bytes(20 * KIB)))

    async def steps(client: Client) -> None:
        client.transport.stalled = True
        await client.send(handshake())
        await client.pass_time(30)
        assert not client.transport.aborted
        await client.pass_time(12)
        assert client.transport.aborted

    serve(app, steps, write_timeout_seconds=40.0)


def test_a_close_behind_much_that_the_client_reads_slowly() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send(binary(bytes(200 * KIB)))

    async def steps(client: Client) -> None:
        client.transport.stalled = True
        await client.send(handshake())
        for _ in range(40):
            await client.pass_time(3.0)
            client.transport.take(5 * KIB)
        client.transport.take()
        await client.pass_time(5.0)
        assert not client.transport.aborted
        assert frames(client)[-1].code == 1000
        await client.pass_time(2 * CLOSE_SECONDS)
        assert client.transport.aborted

    serve(app, steps, write_timeout_seconds=4.0)


def test_a_close_wakes_whoever_waits_to_send() -> None:
    errors: list[str] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        try:
            while True:
                await send(binary(bytes(20 * KIB)))
        except OSError as error:
            errors.append(str(error))

    async def steps(client: Client) -> None:
        client.transport.stalled = True
        await client.send(handshake())
        client.context.begin_drain()
        client.context.end_grace()
        await turns()
        assert errors == ["the client has gone"]
        assert not client.context.exchanges

    serve(app, steps)


# The drain


def test_a_drain_closes_with_1012() -> None:
    app = Recorder()

    async def steps(client: Client) -> None:
        await opened(client)
        await client.send(frame(TEXT, b"a"))
        client.context.begin_drain()
        await turns()
        assert frames(client) == []
        client.context.end_grace()
        await turns()
        assert frames(client) == [Frame(CLOSE, b"\x03\xf4")]
        assert app.ended
        await client.send(close(1012))
        assert client.transport.closed

    serve(app, steps)
    assert app.contents == ["a"]
    assert app.end == (1012, "")


def test_a_websocket_that_is_accepted_after_the_grace_of_a_drain() -> None:
    accept = asyncio.Event()
    received: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await accept.wait()
        await send(ACCEPT)
        received.append(await receive())

    async def steps(client: Client) -> None:
        await client.send(handshake())
        client.context.begin_drain()
        client.context.end_grace()
        accept.set()
        await turns()
        assert frames(client) == [Frame(CLOSE, b"\x03\xf4")]

    serve(app, steps)
    assert received == [disconnect(1012)]


def test_a_handshake_that_is_complete_after_the_grace_of_a_drain() -> None:
    app = Recorder()

    async def steps(client: Client) -> None:
        await client.send(handshake()[:-10])
        client.context.begin_drain()
        client.context.end_grace()
        await client.send(handshake()[-10:])
        assert frames(client) == [Frame(CLOSE, b"\x03\xf4")]

    serve(app, steps)
    assert app.end == (1012, "")


class WebSocketDisconnect(Exception):
    """As frameworks raise it where `receive()` gives `websocket.disconnect`."""


@pytest.mark.parametrize("how", ["ends", "returns", "raises", "goes on"])
def test_a_denial_that_streams_is_told_to_end(how: str) -> None:
    received: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401})
        await send({"type": "websocket.http.response.body", "body": b"a", "more_body": True})
        received.append(await receive())
        if how == "ends":
            await send({"type": "websocket.http.response.body", "body": b"b"})
        elif how == "raises":
            raise WebSocketDisconnect
        elif how == "goes on":
            await asyncio.Event().wait()

    async def steps(client: Client) -> None:
        await client.send(handshake())
        client.context.begin_drain()
        client.context.end_grace()
        await turns()
        assert received == [disconnect(1006)]
        if how == "goes on":
            assert not client.transport.is_closing()
            await client.pass_time(5.0)
        assert client.transport.sock.resets_on_close is (how != "ends")
        assert not client.context.exchanges

    client = serve(app, steps, disconnect_grace_seconds=3.0)
    assert client.log.of("error") == []
    assert client.access_log.lines == [("/", 401, 2 if how == "ends" else 1)]


def test_a_client_that_ends_its_side_still_gets_the_answer_to_a_failure() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        assert [await receive(), await receive()] == [CONNECT, disconnect(1006)]
        raise ValueError("raised on purpose")

    async def steps(client: Client) -> None:
        await client.send(handshake())
        client.transport.feed_eof()
        await client.pass_time(2.0)
        assert answer(client).status == 500

    client = serve(app, steps)
    assert [type(error) for error in client.log.exceptions] == [ValueError]
    assert [line[1] for line in client.access_log.lines] == [500]


def test_the_end_of_a_worker() -> None:
    """What is still open when its patience has ended."""
    app = Recorder()

    async def steps(client: Client) -> None:
        await opened(client)
        for connection in tuple(client.context.connections):
            connection.close()
        assert frames(client) == [Frame(CLOSE, b"\x03\xf4")]
        assert client.transport.closed

    serve(app, steps)
    assert app.end == (1012, "")


def test_handshakes_count_as_requests() -> None:
    async def steps(client: Client) -> None:
        await opened(client)
        assert client.context.exchanges_begun == 1
        (exchange,) = client.context.exchanges
        assert exchange.describe()[:3] == ("GET", "/chat", "192.0.2.1")
        assert exchange.task.get_name() == "GET /chat"

    serve(Recorder(), steps)
