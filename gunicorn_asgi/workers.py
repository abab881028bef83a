"""The worker classes that `gunicorn -k` names: Gunicorn's life cycle around our server."""

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.instrument.statsd import Statsd

from .access_line import compile_format
from .access_log import (
    AccessLog,
    LoggerAccessLog,
    PlainStream,
    StreamAccessLog,
    WriteErrors,
)
from .errors import SettingsError
from .event_loop import loop_factory
from .fleet import Member
from .gunicorn_config import WorkerConfig, WorkerPlan, plan_from, ssl_context_from, warnings_of
from .life_cycle import LifeCycle
from .request_hooks import with_hooks
from .server import Server
from .wire.http1_request import FieldParser

if TYPE_CHECKING:
    from typing_extensions import Self


class Worker(LifeCycle):
    """HTTP/1.1 on httptools, on uvloop where it is installed and on asyncio elsewhere."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {}
    """Options of a subclass, in the words of `uvicorn.Config` (docs/settings.md)."""

    http: ClassVar[Literal["httptools", "h11"]] = "httptools"
    """The parser library of HTTP/1, unless the option `http` names another. It changes the speed, never a verdict."""

    loop: ClassVar[Literal["auto", "asyncio"]] = "auto"
    """The event loop, unless the option `loop` names another; `auto` is uvloop where it is installed."""

    http2_cleartext: ClassVar[bool] = False
    """Whether every client may speak HTTP/2 without TLS, whatever Gunicorn's setting of this name says."""

    _options_from: ClassVar[str | None] = None

    config: WorkerConfig
    """The options under the names of `uvicorn.Config`, writable until the worker starts."""

    @classmethod
    def configure(cls, **options: Any) -> "type[Self]":
        """A subclass with these options besides those that the class already has.

        For a configuration file: `worker_class = gunicorn_asgi.Worker.configure(ws_ping_interval=10)`. Mistakes are
        reported with all others, when Gunicorn starts.
        """
        namespace = {
            "CONFIG_KWARGS": {**cls.CONFIG_KWARGS, **options},
            "__module__": cls.__module__,
            "__doc__": cls.__doc__,
            "_options_from": f"{cls.__name__}.configure",
        }
        return type(cls.__name__, (cls,), namespace)

    @classmethod
    def check_config(cls, cfg: Config, log: Logger) -> None:
        """Called by Gunicorn's master before the first fork. Raises SettingsError for what cannot be honoured."""
        config = cls._config_from(cfg)
        plan = plan_from(cfg, config)
        ssl_context_from(cfg, plan.tls, config)
        compile_format(cfg.access_log_format)
        cls._field_parser(plan)
        loop_factory(_loop_of(cls, plan))
        for line in warnings_of(cfg, config):
            log.warning("%s", line)

    @classmethod
    def _config_from(cls, cfg: Config) -> WorkerConfig:
        source = cls._options_from or f"CONFIG_KWARGS of {cls.__name__}"
        return WorkerConfig(cfg, cls.CONFIG_KWARGS, source, os.environ)

    @classmethod
    def _field_parser(cls, plan: WorkerPlan) -> FieldParser:
        library = cls.http if plan.parser == "auto" else plan.parser
        try:
            if library == "h11":
                from .wire.http1_h11 import H11FieldParser

                return H11FieldParser()
            from .wire.http1_httptools import HttptoolsFieldParser

            return HttptoolsFieldParser()
        except ImportError as error:
            raise SettingsError(
                f"worker_class: {cls.__name__} needs the {library} package, which cannot be imported ({error}); "
                f"run 'pip install {library}'"
                + (", or choose gunicorn_asgi.H11Worker, which is pure Python" if library == "httptools" else "")
            ) from None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Called by Gunicorn in its master, before the fork."""
        super().__init__(*args, **kwargs)
        self.config = self._config_from(self.cfg)
        self._accesses: AccessLog | None = None
        self._place = 0

    def make_loop(self) -> asyncio.AbstractEventLoop:
        """See `LifeCycle.make_loop`."""
        plan = plan_from(self.cfg, self.config)
        if self.http2_cleartext:
            settings = dataclasses.replace(plan.settings, http2_cleartext="both", http2_cleartext_peers="all")
            plan = dataclasses.replace(plan, settings=settings)
        self._plan = plan
        self.executor_threads = plan.settings.executor_threads
        return loop_factory(_loop_of(type(self), plan), self.log)()

    def make_server(self, loop: asyncio.AbstractEventLoop, member: Member) -> Server:
        """See `LifeCycle.make_server`."""
        plan = self._plan
        self._place = member.place
        self._accesses = self._access_log(loop)
        ssl_context = ssl_context_from(self.cfg, plan.tls, self.config)
        if ssl_context is not None and plan.settings.http2:
            ssl_context.set_alpn_protocols(["h2", "http/1.1"])
        return Server(
            app=with_hooks(self.wsgi, self, self._hook("pre_request"), self._hook("post_request"), self.log),
            settings=plan.settings,
            sockets=[listener.sock for listener in self.sockets],
            ssl_context=ssl_context,
            field_parser=self._field_parser(plan),
            error_log=self.log,
            access_log=self._accesses,
            heartbeat=self.beat,
            member=member,
        )

    def _hook(self, name: str) -> Callable[..., Any] | None:
        """A hook of Gunicorn; None where it is the default, which does nothing."""
        setting = self.cfg.settings[name]
        return None if setting.get() is setting.default else setting.get()

    def beat(self) -> None:
        """See `LifeCycle.beat`. Gunicorn's statsd logger also gets the gauges of this worker."""
        super().beat()
        server = self._server
        if server is not None and isinstance(self.log, Statsd):
            for name, value in server.gauges().items():
                self.log.gauge(f"gunicorn.worker.{self._place}.{name}", value)

    def close_logs(self) -> None:
        """See `LifeCycle.close_logs`."""
        if isinstance(self._accesses, StreamAccessLog):
            self._accesses.flush()

    def _access_log(self, loop: asyncio.AbstractEventLoop) -> AccessLog | None:
        """Where accesses are logged; None where nobody would read them."""
        logger = self.log

        on_error = WriteErrors(logger.error)
        through_logger = LoggerAccessLog(logger, on_error)
        stream = _plain_stream(logger)
        if stream is not None:
            return StreamAccessLog(self.cfg.access_log_format, stream, loop.call_soon, on_error, through_logger)
        return through_logger if _logs_accesses(logger, self.cfg) else None


def _loop_of(cls: type[Worker], plan: WorkerPlan) -> str:
    return cls.loop if plan.loop == "auto" else plan.loop


def _logs_accesses(logger: Any, cfg: Config) -> bool:
    """Whether `Logger.access` of Gunicorn would do anything; a logger class of a user always may."""
    if type(logger) is not Logger:
        return True
    return bool(
        cfg.accesslog
        or cfg.logconfig
        or cfg.logconfig_dict
        or getattr(cfg, "logconfig_json", None)
        or (cfg.syslog and not cfg.disable_redirect_access_to_syslog)
    )


def _plain_stream(logger: Any) -> PlainStream | None:
    """The stream of the one plain handler of Gunicorn's own logger; None where anything was added or replaced.

    Only then may lines bypass the logging module: no filter, formatter, second handler or subclass would see them.
    """
    access = getattr(logger, "access_log", None)
    if type(logger) is not Logger or not isinstance(access, logging.Logger) or len(access.handlers) != 1:
        return None
    handler = access.handlers[0]
    if type(handler) not in (logging.StreamHandler, logging.FileHandler):
        return None
    assert isinstance(handler, logging.StreamHandler)
    formatter = handler.formatter
    if handler.terminator != "\n":
        return None
    if type(formatter) is not logging.Formatter or formatter._fmt != Logger.access_fmt:
        return None
    stream = PlainStream(access, handler)
    return stream if stream() is not None else None


class H11Worker(Worker):
    """HTTP/1.1 on h11 and asyncio: pure Python, for PyPy and wherever nothing compiled can be installed."""

    http = "h11"

    loop = "asyncio"


class H2CWorker(Worker):
    """HTTP/2 without TLS, by prior knowledge or `Upgrade: h2c`, and HTTP/1.1 on the same port: behind a proxy or load
    balancer that ends TLS and speaks HTTP/2 to its backends."""

    http2_cleartext = True


UvicornWorker = Worker
UvicornH11Worker = H11Worker
UvicornH2CWorker = H2CWorker
