"""The file of environment variables that the option `env_file` names."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .errors import SettingsError

_loaded: Final[dict[str, str]] = {}
"""What the environment has of the file that was loaded last."""


def read_env_file(path: str) -> Mapping[str, str | None]:
    """The variables in the file, as they are written there. Raises SettingsError for a file that cannot be loaded."""
    try:
        from dotenv import dotenv_values
    except ImportError as error:
        raise SettingsError(
            f"env_file={path!r} needs the python-dotenv package, which cannot be imported ({error}); "
            "run 'pip install gunicorn-asgi[dotenv]'"
        ) from None
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise SettingsError(f"env_file={path!r} cannot be read: {error.strerror}; correct or remove it") from None
    except ValueError as error:
        raise SettingsError(f"env_file={path!r} is no text in UTF-8 ({error}); correct or remove it") from None
    if "\0" in text:
        raise SettingsError(f"env_file={path!r} has a NUL byte in it; correct or remove it")
    return dotenv_values(path, interpolate=False)


def load_env_file(path: str) -> None:
    """Set what the environment does not have yet. Raises SettingsError for a file that cannot be loaded.

    What was loaded before is taken out first, so that the file is read anew and not defended against itself.
    """
    unload_env_file()
    names = [name for name in read_env_file(path) if name not in os.environ]
    from dotenv import load_dotenv

    load_dotenv(path)
    _loaded.update((name, os.environ[name]) for name in names if name in os.environ)


def unload_env_file() -> None:
    """Take out of the environment what `load_env_file` has set, unless somebody has changed it since."""
    for name, value in _loaded.items():
        if os.environ.get(name) == value:
            del os.environ[name]
    _loaded.clear()
