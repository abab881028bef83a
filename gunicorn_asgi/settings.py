"""Every limit and timeout of a worker in one frozen object.

`gunicorn_config.py` fills it from Gunicorn's settings; all other modules only read it. A default that is not Gunicorn's
own says where its number comes from.
"""

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

    heartbeat_seconds: float = 1.0
    """How often the worker tells the master that it is alive."""

    date_header: bool = True
    server_header: bool = True

    forwarded_allow_ips: tuple[str, ...] = ("127.0.0.1", "::1")
    """Peers whose X-Forwarded-For and scheme headers are believed: addresses, networks or `*`."""

    secure_scheme_headers: tuple[tuple[bytes, bytes], ...] = ((b"x-forwarded-proto", b"https"),)
    """Lower-case header name and the value that means https (Gunicorn: secure_scheme_headers)."""
