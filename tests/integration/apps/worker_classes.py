"""Workers with options, as people write them."""
# ruff: noqa: RUF012  # People leave such attributes without annotations.

import asyncio
import os
from typing import Any

from gunicorn_asgi import Worker

from .probe import note


async def callback() -> None:
    await note("notified")


NOTIFIED = Worker.configure(callback_notify=callback, timeout_notify=0.1)


class Overriding(Worker):
    CONFIG_KWARGS = {"timeout_notify": 0.1}

    async def callback_notify(self) -> None:
        await super().callback_notify()
        await note("notified")


class Lasting(Worker):
    """Its callback goes on until the worker ends."""

    CONFIG_KWARGS = {"timeout_notify": 0.1}

    async def callback_notify(self) -> None:
        await note("notified")
        try:
            await asyncio.Event().wait()
        finally:
            await note("callback has ended")


class Broken(Worker):
    CONFIG_KWARGS = {"ws_max_sise": 5}


class WithoutOptions(Worker):
    CONFIG_KWARGS = None  # type: ignore[assignment]


class Wordless:
    def __repr__(self) -> str:
        raise ValueError("no words")


class WithoutWords(Worker):
    CONFIG_KWARGS = {"ws_max_queue": Wordless()}


class BrokenInInit(Worker):
    """Makes the mistake where nobody can check it before the fork."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config.interfaze = "asgi3"


class WarnedAbout(Worker):
    CONFIG_KWARGS = {"host": "0.0.0.0", "workers": 4, "reload": True, "log_config": {}, "use_colors": True, "app": None}


class Configured(Worker):
    CONFIG_KWARGS = {"headers": [("x-from", "class")], "root_path": "/class"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config.lifespan = "off"
        if os.environ.get("EDIT_ROOT_PATH"):
            self.config.root_path = "/edited"
