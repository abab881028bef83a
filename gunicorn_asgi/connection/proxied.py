"""Connections that begin with a preamble of the PROXY protocol.

It is read from the accepted socket before there is a transport, and no further than it goes: what follows, cleartext or
TLS, is then served like any other connection. A connection that does not begin so is closed without an answer, since
the two sides do not agree on what is spoken.
"""

import asyncio
import socket
from typing import Any

from ..errors import RemoteProtocolError
from ..proxy import AllowedPeers
from ..wire.proxy_protocol import PreambleReader, Version
from .context import ServingContext
from .transport import asgi_address


class ProxyPreambles:
    """Reads the preambles of a worker's connections. Whom they name is then found in `ServingContext.relayed`."""

    def __init__(self, context: ServingContext, version: Version) -> None:
        self._context = context
        self._version: Version = version
        self._allowed = AllowedPeers("proxy_allow_ips", context.settings.proxy_allow_ips)

    async def read(self, sock: socket.socket, address: Any) -> bool:
        """Read the preamble of `sock`, which came from `address`. False if it was refused, and why is in the log.

        Raises OSError where the connection breaks.
        """
        context = self._context
        peer = asgi_address(address)
        try:
            # One on a unix socket has no address and is trusted, as in Gunicorn.
            if peer is not None and peer[1] is not None and not self._allowed.allows(peer[0]):
                raise RemoteProtocolError(403, "proxy-protocol-not-allowed")
            await asyncio.wait_for(self._read(sock), context.settings.header_timeout_seconds)
        except asyncio.TimeoutError:
            error = RemoteProtocolError(408, "proxy-preamble-timeout")
        except RemoteProtocolError as refusal:
            error = refusal
        else:
            return True
        context.log_refusal(peer[0] if peer is not None else "unix socket", error.status, error.reason)
        return False

    async def _read(self, sock: socket.socket) -> None:
        loop = self._context.loop
        reader = PreambleReader(self._version)
        relayed = None
        while relayed is None:
            data = await loop.sock_recv(sock, reader.needed)
            if not data:
                raise ConnectionResetError("closed before the end of the PROXY preamble")
            relayed = reader.feed(data)
        if relayed.is_local:
            # A number of an earlier connection, which comes again.
            self._context.relayed.pop(sock.fileno(), None)
        else:
            self._context.relayed[sock.fileno()] = relayed.client
