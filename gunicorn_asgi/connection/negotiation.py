"""What is spoken on an accepted socket."""

import asyncio
import functools
from collections.abc import Callable

from .context import ServingContext
from .http1 import Http1Connection


def protocol_factory(context: ServingContext) -> Callable[[], asyncio.Protocol]:
    """Makes the protocol of one accepted socket."""
    return functools.partial(Http1Connection, context)
