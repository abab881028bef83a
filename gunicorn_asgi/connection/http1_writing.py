"""The sending side of an HTTP/1 connection: heads, content, chunks and trailers of the running exchange as bytes."""

from abc import abstractmethod
from typing import Final

from ..asgi_types import Field, ResponseFields
from ..wire.http1_response import LAST_CHUNK, UNKNOWN_LENGTH, encode_chunk, encode_interim, encode_last_chunk
from .context import ServingContext
from .http import HttpConnection

# Content from this size on is handed to the transport as it is instead of being copied behind its head.
_COPY_BELOW_BYTES: Final = 16 * 1024


class ResponseWriter(HttpConnection):
    """The part of a `ResponseStream` that writes. Whether the connection lives on is decided here and told to whoever
    reads."""

    __slots__ = ("_chunked", "_continue_wanted", "_head", "_http_version", "_keep_alive")

    def __init__(self, context: ServingContext) -> None:
        super().__init__(context)
        self._http_version = "1.1"
        """Of the running request."""
        self._keep_alive = True
        """Whether the connection may be used again behind the running response."""
        self._continue_wanted = False
        """Whether the client waits for a 100 before it sends its body."""
        self._head = b""
        self._chunked = False

    @abstractmethod
    def _end_response(self) -> None:
        """Called behind the last byte of a response."""

    def send_interim(self, status: int, fields: list[Field]) -> None:
        """See `ResponseStream.send_interim`."""
        # RFC 9110 section 15.2: never to a client of HTTP/1.0.
        if self._http_version == "1.1":
            self._transport.write(encode_interim(status, fields))

    def start(self, status: int, fields: ResponseFields, bodiless: bool, trailers: bool) -> int:
        """See `ResponseStream.start`."""
        context = self._context
        head, length, close = context.encoder.encode(status, fields)
        self._chunked = False
        if close:
            self._keep_alive = False
        if length == UNKNOWN_LENGTH and not bodiless:
            if self._http_version == "1.1":
                self._chunked = True
            else:
                self._keep_alive = False
        elif trailers and self._http_version == "1.1":
            # Only chunked content can have trailers, and it must not have a Content-Length (RFC 9112 section 6.2).
            without_length = [field for field in map(tuple, fields) if field[0].lower() != b"content-length"]
            head, _, _ = context.encoder.encode(status, without_length)
            self._chunked = True
        self._head = head
        return length

    def write_first(self, body: bytes, last: bool) -> None:
        """See `ResponseStream.write_first`."""
        head = self._head
        # Where a 100 was never sent, the client may now send its body or not (RFC 9110 section 10.1.1).
        if self._continue_wanted:
            self._keep_alive = False
        if not self._keep_alive:
            head += b"connection: close\r\n"
        elif self._http_version == "1.0":
            head += b"connection: keep-alive\r\n"
        if self._chunked:
            head += b"transfer-encoding: chunked\r\n\r\n"
            if body:
                head += encode_chunk(body)
            self._transport.write(head + LAST_CHUNK if last else head)
        elif len(body) < _COPY_BELOW_BYTES:
            self._transport.write(head + b"\r\n" + body)
        else:
            self._write_large(head + b"\r\n", body)
        if last:
            self._end_response()

    def write(self, body: bytes, last: bool) -> None:
        """See `ResponseStream.write`."""
        if self._chunked:
            if body:
                if len(body) < _COPY_BELOW_BYTES:
                    body = encode_chunk(body)
                    self._transport.write(body + LAST_CHUNK if last else body)
                else:
                    self._write_large(b"%x\r\n" % len(body), body, b"\r\n" + LAST_CHUNK if last else b"\r\n")
            elif last:
                self._transport.write(LAST_CHUNK)
        elif body:
            self._transport.write(body)
        if last:
            self._end_response()
        elif self._transport.is_closing():
            self._await_loss()

    def write_trailers(self, fields: list[Field]) -> None:
        """See `ResponseStream.write_trailers`."""
        if fields and self._chunked:
            self._transport.write(encode_last_chunk(fields))
            self._end_response()
        else:
            self.write(b"", True)

    def close_when_sent(self) -> None:
        """See `ResponseStream.close_when_sent`."""
        self._keep_alive = False
