"""UDP that passes through: the datagrams of one client address go to one endpoint, and its answers back.

A **flow** is one client address and port. It keeps its endpoint until it has been silent for the route's idle time, or
the endpoint's kernel says that nobody listens there; its next datagram then finds another one.

A worker that retires keeps its flows; the one that reads the socket then hands their clients' datagrams on to it.

Invariants: flows are at most `FLOWS_MAX`, datagrams that wait for a flow's socket at most `WAITING_MAX`; beyond that
they are dropped and counted, as a network would.
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from meridian.core.balancing import Ask, choose
from meridian.core.l4 import NOTHING, L4Route
from meridian.gateway import affinity
from meridian.gateway.handing import Client, Neighbours, Place, where_of
from meridian.gateway.state import LiveUpstream
from meridian.gateway.worker import Worker

FLOWS_MAX = 4096
"""Of one listener: each has a socket of its own, and a worker has some 20,000 files for all that it does."""

WAITING_MAX = 16
DATAGRAM_BYTES_MAX = 65_535
DATAGRAMS_PER_TURN = 64


class L4Datagrams:
    """The UDP side of one listener; see gateway.DatagramListener."""

    def __init__(
        self, worker: Worker, listener: str, sockets: Sequence[socket.socket], neighbours: Neighbours,
        elsewhere: Mapping[Client, Place] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """`sockets` are bound and become ours: `close` closes them. `elsewhere`: clients whose flows others have."""
        self._worker = worker
        self._listener = listener
        self._sockets = list(sockets)
        self._flows: dict[tuple[int, Client], Flow] = {}
        self._neighbours = neighbours
        self._elsewhere = dict(elsewhere)
        self._where = [where_of(sock) for sock in sockets]
        self._dropped = worker.metrics.counter(
            "meridian_l4_datagrams_dropped_total", "Datagrams that found no room or no endpoint.", listener=listener
        )

    def start(self) -> None:
        """Begins to read."""
        for number, sock in enumerate(self._sockets):
            sock.setblocking(False)
            self._worker.loop.add_reader(sock.fileno(), self._receive, sock, number)
            self._neighbours.join(self._where[number], partial(self._take, number))

    @property
    def connections(self) -> int:
        """Flows."""
        return len(self._flows)

    def clients(self) -> dict[str, list[Client]]:
        """Whose flows are here, by socket."""
        found: dict[str, list[Client]] = {where: [] for where in self._where}
        for number, client in self._flows:
            found[self._where[number]].append(client)
        return found

    def retire(self) -> None:
        """Another worker reads the sockets, and hands on what is of flows here."""
        for sock in self._sockets:
            self._worker.loop.remove_reader(sock.fileno())

    def drain(self) -> None:
        """Nothing: a UDP client cannot be told."""

    async def close(self, grace_seconds: float) -> None:
        """Reads no more; flows end at once, for what is on its way may be lost at any time."""
        for sock in self._sockets:
            if sock.fileno() >= 0:
                self._worker.loop.remove_reader(sock.fileno())
        for flow in tuple(self._flows.values()):
            flow.end()
        for sock, where in zip(self._sockets, self._where, strict=True):
            self._neighbours.leave(where)
            sock.close()

    def drop(self) -> None:
        """Counts a datagram that goes nowhere."""
        self._dropped.value += 1

    def forget(self, key: tuple[int, Client]) -> None:
        """A flow is over."""
        self._flows.pop(key, None)

    def answer(self, key: tuple[int, Client], data: bytes) -> None:
        """From the socket that was spoken to."""
        try:
            self._sockets[key[0]].sendto(data, key[1])
        except OSError:  # a full buffer, or a client that is gone
            self.drop()

    def _receive(self, sock: socket.socket, number: int) -> None:
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data, client = sock.recvfrom(DATAGRAM_BYTES_MAX)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an earlier answer did not arrive
            if self._elsewhere and (place := self._elsewhere.get(client)) is not None:
                if self._neighbours.knows(place):
                    self._neighbours.hand_on(place, self._where[number], data, client)
                    continue
                del self._elsewhere[client]
            self._take(number, data, client)

    def _take(self, number: int, data: bytes, client: Client) -> None:
        key = (number, client)
        flow = self._flows.get(key) or self._begin(key)
        if flow is None:
            self.drop()
        else:
            flow.send(data)

    def _begin(self, key: tuple[int, Client]) -> "Flow | None":
        installed = self._worker.installed
        route = installed.snapshot.l4.get(self._listener, NOTHING).fallback
        if route is None or len(self._flows) >= FLOWS_MAX:
            return None
        live = installed.health.upstream(route.upstream)
        keyed = affinity.key_of("client_ip", key[1][0], b"", []) if live.upstream.table is not None else None
        endpoint = choose(live.upstream, live.state, self._worker.draw, (), Ask(keyed, self._worker.clock()))
        if endpoint is None:
            return None
        flow = self._flows[key] = Flow(self, self._worker, key, route, live, endpoint.index)
        return flow


class Flow(asyncio.DatagramProtocol):
    """One client and its endpoint, a worker.Sweepable; the protocol of a socket that is connected to the endpoint."""

    __slots__ = (
        "_ended",
        "_index",
        "_key",
        "_live",
        "_opening",
        "_owner",
        "_route",
        "_transport",
        "_waiting",
        "_worker",
        "deadline",
        "installed",
        "started",
    )

    def __init__(
        self,
        owner: L4Datagrams,
        worker: Worker,
        key: tuple[int, Client],
        route: L4Route,
        live: LiveUpstream,
        index: int,
    ) -> None:
        """Begins to open its socket: an endpoint's name may have to be looked up."""
        self._owner = owner
        self._worker = worker
        self._key = key
        self._route = route
        self._live = live
        self._index = index
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: list[bytes] = []
        self._ended = False
        self.installed = worker.installed
        self.started = worker.coarse_now
        self.deadline = worker.coarse_now + route.idle_seconds
        live.tries.value += 1
        live.load.requests += 1
        live.health.chosen(live, index)
        worker.exchanges.add(self)
        self._opening = worker.loop.create_task(self._open())

    def go_away(self, by: str) -> None:
        """See Sweepable: it ends when its peers end it, or is cut."""

    @property
    def route_name(self) -> str:
        """See Sweepable."""
        return self._route.name

    def send(self, data: bytes) -> None:
        """A datagram of the client."""
        self.deadline = self._worker.coarse_now + self._route.idle_seconds
        if self._transport is not None:
            self._transport.sendto(data)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append(data)
        else:
            self._owner.drop()

    def datagram_received(self, data: bytes, addr: object) -> None:
        """An answer."""
        self.deadline = self._worker.coarse_now + self._route.idle_seconds
        self._live.health.answered(self._live, self._index, 200, self._worker.coarse_now)
        self._owner.answer(self._key, data)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there."""
        self.end(succeeded=False)

    def expire(self, now: float) -> None:
        """Silent for too long."""
        self.end()

    def cut(self) -> None:
        """The worker leaves."""
        self.end()

    def end(self, *, succeeded: bool | None = None) -> None:
        """Once, whatever comes first."""
        if self._ended:
            return
        self._ended = True
        self.deadline = float("inf")
        if self._opening is not asyncio.current_task(self._worker.loop):
            self._opening.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._live.health.over(self._live, self._index, succeeded, self._worker.coarse_now)
        self._worker.exchanges.discard(self)
        self._owner.forget(self._key)

    async def _open(self) -> None:
        endpoint = self._live.upstream.endpoints[self._index]
        try:
            async with asyncio.timeout(self._live.upstream.connect_timeout_seconds):
                transport, _ = await self._worker.loop.create_datagram_endpoint(
                    lambda: self, remote_addr=(endpoint.host, endpoint.port)
                )
        except (OSError, UnicodeError):
            self.end(succeeded=False)
            return
        self._transport = transport
        for data in self._waiting:
            self._transport.sendto(data)
        self._waiting.clear()
