"""Many clients that hold a server up with as little as possible, in a process of their own.

    python -m tests.support.slow_clients HOST PORT COUNT

One third drips heads, one third drips bodies, one third reads a large response byte by byte, each a byte a second. Says
`ready` when all of them are under way, and stops when its standard input ends.
"""

import contextlib
import select
import socket
import sys
import time
from typing import Final

KINDS: Final = {
    "heads": b"GET /hello HTTP/1.1\r\nHost: a\r\nX-Drip: ",
    "bodies": b"POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n",
    "reads": b"GET /download?1000 HTTP/1.1\r\nHost: a\r\n\r\n",
}
ROUND_SECONDS: Final = 1.0


class SlowClient:
    """One connection, made anew when the server has enough of it."""

    def __init__(self, address: tuple[str, int], kind: str) -> None:
        self._address = address
        self._kind = kind
        self._sock = self._connect()

    def step(self) -> None:
        """One byte more."""
        try:
            if self._kind == "reads":
                self._sock.recv(1)
            else:
                self._sock.send(b"a")
        except OSError:
            self._sock.close()
            self._sock = self._connect()

    def _connect(self) -> socket.socket:
        sock = socket.socket()
        # So that a server cannot leave the whole response to the kernel.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(5)
        sock.connect(self._address)
        sock.sendall(KINDS[self._kind])
        return sock


def main(host: str, port: int, count: int) -> None:
    names = list(KINDS)
    clients = [SlowClient((host, port), names[number % len(names)]) for number in range(count)]
    print("ready", flush=True)
    while True:
        for client in clients:
            # Evenly spread: all at once would be a burst and not a drip.
            time.sleep(ROUND_SECONDS / count)
            client.step()
        if select.select([sys.stdin], [], [], 0)[0]:
            return


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
