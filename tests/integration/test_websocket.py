"""WebSockets of a real `gunicorn`, with the client of the `websockets` library and with one that breaks rules."""

import contextlib
import json
import re
import signal
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from xprocess import XProcess

from tests.support.certificates import Certificates
from tests.support.gunicorn import Gunicorn, GunicornStarter, open_files, peak_memory_bytes, reset_peak_memory
from tests.support.nginx import needs_nginx, nginx, upstream_of
from tests.support.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WebSocketClient, frame

KIB = 1024
MIB = 1024 * KIB
RSV1 = 4
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
TIMEOUT_SECONDS = 20.0

WORKERS = ["gunicorn_asgi.Worker", "gunicorn_asgi.H11Worker"]


@pytest.fixture(scope="module", params=WORKERS)
def server(request: pytest.FixtureRequest, xprocess: XProcess) -> Iterator[Gunicorn]:
    starter = GunicornStarter(xprocess)
    yield starter.start("websocket_probe", "--access-logfile", "-", worker=request.param)
    starter.end_all()


def connected(server: Gunicorn, target: str, **options: Any) -> ClientConnection:
    # With a socket of our own, since newer versions of the library ask the environment for a proxy.
    client: ClientConnection = connect(
        server.url.replace("http", "ws", 1) + target,
        sock=server.connect().sock,
        open_timeout=TIMEOUT_SECONDS,
        close_timeout=TIMEOUT_SECONDS,
        max_size=None,
        **options,
    )
    return client


def opened(server: Gunicorn, target: str, fields: str = "") -> WebSocketClient:
    client = WebSocketClient(server.address)
    assert client.open(target, fields).status == 101
    return client


def journal(server: Gunicorn, name: str) -> Any:
    return json.loads(server.get(f"/journal/{name}").body)


# A client that follows the rules


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_of_all_sizes_come_back(server: Gunicorn, compression: str | None) -> None:
    with connected(server, "/echo", compression=compression) as client:
        for size in (0, 1, 63, 64, 125, 126, 4 * KIB, 65535, 65536, MIB):
            for message in ("ü" * (size // 2) + "a" * (size % 2), bytes(number % 251 for number in range(size))):
                client.send(message)
                assert client.recv(TIMEOUT_SECONDS) == message
        client.send(["ein", "zwei", "drei"])
        assert client.recv(TIMEOUT_SECONDS) == "einzweidrei"
        assert client.ping().wait(TIMEOUT_SECONDS)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_many_messages_under_way_at_once(server: Gunicorn, compression: str | None) -> None:
    with connected(server, "/echo", compression=compression) as client:
        for number in range(1000):
            client.send(f"{number} " + "x" * (number % 200))
        for number in range(1000):
            assert str(client.recv(TIMEOUT_SECONDS)).split()[0] == str(number)


def test_a_subprotocol_is_agreed_on(server: Gunicorn) -> None:
    with connected(server, "/echo", subprotocols=["graphql-transport-ws", "chat"]) as client:
        assert client.subprotocol == "graphql-transport-ws"


def test_codes_and_reasons_in_both_directions(server: Gunicorn, worker_key: str) -> None:
    with connected(server, f"/echo?codes-{worker_key}") as client:
        client.close(4001, "tschüß")
    end = journal(server, f"end-codes-{worker_key}")
    assert end == {"type": "websocket.disconnect", "code": 4001, "reason": "tschüß"}
    with connected(server, "/close?4002-enough") as client:
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(TIMEOUT_SECONDS)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4002, "enough")


def test_an_application_that_fails_closes_with_1011(server: Gunicorn) -> None:
    with connected(server, "/fail") as client:
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(TIMEOUT_SECONDS)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1011
    server.wait_for_log("raised on purpose")


@pytest.mark.parametrize(
    ("target", "status", "body"), [("/deny", 403, b"Forbidden"), ("/respond", 401, b"who are you?")]
)
def test_a_handshake_can_be_denied(server: Gunicorn, target: str, status: int, body: bytes) -> None:
    with pytest.raises(InvalidStatus) as caught, connected(server, target):
        pass
    assert caught.value.response.status_code == status
    assert caught.value.response.body == body
    assert caught.value.response.headers["Connection"] == "close"
    server.wait_for_log(rf'"GET {target} HTTP/1.1" {status} {len(body)} ')


def test_the_access_log_shows_bytes_and_the_status(server: Gunicorn, worker_key: str) -> None:
    with connected(server, f"/echo?log-{worker_key}") as client:
        client.send("x" * 1234)
        client.recv(TIMEOUT_SECONDS)
    server.wait_for_log(rf'"GET /echo\?log-{worker_key} HTTP/1.1" 101 1234 ')


@pytest.fixture
def worker_key(server: Gunicorn) -> str:
    """Tells notes of one worker process from those of another."""
    return str(server.worker_pids[0])


# Clients that do not


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"a", mask=None), 1002),
        (frame(3), 1002),
        (frame(CONTINUATION, b"a"), 1002),
        (frame(PING, b"a" * 126), 1002),
        (frame(TEXT, b"abc\xff" + b"a" * 100)[:20], 1007),
        (frame(BINARY, length=16 * MIB + 1), 1009),
        (frame(TEXT, final=False) + frame(CONTINUATION, final=False) * 1024, 1009),
    ],
)
def test_broken_rules_are_told_and_the_connection_ended(server: Gunicorn, data: bytes, code: int) -> None:
    with opened(server, "/echo") as client:
        # More is on its way: a server that just closed would destroy its own farewell.
        client.send(data + b"\0" * (256 * KIB))
        assert client.read_close().code == code
        assert client.is_closed_by_server()


def test_a_handshake_with_a_wrong_version(server: Gunicorn) -> None:
    with WebSocketClient(server.address) as client:
        client.send(
            b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        response = client.read_response()
        assert response.status == 426
        assert response.get(b"sec-websocket-version") == b"13"
        assert response.get(b"upgrade") == b"websocket"
        assert response.get(b"connection") == b"close"
        assert client.is_closed_by_server()


def bomb(size: int) -> bytes:
    """A message that inflates to `size` bytes."""
    deflater = zlib.compressobj(9, wbits=-15)
    # Behind a full flush a stream can be repeated.
    return (deflater.compress(bytes(MIB)) + deflater.flush(zlib.Z_FULL_FLUSH)) * (size // MIB)


@pytest.mark.load
def test_deflate_bombs_take_neither_memory_nor_time(server: Gunicorn) -> None:
    pid = server.worker_pids[0]
    before = reset_peak_memory(pid)
    payload = bomb(1024 * MIB)
    seconds = []
    for target in ("/echo", "/echo", "/close?1000-", "/close?1000-"):
        with opened(server, target, DEFLATE) as client:
            started = time.monotonic()
            client.send_frame(BINARY, payload, reserved=RSV1)
            if target == "/echo":
                assert client.read_close().code == 1009
            else:
                # Behind the close frame of the server it is not even looked at.
                assert client.read_close().code == 1000
                client.send_frame(CLOSE, b"\x03\xe8")
            assert client.is_closed_by_server()
            seconds.append(time.monotonic() - started)
    # 16 MiB are inflated before it shows; the whole bomb takes more than a second.
    assert min(seconds) < 1.0
    assert peak_memory_bytes(pid) - before < 64 * MIB


@pytest.mark.load
def test_floods_of_pings_and_small_messages_leave_time_for_others(server: Gunicorn) -> None:
    pings = b"".join(frame(PING, b"%d" % number) for number in range(20_000))
    with opened(server, "/echo") as flooding:
        flooding.sock.settimeout(TIMEOUT_SECONDS)
        waits = []
        for _ in range(5):
            flooding.send(pings)
            started = time.monotonic()
            assert server.get("/hello").body == b"hello"
            waits.append(time.monotonic() - started)
        assert min(waits) < 0.5
        flooding.send_frame(TEXT, b"the end")
        answers = 0
        while (received := flooding.read_frame()).opcode == PONG:
            answers += 1
        assert received.payload == b"the end"
        assert answers < 20_000, "each turn of the loop answers the newest ping only"


@pytest.mark.load
def test_a_client_that_outruns_its_application_is_slowed_down(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("websocket_probe")
    pid = server.worker_pids[0]
    with opened(server, "/stuck") as client:
        assert journal(server, "accepted") is None
        before = reset_peak_memory(pid)
        data = frame(BINARY, bytes(64 * KIB))
        client.sock.settimeout(1.0)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while True:
                sent += client.sock.send(data[sent % len(data) :])
        # What the kernel takes, 32 messages in the queue, and what had been read when reading stopped.
        assert peak_memory_bytes(pid) - before < 16 * MIB
        client.sock.settimeout(TIMEOUT_SECONDS)
        server.get("/release")
        client.send(data[sent % len(data) :])
        messages = sent // len(data) + 1
        client.send_frame(CLOSE)
        client.read_close()
        assert journal(server, "taken") == messages


# The worker's own limits and its end


OPTIONS = {
    "GUNICORN_ASGI_WS_PING_INTERVAL": "0.5",
    "GUNICORN_ASGI_WS_PING_TIMEOUT": "1",
    "GUNICORN_ASGI_WRITE_TIMEOUT": "2",
    "GUNICORN_ASGI_WS_MAX_SIZE": "1000",
    "GUNICORN_ASGI_WS_PER_MESSAGE_DEFLATE": "false",
}


@pytest.fixture(scope="module")
def strict_server(xprocess: XProcess) -> Iterator[Gunicorn]:
    starter = GunicornStarter(xprocess)
    yield starter.start("websocket_probe", env=OPTIONS)
    starter.end_all()


@pytest.mark.load
def test_a_half_open_client_is_found(strict_server: Gunicorn) -> None:
    with opened(strict_server, "/echo?half") as silent, connected(strict_server, "/echo") as answering:
        assert silent.read_frame().opcode == PING
        assert silent.read_close().code == 1011
        assert journal(strict_server, "end-half") == {
            "type": "websocket.disconnect",
            "code": 1011,
            "reason": "keepalive ping timeout",
        }
        answering.send("still here")
        assert answering.recv(TIMEOUT_SECONDS) == "still here"


@pytest.mark.load
@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_goes_while_nobody_takes_its_messages_is_found(strict_server: Gunicorn, how: str) -> None:
    strict_server.get("/hello")
    (worker,) = strict_server.worker_pids
    before = open_files(worker)
    with opened(strict_server, "/stuck") as client:
        client.send(frame(TEXT, b"a") * 100)
        assert client.read_frame().opcode == PING
        if how == "reset":
            client.reset()
    begun = time.monotonic()
    while open_files(worker) > before:
        assert time.monotonic() - begun < TIMEOUT_SECONDS
        time.sleep(0.1)
    # All that it has sent before is still delivered, as far as it had come into the worker.
    strict_server.get("/release")
    assert journal(strict_server, "taken") >= 32


@pytest.mark.load
def test_a_client_that_never_reads_is_given_up(strict_server: Gunicorn) -> None:
    with opened(strict_server, "/flood?never"):
        assert journal(strict_server, "gone-never") == "ClientDisconnected"


def test_options_of_uvicorn(strict_server: Gunicorn) -> None:
    with opened(strict_server, "/echo", DEFLATE) as client:
        client.send_frame(TEXT, b"a" * 1000)
        assert client.read_frame() == (TEXT, b"a" * 1000, True, 0)
        client.send_frame(TEXT, b"a" * 1001)
        assert client.read_close().code == 1009


@pytest.mark.parametrize("worker", WORKERS)
def test_tls_is_shown_to_the_application(gunicorns: GunicornStarter, tmp_path: Path, worker: str) -> None:
    certificates = Certificates(tmp_path)
    server = gunicorns.start("websocket_probe", *certificates.server.options, worker=worker)
    with WebSocketClient(server.address, certificates.client()) as client:
        assert client.open("/scope").status == 101
        scope = json.loads(client.read_frame().payload)
        assert scope["scheme"] == "wss"
        assert scope["extensions"]["tls"]["tls_version"] == 0x0304
        assert scope["extensions"]["tls"]["server_cert"] in certificates.server.chain.read_text()
        client.send_frame(CLOSE)
        assert client.read_close().code == 1000


def test_ws_none_serves_plain_http(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("websocket_probe", env={"GUNICORN_ASGI_WS": "none"})
    with WebSocketClient(server.address) as client:
        response = client.open("/hello")
        assert (response.status, response.body) == (200, b"hello")
        assert client.get("/hello").body == b"hello"


@pytest.mark.parametrize("worker", WORKERS)
def test_a_drain_closes_with_1012(gunicorns: GunicornStarter, tmp_path: Path, worker: str) -> None:
    notes = tmp_path / "journal"
    server = gunicorns.start("websocket_probe", worker=worker, env={"PROBE_JOURNAL": str(notes)})
    with opened(server, "/echo?drained") as client:
        server.signal(signal.SIGTERM)
        assert client.read_frame() == (CLOSE, b"\x03\xf4", True, 0)
        client.send_frame(CLOSE, b"\x03\xf4")
        assert client.is_closed_by_server()
    assert server.wait() == 0
    assert "end-drained" in notes.read_text()
    assert not re.search(r"[1-9]\d* (requests were )?cancelled", server.log)


def test_handshakes_count_for_max_requests(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("websocket_probe", "--max-requests", "3", "--graceful-timeout", "10")
    clients = [opened(server, "/echo") for _ in range(3)]
    for client in clients:
        with client:
            assert client.read_close().code == 1012
            client.send_frame(CLOSE, b"\x03\xf4")
            assert client.is_closed_by_server()
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    with opened(server, "/echo") as client:
        client.send_frame(TEXT, b"again")
        assert client.read_frame().payload == b"again"
    assert len(set(server.worker_pids)) == 2
    assert not re.search("Traceback", server.log)


# Behind nginx

NGINX = """
    server {
        listen 127.0.0.1:PORT;
        location / {
            proxy_pass http://UPSTREAM;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }
    }
"""


@needs_nginx
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_through_nginx(server: Gunicorn, tmp_path: Path, compression: str | None) -> None:
    with (
        nginx(tmp_path, NGINX.replace("UPSTREAM", upstream_of(server.address))) as address,
        connect(
            "ws://example.org/echo",
            sock=socket.create_connection(address, TIMEOUT_SECONDS),
            compression=compression,
            open_timeout=TIMEOUT_SECONDS,
            close_timeout=TIMEOUT_SECONDS,
            max_size=None,
        ) as client,
    ):
        for message in ("ü", b"\xff" * 1000, "x" * MIB):
            client.send(message)
            assert client.recv(TIMEOUT_SECONDS) == message
        client.close(4000, "through nginx")


@needs_nginx
def test_a_drain_through_nginx(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    server = gunicorns.start("websocket_probe")
    http = NGINX.replace("UPSTREAM", upstream_of(server.address))
    with nginx(tmp_path, http) as address, WebSocketClient(address) as client:
        assert client.open("/echo").status == 101
        client.send_frame(TEXT, b"a")
        assert client.read_frame().payload == b"a"
        server.signal(signal.SIGTERM)
        assert client.read_close().code == 1012
        client.send_frame(CLOSE, b"\x03\xf4")
        assert client.is_closed_by_server()
    assert server.wait() == 0
