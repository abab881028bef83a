"""Our endpoint and the server side of the `h2` library, driven with the same frames: what they report and answer.

After each step the events, the frames in answer (but for window updates, which are a matter of taste), errors, and the
windows of all streams have to be the same. Where the two differ on purpose, `difference` knows the reason, and
`test_the_differences_are_real` an example of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_asgi.asgi_types import Field
from gunicorn_asgi.errors import RemoteProtocolError
from gunicorn_asgi.settings import Settings
from gunicorn_asgi.wire import http2_frames as frames
from gunicorn_asgi.wire.http2_connection import Endpoint
from gunicorn_asgi.wire.http2_frames import ErrorCode, Http2Error, frame
from gunicorn_asgi.wire.http2_request import RequestHead, RequestReader
from gunicorn_asgi.wire.http2_streams import Stream, StreamState
from tests.support.http2_wire import block, data, headers, request_fields

Event: TypeAlias = tuple[object, ...]


@dataclass
class Outcome:
    """What one step did to one side."""

    events: list[Event] = field(default_factory=list)
    answers: list[Event] = field(default_factory=list)
    """Frames sent: type, stream, payload."""
    windows: dict[int, int] = field(default_factory=dict)
    """What may be sent on each open stream."""
    error: ErrorCode | None = None
    """Of the connection."""

    @property
    def reset_codes(self) -> list[object]:
        return [payload for kind, _, payload in self.answers if kind == frames.RST_STREAM]


def answers(sent: bytes) -> list[Event]:
    """Frames but for WINDOW_UPDATE, GOAWAY and responses."""
    result: list[Event] = []
    while sent:
        size = int.from_bytes(sent[:3], "big")
        payload = sent[9 : 9 + size]
        if sent[3] == frames.RST_STREAM:
            result.append((sent[3], int.from_bytes(sent[5:9], "big"), ErrorCode(int.from_bytes(payload, "big"))))
        elif sent[3] in (frames.SETTINGS, frames.PING):
            result.append((sent[3], sent[4], payload))
        sent = sent[9 + size :]
    return result


class EndpointStream(Stream):
    def on_queue_sent(self) -> None:
        pass

    def on_closed(self) -> None:
        pass


class Ours:
    """Our endpoint."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        values = Settings()
        self.endpoint: Endpoint[EndpointStream] = Endpoint(values, RequestReader(values.head_limits), self)
        self.endpoint.begin()
        self.receive(frames.PREFACE + frames.settings_frame({}) + frames.SETTINGS_ACK)

    def receive(self, received: bytes) -> Outcome:
        error = None
        try:
            self.endpoint.receive(received, 1000.0)
        except Http2Error as caught:
            error = caught.code
        return self._outcome(error)

    def respond(self, stream_id: int, size: int, last: bool) -> Outcome:
        stream = self.endpoint.streams.open[stream_id]
        self.endpoint.sender.send_response(stream, block([(b":status", b"200")]), bytes(size), last)
        return self._outcome(None)

    def reset(self, stream_id: int) -> Outcome:
        self.endpoint.reset_stream(stream_id, ErrorCode.INTERNAL_ERROR)
        return self._outcome(None)

    def _outcome(self, error: ErrorCode | None) -> Outcome:
        sender, streams = self.endpoint.sender, self.endpoint.streams
        sent = answers(b"".join(sender.out))
        sender.out.clear()
        # The library sends its resets in the order of frames, too, but reports them apart from those of the client.
        resets = {stream for kind, stream, _ in sent if kind == frames.RST_STREAM}
        events = [event for event in self._events if event[0] != "reset" or event[1] not in resets]
        self._events = []
        windows = {
            stream.id: min(sender.window, stream.send_window)
            for stream in streams.open.values()
            if stream.state in (StreamState.OPEN, StreamState.HALF_CLOSED_REMOTE)
        }
        return Outcome(events, sent, windows, error)

    # What the endpoint tells

    def on_request(self, stream_id: int, head: RequestHead, ended: bool) -> EndpointStream:
        method, _, raw_path, _, fields = head[:5]
        self._events.append(("request", stream_id, method.encode(), raw_path, fields))
        if ended:
            self._events.append(("end", stream_id))
        state = StreamState.HALF_CLOSED_REMOTE if ended else StreamState.OPEN
        incoming = None if ended else self.endpoint.incoming_content(head[6])
        return EndpointStream(stream_id, state, self.endpoint.sender.initial_window, incoming)

    def on_refused_request(self, stream_id: int, error: RemoteProtocolError, line: bytes) -> None:
        self._events.append(("refused", stream_id, error.status))

    def on_content(self, stream: EndpointStream, content: bytes, ended: bool) -> None:
        if content:
            self._events.append(("data", stream.id, content))
        if ended:
            self._events.append(("end", stream.id))

    def on_stream_reset(self, stream: EndpointStream) -> None:
        self._events.append(("reset", stream.id))

    def on_stream_error(self, reason: str) -> None:
        pass

    def on_refused_trailers(self, stream: EndpointStream, error: RemoteProtocolError) -> bool:
        return False

    def on_offence(self, reason: str) -> None:
        pass

    def on_ping_ack(self, payload: bytes) -> None:
        self._events.append(("pong", payload))


class Theirs:
    """The server side of the library."""

    def __init__(self) -> None:
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.connection.initiate_connection()
        self.connection.increment_flow_control_window(2**20 - 65535)
        self._open: dict[int, None] = {}
        self.ended: set[int] = set()
        """Streams whose response is complete."""
        self.reset_by_us: set[int] = set()
        self.receive(frames.PREFACE + frames.settings_frame({}) + frames.SETTINGS_ACK)

    def receive(self, received: bytes) -> Outcome:
        error = None
        events: list[h2.events.Event] = []
        try:
            events = self.connection.receive_data(received)
        except h2.exceptions.ProtocolError as caught:
            error = ErrorCode(caught.error_code)
        return self._outcome(events, error)

    def respond(self, stream_id: int, size: int, last: bool) -> Outcome:
        self.connection.send_headers(stream_id, [(b":status", b"200")], end_stream=last and not size)
        if size:
            self.connection.send_data(stream_id, bytes(size), end_stream=last)
        if last:
            self.ended.add(stream_id)
        return self._outcome([], None)

    def reset(self, stream_id: int) -> Outcome:
        self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        self.reset_by_us.add(stream_id)
        self._open.pop(stream_id, None)
        return self._outcome([], None)

    def _outcome(self, received: list[h2.events.Event], error: ErrorCode | None) -> Outcome:
        events: list[Event] = []
        for event in received:
            events += self._translate(event)
        result = Outcome(events, answers(self.connection.data_to_send()), {}, error)
        if error is None:
            for stream_id in self._open:
                if stream_id not in self.ended:
                    result.windows[stream_id] = self.connection.local_flow_control_window(stream_id)
        return result

    def _translate(self, event: h2.events.Event) -> list[Event]:
        if isinstance(event, h2.events.RequestReceived):
            assert event.headers is not None
            assert event.stream_id is not None
            self._open[event.stream_id] = None
            given = {name: value for name, value in event.headers if name.startswith(b":")}
            fields: list[Field] = [(b"host", given[b":authority"])]
            fields += [(name, value) for name, value in event.headers if not name.startswith(b":")]
            return [("request", event.stream_id, given[b":method"], given[b":path"], fields)]
        if isinstance(event, h2.events.DataReceived) and event.data:
            return [("data", event.stream_id, event.data)]
        if isinstance(event, h2.events.StreamEnded):
            return [("end", event.stream_id)]
        if isinstance(event, h2.events.StreamReset):
            assert event.stream_id is not None
            was_open = event.stream_id in self._open
            self._open.pop(event.stream_id, None)
            return [("reset", event.stream_id)] if event.remote_reset and was_open else []
        if isinstance(event, h2.events.PingAckReceived):
            return [("pong", event.ping_data)]
        return []


Run: TypeAlias = "Callable[[Ours | Theirs], Outcome]"


@dataclass(frozen=True)
class Step:
    what: str
    stream: int
    run: Run = field(repr=False)
    malformed: bool = False
    """Whether it can break rules of section 8 (a second head does), or of single frames that concern a stream only."""
    two_mistakes: bool = False


def receive(what: str, stream: int, received: bytes, *, malformed: bool = False, two_mistakes: bool = False) -> Step:
    return Step(f"{what} on {stream}", stream, lambda side: side.receive(received), malformed, two_mistakes)


def respond(stream: int, size: int, last: bool) -> Step:
    return Step(f"response of {size} on {stream}", stream, lambda side: side.respond(stream, size, last))


def reset_by_server(stream: int) -> Step:
    return Step(f"reset of {stream} by the server", stream, lambda side: side.reset(stream))


MALFORMED_FIELDS: list[list[Field]] = [
    [(b"X-Upper", b"1"), *request_fields()],
    request_fields(extra=[(b"X-Upper", b"1")]),
    request_fields(extra=[(b"connection", b"close")]),
    request_fields(extra=[(b"transfer-encoding", b"chunked")]),
    request_fields(extra=[(b"te", b"gzip")]),
    request_fields(extra=[(b"x-space", b" 1")]),
    request_fields(extra=[(b":path", b"/")]),
    request_fields(extra=[(b":status", b"200")]),
    request_fields(without=[b":path"]),
    request_fields(without=[b":method"]),
    request_fields(without=[b":scheme"]),
    request_fields(b""),
    [(b":unknown", b"1"), *request_fields()],
]
PADDED = frames.FLAG_PADDED
END = frames.FLAG_END_STREAM
WHOLE = END | frames.FLAG_END_HEADERS

stream_ids = st.sampled_from([1, 3, 5, 7])
any_ids = st.sampled_from([0, 1, 2, 3, 5, 7, 9])
ends = st.booleans()


def request(stream: int, end: bool, extra: list[Field]) -> Step:
    fields = request_fields(b"/" if end else b"/upload", b"GET" if end else b"POST", extra)
    return receive("request", stream, headers(stream, fields, end_stream=end), malformed=True)


def split_request(stream: int, cut: int, end: bool) -> Step:
    encoded = block(request_fields())
    received = frame(frames.HEADERS, END if end else 0, stream, encoded[:cut])
    received += frame(frames.CONTINUATION, frames.FLAG_END_HEADERS, stream, encoded[cut:])
    return receive("split request", stream, received, malformed=True)


def content(stream: int, size: int, end: bool) -> Step:
    return receive(f"{size} bytes", stream, data(stream, bytes(size), end_stream=end))


def padded(stream: int, size: int, padding: int, end: bool) -> Step:
    payload = bytes((padding,)) + bytes(size + padding)
    return receive("padded content", stream, frame(frames.DATA, PADDED | (END if end else 0), stream, payload))


def window_update(stream: int, increment: int) -> Step:
    received = frame(frames.WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))
    return receive(f"window of {increment}", stream, received, malformed=stream != 0 and not increment)


steps = st.one_of(
    st.builds(request, stream_ids, ends, st.sampled_from([[], [(b"x-a", b"1")], [(b"accept", b"*/*"), (b"x-b", b"")]])),
    st.builds(request, stream_ids, st.just(False), st.just([])),
    st.builds(split_request, stream_ids, st.integers(0, 40), ends),
    st.builds(
        lambda stream, fields, end: receive(
            "malformed request", stream, headers(stream, fields, end_stream=end), malformed=True
        ),
        stream_ids,
        st.sampled_from(MALFORMED_FIELDS),
        ends,
    ),
    st.builds(content, any_ids, st.sampled_from([0, 1, 1000, 16384]), ends),
    st.builds(content, stream_ids, st.sampled_from([0, 1, 1000, 16384]), ends),
    st.builds(padded, stream_ids, st.integers(0, 9), st.sampled_from([0, 1, 255]), ends),
    st.builds(
        lambda stream, end: receive(
            "trailers", stream, headers(stream, [(b"x-trailer", b"1")], end_stream=end), malformed=True
        ),
        stream_ids,
        ends,
    ),
    st.builds(lambda stream: receive("RST_STREAM", stream, frames.rst_stream_frame(stream, 8)), any_ids),
    st.builds(window_update, any_ids, st.sampled_from([0, 1, 1000, 2**31 - 65536, 2**31 - 1])),
    st.builds(
        lambda name, value: receive(f"setting {name} of {value}", 0, frames.settings_frame({name: value})),
        st.sampled_from([1, 2, 3, 4, 5, 0xFAFA]),
        st.sampled_from([0, 1, 10, 65535, 2**20, 2**31 - 1, 2**31]),
    ),
    st.builds(lambda ack: receive("PING", 0, frames.ping_frame(b"pingpong", ack=ack)), ends),
    st.builds(
        lambda stream: receive("PRIORITY", stream, frame(frames.PRIORITY, 0, stream, b"\x00\x00\x00\x0b\x01")), any_ids
    ),
    st.builds(lambda stream: receive("unknown frame", stream, frame(0xBA, 0xFF, stream, b"x")), any_ids),
    st.builds(
        lambda stream: receive("CONTINUATION", stream, frame(frames.CONTINUATION, 4, stream), two_mistakes=True),
        any_ids,
    ),
    st.builds(
        lambda kind, flags, stream, payload: receive(
            f"type {kind}, flags {flags}, {len(payload)} bytes",
            stream,
            frame(kind, flags, stream, payload),
            malformed=True,
            two_mistakes=True,
        ),
        st.integers(0, 9),
        st.sampled_from([0, 1, 4, 5, 8, 9, 0x20, 0x2D, 0xFF]),
        any_ids,
        st.binary(max_size=12),
    ),
    st.builds(respond, stream_ids, st.sampled_from([0, 1, 5000]), ends),
    st.builds(reset_by_server, stream_ids),
)


ONE_STREAM = "an error of a stream ends the stream and not the connection"
ONE_WINDOW = "the window of a stream is an affair of the stream"
LATE_WINDOW = "WINDOW_UPDATE of 0 on a closed stream is ignored like any other"
IDLE_RESET = "RST_STREAM on an idle stream breaks the protocol"
SKIPPED = "DATA on a stream that was skipped breaks the protocol"
RESERVED = "the reserved bit of an increment is ignored"
ENDED = "DATA behind the end of a stream breaks the protocol"
COMPRESSION = "a block that cannot be decoded has an error code of its own"
TWO_MISTAKES = "two mistakes in one frame, and another one is named"


def difference(step: Step, ours: Outcome, theirs: Outcome) -> str | None:
    """Why the two may part here."""
    match ours.error, theirs.error:
        case None, ErrorCode.PROTOCOL_ERROR | ErrorCode.FRAME_SIZE_ERROR if step.malformed:
            if ours.reset_codes in ([ErrorCode.PROTOCOL_ERROR], [ErrorCode.FRAME_SIZE_ERROR]):
                # Sections 8.1.1, 6.9 and 6.3 want no more, and the other streams are not to blame.
                return ONE_STREAM
            if step.what.startswith("window of 0") and not ours.answers:
                # Section 5.1: it was on its way.
                return LATE_WINDOW
            if step.what.startswith(f"type {frames.WINDOW_UPDATE}"):
                # Section 6.9.
                return RESERVED
        case None, ErrorCode.FLOW_CONTROL_ERROR if ours.reset_codes == [ErrorCode.FLOW_CONTROL_ERROR]:
            # Section 6.9.1 leaves the choice.
            return ONE_WINDOW
        case ErrorCode.PROTOCOL_ERROR, None if theirs == Outcome(windows=theirs.windows):
            # Section 6.4. The library takes streams that it does not know for closed ones.
            return IDLE_RESET
        case ErrorCode.PROTOCOL_ERROR, None if theirs.reset_codes == [ErrorCode.STREAM_CLOSED]:
            # Section 5.1.1: no honest client skips a stream and uses it later.
            return SKIPPED
        case ErrorCode.STREAM_CLOSED, None if theirs.reset_codes == [ErrorCode.STREAM_CLOSED]:
            # Section 5.1: a client that has sent END_STREAM knows that. The library decides by whether it still knows
            # the stream.
            return ENDED
        case ErrorCode.COMPRESSION_ERROR, ErrorCode.PROTOCOL_ERROR:
            # Section 4.3.
            return COMPRESSION
        case ErrorCode(), ErrorCode() if step.two_mistakes and ours.error != theirs.error:
            return TWO_MISTAKES
    return None


def run(sequence: list[Step]) -> str | None:
    """Drive both sides. The reason where they part, None where they never do."""
    ours, theirs = Ours(), Theirs()
    responded: set[int] = set()
    for position, step in enumerate(sequence):
        here = f"step {position}: {step.what}"
        if step.what.startswith(("response", "reset")):
            stream = ours.endpoint.streams.open.get(step.stream)
            if stream is None or step.stream in responded:
                continue
            if step.what.startswith("response"):
                window = min(stream.send_window, ours.endpoint.sender.window)
                if int(step.what.split()[2]) > window:
                    continue
                responded.add(step.stream)
        mine, other = step.run(ours), step.run(theirs)
        if reason := difference(step, mine, other):
            return reason
        assert mine.error == other.error, here
        if mine.error is not None or ours.endpoint.goaway_received:
            return None  # To the library, GOAWAY of either side is the end of the connection.
        # What the client sends on a stream whose response is complete is read by nobody, and not reported here.
        events = [event for event in other.events if event[0] not in ("data", "end") or event[1] not in theirs.ended]
        # Section 5.1: frames behind our RST_STREAM were on their way. The library resets their stream again.
        sent = [
            answer
            for answer in other.answers
            if answer[0] != frames.RST_STREAM or answer[1] not in theirs.reset_by_us or answer in mine.answers
        ]
        assert mine.events == events, here
        assert mine.answers == sent, here
        assert mine.windows == other.windows, here
        theirs.reset_by_us.update(
            stream for kind, stream, _ in mine.answers if kind == frames.RST_STREAM and isinstance(stream, int)
        )
    return None


@settings(max_examples=300)
@given(st.lists(steps, min_size=1, max_size=12))
def test_both_sides_agree(sequence: list[Step]) -> None:
    run(sequence)


@settings(max_examples=200)
@given(st.lists(steps, min_size=1, max_size=10))
def test_both_sides_agree_about_running_streams(sequence: list[Step]) -> None:
    """The same with streams that are open: most generated sequences break the protocol before they have any."""
    run([request(1, False, []), request(3, True, []), request(5, False, []), *sequence])


@pytest.mark.parametrize(
    ("sequence", "reason"),
    [
        *(([receive("malformed", 1, headers(1, fields), malformed=True)], ONE_STREAM) for fields in MALFORMED_FIELDS),
        ([request(1, False, []), window_update(1, 0)], ONE_STREAM),
        ([request(1, False, []), request(1, False, [])], ONE_STREAM),
        ([request(1, False, []), *[content(1, 16384, False)] * 4], ONE_WINDOW),
        ([request(1, True, []), respond(1, 1, True), window_update(1, 0)], LATE_WINDOW),
        ([request(1, False, []), receive("RST_STREAM", 3, frames.rst_stream_frame(3, 8))], IDLE_RESET),
        ([request(1, False, []), receive("RST_STREAM", 2, frames.rst_stream_frame(2, 8))], IDLE_RESET),
        (
            [
                request(1, False, []),
                receive("type 8", 1, frame(frames.WINDOW_UPDATE, 0, 1, b"\x80\x00\x00\x01"), malformed=True),
            ],
            RESERVED,
        ),
        ([request(5, False, []), content(3, 1, False)], SKIPPED),
        ([request(1, True, []), respond(1, 0, True), content(1, 1, False)], ENDED),
        ([receive("bad block", 1, frame(frames.HEADERS, WHOLE, 1, b"\x80"))], COMPRESSION),
        ([receive("RST_STREAM of no bytes", 0, frame(frames.RST_STREAM, 0, 0), two_mistakes=True)], TWO_MISTAKES),
        (
            [request(3, True, []), receive("CONTINUATION", 1, frame(frames.CONTINUATION, 4, 1), two_mistakes=True)],
            TWO_MISTAKES,
        ),
    ],
)
def test_the_differences_are_real(sequence: list[Step], reason: str) -> None:
    assert run(sequence) == reason
