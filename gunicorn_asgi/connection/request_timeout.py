"""The option `request_timeout`, as an application around the application: where it is not set it costs nothing."""

import asyncio

from ..asgi_types import Application, Receive, Send, SendMessage
from ..errors import RequestTimeout


def with_request_timeout(app: Application, seconds: float, loop: asyncio.AbstractEventLoop) -> Application:
    """`app`, cancelled when it has not sent the first content of a response within `seconds` of loop time.

    The exchange gets a RequestTimeout then, and answers with 504. Neither lifespan nor WebSockets are timed.
    """

    async def timed(scope: dict[str, object], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            task.cancel()

        timer = loop.call_later(seconds, expire)

        async def send_in_time(message: SendMessage) -> None:
            # The head alone is held back: only with its content is there an answer.
            if message["type"] == "http.response.body":
                timer.cancel()
            await send(message)

        try:
            await app(scope, receive, send_in_time)
        except asyncio.CancelledError:
            if not expired:
                raise
        finally:
            timer.cancel()
        if expired:
            raise RequestTimeout(seconds)

    return timed
