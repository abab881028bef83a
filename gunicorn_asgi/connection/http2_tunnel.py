"""A stream of an HTTP/2 connection as a transport: WebSockets over HTTP/2 (RFC 8441).

The protocol on top is the one that HTTP/1 hands its socket to. Here it writes DATA frames of one stream, and what flow
control means for it is told by the calls that a socket would make. What arrives before the application has accepted
waits here, and is not given back to the window of the stream until somebody reads it.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from ..wire.http2_streams import StreamState
from .http2_stream import Http2Stream, StreamOwner

_PASSED_ON: Final = ("peername", "sockname")
"""Of `get_extra_info`. The socket is not that of the stream: nobody may set options of it."""


class Http2Tunnel(asyncio.Transport):
    """From the request on; `begin` when there is a protocol for it."""

    def __init__(self, owner: StreamOwner, stream: Http2Stream) -> None:
        super().__init__()
        self._owner = owner
        self._stream = stream
        self._protocol: asyncio.Protocol | None = None
        # Not a list of pieces: tiny ones would take fifty times their size.
        self._received = bytearray()
        self._ended = False
        """Whether the client has ended its side."""
        self._eof_told = False
        self._reading = True
        self._eof_written = False
        self._closing = False
        self._lost = False
        self._protocol_paused = False
        self._high = 64 * 1024

    # The stream's side

    def begin(self, protocol: asyncio.Protocol) -> bytes:
        """Serve `protocol` from now on. Returns what has been received before."""
        self._protocol = protocol
        received = self._take_received()
        self._owner.acknowledge(self._stream)
        if self._ended:
            self._owner.loop.call_soon(self._deliver)
        return received

    def feed(self, content: bytes, ended: bool) -> None:
        """Content of the stream, possibly nothing but its end."""
        self._ended = ended
        if self._protocol is None or not self._reading or self._received:
            self._received += content
        elif content:
            self._protocol.data_received(content)
            if self._reading:
                self._owner.acknowledge(self._stream)
        if ended:
            self._deliver()

    def on_room(self) -> None:
        """There is nothing more that waits for the client."""
        if self._protocol_paused and self._protocol is not None:
            self._protocol_paused = False
            self._protocol.resume_writing()
        if self._closing:
            self._lose(None)

    def on_no_room(self) -> None:
        """The client takes no more, on any stream."""
        if not self._protocol_paused and self._protocol is not None and not self._lost:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def on_reset(self) -> None:
        """The stream is gone."""
        self._closing = True
        self._lose(ConnectionResetError("the stream was reset"))

    def _deliver(self) -> None:
        """Hand over what has waited."""
        protocol = self._protocol
        if protocol is None or not self._reading or self._closing:
            return
        received = self._take_received()
        if received:
            protocol.data_received(received)
        if self._reading:
            self._owner.acknowledge(self._stream)
            if self._ended and not self._eof_told and not self._closing:
                self._eof_told = True
                if not protocol.eof_received():
                    self.close()

    def _take_received(self) -> bytes:
        received = bytes(self._received)
        self._received.clear()
        return received

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            self._received.clear()
            protocol, self._protocol = self._protocol, None
            if protocol is not None:
                protocol.connection_lost(error)

    # The protocol's side

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._owner.get_extra_info(name) if name in _PASSED_ON else default

    def is_closing(self) -> bool:
        return self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is not None:
            self._high = high

    def get_write_buffer_size(self) -> int:
        stream = self._stream
        return stream.queued_bytes if stream.queue is not None else 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof_written or self._lost:
            return
        self._stream.write(bytes(data), False)
        if self._stream.queue is not None and self.get_write_buffer_size() > self._high:
            self.on_no_room()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof_written and not self._lost:
            self._eof_written = True
            self._stream.write(b"", True)

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.write_eof()
        if self._stream.queue is None:
            self._owner.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self._closing = True
        if self._stream.state is not StreamState.CLOSED:
            self._owner.cancel_stream(self._stream)
        self._owner.loop.call_soon(self._lose, None)

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._owner.loop.call_soon(self._deliver)
