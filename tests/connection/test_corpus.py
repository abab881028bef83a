"""The corpus on a connection: whole, byte by byte, and cut in two at every place, with both parsers."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import pytest

from gunicorn_asgi.connection.context import ServingContext
from gunicorn_asgi.wire.http1_h11 import H11FieldParser
from gunicorn_asgi.wire.http1_httptools import HttptoolsFieldParser
from gunicorn_asgi.wire.http1_request import FieldParser
from tests.connection.serving import RecordingLog, run, serving_context
from tests.integration.apps.mirror import app
from tests.support.conversation import answers, converse, let_go, quiet
from tests.support.corpus import END, Case, check_answers, read_corpus

CASES = read_corpus()
ENTRIES: dict[str, list[Case]] = {}
for case in CASES:
    ENTRIES.setdefault(case.entry, []).append(case)
SMALL_BYTES = 600
"""Up to here a request is sent byte by byte, and cut everywhere; larger ones repeat one byte or line."""


def test_the_corpus_is_large_and_names_its_reasons() -> None:
    assert len(CASES) >= 300
    assert all(case.rule.startswith(("RFC 9110 section ", "RFC 9112 section ")) for case in CASES)
    assert len({case.name for case in CASES}) == len(CASES)
    refused = sum(isinstance(case.answers[-1], int) for case in CASES)
    assert min(refused, len(CASES) - refused) > 100


def ways(data: bytes, distance: int) -> Iterator[list[bytes]]:
    """The pieces in which `data` comes. Where it is cut in two, at places `distance` bytes apart."""
    yield [data]
    step = 1 if len(data) <= SMALL_BYTES else 101
    yield [data[start : start + step] for start in range(0, len(data), step)]
    # Of a large request the places around its line ends, since between them one byte is like the other.
    places: Iterable[int] = range(1, len(data), distance)
    if len(data) > SMALL_BYTES:
        ends = [place for place, pair in enumerate(pairwise(data)) if pair == (13, 10)][:20]
        places = [place + offset for place in [*ends, len(data) - 4] for offset in range(4)]
    for place in places:
        yield [piece for piece in (data[:place], data[place:]) if piece]


async def check(case: Case, context: ServingContext, pieces: list[bytes]) -> None:
    transport = await converse(context, pieces)
    try:
        check_answers(case, answers(bytes(transport.received)))
        assert case.closed == (transport.eof_written or transport.closed), case.name
        if not case.closed:
            transport.received.clear()
            transport.feed(END)
            await quiet(context, transport)
            [(status, seen)] = answers(bytes(transport.received))
            assert status == 200
            assert '"raw_path": "/the-end-of-the-case", "query": "", "headers": [["host", "end.example"]]' in seen
        assert transport.misuse == []
    finally:
        await let_go(transport)


# A parser gets whole heads, so where a request is cut is nothing to it: for the slow one, some places are enough.
@pytest.mark.parametrize(
    ("parser", "distance"), [(HttptoolsFieldParser, 1), (H11FieldParser, 11)], ids=["httptools", "h11"]
)
@pytest.mark.parametrize("entry", ENTRIES)
def test_the_verdict_is_the_same_however_a_request_comes(
    entry: str, parser: Callable[[], FieldParser], distance: int
) -> None:
    async def main() -> RecordingLog:
        log = RecordingLog()
        context = serving_context(app, log=log, field_parser=parser())
        for case in ENTRIES[entry]:
            for pieces in ways(case.data, distance):
                await check(case, context, pieces)
        context.clock.stop()
        return log

    log = run(main())
    assert [line for line in log.of("error") if "more refused" not in line] == []
