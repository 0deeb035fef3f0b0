"""The door of a listener behind other proxies: each connection first says by the PROXY protocol who its client is.

Only networks that the listener trusts may come, and all of them must say it: a connection that could choose would let a
client of theirs choose its own address. The header is read before TLS, from the socket itself.

Invariant: at most `PENDING_MAX` connections have not said it yet, each for at most `HEADER_SECONDS`.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from meridian.wire.proxy_protocol import BODY_BYTES_MAX, Address, IncompleteError, MalformedError, read

HEADER_SECONDS = 3.0
"""A proxy sends it with its first packet, which may be lost twice."""

PENDING_MAX = 1024
"""About 50 KB each while a handshake is made."""

ACCEPTS_PER_TURN = 64
LOOK_AGAIN_SECONDS = 0.02  # after a part of a header, which nobody sends in parts
BACKLOG = 4096

Network = IPv4Network | IPv6Network
Factory = Callable[[Address | None], asyncio.Protocol]
"""Makes the protocol of a connection from this client; None: the connection's own address holds."""


class ProxyDoor:
    """See the module's head. As asyncio.Server, `close` ends the accepting and nothing else."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, trusted: Sequence[Network], factory: Factory,
        context: ssl.SSLContext | None, handshake_seconds: float, refused: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Accepts from a bound socket, which becomes ours. `refused` hears why a connection was closed."""
        self._loop = loop
        self._sock = sock
        self._trusted = tuple(trusted)
        self._factory = factory
        self._context = context
        self._handshake_seconds = handshake_seconds
        self._refused = refused
        self._pending: set[asyncio.Task[None]] = set()
        sock.setblocking(False)
        sock.listen(BACKLOG)
        loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        """Accepts nothing more; those who are at the door come in."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, address = self._sock.accept()
            except OSError:  # nobody is there, or no descriptor for them: the loop looks again
                return
            if not self._trusts(address[0]):
                self._refused("not_trusted")
                connection.close()
            elif len(self._pending) >= PENDING_MAX:
                self._refused("pending")
                connection.close()
            else:
                task = self._loop.create_task(self._admit(connection))
                self._pending.add(task)
                task.add_done_callback(self._pending.discard)

    def _trusts(self, host: str) -> bool:
        address = ip_address(host.partition("%")[0])
        return any(address in network for network in self._trusted)

    async def _admit(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.timeout(HEADER_SECONDS):
                source = await self._read_header(connection)
        except (OSError, MalformedError) as error:  # TimeoutError is one
            self._refused("malformed" if isinstance(error, MalformedError) else "silent")
            connection.close()
            return
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._factory(source), connection, ssl=self._context,
                ssl_handshake_timeout=self._handshake_seconds if self._context else None,
            )  # fmt: skip
        except OSError:  # the handshake has failed, or the client is gone
            connection.close()

    async def _read_header(self, connection: socket.socket) -> Address | None:
        """Takes the header off the connection, and not a byte more. Raises MalformedError and OSError."""
        while True:
            await self._readable(connection)
            seen = connection.recv(BODY_BYTES_MAX + 16, socket.MSG_PEEK)
            if not seen:
                raise ConnectionResetError("closed before the header was whole")
            try:
                header = read(seen)
            except IncompleteError:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                continue
            connection.recv(header.size)
            return header.source

    async def _readable(self, connection: socket.socket) -> None:
        ready = asyncio.Event()
        self._loop.add_reader(connection.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(connection.fileno())
