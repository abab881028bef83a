"""The floor for WebSockets: the least that a Python server must do between a socket and an ASGI application.

Frames of a whole message each are read, unmasked by the helper in C of `websockets`, and answered by the same
application that the servers run. Nothing is checked, nothing bounded, nothing closed in order. See `floor.py`.

    python -m benchmarks.websocket_floor PORT
"""

import asyncio
import base64
import hashlib
import re
import sys
from collections import deque
from typing import Final, cast

import uvloop
from websockets.speedups import apply_mask

from .apps import HELLO, Message
from .websocket_app import app

_KEY: Final = re.compile(rb"(?i)\r\nsec-websocket-key: *(\S+)")
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PLAIN_ANSWER: Final = b"HTTP/1.1 200 OK\r\nserver: floor\r\ncontent-length: %d\r\n\r\n%b" % (len(HELLO), HELLO)


class _Connection(asyncio.Protocol):
    __slots__ = ("_loop", "_messages", "_opened", "_rest", "_transport", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._opened = False
        self._rest = b""
        self._messages: deque[Message] = deque([{"type": "websocket.connect"}])
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deliver({"type": "websocket.disconnect", "code": 1006})

    def data_received(self, data: bytes) -> None:
        if self._opened:
            self._read_frames(self._rest + data if self._rest else data)
            return
        key = _KEY.search(data)
        if key is None:
            self._transport.write(_PLAIN_ANSWER)
            return
        self._opened = True
        accept = base64.b64encode(hashlib.sha1(key[1] + _GUID, usedforsecurity=False).digest())
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-accept: %b\r\n\r\n" % accept
        )
        self._loop.create_task(app({"type": "websocket", "path": "/"}, self._receive, self._send))

    def _read_frames(self, data: bytes) -> None:
        position, size = 0, len(data)
        while size - position >= 6:
            length, start = data[position + 1] & 127, position + 6
            if length == 126:
                length, start = int.from_bytes(data[position + 2 : position + 4], "big"), position + 8
            elif length == 127:
                length, start = int.from_bytes(data[position + 2 : position + 10], "big"), position + 14
            end = start + length
            if end > size:
                break
            payload = apply_mask(data[start:end], data[start - 4 : start])
            if data[position] == 0x82:
                self._deliver({"type": "websocket.receive", "bytes": payload})
            elif data[position] == 0x81:
                self._deliver({"type": "websocket.receive", "text": payload.decode()})
            else:
                self._transport.close()
            position = end
        self._rest = data[position:]

    def _deliver(self, message: Message) -> None:
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _receive(self) -> Message:
        if not self._messages:
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._messages.popleft()

    async def _send(self, message: Message) -> None:
        content = message.get("bytes")
        if content is not None:
            first = b"\x82"
        elif message["type"] == "websocket.send":
            first, content = b"\x81", message["text"].encode()
        else:
            return
        size = len(content)
        if size < 126:
            head = first + bytes((size,))
        elif size < 65536:
            head = first + b"\x7e" + size.to_bytes(2, "big")
        else:
            head = first + b"\x7f" + size.to_bytes(8, "big")
        self._transport.write(head + content)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(loop), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
