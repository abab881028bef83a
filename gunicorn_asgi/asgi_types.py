"""The types of ASGI 3.0 as this package sends and receives them (HTTP, WebSocket and lifespan, spec version 2.5)."""

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


class WebSocketScope(TypedDict):
    type: Literal["websocket"]
    asgi: ASGIVersions
    http_version: str
    server: Address | None
    client: Address | None
    scheme: str
    root_path: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: list[Field]
    subprotocols: list[str]
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


class WebSocketConnectMessage(TypedDict):
    type: Literal["websocket.connect"]


class WebSocketTextMessage(TypedDict):
    type: Literal["websocket.receive"]
    text: str


class WebSocketBytesMessage(TypedDict):
    type: Literal["websocket.receive"]
    bytes: bytes


class WebSocketDisconnectMessage(TypedDict):
    type: Literal["websocket.disconnect"]
    code: int
    reason: str


class LifespanStartupMessage(TypedDict):
    type: Literal["lifespan.startup"]


class LifespanShutdownMessage(TypedDict):
    type: Literal["lifespan.shutdown"]


Scope: TypeAlias = HTTPScope | WebSocketScope | LifespanScope
WebSocketMessage: TypeAlias = (
    WebSocketConnectMessage | WebSocketTextMessage | WebSocketBytesMessage | WebSocketDisconnectMessage
)
ReceiveMessage: TypeAlias = (
    HTTPRequestMessage | HTTPDisconnectMessage | WebSocketMessage | LifespanStartupMessage | LifespanShutdownMessage
)

# What an application sends is checked at run time, because a server must expect anything there.
SendMessage: TypeAlias = dict[str, Any]
ResponseFields: TypeAlias = Iterable[Iterable[bytes]]

Receive: TypeAlias = Callable[[], Awaitable[ReceiveMessage]]
Send: TypeAlias = Callable[[SendMessage], Awaitable[None]]
Application: TypeAlias = Callable[[Any, Receive, Send], Awaitable[None]]
