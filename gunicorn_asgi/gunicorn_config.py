"""Gunicorn's settings, the options of a worker class and the environment as one `WorkerPlan`.

What the operator sets wins: the environment over `CONFIG_KWARGS` and `Worker.configure`, these over Gunicorn's
settings, and these over the defaults.
"""

import copy
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Final, Literal

from gunicorn.config import Config

from . import options
from .asgi_types import Field
from .errors import SettingsError
from .gunicorn_settings import REFUSED_WHEN_ON, WARNED_WHEN_CHANGED
from .option_kinds import MAX_BYTES, SECONDS, Kind, whole
from .options import NO_EFFECT, OPTIONS, SILENT, shown
from .proxy import TrustedProxies
from .settings import HeadLimits, Settings, TlsOptions
from .tls import server_context
from .wire.headers import TOKEN

_DEFAULT_CONNECTIONS: Final = 1000
"""Of Gunicorn's worker_connections, which it documents as of no effect on ASGI workers."""


class WorkerConfig:
    """The options of one worker under the names of `uvicorn.Config`, each an attribute that can be read and written.

    A subclass of a worker may edit them in its `__init__`. What the environment sets stays, whatever is written here.
    Nothing is checked before `plan` is called, so that every mistake is reported in the same way.
    """

    __slots__ = ("_cfg", "_environment", "_given", "_ignored", "_source")

    def __init__(self, cfg: Config, given: Mapping[str, Any], source: str, environment: Mapping[str, str]) -> None:
        """`given` are the options of a worker class; `source` names it in errors.

        Raises SettingsError where they are no mapping, and for what the environment sets and nobody knows.
        """
        if not isinstance(given, Mapping):
            raise SettingsError(f"{source}={given!r}: expected a dictionary of options")
        for name, value in (
            ("_cfg", cfg),
            ("_given", _with_own_lists(given)),
            ("_source", source),
            ("_environment", options.from_environment(environment)),
            ("_ignored", options.without_effect(environment)),
        ):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        self._given[name] = value

    def __getattr__(self, name: str) -> Any:
        if name in self._environment:
            value = self._environment[name]
            return list(value) if isinstance(value, tuple) else value
        if name in OPTIONS and not (name in self._given and options.says_something(name, self._given[name])):
            value = _from_gunicorn(self._cfg).get(name, OPTIONS[name].default)
            if not isinstance(value, tuple):
                return value
            self._given[name] = list(value)  # What is appended to it has to stay.
        if name in self._given:
            return self._given[name]
        if name in NO_EFFECT or name in SILENT:
            return None
        raise AttributeError(f"there is no option {name!r}")

    def copy(self) -> "WorkerConfig":
        """Another one with the same options, whose edits do not reach this one."""
        other = object.__new__(WorkerConfig)
        for name in self.__slots__:
            object.__setattr__(other, name, getattr(self, name))
        object.__setattr__(other, "_given", _with_own_lists(self._given))
        return other

    def given(self) -> dict[str, Any]:
        """The options that somebody has set, read. Raises SettingsError for names and values that are none."""
        read = {}
        for name, value in self._given.items():
            options.check_name(name, self._source)
            if name in OPTIONS and options.says_something(name, option := options.read(name, value, self._source)):
                read[name] = option
        return {**read, **self._environment}

    def warnings(self) -> list[str]:
        """What was given and has no effect."""
        return [
            *self._ignored,
            *(
                f"{self._source}: {name}={value!r} has no effect; {NO_EFFECT[name]}"
                for name, value in self._given.items()
                if name in NO_EFFECT and value is not None and not (name == "ssl_version" and value == _TLS)
            ),
        ]


_TLS: Final = ssl.PROTOCOL_TLS_SERVER


def _with_own_lists(given: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with lists that can be edited, of which no other worker knows."""
    return {name: list(value) if isinstance(value, (list, tuple)) else value for name, value in given.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """All that a worker is to do: `settings` for the server, the rest for what is around it."""

    settings: Settings
    tls: TlsOptions

    loop: str = "auto"
    """`auto`, `asyncio`, `uvloop`, or `module:callable` of a factory."""

    parser: Literal["auto", "httptools", "h11"] = "auto"
    """`auto` for that of the worker class."""

    interface: Literal["auto", "asgi3", "asgi2", "wsgi"] = "auto"
    factory: bool = False
    env_file: str | None = None
    log_level: int | None = None
    access_log: bool = True
    callback_notify: Callable[[], Awaitable[None]] | None = None
    notify_seconds: float = 15.0
    """How often `callback_notify` is called."""


def plan_from(cfg: Config, config: WorkerConfig, overriding: Mapping[str, Any] = MappingProxyType({})) -> WorkerPlan:
    """What a worker is to do. Options in `overriding` win over all others.

    Raises SettingsError for what cannot be honoured, with one line to read.
    """
    for name, reason in REFUSED_WHEN_ON.items():
        if _since(cfg, name, False):
            raise SettingsError(f"{name}=True is refused, since {reason}; remove it")
    protocol = _since(cfg, "protocol", "http")
    if protocol != "http":
        raise SettingsError(f"protocol={protocol!r} is not served by this worker; use 'http' on both sides")
    given = {**config.given(), **overriding}
    values = {**_from_gunicorn(cfg), **given}
    for name, kind in _OTHER_NUMBERS.items():
        if name in cfg.settings:
            options.read_setting(name, kind, cfg.settings[name].get())

    def value(name: str) -> Any:
        return values.get(name, OPTIONS[name].default)

    fields = {option.field: value(option.name) for option in OPTIONS.values() if option.field}
    fields.update(_other_fields(cfg))
    if value("h11_max_incomplete_event_size") is not None:
        fields["head_limits"] = _head_limits(cfg, value("h11_max_incomplete_event_size"))
    if fields["max_requests"] is None:
        fields["max_requests"] = 0
    # The master kills when its own time is over, whatever a class asks for.
    fields["graceful_timeout_seconds"] = min(fields["graceful_timeout_seconds"], cfg.graceful_timeout)
    tls = TlsOptions(
        certfile=value("ssl_certfile"),
        keyfile=value("ssl_keyfile"),
        keyfile_password=value("ssl_keyfile_password"),
        ca_certs=value("ssl_ca_certs"),
        cert_reqs=value("ssl_cert_reqs"),
        ciphers=value("ssl_ciphers"),
        context_factory=value("ssl_context_factory"),
    )
    if not tls.is_on and (alone := [name for name in given if name.startswith("ssl_") and given[name]]):
        raise SettingsError(
            f"{alone[0]}={shown(alone[0], given[alone[0]])} without a certificate; set ssl_certfile too, or remove it"
        )
    settings = Settings(**fields, websockets=value("ws") != "none" and value("interface") != "wsgi")
    TrustedProxies(settings)  # Raises for addresses that are none.
    return WorkerPlan(
        settings=settings,
        tls=tls,
        loop=value("loop"),
        parser=value("http"),
        interface=value("interface"),
        factory=value("factory"),
        env_file=value("env_file"),
        log_level=value("log_level"),
        access_log=value("access_log"),
        callback_notify=value("callback_notify"),
        notify_seconds=value("timeout_notify") or (cfg.timeout or 30) / 2,
    )


def _from_gunicorn(cfg: Config) -> dict[str, Any]:
    """The options that Gunicorn's settings set. Raises SettingsError for values that are none."""
    values = {
        "timeout_keep_alive": cfg.keepalive,
        "timeout_graceful_shutdown": cfg.graceful_timeout,
        "backlog": cfg.backlog,
        "limit_max_requests": cfg.max_requests,
        "limit_max_requests_jitter": cfg.max_requests_jitter,
        "forwarded_allow_ips": _addresses(cfg.forwarded_allow_ips),
        "root_path": _since(cfg, "root_path", "") or "",
        "loop": _since(cfg, "asgi_loop", "auto"),
        "lifespan": _since(cfg, "asgi_lifespan", "auto"),
        "http2": "h2" in _since(cfg, "http_protocols", ()),
        "ws_max_size": _since(cfg, "websocket_max_message_size", OPTIONS["ws_max_size"].default) or MAX_BYTES,
        "ssl_certfile": cfg.certfile,
        "ssl_keyfile": cfg.keyfile,
        "ssl_ca_certs": cfg.ca_certs,
        "ssl_cert_reqs": cfg.cert_reqs,
        "ssl_ciphers": cfg.ciphers,
    }
    if cfg.permit_unconventional_http_method or _since(cfg, "http_parser", "auto") == "python":
        values["http"] = "h11"
    if cfg.worker_connections != _DEFAULT_CONNECTIONS:
        values["max_connections"] = cfg.worker_connections
    return {
        name: options.read_setting(OPTIONS[name].setting, OPTIONS[name].kind, value) for name, value in values.items()
    }


def _other_fields(cfg: Config) -> dict[str, Any]:
    """The fields of `Settings` that only Gunicorn's settings fill."""
    return {
        "head_limits": _head_limits(cfg),
        "timeout_seconds": cfg.timeout,
        "heartbeat_seconds": min(1.0, cfg.timeout / 4) if cfg.timeout else 1.0,
        "executor_threads": cfg.threads if cfg.threads > 1 else None,
        "secure_scheme_headers": _scheme_headers(cfg.secure_scheme_headers),
        "forwarder_headers": tuple(
            _field_name("forwarder_headers", name)
            for name in _since(cfg, "forwarder_headers", ("SCRIPT_NAME", "PATH_INFO"))
        ),
        "header_map": cfg.header_map,
        "proxy_protocol": _proxy_protocol(cfg.proxy_protocol),
        "proxy_allow_ips": _addresses(cfg.proxy_allow_ips),
        "casefold_http_method": cfg.casefold_http_method,
        "http2_cleartext": _since(cfg, "http2_cleartext", "off"),
        "http2_max_concurrent_streams": _since(cfg, "http2_max_concurrent_streams", 100),
        "http2_initial_window_bytes": _since(cfg, "http2_initial_window_size", 65535),
        "http2_max_frame_bytes": _since(cfg, "http2_max_frame_size", 16384),
        "http2_max_header_list_bytes": _since(cfg, "http2_max_header_list_size", 65536),
    }


_OTHER_NUMBERS: Final[Mapping[str, Kind]] = {
    "timeout": SECONDS,
    "graceful_timeout": SECONDS,
    "threads": whole(0, 10_000),
    "http2_max_concurrent_streams": whole(1),
    "http2_initial_window_size": whole(1),
    "http2_max_header_list_size": whole(),
}
"""What numbers may be that Gunicorn does not limit, or not enough, and no option overrides."""


def _scheme_headers(headers: Mapping[Any, Any]) -> tuple[Field, ...]:
    fields = []
    for name, value in headers.items():
        if not isinstance(value, str) or not value.isascii():
            raise SettingsError(
                f"secure_scheme_headers: {name!r}: {value!r} names no scheme; expected text, such as 'https'"
            )
        fields.append((_field_name("secure_scheme_headers", name), value.encode("ascii")))
    return tuple(fields)


def _field_name(setting: str, name: object) -> bytes:
    """Lower-case."""
    if isinstance(name, str) and name.isascii():
        encoded = name.strip().lower().encode("ascii")
        if TOKEN(encoded):
            return encoded
    raise SettingsError(f"{setting}: {name!r} is no name of a header; correct or remove it")


def _head_limits(cfg: Config, head_bytes: int = HeadLimits().head_bytes) -> HeadLimits:
    return HeadLimits(
        request_line_bytes=cfg.limit_request_line,
        fields=cfg.limit_request_fields,
        field_bytes=cfg.limit_request_field_size,
        head_bytes=head_bytes,
    )


def within_times_of(master: Config, cfg: Config) -> Config:
    """`cfg`, with the times after which the master kills where these are shorter. A `timeout` of 0 is none."""
    limited = Config(cfg.usage, cfg.prog)
    limited.settings = {**cfg.settings}
    for name, shortest in (
        ("graceful_timeout", min(cfg.graceful_timeout, master.graceful_timeout)),
        ("timeout", min(filter(None, (cfg.timeout, master.timeout)), default=0)),
    ):
        limited.settings[name] = copy.copy(cfg.settings[name])
        limited.set(name, shortest)
    return limited


def warnings_of(cfg: Config, config: WorkerConfig, plan: WorkerPlan) -> list[str]:
    """What the operator should know of settings that were given: one line each."""
    lines = config.warnings()
    for name, remark in WARNED_WHEN_CHANGED.items():
        if name in cfg.settings and cfg.settings[name].get() != cfg.settings[name].default:
            lines.append(f"{name}={cfg.settings[name].get()!r}: {remark}")
    settings = plan.settings
    if settings.proxy_headers and "*" in settings.forwarded_allow_ips and (open_to := _binds_beyond_loopback(cfg)):
        lines.append(
            f"forwarded_allow_ips='*' with bind={open_to!r}: every client can choose the address it seems to come "
            "from; name the proxies instead"
        )
    if settings.http2 and not plan.tls.is_on and settings.http2_cleartext == "off":
        lines.append(
            "HTTP/2 is asked for (http2, or http_protocols) and offered over TLS only; "
            "set certfile and keyfile, or use http2_cleartext or gunicorn_asgi.H2CWorker"
        )
    graceful = config.given().get("timeout_graceful_shutdown")
    if graceful is not None and graceful > cfg.graceful_timeout:
        lines.append(
            f"timeout_graceful_shutdown={graceful!r} is cut to graceful_timeout={cfg.graceful_timeout!r}, "
            "after which the master kills; raise graceful_timeout"
        )
    return lines


def ssl_context_from(cfg: Config, tls: TlsOptions, config: object = None) -> ssl.SSLContext | None:
    """The TLS context that Gunicorn's settings and the options describe, hook and factory applied; None for cleartext.

    `config` is what an ssl_context_factory is called with. Raises SettingsError for a certificate, key or cipher that
    cannot be used: nothing is ever served in clear instead.
    """
    if cfg.is_ssl and not tls.is_on:  # Gunicorn announces https.
        raise SettingsError(
            f"certfile={cfg.certfile!r}, keyfile={cfg.keyfile!r} ask for TLS, "
            "and the options ssl_certfile and ssl_keyfile take it away; remove either"
        )
    hook = cfg.settings["ssl_context"]
    if hook.get() is hook.default:
        return server_context(tls, None, config)
    if not tls.is_on:
        raise SettingsError(
            f"ssl_context={hook.get()!r} asks for TLS without a certificate; set certfile and keyfile, "
            "use the option ssl_context_factory instead, or remove it"
        )
    return server_context(tls, lambda default: cfg.ssl_context(cfg, default), config)


def _since(cfg: Config, name: str, default: Any) -> Any:
    """A setting that not all versions of Gunicorn have."""
    return getattr(cfg, name) if name in cfg.settings else default


def _addresses(value: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """A list of addresses, which old versions of Gunicorn may give as a string with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def _proxy_protocol(value: str | bool) -> str:
    """Up to Gunicorn 24 the setting is a flag."""
    if isinstance(value, bool):
        return "auto" if value else "off"
    return value


def _binds_beyond_loopback(cfg: Config) -> str | None:
    """The first TCP bind that others than this machine can reach."""
    for address in cfg.address:
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            return f"{address[0]}:{address[1]}"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
