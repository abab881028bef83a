"""The scope of a request as the ASGI specification 2.5 describes it."""

from typing import Any

import pytest

from gunicorn_asgi.asgi_types import HTTPScope
from gunicorn_asgi.scope import build_http_scope
from gunicorn_asgi.settings import HeadLimits
from gunicorn_asgi.wire.http1_httptools import HttptoolsFieldParser
from tests.support.heads import read_request_head


def scope_of(
    target: bytes = b"/", root_path: str = "", method: bytes = b"GET", state: dict[str, Any] | None = None
) -> HTTPScope:
    data = b"%b %b HTTP/1.1\r\nHost: example.org\r\nX-One: 1\r\nx-one: 2\r\n\r\n" % (method, target)
    head = read_request_head(data, HttptoolsFieldParser(), HeadLimits())
    client, server = ("192.0.2.1", 1234), ("127.0.0.1", 8000)
    return build_http_scope(
        head.method, *head[2:7], client, server, "https", root_path, {} if state is None else state, {"tls": {}}
    )


def test_a_scope_holds_what_the_specification_lists() -> None:
    assert scope_of(b"/a%20b?c=%20d", method=b"POST", state={"db": 1}) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c=%20d",
        "root_path": "",
        "headers": [(b"host", b"example.org"), (b"x-one", b"1"), (b"x-one", b"2")],
        "client": ("192.0.2.1", 1234),
        "server": ("127.0.0.1", 8000),
        "state": {"db": 1},
        "extensions": {"tls": {}},
    }


@pytest.mark.parametrize("server", [None, ("/run/app.sock", None)])
def test_addresses_of_unix_sockets_are_passed_on(server: tuple[str, None] | None) -> None:
    head = read_request_head(b"GET / HTTP/1.0\r\n\r\n", HttptoolsFieldParser(), HeadLimits())
    scope = build_http_scope(head.method, *head[2:7], None, server, "http", "", {}, {})
    assert scope["client"] is None
    assert scope["server"] == server
    assert scope["http_version"] == "1.0"
    assert scope["scheme"] == "http"


def test_each_request_gets_a_shallow_copy_of_the_state() -> None:
    state: dict[str, Any] = {"pool": []}
    first, second = scope_of(state=state), scope_of(state=state)
    first["state"]["user"] = "a"
    first["state"]["pool"].append(1)
    assert second["state"] == {"pool": [1]}
    assert state == {"pool": [1]}


@pytest.mark.parametrize(
    ("root_path", "target", "path", "raw_path"),
    [
        pytest.param("", b"/a", "/a", b"/a", id="none"),
        pytest.param("/api", b"/a", "/api/a", b"/api/a", id="prefixed"),
        pytest.param("/api", b"/", "/api/", b"/api/", id="prefixed to the root"),
        pytest.param("/api", b"/api/a", "/api/a", b"/api/a", id="there already"),
        pytest.param("/api", b"/api/", "/api/", b"/api/", id="there already with a slash"),
        pytest.param("/api", b"/api", "/api", b"/api", id="the root path itself"),
        pytest.param("/api", b"/apis", "/api/apis", b"/api/apis", id="a longer segment"),
        pytest.param("/api", b"/API/a", "/api/API/a", b"/api/API/a", id="another case"),
        pytest.param("/api", b"/%61pi/a", "/api/a", b"/%61pi/a", id="there already but encoded"),
        pytest.param("/api/v1", b"/api/a", "/api/v1/api/a", b"/api/v1/api/a", id="partly there"),
        pytest.param("/a b", b"/c", "/a b/c", b"/a%20b/c", id="raw path stays encoded"),
        pytest.param("/caf\u00e9", b"/c", "/caf\u00e9/c", b"/caf%C3%A9/c", id="raw path stays ASCII"),
    ],
)
def test_the_root_path_is_in_the_path_once(root_path: str, target: bytes, path: str, raw_path: bytes) -> None:
    scope = scope_of(target, root_path)
    assert scope["root_path"] == root_path
    assert (scope["path"], scope["raw_path"]) == (path, raw_path)


def test_a_query_is_no_part_of_the_path_under_a_root_path() -> None:
    scope = scope_of(b"/a?b", "/api")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/api/a", b"/api/a", b"b")


def test_options_about_the_whole_server_has_no_path_to_prefix() -> None:
    scope = scope_of(b"*", "/api", b"OPTIONS")
    assert (scope["path"], scope["raw_path"]) == ("*", b"*")
