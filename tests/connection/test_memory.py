"""What a client can make a connection store, counted by the allocator of the interpreter."""

import asyncio
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from gunicorn_asgi.asgi_types import Receive, Send
from gunicorn_asgi.connection.http1 import Http1Connection
from gunicorn_asgi.wire.http1_h11 import H11FieldParser
from gunicorn_asgi.wire.http1_httptools import HttptoolsFieldParser
from gunicorn_asgi.wire.http1_request import FieldParser
from tests.connection.serving import run, serving_context, turns
from tests.integration.apps.mirror import app as mirror
from tests.support.conversation import answers
from tests.support.endless import ENDLESS_INPUT, HEAD, endless
from tests.support.fake_transport import FakeTransport

pytestmark = pytest.mark.load

KIB = 1024
CAP = 64 * KIB


def peak_bytes(parser: FieldParser, source: Callable[[], Iterator[bytes]]) -> tuple[int, list[int], int]:
    """The most that was allocated while a connection took what `source` makes, all status codes, and how much it
    took before it answered. What the transport has read is not counted."""

    async def main() -> tuple[int, list[int], int]:
        context = serving_context(mirror, field_parser=parser)
        peak = taken = 0
        statuses: list[int] = []
        # The first time fills caches and imports.
        for _ in range(2):
            transport = FakeTransport(context.loop, Http1Connection(context))
            taken = 0
            tracemalloc.start()
            for piece in source():
                taken += len(piece)
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                transport.feed(piece)
                await turns(2)
                peak = max(peak, tracemalloc.get_traced_memory()[1] - before)
                if transport.received:
                    break
            tracemalloc.stop()
            statuses = [status for status, _ in answers(bytes(transport.received))]
            transport.lose()
        context.clock.stop()
        return peak, statuses, taken

    return run(main())


@pytest.mark.parametrize("parser", [HttptoolsFieldParser, H11FieldParser], ids=["httptools", "h11"])
@pytest.mark.parametrize("size", [1500, 256 * KIB], ids=["in packets", "in large reads"])
@pytest.mark.parametrize("kind", ENDLESS_INPUT)
def test_what_never_ends_is_refused_early_and_cheaply(parser: Callable[[], FieldParser], size: int, kind: str) -> None:
    status = ENDLESS_INPUT[kind][2]
    peak, statuses, taken = peak_bytes(parser(), lambda: endless(kind, size))
    assert statuses == [status]
    assert taken <= CAP + 2 * size
    # Empty lines can be the end of a head, so that what was read is copied behind what came before.
    assert peak < 4 * CAP + (16 * KIB if kind == "empty lines" else 0)


@pytest.mark.parametrize("parser", [HttptoolsFieldParser, H11FieldParser], ids=["httptools", "h11"])
@pytest.mark.parametrize("line", [b":\r\n", b"A:\r\n", b"X: a\r\n", b"X: " + b"a" * 5000 + b"\r\n"])
def test_a_complete_head_over_its_limits_is_refused_cheaply(parser: Callable[[], FieldParser], line: bytes) -> None:
    head = HEAD + line * (4 * CAP // len(line)) + b"\r\n"
    peak, statuses, _ = peak_bytes(parser(), lambda: iter([head]))
    assert statuses == [431]
    assert peak < 4 * CAP


def test_a_body_that_nobody_reads_costs_no_more_where_it_drips() -> None:
    async def sleepy(scope: object, receive: Receive, send: Send) -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> int:
        context = serving_context(sleepy)
        transport = FakeTransport(context.loop, Http1Connection(context))
        transport.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        await turns(2)
        tracemalloc.start()
        sent = 0
        # Two bytes each, since a single byte is an object that everybody shares.
        while transport.reading:
            transport.feed(b"%02d" % (sent % 100))
            sent += 2
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sent <= CAP
        context.clock.stop()
        transport.lose()
        return held

    assert run(main()) < 4 * CAP
