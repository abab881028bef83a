"""One WebSocket towards its application: the ASGI state machine, whatever version of HTTP has brought the request.

    AWAITING_ACCEPT --accept--> OPEN --close of the application--> CLOSED
           |                      \\----the client's, or its loss--> DISCONNECTED
           |--close--> COMPLETE, with 403
           |--the client goes--> DISCONNECTED
           \\--websocket.http.response.start--> HEAD_HELD, and so on as for any response

A handshake that is not accepted is answered by an ordinary response, so that all of it is left to `Exchange`. Once it
is accepted, the `WebSocketConnection` owns the connection and the `WebSocketStream` is done.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

from ..asgi_types import Field, HTTPScope, ReceiveMessage, SendMessage, WebSocketMessage
from ..errors import ApplicationError, ClientDisconnected, CloseCode, MessageOrderError
from ..scope import build_websocket_scope
from ..wire.headers import TOKEN, checked_field
from ..wire.websocket_frames import check_close
from ..wire.websocket_handshake import Handshake
from .context import ServingContext
from .exchange import CLIENT_GONE, Exchange, ExchangeState, ResponseStream
from .websocket import WebSocketConnection

_AWAITING_ACCEPT: Final = ExchangeState.AWAITING_ACCEPT
_OPEN: Final = ExchangeState.OPEN
_CLOSED: Final = ExchangeState.CLOSED
_COMPLETE: Final = ExchangeState.COMPLETE
_DISCONNECTED: Final = ExchangeState.DISCONNECTED

# Of a WebSocket that was accepted. A denial may be DISCONNECTED, too, and has been told so.
ACCEPTED: Final = (_OPEN, _CLOSED, _DISCONNECTED)

_DENIAL_MESSAGES: Final = ("websocket.http.response.start", "websocket.http.response.body")

_SUCCESSFUL: Final = range(200, 300)

# Fields of the response that are ours to say.
_OF_THE_HANDSHAKE: Final = frozenset(
    (b"sec-websocket-accept", b"sec-websocket-extensions", b"sec-websocket-version", b"content-length")
)


class WebSocketStream(ResponseStream, Protocol):
    """A `ResponseStream` whose request asks for a WebSocket; it answers with a response, or accepts."""

    def accept_websocket(self, fields: Sequence[Field]) -> None:
        """Send the head that accepts, with `fields` and what the version of HTTP adds.

        Raises ApplicationError for fields that HTTP does not allow, and ClientDisconnected; then nothing has been sent.
        """

    def begin_websocket(self, websocket: WebSocketConnection) -> None:
        """Hand the transport over, behind the head that accepts: `websocket` is told by its `begin`."""


class WebSocketExchange(Exchange):
    """`receive` and `send` of one WebSocket."""

    __slots__ = ("_disconnect", "_handshake", "_http_scope", "_messages", "_waiters", "_websocket")

    _stream: WebSocketStream

    def __init__(
        self,
        context: ServingContext,
        stream: WebSocketStream,
        scope: HTTPScope,
        fields: dict[bytes, bytes],
        method: str,
        uri: str,
        name: str,
        handshake: Handshake,
    ) -> None:
        """Call the application in a task of its own. `scope` is that of the request that asks for the WebSocket."""
        self._http_scope = scope
        self._handshake = handshake
        self._messages: deque[WebSocketMessage] = deque(({"type": "websocket.connect"},))
        self._waiters: deque[asyncio.Future[WebSocketMessage]] = deque()
        self._disconnect: WebSocketMessage | None = None
        self._websocket: WebSocketConnection | None = None
        super().__init__(context, stream, scope, fields, method, uri, name, False)
        # For the application; its task has not begun. The access log gets the request.
        self.scope = cast(HTTPScope, build_websocket_scope(scope, handshake.subprotocols))
        self.state = _AWAITING_ACCEPT

    async def _run(self) -> None:
        try:
            await super()._run()
        finally:
            # In a circle with its connection it would wait for the garbage collector.
            self._websocket = None
            self._end(CloseCode.ABNORMAL_CLOSURE, "")

    # The application's side

    async def receive(self) -> ReceiveMessage:
        """The next message; `websocket.disconnect` again and again once there will be none."""
        messages = self._messages
        if messages:
            message = messages.popleft()
            if not messages and self._websocket is not None and self._websocket.stalled:
                self._websocket.read_on()
            return message
        if self._disconnect is not None:
            return self._disconnect
        waiter: asyncio.Future[WebSocketMessage] = self._context.loop.create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not waiter.cancelled() and (message := waiter.result()) is not self._disconnect:
                # Cancelled in the same turn in which a message came: another receive() gets it.
                messages.appendleft(message)
                self._hand_over()
            raise

    async def send(self, message: SendMessage) -> None:
        """Take the next message of the application.

        Raises ClientDisconnected (an OSError) when the client has gone, MessageOrderError for a message out of order
        and ApplicationError for one that WebSocket or HTTP does not allow.
        """
        if self.state is not _OPEN or message["type"] != "websocket.send":
            await self._send_on_websocket(message)
            return
        payload = message.get("bytes")
        is_text = payload is None
        if is_text:
            payload = _encoded(message.get("text"))
        elif type(payload) is not bytes:
            payload = _as_bytes(payload)
        websocket = self._websocket
        assert websocket is not None
        if websocket.write_gate.closed:
            await self._wait_for_room(websocket)
        self.sent_bytes += len(payload)
        websocket.send_message(payload, is_text)
        if time.perf_counter() >= self._context.give_way_at:
            await self._context.give_way()

    async def _wait_for_room(self, websocket: WebSocketConnection) -> None:
        gate = websocket.write_gate
        while gate.closed and self.state is _OPEN:
            await gate.wait()
        self._check_open("websocket.send")

    def _check_open(self, message_type: str) -> None:
        if self.state is _DISCONNECTED:
            raise ClientDisconnected("the client has gone")
        if self.state is not _OPEN:
            raise MessageOrderError(self.state.value, message_type)

    async def _send_on_websocket(self, message: SendMessage) -> None:
        """Everything but a message on an open WebSocket."""
        message_type = message["type"]
        if self.state is _AWAITING_ACCEPT:
            if message_type == "websocket.accept":
                self._accept(message)
                return
            if message_type not in ("websocket.close", "websocket.http.response.start"):
                raise MessageOrderError(self.state.value, message_type)
            if message_type == "websocket.close":
                self._send_plain_answer(403)
            else:
                await self._deny(message)
            return
        if message_type in _DENIAL_MESSAGES and self.state not in (_OPEN, _CLOSED):
            await super().send({**message, "type": message_type.removeprefix("websocket.")})
            if self.state is _COMPLETE:
                self._end(CloseCode.ABNORMAL_CLOSURE, "")
            return
        self._check_open(message_type)
        if message_type != "websocket.close":
            raise MessageOrderError(self.state.value, message_type)
        code, reason = message.get("code"), message.get("reason")
        code = CloseCode.NORMAL_CLOSURE if code is None else code
        reason = "" if reason is None else reason
        try:
            check_close(code, reason)
        except ValueError as error:
            raise ApplicationError(f"'websocket.close': {error}") from None
        self._close(code, reason)

    async def _deny(self, message: SendMessage) -> None:
        if self.method == "CONNECT" and message.get("status") in _SUCCESSFUL:
            # To the client of HTTP/2 any of them would open the WebSocket (RFC 8441 section 5, RFC 9110 section 9.3.6).
            message = {**message, "status": 403}
        self.state = ExchangeState.AWAITING_START
        try:
            await super().send({**message, "type": "http.response.start"})
        finally:
            if self.state is ExchangeState.AWAITING_START:  # It was not allowed: there is still no answer.
                self.state = _AWAITING_ACCEPT
        # The client may have sent frames already, which nobody could tell from a request.
        self._stream.close_when_sent()

    def _accept(self, message: SendMessage) -> None:
        handshake = self._handshake
        fields = [
            field for field in map(checked_field, message.get("headers") or ()) if field[0] not in _OF_THE_HANDSHAKE
        ]
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            fields = [field for field in fields if field[0] != b"sec-websocket-protocol"]
            fields.append((b"sec-websocket-protocol", _subprotocol(subprotocol)))
        fields += handshake.accept_fields
        self._stream.accept_websocket(fields)
        self.state = _OPEN
        # Before it begins: what has come behind the handshake may end it at once.
        self.status = 101
        self.response_headers = fields
        websocket = self._websocket = WebSocketConnection(
            self._context,
            self._messages,
            self._waiters,
            self._on_websocket_loss,
            self._on_websocket_end,
            handshake.deflate,
        )
        self._stream.begin_websocket(websocket)
        if self._context.leaving:
            websocket.end_grace()

    def _close(self, code: int, reason: str) -> None:
        websocket = self._websocket
        assert websocket is not None
        self.state = _CLOSED
        # What the client has said meanwhile is of no interest to an application that has closed.
        self._messages.clear()
        websocket.begin_close(code, reason)

    # The stream's side

    def on_half_close(self) -> None:
        """The client has ended its sending side before it got an answer: there will be no WebSocket."""
        if self.state not in ACCEPTED:
            self._end(CloseCode.ABNORMAL_CLOSURE, "")

    def on_disconnect(self, status: int = CLIENT_GONE) -> None:
        """The client has gone before it got its answer, or all of it. A WebSocket learns of its end by itself, maybe
        behind messages that are still to be taken."""
        if self.state not in ACCEPTED:
            super().on_disconnect(status)
            self._end(CloseCode.ABNORMAL_CLOSURE, "")

    # Ends

    def _on_websocket_loss(self) -> None:
        self.state = _DISCONNECTED
        self._log_access()

    def _on_websocket_end(self, code: int, reason: str) -> None:
        if self.state is not _DISCONNECTED:  # Else it was lost before.
            if self.state is _OPEN:
                self.state = _DISCONNECTED
            self._log_access()
        self._end(code, reason)

    def _end(self, code: int, reason: str) -> None:
        """Nothing more will be received: tell whoever waits for it."""
        if self._disconnect is None:
            self._disconnect = {"type": "websocket.disconnect", "code": int(code), "reason": reason}
        self._hand_over()

    def _hand_over(self) -> None:
        """Give what there is to those who wait for it."""
        messages, waiters, disconnect = self._messages, self._waiters, self._disconnect
        while waiters:
            message = messages[0] if messages else disconnect
            if message is None:
                break
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(message)
                if messages:
                    messages.popleft()

    @property
    def _told_of_end(self) -> bool:
        # Who has closed by itself does not give up an answer.
        return self._disconnect is not None and self.state is not _CLOSED

    def _send_plain_answer(self, status: int) -> None:
        super()._send_plain_answer(status)
        self._end(CloseCode.ABNORMAL_CLOSURE, "")

    def _on_early_return(self) -> None:
        if self.state is _OPEN:
            self._close(CloseCode.NORMAL_CLOSURE, "")
        elif self.state is not _CLOSED:
            super()._on_early_return()

    def _break_off(self) -> None:
        if self.state is _OPEN:
            self._close(CloseCode.INTERNAL_ERROR, "")
        elif self.state is _AWAITING_ACCEPT:
            self._send_plain_answer(500)
        else:
            super()._break_off()

    def _log_access(self) -> None:
        # The log shows the request; the scope of a WebSocket has no method.
        self.scope = self._http_scope
        super()._log_access()


def _subprotocol(name: Any) -> bytes:
    if not isinstance(name, str) or not TOKEN(value := name.encode("utf-8", "replace")):
        raise ApplicationError("the subprotocol of 'websocket.accept' must be a str that is a token")
    return value


def _encoded(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ApplicationError("'websocket.send' needs 'bytes' or 'text'")
    return text.encode()


def _as_bytes(payload: Any) -> bytes:
    if isinstance(payload, (bytearray, memoryview)):
        return bytes(payload)
    raise ApplicationError(f"the bytes of 'websocket.send' must be bytes, not {type(payload).__name__}")
