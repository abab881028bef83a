"""The listening sockets of a worker: an accept loop of our own.

Neither `create_server` of asyncio nor that of uvloop can do what is asked here: uvloop closes connections when it runs
out of file descriptors, both take as many connections as they can get, and neither can pause. So readable listeners are
watched, a few connections are accepted on each wake-up, and the loop makes a transport of each
(`connect_accepted_socket`). What that costs is in docs/architecture.md.

All workers of a master watch the same sockets, and all wake up for each connection. One that has clearly more
connections than another steps back for a moment, so that a burst is shared; it does not for long, since the other one
may be busy.
"""

import asyncio
import errno
import functools
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum, auto
from typing import Any, Final

from .connection.context import ServingContext
from .connection.proxied import ProxyPreambles
from .fleet import Member

ACCEPTS_PER_WAKE_UP: Final = 4
"""Few, so that other workers get theirs; more than one, since each wake-up has its price."""

FAIR_LEAD: Final = 4
"""Connections by which a worker may be ahead of the one with the fewest before it steps back."""

STEP_BACK_SECONDS: Final = 0.005
MAX_STEPS_BACK: Final = 10
"""In vain and in a row: a worker with few connections that takes none meanwhile is busy with something else."""

UNSHARED_SECONDS: Final = 1.0
"""How long nobody steps back any more after that."""

RETRY_SECONDS: Final = 0.5
"""Between two attempts to accept while the process or the machine is out of resources."""

SECONDS_BETWEEN_LINES: Final = 10.0
"""Between two lines in the log on one lasting trouble."""

LAST_CONNECTIONS_SECONDS: Final = 0.01
"""How long a queue of this worker alone is watched for the last handshakes before it is closed."""

# Out of descriptors or memory: to wait is all that helps.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# The connection has died in the queue, as accept(2) reports for a network that fails.
_DEAD: Final = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH})


class Accepting(Enum):
    """What a worker does with new connections."""

    NOT_YET = auto()
    OPEN = auto()
    PAUSED = auto()
    CLOSED = auto()


class Listeners:
    """All listening sockets of a worker, which they are closed with."""

    def __init__(
        self,
        context: ServingContext,
        sockets: Sequence[socket.socket],
        make_protocol: Callable[[], asyncio.Protocol],
        ssl_context: ssl.SSLContext | None,
        member: Member | None,
    ) -> None:
        """`member` is the worker among its siblings; None for a server that has none."""
        self._context = context
        self._loop = context.loop
        self._sockets = tuple(sockets)
        self._make_protocol = make_protocol
        self._options: dict[str, Any] = {}
        if ssl_context is not None:
            # A handshake comes before the first byte of a head, under the same clock.
            timeout = context.settings.header_timeout_seconds
            self._options = {"ssl": ssl_context, "ssl_handshake_timeout": timeout}
        version = context.settings.proxy_protocol
        self._preambles = ProxyPreambles(context, version) if version != "off" else None
        self._own_queue = any(_reuses_port(sock) for sock in sockets)
        # Where each worker has a queue of its own, the kernel has shared the connections out already.
        self._member = None if self._own_queue else member
        self._state = Accepting.NOT_YET
        self._opening: set[asyncio.Task[Any]] = set()
        self._steps_back = 0
        self._waited_for_fewest = 0.0
        self._unshared_until = 0.0
        self._said_exhausted_at: float | None = None
        self._said_full = False
        self._retry: asyncio.TimerHandle | None = None

    @property
    def opening(self) -> int:
        """Connections that are accepted and not yet known as such, most of them in a TLS handshake."""
        return len(self._opening)

    def open(self) -> None:
        """Begin to accept."""
        backlog = self._context.settings.backlog
        for sock in self._sockets:
            sock.setblocking(False)
            try:
                sock.listen(backlog)
            except OSError as error:  # Not allowed on a socket that came from systemd with SELinux: it listens already.
                self._context.error_log.debug("The backlog of a listener stays as it is: %s", error)
        self._resume()

    def close(self) -> None:
        """Accept no more. Connections that wait in a queue shared with other workers are left to them."""
        self._pause()
        self._state = Accepting.CLOSED
        for sock in self._sockets:
            sock.close()

    async def close_gently(self) -> None:
        """`close`, but not over connections that only this worker can accept (`reuse_port`)."""
        if self._own_queue and self._state is not Accepting.CLOSED:
            self._pause()
            self._state = Accepting.CLOSED
            for _ in range(2):
                for sock in self._sockets:
                    self._empty_queue(sock)
                await asyncio.sleep(LAST_CONNECTIONS_SECONDS)
            for sock in self._sockets:
                self._empty_queue(sock)
        self.close()

    def abandon(self) -> None:
        """Give up the handshakes that still run."""
        for task in self._opening:
            task.cancel()

    def report(self) -> None:
        """Tell the other workers how many connections this one has; on each heartbeat."""
        if self._member is not None and self._state in (Accepting.OPEN, Accepting.PAUSED):
            self._member.report(self._count())

    # Accepting

    def _on_readable(self, sock: socket.socket) -> None:
        if self._steps_back_for_another():
            return
        for _ in range(ACCEPTS_PER_WAKE_UP):
            if self._is_full():
                self._wait_for_room()
                break
            if not self._accept(sock):
                break
        if self._member is not None:
            self._member.count(self._count())

    def _accept(self, sock: socket.socket) -> bool:
        """Accept one connection, if there is one."""
        try:
            accepted, address = sock.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in _DEAD:
                return True
            self._wait_for_resources(error)
            return False
        if self._preambles is None:
            opening: Coroutine[Any, Any, object] = self._loop.connect_accepted_socket(
                self._make_protocol, accepted, **self._options
            )
        else:
            opening = self._open_behind_preamble(self._preambles, accepted, address)
        task: asyncio.Task[Any] = self._loop.create_task(opening)
        self._opening.add(task)
        task.add_done_callback(functools.partial(self._on_opened, address))
        return True

    async def _open_behind_preamble(self, preambles: ProxyPreambles, accepted: socket.socket, address: Any) -> None:
        accepted.setblocking(False)
        try:
            is_served = await preambles.read(accepted, address)
        except BaseException:
            accepted.close()
            raise
        if is_served:
            await self._loop.connect_accepted_socket(self._make_protocol, accepted, **self._options)
        else:
            accepted.close()

    def _on_opened(self, address: Any, task: "asyncio.Task[Any]") -> None:
        self._opening.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Anybody can fail a TLS handshake as often as they like.
            self._context.error_log.debug("Connection from %s failed before its first byte: %r", address, error)
        # It has failed, was refused, or has come and gone already: only the count can tell.
        self._context.make_room()

    def _count(self) -> int:
        return self._context.socket_count + len(self._opening)

    def _empty_queue(self, sock: socket.socket) -> None:
        # Behind it the kernel drops the first packet of a new connection, which the client sends again, to another.
        sock.listen(0)
        while self._accept(sock):
            pass

    # Pausing

    def _pause(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._state is Accepting.OPEN:
            self._state = Accepting.PAUSED
            for sock in self._sockets:
                self._loop.remove_reader(sock.fileno())

    def _resume(self) -> None:
        if self._state is Accepting.CLOSED or self._state is Accepting.OPEN:
            return
        self._state = Accepting.OPEN
        for sock in self._sockets:
            # uvloop calls protocols in the context in which their transport was made.
            self._context.task_context.run(self._loop.add_reader, sock.fileno(), self._on_readable, sock)
        self.report()

    def _pause_for(self, seconds: float) -> None:
        self._pause()
        self._retry = self._loop.call_later(seconds, self._resume)

    def _steps_back_for_another(self) -> bool:
        if self._member is None:
            return False
        fewest = self._member.fewest_of_others()
        if fewest is None or self._count() <= fewest + FAIR_LEAD:
            return False
        now = self._loop.time()
        if now < self._unshared_until:
            return False
        if fewest != self._waited_for_fewest:
            self._waited_for_fewest = fewest
            self._steps_back = 0
        if self._steps_back >= MAX_STEPS_BACK:
            self._steps_back = 0
            self._unshared_until = now + UNSHARED_SECONDS
            return False
        self._steps_back += 1
        self._pause_for(STEP_BACK_SECONDS)
        return True

    def _is_full(self) -> bool:
        limit = self._context.settings.max_connections
        return limit is not None and self._count() >= limit

    def _wait_for_room(self) -> None:
        if not self._said_full:
            self._said_full = True
            self._context.error_log.warning(
                "max_connections (%d) is reached: no connection is accepted until one ends; not said again",
                self._context.settings.max_connections,
            )
        self._pause()
        self._context.call_on_room(self._look_for_room)

    def _look_for_room(self) -> None:
        if self._is_full():
            self._context.call_on_room(self._look_for_room)
        else:
            self._resume()

    def _wait_for_resources(self, error: OSError) -> None:
        now = time.monotonic()
        if self._said_exhausted_at is None or now - self._said_exhausted_at >= SECONDS_BETWEEN_LINES:
            self._said_exhausted_at = now
            hint = "; raise the limit of open files" if error.errno in (errno.EMFILE, errno.ENFILE) else ""
            self._context.error_log.error(
                "No connection can be accepted, with %d open: %s%s", self._count(), error.strerror or error, hint
            )
        self._pause_for(RETRY_SECONDS)


def _reuses_port(sock: socket.socket) -> bool:
    """Whether the socket has a queue that no other worker empties (Gunicorn: reuse_port)."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not hasattr(socket, "SO_REUSEPORT"):
        return False
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
