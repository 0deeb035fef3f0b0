"""Datagrams that reached another worker of this node than the one that holds their connection (QUIC) or flow (UDP).

The kernel steers by the first byte of connection ids where it can (nodes/reuseport). What it cannot know is which
generation a connection is of: after an upgrade the new worker of a slot reads its socket, and hands on what belongs to
the one before, until that has finished. Where the kernel cannot steer, workers hand on whatever is another's.

Invariants: a datagram is handed on once, never back; and nobody waits: what an inbox does not take is lost, as anywhere
on the way, and QUIC repeats it.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping

Client = tuple[str, int]  # longer for IPv6
Take = Callable[[bytes, Client], None]
Place = tuple[int, int]  # slot and generation

PACKET_BYTES_MAX = 66_000  # the largest datagram of UDP and its head
PACKETS_PER_WAKEUP = 64


class Neighbours:
    """The other workers of this node, as one of them sees them."""

    def __init__(self, slot: int, generation: int) -> None:
        """Knows nobody until `meet`."""
        self.place = (slot, generation)
        self.handed_on = self.lost = 0
        self._inbox: socket.socket | None = None
        self._others: Mapping[Place, socket.socket] = {}
        self._takers: dict[str, Take] = {}

    def meet(
        self, inbox: socket.socket, others: Mapping[Place, socket.socket], loop: asyncio.AbstractEventLoop
    ) -> None:
        """The whole of those that are there now; the sockets are ours."""
        before, self._others = self._others, others
        for sock in before.values():
            sock.close()
        for sock in others.values():
            sock.setblocking(False)
        if self._inbox is not None:
            inbox.close()  # it is the one that is read already
            return
        inbox.setblocking(False)
        self._inbox = inbox
        loop.add_reader(inbox.fileno(), self._read, inbox, loop)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reads and hands on nothing more."""
        if self._inbox is not None:
            loop.remove_reader(self._inbox.fileno())
            self._inbox.close()
            self._inbox = None
        others, self._others = self._others, {}
        for sock in others.values():
            sock.close()

    def knows(self, place: Place) -> bool:
        """Whether such a worker runs beside this one."""
        return place in self._others

    def join(self, where: str, take: Take) -> None:
        """`take` gets what others hand on of the socket bound to `where`, which is named alike in all workers."""
        self._takers[where] = take

    def leave(self, where: str) -> None:
        """Nothing more is taken there."""
        self._takers.pop(where, None)

    def hand_on(self, place: Place, where: str, data: bytes, client: Client) -> None:
        """Gives a datagram to the worker that it belongs to."""
        head = " ".join((where, *map(str, client)))
        try:
            self._others[place].send(head.encode() + b"\n" + data)
            self.handed_on += 1
        except OSError:
            self.lost += 1

    def _read(self, inbox: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(PACKETS_PER_WAKEUP):
            try:
                packet = inbox.recv(PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            if not packet:  # the launcher is gone
                self.close(loop)
                return
            head, _, data = packet.partition(b"\n")
            host, port, client, *numbers = head.decode().split(" ")
            take = self._takers.get(f"{host} {port}")
            if take is not None:
                take(data, (client, *map(int, numbers)))  # type: ignore[arg-type] # of IPv6 two numbers more


def where_of(sock: socket.socket) -> str:
    """How a bound socket is named: address and port."""
    host, port, *_ = sock.getsockname()
    return f"{host} {port}"
