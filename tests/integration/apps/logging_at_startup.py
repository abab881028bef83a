"""An application that attaches something of its own to the access logger when it starts."""

import json
import logging
import sys

from .probe import Receive, Scope, Send, respond


class JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"level": record.levelname, "access": record.getMessage()})


class NotForProbes(logging.Filter):
    """Leaves out what a load balancer asks once a second."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "/healthy" not in record.getMessage()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        logger = logging.getLogger("gunicorn.access")
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(JSONFormatter())
        logger.addHandler(handler)
        logger.addFilter(NotForProbes())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await respond(send, b"hello")
