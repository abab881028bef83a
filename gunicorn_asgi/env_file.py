"""The file of environment variables that the option `env_file` names."""

from pathlib import Path

from .errors import SettingsError


def check_env_file(path: str) -> None:
    """Raises SettingsError where `load_env_file` would."""
    try:
        import dotenv  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"env_file={path!r} needs the python-dotenv package, which cannot be imported ({error}); "
            "run 'pip install gunicorn-asgi[dotenv]'"
        ) from None
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"env_file={path!r} cannot be read: {error.strerror}; correct or remove it") from None


def load_env_file(path: str) -> None:
    """Set what the environment does not have yet. Raises SettingsError for a file that cannot be read."""
    check_env_file(path)
    from dotenv import load_dotenv

    load_dotenv(path)
