"""Applications that send without an end, and wait for nothing else, do not keep the worker to themselves."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from xprocess import XProcess

from gunicorn_asgi.wire import http2_frames as frames
from tests.support.certificates import Certificates
from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http1 import Connection, request
from tests.support.http2_frames import BEGIN, GET, headers
from tests.support.websocket import handshake

KIB = 1024
RESETS = 5


@pytest.fixture(scope="module")
def server(xprocess: XProcess, worker_class: str) -> Iterator[Gunicorn]:
    starter = GunicornStarter(xprocess)
    yield starter.start("websocket_probe", worker=worker_class)
    starter.end_all()


def asking_by_http2(key: str) -> bytes:
    """The request of a client that takes as much as HTTP/2 can say."""
    room = frames.settings_frame({frames.SETTINGS_INITIAL_WINDOW_SIZE: 2**31 - 1}), frames.window_update_frame(0, 2**30)
    return b"".join((BEGIN, *room, headers(1, [*GET[:2], (b":path", f"/tireless?4000-{key}".encode()), *GET[3:]])))


ASKING: dict[str, Callable[[str], bytes]] = {
    "rows": lambda key: request(f"/tireless?40-{key}"),
    "pieces": lambda key: request(f"/tireless?4000-{key}"),
    "large-pieces": lambda key: request(f"/tireless?200000-{key}"),
    "messages": lambda key: handshake(f"/flood?{key}"),
}


def assert_resets_are_noticed(
    server: Gunicorn, name: str, connect: Callable[[], Connection], asking: Callable[[str], bytes]
) -> None:
    for number in range(RESETS):
        key = f"{name}-{number}"
        with connect() as connection:
            connection.send(asking(key))
            connection.read_exactly((100 + 50 * number) * KIB)
            connection.reset()
        with connect() as connection:
            assert connection.get("/hello").body == b"hello"
        with connect() as connection:
            assert connection.get(f"/journal/gone-{key}").status == 200
    assert len(server.worker_pids) == 1
    assert "ERROR" not in server.log


@pytest.mark.parametrize("name", ASKING)
def test_a_reset_ends_them(server: Gunicorn, name: str) -> None:
    assert_resets_are_noticed(server, name, server.connect, ASKING[name])


def test_a_reset_ends_them_over_tls(gunicorns: GunicornStarter, certificates: Certificates, worker_class: str) -> None:
    server = gunicorns.start("websocket_probe", *certificates.server.options, worker=worker_class)
    tls = certificates.client()
    for name in ("pieces", "messages"):
        assert_resets_are_noticed(server, name, lambda: Connection(server.address, tls=tls), ASKING[name])


def test_a_reset_ends_them_over_http2(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("websocket_probe", worker="gunicorn_asgi.H2CWorker")
    assert_resets_are_noticed(server, "http2", server.connect, asking_by_http2)


@pytest.mark.parametrize("name", ASKING)
def test_others_are_served_beside_a_client_that_takes_all_at_once(server: Gunicorn, name: str) -> None:
    with server.connect() as connection:

        def read() -> None:
            buffer = bytearray(1 << 20)
            with contextlib.suppress(OSError):
                while connection.sock.recv_into(buffer):
                    pass

        connection.send(ASKING[name](f"served-{name}"))
        reader = threading.Thread(target=read)
        reader.start()
        try:
            for _ in range(20):
                assert server.get("/hello").body == b"hello"
        finally:
            connection.sock.shutdown(socket.SHUT_RDWR)
            reader.join()
