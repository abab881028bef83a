"""The results as a table for the terminal."""

from collections.abc import Iterator, Sequence

from .results import Results, Spread
from .servers import SERVERS
from .workloads import Workload

_HEADER = ("server", "requests/s", "min to max", "core", "ours / it", "min to max", "")


def table(results: Results) -> str:
    """Everything that a reader of the terminal needs."""
    lines: list[str] = []
    for workload in results.workloads:
        lines += ["", f"{workload.name}: {workload.title}", *_aligned([_HEADER, *_rows(results, workload)])]
    doubts = results.doubts()
    if doubts:
        lines += ["", *doubts]
    return "\n".join([*lines, "", *_environment_lines(results)])


def _rows(results: Results, workload: Workload) -> Iterator[tuple[str, ...]]:
    comparisons = {comparison.other: comparison for comparison in results.comparisons(workload)}
    for entry in results.entries(workload):
        title, rate = SERVERS[entry.server].title, results.rate(entry)
        measured = (title, f"{rate.median:,.0f}", f"{rate.low:,.0f} to {rate.high:,.0f}", f"{results.busy(entry):.0%}")
        comparison = comparisons.pop(entry, None)
        if comparison is None:
            yield (*measured, "", "", "")
        else:
            yield (*measured, *_ratio(comparison.ratio), comparison.verdict)
    for comparison in comparisons.values():
        yield (comparison.label, "", "", "", *_ratio(comparison.ratio), comparison.verdict)


def _ratio(ratio: Spread) -> tuple[str, str]:
    return f"{ratio.median:.2f}", f"{ratio.low:.2f} to {ratio.high:.2f}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The first and last columns to the left, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = []
    for first, *figures, last in rows:
        cells = [figure.rjust(width) for figure, width in zip(figures, widths[1:-1], strict=True)]
        lines.append("  ".join(["", first.ljust(widths[0]), *cells, last]).rstrip())
    return lines


def _environment_lines(results: Results) -> list[str]:
    environment = results.environment
    packages = [f"{name} {version}" for name, version in environment["packages"].items() if version]
    machine = (environment["python"], environment["cpu"], environment["system"], *environment["clients"])
    return ["; ".join(machine), ", ".join(packages)]
