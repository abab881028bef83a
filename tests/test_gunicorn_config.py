"""Settings, options and environment as the plan of a worker."""

import inspect
import re
import ssl
from typing import Any

import pytest
from gunicorn.config import KNOWN_SETTINGS, Config

from gunicorn_asgi.errors import SettingsError
from gunicorn_asgi.gunicorn_config import (
    WorkerConfig,
    WorkerPlan,
    plan_from,
    ssl_context_from,
    warnings_of,
    within_times_of,
)
from gunicorn_asgi.gunicorn_settings import GUNICORN_SETTINGS, REFUSED_WHEN_ON, WARNED_WHEN_CHANGED, Fate
from gunicorn_asgi.option_kinds import MAX_BYTES
from gunicorn_asgi.options import KNOWN, NO_EFFECT, OPTIONS, SILENT
from gunicorn_asgi.settings import Settings

NAMES = frozenset(setting.name for setting in KNOWN_SETTINGS)


def config_of(given: dict[str, Any] | None = None, environment: dict[str, str] | None = None, **settings: Any) -> Any:
    cfg = Config()
    for name, value in settings.items():
        cfg.set(name, value)
    return cfg, WorkerConfig(cfg, given or {}, "CONFIG_KWARGS of W", environment or {})


def plan(given: dict[str, Any] | None = None, environment: dict[str, str] | None = None, **settings: Any) -> WorkerPlan:
    return plan_from(*config_of(given, environment, **settings))


def has(*names: str) -> pytest.MarkDecorator:
    """Mark a case with settings that older versions of Gunicorn lack."""
    missing = [name for name in names if name not in NAMES]
    return pytest.mark.skipif(bool(missing), reason=f"this Gunicorn has no setting {', '.join(missing)}")


# The tables


def test_every_setting_of_the_installed_gunicorn_has_been_decided_about() -> None:
    assert NAMES - set(GUNICORN_SETTINGS) == set()


def test_what_is_refused_and_warned_about_is_said_in_the_table() -> None:
    fates = {fate: {name for name, (of, _) in GUNICORN_SETTINGS.items() if of is fate} for fate in Fate}
    assert fates[Fate.REFUSED] == {*REFUSED_WHEN_ON, "protocol"}
    assert fates[Fate.WARNED] == set(WARNED_WHEN_CHANGED)


def test_every_keyword_of_uvicorn_config_is_known() -> None:
    uvicorn_config = pytest.importorskip("uvicorn.config")
    keywords = set(inspect.signature(uvicorn_config.Config).parameters)
    assert keywords - KNOWN == set()


def test_options_are_in_one_list_only() -> None:
    assert not set(OPTIONS) & set(NO_EFFECT)
    assert not set(OPTIONS) & SILENT
    assert not set(NO_EFFECT) & SILENT


@pytest.mark.parametrize("name", OPTIONS)
def test_defaults_can_be_given_and_change_nothing(name: str) -> None:
    assert plan({name: OPTIONS[name].default}) == plan()


def test_all_defaults_are_those_of_settings() -> None:
    """Besides what Gunicorn sets otherwise."""
    settings = plan().settings
    assert settings.header_timeout_seconds == Settings().header_timeout_seconds
    different = {
        name
        for name in Settings.__dataclass_fields__
        if getattr(settings, name) != getattr(Settings(), name)
        and name not in ("forwarded_allow_ips", "secure_scheme_headers", "proxy_allow_ips")
    }
    assert different == set()


# Gunicorn's settings

SETTINGS = [
    pytest.param({"keepalive": 75}, {"keepalive_seconds": 75}, id="keepalive"),
    pytest.param({"graceful_timeout": 7}, {"graceful_timeout_seconds": 7}, id="graceful_timeout"),
    pytest.param({"timeout": 2}, {"timeout_seconds": 2, "heartbeat_seconds": 0.5}, id="timeout"),
    pytest.param({"timeout": 0}, {"timeout_seconds": 0, "heartbeat_seconds": 1.0}, id="no timeout"),
    pytest.param({"backlog": 5}, {"backlog": 5}, id="backlog"),
    pytest.param(
        {"max_requests": 10, "max_requests_jitter": 3},
        {"max_requests": 10, "max_requests_jitter": 3},
        id="max_requests",
    ),
    pytest.param({"threads": 1}, {"executor_threads": None}, id="one thread"),
    pytest.param({"threads": 8}, {"executor_threads": 8}, id="threads"),
    pytest.param({"worker_connections": 1000}, {"max_connections": None}, id="default worker_connections"),
    pytest.param({"worker_connections": 999}, {"max_connections": 999}, id="worker_connections"),
    pytest.param({"forwarded_allow_ips": "10.1.2.3,::1"}, {"forwarded_allow_ips": ("10.1.2.3", "::1")}, id="proxies"),
    pytest.param(
        {"secure_scheme_headers": {"X-SCHEME": "https"}},
        {"secure_scheme_headers": ((b"x-scheme", b"https"),)},
        id="secure_scheme_headers",
    ),
    pytest.param({"proxy_protocol": True}, {"proxy_protocol": "auto"}, id="proxy_protocol"),
    pytest.param({"header_map": "refuse"}, {"header_map": "refuse"}, id="header_map"),
    pytest.param({"casefold_http_method": True}, {"casefold_http_method": True}, id="casefold_http_method"),
    pytest.param({"proxy_protocol": "v2"}, {"proxy_protocol": "v2"}, id="PROXY v2", marks=has("http_protocols")),
    pytest.param(
        {"forwarder_headers": "REMOTE_USER, PATH_INFO"},
        {"forwarder_headers": (b"remote_user", b"path_info")},
        id="forwarder_headers",
        marks=has("forwarder_headers"),
    ),
    pytest.param({"root_path": "/api/"}, {"root_path": "/api"}, id="root_path", marks=has("root_path")),
    pytest.param({"asgi_lifespan": "off"}, {"lifespan": "off"}, id="asgi_lifespan", marks=has("asgi_lifespan")),
    pytest.param({"http_protocols": "h2,h1"}, {"http2": True}, id="http_protocols", marks=has("http_protocols")),
    pytest.param(
        {"http2_cleartext": "both"}, {"http2_cleartext": "both"}, id="http2_cleartext", marks=has("http2_cleartext")
    ),
    pytest.param(
        {
            "http2_max_concurrent_streams": 7,
            "http2_initial_window_size": 99999,
            "http2_max_frame_size": 20000,
            "http2_max_header_list_size": 1000,
        },
        {
            "http2_max_concurrent_streams": 7,
            "http2_initial_window_bytes": 99999,
            "http2_max_frame_bytes": 20000,
            "http2_max_header_list_bytes": 1000,
        },
        id="HTTP/2",
        marks=has("http2_max_concurrent_streams"),
    ),
    pytest.param(
        {"websocket_max_message_size": 100},
        {"ws_max_message_bytes": 100},
        id="websocket_max_message_size",
        marks=has("websocket_max_message_size"),
    ),
    pytest.param(
        {"websocket_max_message_size": 0},
        {"ws_max_message_bytes": MAX_BYTES},
        id="no limit of messages",
        marks=has("websocket_max_message_size"),
    ),
]


@pytest.mark.parametrize(("given", "expected"), SETTINGS)
def test_gunicorn_settings(given: dict[str, Any], expected: dict[str, Any]) -> None:
    settings = plan(**given).settings
    assert {name: getattr(settings, name) for name in expected} == expected


def test_head_limits() -> None:
    limits = plan(limit_request_line=100, limit_request_fields=0, limit_request_field_size=200).settings.head_limits
    assert (limits.request_line_bytes, limits.fields, limits.field_bytes) == (100, limits.unlimited, 200)


@pytest.mark.parametrize(
    "given",
    [
        {"permit_unconventional_http_method": True},
        pytest.param({"http_parser": "python"}, marks=has("http_parser")),
    ],
)
def test_settings_that_choose_the_h11_parser(given: dict[str, Any]) -> None:
    assert plan(**given).parser == "h11"
    assert plan().parser == "auto"


@pytest.mark.parametrize("name", [name for name in REFUSED_WHEN_ON if name in NAMES])
def test_settings_that_weaken_framing_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}=True is refused, .*; remove it$"):
        plan(**dict[str, Any]({name: True}))


@has("protocol")
def test_uwsgi_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^protocol='uwsgi' .*; use 'http'"):
        plan(protocol="uwsgi")


# Options

GIVEN = [
    ({"timeout_keep_alive": 75}, {"keepalive_seconds": 75.0}),
    ({"timeout_graceful_shutdown": 3}, {"graceful_timeout_seconds": 3.0}),
    ({"timeout_graceful_shutdown": 300}, {"graceful_timeout_seconds": 30}),
    ({"timeout_graceful_shutdown": None}, {"graceful_timeout_seconds": 30}),
    ({"limit_max_requests": 5, "limit_max_requests_jitter": 2}, {"max_requests": 5, "max_requests_jitter": 2}),
    ({"limit_max_requests": None}, {"max_requests": 0}),
    ({"forwarded_allow_ips": "*"}, {"forwarded_allow_ips": ("*",)}),
    ({"forwarded_allow_ips": ""}, {"forwarded_allow_ips": ()}),
    ({"forwarded_allow_ips": []}, {"forwarded_allow_ips": ()}),
    ({"forwarded_allow_ips": ["10.0.0.1", "::1"]}, {"forwarded_allow_ips": ("10.0.0.1", "::1")}),
    ({"proxy_headers": False}, {"proxy_headers": False}),
    ({"forwarded_hops": 2}, {"forwarded_hops": 2}),
    ({"headers": [("X-Frame-Options", "DENY")]}, {"default_headers": ((b"x-frame-options", b"DENY"),)}),
    ({"date_header": False, "server_header": False}, {"date_header": False, "server_header": False}),
    ({"root_path": "/api/"}, {"root_path": "/api"}),
    ({"lifespan": "off"}, {"lifespan": "off"}),
    ({"http2": True}, {"http2": True}),
    ({"ws": "none"}, {"websockets": False}),
    ({"ws": "wsproto"}, {"websockets": True}),
    (
        {"ws_max_size": 99, "ws_max_queue": 3, "ws_ping_interval": None, "ws_ping_timeout": 4.5},
        {
            "ws_max_message_bytes": 99,
            "ws_max_queue": 3,
            "ws_ping_interval_seconds": None,
            "ws_ping_timeout_seconds": 4.5,
        },
    ),
    ({"ws_per_message_deflate": False}, {"ws_per_message_deflate": False}),
    ({"limit_concurrency": 10, "max_connections": 20}, {"limit_concurrency": 10, "max_connections": 20}),
    (
        {"max_rss": "512MiB", "max_requests_stagger": False},
        {"max_rss_bytes": 512 * 2**20, "max_requests_stagger": False},
    ),
    (
        {"header_timeout": 1, "body_timeout": 2, "write_timeout": 3, "request_timeout": 4, "startup_timeout": 5},
        {
            "header_timeout_seconds": 1.0,
            "body_timeout_seconds": 2.0,
            "write_timeout_seconds": 3.0,
            "request_timeout_seconds": 4.0,
            "startup_timeout_seconds": 5.0,
        },
    ),
    (
        {"drain_delay": 1, "drain_grace": 2, "loop_lag_warning": 0, "disconnect_grace_period": 0},
        {
            "drain_delay_seconds": 1.0,
            "drain_grace_seconds": 2.0,
            "loop_lag_warning_seconds": 0.0,
            "disconnect_grace_seconds": 0.0,
        },
    ),
]


@pytest.mark.parametrize(("given", "expected"), GIVEN, ids=lambda value: "+".join(value))
def test_options_fill_settings(given: dict[str, Any], expected: dict[str, Any]) -> None:
    settings = plan(given).settings
    assert {name: getattr(settings, name) for name in expected} == expected


def test_options_of_the_worker_itself() -> None:
    async def notify() -> None: ...

    made = plan(
        {
            "loop": "asyncio",
            "http": "h11",
            "interface": "asgi2",
            "factory": True,
            "env_file": "x.env",
            "log_level": "warning",
            "access_log": False,
            "callback_notify": notify,
            "timeout_notify": 3,
        }
    )
    assert (made.loop, made.parser, made.interface, made.factory, made.env_file) == (
        "asyncio",
        "h11",
        "asgi2",
        True,
        "x.env",
    )
    assert (made.log_level, made.access_log, made.callback_notify, made.notify_seconds) == (30, False, notify, 3.0)


def test_callback_notify_is_called_as_often_as_uvicorn_worker_does() -> None:
    assert plan(timeout=20).notify_seconds == 10


def test_head_limit_in_the_words_of_h11() -> None:
    assert plan({"h11_max_incomplete_event_size": 9000}).settings.head_limits.head_bytes == 9000
    assert plan().settings.head_limits.head_bytes == 65536


def test_ssl_options_switch_tls_on() -> None:
    tls = plan({"ssl_certfile": "c.pem", "ssl_keyfile": "k.pem", "ssl_cert_reqs": "required"}).tls
    assert tls.is_on
    assert (tls.certfile, tls.keyfile, tls.cert_reqs) == ("c.pem", "k.pem", ssl.CERT_REQUIRED)
    assert not plan().tls.is_on
    assert plan({"ssl_context_factory": lambda config, default: default()}).tls.is_on


def test_ssl_options_override_gunicorns() -> None:
    tls = plan({"ssl_ciphers": "AES"}, certfile=__file__, keyfile=__file__, ciphers="OTHER").tls
    assert (tls.certfile, tls.ciphers) == (__file__, "AES")


@pytest.mark.parametrize(
    "given", [{"ssl_ca_certs": "ca.pem"}, {"ssl_cert_reqs": 2}, {"ssl_keyfile_password": "hunter2"}]
)
def test_tls_without_a_certificate_is_no_cleartext(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"^{next(iter(given))}=.* without a certificate; set ssl_cert") as raised:
        plan(given)
    assert "hunter2" not in str(raised.value)


def test_a_hook_without_a_certificate_is_no_cleartext() -> None:
    cfg, config = config_of(ssl_context=lambda cfg, default: default())
    with pytest.raises(
        SettingsError, match=r"^ssl_context=<function .* without a certificate; set certfile and keyfile"
    ):
        ssl_context_from(cfg, plan_from(cfg, config).tls, config)


@pytest.mark.parametrize("name", ["certfile", "keyfile", "ca_certs", "ciphers"])
@pytest.mark.parametrize("nothing", [None, "", "none"])
def test_no_option_takes_tls_away_from_gunicorns_settings(name: str, nothing: str | None) -> None:
    settings: dict[str, Any] = {"certfile": __file__, "keyfile": __file__, "ca_certs": __file__, "ciphers": "AES"}
    assert plan({f"ssl_{name}": nothing}, **settings).tls == plan(**settings).tls
    if nothing is not None:
        assert plan({}, {f"GUNICORN_ASGI_SSL_{name.upper()}": nothing}, **settings).tls == plan(**settings).tls


def test_a_bind_that_gunicorn_calls_https_never_serves_cleartext() -> None:
    cfg, config = config_of(certfile=__file__)
    with pytest.raises(SettingsError, match=r"^certfile='.*', keyfile=None ask for TLS"):
        ssl_context_from(cfg, plan().tls, config)


# Precedence


def test_the_environment_wins_over_the_class_and_this_over_gunicorn() -> None:
    assert plan(keepalive=1).settings.keepalive_seconds == 1
    assert plan({"timeout_keep_alive": 2}, keepalive=1).settings.keepalive_seconds == 2
    environment = {"GUNICORN_ASGI_TIMEOUT_KEEP_ALIVE": "3"}
    assert plan({"timeout_keep_alive": 2}, environment, keepalive=1).settings.keepalive_seconds == 3


def test_forwarded_allow_ips_of_none_is_gunicorns_and_not_nobody() -> None:
    assert plan({"forwarded_allow_ips": None}, forwarded_allow_ips="10.0.0.1").settings.forwarded_allow_ips == (
        "10.0.0.1",
    )


def test_an_empty_variable_sets_nothing() -> None:
    given = {"limit_concurrency": 5, "ssl_certfile": "c.pem", "headers": [("a", "b")]}
    empty = {f"GUNICORN_ASGI_{name.upper()}": " " for name in OPTIONS if name != "forwarded_allow_ips"}
    assert plan(given, empty) == plan(given)
    assert plan({"limit_concurrency": 5}, {"GUNICORN_ASGI_LIMIT_CONCURRENCY": "none"}) == plan()


def test_what_is_kept_from_before_wins_over_all_and_decides_what_follows_from_it() -> None:
    environment = {"GUNICORN_ASGI_INTERFACE": "wsgi"}
    assert not plan({}, environment).settings.websockets
    cfg, config = config_of({}, environment)
    made = plan_from(cfg, config, {"interface": "auto"})
    assert (made.interface, made.settings.websockets) == ("auto", True)


@pytest.mark.parametrize(
    ("own", "of_the_master", "expected"), [(30, 10, 10), (10, 30, 10), (0, 30, 30), (30, 0, 30), (0, 0, 0)]
)
def test_no_time_is_longer_than_the_master_waits(own: int, of_the_master: int, expected: int) -> None:
    cfg, _ = config_of(timeout=own, graceful_timeout=own, keepalive=7)
    master, _ = config_of(timeout=of_the_master, graceful_timeout=of_the_master, keepalive=8)
    limited = within_times_of(master, cfg)
    assert (limited.timeout, limited.graceful_timeout) == (expected, min(own, of_the_master))
    assert limited.keepalive == 7
    assert (cfg.timeout, cfg.graceful_timeout) == (own, own), "those that were accepted stay as they are"


def test_max_connections_wins_over_worker_connections() -> None:
    assert plan({"max_connections": 1000}, worker_connections=5).settings.max_connections == 1000
    assert plan({"max_connections": None}, worker_connections=5).settings.max_connections is None


def test_config_is_read_and_written_as_uvicorns() -> None:
    cfg, config = config_of({"ws_max_size": 5}, {"GUNICORN_ASGI_WS_MAX_QUEUE": "7"}, keepalive=75)
    assert (config.timeout_keep_alive, config.ws_max_size, config.ws_max_queue, config.access_log) == (75, 5, 7, True)
    config.timeout_keep_alive = 12
    config.ws_max_queue = 9
    config.root_path = "/x"
    assert config.timeout_keep_alive == 12
    settings = plan_from(cfg, config).settings
    assert (settings.keepalive_seconds, settings.root_path) == (12, "/x")
    config.timeout_graceful_shutdown = None
    assert config.timeout_graceful_shutdown == 30
    assert settings.ws_max_queue == 7, "what the operator sets stays"
    assert config.host is None
    with pytest.raises(AttributeError, match="there is no option 'hosst'"):
        _ = config.hosst


def test_config_does_not_change_what_it_was_given() -> None:
    given: dict[str, Any] = {}
    _, config = config_of(given)
    config.root_path = "/x"
    assert given == {}


@pytest.mark.parametrize("given", [{}, {"headers": [("x-a", "1")]}, {"headers": (("x-a", "1"),)}])
def test_lists_can_be_edited_and_are_nobody_elses(given: dict[str, Any]) -> None:
    cfg, config = config_of(given)
    for worker in (config.copy(), config.copy()):
        worker.headers.append(("x-b", "2"))
        worker.forwarded_allow_ips.append("10.0.0.1")
        settings = plan_from(cfg, worker).settings
        assert settings.default_headers == (*plan(given).settings.default_headers, (b"x-b", b"2"))
        assert settings.forwarded_allow_ips == (*plan().settings.forwarded_allow_ips, "10.0.0.1")
    assert plan_from(cfg, config) == plan(given)


def test_edits_of_a_list_do_not_change_what_the_operator_sets() -> None:
    cfg, config = config_of({}, {"GUNICORN_ASGI_HEADERS": "x-a: 1"})
    config.headers.append(("x-b", "2"))
    assert plan_from(cfg, config).settings.default_headers == ((b"x-a", b"1"),)


# Bad input

BAD: list[tuple[dict[Any, Any], str]] = [
    ({"ws_ping_intervall": 1}, r"there is no option 'ws_ping_intervall'; did you mean 'ws_ping_interval'\?"),
    ({"zzz": 1}, r"there is no option 'zzz'; remove it, or see docs/settings.md"),
    ({"http": "zttp"}, r"http='zttp': zttp cannot be used here; use 'auto'"),
    (
        {"http": "uvicorn.protocols.http.h11_impl:H11Protocol"},
        r"http='uv.*': protocol classes of uvicorn .*; remove it",
    ),
    ({"ws": int}, r"ws=<class 'int'>: protocol classes of uvicorn cannot be used here; remove it"),
    ({"loop": "uvlop"}, r"loop='uvlop': expected one of auto, none, asyncio, uvloop, or 'module:callable'"),
    ({"ws_max_size": -1}, r"ws_max_size=-1: expected bytes as a number above 0"),
    ({"ws_max_size": True}, r"ws_max_size=True: expected bytes"),
    ({"ws_max_queue": 1.5}, r"ws_max_queue=1.5: expected a whole number from 1 to 2147483647"),
    ({"ws_ping_interval": "soon"}, r"ws_ping_interval='soon': expected seconds"),
    ({"ws_ping_interval": float("nan")}, r"ws_ping_interval=nan: expected seconds"),
    ({"timeout_keep_alive": float("inf")}, r"timeout_keep_alive=inf: expected seconds"),
    ({"date_header": "maybe"}, r"date_header='maybe': expected true or false"),
    ({"date_header": None}, r"date_header=None: expected true or false"),
    ({"date_header": 2}, r"date_header=2: expected true or false"),
    ({"headers": [("x", "a\r\nb: c")]}, r"headers=.*: expected pairs of header name and value"),
    ({"headers": [("x y", "a")]}, r"headers=.*: expected pairs"),
    ({"headers": 5}, r"headers=5: expected pairs"),
    ({"headers": "x-a"}, r"headers='x-a': expected pairs .*, or text with one 'name: value' a line"),
    ({"headers": "x-a: 1\nx-b"}, r"headers=.*: expected pairs"),
    ({"root_path": "api"}, r"root_path='api': expected a path that begins with one slash"),
    ({"log_level": "loud"}, r"log_level='loud': expected one of critical, error"),
    ({"interface": "asgi4"}, r"interface='asgi4': expected one of auto, asgi3, asgi2, wsgi"),
    ({"callback_notify": "x"}, r"callback_notify='x': expected a coroutine function, which only Python code can give"),
    (
        {"ssl_context_factory": "x"},
        r"ssl_context_factory='x': expected a callable, which only Python code can give",
    ),
    ({"ssl_cert_reqs": 7}, r"ssl_cert_reqs=7: expected one of none, optional, required"),
    ({"limit_concurrency": 0}, r"limit_concurrency=0: expected a whole number from 1 to 2147483647, or none"),
    (
        {"forwarded_allow_ips": [1]},
        r"forwarded_allow_ips=\[1\]: expected a list, or text with commas; an empty one for",
    ),
    ({"headers": [("x-a", 0)]}, r"headers=.*: expected pairs"),
    ({"headers": ["ab"]}, r"headers=.*: expected pairs"),
    ({"headers": {"ab": "c"}}, r"headers=.*: expected pairs"),
    ({"ssl_cert_reqs": 1.7}, r"ssl_cert_reqs=1.7: expected one of none, optional, required"),
    ({"callback_notify": print}, r"callback_notify=.*: expected a coroutine function, which only Python code can give"),
    ({"env_file": "a\0b"}, r"env_file='a\\x00b': expected the path of a file"),
    ({"ssl_certfile": "a\0b"}, r"ssl_certfile='a\\x00b': expected the path of a file"),
    ({5: 6}, r"there is no option 5; remove it, or see docs/settings.md"),
    ({"ssl_keyfile_password": b"hunter2"}, r"ssl_keyfile_password=\.\.\.: expected text, or none"),
    *(
        (
            {"root_path": path},
            r"root_path=.*: expected a path that begins with one slash, without //, \?, #",
        )
        for path in ("//evil", "//", "/a//b", "/a\nb", "/a?b", "/a#b", "/\\evil", "/a\udcff")
    ),
    *(
        ({name: value}, rf"{name}={re.escape(str(value))}: expected ")
        for name, value in [
            ("timeout_keep_alive", 1e300),
            ("ws_ping_interval", 1e10),
            ("timeout_notify", 1e300),
            ("backlog", 3_000_000_000),
            ("limit_concurrency", 2**31),
            ("ws_max_size", 2**63),
            ("max_rss", 10**30),
        ]
    ),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=lambda value: value if isinstance(value, str) else None)
def test_bad_options_are_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=rf"^CONFIG_KWARGS of W: {message}") as raised:
        plan(given)
    assert "\n" not in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("given", [None, [("backlog", 5)], "backlog=5", 5])
def test_options_that_are_no_dictionary_are_refused(given: Any) -> None:
    with pytest.raises(SettingsError) as raised:
        WorkerConfig(Config(), given, "CONFIG_KWARGS of W", {})
    assert str(raised.value) == f"CONFIG_KWARGS of W={given!r}: expected a dictionary of options"


BAD_SETTINGS: list[Any] = [
    ({"worker_connections": 0}, "worker_connections=0: expected a whole number from 1 to 2147483647"),
    ({"backlog": 3_000_000_000}, "backlog=3000000000: expected a whole number from 1 to 2147483647"),
    ({"timeout": 10**12}, "timeout=1000000000000: expected seconds as a number from 0 to 1000000000"),
    ({"graceful_timeout": 10**12}, "graceful_timeout=1000000000000: expected seconds"),
    ({"keepalive": 10**12}, "keepalive=1000000000000: expected seconds"),
    ({"threads": 10**9}, "threads=1000000000: expected a whole number from 0 to 10000"),
    (
        {"secure_scheme_headers": {"X-Scheme": 1}},
        "secure_scheme_headers: 'X-Scheme': 1 names no scheme; expected text, such as 'https'",
    ),
    ({"secure_scheme_headers": {5: "https"}}, "secure_scheme_headers: 5 is no name of a header; correct or remove it"),
    ({"secure_scheme_headers": {"X-\u20ac": "https"}}, "secure_scheme_headers: 'X-\u20ac' is no name of a header"),
    ({"secure_scheme_headers": {"X-Scheme": "\u20ac"}}, "secure_scheme_headers: 'X-Scheme': '\u20ac' names no scheme"),
    pytest.param(
        {"forwarder_headers": "SCRIPT_NAME,\u20ac"},
        "forwarder_headers: '\u20ac' is no name of a header; correct or remove it",
        marks=has("forwarder_headers"),
    ),
    pytest.param({"root_path": "//evil"}, "root_path='//evil': expected a path that begins", marks=has("root_path")),
    pytest.param(
        {"http2_max_concurrent_streams": 2**32},
        "http2_max_concurrent_streams=4294967296: expected a whole number from 1 to 2147483647",
        marks=has("http2_max_concurrent_streams"),
    ),
    pytest.param(
        {"http2_initial_window_size": 0},
        "http2_initial_window_size=0: expected a whole number from 1 to 2147483647",
        marks=has("http2_initial_window_size"),
    ),
    pytest.param(
        {"http2_max_header_list_size": 2**32},
        "http2_max_header_list_size=4294967296: expected a whole number from 0 to 2147483647",
        marks=has("http2_max_header_list_size"),
    ),
]


@pytest.mark.parametrize(("given", "message"), BAD_SETTINGS)
def test_bad_settings_are_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        plan(**given)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("WS_MAX_SIZE", "big", "environment variable GUNICORN_ASGI_WS_MAX_SIZE: ws_max_size='big': expected bytes"),
        ("WS_PNG_INTERVAL", "1", ".*there is no option 'ws_png_interval'; did you mean 'ws_ping_interval'"),
        (
            "SSL_KEYFILE_PASSWROD",
            "hunter2",
            r"environment variable GUNICORN_ASGI_SSL_KEYFILE_PASSWROD=\.\.\.: there",
        ),
        (
            "API_TOKEN",
            "hunter2",
            r"environment variable GUNICORN_ASGI_API_TOKEN=\.\.\.: there is no option",
        ),
    ],
)
def test_bad_environment_is_refused(variable: str, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        plan({}, {f"GUNICORN_ASGI_{variable}": text})


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("DATE_HEADER", "off", "date_header", False),
        ("WS_PING_INTERVAL", "none", "ws_ping_interval_seconds", None),
        ("WS_PING_INTERVAL", "2.5", "ws_ping_interval_seconds", 2.5),
        ("MAX_RSS", "2 GiB", "max_rss_bytes", 2**31),
        ("HEADERS", "X-A: 1\nX-B: 2:3", "default_headers", ((b"x-a", b"1"), (b"x-b", b"2:3"))),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1, ::1", "forwarded_allow_ips", ("10.0.0.1", "::1")),
        ("FORWARDED_ALLOW_IPS", "", "forwarded_allow_ips", ()),
        ("FORWARDED_ALLOW_IPS", "none", "forwarded_allow_ips", ()),
    ],
)
def test_environment_in_words(variable: str, text: str, field: str, value: object) -> None:
    assert getattr(plan({}, {f"GUNICORN_ASGI_{variable}": text}).settings, field) == value


def test_other_variables_are_not_looked_at() -> None:
    assert plan({}, {"GUNICORN_ASGI": "x", "GUNICORN_CMD_ARGS": "y", "PORT": "80"}) == plan()


# Warnings


def warnings(
    given: dict[str, Any] | None = None, environment: dict[str, str] | None = None, **settings: Any
) -> list[str]:
    cfg, config = config_of(given, environment, **settings)
    return warnings_of(cfg, config, plan_from(cfg, config))


@pytest.mark.parametrize("name", [name for name in NO_EFFECT if name != "ssl_version"])
def test_what_gunicorn_decides_is_ignored_with_a_warning(name: str) -> None:
    assert plan({name: "x"}) == plan()
    assert warnings({name: "x"}) == [f"CONFIG_KWARGS of W: {name}='x' has no effect; {NO_EFFECT[name]}"]


@pytest.mark.parametrize("name", sorted({*NO_EFFECT, *SILENT}))
def test_none_is_ignored_silently(name: str) -> None:
    assert warnings({name: None}) == []


@pytest.mark.parametrize("name", sorted(SILENT))
def test_what_means_nothing_is_ignored_silently(name: str) -> None:
    for given, environment in (({name: 5}, {}), ({}, {f"GUNICORN_ASGI_{name.upper()}": "5"})):
        assert plan(given, environment) == plan()
        assert warnings(given, environment) == []


def test_no_warnings_by_default() -> None:
    assert warnings() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("do_handshake_on_connect", True),
        ("suppress_ragged_eofs", False),
        ("ssl_version", ssl.PROTOCOL_TLS_SERVER),
        pytest.param("asgi_disconnect_grace_period", 9, marks=has("asgi_disconnect_grace_period")),
    ],
)
def test_settings_without_effect_are_warned_about_when_changed(name: str, value: Any) -> None:
    (line,) = warnings(**{name: value})
    assert line.startswith(f"{name}={value!r}: ")


@pytest.mark.parametrize(
    ("bind", "warned"),
    [("0.0.0.0:80", True), ("[::]:80", True), ("127.0.0.1:80", False), ("[::1]:80", False), ("unix:/x", False)],
)
def test_trust_in_everybody_is_warned_about_where_everybody_can_connect(bind: str, warned: bool) -> None:
    for lines in (
        warnings(forwarded_allow_ips="*", bind=bind),
        warnings({"forwarded_allow_ips": ["10.0.0.1", "*"]}, bind=bind),
        warnings({}, {"GUNICORN_ASGI_FORWARDED_ALLOW_IPS": "*"}, bind=bind),
    ):
        assert [line.startswith("forwarded_allow_ips='*'") for line in lines] == [True] * warned


@pytest.mark.parametrize("given", [{"proxy_headers": False}, {"forwarded_allow_ips": "10.0.0.1"}])
def test_trust_in_everybody_that_an_option_takes_back_is_none(given: dict[str, Any]) -> None:
    assert warnings(given, forwarded_allow_ips="*", bind="0.0.0.0:80") == []


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ({"http2": True}, {}),
        pytest.param({}, {"http_protocols": "h2,h1"}, marks=has("http_protocols")),
    ],
)
def test_http2_without_tls_is_warned_about(given: dict[str, Any], settings: dict[str, Any]) -> None:
    (line,) = warnings(given, **settings)
    assert line.startswith("HTTP/2 is asked for (http2, or http_protocols) and offered over TLS only; set certfile")
    assert warnings({**given, "ssl_certfile": "c.pem"}, **settings) == []


@has("http2_cleartext")
def test_http2_with_and_without_tls_is_no_contradiction() -> None:
    assert warnings({"http2": True}, http2_cleartext="both") == []


@pytest.mark.parametrize("name", ["HOST", "PORT", "WORKERS"])
def test_what_gunicorn_decides_is_ignored_in_the_environment_too(name: str) -> None:
    environment = {f"GUNICORN_ASGI_{name}": "80"}
    assert plan({}, environment) == plan()
    remedy = NO_EFFECT[name.lower()]
    assert warnings({}, environment) == [f"environment variable GUNICORN_ASGI_{name}='80' has no effect; {remedy}"]


def test_variables_of_kubernetes_are_none_of_ours() -> None:
    """It sets them in each container where there is a service that is called gunicorn-asgi."""
    names = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_8000_TCP", "PORT_8000_TCP_PROTO"]
    environment = {f"GUNICORN_ASGI_{name}": "10.0.0.1" for name in [*names, "PORT_8000_TCP_PORT", "PORT_8000_TCP_ADDR"]}
    environment["GUNICORN_ASGI_PORT"] = "tcp://10.0.0.1:8000"
    assert plan({}, environment) == plan()
    assert warnings({}, environment) == []
