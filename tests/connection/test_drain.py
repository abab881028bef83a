"""What a connection and its exchanges do while their worker drains, and what the worker learns of them."""

import asyncio
import socket
from typing import Any

import pytest

from gunicorn_asgi.asgi_types import Receive, Send
from gunicorn_asgi.connection.context import ServingContext
from gunicorn_asgi.connection.http1 import Http1Connection
from tests.connection.serving import LOOPS, LoopFactory, body, run, serving_context, soon, start, turns
from tests.connection.test_http1 import Client, serve
from tests.support.http1 import request


async def hello(scope: Any, receive: Receive, send: Send) -> None:
    await send(start(200, (b"content-length", b"5")))
    await send(body(b"hello"))


def test_a_request_within_the_grace_is_answered_and_the_connection_closed() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/"))
        assert client.responses[0].get(b"connection") is None
        client.context.begin_drain()
        await client.send(request("/"))
        assert client.responses[1].get(b"connection") == b"close"
        assert client.transport.closed

    serve(hello, steps)


def test_the_grace_is_not_longer_than_keepalive() -> None:
    async def steps(client: Client) -> None:
        await client.send(request("/"))
        client.context.begin_drain()
        await client.pass_time(4.0)
        assert client.transport.closed

    serve(hello, steps, keepalive_seconds=2.0)


def test_a_connection_that_is_accepted_in_a_drain_is_answered_once() -> None:
    async def steps(client: Client) -> None:
        client.context.begin_drain()
        await client.send(request("/"))
        assert client.responses[0].get(b"connection") == b"close"
        assert client.transport.closed

    serve(hello, steps)


@pytest.mark.parametrize("length", [None, 2])
def test_an_application_that_streams_is_told_of_a_drain_unless_its_end_is_known(length: int | None) -> None:
    finish, told = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        await send(start() if length is None else start(200, (b"content-length", b"%d" % length)))
        await send(body(b"a", more=True))
        disconnect = asyncio.ensure_future(receive())
        finished = asyncio.ensure_future(finish.wait())
        await asyncio.wait({disconnect, finished}, return_when=asyncio.FIRST_COMPLETED)
        if disconnect.done():
            assert disconnect.result() == {"type": "http.disconnect"}
            told.set()
        disconnect.cancel()
        await send(body(b"b"))

    async def steps(client: Client) -> None:
        await client.send(request("/"))
        client.context.begin_drain()
        await turns()
        assert not told.is_set()
        client.context.end_grace()
        await turns()
        assert told.is_set() == (length is None)
        finish.set()
        await turns()
        assert client.bodies == [b"ab"]
        assert client.transport.closed

    serve(app, steps)


def test_an_application_that_was_told_may_leave_its_response_unfinished_and_the_client_sees_it() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"a", more=True))
        while (await receive())["type"] != "http.disconnect":
            pass

    async def steps(client: Client) -> None:
        await client.send(request("/"))
        client.context.begin_drain()
        client.context.end_grace()
        await turns()
        assert client.transport.aborted
        assert client.transport.sock.resets_on_close

    assert serve(app, steps).log.lines == []


def test_a_request_that_has_not_been_answered_is_not_told() -> None:
    answer = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        disconnect = asyncio.ensure_future(receive())
        await answer.wait()
        assert not disconnect.done()
        disconnect.cancel()
        await hello(scope, receive, send)

    async def steps(client: Client) -> None:
        await client.send(request("/"))
        client.context.begin_drain()
        client.context.end_grace()
        answer.set()
        await turns()
        assert client.bodies == [b"hello"]

    serve(app, steps)


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=list(LOOPS))
def test_an_idle_connection_is_not_closed_over_a_request_that_is_there(new_loop: LoopFactory) -> None:
    """On a real socket: the bytes are in it, and the event loop has not looked yet."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = serving_context(hello)
        ours, theirs = socket.socketpair()
        with theirs:
            await loop.connect_accepted_socket(lambda: Http1Connection(context), ours)
            await turns()
            context.begin_drain()
            theirs.send(request("/"))
            context.end_grace()
            theirs.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=theirs)
            data = await soon(reader.read())
            assert data.startswith(b"HTTP/1.1 200 ")
            assert data.endswith(b"hello")
            writer.close()
        context.clock.stop()

    run(main(), new_loop)


def test_exchanges_are_counted_and_the_last_one_is_reported_once() -> None:
    async def main() -> tuple[int, list[int]]:
        reported: list[int] = []

        def report() -> None:
            reported.append(context.exchanges_begun)

        context: ServingContext = serving_context(hello, last_exchange=2, on_last_exchange=report)
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            await loop.connect_accepted_socket(lambda: Http1Connection(context), ours)
            theirs.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=theirs)
            for _ in range(3):
                writer.write(request("/"))
                await soon(reader.readuntil(b"hello"))
            writer.close()
            await turns()
        context.clock.stop()
        return context.exchanges_begun, reported

    assert run(main()) == (3, [2])


def test_a_running_exchange_describes_itself() -> None:
    release = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        scope["path"] = "/changed"
        await release.wait()
        await hello(scope, receive, send)

    async def steps(client: Client) -> None:
        await client.send(request("/a%20b?query", method="PUT"))
        [exchange] = client.context.exchanges
        description = exchange.describe()
        assert description[:3] == ("PUT", "/a b", "192.0.2.1")
        assert 0.0 <= description.age_seconds < 60.0
        assert exchange.describe().age_seconds > description.age_seconds
        release.set()
        await turns()
        assert not client.context.exchanges

    serve(app, steps)
