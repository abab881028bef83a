"""A WebSocket client that is faster than the servers.

    python -m benchmarks.websocket_client URL ROLE CONNECTIONS SECONDS BYTES

ROLE is `echo`: each connection sends a message, waits for it to come back, and sends the next; or `broadcast`: one
connection sends a message, and the next when all connections have got it. Prints a line of JSON: messages that came
back, seconds, and milliseconds from sending to receiving of every message (echo: of one connection).
"""

import asyncio
import json
import sys
import time
from typing import Final

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

_CONNECT_AT_ONCE: Final = 50


class Run:
    """What all connections of a run share."""

    def __init__(self, size: int, connections: int) -> None:
        self.payload = b"x" * size
        self.connections = connections
        self.answers = 0
        self.began = False
        self.ended = False
        self.sent_at = 0.0
        self.milliseconds: list[float] = []
        self.failed = ""
        self.speaker: WSTransport | None = None
        """Who sends to the whole audience."""

    def measure(self) -> None:
        now = time.perf_counter()
        if self.sent_at and self.began:
            self.milliseconds.append((now - self.sent_at) * 1000)
        self.sent_at = now


class Echo(WSListener):
    """One connection; the first of a run measures how long each message takes."""

    def __init__(self, run: Run, first: bool) -> None:
        super().__init__()
        self._run = run
        self._first = first

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        run = self._run
        if frame.msg_type != WSMsgType.BINARY:
            _answer_control_frame(run, transport, frame)
            return
        run.answers += 1
        if self._first:
            if frame.get_payload_as_bytes() != run.payload:
                run.failed = "another message came back"
            run.measure()
        if not run.ended:
            transport.send(WSMsgType.BINARY, run.payload)


class Listener(WSListener):
    """One of an audience. Whoever is the last to get a message has the first send the next one."""

    def __init__(self, run: Run, first: bool) -> None:
        super().__init__()
        self._run = run

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        run = self._run
        if frame.msg_type != WSMsgType.BINARY:
            _answer_control_frame(run, transport, frame)
            return
        run.answers += 1
        if run.answers % run.connections == 0:
            run.measure()
            if not run.ended and run.speaker is not None:
                run.speaker.send(WSMsgType.BINARY, run.payload)


def _answer_control_frame(run: Run, transport: WSTransport, frame: WSFrame) -> None:
    if frame.msg_type == WSMsgType.PING:
        transport.send_pong(frame.get_payload_as_bytes())
    elif frame.msg_type == WSMsgType.CLOSE:
        run.failed = "the server has closed a connection"


async def main(url: str, role: str, connections: int, seconds: float, size: int) -> None:
    run = Run(size, connections)
    kind = Echo if role == "echo" else Listener
    clients: list[tuple[WSTransport, WSListener]] = []
    while len(clients) < connections:
        count = min(_CONNECT_AT_ONCE, connections - len(clients))
        first = not clients
        clients += await asyncio.gather(
            *(ws_connect(lambda leads=first and not number: kind(run, leads), url) for number in range(count))
        )
    if role == "echo":
        for transport, _ in clients:
            transport.send(WSMsgType.BINARY, run.payload)
    else:
        run.speaker = clients[0][0]
        run.sent_at = time.perf_counter()
        run.speaker.send(WSMsgType.BINARY, run.payload)
    await asyncio.sleep(0.2)
    run.began = True
    answers, began_at = run.answers, time.perf_counter()
    await asyncio.sleep(seconds)
    answers, passed = run.answers - answers, time.perf_counter() - began_at
    run.ended = True
    if run.failed:
        sys.exit(run.failed)
    print(json.dumps({"answers": answers, "seconds": passed, "milliseconds": sorted(run.milliseconds)}))
    for transport, _ in clients:
        transport.disconnect()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])))
