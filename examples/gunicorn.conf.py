"""Settings of Gunicorn for an ASGI application: `gunicorn -c gunicorn.conf.py fastapi_app:app`.

All settings: https://docs.gunicorn.org/en/stable/settings.html
"""

import os
from typing import Any

worker_class = "gunicorn_asgi.Worker"

# As many as there are processors to use. Each serves thousands of connections, so there is no need for more.
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))

# Requests go to standard output. Leave this out for the highest speed.
accesslog = "-"

# After SIGTERM, running requests have this long to finish; then the application's lifespan shutdown runs.
graceful_timeout = 30

# How long a connection may wait for its next request. Behind a load balancer: longer than the balancer's own time.
keepalive = 5

# Whose X-Forwarded-For and X-Forwarded-Proto are believed: the addresses of your own proxies.
forwarded_allow_ips = "127.0.0.1"


def when_ready(server: Any) -> None:
    """Called by Gunicorn when the sockets listen."""
    addresses = "  ".join(str(listener) for listener in server.LISTENERS)
    print(f"\n    Open {addresses} in your browser. Ctrl-C stops.\n", flush=True)
