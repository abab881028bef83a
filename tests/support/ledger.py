"""Strict clients, and the ledger of what became of each of their requests.

They never try a request again. Half of them keep their connection as long as the server does, and close it when it says
so; the others use one connection for each request. A connection that the server has closed before a request was sent is
nobody's mistake; one that it closes over a request is.
"""

import asyncio
import collections
import contextlib
import itertools
import random
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from .http1 import Address

ANSWER_SECONDS: Final = 20.0
"""For one answer: far above what it takes, so that only a request that is lost is hit."""

_WORK_SECONDS: Final = (0.0, 0.0, 0.001, 0.01, 0.05)
_PAUSE_SECONDS: Final = (0.001, 0.005, 0.01, 0.02)
_LONG_PAUSE_SECONDS: Final = (0.3, 0.9, 1.05, 1.3)
"""Of clients that come back when a drain is just closing idle connections."""


class WrongAnswer(AssertionError):
    """An answer that looks whole and is not that to the request."""


class Ledger:
    """What was sent, what was answered, and what the application says."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self.sent: list[str] = []
        self.answered: list[str] = []
        self.failed: dict[str, str] = {}
        """Requests without an answer, and how they failed."""
        self.wrong: list[str] = []
        """Answers that were wrong, or cut and yet looked whole."""

    def check(self, *, may_fail: bool = False, killed: int = 0) -> None:
        """Everything was answered, rightly and once; with `may_fail` what failed was at least not run twice.

        `killed` is a process that had no time to note the end of what it has answered.
        """
        begun, ended = self._noted("begin"), self._noted("end")
        assert self.wrong == []
        assert may_fail or self.failed == {}
        assert set(self.sent) == set(self.answered) | set(self.failed)
        assert [name for name, times in begun.items() if times > 1] == [], "run twice"
        assert [name for name in self.answered if begun[name] != 1] == [], "answered, but not begun"
        cut_off = {name for name, pid in self._begun().items() if pid == killed}
        assert [name for name in self.answered if ended[name] != 1 and name not in cut_off] == [], "not ended"

    def failed_after_begin(self) -> dict[str, int]:
        """Failed requests that the application has begun, and the process that did."""
        return {name: pid for name, pid in self._begun().items() if name in self.failed}

    def begun_by(self, pid: int) -> bool:
        """Whether a process has begun any request."""
        return pid in self._begun().values()

    def _begun(self) -> dict[str, int]:
        """Requests that the application has begun, and the process that did."""
        lines = (line.split() for line in self._journal.read_text().splitlines())
        return {name: int(pid) for what, name, pid in lines if what == "begin"}

    def count(self, what: str) -> int:
        """Lines of one kind."""
        return sum(self._noted(what).values())

    def _noted(self, what: str) -> "collections.Counter[str]":
        lines = (line.split() for line in self._journal.read_text().splitlines())
        return collections.Counter(name for kind, name, _ in lines if kind == what)


class Load:
    """Clients in a thread of their own, from `with` on until its end; all that was sent is waited for."""

    def __init__(self, address: Address, journal: Path, *, clients: int = 10, kind: str = "work") -> None:
        journal.touch()
        self.ledger = Ledger(journal)
        self.address = address
        self._clients = clients
        self._kind = kind
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def __enter__(self) -> "Load":
        self._thread.start()
        self.more_answers(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(ANSWER_SECONDS * 2)
        assert error is not None or not self._thread.is_alive()

    def stop(self) -> None:
        """Send nothing more and wait for what was sent."""
        self.__exit__(None, None, None)

    def more_answers(self, count: int, seconds: float = ANSWER_SECONDS) -> None:
        """Wait for so many more answers, or failures."""
        goal = self._done + count
        deadline = time.monotonic() + seconds
        while self._done < goal:
            assert time.monotonic() < deadline, f"{self._done} of {goal} requests done, {self.ledger.failed}"
            time.sleep(0.01)

    @property
    def _done(self) -> int:
        return len(self.ledger.answered) + len(self.ledger.failed)

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        chance = random.Random(number)
        keeps = number % 2 == 0
        pauses = _LONG_PAUSE_SECONDS if number % 5 == 4 else _PAUSE_SECONDS
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stopping.is_set():
            name = str(next(self._numbers))
            self.ledger.sent.append(name)
            try:
                if connection is not None and connection[0].at_eof():
                    connection[1].close()
                    connection = None
                if connection is None:
                    connection = await self._connect()
                seconds = chance.choice(_WORK_SECONDS)
                goes_on = await asyncio.wait_for(self._request(connection, name, seconds, keeps), ANSWER_SECONDS)
                self.ledger.answered.append(name)
            except WrongAnswer as error:
                self.ledger.wrong.append(f"{name}: {error}")
                self.ledger.failed[name] = "wrong"
                goes_on = False
            except (OSError, EOFError, asyncio.TimeoutError) as error:
                self.ledger.failed[name] = f"{error!r}"
                goes_on = False
            if connection is not None and not goes_on:
                connection[1].close()
                connection = None
            await asyncio.sleep(0.1 if name in self.ledger.failed else chance.choice(pauses))
        if connection is not None:
            connection[1].close()
            with contextlib.suppress(OSError):
                await connection[1].wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.address, str):
            return await asyncio.open_unix_connection(self.address)
        return await asyncio.open_connection(*self.address)

    async def _request(
        self,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        name: str,
        seconds: float,
        keeps: bool,
    ) -> bool:
        """Send a request and read its answer. Whether the connection may be used again."""
        reader, writer = connection
        wanted = content_of(name)
        close = "" if keeps else "Connection: close\r\n"
        head = f"/{self._kind}/{name}?{seconds} HTTP/1.1\r\nHost: example.org\r\n{close}"
        if int(name) % 4 == 3:
            writer.write(f"POST {head}Content-Length: {len(wanted)}\r\n\r\n".encode() + wanted)
        else:
            writer.write(f"GET {head}\r\n".encode())
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:-2])
        if fields.get("transfer-encoding") == "chunked":
            content = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                content += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        else:
            content = await reader.readexactly(int(fields["content-length"]))
        if not lines[0].startswith("http/1.1 200"):
            raise OSError(lines[0])
        if content != wanted:
            raise WrongAnswer(f"{content[:40]!r}... of {len(content)} bytes")
        return keeps and fields.get("connection") != "close"


def content_of(name: str) -> bytes:
    """As the application makes it (tests/integration/apps/ledger.py)."""
    return f"{name};".encode() * (20_000 if name.endswith("0") else 1)
