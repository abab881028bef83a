"""A transport without a socket that fails where a real one would only sometimes misbehave.

asyncio and uvloop forgive much, each something else, such as a write behind `close()` or a second pause. Here each such
call is a mistake of the protocol: it raises, and stays in `misuse` for a test to look at, because an application may
have swallowed what was raised inside of its `send()`.
"""

import asyncio
import socket
import struct
from collections.abc import Iterable
from typing import Any, Final, NoReturn

_PEER: Final = ("192.0.2.1", 50000)
_HOST: Final = ("127.0.0.1", 8000)


class FakeSocket:
    """What `get_extra_info("socket")` gives."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self.family = family
        self.resets_on_close = False

    def fileno(self) -> int:
        """That of a closed socket: there is nothing in it to read."""
        return -1

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        self.resets_on_close = struct.unpack("ii", value) == (1, 0)


class FakeTransport(asyncio.Transport):
    """The server's end of a connection; `feed`, `feed_eof`, `take`, `lose` and the attributes are the client's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.Protocol,
        *,
        can_write_eof: bool = True,
        peername: object = _PEER,
        sockname: object = _HOST,
        sslcontext: object = None,
    ) -> None:
        # Without a name, as in the end of a connection that was reset; a peer on a unix socket has an empty one.
        self.sock = FakeSocket(socket.AF_UNIX if isinstance(peername, str) else socket.AF_INET)
        super().__init__(
            {
                "socket": self.sock,
                "peername": peername,
                "sockname": sockname,
                "sslcontext": sslcontext,
                "ssl_object": sslcontext,
            }
        )
        self._loop = loop
        self._protocol = protocol
        self._can_write_eof = can_write_eof
        self._high = 64 * 1024
        self._low = self._high // 4
        self._buffer = bytearray()
        self._protocol_paused = False
        self._arrived: list[bytes] = []
        self._eof_arrived = False
        self._closing = False
        self.reading = True
        self.stalled = False
        """Whether the client has stopped reading, so that all that is written stays in the buffer."""
        self.received = bytearray()
        """All that the client has got."""
        self.writes: list[bytes] = []
        """What each call of a write method brought."""
        self.eof_written = False
        self.closed = False
        self.aborted = False
        self.was_reset = False
        self.lost = False
        """Whether the protocol was told that the connection is gone."""
        self.misuse: list[str] = []
        protocol.connection_made(self)

    # The client's side

    def feed(self, data: bytes) -> None:
        """The client sends. While reading is paused the bytes wait, as they do in the kernel."""
        assert data, "a transport never delivers nothing"
        assert not self._eof_arrived, "the client has ended its sending side"
        self._arrived.append(data)
        self._deliver()

    def feed_eof(self) -> None:
        """The client ends its sending side."""
        self._eof_arrived = True
        self._arrived.append(b"")
        self._deliver()

    def take(self, size: int | None = None) -> None:
        """The client of a stalled connection reads `size` bytes, or all that is there."""
        size = len(self._buffer) if size is None else size
        self.received += self._buffer[:size]
        del self._buffer[:size]
        if self._protocol_paused and len(self._buffer) <= self._low:
            self._protocol_paused = False
            self._protocol.resume_writing()
        if self._closing and not self._buffer and not self.aborted:
            self._loop.call_soon(self._lose, None)

    def lose(self, error: Exception | None = None) -> None:
        """The connection is gone, at once."""
        self._closing = True
        self.reading = False
        self._lose(error)

    def reset(self) -> None:
        """The client resets the connection, which a read or a write has found: until the protocol is told, in the next
        turn, both loops drop what is written."""
        self.was_reset = True
        self._closing = True
        self.reading = False
        self._buffer.clear()
        self._loop.call_soon(self._lose, ConnectionResetError())

    def _deliver(self) -> None:
        while self._arrived and self.reading and not self._closing:
            data = self._arrived.pop(0)
            if data:
                self._protocol.data_received(data)
            elif not self._protocol.eof_received():
                self.close()

    def _lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self._buffer.clear()
            # Both loops let go of the protocol, so that no circle is left.
            protocol, self._protocol = self._protocol, asyncio.Protocol()
            protocol.connection_lost(error)

    # The protocol's side: asyncio.Transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._check_open("set_protocol")
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self._check_open("pause_reading")
        if not self.reading:
            self._misused("pause_reading while paused")
        self.reading = False

    def resume_reading(self) -> None:
        self._check_open("resume_reading")
        if self.reading:
            self._misused("resume_reading while not paused")
        self.reading = True
        # A loop delivers later, never from within this call.
        self._loop.call_soon(self._deliver)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            self._misused(f"write of {type(data).__name__}")
        self._write(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        parts = list(list_of_data)
        for part in parts:
            if not isinstance(part, (bytes, bytearray, memoryview)):
                self._misused(f"writelines of {type(part).__name__}")
        self._write(b"".join(parts))

    def write_eof(self) -> None:
        self._check_open("write_eof")
        if not self._can_write_eof:
            self._misused("write_eof where it cannot be written")
        if self.eof_written:
            self._misused("write_eof twice")
        self.eof_written = True

    def can_write_eof(self) -> bool:
        return self._can_write_eof

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.closed = True
        self.reading = False
        if not self._buffer:
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        if self.aborted or self.lost:
            return
        self._closing = True
        self.aborted = True
        self.reading = False
        self._buffer.clear()
        self._loop.call_soon(self._lose, None)

    def _write(self, data: bytes) -> None:
        if self.was_reset and not self.lost:
            return
        self._check_open("write")
        if self.eof_written:
            self._misused("write behind write_eof")
        self.writes.append(data)
        if not self.stalled:
            self.received += data
            return
        self._buffer += data
        if not self._protocol_paused and len(self._buffer) > self._high:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def _check_open(self, call: str) -> None:
        if self._closing:
            self._misused(f"{call} behind {'abort' if self.aborted else 'close' if self.closed else 'loss'}")

    def _misused(self, what: str) -> NoReturn:
        self.misuse.append(what)
        raise AssertionError(f"misuse of the transport: {what}")
