"""WebSockets over a stream of an HTTP/2 connection (RFC 8441)."""

import asyncio
import tracemalloc
from typing import Any

import pytest

from gunicorn_asgi.asgi_types import Receive, Send
from gunicorn_asgi.errors import ClientDisconnected
from gunicorn_asgi.wire import http2_frames as frames
from gunicorn_asgi.wire.http2_frames import ErrorCode
from tests.connection.serving import turns
from tests.connection.test_http1 import Tireless
from tests.connection.test_http2 import ALL_STREAMS, Client, serve
from tests.support import websocket
from tests.support.http2_frames import GET, data, headers

KIB = 1024
CONNECT = (
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    *GET[1:],
    (b"sec-websocket-version", b"13"),
)


class Echo:
    """Sends back what it gets, and remembers all of it."""

    def __init__(self, accept: dict[str, Any] | None = None) -> None:
        self.accept = accept or {}
        self.received: list[Any] = []
        self.scope: Any = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"hello"})
            return
        self.scope = scope
        while True:
            message: Any = await receive()
            self.received.append(message)
            if message["type"] == "websocket.connect":
                await send({"type": "websocket.accept", **self.accept})
            elif message["type"] == "websocket.receive":
                await send({**message, "type": "websocket.send"})
            else:
                return


def messages(client: Client, stream_id: int = 1) -> list[websocket.Frame]:
    return websocket.frames_in(client.responses[stream_id].content)


def test_empty_content_does_not_widen_the_window_of_a_tunnel_that_is_not_read() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        await client.send(*[data(1, bytes(16000)), data(1)] * 5)
        assert client.received().resets == {1: ErrorCode.FLOW_CONTROL_ERROR}

    serve(app, steps)


def test_a_queue_that_only_grows_is_no_progress() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        for number in range(100):
            await send({"type": "websocket.send", "text": str(number)})
            await asyncio.sleep(1.0)

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}))
        await client.send(headers(1, CONNECT, ended=False))
        await client.pass_time(7.0)
        assert client.received().resets == {1: ErrorCode.CANCEL}

    serve(app, steps, write_timeout_seconds=5.0)


def test_room_on_the_connection_is_no_room_for_a_stream_without_a_window() -> None:
    sent: list[int] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        for number in range(100):
            await send({"type": "websocket.send", "bytes": bytes(16 * KIB)})
            sent.append(number)

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}))
        await client.send(headers(1, CONNECT, ended=False))
        before = len(sent)
        connection = client.transport.get_protocol()
        for _ in range(10):
            connection.pause_writing()
            connection.resume_writing()
            await turns()
        assert len(sent) == before

    serve(app, steps)


def test_extended_connect_is_offered() -> None:
    async def steps(client: Client) -> None:
        assert b"\x00\x08\x00\x00\x00\x01" in client.received().of(frames.SETTINGS)[0].payload

    serve(Echo(), steps)


def test_extended_connect_is_not_offered_where_websockets_are_off() -> None:
    async def steps(client: Client) -> None:
        assert b"\x00\x08\x00\x00\x00\x01" not in client.received().of(frames.SETTINGS)[0].payload
        await client.send(headers(1, CONNECT, ended=False))
        assert client.received().resets == {1: ErrorCode.PROTOCOL_ERROR}

    serve(Echo(), steps, websockets=False)


def test_an_echo_beside_requests() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, [*CONNECT, (b"sec-websocket-protocol", b"chat")], ended=False))
        assert client.responses[1].status == 200
        names = [name for name, _ in client.responses[1].fields]
        assert (b"sec-websocket-protocol", b"chat") in client.responses[1].fields
        assert not {b"upgrade", b"connection", b"sec-websocket-accept"} & set(names)
        await client.send(data(1, websocket.frame(websocket.TEXT, b"abc")), headers(3))
        assert client.responses[3].content == b"hello"
        assert [(frame.opcode, frame.payload) for frame in messages(client)] == [(websocket.TEXT, b"abc")]
        await client.send(data(1, websocket.close(1001), ended=True))
        assert messages(client)[-1].code == 1001
        assert client.responses[1].ended
        await client.pass_time(3)
        assert client.received().resets == {}
        assert client.is_open

    app = Echo({"subprotocol": "chat"})
    serve(app, steps, keepalive_seconds=60)
    assert app.received[-1] == {"type": "websocket.disconnect", "code": 1001, "reason": ""}
    scope = app.scope
    assert (scope["type"], scope["http_version"], scope["scheme"]) == ("websocket", "2", "ws")
    assert (scope["path"], scope["subprotocols"]) == ("/", ["chat"])
    assert scope["client"] == ("192.0.2.1", 50000)


@pytest.mark.parametrize("size", [1, 3, 2**30])
def test_frames_in_pieces(size: int) -> None:
    async def steps(client: Client) -> None:
        whole = websocket.frame(websocket.TEXT, b"abc") + websocket.frame(websocket.BINARY, bytes(200))
        await client.send(headers(1, CONNECT, ended=False))
        await client.send(*(data(1, whole[begin : begin + size]) for begin in range(0, len(whole), size)))
        assert [frame.payload for frame in messages(client)] == [b"abc", bytes(200)]

    serve(Echo(), steps)


def test_the_client_that_the_proxy_protocol_names() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False), data(1, websocket.frame(websocket.TEXT, b"abc")))
        assert [frame.payload for frame in messages(client)] == [b"abc"]
        assert {connection.peer for connection in client.context.connections} == {"198.51.100.9"}  # type: ignore[attr-defined]

    app = Echo()
    serve(app, steps, relayed=("198.51.100.9", 4000))
    assert app.scope["client"] == ("198.51.100.9", 4000)


def test_frames_before_the_handshake_is_answered() -> None:
    async def steps(client: Client) -> None:
        await client.send(
            headers(1, CONNECT, ended=False), data(1, websocket.frame(websocket.TEXT, b"abc")), data(1, b"", ended=True)
        )
        assert [frame.payload for frame in messages(client)][:1] == [b"abc"]
        assert client.responses[1].ended

    serve(Echo(), steps)


@pytest.mark.parametrize("accepted", [False, True])
def test_what_drips_in_while_nobody_takes_it_costs_what_it_holds(accepted: bool) -> None:
    go = asyncio.Event()
    app = Echo()

    async def slow(scope: Any, receive: Receive, send: Send) -> None:
        if accepted:
            await receive()
            await send({"type": "websocket.accept"})
        await go.wait()
        if accepted:
            while (await receive())["type"] == "websocket.receive":
                app.received.append(b"")
        else:
            await app(scope, receive, send)

    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        if accepted:
            await client.send(data(1, websocket.frame(websocket.TEXT, b"a") * 2))
        whole = websocket.frame(websocket.TEXT, b"abcd") * 5000
        tracemalloc.start()
        await client.send(*(data(1, whole[begin : begin + 2]) for begin in range(0, len(whole), 2)))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 256 * KIB
        go.set()
        await turns(6000)
        assert len(app.received) == (5002 if accepted else 5001)

    serve(slow, steps, ws_max_queue=1)


def test_the_application_closes() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})

    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        assert [frame.code for frame in messages(client)] == [4000]
        assert not client.responses[1].ended
        await client.send(data(1, websocket.close(4000)))
        assert client.responses[1].ended
        await client.pass_time(3)
        assert client.received().resets == {1: ErrorCode.NO_ERROR}

    serve(app, steps, keepalive_seconds=60)


def test_the_application_denies() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close"})

    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False), data(1, websocket.frame(websocket.TEXT, b"abc")))
        assert (client.responses[1].status, client.responses[1].ended) == (403, True)

    serve(app, steps)


@pytest.mark.parametrize(("status", "sent"), [(200, 403), (204, 403), (299, 403), (302, 302), (401, 401)])
def test_no_denial_opens_the_websocket_for_the_client(status: int, sent: int) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        fields = [(b"content-length", b"2"), (b"x-why", b"because")]
        await send({"type": "websocket.http.response.start", "status": status, "headers": fields})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        response = client.responses[1]
        assert (response.status, response.content, response.ended) == (sent, b"no", True)
        assert (b"x-why", b"because") in response.fields

    client = serve(app, steps)
    assert client.access_log.lines == [("/", sent, 2)]
    assert client.log.of("error") == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([field for field in CONNECT if field[0] != b"sec-websocket-version"], 426),
        ([*CONNECT[:1], (b":protocol", b"connect-udp"), *CONNECT[2:]], 501),
    ],
)
def test_handshakes_that_are_refused(fields: list[tuple[bytes, bytes]], status: int) -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, fields, ended=False))
        assert client.responses[1].status == status
        assert status != 426 or (b"sec-websocket-version", b"13") in client.responses[1].fields

    serve(Echo(), steps)


def test_a_handshake_that_ends_its_stream() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT))
        assert client.responses[1].status == 400
        assert client.responses[1].ended

    serve(Echo(), steps)


@pytest.mark.parametrize("how", ["reset", "loss", "end"])
@pytest.mark.parametrize("first", ["application", "client", "nobody"])
def test_one_line_in_the_access_log(first: str, how: str) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if first == "application":
            await send({"type": "websocket.close"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        await done.wait()

    done = asyncio.Event()

    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        if first == "client":
            await client.send(data(1, websocket.close()))
        if how == "reset":
            await client.send(frames.rst_stream_frame(1, ErrorCode.CANCEL))
        elif how == "loss":
            client.transport.lose()
        else:
            await client.send(data(1, b"", ended=True))
        await turns()
        done.set()
        await turns()
        assert client.access_log.lines == [("/", 101, 0)]

    client = serve(app, steps)
    assert client.access_log.lines == [("/", 101, 0)]


@pytest.mark.parametrize("how", ["reset", "loss", "end"])
def test_a_client_that_goes(how: str) -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        if how == "reset":
            await client.send(frames.rst_stream_frame(1, ErrorCode.CANCEL))
        elif how == "loss":
            client.transport.lose()
        else:
            await client.send(data(1, b"", ended=True))
        await turns()
        assert app.received[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    app = Echo()
    client = serve(app, steps)
    assert client.log.exceptions == []


@pytest.mark.parametrize("how", ["reset", "loss", "end", "half-close"])
@pytest.mark.parametrize("farewell", [b"", websocket.close(4007, b"byebye")], ids=["no close", "close"])
def test_the_clients_close_is_told_behind_messages_that_wait(how: str, farewell: bytes) -> None:
    may_receive = asyncio.Event()
    received: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await may_receive.wait()
        while not received or "code" not in received[-1]:
            received.append(await receive())

    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        messages = b"".join(websocket.frame(websocket.TEXT, b"%d" % number) for number in range(100))
        await client.send(data(1, messages + farewell, ended=how in ("end", "half-close")))
        if how == "reset":
            await client.send(frames.rst_stream_frame(1, ErrorCode.CANCEL))
        elif how == "loss":
            client.transport.lose()
        elif how == "half-close":
            client.transport.feed_eof()
            await client.pass_time(2)
        may_receive.set()
        await turns(50)
        assert [message.get("text") for message in received[:-1]] == [str(number) for number in range(100)]
        code, reason = (4007, "byebye") if farewell else (1006, "")
        assert received[-1] == {"type": "websocket.disconnect", "code": code, "reason": reason}

    assert serve(app, steps, ws_max_queue=4).access_log.lines == [("/", 101, 0)]


def test_a_reset_before_the_answer_cancels() -> None:
    ends: list[str] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        await client.send(frames.rst_stream_frame(1, ErrorCode.CANCEL))
        assert ends == ["cancelled"]

    serve(app, steps)


def test_a_stream_is_no_connection_of_its_own() -> None:
    """But watched like one."""

    async def steps(client: Client) -> None:
        for stream_id in (1, 3, 5):
            await client.send(headers(stream_id, CONNECT, ended=False))
        assert len(client.context.connections) == 4
        assert client.context.socket_count == 1
        await client.send(frames.rst_stream_frame(1, ErrorCode.CANCEL))
        assert client.context.socket_count == 1
        client.transport.lose()
        assert client.context.socket_count == 0

    serve(Echo(), steps)


def test_send_waits_for_the_window() -> None:
    sent: list[int] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for number in range(40):
            await send({"type": "websocket.send", "bytes": bytes(16 * KIB)})
            sent.append(number)
        await receive()

    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        assert 4 <= len(sent) < 12, "64 KiB of window, and as much in the buffer"
        await client.send(frames.window_update_frame(0, 2**20), frames.window_update_frame(1, 2**20))
        await turns(50)
        assert len(sent) == 40
        assert [len(frame.payload) for frame in messages(client)] == [16 * KIB] * 40

    serve(app, steps)


def test_tiny_messages_wait_for_the_window() -> None:
    sent = 0
    tiny = websocket.frame(websocket.TEXT, b"x")

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "x"})
            sent += 1

    async def steps(client: Client) -> None:
        # This client does not look at its own window: each of its parts has to be taken within a few turns.
        client.context.give_way_at = float("inf")
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}))
        await client.send(headers(1, CONNECT, ended=False))
        tracemalloc.start()
        for _ in range(12):
            await client.send(data(1, tiny * 2000))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sent * 3 < 65 * KIB
        assert held < 512 * KIB
        await client.send(frames.window_update_frame(0, 2**20), frames.window_update_frame(1, 2**20))
        await turns(50)
        assert len(messages(client)) == sent == 24_000

    serve(app, steps)


def test_send_waits_for_the_transport() -> None:
    sent: list[int] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for number in range(100):
            await send({"type": "websocket.send", "bytes": bytes(16 * KIB)})
            sent.append(number)
        await receive()

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: ALL_STREAMS}))
        await client.send(frames.window_update_frame(0, 2**30))
        client.transport.stalled = True
        await client.send(headers(1, CONNECT, ended=False))
        assert len(sent) < 20
        for _ in range(100):
            client.transport.take()
            await turns(4)
        assert len(sent) == 100

    serve(app, steps)


def test_a_reset_ends_an_application_that_sends_without_a_pause() -> None:
    app = Tireless([{"type": "websocket.accept"}], {"type": "websocket.send", "bytes": bytes(16 * KIB)})

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: ALL_STREAMS}))
        await client.send(frames.window_update_frame(0, 2**30), headers(1, CONNECT, ended=False))
        app.go.set()
        client.transport.reset()
        await turns()
        assert type(app.error) is ClientDisconnected
        assert app.sent < 10

    assert serve(app, steps).log.of("error") == []


def test_a_window_that_stays_closed_ends_the_stream_alone() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "bytes": bytes(16 * KIB)})

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 100}))
        await client.send(headers(1, CONNECT, ended=False))
        await client.pass_time(7)
        assert client.received().resets == {1: ErrorCode.CANCEL}
        assert client.is_open

    serve(app, steps, write_timeout_seconds=5.0, keepalive_seconds=60)


def test_the_window_is_given_back_while_the_application_takes() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        for _ in range(20):
            await client.send(data(1, websocket.frame(websocket.BINARY, bytes(16 * KIB - 8))))
            await client.send(frames.window_update_frame(0, 16 * KIB), frames.window_update_frame(1, 16 * KIB))
        assert len(messages(client)) == 20

    serve(Echo(), steps)


def test_the_window_is_not_given_back_while_nobody_takes() -> None:
    go = asyncio.Event()
    received: list[int] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await go.wait()
        while (message := await receive())["type"] == "websocket.receive":
            received.append(len(message["bytes"]))  # type: ignore[typeddict-item]

    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        for _ in range(3):
            await client.send(data(1, websocket.frame(websocket.BINARY, bytes(15 * KIB))))
        updates = [frame for frame in client.received().of(frames.WINDOW_UPDATE) if frame.stream_id]
        assert updates == []
        go.set()
        await turns(30)
        assert received == [15 * KIB] * 3
        updates = [frame for frame in client.received().of(frames.WINDOW_UPDATE) if frame.stream_id]
        assert len(updates) == 1

    serve(app, steps, ws_max_queue=1)


def test_a_drain_closes_with_1012() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        client.context.begin_drain()
        client.context.end_grace()
        await turns()
        assert [frame.code for frame in messages(client)] == [1012]
        assert len(client.goaways) == 2
        await client.send(data(1, websocket.close(1012), ended=True))
        assert client.responses[1].ended
        assert not client.is_open

    serve(Echo(), steps)


def test_a_handshake_that_is_read_after_the_grace_of_a_drain() -> None:
    accept = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await accept.wait()
        await send({"type": "websocket.accept"})
        await receive()

    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        client.context.begin_drain()
        client.context.end_grace()
        accept.set()
        await turns()
        assert [frame.code for frame in messages(client)] == [1012]

    serve(app, steps)


def test_pings_and_a_client_that_does_not_answer() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, CONNECT, ended=False))
        await client.pass_time(3)
        assert messages(client)[0].opcode == websocket.PING
        await client.pass_time(5)
        assert messages(client)[-1].code == 1011
        assert client.is_open
        await client.send(headers(3))
        assert client.responses[3].content == b"hello"

    serve(Echo(), steps, ws_ping_interval_seconds=2.0, ws_ping_timeout_seconds=2.0, keepalive_seconds=60)
