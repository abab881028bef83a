"""The streams of one HTTP/2 connection: their states (RFC 9113 section 5.1), and what each frame means in them."""

from collections import OrderedDict, deque
from enum import Enum, auto
from typing import Final, Generic, TypeVar

from . import http2_frames as frames
from .http2_frames import ErrorCode


class StreamState(Enum):
    """RFC 9113 section 5.1, without the reserved states of server push, and with `closed` told apart by its reason.

               HEADERS                     END_STREAM
    IDLE -----------------> OPEN --------------------------> HALF_CLOSED_REMOTE
      |                       | our END_STREAM                 | our END_STREAM
      | higher identifier     v                                v
      v               HALF_CLOSED_LOCAL ---END_STREAM--->   CLOSED
    UNUSED                    |
                              any open state ---RST_STREAM---> RESET_BY_CLIENT, RESET_BY_SERVER
    """

    IDLE = auto()
    OPEN = auto()
    HALF_CLOSED_REMOTE = auto()
    HALF_CLOSED_LOCAL = auto()
    CLOSED = auto()
    RESET_BY_CLIENT = auto()
    RESET_BY_SERVER = auto()
    UNUSED = auto()
    """Section 5.1.1: closed because a stream with a higher identifier has been opened."""


class Verdict(Enum):
    """What becomes of a frame."""

    ACCEPT = auto()
    IGNORE = auto()
    """It was on its way when the stream ended."""
    STREAM_CLOSED = auto()
    """Stream error of this type."""
    CONNECTION_STREAM_CLOSED = auto()
    """Connection error STREAM_CLOSED."""
    CONNECTION_PROTOCOL_ERROR = auto()


_STATES: Final = {
    #                             HEADERS, DATA, RST_STREAM, WINDOW_UPDATE
    StreamState.IDLE: (
        Verdict.ACCEPT,
        Verdict.CONNECTION_PROTOCOL_ERROR,
        Verdict.CONNECTION_PROTOCOL_ERROR,
        Verdict.CONNECTION_PROTOCOL_ERROR,
    ),
    StreamState.OPEN: (Verdict.ACCEPT, Verdict.ACCEPT, Verdict.ACCEPT, Verdict.ACCEPT),
    StreamState.HALF_CLOSED_LOCAL: (Verdict.ACCEPT, Verdict.ACCEPT, Verdict.ACCEPT, Verdict.ACCEPT),
    StreamState.HALF_CLOSED_REMOTE: (Verdict.STREAM_CLOSED, Verdict.STREAM_CLOSED, Verdict.ACCEPT, Verdict.ACCEPT),
    # What follows END_STREAM breaks the protocol, but a client may still give window or reset before it has seen ours.
    StreamState.CLOSED: (
        Verdict.CONNECTION_STREAM_CLOSED,
        Verdict.CONNECTION_STREAM_CLOSED,
        Verdict.IGNORE,
        Verdict.IGNORE,
    ),
    StreamState.RESET_BY_CLIENT: (Verdict.STREAM_CLOSED, Verdict.STREAM_CLOSED, Verdict.IGNORE, Verdict.IGNORE),
    StreamState.RESET_BY_SERVER: (Verdict.IGNORE, Verdict.IGNORE, Verdict.IGNORE, Verdict.IGNORE),
    StreamState.UNUSED: (
        Verdict.CONNECTION_PROTOCOL_ERROR,
        Verdict.CONNECTION_PROTOCOL_ERROR,
        Verdict.CONNECTION_PROTOCOL_ERROR,
        Verdict.CONNECTION_PROTOCOL_ERROR,
    ),
}

VERDICTS: Final[dict[tuple[StreamState, int], Verdict]] = {
    (state, kind): verdict
    for state, verdicts in _STATES.items()
    for kind, verdict in zip(
        (frames.HEADERS, frames.DATA, frames.RST_STREAM, frames.WINDOW_UPDATE), verdicts, strict=True
    )
}
"""What to do with a frame that belongs to a stream. PRIORITY is allowed in every state and means nothing."""

_MIN_REMEMBERED_RESETS: Final = 256
_MAX_UNUSED_RANGES: Final = 64


class StreamError(Exception):
    """A stream breaks the protocol; the connection lives (RFC 9113 section 5.4.2)."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class IncomingContent:
    """What flow control and Content-Length know of the content of a request."""

    __slots__ = ("owed_bytes", "remaining", "untaken_bytes", "window")

    def __init__(self, window: int, content_length: int) -> None:
        self.window = window
        """Bytes that the client may still send."""
        self.untaken_bytes = 0
        """Of content that has come and that the application has not taken."""
        self.owed_bytes = 0
        """What nobody has to take any more, padding too, and what was not given back to its window yet."""
        self.remaining = content_length
        """Bytes that Content-Length has announced and that have not come; below 0 where there is none."""


class Stream:
    """One stream that is not closed. What a connection keeps for it besides is up to its subclass."""

    __slots__ = ("ends", "id", "incoming", "queue", "queue_moves", "queued_bytes", "send_window", "state")

    ends: bool
    """Whether the stream ends behind its queue; set with the queue."""
    queued_bytes: int
    """How much is in the queue; set with it."""
    queue_moves: bool
    """Whether something of the queue was sent since somebody last looked; set with the queue."""

    def __init__(self, stream_id: int, state: StreamState, send_window: int, incoming: IncomingContent | None) -> None:
        self.id = stream_id
        self.state = state
        self.send_window = send_window
        self.incoming = incoming
        self.queue: deque[bytearray | memoryview] | None = None
        """Content that waits for its window; None for none."""

    def on_queue_sent(self) -> None:
        """All that was queued has left."""
        raise NotImplementedError

    def on_closed(self) -> None:
        """The client has ended its side behind a complete response: nothing more happens on the stream."""
        raise NotImplementedError


StreamT = TypeVar("StreamT", bound=Stream)


class StreamTable(Generic[StreamT]):
    """All streams that are not closed, and as much as is needed of the others."""

    __slots__ = ("_max_reset", "_reset", "_unused", "last_id", "open", "ready")

    def __init__(self, max_streams: int) -> None:
        """`max_streams` is how many may be open at once."""
        self.open: dict[int, StreamT] = {}
        """Streams that are open or half-closed, by their identifiers."""
        self.ready = OrderedDict[int, StreamT]()
        """Those with something queued and room in their own window, in the order of their turns."""
        self.last_id = 0
        """The highest identifier of a stream that the client has opened."""
        # Frames for a stream that was reset are told from those for one that ended only as long as they may be on
        # their way, which all streams of a moment, and as many that took their places, can have. The bounds keep an
        # endless connection from remembering all of them.
        self._max_reset = max(_MIN_REMEMBERED_RESETS, 2 * max_streams)
        self._reset: dict[int, StreamState] = {}
        self._unused: deque[tuple[int, int]] = deque(maxlen=_MAX_UNUSED_RANGES)

    def state_of(self, stream_id: int) -> StreamState:
        """The state of any stream of a client, which has an odd identifier."""
        stream = self.open.get(stream_id)
        if stream is not None:
            return stream.state
        if stream_id > self.last_id:
            return StreamState.IDLE
        state = self._reset.get(stream_id)
        if state is not None:
            return state
        if any(first <= stream_id <= last for first, last in self._unused):
            return StreamState.UNUSED
        return StreamState.CLOSED

    def skip_to(self, stream_id: int) -> None:
        """The client opens `stream_id` without having used some before it."""
        self._unused.append((self.last_id + 1, stream_id - 1))

    def reset(self, stream_id: int, state: StreamState) -> StreamT | None:
        """A stream is reset, by whom `state` says. Returns it where it was not closed before."""
        if len(self._reset) >= self._max_reset:
            del self._reset[next(iter(self._reset))]
        self._reset[stream_id] = state
        stream = self.open.pop(stream_id, None)
        if stream is not None:
            stream.state = state
            stream.queue = None
            self.ready.pop(stream_id, None)
        return stream
