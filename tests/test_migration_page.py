"""What docs/migration.md names is there: options of this worker, of Gunicorn, and of the servers it is about."""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from gunicorn.config import KNOWN_SETTINGS

from gunicorn_asgi.gunicorn_settings import GUNICORN_SETTINGS
from gunicorn_asgi.options import OPTIONS

PAGE: Final = (Path(__file__).parents[1] / "docs/migration.md").read_text("utf-8")
SECTIONS: Final = {
    "uvicorn": "From uvicorn's own command line",
    "granian": "From Granian",
    "hypercorn": "From Hypercorn",
}

OF_GUNICORN: Final = {
    *itertools.chain.from_iterable(setting.cli or () for setting in KNOWN_SETTINGS),
    # Those of versions that are not installed.
    *(f"--{name.replace('_', '-')}" for name in GUNICORN_SETTINGS),
}


def names_of_options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]", text))


def rows(section: str) -> Iterator[tuple[str, str]]:
    """Both columns of the table in this section of the page."""
    content = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    for line in content.splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            there, here = line.strip("| ").split(" | ")
            yield there, here


def test_its_variables_are_options() -> None:
    names = {name.lower() for name in re.findall(r"GUNICORN_ASGI_([A-Z0-9_]+)", PAGE)}
    assert names - set(OPTIONS) == set()


@pytest.mark.parametrize("program", SECTIONS)
def test_what_it_says_to_use_here_is_an_option_of_gunicorn(program: str) -> None:
    used = set().union(*(names_of_options(here) for _, here in rows(SECTIONS[program])))
    assert used
    assert used - OF_GUNICORN == set()


@pytest.mark.parametrize("program", SECTIONS)
def test_what_it_says_was_used_there_is_an_option_of_that_server(program: str) -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", program, "--help"],
        env={**os.environ, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    used = set().union(*(names_of_options(there) for there, _ in rows(SECTIONS[program])))
    assert used
    assert used - names_of_options(help_text) == set()
