"""The access log: the text of Gunicorn's own logger for the same request, one line each.

The same bytes go through Gunicorn's parser, environ and `Logger.atoms`, and through ours.
"""

import base64
import datetime as dt
import io
import logging
import os
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger, SafeAtoms
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser

from gunicorn_asgi.access_line import AccessRecord, FinishedExchange, compile_format, log_time
from gunicorn_asgi.access_log import (
    SECONDS_BETWEEN_ERRORS,
    LoggerAccessLog,
    PlainStream,
    StreamAccessLog,
    WriteErrors,
)
from gunicorn_asgi.asgi_types import Address
from gunicorn_asgi.errors import SettingsError
from gunicorn_asgi.scope import build_http_scope
from gunicorn_asgi.settings import HeadLimits
from gunicorn_asgi.wire.http1_httptools import HttptoolsFieldParser
from tests.support.heads import read_request_head

CLIENT: Address = ("192.0.2.7", 5678)
SERVER: Address = ("127.0.0.1", 8000)
RESPONSE_HEADERS = [(b"Content-Type", b'text/plain; charset="utf-8"'), (b"content-length", b"12"), (b"X-Empty", b"")]
COMBINED = '%(h)s %(l)s %(u)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'


def request_of(*field_lines: bytes, target: bytes = b"/", method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    request_line = b"%b %b HTTP/%b" % (method, target, version)
    return b"\r\n".join([request_line, b"Host: example.org:8000", *field_lines, b"", b""])


BROWSER = request_of(
    *[b"User-Agent: Mozilla/5.0 (X11)", b"Referer: http://example.org/?a=b", b"Cookie: a=b", b"Accept: */*"],
    *[b"X-Forwarded-For: 203.0.113.1", b"Authorization: Basic dXNlcjpwYXNz", b'X-Quoted: a "b" c\\', b"X-Empty:"],
    *[b"Content-Type: text/html", b"Content-Length: 5"],
    target=b"/a/b?c=d&e=%20",
    method=b"POST",
)


class Exchange:
    """A request and its response, as Gunicorn's worker and as ours see it at the end."""

    def __init__(
        self,
        request: bytes = BROWSER,
        status: int = 200,
        response_headers: list[tuple[bytes, bytes]] = RESPONSE_HEADERS,
        sent_bytes: int = 12,
        microseconds: int = 1_234,
        client: Address | None = CLIENT,
        server: Address = SERVER,
        root_path: str = "",
    ) -> None:
        head = read_request_head(request, HttptoolsFieldParser(), HeadLimits())
        scope = build_http_scope(head.method, *head[2:7], client, server, "http", root_path, {}, {})
        self.record = AccessRecord(
            scope, head.fields, head.method, head.uri, status, response_headers, sent_bytes, root_path
        )
        self.duration_seconds = microseconds / 1_000_000
        self._request = request
        self._status = f"{status} Reason" if status != 299 else "299 "
        self._client = client if client is not None else ""
        self._server = server if server[1] is not None else server[0]
        self._microseconds = microseconds

    def line(self, access_log_format: str) -> str:
        return compile_format(access_log_format)(self.record, self.duration_seconds, log_time())

    def gunicorn_line(self, access_log_format: str, logger: Logger) -> str:
        config = Config()
        request = next(RequestParser(config, iter([self._request]), self._client or ("", 0)))
        response, environ = wsgi.create(request, None, self._client, self._server, config)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.record.response_headers]
        response.start_response(self._status, headers)
        response.sent = self.record.sent_bytes
        duration = dt.timedelta(microseconds=self._microseconds)
        line: str = access_log_format % SafeAtoms(logger.atoms(response, request, environ, duration))
        return line


MakeLogger = Callable[..., Logger]


@pytest.fixture
def make_logger() -> Iterator[MakeLogger]:
    """Gunicorn's logger with the given settings; its handlers are removed again."""

    def make_logger(**config: Any) -> Logger:
        cfg = Config()
        for name, value in config.items():
            cfg.set(name, value)
        return Logger(cfg)

    names = ("gunicorn.error", "gunicorn.access")
    yield make_logger
    for name in names:
        logger = logging.getLogger(name)
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


@pytest.fixture
def logger(make_logger: MakeLogger) -> Logger:
    return make_logger()


# The text of Gunicorn

ATOMS = ["h", "l", "u", "r", "s", "m", "U", "q", "H", "b", "B", "f", "a", "T", "D", "M", "L", "p"]
REQUEST_HEADER_ATOMS = [
    *["{host}i", "{User-Agent}i", "{user-agent}i", "{COOKIE}i", "{x-forwarded-for}i", "{x-quoted}i", "{x-empty}i"],
    *["{content-type}i", "{x-missing}i", "{}i", "{Host}I"],
]
RESPONSE_HEADER_ATOMS = [
    "{content-type}o",
    "{Content-Length}o",
    "{x-empty}o",
    "{x-missing}o",
    "{server}o",
    "{Content-Type}O",
]
ENVIRON_ATOMS = [
    *["{REQUEST_METHOD}e", "{request_method}e", "{RAW_URI}e", "{PATH_INFO}e", "{QUERY_STRING}e", "{SERVER_PROTOCOL}e"],
    *["{REMOTE_ADDR}e", "{REMOTE_PORT}e", "{SERVER_NAME}e", "{SERVER_PORT}e", "{SCRIPT_NAME}e", "{wsgi.url_scheme}e"],
    *["{HTTP_HOST}e", "{HTTP_USER_AGENT}e", "{HTTP_X_QUOTED}e", "{CONTENT_TYPE}e", "{CONTENT_LENGTH}e"],
    *["{HTTP_CONTENT_TYPE}e", "{missing}e"],
]
UNKNOWN_ATOMS = [
    "x",
    "hh",
    "",
    "{host}",
    "host",
    "{host}x",
    "R",
    "{",
    "{i",
    "}i",
    "{\"'\\}i",
    "{\"'\\}e",
    "{\"'\\}o",
    "\"'\\",
]


@pytest.mark.parametrize(
    "atom", [*ATOMS, *REQUEST_HEADER_ATOMS, *RESPONSE_HEADER_ATOMS, *ENVIRON_ATOMS, *UNKNOWN_ATOMS]
)
def test_each_atom_has_gunicorns_text(logger: Logger, atom: str) -> None:
    exchange = Exchange()
    access_log_format = f"<%({atom})s>"
    assert exchange.line(access_log_format) == exchange.gunicorn_line(access_log_format, logger)


@pytest.mark.parametrize(
    "access_log_format",
    [
        *[
            "%(h)15s|",
            "%(h)-15s|",
            "%(s)5s",
            "%(B)010d",
            "%(D)d us",
            "%(T)03d",
            "%(m).2s",
            "%(U)r",
            "%(D)x",
            "%(p)12s|",
        ],
        *["%(missing)4s|", "%({x-missing}i)4s|", "100%% %(s)s", "%%(h)s", "", "plain", "%(s)s%(s)s", "(%(s)s)"],
        *["{scope} {0} %(s)s", "' \" \\ \n %(s)s", "%%%(s)s%%", "%(B)ld", "%(B).1f", "%({user-agent}i)s %(a)s"],
        COMBINED,
    ],
)
def test_each_format_has_gunicorns_text(logger: Logger, access_log_format: str) -> None:
    exchange = Exchange()
    assert exchange.line(access_log_format) == exchange.gunicorn_line(access_log_format, logger)


def test_the_default_format_is_the_combined_log_format(logger: Logger) -> None:
    exchange = Exchange()
    default = Config().access_log_format.replace("%(t)s", "[time]")
    assert exchange.line(default) == exchange.gunicorn_line(default, logger)
    assert exchange.line(default) == (
        '192.0.2.7 - user [time] "POST /a/b?c=d&e=%20 HTTP/1.1" 200 12 "http://example.org/?a=b" "Mozilla/5.0 (X11)"'
    )


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(request_of(), id="no optional fields"),
        pytest.param(request_of(version=b"1.0"), id="HTTP/1.0"),
        pytest.param(request_of(method=b"HEAD"), id="HEAD"),
        pytest.param(request_of(method=b"OPTIONS", target=b"*"), id="asterisk"),
        pytest.param(request_of(target=b"/?a?b"), id="two question marks"),
        pytest.param(request_of(target=b"//a"), id="two slashes"),
        pytest.param(request_of(target=b"/a%20b%25"), id="escapes"),
        pytest.param(request_of(target=b'/"a"?"b"'), id="quotes in the target"),
        pytest.param(request_of(target=b"/a\\b"), id="backslash in the target"),
        pytest.param(request_of(b'User-Agent: "a"', b'Referer: "\\"'), id="quotes in fields"),
        pytest.param(request_of(b"User-Agent: caf\xc3\xa9 \xa0", b"Referer: \xff"), id="non-ASCII fields"),
        pytest.param(request_of(b"User-Agent:", b"Referer:"), id="empty fields"),
        pytest.param(
            request_of(b"User-Agent: a", b"User-Agent: b", b"Referer: a", b"Referer: b"), id="repeated fields"
        ),
        pytest.param(request_of(b"Authorization: basic dXNlcjpwYXNz"), id="user, lower-case scheme"),
        pytest.param(request_of(b"Authorization: Basic  dXNlcg== "), id="user without password"),
        pytest.param(request_of(b"Authorization: Basic w6k6eA=="), id="non-ASCII user"),
        pytest.param(request_of(b"Authorization: Basic ImEiOng="), id="quotes in the user"),
        pytest.param(request_of(b"Authorization: Basic OnBhc3M="), id="empty user"),
        pytest.param(request_of(b"Authorization: Basic /w=="), id="user that is no UTF-8"),
        pytest.param(request_of(b"Authorization: Basic !!!"), id="bad base64"),
        pytest.param(request_of(b"Authorization: Basic abc"), id="bad padding"),
        pytest.param(request_of(b"Authorization: Basic"), id="no credentials"),
        pytest.param(request_of(b"Authorization: Bearer dXNlcjpwYXNz"), id="bearer"),
    ],
)
@pytest.mark.parametrize("atom", [*"urmUqHfa", "{user-agent}i", "{RAW_URI}e", "{PATH_INFO}e", "{HTTP_USER_AGENT}e"])
def test_each_request_has_gunicorns_text(logger: Logger, request_bytes: bytes, atom: str) -> None:
    exchange = Exchange(request_bytes)
    access_log_format = f'"%({atom})s"'
    assert exchange.line(access_log_format) == exchange.gunicorn_line(access_log_format, logger)


@pytest.mark.parametrize(
    "target", [pytest.param(b"/a?", id="empty query"), pytest.param(b"http://example.org/a?b", id="absolute target")]
)
def test_the_target_is_shown_as_it_came(logger: Logger, target: bytes) -> None:
    """The scope does not tell it: ASGI has no place for a lone `?`, nor for the authority in a target."""
    exchange = Exchange(request_of(target=target))
    assert exchange.line("%(r)s") == f"GET {target.decode()} HTTP/1.1"
    everything = "%(r)s %(m)s %(U)s %(q)s %(H)s %({PATH_INFO}e)s %({RAW_URI}e)s"
    assert exchange.line(everything) == exchange.gunicorn_line(everything, logger)


def test_the_path_is_shown_as_latin_1(logger: Logger) -> None:
    """PEP 3333 wants that of an environ, and so Gunicorn logs `/cafÃ©`."""
    exchange = Exchange(request_of(target=b"/caf%C3%A9"))
    assert exchange.line("%(U)s %({PATH_INFO}e)s") == "/cafÃ© /cafÃ©"
    everything = "%(U)s %({PATH_INFO}e)s %(r)s %({RAW_URI}e)s"
    assert exchange.line(everything) == exchange.gunicorn_line(everything, logger)


@pytest.mark.parametrize(
    ("root_path", "target", "path_info"),
    [
        ("", b"/static/a", "/static/a"),
        ("/app", b"/app/static/a", "/static/a"),
        ("/app", b"/static/a", "/static/a"),
        ("/app", b"/app", ""),
        ("/app", b"/app/", "/"),
        ("/app", b"/application", "/application"),
        ("/caf\xe9", b"/x", "/x"),
    ],
)
@pytest.mark.parametrize("mounted", ["", "/static"])
def test_the_path_is_without_the_root_path_of_the_proxy(
    root_path: str, target: bytes, path_info: str, mounted: str
) -> None:
    """And with the path of a mount, which Starlette writes into `root_path` of our scope."""
    exchange = Exchange(request_of(target=target), root_path=root_path)
    exchange.record.scope["root_path"] += mounted
    script_name = root_path.encode().decode("latin-1")
    assert exchange.line("%(U)s|%({PATH_INFO}e)s|%({SCRIPT_NAME}e)s") == f"{path_info}|{path_info}|{script_name}"


@pytest.mark.parametrize("status", [200, 204, 299, 304, 404, 500, 599])
@pytest.mark.parametrize("sent_bytes", [0, 1, 10**12])
def test_each_response_has_gunicorns_text(logger: Logger, status: int, sent_bytes: int) -> None:
    exchange = Exchange(status=status, sent_bytes=sent_bytes, response_headers=[])
    access_log_format = "%(s)s %(b)s %(B)s %({content-length}o)s"
    assert exchange.line(access_log_format) == exchange.gunicorn_line(access_log_format, logger)


@pytest.mark.parametrize(
    "response_headers",
    [
        pytest.param([(b"Set-Cookie", b"a"), (b"set-cookie", b"b")], id="repeated"),
        pytest.param([(b"set-cookie", b'"a"')], id="quotes"),
        pytest.param([(b"set-cookie", b"\xe9")], id="non-ASCII"),
        pytest.param([(b"set-cookie", b" a\t")], id="white space"),
        pytest.param([(b"Connection", b"close"), (b"transfer-encoding", b"chunked")], id="never sent as they are"),
        pytest.param([(b"server", b"a"), (b"Date", b"b")], id="sent by Gunicorn itself"),
    ],
)
@pytest.mark.parametrize(
    "atom", ["{set-cookie}o", "{Set-Cookie}o", "{connection}o", "{transfer-encoding}o", "{server}o", "{date}o"]
)
def test_each_response_header_has_gunicorns_text(
    logger: Logger, response_headers: list[tuple[bytes, bytes]], atom: str
) -> None:
    exchange = Exchange(response_headers=response_headers)
    access_log_format = f"%({atom})s"
    assert exchange.line(access_log_format) == exchange.gunicorn_line(access_log_format, logger)


@pytest.mark.parametrize(
    "microseconds",
    [0, 1, 999, 1_000, 1_999, 290_000, 999_999, 1_000_000, 1_001_001, 1_000_009, 4_035_001, 59_999_999, 86_399_999_999],
)
def test_each_duration_has_gunicorns_text(logger: Logger, microseconds: int) -> None:
    exchange = Exchange(microseconds=microseconds)
    access_log_format = "%(T)s %(D)s %(M)s %(L)s"
    assert exchange.line(access_log_format) == exchange.gunicorn_line(access_log_format, logger)


def test_a_duration_of_more_than_a_day_is_whole() -> None:
    """Gunicorn leaves the days out."""
    exchange = Exchange(microseconds=86_400_000_000 + 1_002_003)
    assert exchange.line("%(T)s %(D)s %(M)s %(L)s") == "86401 86401002003 86401002 86401.002003"


@pytest.mark.parametrize(
    "request_bytes",
    [
        request_of(),
        BROWSER.replace(b":8000", b""),
        BROWSER.replace(b":8000", b":"),
        BROWSER.replace(b":8000", b":" + b"9" * 5000),
        b"GET / HTTP/1.0\r\n\r\n",
    ],
    ids=["port", "no port", "empty port", "very long port", "no host"],
)
def test_a_server_on_a_unix_socket_has_gunicorns_text(logger: Logger, request_bytes: bytes) -> None:
    exchange = Exchange(request_bytes, server=("/run/app.sock", None))
    access_log_format = "<%({SERVER_NAME}e)s %({SERVER_PORT}e)s>"
    assert exchange.line(access_log_format) == exchange.gunicorn_line(access_log_format, logger)


@pytest.mark.parametrize(("host", "port"), [(b"[::1]", "80"), (b"[::1]:8000", "8000")])
def test_a_server_on_a_unix_socket_that_the_client_calls_by_an_ipv6_address(host: bytes, port: str) -> None:
    """Gunicorn splits it at its first colon."""
    exchange = Exchange(request_of().replace(b"example.org:8000", host), server=("/run/app.sock", None))
    assert exchange.line("%({SERVER_NAME}e)s %({SERVER_PORT}e)s") == f"[::1] {port}"


def test_a_client_on_a_unix_socket_has_gunicorns_text(logger: Logger) -> None:
    exchange = Exchange(client=None)
    assert exchange.line("<%(h)s>") == exchange.gunicorn_line("<%(h)s>", logger) == "<>"


def test_the_time_is_gunicorns_time(logger: Logger) -> None:
    line = compile_format("%(t)s")
    record = Exchange().record
    while True:
        before, ours, after = logger.now(), line(record, 0.0, log_time()), logger.now()
        if before == after:
            break
    assert ours == before


def test_the_process_is_the_one_that_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    line = compile_format("%(p)s")  # As in Gunicorn's master, before it forks.
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    assert line(Exchange().record, 0.0, log_time()) == "<4711>"


def test_a_compiled_format_keeps_nothing_of_a_record() -> None:
    line = compile_format("%(r)s %({x}i)s")
    first, second = Exchange(request_of(b"X: 1", target=b"/1")), Exchange(request_of(target=b"/2"))
    assert [line(exchange.record, 0.0, log_time()) for exchange in (first, second, first)] == [
        *("GET /1 HTTP/1.1 1", "GET /2 HTTP/1.1 -", "GET /1 HTTP/1.1 1"),
    ]


# One line a request


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (b"/a%0Ab", "/a\\nb"),
        (b"/a%0D%0Ab", "/a\\r\\nb"),
        (b"/a%09b", "/a\\tb"),
        (b"/%00%1b%7f", "/\\x00\\x1b\\x7f"),
        (b"/%C2%85", "/Â\\x85"),
        (b"/%C2%9b31m", "/Â\\x9b31m"),
        (b"/%0b%0c%1c%1d%1e", "/\\x0b\\x0c\\x1c\\x1d\\x1e"),
        (b"/%E2%80%A8%E2%80%A9", "/â\\x80¨â\\x80©"),
    ],
)
def test_control_characters_of_the_path_are_escaped(target: bytes, text: str) -> None:
    assert Exchange(request_of(target=target)).line("%(U)s") == text
    assert Exchange(request_of(target=target)).line("%({PATH_INFO}e)s") == text


HOSTILE = request_of(
    *[b"User-Agent: a\tb\x85c", b"Referer: \x9b", b"Authorization: Basic YQpiOmM=", b"X: a\t\x80"],
    target=b"/a%0Ab%C2%85c%1Ed%E2%80%A8e?f",
)


BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize("character", [*BIDIRECTIONAL, "\u200b", "\u2028", "\u2029", "\ufeff", "\x85", "\x1b", "\x7f"])
def test_what_cannot_be_seen_in_a_user_name_is_escaped(character: str) -> None:
    """Only there can it be: everything else is shown as Latin-1, as in Gunicorn."""
    credentials = base64.b64encode(f"a{character}b:secret".encode())
    shown = Exchange(request_of(b"Authorization: Basic " + credentials)).line("%(u)s")
    number = ord(character)
    assert shown == (f"a\\x{number:02x}b" if number < 256 else f"a\\u{number:04x}b")


def test_a_format_is_compiled_once() -> None:
    assert compile_format(COMBINED) is compile_format(COMBINED)


def test_every_request_is_one_line_whatever_it_holds() -> None:
    atoms = [*ATOMS, "t", "{x}i", "{x}o", "{PATH_INFO}e", "{HTTP_X}e", "{HTTP_USER_AGENT}e"]
    exchange = Exchange(HOSTILE, response_headers=[(b"x", b"a\tb\x85")], client=("fe80::1%\n", 1))
    line = exchange.line(" ".join(f"%({atom})s" for atom in atoms))
    assert [character for character in line if unicodedata.category(character) == "Cc"] == []
    assert line.splitlines() == [line]


def test_a_quote_never_ends_a_quoted_atom() -> None:
    request = request_of(b'User-Agent: "', b'Referer: "', b"Authorization: Basic Ijp4", target=b'/"?"')
    exchange = Exchange(request, client=('fe80::1%"', 1), response_headers=[(b"x", b'"')])
    line = exchange.line("%(h)s %(u)s %(r)s %(U)s %(q)s %(f)s %(a)s %({referer}i)s %({x}o)s %({RAW_URI}e)s")
    assert line.count('"') == line.count('\\"') == 12


# Straight to the stream


class Loop:
    """Stands for an event loop: keeps what was scheduled until it is run."""

    def __init__(self) -> None:
        self.scheduled: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.scheduled.append(callback)

    def turn(self) -> None:
        scheduled, self.scheduled = self.scheduled, []
        for callback in scheduled:
            callback()


class CountingStream(io.StringIO):
    """Counts what would be system calls."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.flushes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)

    def flush(self) -> None:
        self.flushes += 1
        super().flush()


def paths(log: StreamAccessLog, *targets: bytes) -> None:
    for target in targets:
        log.write(Exchange(request_of(target=target)).record, 0.0)


def test_lines_are_written_and_flushed_once_a_loop_turn() -> None:
    loop, stream, errors = Loop(), CountingStream(), list[Exception]()
    log = StreamAccessLog("%(U)s", lambda: stream, loop.call_soon, errors.append)
    paths(log, b"/1", b"/2", b"/3")
    assert (stream.writes, len(loop.scheduled)) == (0, 1)
    loop.turn()
    assert stream.getvalue() == "/1\n/2\n/3\n"
    assert (stream.writes, stream.flushes, loop.scheduled) == (1, 1, [])
    paths(log, b"/4")
    loop.turn()
    assert stream.getvalue() == "/1\n/2\n/3\n/4\n"
    assert errors == []


def test_a_flush_in_between_loses_and_repeats_nothing() -> None:
    loop, stream, errors = Loop(), CountingStream(), list[Exception]()
    log = StreamAccessLog("%(U)s", lambda: stream, loop.call_soon, errors.append)
    log.flush()
    assert stream.writes == 0
    paths(log, b"/1")
    log.flush()
    paths(log, b"/2")
    loop.turn()
    loop.turn()
    assert stream.getvalue() == "/1\n/2\n"


def test_a_reopened_stream_gets_the_next_lines() -> None:
    loop, errors = Loop(), list[Exception]()
    streams = [io.StringIO(), io.StringIO()]
    log = StreamAccessLog("%(U)s", lambda: streams[-1], loop.call_soon, errors.append)
    paths(log, b"/1")
    loop.turn()
    streams.reverse()
    paths(log, b"/2")
    loop.turn()
    assert [stream.getvalue() for stream in streams] == ["/1\n", "/2\n"]


class FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_stream_that_fails_is_reported_and_the_next_lines_are_written() -> None:
    loop, errors = Loop(), list[Exception]()
    closed, stream = io.StringIO(), io.StringIO()
    closed.close()
    streams: list[io.StringIO] = [FullDisk(), closed, stream]
    log = StreamAccessLog("%(U)s", lambda: streams.pop(0), loop.call_soon, errors.append)
    for target in (b"/1", b"/2", b"/3"):
        paths(log, target)
        loop.turn()
    assert [type(error) for error in errors] == [OSError, ValueError]
    assert stream.getvalue() == "/3\n"


def test_a_line_that_the_stream_cannot_encode_takes_no_other_line_with_it() -> None:
    loop, errors, raw = Loop(), list[Exception](), io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    log = StreamAccessLog("%(a)s", lambda: stream, loop.call_soon, errors.append)
    for user_agent in (b"first", b"\xe9", b"last"):
        log.write(Exchange(request_of(b"User-Agent: " + user_agent)).record, 0.0)
    loop.turn()
    assert raw.getvalue().splitlines() == [b"first", b"\\xe9", b"last"]
    assert errors == []


def test_texts_are_right_for_more_values_than_any_cache_holds() -> None:
    line = compile_format("%(a)s")
    for number in [*range(2000), *range(10)]:
        exchange = Exchange(request_of(b'User-Agent: "%d"' % number))
        assert line(exchange.record, 0.0, log_time()) == f'\\"{number}\\"'


def test_a_scope_that_the_application_broke_is_reported_and_the_next_line_is_written() -> None:
    loop, stream, errors = Loop(), io.StringIO(), list[Exception]()
    log = StreamAccessLog("%(U)s", lambda: stream, loop.call_soon, errors.append)
    broken = Exchange().record
    broken.scope.clear()  # type: ignore[attr-defined]  # What an application may do, a TypedDict may not.
    log.write(broken, 0.0)
    paths(log, b"/2")
    loop.turn()
    assert [type(error) for error in errors] == [KeyError]
    assert stream.getvalue() == "/2\n"


BAD_FORMATS = [
    "100%",
    "%(h)",
    "%(h",
    "%(h)d",
    "%(h)x",
    "%d",
    "%s",
    "%(h)s %s",
    "%(h)s 5 % done",
    "%(a)c",
    "%(s)",
    "%(s)y",
]


@pytest.mark.parametrize("access_log_format", BAD_FORMATS)
def test_a_format_that_cannot_be_filled_in_is_refused_at_boot(access_log_format: str) -> None:
    with pytest.raises(SettingsError) as error:
        compile_format(access_log_format)
    assert "access_log_format" in str(error.value)
    assert repr(access_log_format) in str(error.value)


# Where the stream is no longer plain


class PlainLogger:
    """A logger with one plain handler, as Gunicorn makes it, and an access log straight to its stream."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.logger = logging.getLogger("tests.plain")
        self.logger.handlers.clear()
        self.logger.filters.clear()
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = self.logger.disabled = False
        self.handler: logging.StreamHandler[TextIO] = logging.StreamHandler(self.stream)
        self.handler.setFormatter(logging.Formatter("%(message)s"))
        self.logger.addHandler(self.handler)
        self.otherwise: list[int] = []
        self.loop, self.errors = Loop(), list[Exception]()
        self.log = StreamAccessLog(
            "%(s)s", PlainStream(self.logger, self.handler), self.loop.call_soon, self.errors.append, self
        )

    def write(self, exchange: FinishedExchange, duration_seconds: float) -> None:
        """The access log that is used where the stream is not."""
        self.otherwise.append(exchange.status)

    def answer(self, *statuses: int) -> None:
        for status in statuses:
            self.log.write(Exchange(status=status).record, 0.0)


class Refuse(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return False


CHANGES: list[Callable[[PlainLogger], object]] = [
    lambda plain: plain.logger.addHandler(logging.NullHandler()),
    lambda plain: plain.logger.addFilter(Refuse()),
    lambda plain: plain.logger.removeHandler(plain.handler),
    lambda plain: plain.logger.setLevel(logging.WARNING),
    lambda plain: setattr(plain.logger, "propagate", True),
    lambda plain: setattr(plain.logger, "disabled", True),
    lambda plain: plain.handler.addFilter(Refuse()),
    lambda plain: plain.handler.setLevel(logging.DEBUG),
    lambda plain: plain.handler.setFormatter(logging.Formatter("JSON %(message)s")),
    lambda plain: setattr(plain.handler, "terminator", ""),
]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_attached_later_gets_the_lines(change: Callable[[PlainLogger], object]) -> None:
    plain = PlainLogger()
    plain.answer(200, 201)
    plain.loop.turn()
    assert (plain.stream.getvalue(), plain.otherwise) == ("200\n201\n", [])
    plain.answer(202)
    change(plain)
    plain.loop.turn()
    plain.answer(203, 204)
    plain.loop.turn()
    assert plain.stream.getvalue() == "200\n201\n202\n", "a line that was made before is not lost"
    assert plain.otherwise == [203, 204]
    assert plain.errors == []


def test_what_is_taken_away_again_leaves_the_stream_plain() -> None:
    plain, refuse = PlainLogger(), Refuse()
    plain.logger.addFilter(refuse)
    plain.answer(200)
    plain.logger.removeFilter(refuse)
    plain.answer(201)
    plain.loop.turn()
    assert (plain.stream.getvalue(), plain.otherwise) == ("201\n", [200])


def test_a_stream_that_never_works_is_reported_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    said: list[str] = []
    report = WriteErrors(lambda message, *arguments: said.append(message % arguments))
    for _ in range(50):
        report(OSError(28, "No space left on device"))
    assert len(said) == 1
    assert "No space left on device" in said[0]
    now += SECONDS_BETWEEN_ERRORS
    report(OSError(28, "No space left on device"))
    report(OSError(28, "No space left on device"))
    assert len(said) == 2
    assert "49 more times" in said[1]


# Through a logger


class Recorder:
    """A logger class of a user that keeps what it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        self.calls.append((resp, req, environ, request_time))


def test_a_logger_gets_the_objects_that_gunicorn_documents() -> None:
    logger, errors = Recorder(), list[Exception]()
    LoggerAccessLog(logger, errors.append).write(Exchange(status=404).record, 1.5)
    [(response, request, environ, duration)] = logger.calls
    assert response.status == "404 Not Found"
    assert (response.status_code, response.sent, response.headers_sent) == (404, 12, True)
    assert response.headers == [(name.decode(), value.decode()) for name, value in RESPONSE_HEADERS]
    assert (request.method, request.path, request.query, request.version) == ("POST", "/a/b", "c=d&e=%20", (1, 1))
    assert request.uri == "/a/b?c=d&e=%20"
    assert ("USER-AGENT", "Mozilla/5.0 (X11)") in request.headers
    assert environ["REQUEST_METHOD"] == "POST"
    assert environ["RAW_URI"] == "/a/b?c=d&e=%20"
    assert environ["REMOTE_ADDR"] == "192.0.2.7"
    assert environ["HTTP_X_FORWARDED_FOR"] == "203.0.113.1"
    assert duration == dt.timedelta(seconds=1.5)
    assert errors == []


def test_a_logger_that_raises_is_reported_and_not_raised() -> None:
    class Broken(Recorder):
        def access(self, *arguments: Any) -> None:
            super().access(*arguments)
            raise KeyError("boom")

    errors = list[Exception]()
    LoggerAccessLog(Broken(), errors.append).write(Exchange().record, 0.0)
    assert [type(error) for error in errors] == [KeyError]


@pytest.mark.parametrize(
    "exchange",
    [
        pytest.param(Exchange(), id="browser"),
        pytest.param(Exchange(request_of(), status=299, response_headers=[], sent_bytes=0), id="bare"),
        pytest.param(Exchange(client=None), id="unix socket"),
        pytest.param(Exchange(request_of(b"Authorization: Basic ImEiOng=", target=b'/"?"')), id="quotes"),
        pytest.param(
            Exchange(request_of(b"User-Agent: a", b"User-Agent: b", b"Referer: a", b"Referer: b")), id="repeated"
        ),
        pytest.param(
            Exchange(HOSTILE, response_headers=[(b"content-type", b"a\tb\x85")], client=("fe80::1%\n", 1)),
            id="control characters",
        ),
        pytest.param(Exchange(microseconds=1_001_001), id="duration"),
    ],
)
def test_both_ways_write_the_same_text(make_logger: MakeLogger, tmp_path: Path, exchange: Exchange) -> None:
    access_log_format = " ".join(
        f'"%({atom})s"'
        for atom in [*ATOMS, "{user-agent}i", "{authorization}i", "{content-type}o", "{PATH_INFO}e", *ENVIRON_ATOMS]
    )
    path = tmp_path / "access.log"
    logger = make_logger(accesslog=str(path), access_log_format=access_log_format)
    errors = list[Exception]()
    LoggerAccessLog(logger, errors.append).write(exchange.record, exchange.duration_seconds)
    loop, stream = Loop(), io.StringIO(newline="")
    StreamAccessLog(access_log_format, lambda: stream, loop.call_soon, errors.append).write(
        exchange.record, exchange.duration_seconds
    )
    loop.turn()
    with path.open(newline="", encoding="utf-8") as file:
        assert stream.getvalue() == file.read()
    assert errors == []


def test_both_ways_round_a_duration_alike(make_logger: MakeLogger, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    logger = make_logger(accesslog=str(path), access_log_format="%(D)s")
    record = Exchange().record
    for duration in (0.0012345678, 0.0012345, 0.0012349999, 0.9999999):
        LoggerAccessLog(logger, list[Exception]().append).write(record, duration)
        assert path.read_text().split()[-1] == compile_format("%(D)s")(record, duration, "")
