"""Listening sockets of every kind, and how connections are accepted from them."""

import json
import os
import re
import resource
import select
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.support.gunicorn import Gunicorn, GunicornStarter, free_port
from tests.support.http1 import Connection, request


def test_unix_socket(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = gunicorns.start("probe", bind=f"unix:{path}")
    assert server.address == str(path)
    scope = json.loads(server.get("/scope").body)
    assert scope["server"] == [str(path), None]
    assert scope["client"] is None
    worker = int(server.get("/pid").body)
    os.kill(worker, signal.SIGTERM)
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    assert int(server.get("/pid").body) == server.worker_pids[1], "a worker that leaves takes nothing with it"
    assert server.stop() == 0
    assert not path.exists()


def test_several_binds(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = gunicorns.start("probe", "--bind", f"unix:{path}")
    assert server.get("/hello").status == 200
    server.address = str(path)
    assert server.get("/hello").status == 200


def test_ipv6(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", bind="[::1]:0")
    server.address = ("::1", int(re.findall(r"Listening at: http://\[::1\]:(\d+)", server.log)[0]))
    scope = json.loads(server.get("/scope").body)
    assert scope["client"][0] == scope["server"][0] == "::1"


def test_a_socket_that_somebody_else_has_opened(gunicorns: GunicornStarter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = gunicorns.start("probe", bind=f"fd://{sock.fileno()}", pass_fds=[sock.fileno()])
        assert server.address == sock.getsockname()
    assert server.get("/hello").body == b"hello"


LIKE_SYSTEMD = """\
import os
import sys

os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_an_abstract_socket_from_systemd(gunicorns: GunicornStarter) -> None:
    address = f"\0gunicorn-asgi-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(address)
        sock.listen()
        prefix = [sys.executable, "-c", LIKE_SYSTEMD, str(sock.fileno())]
        server = gunicorns.start("probe", prefix=prefix, pass_fds=[sock.fileno()])
    server.address = address
    assert server.get("/hello").body == b"hello"
    worker = int(server.get("/pid").body)
    os.kill(worker, signal.SIGTERM)
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    assert int(server.get("/pid").body) == server.worker_pids[1]


def test_each_worker_with_a_queue_of_its_own_empties_it_before_it_leaves(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--reuse-port", bind=f"127.0.0.1:{free_port()}")
    worker = int(server.get("/pid").body)
    os.kill(worker, signal.SIGSTOP)
    try:
        connections = [server.connect() for _ in range(20)]
        for connection in connections:
            connection.send(request("/pid"))
        os.kill(worker, signal.SIGTERM)
    finally:
        os.kill(worker, signal.SIGCONT)
    for connection in connections:
        with connection:
            response = connection.read_response()
            assert int(response.body) == worker
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")


def connections_that_fit(server: Gunicorn, worker: int, tries: int) -> int:
    """How many connections the kernel makes while the worker does not accept any."""
    os.kill(worker, signal.SIGSTOP)
    sockets = [socket.socket() for _ in range(tries)]
    try:
        for sock in sockets:
            sock.setblocking(False)
            sock.connect_ex(server.address)
        time.sleep(0.3)  # On the loopback interface all that is possible has happened long before.
        _, writable, _ = select.select([], sockets, [], 0)
        return len(writable)
    finally:
        for sock in sockets:
            sock.close()
        os.kill(worker, signal.SIGCONT)


def test_the_backlog_is_that_of_the_settings_also_for_the_next_worker(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--backlog", "7")
    first = int(server.get("/pid").body)
    assert connections_that_fit(server, first, 20) == 8  # The kernel lets one more in than it is told.
    server.get("/hello")
    os.kill(first, signal.SIGTERM)
    server.wait_for_log(r"(?s)Booting worker.*Booting worker")
    second = int(server.get("/pid").body)
    assert connections_that_fit(server, second, 20) == 8


def burst(server: Gunicorn, count: int) -> "Counter[int]":
    """Make so many connections at once, and see which worker has each of them."""
    assert isinstance(server.address, tuple)
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.setblocking(False)
            sock.connect_ex(server.address)
        for sock in sockets:
            sock.settimeout(20)
            sock.sendall(request("/pid"))
        return Counter(int(sock.recv(1000).rpartition(b"\r\n\r\n")[2]) for sock in sockets)
    finally:
        for sock in sockets:
            sock.close()


@pytest.mark.load
def test_a_burst_is_shared_by_the_workers(gunicorns: GunicornStarter, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    server = gunicorns.start("probe", "--workers", "4", "--keep-alive", "60", env={"PROBE_JOURNAL": str(journal)})
    server.wait_for_text(journal, r"(startup\n){4}")
    ratios = []
    # A busy machine may keep a worker from running at all for a while.
    for _ in range(10):
        time.sleep(1.2)  # Each worker has seen the others by then, and the connections of the last round are gone.
        shares = burst(server, 400)
        ratios.append(max(shares.values()) / min(shares.values()) if len(shares) == 4 else 400.0)
        if ratios[-1] <= 1.5:
            return
    pytest.fail(f"most over fewest connections of a worker: {ratios}")


def test_max_connections_waits_instead_of_refusing(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--keep-alive", "60", env={"GUNICORN_ASGI_MAX_CONNECTIONS": "3"})
    inside = [server.connect() for _ in range(3)]
    for connection in inside:
        assert connection.get("/hello").status == 200
    with server.connect() as waiting, server.connect() as last:
        for connection in (waiting, last):
            connection.send(request("/target/waited"))
        server.wait_for_log(r"max_connections \(3\) is reached")
        assert inside[1].get("/hello").status == 200
        assert select.select([waiting.sock, last.sock], [], [], 0.2)[0] == []
        inside[0].sock.close()
        assert waiting.read_response().body == b"/target/waited?"
        inside[1].sock.close()
        assert last.read_response().body == b"/target/waited?"
    inside[2].sock.close()
    assert server.get("/hello").status == 200
    assert server.log.count("max_connections") == 1


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@pytest.mark.load
@pytest.mark.parametrize("worker", ["Worker", "H11Worker"])
def test_out_of_file_descriptors(gunicorns: GunicornStarter, worker: str) -> None:
    server = gunicorns.start("probe", "--keep-alive", "60", worker=f"gunicorn_asgi.{worker}")
    pid = int(server.get("/pid").body)
    with server.connect() as served:
        served.get("/hello")
        limit = psutil.Process(pid).num_fds() + 5
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
        others = [server.connect() for _ in range(12)]
        for connection in others:
            connection.send(request("/target/other"))
        server.wait_for_log("No connection can be accepted, with .* open: Too many open files")
        before, begun = cpu_seconds(pid), time.monotonic()
        while time.monotonic() - begun < 2.0:
            assert served.get("/target/served").body == b"/target/served?"
            time.sleep(0.1)
        assert cpu_seconds(pid) - before < 0.3, "it does not try without end"
        # Each that is answered makes room for another one.
        answered: list[Connection] = []
        while others:
            readable = select.select([connection.sock for connection in others], [], [], 20)[0]
            assert readable
            for connection in [connection for connection in others if connection.sock in readable]:
                assert connection.read_response().body == b"/target/other?"
                connection.sock.close()
                others.remove(connection)
                answered.append(connection)
        assert len(answered) == 12
    assert server.get("/hello").status == 200
    seconds = time.monotonic() - begun
    assert server.log.count("No connection can be accepted") <= 1 + seconds // 10
    assert "Traceback" not in server.log
