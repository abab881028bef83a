"""The server on a real loop with real sockets: serving, draining, stopping."""

import asyncio
import contextlib
import contextvars
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gunicorn_asgi.asgi_types import Application, Receive, Send
from gunicorn_asgi.errors import LifespanFailed
from gunicorn_asgi.server import QUICK_SECONDS, Server, Stop
from gunicorn_asgi.settings import Settings
from gunicorn_asgi.wire.http1_httptools import HttptoolsFieldParser
from tests.connection.serving import LOOPS, LoopFactory, RecordingLog, body, run, soon, start
from tests.support.http1 import request


class Client:
    """A connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def head(self) -> bytes:
        return await soon(self._reader.readuntil(b"\r\n\r\n"))

    async def response(self) -> tuple[bytes, bytes]:
        """Head and content of a response with a length."""
        head = await self.head()
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head, await soon(self._reader.readexactly(length))

    async def rest(self) -> bytes:
        """All up to the end of the connection, which must be an orderly one."""
        return await soon(self._reader.read())

    async def is_ended(self) -> bool:
        """Wait for the end of the connection, whatever its kind."""
        with contextlib.suppress(ConnectionError):
            await soon(self._reader.read())
        return True

    def close(self) -> None:
        self._writer.close()


class Running:
    """A server that serves in a task of its own."""

    def __init__(self, app: Application, sockets: list[socket.socket], settings: Settings) -> None:
        self.log = RecordingLog()
        self._beat_again = asyncio.Event()
        self._sockets = sockets
        self._clients: list[Client] = []
        self.server = Server(
            app=app,
            settings=settings,
            sockets=sockets,
            ssl_context=None,
            field_parser=HttptoolsFieldParser(),
            error_log=self.log,
            access_log=None,
            heartbeat=self._beat,
        )
        self.serving = asyncio.get_running_loop().create_task(self.server.serve())

    def _beat(self) -> None:
        self._beat_again.set()

    async def beats(self, times: int) -> None:
        """Wait for so many heartbeats from now on."""
        for _ in range(times):
            self._beat_again.clear()
            await soon(self._beat_again.wait())

    def address(self, number: int) -> tuple[str, int]:
        """Of a listener."""
        host, port = self._sockets[number].getsockname()
        return host, port

    async def connect(self, number: int = 0) -> Client:
        client = Client(*await asyncio.open_connection(*self.address(number)))
        self._clients.append(client)
        return client

    async def stop(self, how: Stop) -> float:
        """Ask the server to stop and wait for it. The seconds it took."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self.server.stop(how)
        await soon(asyncio.shield(self.serving))
        return loop.time() - begun

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()


Steps = Callable[[Running], Awaitable[None]]


@pytest.fixture(params=LOOPS.values(), ids=list(LOOPS))
def new_loop(request: pytest.FixtureRequest) -> LoopFactory:
    factory: LoopFactory = request.param
    return factory


def serve(app: Application, steps: Steps, new_loop: LoopFactory, *, listeners: int = 1, **settings: Any) -> Running:
    """Take `steps` with a server that listens; it must have stopped when they are done."""

    async def main() -> Running:
        settings.setdefault("lifespan", "off")
        settings.setdefault("keepalive_seconds", 30.0)
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(listeners)]
        running = Running(app, sockets, Settings(**settings))
        try:
            await steps(running)
            assert running.serving.done()
        finally:
            running.close_clients()
            running.serving.cancel()
            await asyncio.wait({running.serving})
            for sock in sockets:
                sock.close()
        return running

    return run(main(), new_loop)


async def answer(send: Send, content: bytes) -> None:
    await send(start(200, (b"content-length", b"%d" % len(content))))
    await send(body(content))


async def tell(scope: Any, receive: Receive, send: Send) -> None:
    await answer(send, scope["path"].encode())


class Held:
    """An application whose requests wait until they are released, having sent so many messages of the response."""

    def __init__(self, *, sent: int = 0) -> None:
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._sent = sent

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        try:
            messages = [start(200, (b"content-length", b"4")), body(b"sl", more=True), body(b"ow")]
            for message in messages[: self._sent]:
                await send(message)
            self.begun.set()
            await self.release.wait()
            for message in messages[self._sent :]:
                await send(message)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def test_requests_are_served_on_every_socket(new_loop: LoopFactory) -> None:
    async def steps(running: Running) -> None:
        for number in range(2):
            client = await running.connect(number)
            for path in (b"/a", b"/b"):
                client.send(request(path.decode()))
                head, content = await client.response()
                assert (head[:15], content) == (b"HTTP/1.1 200 OK", path)
        assert running.server.serving
        await running.stop(Stop.GRACEFUL)

    serve(tell, steps, new_loop, listeners=2)


PREAMBLE = b"PROXY TCP4 192.0.2.7 192.0.2.1 1000 80\r\n"


@pytest.mark.parametrize(
    ("source", "sent", "reason"),
    [
        pytest.param("127.0.0.1", request("/"), "no-proxy-preamble", id="something else"),
        pytest.param("127.0.0.1", b"", "proxy-preamble-timeout", id="nothing"),
        pytest.param("127.0.0.2", PREAMBLE, "proxy-protocol-not-allowed", id="not allowed"),
    ],
)
def test_a_refused_preamble_makes_room_for_the_next_connection(
    new_loop: LoopFactory, source: str, sent: bytes, reason: str
) -> None:
    async def steps(running: Running) -> None:
        with contextlib.ExitStack() as strangers:
            # While the loop stands still, so that they are all in the queue when it looks.
            for _ in range(5):
                stranger = socket.create_connection(running.address(0), source_address=(source, 0))
                strangers.enter_context(stranger)
                stranger.sendall(sent)
            client = await running.connect()
            client.send(PREAMBLE + request("/next"))
            assert (await client.response())[1] == b"/next"
        await running.stop(Stop.GRACEFUL)

    log = serve(
        tell,
        steps,
        new_loop,
        max_connections=2,
        proxy_protocol="v1",
        proxy_allow_ips=("127.0.0.1",),
        header_timeout_seconds=0.2,
    ).log
    assert {line.split()[-1] for line in log.of("warning") if "Refused" in line} == {reason}
    assert any("max_connections (2) is reached" in line for line in log.of("warning"))


@pytest.mark.parametrize("sent", [0, 1], ids=["nothing sent", "head held back"])
def test_a_graceful_stop_finishes_what_runs_and_says_that_it_closes(new_loop: LoopFactory, sent: int) -> None:
    app = Held(sent=sent)

    async def steps(running: Running) -> None:
        client = await running.connect()
        client.send(request("/"))
        await soon(app.begun.wait())
        running.server.stop(Stop.GRACEFUL)
        running.server.stop(Stop.GRACEFUL)  # Once more changes nothing.
        await asyncio.wait({running.serving}, timeout=0.1)
        assert not running.serving.done()
        app.release.set()
        head, content = await client.response()
        assert (head[:15], content) == (b"HTTP/1.1 200 OK", b"slow")
        assert b"\r\nconnection: close\r\n" in head
        assert await client.rest() == b""
        await soon(running.serving)

    running = serve(app, steps, new_loop)
    [line] = running.log.lines
    assert line[0] == "info"
    assert line[1].endswith(": 1 requests finished, 0 cancelled, 0 connections cut")
    assert not app.cancelled.is_set()


def test_a_graceful_stop_finishes_a_response_that_has_begun_and_is_done(new_loop: LoopFactory) -> None:
    app = Held(sent=2)

    async def steps(running: Running) -> None:
        loop = asyncio.get_running_loop()
        client = await running.connect()
        client.send(request("/"))
        await soon(app.begun.wait())
        running.server.stop(Stop.GRACEFUL)
        app.release.set()
        ended = loop.time()
        assert (await client.rest()).endswith(b"\r\n\r\nslow")
        await soon(running.serving)
        assert loop.time() - ended < 2.0  # Not after keepalive.

    serve(app, steps, new_loop)


def test_a_graceful_stop_closes_idle_connections_and_listens_no_more(new_loop: LoopFactory) -> None:
    async def steps(running: Running) -> None:
        clients = [await running.connect() for _ in range(3)]
        for client in clients:
            client.send(request("/"))
            await client.response()
        await running.stop(Stop.GRACEFUL)
        assert [await client.rest() for client in clients] == [b""] * 3
        with pytest.raises(OSError):  # noqa: PT011  # Which one depends on the loop.
            await running.connect()

    serve(tell, steps, new_loop)


def test_what_runs_at_the_end_of_graceful_timeout_is_cancelled_in_time(new_loop: LoopFactory) -> None:
    app = Held()

    async def steps(running: Running) -> None:
        client = await running.connect()
        client.send(request("/"))
        await soon(app.begun.wait())
        seconds = await running.stop(Stop.GRACEFUL)
        assert 0.5 < seconds < 1.5
        assert app.cancelled.is_set()
        assert (await client.head()).startswith(b"HTTP/1.1 500 ")

    running = serve(app, steps, new_loop, graceful_timeout_seconds=1.0)
    [line] = running.log.of("warning")
    assert line.endswith(": 0 requests finished, 1 cancelled, 0 connections cut")
    assert running.log.of("error") == []


@pytest.mark.parametrize("first", [None, Stop.GRACEFUL])
def test_a_quick_stop_cancels_at_once_also_during_a_graceful_one(new_loop: LoopFactory, first: Stop | None) -> None:
    app = Held()

    async def steps(running: Running) -> None:
        client = await running.connect()
        client.send(request("/"))
        await soon(app.begun.wait())
        if first is not None:
            running.server.stop(first)
            await asyncio.wait({running.serving}, timeout=0.1)
            assert not running.serving.done()
        seconds = await running.stop(Stop.QUICK)
        assert seconds < 2.0
        assert app.cancelled.is_set()
        assert await client.is_ended()

    serve(app, steps, new_loop, graceful_timeout_seconds=60.0)


def test_a_graceful_stop_does_not_soften_a_quick_one(new_loop: LoopFactory) -> None:
    app = Held()

    async def steps(running: Running) -> None:
        client = await running.connect()
        client.send(request("/"))
        await soon(app.begun.wait())
        running.server.stop(Stop.QUICK)
        assert await running.stop(Stop.GRACEFUL) < 2.0
        assert app.cancelled.is_set()

    serve(app, steps, new_loop, graceful_timeout_seconds=60.0)


# Lifespan


class Lived:
    """An application with a lifespan that writes down what happens in which order."""

    def __init__(self, *, startup: asyncio.Event | None = None, fails: bool = False) -> None:
        self.events: list[str] = []
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.starting = asyncio.Event()
        self._startup = startup
        self._fails = fails

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        self.begun.set()
        await self.release.wait()
        scope["state"]["mine"] = True
        await answer(send, repr(scope["state"]).encode())
        self.events.append("answered")

    async def _live(self, scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        self.starting.set()
        if self._startup is not None:
            await self._startup.wait()
        if self._fails:
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
        scope["state"]["pool"] = 7
        await send({"type": "lifespan.startup.complete"})
        self.events.append("started")
        await receive()
        self.events.append("stopping")
        await send({"type": "lifespan.shutdown.complete"})


def test_shutdown_comes_behind_the_last_request_and_state_is_copied_for_each(new_loop: LoopFactory) -> None:
    app = Lived()

    async def steps(running: Running) -> None:
        first = await running.connect()
        first.send(request("/"))
        await soon(app.begun.wait())
        app.release.set()
        assert (await first.response())[1] == b"{'pool': 7, 'mine': True}"
        app.release.clear()
        app.begun.clear()
        first.send(request("/"))
        await soon(app.begun.wait())
        running.server.stop(Stop.GRACEFUL)
        await asyncio.wait({running.serving}, timeout=0.1)
        assert app.events == ["started", "answered"]
        app.release.set()
        assert (await first.response())[1] == b"{'pool': 7, 'mine': True}"
        await soon(running.serving)

    serve(app, steps, new_loop, lifespan="on")
    assert app.events == ["started", "answered", "answered", "stopping"]


def test_requests_see_the_context_variables_of_the_startup_and_not_each_others(new_loop: LoopFactory) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            variable.set("startup")
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return
        found = variable.get()
        variable.set(scope["path"])
        await answer(send, found.encode())

    async def steps(running: Running) -> None:
        for _ in range(2):
            client = await running.connect()
            client.send(request("/1") + request("/2") + request("/3"))
            assert [(await client.response())[1] for _ in range(3)] == [b"startup"] * 3
        await running.stop(Stop.GRACEFUL)

    serve(app, steps, new_loop, lifespan="on")


@pytest.mark.parametrize("how", Stop)
def test_shutdown_comes_also_where_nothing_was_asked(new_loop: LoopFactory, how: Stop) -> None:
    app = Lived()

    async def steps(running: Running) -> None:
        client = await running.connect()
        app.release.set()
        client.send(request("/"))
        await client.response()
        await running.stop(how)

    serve(app, steps, new_loop, lifespan="on")
    assert app.events[-1] == "stopping"


@pytest.mark.parametrize("first", [None, Stop.GRACEFUL])
def test_a_quick_stop_ends_a_hanging_shutdown_also_after_a_graceful_one(
    new_loop: LoopFactory, first: Stop | None
) -> None:
    stopping, cancelled = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        started.set()
        await receive()
        stopping.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    started = asyncio.Event()

    async def steps(running: Running) -> None:
        await soon(started.wait())
        if first is not None:
            running.server.stop(first)
            await soon(stopping.wait())
            await asyncio.wait({running.serving}, timeout=0.1)
            assert not running.serving.done()
        assert await running.stop(Stop.QUICK) < QUICK_SECONDS + 1.5
        assert cancelled.is_set()

    [line] = serve(app, steps, new_loop, lifespan="on", graceful_timeout_seconds=60.0).log.of("error")
    assert "shutdown" in line


def test_a_failed_startup_is_raised_and_nothing_was_served(new_loop: LoopFactory) -> None:
    app = Lived(fails=True)

    async def steps(running: Running) -> None:
        with pytest.raises(LifespanFailed, match="no database"):
            await soon(asyncio.shield(running.serving))
        assert not running.server.serving

    serve(app, steps, new_loop, lifespan="auto")


@pytest.mark.parametrize("how", Stop)
def test_a_stop_during_the_startup_ends_it(new_loop: LoopFactory, how: Stop) -> None:
    app = Lived(startup=asyncio.Event())

    async def steps(running: Running) -> None:
        await soon(app.starting.wait())
        assert await running.stop(how) < 2.0
        assert not running.server.serving

    serve(app, steps, new_loop, lifespan="on")


def test_the_heart_beats_during_startup_and_drain(new_loop: LoopFactory) -> None:
    startup = asyncio.Event()
    app = Lived(startup=startup)

    async def steps(running: Running) -> None:
        await soon(app.starting.wait())
        await running.beats(3)
        startup.set()
        client = await running.connect()
        client.send(request("/"))
        await soon(app.begun.wait())
        running.server.stop(Stop.GRACEFUL)
        await running.beats(3)
        app.release.set()
        await soon(running.serving)

    serve(app, steps, new_loop, lifespan="on", heartbeat_seconds=0.01)
