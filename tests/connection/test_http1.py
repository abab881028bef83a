"""One HTTP/1 connection on a transport that fails on misuse, on a loop whose time can be moved on.

Where the way of arrival could matter, a case arrives whole, byte by byte and in small pieces.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from gunicorn_asgi.asgi_types import Application, Receive, Send, SendMessage
from gunicorn_asgi.connection.clock import TICK_SECONDS
from gunicorn_asgi.connection.context import ServingContext
from gunicorn_asgi.connection.http1 import Http1Connection
from gunicorn_asgi.errors import ClientDisconnected
from gunicorn_asgi.settings import HeadLimits, Settings
from tests.connection.serving import (
    PassingLoop,
    RecordingAccessLog,
    RecordingLog,
    body,
    run,
    serving_context,
    start,
    turns,
)
from tests.support.fake_transport import FakeTransport
from tests.support.http1 import Response, chunked, request

KIB = 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Cut = Callable[[bytes], list[bytes]]


@pytest.fixture(params=["whole", "byte by byte", "in pieces"])
def cut(request: pytest.FixtureRequest) -> Cut:
    """How bytes arrive."""
    size = {"whole": 2**30, "byte by byte": 1, "in pieces": 7}[request.param]
    return lambda data: [data[start : start + size] for start in range(0, len(data), size)]


def responses_in(data: bytes, *, heads_only: bool = False) -> list[Response]:
    """The responses one behind the other in `data`; one without any framing takes all that is left."""
    responses: list[Response] = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"half a head: {head!r}"
        response = Response(head + end, b"", b"")
        length = response.get(b"content-length")
        if heads_only or response.status in (100, 204, 304):
            framed = content = b""
        elif response.get(b"transfer-encoding") is not None:
            assert length is None
            framed, content = _chunks_at_the_start_of(data)
        else:
            framed = content = data if length is None else data[: int(length)]
            assert length is None or len(content) == int(length), "cut off"
        data = data[len(framed) :]
        responses.append(Response(head + end, framed, content))
    return responses


def _chunks_at_the_start_of(data: bytes) -> tuple[bytes, bytes]:
    content, position = b"", 0
    while True:
        line_end = data.index(b"\r\n", position) + 2
        size = int(data[position : line_end - 2], 16)
        position = line_end + size + 2
        assert data[position - 2 : position] == b"\r\n"
        content += data[line_end : line_end + size]
        if not size:
            return data[:position], content


@dataclass
class Client:
    """The client's end of a fake transport, and what can be seen of the server."""

    context: ServingContext
    log: RecordingLog
    access_log: RecordingAccessLog
    loop: PassingLoop
    transport: FakeTransport
    connection: Http1Connection

    async def send(self, data: bytes, cut: Cut = lambda data: [data]) -> None:
        """Send in the pieces that `cut` makes, and let the server do what it can."""
        for piece in cut(data):
            self.transport.feed(piece)
            await turns(2)
        await turns()

    async def end_sending(self) -> None:
        self.transport.feed_eof()
        await turns()

    async def pass_time(self, seconds: float) -> None:
        await self.loop.pass_time(seconds)
        await turns()

    async def block_loop(self, seconds: float) -> None:
        """Let `seconds` pass at once, as while an application does not let the loop turn."""
        self.loop._passed_seconds += seconds
        await turns()

    @property
    def responses(self) -> list[Response]:
        return responses_in(bytes(self.transport.received))

    @property
    def bodies(self) -> list[bytes]:
        return [response.body for response in self.responses]

    @property
    def is_open(self) -> bool:
        return not self.transport.is_closing() and not self.transport.eof_written

    @property
    def lingers(self) -> bool:
        """Whether the server has ended its side and still reads."""
        return self.transport.eof_written and self.transport.reading and not self.transport.is_closing()


Steps = Callable[[Client], Awaitable[None]]


def serve(app: Application, steps: Steps, *, can_write_eof: bool = True, **settings: Any) -> Client:
    """Serve one connection while `steps` are taken; then the client goes away."""

    async def main() -> Client:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PassingLoop)
        log, access_log = RecordingLog(), RecordingAccessLog()
        context = serving_context(app, settings=Settings(**settings), log=log, access_log=access_log)
        connection = Http1Connection(context)
        transport = FakeTransport(loop, connection, can_write_eof=can_write_eof)
        client = Client(context, log, access_log, loop, transport, connection)
        await steps(client)
        await turns()
        transport.lose()
        await turns()
        assert transport.misuse == []
        assert context.exchanges == set(), "an application still waits after its client has gone"
        assert (context.connections, context.unsent) == (set(), set())
        context.clock.stop()
        return client

    return run(main(), PassingLoop)


async def read_body(receive: Receive) -> bytes:
    """The whole body; a disconnect before its end raises."""
    content = bytearray()
    while True:
        message: Any = await receive()
        if message["type"] != "http.request":
            raise ConnectionError("disconnected")
        content += message["body"]
        if not message["more_body"]:
            return bytes(content)


async def respond(send: Send, content: bytes, *fields: tuple[bytes, bytes], status: int = 200) -> None:
    await send(start(status, (b"content-length", b"%d" % len(content)), *fields))
    await send(body(content))


async def tell(scope: Any, receive: Receive, send: Send) -> None:
    """Answers with what it was asked, body and all."""
    content = await read_body(receive)
    await respond(send, f"{scope['method']} {scope['path']} ".encode() + content)


async def ignore(scope: Any, receive: Receive, send: Send) -> None:
    """Answers without a look at the body."""
    await respond(send, scope["path"].encode())


class Held:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.received: list[Any] = []
        self.errors: list[BaseException] = []
        self.read = asyncio.Event()
        self.answer = asyncio.Event()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        reading = asyncio.create_task(self._read(receive))
        await self.answer.wait()
        try:
            await respond(send, scope["path"].encode())
        except OSError as error:
            self.errors.append(error)
        await reading

    async def _read(self, receive: Receive) -> None:
        await self.read.wait()
        while True:
            self.received.append(await receive())
            if self.received[-1]["type"] == "http.disconnect":
                return

    @property
    def disconnected(self) -> bool:
        return {"type": "http.disconnect"} in self.received


async def stream(scope: Any, receive: Receive, send: Send) -> None:
    """Begins a response without a length and waits for the client to go."""
    await send(start())
    await send(body(b"begun", more=True))
    while (await receive())["type"] != "http.disconnect":
        pass


# Connections


def test_a_connection_is_used_again(cut: Cut) -> None:
    async def steps(client: Client) -> None:
        for number in range(3):
            await client.send(request(f"/{number}"), cut)
            assert client.bodies[-1] == b"GET /%d " % number
        assert client.is_open
        assert [response.get(b"connection") for response in client.responses] == [None] * 3

    serve(tell, steps)


def test_head_and_content_leave_in_one_write() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/"))
        assert len(client.transport.writes) == 1

    serve(tell, steps)


def test_a_large_content_is_whole() -> None:
    async def large(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, bytes(100_000))

    async def steps(client: Client) -> None:
        await client.send(request("/") * 2)
        assert client.bodies == [bytes(100_000)] * 2

    serve(large, steps)


@pytest.mark.parametrize("size", [1, 100_000])
def test_content_of_unknown_length_is_chunked(size: int) -> None:
    async def streams(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        for _ in range(3):
            await send(body(b"a" * size, more=True))
        await send(body(b"b" * size))

    async def steps(client: Client) -> None:
        await client.send(request("/") * 2)
        assert client.bodies == [b"a" * 3 * size + b"b" * size] * 2

    serve(streams, steps)


@pytest.mark.parametrize("count", [2, 50])
def test_pipelined_requests_are_answered_in_order(cut: Cut, count: int) -> None:
    async def steps(client: Client) -> None:
        await client.send(b"".join(request(f"/{number}") for number in range(count)), cut)
        await turns(20 * count)
        assert client.bodies == [b"GET /%d " % number for number in range(count)]
        assert client.is_open
        assert client.transport.reading

    serve(tell, steps)


@pytest.mark.parametrize("count", [2, 50])
@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("app", [tell, ignore])
def test_pipelined_requests_with_bodies(cut: Cut, count: int, in_chunks: bool, app: Application) -> None:
    """The content looks like requests and must never be taken for one."""

    def post(number: int) -> bytes:
        content = request(f"/not-{number}")
        if in_chunks:
            fields = "Transfer-Encoding: chunked\r\n"
            return request(f"/{number}", method="POST", fields=fields) + chunked(content[:9], content[9:])
        return request(f"/{number}", method="POST", body=content)

    async def steps(client: Client) -> None:
        await client.send(b"".join(post(number) for number in range(count)), cut)
        await turns(20 * count)
        if app is tell:
            assert client.bodies == [b"POST /%d " % number + request(f"/not-{number}") for number in range(count)]
        else:
            assert client.bodies == [b"/%d" % number for number in range(count)]
        assert client.is_open

    serve(app, steps)


def test_one_request_runs_at_a_time_and_what_is_behind_it_waits() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/1"))
        assert client.transport.reading
        await client.send(request("/2"))
        assert client.transport.reading  # Only a read shows that a client has gone.
        await client.send(request("/3") * 5)
        assert app.paths == ["/1"]
        app.answer.set()
        app.read.set()
        await turns(100)
        assert app.paths == ["/1", "/2", *["/3"] * 5]
        assert client.transport.reading

    app = Held()
    serve(app, steps)


@pytest.mark.parametrize("content", [b"", b"abc"])
def test_reading_pauses_at_64_kib_behind_a_request_that_runs(content: bytes) -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/1", method="PUT", body=content) + request("/2", method="PUT", body=b"x" * 65_536))
        assert not client.transport.reading
        app.answer.set()
        app.read.set()
        await turns(40)
        assert client.bodies == [b"/1", b"/2"]
        assert client.transport.reading

    app = Held()
    serve(app, steps)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1\r\n", request("/never")], ids=["nothing", "part", "whole"])
def test_connection_close_is_honoured_and_what_is_behind_it_never_read(cut: Cut, version: str, behind: bytes) -> None:
    async def steps(client: Client) -> None:
        fields = "Connection: close\r\n" if version == "1.1" else ""
        await client.send(request("/last", fields=fields, version=version) + behind, cut)
        [response] = client.responses
        assert response.get(b"connection") == b"close"
        assert not client.is_open

    assert serve(tell, steps).access_log.lines == [("/last", 200, 10)]


def test_http_1_0_is_kept_alive_on_request(cut: Cut) -> None:
    async def steps(client: Client) -> None:
        for _ in range(2):
            await client.send(request("/", version="1.0", fields="Connection: keep-alive\r\n"), cut)
            assert client.responses[-1].get(b"connection") == b"keep-alive"
            assert client.is_open
        await client.send(request("/", version="1.0"), cut)
        assert client.responses[-1].get(b"connection") == b"close"
        assert client.transport.closed

    serve(tell, steps)


def test_http_1_0_never_gets_chunks_nor_keeps_alive_without_a_length() -> None:
    async def streams(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"a", more=True))
        await send(body(b"b"))

    async def steps(client: Client) -> None:
        await client.send(request("/", version="1.0", fields="Connection: keep-alive\r\n"))
        [response] = client.responses
        assert (response.get(b"transfer-encoding"), response.get(b"connection")) == (None, b"close")
        assert response.body == b"ab"
        assert client.transport.closed

    serve(streams, steps)


def test_connection_close_of_the_application_is_honoured() -> None:
    async def closes(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, b"", (b"connection", b"close"))

    async def steps(client: Client) -> None:
        await client.send(request("/"))
        assert client.responses[0].get(b"connection") == b"close"
        assert client.transport.closed

    serve(closes, steps)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_a_bodiless_response_does_not_shift_the_next(method: str, status: int) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(status if scope["path"] == "/bodiless" else 200))
        await send(body(b"content"))

    async def steps(client: Client) -> None:
        await client.send(request("/bodiless", method=method))
        [response] = responses_in(bytes(client.transport.received), heads_only=True)
        assert response.status == status
        assert response.get(b"transfer-encoding") is None
        client.transport.received.clear()
        await client.send(request("/"))
        assert client.bodies == [b"content"]

    serve(app, steps)


def test_head_stays_without_content_where_the_application_changes_its_scope() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        scope["method"] = "GET"
        await respond(send, b"content")

    async def steps(client: Client) -> None:
        await client.send(request("/", method="HEAD") * 2)
        head, behind = responses_in(bytes(client.transport.received), heads_only=True)
        assert head.get(b"content-length") == behind.get(b"content-length") == b"7"
        assert client.is_open

    serve(app, steps)


# Expect: 100-continue

EXPECT = "Expect: 100-continue\r\nContent-Length: 5\r\n"


def test_100_continue_is_sent_when_the_application_asks(cut: Cut) -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields=EXPECT), cut)
        assert client.transport.received == b""
        app.read.set()
        await turns()
        assert client.transport.received == CONTINUE
        await client.send(b"hello", cut)
        app.answer.set()
        await turns()
        assert [response.status for response in client.responses] == [100, 200]
        assert client.is_open
        assert b"".join(message.get("body", b"") for message in app.received) == b"hello"

    app = Held()
    serve(app, steps)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_100_continue_is_not_sent_where_the_body_is_here_or_the_version_is_1_0(version: str) -> None:
    async def steps(client: Client) -> None:
        app.read.set()
        fields = EXPECT if version == "1.1" else EXPECT + "Connection: keep-alive\r\n"
        head = request("/", method="PUT", fields=fields, version=version)
        if version == "1.1":
            await client.send(head + b"h")
        else:
            await client.send(head)
            await client.send(b"h")
        await client.send(b"ello")
        app.answer.set()
        await turns()
        assert [response.status for response in client.responses] == [200]
        assert client.is_open

    app = Held()
    serve(app, steps)


def test_100_continue_that_nobody_asked_for_is_not_sent_and_the_connection_ends(cut: Cut) -> None:
    """The client may now send the body or not: what comes next cannot be told."""

    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields=EXPECT), cut)
        [response] = client.responses
        assert (response.status, response.get(b"connection")) == (200, b"close")
        assert client.lingers
        await client.send(request("/never"), cut)
        assert len(client.responses) == 1

    assert len(serve(ignore, steps).access_log.records) == 1


def test_a_500_for_a_body_that_nobody_asked_for_closes_too() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        raise ValueError("boom")

    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields=EXPECT))
        [response] = client.responses
        assert (response.status, response.get(b"connection")) == (500, b"close")
        assert client.lingers

    serve(app, steps)


def test_100_continue_is_not_sent_behind_the_head_of_the_response() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(200, (b"content-length", b"2")))
        await send(body(b"a", more=True))
        await receive()
        await send(body(b"b"))

    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields=EXPECT))
        await client.send(b"hello")
        assert client.transport.received.count(b"HTTP/1.1") == 1
        assert client.bodies == [b"ab"]

    serve(app, steps)


def test_another_expectation_is_ignored() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields="Expect: a-miracle\r\n", body=b"x"))
        assert client.bodies == [b"PUT / x"]

    serve(tell, steps)


# Bodies: pausing, discarding


@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunks"])
def test_reading_pauses_at_64_kib_that_nobody_has_read(in_chunks: bool) -> None:
    async def steps(client: Client) -> None:
        if in_chunks:
            await client.send(request("/", method="PUT", fields="Transfer-Encoding: chunked\r\n") + b"30d40\r\n")
        else:
            await client.send(request("/", method="PUT", fields="Content-Length: 200000\r\n"))
        await client.send(bytes(64 * KIB - 1))
        assert client.transport.reading
        await client.send(b"\x00")
        assert not client.transport.reading
        await client.send(bytes(200_000 - 64 * KIB))
        app.read.set()
        await turns(20)
        if in_chunks:
            assert client.transport.reading
            await client.send(b"\r\n0\r\n\r\n")
        assert [message.get("more_body") for message in app.received][-1] is False
        assert sum(len(message["body"]) for message in app.received) == 200_000
        app.answer.set()
        await turns()
        assert client.bodies == [b"/"]

    app = Held()
    serve(app, steps)


def test_reading_goes_on_behind_a_body_that_paused_it_so_that_a_disconnect_is_seen() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", body=bytes(64 * KIB)))
        app.read.set()
        await turns()
        assert app.received[-1]["more_body"] is False
        assert client.transport.reading
        app.answer.set()

    app = Held()
    serve(app, steps)


@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("size", [1, 1000, 60 * KIB])
def test_a_small_body_that_was_not_read_is_drained_and_the_connection_goes_on(size: int, in_chunks: bool) -> None:
    content = (request("/never") * (1 + size // 20))[:size]

    async def steps(client: Client) -> None:
        if in_chunks:
            await client.send(request("/1", method="PUT", fields="Transfer-Encoding: chunked\r\n"))
            framed = chunked(content)
        else:
            await client.send(request("/1", method="PUT", fields=f"Content-Length: {size}\r\n"))
            framed = content
        assert client.bodies == [b"/1"]
        assert client.is_open
        await client.send(framed[: size // 2 + 1])
        await client.send(framed[size // 2 + 1 :] + request("/2"))
        assert client.bodies == [b"/1", b"/2"]
        await client.send(request("/3"))
        assert client.bodies == [b"/1", b"/2", b"/3"]
        assert client.is_open

    assert [path for path, _, _ in serve(ignore, steps).access_log.lines] == ["/1", "/2", "/3"]


@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunks"])
def test_a_large_body_that_was_not_read_ends_the_connection(in_chunks: bool) -> None:
    async def steps(client: Client) -> None:
        if in_chunks:
            await client.send(request("/1", method="PUT", fields="Transfer-Encoding: chunked\r\n") + b"fffff\r\n")
        else:
            await client.send(request("/1", method="PUT", fields="Content-Length: 1000000\r\n"))
        assert client.bodies == [b"/1"]
        sent = 0
        while client.is_open:
            await client.send(request("/never") * 50)
            sent += len(request("/never") * 50)
            assert sent < 70_000
        assert sent > 64 * KIB
        assert client.lingers
        await client.send(request("/never"))
        assert client.bodies == [b"/1"]

    serve(ignore, steps)


def test_a_body_that_was_not_read_and_does_not_come_ends_the_connection() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/1", method="PUT", fields="Content-Length: 10\r\n") + b"12345")
        await client.pass_time(1.0 - TICK_SECONDS)
        assert client.is_open
        await client.pass_time(1.0 + TICK_SECONDS)
        assert client.lingers
        await client.pass_time(1.0 + 2 * TICK_SECONDS)
        assert client.transport.closed

    serve(ignore, steps)


def test_a_body_that_is_read_after_the_response_does_not_stop_the_clock() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await ignore(scope, receive, send)
        for _ in range(3):
            await receive()

    async def steps(client: Client) -> None:
        await client.send(request("/1", method="PUT", fields="Content-Length: 10\r\n") + b"12345")
        assert client.bodies == [b"/1"]
        await client.pass_time(10)
        assert client.transport.closed

    serve(app, steps)


def test_a_broken_chunk_in_a_body_that_is_drained_ends_the_connection() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/1", method="PUT", fields="Transfer-Encoding: chunked\r\n"))
        await client.send(b"x\r\n" + request("/never"))
        assert client.bodies == [b"/1"]
        assert client.lingers

    client = serve(ignore, steps)
    assert "400" in "".join(client.log.of("warning"))


# Refusals

REFUSED = [
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no Host"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nSECRET\r\n\r\n", 400, id="no field"),
    pytest.param(b"SECRET\r\n\r\n", 400, id="no request line"),
    pytest.param(b"\x16\x03\x01SECRET\r\n\r\n", 400, id="TLS"),
    pytest.param(b"GET /SECRET HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400, id="bare LF"),
    pytest.param(b"GET /SECRET" + bytes(100).replace(b"\0", b"a") + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, id="long"),
    pytest.param(b"GET /SECRET HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100 + b"\r\n\r\n", 431, id="large field"),
    pytest.param(b"GET /SECRET HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 6 + b"\r\n", 431, id="many fields"),
    pytest.param(b"CONNECT SECRET:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501, id="CONNECT"),
    pytest.param(b"PUT /SECRET HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, id="coding"),
    pytest.param(b"GET /SECRET HTTP/2.0\r\nHost: a\r\n\r\n", 505, id="version"),
]
TIGHT = HeadLimits(request_line_bytes=80, fields=5, field_bytes=80)


def assert_refusal(client: Client, status: int) -> None:
    response = client.responses[-1]
    assert response.status == status
    assert response.get(b"connection") == b"close"
    assert response.body
    assert response.body == response.head.split(b"\r\n")[0][13:]
    assert b"SECRET" not in bytes(client.transport.received)
    assert "SECRET" not in repr(client.log.lines)
    [line] = client.log.of("warning")
    assert "192.0.2.1" in line
    assert str(status) in line


@pytest.mark.parametrize(("data", "status"), REFUSED)
def test_a_refusal_is_short_echoes_nothing_and_lingers(cut: Cut, data: bytes, status: int) -> None:
    async def steps(client: Client) -> None:
        await client.send(data, cut)
        assert len(client.responses) == 1
        assert_refusal(client, status)
        assert client.lingers
        await client.send(request("/never"), cut)
        assert len(client.responses) == 1

    client = serve(tell, steps, head_limits=TIGHT)
    assert "/never" not in [path for path, _, _ in client.access_log.lines]


@pytest.mark.parametrize(("data", "status"), REFUSED)
def test_a_refusal_waits_for_the_response_before_it(cut: Cut, data: bytes, status: int) -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/1"))
        await client.send(data, cut)
        assert client.responses == []
        app.answer.set()
        app.read.set()
        await turns(20 * len(data))
        assert [response.status for response in client.responses] == [200, status]
        assert client.responses[0].get(b"connection") is None
        assert_refusal(client, status)
        assert client.lingers

    app = Held()
    serve(app, steps, head_limits=TIGHT)
    assert app.paths == ["/1"]


def test_a_lingering_connection_takes_64_kib_and_no_more() -> None:
    async def steps(client: Client) -> None:
        await client.send(b"SECRET\r\n\r\n")
        await client.send(bytes(64 * KIB))
        assert client.lingers
        await client.send(b"\x00")
        assert client.transport.is_closing()

    serve(tell, steps)


def test_a_lingering_connection_ends_with_its_client_or_its_time() -> None:
    async def leaves(client: Client) -> None:
        await client.send(b"SECRET\r\n\r\n")
        await client.end_sending()
        assert client.transport.closed
        assert not client.transport.aborted

    async def stays(client: Client) -> None:
        await client.send(b"SECRET\r\n\r\n")
        await client.pass_time(1.0 - TICK_SECONDS)
        assert client.lingers
        await client.pass_time(3 * TICK_SECONDS)
        assert client.transport.closed
        assert not client.transport.aborted

    serve(tell, leaves)
    serve(tell, stays)


def test_where_the_sending_side_cannot_be_shut_a_refusal_closes() -> None:
    async def steps(client: Client) -> None:
        await client.send(b"SECRET\r\n\r\n")
        assert client.responses[0].status == 400
        assert client.transport.closed

    serve(tell, steps, can_write_eof=False)


def test_a_flood_of_refusals_is_ten_lines_a_second_and_their_number() -> None:
    async def steps(client: Client) -> None:
        def refused() -> None:
            transport = FakeTransport(client.loop, Http1Connection(client.context))
            transport.feed(b"SECRET\r\n\r\n")
            transports.append(transport)

        transports: list[FakeTransport] = []
        for _ in range(100):
            refused()
        assert len(client.log.of("warning")) == 10
        await client.pass_time(1.5)
        refused()
        lines = client.log.of("warning")
        assert len(lines) <= 12
        assert any("90" in line for line in lines[10:])
        assert all(responses_in(bytes(transport.received))[0].status == 400 for transport in transports)
        for transport in transports:
            transport.lose()

    serve(tell, steps)


# Bodies that break while the application runs

BROKEN = b"5\r\nhello\r\nx\r\n"


def test_a_broken_chunk_before_the_response_is_400_and_a_disconnect() -> None:
    async def steps(client: Client) -> None:
        app.read.set()
        await client.send(request("/", method="PUT", fields="Transfer-Encoding: chunked\r\n"))
        await client.send(BROKEN)
        assert app.disconnected
        assert_refusal(client, 400)
        assert client.lingers
        app.answer.set()
        await turns()
        assert [type(error).__mro__[1] for error in app.errors] == [OSError]
        assert len(client.responses) == 1

    app = Held()
    assert serve(app, steps).log.of("error") == []


def test_a_broken_chunk_between_start_and_body_is_400_in_the_access_log_too() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(200))
        while (await receive())["type"] != "http.disconnect":
            pass

    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields="Transfer-Encoding: chunked\r\n"))
        await client.send(BROKEN)
        assert_refusal(client, 400)

    client = serve(app, steps)
    assert 200 not in [status for _, status, _ in client.access_log.lines]


def test_a_broken_chunk_after_the_head_aborts_with_a_reset() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields="Transfer-Encoding: chunked\r\n"))
        await client.send(BROKEN)
        assert client.transport.aborted
        assert client.transport.sock.resets_on_close
        assert client.transport.received.endswith(b"5\r\nbegun\r\n")

    assert serve(stream, steps).log.of("error") == []


def test_an_application_that_reads_what_came_before_the_broken_chunk_does_not_stop_the_clock() -> None:
    """Else a client could keep the connection for ever."""

    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields="Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n")
        await client.send(b"x\r\n")
        assert client.lingers
        app.read.set()
        await turns()
        assert app.disconnected
        app.answer.set()
        await client.pass_time(10)
        assert client.transport.closed

    app = Held()
    serve(app, steps)


def test_an_application_that_fails_after_the_head_aborts_with_a_reset() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"a", more=True))
        raise ValueError("boom")

    async def steps(client: Client) -> None:
        await client.send(request("/") + request("/never"))
        assert client.transport.aborted
        assert client.transport.sock.resets_on_close
        assert client.transport.received.endswith(b"1\r\na\r\n")

    assert len(serve(app, steps).access_log.records) == 1


def test_an_application_that_fails_before_the_head_is_500_and_closes() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        raise ValueError("SECRET")

    async def steps(client: Client) -> None:
        await client.send(request("/") + request("/never"))
        [response] = client.responses
        assert (response.status, response.get(b"connection")) == (500, b"close")
        assert response.body == b"Internal Server Error"
        assert not client.is_open
        assert not client.transport.aborted

    client = serve(app, steps)
    assert len(client.access_log.records) == 1
    assert len(client.log.exceptions) == 1


def test_content_longer_than_announced_closes_behind_what_was_announced() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(200, (b"content-length", b"3")))
        await send(body(b"abcdef"))

    async def steps(client: Client) -> None:
        await client.send(request("/"))
        assert client.bodies == [b"abc"]
        assert client.transport.closed

    serve(app, steps)


# A client that ends its side


def test_a_client_that_half_closes_gets_its_answer() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/1"))
        await client.end_sending()
        assert client.is_open
        app.answer.set()
        app.read.set()
        await turns()
        assert client.bodies == [b"/1"]
        assert client.transport.closed
        assert not client.transport.aborted

    app = Held()
    serve(app, steps)


@pytest.mark.parametrize("count", [2, 5])
def test_a_client_that_half_closes_behind_pipelined_requests_gets_all_answers(count: int) -> None:
    async def steps(client: Client) -> None:
        await client.send(b"".join(request(f"/{number}") for number in range(count)))
        await client.end_sending()
        app.answer.set()
        app.read.set()
        await turns(30 * count)
        assert client.bodies == [b"/%d" % number for number in range(count)]
        assert client.transport.closed

    app = Held()
    serve(app, steps)


def test_a_half_close_becomes_a_disconnect_after_a_second_and_may_still_be_answered() -> None:
    async def steps(client: Client) -> None:
        app.read.set()
        await client.send(request("/1"))
        await client.end_sending()
        assert not app.disconnected
        await client.pass_time(1.0 + 2 * TICK_SECONDS)
        assert app.disconnected
        app.answer.set()
        await turns()
        assert client.bodies == [b"/1"]

    app = Held()
    serve(app, steps)


@pytest.mark.parametrize("fields", ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_body_that_is_cut_off_is_a_disconnect_and_never_an_end(fields: str) -> None:
    async def steps(client: Client) -> None:
        app.read.set()
        await client.send(request("/", method="PUT", fields=fields))
        await client.send(b"5\r\nhe")
        await client.end_sending()
        assert app.disconnected
        assert all(message.get("more_body", True) for message in app.received)
        app.answer.set()
        await turns()
        assert client.responses == []
        assert len(app.errors) == 1
        assert client.transport.closed

    app = Held()
    serve(app, steps)


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_client_that_leaves_between_or_within_heads_gets_nothing(data: bytes) -> None:
    async def steps(client: Client) -> None:
        if data:
            await client.send(data)
        await client.end_sending()
        assert client.transport.closed
        assert client.transport.received == b""

    assert serve(tell, steps).log.lines == []


def test_a_client_that_goes_is_a_disconnect() -> None:
    async def steps(client: Client) -> None:
        app.read.set()
        await client.send(request("/"))
        client.transport.lose(ConnectionResetError())
        await turns()
        assert app.disconnected
        app.answer.set()
        await turns()
        assert len(app.errors) == 1

    app = Held()
    client = serve(app, steps)
    assert client.access_log.lines == [("/", 499, 0)]
    assert client.log.of("error") == []


# Back pressure


def test_send_waits_while_more_than_64_kib_are_unsent() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(200, (b"content-length", b"100000")))
        for number in range(10):
            await send(body(bytes(10_000), more=number < 9))
            passed.append(number)

    async def steps(client: Client) -> None:
        client.transport.stalled = True
        await client.send(request("/"))
        assert len(passed) == 7  # The seventh is the first that goes over the limit; the eighth waits.
        client.transport.take()
        await turns()
        assert len(passed) == 10
        client.transport.take()
        assert len(client.responses[0].body) == 100_000

    passed: list[int] = []
    serve(app, steps)


def test_a_client_that_goes_ends_a_send_that_waits_for_it() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            while True:
                await send(body(bytes(10_000), more=True))
        except OSError:
            ended.append(scope["path"])

    async def steps(client: Client) -> None:
        client.transport.stalled = True
        await client.send(request("/"))
        assert ended == []
        client.transport.lose(ConnectionResetError())
        await turns()
        assert ended == ["/"]

    ended: list[str] = []
    serve(app, steps)


class Tireless:
    """Sends until it raises, and waits for nothing but `send()` itself from `go` on."""

    def __init__(self, first: Sequence[SendMessage], message: SendMessage) -> None:
        self._first = first
        self._message = message
        self.go = asyncio.Event()
        self.sent = 0
        """Messages behind `go`."""
        self.error: BaseException | None = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        for message in self._first:
            await send(message)
        await self.go.wait()
        try:
            while self.sent < 100:
                await send(self._message)
                self.sent += 1
        except BaseException as error:
            self.error = error
            raise


@pytest.mark.parametrize("size", [0, 100, 64 * KIB])
@pytest.mark.parametrize("fields", [(), ((b"content-length", b"9999999"),)], ids=["chunked", "length"])
def test_a_reset_ends_an_application_that_sends_without_a_pause(size: int, fields: tuple[tuple[bytes, bytes]]) -> None:
    app = Tireless([start(200, *fields), body(b"a", more=True)], body(bytes(size), more=True))

    async def steps(client: Client) -> None:
        await client.send(request("/"))
        app.go.set()
        client.transport.reset()
        await turns()
        assert (app.sent, type(app.error)) == (1, ClientDisconnected)

    client = serve(app, steps)
    assert client.log.of("error") == []
    assert len(client.access_log.records) == 1


def test_pipelined_answers_that_are_not_read_stop_the_next_request() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, bytes(40_000))

    async def steps(client: Client) -> None:
        client.transport.stalled = True
        await client.send(request("/") * 20)
        await turns(200)
        assert client.transport.get_write_buffer_size() < 200_000
        while client.transport.get_write_buffer_size():
            client.transport.take()
            await turns(50)
        assert client.bodies == [bytes(40_000)] * 20

    serve(app, steps)


# Clocks

LATE = 2 * TICK_SECONDS  # A deadline passes late, never early.


@pytest.mark.parametrize("begun", [False, True], ids=["nothing", "a head begun"])
def test_header_timeout_is_408_only_where_a_head_has_begun(begun: bool) -> None:
    async def steps(client: Client) -> None:
        if begun:
            await client.send(b"GET /SECRET HTTP/1.1\r\n")
        await client.pass_time(10.0 - TICK_SECONDS)
        assert client.is_open
        await client.pass_time(TICK_SECONDS + LATE)
        if begun:
            assert_refusal(client, 408)
            assert client.lingers
        else:
            assert client.transport.received == b""
            assert client.transport.closed

    client = serve(tell, steps)
    assert begun or client.log.lines == []


def test_bytes_do_not_reset_the_header_timeout() -> None:
    async def steps(client: Client) -> None:
        for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX: aaaaaaaa":
            if client.is_open:
                await client.send(bytes([byte]))
                await client.pass_time(0.5)
        assert_refusal(client, 408)

    serve(tell, steps)


def test_the_head_of_a_later_request_has_its_own_time_from_its_first_byte() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/"))
        await client.pass_time(1.5)
        await client.send(b"G")
        await client.pass_time(10.0 - TICK_SECONDS)
        assert client.is_open
        await client.pass_time(TICK_SECONDS + LATE)
        assert [response.status for response in client.responses] == [200, 408]

    serve(tell, steps)


def test_a_408_waits_for_nobody_but_comes_behind_the_response_before_it() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/1") + b"GET /2 HT")
        await client.pass_time(30)
        assert client.responses == []
        app.answer.set()
        app.read.set()
        await turns()
        assert [response.status for response in client.responses] == [200]
        await client.pass_time(10 + LATE)
        assert [response.status for response in client.responses] == [200, 408]

    app = Held()
    serve(app, steps)


def test_an_idle_connection_is_closed_after_keepalive_without_a_word() -> None:
    async def steps(client: Client) -> None:
        for _ in range(2):
            await client.send(request("/"))
            await client.pass_time(3.0 - TICK_SECONDS)
            assert client.is_open
        await client.pass_time(TICK_SECONDS + LATE)
        assert client.transport.closed
        assert len(client.responses) == 2

    assert serve(tell, steps, keepalive_seconds=3.0).log.lines == []


@pytest.mark.parametrize("seconds", [4.0, 100.0])
def test_an_idle_connection_has_its_full_time_after_a_blocked_loop(seconds: float) -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/1"))
        await client.block_loop(seconds)
        assert client.is_open
        await client.pass_time(3.0 - 2 * TICK_SECONDS)
        await client.send(request("/2"))
        assert len(client.responses) == 2
        await client.pass_time(3.0 - TICK_SECONDS)
        assert client.is_open
        await client.pass_time(TICK_SECONDS + LATE)
        assert client.transport.closed

    serve(tell, steps, keepalive_seconds=3.0)


def test_a_head_has_its_full_time_after_a_blocked_loop() -> None:
    async def steps(client: Client) -> None:
        await client.send(b"GET / HTTP/1.1\r\n")
        await client.block_loop(100.0)
        assert client.is_open
        await client.pass_time(10.0 - 2 * TICK_SECONDS)
        assert client.is_open
        await client.pass_time(2 * TICK_SECONDS + LATE)
        assert_refusal(client, 408)

    serve(tell, steps)


def test_a_new_connection_has_its_full_time_after_a_blocked_loop() -> None:
    async def steps(client: Client) -> None:
        await client.block_loop(100.0)
        assert client.is_open
        await client.send(request("/"))
        assert len(client.responses) == 1

    serve(tell, steps)


def test_a_client_has_its_full_time_to_read_after_a_blocked_loop() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, bytes(100_000), (b"connection", b"close"))

    async def steps(client: Client) -> None:
        client.transport.stalled = True
        await client.send(request("/"))
        await client.block_loop(200.0)
        assert not client.transport.aborted
        await client.pass_time(60.0 - 2 * TICK_SECONDS)
        assert not client.transport.aborted
        await client.pass_time(2 * TICK_SECONDS + LATE)
        assert client.transport.aborted

    serve(app, steps)


def test_body_timeout_runs_also_after_a_blocked_loop() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields="Content-Length: 10\r\n"))
        await client.block_loop(100.0)
        app.read.set()
        await client.pass_time(60.0 - TICK_SECONDS)
        assert client.transport.received == b""
        await client.pass_time(TICK_SECONDS + LATE)
        assert_refusal(client, 408)
        assert app.disconnected
        app.answer.set()

    app = Held()
    serve(app, steps)


def test_body_timeout_does_not_run_after_a_blocked_loop_while_the_application_does_not_wait() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields="Content-Length: 10\r\n") + b"123")
        await client.block_loop(100.0)
        await client.send(b"45")
        await client.pass_time(200)
        assert client.is_open
        app.read.set()
        app.answer.set()
        await client.send(b"67890")
        assert client.bodies == [b"/"]

    app = Held()
    serve(app, steps)


def test_no_clock_runs_while_the_application_works() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/"))
        await client.pass_time(300)
        assert client.is_open
        app.answer.set()
        app.read.set()
        await turns()
        assert client.bodies == [b"/"]

    app = Held()
    serve(app, steps)


def test_keepalive_0_closes_after_each_response() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/"))
        assert client.responses[0].get(b"connection") == b"close"
        assert client.transport.closed

    serve(tell, steps, keepalive_seconds=0.0)


def test_body_timeout_is_408_and_a_disconnect_where_the_application_waits() -> None:
    async def steps(client: Client) -> None:
        app.read.set()
        await client.send(request("/SECRET", method="PUT", fields="Content-Length: 10\r\n"))
        for _ in range(3):
            await client.pass_time(60.0 - TICK_SECONDS)
            await client.send(b"a")
        await client.pass_time(60.0 - TICK_SECONDS)
        assert client.transport.received == b""
        await client.pass_time(TICK_SECONDS + LATE)
        assert_refusal(client, 408)
        assert app.disconnected
        assert client.lingers
        app.answer.set()
        await client.pass_time(1.0 + LATE)
        assert client.transport.closed

    app = Held()
    serve(app, steps)


def test_body_timeout_does_not_run_while_the_application_does_not_wait() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields="Content-Length: 10\r\n") + b"12345")
        await client.pass_time(200)
        assert client.is_open
        app.read.set()
        app.answer.set()
        await client.send(b"67890")
        assert client.bodies == [b"/"]

    app = Held()
    serve(app, steps)


def test_body_timeout_does_not_run_while_reading_is_paused() -> None:
    """Whoever has waited does so no longer, and has left more of the body than may wait."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await go.wait()
        await tell(scope, receive, send)

    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields="Content-Length: 70000\r\n"))
        await client.send(bytes(69_999))
        assert not client.transport.reading
        await client.send(b"x")
        await client.pass_time(200)
        go.set()
        await turns()
        assert len(client.bodies[0]) == len("PUT / ") + 70_000

    go = asyncio.Event()
    serve(app, steps)


def test_body_timeout_leaves_a_response_that_has_begun_alone() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/", method="PUT", fields="Content-Length: 10\r\n") + b"12345")
        await client.pass_time(200)
        assert client.is_open
        assert client.transport.received.endswith(b"5\r\nbegun\r\n")

    serve(stream, steps)


@pytest.mark.parametrize("size", [100_000, 1000])
def test_write_timeout_aborts_where_the_client_takes_nothing(size: int) -> None:
    """Also what is small enough for nobody to wait for it, once the connection is on its way out."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, bytes(size), (b"connection", b"close"))

    async def steps(client: Client) -> None:
        client.transport.stalled = True
        await client.send(request("/"))
        await client.pass_time(60.0 - TICK_SECONDS)
        assert not client.transport.aborted
        await client.pass_time(TICK_SECONDS + LATE)
        assert client.transport.aborted
        assert client.transport.sock.resets_on_close

    serve(app, steps)


def test_write_timeout_starts_anew_with_each_progress() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, bytes(100_000))

    async def steps(client: Client) -> None:
        client.transport.stalled = True
        await client.send(request("/"))
        for _ in range(5):
            await client.pass_time(60.0 - 2 * TICK_SECONDS)
            client.transport.take(100)
        assert not client.transport.aborted
        await client.pass_time(60.0 + LATE)
        assert client.transport.aborted

    serve(app, steps, keepalive_seconds=1000.0)


# Draining


def test_an_idle_connection_is_closed_by_a_drain_and_a_busy_one_behind_its_answer() -> None:
    async def idle(client: Client) -> None:
        await client.send(request("/"))
        client.context.begin_drain()
        assert client.is_open
        client.context.end_grace()
        assert client.transport.closed

    async def sending(client: Client) -> None:
        await client.send(request("/"))
        client.context.begin_drain()
        await client.send(request("/"))
        assert client.responses[1].get(b"connection") == b"close"
        assert client.transport.closed

    async def busy(client: Client) -> None:
        await client.send(request("/"))
        client.context.begin_drain()
        assert client.is_open
        app.answer.set()
        app.read.set()
        await turns()
        assert client.responses[0].get(b"connection") == b"close"
        assert client.transport.closed

    serve(tell, idle)
    app = Held()
    serve(app, busy)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_response_that_has_begun_before_a_drain_is_finished_and_then_the_connection_closed(method: str) -> None:
    """Its head can no longer say so."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"a", more=True))
        await drained.wait()
        await send(body(b"b"))

    async def steps(client: Client) -> None:
        await client.send(request("/", method=method, body=b"x" if method == "PUT" else b""))
        client.context.begin_drain()
        drained.set()
        await turns()
        assert client.bodies == [b"ab"]
        assert client.transport.closed

    drained = asyncio.Event()
    serve(app, steps, keepalive_seconds=75.0)


def test_a_head_that_has_begun_is_still_answered_in_a_drain() -> None:
    async def steps(client: Client) -> None:
        data = request("/")
        await client.send(data[:10])
        client.context.begin_drain()
        await client.send(data[10:])
        assert client.responses[0].get(b"connection") == b"close"
        assert client.transport.closed

    serve(tell, steps)


# Every request in every cut


def test_a_conversation_is_the_same_wherever_it_is_cut_in_two() -> None:
    data = (
        request("/1")
        + request("/2", method="PUT", body=b"abc")
        + b"\r\n"
        + request("/3", method="PUT", fields="Transfer-Encoding: chunked\r\n")
        + chunked(b"de", b"f")
        + request("/4", fields="Connection: close\r\n")
    )
    expected = [b"GET /1 ", b"PUT /2 abc", b"PUT /3 def", b"GET /4 "]
    for position in range(len(data)):

        async def steps(client: Client, position: int = position) -> None:
            if position:
                await client.send(data[:position])
            await client.send(data[position:])
            await turns(40)
            assert client.bodies == expected
            assert client.transport.closed

        serve(tell, steps)


# Fields that a client repeats


async def show(scope: Any, receive: Receive, send: Send) -> None:
    """Answers with what the scope says, and spoils it."""
    content = await read_body(receive)
    fields = dict(scope["headers"])
    said = [scope["path"], scope["client"], scope["scheme"], scope["http_version"], fields.get(b"x"), content]
    scope["headers"].clear()
    await respond(send, repr(said).encode())


@pytest.mark.parametrize("forwarded_allow_ips", [("*",), ()])
@pytest.mark.parametrize(
    "fields",
    [
        ["", "", ""],
        ["X: 1\r\n", "X: 1\r\n", "X: 1\r\n"],
        ["X: 1\r\n", "X: 2\r\n", "X: 1\r\n"],
        ["X: 1\r\n", "X : 2\r\n"],
        ["Content-Length: 3\r\n", "Content-Length: 3\r\n", "Content-Length: 0\r\n", "Content-Length: 3\r\n"],
        ["X: 1\r\nX_Y: 1\r\n", "X: 1\r\nX_Y: 1\r\n"],
        ["X-Forwarded-For: 203.0.113.1\r\n", "X-Forwarded-For: 203.0.113.1\r\n", "X-Forwarded-For: 203.0.113.2\r\n"],
        ["X-Forwarded-Proto: https\r\n", "X-Forwarded-Proto: https\r\n", "X-Forwarded-Proto: http\r\n", ""],
        ["Connection: keep-alive\r\n", "Connection: close\r\n"],
    ],
)
def test_requests_on_one_connection_are_read_as_each_on_its_own(
    cut: Cut, fields: list[str], forwarded_allow_ips: tuple[str, ...]
) -> None:
    requests = []
    for number, lines in enumerate(fields):
        length = int(lines[16:17]) if lines.startswith("Content-Length") else 0
        requests.append(request(f"/{number}", fields=lines) + b"x" * length)

    def answers(data: bytes) -> list[Response]:
        async def steps(client: Client) -> None:
            await client.send(data, cut)

        return serve(show, steps, forwarded_allow_ips=forwarded_allow_ips).responses

    alone = [response for data in requests for response in answers(data)]
    assert len(alone) == len(requests)
    assert [(response.status, response.body) for response in answers(b"".join(requests))] == [
        (response.status, response.body) for response in alone
    ]


@pytest.mark.parametrize(
    "target", ["http://other.example/a", "*", "/#fragment", "http://user@other.example/", "/\xe9", "//"]
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "CONNECT", "M" * 40])
def test_the_request_line_counts_whatever_fields_are_repeated(method: str, target: str) -> None:
    line = request(target, method=method)

    def last_answer(data: bytes) -> Response:
        async def steps(client: Client) -> None:
            await client.send(data)

        return serve(show, steps).responses[-1]

    alone = last_answer(line)
    after = last_answer(request("/") + request("/") + line + (request("/") if alone.status == 200 else b""))
    if alone.status == 200:
        alone = last_answer(request("/"))
    assert (after.status, after.body) == (alone.status, alone.body)


def test_an_idle_connection_forgets_the_fields_and_is_kept_for_its_whole_time() -> None:
    async def steps(client: Client) -> None:
        for _ in range(2):
            await client.send(request("/1", fields="X: 1\r\n"))
            await client.pass_time(20 - TICK_SECONDS)
            assert client.is_open
        await client.pass_time(4 * TICK_SECONDS)
        assert client.transport.is_closing()
        assert len(client.responses) == 2

    serve(show, steps, keepalive_seconds=20.0)


# Options that cancel an application


def test_request_timeout_cancels_an_application_that_does_not_answer() -> None:
    cancelled: list[str] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["path"] == "/begun":
            await send(start())  # Held back: nobody has seen it.
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(scope["path"])
            if scope["path"] != "/swallows":
                raise

    async def steps(client: Client) -> None:
        await client.send(request(path))
        await client.pass_time(4.5)
        assert client.responses == []
        await client.pass_time(2)
        [response] = client.responses
        assert (response.status, response.get(b"connection")) == (504, b"close")
        assert client.lingers or not client.is_open

    for path in ("/", "/begun", "/swallows"):
        client = serve(app, steps, request_timeout_seconds=5.0)
        assert cancelled.pop() == path
        assert client.access_log.lines == [(path, 504, len(client.responses[0].body))]
        assert len(client.log.of("error")) == 1
        assert "request_timeout" in client.log.of("error")[0]


def test_request_timeout_leaves_a_response_that_has_begun_alone() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"a", more=True))
        await asyncio.sleep(20)
        await send(body(b"b"))

    async def steps(client: Client) -> None:
        await client.send(request("/"))
        await client.pass_time(21)

    client = serve(app, steps, request_timeout_seconds=5.0)
    assert client.bodies == [b"ab"]
    assert client.log.of("error") == []


@pytest.mark.parametrize(("seconds", "cancelled"), [(3.0, True), (None, False)])
def test_a_request_is_cancelled_some_time_after_its_client_has_gone_where_that_is_asked_for(
    seconds: float | None, cancelled: bool
) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def steps(client: Client) -> None:
        await client.send(request("/"))
        client.transport.lose()
        await client.pass_time(2)
        assert seen == []
        await client.pass_time(2)
        assert seen == (["cancelled"] if cancelled else [])
        await client.pass_time(60)

    client = serve(app, steps, disconnect_grace_seconds=seconds)
    assert client.log.of("error") == []
