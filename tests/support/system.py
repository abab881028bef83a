"""Programs of the system that some tests need beside Python packages."""

import os
import shutil
from typing import Final

import pytest

SKIP_NOTHING: Final = os.environ.get("GUNICORN_ASGI_TESTS_SKIP_NOTHING") == "1"
"""Whether a missing program is a failure, as it is in the full run, which installs them all."""


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Mark a test that runs `program`, which Debian has in `package`: skipped, with the reason, where it is missing."""
    missing = find_program(program) is None and not SKIP_NOTHING
    return pytest.mark.skipif(missing, reason=f"needs {program} (Debian package {package})")


def find_program(program: str) -> str | None:
    """Its path, also where it lies in a directory of the administrator that is not searched for commands."""
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
