"""Load generators: programs that ask a server as fast as it answers, and what they report."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from .errors import BenchmarkError

_MILLISECONDS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """What a client has seen in one run."""

    rate: float
    """Answers a second."""
    answers: int
    seconds: float
    """How long the server was asked."""
    p50_ms: float
    p99_ms: float


class Answer(NamedTuple):
    """What a server says to one request."""

    status: int
    server: str
    """Of its `server` field."""
    content: bytes


class Client(Protocol):
    """A load generator."""

    @property
    def program(self) -> str:
        """The executable."""

    @property
    def install_hint(self) -> str:
        """How a user gets it, in one line."""

    def version(self) -> str: ...

    def ask(self, url: str, fields: Mapping[str, str]) -> Answer:
        """One request in the version of HTTP that is measured. Raises OSError where there is no answer."""

    def run(self, url: str, fields: Mapping[str, str], seconds: int, requests_per_connection: int) -> Load:
        """Ask for so many seconds, and on new connections before an old one has had more requests than its server
        takes. Clients of HTTP/1 and WebSockets keep theirs: no server limits those.

        Raises BenchmarkError for any answer that is not a success: a refusal is quick and would look like speed.
        """


@dataclass(frozen=True)
class Wrk:
    """HTTP/1.1 over keep-alive connections, each with one request under way at a time."""

    connections: int

    program = "wrk"
    install_hint = "wrk is missing: install it with 'apt install wrk' (Debian, Ubuntu) or 'brew install wrk' (macOS)"

    def version(self) -> str:
        output = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=False).stdout
        return output.partition("Copyright")[0].strip()

    def ask(self, url: str, fields: Mapping[str, str]) -> Answer:
        return _ask_over_http1(url, fields)

    def run(self, url: str, fields: Mapping[str, str], seconds: int, requests_per_connection: int) -> Load:
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
            seconds=seconds,
            p50_ms=_milliseconds(_find(r"50%\s+([\d.]+)(us|ms|s|m)\b", run.stdout)),
            p99_ms=_milliseconds(_find(r"99%\s+([\d.]+)(us|ms|s|m)\b", run.stdout)),
        )


@dataclass(frozen=True)
class H2load:
    """HTTP/2 without TLS, by prior knowledge, with some requests under way at a time on each connection."""

    connections: int
    streams: int
    paths: int = 1
    """How many different targets take turns: with many, hardly a header block is ever repeated."""

    program = "h2load"
    install_hint = (
        "h2load is missing: install it with 'apt install nghttp2-client' (Debian, Ubuntu) or 'brew install nghttp2'"
    )

    def version(self) -> str:
        return subprocess.run([self.program, "--version"], capture_output=True, text=True, check=False).stdout.strip()

    def ask(self, url: str, fields: Mapping[str, str]) -> Answer:
        """By nghttp, which comes with h2load."""
        command = ["nghttp", "--verbose", *_header_options(fields), url]
        output = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
        status = re.search(r"recv \(stream_id=\d+\) :status: (\d+)", output)
        server = re.search(r"recv \(stream_id=\d+\) server: (.*)", output)
        if status is None:
            raise urllib.error.URLError(f"nghttp got no answer: {output[-500:]}")
        content = subprocess.run(command[:1] + command[2:], capture_output=True, timeout=20, check=False).stdout
        return Answer(int(status[1]), server[1].strip() if server is not None else "", content)

    def run(self, url: str, fields: Mapping[str, str], seconds: int, requests_per_connection: int) -> Load:
        microseconds: list[int] = []
        spent = 0.0
        with tempfile.TemporaryDirectory(prefix="h2load-") as directory:
            log, targets = Path(directory, "log"), Path(directory, "targets")
            command = [
                self.program,
                "--threads=1",
                f"--clients={self.connections}",
                f"--max-concurrent-streams={self.streams}",
                f"--requests={self.connections * requests_per_connection}",
                f"--log-file={log}",
                *_header_options(fields),
            ]
            if self.paths == 1:
                command.append(url)
            else:
                targets.write_text("".join(f"{url}{number}\n" for number in range(self.paths)), "ascii")
                command.append(f"--input-file={targets}")
            while spent < seconds:
                run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
                if run.returncode:
                    raise BenchmarkError(
                        f"h2load ended with {run.returncode}: {run.stderr.strip() or run.stdout.strip()}"
                    )
                trouble = re.search(r"[1-9]\d* (?:failed|errored|timeout)\b", run.stdout)
                if trouble is not None:
                    raise BenchmarkError(f"h2load reports for {urlsplit(url).netloc}: {trouble[0]}")
                answers = int(_find(r"(\d+) succeeded", run.stdout)[1])
                spent += answers / float(_find(r"finished in [^,]+, ([\d.]+) req/s", run.stdout)[1])
                microseconds += (int(line.split(b"\t")[2]) for line in log.read_bytes().splitlines())
                log.unlink()  # h2load appends: the next run would be counted together with this one.
        microseconds.sort()
        return Load(
            rate=len(microseconds) / spent,
            answers=len(microseconds),
            seconds=spent,
            p50_ms=microseconds[len(microseconds) // 2] / 1000,
            p99_ms=microseconds[len(microseconds) * 99 // 100] / 1000,
        )


def _ask_over_http1(url: str, fields: Mapping[str, str]) -> Answer:
    request = urllib.request.Request(url, headers=dict(fields))
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as response:
        return Answer(response.status, response.headers.get("server", ""), response.read())


def _header_options(fields: Mapping[str, str]) -> list[str]:
    # RFC 9113 section 8.2: names in lower case, and nothing about the connection.
    return [f"--header={name.lower()}: {value}" for name, value in fields.items() if name != "Connection"]


@dataclass(frozen=True)
class WebSockets:
    """WebSocket connections whose messages come back (see websocket_client.py)."""

    role: str
    """`echo` or `broadcast`."""
    connections: int
    message_bytes: int

    program = sys.executable
    install_hint = "picows is missing: run 'make bench', or install the group 'bench'"

    def version(self) -> str:
        return f"picows {importlib.metadata.version('picows')}"

    def ask(self, url: str, fields: Mapping[str, str]) -> Answer:
        """A plain request: that the messages are the same is checked in each run."""
        return _ask_over_http1(url, fields)

    def run(self, url: str, fields: Mapping[str, str], seconds: int, requests_per_connection: int) -> Load:
        command = [self.program, "-m", "benchmarks.websocket_client", url.replace("http", "ws", 1), self.role]
        command += [str(self.connections), str(seconds), str(self.message_bytes)]
        started = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        asked_seconds = time.perf_counter() - started
        if run.returncode:
            raise BenchmarkError(f"the WebSocket client ended with {run.returncode}: {run.stderr.strip()[-2000:]}")
        report = json.loads(run.stdout)
        milliseconds = report["milliseconds"]
        if not milliseconds:
            raise BenchmarkError(f"no message came back from {url}")
        return Load(
            rate=report["answers"] / report["seconds"],
            answers=report["answers"],
            seconds=asked_seconds,
            p50_ms=milliseconds[len(milliseconds) // 2],
            p99_ms=milliseconds[len(milliseconds) * 99 // 100],
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
