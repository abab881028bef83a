"""A connection towards its transport: addresses, flow control, unsent bytes, the end."""

import asyncio
import contextlib
import fcntl
import select
import socket
import struct
import termios
from typing import Any, Final, cast

from ..asgi_types import Address
from .clock import NEVER
from .context import ServingContext
from .flow import Gate

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: linger, for no time."""


def asgi_address(name: Any) -> Address | None:
    """The address of a socket as ASGI wants it; None for an unnamed unix socket."""
    if isinstance(name, tuple):
        return name[0], name[1]
    if isinstance(name, bytes):
        name = name.decode("utf-8", "surrogateescape")
    return (name, None) if name else None


class TransportProtocol(asyncio.Protocol):
    """The side of a connection that faces its transport, whatever is spoken on it: flow control both ways, the watch
    over a client that takes nothing, and the abort."""

    __slots__ = (
        "_client",
        "_client_is_hidden",
        "_context",
        "_half_closed",
        "_reading_paused",
        "_server",
        "_transport",
        "_unsent_bytes",
        "write_deadline",
        "write_gate",
    )

    _transport: asyncio.Transport

    def __init__(self, context: ServingContext) -> None:
        self._context = context
        self._client: Address | None = None
        self._client_is_hidden = False
        """Whether nobody can say whose connection this is: a proxy passes it on without a name, or the client has reset
        it before it was looked at."""
        self._server: Address | None = None
        self._reading_paused = False
        self._half_closed = False
        self._unsent_bytes = 0
        self.write_deadline = NEVER
        self.write_gate = Gate(context.loop)
        """Closed while the client does not take what was written."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._client = asgi_address(transport.get_extra_info("peername"))
        # A stream has no socket. Its peer is that of its connection, which has looked here before.
        if (self._client is None or self._context.relayed) and (sock := transport.get_extra_info("socket")) is not None:
            # No name is what a peer on a unix socket has, which is trusted. It is also what getpeername(2) says of a
            # connection that was reset, by anybody.
            self._client_is_hidden = self._client is None and sock.family != socket.AF_UNIX
            self._take_relayed_client(sock.fileno())
        self._server = asgi_address(transport.get_extra_info("sockname"))
        self._transport.set_write_buffer_limits(self._context.settings.write_buffer_bytes)

    def _take_relayed_client(self, number: int) -> None:
        """Take whom the PROXY protocol names for the socket with this number."""
        relayed = self._context.relayed
        if number in relayed:
            client = relayed[number]
            self._client_is_hidden = client is None
            self._client = client or self._client

    def pause_writing(self) -> None:
        self.write_gate.close()
        self._watch_unsent()

    def resume_writing(self) -> None:
        self.write_gate.open()

    def _await_loss(self) -> None:
        """Let nobody write until `connection_lost`. To be called where an application writes and the transport closes.

        A transport that finds its connection lost drops all that is written from then on, and calls `connection_lost`
        in the next turn of the event loop. An application that sends without an end would otherwise never wait, as for
        a client that takes everything at once, and the loop would not turn any more.
        """
        self.pause_writing()

    @property
    def peer(self) -> str:
        """The peer's own address for the error log, whatever it says of itself."""
        if self._client is not None:
            return self._client[0]
        return "unknown" if self._client_is_hidden else "unix socket"

    @property
    def peer_is_trusted(self) -> bool:
        """Whether the peer is one of the proxies that `forwarded_allow_ips` names."""
        return not self._client_is_hidden and self._context.proxies.trusts(self._client)

    def has_unread_input(self) -> bool:
        """Whether the socket holds bytes, or an end, that the event loop will report in its next turn."""
        sock = self._transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def on_tick(self) -> None:
        """See `UnsentConnection.on_tick`: break off when the client has taken nothing for `write_timeout`."""
        if self._transport.get_write_buffer_size() == 0:
            self._unsent_bytes = 0
            self._context.unsent.discard(self)
        elif self._untaken_bytes() != self._unsent_bytes:
            self._watch_unsent()
        elif self.write_deadline <= self._context.clock.now:
            self._context.error_log.info("Client %s takes no data; connection aborted", self.peer)
            self.abort()

    def abort(self) -> None:
        """Close at once, with a reset.

        A client must not take a response that was broken off, and whose end is the end of the connection, for a whole
        one (RFC 9112 section 8). SO_LINGER with a time of 0 makes the close of the socket send a reset.
        """
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # The peer may have reset the connection already.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def _watch_unsent(self) -> None:
        self._unsent_bytes = self._untaken_bytes()
        self.write_deadline = self._context.clock.deadline(self._context.settings.write_timeout_seconds)
        self._context.unsent.add(self)

    def _untaken_bytes(self) -> int:
        """What was written and the client has not acknowledged.

        The kernel takes more only when a third of its buffer is free, which may be a megabyte: a slow client would seem
        to take nothing for a minute.
        """
        untaken = self._transport.get_write_buffer_size()
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            with contextlib.suppress(OSError):  # Not every system says it of a socket.
                [in_kernel] = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
                untaken += in_kernel
        return untaken

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            if not self._half_closed:
                self._transport.resume_reading()

    def _write_large(self, *parts: bytes) -> None:
        """Write without copying the parts together, where the transport can."""
        if self._context.gathers_writes:
            self._transport.writelines(parts)
        else:
            self._transport.write(b"".join(parts))
