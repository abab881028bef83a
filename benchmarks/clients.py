"""Load generators: programs that ask a server as fast as it answers, and what they report."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from .errors import BenchmarkError

_MILLISECONDS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """What a client has seen in one run."""

    rate: float
    """Answers a second."""
    answers: int
    p50_ms: float
    p99_ms: float


class Client(Protocol):
    """A load generator."""

    @property
    def program(self) -> str:
        """The executable."""

    @property
    def install_hint(self) -> str:
        """How a user gets it, in one line."""

    def version(self) -> str: ...

    def run(self, url: str, fields: Mapping[str, str], seconds: int) -> Load:
        """Raises BenchmarkError for any answer that is not a success: a refusal is quick and would look like speed."""


@dataclass(frozen=True)
class Wrk:
    """HTTP/1.1 over keep-alive connections, each with one request under way at a time."""

    connections: int

    program = "wrk"
    install_hint = "wrk is missing: install it with 'apt install wrk' (Debian, Ubuntu) or 'brew install wrk' (macOS)"

    def version(self) -> str:
        output = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=False).stdout
        return output.partition("Copyright")[0].strip()

    def run(self, url: str, fields: Mapping[str, str], seconds: int) -> Load:
        command = [self.program, "--threads=1", f"--connections={self.connections}", f"--duration={seconds}s"]
        command += ["--latency", *(f"--header={name}: {value}" for name, value in fields.items()), url]
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
        if run.returncode:
            raise BenchmarkError(f"wrk ended with {run.returncode}: {run.stderr.strip() or run.stdout.strip()}")
        trouble = re.search(r"Socket errors: .*|Non-2xx or 3xx responses: .*", run.stdout)
        if trouble is not None:
            raise BenchmarkError(f"wrk reports for {url}: {trouble[0]}")
        return Load(
            rate=float(_find(r"Requests/sec:\s+([\d.]+)", run.stdout)[1]),
            answers=int(_find(r"(\d+) requests in", run.stdout)[1]),
            p50_ms=_milliseconds(_find(r"50%\s+([\d.]+)(us|ms|s|m)\b", run.stdout)),
            p99_ms=_milliseconds(_find(r"99%\s+([\d.]+)(us|ms|s|m)\b", run.stdout)),
        )


def missing_program(client: Client) -> str | None:
    """What to tell a user who lacks the program; None where it is installed."""
    return client.install_hint if shutil.which(client.program) is None else None


def _find(pattern: str, output: str) -> re.Match[str]:
    match = re.search(pattern, output)
    if match is None:
        raise BenchmarkError(f"the client's report has no {pattern!r}:\n{output}")
    return match


def _milliseconds(match: re.Match[str]) -> float:
    return float(match[1]) * _MILLISECONDS[match[2]]
