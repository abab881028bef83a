"""Writes docs/settings.md from the tables of the package: `python docs/settings_page.py`, or `make format`.

A test compares the page with what this makes.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gunicorn_asgi.gunicorn_settings import GUNICORN_SETTINGS, Fate  # noqa: E402
from gunicorn_asgi.options import ENVIRONMENT_PREFIX, NO_EFFECT, OPTIONS, SILENT, Origin  # noqa: E402

PAGE = ROOT / "docs" / "settings.md"

HEAD = """\
# Settings and options

<!-- Made by docs/settings_page.py from the tables in gunicorn_settings.py and options.py of the package. -->

`gunicorn --help` names Gunicorn's settings; the first part says what becomes of each. The second part lists the
options that Gunicorn has no setting for, or that say the same in the words of `uvicorn.Config`.

There are three ways to give an option, and what the operator sets wins:

1. the environment: `{prefix}WS_PING_INTERVAL=10`, also in Gunicorn's `raw_env`;
2. the worker class: `CONFIG_KWARGS` of a subclass, edits of `self.config` in its `__init__`, or in `gunicorn.conf.py`
   `worker_class = gunicorn_asgi.Worker.configure(ws_ping_interval=10)`;
3. the Gunicorn setting that says the same, and then the default.

In the environment an empty variable says nothing, as if it were not there: that is what docker compose makes of one
that has no value. Only an empty `{prefix}FORWARDED_ALLOW_IPS` trusts nobody. `None` (in the environment `none`) is a
value where the table below says so, and wins like others. But `None` of an `ssl_*` option, of
`timeout_graceful_shutdown` and of `forwarded_allow_ips` says nothing: the next in this list
counts, so that no option takes TLS away from a bind that has Gunicorn's `certfile`.

Kubernetes sets `{prefix}PORT=tcp://...`, `{prefix}SERVICE_HOST` and more where a service is called `gunicorn-asgi`;
these are not looked at. In an `env_file` options have no effect, since they are read before it. Passwords, and values
of unknown names that look like one, are never shown in a message.

What cannot be honoured is refused when Gunicorn starts, with exit code 1 and one line that names the setting, its value
and what to do. To find out before:

    python -m gunicorn_asgi --check-config [the arguments of gunicorn]

`gunicorn --check-config` loads the configuration and the application, but never asks the worker class, so it cannot
find these mistakes. Mistakes that come with a reload (HUP) are told in the error log, and the workers that replace the
old ones go on with the settings from before. Only they can find out that the application does not have an
`interface` or is no `factory`, or that the factory of a `loop` makes none: then these options stay as they were, and
the rest is new.
"""


def page() -> str:
    """The text of the page."""
    return "\n".join([HEAD.format(prefix=ENVIRONMENT_PREFIX), *_settings(), *_options()])


def _settings() -> Iterator[str]:
    yield "## Settings of Gunicorn 22 to 27\n"
    for fate in Fate:
        yield f"### {fate.value}\n"
        named = {name: about for name, (of, about) in GUNICORN_SETTINGS.items() if of is fate}
        if not any(named.values()) or fate is Fate.HOOK:
            yield ", ".join(f"`{name}`" for name in named) + ".\n"
            continue
        yield from _table(("setting", ""), ((f"`{name}`", about) for name, about in named.items()))


def _options() -> Iterator[str]:
    yield "## Options\n"
    yield "### In the words of `uvicorn.Config`\n"
    yield from _options_of(Origin.UVICORN)
    yield "### Of this worker\n"
    yield from _options_of(Origin.OURS)
    yield "### Keywords of `uvicorn.Config` without effect\n"
    yield "Ignored with one warning, unless they are None:\n"
    yield from _table(("keyword", "instead"), ((f"`{name}`", remedy) for name, remedy in NO_EFFECT.items()))
    yield f"Ignored silently: {', '.join(f'`{name}`' for name in sorted(SILENT))}.\n"
    yield 'Refused: protocol classes of uvicorn, `http="zttp"`, and every other name.\n'


def _options_of(origin: Origin) -> Iterator[str]:
    rows = (
        (
            f"`{option.name}`",
            f"`{option.setting}`" if option.setting else "",
            _default(option.default, option.setting),
            option.kind.expected,
            option.about,
        )
        for option in OPTIONS.values()
        if option.origin is origin
    )
    yield from _table(("option", "overrides", "default", "value", ""), rows)


def _default(value: Any, setting: str) -> str:
    if setting:
        return "the setting"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if value == ():
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    lines = [head, ("---",) * len(head), *rows]
    yield "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
