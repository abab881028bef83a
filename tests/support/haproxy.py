"""A real HAProxy in front of a server."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .listening import listening
from .system import find_program, needs

needs_haproxy: Final = needs("haproxy", "haproxy")

_DEFAULTS: Final = """\
defaults
    timeout connect 20s
    timeout client 60s
    timeout server 60s
"""


@contextlib.contextmanager
def haproxy(directory: Path, sections: str) -> Iterator[tuple[str, int]]:
    """Run HAProxy with these sections of its configuration, in which PORT stands for the port it listens on.

    Gives host and port. What it has to say is in `haproxy.log` in `directory`.
    """
    program = find_program("haproxy")
    assert program is not None
    configuration = directory / "haproxy.cfg"

    def command(port: int) -> list[str]:
        configuration.write_text(_DEFAULTS + sections.replace("PORT", str(port)))
        return [program, "-db", "-f", str(configuration)]

    with listening(command, directory / "haproxy.log") as address:
        yield address
