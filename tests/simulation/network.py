"""What lies between the nodes: messages that are lost, doubled, late and out of order, and paths that are cut."""

import asyncio
import contextvars
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meridian.control.messages import decode_verdict, encode_verdict
from meridian.control.peers import Receiver
from meridian.core.verdicts import Report, Verdict
from meridian_proto.v1.spending_pb2 import Letter

if TYPE_CHECKING:
    from tests.simulation.world import Node, World

RETELL_SECONDS = 1.0


class MemoryPeers:
    """One node's transport: messages are calls, later, in the receiver's own context (so that a frozen one waits)."""

    def __init__(self, world: "World", node: "Node") -> None:
        self.context = contextvars.copy_context()  # the receiver's
        self._world = world
        self._node = node
        self._peers: frozenset[str] = frozenset()
        self._receiver: Receiver | None = None
        self._verdict: Verdict | None = None

    async def run(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.context = contextvars.copy_context()
        while True:  # a verdict is told again to who was cut off when it was told first, as a new stream does
            await asyncio.sleep(RETELL_SECONDS)
            if self._verdict is not None:
                self.publish(self._verdict)

    def set_peers(self, peers: Mapping[str, str]) -> None:
        self._peers = frozenset(peers)

    def send(self, report: Report) -> None:
        self._say("on_report", replace(report))

    def publish(self, verdict: Verdict) -> None:
        if verdict.fallback:
            self._world.violate(f"{self._node.name} told another what it merged itself")
        self._verdict = verdict
        self._say("on_verdict", encode_verdict(verdict, self._node.now()))

    def beat(self, fence: int, version: int) -> None:
        self._say("on_beat", fence, version)

    def renew(self) -> None:
        """Nothing: whoever has a verdict tells it again each second, see `run`."""

    def deliver(self, name: str, letter: Letter) -> None:
        """No node of this world has workers that write letters."""

    def hear(self, what: str, *message: Any) -> None:
        """A message arrives here."""
        if self._receiver is None:
            return
        if what == "on_verdict":
            self._receiver.on_verdict(decode_verdict(message[0], self._node.now()))
        else:
            getattr(self._receiver, what)(*message)

    def _say(self, what: str, *message: Any) -> None:
        world, me = self._world, self._node.name
        for name in sorted(self._peers):
            peer = world.nodes.get(name)
            mute = me in world.mute or (name, me) in world.deaf
            if peer is None or mute or not world.connected(me, name):
                continue
            copies = 1 + (world.random.random() < world.doubling) if world.doubling else 1
            for _ in range(copies):
                if not world.loses():
                    far_seconds = world.far_seconds.get(me, 0.0) + world.far_seconds.get(name, 0.0)
                    seconds = world.transit() + far_seconds + world.late_seconds.get(me, 0.0)
                    world.loop.call_later(seconds, peer.peers.hear, what, *message, context=peer.peers.context)
