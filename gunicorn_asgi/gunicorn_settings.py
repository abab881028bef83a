"""Every setting of Gunicorn 22 to 27 and what becomes of it, in one table.

A test compares it with the settings of the Gunicorn that is installed, so that a new one is noticed and decided about.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final


class Fate(Enum):
    """What becomes of a setting. The value is the heading of its list in the documentation."""

    HONOURED = "Honoured by the worker"
    MASTER = "Gunicorn's own, unchanged"
    HOOK = "Server hooks, all of them called"
    WARNED = "Without effect, with a warning when changed"
    REFUSED = "Refused when switched on"
    UNUSED = "Without meaning for ASGI applications"


_H: Final = Fate.HONOURED
_M: Final = Fate.MASTER
_K: Final = Fate.HOOK
_W: Final = Fate.WARNED
_R: Final = Fate.REFUSED
_U: Final = Fate.UNUSED

GUNICORN_SETTINGS: Final[Mapping[str, tuple[Fate, str]]] = {
    # Listeners and processes.
    "bind": (_M, "TCP, IPv6, unix sockets, fd://; several binds."),
    "backlog": (_H, "Length of the accept queue of each listener."),
    "reuse_port": (_H, "Each worker listens on sockets of its own."),
    "workers": (_M, "Number of processes."),
    "worker_class": (_M, "Names this worker."),
    "threads": (_H, "Above 1: size of the default executor of the event loop."),
    "worker_connections": (
        _H,
        (
            "Where it is not 1000, Gunicorn's default: at so many connections a worker stops accepting until one ends. "
            "The option `max_connections` sets it exactly."
        ),
    ),
    "max_requests": (_H, "Counts requests, HTTP/2 streams and WebSocket handshakes."),
    "max_requests_jitter": (_H, "Up to this many are added at random."),
    "timeout": (_H, "Seconds without heartbeat after which the master kills a worker. 0 for never."),
    "graceful_timeout": (_H, "Seconds that running requests and lifespan shutdown have after SIGTERM."),
    "keepalive": (_H, "Seconds that an idle connection is kept; 0 closes after each response."),
    "preload_app": (_M, "The application is loaded before the workers are forked."),
    "worker_tmp_dir": (_M, "Where the files of the heartbeat are."),
    "reload": (_H, "A worker whose code has changed drains and is replaced."),
    "reload_engine": (_M, "How changes are found."),
    "reload_extra_files": (_M, "Further files to watch."),
    "sendfile": (_W, "No file is sent by its path yet, with or without `sendfile(2)`."),
    # Limits.
    "limit_request_line": (_H, "Bytes; longer is answered with 414. 0 for as long as the whole head may be."),
    "limit_request_fields": (_H, "More are answered with 431. Trailers too."),
    "limit_request_field_size": (_H, "Bytes; longer is answered with 431. Trailers too."),
    # Proxies.
    "forwarded_allow_ips": (_H, "Peers whose forwarding headers are believed: addresses, networks or `*`."),
    "secure_scheme_headers": (_H, "Headers that say https; a contradiction is answered with 400."),
    "forwarder_headers": (
        _H,
        (
            "Headers with an underscore that a trusted proxy may send. SCRIPT_NAME becomes `root_path` of the scope; "
            "PATH_INFO is a header like others and changes no path."
        ),
    ),
    "header_map": (_H, "What becomes of headers with an underscore: `drop`, `refuse` (400) or `dangerous`."),
    "proxy_protocol": (_H, "PROXY protocol: `off`, `v1`, `v2` or `auto`; before TLS too."),
    "proxy_allow_ips": (_H, "Peers that may speak the PROXY protocol."),
    "root_path": (_H, "Becomes `root_path` of the scope."),
    # TLS.
    "certfile": (_H, "Certificate chain. TLS fails closed: a file that cannot be used ends the boot."),
    "keyfile": (_H, "Private key."),
    "ca_certs": (_H, "Authorities of client certificates."),
    "cert_reqs": (_H, "Whether client certificates are asked for."),
    "ciphers": (_H, "Ciphers of TLS 1.2, in OpenSSL's words."),
    "ssl_context": (_H, "Hook that makes or changes the `ssl.SSLContext`."),
    "ssl_version": (_W, "Deprecated by Gunicorn. Choose versions of TLS in the ssl_context hook."),
    "do_handshake_on_connect": (_W, "The event loop always makes the handshake first."),
    "suppress_ragged_eofs": (_W, "A TLS connection that ends without a farewell is a client that has gone."),
    # HTTP.
    "http_protocols": (
        _H,
        (
            "`h2` offers HTTP/2 over TLS. Gunicorn itself then asks for the `h2` package, which this worker does not "
            "use; the option `http2` does without."
        ),
    ),
    "http2_cleartext": (
        _H,
        (
            "HTTP/2 without TLS, for peers in `forwarded_allow_ips` and on unix sockets only: `prior-knowledge`, "
            "`upgrade`, `both` or `off`. `H2CWorker` speaks it with everybody."
        ),
    ),
    "http2_max_concurrent_streams": (_H, "Streams that a client may have open on one connection."),
    "http2_initial_window_size": (_H, "Bytes: receive window of a stream."),
    "http2_max_frame_size": (_H, "Bytes: longest frame that a client may send."),
    "http2_max_header_list_size": (_H, "Bytes: longest decoded header list of a request."),
    "websocket_max_message_size": (_H, "Bytes; a longer message closes with 1009. 0 for no limit."),
    "casefold_http_method": (_H, "Methods become upper-case."),
    "http_parser": (_H, "`python` chooses the h11 parser; `auto` and `fast` that of the worker class."),
    "permit_unconventional_http_method": (_H, "Chooses the h11 parser, which knows no list of methods."),
    "permit_obsolete_folding": (_R, "Folded header lines are how requests are smuggled past proxies."),
    "strip_header_spaces": (_R, "White space before a colon is how requests are smuggled past proxies."),
    "permit_unconventional_http_version": (_R, "Two servers could read such a request differently."),
    "tolerate_dangerous_framing": (_R, "Two servers could read such a request differently. Only in Gunicorn 22."),
    "protocol": (_R, "`uwsgi`: this worker speaks HTTP. Let the proxy speak HTTP too."),
    "uwsgi_allow_ips": (_U, "Of the uwsgi protocol."),
    # ASGI.
    "asgi_loop": (_H, "`auto`, `asyncio` or `uvloop`."),
    "asgi_lifespan": (_H, "`auto`, `on` or `off`."),
    "asgi_disconnect_grace_period": (
        _W,
        "Applications are told `http.disconnect` and not cancelled. The option `disconnect_grace_period` cancels.",
    ),
    # Logs.
    "accesslog": (_H, "Where accesses are logged."),
    "access_log_format": (_H, "Compiled once; the text is that of Gunicorn's other workers."),
    "disable_redirect_access_to_syslog": (_H, "Keeps accesses out of syslog."),
    "errorlog": (_M, "Where errors are logged."),
    "loglevel": (_M, "Level of the error log."),
    "capture_output": (_M, "stdout and stderr go to the error log."),
    "logger_class": (_H, "Any subclass of Gunicorn's logger, with every override called."),
    "logconfig": (_H, "File for `logging.config`."),
    "logconfig_dict": (_H, "Dictionary for `logging.config`."),
    "logconfig_json": (_H, "JSON file for `logging.config`."),
    "syslog": (_H, "Logs go to syslog."),
    "syslog_addr": (_M, "Where syslog listens."),
    "syslog_prefix": (_M, "Name of the program in syslog."),
    "syslog_facility": (_M, "Facility in syslog."),
    "enable_stdio_inheritance": (_M, "For daemons."),
    "statsd_host": (_H, "Request metrics, with or without an access log."),
    "statsd_prefix": (_M, "Of the names of metrics."),
    "dogstatsd_tags": (_M, "Tags of metrics."),
    "enable_backlog_metric": (_M, "The master reports the length of the accept queue to statsd."),
    # Process.
    "config": (_M, "The configuration file."),
    "wsgi_app": (_M, "The application, which here is an ASGI application."),
    "check_config": (
        _M,
        (
            "Loads configuration and application; Gunicorn does not ask the worker class then. "
            "`python -m gunicorn_asgi --check-config` with the same arguments does."
        ),
    ),
    "print_config": (_M, "Prints the configuration."),
    "spew": (_M, "Traces every line; for debugging."),
    "chdir": (_M, "Working directory."),
    "daemon": (_M, "Runs in the background."),
    "raw_env": (_M, "Environment variables, set before the worker reads `GUNICORN_ASGI_*`."),
    "pidfile": (_M, "File with the pid of the master."),
    "user": (_M, "Whom the workers run as."),
    "group": (_M, "Group that the workers run as."),
    "umask": (_M, "Bit mask for files."),
    "initgroups": (_M, "Whether the groups of `user` are set."),
    "tmp_upload_dir": (_U, "Bodies are never written to files."),
    "proc_name": (_M, "Name of the processes."),
    "default_proc_name": (_M, "Name of the processes without `proc_name`."),
    "pythonpath": (_M, "Directories to import from."),
    "paste": (_M, "PasteDeploy file; names a WSGI application as a rule, which the option `interface` serves."),
    "raw_paste_global_conf": (_M, "Variables for PasteDeploy."),
    "control_socket": (_M, "Socket of `gunicornc`."),
    "control_socket_mode": (_M, "Its permissions."),
    "control_socket_disable": (_M, "Whether it is left out."),
    # Gunicorn's processes for long-running work, beside the workers.
    "dirty_apps": (_M, "Dirty arbiters run beside this worker."),
    "dirty_workers": (_M, "Number of their processes."),
    "dirty_timeout": (_M, "Seconds for one of their tasks."),
    "dirty_threads": (_M, "Their threads."),
    "dirty_graceful_timeout": (_M, "Seconds that they have to end."),
    "on_dirty_starting": (_K, ""),
    "dirty_post_fork": (_K, ""),
    "dirty_worker_init": (_K, ""),
    "dirty_worker_exit": (_K, ""),
    # Hooks.
    "on_starting": (_K, ""),
    "on_reload": (_K, ""),
    "when_ready": (_K, ""),
    "pre_fork": (_K, ""),
    "post_fork": (_K, ""),
    "post_worker_init": (_K, ""),
    "worker_int": (_K, "On SIGINT and SIGQUIT."),
    "worker_abort": (_K, "When the event loop was blocked for `timeout` seconds."),
    "pre_exec": (_K, ""),
    "pre_request": (_K, ""),
    "post_request": (_K, ""),
    "child_exit": (_K, ""),
    "worker_exit": (_K, ""),
    "nworkers_changed": (_K, ""),
    "on_exit": (_K, ""),
}

REFUSED_WHEN_ON: Final[Mapping[str, str]] = {
    "permit_obsolete_folding": "folded header lines let requests be smuggled past a proxy",
    "strip_header_spaces": "white space before a colon lets requests be smuggled past a proxy",
    "permit_unconventional_http_version": "two servers could read such a request differently",
    "tolerate_dangerous_framing": "two servers could read such a request differently",
}
"""Settings that weaken the framing of requests, with the reason why they are refused."""

WARNED_WHEN_CHANGED: Final[Mapping[str, str]] = {
    "ssl_version": "it is deprecated and ignored; choose versions of TLS in the ssl_context hook",
    "do_handshake_on_connect": "it is ignored: the event loop always makes the handshake first",
    "suppress_ragged_eofs": "it is ignored: a TLS connection that ends without a farewell is a client that has gone",
    "sendfile": "no file is sent by its path yet, with or without sendfile(2)",
    "asgi_disconnect_grace_period": (
        "applications are not cancelled when their client disconnects; "
        "the option disconnect_grace_period cancels them after that many seconds"
    ),
}
"""Settings that have no effect here, with what to know instead."""
