"""Nothing is lost: strict clients under load while workers come and go."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.gunicorn import Gunicorn, GunicornStarter, free_port
from tests.support.http1 import Address
from tests.support.ledger import Load
from tests.support.system import find_program, needs

pytestmark = pytest.mark.load

StartLedger = Callable[..., Gunicorn]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def start(gunicorns: GunicornStarter, journal: Path) -> StartLedger:
    """Start the ledger application."""

    def start(*options: str, bind: str = "127.0.0.1:0") -> Gunicorn:
        env = {"LEDGER": str(journal)}
        return gunicorns.start("ledger", "--keep-alive", "5", *options, bind=bind, env=env)

    return start


def booted(server: Gunicorn, count: int) -> None:
    """Wait until so many workers have been started since the server was."""
    deadline = time.monotonic() + 30
    while len(server.worker_pids) < count:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.02)


def clean(server: Gunicorn) -> None:
    """No worker had to be forced."""
    for trouble in ("SIGKILL", "WORKER TIMEOUT", "Traceback", "[ERROR]", "cancelled, 1", " 1 cancelled"):
        assert trouble not in server.log, server.log


@pytest.mark.parametrize("reuse_port", [False, True], ids=["one queue", "reuse_port"])
def test_hup_again_and_again(start: StartLedger, journal: Path, reuse_port: bool) -> None:
    options = ("--reuse-port",) if reuse_port else ()
    server = start("--workers", "2", *options, bind=f"127.0.0.1:{free_port() if reuse_port else 0}")
    with Load(server.address, journal) as load:
        for number in range(1, 4):
            server.signal(signal.SIGHUP)
            booted(server, 2 + 2 * number)
            load.more_answers(200)
    load.ledger.check()
    clean(server)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_max_requests(start: StartLedger, journal: Path, workers: int) -> None:
    server = start("--workers", str(workers), "--max-requests", "40", "--max-requests-jitter", "10")
    with Load(server.address, journal) as load:
        booted(server, workers + 3)
    load.ledger.check()
    clean(server)


def test_workers_are_added_and_taken_away(start: StartLedger, journal: Path) -> None:
    server = start("--workers", "2")
    with Load(server.address, journal) as load:
        for number in range(1, 4):
            server.signal(signal.SIGTTIN)
            booted(server, 2 + number)
            load.more_answers(100)
            server.signal(signal.SIGTTOU)
            load.more_answers(100)
    load.ledger.check()
    clean(server)


def test_a_worker_that_is_killed_takes_only_its_own_requests_with_it(start: StartLedger, journal: Path) -> None:
    server = start("--workers", "2")
    with Load(server.address, journal, clients=20) as load:
        victim = server.worker_pids[0]
        os.kill(victim, signal.SIGKILL)
        booted(server, 3)
        load.more_answers(200)
    load.ledger.check(may_fail=True, killed=victim)
    # No more than one of each client, and none that the other worker has begun.
    assert len(load.ledger.failed) <= 20
    assert set(load.ledger.failed_after_begin().values()) <= {victim}


def test_term_under_load_finishes_what_has_begun(start: StartLedger, journal: Path) -> None:
    server = start("--workers", "2")
    with Load(server.address, journal, clients=20) as load:
        load.more_answers(100)
        assert server.stop() == 0
    load.ledger.check(may_fail=True)
    assert load.ledger.failed_after_begin() == {}
    clean(server)
    assert load.ledger.count("shutdown") == 2


def test_workers_that_lose_their_master_finish_what_they_do_and_end(start: StartLedger, journal: Path) -> None:
    server = start("--workers", "2")
    with Load(server.address, journal, clients=20) as load:
        load.more_answers(100)
        workers = [psutil.Process(pid) for pid in server.worker_pids]
        server.signal(signal.SIGKILL)
        server.wait()
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert alive == []
    load.ledger.check(may_fail=True)
    assert load.ledger.failed_after_begin() == {}
    assert load.ledger.count("shutdown") == 2
    assert server.log.count("has gone") == 2


@pytest.mark.parametrize("who", ["worker", "master"])
def test_a_process_that_is_stopped_for_a_while_loses_nothing(start: StartLedger, journal: Path, who: str) -> None:
    server = start("--workers", "2")
    with Load(server.address, journal) as load:
        pid = server.pid if who == "master" else server.worker_pids[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            # The other worker takes what is new; clients that have a connection to the stopped one wait.
            load.more_answers(3)
            time.sleep(1.5)
        finally:
            os.kill(pid, signal.SIGCONT)
        load.more_answers(200)
    load.ledger.check()
    clean(server)


def upgraded(server: Gunicorn, pid_file: Path) -> psutil.Process:
    """Have the master start a new one, and wait until that one has its workers."""
    server.signal(signal.SIGUSR2)
    new = pid_file.with_name(f"{pid_file.name}.2")
    deadline = time.monotonic() + 30
    while not (new.exists() and new.read_text().strip()):
        assert time.monotonic() < deadline, server.log
        time.sleep(0.02)
    booted(server, 4)
    return psutil.Process(int(new.read_text()))


def test_usr2_and_the_old_master_goes(start: StartLedger, journal: Path, tmp_path: Path) -> None:
    server = start("--workers", "2", "--pid", str(tmp_path / "pid"))
    with Load(server.address, journal) as load:
        master = upgraded(server, tmp_path / "pid")
        load.more_answers(100)
        assert server.stop() == 0
        load.more_answers(300)
        assert master.is_running()
    load.ledger.check()
    clean(server)
    assert load.ledger.count("shutdown") == 2


def test_usr2_and_back_again(start: StartLedger, journal: Path, tmp_path: Path) -> None:
    server = start("--workers", "2", "--pid", str(tmp_path / "pid"))
    with Load(server.address, journal) as load:
        master = upgraded(server, tmp_path / "pid")
        load.more_answers(100)
        master.terminate()
        # Its parent, the old master, sees it end.
        deadline = time.monotonic() + 30
        while load.ledger.count("shutdown") < 2 or psutil.pid_exists(master.pid):
            assert time.monotonic() < deadline, server.log
            time.sleep(0.05)
        load.more_answers(200)
    load.ledger.check()
    clean(server)


NGINX = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream workers {{
        server 127.0.0.1:{upstream};
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://workers;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
        }}
    }}
}}
"""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[[int], Address]]:
    """Start nginx in front of a port, with connections that it keeps, and without a second try for any request."""
    running: list[subprocess.Popen[bytes]] = []

    def start(upstream: int) -> Address:
        port = free_port()
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(NGINX.format(directory=tmp_path, upstream=upstream, port=port))
        program = find_program("nginx")
        assert program is not None
        running.append(subprocess.Popen([program, "-c", str(configuration), "-e", str(tmp_path / "early.log")]))
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return ("127.0.0.1", port)
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, (tmp_path / "early.log").read_text()
                time.sleep(0.02)

    yield start
    for process in running:
        process.terminate()
        process.wait(20)


@needs("nginx", "nginx")
@pytest.mark.parametrize("how", ["hup", "max_requests"])
def test_behind_nginx(
    start: StartLedger, nginx: Callable[[int], Address], journal: Path, tmp_path: Path, how: str
) -> None:
    server = start("--workers", "2", "--max-requests", "0" if how == "hup" else "60")
    assert isinstance(server.address, tuple)
    with Load(nginx(server.address[1]), journal) as load:
        for number in range(1, 4):
            if how == "hup":
                server.signal(signal.SIGHUP)
                booted(server, 2 + 2 * number)
                load.more_answers(200)
            else:
                booted(server, 2 + number)
    load.ledger.check()
    clean(server)
    assert "upstream" not in (tmp_path / "error.log").read_text()


def test_replacing_workers_leaves_nothing_behind(start: StartLedger, journal: Path) -> None:
    """Neither open files nor processes, nor memory beyond what two rounds differ by."""
    server = start("--workers", "2")
    master = psutil.Process(server.pid)
    seen: list[tuple[int, int, int]] = []
    for round_ in range(1, 11):
        booted(server, 2 * round_)
        if round_ in (3, 10):
            deadline = time.monotonic() + 30
            newest = {f"startup - {pid}" for pid in server.worker_pids[-2:]}
            while len(master.children()) != 2 or not newest <= set(journal.read_text().splitlines()):
                assert time.monotonic() < deadline, server.log
                time.sleep(0.05)
            worker_files = max(psutil.Process(pid).num_fds() for pid in server.worker_pids[-2:])
            seen.append((master.num_fds(), worker_files, master.memory_info().rss))
        if round_ < 10:
            server.signal(signal.SIGHUP)
    (files, worker_files, rss), (files_later, worker_files_later, rss_later) = seen
    assert files_later == files
    assert worker_files_later <= worker_files + 2
    assert rss_later < rss + (4 << 20)
    clean(server)
