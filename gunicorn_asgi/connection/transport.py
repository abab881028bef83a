"""What asyncio's transports leave to be done by hand."""

import asyncio
import contextlib
import socket
import struct
from typing import Any, Final

from ..asgi_types import Address

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: linger, for no time."""


def asgi_address(name: Any) -> Address | None:
    """The address of a socket as ASGI wants it; None for an unnamed unix socket."""
    if isinstance(name, tuple):
        return name[0], name[1]
    if isinstance(name, bytes):
        name = name.decode("utf-8", "surrogateescape")
    return (name, None) if name else None


def reset(transport: asyncio.Transport) -> None:
    """Abort with a reset.

    A client must not take a response that was broken off, and whose end is the end of the connection, for a whole one
    (RFC 9112 section 8). SO_LINGER with a time of 0 makes the close of the socket send a reset.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # The peer may have reset the connection already.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
