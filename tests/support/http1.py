"""A client that shows what is on the wire: it reads exactly one response and interprets no more than its framing."""

import socket
import ssl
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Final, TypeAlias

Address: TypeAlias = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""

TIMEOUT_SECONDS: Final = 20.0
"""For one step of a test: far above what it takes, so that only what hangs is hit."""


@dataclass(frozen=True)
class Response:
    """One response as it was received."""

    head: bytes
    """Status line to empty line, inclusive."""
    framed_body: bytes
    """As on the wire, chunk lines and all."""
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head[9:12])

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """Names and values in their order, names as they were sent."""
        return [_split(line) for line in self.head[:-4].split(b"\r\n")[1:]]

    def get(self, name: bytes) -> bytes | None:
        """The value of a field that must not be repeated; None where it is missing."""
        values = [value for field, value in self.fields if field.lower() == name]
        assert len(values) <= 1, f"{name!r} is repeated: {self.head!r}"
        return values[0] if values else None

    def raw_without(self, *names: bytes) -> bytes:
        """All bytes, but for the lines of the fields `names`."""
        lines = self.head.split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].lower() not in names]
        return b"\r\n".join(kept) + self.framed_body


class Connection:
    """One connection of a client. Every read fails after `TIMEOUT_SECONDS` instead of hanging."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None, *, source: str = "") -> None:
        """`source` is the address that the client has; all of 127.0.0.0/8 belong to loopback."""
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(TIMEOUT_SECONDS)
            self.sock.connect(address)
        else:
            # A socket that is bound before it connects needs a port that no other connection has, and there are few.
            bound_to = (source, 0) if source else None
            self.sock = socket.create_connection(address, timeout=TIMEOUT_SECONDS, source_address=bound_to)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self._received = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, target: str, *, fields: str = "", method: str = "GET", body: bytes = b"") -> Response:
        """Send a request, whole, and read its response."""
        self.send(request(target, fields=fields, method=method, body=body))
        return self.read_response(head_only=method == "HEAD")

    def end_sending(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Go away without a farewell: the server sees ECONNRESET."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def read_response(self, *, head_only: bool = False) -> Response:
        """The next response, also an interim one. `head_only` for the answer to HEAD."""
        head = self.read_until(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), head
        response = Response(head, b"", b"")
        if head_only or response.status in (204, 304) or response.status < 200:
            return response
        if response.get(b"transfer-encoding") == b"chunked":
            assert response.get(b"content-length") is None, head
            framed, body = self._read_chunks()
            return Response(head, framed, body)
        length = response.get(b"content-length")
        if length is None:
            assert response.get(b"connection") == b"close", f"nothing ends the body: {head!r}"
        body = self.read_to_end() if length is None else self.read_exactly(int(length))
        return Response(head, body, body)

    def read_until(self, end: bytes) -> bytes:
        """Bytes up to and including `end`."""
        start = 0
        while (position := self._received.find(end, start)) < 0:
            start = max(0, len(self._received) - len(end))
            if not self._receive():
                raise EOFError(f"the connection ended after {self._received!r}")
        position += len(end)
        data, self._received = self._received[:position], self._received[position:]
        return data

    def read_exactly(self, size: int) -> bytes:
        parts = [self._received[:size]]
        self._received = self._received[size:]
        missing = size - len(parts[0])
        while missing:
            data = self.sock.recv(min(missing, 1 << 20))
            if not data:
                raise EOFError(f"the connection ended {missing} bytes early")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def read_to_end(self) -> bytes:
        """All that comes before the server ends the connection in an orderly way; a reset raises ConnectionError."""
        while self._receive():
            pass
        data, self._received = self._received, b""
        return data

    def is_closed_by_server(self) -> bool:
        """Wait for the server to close; False when it sends something else instead."""
        try:
            return self.read_to_end() == b""
        except ConnectionError:
            return True

    def _receive(self) -> bool:
        data = self.sock.recv(1 << 16)
        self._received += data
        return bool(data)

    def _read_chunks(self) -> tuple[bytes, bytes]:
        framed: list[bytes] = []
        content: list[bytes] = []
        while True:
            line = self.read_until(b"\r\n")
            chunk = self.read_exactly(int(line[:-2], 16))
            end = self.read_exactly(2)
            assert end == b"\r\n", end
            framed += [line, chunk, end]
            if not chunk:
                return b"".join(framed), b"".join(content)
            content.append(chunk)


def request(target: str, *, fields: str = "", method: str = "GET", body: bytes = b"", version: str = "1.1") -> bytes:
    """The bytes of a request; `fields` are complete lines."""
    if body:
        fields += f"Content-Length: {len(body)}\r\n"
    return f"{method} {target} HTTP/{version}\r\nHost: example.org\r\n{fields}\r\n".encode("latin-1") + body


def chunked(*chunks: bytes) -> bytes:
    """A body in chunked transfer coding."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    assert colon, line
    return name, value.strip(b" \t")
