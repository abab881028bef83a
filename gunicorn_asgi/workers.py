"""The worker classes that `gunicorn -k` names: Gunicorn's life cycle around our server."""

import asyncio
import dataclasses
import logging
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.instrument.statsd import Statsd

from . import options
from .access_line import compile_format
from .access_log import (
    AccessLog,
    LoggerAccessLog,
    PlainStream,
    StreamAccessLog,
    WriteErrors,
)
from .applications import DEFAULT_WSGI_THREADS, adapt
from .asgi_types import Application
from .env_file import load_env_file, read_env_file, unload_env_file
from .errors import SettingsError
from .event_loop import loop_factory, new_loop
from .fleet import Member
from .gunicorn_config import WorkerConfig, WorkerPlan, plan_from, ssl_context_from, warnings_of, within_times_of
from .life_cycle import LifeCycle
from .notifier import Notifier
from .request_hooks import with_hooks
from .server import Server
from .settings import TlsOptions
from .wire.http1_request import FieldParser

if TYPE_CHECKING:
    from typing_extensions import Self


_Made = TypeVar("_Made")

_APPLICATION_OPTIONS: Final = ("interface", "factory")
_LOOP_OPTIONS: Final = ("loop",)
_NO_LINES: Final = logging.CRITICAL + 1


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
    _accepted: ClassVar["_Accepted | None"] = None
    _refused: ClassVar[Config | None] = None
    _runs_with: "_Accepted"

    wsgi: Any

    config: WorkerConfig
    """The options under the names of `uvicorn.Config`, writable until the worker starts."""

    @classmethod
    def configure(cls, **options: Any) -> "type[Self]":
        """A subclass with these options besides those that the class already has.

        For a configuration file: `worker_class = gunicorn_asgi.Worker.configure(ws_ping_interval=10)`. Mistakes are
        reported with all others, when Gunicorn starts.
        """
        inherited: Any = cls.CONFIG_KWARGS
        namespace = {
            "CONFIG_KWARGS": {**inherited, **options} if isinstance(inherited, Mapping) else inherited,
            "__module__": cls.__module__,
            "__doc__": cls.__doc__,
            "_options_from": f"{cls.__name__}.configure",
        }
        return type(cls.__name__, (cls,), namespace)

    @staticmethod
    def endswith(suffix: str) -> bool:
        """For Gunicorn 22, which takes a worker class for its name when a configuration file gives it."""
        return False

    @classmethod
    def setup(cls) -> None:
        """Called by Gunicorn's master when it has read its configuration, before `preload_app` loads the application.

        Only then can the `env_file` be loaded for it. The check, which follows, takes it out again: what the master
        keeps in its environment would be the configuration of the next reload.
        """
        try:
            given = options.from_environment(os.environ)
            path = given.get("env_file", cls.CONFIG_KWARGS.get("env_file"))
            if path is not None:
                load_env_file(options.read("env_file", path, cls.__name__))
        except Exception as error:
            # The check finds the same and tells it. Before the first one an application would miss its variables; on a
            # reload an exception from here would end the master.
            unload_env_file()
            if Worker._accepted is None and isinstance(error, SettingsError):
                raise

    @classmethod
    def check_config(cls, cfg: Config, log: Logger) -> None:
        """Called by Gunicorn's master before the first fork. Raises SettingsError for what cannot be honoured."""
        Worker._accepted = cls._check(cfg, log)

    @classmethod
    def check_application(cls, load: Callable[[], Any], log: Logger) -> None:
        """Raises SettingsError where what `load` returns could not be served, or no event loop could be made.

        To be called after `check_config`.
        """
        assert Worker._accepted is not None
        plan = plan_from(Worker._accepted.cfg, Worker._accepted.config)
        if plan.env_file is not None:
            load_env_file(plan.env_file)
        _adapt(load(), plan, log)
        # Not in a master, which has no event loop: what a factory of the user leaves behind would be in every worker.
        new_loop(_loop_of(cls, plan)).close()

    @classmethod
    def _check(cls, cfg: Config, log: Logger) -> "_Accepted":
        """Raises nothing but SettingsError: anything else would be a traceback at boot and end the master on a HUP."""
        try:
            return cls._check_all(cfg, log)
        except SettingsError:
            raise
        except Exception as error:
            log.debug("The check of the settings failed", exc_info=True)
            raise SettingsError(
                f"the settings cannot be checked: {error!r}; loglevel debug shows where it happened"
            ) from error

    @classmethod
    def _check_all(cls, cfg: Config, log: Logger) -> "_Accepted":
        unload_env_file()
        own_label = cls.__dict__.get("_options_from")
        config = WorkerConfig(cfg, cls.CONFIG_KWARGS, own_label or f"CONFIG_KWARGS of {cls.__name__}", os.environ)
        plan = cls._plan_of(cfg, config, {})
        ssl_context = ssl_context_from(cfg, plan.tls, config)
        if _fills_in_the_format(log):
            compile_format(cfg.access_log_format)
        cls._field_parser(plan)
        loop_factory(_loop_of(cls, plan))
        variables = read_env_file(plan.env_file) if plan.env_file is not None else {}
        lines = warnings_of(cfg, config, plan)
        lines += [
            f"env_file={plan.env_file!r}: {name} has no effect there, since the options are read before; "
            "set it in the environment"
            for name in variables
            if name.startswith(options.ENVIRONMENT_PREFIX)
        ]
        if cfg.preload_app and f"{options.ENVIRONMENT_PREFIX}ENV_FILE" in cfg.env:
            lines.append(
                f"env_file={plan.env_file!r} in raw_env comes too late for preload_app, which loads the application "
                "before; set it in the environment, or as an option of the worker class"
            )
        for line in lines:
            log.warning("%s", line)
        unproven = {name: getattr(plan, name) for name in (*_APPLICATION_OPTIONS, *_LOOP_OPTIONS)}
        earlier = Worker._accepted.unproven if Worker._accepted is not None else ()
        # Each once, so that a thousand reloads leave no more behind than one.
        return _Accepted(
            cls, cfg, config, plan.tls, ssl_context, (unproven, *(other for other in earlier if other != unproven))
        )

    @classmethod
    def _accept(cls, cfg: Config, log: Logger) -> "_Accepted":
        """What a new worker runs with: `cfg`, or what was accepted last where `cfg` cannot be honoured.

        New settings come with a HUP. Then the master replaces all its workers, and refusing to start them would take
        the service down; so the mistake is told aloud, and the workers go on as before.
        """
        accepted = Worker._accepted
        if accepted is not None and accepted.cfg is cfg:
            return accepted
        try:
            Worker._accepted = cls._check(cfg, log)
        except SettingsError as error:
            if accepted is None:
                raise
            if Worker._refused is not cfg:
                Worker._refused = cfg
                log.error("The new settings are refused, workers go on with those from before: %s", error)
            return dataclasses.replace(accepted, cfg=within_times_of(cfg, accepted.cfg))
        return Worker._accepted

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

    def __new__(
        cls, age: int, ppid: int, sockets: list[Any], app: Any, timeout: float, cfg: Config, log: Logger
    ) -> "Worker":
        """Of the class that was accepted last, where the settings that come with `cls` are refused."""
        accepted = cls._accept(cfg, log)
        worker = object.__new__(accepted.worker_class)
        worker._runs_with = accepted
        if not isinstance(worker, cls):  # Else it is Python that calls it.
            accepted.worker_class.__init__(worker, age, ppid, sockets, app, timeout, cfg, log)
        return worker

    def __init__(
        self, age: int, ppid: int, sockets: list[Any], app: Any, timeout: float, cfg: Config, log: Logger
    ) -> None:
        """Called by Gunicorn in its master, before the fork."""
        accepted = self._runs_with
        super().__init__(age, ppid, sockets, app, timeout, accepted.cfg, log)
        self.config = accepted.config.copy()
        self._kept: dict[str, Any] = {}  # Options of settings from before, which win over all others.
        self._accesses: AccessLog | None = None
        self._place = 0
        self._notifier: Notifier | None = None

    async def callback_notify(self) -> None:
        """For subclasses, as in uvicorn-worker: called every `timeout_notify` seconds, but no more than once a second.

        The heartbeat needs no help.
        """

    @cached_property
    def _plan(self) -> WorkerPlan:
        """Made when the first asks for it, after the `__init__` of subclasses: they may edit `config`."""
        return self._plan_of(self.cfg, self.config, self._kept)

    @classmethod
    def _plan_of(cls, cfg: Config, config: WorkerConfig, overriding: Mapping[str, Any]) -> WorkerPlan:
        plan = plan_from(cfg, config, overriding)
        if cls.http2_cleartext:
            settings = dataclasses.replace(plan.settings, http2_cleartext="both", http2_cleartext_peers="all")
            plan = dataclasses.replace(plan, settings=settings)
        return plan

    def load_wsgi(self) -> None:
        """Called by Gunicorn in the worker process: prepare the environment, load the application, and adapt it."""
        plan = self._plan
        if plan.log_level is not None:
            self.log.error_log.setLevel(plan.log_level)
            self.log.access_log.setLevel(max(plan.log_level, self.log.access_log.level))
        if plan.env_file is not None:
            load_env_file(plan.env_file)
        super().load_wsgi()
        loaded = self.wsgi
        self.wsgi = self._try(lambda plan: _adapt(loaded, plan, self.log), _APPLICATION_OPTIONS)

    def make_loop(self) -> asyncio.AbstractEventLoop:
        """See `LifeCycle.make_loop`."""
        self.executor_threads = self._plan.settings.executor_threads
        return self._try(lambda plan: new_loop(_loop_of(type(self), plan), self.log), _LOOP_OPTIONS)

    def _try(self, use: Callable[[WorkerPlan], _Made], names: Sequence[str]) -> _Made:
        """What `use` makes of the plan, where only a worker can find out whether it can be honoured.

        If it cannot, and settings that were accepted earlier have other values for the options `names` with which it
        can, these go on: see `_accept`. Raises SettingsError where none does.
        """
        try:
            return use(self._plan)
        except SettingsError as error:
            for earlier in self._runs_with.unproven[1:]:
                kept = {name: earlier[name] for name in names}
                plan = self._plan_of(self.cfg, self.config, {**self._kept, **kept})
                try:
                    made = use(plan)
                except SettingsError:
                    continue
                self._kept.update(kept)
                self._plan = plan
                self.log.error(
                    "The new settings are refused in part, the worker goes on with %s from before: %s",
                    ", ".join(f"{name}={value!r}" for name, value in kept.items()),
                    error,
                )
                return made
            raise

    def make_server(self, loop: asyncio.AbstractEventLoop, member: Member) -> Server:
        """See `LifeCycle.make_server`."""
        plan = self._plan
        self._place = member.place
        self._accesses = self._access_log(loop)
        callback = plan.callback_notify
        if callback is None and type(self).callback_notify is not Worker.callback_notify:
            callback = self.callback_notify
        if callback is not None:
            self._notifier = Notifier(loop, callback, plan.notify_seconds, self.log)
        ssl_context = self._ssl_context()
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
        if self._notifier is not None:
            self._notifier()

    def _ssl_context(self) -> ssl.SSLContext | None:
        """Made from the files as they are now, so that a worker finds a renewed certificate.

        Where they cannot be read, be it that a renewal is half done or that only the master's user may, the one that
        the master has made goes on. Nothing is ever served in clear instead.
        """
        plan = self._plan
        try:
            return ssl_context_from(self.cfg, plan.tls, self.config)
        except SettingsError as error:
            accepted = Worker._accepted
            if accepted is None or accepted.ssl_context is None or accepted.tls != plan.tls:
                raise
            self.log.warning("%s. The certificate that the master has read goes on.", error)
            return accepted.ssl_context

    def close_logs(self) -> None:
        """See `LifeCycle.close_logs`."""
        if isinstance(self._accesses, StreamAccessLog):
            self._accesses.flush()

    def _access_log(self, loop: asyncio.AbstractEventLoop) -> AccessLog | None:
        """Where accesses are logged; None where nobody would read them."""
        logger = self.log
        on_error = WriteErrors(logger.error)
        through_logger = LoggerAccessLog(logger, on_error)
        if not self._plan.access_log:
            if not isinstance(logger, Statsd):
                return None
            logger.access_log.setLevel(_NO_LINES)  # Its `access()` sends the metrics, too.
            return through_logger
        stream = _plain_stream(logger)
        if stream is not None:
            return StreamAccessLog(self.cfg.access_log_format, stream, loop.call_soon, on_error, through_logger)
        return through_logger if _logs_accesses(logger, self.cfg) else None


@dataclasses.dataclass(frozen=True, slots=True)
class _Accepted:
    """Settings with which a worker can start."""

    worker_class: type[Worker]
    cfg: Config
    config: WorkerConfig
    tls: TlsOptions
    ssl_context: ssl.SSLContext | None
    unproven: tuple[Mapping[str, Any], ...]
    """Options that only a worker can prove, as they are here and then as they were in what was accepted before."""


def _adapt(loaded: Any, plan: WorkerPlan, log: Logger) -> Application:
    return adapt(
        loaded,
        interface=plan.interface,
        factory=plan.factory,
        wsgi_threads=plan.settings.executor_threads or DEFAULT_WSGI_THREADS,
        limit_concurrency=plan.settings.limit_concurrency,
        log=log,
    )


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


def _fills_in_the_format(logger: Any) -> bool:
    """Whether lines are made of `access_log_format` by Gunicorn's own code.

    A logger class of a user may have other atoms, or another format.
    """
    logger_class = type(logger)
    return (
        logger_class.access in (Logger.access, Statsd.access)
        and logger_class.atoms is Logger.atoms
        and logger_class.atoms_wrapper_class is Logger.atoms_wrapper_class
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
