"""One request and its response: the ASGI state machine that every HTTP version shares.

The exchange decides what the application may do and when; how a head, a piece of content or an end become bytes is up
to the `ResponseStream` behind it, of which each HTTP version has its own.

    AWAITING_START --start--> HEAD_HELD --body--> STREAMING --last body--> COMPLETE
           |                      |                   |--last body, trailers announced--> AWAITING_TRAILERS --> COMPLETE
           \\______________________\\___________________\\--client gone--> DISCONNECTED

The head is held back until the first content, so that both leave in one write and an application that fails in between
still gets its 500. Early hints may go out before it. Trailers are taken from every application that announces them, and
sent where the client has asked for them; nobody else would look at them (RFC 9110 section 6.5.1).
"""

import asyncio
import time
from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from ..asgi_types import Field, HTTPScope, ReceiveMessage, ResponseFields, SendMessage
from ..errors import ApplicationError, ClientDisconnected, MessageOrderError
from ..wire.headers import accepts_trailers, checked_field, checked_trailers
from ..wire.http1_response import BODYLESS_STATUS, UNKNOWN_LENGTH, plain_answer
from .context import ExchangeDescription, ServingContext
from .flow import Gate, RequestBody
from .overtime import Phase


class ExchangeState(Enum):
    """Where the response stands. The value completes the sentence of a `MessageOrderError`."""

    AWAITING_START = "the response has not started, expected 'http.response.start'"
    HEAD_HELD = "the response has started, expected 'http.response.body'"
    STREAMING = "the response is under way, expected 'http.response.body'"
    AWAITING_TRAILERS = "the content is complete, expected 'http.response.trailers'"
    COMPLETE = "the response is complete"
    DISCONNECTED = "the client has gone"

    # Of a WebSocket.
    AWAITING_ACCEPT = (
        "the handshake has no answer, expected 'websocket.accept', 'websocket.close' or 'websocket.http.response.start'"
    )
    OPEN = "the WebSocket is open, expected 'websocket.send' or 'websocket.close'"
    CLOSED = "the application has closed the WebSocket"


# Looked up several times a request; an attribute of an Enum class costs 30 ns more than a global.
_AWAITING_START: Final = ExchangeState.AWAITING_START
_HEAD_HELD: Final = ExchangeState.HEAD_HELD
_STREAMING: Final = ExchangeState.STREAMING
_AWAITING_TRAILERS: Final = ExchangeState.AWAITING_TRAILERS
_COMPLETE: Final = ExchangeState.COMPLETE
_DISCONNECTED: Final = ExchangeState.DISCONNECTED

_UNANSWERED: Final = (_AWAITING_START, _HEAD_HELD, ExchangeState.AWAITING_ACCEPT)


CLIENT_GONE: Final = 499
"""What the access log shows where the client has left before its answer, as in nginx: no status of HTTP, and none that
anybody has seen."""


class ResponseStream(Protocol):
    """The seam between an exchange and a HTTP version.

    The exchange calls `send_interim` any number of times, `start` once, then `write_first` once, then `write` until one
    of both was told that it is the last; or, with trailers, until `write_trailers`. `bodiless` responses (HEAD, 204,
    304) never get content, only the end.
    """

    write_gate: Gate
    """Closed while the client does not take what was written."""

    @property
    def peer(self) -> str:
        """Who is at the other end of the connection, for logs."""

    def send_interim(self, status: int, fields: list[Field]) -> None:
        """Send an informational response (1xx) at once, where the client understands it. The fields are checked."""

    def start(self, status: int, fields: ResponseFields, bodiless: bool, trailers: bool) -> int:
        """Check and encode a head, but do not send it. The Content-Length in it, or UNKNOWN_LENGTH.

        `trailers` tells that the response will end with `write_trailers`.

        Raises ApplicationError for a head that HTTP does not allow.
        """

    def write_first(self, body: bytes, last: bool) -> None:
        """Send the head that `start` made and the first content together."""

    def write(self, body: bytes, last: bool) -> None:
        """Send more content, possibly empty."""

    def write_trailers(self, fields: list[Field]) -> None:
        """End the response, behind its content, with `fields`, possibly none. They are checked, names in lower case."""

    def root_path(self, fields: dict[bytes, bytes]) -> str:
        """Where the proxy mounts the application, for a request with these fields."""

    def on_body_wanted(self) -> None:
        """The application waits for a body of which nothing is here: 100 Continue, clocks."""

    def on_body_taken(self) -> None:
        """The application took all that had been received: reading may go on."""

    def close_when_sent(self) -> None:
        """After this response the connection (HTTP/1) must not be used again."""

    def abort(self) -> None:
        """Break the response off so that the client cannot take it for whole."""


class Exchange:
    """`receive` and `send` of one request, and what becomes of it when the application fails.

    To the access log it is a `FinishedExchange`.
    """

    __slots__ = (
        "_bodiless",
        "_context",
        "_name",
        "_remaining",
        "_request_body",
        "_started_at",
        "_stream",
        "_trailers",
        "fields",
        "method",
        "response_headers",
        "scope",
        "sent_bytes",
        "state",
        "status",
        "task",
        "uri",
    )

    def __init__(
        self,
        context: ServingContext,
        stream: ResponseStream,
        scope: HTTPScope,
        fields: dict[bytes, bytes],
        method: str,
        uri: str,
        name: str,
        has_body: bool,
    ) -> None:
        """Call the application in a task of its own.

        `fields` has one value for each name in the headers of `scope`, and `uri` is the target as received, both for
        the access log. `name`, the method and path, becomes that of the task.

        What the exchange needs to know of its request it is told here: `scope` belongs to the application, which may
        change it.
        """
        self._context = context
        self._stream = stream
        self.scope = scope
        self.fields = fields
        self.method = method
        self.uri = uri
        self._name = name
        self.state = _AWAITING_START
        # Made on the first receive() where there is no body: most applications never ask for it.
        self._request_body = RequestBody(context.loop, complete=False) if has_body else None
        self._bodiless = False
        self._remaining = UNKNOWN_LENGTH
        self._trailers: list[Field] | None = None  # Where announced: those sent by the application so far.
        self.sent_bytes = 0
        self.status = 0
        self.response_headers: Sequence[Field] = ()
        self._started_at = time.perf_counter()
        context.begin_exchange(self)
        self.task = context.create_task(self._run(), name=name)

    async def _run(self) -> None:
        context = self._context
        if context.heartbeat_is_due:
            context.beat()
        try:
            await context.app(self.scope, self.receive, self.send)
        except BaseException as error:
            self._on_error(error)
            # Cancellation, KeyboardInterrupt and SystemExit have somebody above who waits for them.
            if not isinstance(error, Exception):
                raise
        else:
            if self.state is not _COMPLETE and self.state is not _DISCONNECTED:
                self._on_early_return()
        finally:
            self._context.exchanges.discard(self)

    # The application's side

    async def receive(self) -> ReceiveMessage:
        """The next part of the request body, then `http.disconnect` once the response or the client is gone."""
        body = self._request_body
        if body is None:
            body = self._request_body = RequestBody(self._context.loop, complete=True)
        while True:
            message = body.take()
            if message is not None:
                # Behind an end the stream belongs to the next request already.
                if message["body"] and not self._has_ended:
                    self._stream.on_body_taken()
                return message
            if body.cut_off or self._has_ended:
                return {"type": "http.disconnect"}
            if not body.complete:
                self._stream.on_body_wanted()
            await body.wait()

    async def send(self, message: SendMessage) -> None:
        """Take the next message of the response.

        Raises ClientDisconnected (an OSError) when the client has gone, MessageOrderError for a message out of order
        and ApplicationError for a response that HTTP does not allow.
        """
        if self.state is _AWAITING_START:
            if message["type"] != "http.response.start":
                await self._send_other(message)
                return
            status = message["status"]
            self.response_headers = fields = tuple(message.get("headers", ()))
            self._bodiless = bodiless = self.method == "HEAD" or status in BODYLESS_STATUS
            trailers = "trailers" in message and bool(message["trailers"])
            self._remaining = self._stream.start(
                status, fields, bodiless, trailers and not bodiless and accepts_trailers(self.fields)
            )
            self._trailers = [] if trailers else None
            self.status = status
            self.state = _HEAD_HELD
            return
        stream = self._stream
        while stream.write_gate.closed and self.state is not _DISCONNECTED:
            await stream.write_gate.wait()
        if self.state is _DISCONNECTED:
            raise ClientDisconnected("the client has gone")
        if message["type"] != "http.response.body" or self.state is _COMPLETE or self.state is _AWAITING_TRAILERS:
            await self._send_other(message)
            return

        body = message.get("body", b"")
        last = not message.get("more_body", False)
        if type(body) is not bytes:
            body = _as_bytes(body)
        too_long = False
        if self._bodiless:
            body = b""
        elif self._remaining != UNKNOWN_LENGTH:
            remaining = self._remaining - len(body)
            if remaining < 0:
                too_long = last = True
                self._trailers = None
                body = body[: self._remaining]
                stream.close_when_sent()
            elif last and remaining:
                raise ApplicationError("the body is shorter than the content-length of the response")
            self._remaining = remaining
        self.sent_bytes += len(body)
        state = self.state
        if not last:
            self.state = _STREAMING
        elif self._trailers is None:
            self.state = _COMPLETE
        else:
            self.state = _AWAITING_TRAILERS
            last = False
        if state is _HEAD_HELD:
            stream.write_first(body, last)
        else:
            stream.write(body, last)
        if last:
            if self._request_body is not None:
                self._request_body.wake()
            if self._context.access_log is not None:
                self._log_access()
        elif state is not _HEAD_HELD and time.perf_counter() >= self._context.give_way_at:
            await self._context.give_way()
        if too_long:
            raise ApplicationError("the body is longer than the content-length of the response; the rest was cut off")

    async def _send_other(self, message: SendMessage) -> None:
        """Early hints, trailers, and what is out of order."""
        kind, stream = message["type"], self._stream
        if kind == "http.response.early_hint" and self.state in (_AWAITING_START, _HEAD_HELD, _STREAMING):
            while stream.write_gate.closed and not self._has_ended:
                await stream.write_gate.wait()
            if self._has_ended:
                raise ClientDisconnected("the client has gone")
            # Behind the head it is too late for hints, which ASGI allows all the same.
            if self.state is not _STREAMING:
                stream.send_interim(103, [checked_field((b"link", link)) for link in message["links"]])
        elif kind == "http.response.trailers" and self._trailers is not None and self.state is _AWAITING_TRAILERS:
            self._trailers += checked_trailers(message.get("headers", ()))
            if not message.get("more_trailers", False):
                self.state = _COMPLETE
                wanted = not self._bodiless and accepts_trailers(self.fields)
                stream.write_trailers(self._trailers if wanted else [])
                if self._request_body is not None:
                    self._request_body.wake()
                self._log_access()
        else:
            raise MessageOrderError(self.state.value, kind)

    # The stream's side

    def on_body(self, content: bytes, complete: bool) -> int:
        """More of the body has arrived, possibly its end. Returns how many bytes the application has to take."""
        body = self._request_body
        assert body is not None, "a request without a body got one"
        body.feed(content, complete)
        return body.buffered_bytes

    def on_half_close(self) -> None:
        """The client sends nothing more. It may still read: tell a waiting application, but let it answer."""
        if self._request_body is None:
            self._request_body = RequestBody(self._context.loop, complete=True)
        self._request_body.cut()

    def on_disconnect(self, status: int = CLIENT_GONE) -> None:
        """The client has gone, or its request turned out to be broken, and was answered with `status`."""
        if not self._has_ended:
            if not self.head_sent:
                self.status = status
                self.response_headers = ()
                if status != CLIENT_GONE:
                    self.response_headers, content = plain_answer(status)
                    self.sent_bytes = len(content)
            self.state = _DISCONNECTED
            self._log_access()
        if self._request_body is not None:
            self._request_body.cut()

    def end_grace(self) -> None:
        """The worker leaves. A response without a known end may go on for ever: ask its application to end it."""
        if self.state is _STREAMING and self._remaining == UNKNOWN_LENGTH and not self._bodiless:
            self.on_half_close()

    @property
    def phase(self) -> Phase:
        """See `RunningExchange.phase`."""
        state = self.state
        if state is _DISCONNECTED:
            return Phase.ABANDONED
        if state is _COMPLETE:
            return Phase.UNLIMITED
        if self._told_of_end:
            return Phase.ABANDONED
        return Phase.UNANSWERED if state in _UNANSWERED else Phase.UNLIMITED

    def time_out(self) -> None:
        """See `RunningExchange.time_out`."""
        self._context.error_log.error(
            "The application took longer than request_timeout for %r: cancelled, 504", self._name
        )
        self._send_plain_answer(504)
        self.task.cancel()

    def describe(self) -> ExchangeDescription:
        """See `RunningExchange.describe`."""
        _, _, path = self._name.partition(" ")
        client = self.scope.get("client")
        return ExchangeDescription(
            self.method, path, client[0] if client else self._stream.peer, time.perf_counter() - self._started_at
        )

    @property
    def head_sent(self) -> bool:
        """Whether the client has seen anything of the response."""
        return self.state in (_STREAMING, _AWAITING_TRAILERS, _COMPLETE)

    @property
    def _has_ended(self) -> bool:
        return self.state is _COMPLETE or self.state is _DISCONNECTED

    # Ends

    def _log_access(self) -> None:
        context = self._context
        if context.access_log is not None:
            context.access_log.write(self, time.perf_counter() - self._started_at)

    def _on_error(self, error: BaseException) -> None:
        """The application has failed: 500 while nothing was sent, else break off."""
        state = self.state
        if (state is _DISCONNECTED or self._told_of_end) and is_of_disconnect(error):
            self._context.error_log.debug("The client left during %r: %r", self._name, error)
            self._leave_unanswered()
            return
        if not ((self._context.draining or state is _COMPLETE) and isinstance(error, asyncio.CancelledError)):
            self._context.error_log.error("Exception in ASGI application: %r", self._name, exc_info=error)
        self._break_off()

    def _on_early_return(self) -> None:
        """The application has returned in the middle: its mistake, unless it was told that nobody waits any more."""
        if self._told_of_end:
            self._leave_unanswered()
        else:
            self._on_error(ApplicationError(f"the application returned too early: {self.state.value}"))

    @property
    def root_path(self) -> str:
        """See `FinishedExchange.root_path`: found out anew for the few lines that ask, not kept for each request."""
        return self._stream.root_path(self.fields)

    @property
    def _told_of_end(self) -> bool:
        """Whether the application may know that nobody waits for it any more."""
        return self._request_body is not None and self._request_body.cut_off

    def _leave_unanswered(self) -> None:
        """The application has ended because nobody waits: there is nobody to be told of an error either."""
        if not self._has_ended:
            self.on_disconnect()
            self._stream.abort()

    def _break_off(self) -> None:
        """End a response that its application will not end."""
        state = self.state
        if state is _AWAITING_START or state is _HEAD_HELD:
            self._send_plain_answer(500)
        elif state is _STREAMING or state is _AWAITING_TRAILERS:
            self.state = _DISCONNECTED
            self._log_access()
            self._stream.abort()

    def _send_plain_answer(self, status: int) -> None:
        self.response_headers, content = plain_answer(status)
        self.status = status
        self._bodiless = self.method == "HEAD"
        self._stream.close_when_sent()
        self._stream.start(status, self.response_headers, self._bodiless, False)
        self.state = _COMPLETE
        body = b"" if self._bodiless else content
        self.sent_bytes = len(body)
        self._stream.write_first(body, True)
        if self._request_body is not None:
            self._request_body.wake()
        self._log_access()


def _as_bytes(body: object) -> bytes:
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise ApplicationError(f"the body of 'http.response.body' must be bytes, not {type(body).__name__}")


def is_of_disconnect(error: BaseException) -> bool:
    """Whether an exception is our own ClientDisconnected, or what a framework makes of it or of a message that tells
    the same; also the cancellation of an application whose client has gone.

    The ASGI specification wants it not to be logged as an error. Frameworks raise an exception of their own, which
    says so in its name (Starlette: `ClientDisconnect`, `WebSocketDisconnect`), and task groups put it into a group. Any
    other exception, also one that came up while this one was handled, is a mistake that somebody wants to see.
    """
    if isinstance(error, (ClientDisconnected, asyncio.CancelledError)):
        return True
    members = getattr(error, "exceptions", ())
    if members:
        return all(is_of_disconnect(member) for member in members)
    origin = error.__cause__ or error.__context__
    return "disconnect" in type(error).__name__.lower() and (origin is None or isinstance(origin, ClientDisconnected))
