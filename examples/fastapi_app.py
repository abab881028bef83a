"""FastAPI with lifespan and state.

gunicorn -c gunicorn.conf.py fastapi_app:app
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>gunicorn-asgi is running</title>
<style>
  body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem; color: #223; }}
  h1 {{ font-weight: 600; }}
  code, pre {{ background: #eef1f4; border-radius: .3rem; padding: .1rem .3rem; }}
  pre {{ padding: .8rem 1rem; overflow-x: auto; }}
  td {{ padding-right: 2rem; }}
</style>
<h1>It works.</h1>
<p>Gunicorn serves this FastAPI application with <code>gunicorn_asgi.Worker</code>.</p>
<table>
  <tr><td>Worker process</td><td>{pid}</td></tr>
  <tr><td>Running since</td><td>{seconds:.0f} s</td></tr>
  <tr><td>You</td><td>{client}</td></tr>
  <tr><td>Protocol</td><td>HTTP/{version}</td></tr>
</table>
<p>Try the <a href="/docs">interactive documentation</a> or <a href="/items/42?q=hello">a JSON route</a>.
   Your own application runs the same way:</p>
<pre>gunicorn -k gunicorn_asgi.Worker main:app</pre>
</html>
"""


class State(TypedDict):
    started_at: float


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[State]:
    """Open what all requests share, such as a pool of database connections, and close it at the end."""
    yield {"started_at": time.monotonic()}


app = FastAPI(title="gunicorn-asgi example", lifespan=lifespan)


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
async def index(request: Request) -> str:
    return PAGE.format(
        pid=os.getpid(),
        seconds=time.monotonic() - request.state.started_at,
        client=request.client.host if request.client else "a unix socket",
        version=request.scope["http_version"],
    )


@app.get("/items/{item_id}")
async def item(item_id: int, q: str | None = None) -> dict[str, int | str | None]:
    """A route as most applications have it."""
    return {"item_id": item_id, "q": q}
