"""The types of ASGI 3.0 as this package sends and receives them (HTTP and lifespan, spec version 2.5)."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, TypeAlias, TypedDict

Field: TypeAlias = tuple[bytes, bytes]
"""One header field: lower-case name, value without surrounding white space."""

Address: TypeAlias = tuple[str, int | None]
"""Host and port; for a unix socket its path and None."""


class ASGIVersions(TypedDict):
    version: str
    spec_version: str


class HTTPScope(TypedDict):
    type: Literal["http"]
    asgi: ASGIVersions
    http_version: str
    server: Address | None
    client: Address | None
    scheme: str
    method: str
    root_path: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: list[Field]
    state: dict[str, Any]
    extensions: dict[str, dict[str, Any]]


class LifespanScope(TypedDict):
    type: Literal["lifespan"]
    asgi: ASGIVersions
    state: dict[str, Any]


class HTTPRequestMessage(TypedDict):
    type: Literal["http.request"]
    body: bytes
    more_body: bool


class HTTPDisconnectMessage(TypedDict):
    type: Literal["http.disconnect"]


class LifespanStartupMessage(TypedDict):
    type: Literal["lifespan.startup"]


class LifespanShutdownMessage(TypedDict):
    type: Literal["lifespan.shutdown"]


Scope: TypeAlias = HTTPScope | LifespanScope
ReceiveMessage: TypeAlias = (
    HTTPRequestMessage | HTTPDisconnectMessage | LifespanStartupMessage | LifespanShutdownMessage
)

# What an application sends is checked at run time, because a server must expect anything there.
SendMessage: TypeAlias = dict[str, Any]
ResponseFields: TypeAlias = Iterable[Iterable[bytes]]

Receive: TypeAlias = Callable[[], Awaitable[ReceiveMessage]]
Send: TypeAlias = Callable[[SendMessage], Awaitable[None]]
Application: TypeAlias = Callable[[Any, Receive, Send], Awaitable[None]]
