"""A well-behaved client of HTTP/2 on the `h2` library, which refuses whatever breaks the protocol."""

import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeAlias

import h2.config
import h2.connection
import h2.events

from gunicorn_asgi.asgi_types import Field

from .http1 import TIMEOUT_SECONDS, Address

_Fields: TypeAlias = "Iterable[tuple[str, str]]"


@dataclass
class LibraryResponse:
    """What has come on one stream so far."""

    interim: list[list[Field]] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)
    body: bytes = b""
    trailers: list[Field] | None = None
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.fields)[b":status"])


class LibraryClient:
    """One connection. Every read fails after `TIMEOUT_SECONDS` instead of hanging."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        assert isinstance(address, tuple)
        self.sock = socket.create_connection(address, timeout=TIMEOUT_SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            tls_sock = tls.wrap_socket(self.sock, server_hostname="localhost")
            assert tls_sock.selected_alpn_protocol() == "h2"
            self.sock = tls_sock
        self._scheme = "http" if tls is None else "https"
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self.connection.initiate_connection()
        self.responses: dict[int, LibraryResponse] = {}
        self.events: list[h2.events.Event] = []
        """All but those of responses."""
        self._flush()

    def __enter__(self) -> "LibraryClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.sock.close()

    def begin(self, target: str, method: str = "GET", fields: _Fields = (), *, end_stream: bool = True) -> int:
        """Send the head of a request and return its stream."""
        stream_id = self.connection.get_next_available_stream_id()
        head = [(":method", method), (":scheme", self._scheme), (":authority", "localhost"), (":path", target), *fields]
        self.connection.send_headers(stream_id, head, end_stream=end_stream)
        self.responses[stream_id] = LibraryResponse()
        self._flush()
        return stream_id

    def send(self, stream_id: int, content: bytes, *, end_stream: bool = False) -> None:
        """Send content, as the windows of the server allow."""
        view = memoryview(content)
        while view:
            size = min(
                len(view),
                self.connection.local_flow_control_window(stream_id),
                self.connection.max_outbound_frame_size,
            )
            if size <= 0:
                self.receive()
                continue
            self.connection.send_data(stream_id, bytes(view[:size]))
            self._flush()
            view = view[size:]
        if end_stream:
            self.connection.end_stream(stream_id)
            self._flush()

    def end_with_trailers(self, stream_id: int, fields: _Fields) -> None:
        self.connection.send_headers(stream_id, list(fields), end_stream=True)
        self._flush()

    def reset(self, stream_id: int) -> None:
        self.connection.reset_stream(stream_id)
        self._flush()

    def response(self, stream_id: int) -> LibraryResponse:
        """Wait for the end of a response."""
        response = self.responses[stream_id]
        while not response.ended and response.reset is None:
            self.receive()
        return response

    def get(self, target: str, method: str = "GET", fields: _Fields = (), body: bytes | None = None) -> LibraryResponse:
        """Send a whole request and wait for the end of its response."""
        stream_id = self.begin(target, method, fields, end_stream=body is None)
        if body is not None:
            self.send(stream_id, body, end_stream=True)
        return self.response(stream_id)

    def receive(self) -> None:
        """Take in what comes next."""
        received = self.sock.recv(1 << 18)
        if not received:
            raise EOFError("the server has closed the connection")
        for event in self.connection.receive_data(received):
            self._take(event)
        self._flush()

    def _take(self, event: Any) -> None:
        response = self.responses.get(getattr(event, "stream_id", 0) or 0, LibraryResponse())
        if isinstance(event, h2.events.ResponseReceived):
            response.fields = [(name, value) for name, value in event.headers or ()]
        elif isinstance(event, h2.events.InformationalResponseReceived):
            response.interim.append([(name, value) for name, value in event.headers or ()])
        elif isinstance(event, h2.events.DataReceived):
            response.body += event.data or b""
            assert event.flow_controlled_length is not None
            assert event.stream_id is not None
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            response.trailers = [(name, value) for name, value in event.headers or ()]
        elif isinstance(event, h2.events.StreamEnded):
            response.ended = True
        elif isinstance(event, h2.events.StreamReset):
            response.reset = int(event.error_code or 0)
        else:
            self.events.append(event)

    def _flush(self) -> None:
        self.sock.sendall(self.connection.data_to_send())
