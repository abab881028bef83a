"""httptools and h11 side by side: whatever the field lines, both give the same fields or refuse with the same status.

There is no list of exceptions here. Where the libraries differ, `gunicorn_asgi/wire/http1_httptools.py` and
`http1_h11.py` settle it; what each of them would do alone is at the end of this file, so that the reasons are known.
"""

from collections.abc import Callable

import h11
import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gunicorn_asgi.asgi_types import Field
from gunicorn_asgi.errors import RemoteProtocolError
from gunicorn_asgi.wire.headers import parse_field_lines
from gunicorn_asgi.wire.http1_h11 import H11FieldParser
from gunicorn_asgi.wire.http1_httptools import HttptoolsFieldParser
from gunicorn_asgi.wire.http1_request import FieldParser
from tests.support.corpus import read_corpus


def outcome(parse: Callable[[bytes], list[Field]], lines: bytes) -> list[Field] | int:
    """The fields, or the status of the refusal."""
    try:
        return parse(lines)
    except RemoteProtocolError as error:
        return error.status


def check_agreement(lines: bytes) -> None:
    """Both parsers do what the grammar says, also behind a head that they refused."""
    expected = outcome(parse_field_lines, lines)
    for parser in (HttptoolsFieldParser(), H11FieldParser()):
        assert outcome(parser.parse, lines) == expected, type(parser).__name__
        parser.reset()
        assert parser.parse(b"HTTP/1.1\r\nhost: a\r\n\r\n") == [(b"host", b"a")]


def test_the_parsers_agree_on_the_corpus() -> None:
    for case in read_corpus():
        head, end, _ = case.data.partition(b"\r\n\r\n")
        _, crlf, lines = head.partition(b"\r\n")
        if crlf and end:
            check_agreement(b"HTTP/1.1\r\n" + lines + end)


FIELD_BYTES = st.lists(
    st.sampled_from(
        [bytes([byte]) for byte in range(256)]
        + [b": ", b":", b"\r\n", b"\r\n ", b"\r\n\t", b"\n", b"\r", b" ", b"\t", b",", b"X", b"a" * 50]
        + [b"\r\nHost: a", b"\r\nContent-Length: 5", b"\r\nTransfer-Encoding: chunked", b"\r\nConnection: close"]
        + [b"\r\nConnection: upgrade\r\nUpgrade: h2c", b"\r\nTE: trailers", b"\r\nProxy-Connection: close"]
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=400)
@given(FIELD_BYTES)
@example(b"\r\nContent-Length: 1, 1")
@example(b"\r\nContent-Length: 1\r\nContent-Length: 1")
@example(b"\r\nTransfer-Encoding: Chunked\r\nTransfer-Encoding: chunked")
@example(b"\r\nTransfer-Encoding: chunked\t")
@example(b"\r\nConnection: upgrade\r\nUpgrade: a\r\nTransfer-Encoding: gzip\r\nX: y")
def test_the_parsers_agree_on_whatever_comes(data: bytes) -> None:
    lines = b"HTTP/1.1\r\nA: b" + data
    # A head ends with its first empty line.
    check_agreement(lines[: (lines + b"\r\n\r\n").find(b"\r\n\r\n")] + b"\r\n\r\n")


# Where the libraries differ, and from which rule


class Plain:
    """Fields as httptools gives them, without any of our care."""

    def __init__(self) -> None:
        self.fields: list[Field] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))


def by_httptools(lines: bytes) -> list[Field] | None:
    receiver = Plain()
    try:
        httptools.HttpRequestParser(receiver).feed_data(b"GET / " + lines)
    except httptools.HttpParserError:
        return None
    return receiver.fields


def by_h11(lines: bytes) -> list[Field] | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET / HTTP/1.0" + lines[8:])
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    assert isinstance(event, h11.Request)
    return list(event.headers)


REFUSED = None
Library = Callable[[bytes], list[Field] | None]


@pytest.mark.parametrize(
    ("library", "line", "alone", "rule", "parser"),
    [
        pytest.param(*difference[1:], id=difference[0])
        for difference in [
            (
                "llhttp wants transfer codings to be known",
                by_httptools,
                b"Transfer-Encoding: gzip",
                REFUSED,
                [(b"transfer-encoding", b"gzip")],
                HttptoolsFieldParser,
            ),
            (
                "llhttp leaves white space at the end",
                by_httptools,
                b"X: a \t",
                [(b"x", b"a \t")],
                [(b"x", b"a")],
                HttptoolsFieldParser,
            ),
            (
                "h11 wants transfer codings to be chunked",
                by_h11,
                b"Transfer-Encoding: gzip",
                REFUSED,
                [(b"transfer-encoding", b"gzip")],
                H11FieldParser,
            ),
            (
                "h11 makes one length of a list",
                by_h11,
                b"Content-Length: 1, 1",
                [(b"content-length", b"1")],
                [(b"content-length", b"1, 1")],
                H11FieldParser,
            ),
            (
                "h11 drops a repeated length",
                by_h11,
                b"Content-Length: 1\r\nContent-Length: 1",
                [(b"content-length", b"1")],
                [(b"content-length", b"1"), (b"content-length", b"1")],
                H11FieldParser,
            ),
            ("h11 unfolds", by_h11, b"X: a\r\n b", [(b"x", b"a b")], 400, H11FieldParser),
            ("h11 takes a bare LF", by_h11, b"X: a\nY: b", [(b"x", b"a"), (b"y", b"b")], 400, H11FieldParser),
            ("h11 takes control characters", by_h11, b"X: a\x01b\x7f", [(b"x", b"a\x01b\x7f")], 400, H11FieldParser),
        ]
    ],
)
def test_a_library_alone_differs_and_the_parser_around_it_does_not(
    library: Library,
    line: bytes,
    alone: list[Field] | None,
    rule: list[Field] | int,
    parser: Callable[[], FieldParser],
) -> None:
    lines = b"HTTP/1.1\r\n" + line + b"\r\n\r\n"
    assert library(lines) == alone
    assert outcome(parse_field_lines, lines) == rule
    assert outcome(parser().parse, lines) == rule
