"""Fuzzes a connection of HTTP/1 until told to stop: `make fuzz`, or

    python -m tests.fuzz.http1 httptools|h11 [libFuzzer options, such as -max_total_time=600]

It starts with the corpus of the tests. What has to hold for whatever comes is in `check`. An input that breaks it is
left in a file named `crash-...`, which can be given as the last argument to run it again.
"""

import sys
import tempfile
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["gunicorn_asgi", "h11"]):
    from gunicorn_asgi.connection.context import ServingContext
    from gunicorn_asgi.wire.http1_h11 import H11FieldParser
    from gunicorn_asgi.wire.http1_httptools import HttptoolsFieldParser

import asyncio
import json

from tests.connection.serving import RecordingLog, serving_context
from tests.integration.apps.mirror import app as mirror
from tests.support.conversation import answers, converse, let_go
from tests.support.corpus import read_corpus

# The last three are answers to handshakes of WebSockets.
STATUSES: Final = {200, 400, 414, 431, 501, 505, 403, 405, 426}


def kinds(found: list[tuple[int, str]]) -> list[tuple[bool, str]]:
    """Answers without the reason of a refusal, which depends on what is seen first when a head comes in pieces."""
    return [(status == 200, seen) for status, seen in found]


async def check(context: ServingContext, log: RecordingLog, data: bytes) -> None:
    """Send `data` behind its first two bytes whole and cut where these say, and look at all that can be seen."""
    place, stream = int.from_bytes(data[:2], "big"), data[2:]
    if not stream:
        return
    place %= len(stream)
    results = []
    for pieces in ([stream], [piece for piece in (stream[:place], stream[place:]) if piece]):
        transport = await converse(context, pieces)
        found = answers(bytes(transport.received))
        statuses = [status for status, _ in found]
        assert transport.misuse == [], transport.misuse
        assert set(statuses) <= STATUSES | {100}, statuses
        assert all(status < 400 for status in statuses[:-1]), "something was served behind a refusal"
        position = 0
        for status, seen in found:
            if status != 200:
                continue
            request = json.loads(seen)
            line = f"{request['method']} ".encode()
            position = stream.find(line, position) + len(line)
            assert position >= len(line), "the application has seen a request that nobody sent"
            assert all(0x21 <= ord(character) < 0x7F for character in request["raw_path"] + request["query"])
            assert not any(character in value for _, value in request["headers"] for character in "\r\n\0")
        results.append(kinds(found))
        await let_go(transport)
        assert not context.connections
    assert results[0] == results[1], "where a request is cut changes what becomes of it"
    assert log.of("error") == [], log.of("error")
    log.lines.clear()


def main() -> None:
    codec, *options = sys.argv[1:]
    parser = H11FieldParser() if codec == "h11" else HttptoolsFieldParser()
    loop = asyncio.new_event_loop()
    failures: list[object] = []
    loop.set_exception_handler(lambda _, failure: failures.append(failure))
    log = RecordingLog()

    async def make_context() -> ServingContext:
        return serving_context(mirror, log=log, field_parser=parser)

    context = loop.run_until_complete(make_context())

    def test_one_input(data: bytes) -> None:
        loop.run_until_complete(check(context, log, data))
        assert failures == [], failures

    with tempfile.TemporaryDirectory() as directory:
        for number, case in enumerate(read_corpus()):
            if len(case.data) < 4096:
                (Path(directory) / f"seed-{number}").write_bytes(b"\0\7" + case.data)
        # Inputs that reach something new go into the first directory; it goes away with this process.
        atheris.Setup([sys.argv[0], *options, "-max_len=8192", directory], test_one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
