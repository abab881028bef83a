"""HTTP/2 with programs that others have written: the `h2` library, curl, nghttp, h2load, HAProxy and nginx."""

import json
import re
import ssl
import struct
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from xprocess import XProcess

from gunicorn_asgi.wire.http2_allowance import MAX_BAD_STREAMS
from tests.integration.apps.grpc_echo import framed
from tests.support.certificates import Certificates
from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.haproxy import haproxy, needs_haproxy
from tests.support.http1 import Connection, request
from tests.support.http2_client import LibraryClient
from tests.support.http2_wire import Http2Connection, data, headers, request_fields
from tests.support.nginx import needs_nginx, nginx
from tests.support.system import needs

SECONDS = 60
CONTENT = bytes(range(256)) * 4096
"""1 MiB."""

needs_curl = needs("curl", "curl")
needs_nghttp = needs("nghttp", "nghttp2-client")
needs_h2load = needs("h2load", "nghttp2-client")


def output_of(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS, check=False)
    output = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, output
    return output


@pytest.fixture
def library(h2c: Gunicorn) -> Iterator[LibraryClient]:
    with LibraryClient(h2c.address) as client:
        yield client


# The h2 library


def test_requests_of_the_library(library: LibraryClient) -> None:
    for _ in range(3):
        response = library.get("/hello")
        assert (response.status, response.body, response.trailers) == (200, b"hello", None)
    assert library.get("/hello", "HEAD").body == b""
    assert library.get("/status?404").status == 404
    assert library.get("/hello", fields=[("cookie", "a=1"), ("cookie", "b=2")]).body == b"hello"


def test_many_streams_of_the_library_at_once(library: LibraryClient) -> None:
    streams = {library.begin(f"/target/{number}"): number for number in range(100)}
    for stream, number in reversed(streams.items()):
        assert library.response(stream).body == b"/target/%d?" % number


def test_content_both_ways_with_the_library(library: LibraryClient) -> None:
    """Through windows that are much smaller than the content."""
    assert json.loads(library.get("/size", "POST", body=CONTENT * 4).body)["total"] == 4 * len(CONTENT)
    assert len(library.get("/download?64").body) == 64 * 65536
    assert library.get("/whole-body", "POST", body=CONTENT).body == CONTENT


def test_a_conversation_with_the_library(library: LibraryClient) -> None:
    stream = library.begin("/echo", "POST", end_stream=False)
    for number in range(10):
        library.send(stream, b"%d" % number)
        while not library.responses[stream].body.endswith(b"%d" % number):
            library.receive()
    library.end_with_trailers(stream, [("x-trailer", "1")])
    assert library.response(stream).body == b"0123456789"


def test_a_reset_of_the_library(library: LibraryClient, bystander: Http2Connection) -> None:
    stream = library.begin("/await-cancel?library")
    bystander.get("/journal/awaiting-library")
    library.reset(stream)
    assert json.loads(bystander.get("/journal/cancelled-library").body) == "cancelled"
    assert library.get("/hello").body == b"hello"


# curl, nghttp and h2load


@needs_curl
@pytest.mark.parametrize("how", ["--http2-prior-knowledge", "--http2"])
def test_curl(h2c: Gunicorn, how: str, tmp_path: Path) -> None:
    """`--http2` asks HTTP/1.1 to upgrade."""
    version = ("--write-out", "%{http_version} %{http_code}")
    assert output_of("curl", "-sS", how, *version, f"{h2c.url}/hello") == "hello2 200"
    assert output_of("curl", "-sS", how, *version, "--head", "-o", "/dev/null", f"{h2c.url}/hello") == "2 200"
    if how == "--http2":  # curl 7.88 cannot use a connection of prior knowledge twice, whoever the server is.
        urls = [f"{h2c.url}/target/{number}" for number in range(5)]
        assert output_of("curl", "-sS", how, *urls) == "".join(f"/target/{number}?" for number in range(5))
    upload = tmp_path / "upload"
    upload.write_bytes(CONTENT)
    download = tmp_path / "download"
    output_of("curl", "-sS", how, "--data-binary", f"@{upload}", "-o", str(download), f"{h2c.url}/echo")
    assert download.read_bytes() == CONTENT


@needs_curl
def test_curl_speaks_http1_to_the_same_port(h2c: Gunicorn) -> None:
    assert output_of("curl", "-sS", "--http1.1", "--write-out", "%{http_version}", f"{h2c.url}/hello") == "hello1.1"


@needs_nghttp
@pytest.mark.parametrize("options", [(), ("--upgrade",), ("--continuation",), ("--no-dep",), ("--padding=100",)])
def test_nghttp(h2c: Gunicorn, options: tuple[str, ...]) -> None:
    urls = [f"{h2c.url}/hello", f"{h2c.url}/download?8", f"{h2c.url}/status?404"]
    output = output_of("nghttp", "--verbose", "--null-out", *options, *urls)
    assert "[ERROR]" not in output
    assert re.findall(r":status: (\d+)", output) and "PROTOCOL_ERROR" not in output
    assert sorted(re.findall(r":status: (\d+)", output)) == ["200", "200", "404"]


@needs_nghttp
def test_nghttp_with_small_windows_and_tables(h2c: Gunicorn, tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(CONTENT)
    options = ("--window-bits=10", "--connection-window-bits=12", "--header-table-size=0", "--max-concurrent-streams=1")
    output = output_of("nghttp", "--verbose", *options, "--null-out", "--data", str(upload), f"{h2c.url}/echo")
    assert "PROTOCOL_ERROR" not in output
    assert ":status: 200" in output


@needs_h2load
@pytest.mark.load
@pytest.mark.parametrize("options", [(), ("--header=x-long: " + "v" * 3000,)], ids=["small", "large heads"])
def test_h2load(h2c: Gunicorn, options: tuple[str, ...]) -> None:
    """16 connections with 100 streams each, all of them answered."""
    output = output_of(
        "h2load", "--requests=16000", "--clients=16", "--max-concurrent-streams=100", *options, f"{h2c.url}/hello"
    )
    assert "16000 succeeded, 0 failed, 0 errored, 0 timeout" in output
    assert "16000 2xx" in output


@needs_h2load
@pytest.mark.load
def test_h2load_uploads(h2c: Gunicorn, tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(200_000))
    output = output_of("h2load", "--requests=400", "--clients=4", "-m", "20", f"--data={upload}", f"{h2c.url}/size")
    assert "400 succeeded, 0 failed, 0 errored, 0 timeout" in output
    assert "400 2xx" in output


# Over TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_server(gunicorns: GunicornStarter, certificates: Certificates) -> Gunicorn:
    return gunicorns.start("probe", *certificates.server.options, env={"GUNICORN_ASGI_HTTP2": "1"})


@needs_curl
def test_curl_over_tls(tls_server: Gunicorn, certificates: Certificates) -> None:
    assert isinstance(tls_server.address, tuple)
    host, port = tls_server.address
    common = ("curl", "-sS", "--cacert", str(certificates.authority), "--resolve", f"localhost:{port}:{host}")
    url = f"https://localhost:{port}/hello"
    assert output_of(*common, "--http2", "--write-out", "%{http_version}", url) == "hello2"
    assert output_of(*common, "--http1.1", "--write-out", "%{http_version}", url) == "hello1.1"
    assert output_of(*common, "--http2", "--no-alpn", "--write-out", "%{http_version}", url) == "hello1.1"


def test_the_library_over_tls(tls_server: Gunicorn, certificates: Certificates) -> None:
    tls = ssl.create_default_context(cafile=str(certificates.authority))
    tls.set_alpn_protocols(["h2", "http/1.1"])
    with LibraryClient(tls_server.address, tls) as client:
        shown = json.loads(client.get("/scope").body)
        assert (shown["http_version"], shown["scheme"]) == ("2", "https")
        assert client.get("/whole-body", "POST", body=CONTENT).body == CONTENT
        assert len(client.get("/download?16").body) == 16 * 65536


# Proxies

HAPROXY = """\
global
    nbthread 1
frontend clients
    mode http
    bind 127.0.0.1:PORTPROTO
    default_backend workers
backend workers
    mode http
    http-reuse always
    option httpchk
    http-check send meth GET uri /hello hdr Host localhost
    server worker SERVER proto h2 check inter 200ms
"""


def in_front_of(server: Gunicorn, directory: Path, protocol: str = "") -> AbstractContextManager[tuple[str, int]]:
    """HAProxy, which speaks HTTP/2 to the worker and this protocol with clients."""
    assert isinstance(server.address, tuple)
    return haproxy(directory, HAPROXY.replace("PROTO", protocol).replace("SERVER", "{}:{}".format(*server.address)))


@needs_haproxy
def test_haproxy_speaks_http2_to_the_worker(h2c: Gunicorn, tmp_path: Path) -> None:
    with (
        in_front_of(h2c, tmp_path, " proto h2") as address,
        Http2Connection(address) as connection,
        LibraryClient(address) as client,
    ):
        shown = json.loads(connection.get("/scope").body)
        assert shown["http_version"] == "2"
        assert client.get("/whole-body", "POST", body=CONTENT).body == CONTENT
        assert len(client.get("/download?16").body) == 16 * 65536
        streams = [client.begin(f"/target/{number}") for number in range(50)]
        for number, stream in enumerate(streams):
            assert client.response(stream).body == b"/target/%d?" % number


@needs_haproxy
def test_a_user_of_haproxy_does_not_end_the_requests_of_others(h2c: Gunicorn, tmp_path: Path) -> None:
    """All of them share one connection. HAProxy lets a host through that is none, and which the worker resets."""
    with (
        in_front_of(h2c, tmp_path) as address,
        Connection(address) as neighbour,
        Connection(address) as offender,
    ):
        assert offender.get("/hello").body == b"hello"
        neighbour.send(request("/echo", method="POST", fields="Content-Length: 3\r\n") + b"ab")
        for number in range(12):
            with Connection(address) as other:
                other.send(request("/hello").replace(b"example.org", b"a@b"))
                assert other.read_response().status in (400, 502), number
        neighbour.send(b"c")
        assert neighbour.read_response().body == b"abc"
        assert offender.get("/hello").body == b"hello"


@needs_haproxy
@needs_h2load
def test_users_of_haproxy_lose_nothing_by_what_another_does(h2c: Gunicorn, tmp_path: Path) -> None:
    """Also those whose requests are on their way when a connection is ended."""
    with in_front_of(h2c, tmp_path) as address:
        load = subprocess.Popen(
            ["h2load", "-n30000", "-c4", "-m20", "http://{}:{}/hello".format(*address)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            offences = 0
            while load.poll() is None:
                offences += 1
                with Connection(address) as offender:
                    offender.send(request("/hello").replace(b"example.org", b"a@b"))
                    assert offender.read_response().status in (400, 502)
        finally:
            load.kill()
            output, _ = load.communicate()
    assert "status codes: 30000 2xx, 0 3xx, 0 4xx, 0 5xx" in output
    assert offences > 10 * MAX_BAD_STREAMS


@needs_haproxy
def test_haproxy_translates_http1(h2c: Gunicorn, tmp_path: Path) -> None:
    """Clients with HTTP/1.1, one connection with HTTP/2 to the worker."""
    with in_front_of(h2c, tmp_path) as address, Connection(address) as connection:
        for _ in range(5):
            shown = json.loads(connection.get("/scope").body)
            assert shown["http_version"] == "2"
        assert connection.get("/whole-body", method="POST", body=CONTENT).body == CONTENT
        connection.send(
            request("/echo", method="POST", fields="Transfer-Encoding: chunked\r\n") + b"3\r\nabc\r\n0\r\n\r\n"
        )
        assert connection.read_response().body == b"abc"


GRPC = """\
    server {
        listen 127.0.0.1:PORT http2;
        location / {
            grpc_pass grpc://SERVER;
        }
    }
"""


@pytest.fixture(scope="module")
def grpc_server(xprocess: XProcess) -> Iterator[Gunicorn]:
    starter = GunicornStarter(xprocess)
    yield starter.start("grpc_echo", "--keep-alive", "60", worker="gunicorn_asgi.H2CWorker")
    starter.end_all()


@pytest.fixture(scope="module")
def grpc(grpc_server: Gunicorn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """nginx in front of a worker, speaking gRPC to it."""
    assert isinstance(grpc_server.address, tuple)
    sections = GRPC.replace("SERVER", "{}:{}".format(*grpc_server.address))
    with nginx(tmp_path_factory.mktemp("nginx"), sections) as address:
        yield address


def grpc_call(connection: Http2Connection, method: str) -> int:
    """Begin a call as a gRPC client does."""
    fields = [(b"te", b"trailers"), (b"content-type", b"application/grpc+proto"), (b"grpc-timeout", b"20S")]
    stream = connection.next_id
    connection.send(headers(stream, request_fields(method, b"POST", fields), end_stream=False))
    return stream


@needs_nginx
def test_a_unary_call_through_nginx(grpc: tuple[str, int]) -> None:
    with Http2Connection(grpc) as connection:
        for message in (b"hello", b"", CONTENT[:60000]):
            stream = grpc_call(connection, "/echo.Echo/Unary")
            for start in range(0, len(framed(message)), 16384):
                connection.send(data(stream, framed(message)[start : start + 16384]))
            connection.send(data(stream, b"", end_stream=True))
            response = connection.response(stream)
            assert (response.status, response.body) == (200, framed(message[::-1]))
            assert response.trailers is not None
            assert (b"grpc-status", b"0") in response.trailers


@needs_nginx
def test_a_streaming_call_through_nginx(grpc: tuple[str, int]) -> None:
    """Each message is answered before the next one is sent: neither side gathers."""
    with Http2Connection(grpc) as connection:
        stream = grpc_call(connection, "/echo.Echo/Stream")
        expected = b""
        for number in range(20):
            message = b"message %d" % number
            connection.send(data(stream, framed(message)))
            expected += framed(message[::-1])
            while len(connection.streams[stream].body) < len(expected):
                connection.receive()
        connection.send(data(stream, b"", end_stream=True))
        response = connection.response(stream)
        assert response.body == expected
        assert response.trailers is not None
        assert (b"grpc-status", b"0") in response.trailers


@needs_nginx
def test_a_failed_call_through_nginx(grpc: tuple[str, int]) -> None:
    with Http2Connection(grpc) as connection:
        stream = grpc_call(connection, "/echo.Echo/Missing")
        connection.send(data(stream, framed(b"hello"), end_stream=True))
        response = connection.response(stream)
        assert (response.get(b"grpc-status"), response.body) == (b"12", b"")


@needs_nginx
def test_calls_one_after_the_other_and_at_once_through_nginx(grpc: tuple[str, int]) -> None:
    with Http2Connection(grpc) as connection:
        streams = [grpc_call(connection, "/echo.Echo/Unary") for _ in range(50)]
        for number, stream in enumerate(streams):
            connection.send(data(stream, framed(struct.pack(">L", number)), end_stream=True))
        for number, stream in enumerate(streams):
            assert connection.response(stream).body == framed(struct.pack(">L", number)[::-1])
