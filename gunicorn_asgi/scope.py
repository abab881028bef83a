"""The ASGI scope of a request (ASGI HTTP spec 2.5)."""

import re
from typing import Any, Final, cast
from urllib.parse import quote

from .asgi_types import Address, ASGIVersions, Field, HTTPScope, WebSocketScope

ASGI_VERSIONS: Final[ASGIVersions] = {"version": "3.0", "spec_version": "2.5"}
"""Shared by all scopes: a new dict for each request would cost and tell nothing new."""


def build_http_scope(
    method: str,
    http_version: str,
    path: str,
    raw_path: bytes,
    query_string: bytes,
    headers: list[Field],
    client: Address | None,
    server: Address | None,
    scheme: str,
    root_path: str,
    state: dict[str, Any],
    extensions: dict[str, dict[str, Any]],
) -> HTTPScope:
    """The scope of one request. `state` is what lifespan startup left; the request gets a shallow copy. `extensions`
    belongs to it.

    `root_path` is the path under which a proxy mounts the application, without a slash at its end. ASGI wants `path` to
    contain it, so it is prefixed unless the proxy left it in the target.
    """
    if root_path and path != root_path and not path.startswith(root_path + "/") and path != "*":
        path = root_path + path
        raw_path = quote(root_path).encode("ascii") + raw_path
    return {
        "type": "http",
        "asgi": ASGI_VERSIONS,
        "http_version": http_version,
        "server": server,
        "client": client,
        "scheme": scheme,
        "method": method,
        "root_path": root_path,
        "path": path,
        "raw_path": raw_path,
        "query_string": query_string,
        "headers": headers,
        "state": state.copy(),
        "extensions": extensions,
    }


# As much of a request line as can be read, from its beginning; a long target is cut.
_REFUSED_LINE: Final = re.compile(
    rb"(?P<method>[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) (?P<target>[^\x00-\x20\x7f]{1,1024})"
    rb"(?: HTTP/(?P<version>[0-9]\.[0-9])\r)?"
).match


def build_refused_scope(
    head: bytes, http_version: str, client: Address | None, server: Address | None, scheme: str
) -> tuple[HTTPScope, str]:
    """Scope and target for the access log, of a request whose `head` is not served: it may be wrong, cut off, or no
    head at all. What cannot be read is `-`.
    """
    method, target = "-", b"-"
    match = _REFUSED_LINE(head)
    if match is not None:
        method, target = match["method"].decode("ascii"), match["target"]
        if match["version"]:
            http_version = match["version"].decode("ascii")
    raw_path, _, query_string = target.partition(b"?")
    scope = build_http_scope(
        method,
        http_version,
        raw_path.decode("latin-1"),
        raw_path,
        query_string,
        [],
        client,
        server,
        scheme,
        "",
        {},
        {},
    )
    return scope, target.decode("ascii", "backslashreplace")


def wsgi_server(scope: HTTPScope) -> tuple[str, str]:
    """SERVER_NAME and SERVER_PORT in the environ of WSGI.

    A unix socket has neither, but the client has named both in Host, where Gunicorn's workers take them from, too.
    """
    name, port = scope["server"] or ("", None)
    if port is not None:
        return name, str(port)
    host = next((value.decode("latin-1") for field, value in scope["headers"] if field == b"host"), "")
    if not host:
        return name, ""
    name, colon, port_text = host.rpartition(":")
    if not colon or port_text.endswith("]"):  # Of an IPv6 address.
        return host, "443" if scope["scheme"] == "https" else "80"
    return name, port_text


def build_websocket_scope(scope: HTTPScope, subprotocols: list[str]) -> WebSocketScope:
    """The scope of a WebSocket, made of that of the request which asks for it, and of the subprotocols in there."""
    extensions: dict[str, dict[str, Any]] = {"websocket.http.response": {}}
    offered = cast(dict[str, Any], scope).get("extensions") or {}
    if "tls" in offered:
        extensions["tls"] = offered["tls"]
    return {
        "type": "websocket",
        "asgi": scope["asgi"],
        "http_version": scope["http_version"],
        "server": scope["server"],
        "client": scope["client"],
        "scheme": "wss" if scope["scheme"] == "https" else "ws",
        "root_path": scope["root_path"],
        "path": scope["path"],
        "raw_path": scope["raw_path"],
        "query_string": scope["query_string"],
        "headers": scope["headers"],
        "subprotocols": subprotocols,
        "state": scope["state"],
        "extensions": extensions,
    }
