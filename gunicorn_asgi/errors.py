"""The errors of this package. Each says whose fault it is; those of a client also know the answer."""

from collections.abc import Sequence
from enum import IntEnum

from .asgi_types import Field


class RemoteProtocolError(Exception):
    """The client broke a rule of HTTP.

    `status` is the status code of the answer (int, 400 to 599). `reason` is a short code for the error log, such as
    `bad-host`; it is one of ours and never holds anything that the client sent. `fields` are what the answer has to say
    besides.
    """

    def __init__(self, status: int, reason: str, fields: Sequence[Field] = ()) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.fields = fields


class CloseCode(IntEnum):
    """Why a WebSocket is closed (RFC 6455 section 7.4.1 and the registry that it founds)."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_DATA = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012


class WebSocketError(Exception):
    """The client broke a rule of WebSocket, or a limit. `code` and `reason` go into the close frame that answers."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class ApplicationError(RuntimeError):
    """The application broke a rule of ASGI or asked for a response that HTTP does not allow."""


class MessageOrderError(ApplicationError):
    """The application sent a message that the state of its exchange does not allow."""

    def __init__(self, state: str, message_type: object) -> None:
        super().__init__(f"ASGI message {message_type!r} is not allowed here: {state}")
        self.state = state
        self.message_type = message_type


class ClientDisconnected(OSError):
    """`send()` after the client has gone (ASGI 2.4, "Disconnected Client - send exception")."""


class LifespanFailed(Exception):
    """The application answered `lifespan.startup` with `lifespan.startup.failed`, or startup is required and raised."""


class SettingsError(RuntimeError):
    """A setting cannot be honoured. The message names the setting, its value and what to do.

    A RuntimeError, because that is what Gunicorn prints as one line before it exits.
    """
