"""The measurement: all servers of a group up at once, in turns, in rounds.

A machine is never quiet for minutes, and its clock rate drifts. So servers are not measured one after the other: each
round asks every server once, in an order that rotates, and two servers are compared within a round only.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from .clients import Load
from .servers import Deployment, RunningServer, end_all
from .workloads import Workload

_WARM_UP_SECONDS: Final = 1


class Entry(NamedTuple):
    """One server in one workload."""

    workload: str
    server: str


@dataclass(frozen=True)
class Sample:
    """One entry in one round."""

    load: Load
    busy: float
    """Share of one core that the server has used meanwhile."""


@dataclass(frozen=True)
class Cores:
    """Where servers and client run; equal where the system has one core or cannot pin."""

    servers: frozenset[int]
    client: frozenset[int]

    @property
    def separate(self) -> bool:
        return self.servers != self.client


@dataclass(frozen=True)
class Measured:
    """What one group of workloads has given."""

    samples: dict[Entry, list[Sample]]
    """One for each round."""
    commands: dict[Entry, str]


def choose_cores() -> Cores:
    """One core for the servers and another for the client, not two threads of one core if there is a choice."""
    if not hasattr(os, "sched_setaffinity"):
        return Cores(frozenset(), frozenset())
    usable = sorted(os.sched_getaffinity(0))
    server = usable[0]
    others = [core for core in usable if core not in _threads_of_core(server)] or usable[1:] or usable
    return Cores(frozenset({server}), frozenset({others[-1]}))


def measure(
    workloads: Sequence[Workload],
    servers: Sequence[str],
    rounds: int,
    seconds: int,
    cores: Cores,
    progress: Callable[[str], None],
) -> Measured:
    """Measure workloads that take turns. Raises BenchmarkError rather than give a figure that is not fair.

    No process is left behind, whatever is raised.
    """
    entries = [(workload, name) for workload in workloads for name in workload.servers if name in servers]
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory, _started(Path(directory), cores) as start:
        running = {
            Entry(workload.name, name): start(name, Deployment(workload.app, workload.access_log))
            for workload, name in entries
        }
        for server in running.values():
            server.wait_until_ready()
        for workload, name in entries:
            running[Entry(workload.name, name)].check(
                workload.client, workload.target, workload.fields, workload.answer
            )
        for workload, name in entries:
            progress(f"{workload.name}: warming up {name}")
            _sample(running[Entry(workload.name, name)], workload, _WARM_UP_SECONDS)
        samples: dict[Entry, list[Sample]] = {entry: [] for entry in running}
        for number in range(rounds):
            first = number % len(entries)
            for workload, name in entries[first:] + entries[:first]:
                progress(f"{workload.name}: round {number + 1} of {rounds}, {name}")
                entry = Entry(workload.name, name)
                samples[entry].append(_sample(running[entry], workload, seconds))
        return Measured(samples, {entry: server.command for entry, server in running.items()})


def _sample(server: RunningServer, workload: Workload, seconds: int) -> Sample:
    server.forget_log()
    cpu = server.cpu_seconds()
    load = workload.client.run(server.url(workload.target), workload.fields, seconds, server.requests_per_connection)
    busy = (server.cpu_seconds() - cpu) / load.seconds
    server.expect_logged(load.answers)
    server.forget_log()
    return Sample(load, busy)


@contextlib.contextmanager
def _started(directory: Path, cores: Cores) -> Iterator[Callable[[str, Deployment], RunningServer]]:
    """Gives the function that starts servers on their core, while this process and the clients it starts use theirs."""
    running: list[RunningServer] = []

    def start(name: str, deployment: Deployment) -> RunningServer:
        own = directory / str(len(running))
        own.mkdir()
        with _on(cores.servers):  # Inherited by the server and all its threads and processes.
            running.append(RunningServer(name, deployment, own))
        return running[-1]

    with _on(cores.client):
        try:
            yield start
        finally:
            end_all(running)


@contextlib.contextmanager
def _on(cores: frozenset[int]) -> Iterator[None]:
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _threads_of_core(cpu: int) -> set[int]:
    """The logical processors that share a core with `cpu`."""
    try:
        listed = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text("ascii").strip()
    except OSError:
        return {cpu}
    ranges = [part.partition("-") for part in listed.split(",")]
    return {each for low, _, high in ranges for each in range(int(low), int(high or low) + 1)}
