"""Subclasses of uvicorn's worker, as found in the wild: under ours they do the same, with one name replaced."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Certificates
from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http1 import Connection, request

ORIGIN = "uvicorn_worker"
OURS = "gunicorn_asgi.workers"

MASKED_TEXT = b"\x81\xfe\x00\x80\x00\x00\x00\x00" + b"x" * 128
"""A WebSocket frame of a client: a text of 128 bytes, masked with zeros."""


@dataclass
class Started:
    """A server with a subclass of one of both workers."""

    server: Gunicorn
    certificates: Certificates

    def scope(self, target: str = "/scope", fields: str = "") -> dict[str, Any]:
        scope: dict[str, Any] = json.loads(self.server.get(target, fields=fields).body)
        return scope


def observe_lifespan(started: Started) -> object:
    return "from_lifespan" in started.scope()["state"]


def observe_loop(started: Started) -> object:
    return json.loads(started.server.get("/loop").body)


def observe_headers(started: Started) -> object:
    response = started.server.get("/hello")
    return [response.get(name) for name in (b"x-one", b"x-two", b"server")], response.get(b"date") is None


def observe_paths(started: Started) -> object:
    scope = started.scope("/a%20b?c")
    return [scope[name] for name in ("root_path", "path", "raw_path", "query_string")]


FORWARDED = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\n"


def observe_client(started: Started) -> object:
    scope = started.scope(fields=FORWARDED)
    return scope["client"][0], scope["scheme"]


def observe_websocket_limit(started: Started) -> object:
    """The code of the close frame that answers a message of 128 bytes."""
    handshake = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    with started.server.connect() as connection:
        connection.send(request("/echo", fields=handshake))
        head = connection.read_until(b"\r\n\r\n")
        connection.send(MASKED_TEXT)
        frame = connection.read_exactly(4)
        return head[9:12], frame[0], int.from_bytes(frame[2:4], "big")


def observe_accesses(started: Started) -> object:
    assert started.server.get("/hello").status == 200
    started.server.stop()
    return started.server.log.count("/hello"), "Application startup complete" in started.server.log


def observe_concurrency(started: Started) -> object:
    """The answer to one request too many, while two run."""
    with started.server.connect() as first, started.server.connect() as second:
        for connection in (first, second):
            connection.send(request("/hold"))
        deadline = time.monotonic() + 20
        # What was sent may not have been read yet.
        while (status := started.server.get("/hello").status) == 200 and time.monotonic() < deadline:
            pass
        return status


def observe_tls(started: Started) -> object:
    with Connection(started.server.address, started.certificates.client()) as connection:
        return json.loads(connection.get("/scope").body)["scheme"]


def observe_keep_alive(started: Started) -> object:
    """Whether an idle connection is closed."""
    with started.server.connect() as connection:
        connection.get("/hello")
        return connection.is_closed_by_server()


SUBCLASSES: dict[str, tuple[str, list[Callable[[Started], object]]]] = {
    "nothing": ("pass", [observe_lifespan, observe_client]),
    "many at once": (
        """\
CONFIG_KWARGS = {
        "lifespan": "off",
        "root_path": "/scope",
        "headers": [("X-One", "1"), ("x-two", "2"), ("Server", "mine")],
        "date_header": False,
        "proxy_headers": False,
    }""",
        [observe_lifespan, observe_paths, observe_headers, observe_client],
    ),
    "asyncio and h11": (
        """\
CONFIG_KWARGS = {
        "loop": "asyncio", "http": "h11", "server_header": False, "forwarded_allow_ips": "*", "lifespan": "on",
    }""",
        [observe_loop, observe_headers, observe_client],
    ),
    "WebSocket limits": ('CONFIG_KWARGS = {"ws_max_size": 100, "ws_ping_interval": None}', [observe_websocket_limit]),
    "limit_concurrency": ('CONFIG_KWARGS = {"limit_concurrency": 2}', [observe_concurrency]),
    "log level": ('CONFIG_KWARGS = {"log_level": "warning"}', [observe_accesses]),
    "TLS": (
        """\
CONFIG_KWARGS = {
        "ssl_certfile": os.environ["CERTIFICATE"],
        "ssl_keyfile": os.environ["KEY"],
        "ssl_context_factory": lambda config, default: default(),
    }""",
        [observe_tls],
    ),
    "edits of self.config": (
        """\
def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.config.root_path = "/scope"
        self.config.lifespan = "off"
        self.config.timeout_keep_alive = 0.1
""",
        [observe_lifespan, observe_paths, observe_keep_alive],
    ),
}


def module_of(base: str, body: str) -> str:
    return f"import os\n\nfrom {base} import UvicornWorker\n\n\nclass MyWorker(UvicornWorker):\n    {body}\n"


@pytest.mark.parametrize("name", SUBCLASSES)
def test_subclasses_do_the_same(
    gunicorns: GunicornStarter, tmp_path: Path, certificates: Certificates, name: str
) -> None:
    body, observers = SUBCLASSES[name]
    seen = {}
    for base in (ORIGIN, OURS):
        directory = tmp_path / base
        directory.mkdir()
        (directory / "my_workers.py").write_text(module_of(base, body))
        environment = {
            "PYTHONPATH": str(directory),
            "CERTIFICATE": str(certificates.server.chain),
            "KEY": str(certificates.server.key),
        }
        server = gunicorns.start(
            "websocket_probe", "--access-logfile", "-", worker="my_workers.MyWorker", env=environment
        )
        started = Started(server, certificates)
        seen[base] = {observe.__name__: observe(started) for observe in observers}
    assert seen[OURS] == seen[ORIGIN]
