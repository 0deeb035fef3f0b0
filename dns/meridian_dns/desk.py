"""The desk of a transport that has connections: who has a place at it, and what answers those who have.

Invariant: a server has at most `CONNECTIONS_MAX` of them, and one client network has at most a quarter of the places,
so that none keeps all others out.
"""

from collections import Counter
from collections.abc import Callable, Generator
from typing import Protocol

CONNECTIONS_MAX = 512  # about 128 KiB each at worst: 64 MiB
NETWORK_SHARE = 4  # a network has this part of the places (RFC 7766 section 6.2.2); a resolver needs a few
IDLE_SECONDS = 10.0  # RFC 7766 section 6.2.3: "a few seconds"

Stream = Generator[bytes, None, None]
Answerer = Callable[[bytes, str], bytes | Stream | None]


class Connection(Protocol):
    """Who has a place."""

    def close(self) -> None:
        """Ends it; answers that were written are still sent."""


class Desk:
    """All connections of one transport."""

    def __init__(self, answerer: Answerer, *, idle_seconds: float, connections_max: int = CONNECTIONS_MAX) -> None:
        """`answerer(query, source)` gives the response, many of them, or None to close the connection.

        Many are a generator that is advanced while the client takes them, and closed if it leaves before."""
        self.answerer = answerer
        self.idle_seconds = idle_seconds
        self.connections_max = connections_max
        self.connections: set[Connection] = set()
        self._by_network: Counter[bytes] = Counter()
        self.refused = 0

    def admit(self, connection: Connection, network: bytes) -> bool:
        """Gives a connection a place, if there is one for its network."""
        network_max = max(1, self.connections_max // NETWORK_SHARE)
        if len(self.connections) >= self.connections_max or self._by_network[network] >= network_max:
            self.refused += 1
            return False
        self.connections.add(connection)
        self._by_network[network] += 1
        return True

    def leave(self, connection: Connection, network: bytes) -> None:
        """Frees the place of a connection, if it had one."""
        if connection in self.connections:
            self.connections.remove(connection)
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]

    def close(self) -> None:
        """Closes all connections; answers that were written are still sent."""
        for connection in tuple(self.connections):
            connection.close()
