"""The strict clients of `ledger.py` with HTTP/2: some streams at a time on each connection, and no second try.

A client opens no stream once it has seen GOAWAY, and waits for those that run. One that the server refuses is a
failure, although RFC 9113 section 8.7 would let it try again: a server that announces its end in time need not refuse
any.
"""

import asyncio
import contextlib
import random
from typing import Final

import hpack

from gunicorn_asgi.wire.http2_frames import (
    DATA,
    FLAG_ACK,
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    SETTINGS_INITIAL_WINDOW_SIZE,
    ErrorCode,
    ping_frame,
    settings_frame,
    window_update_frame,
)

from .http2_wire import data, headers, request_fields
from .ledger import ANSWER_SECONDS, Load, WrongAnswer, content_of

_STREAMS: Final = 4
_FEW_REQUESTS: Final = 5
"""On each stream of a client that then makes a new connection, as every second one does."""
_WORK_SECONDS: Final = (0.0, 0.0, 0.001, 0.01, 0.05)
_PAUSE_SECONDS: Final = (0.001, 0.005, 0.01, 0.02, 0.3, 1.05)


class Http2Load(Load):
    """Clients in a thread of their own, each with a connection for several requests at a time."""

    async def _client(self, number: int) -> None:
        chance = random.Random(number)
        while not self._stopping.is_set():
            try:
                connection = _Connection(*await self._connect())
            except OSError:  # Nothing has been asked for.
                await asyncio.sleep(0.05)
                continue
            most = _FEW_REQUESTS if number % 2 else 2**31
            await asyncio.gather(*(self._stream(connection, chance, most) for _ in range(_STREAMS)))
            await connection.close()

    async def _stream(self, connection: "_Connection", chance: random.Random, most: int) -> None:
        """One request after the other, until these are enough or the connection takes no more."""
        while not self._stopping.is_set() and not connection.leaving and most:
            most -= 1
            name = str(next(self._numbers))
            self.ledger.sent.append(name)
            wanted = content_of(name)
            body = wanted if int(name) % 4 == 3 else b""
            target = f"/{self._kind}/{name}?{chance.choice(_WORK_SECONDS)}"
            try:
                content = await asyncio.wait_for(connection.request(target, body), ANSWER_SECONDS)
                if content != wanted:
                    raise WrongAnswer(f"{content[:40]!r}... of {len(content)} bytes")
                self.ledger.answered.append(name)
            except WrongAnswer as error:
                self.ledger.wrong.append(f"{name}: {error}")
                self.ledger.failed[name] = "wrong"
            except (OSError, asyncio.TimeoutError) as error:
                self.ledger.failed[name] = f"{error!r}"
            await asyncio.sleep(chance.choice(_PAUSE_SECONDS))


class _Connection:
    """One connection until it ends, and the streams that run on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = hpack.Decoder()
        self._next_id = 1
        self._bodies: dict[int, bytearray] = {}
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self.leaving = False
        """Whether GOAWAY, or the end, has come."""
        # Windows that never need an update.
        writer.write(PREFACE + settings_frame({SETTINGS_INITIAL_WINDOW_SIZE: 2**31 - 1}))
        writer.write(window_update_frame(0, 2**31 - 65536))
        self._reading = asyncio.create_task(self._read())

    async def request(self, target: str, body: bytes) -> bytes:
        """Send a request and wait for the content of its answer. Raises OSError for whatever is no whole 200."""
        stream_id, self._next_id = self._next_id, self._next_id + 2
        fields = request_fields(target, b"POST" if body else b"GET")
        self._writer.write(headers(stream_id, fields, end_stream=not body))
        if body:
            self._writer.write(data(stream_id, body, end_stream=True))
        self._bodies[stream_id] = bytearray()
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[stream_id] = answer
        return await answer

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        await self._reading

    async def _read(self) -> None:
        reason = "the connection has ended"
        try:
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._take(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
        except (OSError, EOFError) as error:
            reason = repr(error)
        self.leaving = True
        for stream_id in tuple(self._answers):
            self._fail(stream_id, reason)

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == GOAWAY:
            self.leaving = True
            last, code = int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")
            for unserved in [number for number in self._answers if number > last or code]:
                self._fail(unserved, f"GOAWAY of {last} with {ErrorCode(code).name}")
        elif kind == SETTINGS and not flags & FLAG_ACK:
            self._writer.write(SETTINGS_ACK)
        elif kind == PING and not flags & FLAG_ACK:
            self._writer.write(ping_frame(payload, ack=True))
        elif kind == RST_STREAM:
            self._fail(stream_id, f"reset with {ErrorCode(int.from_bytes(payload, 'big')).name}")
        elif kind == HEADERS:
            assert flags & FLAG_END_HEADERS
            status = next(iter(self._decoder.decode(payload, raw=True)))[1]
            if status != b"200":
                self._fail(stream_id, f"status {status!r}")
        elif kind == DATA and stream_id in self._answers:
            self._bodies[stream_id] += payload
        if kind in (HEADERS, DATA) and flags & FLAG_END_STREAM and stream_id in self._answers:
            self._answers.pop(stream_id).set_result(bytes(self._bodies.pop(stream_id)))

    def _fail(self, stream_id: int, reason: str) -> None:
        answer = self._answers.pop(stream_id, None)
        if answer is not None and not answer.done():
            answer.set_exception(OSError(reason))
