"""What a hostile client sends without end, kind by kind."""

from collections.abc import Iterator
from itertools import repeat
from typing import Final

ENDLESS_BYTES: Final = 25 * 1024 * 1024
"""As good as without end: hundreds of times what may be stored of it."""

HEAD: Final = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED: Final = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

ENDLESS_INPUT: Final[dict[str, tuple[bytes, bytes, int]]] = {
    "method": (b"", b"A", 414),
    "target": (b"GET /", b"a", 414),
    "version": (b"GET / ", b"a", 414),
    "empty lines": (b"", b"\r\n", 400),
    "field name": (HEAD, b"X", 431),
    "field value": (HEAD + b"X: ", b"a", 431),
    "white space": (HEAD + b"X:", b" ", 431),
    "fields": (HEAD, b"X: a\r\n", 431),
    "empty fields": (HEAD, b":\r\n", 431),
    "large fields": (HEAD, b"X: " + b"a" * 4000 + b"\r\n", 431),
    "folded lines": (HEAD + b"X: a\r\n", b" a\r\n", 431),
    "chunk size": (CHUNKED, b"0", 400),
    "chunk extension": (CHUNKED + b"1;", b"a", 400),
    "chunk extensions": (CHUNKED, b"1;" + b"a" * 500 + b"\r\nx\r\n", 400),
    "trailer": (CHUNKED + b"0\r\nX: ", b"a", 431),
    "trailers": (CHUNKED + b"0\r\n", b"X: a\r\n", 431),
}
"""Its beginning, what is repeated, and the status of the refusal."""


def endless(kind: str, size: int) -> Iterator[bytes]:
    """The beginning, then more of the same in pieces of about `size` bytes."""
    beginning, more, _ = ENDLESS_INPUT[kind]
    yield beginning + more
    yield from repeat(more * (size // len(more) or 1), ENDLESS_BYTES // size)
