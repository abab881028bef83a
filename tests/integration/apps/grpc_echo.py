"""What a gRPC server does with HTTP/2, without its library: framed messages both ways, and the status in trailers."""

import struct
from typing import Any, Final

Scope = dict[str, Any]

_FIELDS: Final = [(b"content-type", b"application/grpc+proto")]
_OK: Final = [(b"grpc-status", b"0"), (b"grpc-message", b"OK")]


def framed(message: bytes) -> bytes:
    """A message with its prefix: not compressed, and its length."""
    return struct.pack(">BL", 0, len(message)) + message


async def trailers(send: Any, fields: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.trailers", "headers": fields})


async def unary(receive: Any, send: Any) -> None:
    """Answer one message with its reverse."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": _FIELDS, "trailers": True})
    await send({"type": "http.response.body", "body": framed(body[5:][::-1])})
    await trailers(send, _OK)


async def streaming(receive: Any, send: Any) -> None:
    """Answer each message as soon as it has come."""
    await send({"type": "http.response.start", "status": 200, "headers": _FIELDS, "trailers": True})
    buffer, more = b"", True
    while more:
        received = await receive()
        buffer, more = buffer + received.get("body", b""), received.get("more_body", False)
        while len(buffer) >= 5 and len(buffer) >= 5 + struct.unpack(">xL", buffer[:5])[0]:
            size = 5 + struct.unpack(">xL", buffer[:5])[0]
            message, buffer = buffer[5:size], buffer[size:]
            await send({"type": "http.response.body", "body": framed(message[::-1]), "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    await trailers(send, _OK)


async def unknown(receive: Any, send: Any) -> None:
    """A response of trailers only: to gRPC, the fields of a head without content are the trailers."""
    fields = [*_FIELDS, (b"grpc-status", b"12"), (b"grpc-message", b"no such method")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b""})


async def app(scope: Scope, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    methods = {"/echo.Echo/Unary": unary, "/echo.Echo/Stream": streaming}
    await methods.get(scope["path"], unknown)(receive, send)
