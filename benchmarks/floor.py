"""The floor: the least that a Python server must do between a socket and an ASGI application, and nothing more.

httptools reads the request, a scope is built, a task calls the application, head and body leave in one write. There
are no limits, errors, timers, bodies, flow control, pipelining or clock. It is a ruler and not a server: it shows how
much of what the interpreter can do is left once a real server keeps its promises.

    python -m benchmarks.floor PORT
"""

import asyncio
import sys
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, cast

import httptools
import uvloop

from .apps import Message, Scope, hello

_VERSIONS: Final = {"version": "3.0", "spec_version": "2.5"}
_HEADS: Final = {
    status.value: (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ndate: {formatdate(usegmt=True)}\r\nserver: floor\r\n".encode()
    )
    for status in HTTPStatus
}


class _Call:
    """One call of the application."""

    __slots__ = ("_parts", "_scope", "_transport")

    def __init__(self, scope: Scope, transport: asyncio.Transport) -> None:
        self._scope = scope
        self._transport = transport
        self._parts: list[bytes]

    async def run(self) -> None:
        await hello(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self._parts.append(message.get("body", b""))
            self._transport.write(b"".join(self._parts))
            return
        parts = [_HEADS[message["status"]]]
        parts += [b"%b: %b\r\n" % field for field in message["headers"]]
        parts.append(b"\r\n")
        self._parts = parts


class _Client(asyncio.Protocol):
    """One connection; the methods from `on_message_begin` on are called by the parser."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it.
        self._peer = transport.get_extra_info("peername")
        self._own = transport.get_extra_info("sockname")
        self._spawn = asyncio.get_running_loop().create_task
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._fields: list[tuple[bytes, bytes]] = []

    def on_url(self, target: bytes) -> None:
        self._target = target

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        path, _, query = self._target.partition(b"?")
        call = _Call(
            {
                "type": "http",
                "asgi": _VERSIONS,
                "http_version": parser.get_http_version(),
                "method": parser.get_method().decode(),
                "scheme": "http",
                "root_path": "",
                "path": path.decode(),
                "raw_path": path,
                "query_string": query,
                "headers": self._fields,
                "client": self._peer,
                "server": self._own,
                "state": {},
            },
            self._transport,
        )
        self._spawn(call.run())


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Client, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
