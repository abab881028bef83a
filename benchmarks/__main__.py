"""Measure the worker beside other servers: python -m benchmarks [options]."""

import argparse
import itertools
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from . import picture, report
from .clients import missing_program
from .errors import BenchmarkError
from .measure import choose_cores, measure
from .results import Results
from .servers import SERVERS, missing_modules
from .workloads import WORKLOADS, Workload


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 measured, whatever the goals say; 1 not measured; 2 something has to be installed."""
    options = _parser().parse_args(arguments)
    workloads = [workload for name, workload in WORKLOADS.items() if name in (options.workload or WORKLOADS)]
    servers = options.server or list(SERVERS)
    taking_part = {name for workload in workloads for name in workload.servers if name in servers}
    lacking = [hint for hint in {missing_program(workload.client) for workload in workloads} if hint is not None]
    modules = missing_modules(taking_part)
    if modules:
        lacking.append(f"{', '.join(modules)} cannot be imported: run 'make bench', or install the group 'bench'")
    if lacking:
        print("\n".join(lacking), file=sys.stderr)
        return 2
    if not taking_part:
        print("None of these servers takes part in these workloads.", file=sys.stderr)
        return 2

    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    try:
        results = _run(workloads, servers, options.rounds, options.seconds)
    except BenchmarkError as error:
        _progress("")
        print(f"Not measured: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _progress("")
        print("Stopped; all servers have been ended.", file=sys.stderr)
        return 130

    print(report.table(results))
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(results.as_json(), "utf-8")
    (output / "ratios.svg").write_text(picture.svg(results), "utf-8")
    print(f"\nWritten: {output / 'results.json'}, {output / 'ratios.svg'}")
    return 0


def _run(workloads: Sequence[Workload], servers: Sequence[str], rounds: int, seconds: int) -> Results:
    cores = choose_cores()
    measured = []
    for _, group in itertools.groupby(workloads, key=lambda workload: workload.turn_group):
        taking_part = [workload for workload in group if set(workload.servers) & set(servers)]
        if taking_part:
            measured.append(measure(taking_part, servers, rounds, seconds, cores, _progress))
    _progress("")
    return Results(workloads, measured, cores)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=5, help="how often each server is asked (%(default)s)")
    parser.add_argument("--seconds", type=_positive, default=3, help="how long each time (%(default)s)")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="only this one; may be repeated")
    parser.add_argument("--server", action="append", choices=SERVERS, help="only this one; may be repeated")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_name("results"),
        metavar="DIR",
        help="where results.json and ratios.svg go (benchmarks/results)",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _progress(text: str) -> None:
    """One line that overwrites itself; nothing where nobody watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
