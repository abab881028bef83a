"""A line of the access log: Gunicorn's format compiled once, the text that its gthread worker writes for the same
request.

One request is one line: characters of a client or an application that would end it, or turn it around, are written as
`\\n`, `\\x1b` or `\\u202e`.
"""

import base64
import binascii
import os
import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, Protocol, TypeAlias

from .asgi_types import Field, HTTPScope
from .errors import SettingsError
from .scope import wsgi_server


class FinishedExchange(Protocol):
    """What a line tells of an exchange. `Exchange` itself is one, since an object for each line would cost as much as
    half of the line."""

    @property
    def scope(self) -> HTTPScope:
        """What the application got, and may have changed."""

    @property
    def fields(self) -> dict[bytes, bytes]:
        """One value for each name of the request's fields, as in a `RequestHead`."""

    @property
    def method(self) -> str:
        """A token, as received."""

    @property
    def uri(self) -> str:
        """The target as received: ASCII without control characters."""

    @property
    def root_path(self) -> str:
        """Where the proxy mounts the application. That of the scope may be changed: frameworks add to it when they
        mount one application in another."""

    @property
    def status(self) -> int: ...

    @property
    def response_headers(self) -> Sequence[Field]:
        """What the application sent, in its order."""

    @property
    def sent_bytes(self) -> int:
        """Content without framing."""


class AccessRecord(NamedTuple):
    """A `FinishedExchange` of which there is nothing else."""

    scope: HTTPScope
    fields: dict[bytes, bytes]
    method: str
    uri: str
    status: int
    response_headers: Sequence[Field]
    sent_bytes: int
    root_path: str = ""


# Text that stays in its line and in its quotes

_CONTROL: Final = str.maketrans(
    {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
    | {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    # Line ends of Unicode, and characters that cannot be seen or turn the rest of a line around.
    | {code: f"\\u{code:04x}" for code in (0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F))}
    | {code: f"\\u{code:04x}" for code in (*range(0x2060, 0x2070), 0xFEFF)}
    # Half a surrogate pair, which no stream can encode.
    | {code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)}
)
_CONTROL_AND_QUOTE: Final = {**_CONTROL, ord('"'): '\\"'}


def one_line(text: str) -> str:
    """`text` as it may stand in a line."""
    return text if text.isprintable() else text.translate(_CONTROL)


def _escaped(text: str) -> str:
    """`text` as it may stand between double quotes. Backslashes stay, as in Gunicorn."""
    return text if text.isprintable() and '"' not in text else text.translate(_CONTROL_AND_QUOTE)


class _FieldTexts(dict[bytes, str]):
    """Escaped texts of header values, `texts[value]`, each made once: a browser repeats its User-Agent and Referer.

    A look-up costs 0.08 us with the hash, making the text 0.25 us. The cap bounds memory when nothing is repeated.
    """

    __slots__ = ()

    def __missing__(self, value: bytes) -> str:
        text = _escaped(value.decode("latin-1"))
        if len(value) <= _MAX_KEPT_BYTES:
            if len(self) >= _MAX_FIELD_TEXTS:
                self.clear()
            self[value] = text
        return text


class _NumberTexts(dict[int, str]):
    """The same for numbers, where finding one takes a quarter of the time of printing it."""

    __slots__ = ()

    def __missing__(self, number: int) -> str:
        if len(self) >= _MAX_NUMBER_TEXTS:
            self.clear()
        text = self[number] = f"{number:d}"
        return text


class _HostTexts(dict[str, str]):
    """The same for the addresses of clients."""

    __slots__ = ()

    def __missing__(self, host: str) -> str:
        if len(self) >= _MAX_HOST_TEXTS:
            self.clear()
        text = self[host] = _escaped(host)
        return text


_MAX_FIELD_TEXTS: Final = 512
_MAX_NUMBER_TEXTS: Final = 1024
_MAX_HOST_TEXTS: Final = 4096
_MAX_KEPT_BYTES: Final = 1024
_texts: Final = _FieldTexts()
_numbers: Final = _NumberTexts()
_hosts: Final = _HostTexts()

# Atoms


def _as_in_environ(path: str) -> str:
    """The bytes of a path as Latin-1 (PEP 3333), which is what Gunicorn logs."""
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("latin-1")


def _path_info(exchange: FinishedExchange) -> str:
    """The path below the root path."""
    path = exchange.scope["path"]
    if exchange.scope["root_path"]:
        root_path = exchange.root_path
        if path == root_path or path.startswith(root_path + "/"):
            path = path[len(root_path) :]
    return _as_in_environ(path)


def _basic_user(authorization: bytes) -> str:
    """The user name of HTTP Basic authentication (RFC 7617); empty where there is none."""
    if authorization[:6].lower() != b"basic ":
        return ""
    try:
        return base64.b64decode(authorization[6:].strip()).split(b":", 1)[0].decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return ""


@lru_cache(maxsize=1)
def _log_time(second: int) -> str:
    """The local time in Common Log Format."""
    return time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(second))


def _process_id() -> str:
    return f"<{os.getpid()}>"


def microseconds(duration_seconds: float) -> int:
    """Rounded the same for all atoms of a duration."""
    return round(duration_seconds * 1_000_000)


def log_time() -> str:
    """The time of a line that is written now."""
    return _log_time(int(time.time()))


# The Python expression for each atom, in terms of this module and of the variables of the function that
# `compile_format` generates.
_EXPRESSIONS: Final = {
    "h": "_hosts[client[0]] if (client := scope['client']) else ''",
    "u": "(_escaped(_basic_user(joined[b'authorization'])) or '-') if b'authorization' in joined else '-'",
    "t": "now",
    # Of a target that was checked nothing but quotes can do harm; looking at each character would cost 0.1 us.
    "r": """f"{exchange.method} {exchange.uri} HTTP/{scope['http_version']}".replace('"', '\\\\"')""",
    "s": "exchange.status",
    "m": "exchange.method",
    "U": "_escaped(_path_info(exchange))",
    "q": "_escaped(scope['query_string'].decode('latin-1'))",
    "H": "'HTTP/' + scope['http_version']",
    "b": "exchange.sent_bytes",
    "B": "exchange.sent_bytes",
    "f": "_texts[joined[b'referer']] if b'referer' in joined else '-'",
    "a": "_texts[joined[b'user-agent']] if b'user-agent' in joined else '-'",
    "T": "microseconds(duration_seconds) // 1_000_000",
    "D": "microseconds(duration_seconds)",
    "M": "microseconds(duration_seconds) // 1_000",
    "L": "'%d.%06d' % divmod(microseconds(duration_seconds), 1_000_000)",
    "p": "_process_id()",
}
_NUMBERS: Final = frozenset("sbB")
_JOINED_FIELDS: Final = {"u": b"authorization", "f": b"referer", "a": b"user-agent"}

# `%c` is left out: it takes one character, and whether a text is one shows only with the request.
_ATOM: Final = re.compile(r"%%|%\((?P<name>[^)]*)\)(?P<spec>[-#0 +]*[0-9]*(?:\.[0-9]+)?[hlL]?[diouxXeEfFgGrsa])")

_SAMPLE: Final = AccessRecord(
    {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "server": None,
        "client": None,
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [],
        "state": {},
        "extensions": {},
    },
    fields={},
    method="GET",
    uri="/",
    status=200,
    response_headers=(),
    sent_bytes=0,
)


Line: TypeAlias = Callable[[FinishedExchange, float, str], str]
"""From an exchange, its duration in seconds and the time of the line to its text, without the line end."""


@lru_cache(maxsize=16)
def compile_format(access_log_format: str) -> Line:
    """Turn Gunicorn's `access_log_format` into a function that makes lines.

    An atom that Gunicorn does not know becomes `-`, as it does there. Raises SettingsError for a format that cannot be
    filled in.

    The function is generated as Python source, since one call for each atom makes a line cost 1.6 times as much.
    For `%(h)s "%(a)s"` it reads

        def line(exchange, duration_seconds, now):
            scope = exchange.scope
            joined = last = exchange.fields
            if len(joined) != len(scope['headers']):
                joined, last = {}, {}
                for name, value in scope['headers']:
                    if name in {b'user-agent'}:
                        joined[name] = joined[name] + b',' + value if name in joined else value
            atom_0 = _hosts[client[0]] if (client := scope['client']) else ''
            atom_1 = _texts[joined[b'user-agent']] if b'user-agent' in joined else '-'
            return f'{atom_0}' ' "' f'{atom_1}' '"'

    where the loop runs only if a field is repeated: `joined` has its values in one, as Gunicorn's environ; `{name}i`
    reads `last` instead, the last of them, as Gunicorn does. What the user wrote gets in only through repr(), as
    literals of text and bytes.
    """
    joined_fields: set[bytes] = set()
    last_fields: set[bytes] = set()
    preparations: list[str] = []
    assignments: list[str] = []
    pieces: list[str] = []
    position = 0
    for match in _ATOM.finditer(access_log_format):
        pieces.append(repr(access_log_format[position : match.start()]))
        position = match.end()
        name = match["name"]
        if name is None:
            pieces.append("'%'")
            continue
        key, suffix = name[1:-2].lower(), name[-2:].lower()
        expression = "'-'"
        if not name.startswith("{"):
            if name in _JOINED_FIELDS:
                joined_fields.add(_JOINED_FIELDS[name])
            expression = _EXPRESSIONS.get(name, expression)
        elif suffix == "}i":
            field_name = key.encode("latin-1", "replace")
            last_fields.add(field_name)
            expression = f"_texts[last[{field_name!r}]] if {field_name!r} in last else '-'"
        elif suffix == "}o":
            preparations.append("response_atoms = _response_atoms(exchange.response_headers)")
            expression = f"response_atoms.get({key!r}, '-')"
        elif suffix == "}e":
            preparations.append("environ_atoms = _environ_atoms(exchange)")
            expression = f"environ_atoms.get({key!r}, '-')"
        conversion = "%" + match["spec"]
        if conversion != "%s":
            expression = f"{conversion!r} % ({expression},)"
        elif name in _NUMBERS:
            expression = f"_numbers[{expression}]"
        variable = f"atom_{len(assignments)}"
        assignments.append(f"{variable} = {expression}")
        pieces.append(f"f'{{{variable}}}'")
    pieces.append(repr(access_log_format[position:]))

    body = list(dict.fromkeys(preparations))
    if joined_fields or last_fields:
        body += [
            "joined = last = exchange.fields",
            "if len(joined) != len(scope['headers']):",
            "    joined, last = {}, {}",
            "    for name, value in scope['headers']:",
        ]
        if joined_fields:
            body += [
                f"        if name in {joined_fields!r}:",
                "            joined[name] = joined[name] + b',' + value if name in joined else value",
            ]
        if last_fields:
            body += [f"        if name in {last_fields!r}:", "            last[name] = value"]
    # Literals side by side are one.
    body += [*assignments, f"return {' '.join(pieces)}"]
    source = "\n    ".join(["def line(exchange, duration_seconds, now):", "scope = exchange.scope", *body])
    namespace: dict[str, Line] = {}
    try:
        # What is left between the atoms must be no beginning of another one.
        _ATOM.sub(lambda match: "%%", access_log_format) % ()
        exec(source, globals(), namespace)  # noqa: S102  # See above what goes in.
        line = namespace["line"]
        line(_SAMPLE, 0.0, "")
    except (TypeError, ValueError, OverflowError) as error:
        raise SettingsError(
            f"access_log_format: {access_log_format!r} cannot be filled in ({error}); "
            "write each atom as %(name)s and a percent sign as %%"
        ) from None
    return line


# The objects of WSGI that a line tells of

# What Gunicorn takes out of a response: fields of the connection, and those that it sends itself.
_NOT_OF_THE_APPLICATION: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailers transfer-encoding upgrade "
    b"server date".split()
)


def response_fields_of(response_headers: Sequence[Field]) -> list[tuple[str, str]]:
    """What Gunicorn would show of the fields of a response, control characters escaped."""
    return [
        (name.decode("latin-1"), one_line(value.decode("latin-1").strip(" \t")))
        for name, value in response_headers
        if name.lower() not in _NOT_OF_THE_APPLICATION
    ]


def environ_of(exchange: FinishedExchange) -> dict[str, str]:
    """The text values of the WSGI environ that Gunicorn makes of such a request, control characters escaped."""
    scope = exchange.scope
    fields: dict[str, str] = {}
    for name, field_value in scope["headers"]:
        key, value = name.decode("latin-1").upper().replace("-", "_"), field_value.decode("latin-1")
        if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            fields[key] = value
        else:
            key = "HTTP_" + key
            fields[key] = f"{fields[key]},{value}" if key in fields else value
    if "HTTP_AUTHORIZATION" in fields:
        # The logger decodes the user and writes it as it is, so what must be escaped is inside of the base64.
        user = _basic_user(fields["HTTP_AUTHORIZATION"].encode("latin-1"))
        if (harmless := one_line(user)) != user:
            fields["HTTP_AUTHORIZATION"] = "Basic " + base64.b64encode(harmless.encode("utf-8")).decode("ascii")

    server_name, server_port = wsgi_server(scope)
    environ = {
        "REQUEST_METHOD": scope["method"],
        "RAW_URI": exchange.uri,
        "SCRIPT_NAME": _as_in_environ(exchange.root_path),
        "PATH_INFO": _path_info(exchange),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": "HTTP/" + scope["http_version"],
        "SERVER_NAME": server_name,
        "SERVER_PORT": server_port,
        "REMOTE_ADDR": "",
        "wsgi.url_scheme": scope["scheme"],
        **fields,
    }
    if scope["client"]:
        environ["REMOTE_ADDR"], client_port = scope["client"]
        if client_port is not None:
            environ["REMOTE_PORT"] = str(client_port)
    return {key: one_line(value) for key, value in environ.items()}


def _environ_atoms(exchange: FinishedExchange) -> dict[str, str]:
    return {key.lower(): _escaped(value) for key, value in environ_of(exchange).items()}


def _response_atoms(response_headers: Sequence[Field]) -> dict[str, str]:
    return {name.lower(): _escaped(value) for name, value in response_fields_of(response_headers)}
