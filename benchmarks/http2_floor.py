"""The floor of HTTP/2: what `floor.py` is to HTTP/1.

It reads HEADERS and nothing else, decodes header blocks with the decoder of this package, and answers each request with
one literal block and its content. It checks nothing, knows no windows, no errors and no streams.

    python -m benchmarks.http2_floor PORT
"""

import asyncio
import sys
from typing import Final, cast

import uvloop

from gunicorn_asgi.wire.http2_frames import FLAG_PRIORITY, HEADERS, PREFACE, SETTINGS, SETTINGS_ACK, settings_frame
from gunicorn_asgi.wire.http2_hpack import HeaderDecoder

from .apps import Message, Scope, hello

_VERSIONS: Final = {"version": "3.0", "spec_version": "2.5"}
_STATUS: Final = {200: b"\x88"}
_SERVER: Final = b"\x00\x06server\x05floor"

_known: dict[tuple[bytes, bytes], bytes] = {}


def _literal(field: tuple[bytes, bytes]) -> bytes:
    literal = _known.get(field)
    if literal is None:
        name, value = field
        literal = _known[field] = b"\x00%c%b%c%b" % (len(name), name, len(value), value)
    return literal


class _Call:
    """One call of the application."""

    __slots__ = ("_client", "_head", "_scope", "_stream")

    def __init__(self, scope: Scope, client: "_Client", stream: bytes) -> None:
        self._scope = scope
        self._client = client
        self._stream = stream
        self._head: bytes

    async def run(self) -> None:
        await hello(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            content = message.get("body", b"")
            self._client.write(self._head + len(content).to_bytes(3, "big") + b"\x00\x01" + self._stream + content)
            return
        block = _STATUS[message["status"]] + _SERVER + b"".join([_literal(field) for field in message["headers"]])
        self._head = len(block).to_bytes(3, "big") + b"\x01\x04" + self._stream + block


class _Client(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it.
        self._peer = transport.get_extra_info("peername")
        self._own = transport.get_extra_info("sockname")
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._position = len(PREFACE)
        self._decode = HeaderDecoder(max_list_bytes=65536).decode
        self._out: list[bytes] = []
        self._transport.write(settings_frame({}))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        position, self._position = self._position, 0
        while len(data) - position >= 9:
            start = position + 9
            end = start + int.from_bytes(data[position : position + 3], "big")
            if end > len(data):
                break
            if data[position + 3] == HEADERS:
                if data[position + 4] & FLAG_PRIORITY:
                    start += 5
                self._begin(data[position + 5 : position + 9], data[start:end])
            elif data[position + 3] == SETTINGS and not data[position + 4]:
                self._transport.write(SETTINGS_ACK)
            position = end
        self._rest = data[position:]

    def write(self, response: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(response)

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()

    def _begin(self, stream: bytes, block: bytes) -> None:
        received = self._decode(block)
        fields = dict(received)
        path, _, query = fields[b":path"].partition(b"?")
        call = _Call(
            {
                "type": "http",
                "asgi": _VERSIONS,
                "http_version": "2",
                "method": fields[b":method"].decode(),
                "scheme": "http",
                "root_path": "",
                "path": path.decode(),
                "raw_path": path,
                "query_string": query,
                "headers": [(b"host", fields[b":authority"]), *received[4:]],
                "client": self._peer,
                "server": self._own,
                "state": {},
            },
            self,
            stream,
        )
        self._loop.create_task(call.run())


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Client, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
