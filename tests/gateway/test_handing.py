"""Several workers on one UDP port: clients that move, and connections that outlive the worker which reads the port."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from tests.gateway.echoing import certificate
from tests.gateway.test_quic import Client, Exchanges, ask, client
from tests.support import wait_until

from meridian.gateway.handing import Neighbours, Place
from meridian.gateway.quic import QuicListener
from meridian.gateway.tls import TlsContexts
from meridian.nodes.reuseport import steer_by_slot

BODY_BYTES = 1 << 20
MOVES = 6  # with four workers the kernel's hash leads all of them to the right one once in 4,096 times


@dataclass
class Workers:
    """Listeners on one port, each with its neighbours."""

    sockets: list[socket.socket]
    contexts: TlsContexts
    exchanges: Exchanges
    listeners: dict[Place, QuicListener]
    neighbours: dict[Place, Neighbours]
    inboxes: dict[Place, tuple[socket.socket, socket.socket]]

    @property
    def port(self) -> int:
        port: int = self.sockets[0].getsockname()[1]
        return port

    @property
    def handed_on(self) -> int:
        return sum(one.handed_on for one in self.neighbours.values())

    def add(self, slot: int, generation: int = 0) -> QuicListener:
        """A worker on the socket of its slot."""
        place = (slot, generation)
        self.neighbours[place] = Neighbours(slot, generation)
        self.inboxes[place] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in self.inboxes[place]:
            sock.setblocking(False)  # else `dup` would make what it duplicates block again
        listener = self.listeners[place] = QuicListener(
            name="secure", sockets=[self.sockets[slot].dup()], certificates=self.contexts, key=b"k" * 32,
            begin=self.exchanges.begin, neighbours=self.neighbours[place], loop=asyncio.get_running_loop(),
        )  # fmt: skip
        return listener

    def introduce(self) -> None:
        """Everybody learns of everybody."""
        loop = asyncio.get_running_loop()
        for place, neighbours in self.neighbours.items():
            others = {other: out.dup() for other, (_, out) in self.inboxes.items() if other != place}
            neighbours.meet(self.inboxes[place][0].dup(), others, loop)


@contextlib.asynccontextmanager
async def workers(count: int, *, steered: bool) -> AsyncIterator[Workers]:
    sockets: list[socket.socket] = []
    for _ in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", sockets[0].getsockname()[1] if sockets else 0))
        sock.setblocking(False)
        sockets.append(sock)
    if steered:
        steer_by_slot(sockets[0], count)
    found = Workers(sockets, TlsContexts([certificate("localhost", "127.0.0.1")]), Exchanges(), {}, {}, {})
    try:
        for slot in range(count):
            found.add(slot).start()
        yield found
    finally:
        for listener in found.listeners.values():
            await listener.close(0)
        for neighbours in found.neighbours.values():
            neighbours.close(asyncio.get_running_loop())
        for sock in (*sockets, *(sock for pair in found.inboxes.values() for sock in pair)):
            sock.close()


class Road(asyncio.DatagramProtocol):
    """A port of a client; what comes is the client's as long as it is the present one."""

    def __init__(self, protocol: Client) -> None:
        self.protocol = protocol

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.protocol.datagram_received(data, addr)


async def move(protocol: Client) -> None:
    """The client has another port from now on, and does not know it (NAT rebinding). The server learns of it when
    something comes from there."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Road(protocol), local_addr=("::", 0))
    before, protocol._transport = protocol._transport, transport
    assert before is not None
    before.close()
    protocol._quic.send_ping(0)
    protocol.transmit()


@contextlib.asynccontextmanager
async def moving(port: int) -> AsyncIterator[Client]:
    """A client that may `move`."""
    async with client(port) as protocol:
        try:
            yield protocol
        finally:
            assert protocol._transport is not None
            protocol.close()
            protocol._transport.close()


async def download_while_moving(protocol: Client, moves: int = MOVES) -> None:
    stream_id = protocol.send(f"/bytes/{BODY_BYTES}")
    for turn in range(moves):
        reached = BODY_BYTES * (turn + 1) // (moves + 2)
        await wait_until(
            lambda reached=reached: len(protocol.body(stream_id)) >= reached, within_seconds=20, what="a part",  # type: ignore[misc]  # mypy cannot infer a lambda's default
            every_seconds=0.002,
        )  # fmt: skip
        if turn % 2:
            protocol.change_connection_id()  # one that knows that it moves (RFC 9000 section 9.5)
        await move(protocol)
    assert len(await protocol.answer(stream_id)) == BODY_BYTES


@pytest.mark.parametrize("count", [2, 4])
async def test_a_client_that_moves_is_steered_to_its_worker_by_the_kernel(count: int) -> None:
    async with workers(count, steered=True) as found, moving(found.port) as protocol:
        found.introduce()
        await download_while_moving(protocol)
        assert found.handed_on == 0


async def test_where_the_kernel_does_not_steer_workers_hand_on() -> None:
    async with workers(4, steered=False) as found, moving(found.port) as protocol:
        found.introduce()
        await download_while_moving(protocol)
        assert found.handed_on > 0


async def test_new_clients_are_spread_over_all_workers() -> None:
    async with workers(4, steered=True) as found:
        found.introduce()
        for _ in range(80):  # more than enough: one of them gets none of so many once in a thousand million times
            async with client(found.port) as protocol:
                assert await protocol.answer(protocol.send("/bytes/10")) == bytes(10)
            if all(listener.stats.accepted for listener in found.listeners.values()):
                return
        raise AssertionError("a worker gets nobody")


async def test_a_retired_worker_keeps_its_connections_while_they_move() -> None:
    async with workers(2, steered=True) as found, moving(found.port) as protocol:
        found.introduce()
        stream_id = protocol.send(f"/bytes/{BODY_BYTES}")
        await wait_until(lambda: protocol.body(stream_id), within_seconds=10, what="it began", every_seconds=0.002)
        for slot in range(2):
            heir = found.add(slot, 1)
            found.introduce()
            found.listeners[slot, 0].retire()
            heir.start()
        for _ in range(3):
            await move(protocol)
            await asyncio.sleep(0.02)  # for a few datagrams from there
        assert len(await protocol.answer(stream_id)) == BODY_BYTES
        assert found.handed_on > 0
        await wait_until(lambda: protocol.ended, within_seconds=5, what="it is told to go")
        async with client(found.port) as other:
            assert await other.answer(other.send("/bytes/10")) == bytes(10)
        assert sum(found.listeners[slot, 1].stats.accepted for slot in range(2)) == 1


async def test_who_is_gone_is_spoken_for_by_the_worker_in_its_slot() -> None:
    """A client of a worker that has finished learns it at once, and one of a worker that lives is left to that one."""
    async with workers(2, steered=True) as found:
        for slot in range(2):
            found.listeners[slot, 0].retire()
            found.add(slot, 1).start()
        of_gone, of_living = bytes([0x40, 0, 0]) + bytes(60), bytes([0x40, 0, 1]) + bytes(60)
        assert await ask(found.port, of_gone) is not None
        assert await ask(found.port, of_living) is not None, "a connection of its own that it does not know"
        found.introduce()
        assert await ask(found.port, of_gone) is not None, "the retired one is asked, and says it"
        assert found.neighbours[0, 1].handed_on == 1
