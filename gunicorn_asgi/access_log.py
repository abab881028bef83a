"""Where the access log goes.

Two ways lead to it. `StreamAccessLog` writes finished lines straight to the stream of Gunicorn's one plain handler
and flushes once a loop turn, because `Logger.access` costs 17 us a line and this 2 us. `LoggerAccessLog` calls the
logger's own `access()` with the objects that it documents, for every logger, handler, filter or formatter of a user.
The text is the same both ways (`access_line.py`).
"""

import datetime
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TextIO, cast

from .access_line import (
    FinishedExchange,
    compile_format,
    environ_of,
    log_time,
    microseconds,
    one_line,
    response_fields_of,
)
from .gunicorn_objects import GunicornRequest, GunicornResponse


class AccessLog(Protocol):
    """Where finished exchanges go."""

    def write(self, exchange: FinishedExchange, duration_seconds: float) -> None:
        """Log an exchange that took so long."""


class GunicornLogger(Protocol):
    """The part of a Gunicorn logger that an access log needs."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None: ...


# Straight to the stream


class StreamAccessLog:
    """Writes lines straight to a text stream, flushed once a loop turn.

    `stream` gives the stream anew for each batch, since a handler may replace it when log files are reopened, or None
    where lines have to go another way from now on: to `otherwise`. What goes wrong is reported through `on_error`,
    never to a request. Raises SettingsError as `compile_format` does.
    """

    __slots__ = ("_begun_with", "_call_soon", "_line", "_lines", "_now", "_on_error", "_otherwise", "_stream")

    def __init__(
        self,
        access_log_format: str,
        stream: Callable[[], TextIO | None],
        call_soon: Callable[[Callable[[], None]], object],
        on_error: Callable[[Exception], None],
        otherwise: AccessLog | None = None,
    ) -> None:
        self._line = compile_format(access_log_format)
        self._stream = stream
        self._call_soon = call_soon
        self._on_error = on_error
        self._otherwise = otherwise
        self._lines: list[str] = []
        self._now = ""
        self._begun_with: TextIO | None = None

    def write(self, exchange: FinishedExchange, duration_seconds: float) -> None:
        """See `AccessLog.write`."""
        lines = self._lines
        if not lines:
            if self._otherwise is not None:
                self._begun_with = self._stream()
                if self._begun_with is None:
                    self._otherwise.write(exchange, duration_seconds)
                    return
            self._call_soon(self.flush)
            self._now = log_time()
        try:
            lines.append(self._line(exchange, duration_seconds, self._now))
        except Exception as error:  # The application had the scope in its hands and may have left anything there.
            self._on_error(error)

    def flush(self) -> None:
        """Write out what has gathered."""
        if not self._lines:
            return
        self._lines.append("")
        text = "\n".join(self._lines)
        self._lines.clear()
        try:
            # Whoever has attached something to the logger in this turn gets the lines of the next.
            stream = self._stream() or self._begun_with
            assert stream is not None
            try:
                stream.write(text)
            except UnicodeEncodeError:
                stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
            stream.flush()
        except (OSError, ValueError) as error:
            self._on_error(error)


class PlainStream:
    """The stream of the one plain handler that a logger had when this was made.

    Called, it gives the stream, or None as soon as anything is attached or changed that `logging` would ask: then lines
    must not bypass it.
    """

    __slots__ = ("_formatter", "_handler", "_handlers", "_logger", "_terminator")

    def __init__(self, logger: logging.Logger, handler: "logging.StreamHandler[TextIO]") -> None:
        self._logger = logger
        self._handler = handler
        self._handlers: list[logging.Handler] = [handler]
        self._formatter = handler.formatter
        self._terminator = handler.terminator

    def __call__(self) -> TextIO | None:
        logger, handler = self._logger, self._handler
        if (
            logger.handlers != self._handlers
            or logger.filters
            or handler.filters
            or handler.level
            or logger.propagate
            or logger.disabled
            or handler.formatter is not self._formatter
            or handler.terminator is not self._terminator
            or not logger.isEnabledFor(logging.INFO)
        ):
            return None
        return handler.stream


class WriteErrors:
    """Tells the error log that the access log cannot be written: one line, then one in a while.

    A disk that is full fails every write.
    """

    __slots__ = ("_error_log", "_next_at", "_unsaid")

    def __init__(self, error_log: Callable[..., object]) -> None:
        """`error_log` is called with a message and its arguments."""
        self._error_log = error_log
        self._next_at = 0.0
        self._unsaid = 0

    def __call__(self, error: Exception) -> None:
        now = time.monotonic()
        if now < self._next_at:
            self._unsaid += 1
            return
        self._next_at = now + SECONDS_BETWEEN_ERRORS
        unsaid, self._unsaid = self._unsaid, 0
        since = f" ({unsaid} more times since this was said last)" if unsaid else ""
        self._error_log("The access log cannot be written: %r%s", error, since)


SECONDS_BETWEEN_ERRORS: Final = 10.0


# Through a logger


class LoggerAccessLog:
    """Hands each record to the `access()` of a Gunicorn logger. An error in there is reported, never raised."""

    __slots__ = ("_logger", "_on_error")

    def __init__(self, logger: GunicornLogger, on_error: Callable[[Exception], None]) -> None:
        self._logger = logger
        self._on_error = on_error

    def write(self, exchange: FinishedExchange, duration_seconds: float) -> None:
        """See `AccessLog.write`."""
        # Gunicorn's atoms leave out the days, so from one day on %(T)s counts anew here and not on the stream's way.
        duration = datetime.timedelta(microseconds=microseconds(duration_seconds))
        try:
            environ = environ_of(exchange)
            self._logger.access(_response_of(exchange), _request_of(exchange), environ, duration)
        except Exception as error:  # A user's logger may raise anything, and the response has been sent.
            self._on_error(error)


def _request_of(exchange: FinishedExchange) -> GunicornRequest:
    """The request, with values that may stand in a line."""
    request = GunicornRequest(cast(dict[str, Any], exchange.scope))
    request.method, request.uri = exchange.method, exchange.uri
    request.headers = [(name, one_line(value)) for name, value in request.headers]
    return request


def _response_of(exchange: FinishedExchange) -> GunicornResponse:
    """The response, with values that may stand in a line."""
    response = GunicornResponse(exchange.method)
    response.start(exchange.status, ())
    response.headers = response_fields_of(exchange.response_headers)
    response.headers_sent = True
    response.sent = exchange.sent_bytes
    return response
