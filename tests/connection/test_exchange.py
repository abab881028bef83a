"""The exchange behind its seam: a codec that is no HTTP drives it, so that what holds here holds for every version."""

import asyncio
import contextvars
import gc
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest

from gunicorn_asgi.asgi_types import Application, Field, Receive, ResponseFields, Send
from gunicorn_asgi.connection.context import ServingContext
from gunicorn_asgi.connection.exchange import Exchange, ExchangeState
from gunicorn_asgi.connection.flow import Gate
from gunicorn_asgi.connection.http1 import Http1Connection
from gunicorn_asgi.errors import ApplicationError, ClientDisconnected, MessageOrderError
from gunicorn_asgi.settings import Settings
from gunicorn_asgi.wire.http1_response import UNKNOWN_LENGTH
from tests.connection.serving import (
    LOOPS,
    STEP_SECONDS,
    LoopFactory,
    RecordingAccessLog,
    RecordingLog,
    body,
    http_scope,
    run,
    serving_context,
    soon,
    start,
    turns,
)


class AngleStream:
    """A `ResponseStream` in an encoding of its own: `<status name=value>`, `[content]`, `!` at the end."""

    peer = "192.0.2.1"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.write_gate = Gate(loop)
        self.writes: list[str] = []
        self.calls: list[str] = []
        """What else the exchange asked for, in its order."""
        self._head = ""

    @property
    def sent(self) -> str:
        return "".join(self.writes)

    def send_interim(self, status: int, fields: list[Field]) -> None:
        self.writes.append(f"<{status}{self._shown(fields)}>")

    def start(self, status: int, fields: ResponseFields, bodiless: bool, trailers: bool) -> int:
        length = UNKNOWN_LENGTH
        self._head = f"<{status}"
        for name, value in fields:
            if name == b"forbidden":
                raise ApplicationError("response header b'forbidden'")
            if name == b"content-length":
                length = int(value)
            self._head += f" {name.decode()}={value.decode()}"
        self._head += f"{' bodiless' if bodiless else ''}{' trailers' if trailers else ''}>"
        return length

    def write_first(self, body: bytes, last: bool) -> None:
        self.writes.append(self._head + self._content(body, last))

    def write(self, body: bytes, last: bool) -> None:
        self.writes.append(self._content(body, last))

    def write_trailers(self, fields: list[Field]) -> None:
        self.writes.append(f"{{{self._shown(fields)}}}!")

    def root_path(self, fields: dict[bytes, bytes]) -> str:
        return ""

    def on_body_wanted(self) -> None:
        self.calls.append("wanted")

    def on_body_taken(self) -> None:
        self.calls.append("taken")

    def close_when_sent(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    @staticmethod
    def _shown(fields: list[Field]) -> str:
        return "".join(f" {name.decode()}={value.decode()}" for name, value in fields)

    @staticmethod
    def _content(body: bytes, last: bool) -> str:
        return (f"[{body.decode()}]" if body else "") + ("!" if last else "")


@dataclass
class Ran:
    """One exchange with all that can be seen of it."""

    context: ServingContext
    stream: AngleStream
    exchange: Exchange
    log: RecordingLog
    access_log: RecordingAccessLog

    @property
    def task(self) -> "asyncio.Task[None]":
        assert self.exchange.task is not None
        return self.exchange.task


Steps = Callable[[Ran], Awaitable[None]]


async def nothing_more(_: Ran) -> None:
    """The steps of a test in which the client only waits."""


def exchange_with(
    app: Application,
    steps: Steps = nothing_more,
    *,
    method: str = "GET",
    path: str = "/path",
    has_body: bool = False,
    access_logged: bool = True,
    fields: dict[bytes, bytes] | None = None,
) -> Ran:
    """Run `app` on one exchange; after a few turns of the loop come `steps`, and the client leaves."""

    async def main() -> Ran:
        loop = asyncio.get_running_loop()
        log, access_log = RecordingLog(), RecordingAccessLog()
        context = serving_context(app, log=log, access_log=access_log if access_logged else None)
        stream = AngleStream(loop)
        ran = Ran(
            context,
            stream,
            Exchange(
                context, stream, http_scope(path, method), fields or {}, method, path, f"{method} {path}", has_body
            ),
            log,
            access_log,
        )
        await turns()
        await steps(ran)
        await turns()
        ran.exchange.on_disconnect()
        stream.write_gate.open()
        await turns()
        assert ran.task.done(), "the application still waits after its client has gone"
        assert context.exchanges == set()
        context.clock.stop()
        return ran

    return run(main())


# Whole and streamed responses


def test_head_and_first_content_leave_in_one_write() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(201, (b"a", b"b")))
        await send(body(b"hello"))

    ran = exchange_with(app)
    assert ran.stream.writes == ["<201 a=b>[hello]!"]
    assert ran.exchange.state is ExchangeState.COMPLETE
    assert ran.log.lines == []


def test_the_head_is_held_until_there_is_content() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await receive()
        await receive()

    async def steps(ran: Ran) -> None:
        assert ran.stream.writes == []
        assert ran.exchange.state is ExchangeState.HEAD_HELD
        assert not ran.exchange.head_sent

    exchange_with(app, steps)


def test_content_is_streamed_as_it_comes() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"", more=True))
        await send(body(b"a", more=True))
        await send(body(b"", more=True))
        await send(body(b"b", more=True))
        await send({"type": "http.response.body"})

    ran = exchange_with(app)
    assert ran.stream.writes == ["<200>", "[a]", "", "[b]", "!"]
    assert ran.access_log.lines == [("/path", 200, 2)]


@pytest.mark.parametrize("content", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_content_may_be_any_kind_of_bytes(content: bytes) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(content))

    assert exchange_with(app).stream.sent == "<200>[abc]!"


@pytest.mark.parametrize("content", ["abc", None, 3, [b"abc"]])
def test_content_that_is_no_bytes_is_the_applications_error(content: Any) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(content))

    ran = exchange_with(app)
    assert ran.stream.sent.startswith("<500 ")
    [error] = ran.log.exceptions
    assert isinstance(error, ApplicationError)
    assert type(content).__name__ in str(error)


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("HEAD", 404), ("GET", 204), ("GET", 304), ("POST", 204)]
)
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_bodiless_response_has_no_content_whatever_the_application_sends(
    method: str, status: int, pieces: int
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(status, (b"content-length", b"5")))
        for left in reversed(range(pieces)):
            await send(body(b"hello", more=left > 0))

    ran = exchange_with(app, method=method)
    assert ran.stream.sent == f"<{status} content-length=5 bodiless>!"
    assert ran.access_log.lines == [("/path", status, 0)]
    assert ran.log.lines == []


# Content-Length


@pytest.mark.parametrize("pieces", [[b"hello"], [b"he", b"llo"], [b"", b"hello", b""]])
def test_content_as_long_as_announced(pieces: list[bytes]) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(200, (b"content-length", b"5")))
        for number, piece in enumerate(pieces, 1):
            await send(body(piece, more=number < len(pieces)))

    ran = exchange_with(app)
    assert ran.stream.sent.replace("][", "") == "<200 content-length=5>[hello]!"
    assert (ran.stream.calls, ran.log.lines) == ([], [])


@pytest.mark.parametrize("pieces", [[b"hello+"], [b"he", b"llo+"], [b"hello", b"+"], [b"hello", b"+", b"+"]])
def test_content_longer_than_announced_is_cut_and_closes(pieces: list[bytes]) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(200, (b"content-length", b"5")))
        for number, piece in enumerate(pieces, 1):
            await send(body(piece, more=number < len(pieces)))

    ran = exchange_with(app)
    assert ran.stream.sent.replace("][", "") == "<200 content-length=5>[hello]!"
    assert ran.stream.calls == ["close"]
    assert ran.access_log.lines == [("/path", 200, 5)]
    [error] = ran.log.exceptions
    assert isinstance(error, ApplicationError)
    assert "longer than the content-length" in str(error)


def test_content_shorter_than_announced_is_500_while_nothing_was_sent() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(200, (b"content-length", b"5")))
        await send(body(b"hell"))

    ran = exchange_with(app)
    assert ran.stream.sent.startswith("<500 ")
    assert ran.stream.calls == ["close"]
    assert "shorter than the content-length" in str(ran.log.exceptions[0])


def test_content_shorter_than_announced_is_broken_off_where_some_was_sent() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(200, (b"content-length", b"5")))
        await send(body(b"he", more=True))
        await send(body(b"ll"))

    ran = exchange_with(app)
    assert ran.stream.sent == "<200 content-length=5>[he]"
    assert ran.stream.calls == ["abort"]
    assert ran.access_log.lines == [("/path", 200, 2)]
    assert len(ran.log.exceptions) == 1


# The order of messages

REACH: dict[ExchangeState, list[dict[str, Any]]] = {
    ExchangeState.AWAITING_START: [],
    ExchangeState.HEAD_HELD: [start()],
    ExchangeState.STREAMING: [start(), body(b"a", more=True)],
    ExchangeState.AWAITING_TRAILERS: [{**start(), "trailers": True}, body(b"a")],
    ExchangeState.COMPLETE: [start(), body(b"a")],
}


@pytest.mark.parametrize(
    ("state", "words", "types"),
    [
        (ExchangeState.AWAITING_START, "has not started", ["http.response.body", "http.response.trailers"]),
        (ExchangeState.HEAD_HELD, "has started", ["http.response.start", "websocket.send"]),
        (ExchangeState.STREAMING, "under way", ["http.response.start", "lifespan.startup.complete"]),
        (ExchangeState.AWAITING_TRAILERS, "content is complete", ["http.response.start", "http.response.body"]),
        (ExchangeState.COMPLETE, "is complete", ["http.response.start", "http.response.body", "nonsense"]),
    ],
)
def test_a_message_out_of_order_raises_and_names_state_and_type(
    state: ExchangeState, words: str, types: list[str]
) -> None:
    errors: list[MessageOrderError] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for message in REACH[state]:
            await send(message)
        for kind in types:
            with pytest.raises(MessageOrderError) as raised:
                await send({"type": kind, "status": 200, "headers": [], "body": b"wrong"})
            errors.append(raised.value)
        if state is ExchangeState.AWAITING_TRAILERS:
            await send(trailers())
        elif state is not ExchangeState.COMPLETE:  # The errors have broken nothing.
            for message in [start(), body(b"a", more=True), body(b"b")][len(REACH[state]) :]:
                await send(message)

    ran = exchange_with(app)
    assert len(errors) == len(types)
    for error, kind in zip(errors, types, strict=True):
        assert repr(kind) in str(error)
        assert words in str(error)
    assert "wrong" not in ran.stream.sent
    assert ran.exchange.state is ExchangeState.COMPLETE
    assert ran.log.lines == []


# Early hints and trailers

HINT = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>"]}
TRAILERS_ASKED_FOR = {b"te": b"gzip;q=0.5, Trailers"}


def trailers(*fields: tuple[bytes, bytes], more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.trailers", "headers": fields, "more_trailers": more}


def sending(*messages: dict[str, Any]) -> Application:
    """An application that sends all of these."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def test_early_hints_go_out_before_the_head_and_are_ignored_behind_it() -> None:
    ran = exchange_with(sending(HINT, start(), HINT, body(b"a", more=True), HINT, body(b"b")))
    hint = "<103 link=</a.css>; rel=preload link=</b.js>>"
    assert ran.stream.writes == [hint, hint, "<200>[a]", "[b]!"]
    assert ran.log.lines == []


def test_early_hints_wait_for_a_client_that_does_not_read() -> None:
    async def main() -> None:
        stream = AngleStream(asyncio.get_running_loop())
        stream.write_gate.close()
        context = serving_context(sending(HINT, start(), body()))
        exchange = Exchange(context, stream, http_scope(), {}, "GET", "/", "GET /", False)
        await turns()
        assert stream.writes == []
        stream.write_gate.open()
        await soon(exchange.task)
        assert stream.sent.startswith("<103 ")

    run(main())


def test_a_broken_hint_is_not_sent() -> None:
    ran = exchange_with(sending({**HINT, "links": [b"a\r\nb: c"]}))
    assert ran.stream.sent.startswith("<500 ")
    assert "control character" in str(ran.log.exceptions[0])


def test_trailers_end_the_response() -> None:
    messages = [
        {**start(), "trailers": True},
        body(b"a"),
        trailers((b"X-Sum", b"1"), more=True),
        trailers((b"y", b"2")),
    ]
    ran = exchange_with(sending(*messages), fields=TRAILERS_ASKED_FOR)
    assert ran.stream.writes == ["<200 trailers>[a]", "{ x-sum=1 y=2}!"]
    assert ran.exchange.state is ExchangeState.COMPLETE
    assert ran.access_log.lines == [("/path", 200, 1)]
    assert ran.log.lines == []


@pytest.mark.parametrize(("method", "asked_for"), [("GET", False), ("HEAD", True)])
def test_trailers_that_nobody_wants_are_taken_and_not_sent(method: str, asked_for: bool) -> None:
    messages = [{**start(), "trailers": True}, body(b"a"), trailers((b"x", b"1"))]
    ran = exchange_with(sending(*messages), fields=TRAILERS_ASKED_FOR if asked_for else {}, method=method)
    assert ran.stream.writes == ["<200>[a]" if method == "GET" else "<200 bodiless>", "{}!"]
    assert ran.log.lines == []


def test_what_frames_a_message_is_no_trailer() -> None:
    fields = [(b"content-length", b"9"), (b"Transfer-Encoding", b"chunked"), (b"host", b"a"), (b"x", b"1")]
    ran = exchange_with(
        sending({**start(), "trailers": True}, body(), trailers(*fields)),
        fields=TRAILERS_ASKED_FOR,
    )
    assert ran.stream.writes[-1] == "{ x=1}!"


@pytest.mark.parametrize("field", [(b"bad name", b""), (b"x", b"a\nb"), (b"x", "text"), (b"x",)])
def test_broken_trailers_break_the_response_off(field: Any) -> None:
    ran = exchange_with(sending({**start(), "trailers": True}, body(b"a"), trailers(field)), fields=TRAILERS_ASKED_FOR)
    assert ran.stream.writes == ["<200 trailers>[a]"]
    assert ran.stream.calls == ["abort"]
    assert isinstance(ran.log.exceptions[0], ApplicationError)


@pytest.mark.parametrize(
    "messages",
    [
        [start(), body(b"a"), trailers()],
        [{**start(), "trailers": False}, body(b"a"), trailers()],
        [{**start(), "trailers": True}, body(b"a", more=True), trailers()],
        [{**start(), "trailers": True}, body(b"a"), trailers(), trailers()],
        [{**start(), "trailers": True}, body(b"a"), trailers(), HINT],
        [{**start(), "trailers": True}, body(b"a"), HINT],
    ],
)
def test_trailers_and_hints_out_of_order_raise(messages: list[dict[str, Any]]) -> None:
    ran = exchange_with(sending(*messages), fields=TRAILERS_ASKED_FOR)
    [error] = ran.log.exceptions
    assert isinstance(error, MessageOrderError)


def test_a_response_without_its_announced_trailers_is_broken_off() -> None:
    ran = exchange_with(sending({**start(), "trailers": True}, body(b"a")), fields=TRAILERS_ASKED_FOR)
    assert ran.stream.calls == ["abort"]
    assert "expected 'http.response.trailers'" in str(ran.log.exceptions[0])
    assert ran.access_log.lines == [("/path", 200, 1)]


def test_a_head_that_the_codec_refuses_may_be_replaced() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        with pytest.raises(ApplicationError):
            await send(start(200, (b"forbidden", b"")))
        await send(start(503))
        await send(body(b"sorry"))

    assert exchange_with(app).stream.sent == "<503>[sorry]!"


def test_a_head_that_the_codec_refuses_is_500() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(200, (b"forbidden", b"")))

    ran = exchange_with(app)
    assert ran.stream.sent.startswith("<500 ")
    assert ran.access_log.lines == [("/path", 500, len("Internal Server Error"))]


# A client that goes


@pytest.mark.parametrize("state", [state for state in REACH if state is not ExchangeState.COMPLETE])
@pytest.mark.parametrize("message", [start(), body(b"late"), body(b"late", more=True)], ids=["start", "last", "more"])
def test_send_after_the_client_has_gone_raises_an_oserror(state: ExchangeState, message: dict[str, Any]) -> None:
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for before in REACH[state]:
            await send(before)
        await receive()
        await receive()
        for _ in range(2):
            try:
                await send(message)
            except OSError as error:
                raised.append(error)

    async def steps(ran: Ran) -> None:
        ran.exchange.on_disconnect()

    ran = exchange_with(app, steps)
    assert [type(error) for error in raised] == [ClientDisconnected] * 2
    assert "late" not in ran.stream.sent
    assert ran.log.of("error") == []


def test_send_waits_in_front_of_a_closed_gate_and_goes_on_when_it_opens() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await receive()

    async def steps(ran: Ran) -> None:
        await ran.exchange.send(start())
        await ran.exchange.send(body(b"a", more=True))
        ran.stream.write_gate.close()
        sending = asyncio.create_task(ran.exchange.send(body(b"b")))
        await turns()
        ran.stream.write_gate.wake()  # To look again is not to pass.
        await turns()
        assert not sending.done()
        assert ran.stream.sent == "<200>[a]"
        ran.stream.write_gate.open()
        await soon(sending)
        assert ran.stream.sent == "<200>[a][b]!"

    exchange_with(app, steps)


@pytest.mark.parametrize("content", [b"", b"a"])
def test_an_application_that_sends_without_a_pause_lets_the_loop_turn(content: bytes) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        turned = 0

        def turn() -> None:
            nonlocal turned
            turned += 1
            if turned < 10:
                loop.call_soon(turn)

        loop = asyncio.get_running_loop()
        await send(start())
        await send(body(more=True))
        loop.call_soon(turn)
        end = time.monotonic() + STEP_SECONDS
        while turned < 10:
            await send(body(content, more=True))
            assert time.monotonic() < end
        await send(body())

    ran = exchange_with(app, lambda ran: soon(asyncio.shield(ran.task)))
    assert ran.log.of("error") == []
    assert ran.exchange.state is ExchangeState.COMPLETE


def test_a_client_that_goes_wakes_a_waiting_send() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"a", more=True))
        await receive()
        await receive()

    async def steps(ran: Ran) -> None:
        ran.stream.write_gate.close()
        sending = asyncio.create_task(ran.exchange.send(body(b"b")))
        await turns()
        assert not sending.done()
        ran.exchange.on_disconnect()
        ran.stream.write_gate.open()
        with pytest.raises(ClientDisconnected):
            await soon(sending)

    ran = exchange_with(app, steps)
    assert ran.stream.sent == "<200>[a]"


def test_cancelling_one_waiting_send_leaves_the_other() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"a", more=True))
        await receive()
        await receive()

    async def steps(ran: Ran) -> None:
        ran.stream.write_gate.close()
        first, second = (asyncio.create_task(ran.exchange.send(body(content))) for content in (b"b", b"c"))
        await turns()
        first.cancel()
        await turns()
        ran.stream.write_gate.open()
        await soon(second)
        assert first.cancelled()
        assert ran.stream.sent == "<200>[a][c]!"

    exchange_with(app, steps)


# What receive() gives

DISCONNECT = {"type": "http.disconnect"}


def part(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


def recording(times: int, seen: list[Any]) -> Callable[[Any, Receive, Send], Coroutine[Any, Any, None]]:
    """An application that receives only."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for _ in range(times):
            seen.append(await receive())

    return app


def test_a_request_without_a_body_gives_an_empty_one_then_the_disconnect() -> None:
    seen: list[Any] = []

    async def steps(ran: Ran) -> None:
        assert seen == [part(b"")]

    ran = exchange_with(recording(3, seen), steps)
    assert seen == [part(b""), DISCONNECT, DISCONNECT]
    assert ran.stream.calls == []


def test_parts_come_in_order_and_the_end_once() -> None:
    seen: list[Any] = []

    async def steps(ran: Ran) -> None:
        assert ran.stream.calls == ["wanted"]
        assert ran.exchange.on_body(b"a", False) == 1
        await turns()
        assert ran.exchange.on_body(b"b", False) == 1
        await turns()
        assert seen == [part(b"a", more=True), part(b"b", more=True)]
        assert ran.stream.calls == ["wanted", "taken", "wanted", "taken", "wanted"]
        ran.exchange.on_body(b"", True)
        await turns()

    exchange_with(recording(4, seen), steps, has_body=True)
    assert seen == [part(b"a", more=True), part(b"b", more=True), part(b""), DISCONNECT]


def test_what_has_gathered_comes_as_one_part() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await gathered.wait()
        await recording(2, seen)(scope, receive, send)

    async def steps(ran: Ran) -> None:
        assert [ran.exchange.on_body(content, False) for content in (b"ab", b"c", b"")] == [2, 3, 3]
        ran.exchange.on_body(b"d", True)
        gathered.set()

    gathered = asyncio.Event()
    exchange_with(app, steps, has_body=True)
    assert seen == [part(b"abcd"), DISCONNECT]


def test_a_body_that_is_cut_off_never_ends() -> None:
    seen: list[Any] = []

    async def steps(ran: Ran) -> None:
        ran.exchange.on_body(b"a", False)
        ran.exchange.on_disconnect()

    exchange_with(recording(3, seen), steps, has_body=True)
    assert seen == [part(b"a", more=True), DISCONNECT, DISCONNECT]


def test_the_disconnect_comes_when_the_response_is_complete() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        waiting = asyncio.create_task(recording(2, seen)(scope, receive, send))
        await send(start())
        await send(body(b"a", more=True))
        await turns()
        assert seen == [part(b"")]
        await send(body(b"b"))
        await waiting
        seen.append(await receive())

    ran = exchange_with(app)
    assert seen == [part(b""), DISCONNECT, DISCONNECT]
    assert ran.log.lines == []


def test_after_the_response_the_stream_hears_no_more_of_the_body() -> None:
    """The stream may serve another request by then."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"early answer"))
        seen.append(await receive())
        seen.append(await receive())

    async def main() -> None:
        context = serving_context(app)
        stream = AngleStream(context.loop)
        exchange = Exchange(context, stream, http_scope(), {}, "GET", "/path", "GET /path", True)
        exchange.on_body(b"not taken in time", False)
        await turns()
        assert seen[-1] == DISCONNECT
        assert stream.calls == []
        context.clock.stop()

    run(main())


def test_after_a_disconnect_the_stream_hears_no_more_of_the_body() -> None:
    """The stream may be on its way out, with a deadline that must stay."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await gone.wait()
        await recording(2, seen)(scope, receive, send)

    async def steps(ran: Ran) -> None:
        ran.exchange.on_body(b"not taken in time", False)
        ran.exchange.on_disconnect()
        gone.set()

    gone = asyncio.Event()
    ran = exchange_with(app, steps, has_body=True)
    assert seen[-1] == DISCONNECT
    assert ran.stream.calls == []


def test_a_half_close_is_a_disconnect_that_may_still_be_answered() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await recording(2, seen)(scope, receive, send)
        await send(start())
        await send(body(b"still answered"))

    async def steps(ran: Ran) -> None:
        ran.exchange.on_half_close()
        await turns()
        assert ran.stream.sent == "<200>[still answered]!"

    exchange_with(app, steps)
    assert seen == [part(b""), DISCONNECT]


def test_of_several_waiting_receives_one_gets_each_part() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        waiting = [asyncio.create_task(recording(1, seen)(scope, receive, send)) for _ in range(4)]
        await asyncio.gather(*waiting)

    async def steps(ran: Ran) -> None:
        ran.exchange.on_body(b"a", False)
        await turns()
        assert seen == [part(b"a", more=True)]
        ran.exchange.on_body(b"b", True)
        await turns()
        assert seen == [part(b"a", more=True), part(b"b")]

    exchange_with(app, steps, has_body=True)
    assert seen[2:] == [DISCONNECT, DISCONNECT]


def test_cancelling_one_receive_leaves_the_other() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        first, second = (asyncio.create_task(recording(1, seen)(scope, receive, send)) for _ in range(2))
        await turns(2)
        first.cancel()
        await second
        assert first.cancelled()

    async def steps(ran: Ran) -> None:
        ran.exchange.on_body(b"a", True)

    ran = exchange_with(app, steps, has_body=True)
    assert seen == [part(b"a")]
    assert ran.log.exceptions[1:] == []  # It has returned without a response, and that is all.


def test_receives_that_were_cancelled_leave_nothing_behind() -> None:
    """As in Starlette's `is_disconnected()`, which a long stream calls again and again."""
    left: list[int] = []

    def futures() -> int:
        gc.collect()
        return sum(type(thing) is future_type for thing in gc.get_objects())

    async def receive_in_vain(receive: Receive) -> None:
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        before = futures()
        for _ in range(200):
            await receive_in_vain(receive)
        left.append(futures() - before)
        ended.set()

    async def steps(ran: Ran) -> None:
        await soon(ended.wait())

    ended, future_type = asyncio.Event(), asyncio.Future
    exchange_with(app, steps)
    assert left[0] < 10


# Failures of the application

REACH_AND_FAIL = [
    (ExchangeState.AWAITING_START, True),
    (ExchangeState.HEAD_HELD, True),
    (ExchangeState.STREAMING, False),
]


@pytest.mark.parametrize(("state", "answered"), REACH_AND_FAIL)
def test_an_exception_is_500_before_the_head_and_breaks_off_after_it(state: ExchangeState, answered: bool) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for message in REACH[state]:
            await send(message)
        raise ValueError("boom")

    ran = exchange_with(app)
    assert [str(error) for error in ran.log.exceptions] == ["boom"]
    [line] = ran.log.of("error")
    assert "GET" in line
    assert "/path" in line
    assert not ran.task.cancelled()
    assert ran.task.exception() is None
    if answered:
        assert ran.stream.writes == [
            "<500 content-type=text/plain; charset=utf-8 content-length=21>[Internal Server Error]!"
        ]
        assert ran.stream.calls == ["close"]
        assert ran.access_log.lines == [("/path", 500, 21)]
    else:
        assert ran.stream.sent == "<200>[a]"
        assert ran.stream.calls == ["abort"]
        assert ran.access_log.lines == [("/path", 200, 1)]


def test_an_exception_after_the_response_changes_nothing_but_the_log() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"done"))
        raise ValueError("boom")

    ran = exchange_with(app)
    assert ran.stream.writes == ["<200>[done]!"]
    assert ran.stream.calls == []
    assert [str(error) for error in ran.log.exceptions] == ["boom"]
    assert ran.access_log.lines == [("/path", 200, 4)]


def test_the_500_of_a_head_request_has_no_content() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        raise ValueError("boom")

    ran = exchange_with(app, method="HEAD")
    assert ran.stream.sent == "<500 content-type=text/plain; charset=utf-8 content-length=21 bodiless>!"
    assert ran.access_log.lines == [("/path", 500, 0)]


@pytest.mark.parametrize("fails", [False, True])
def test_a_method_that_the_application_changes_does_not_change_the_request(fails: bool) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        scope["method"] = "GET"
        if fails:
            raise ValueError("boom")
        await send(start(200, (b"content-length", b"5")))
        await send(body(b"hello"))

    ran = exchange_with(app, method="HEAD")
    assert ran.stream.sent.startswith("<500 " if fails else "<200 ")
    assert ran.stream.sent.endswith(" bodiless>!")


@pytest.mark.parametrize(("state", "answered"), REACH_AND_FAIL)
def test_an_application_that_clears_its_scope_and_fails_is_answered_and_logged_once(
    state: ExchangeState, answered: bool
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        scope.clear()
        for message in REACH[state]:
            await send(message)
        raise ValueError("boom")

    ran = exchange_with(app, access_logged=False)
    assert ran.stream.sent.startswith("<500 " if answered else "<200>[a]")
    assert [str(error) for error in ran.log.exceptions] == ["boom"]
    [(level, line)] = ran.log.lines
    assert level == "error"
    assert "GET /path" in line


def test_a_500_after_a_204_that_was_held_back_has_content() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(204))
        raise ValueError("boom")

    assert exchange_with(app).stream.sent.endswith(">[Internal Server Error]!")


@pytest.mark.parametrize(("state", "answered"), REACH_AND_FAIL)
def test_an_application_that_returns_early_has_failed(state: ExchangeState, answered: bool) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for message in REACH[state]:
            await send(message)

    ran = exchange_with(app)
    [error] = ran.log.exceptions
    assert isinstance(error, ApplicationError)
    assert state.value in str(error)
    assert ran.stream.sent.startswith("<500 " if answered else "<200>[a]")
    assert ran.stream.calls == (["close"] if answered else ["abort"])


def test_an_application_may_return_without_an_answer_where_nobody_waits_for_one() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    ran = exchange_with(app)
    assert (ran.log.lines, ran.stream.sent) == ([], "")


@pytest.mark.parametrize(("state", "answered"), REACH_AND_FAIL)
@pytest.mark.parametrize("draining", [True, False], ids=["by a drain", "by itself"])
def test_cancellation_is_not_swallowed(state: ExchangeState, answered: bool, draining: bool) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for message in REACH[state]:
            await send(message)
        await asyncio.Event().wait()

    async def steps(ran: Ran) -> None:
        ran.context.draining = draining
        ran.task.cancel()
        await turns()
        assert ran.task.cancelled()
        assert ran.context.exchanges == set()

    ran = exchange_with(app, steps)
    assert len(ran.log.of("error")) == (0 if draining else 1)
    assert ran.stream.sent.startswith("<500 " if answered else "<200>[a]")
    assert ran.stream.calls == (["close"] if answered else ["abort"])


class FrameworkDisconnect(Exception):
    """What a framework makes of our error, as Starlette does."""


class TaskGroupError(Exception):
    """The shape of an ExceptionGroup, which CPython 3.10 does not have."""

    def __init__(self, *exceptions: Exception) -> None:
        self.exceptions = exceptions


async def as_context(send: Send) -> None:
    try:
        await send(body(b"late"))
    except OSError:
        raise FrameworkDisconnect  # noqa: B904  # The context is what is tested.


async def as_cause(send: Send) -> None:
    try:
        await send(body(b"late"))
    except OSError as error:
        raise FrameworkDisconnect from error


async def in_a_group(send: Send) -> None:
    try:
        await send(body(b"late"))
    except OSError as error:
        raise TaskGroupError(TaskGroupError(error)) from None


async def as_it_is(send: Send) -> None:
    await send(body(b"late"))


@pytest.mark.parametrize("react", [as_it_is, as_context, as_cause, in_a_group])
def test_what_becomes_of_our_disconnect_is_no_error(react: Callable[[Send], Awaitable[None]]) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"a", more=True))
        await receive()
        await receive()
        await react(send)

    ran = exchange_with(app)
    assert ran.log.of("error") == []
    assert ran.log.exceptions == []
    assert ran.log.of("debug") != []


def test_another_error_after_a_disconnect_is_logged() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await receive()
        raise ValueError("boom")

    ran = exchange_with(app)
    assert [str(error) for error in ran.log.exceptions] == ["boom"]
    assert ran.stream.sent == ""


async def in_a_finally(send: Send) -> None:
    try:
        await send(body(b"late"))
    finally:
        raise RuntimeError("boom")


async def in_its_except(send: Send) -> None:
    try:
        await send(body(b"late"))
    except OSError as error:
        raise RuntimeError("boom") from error


async def beside_it_in_a_group(send: Send) -> None:
    try:
        await send(body(b"late"))
    except OSError as error:
        raise TaskGroupError(error, RuntimeError("boom")) from None


@pytest.mark.parametrize("react", [in_a_finally, in_its_except, beside_it_in_a_group])
def test_a_mistake_in_handling_our_disconnect_is_logged(react: Callable[[Send], Awaitable[None]]) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"a", more=True))
        await receive()
        await receive()
        await react(send)

    ran = exchange_with(app)
    [error] = ran.log.exceptions
    assert "boom" in repr(getattr(error, "exceptions", error))
    assert len(ran.log.of("error")) == 1
    assert ran.stream.sent == "<200>[a]"


def test_errors_that_are_each_others_cause_are_followed_once() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await receive()
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    def ring(number: int, frame: FrameType | None) -> None:
        rung.append(number)
        raise TimeoutError("the exchange follows the causes of an error in a circle")

    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 3)
    try:
        ran = exchange_with(app)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung == []
    assert [str(error) for error in ran.log.exceptions] == ["first"]


# Tasks and the access log


def test_the_task_is_named_after_the_request() -> None:
    names: list[str] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())

    exchange_with(app, method="PATCH", path="/a/b")
    assert names == ["PATCH /a/b"]


def test_a_record_tells_what_was_sent() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        headers = ([name, b"v"] for name in (b"x", b"y", b"x"))
        await send({"type": "http.response.start", "status": 418, "headers": headers})
        await send(body(b"abc", more=True))
        await send(body(b"de"))

    ran = exchange_with(app, method="POST")
    [record] = ran.access_log.records
    [duration] = ran.access_log.durations_seconds
    assert (record.scope["method"], record.scope["path"]) == ("POST", "/path")
    assert (record.status, record.sent_bytes) == (418, 5)
    assert [tuple(field) for field in record.response_headers] == [(b"x", b"v"), (b"y", b"v"), (b"x", b"v")]
    assert 0 <= duration < 10
    assert ran.stream.sent == "<418 x=v y=v x=v>[abc][de]!"


def test_the_duration_is_that_of_the_response() -> None:
    ends: list[float] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        time.sleep(0.02)  # noqa: ASYNC251  # The duration is what is tested.
        await send(start())
        await send(body(b"a"))
        ends.append(time.perf_counter())
        time.sleep(0.05)  # noqa: ASYNC251

    begun = time.perf_counter()
    [duration] = exchange_with(app).access_log.durations_seconds
    assert 0.02 <= duration <= ends[0] - begun


def test_a_client_that_does_not_wait_is_in_the_log_with_what_it_got() -> None:
    async def streams(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"abc", more=True))
        await receive()
        await receive()

    assert exchange_with(streams).access_log.lines == [("/path", 200, 3)]
    assert exchange_with(recording(2, [])).access_log.lines == [("/path", 499, 0)]


# Context variables, through real sockets

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


async def leaks(scope: Any, receive: Receive, send: Send) -> None:
    """Answers with the variable as it found it, having set it; `/pause` has the server pause and resume reading."""
    found = VARIABLE.get()
    VARIABLE.set(scope["path"])
    if scope["method"] == "POST":
        await turns(20)  # Reading is paused by now: the body is larger than what may wait unread.
        while (await receive()).get("more_body"):
            VARIABLE.set(scope["path"])
    await send(start(200, (b"content-length", b"%d" % len(found))))
    await send(body(found.encode()))


class RealClient:
    """A client on a real socket, for a server on the same loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def content(self) -> str:
        """Of the next response, which must be 200."""
        head = await soon(self._reader.readuntil(b"\r\n\r\n"))
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return (await soon(self._reader.readexactly(length))).decode()


def with_real_sockets(
    app: Application,
    new_loop: LoopFactory,
    steps: Callable[[ServingContext, RealClient], Awaitable[None]],
    task_context: contextvars.Context | None = None,
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        task_context_ = task_context or contextvars.copy_context()
        context = serving_context(app, settings=Settings(keepalive_seconds=30.0), task_context=task_context_)
        listen = loop.create_server(lambda: Http1Connection(context), "127.0.0.1", 0)
        server = await task_context_.run(loop.create_task, listen)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await steps(context, RealClient(reader, writer))
        finally:
            writer.close()
            server.close()
            for connection in tuple(context.connections):
                connection.abort()
            context.clock.stop()
            await turns()

    run(main(), new_loop)


def get(path: str) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode()


def post(path: str, size: int) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path.encode(), size) + bytes(size)


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=list(LOOPS))
@pytest.mark.parametrize(
    "requests",
    [
        pytest.param([[get("/1")], [get("/2")], [get("/3")]], id="one after the other"),
        pytest.param([[get("/1"), get("/2"), get("/3")]], id="pipelined"),
        pytest.param([[post("/1", 300_000)], [get("/2")], [post("/3", 300_000)], [get("/4")]], id="paused for a body"),
        pytest.param([[post("/1", 300_000), get("/2"), get("/3")]], id="paused and pipelined"),
        pytest.param([[get("/1"), post("/2", 300_000), get("/3"), get("/4")]], id="pipelined and paused"),
    ],
)
def test_no_request_sees_the_context_variables_of_another(new_loop: LoopFactory, requests: list[list[bytes]]) -> None:
    task_context = contextvars.copy_context()
    task_context.run(VARIABLE.set, "set by lifespan")

    async def steps(context: ServingContext, client: RealClient) -> None:
        for together in requests:
            client.writer.write(b"".join(together))
            assert [await client.content() for _ in together] == ["set by lifespan"] * len(together)

    with_real_sockets(leaks, new_loop, steps, task_context)


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=list(LOOPS))
def test_task_names_through_real_sockets(new_loop: LoopFactory) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        name = task.get_name().encode()
        await send(start(200, (b"content-length", b"%d" % len(name))))
        await send(body(name))

    async def steps(context: ServingContext, client: RealClient) -> None:
        client.writer.write(get("/a%20b?c") + get("/d"))
        assert [await client.content() for _ in range(2)] == ["GET /a b", "GET /d"]

    with_real_sockets(app, new_loop, steps)


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=list(LOOPS))
@pytest.mark.parametrize("then_ends", [False, True], ids=["open", "half-closed"])
@pytest.mark.parametrize("together", [1, 2, 3], ids=lambda together: f"{together} in the first packet")
def test_pipelined_requests_are_answered_once_each_and_in_order_whenever_they_arrive(
    new_loop: LoopFactory, together: int, then_ends: bool
) -> None:
    """What arrives while a request runs waits in the kernel or in memory; none of it may overtake the other."""

    async def steps(context: ServingContext, client: RealClient) -> None:
        requests = [get(f"/{number}") for number in range(1, 7)]
        client.writer.write(b"".join(requests[:together]))
        await soon(begun.wait())
        client.writer.write(b"".join(requests[together:]))
        if then_ends:
            client.writer.write_eof()
        await turns()
        release.set()
        contents = [await client.content() for _ in range(6)]
        assert contents == [f"/{number}" for number in range(1, 7)]

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["path"] == "/1":
            begun.set()
            await release.wait()
        content = scope["path"].encode()
        await send(start(200, (b"content-length", b"%d" % len(content))))
        await send(body(content))

    begun, release = asyncio.Event(), asyncio.Event()
    with_real_sockets(app, new_loop, steps)


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=list(LOOPS))
@pytest.mark.parametrize("size", [10, 65_536, 300_000])
def test_a_client_that_leaves_while_its_answer_is_made_is_noticed_whatever_it_has_sent(
    new_loop: LoopFactory, size: int
) -> None:
    async def steps(context: ServingContext, client: RealClient) -> None:
        client.writer.write(post("/", size))
        await soon(taken.wait())
        client.writer.transport.abort()
        await soon(gone.wait())

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await turns(20)
        while (await receive()).get("more_body"):
            pass
        taken.set()
        assert (await receive())["type"] == "http.disconnect"
        gone.set()

    taken, gone = asyncio.Event(), asyncio.Event()
    with_real_sockets(app, new_loop, steps)


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=list(LOOPS))
@pytest.mark.parametrize("resets", [False, True], ids=["closes", "resets"])
def test_a_client_that_leaves_a_pipelined_request_behind_is_noticed(new_loop: LoopFactory, resets: bool) -> None:
    async def steps(context: ServingContext, client: RealClient) -> None:
        client.writer.write(get("/long-poll") + get("/next"))
        await soon(waiting.wait())
        if resets:
            client.writer.transport.abort()
        else:
            client.writer.close()
        await soon(gone.wait())

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["path"] != "/long-poll":
            return
        assert (await receive())["type"] == "http.request"
        waiting.set()
        assert (await receive())["type"] == "http.disconnect"
        gone.set()

    waiting, gone = asyncio.Event(), asyncio.Event()
    with_real_sockets(app, new_loop, steps)
