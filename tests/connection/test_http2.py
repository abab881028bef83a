"""One HTTP/2 connection on a transport that fails on misuse, on a loop whose time can be moved on (RFC 9113)."""

import asyncio
import gc
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gunicorn_asgi.asgi_types import Address, Application, Receive, Send
from gunicorn_asgi.connection.clock import TICK_SECONDS
from gunicorn_asgi.connection.context import ServingContext
from gunicorn_asgi.connection.exchange import Exchange
from gunicorn_asgi.connection.http2 import OFFENCE_GRACE_SECONDS, SETTINGS_SECONDS, Http2Connection
from gunicorn_asgi.connection.negotiation import Negotiation
from gunicorn_asgi.settings import Settings
from gunicorn_asgi.wire import http2_frames as frames
from gunicorn_asgi.wire.http2_allowance import MAX_BAD_STREAMS, MAX_RESETS
from gunicorn_asgi.wire.http2_frames import ErrorCode
from gunicorn_asgi.wire.http2_streams import Stream
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
from tests.connection.test_http1 import Held, Tireless, ignore, respond, stream, tell
from tests.support.fake_transport import FakeSocket, FakeTransport
from tests.support.http1 import request as http1_request
from tests.support.http2_frames import BEGIN, GET, POST, Http2Response, Reader, block, data, headers

KIB = 1024
ALL_STREAMS = frames.ALL_STREAMS
PING = frames.ping_frame(b"12345678")


def get(path: str) -> tuple[tuple[bytes, bytes], ...]:
    return (*GET[:2], (b":path", path.encode()), GET[3])


@dataclass
class Client:
    """A client of one connection, and what a test can see of the server."""

    context: ServingContext
    log: RecordingLog
    access_log: RecordingAccessLog
    loop: PassingLoop
    transport: FakeTransport
    reader: Reader = field(default_factory=Reader)
    read_bytes: int = 0

    async def send(self, *parts: bytes) -> None:
        """Send frames, and let the server do all that it can do with them."""
        self.transport.feed(b"".join(parts))
        await turns()

    async def pass_time(self, seconds: float) -> None:
        await self.loop.pass_time(seconds)
        await turns()

    async def block_loop(self, seconds: float) -> None:
        """Let `seconds` pass at once, as while an application does not let the loop turn."""
        self.loop._passed_seconds += seconds
        await turns()

    def received(self) -> Reader:
        """What the client has got."""
        received = bytes(self.transport.received)
        self.reader.feed(received[self.read_bytes :])
        self.read_bytes = len(received)
        return self.reader

    @property
    def responses(self) -> dict[int, Http2Response]:
        return self.received().responses

    @property
    def goaways(self) -> list[tuple[int, int]]:
        return self.received().goaways

    @property
    def is_open(self) -> bool:
        return not self.transport.is_closing() and not self.transport.eof_written


Steps = Callable[[Client], Awaitable[None]]


def serve(
    app: Application,
    steps: Steps,
    *,
    begin: bytes = BEGIN,
    negotiate: bool = False,
    tls: Any = None,
    relayed: Address | None = None,
    **settings: Any,
) -> Client:
    """Serve one connection while `steps` are taken; then the client goes away.

    `relayed` is whom the PROXY protocol has named for its socket.
    """

    async def main() -> Client:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PassingLoop)
        log, access_log = RecordingLog(), RecordingAccessLog()
        all_settings = Settings(**{"http2_cleartext": "both", "http2_cleartext_peers": "all", **settings})
        context = serving_context(app, settings=all_settings, log=log, access_log=access_log)
        if relayed is not None:
            context.relayed[FakeSocket(socket.AF_INET).fileno()] = relayed
        protocol = Negotiation(context) if negotiate else Http2Connection(context)
        transport = FakeTransport(loop, protocol, sslcontext=tls, can_write_eof=tls is None)
        client = Client(context, log, access_log, loop, transport)
        if begin:
            await client.send(begin)
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


# Requests and responses


def test_requests_on_many_streams() -> None:
    async def steps(client: Client) -> None:
        await client.send(*(headers(2 * number + 1, get(f"/{number}")) for number in range(50)))
        responses = client.responses
        assert [responses[2 * number + 1].content for number in range(50)] == [b"GET /%d " % n for n in range(50)]
        assert all(response.status == 200 and response.ended for response in responses.values())
        assert client.is_open

    serve(tell, steps)


def test_what_one_turn_answers_leaves_in_one_write() -> None:
    async def steps(client: Client) -> None:
        before = len(client.transport.writes)
        await client.send(*(headers(2 * number + 1) for number in range(20)))
        assert len(client.transport.writes) == before + 1

    serve(ignore, steps)


def test_the_scope() -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await ignore(scope, receive, send)

    async def steps(client: Client) -> None:
        fields = [*get("/a%20b?q=1"), (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"x", b"y")]
        await client.send(headers(1, fields))
        assert scopes == [
            {
                **scopes[0],
                "type": "http",
                "http_version": "2",
                "method": "GET",
                "scheme": "http",
                "path": "/a b",
                "raw_path": b"/a%20b",
                "query_string": b"q=1",
                "client": ("192.0.2.1", 50000),
                "server": ("127.0.0.1", 8000),
                "headers": [(b"host", b"example.org"), (b"cookie", b"a=1; b=2"), (b"x", b"y")],
            }
        ]

    serve(app, steps)


def test_the_priority_of_a_request() -> None:
    """RFC 9218."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        seen.append(scope["extensions"].get("http.request.priority"))
        await ignore(scope, receive, send)

    async def steps(client: Client) -> None:
        await client.send(headers(1, [*GET, (b"priority", b"u=1, i")]), headers(3))
        assert seen == [{"urgency": 1, "incremental": True}, None]

    serve(app, steps)


@pytest.mark.load
def test_many_streams_cost_per_request_what_few_do() -> None:
    """Processor time, the best of several rounds in turns: noise only ever adds."""

    def seconds_per_request(streams: int) -> float:
        seconds = 0.0

        async def steps(client: Client) -> None:
            nonlocal seconds
            batches = [
                b"".join(headers(2 * (start + number) + 1) for number in range(streams))
                for start in range(0, 2048, streams)
            ]
            begin = time.thread_time()
            for batch in batches:
                client.transport.feed(batch)
                await turns(3)
                client.transport.feed(frames.window_update_frame(0, streams))
            seconds = time.thread_time() - begin
            assert len(client.responses) == 2048

        serve(ignore, steps, http2_max_concurrent_streams=256)
        return seconds / 2048

    rounds = [(seconds_per_request(256), seconds_per_request(16)) for _ in range(5)]
    many, few = (min(times) for times in zip(*rounds, strict=True))
    assert many < 1.5 * few


def test_applications_may_change_their_headers() -> None:
    seen: list[int] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        seen.append(len(scope["headers"]))
        scope["headers"].append((b"x", b"1"))
        await ignore(scope, receive, send)

    async def steps(client: Client) -> None:
        for stream_id in (1, 3, 5):
            await client.send(headers(stream_id))
        assert seen == [1, 1, 1]

    serve(app, steps)


def test_a_trusted_proxy_is_believed() -> None:
    clients: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        clients.append((scope["client"], scope["scheme"]))
        await ignore(scope, receive, send)

    async def steps(client: Client) -> None:
        forwarded = [*GET, (b"x-forwarded-for", b"198.51.100.7"), (b"x-forwarded-proto", b"https")]
        await client.send(headers(1, forwarded), headers(3), headers(5, forwarded))
        own = (("192.0.2.1", 50000), "http")
        assert clients == [(("198.51.100.7", 0), "https"), own, (("198.51.100.7", 0), "https")]

    serve(app, steps, forwarded_allow_ips=("192.0.2.1",))


def test_nobody_else_is_believed() -> None:
    clients: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        clients.append((scope["client"], scope["scheme"], scope["headers"]))
        await ignore(scope, receive, send)

    async def steps(client: Client) -> None:
        fields = [*GET, (b"x-forwarded-for", b"198.51.100.7"), (b"script_name", b"/x")]
        await client.send(headers(1, fields))
        plain = [(b"host", b"example.org"), (b"x-forwarded-for", b"198.51.100.7")]
        assert clients == [(("192.0.2.1", 50000), "http", plain)]

    serve(app, steps)


def test_a_body() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, POST, ended=False), data(1, b"ab"))
        await client.send(data(1, b"cd", ended=True))
        assert client.responses[1].content == b"POST / abcd"

    serve(tell, steps)


def test_head_has_no_content() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, [(b":method", b"HEAD"), *GET[1:]]))
        response = client.responses[1]
        assert (response.content, response.ended) == (b"", True)
        assert (b"content-length", b"7") in response.fields

    serve(tell, steps)


def test_fields_of_the_response() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, b"x", (b"Connection", b"close"), (b"X-Y", b"z"), (b"transfer-encoding", b"chunked"))

    async def steps(client: Client) -> None:
        await client.send(headers(1))
        fields = client.responses[1].fields
        assert [name for name, _ in fields] == [b":status", b"date", b"server", b"content-length", b"x-y"]
        assert client.is_open

    serve(app, steps)


def test_the_same_head_again_and_with_the_date_of_its_second() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1))
        await client.send(headers(3))
        client.context._on_date(b"another date")
        await client.send(headers(5))
        responses = client.responses
        assert responses[1].fields == responses[3].fields
        assert dict(responses[5].fields) == {**dict(responses[1].fields), b"date": b"another date"}

    serve(ignore, steps)


def test_continue() -> None:
    """RFC 9110 section 10.1.1."""

    async def steps(client: Client) -> None:
        await client.send(headers(1, [*POST, (b"expect", b"100-continue")], ended=False))
        assert client.responses[1].interim == [[(b":status", b"100")]]
        await client.send(data(1, b"x", ended=True))
        assert client.responses[1].content == b"POST / x"

    serve(tell, steps)


@pytest.mark.parametrize("started", [False, True])
def test_no_continue_behind_the_head(started: bool) -> None:
    """RFC 9113 section 8.1: interim responses come before the final one."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        if started:
            await send(body(b"a", more=True))
        await receive()
        await send(body(b"b"))

    async def steps(client: Client) -> None:
        await client.send(headers(1, [*POST, (b"expect", b"100-continue")], ended=False))
        response = client.responses[1]
        assert response.trailers == []
        assert len(response.interim) == (not started)
        await client.send(data(1, b"x", ended=True))
        assert client.responses[1].content == (b"ab" if started else b"b")

    serve(app, steps)


def test_early_hints_and_trailers() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        assert set(scope["extensions"]) == {"http.response.early_hint", "http.response.trailers"}
        await send({"type": "http.response.early_hint", "links": [b"</x>; rel=preload"]})
        await send({**start(200, (b"content-length", b"1")), "trailers": True})
        await send(body(b"x"))
        await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]})

    async def steps(client: Client) -> None:
        await client.send(headers(1, [*GET, (b"te", b"trailers")]))
        response = client.responses[1]
        assert response.interim == [[(b":status", b"103"), (b"link", b"</x>; rel=preload")]]
        assert (response.content, response.trailers, response.ended) == (b"x", [(b"grpc-status", b"0")], True)

    serve(app, steps)


def test_trailers_that_nobody_wants() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        assert "http.response.trailers" not in scope["extensions"]
        await send({**start(), "trailers": True})
        await send(body(b"x"))
        await send({"type": "http.response.trailers", "headers": [(b"x", b"0")]})

    async def steps(client: Client) -> None:
        await client.send(headers(1))
        response = client.responses[1]
        assert (response.content, response.trailers, response.ended) == (b"x", [], True)

    serve(app, steps)


def test_trailers_behind_content_that_had_to_wait() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({**start(), "trailers": True})
        await send(body(b"abc"))
        await send({"type": "http.response.trailers", "headers": [(b"x", b"0")]})

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 1}))
        await client.send(headers(1, [*GET, (b"te", b"trailers")]))
        assert client.responses[1].content == b"a"
        await client.send(frames.window_update_frame(1, 2))
        response = client.responses[1]
        assert (response.content, response.trailers, response.ended) == (b"abc", [(b"x", b"0")], True)

    serve(app, steps)


def test_an_application_that_fails() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["path"] == "/before":
            raise ValueError
        await send(start())
        await send(body(b"begun", more=True))
        raise ValueError

    async def steps(client: Client) -> None:
        await client.send(headers(1, get("/before")), headers(3, get("/after")))
        responses = client.responses
        assert responses[1].status == 500
        assert (responses[3].content, responses[3].reset) == (b"begun", ErrorCode.INTERNAL_ERROR)
        assert client.is_open

    assert len(serve(app, steps).log.exceptions) == 2


def test_the_access_log() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        scope["root_path"] += "/mounted"  # As frameworks do.
        await ignore(scope, receive, send)

    async def steps(client: Client) -> None:
        await client.send(headers(1, get("/x")), headers(3, [*get("/x"), (b"script_name", b"/app")]))
        plain, mounted = client.access_log.records
        assert (plain.scope["http_version"], plain.scope["path"], plain.status) == ("2", "/x", 200)
        assert (plain.root_path, mounted.root_path) == ("", "/app")

    serve(app, steps, forwarded_allow_ips=("*",))


# Flow control


def test_an_application_waits_for_the_window_of_its_stream() -> None:
    sent: list[int] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        for number in range(5):
            await send(body(bytes(10 * KIB), more=True))
            sent.append(number)
        await send(body())

    async def steps(client: Client) -> None:
        small = frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 10 * KIB})
        await client.send(small, headers(1), headers(3, get("/other")))
        assert sorted(sent) == [0, 0, 1, 1]
        await client.send(frames.window_update_frame(1, 40 * KIB))
        assert client.responses[1].ended
        assert len(client.responses[1].content) == 50 * KIB
        assert len(client.responses[3].content) == 10 * KIB
        await client.send(frames.rst_stream_frame(3, ErrorCode.CANCEL))

    serve(app, steps)


def test_a_reset_ends_applications_that_send_without_a_pause() -> None:
    apps = [Tireless([start(), body(b"a", more=True)], body(bytes(16 * KIB), more=True)) for _ in range(3)]

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await apps[int(scope["path"][1:])](scope, receive, send)

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: ALL_STREAMS}))
        await client.send(frames.window_update_frame(0, 2**30))
        await client.send(*(headers(2 * number + 1, get(f"/{number}")) for number in range(3)))
        for tireless in apps:
            tireless.go.set()
        client.transport.reset()
        await turns()
        # The end of the connection resets their streams.
        assert [type(tireless.error) for tireless in apps] == [asyncio.CancelledError] * 3
        assert sum(tireless.sent for tireless in apps) < 10

    assert serve(app, steps).log.of("error") == []


def test_an_application_that_writes_without_a_pause_meets_the_transport() -> None:
    sent: list[int] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        for number in range(100):
            await send(body(bytes(16 * KIB), more=True))
            sent.append(number)
        await send(body())

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: ALL_STREAMS}))
        await client.send(frames.window_update_frame(0, 2**30))
        client.transport.stalled = True
        await client.send(headers(1))
        assert len(sent) < 20
        assert not client.transport.reading, "who takes nothing gets no more questions answered"
        for _ in range(100):
            client.transport.take()
            await turns(4)
        assert client.responses[1].ended
        assert client.transport.reading

    serve(app, steps)


def test_one_large_content_goes_out_in_bursts() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, bytes(1000 * KIB if scope["path"] == "/large" else 1))

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: ALL_STREAMS}))
        await client.send(frames.window_update_frame(0, 2**30))
        await client.send(headers(1, get("/large")), headers(3))
        await turns(50)
        assert len(client.responses[1].content) == 1000 * KIB
        assert max(len(write) for write in client.transport.writes) < 100 * KIB

    serve(app, steps)


def test_large_content_in_a_later_turn_needs_no_push_of_the_client() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"x", more=True))
        await turns(3)
        await send(body(bytes(300 * KIB)))

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: ALL_STREAMS}))
        await client.send(frames.window_update_frame(0, 2**30))
        await client.send(headers(1))
        assert client.responses[1].ended

    serve(app, steps)


def test_windows_open_as_the_application_takes() -> None:
    read = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await read.wait()
        await tell(scope, receive, send)

    async def steps(client: Client) -> None:
        slow = ((b":method", b"POST"), *get("/slow")[1:])
        await client.send(headers(1, slow, ended=False), headers(3, POST, ended=False))
        for _ in range(3):
            await client.send(data(1, bytes(16 * KIB)), data(3, bytes(16 * KIB)))
        updates = [frame for frame in client.received().of(frames.WINDOW_UPDATE) if frame.stream_id]
        assert {frame.stream_id for frame in updates} == {3}
        read.set()
        await turns()
        assert client.received().of(frames.WINDOW_UPDATE)[-1] == (8, 0, 1, (48 * KIB).to_bytes(4, "big"))

    serve(app, steps)


def test_content_in_tiny_pieces_takes_no_more_memory_than_its_size() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, POST, ended=False))
        for _ in range(100):
            await client.send(data(1, b"xy") * 100)
        (exchange,) = client.context.exchanges
        assert len(exchange._request_body._chunks) < 256  # type: ignore[attr-defined]
        assert exchange._request_body.buffered_bytes == 20_000  # type: ignore[attr-defined]
        app.answer.set()
        app.read.set()

    app = Held()
    serve(app, steps)


def test_empty_content_does_not_widen_the_window_of_an_answer_that_waits() -> None:
    """The response is complete for its application, which takes nothing any more, but not for the client."""

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}))
        await client.send(headers(1, POST, ended=False))
        await client.send(*[data(1, bytes(16000)), data(1)] * 5)
        assert client.received().resets == {1: ErrorCode.FLOW_CONTROL_ERROR}

    serve(ignore, steps)


@pytest.mark.parametrize("path", ["/" + "a" * 5000, "/"])
def test_an_answer_of_our_own_without_a_window(path: str) -> None:
    """Its head is all that can be said, and ends the stream: nobody would ever send the rest."""

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 10}))
        await client.send(headers(1, [(b":method", b"POST"), *get(path)[1:]], ended=False))
        await client.pass_time(3.0)
        response = client.responses[1]
        assert (response.status, response.content, response.ended) == (414 if len(path) > 1 else 408, b"", True)
        assert b"content-length" not in dict(response.fields)
        assert response.reset == ErrorCode.NO_ERROR
        assert client.context.exchanges == set()

    serve(tell, steps, body_timeout_seconds=1.0)


@pytest.mark.parametrize("begun", [False, True])
def test_trailers_over_a_limit(begun: bool) -> None:
    """As over HTTP/1: 431, or the end where the client has seen a head."""

    async def steps(client: Client) -> None:
        await client.send(headers(1, POST, ended=False))
        await client.send(data(1, b"x"), headers(1, [(b"x", b"1" * 9000)]))
        response = client.responses[1]
        if begun:
            assert (response.content, response.reset) == (b"a", ErrorCode.PROTOCOL_ERROR)
        else:
            assert (response.status, response.ended, response.reset) == (431, True, None)
            assert received[-1] == {"type": "http.disconnect"}
            assert client.access_log.lines == [("/", 431, 31)]
        assert client.context.exchanges == set()

    received: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        if begun:
            await send(body(b"a", more=True))
        while not received or received[-1]["type"] != "http.disconnect":
            received.append(await receive())

    serve(app, steps)


def test_an_application_that_was_answered_for_still_counts() -> None:
    finish = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await finish.wait()

    async def steps(client: Client) -> None:
        await client.send(headers(1, POST, ended=False))
        await client.pass_time(3.0)
        assert client.responses[1].status == 408
        await client.send(headers(3))
        assert client.received().resets[3] == ErrorCode.REFUSED_STREAM
        finish.set()
        await turns()
        await client.send(headers(5))
        assert 5 not in client.received().resets

    serve(app, steps, http2_max_concurrent_streams=1, body_timeout_seconds=1.0)


# Resets


def test_a_reset_cancels_the_task() -> None:
    ends: list[str] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def steps(client: Client) -> None:
        await client.send(headers(1))
        await client.send(frames.rst_stream_frame(1, ErrorCode.CANCEL))
        assert ends == ["cancelled"]
        assert client.context.exchanges == set()
        assert client.is_open

    assert serve(app, steps).log.exceptions == []


def test_a_reset_before_the_first_step_of_the_task() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1), frames.rst_stream_frame(1, ErrorCode.CANCEL))
        assert client.context.exchanges == set()
        await client.send(headers(3))
        assert client.responses[3].ended

    serve(ignore, steps)


def test_an_application_that_ignores_its_cancellation_still_counts() -> None:
    finish = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        while not finish.is_set():
            try:
                await finish.wait()
            except asyncio.CancelledError:
                continue

    async def steps(client: Client) -> None:
        await client.send(headers(1), headers(3))
        await client.send(frames.rst_stream_frame(1, ErrorCode.CANCEL), headers(5))
        assert client.received().resets == {5: ErrorCode.REFUSED_STREAM}
        finish.set()
        await turns()
        await client.send(headers(7))
        assert 7 not in client.received().resets

    serve(app, steps, http2_max_concurrent_streams=2)


def test_rapid_reset() -> None:
    """CVE-2023-44487."""
    begun: list[str] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await asyncio.Event().wait()

    async def steps(client: Client) -> None:
        attack = [
            headers(2 * number + 1) + frames.rst_stream_frame(2 * number + 1, ErrorCode.CANCEL) for number in range(300)
        ]
        await client.send(*attack)
        code = ErrorCode.ENHANCE_YOUR_CALM
        # The first lets those streams come that were opened before it was seen, of which more resets are the end.
        assert client.goaways == [(ALL_STREAMS, code), (3 * MAX_RESETS + 1, code)]
        assert not client.is_open
        assert client.context.exchanges == set()
        assert len(begun) <= 2 * MAX_RESETS + 2

    serve(app, steps)


@pytest.mark.parametrize("offence", ["bad requests", "resets"])
def test_neighbours_of_an_offender_get_their_answers(offence: str) -> None:
    """Behind a proxy that multiplexes, streams of one connection are requests of many clients."""

    async def steps(client: Client) -> None:
        await client.send(headers(1, get("/neighbour")))
        if offence == "bad requests":
            await client.send(*(headers(2 * number + 3, GET[1:]) for number in range(10)))
            code, last = ErrorCode.PROTOCOL_ERROR, 21
        else:
            for number in range(101):
                stream_id = 2 * number + 3
                await client.send(headers(stream_id) + frames.rst_stream_frame(stream_id, ErrorCode.CANCEL))
            code, last = ErrorCode.ENHANCE_YOUR_CALM, 203
        assert client.goaways == [(ALL_STREAMS, code)]
        last += 2
        await client.send(headers(last, get("/on-its-way")))
        await client.pass_time(OFFENCE_GRACE_SECONDS)
        assert client.goaways == [(ALL_STREAMS, code), (last, code)]
        await client.send(headers(last + 2))
        assert client.received().resets[last + 2] == ErrorCode.REFUSED_STREAM
        client.context.begin_drain()
        client.context.end_grace()
        await turns()
        assert client.is_open
        app.answer.set()
        app.read.set()
        await turns()
        assert client.responses[1].content == b"/neighbour"
        assert client.responses[last].content == b"/on-its-way"
        assert not client.is_open
        assert client.goaways[-1] == (last, code)

    app = Held()
    serve(app, steps)


@pytest.mark.parametrize(
    "fields",
    [
        [(b"x-forwarded-proto", b"http"), (b"x-forwarded-proto", b"https")],
        [(b"a_b", b"1")],
        [(b"script_name", b"no-slash")],
    ],
)
def test_what_only_a_setting_refuses_is_answered(fields: list[tuple[bytes, bytes]]) -> None:
    """It is no mistake in HTTP/2, and no proxy holds its users off from it."""

    async def steps(client: Client) -> None:
        for number in range(2 * MAX_BAD_STREAMS):
            await client.send(headers(2 * number + 1, [*get("/refused"), *fields]))
        responses = client.responses
        assert {response.status for response in responses.values()} == {400}
        assert len(responses) == 2 * MAX_BAD_STREAMS
        assert [record.status for record in client.access_log.records] == [400] * 2 * MAX_BAD_STREAMS
        assert client.goaways == []

    serve(ignore, steps, header_map="refuse", forwarded_allow_ips=("192.0.2.1",))


def test_send_after_a_reset_raises() -> None:
    errors: list[BaseException] = []
    go = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            await go.wait()
        except asyncio.CancelledError:
            try:
                await send(body(b"x"))
            except OSError as error:
                errors.append(error)
            raise

    async def steps(client: Client) -> None:
        await client.send(headers(1))
        await client.send(frames.rst_stream_frame(1, ErrorCode.CANCEL))
        assert len(errors) == 1

    serve(app, steps)


@pytest.mark.parametrize("how", ["the window", "the transport"])
def test_a_reset_while_the_application_waits_to_write(how: str) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        while True:
            await send(body(bytes(16 * KIB), more=True))

    async def steps(client: Client) -> None:
        if how == "the transport":
            await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: ALL_STREAMS}))
            await client.send(frames.window_update_frame(0, 2**30))
            client.transport.stalled = True
        await client.send(headers(1))
        if how == "the transport":
            client.transport.stalled = False
            client.transport.take()
        await client.send(frames.rst_stream_frame(1, ErrorCode.CANCEL))
        assert client.context.exchanges == set()

    serve(app, steps)


def test_a_response_before_the_end_of_its_request() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, POST, ended=False))
        assert client.responses[1].ended
        await client.send(data(1, bytes(1000)), data(1, b"", ended=True))
        assert client.received().resets == {}
        await client.send(headers(3, POST, ended=False), data(3, b"x"))
        await client.pass_time(3.0)
        assert client.received().resets == {3: ErrorCode.NO_ERROR}
        await client.send(data(3, b"x"), headers(5))
        assert client.responses[5].ended

    serve(ignore, steps, keepalive_seconds=60)


def test_a_response_before_much_content() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, [*POST, (b"content-length", b"1000000")], ended=False))
        assert client.responses[1].ended
        await client.send(data(1, b"." * 10_000))
        assert client.received().resets == {}
        await client.pass_time(Settings().linger_seconds + 2 * TICK_SECONDS)
        assert client.received().resets == {1: ErrorCode.NO_ERROR}

    serve(ignore, steps)


# Memory


async def _wait(scope: Any, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("app", "conversation"),
    [
        pytest.param(ignore, [headers(1)], id="a response"),
        pytest.param(ignore, [headers(1, POST, ended=False), data(1, ended=True)], id="an early response"),
        pytest.param(ignore, [headers(1, POST, ended=False), frames.rst_stream_frame(1, 8)], id="and a reset"),
        pytest.param(ignore, [headers(1, [*POST, (b"content-length", b"99999")], ended=False)], id="much unwanted"),
        pytest.param(_wait, [headers(1), frames.rst_stream_frame(1, 8)], id="a reset by the client"),
        pytest.param(_wait, [headers(1), headers(1)], id="a reset by the server"),
        pytest.param(_wait, [headers(1), data(0)], id="a connection error"),
    ],
)
def test_nothing_is_left_for_the_garbage_collector(app: Application, conversation: list[bytes]) -> None:
    async def steps(client: Client) -> None:
        gc.collect()
        gc.disable()
        for part in conversation:
            await client.send(part)
        client.access_log.records.clear()
        await client.pass_time(3.0)  # Streams that nobody wants are reset, clocks of those that are gone forgotten.
        left = [thing for thing in gc.get_objects() if isinstance(thing, (Exchange, Stream))]
        assert left == []

    try:
        serve(app, steps, keepalive_seconds=60.0)
    finally:
        gc.enable()


# Clocks


def test_no_settings() -> None:
    async def steps(client: Client) -> None:
        await client.send(frames.PREFACE)
        await client.pass_time(SETTINGS_SECONDS - 1)
        assert client.is_open
        await client.pass_time(1 + 2 * TICK_SECONDS)
        assert client.goaways == [(0, ErrorCode.PROTOCOL_ERROR)]
        assert not client.is_open

    serve(ignore, steps, begin=b"")


def test_an_idle_connection_is_closed_with_a_goaway() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1))
        await client.pass_time(1.5)
        # What is no request does not keep a connection open.
        await client.send(PING)
        assert client.is_open
        await client.pass_time(1.5)
        assert client.goaways == [(1, ErrorCode.NO_ERROR)]
        assert client.transport.eof_written
        await client.pass_time(2.5)
        assert client.transport.closed

    serve(ignore, steps, keepalive_seconds=2.0)


@pytest.mark.parametrize("keepalive", [0.0, 2.0])
def test_the_first_request_has_the_time_of_a_header_block(keepalive: float) -> None:
    async def steps(client: Client) -> None:
        await client.pass_time(9.5)
        await client.send(headers(1))
        assert client.responses[1].ended
        await client.pass_time(keepalive + 1.0)
        assert client.goaways == [(1, ErrorCode.NO_ERROR)]

    serve(ignore, steps, keepalive_seconds=keepalive)


def test_a_first_request_that_does_not_come() -> None:
    async def steps(client: Client) -> None:
        await client.pass_time(11.5)
        assert client.goaways == [(0, ErrorCode.NO_ERROR)]
        assert not client.is_open

    serve(ignore, steps, keepalive_seconds=60.0)


def test_a_header_block_that_never_ends() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1))
        await client.send(frames.frame(frames.HEADERS, 0, 3, block(GET)))
        for _ in range(7):
            await client.pass_time(1.0)
            await client.send(frames.frame(frames.CONTINUATION, 0, 3))
        assert client.is_open
        await client.pass_time(4.5)
        assert client.goaways == [(1, ErrorCode.PROTOCOL_ERROR)]

    app = Held()
    serve(app, steps, keepalive_seconds=1.0)


@pytest.mark.parametrize("beside", [True, False])
def test_a_header_block_whose_first_frame_never_ends(beside: bool) -> None:
    async def steps(client: Client) -> None:
        if beside:
            await client.send(headers(1))
        for byte in headers(3)[:14]:
            await client.send(bytes((byte,)))
            await client.pass_time(0.5)
        assert client.is_open
        await client.pass_time(9.5)
        assert client.goaways == [(1 if beside else 0, ErrorCode.PROTOCOL_ERROR)]

    app = Held()
    serve(app, steps, keepalive_seconds=60.0)


def test_a_header_block_that_is_cut_off_by_the_end_of_the_input() -> None:
    """It can never be a request, and does not concern those that are."""

    async def steps(client: Client) -> None:
        await client.send(headers(1), headers(3)[:14])
        client.transport.feed_eof()
        app.read.set()
        await client.pass_time(12.0)
        assert app.disconnected
        app.answer.set()
        await turns()
        assert client.responses[1].ended
        assert client.transport.closed

    app = Held()
    serve(app, steps)


def test_each_header_block_has_its_own_time() -> None:
    async def steps(client: Client) -> None:
        await client.send(frames.frame(frames.HEADERS, frames.FLAG_END_STREAM, 1, block(GET)))
        for stream_id in range(3, 11, 2):
            await client.pass_time(6.0)
            end = frames.frame(frames.CONTINUATION, frames.FLAG_END_HEADERS, stream_id - 2)
            await client.send(end + frames.frame(frames.HEADERS, frames.FLAG_END_STREAM, stream_id, block(GET)))
        assert sorted(client.responses) == [1, 3, 5, 7]
        await client.pass_time(11.5)
        assert client.goaways == [(7, ErrorCode.PROTOCOL_ERROR)]

    serve(ignore, steps)


def test_a_stream_keeps_the_connection_open() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1))
        await client.pass_time(30)
        assert client.is_open
        app.answer.set()
        app.read.set()
        await turns()
        await client.pass_time(4)
        assert not client.is_open

    app = Held()
    serve(app, steps, keepalive_seconds=2.0)


def test_a_body_that_does_not_come() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, POST, ended=False), headers(3, POST, ended=False))
        for _ in range(3):
            await client.pass_time(3.0)
            await client.send(data(3, b"x"))
        assert client.responses[1].status == 408
        assert client.received().resets == {1: ErrorCode.NO_ERROR}
        await client.send(data(3, b"", ended=True))
        assert client.responses[3].content == b"POST / xxx"

    serve(tell, steps, body_timeout_seconds=5.0)


async def _large_or_tell(scope: Any, receive: Receive, send: Send) -> None:
    if scope["path"] == "/large":
        await respond(send, bytes(256 * KIB))
    else:
        await tell(scope, receive, send)


async def _stop_reading(client: Client, begun: bytes, rest: bytes) -> None:
    """`begun` has come when the server stops reading for eight seconds, since the client is slow to take what it has
    asked for; `rest` comes meanwhile."""
    await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}), headers(1, get("/large")))
    client.transport.stalled = True
    await client.send(frames.window_update_frame(0, 2**20), frames.window_update_frame(1, 2**20), begun)
    assert not client.transport.reading
    if rest:
        await client.send(rest)
    for _ in range(4):
        await client.pass_time(2.0)
        client.transport.take(1)
    client.transport.stalled = False
    client.transport.take()
    await turns()
    assert client.responses[1].ended


@pytest.mark.parametrize(
    ("begun", "rest"),
    [
        pytest.param(headers(3)[:12], headers(3)[12:], id="a header block"),
        pytest.param(headers(3, ended=False) + data(3, b"1"), data(3, b"2", ended=True), id="content"),
        pytest.param(headers(3), b"", id="a window"),
    ],
)
def test_nothing_is_late_that_comes_while_nobody_reads(begun: bytes, rest: bytes) -> None:
    async def steps(client: Client) -> None:
        await _stop_reading(client, begun, rest + frames.window_update_frame(3, 100))
        assert client.responses[3].ended
        assert client.responses[3].status == 200
        assert (client.goaways, client.received().resets) == ([], {})

    serve(_large_or_tell, steps, header_timeout_seconds=5.0, body_timeout_seconds=5.0, write_timeout_seconds=5.0)


def test_time_goes_on_when_the_client_is_read_again() -> None:
    async def steps(client: Client) -> None:
        await _stop_reading(client, headers(3)[:12], b"")
        await client.pass_time(4.0)
        assert client.is_open
        await client.pass_time(2.0)
        assert client.goaways == [(1, ErrorCode.PROTOCOL_ERROR)]

    serve(_large_or_tell, steps, header_timeout_seconds=5.0, write_timeout_seconds=5.0)


def test_a_body_whose_frame_comes_byte_by_byte() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, POST, ended=False), headers(3, POST, ended=False))
        frame = data(3, b"12345", ended=True)
        await client.send(frame[:9])
        for byte in frame[9:]:
            await client.pass_time(3.0)
            await client.send(bytes((byte,)))
        assert client.responses[3].content == b"POST / 12345"
        assert client.responses[1].status == 408

    serve(tell, steps, body_timeout_seconds=5.0)


def test_a_body_whose_frame_stays_incomplete() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, POST, ended=False), data(1, b"12345", ended=True)[:12])
        await client.pass_time(7.0)
        assert client.responses[1].status == 408

    serve(tell, steps, body_timeout_seconds=5.0)


def test_a_window_that_stays_at_zero() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, bytes(1000))

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 10}), headers(1), headers(3))
        for _ in range(3):
            await client.pass_time(3.0)
            await client.send(frames.window_update_frame(3, 10))
        await client.pass_time(1.0)
        assert client.received().resets == {1: ErrorCode.CANCEL}
        assert len(client.responses[3].content) == 40
        assert client.is_open

    serve(app, steps, write_timeout_seconds=5.0)


def test_a_window_that_stays_at_zero_while_the_client_sends() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(start())
        await send(body(b"x", more=True))
        while True:
            await receive()

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}))
        await client.send(headers(1, POST, ended=False), data(1, b"x"))
        for _ in range(7):
            await client.pass_time(1.0)
            if client.received().resets == {}:
                await client.send(data(1, b"x"))
        assert client.received().resets == {1: ErrorCode.CANCEL}
        assert client.is_open

    serve(app, steps, write_timeout_seconds=5.0, body_timeout_seconds=2.0)


def test_streams_that_take_turns_within_the_window_of_the_connection() -> None:
    """Each of them waits for longer than a client may take nothing."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, bytes(100 * KIB))

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 2**20}))
        await client.send(*(headers(stream_id) for stream_id in (1, 3, 5, 7)))
        for _ in range(22):
            await client.pass_time(2.0)
            await client.send(frames.window_update_frame(0, 16 * KIB))
        assert client.received().resets == {}
        assert [len(response.content) for response in client.responses.values()] == [100 * KIB] * 4
        await client.send(headers(9), headers(11))
        await client.pass_time(6.5)
        assert client.received().resets == {9: ErrorCode.CANCEL, 11: ErrorCode.CANCEL}

    serve(app, steps, write_timeout_seconds=5.0, keepalive_seconds=60.0)


def test_a_client_that_takes_nothing() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        while True:
            await send(body(bytes(16 * KIB), more=True))

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: ALL_STREAMS}))
        await client.send(frames.window_update_frame(0, 2**30))
        client.transport.stalled = True
        await client.send(headers(1))
        await client.pass_time(6.5)
        assert client.transport.aborted

    serve(app, steps, write_timeout_seconds=5.0)


def test_a_blocked_loop_costs_nobody_his_time() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1, POST, ended=False))
        await client.block_loop(100.0)
        await client.pass_time(1.0)
        assert client.is_open
        assert client.responses == {}
        await client.send(data(1, b"x", ended=True))
        assert client.responses[1].content == b"POST / x"

    serve(tell, steps, body_timeout_seconds=5.0)


def test_a_stream_that_waits_for_nothing_is_not_looked_at() -> None:
    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}), headers(1))
        await client.block_loop(100.0)
        await client.pass_time(1.0)
        assert client.context.unsent
        await client.send(frames.window_update_frame(1, 5))
        await client.pass_time(1.0)
        assert client.responses[1].content == b"begun"
        assert client.context.unsent == set()

    serve(stream, steps)


# Ends


def test_a_connection_error_ends_all_streams() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1), headers(3))
        await client.send(data(0, b"x"))
        assert client.goaways == [(3, ErrorCode.PROTOCOL_ERROR)]
        assert client.context.exchanges == set()
        assert client.transport.eof_written
        await client.send(headers(5))
        assert client.transport.reading
        await client.pass_time(2.5)
        assert client.transport.closed

    client = serve(Held(), steps)
    assert client.log.of("warning") == ["Refused request from 192.0.2.1: 400 bad-stream-identifier"]


def test_bytes_without_end_behind_the_end() -> None:
    async def steps(client: Client) -> None:
        await client.send(data(0, b"x"))
        # What the windows have allowed may be on its way.
        await client.send(bytes(1024 * KIB))
        assert not client.transport.aborted
        await client.send(bytes(65 * KIB))
        assert client.transport.aborted

    serve(ignore, steps)


def test_content_on_its_way_behind_the_end_takes_no_answer_away() -> None:
    async def steps(client: Client) -> None:
        client.transport.stalled = True
        uploads = [*POST, (b"content-length", b"1000000")]
        await client.send(headers(1, uploads, ended=False), headers(3, uploads, ended=False))
        client.context.begin_drain()
        client.context.end_grace()
        await client.pass_time(Settings().linger_seconds + 2 * TICK_SECONDS)
        assert client.transport.eof_written
        for _ in range(4):
            await client.send(data(1, bytes(15 * KIB)), data(3, bytes(15 * KIB)))
        client.transport.take()
        assert [response.ended for response in client.responses.values()] == [True, True]

    serve(ignore, steps)


def test_a_drain_tells_twice_and_serves_what_comes_between() -> None:
    """Section 6.8."""

    async def steps(client: Client) -> None:
        await client.send(headers(1))
        client.context.begin_drain()
        await turns()
        assert client.goaways == [(ALL_STREAMS, ErrorCode.NO_ERROR)]
        await client.send(headers(3))
        client.context.end_grace()
        await turns()
        assert client.goaways == [(ALL_STREAMS, ErrorCode.NO_ERROR), (3, ErrorCode.NO_ERROR)]
        await client.send(headers(5))
        assert client.received().resets == {5: ErrorCode.REFUSED_STREAM}
        assert client.is_open
        app.answer.set()
        app.read.set()
        await turns()
        assert client.responses[1].ended
        assert client.responses[3].ended
        assert client.transport.eof_written

    app = Held()
    serve(app, steps)


def test_requests_that_cross_the_last_goaway_are_not_held_against_the_client() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1))
        client.context.begin_drain()
        client.context.end_grace()
        await client.send(*(headers(2 * number + 3) for number in range(300)))
        assert set(client.received().resets.values()) == {ErrorCode.REFUSED_STREAM}
        assert client.is_open
        app.answer.set()
        app.read.set()
        await turns()
        assert client.responses[1].ended

    app = Held()
    serve(app, steps)


def test_a_drain_does_not_wait_for_a_header_block_that_it_would_refuse() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1))
        client.context.begin_drain()
        client.context.end_grace()
        await client.send(headers(3)[:14])
        assert client.is_open
        app.answer.set()
        app.read.set()
        await turns()
        assert client.responses[1].ended
        assert not client.is_open
        assert client.goaways[-1] == (1, ErrorCode.NO_ERROR)

    app = Held()
    assert serve(app, steps).log.of("warning") == []


def test_a_drain_of_an_idle_connection() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1))
        client.context.begin_drain()
        await turns()
        assert client.is_open
        client.context.end_grace()
        await turns()
        assert client.goaways == [(ALL_STREAMS, ErrorCode.NO_ERROR), (1, ErrorCode.NO_ERROR)]
        assert not client.is_open

    serve(ignore, steps)


def test_a_connection_that_is_accepted_in_a_drain() -> None:
    async def steps(client: Client) -> None:
        client.context.draining = True
        connection = Http2Connection(client.context)
        transport = FakeTransport(client.loop, connection)
        reader = Reader()
        transport.feed(BEGIN + headers(1))
        await turns()
        reader.feed(bytes(transport.received))
        assert reader.goaways == [(ALL_STREAMS, ErrorCode.NO_ERROR)]
        assert reader.responses[1].ended
        transport.lose()

    serve(ignore, steps)


def test_a_connection_whose_first_bytes_are_read_behind_the_grace() -> None:
    """They were in the socket already, so that it was not closed as an idle one; what they ask for is the last."""

    async def steps(client: Client) -> None:
        client.context.begin_drain()
        client.context.end_grace()
        transport = FakeTransport(client.loop, Http2Connection(client.context))
        transport.feed(BEGIN + headers(1))
        await turns()
        reader = Reader()
        reader.feed(bytes(transport.received))
        assert reader.responses[1].ended
        assert reader.goaways == [(ALL_STREAMS, ErrorCode.NO_ERROR), (1, ErrorCode.NO_ERROR)]
        assert transport.eof_written
        transport.lose()

    serve(ignore, steps, keepalive_seconds=60)


def test_answers_of_our_own_to_head_have_no_content() -> None:
    async def steps(client: Client) -> None:
        head = [(b":method", b"HEAD"), *GET[1:]]
        await client.send(headers(1, [*head, (b"x", b"1" * 9000)]), headers(3, head, ended=False))
        await client.pass_time(3.0)
        responses = client.responses
        assert [responses[number].status for number in (1, 3)] == [431, 408]
        assert all((response.content, response.ended) == (b"", True) for response in responses.values())

    serve(tell, steps, body_timeout_seconds=1.0)


def test_the_access_log_shows_what_was_refused() -> None:
    async def steps(client: Client) -> None:
        long = get("/" + "a" * 5000)
        await client.send(headers(1, [*GET, (b"x", b"1" * 9000)]), headers(3, get("/x?y")), headers(5, long))
        records = [(r.method, r.uri[:5], r.status) for r in client.access_log.records]
        assert records == [("GET", "/", 431), ("GET", "/aaaa", 414), ("GET", "/x?y", 200)]

    serve(ignore, steps)


def test_streams_are_told_of_a_drain() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1))
        client.context.begin_drain()
        client.context.end_grace()
        await turns()
        assert client.responses[1].reset == ErrorCode.INTERNAL_ERROR  # The application did not end its response.
        assert not client.is_open

    serve(stream, steps)


def test_the_client_says_goodbye() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1), frames.goaway_frame(0, 0))
        assert client.responses == {}
        app.answer.set()
        app.read.set()
        await turns()
        assert client.responses[1].ended
        assert not client.is_open

    app = Held()
    serve(app, steps)


def test_a_client_that_closes_its_sending_side_gets_its_answers() -> None:
    async def steps(client: Client) -> None:
        await client.send(headers(1), headers(3, POST, ended=False))
        client.transport.feed_eof()
        await turns()
        assert not client.transport.closed
        app.answer.set()
        app.read.set()
        await turns()
        assert client.responses[1].ended
        assert client.responses[3].reset == ErrorCode.CANCEL
        assert client.transport.closed

    app = Held()
    serve(app, steps)


@pytest.mark.parametrize("window", ["of the stream", "of the connection"])
@pytest.mark.parametrize("when", ["before", "behind"])
def test_a_client_that_closes_its_sending_side_will_not_make_room(window: str, when: str) -> None:
    ends: list[str] = []
    go = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["path"] == "/small":
            await respond(send, b"x")
            return
        await go.wait()
        await send(start())
        try:
            for _ in range(5):
                await send(body(bytes(16 * KIB), more=True))
        except (OSError, asyncio.CancelledError) as error:
            ends.append(type(error).__name__)
            raise

    async def steps(client: Client) -> None:
        size = 100 if window == "of the stream" else ALL_STREAMS
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: size}))
        await client.send(headers(1), headers(3, get("/small")))
        if when == "before":
            go.set()
            await turns()
        client.transport.feed_eof()
        await turns()
        assert client.responses[3].content == b"x"
        go.set()
        await turns()
        assert client.responses[1].reset == ErrorCode.CANCEL
        assert len(ends) == 1
        assert client.context.exchanges == set()
        assert client.transport.closed

    serve(app, steps)


def test_what_the_windows_cover_is_sent_to_a_client_that_closes_its_sending_side() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, bytes(500 * KIB))

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: ALL_STREAMS}))
        client.transport.feed(frames.window_update_frame(0, 2**30) + headers(1))
        client.transport.feed_eof()
        await turns(50)
        assert len(client.responses[1].content) == 500 * KIB
        assert client.responses[1].ended
        assert client.transport.closed

    serve(app, steps)


def test_a_client_that_goes() -> None:
    """Closing the connection is no cheaper than resetting all its streams."""
    ends: list[str] = []
    go = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["path"] != "/unanswered":
            await send(start())
            await send(body(bytes(100), more=scope["path"] != "/answered"))
        try:
            await go.wait()
            ends.append(scope["path"])
        except asyncio.CancelledError:
            ends.append("cancelled " + scope["path"])
            raise

    async def steps(client: Client) -> None:
        await client.send(frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 10}))
        await client.send(headers(1, get("/unanswered")), headers(3, get("/begun")), headers(5, get("/answered")))
        client.transport.lose()
        await turns()
        assert sorted(ends) == ["cancelled /begun", "cancelled /unanswered"]
        go.set()
        await turns()
        assert ends[2:] == ["/answered"]

    client = serve(app, steps)
    assert sorted(client.access_log.lines) == [("/answered", 200, 100), ("/begun", 200, 100), ("/unanswered", 499, 0)]
    assert client.log.of("error") == []


# Which version (section 3)


@pytest.mark.parametrize("size", [1, 3, 15, 16, 24, 2**30])
def test_prior_knowledge(size: int) -> None:
    async def steps(client: Client) -> None:
        whole = BEGIN + headers(1)
        for begin in range(0, len(whole), size):
            await client.send(whole[begin : begin + size])
        assert client.responses[1].ended

    serve(ignore, steps, begin=b"", negotiate=True)


@pytest.mark.parametrize("size", [1, 3, 2**30])
@pytest.mark.parametrize("first", ["GET", "PRI", "P"])
def test_http_1_beside_it(first: str, size: int) -> None:
    async def steps(client: Client) -> None:
        whole = http1_request("/", method=first)
        for begin in range(0, len(whole), size):
            await client.send(whole[begin : begin + size])
        assert bytes(client.transport.received).startswith(b"HTTP/1.1 200 OK\r\n")

    serve(ignore, steps, begin=b"", negotiate=True)


@pytest.mark.parametrize(
    ("allowed", "mode", "answer"),
    [
        (("192.0.2.1",), "prior-knowledge", b"HTTP/1.1 400 "),
        (("192.0.2.1",), "both", b"HTTP/1.1 200 "),
        (("192.0.2.2",), "prior-knowledge", b"HTTP/1.1 200 "),
    ],
)
def test_http_1_from_a_peer_that_should_speak_http_2(allowed: tuple[str, ...], mode: str, answer: bytes) -> None:
    """As Gunicorn documents its setting."""

    async def steps(client: Client) -> None:
        await client.send(http1_request("/"))
        assert bytes(client.transport.received).startswith(answer)

    serve(
        ignore,
        steps,
        begin=b"",
        negotiate=True,
        http2_cleartext=mode,
        http2_cleartext_peers="trusted",
        forwarded_allow_ips=allowed,
    )


def test_http_2_from_a_peer_that_is_not_trusted() -> None:
    async def steps(client: Client) -> None:
        await client.send(BEGIN)
        assert bytes(client.transport.received).startswith(b"HTTP/1.1 505 ")

    serve(ignore, steps, begin=b"", negotiate=True, http2_cleartext="prior-knowledge", http2_cleartext_peers="trusted")


UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"


@pytest.mark.parametrize("size", [1, 2**30])
def test_upgrade(size: int) -> None:
    async def steps(client: Client) -> None:
        # SETTINGS_INITIAL_WINDOW_SIZE of 3
        first = http1_request("/a?b", fields=UPGRADE + "HTTP2-Settings: AAQAAAAD\r\nX: y\r\n")
        whole = first + BEGIN + frames.window_update_frame(1, 100) + headers(3, get("/next"))
        for begin in range(0, len(whole), size):
            await client.send(whole[begin : begin + size])
        head, _, rest = bytes(client.transport.received).partition(b"\r\n\r\n")
        assert head == b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c"
        reader = Reader()
        reader.feed(rest)
        assert reader.frames[0].kind == frames.SETTINGS
        assert reader.responses[1].content == b"2 /a b [host, x]"
        if size == 1:  # The window of the upgrade, before the update.
            assert [len(frame.payload) for frame in reader.of(frames.DATA)[:2]] == [3, 13]
        assert reader.responses[3].content[:3] == b"2 /"

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        names = ", ".join(name.decode() for name, _ in scope["headers"])
        query = scope["query_string"].decode()
        await respond(send, f"{scope['http_version']} {scope['path']} {query} [{names}]".encode())

    serve(app, steps, begin=b"", negotiate=True)


UPGRADE_WITH_SETTINGS = UPGRADE + "HTTP2-Settings: AAQAAAAD\r\n"


def test_the_fields_of_an_upgrade() -> None:
    """The client is whom the last entry of all lines of the proxy names; pieces of cookies become one."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await ignore(scope, receive, send)

    async def steps(client: Client) -> None:
        fields = "X-Forwarded-For: 198.51.100.7\r\nCookie: a=1\r\nX-Forwarded-For: 192.0.2.1\r\nCookie: b=2\r\n"
        await client.send(http1_request("/", fields=UPGRADE_WITH_SETTINGS + fields))
        (scope,) = scopes
        assert scope["client"] == ("198.51.100.7", 0)
        assert [value for name, value in scope["headers"] if name == b"cookie"] == [b"a=1; b=2"]

    serve(app, steps, begin=b"", negotiate=True, forwarded_allow_ips=("192.0.2.1",))


def test_fields_of_an_upgrade_that_contradict_each_other() -> None:
    async def steps(client: Client) -> None:
        fields = "X-Forwarded-Proto: http\r\nX-Forwarded-Ssl: on\r\nX-Forwarded-Proto: https\r\n"
        await client.send(http1_request("/", fields=UPGRADE_WITH_SETTINGS + fields))
        _, _, rest = bytes(client.transport.received).partition(b"\r\n\r\n")
        reader = Reader()
        reader.feed(rest)
        assert (reader.responses[1].status, reader.responses[1].ended) == (400, True)

    serve(ignore, steps, begin=b"", negotiate=True, forwarded_allow_ips=("192.0.2.1",))


@pytest.mark.parametrize(
    "request_",
    [
        http1_request("/", fields=UPGRADE),
        http1_request("/", fields=UPGRADE + "HTTP2-Settings: AAQAAAAD\r\nHTTP2-Settings: AAQAAAAD\r\n"),
        http1_request("/", fields=UPGRADE + "HTTP2-Settings: AAQAAA\r\n"),
        http1_request("/", fields=UPGRADE + "HTTP2-Settings: A\r\n"),
        http1_request("/", fields=UPGRADE + "HTTP2-Settings: !!!!\r\n"),
        http1_request("/", fields="Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAQAAAAD\r\n"),
        http1_request("/", fields="Connection: HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAQAAAAD\r\n"),
        http1_request("/", fields=UPGRADE.replace("h2c", "h2") + "HTTP2-Settings: AAQAAAAD\r\n"),
        http1_request("/", method="POST", body=b"x", fields=UPGRADE + "HTTP2-Settings: AAQAAAAD\r\n"),
    ],
)
def test_an_upgrade_that_is_not_followed(request_: bytes) -> None:
    async def steps(client: Client) -> None:
        await client.send(request_)
        assert bytes(client.transport.received).startswith(b"HTTP/1.1 200 OK\r\n")

    serve(tell, steps, begin=b"", negotiate=True)


def test_an_upgrade_where_it_is_off() -> None:
    async def steps(client: Client) -> None:
        await client.send(http1_request("/", fields=UPGRADE + "HTTP2-Settings: AAQAAAAD\r\n"))
        assert bytes(client.transport.received).startswith(b"HTTP/1.1 200 OK\r\n")

    serve(tell, steps, begin=b"", negotiate=True, http2_cleartext="off")


def test_an_upgrade_without_a_preface_behind_it() -> None:
    async def steps(client: Client) -> None:
        await client.send(http1_request("/", fields=UPGRADE + "HTTP2-Settings: \r\n"))
        await client.pass_time(12.0)
        assert not client.is_open

    serve(tell, steps, begin=b"", negotiate=True)


@pytest.mark.parametrize("begin", [b"", b"PRI * HTTP"])
def test_a_preface_that_drips(begin: bytes) -> None:
    async def steps(client: Client) -> None:
        for byte in begin:
            await client.send(bytes((byte,)))
            await client.pass_time(1.0)
        await client.pass_time(11.0)
        assert client.transport.closed

    serve(ignore, steps, begin=b"", negotiate=True)


class Tls:
    """What `get_extra_info("ssl_object")` gives."""

    def __init__(self, protocol: str | None) -> None:
        self._protocol = protocol

    def selected_alpn_protocol(self) -> str | None:
        return self._protocol


@pytest.mark.parametrize(
    ("offered", "chosen", "is_http2"), [(True, "h2", True), (True, None, False), (True, "http/1.1", False)]
)
def test_alpn(offered: bool, chosen: str | None, is_http2: bool) -> None:
    async def steps(client: Client) -> None:
        if is_http2:
            await client.send(BEGIN, headers(1))
            assert client.responses[1].ended
        else:
            await client.send(http1_request("/"))
            assert bytes(client.transport.received).startswith(b"HTTP/1.1 200 OK\r\n")

    serve(ignore, steps, begin=b"", negotiate=True, tls=Tls(chosen), http2=offered)
