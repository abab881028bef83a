"""Workers that are replaced because they have done enough, or grown too large."""

import contextlib
import re
import time

import pytest

from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http1 import request


def wait_for_workers(server: Gunicorn, count: int) -> None:
    server.wait_for_log("(?s)" + ".*".join(["Booting worker"] * count))


def test_a_worker_is_replaced_after_max_requests(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--max-requests", "5", "--keep-alive", "30")
    with server.connect() as connection:
        responses = [connection.get("/pid") for _ in range(5)]
        assert [response.get(b"connection") for response in responses] == [None] * 4 + [b"close"]
        assert connection.is_closed_by_server()
    wait_for_workers(server, 2)
    assert int(server.get("/pid").body) == server.worker_pids[1]
    assert "Autorestarting worker after 5 requests" in server.log
    assert "ERROR" not in server.log


def test_requests_that_have_begun_count_and_are_finished(gunicorns: GunicornStarter) -> None:
    """The last one is not the first to end."""
    server = gunicorns.start("probe", "--max-requests", "3")
    with server.connect() as held:
        held.send(request("/hold"))
        server.get("/journal/held")
        assert server.get("/release").body == b"releasing"
        assert held.read_response().body == b"released"
    wait_for_workers(server, 2)
    assert re.search(r"Drained in .* s: \d requests finished, 0 cancelled, 0 connections cut", server.log)


HALF_A_REQUEST = request("/whole-body", method="POST", fields="Content-Length: 4\r\n")


def test_workers_take_turns(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--max-requests", "1", "--workers", "2")
    wait_for_workers(server, 2)
    with contextlib.ExitStack() as connections:
        first = connections.enter_context(server.connect())
        first.send(HALF_A_REQUEST)
        server.wait_for_log("Autorestarting")
        # Both are due now, but the other one goes on, and answers everything.
        second = connections.enter_context(server.connect())
        second.send(HALF_A_REQUEST)
        with server.connect() as third:
            assert [third.get("/hello").get(b"connection") for _ in range(3)] == [None] * 3
            other = int(third.get("/pid").body)
        assert server.log.count("Autorestarting") == 1
        first.send(b"body")
        assert first.read_response().body == b"body"
        # Its turn has come when there is another worker in the place of the first.
        server.wait_for_log("(?s)Autorestarting.*Autorestarting")
        second.send(b"body")
        assert second.read_response().body == b"body"
    events = re.findall(r"\[(\d+)\] \[INFO\] (Autorestarting|Booting)", server.log)
    assert [event for _, event in events][:4] == ["Booting", "Booting", "Autorestarting", "Booting"]
    assert [int(pid) for pid, event in events if event == "Autorestarting"][1] == other


def test_workers_need_not_take_turns(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start(
        "probe", "--max-requests", "1", "--workers", "2", env={"GUNICORN_ASGI_MAX_REQUESTS_STAGGER": "false"}
    )
    wait_for_workers(server, 2)
    with contextlib.ExitStack() as connections:
        connections.enter_context(server.connect()).send(HALF_A_REQUEST)
        server.wait_for_log("Autorestarting")
        connections.enter_context(server.connect()).send(HALF_A_REQUEST)
        server.wait_for_log("(?s)Autorestarting.*Autorestarting")
        assert server.log.count("Booting worker") == 2


@pytest.mark.load
def test_a_worker_that_grows_is_replaced(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", env={"GUNICORN_ASGI_MAX_RSS": "150000000"})
    time.sleep(1.5)
    assert "Autorestarting" not in server.log
    assert server.get("/grow?120").status == 200
    wait_for_workers(server, 2)
    assert re.search(r"Autorestarting worker after \d+ MiB of resident memory \(max_rss\)", server.log)
    assert int(server.get("/pid").body) == server.worker_pids[1]
