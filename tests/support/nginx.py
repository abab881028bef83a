"""A real nginx in front of a server."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .http1 import Address
from .listening import listening
from .system import find_program, needs

needs_nginx: Final = needs("nginx", "nginx")

# One process without a master, which runs as whoever runs the tests: it may open their sockets and files.
_AROUND: Final = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
{http}
}}
"""


@contextlib.contextmanager
def nginx(directory: Path, http: str) -> Iterator[tuple[str, int]]:
    """Run nginx with `http` as the content of its http block, in which PORT stands for the port it listens on.

    Gives host and port. What it has to say is in `nginx.log` in `directory`.
    """
    program = find_program("nginx")
    assert program is not None
    configuration = directory / "nginx.conf"

    def command(port: int) -> list[str]:
        configuration.write_text(_AROUND.format(directory=directory, http=http.replace("PORT", str(port))))
        return [program, "-p", str(directory), "-e", "stderr", "-c", str(configuration)]

    with listening(command, directory / "nginx.log") as address:
        yield address


def upstream_of(address: Address) -> str:
    """What nginx calls the address of a server behind it."""
    return f"unix:{address}" if isinstance(address, str) else "{}:{}".format(*address)
