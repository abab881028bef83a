"""Gunicorn's settings as the `Settings` of this package."""

import ssl
from typing import Any, Literal

from gunicorn import sock as gunicorn_sock
from gunicorn.config import Config

from .errors import SettingsError
from .settings import HeadLimits, Settings


def settings_from(cfg: Config) -> Settings:
    """The settings of a worker. Raises SettingsError for a value that cannot be honoured."""
    return Settings(
        head_limits=HeadLimits(
            request_line_bytes=cfg.limit_request_line,
            fields=cfg.limit_request_fields,
            field_bytes=cfg.limit_request_field_size,
        ),
        keepalive_seconds=cfg.keepalive,
        graceful_timeout_seconds=cfg.graceful_timeout,
        heartbeat_seconds=min(1.0, cfg.timeout / 4) if cfg.timeout else 1.0,
        backlog=cfg.backlog,
        root_path=_since(cfg, "root_path", "").rstrip("/"),
        lifespan=_lifespan(_since(cfg, "asgi_lifespan", "auto")),
        forwarded_allow_ips=_addresses(cfg.forwarded_allow_ips),
        secure_scheme_headers=tuple(
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in cfg.secure_scheme_headers.items()
        ),
    )


def ssl_context_from(cfg: Config) -> ssl.SSLContext | None:
    """The TLS context that Gunicorn's settings describe, its `ssl_context` hook applied; None for cleartext.

    Raises SettingsError for a certificate, key or cipher that cannot be used: nothing is ever served in clear instead.
    """
    if not cfg.is_ssl:
        return None
    try:
        context: ssl.SSLContext = gunicorn_sock.ssl_context(cfg)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError.
        raise SettingsError(
            f"TLS cannot be set up with certfile={cfg.certfile!r}, keyfile={cfg.keyfile!r}, ca_certs={cfg.ca_certs!r}, "
            f"ciphers={cfg.ciphers!r}: {error}; check that the files exist, can be read and belong together"
        ) from None
    return context


def _since(cfg: Config, name: str, default: Any) -> Any:
    """A setting that older versions of Gunicorn do not have."""
    return getattr(cfg, name) if name in cfg.settings else default


def _lifespan(value: str) -> Literal["auto", "on", "off"]:
    match value:
        case "auto" | "on" | "off":
            return value
        case _:
            raise SettingsError(f"asgi_lifespan: {value!r} is not one of auto, on, off")


def _addresses(value: str | list[str]) -> tuple[str, ...]:
    """`forwarded_allow_ips`, a string with commas in old versions of Gunicorn and a list in new ones."""
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())
