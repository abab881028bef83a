"""The ratios as an SVG picture: one bar for each peer, a mark for each goal. It needs no other file."""

from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape

from .results import Comparison, Results

_WIDTH: Final = 820
_BARS_LEFT: Final = 290
_BARS_WIDTH: Final = 340
_VERDICT_LEFT: Final = 704
_ROW: Final = 28
_BAR: Final = 14
_TITLE_ROW: Final = 44
_TOP: Final = 74
_BOTTOM: Final = 44

# The picture brings its background, so that it can be read wherever a page shows it; the viewer picks the scheme.
# Plain rules and no CSS variables, which several viewers do not know.
_SHAPES: Final = """\
text { font: 13px system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
text.title { font-size: 18px; font-weight: 600; }
text.strong { font-weight: 600; }
text.soft { font-size: 12px; }
text.right { text-anchor: end; }
.spread, .one { stroke-width: 1.5; }
.goal { stroke-width: 2; stroke-dasharray: 3 2; }
"""
_COLOURS: Final = """\
.paper {{ fill: {paper}; }}
text {{ fill: {ink}; }}
text.soft {{ fill: {soft}; }}
.met {{ fill: {good}; }}
.missed {{ fill: {bad}; }}
.spread, .goal {{ stroke: {ink}; }}
.one {{ stroke: {line}; }}
"""
_LIGHT: Final = _COLOURS.format(
    paper="#ffffff", ink="#1d2433", soft="#5d6880", line="#c3cad7", good="#6f9fe8", bad="#eda25f"
)
_DARK: Final = _COLOURS.format(
    paper="#12161f", ink="#e8ecf4", soft="#9aa5bb", line="#424d63", good="#2f5fae", bad="#a35a1c"
)
_STYLE: Final = f"{_SHAPES}{_LIGHT}@media (prefers-color-scheme: dark) {{\n{_DARK}}}\n"


def svg(results: Results) -> str:
    """The whole picture."""
    groups = [(workload, results.comparisons(workload)) for workload in results.workloads]
    shown = [(workload, comparisons) for workload, comparisons in groups if comparisons]
    longest = max((max(each.ratio.high, each.goal or 0) for _, group in shown for each in group), default=1.0)
    scale = _BARS_WIDTH / max(longest, 1.0)
    body: list[str] = []
    top = _TOP
    for workload, comparisons in shown:
        body.append(_text(24, top + 26, workload.name, "strong"))
        body.append(_text(_BARS_LEFT, top + 26, workload.title, "soft"))
        top += _TITLE_ROW
        rows_end = top + _ROW * len(comparisons)
        body.append(_line("one", _BARS_LEFT + scale, top - 4, rows_end - 4))
        for comparison in comparisons:
            body += _row(comparison, top, scale)
            top += _ROW
    height = top + _BOTTOM
    size, sides = f"{_WIDTH} {height}", f'width="{_WIDTH}" height="{height}"'
    environment = results.environment
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" {sides} role="img" aria-labelledby="title">',
            '<title id="title">Requests a second of gunicorn_asgi.Worker divided by those of other servers</title>',
            f"<style>\n{_STYLE}</style>",
            f'<rect class="paper" width="{_WIDTH}" height="{height}" rx="10"/>',
            _text(24, 36, "gunicorn_asgi.Worker beside other servers", "title"),
            _text(24, 58, "Requests a second, ours divided by theirs: right of the line, ours is faster.", "soft"),
            *body,
            _text(24, height - 18, f"{environment['python']}, {environment['cpu']}", "soft"),
            _text(_WIDTH - 24, height - 18, "bar: median; thin line: spread; dashes: goal", "soft right"),
            "</svg>",
            "",
        ]
    )


def _row(comparison: Comparison, top: int, scale: float) -> Iterator[str]:
    ratio, goal = comparison.ratio, comparison.goal
    middle, base = top + _BAR / 2, top + _BAR - 2
    missed = goal is not None and ratio.median < goal
    yield _text(_BARS_LEFT - 12, base, comparison.label, "right")
    yield (
        f'<rect class="{"missed" if missed else "met"}" x="{_BARS_LEFT}" y="{top}" '
        f'width="{ratio.median * scale:.1f}" height="{_BAR}" rx="2"/>'
    )
    yield (
        f'<line class="spread" x1="{_BARS_LEFT + ratio.low * scale:.1f}" x2="{_BARS_LEFT + ratio.high * scale:.1f}" '
        f'y1="{middle}" y2="{middle}"/>'
    )
    if goal is not None:
        yield _line("goal", _BARS_LEFT + goal * scale, top - 4, top + _BAR + 4)
    yield _text(_VERDICT_LEFT - 12, base, f"{ratio.median:.2f}", "right strong")
    yield _text(_VERDICT_LEFT, base, comparison.verdict, "soft")


def _text(x: float, y: float, text: str, css_class: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{css_class}">{escape(text)}</text>'


def _line(css_class: str, x: float, top: float, bottom: float) -> str:
    return f'<line class="{css_class}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
