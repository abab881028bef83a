"""What an HTTP/2 endpoint tells the connection around it."""

from typing import Protocol

from ..errors import RemoteProtocolError
from .http2_request import RequestHead
from .http2_streams import StreamT


class Http2Events(Protocol[StreamT]):
    """Called while received bytes are looked through, in the order in which things happen.

    Calls and no event objects: a request would cost one more object and one more look at its type.
    """

    def on_request(self, stream_id: int, head: RequestHead, ended: bool) -> StreamT:
        """A request; `ended` says that it has no content. Returns the stream that is to stand in the table.

        Raises RemoteProtocolError as if it came from the head itself.
        """

    def on_refused_request(self, stream_id: int, error: RemoteProtocolError, line: bytes) -> None:
        """A request that is to be answered with the status of `error`, as far as it can be. Its stream is not open.

        `line` is its method and target as they have come, empty where its fields could not be kept.
        """

    def on_content(self, stream: StreamT, content: bytes, ended: bool) -> None:
        """Content of a request, possibly nothing but its end. Trailers are an end."""

    def on_refused_trailers(self, stream: StreamT, error: RemoteProtocolError) -> bool:
        """The end of a request is over a limit: answer with the status of `error`. False where an answer has begun."""

    def on_stream_reset(self, stream: StreamT) -> None:
        """A stream is gone, by RST_STREAM of whatever side; nothing more can be sent on it."""

    def on_stream_error(self, reason: str) -> None:
        """The client has broken the protocol on one stream; `reason` is a code of ours for the log."""

    def on_offence(self, reason: str) -> None:
        """The client has gone too far, and a GOAWAY asks it to open no further streams: refuse them a moment later,
        finish what runs, and end."""

    def on_ping_ack(self, payload: bytes) -> None:
        """The answer to a PING of ours."""
