"""`python -m gunicorn_asgi` takes the arguments of `gunicorn`, and has `gunicorn_asgi.Worker` as worker class.

With `--check-config` it asks the worker class, too, which `gunicorn --check-config` does not: that one only loads the
configuration and the application. Every mistake is told in one line, with exit code 1.
"""

import os
import sys
from typing import Any

from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.errors import AppImportError

from .errors import SettingsError
from .workers import Worker


class CheckingApplication(WSGIApplication):  # type: ignore[misc]  # Gunicorn ships no types.
    """Gunicorn's command line."""

    def load_default_config(self) -> None:
        """Called by Gunicorn before it reads anything."""
        super().load_default_config()
        self.cfg.set("worker_class", "gunicorn_asgi.Worker")

    def run(self) -> None:
        """Check, or do what `gunicorn` does."""
        if not self.cfg.check_config:
            super().run()
            return
        if self.cfg.print_config:
            print(self.cfg)
        try:
            self._check()
        except (RuntimeError, AppImportError) as error:
            print(f"\nError: {error}\n", file=sys.stderr)
            sys.exit(1)

    def _check(self) -> None:
        os.environ.update(self.cfg.env)
        log = self.cfg.logger_class(self.cfg)
        worker_class = self._worker_class()
        if hasattr(worker_class, "check_config"):
            worker_class.check_config(self.cfg, log)
        if issubclass(worker_class, Worker):
            worker_class.check_application(self.load, log)

    def _worker_class(self) -> Any:
        try:
            worker_class = self.cfg.worker_class
        except SettingsError:
            raise
        except RuntimeError as error:  # Gunicorn's message holds a traceback, of the exception that it was raised in.
            raise self._not_found(error.__context__ or error) from None
        if not isinstance(worker_class, type):  # For a name that the module lacks, Gunicorn gives back the text.
            raise self._not_found("there is no such class in its module")
        return worker_class

    def _not_found(self, reason: object) -> SettingsError:
        name = self.cfg.settings["worker_class"].get()
        return SettingsError(f"worker_class={name!r} cannot be imported: {reason}; use 'gunicorn_asgi.Worker'")


if __name__ == "__main__":
    CheckingApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog="python -m gunicorn_asgi").run()
