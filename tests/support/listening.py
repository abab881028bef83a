"""Servers of the system, started by a test and ended with it."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 20.0

_POLL_SECONDS: Final = 0.02
_ATTEMPTS: Final = 5


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def listening(command: Callable[[int], Sequence[str]], log: Path) -> Iterator[tuple[str, int]]:
    """Run the command for a port that is free, and give its address once something listens there.

    Another process may take the port in between, so a server that ends at once is started anew with another one.
    """
    for attempts_left in reversed(range(_ATTEMPTS)):
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(command(port), stdout=output, stderr=subprocess.STDOUT)
        try:
            listens = _listens(process, port)
            assert listens or attempts_left, f"{process.args!r} does not start:\n{log.read_text()}"
            if listens:
                yield "127.0.0.1", port
                assert process.poll() is None, f"{process.args!r} has ended:\n{log.read_text()}"
                return
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(process: "subprocess.Popen[bytes]", port: int) -> bool:
    """Wait until the process listens or has ended. There is no event to wait for, hence the polling."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), START_SECONDS):
            return process.poll() is None
        time.sleep(_POLL_SECONDS)
    return False
