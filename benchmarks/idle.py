"""What an idle connection costs in memory: python -m benchmarks.idle [CONNECTIONS]

Many connections are opened and left alone, each after one request with a browser's fields or as a WebSocket; how much
the worker has grown by then, divided by their number, is the figure. A first tenth, closed again, fills the caches.
"""

import resource
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .servers import HOST, SERVERS, Deployment, RunningServer, end_all
from .workloads import BROWSER_FIELDS

_TAKING_PART: Final = ("ours", "uvicorn-worker", "gunicorn")
_FIELDS: Final = "".join(f"{name}: {value}\r\n" for name, value in BROWSER_FIELDS.items() if name != "Connection")
_REQUEST: Final = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: keep-alive\r\n{_FIELDS}\r\n".encode()
_HANDSHAKE: Final = (
    f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    f"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n{_FIELDS}\r\n"
).encode()
_KINDS: Final = {"keep-alive": (_REQUEST, b"Hello, World!"), "WebSocket": (_HANDSHAKE, b"\r\n\r\n")}


def main(connections: int) -> None:
    """Print KiB for each kind of connection and each server."""
    needed = connections + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    print(f"KiB of resident memory for each of {connections} idle connections")
    for kind, (request, end) in _KINDS.items():
        for name in _TAKING_PART:
            with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
                server = RunningServer(
                    name, Deployment("benchmarks.websocket_app:app", False, keepalive=600), Path(directory)
                )
                try:
                    server.wait_until_ready()
                    address = (HOST, server.port)
                    _close(_open(address, connections // 10, request, end))
                    before = server.resident_bytes()
                    idle = _open(address, connections, request, end)
                    grown = server.resident_bytes() - before
                    _close(idle)
                finally:
                    end_all([server])
            print(f"{kind:<11} {SERVERS[name].title:<40} {grown / connections / 1024:6.1f}", flush=True)


def _open(address: tuple[str, int], count: int, request: bytes, end: bytes) -> list[socket.socket]:
    connections = []
    for _ in range(count):
        connection = socket.create_connection(address, timeout=30)
        connections.append(connection)
        connection.sendall(request)
        received = b""
        while not received.endswith(end):
            data = connection.recv(4096)
            if not data:
                sys.exit(f"a connection has ended after {received!r}")
            received += data
    return connections


def _close(connections: Sequence[socket.socket]) -> None:
    for connection in connections:
        connection.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
