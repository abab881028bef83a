"""The access log: Gunicorn's format compiled once, the text that its gthread worker writes for the same request.

Two ways lead to the log. `StreamAccessLog` writes finished lines straight to the stream of Gunicorn's one plain handler
and flushes once a loop turn, because `Logger.access` costs 17 us a line and this 1 us. `LoggerAccessLog` calls the
logger's own `access()` with the objects that it documents, for every logger, handler, filter or formatter of a user.
"""

import base64
import binascii
import datetime
import os
import re
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TextIO

from .asgi_types import HTTPScope
from .wire.http1_response import STATUS_LINES

_ATOM: Final = re.compile(r"%%|%\((?P<name>[^)]*)\)(?P<spec>[-#0 +]*[0-9]*(?:\.[0-9]+)?[sdrfxioa])")
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_ESCAPES: Final = str.maketrans({**_CONTROL, ord('"'): '\\"', ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"})


class AccessRecord:
    """One finished exchange, as the log sees it."""

    __slots__ = ("duration_seconds", "response_headers", "scope", "sent_bytes", "status")

    def __init__(
        self,
        scope: HTTPScope,
        status: int,
        response_headers: list[tuple[bytes, bytes]],
        sent_bytes: int,
        duration_seconds: float,
    ) -> None:
        self.scope = scope
        self.status = status
        self.response_headers = response_headers
        """What the application sent, in its order."""
        self.sent_bytes = sent_bytes
        """Content without framing."""
        self.duration_seconds = duration_seconds


class AccessLog(Protocol):
    """Where finished exchanges go."""

    def write(self, record: AccessRecord) -> None: ...


class GunicornLogger(Protocol):
    """The part of a Gunicorn logger that an access log needs."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None: ...


_Atom = Callable[[AccessRecord], object]


def _escape(text: str) -> str:
    return text if text.isprintable() and '"' not in text else text.translate(_ESCAPES)


def _header(name: bytes) -> _Atom:
    def atom(record: AccessRecord) -> str:
        for field_name, value in reversed(record.scope["headers"]):
            if field_name == name:
                return _escape(value.decode("latin-1"))
        return "-"

    return atom


def _response_header(name: bytes) -> _Atom:
    def atom(record: AccessRecord) -> str:
        for field_name, value in reversed(record.response_headers):
            if field_name.lower() == name:
                return _escape(value.decode("latin-1"))
        return "-"

    return atom


def _environ(name: str) -> _Atom:
    def atom(record: AccessRecord) -> object:
        for key, value in _RecordView(record).environ.items():
            if key.lower() == name:
                return _escape(value)
        return "-"

    return atom


def _remote_address(record: AccessRecord) -> str:
    client = record.scope["client"]
    return client[0] if client is not None else ""


def _protocol(record: AccessRecord) -> str:
    return "HTTP/" + record.scope["http_version"]


def _uri(scope: HTTPScope) -> str:
    uri = scope["raw_path"].decode("latin-1")
    query = scope["query_string"]
    return f"{uri}?{query.decode('latin-1')}" if query else uri


def _request_line(record: AccessRecord) -> str:
    scope = record.scope
    return _escape(f"{scope['method']} {_uri(scope)} HTTP/{scope['http_version']}")


def _user(record: AccessRecord) -> str:
    """The user name of HTTP Basic authentication (RFC 7617)."""
    for name, value in record.scope["headers"]:
        if name == b"authorization" and value[:6].lower() == b"basic ":
            try:
                user = base64.b64decode(value[6:].strip()).split(b":", 1)[0].decode("utf-8")
            except (binascii.Error, UnicodeDecodeError):
                return "-"
            return _escape(user) or "-"
    return "-"


def _whole_microseconds(record: AccessRecord) -> tuple[int, int]:
    """Seconds and microseconds of the duration, as `timedelta` splits them."""
    return divmod(int(record.duration_seconds * 1_000_000), 1_000_000)


def _seconds(record: AccessRecord) -> int:
    return _whole_microseconds(record)[0]


def _milliseconds(record: AccessRecord) -> int:
    seconds, microseconds = _whole_microseconds(record)
    return seconds * 1000 + microseconds // 1000


def _microseconds(record: AccessRecord) -> int:
    return int(record.duration_seconds * 1_000_000)


def _decimal_seconds(record: AccessRecord) -> str:
    return "%d.%06d" % _whole_microseconds(record)


class _LogTime:
    """The local time in Common Log Format, made once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def __call__(self, record: AccessRecord) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(second))
        return self._text


_ATOMS: Final[dict[str, _Atom]] = {
    "h": _remote_address,
    "u": _user,
    "r": _request_line,
    "s": lambda record: record.status,
    "m": lambda record: _escape(record.scope["method"]),
    "U": lambda record: _escape(record.scope["path"]),
    "q": lambda record: _escape(record.scope["query_string"].decode("latin-1")),
    "H": _protocol,
    "b": lambda record: record.sent_bytes,
    "B": lambda record: record.sent_bytes,
    "f": _header(b"referer"),
    "a": _header(b"user-agent"),
    "T": _seconds,
    "D": _microseconds,
    "M": _milliseconds,
    "L": _decimal_seconds,
}


def compile_format(access_log_format: str) -> Callable[[AccessRecord], str]:
    """Turn Gunicorn's `access_log_format` into a function from record to line, without the line end.

    An atom that Gunicorn does not know becomes `-`, as it does there.
    """
    atoms: list[_Atom] = []

    def place(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return "%%"
        atom: _Atom
        if name.endswith("}i") and name.startswith("{"):
            atom = _header(name[1:-2].lower().encode("latin-1", "replace"))
        elif name.endswith("}o") and name.startswith("{"):
            atom = _response_header(name[1:-2].lower().encode("latin-1", "replace"))
        elif name.endswith("}e") and name.startswith("{"):
            atom = _environ(name[1:-2].lower())
        elif name == "t":
            atom = _LogTime()
        elif name == "p":
            process = f"<{os.getpid()}>"
            return process
        elif name in _ATOMS:
            atom = _ATOMS[name]
        else:
            return "-"
        atoms.append(atom)
        return "%" + match["spec"]

    template = _ATOM.sub(place, access_log_format)
    ready = tuple(atoms)
    return lambda record: template % tuple([atom(record) for atom in ready])


class StreamAccessLog:
    """Writes lines straight to a text stream, flushed once a loop turn.

    `stream` gives the stream anew for each batch, since a handler may replace it when log files are reopened. A stream
    that cannot be written is reported through `on_error`, never to a request.
    """

    __slots__ = ("_call_soon", "_line", "_lines", "_on_error", "_stream")

    def __init__(
        self,
        access_log_format: str,
        stream: Callable[[], TextIO],
        call_soon: Callable[[Callable[[], None]], object],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._line = compile_format(access_log_format)
        self._stream = stream
        self._call_soon = call_soon
        self._on_error = on_error
        self._lines: list[str] = []

    def write(self, record: AccessRecord) -> None:
        if not self._lines:
            self._call_soon(self.flush)
        self._lines.append(self._line(record))

    def flush(self) -> None:
        """Write out what has gathered."""
        if not self._lines:
            return
        self._lines.append("")
        text = "\n".join(self._lines)
        self._lines.clear()
        try:
            stream = self._stream()
            stream.write(text)
            stream.flush()
        except (OSError, ValueError) as error:
            self._on_error(error)


class _RecordView:
    """An `AccessRecord` as the request and response objects that `Logger.access` documents."""

    __slots__ = ("environ", "headers", "response")

    def __init__(self, record: AccessRecord) -> None:
        scope = record.scope
        client = scope["client"]
        self.headers = [(name.decode("latin-1").upper(), value.decode("latin-1")) for name, value in scope["headers"]]
        self.environ: dict[str, str] = {
            "REQUEST_METHOD": scope["method"],
            "RAW_URI": _uri(scope),
            "PATH_INFO": scope["path"],
            "QUERY_STRING": scope["query_string"].decode("latin-1"),
            "SERVER_PROTOCOL": _protocol(record),
            "REMOTE_ADDR": client[0] if client is not None else "",
            "wsgi.url_scheme": scope["scheme"],
        }
        for name, value in self.headers:
            self.environ["HTTP_" + name.replace("-", "_")] = value
        self.response = _ResponseView(record)


class _ResponseView:
    __slots__ = ("headers", "sent", "status")

    def __init__(self, record: AccessRecord) -> None:
        self.status = STATUS_LINES.get(record.status, b"HTTP/1.1 %d" % record.status)[9:].strip().decode("ascii")
        self.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in record.response_headers]
        self.sent = record.sent_bytes


class LoggerAccessLog:
    """Hands each record to the `access()` of a Gunicorn logger. An error in there is reported, never raised."""

    __slots__ = ("_logger", "_on_error")

    def __init__(self, logger: GunicornLogger, on_error: Callable[[Exception], None]) -> None:
        self._logger = logger
        self._on_error = on_error

    def write(self, record: AccessRecord) -> None:
        view = _RecordView(record)
        duration = datetime.timedelta(seconds=record.duration_seconds)
        try:
            self._logger.access(view.response, view, view.environ, duration)
        except Exception as error:  # A user's logger may raise anything, and the response has been sent.
            self._on_error(error)
