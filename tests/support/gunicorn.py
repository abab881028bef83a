"""A real `gunicorn` under pytest-xprocess: started, watched, and ended with all its workers whatever happens."""

import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil
from gunicorn.config import KNOWN_SETTINGS as GUNICORN_SETTINGS
from xprocess import ProcessStarter, XProcess

from .http1 import Address, Connection, Response

ROOT: Final = Path(__file__).parents[2]
KNOWN_SETTINGS: Final = frozenset(setting.name for setting in GUNICORN_SETTINGS)
"""Of the Gunicorn that is installed."""

WORKER: Final = os.environ.get("GUNICORN_ASGI_TESTS_WORKER", "gunicorn_asgi.Worker")
"""The class for tests that name none: H11Worker has to pass them all, too."""

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 20.0

_POLL_SECONDS: Final = 0.02
_names = itertools.count()


class Gunicorn:
    """A running master with its workers."""

    def __init__(self, process: "subprocess.Popen[bytes]", log_path: Path, directory: Path, bind: str) -> None:
        self._process = process
        self._log_path = log_path
        self._directory = directory
        listening = self.wait_for_log(
            r"Listening at: (?:https?://(?P<host>\S+):(?P<port>\d+)|unix:(?P<path>\S+)|(?P<workers> \())"
        )
        self.wait_for_log("Booting worker")
        if listening["workers"]:  # With --reuse-port only they listen.
            host, _, port = bind.rpartition(":")
            self.address: Address = (host, int(port))
        else:
            self.address = listening["path"] or (listening["host"], int(listening["port"]))

    @property
    def pid(self) -> int:
        """Of the master."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Of a server on TCP, in cleartext."""
        assert isinstance(self.address, tuple)
        return "http://{}:{}".format(*self.address)

    @property
    def worker_pids(self) -> list[int]:
        """Of all workers that were ever started, in this order."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.log)]

    @property
    def log(self) -> str:
        """What master and workers have written so far."""
        return self._log_path.read_text("utf-8", "surrogateescape")

    def connect(self) -> Connection:
        return Connection(self.address)

    def get(self, target: str, *, fields: str = "", method: str = "GET", body: bytes = b"") -> Response:
        """One request on a connection of its own."""
        with self.connect() as connection:
            return connection.get(target, fields=fields, method=method, body=body)

    def wait_for_log(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        """Wait until the log holds `pattern`."""
        return self.wait_for_text(self._log_path, pattern, seconds)

    def wait_for_text(self, path: Path, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        """Wait until a file of the server holds `pattern`. A file has no event to wait for, hence the polling."""
        deadline = time.monotonic() + seconds
        while True:
            ended = self._process.poll() is not None
            text = path.read_text("utf-8", "surrogateescape") if path.exists() else ""
            if match := re.search(pattern, text):
                return match
            assert not ended, f"gunicorn ended without {pattern!r}:\n{self.log}"
            assert time.monotonic() < deadline, f"{pattern!r} was not written in {seconds} s:\n{text}"
            time.sleep(_POLL_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """To the master."""
        self._process.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the master to end by itself. Its exit code."""
        return self._process.wait(seconds)

    def stop(self) -> int:
        """Stop in an orderly way. The exit code of the master."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def end(self) -> None:
        """Leave nothing behind, neither the master nor workers that have lost it."""
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(3)
        # xprocess starts each process in a group of its own, which the workers inherit.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(STOP_SECONDS)
        shutil.rmtree(self._directory)


class GunicornStarter:
    """Starts any number of `gunicorn`s and ends them all."""

    def __init__(self, xprocess: XProcess) -> None:
        self._xprocess = xprocess
        self._running: list[Gunicorn] = []

    def start(
        self,
        app: str,
        *options: str,
        worker: str | None = WORKER,
        bind: str = "127.0.0.1:0",
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        prefix: Sequence[str] = (),
        errorlog: Path | str | None = None,
    ) -> Gunicorn:
        """Start `gunicorn` and return when it listens. `app` is a module below tests/integration/apps.

        `worker` is None where a configuration file names the class. It inherits the files `pass_fds`, and is started by
        the command `prefix`, where that is given. `errorlog` is a file for the setting of that name.
        """
        name = f"gunicorn-{os.getpid()}-{next(_names)}"
        log_file = None if errorlog is None else Path(errorlog)
        if log_file is not None:
            options = (*options, "--error-logfile", str(log_file))
        command = [*prefix, *_command(app, options, worker, bind)]

        environment = _environment(env or {})

        class Starter(ProcessStarter):  # type: ignore[misc]  # xprocess ships no types.
            pattern = "Listening at" if log_file is None else None
            timeout = START_SECONDS
            terminate_on_interrupt = True
            args = command
            env = environment
            popen_kwargs = {"pass_fds": tuple(pass_fds)}  # noqa: RUF012  # As xprocess wants it.

            def startup_check(self) -> bool:
                return log_file is None or (log_file.exists() and "Listening at" in log_file.read_text())

        try:
            _, log_path = self._xprocess.ensure(name, Starter, persist_logs=False)
        except BaseException:
            self._xprocess.getinfo(name).terminate(timeout=STOP_SECONDS)
            raise
        process = self._xprocess.resources[-1].popen
        own_log = Path(str(log_path))
        gunicorn = Gunicorn(process, log_file or own_log, own_log.parent, bind)
        self._running.append(gunicorn)
        return gunicorn

    def end_all(self) -> None:
        for gunicorn in self._running:
            gunicorn.end()
        self._running.clear()


def run_gunicorn(
    app: str,
    *options: str,
    worker: str | None = WORKER,
    env: Mapping[str, str] | None = None,
    program: str = "gunicorn",
) -> tuple[int, str]:
    """Run a `gunicorn` that is expected to end by itself. Its exit code and all that it has written."""
    process = subprocess.Popen(
        _command(app, options, worker, "127.0.0.1:0", program),
        env=_environment(env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=START_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode, output


def peak_memory_bytes(pid: int) -> int:
    """The most memory that a process has had resident since `reset_peak_memory`."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024


def reset_peak_memory(pid: int) -> int:
    """Let the peak start anew from what is resident now, which is returned."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")
    return peak_memory_bytes(pid)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def open_files(pid: int) -> int:
    return psutil.Process(pid).num_fds()


def _command(app: str, options: tuple[str, ...], worker: str | None, bind: str, program: str = "gunicorn") -> list[str]:
    target = app if ":" in app else f"{app}:app"
    # Not `-m gunicorn`: with that, a master that SIGUSR2 starts would find Gunicorn's own modules at the top level.
    start = ["-m", program] if program != "gunicorn" else [str(Path(sys.executable).with_name("gunicorn"))]
    command = [sys.executable, *start, "--bind", bind]
    if worker is not None:
        command += ["--worker-class", worker]
    if "control_socket_disable" in KNOWN_SETTINGS:
        # Its default path is the same for all servers of a user.
        command.append("--no-control-socket")
    return [*command, *options, f"tests.integration.apps.{target}"]


def _environment(added: Mapping[str, str]) -> dict[str, str]:
    # Neither may decide what the server does; the second are options of the worker.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GUNICORN_CMD_ARGS", "GUNICORN_ASGI_"))
    }
    paths = [path for path in (added.get("PYTHONPATH"), str(ROOT)) if path]
    return {**environment, "PYTHONUNBUFFERED": "1", **added, "PYTHONPATH": os.pathsep.join(paths)}
