"""Every request of the corpus over a socket, to both worker classes, each on a connection of its own."""

import re
from collections.abc import Iterator

import pytest
from xprocess import XProcess

from tests.support.conversation import answers
from tests.support.corpus import END, Case, check_answers, read_corpus
from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http1 import Response

CASES = read_corpus()
FILES = sorted({case.name.partition(":")[0] for case in CASES})


@pytest.fixture(scope="module")
def mirror(xprocess: XProcess, worker_class: str) -> Iterator[Gunicorn]:
    """One worker that shows each request as it has seen it."""
    starter = GunicornStarter(xprocess)
    yield starter.start("mirror", "--keep-alive", "30", worker=worker_class)
    starter.end_all()


def received(mirror: Gunicorn, case: Case) -> bytes:
    """All that the server sends. It closes by itself, or because the last request asks for it."""
    with mirror.connect() as connection:
        connection.send(case.data if case.closed else case.data + END.replace(b"Host", b"Connection: close\r\nHost"))
        return connection.read_to_end()


@pytest.mark.parametrize("file", FILES)
def test_the_verdict_over_a_socket(mirror: Gunicorn, file: str) -> None:
    for case in CASES:
        if not case.name.startswith(f"{file}:"):
            continue
        seen = answers(received(mirror, case))
        if not case.closed:
            status, last = seen.pop()
            assert (status, "/the-end-of-the-case" in last) == (200, True), case.name
        check_answers(case, seen)


def test_nothing_of_a_refused_request_is_echoed_or_logged(mirror: Gunicorn) -> None:
    """An answer is one of a few fixed ones, a line in the log one of a few codes."""
    for case in CASES:
        if isinstance(case.answers[0], int):
            answer = received(mirror, case)
            head, end, content = answer.partition(b"\r\n\r\n")
            response = Response(head + end, content, content)
            assert [name for name, _ in response.fields] == [
                b"date",
                b"server",
                b"content-type",
                b"content-length",
                b"connection",
            ]
            assert content == head.split(b"\r\n")[0][13:]
    lines = [line.partition("] [")[2] for line in mirror.log.splitlines() if "[WARNING]" in line]
    allowed = (
        r"\d+\] \[WARNING\] (Refused request from 127\.0\.0\.1: [45]\d\d [a-z0-9.-]+|\d+ more refused requests .*)"
    )
    assert lines
    assert [line for line in lines if not re.fullmatch(allowed, line)] == []
    assert "Traceback" not in mirror.log
    assert "[ERROR]" not in mirror.log
