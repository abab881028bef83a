"""Requests and responses as Gunicorn documents them, for its hooks and its logger."""

import http
from typing import Any

from .asgi_types import SendMessage
from .wire.http1_response import BODYLESS_STATUS


class GunicornRequest:
    """What hooks and loggers get for `req`."""

    def __init__(self, scope: dict[str, Any]) -> None:
        client = scope.get("client") or ("", 0)
        self.method: str = scope.get("method", "GET")
        self.path: str = scope["raw_path"].decode("latin-1")
        """As it was received, without decoding."""
        self.query: str = scope["query_string"].decode("latin-1")
        self.fragment = ""
        self.uri = f"{self.path}?{self.query}" if self.query else self.path
        major, _, minor = scope["http_version"].partition(".")
        self.version = (int(major), int(minor or 0))
        self.headers = [(name.decode("latin-1").upper(), value.decode("latin-1")) for name, value in scope["headers"]]
        self.trailers: list[tuple[str, str]] = []
        self.scheme: str = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
        self.peer_addr = self.remote_addr = client
        self.proxy_protocol_info = None


class GunicornResponse:
    """What hooks and loggers get for `resp`."""

    def __init__(self, method: str) -> None:
        """`method` is that of the request: to HEAD no content is sent, whatever the application hands over."""
        self._is_head = method == "HEAD"
        self.status: str | None = None
        """Code and phrase; None where the client has gone before an answer."""
        self.status_code = 0
        self.headers: list[tuple[str, str]] = []
        self.headers_sent = False
        self.response_length: int | None = None
        self.sent = 0
        """Bytes of content; of messages where it is a WebSocket."""

    def start(self, status: int, fields: Any) -> None:
        """The application has given the head of its answer."""
        try:
            phrase = http.HTTPStatus(status).phrase
        except ValueError:
            phrase = ""
        self.status = f"{status} {phrase}".rstrip()
        self.status_code = status
        self.headers = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in fields]
        for name, value in self.headers:
            if name.lower() == "content-length" and value.isdigit():
                self.response_length = int(value)

    def see(self, message: SendMessage) -> None:
        """The application has sent `message`."""
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.start(message["status"], message.get("headers", ()))
            case "http.response.body" | "websocket.http.response.body":
                self.headers_sent = True
                if not self._is_head and self.status_code not in BODYLESS_STATUS:
                    self.sent += len(message.get("body", b""))
            case "websocket.send":
                payload = message.get("bytes")
                self.sent += len(message["text"].encode() if payload is None else payload)
            case "websocket.accept":
                self.headers_sent = True
                self.start(101, message.get("headers", ()))
            case "websocket.close" if self.status is None:
                self.headers_sent = True
                self.start(403, ())
