"""Every option beyond Gunicorn's settings, in one table: `CONFIG_KWARGS`, `Worker.configure` and `GUNICORN_ASGI_*`.

The vocabulary is that of `uvicorn.Config`, so that subclasses of its workers go on working, and what this worker has of
its own. The table is data: `gunicorn_config.py` applies it, and the documentation is made from it.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from .errors import SettingsError
from .option_kinds import (
    CALLABLE,
    CERT_REQS,
    COROUTINE_FUNCTION,
    FLAG,
    HEADERS,
    LEVEL,
    LOOP,
    PATH,
    PEERS,
    POSITIVE_SECONDS,
    ROOT_PATH,
    SECONDS,
    SIZE,
    TEXT,
    WHOLE,
    Kind,
    choice,
    optional,
    whole,
)

ENVIRONMENT_PREFIX: Final = "GUNICORN_ASGI_"


class Origin(Enum):
    """Whose name an option is."""

    UVICORN = "uvicorn"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class Option:
    """One option that has an effect."""

    name: str
    kind: Kind
    default: Any
    """What holds when neither the option nor `setting` is given; a value that `kind` reads."""

    about: str
    field: str = ""
    """The field of `Settings` that it fills; empty where the worker itself uses it."""

    setting: str = ""
    """The Gunicorn setting that says the same and is overridden by the option."""

    origin: Origin = Origin.UVICORN


_HTTP: Final = choice("auto", "httptools", "h11")
_WS: Final = choice("auto", "none", "websockets", "websockets-sansio", "wsproto")
_OURS: Final = Origin.OURS

OPTIONS: Final[Mapping[str, Option]] = {
    option.name: option
    for option in (
        # What serves.
        Option("loop", LOOP, "auto", "Event loop; `auto` is uvloop where it is installed.", setting="asgi_loop"),
        Option("http", _HTTP, "auto", "Parser of HTTP/1; `auto` is that of the worker class.", setting="http_parser"),
        Option("http2", FLAG, False, "Offer HTTP/2 over TLS, by ALPN.", "http2", "http_protocols"),
        Option("interface", choice("auto", "asgi3", "asgi2", "wsgi"), "auto", "What the application speaks."),
        Option("factory", FLAG, False, "The application is made by calling what Gunicorn was given."),
        Option("lifespan", choice("auto", "on", "off"), "auto", "Lifespan protocol.", "lifespan", "asgi_lifespan"),
        Option("env_file", optional(PATH), None, "File of environment variables, read before the application is."),
        Option("root_path", ROOT_PATH, "", "Where a proxy mounts the application.", "root_path", "root_path"),
        Option("reset_contextvars", FLAG, False, "Always so here: no request sees the context variables of another."),
        # WebSockets.
        Option("ws", _WS, "auto", "`none` treats WebSocket handshakes as plain requests; all others are the same."),
        Option(
            "ws_max_size",
            SIZE,
            16 * 1024**2,
            "Longest message of a WebSocket client, inflated; a longer one closes with 1009.",
            "ws_max_message_bytes",
            "websocket_max_message_size",
        ),
        Option("ws_max_queue", whole(1), 32, "Messages that wait for the application.", "ws_max_queue"),
        Option(
            "ws_ping_interval",
            optional(POSITIVE_SECONDS),
            20.0,
            "How often a quiet WebSocket is pinged.",
            "ws_ping_interval_seconds",
        ),
        Option(
            "ws_ping_timeout",
            optional(POSITIVE_SECONDS),
            20.0,
            "How long the answer to a ping may take.",
            "ws_ping_timeout_seconds",
        ),
        Option("ws_per_message_deflate", FLAG, True, "Compression of WebSocket messages.", "ws_per_message_deflate"),
        # Behind a proxy.
        Option("proxy_headers", FLAG, True, "Believe X-Forwarded-* of trusted proxies.", "proxy_headers"),
        Option(
            "forwarded_allow_ips",
            PEERS,
            None,
            "Trusted proxies: addresses, networks or `*`.",
            "forwarded_allow_ips",
            "forwarded_allow_ips",
        ),
        Option(
            "forwarded_hops",
            optional(whole(1)),
            None,
            "How many proxies append to X-Forwarded-For.",
            "forwarded_hops",
            origin=_OURS,
        ),
        # Responses.
        Option("headers", HEADERS, (), "Fields that every response gets.", "default_headers"),
        Option("date_header", FLAG, True, "Send Date.", "date_header"),
        Option("server_header", FLAG, True, "Send Server.", "server_header"),
        # Logs.
        Option(
            "log_level", optional(LEVEL), None, "Level of both logs; above `info` no access is logged.", "", "loglevel"
        ),
        Option(
            "access_log",
            FLAG,
            True,
            "`False` turns off the access log that Gunicorn's settings ask for, and not the metrics of statsd.",
        ),
        Option(
            "loop_lag_warning",
            SECONDS,
            1.0,
            "From this on a blocked event loop is reported while it is blocked; 0 for never.",
            "loop_lag_warning_seconds",
            origin=_OURS,
        ),
        # Limits.
        Option(
            "limit_concurrency",
            optional(whole(1)),
            None,
            "Requests in one worker at which a further one gets 503.",
            "limit_concurrency",
        ),
        Option(
            "max_connections",
            optional(whole(1)),
            None,
            "Connections at which a worker stops accepting until one ends.",
            "max_connections",
            "worker_connections",
            _OURS,
        ),
        Option("backlog", whole(1), 2048, "Length of the accept queue.", "backlog", "backlog"),
        Option(
            "h11_max_incomplete_event_size",
            optional(SIZE),
            None,
            "Longest head of a request, with either parser; none for 64 KiB.",
        ),
        Option(
            "limit_max_requests",
            optional(WHOLE),
            None,
            "Requests after which a worker is replaced.",
            "max_requests",
            "max_requests",
        ),
        Option(
            "limit_max_requests_jitter",
            WHOLE,
            0,
            "Up to this many are added to `limit_max_requests` at random.",
            "max_requests_jitter",
            "max_requests_jitter",
        ),
        Option(
            "max_requests_stagger",
            FLAG,
            True,
            "Workers that are due for replacement leave one after the other.",
            "max_requests_stagger",
            origin=_OURS,
        ),
        Option(
            "max_rss",
            optional(SIZE),
            None,
            "Resident memory above which a worker is replaced.",
            "max_rss_bytes",
            origin=_OURS,
        ),
        # Clocks.
        Option(
            "timeout_keep_alive",
            SECONDS,
            2.0,
            "How long an idle connection is kept; 0 closes after each response.",
            "keepalive_seconds",
            "keepalive",
        ),
        Option(
            "timeout_graceful_shutdown",
            optional(SECONDS),
            None,
            "How long running requests may take to end after SIGTERM. Not longer than Gunicorn's setting, after which "
            "its master kills.",
            "graceful_timeout_seconds",
            "graceful_timeout",
        ),
        Option(
            "header_timeout",
            POSITIVE_SECONDS,
            10.0,
            "From accept or the first byte to the end of the head.",
            "header_timeout_seconds",
            origin=_OURS,
        ),
        Option(
            "body_timeout",
            POSITIVE_SECONDS,
            60.0,
            "Longest silence of the client while the application waits for the body.",
            "body_timeout_seconds",
            origin=_OURS,
        ),
        Option(
            "write_timeout",
            POSITIVE_SECONDS,
            60.0,
            "Longest time in which the client takes nothing of a response.",
            "write_timeout_seconds",
            origin=_OURS,
        ),
        Option(
            "request_timeout",
            optional(POSITIVE_SECONDS),
            None,
            "How long an application may take to answer a request; then 504.",
            "request_timeout_seconds",
            origin=_OURS,
        ),
        Option(
            "disconnect_grace_period",
            optional(SECONDS),
            None,
            "How long after its client has gone a request of HTTP/1, or a WebSocket, is cancelled; none for never. A "
            "request of HTTP/2 is cancelled at once.",
            "disconnect_grace_seconds",
            origin=_OURS,
        ),
        Option(
            "startup_timeout",
            optional(POSITIVE_SECONDS),
            None,
            "How long lifespan startup may take.",
            "startup_timeout_seconds",
            origin=_OURS,
        ),
        Option(
            "drain_delay",
            SECONDS,
            0.0,
            "How long after SIGTERM a worker still accepts.",
            "drain_delay_seconds",
            origin=_OURS,
        ),
        Option(
            "drain_grace",
            SECONDS,
            1.0,
            "How long an idle connection is kept after SIGTERM for the request that may be on its way.",
            "drain_grace_seconds",
            origin=_OURS,
        ),
        Option(
            "callback_notify",
            optional(COROUTINE_FUNCTION),
            None,
            "Coroutine function, called every `timeout_notify` seconds; as in uvicorn, no more than once a second.",
        ),
        Option("timeout_notify", optional(POSITIVE_SECONDS), None, "None for half of Gunicorn's `timeout`."),
        # TLS: each one switches it on.
        Option("ssl_certfile", optional(PATH), None, "Certificate chain.", setting="certfile"),
        Option("ssl_keyfile", optional(PATH), None, "Private key.", setting="keyfile"),
        Option("ssl_keyfile_password", optional(TEXT), None, "Password of the private key."),
        Option("ssl_ca_certs", optional(PATH), None, "Authorities of client certificates.", setting="ca_certs"),
        Option("ssl_cert_reqs", CERT_REQS, 0, "Whether client certificates are asked for.", setting="cert_reqs"),
        Option("ssl_ciphers", optional(TEXT), None, "Ciphers of TLS 1.2, in OpenSSL's words.", setting="ciphers"),
        Option(
            "ssl_context_factory",
            optional(CALLABLE),
            None,
            "`factory(config, default_factory)` returns the `ssl.SSLContext`.",
            setting="ssl_context",
        ),
    )
}

NO_EFFECT: Final[Mapping[str, str]] = {
    "app": "name the application on Gunicorn's command line or in wsgi_app",
    "host": "use Gunicorn's bind",
    "port": "use Gunicorn's bind",
    "uds": "use Gunicorn's bind with unix:PATH",
    "fd": "use Gunicorn's bind with fd://NUMBER",
    "workers": "use Gunicorn's workers",
    "reload": "use Gunicorn's reload",
    "reload_dirs": "use Gunicorn's reload and reload_extra_files",
    "reload_includes": "use Gunicorn's reload_extra_files",
    "reload_excludes": "use Gunicorn's reload_extra_files for what is to be watched",
    "reload_delay": "use Gunicorn's reload_engine",
    "log_config": "use Gunicorn's logconfig or logconfig_dict",
    "ssl_version": "use Gunicorn's ssl_context hook to choose versions of TLS",
}
"""Keywords of `uvicorn.Config` that Gunicorn decides: ignored with one warning that says what to use instead, unless
they are None."""

SILENT: Final = frozenset(("use_colors", "timeout_worker_healthcheck"))
"""Keywords of `uvicorn.Config` that mean nothing here and cost nobody anything."""

NONE_SAYS_NOTHING: Final = frozenset(
    ("forwarded_allow_ips", "timeout_graceful_shutdown", *(name for name in OPTIONS if name.startswith("ssl_")))
)
"""Options that None does not set, so that the next in line counts: it must neither take TLS away from a bind for which
Gunicorn's settings ask for it, nor trust somebody."""

KNOWN: Final = frozenset((*OPTIONS, *NO_EFFECT, *SILENT))

_NAMES_A_SECRET: Final = re.compile("pass|pwd|secret|token|key|credential", re.IGNORECASE).search

_OF_KUBERNETES: Final = re.compile(
    r"SERVICE_(HOST|PORT|PORT_\w+)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
).fullmatch
"""What Kubernetes puts into every container, behind the prefix, for a service that is called gunicorn-asgi."""


def shown(name: object, value: object) -> str:
    """`value` for a message, unless it is a secret, or that of an unknown name that may be meant for one."""
    is_secret = _NAMES_A_SECRET(str(name)) is not None and (name not in KNOWN or name == "ssl_keyfile_password")
    return "..." if is_secret else repr(value)


def read(name: str, value: Any, source: str) -> Any:
    """The value of the option `name` as its kind reads it.

    `source` says in words where the value was given. Raises SettingsError for a value that is none.
    """
    option = OPTIONS[name]
    try:
        return option.kind.read(value)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise SettingsError(f"{source}: {_refusal(option, value)}") from None


def says_something(name: str, value: Any) -> bool:
    """Whether `value` of the option `name`, read, is more than a None that leaves it to the next in line."""
    return value is not None or name not in NONE_SAYS_NOTHING


def read_setting(setting: str | None, kind: Kind, value: Any) -> Any:
    """The value of a Gunicorn setting as `kind` reads it. Raises SettingsError for a value that is none."""
    try:
        return kind.read(value)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise SettingsError(f"{setting}={value!r}: expected {kind.expected}") from None


def check_name(name: object, source: str) -> None:
    """Raises SettingsError for a name that is no option, with the nearest that is one."""
    if name in KNOWN:
        return
    nearest = difflib.get_close_matches(str(name), sorted(KNOWN), 1)
    remedy = f"did you mean {nearest[0]!r}?" if nearest else "remove it, or see docs/settings.md for all options"
    raise SettingsError(f"{source}: there is no option {name!r}; {remedy}")


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The options that `GUNICORN_ASGI_*` sets, read. Raises SettingsError for names and values that are none.

    An empty variable sets nothing, since docker compose and others cannot leave one out. Only of the trusted peers it
    says something: that there are none.
    """
    given = {}
    for variable, name, text in _variables(environment):
        check_name(name, f"environment variable {variable}={shown(name, text)}")
        if name in OPTIONS and (text.strip() or OPTIONS[name].kind is PEERS):
            value = read(name, text, f"environment variable {variable}")
            if says_something(name, value):
                given[name] = value
    return given


def without_effect(environment: Mapping[str, str]) -> list[str]:
    """What `GUNICORN_ASGI_*` sets and Gunicorn decides: one line each, with what to use instead."""
    return [
        f"environment variable {variable}={text!r} has no effect; {NO_EFFECT[name]}"
        for variable, name, text in _variables(environment)
        if name in NO_EFFECT
    ]


def _variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Variables with our prefix, the names of their options, and their texts."""
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if not _OF_KUBERNETES(name) or (name == "PORT" and "://" not in text):
            yield variable, name.lower(), text


def _refusal(option: Option, value: Any) -> str:
    what = f"{option.name}={shown(option.name, value)}"
    if option.name in ("http", "ws") and value == "zttp":
        return f"{what}: zttp cannot be used here; use 'auto', which speaks HTTP/2 too where http2 is set"
    if option.name in ("http", "ws") and (callable(value) or ":" in str(value)):
        return f"{what}: protocol classes of uvicorn cannot be used here; remove it, or use {option.kind.expected}"
    return f"{what}: expected {option.kind.expected}"
