"""What was measured, as medians, ratios and goals, and with what it was measured."""

import importlib.metadata
import json
import os
import platform
import statistics
import sysconfig
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from .measure import Cores, Entry, Measured, Sample
from .servers import SERVERS
from .workloads import Workload

_DISTRIBUTIONS: Final = (
    "gunicorn-asgi", "gunicorn", "gunicorn-h1c", "uvicorn", "uvicorn-worker", "granian", "uvloop", "httptools",
    "fastapi", "starlette", "pydantic", "websockets", "picows",
)  # fmt: skip
_BUSY: Final = 0.9


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


@dataclass(frozen=True)
class Comparison:
    """Ours against another entry: the ratio of each round, then the median."""

    workload: Workload
    other: Entry
    ratio: Spread
    goal: float | None

    @property
    def label(self) -> str:
        """The other side, as tables and pictures call it."""
        if self.other.workload == self.workload.name:
            return SERVERS[self.other.server].title
        return f"{self.other.server} in {self.other.workload}"

    @property
    def verdict(self) -> str:
        """Empty where no goal is set."""
        if self.goal is None:
            return ""
        return f"goal {self.goal:.2f} {'met' if self.ratio.median >= self.goal else 'missed'}"


class Results:
    """The samples of a run and what follows from them."""

    def __init__(self, workloads: Sequence[Workload], measured: Sequence[Measured], cores: Cores) -> None:
        self.workloads = workloads
        self._samples: dict[Entry, list[Sample]] = {}
        self._commands: dict[Entry, str] = {}
        for part in measured:
            self._samples.update(part.samples)
            self._commands.update(part.commands)
        self._cores = cores
        self.environment = _environment(workloads)

    def rate(self, entry: Entry) -> Spread:
        return Spread.of(sample.load.rate for sample in self._samples[entry])

    def entries(self, workload: Workload) -> list[Entry]:
        return [entry for entry in self._samples if entry.workload == workload.name]

    def comparisons(self, workload: Workload) -> list[Comparison]:
        """Every other server of the workload, then goals that look at another workload."""
        ours = Entry(workload.name, workload.ours)
        if ours not in self._samples:
            return []
        goals = {Entry(goal.workload or workload.name, goal.server): goal.at_least for goal in workload.goals}
        others = [entry for entry in self.entries(workload) if entry != ours]
        others += [entry for entry in goals if entry in self._samples and entry not in others]
        return [Comparison(workload, other, self._ratio(ours, other), goals.get(other)) for other in others]

    def busy(self, entry: Entry) -> float:
        """Share of a core that the server has used, the median of its rounds."""
        return statistics.median(sample.busy for sample in self._samples[entry])

    def doubts(self) -> list[str]:
        """What a reader has to know before believing the figures."""
        doubts = []
        if not self.environment["optimised_python"]:
            doubts.append(
                "This Python was built without profile-guided optimisation, unlike those of distributions and images: "
                "servers written in Python look slower here than they are beside those that are not."
            )
        if not self._cores.separate:
            return [*doubts, "Servers and client shared their cores: these figures say little."]
        idle = [f"{entry.workload} {entry.server}" for entry in self._samples if self.busy(entry) < _BUSY]
        if not idle:
            return doubts
        return [*doubts, f"Had less than {_BUSY:.0%} of a core, so measure again on a quiet machine: {', '.join(idle)}"]

    def as_json(self) -> str:
        """All raw figures."""
        figures: list[dict[str, Any]] = [
            {
                **entry._asdict(),
                "command": self._commands[entry],
                "requests_per_second": asdict(self.rate(entry)),
                "rounds": [{**asdict(sample.load), "busy": round(sample.busy, 3)} for sample in samples],
            }
            for entry, samples in self._samples.items()
        ]
        ratios = [
            {
                "workload": workload.name,
                "to": comparison.other._asdict(),
                "ratio": asdict(comparison.ratio),
                "goal": comparison.goal,
            }
            for workload in self.workloads
            for comparison in self.comparisons(workload)
        ]
        cores = {"servers": sorted(self._cores.servers), "client": sorted(self._cores.client)}
        whole = {"environment": {**self.environment, "cores": cores}, "figures": figures, "ratios": ratios}
        return json.dumps({**whole, "doubts": self.doubts()}, indent=2)

    def _ratio(self, ours: Entry, other: Entry) -> Spread:
        pairs = zip(self._samples[ours], self._samples[other], strict=True)
        return Spread.of(own.load.rate / its.load.rate for own, its in pairs)


def _environment(workloads: Sequence[Workload]) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "optimised_python": _is_optimised_python(),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "clients": sorted({workload.client.version() for workload in workloads}),
        "packages": {name: _version(name) for name in _DISTRIBUTIONS},
    }


def _is_optimised_python() -> bool:
    """Whether the interpreter was compiled by what it does most, as `./configure --enable-optimizations` makes it.

    Debian does so without that option, and leaves the flag for it empty.
    """
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "--enable-optimizations" in options or not sysconfig.get_config_var("PGO_PROF_USE_FLAG")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
