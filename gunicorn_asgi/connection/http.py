"""What the connections of every HTTP version share: the scheme, whom a request comes from, refusals in the log, and an
end that takes no answer away from the client."""

import asyncio
import ssl
from typing import Any, Final

from ..access_line import AccessRecord
from ..asgi_types import Address, Field
from ..errors import RemoteProtocolError
from ..proxy import UNSEEN, FieldShape
from ..scope import build_refused_scope
from ..tls import tls_extension
from ..wire.http1_response import plain_answer
from .clock import NEVER
from .context import ServingContext
from .transport import TransportProtocol

EXTENSIONS: Final[dict[str, dict[str, Any]]] = {"http.response.early_hint": {}}
"""Those that need nothing of the connection or the request."""


class HttpConnection(TransportProtocol):
    """A connection that carries requests, of whatever version.

    Where a request comes from is found out so, inline since nearly every request goes through here:

        client, scheme, root_path = self._client, self._scheme, context.root_path
        if (shape := self._shapes.get(tuple(fields), UNSEEN)) is not None:
            client, scheme, root_path = self._forwarded(headers, fields, shape)
    """

    __slots__ = (
        "_discarded_bytes",
        "_extensions",
        "_forwarding_names",
        "_scheme",
        "_shapes",
        "_trusted",
        "_untaken_at_end",
        "deadline",
    )

    deadline: float
    """See `WatchedConnection.deadline`; set as soon as the connection is made."""

    def __init__(self, context: ServingContext) -> None:
        super().__init__(context)
        self._extensions = EXTENSIONS
        """The extensions of ASGI that every request of this connection may use; each scope gets a copy."""
        self._scheme = "http"
        self._discarded_bytes = 0
        """Of what comes and is not wanted."""
        self._untaken_at_end = 0
        """What the client has not taken, when the clock of the end was last set."""
        self._trusted = False
        """Whether what the peer says of a client is believed."""
        self._forwarding_names = frozenset[bytes]()
        """Names of fields for which `_forwarded` is needed, beside all with an underscore."""
        self._shapes = context.proxies.untrusted_shapes
        """What the names of all fields of a request mean, from this peer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        tls_context = transport.get_extra_info("sslcontext")
        if tls_context is not None:
            self._scheme = "https"
            tls = transport.get_extra_info("ssl_object")
            if isinstance(tls, ssl.SSLObject):
                self._extensions = {**self._extensions, "tls": tls_extension(tls_context, tls)}
        proxies = self._context.proxies
        if self._context.settings.proxy_headers and self.peer_is_trusted:
            self._trusted = True
            self._forwarding_names = proxies.header_names
            self._shapes = proxies.trusted_shapes

    def _forwarded(
        self, headers: list[Field], fields: dict[bytes, bytes], shape: FieldShape = UNSEEN
    ) -> tuple[Address | None, str, str]:
        """Client, scheme and root path of a request with fields that a proxy may have set.

        `headers` and `fields` lose what must not reach the application. Raises RemoteProtocolError(400) for fields that
        contradict each other or are refused.
        """
        context, client, scheme = self._context, self._client, self._scheme
        root_path, proxies = context.root_path, context.proxies
        if shape is UNSEEN:
            known = self._shapes.get(tuple(fields), UNSEEN)
            if known is UNSEEN:
                known = proxies.new_shape(fields, self._trusted)
            if known is None:
                return client, scheme, root_path
            shape = known
        if shape.names:
            client, scheme = proxies.resolve(shape, fields, client, scheme)
        if shape.has_underscore:
            proxies.map_names(headers, fields, self._trusted)
            if self._trusted:
                root_path = proxies.root_path(headers, fields)
        return client, scheme, root_path

    def root_path(self, fields: dict[bytes, bytes]) -> str:
        """See `ResponseStream.root_path`: what `_forwarded` has said of a request, which has left `fields`."""
        return self._context.proxies.root_path([], fields) if self._trusted else self._context.root_path

    def _log_refusal(self, error: RemoteProtocolError) -> None:
        """Tell the error log of a request that is not served."""
        self._context.log_refusal(self.peer, error.status, error.reason)

    def _log_refused_request(self, status: int, head: bytes, http_version: str = "1.1") -> None:
        """Tell the access log of a request that was answered with `status` before it became an exchange.

        `head` is what has come of it.
        """
        access_log = self._context.access_log
        if access_log is not None:
            fields, content = plain_answer(status)
            scope, uri = build_refused_scope(head, http_version, self._client, self._server, self._scheme)
            access_log.write(AccessRecord(scope, {}, scope["method"], uri, status, fields, len(content)), 0.0)

    # The end

    def _shut(self) -> None:
        """Shut the sending side and read on for a moment: a reset for bytes that cross the end would take away from the
        client what it has not read yet (RFC 9112 section 9.6)."""
        self._discarded_bytes = 0
        if self._half_closed or not self._transport.can_write_eof():
            self._close_transport()
            return
        self._set_end_deadline()
        self._transport.write_eof()
        self._resume_reading()
        self._watch_unsent()

    def _discard(self, data: bytes, promised_bytes: int = 0) -> None:
        """What comes behind `_shut`. The client may send `promised_bytes` in any case, having been told so before."""
        self._discarded_bytes += len(data)
        if self._discarded_bytes > self._context.settings.linger_bytes + promised_bytes:
            self._transport.abort()

    def _close_transport(self) -> None:
        # TLS closes with a message of its own, for whose answer an idle client may let the worker wait.
        self.deadline = NEVER
        if self._scheme == "https":
            self._set_end_deadline()
        self._watch_unsent()
        self._transport.close()

    def _on_shut_deadline(self) -> None:
        """The client has not closed its side in time, or not answered the end of TLS."""
        if 0 < self._untaken_bytes() < self._untaken_at_end:
            self._set_end_deadline()  # It is still busy with what it was sent.
        elif not self._transport.is_closing():
            self._close_transport()
        elif self._transport.get_write_buffer_size() == 0:
            self._transport.abort()
        else:
            self._set_end_deadline()

    def _set_end_deadline(self) -> None:
        self._untaken_at_end = self._untaken_bytes()
        self.deadline = self._context.clock.deadline(self._context.settings.linger_seconds)
