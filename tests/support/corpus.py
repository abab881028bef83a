"""Reads the requests and verdicts in tests/wire/corpus, whose README.md describes the form."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parents[1] / "wire" / "corpus"

_ESCAPE: Final = re.compile(r"\\(?:(?P<byte>x[0-9a-f]{2})|\{(?P<text>.*?)\*(?P<count>\d+)\}|(?P<short>[rnts0_\\]))")
_SHORT: Final = {"r": "\r", "n": "\n", "t": "\t", "s": " ", "0": "\0", "_": "", "\\": "\\"}


@dataclass(frozen=True)
class Served:
    """A request that reaches the application."""

    method: str
    raw_path: str
    query: str
    seen: dict[str, str]
    """Values of fields, those of repeated ones joined with commas, and of `body`: only those that matter."""


@dataclass(frozen=True)
class Case:
    """Bytes of a client and what becomes of them."""

    entry: str
    """File and name of the entry."""
    name: str
    """The same, and the word of this case."""
    rule: str
    """The sentence of an RFC, behind its number and section."""
    data: bytes
    answers: list[Served | int]
    """In their order; a status code stands for a refusal, or for an interim response where it is below 200."""
    closed: bool
    """Whether the server closes the connection behind them."""


def read_corpus() -> list[Case]:
    """All cases of all files, each word of a `?` line a case of its own."""
    cases = []
    for path in sorted(DIRECTORY.glob("*.txt")):
        for entry in re.split(r"^= ", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
            cases += _cases(path.stem, entry.splitlines())
    return cases


def _cases(file: str, lines: list[str]) -> list[Case]:
    name, *rest = lines
    rule, words, request, verdicts = "", [""], [], []
    for line in rest:
        mark, text = line[:2].strip(), line[2:].removeprefix(" " if line.startswith(">>") else "")
        if line.startswith("RFC "):
            rule = line
        elif line.startswith("  "):
            rule += " " + text.strip()
        elif mark == "?":
            words = text.split()
        elif mark == ">>":
            request.append(text)
        elif mark == ">":
            request.append(text + r"\r\n")
        elif mark == "<":
            verdicts.append(text.split())
        else:
            assert not line, f"{file}: {line!r} has no mark"
    assert rule and request and verdicts, f"{file}: {name!r} is not complete"
    cases = []
    for word in words:
        answers = [_answer(verdict, word) for verdict in verdicts if verdict != ["closed"]]
        cases.append(
            Case(
                f"{file}: {name}",
                f"{file}: {name}" + (f" {word[:40]}" if word else ""),
                rule,
                _decoded("".join(request), word).encode("latin-1"),
                answers,
                verdicts[-1] == ["closed"] or (isinstance(answers[-1], int) and answers[-1] >= 400),
            )
        )
    return cases


def _answer(verdict: list[str], word: str) -> Served | int:
    status, *parts = verdict
    if not parts:
        return int(status)
    method, target, *seen = (_decoded(part, word) for part in parts)
    raw_path, _, query = target.partition("?")
    return Served(method, raw_path, query, dict(_pair(part) for part in seen))


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _decoded(text: str, word: str) -> str:
    """Each character stands for one byte."""
    return _ESCAPE.sub(_unescaped, text.replace("{}", word))


def _unescaped(match: re.Match[str]) -> str:
    if match["byte"]:
        return chr(int(match["byte"][1:], 16))
    if match["text"] is not None:
        return _decoded(match["text"], "") * int(match["count"])
    return _SHORT[match["short"]]


END: Final = b"GET /the-end-of-the-case HTTP/1.1\r\nHost: end.example\r\n\r\n"
"""Sent behind a case whose connection stays open: it must be seen as what it is."""


def check_answers(case: Case, answers: list[tuple[int, str]]) -> None:
    """Hold the status codes and `x-seen` fields of all answers, but for that to `END`, against the verdict."""
    assert [status for status, _ in answers] == [200 if isinstance(a, Served) else a for a in case.answers], case.name
    for expected, (_, shown) in zip(case.answers, answers, strict=True):
        if not isinstance(expected, Served):
            assert not shown, f"{case.name}: a refused request has reached the application"
            continue
        seen = json.loads(shown)
        assert (seen["method"], seen["raw_path"], seen["query"]) == (
            expected.method,
            expected.raw_path,
            expected.query,
        ), case.name
        for name, value in expected.seen.items():
            values = [seen["body"]] if name == "body" else [v for field, v in seen["headers"] if field == name]
            assert ",".join(values) == value, (case.name, name)
