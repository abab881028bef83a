"""How the value of an option is read, be it a Python object or the text of an environment variable.

Each `Kind` knows what it expects in words, for the documentation and for whoever has given something else.
"""

import inspect
import os
import re
import ssl
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from .asgi_types import Field
from .wire.headers import FORBIDDEN_IN_VALUE, TOKEN

MAX_WHOLE: Final = 2**31 - 1
"""What the system calls take, such as listen(2)."""

MAX_SECONDS: Final = 10**9
"""Thirty years. Event loops and locks count time in integers of C, which overflow with much more."""

MAX_BYTES: Final = min(2**40, sys.maxsize // 2)
"""More than any limit that protects memory can be, and small enough for zlib's `max_length`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value. `read` takes what was given and raises ValueError or TypeError where it is something else."""

    expected: str
    """Completes the sentence "... expected"."""

    read: Callable[[Any], Any]


def optional(kind: Kind) -> Kind:
    """`kind`, or None: in Python `None`, in text `none` or nothing."""

    def read(value: Any) -> Any:
        if value is None or (isinstance(value, str) and value.strip().lower() in ("", "none")):
            return None
        return kind.read(value)

    return Kind(f"{kind.expected}, or none", read)


def choice(*names: str) -> Kind:
    """One of some words."""

    def read(value: Any) -> str:
        if isinstance(value, str) and (name := value.strip().lower()) in names:
            return name
        raise ValueError

    return Kind(f"one of {', '.join(names)}", read)


def whole(minimum: int = 0, maximum: int = MAX_WHOLE) -> Kind:
    """A whole number."""

    def read(value: Any) -> int:
        if isinstance(value, bool):
            raise TypeError
        number = int(value.strip()) if isinstance(value, str) else value
        if not isinstance(number, int) or not minimum <= number <= maximum:
            raise ValueError
        return number

    return Kind(f"a whole number from {minimum} to {maximum}", read)


def _read_flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    return words[value.strip().lower()] if isinstance(value, str) else {0: False, 1: True}[value]


def _read_seconds(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if not 0 <= number <= MAX_SECONDS:
        raise ValueError
    return number


def _read_positive_seconds(value: Any) -> float:
    number = _read_seconds(value)
    if number == 0:
        raise ValueError
    return number


_SIZE: Final = re.compile(r"(\d+) ?([KMG]i?B?)?", re.IGNORECASE | re.ASCII).fullmatch
_SIZE_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def _read_size(value: Any) -> int:
    if isinstance(value, str):
        match = _SIZE(value.strip())
        if match is None:
            raise ValueError
        value = int(match[1]) * _SIZE_UNITS[(match[2] or "")[:1].lower()]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_BYTES:
        raise ValueError
    return value


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _read_path(value: Any) -> str:
    path = os.fsdecode(os.fspath(value))
    if not path or "\0" in path:
        raise ValueError
    return path


def read_root_path(value: Any) -> str:
    """Without a slash at the end. Two slashes, or a backslash, would make a host of a path that is redirected to.

    Raises ValueError, or TypeError for what is no text. What a proxy says in SCRIPT_NAME has to pass, too.
    """
    path = _read_text(value).strip()
    if path and (path[0] != "/" or "//" in path or set(path) & set("\\?#") or not path.isprintable()):
        raise ValueError
    return path.rstrip("/")


def _read_names(value: Any) -> tuple[str, ...]:
    parts: Iterable[Any] = value.split(",") if isinstance(value, str) else value
    return tuple(stripped for part in parts if (stripped := _read_text(part).strip()))


def _read_peers(value: Any) -> tuple[str, ...] | None:
    """Here nothing is an answer of its own, and must not become the default, which trusts somebody."""
    if value is None:
        return None
    return () if isinstance(value, str) and value.strip().lower() == "none" else _read_names(value)


_OF_EACH_RESPONSE: Final = frozenset(
    (b"connection", b"content-length", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"date")
)
"""Fields that say something about one message; the same for all would break the framing."""


def _read_headers(value: Any) -> tuple[Field, ...]:
    """Pairs in Python; in text one `name: value` a line."""
    if isinstance(value, str):
        value = [line.split(":", 1) for line in value.splitlines() if line.strip()]
    fields = []
    for pair in value:
        if not isinstance(pair, (tuple, list)):
            raise TypeError
        name, content = pair
        field = _latin_1(name).strip().lower(), _latin_1(content).strip()
        if not TOKEN(field[0]) or FORBIDDEN_IN_VALUE(field[1]) or field[0] in _OF_EACH_RESPONSE:
            raise ValueError
        fields.append(field)
    return tuple(fields)


def _latin_1(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    return _read_text(value).encode("latin-1")


_LEVELS: Final = {"critical": 50, "error": 40, "warning": 30, "info": 20, "debug": 10, "trace": 5}


def _read_level(value: Any) -> int:
    if isinstance(value, str) and not value.strip().isdigit():
        return _LEVELS[value.strip().lower()]
    level: int = WHOLE.read(value)
    return level


_CERT_REQS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def _read_cert_reqs(value: Any) -> ssl.VerifyMode:
    if isinstance(value, str) and not value.strip().isdigit():
        return _CERT_REQS[value.strip().lower().removeprefix("cert_")]
    return ssl.VerifyMode(WHOLE.read(value))


def _read_callable(value: Any) -> Any:
    if not callable(value):
        raise TypeError
    return value


def _read_coroutine_function(value: Any) -> Any:
    if not inspect.iscoroutinefunction(value) and not inspect.iscoroutinefunction(type(value).__call__):
        raise TypeError
    return value


_IMPORT_STRING: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*").fullmatch
_LOOPS: Final = choice("auto", "none", "asyncio", "uvloop")


def _read_loop(value: Any) -> str:
    if isinstance(value, str) and _IMPORT_STRING(value.strip()):
        return value.strip()
    loop: str = _LOOPS.read(value)
    return "auto" if loop == "none" else loop


FLAG: Final = Kind("true or false", _read_flag)
WHOLE: Final = whole()
SECONDS: Final = Kind(f"seconds as a number from 0 to {MAX_SECONDS}", _read_seconds)
POSITIVE_SECONDS: Final = Kind(f"seconds as a number above 0, up to {MAX_SECONDS}", _read_positive_seconds)
SIZE: Final = Kind("bytes as a number above 0, or with a unit such as 64KiB, 16MiB or 2GiB, up to 1024GiB", _read_size)
TEXT: Final = Kind("text", _read_text)
PATH: Final = Kind("the path of a file", _read_path)
ROOT_PATH: Final = Kind("a path that begins with one slash, without //, ?, # and control characters", read_root_path)
PEERS: Final = Kind("a list, or text with commas; an empty one for nobody", _read_peers)
HEADERS: Final = Kind(
    "pairs of header name and value, or text with one 'name: value' a line, and none about framing", _read_headers
)
LEVEL: Final = Kind("one of critical, error, warning, info, debug, trace, or a number", _read_level)
CERT_REQS: Final = Kind("one of none, optional, required, or 0, 1, 2", _read_cert_reqs)
CALLABLE: Final = Kind("a callable, which only Python code can give", _read_callable)
COROUTINE_FUNCTION: Final = Kind("a coroutine function, which only Python code can give", _read_coroutine_function)
LOOP: Final = Kind(f"{_LOOPS.expected}, or 'module:callable' of a loop factory", _read_loop)
