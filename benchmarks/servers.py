"""The servers: how each is started, what proves that it is what it claims to be, and how it is ended."""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from .clients import Client
from .errors import BenchmarkError

ROOT: Final = Path(__file__).parents[1]
HOST: Final = "127.0.0.1"

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 5.0
_LOG_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.02
# Variables that would change a server behind the command line that is reported.
_FOREIGN_SETTINGS: Final = ("GUNICORN_", "GRANIAN_", "UVICORN_", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "PYTHON")


@dataclass(frozen=True)
class Deployment:
    """What a server has to serve, and how."""

    app: str
    access_log: bool
    keepalive: int | None = None
    """Seconds that an idle connection is kept; None for the default of the server."""


@dataclass(frozen=True)
class Server:
    """A server that can be measured: one worker process, the settings that its documentation gives."""

    title: str
    arguments: Callable[[Deployment, int], list[str]]
    """The command line after `python -m`, for a port."""
    answers_as: str
    """How the `server` field of its responses begins."""
    native_code: tuple[str, ...]
    """Compiled modules that the process must have loaded: the event loop and the parser that are claimed."""
    requires: tuple[str, ...]
    """Modules that must be installed."""
    requests_per_connection: int = 4000
    """How many it gets on one connection of HTTP/2 before a new one is opened. The server of uvicorn takes more than
    4,096 for a flood; so that all are asked alike, the others get no more."""


def _gunicorn(worker_class: str, *options: str) -> Callable[[Deployment, int], list[str]]:
    def arguments(deployment: Deployment, port: int) -> list[str]:
        # Gunicorn's standard log level, timeouts and limits stay as they are; without the option it logs no accesses.
        log = ["--access-logfile", "-"] if deployment.access_log else []
        if deployment.keepalive is not None:
            log += ["--keep-alive", str(deployment.keepalive)]
        bind = f"{HOST}:{port}"
        return ["gunicorn", "-k", worker_class, "-w", "1", "-b", bind, *options, *log, deployment.app]

    return arguments


def _granian(version: str) -> Callable[[Deployment, int], list[str]]:
    def arguments(deployment: Deployment, port: int) -> list[str]:
        log = ["--access-log"] if deployment.access_log else []
        options = ["--interface", "asgi", "--workers", "1", "--loop", "uvloop", "--http", version]
        return ["granian", *options, "--host", HOST, "--port", str(port), *log, deployment.app]

    return arguments


def _uvicorn_http2(deployment: Deployment, port: int) -> list[str]:
    options = ["--http", "zttp", "--http2", "--loop", "uvloop", "--no-access-log"]
    return ["uvicorn", *options, "--host", HOST, "--port", str(port), deployment.app]


def _hypercorn(deployment: Deployment, port: int) -> list[str]:
    return ["hypercorn", "--worker-class", "uvloop", "--bind", f"{HOST}:{port}", deployment.app]


def _floor(module: str) -> Callable[[Deployment, int], list[str]]:
    return lambda deployment, port: [f"benchmarks.{module}", str(port)]


def _gunicorn_own() -> Server:
    """Gunicorn's own ASGI worker, with its parser in C where that is installed (gunicorn[fast])."""
    if importlib.util.find_spec("gunicorn_h1c") is None:
        return Server(
            title="gunicorn asgi, Python parser",
            arguments=_gunicorn("asgi", "--http-parser", "python"),
            answers_as="gunicorn/",
            native_code=("uvloop",),
            requires=("gunicorn.asgi", "uvloop"),
        )
    return Server(
        title="gunicorn asgi, C parser",
        arguments=_gunicorn("asgi", "--http-parser", "fast"),
        answers_as="gunicorn/",
        native_code=("uvloop", "gunicorn_h1c"),
        requires=("gunicorn.asgi", "uvloop", "gunicorn_h1c"),
    )


SERVERS: Final = {
    "ours": Server(
        title="gunicorn_asgi.Worker (ours)",
        arguments=_gunicorn("gunicorn_asgi.Worker"),
        answers_as="gunicorn-asgi",
        native_code=("uvloop", "httptools"),
        requires=("gunicorn_asgi", "uvloop", "httptools"),
    ),
    "uvicorn-worker": Server(
        title="uvicorn_worker.UvicornWorker",
        arguments=_gunicorn("uvicorn_worker.UvicornWorker"),
        answers_as="uvicorn",
        native_code=("uvloop", "httptools"),
        requires=("uvicorn_worker", "uvloop", "httptools"),
    ),
    "gunicorn": _gunicorn_own(),
    "granian": Server(
        title="granian",
        arguments=_granian("1"),
        answers_as="granian",
        native_code=("uvloop", "granian"),
        requires=("granian", "uvloop"),
    ),
    "ours-h2c": Server(
        title="gunicorn_asgi.H2CWorker (ours)",
        arguments=_gunicorn("gunicorn_asgi.H2CWorker"),
        answers_as="gunicorn-asgi",
        native_code=("uvloop",),
        requires=("gunicorn_asgi", "uvloop", "httptools"),
    ),
    "uvicorn-zttp": Server(
        title="uvicorn, zttp",
        arguments=_uvicorn_http2,
        answers_as="uvicorn",
        native_code=("uvloop", "zttp"),
        requires=("uvicorn", "uvloop", "zttp"),
    ),
    "granian-h2": Server(
        title="granian, HTTP/2",
        arguments=_granian("2"),
        answers_as="granian",
        native_code=("uvloop", "granian"),
        requires=("granian", "uvloop"),
    ),
    "hypercorn": Server(
        title="hypercorn",
        arguments=_hypercorn,
        answers_as="hypercorn",
        native_code=("uvloop",),
        requires=("hypercorn", "h2", "uvloop"),
        requests_per_connection=900,  # It ends a connection after 1,000.
    ),
    "http2-floor": Server(
        title="the floor of HTTP/2",
        arguments=_floor("http2_floor"),
        answers_as="floor",
        native_code=("uvloop",),
        requires=("gunicorn_asgi", "uvloop"),
    ),
    "floor": Server(
        title="the floor",
        arguments=_floor("floor"),
        answers_as="floor",
        native_code=("uvloop", "httptools"),
        requires=("uvloop", "httptools"),
    ),
    "websocket-floor": Server(
        title="the floor for WebSockets",
        arguments=_floor("websocket_floor"),
        answers_as="floor",
        native_code=("uvloop", "websockets"),
        requires=("uvloop", "websockets"),
    ),
}


def missing_modules(names: Iterable[str]) -> list[str]:
    """What the servers of these names need and the interpreter does not have."""
    return sorted({module for name in names for module in SERVERS[name].requires if not _is_installed(module)})


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # The parent of a dotted name.
        return False


class RunningServer:
    """A server with all its processes, in a process group and a directory of its own.

    Its standard output, which takes the access log, and its standard error go to files there.
    """

    def __init__(self, name: str, deployment: Deployment, directory: Path) -> None:
        self.name = name
        self._server = SERVERS[name]
        self._access_log = deployment.access_log
        self.port = _free_port()
        self._out_path = directory / "out"
        self._error_path = directory / "error"
        arguments = self._server.arguments(deployment, self.port)
        self.command = " ".join(["python", "-m", *arguments]).replace(str(self.port), "PORT")
        with self._out_path.open("ab") as out, self._error_path.open("ab") as error:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=directory,
                env=_environment(directory),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=error,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Raises BenchmarkError if it does not listen in time."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
                return
            if self._process.poll() is not None:
                raise self._error(f"ended with {self._process.returncode} instead of listening")
            if time.monotonic() > deadline:
                raise self._error(f"does not listen after {_START_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)

    def check(self, client: Client, target: str, fields: Mapping[str, str], answer: bytes) -> None:
        """Ask once. Raises BenchmarkError if the answer is wrong or this is not the server that it should be."""
        self.forget_log()
        try:
            status, answers_as, body = client.ask(self.url(target), fields)
        except OSError as error:  # urllib.error.URLError is one.
            raise self._error(f"does not answer {target}: {error}") from error
        if status != 200 or body != answer:
            raise self._error(f"answers {target} with {status} and {body[:200]!r}")
        if not answers_as.lower().startswith(self._server.answers_as):
            raise self._error(f"calls itself {answers_as!r}")
        processes = self._processes()
        if not any(_listens(process, self.port) for process in processes):
            raise self._error(f"does not hold port {self.port}: another program has answered")
        loaded = [path for process in processes for path in _loaded_files(process)]
        for module in self._server.native_code if loaded else ():
            if not any(f"/{module}/" in path for path in loaded):
                raise self._error(f"does not use {module}")
        self.expect_logged(1)

    @property
    def requests_per_connection(self) -> int:
        """See `Server.requests_per_connection`."""
        return self._server.requests_per_connection

    def url(self, target: str) -> str:
        return f"http://{HOST}:{self.port}{target}"

    def cpu_seconds(self) -> float:
        """Processor time that all its processes have used."""
        used = [process.cpu_times() for process in self._processes()]
        return sum(times.user + times.system for times in used)

    def resident_bytes(self) -> int:
        """Memory of the process that serves, which is the largest."""
        return max(int(process.memory_info().rss) for process in self._processes())

    def forget_log(self) -> None:
        """Empty the log. The server appends, so it goes on at the start."""
        os.truncate(self._out_path, 0)

    def expect_logged(self, answers: int) -> None:
        """Raises BenchmarkError unless the log, where it is on, has a line for each answer since `forget_log`."""
        if not self._access_log:
            return
        deadline = time.monotonic() + _LOG_SECONDS
        while (lines := _count_accesses(self._out_path)) < answers:
            if time.monotonic() > deadline:
                raise self._error(f"has logged {lines} of {answers} answers")
            time.sleep(_POLL_SECONDS)

    def ask_to_end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()

    def end(self) -> None:
        """Leave nothing behind, neither the main process nor workers that have lost it."""
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _processes(self) -> list[psutil.Process]:
        try:
            main = psutil.Process(self._process.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            raise self._error("has ended") from None

    def _error(self, what: str) -> BenchmarkError:
        written = [path.read_text("utf-8", "replace").splitlines() for path in (self._out_path, self._error_path)]
        log = [line for lines in written for line in lines[-15:]]
        return BenchmarkError("\n  ".join([f"{self.name} {what}", f"command: {self.command}", *log]))


def end_all(servers: list[RunningServer]) -> None:
    """End them all at once. A second Ctrl-C only shortens the wait."""
    for server in servers:
        server.ask_to_end()
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.callback(server.end)


def _environment(directory: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_SETTINGS)}
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    # Gunicorn puts its control socket into XDG_RUNTIME_DIR, under one name: several masters would take turns there.
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "XDG_RUNTIME_DIR": str(directory)}


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def _listens(process: psutil.Process, port: int) -> bool:
    connections = process.net_connections(kind="inet")
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)


def _loaded_files(process: psutil.Process) -> list[str]:
    """Files mapped into a process; none where the system does not tell."""
    memory_maps = getattr(process, "memory_maps", None)
    return [] if memory_maps is None else [mapped.path for mapped in memory_maps()]


def _count_accesses(path: Path) -> int:
    """Lines about a request, whatever the format; granian also writes about itself there."""
    with path.open("rb") as lines:
        return sum(b'"GET ' in line for line in lines)
