"""Generated conversations: what holds for every client, however hostile, and however its bytes are cut.

* What the application sees is exactly what was sent, request by request: no byte of one becomes part of another.
* Behind a refusal nothing is served, and what was refused has not been served either.
* Both parsers give the same answers, and so do all cuts.
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_asgi.settings import HeadLimits, Settings
from gunicorn_asgi.wire.http1_h11 import H11FieldParser
from gunicorn_asgi.wire.http1_httptools import HttptoolsFieldParser
from gunicorn_asgi.wire.http1_request import FieldParser
from tests.connection.serving import run, serving_context
from tests.integration.apps.mirror import app as mirror
from tests.support.conversation import answers, converse, let_go

Answers = list[tuple[int, str]]


@dataclass(frozen=True)
class Sent:
    """A valid request, and what the application must see of it."""

    data: bytes
    seen: dict[str, Any]


TOKEN = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=12)
TARGET = st.text("".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#"), max_size=20)
VALUE = st.text("".join(map(chr, [9, *range(0x20, 0x7F), *range(0x80, 0x100)])), max_size=20).map(
    lambda value: value.strip(" \t")
)
SPACE = st.sampled_from(["", " ", "\t", "  "])
FRAMING_OR_ORIGIN = {
    "host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "te", "proxy-connection"
}  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    method = draw(st.one_of(st.sampled_from(["GET", "POST", "PUT"]), TOKEN.filter(lambda name: name != "CONNECT")))
    target = "/" + draw(TARGET)
    fields = [("host", draw(st.sampled_from(["a", "b:1", "[::1]"])))]
    for name in draw(st.lists(TOKEN.filter(lambda name: name.lower() not in FRAMING_OR_ORIGIN), max_size=3)):
        # Names with an underscore are the business of proxies.
        fields.append((name.replace("_", "-"), draw(VALUE)))
    content = b""
    body = draw(st.sampled_from(["none", "length", "chunked"]))
    pieces = draw(st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.just(b"0\r\n\r\nGET /x")), max_size=3))
    if body == "length":
        content = framed = b"".join(pieces)
        fields.append(("Content-Length", str(len(content))))
    elif body == "chunked":
        content = b"".join(pieces)
        extension = draw(st.sampled_from([b"", b";a", b' ; a="b"']))
        framed = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
        framed += b"0\r\n" + draw(st.sampled_from([b"", b"X-Trailer: a\r\n", b"Host: evil\r\n"])) + b"\r\n"
        fields.append(("Transfer-Encoding", draw(st.sampled_from(["chunked", "Chunked"]))))
    else:
        framed = b""
    lines = "".join(f"{name}:{draw(SPACE)}{value}{draw(SPACE)}\r\n" for name, value in fields)
    head = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
    raw_path, _, query = target.partition("?")
    seen = {
        "method": method,
        "raw_path": raw_path,
        "query": query,
        "headers": [[name.lower(), value] for name, value in fields],
        "body": content.decode("latin-1"),
    }
    return Sent(draw(st.sampled_from([b"", b"", b"\r\n"])) + head + framed, seen)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in pieces, cut at `places`, which are taken modulo its length."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends) if start != end]


PLACES = st.lists(st.integers(0, 10_000), max_size=6)
TIGHT = Settings(head_limits=HeadLimits(request_line_bytes=100, fields=8, field_bytes=100, head_bytes=400))


def all_answers(data: bytes, ways: list[list[int]], limits: Settings | None = None) -> list[Answers]:
    """Those to `data`, for both parsers and each way of cutting."""

    async def main() -> list[Answers]:
        found = []
        parsers: list[Callable[[], FieldParser]] = [HttptoolsFieldParser, H11FieldParser]
        for parser in parsers:
            context = serving_context(mirror, settings=limits, field_parser=parser())
            for places in ways:
                transport = await converse(context, cut(data, places))
                assert transport.misuse == []
                found.append(answers(bytes(transport.received)))
                await let_go(transport)
            context.clock.stop()
        return found

    return run(main())


@settings(max_examples=60)
@given(st.lists(requests(), min_size=1, max_size=4), PLACES)
def test_each_request_is_seen_as_it_was_sent(sent: list[Sent], places: list[int]) -> None:
    data = b"".join(request.data for request in sent)
    every_byte = list(range(len(data)))
    for found in all_answers(data, [[], places, every_byte]):
        assert [status for status, _ in found] == [200] * len(sent)
        assert [json.loads(seen) for _, seen in found] == [request.seen for request in sent]


PIECES = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"\0", b"\x7f", b"\xff", b"0", b"f", b";", b",", b"/", b"#",
    b"\r\nContent-Length: 3", b"\r\nTransfer-Encoding: chunked", b"\r\nHost: b", b"\r\n folded", b"HTTP/1.0",
    b"\r\nConnection: close", b"\r\nUpgrade: h2c", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"0\r\n\r\n", b"a" * 120,
]  # fmt: skip


@settings(max_examples=120)
@given(
    st.lists(requests(), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(PIECES), st.integers(0, 4)), min_size=1, max_size=3),
    PLACES,
    st.booleans(),
)
def test_what_is_broken_is_refused_and_nothing_behind_it_served(
    sent: list[Sent], mutations: list[tuple[int, bytes, int]], places: list[int], tight: bool
) -> None:
    data = b"".join(request.data for request in sent)
    first_touched = len(data)
    for place, piece, removed in mutations:
        position = place % (len(data) + 1)
        first_touched = min(first_touched, position)
        data = data[:position] + piece + data[position + removed :]
    if not data:
        return
    found = all_answers(data, [[], places], TIGHT if tight else None)
    for each in found:
        # A head that breaks several rules may be refused for another one when it comes in pieces.
        assert [(200 if status == 200 else "refused", seen) for status, seen in each] == [
            (200 if status == 200 else "refused", seen) for status, seen in found[0]
        ]
        statuses = [status for status, _ in each]
        assert set(statuses) <= {200, 400, 414, 431, 501, 505}
        assert all(status == 200 for status in statuses[:-1]), "something was served behind a refusal"
        assert all(bool(seen) == (status == 200) for status, seen in each)
        if tight:
            continue
        # What lies whole before the first change is seen as it was sent.
        end = 0
        for number, request in enumerate(sent):
            end += len(request.data)
            if end > first_touched:
                break
            assert json.loads(each[number][1]) == request.seen
