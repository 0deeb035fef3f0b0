"""The door of DNS over TLS (RFC 7858): a client comes to its desk when its handshake is done, and not before.

Invariant: at most `HANDSHAKES_MAX` handshakes are under way, each for at most `HANDSHAKE_SECONDS`; a client beyond that
is closed at once. Those who only open connections thus take no place from those who ask.
"""

import asyncio
import logging
import socket
import ssl

from meridian_dns.desk import Desk
from meridian_dns.tcp import TcpConnection

HANDSHAKES_MAX = 128  # about 100 KB each, and 2 ms of processor time: a quarter of a second's work
HANDSHAKE_SECONDS = 5.0  # three round trips on the slowest usual path
BACKLOG = 1024  # connections that wait to be accepted; the kernel cuts it to net.core.somaxconn
ACCEPT_AGAIN_SECONDS = 0.1  # after the kernel had no descriptor or memory for us

log = logging.getLogger("meridian_dns")


class TlsDoor:
    """One desk's door: lets clients in whose handshake under `context` succeeds. Belongs to a running `tasks`."""

    def __init__(self, desk: Desk, context: ssl.SSLContext, tasks: asyncio.TaskGroup) -> None:
        self.handshakes = 0
        self._desk, self._context, self._tasks = desk, context, tasks

    async def stand(self, listener: socket.socket) -> None:
        """Takes clients from a bound socket until cancelled. The socket stays the caller's."""
        loop = asyncio.get_running_loop()
        listener.listen(BACKLOG)
        listener.setblocking(False)
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("a connection cannot be accepted: %s", error)
                await asyncio.sleep(ACCEPT_AGAIN_SECONDS)
                continue
            if self.handshakes >= HANDSHAKES_MAX:
                self._desk.refused += 1
                client.close()
                continue
            self.handshakes += 1
            self._tasks.create_task(self._shake(client))

    async def _shake(self, client: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: TcpConnection(self._desk), client, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except Exception:  # whatever a client does to its handshake ends its connection, and nothing else
            client.close()
        finally:
            self.handshakes -= 1
