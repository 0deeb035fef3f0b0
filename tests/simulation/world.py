"""A world of nodes: their real control planes, one store in memory, and a network that loses, delays and cuts.

Everything random comes from one seed. `World.violations` collects what the invariants say.
"""

import asyncio
import contextvars
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from tests.simulation.virtual import NODE, VirtualLoop

from meridian.control.disk import NoDisk
from meridian.control.driver import ControlPlane, Handlers, Identity, Settings
from meridian.control.members import Endpoints
from meridian.control.messages import decode_verdict
from meridian.control.peers import Receiver
from meridian.control.prober import Subject
from meridian.core.invariants import Tenure, leadership_violations, sequence_violations
from meridian.core.verdicts import Report, Standing, Verdict
from meridian.store.embedded import EmbeddedStore
from meridian.store.keys import Keys
from meridian.store.port import (
    Batch,
    Compare,
    Item,
    Lease,
    Listing,
    Op,
    OutcomeUnknown,
    Put,
    StoreHealth,
    StoreUnavailable,
    TxnResult,
)
from meridian_proto.v1.spending_pb2 import Letter

KEYS = Keys("sim")
WITNESS = "witness"  # the region of a node that serves nobody
SAMPLE_SECONDS = 0.02
CALM_SECONDS = 4.0  # after a fault, so long may a verdict be about it


class FaultyStore:
    """One node's client of the shared store."""

    def __init__(self, world: "World", node: "Node") -> None:
        self._world = world
        self._node = node

    async def _travel(self) -> None:
        slow = self._node.name in self._world.slow
        await asyncio.sleep(self._world.random.uniform(*((0.3, 3.0) if slow else self._world.store_seconds)))
        if not self._reachable():
            await asyncio.sleep(1.0)
            raise StoreUnavailable("simulated: no member answers")

    def _reachable(self) -> bool:
        return not self._world.store_down and self._node.name not in self._world.cut_from_store

    async def _check_verdict(self) -> None:
        """Called in the very moment of a verdict's write: the embedded store does not yield."""
        leader, verdict = await self._world.store.get(KEYS.leader()), await self._world.store.get(KEYS.verdict())
        assert verdict is not None
        written = decode_verdict(verdict.value)
        if leader is None or leader.create_revision != written.fence:
            self._world.violations.append(f"{self._node.name} wrote a verdict without the leader key")
        if written.fallback:
            self._world.violations.append(f"{self._node.name} wrote what it merged itself")
        self._world.check_withdrawn(self._world.written, written)
        self._world.written = written

    async def _reconnect(self) -> None:
        """A watch that was cut resumes where it was, some time after the store can be reached again."""
        for _ in range(10_000):
            if self._reachable():
                return
            await asyncio.sleep(0.2)

    async def _return(self, *, wrote: bool = False) -> None:
        await asyncio.sleep(self._world.random.uniform(*self._world.store_seconds))
        if not self._reachable() or self._world.random.random() < self._world.lost_answers:
            await asyncio.sleep(1.0)
            raise OutcomeUnknown("simulated: answer lost") if wrote else StoreUnavailable("simulated: answer lost")

    async def get(self, key: str) -> Item | None:
        await self._travel()
        item = await self._world.store.get(key)
        await self._return()
        return item

    async def list(self, prefix: str, *, keys_only: bool = False, limit: int = 0) -> Listing:
        await self._travel()
        listing = await self._world.store.list(prefix, keys_only=keys_only, limit=limit)
        await self._return()
        return listing

    async def txn(self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()) -> TxnResult:
        await self._travel()
        result = await self._world.store.txn(when, then, otherwise)
        if result.succeeded and any(isinstance(op, Put) and op.key == KEYS.verdict() for op in then):
            await self._check_verdict()
        await self._return(wrote=True)
        return result

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return (await self.txn((), (Put(key, value, lease),))).revision

    async def watch(self, prefix: str, *, after_revision: int) -> AsyncGenerator[Batch, None]:
        # A source of its own: the store wakes its watches in no certain order, and a seed must tell one story.
        chance = random.Random(f"{self._world.seed} {self._node.name} {self._node.boot} {prefix} {after_revision}")
        async with aclosing(self._world.store.watch(prefix, after_revision=after_revision)) as batches:
            async for batch in batches:
                await asyncio.sleep(chance.uniform(*self._world.store_seconds))
                await self._reconnect()
                yield batch

    async def grant_lease(self, ttl_seconds: int) -> Lease:
        await self._travel()
        lease = await self._world.store.grant_lease(ttl_seconds)
        await self._return()
        return lease

    async def keep_alive(self, lease_id: int) -> float:
        await self._travel()
        seconds = await self._world.store.keep_alive(lease_id)
        await self._return()
        return seconds

    async def revoke_lease(self, lease_id: int) -> None:
        await self._travel()
        await self._world.store.revoke_lease(lease_id)
        await self._return()

    async def compact(self, revision: int) -> None:
        await self._world.store.compact(revision)

    async def health(self) -> StoreHealth:
        up = self._reachable()
        return StoreHealth(up, up, "simulated", "")

    async def close(self) -> None:
        pass


class MemoryPeers:
    """One node's transport: messages are calls, later, in the receiver's own context (so that a frozen one waits)."""

    def __init__(self, world: "World", node: "Node") -> None:
        self._world = world
        self._node = node
        self._peers: frozenset[str] = frozenset()
        self._receiver: Receiver | None = None
        self._context = contextvars.copy_context()
        self._verdict: Verdict | None = None

    async def run(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._context = contextvars.copy_context()
        while True:  # a verdict is told again to who was cut off when it was told first, as a new stream does
            await asyncio.sleep(1.0)
            if self._verdict is not None:
                self.publish(self._verdict)

    def set_peers(self, peers: Mapping[str, str]) -> None:
        self._peers = frozenset(peers)

    def send(self, report: Report) -> None:
        self._say("on_report", replace(report))

    def publish(self, verdict: Verdict) -> None:
        if verdict.fallback:
            self._world.violations.append(f"{self._node.name} told another what it merged itself")
        self._verdict = verdict
        self._say("on_verdict", verdict)

    def beat(self, fence: int, version: int) -> None:
        self._say("on_beat", fence, version)

    def renew(self) -> None:
        """Nothing: whoever has a verdict tells it again each second, see `run`."""

    def deliver(self, name: str, letter: Letter) -> None:
        """No node of this world has workers that write letters."""

    def _say(self, what: str, *message: Any) -> None:
        for name in sorted(self._peers):
            peer = self._world.nodes.get(name)
            mute = self._node.name in self._world.mute or (name, self._node.name) in self._world.deaf
            if peer is None or mute or not self._world.connected(self._node.name, name) or self._world.loses():
                continue
            seconds = self._world.transit() + self._world.late_seconds.get(self._node.name, 0.0)
            asyncio.get_running_loop().call_later(seconds, peer.hear, what, *message, context=peer.peers._context)


@dataclass(eq=False)
class Node:
    """One boot of a node."""

    world: "World"
    name: str
    region: str
    boot: int
    state: str = "running"  # paused, killed
    verdicts: list[Verdict] = field(default_factory=list)
    disturbed_at: float = 0.0

    def __post_init__(self) -> None:
        self.peers = MemoryPeers(self.world, self)
        host, witness = self.world.host(self.name), self.region == WITNESS
        self.plane = self.world.plane(
            FaultyStore(self.world, self),
            KEYS,
            Identity(
                self.name,
                self.region,
                str(self.boot),
                () if witness else (host,),
                Endpoints("" if witness else f"{host}:80", peer=f"{host}:9"),
                witness,
            ),
            Settings(limit_nodes=len(self.world.names)),
            self.peers,
            clock=self.world.loop.time,
            handlers=Handlers(on_verdict=self.judged),
            disk=NoDisk(),
            draw=self.world.random.random,
            probe_node=self.probe,
            probe_endpoint=self.probe,
        )
        self.plane.set_regions(set(self.world.names.values()) - {WITNESS})

    def judged(self, verdict: Verdict) -> None:
        """A verdict is in force here from now on."""
        before = self.verdicts[-1] if self.verdicts else Verdict()
        self.verdicts.append(verdict)
        if verdict.fallback:
            self.world.check_withdrawn(before, verdict)

    def hear(self, what: str, *message: Any) -> None:
        receiver = self.peers._receiver
        if receiver is not None:
            getattr(receiver, what)(*message)

    async def probe(self, subject: Subject) -> bool:
        target = next(name for name in self.world.names if self.world.host(name) == subject.host)
        node = self.world.nodes.get(target)
        # Four packets: a connection made, a question answered. One that is lost comes again too late (RFC 6298: 1 s).
        trip_seconds = sum(self.world.transit() for _ in range(4))
        lost = any(self.world.loses() for _ in range(4)) or target in self.world.dark
        lost = lost or (self.name, target) in self.world.blind
        dead = node is None or (node.state != "running" and (node.state == "paused" or self.world.vanishing))
        if lost or dead or not self.world.connected(self.name, target):
            await asyncio.sleep(subject.policy.timeout_seconds)
            return False
        await asyncio.sleep(min(trip_seconds, subject.policy.timeout_seconds))
        return node is not None and node.state == "running" and trip_seconds < subject.policy.timeout_seconds

    def standing_of(self, name: str) -> Standing | None:
        found = self.verdicts[-1].nodes.get(name) if self.verdicts else None
        return found.standing if found else None


class World:
    """`names` maps nodes to regions. `plane` may be one with a bug planted."""

    def __init__(self, seed: int, names: Mapping[str, str], plane: type[ControlPlane] = ControlPlane) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.seed = seed
        self.random = random.Random(seed)
        self.names = dict(names)
        self.plane = plane
        self.store = EmbeddedStore(loop.time)
        self.store_down = False
        self.cut_from_store: set[str] = set()
        self.slow: set[str] = set()  # whose requests to the store take seconds to arrive
        self.islands: set[str] = set()  # each cut off from all other nodes
        self.sides: dict[str, int] = {}  # a split: who stands on which side; 0 if not named
        self.dark: set[str] = set()  # whose data path is dead, while it speaks and says well
        self.mute: set[str] = set()  # whose reports reach nobody, while it serves
        self.deaf: set[tuple[str, str]] = set()  # who does not hear whom
        self.blind: set[tuple[str, str]] = set()  # who does not reach whose data path
        self.late_seconds: dict[str, float] = {}  # whose messages take so much longer
        self.vanishing = False  # a killed node answers nothing at all, as when its power fails
        self.transit_seconds = (0.001, 0.02)  # one way between any two nodes
        self.store_seconds = (0.001, 0.01)  # one way to the store
        self.loss = 0.0
        self.lost_answers = 0.0
        self.nodes: dict[str, Node] = {}
        self.violations: list[str] = []
        self.written = Verdict()
        self._boots = 0
        self._all: list[Node] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._tenures: list[Tenure] = []
        self._acting: Tenure | None = None

    def host(self, name: str) -> str:
        return f"10.0.0.{list(self.names).index(name) + 1}"

    def connected(self, one: str, other: str) -> bool:
        return not {one, other} & self.islands and self.sides.get(one, 0) == self.sides.get(other, 0)

    def transit(self) -> float:
        return self.random.uniform(*self.transit_seconds)

    def loses(self) -> bool:
        return self.random.random() < self.loss

    def start(self, name: str) -> Node:
        """Boots a node: a new context, and everything it schedules bears its token."""
        self._boots += 1
        context = contextvars.copy_context()
        node = context.run(self._boot, name)
        self.nodes[name] = node
        self._all.append(node)
        self._tasks.append(self.loop.create_task(node.plane.run(), context=context))
        return node

    def _boot(self, name: str) -> Node:
        node = Node(self, name, self.names[name], self._boots, disturbed_at=self.loop.time())
        NODE.set(node)
        node.peers._context = contextvars.copy_context()
        return node

    def kill(self, name: str) -> None:
        node = self.nodes[name]
        node.state = "killed"
        self.loop.freeze(node)

    def pause(self, name: str) -> None:
        self.nodes[name].state = "paused"
        self.loop.freeze(self.nodes[name])

    def resume(self, name: str) -> None:
        node = self.nodes[name]
        node.state, node.disturbed_at = "running", self.loop.time()
        self.loop.thaw(node)

    def running(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.state == "running"]

    def agreed(self, name: str, *standings: Standing | None) -> bool:
        """Whether every running node's verdict says one of `standings` of `name`."""
        return all(node.standing_of(name) in standings for node in self.running())

    def all_serving(self) -> bool:
        serving = [name for name, region in self.names.items() if region != WITNESS]
        return len(self.running()) == len(self.names) and all(self.agreed(n, Standing.SERVING) for n in serving)

    async def until(self, what: str, condition: Any, within_seconds: float) -> float:
        """Returns how long it took; a violation if the deadline passed."""
        began = self.loop.time()
        while not condition():
            if self.loop.time() - began > within_seconds:
                self.violations.append(f"not within {within_seconds} s: {what}")
                break
            await asyncio.sleep(0.02)
        return self.loop.time() - began

    async def stays(self, condition: Any, seconds: float, otherwise: str) -> None:
        """A violation if the condition does not hold throughout."""
        began = self.loop.time()
        while self.loop.time() - began < seconds:
            if not condition():
                self.violations.append(f"{self.loop.time():.2f}: {otherwise}")
                return
            await asyncio.sleep(0.02)

    def check_never_back(self, name: str) -> None:
        """A violation if a running node's view, having withdrawn `name`, published it again."""
        for node in self.running():
            standings = [v.nodes[name].standing for v in node.verdicts if name in v.nodes]
            gone = standings.index(Standing.WITHDRAWN) if Standing.WITHDRAWN in standings else len(standings)
            if any(standing is not Standing.WITHDRAWN for standing in standings[gone:]):
                self.violations.append(f"{name} is dead and came back in the view of {node.name}")

    async def calm(self, seconds: float) -> None:
        """Nothing happens for a while."""
        await asyncio.sleep(seconds)

    def store_away_for(self, seconds: float) -> None:
        """The store is away from now on, and back by itself."""
        self.store_down = True
        self.loop.call_later(seconds, setattr, self, "store_down", False)

    async def sample(self) -> None:
        """Looks at every node each 20 ms: who acts as leader, and who is in trouble."""
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            now = self.loop.time()
            acting = [(node, fence) for node in self.running() if (fence := node.plane.leadership.fence()) is not None]
            if len(acting) > 1:
                self.violations.append(f"{now:.2f}: two leaders act: {[(n.name, f) for n, f in acting]}")
            self._note_tenure(acting, now)
            if self.loss or self.lost_answers:
                for node in self.nodes.values():
                    node.disturbed_at = now
            for name in {*self.islands, *self.cut_from_store, *self.slow, *self.sides, *self.dark, *self.mute}:
                if name in self.nodes:
                    self.nodes[name].disturbed_at = now

    def _note_tenure(self, acting: Sequence[tuple[Node, int]], now: float) -> None:
        for node, fence in acting[:1]:
            node_id = node.plane.status().node_id
            if self._acting is not None and self._acting.fence == fence:
                self._acting = replace(self._acting, ended=now)
            else:
                if self._acting is not None:
                    self._tenures.append(self._acting)
                self._acting = Tenure(node_id, fence, now, now)

    def check_withdrawn(self, before: Verdict, written: Verdict) -> None:
        """Who is withdrawn anew must have been in trouble within the last seconds, wherever the judge stands."""
        now = self.loop.time()
        for name, judged in written.nodes.items():
            if name not in before.nodes or before.nodes[name].standing is judged.standing:
                continue
            node = self.nodes.get(name)
            well = node is not None and node.state == "running" and now - node.disturbed_at > 2 * CALM_SECONDS
            if judged.standing is Standing.WITHDRAWN and well:
                self.violations.append(f"{now:.2f}: {name} is well and was withdrawn: {judged.reason}")

    def finish(self) -> list[str]:
        """Returns all violations: those collected, and those of the whole histories."""
        found = list(self.violations)
        for node in self._all:
            found += [f"{node.name} boot {node.boot}: {v}" for v in sequence_violations(node.verdicts)]
        tenures = [*self._tenures, *([self._acting] if self._acting else [])]
        return found + leadership_violations(tenures)

    async def close(self) -> None:
        """Ends everything; what was frozen is thawed to be cancelled."""
        self.store_down, self.loss, self.lost_answers = False, 0.0, 0.0
        self.cut_from_store, self.islands, self.slow = set(), set(), set()
        self.sides, self.dark, self.mute = {}, set(), set()
        self.blind, self.deaf = set(), set()
        for task in self._tasks:
            task.cancel()
        for node in self._all:
            self.loop.thaw(node)
        await asyncio.gather(*self._tasks, return_exceptions=True)
