"""Which event loop a worker runs on."""

import asyncio
import importlib
from collections.abc import Callable
from typing import Any, TypeAlias

from .errors import SettingsError

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


def loop_factory(name: str, log: Any = None) -> LoopFactory:
    """What makes the loop that the option `loop` names: `auto`, `asyncio`, `uvloop`, or `module:callable`.

    `log`, where it is given, is told when `auto` does not find uvloop. Raises SettingsError for what is not installed.
    """
    if name == "asyncio":
        return asyncio.new_event_loop
    if name in ("auto", "uvloop"):
        try:
            import uvloop
        except ImportError as error:
            if name == "uvloop":
                raise SettingsError(
                    f"loop='uvloop' cannot be imported ({error}); run 'pip install uvloop', or use 'auto'"
                ) from None
            if log is not None:
                log.info("uvloop is not installed: serving on the slower asyncio event loop")
            return asyncio.new_event_loop
        return uvloop.new_event_loop
    module, _, attribute = name.partition(":")
    try:
        factory: Any = importlib.import_module(module)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"loop={name!r} cannot be imported: {error}; correct it, or use 'auto'") from None
    if not callable(factory):
        raise SettingsError(f"loop={name!r} is not callable; name a class or function that makes an event loop")
    made: LoopFactory = factory
    return made


def new_loop(name: str, log: Any = None) -> asyncio.AbstractEventLoop:
    """A loop of the kind that `loop_factory` describes. Raises SettingsError also where a factory of the user fails, or
    gives something else."""
    try:
        loop: object = loop_factory(name, log)()
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(f"loop={name!r} makes no event loop: {error!r}; correct it, or use 'auto'") from error
    if not isinstance(loop, asyncio.AbstractEventLoop):
        raise SettingsError(f"loop={name!r} makes no event loop but {loop!r}; correct it, or use 'auto'")
    return loop
