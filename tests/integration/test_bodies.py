"""Bodies of any size, with flow control both ways."""

import json
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.gunicorn import Gunicorn, GunicornStarter, peak_memory_bytes, reset_peak_memory
from tests.support.http1 import request

MIB = 1024 * 1024
PIECE = bytes(range(256)) * 256
PIECES = 100 * MIB // len(PIECE)

# What buffers of the interpreter and of its allocator may add; 100 MiB would show.
MEMORY_SLACK = 12 * MIB


@pytest.fixture
def server(gunicorns: GunicornStarter) -> Gunicorn:
    return gunicorns.start("probe")


@contextmanager
def flat_memory(server: Gunicorn) -> Iterator[None]:
    """Fails when a worker that has warmed up needs more memory inside."""
    pid = int(server.get("/pid").body)
    server.get("/size", method="POST", body=PIECE * 8)
    server.get("/download?8")
    before = reset_peak_memory(pid)
    yield
    assert peak_memory_bytes(pid) - before < MEMORY_SLACK


@pytest.mark.parametrize("is_chunked", [False, True])
def test_upload_of_100_mib_in_flat_memory(server: Gunicorn, is_chunked: bool) -> None:
    fields = "Transfer-Encoding: chunked\r\n" if is_chunked else f"Content-Length: {PIECES * len(PIECE)}\r\n"
    part = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if is_chunked else PIECE
    with flat_memory(server), server.connect() as connection:
        connection.send(request("/size", method="POST", fields=fields))
        for _ in range(PIECES):
            connection.send(part)
        if is_chunked:
            connection.send(b"0\r\n\r\n")
        counted = json.loads(connection.read_response().body)
        assert counted["total"] == 100 * MIB
        assert connection.get("/hello").status == 200


def test_download_of_100_mib_in_flat_memory(server: Gunicorn) -> None:
    with flat_memory(server), server.connect() as connection:
        connection.send(request(f"/download?{PIECES}"))
        connection.read_until(b"\r\n\r\n")
        received = 0
        while size := int(connection.read_until(b"\r\n"), 16):
            connection.read_exactly(size + 2)
            received += size
        assert received == 100 * MIB
        assert connection.read_exactly(2) == b"\r\n"
        assert connection.get("/hello").status == 200


def test_send_waits_for_a_slow_reader(server: Gunicorn) -> None:
    with flat_memory(server), server.connect() as connection:
        connection.send(request("/blocked-download"))
        # Answered when send() has not returned for a second. Until then the kernel's buffers have been filled.
        sent = json.loads(server.get("/journal/blocked").body)
        assert sent * len(PIECE) < 16 * MIB
        response = connection.read_response()
        assert len(response.body) == 2 * sent * len(PIECE)


def test_a_body_that_nobody_reads_is_not_taken_in(server: Gunicorn) -> None:
    with flat_memory(server), server.connect() as connection:
        connection.send(request("/hold", method="POST", fields=f"Content-Length: {100 * MIB}\r\n"))
        server.get("/journal/held")
        connection.sock.setblocking(False)
        sent = 0
        # Nothing tells that the server will never take more; a second without progress has to do.
        while select.select([], [connection.sock], [], 1.0)[1]:
            sent += connection.sock.send(PIECE)
        assert sent < 32 * MIB
        connection.sock.settimeout(20)
        server.get("/release")
        assert connection.read_response().body == b"released"
        assert connection.is_closed_by_server(), "the rest of the body must not be taken for a request"


def test_the_answer_to_an_upload_that_nobody_reads_arrives(server: Gunicorn) -> None:
    with flat_memory(server), server.connect() as connection:
        connection.send(request("/ignore-body", method="POST", fields=f"Content-Length: {100 * MIB}\r\n"))

        def upload() -> None:
            try:
                for _ in range(PIECES):
                    connection.send(PIECE)
            except OSError:
                pass  # The server need not take all of it.

        thread = threading.Thread(target=upload)
        thread.start()
        assert connection.read_response().body == b"ignored"
        assert connection.is_closed_by_server()
        thread.join()


def test_a_small_body_that_nobody_reads_is_skipped(server: Gunicorn) -> None:
    body = request("/target/smuggled")
    with server.connect() as connection:
        connection.send(request("/ignore-body", method="POST", body=body) + request("/target/next"))
        assert connection.read_response().body == b"ignored"
        assert connection.read_response().body == b"/target/next?"


def test_a_file_of_several_mib_from_a_framework(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    content = PIECE * 160
    path = tmp_path / "large.bin"
    path.write_bytes(content)
    server = gunicorns.start("files", env={"FILE_TO_SERVE": str(path)})
    with server.connect() as connection:
        for _ in range(2):
            assert connection.get("/").body == content
