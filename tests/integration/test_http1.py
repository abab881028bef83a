"""HTTP/1.0 and 1.1 as a client sees it: connections, framing, bodies."""

import http.client
import json

import httpx
import pytest

from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http1 import Connection, chunked, request

# Connections


def test_a_connection_is_used_again(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        for number in range(5):
            response = connection.get(f"/target/{number}")
            assert response.body == b"/target/%d?" % number
            assert response.get(b"connection") is None


def test_connection_close_of_the_client_is_honoured(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        response = connection.get("/hello", fields="Connection: close\r\n")
        assert (response.status, response.get(b"connection")) == (200, b"close")
        assert connection.is_closed_by_server()


@pytest.mark.parametrize("last", [request("/hello", fields="Connection: close\r\n"), request("/hello", version="1.0")])
def test_the_last_request_of_one_connection_leaves_the_others_alone(probe: Gunicorn, last: bytes) -> None:
    with probe.connect() as other, probe.connect() as connection:
        connection.send(last)
        assert connection.read_response().get(b"connection") == b"close"
        assert other.get("/hello").status == 200


@pytest.mark.parametrize("wanted", [True, False])
def test_http_1_0_closes_unless_keep_alive_is_asked_for(probe: Gunicorn, wanted: bool) -> None:
    fields = "Connection: keep-alive\r\n" if wanted else ""
    with probe.connect() as connection:
        connection.send(request("/hello", fields=fields, version="1.0"))
        response = connection.read_response()
        # RFC 9110 section 2.5: the version is that of the server.
        assert response.head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert response.body == b"hello"
        assert response.get(b"connection") == (b"keep-alive" if wanted else b"close")
        if wanted:
            assert connection.get("/hello").status == 200
        else:
            assert connection.is_closed_by_server()


def test_http_1_0_gets_content_of_unknown_length_until_the_end_of_the_connection(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(request("/download?2", fields="Connection: keep-alive\r\n", version="1.0"))
        response = connection.read_response()
        assert response.get(b"transfer-encoding") is None
        assert response.get(b"connection") == b"close"
        assert len(response.body) == 2 * 65536


def test_http_1_0_needs_no_host(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(b"GET /hello HTTP/1.0\r\n\r\n")
        assert connection.read_response().status == 200


def test_an_idle_connection_is_closed_after_keepalive(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--keep-alive", "1")
    with server.connect() as connection, server.connect() as busy:
        busy.send(request("/hold"))
        assert connection.get("/journal/held").status == 200
        assert connection.is_closed_by_server()
        server.get("/release")
        assert busy.read_response().body == b"released", "a running request is not idle"


def test_keepalive_0_closes_after_each_response(gunicorns: GunicornStarter) -> None:
    server = gunicorns.start("probe", "--keep-alive", "0")
    with server.connect() as connection:
        assert connection.get("/hello").get(b"connection") == b"close"
        assert connection.is_closed_by_server()


# Pipelining


def test_pipelined_requests_are_answered_in_order(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(b"".join(request(f"/target/{number}") for number in range(50)))
        for number in range(50):
            assert connection.read_response().body == b"/target/%d?" % number


def test_pipelined_requests_with_bodies_are_answered_in_order(probe: Gunicorn) -> None:
    bodies = [b"body %d " % number * number * 500 for number in range(1, 20)]
    data = b"".join(
        request("/echo", method="POST", body=body)
        if number % 2
        else request("/echo", method="POST", fields="Transfer-Encoding: chunked\r\n") + chunked(body[:100], body[100:])
        for number, body in enumerate(bodies)
    )
    with probe.connect() as connection:
        connection.send(data)
        for body in bodies:
            assert connection.read_response().body == body


def test_a_pipelined_request_waits_for_a_slow_one_before_it(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(request("/hold") + request("/target/second"))
        probe.get("/journal/held")
        probe.get("/release")
        assert connection.read_response().body == b"released"
        assert connection.read_response().body == b"/target/second?"


def test_what_follows_a_closing_request_is_not_served(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(request("/hello", fields="Connection: close\r\n") + request("/target/second"))
        assert connection.read_response().body == b"hello"
        assert connection.is_closed_by_server()


def test_requests_may_come_byte_by_byte(probe: Gunicorn) -> None:
    data = request("/echo", method="POST", fields="Transfer-Encoding: chunked\r\n") + chunked(b"one", b"two")
    with probe.connect() as connection:
        for position in range(len(data)):
            connection.send(data[position : position + 1])
        assert connection.read_response().body == b"onetwo"
        assert connection.get("/hello").body == b"hello"


# Framing


def test_chunks_in_both_directions_as_they_come(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(request("/echo", method="POST", fields="Transfer-Encoding: chunked\r\n"))
        for part in (b"first", b"second" * 1000, b"\r\n0\r\n\r\n"):
            connection.send(b"%x\r\n%b\r\n" % (len(part), part))
            # The response starts while the request is still being sent.
            if part == b"first":
                assert b"transfer-encoding: chunked" in connection.read_until(b"\r\n\r\n")
            received = b""
            while len(received) < len(part):
                size = int(connection.read_until(b"\r\n"), 16)
                received += connection.read_exactly(size)
                assert connection.read_exactly(2) == b"\r\n"
            assert received == part
        connection.send(b"0\r\n\r\n")
        assert connection.read_until(b"0\r\n\r\n") == b"0\r\n\r\n"
        assert connection.get("/hello").status == 200


def test_head_is_the_head_of_get(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        for target in ("/hello", "/download?3"):
            head = connection.get(target, method="HEAD")
            get = connection.get(target)
            assert head.body == b""
            assert [field for field in head.fields if field[0] in (b"content-length", b"content-type")] == [
                field for field in get.fields if field[0] in (b"content-length", b"content-type")
            ]


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_content(probe: Gunicorn, status: int) -> None:
    with probe.connect() as connection:
        response = connection.get(f"/status?{status}")
        assert response.status == status
        assert response.get(b"transfer-encoding") is None
        assert response.get(b"etag") == b'"1"'
        assert connection.get("/hello").body == b"hello", "what follows the head is the next response"


def test_date_and_server_are_added(probe: Gunicorn) -> None:
    names = [name for name, _ in probe.get("/hello").fields]
    assert names == [b"date", b"server", b"content-type", b"content-length"]


@pytest.mark.parametrize("target", ["http://example.com/target/x?a=b", "HTTPS://example.com:8443/target/x?a=b"])
def test_absolute_form(probe: Gunicorn, target: str) -> None:
    assert probe.get(target).body == b"/target/x?a=b"


def test_the_authority_of_an_absolute_form_replaces_host(probe: Gunicorn) -> None:
    scope = json.loads(probe.get("http://example.com:81/scope").body)
    assert scope["path"] == "/scope"
    assert scope["headers"] == [["host", "example.com:81"]]
    # The scheme is that of the connection, whatever the client writes.
    assert scope["scheme"] == "http"


def test_options_of_the_whole_server(probe: Gunicorn) -> None:
    assert probe.get("*", method="OPTIONS").status == 200


def test_the_scope(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        scope = json.loads(connection.get("/scope/a%20%C3%BC?q=%20&r", fields="X-One: 1\r\nX-ONE:  2 \r\n").body)
        client = connection.sock.getsockname()
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "server": list(probe.address),
        "client": list(client),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/scope/a ü",
        "raw_path": "/scope/a%20%C3%BC",
        "query_string": "q=%20&r",
        "headers": [["host", "example.org"], ["x-one", "1"], ["x-one", "2"]],
        "state": {"from_lifespan": "set in startup"},
        "extensions": {"http.response.early_hint": {}},
    }


# Expect: 100-continue


def test_100_continue_is_sent_when_the_application_reads(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(request("/echo", method="POST", fields="Expect: 100-continue\r\nContent-Length: 4\r\n"))
        assert connection.read_response().head == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(b"body")
        assert connection.read_response().body == b"body"
        assert connection.get("/hello").status == 200


def test_100_continue_is_not_sent_when_the_application_does_not_read(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(request("/ignore-body", method="POST", fields="Expect: 100-continue\r\nContent-Length: 4\r\n"))
        assert connection.read_response().status == 200
        assert connection.is_closed_by_server(), "whether the body follows is unknown"


def test_100_continue_is_not_sent_to_http_1_0(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        fields = "Expect: 100-continue\r\nContent-Length: 4\r\n"
        connection.send(request("/whole-body", method="POST", fields=fields, version="1.0") + b"body")
        assert connection.read_response().body == b"body"


# Clients that leave


def test_half_closing_client_gets_its_answer(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(request("/half-closed"))
        connection.end_sending()
        assert connection.read_response().body == b"late but whole"
        assert connection.is_closed_by_server()


def test_half_closing_client_gets_the_answers_to_all_its_requests(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(b"".join(request(f"/target/{number}") for number in range(5)))
        connection.end_sending()
        for number in range(5):
            assert connection.read_response().body == b"/target/%d?" % number
        assert connection.is_closed_by_server()


@pytest.mark.parametrize("way", ["close", "reset"])
def test_receive_tells_that_the_client_has_gone(probe: Gunicorn, way: str) -> None:
    with probe.connect() as connection:
        connection.send(request(f"/await-disconnect?{way}"))
        probe.get(f"/journal/waiting-{way}")
        if way == "reset":
            connection.reset()
    assert json.loads(probe.get(f"/journal/disconnect-{way}").body) == ["http.request", "http.disconnect"]


def test_a_body_cut_off_is_a_disconnect(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(request("/await-disconnect?cut", method="POST", fields="Content-Length: 10\r\n") + b"12345")
        probe.get("/journal/waiting-cut")
        connection.end_sending()
        types = json.loads(probe.get("/journal/disconnect-cut").body)
        assert types[-1] == "http.disconnect"
        assert connection.is_closed_by_server()


@pytest.mark.parametrize("way", ["close", "reset"])
def test_send_raises_an_oserror_when_the_client_has_gone(probe: Gunicorn, way: str) -> None:
    with probe.connect() as connection:
        connection.send(request(f"/endless?{way}"))
        connection.read_until(b"\r\n\r\n")
        if way == "reset":
            connection.reset()
    assert json.loads(probe.get(f"/journal/gone-{way}").body) == "ClientDisconnected"
    assert "/endless" not in probe.log, "a client that leaves is no error of the application"


# Applications that fail


def test_exception_before_the_head(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        response = connection.get("/fail")
        assert (response.status, response.body) == (500, b"Internal Server Error")
        assert response.get(b"connection") == b"close"
        assert connection.is_closed_by_server()
    assert probe.log.count("ValueError: raised on purpose, before the head") == 1


def test_exception_after_the_start_message(probe: Gunicorn) -> None:
    assert probe.get("/fail-after-start").status == 500


def test_exception_after_the_head_breaks_off(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(request("/fail-after-head"))
        with pytest.raises((ConnectionError, EOFError)):
            connection.read_response()
    with probe.connect() as connection:
        connection.send(request("/fail-after-head", version="1.0"))
        # Without chunks an orderly end would look like the end of the content.
        with pytest.raises(ConnectionError):
            connection.read_response()


START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": "content"}
MORE = {**BODY, "more_body": True}


@pytest.mark.parametrize(
    ("key", "messages", "error", "status"),
    [
        ("body-first", [BODY], "MessageOrderError", 500),
        ("two-starts", [START, START], "MessageOrderError", 500),
        ("unknown", [{"type": "http.response.unknown"}], "MessageOrderError", 500),
        ("start-only", [START], None, 500),
        ("nothing", [], None, 500),
        ("after-the-end", [START, BODY, BODY], "MessageOrderError", 200),
        ("start-after-the-end", [START, BODY, START], "MessageOrderError", 200),
        ("bad-status", [{**START, "status": 99}, BODY], "ApplicationError", 500),
        ("bad-name", [{**START, "headers": [["bad name", "1"]]}, BODY], "ApplicationError", 500),
        ("bad-value", [{**START, "headers": [["name", "a\r\nb: c"]]}, BODY], "ApplicationError", 500),
        ("two-lengths", [{**START, "headers": [["content-length", "7"]] * 2}, BODY], "ApplicationError", 500),
        ("too-short", [{**START, "headers": [["content-length", "9"]]}, BODY], "ApplicationError", 500),
    ],
)
def test_messages_that_asgi_or_http_do_not_allow(
    probe: Gunicorn, key: str, messages: list[dict[str, object]], error: str | None, status: int
) -> None:
    logged = "Exception in ASGI application: 'POST /send'"
    logged_before = probe.log.count(logged)
    response = probe.get(f"/send?{key}", method="POST", body=json.dumps(messages).encode())
    refused = json.loads(probe.get(f"/journal/refused-{key}").body)
    assert (refused and refused[0]) == error
    assert response.status == status
    assert probe.log.count(logged) == logged_before + 1


def test_content_beyond_its_length_is_cut_off(probe: Gunicorn) -> None:
    messages = [{**START, "headers": [["content-length", "3"]]}, BODY]
    with probe.connect() as connection:
        response = connection.get("/send?too-long", method="POST", body=json.dumps(messages).encode())
        assert response.body == b"con"
        assert connection.is_closed_by_server()


def test_content_that_ends_early_is_not_taken_for_whole(probe: Gunicorn) -> None:
    messages = [{**START, "headers": [["content-length", "20"]]}, MORE, BODY]
    with probe.connect() as connection:
        connection.send(request("/send?early", method="POST", body=json.dumps(messages).encode()))
        with pytest.raises((ConnectionError, EOFError)):
            connection.read_response()


# Early hints and trailers

EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\nlink: </more.js>\r\n\r\n"


def test_early_hints_and_trailers_for_a_client_that_asks_for_trailers(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        connection.send(request("/hints-and-trailers", fields="TE: trailers\r\nConnection: TE\r\n"))
        assert connection.read_response().head == EARLY_HINTS
        head = connection.read_until(b"\r\n\r\n")
        # RFC 9112 section 6.5: only chunked content has trailers, and so it has no length.
        assert b"transfer-encoding: chunked\r\n" in head
        assert b"content-length" not in head
        body = b"7\r\ncontent\r\n0\r\nx-extensions: http.response.early_hint,http.response.trailers\r\n\r\n"
        assert connection.read_exactly(len(body)) == body
        assert connection.get("/hello").body == b"hello"


@pytest.mark.parametrize("fields", ["", "TE: gzip\r\n", "TE: trailer\r\n"])
def test_no_trailers_for_others(probe: Gunicorn, fields: str) -> None:
    with probe.connect() as connection:
        connection.send(request("/hints-and-trailers", fields=fields))
        assert connection.read_response().head == EARLY_HINTS
        response = connection.read_response()
        assert (response.get(b"content-length"), response.body) == (b"7", b"content")
        assert connection.get("/hello").body == b"hello"


def test_neither_early_hints_nor_trailers_in_http_1_0(probe: Gunicorn) -> None:
    with probe.connect() as connection:
        fields = "TE: trailers\r\nConnection: keep-alive\r\n"
        connection.send(request("/hints-and-trailers", fields=fields, version="1.0"))
        response = connection.read_response()
        assert (response.status, response.get(b"content-length"), response.body) == (200, b"7", b"content")
        assert connection.get("/hello").body == b"hello"


# Real clients


def test_httpx_streams_both_ways(probe: Gunicorn) -> None:
    parts = [b"a" * 100_000, b"b" * 10, b"c" * 70_000]
    with httpx.Client(base_url=probe.url) as client:
        for _ in range(3):
            response = client.post("/echo", content=iter(parts))
            assert response.content == b"".join(parts)
        with client.stream("GET", "/download?50") as streamed:
            assert sum(len(part) for part in streamed.iter_bytes()) == 50 * 65536


def test_the_client_of_the_standard_library(probe: Gunicorn) -> None:
    client = http.client.HTTPConnection(probe.url.removeprefix("http://"), timeout=20)
    for body in (b"x", b"y" * 300_000):
        client.request("POST", "/echo", body)
        assert client.getresponse().read() == body
    client.close()


def test_connections_of_their_own_do_not_wait_for_each_other(probe: Gunicorn) -> None:
    with probe.connect() as held:
        held.send(request("/hold"))
        probe.get("/journal/held")
        connections = [Connection(probe.address) for _ in range(20)]
        for connection in connections:
            assert connection.get("/hello").body == b"hello"
            connection.sock.close()
        probe.get("/release")
        assert held.read_response().body == b"released"
