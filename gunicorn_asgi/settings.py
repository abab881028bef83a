"""Every limit and timeout of a worker in one frozen object.

`gunicorn_config.py` fills it from Gunicorn's settings; all other modules only read it. A default that is not Gunicorn's
own says where its number comes from.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLimits:
    """What the head of a request may measure. 0 means that only `head_bytes` limits it, as in Gunicorn."""

    request_line_bytes: int = 4094
    """Longest request line without its CRLF; longer is 414 (Gunicorn: limit_request_line)."""

    fields: int = 100
    """Most header fields; more is 431 (Gunicorn: limit_request_fields)."""

    field_bytes: int = 8190
    """Longest field line, name to CRLF; longer is 431 (Gunicorn: limit_request_field_size)."""

    unlimited: ClassVar[int] = 2**31
    """What 0 becomes, so that a check is one comparison."""

    head_bytes: int = 64 * KIB
    """Longest head from the request line to the empty line; longer is 431. Above what browsers and proxies send (16 to
    32 KiB are their usual limits), and small enough that 10,000 hostile connections stay below 1 GiB."""

    small_head_bytes: int = field(init=False)
    """A head up to this size cannot break any limit on the length of a line."""

    def __post_init__(self) -> None:
        for name in ("request_line_bytes", "fields", "field_bytes"):
            if getattr(self, name) == 0:
                object.__setattr__(self, name, self.unlimited)
        object.__setattr__(self, "small_head_bytes", min(self.request_line_bytes, self.field_bytes, self.head_bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one worker runs with. Times are in seconds, sizes in bytes."""

    head_limits: HeadLimits = HeadLimits()

    header_timeout_seconds: float = 10.0
    """From accept, or from the first byte, to the end of the head. Absolute: bytes do not reset it, so that a client
    that drips bytes cannot hold a connection. A browser on a bad mobile line needs well under 5 s."""

    keepalive_seconds: float = 2.0
    """How long an idle connection waits for its next request; 0 closes after each response (Gunicorn: keepalive)."""

    body_timeout_seconds: float = 60.0
    """Longest silence while the application waits for more of the body, as in nginx (client_body_timeout)."""

    write_timeout_seconds: float = 60.0
    """Longest time without progress while the client does not read, as in nginx (send_timeout)."""

    linger_seconds: float = 1.0
    """How long, and `linger_bytes` how much, is read and thrown away after an answer that closes the connection, so
    that the client can read the answer before a reset arrives (RFC 9112 section 9.6). Also the grace between the end
    of a client's sending side and the `http.disconnect` that reports it: within it the client may just have
    half-closed."""

    linger_bytes: int = 64 * KIB

    read_buffer_bytes: int = 64 * KIB
    """Reading pauses while this much of a body waits for the application."""

    write_buffer_bytes: int = 64 * KIB
    """`send()` waits while the transport holds more than this."""

    backlog: int = 2048
    """Length of the accept queue of each listener (Gunicorn: backlog)."""

    root_path: str = ""
    """Where a proxy mounts the application; becomes `scope["root_path"]`."""

    lifespan: Literal["auto", "on", "off"] = "auto"

    graceful_timeout_seconds: float = 30.0
    """From SIGTERM to the end of the process; Gunicorn's master kills after it (Gunicorn: graceful_timeout)."""

    timeout_seconds: float = 30.0
    """How long Gunicorn's master waits for a heartbeat before it kills; 0 for ever (Gunicorn: timeout)."""

    heartbeat_seconds: float = 1.0
    """How often the worker tells the master that it is alive."""

    startup_timeout_seconds: float | None = None
    """How long lifespan startup may take; None for as long as it wants."""

    drain_delay_seconds: float = 0.0
    """How long after SIGTERM the worker still accepts, for load balancers that learn late."""

    drain_grace_seconds: float = 1.0
    """How long a drain waits for the request that a client with an idle connection may just be sending."""

    loop_lag_warning_seconds: float = 1.0
    """From this on a blocked event loop is reported while it is blocked; 0 for never."""

    max_requests: int = 0
    """Requests after which the worker is replaced; 0 for never (Gunicorn: max_requests)."""

    max_requests_jitter: int = 0
    """Up to this many are added to `max_requests` at random (Gunicorn: max_requests_jitter)."""

    max_requests_stagger: bool = True
    """Whether workers that are due for replacement leave one after the other."""

    max_rss_bytes: int | None = None
    """Resident memory above which the worker is replaced."""

    max_connections: int | None = None
    """Connections at which the worker stops accepting until one ends."""

    limit_concurrency: int | None = None
    """Requests at which further ones are answered with 503."""

    request_timeout_seconds: float | None = None
    """How long an application may take to answer: then 504, its task cancelled, the connection closed."""

    disconnect_grace_seconds: float | None = None
    """How long after the client has gone its task is cancelled; None for never. Requests of HTTP/2 do not wait."""

    executor_threads: int | None = None
    """Size of the default executor of the event loop (Gunicorn: threads, where it is more than 1)."""

    date_header: bool = True
    server_header: bool = True

    default_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Lower-case names and values of the fields that every response gets, as in uvicorn (headers). A Server among them
    replaces ours."""

    casefold_http_method: bool = False
    """Whether methods become upper-case (Gunicorn: casefold_http_method)."""

    forwarded_allow_ips: tuple[str, ...] = ("127.0.0.1", "::1")
    """Peers whose X-Forwarded-For and scheme headers are believed: addresses, networks or `*`."""

    secure_scheme_headers: tuple[tuple[bytes, bytes], ...] = ((b"x-forwarded-proto", b"https"),)
    """Lower-case header name and the value that means https (Gunicorn: secure_scheme_headers)."""

    forwarded_hops: int | None = None
    """How many proxies append to X-Forwarded-For; None to find out by `forwarded_allow_ips`."""

    proxy_headers: bool = True
    """Whether those peers are believed who say to speak for others; False for nobody, as in uvicorn."""

    forwarder_headers: tuple[bytes, ...] = (b"script_name", b"path_info")
    """Lower-case names with an underscore that those peers may send; `*` for any (Gunicorn: forwarder_headers)."""

    header_map: Literal["drop", "refuse", "dangerous"] = "drop"
    """What becomes of all other fields whose names have an underscore: left out, the request refused, or passed on
    (Gunicorn: header_map)."""

    proxy_protocol: Literal["off", "v1", "v2", "auto"] = "off"
    """Which version of the PROXY protocol begins each connection; auto for any, off for none (Gunicorn:
    proxy_protocol)."""

    proxy_allow_ips: tuple[str, ...] = ("127.0.0.1", "::1")
    """Peers that may speak it, others are turned away: addresses, networks or `*` (Gunicorn: proxy_allow_ips)."""

    websockets: bool = True
    """Whether WebSocket handshakes are accepted."""

    ws_max_message_bytes: int = 16 * KIB * KIB
    """Longest message of a WebSocket client, inflated, as in uvicorn (ws_max_size)."""

    ws_max_queue: int = 32
    """Messages that wait for the application before reading pauses, as in uvicorn."""

    ws_ping_interval_seconds: float | None = 20.0
    """How often an idle WebSocket is pinged, as in uvicorn; None for never."""

    ws_ping_timeout_seconds: float | None = 20.0
    """How long its answer may take, as in uvicorn; None for as long as it wants."""

    ws_per_message_deflate: bool = True
    """Whether permessage-deflate (RFC 7692) is accepted, as in uvicorn."""

    http2: bool = False
    """Whether HTTP/2 is offered over TLS, by ALPN."""

    http2_cleartext: Literal["off", "prior-knowledge", "upgrade", "both"] = "off"
    """How HTTP/2 may begin without TLS: by its preface, or by `Upgrade: h2c` (Gunicorn: http2_cleartext)."""

    http2_cleartext_peers: Literal["trusted", "all"] = "trusted"
    """Who may do so: those in `forwarded_allow_ips`, as Gunicorn has it, or everybody, as with H2CWorker."""

    http2_max_concurrent_streams: int = 100
    """Streams that a client may have open on one connection (Gunicorn: http2_max_concurrent_streams)."""

    http2_initial_window_bytes: int = 65535
    """Receive window of a stream (Gunicorn: http2_initial_window_size)."""

    http2_max_frame_bytes: int = 16 * KIB
    """Longest frame that a client may send (Gunicorn: http2_max_frame_size)."""

    http2_max_header_list_bytes: int = 64 * KIB
    """Longest decoded header list of a request (Gunicorn: http2_max_header_list_size)."""

    @property
    def server(self) -> bytes:
        """The value of Server in our name; empty for none."""
        return b"" if not self.server_header or b"server" in dict(self.default_headers) else b"gunicorn-asgi"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """TLS as Gunicorn's settings and the ssl options of the worker together describe it. Paths are those of files."""

    certfile: str | None = None
    keyfile: str | None = None
    keyfile_password: str | None = None
    ca_certs: str | None = None
    cert_reqs: int = ssl.CERT_NONE
    ciphers: str | None = None
    context_factory: Callable[..., ssl.SSLContext] | None = None
    """Called with the worker's `config` and a factory of the context that would have been used."""

    @property
    def is_on(self) -> bool:
        """Whether TLS is asked for."""
        return bool(self.certfile or self.keyfile or self.context_factory)
