"""Requests that never end: refused early, and the memory of the worker stays what it was."""

import json

import pytest

from tests.support.endless import ENDLESS_BYTES, ENDLESS_INPUT, endless
from tests.support.gunicorn import Gunicorn, peak_memory_bytes, reset_peak_memory

MIB = 1024 * 1024
PIECE = 64 * 1024

# What the allocators may keep; one of these requests would show with its 25 MiB.
MEMORY_SLACK = 12 * MIB

pytestmark = pytest.mark.load


def send_without_end(server: Gunicorn, kind: str) -> int:
    """How many bytes could be sent before the server had enough."""
    sent = 0
    with server.connect() as connection:
        try:
            for piece in endless(kind, PIECE):
                connection.send(piece)
                sent += len(piece)
        except OSError:
            pass
    return sent


def test_no_endless_request_is_taken_in(probe: Gunicorn) -> None:
    pid = json.loads(probe.get("/pid").body)
    for kind in ENDLESS_INPUT:  # Warms up.
        send_without_end(probe, kind)
    before = reset_peak_memory(pid)
    for kind in ENDLESS_INPUT:
        # What the kernel buffers on both sides comes on top of what the worker has read.
        assert send_without_end(probe, kind) < ENDLESS_BYTES - MIB, kind
    assert peak_memory_bytes(pid) - before < MEMORY_SLACK
    assert probe.get("/hello").body == b"hello"
    assert "Traceback" not in probe.log
