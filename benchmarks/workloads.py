"""What is asked of the servers, who takes part, and the goals: data only.

A new kind of load (HTTP/2, WebSocket, uploads) is a client in `clients.py`, a server's command for it in `servers.py`
and an entry here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .clients import Client, H2load, WebSockets, Wrk

OURS: Final = "ours"
OURS_H2C: Final = "ours-h2c"

_KEEP_ALIVE: Final = Wrk(connections=64)


@dataclass(frozen=True)
class Goal:
    """Ours has to reach `at_least` times the figure of `server` in the same rounds."""

    at_least: float
    server: str
    workload: str | None = None
    """Where the other figure comes from; None for the same workload."""


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    app: str
    """As in the command line of a server: module:attribute."""
    target: str
    answer: bytes
    """The body that each server must answer with before it is measured."""
    servers: tuple[str, ...]
    goals: tuple[Goal, ...] = ()
    ours: str = OURS
    """Which of the servers is held against the goals."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Header fields beyond Host, which the client sends by itself."""
    access_log: bool = False
    group: str = ""
    """Workloads of one group take turns in the same rounds, so that their figures may be divided."""
    client: Client = _KEEP_ALIVE

    @property
    def turn_group(self) -> str:
        return self.group or self.name


# What Chromium sends for a link that is followed: 14 fields with Host. A proxy in front adds the last two.
BROWSER_FIELDS: Final = {
    "Connection": "keep-alive",
    "sec-ch-ua": '"Chromium";v="142", "Not_A Brand";v="99"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": (
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
    ),
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Referer": "https://shop.example/products?page=2",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
}

_HELLO_APP: Final = "benchmarks.apps:hello"
_HELLO: Final = b"Hello, World!"
_HTTP2_PEERS: Final = ("uvicorn-zttp", "granian-h2", "hypercorn")
_WEBSOCKET_APP: Final = "benchmarks.websocket_app:app"
_PEERS: Final = ("uvicorn-worker", "gunicorn", "granian")

WORKLOADS: Final = {
    workload.name: workload
    for workload in (
        Workload(
            name="hello",
            title="13 bytes from a plain ASGI application, 64 keep-alive connections",
            app=_HELLO_APP,
            target="/",
            answer=_HELLO,
            servers=(OURS, *_PEERS, "floor"),
            goals=(Goal(2.0, "uvicorn-worker"), Goal(2.2, "gunicorn"), Goal(1.5, "granian"), Goal(0.85, "floor")),
        ),
        Workload(
            name="browser",
            title="14 browser headers and X-Forwarded-*, access log on",
            app=_HELLO_APP,
            target="/products/42?ref=home",
            answer=_HELLO,
            servers=(OURS, *_PEERS),
            goals=(
                Goal(2.0, "uvicorn-worker"),
                Goal(1.5, "granian"),
                Goal(0.85, OURS, workload="browser-nolog"),
            ),
            fields=BROWSER_FIELDS,
            access_log=True,
            group="browser",
        ),
        Workload(
            name="browser-nolog",
            title="the same with the access log off: what the log costs",
            app=_HELLO_APP,
            target="/products/42?ref=home",
            answer=_HELLO,
            servers=(OURS,),
            fields=BROWSER_FIELDS,
            group="browser",
        ),
        Workload(
            name="http2",
            title="the same over HTTP/2 in clear, 8 connections with 16 streams each, one request repeated",
            app=_HELLO_APP,
            target="/",
            answer=_HELLO,
            servers=(OURS_H2C, *_HTTP2_PEERS, "http2-floor"),
            ours=OURS_H2C,
            goals=(
                Goal(3.0, "uvicorn-zttp"),
                Goal(1.4, "granian-h2"),
                Goal(15.0, "hypercorn"),
                Goal(0.75, "http2-floor"),
            ),
            client=H2load(connections=8, streams=16),
        ),
        Workload(
            name="http2-browser",
            title="HTTP/2, a new path and 14 browser headers each time",
            app=_HELLO_APP,
            target="/products/",
            answer=_HELLO,
            servers=(OURS_H2C, "uvicorn-zttp", "granian-h2", "http2-floor"),
            ours=OURS_H2C,
            goals=(Goal(3.0, "uvicorn-zttp"), Goal(1.2, "granian-h2"), Goal(0.75, "http2-floor")),
            fields={name: value for name, value in BROWSER_FIELDS.items() if not name.startswith("X-")},
            client=H2load(connections=8, streams=16, paths=20_000),
        ),
        Workload(
            name="fastapi",
            title="JSON route of FastAPI with validated parameters",
            app="benchmarks.fastapi_app:app",
            target="/items/42?q=hello",
            answer=b'{"item_id":42,"q":"hello"}',
            servers=(OURS, *_PEERS),
            goals=(Goal(1.15, "uvicorn-worker"), Goal(1.05, "granian")),
        ),
        Workload(
            name="websocket-64",
            title="WebSocket: 64 bytes come back, 64 connections",
            app=_WEBSOCKET_APP,
            target="/echo",
            answer=_HELLO,
            servers=(OURS, *_PEERS, "websocket-floor"),
            goals=(Goal(1.4, "uvicorn-worker"), Goal(0.85, "websocket-floor")),
            client=WebSockets("echo", connections=64, message_bytes=64),
        ),
        Workload(
            name="websocket-16k",
            title="WebSocket: 16 KiB come back, 64 connections",
            app=_WEBSOCKET_APP,
            target="/echo",
            answer=_HELLO,
            servers=(OURS, *_PEERS, "websocket-floor"),
            goals=(Goal(1.2, "uvicorn-worker"), Goal(0.85, "websocket-floor")),
            client=WebSockets("echo", connections=64, message_bytes=16 * 1024),
        ),
        Workload(
            name="websocket-broadcast",
            title="WebSocket: 64 bytes to each of 1,000 connections",
            app=_WEBSOCKET_APP,
            target="/broadcast",
            answer=_HELLO,
            servers=(OURS, *_PEERS),
            client=WebSockets("broadcast", connections=1000, message_bytes=64),
        ),
    )
}
