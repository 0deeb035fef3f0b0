"""A world of nodes: their real control planes, one store in memory, and a network that loses, delays and cuts.

Everything random comes from one seed. `World.violations` collects what the invariants say, `World.transcript` what
happened. A part that joins the control plane joins the world in two places: `Node` gives it its handlers, and
`Witness` (witness.py) says what of it must hold.
"""

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.faulty_store import FaultyStore, SharedStore, at_once
from tests.simulation.keys import KEYS
from tests.simulation.network import MemoryPeers
from tests.simulation.rollouts import Trying
from tests.simulation.virtual import NODE, Clock, VirtualLoop
from tests.simulation.witness import CLOCKS_DIFFER, Witness, watched

from meridian.control.driver import ControlPlane
from meridian.control.handlers import Handlers
from meridian.control.identity import Identity, Settings
from meridian.control.members import Endpoints
from meridian.control.prober import Subject
from meridian.control.probing import NoteRoundTrip
from meridian.core.granting.seats import Tell
from meridian.core.granting.shares import Cut
from meridian.core.granting.spender import Allowance
from meridian.core.verdicts import REPORT_PERIOD_SECONDS, Standing, Verdict
from meridian.store.port import Compare, Item, Op

WITNESS = "witness"  # the region of a node that serves nobody
SAMPLE_SECONDS = 0.04
HARMLESS_TRANSIT_SECONDS = 0.095  # one way; a probe takes four and waits for 0.4 s
WORKERS_TAKE_SECONDS = 0.05  # until workers keep to what they were told, a document or an allowance, and say so
NO_SEATS = Allowance("", -1, frozenset())


class MemoryDisk:
    """What outlives a process."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    async def save(self, name: str, content: bytes) -> None:
        self.contents[name] = content

    async def load(self, name: str) -> bytes | None:
        return self.contents.get(name)


@dataclass(eq=False)
class Node:
    """One boot of a node."""

    world: "World"
    name: str
    region: str
    boot: int
    state: str = "running"  # paused, killed
    verdicts: list[Verdict] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    allowance: Allowance = NO_SEATS  # what the workers keep to
    disturbed_at: float = 0.0
    paused_at: float = 0.0
    resumed_at: float = float("-inf")  # after it stood still for longer than a report's period
    judged_at: float = 0.0
    leaving_since: float | None = None

    def __post_init__(self) -> None:
        world, host, witness = self.world, self.world.host(self.name), self.region == WITNESS
        self.began = world.loop.now
        self.clock = world.clocks.get(self.name, Clock())
        self.peers = MemoryPeers(world, self)
        self.trying = Trying(self)
        self.store = FaultyStore(world, self)
        self.plane = watched(world.plane, world.witness, self)(
            self.store,
            KEYS,
            Identity(
                self.name,
                self.region,
                str(self.boot),
                () if witness else (host,),
                Endpoints("" if witness else f"{host}:80", peer=f"{host}:9"),
                witness,
            ),
            Settings(limit_nodes=len(world.names)),
            self.peers,
            clock=self.now,
            handlers=Handlers(
                on_verdict=self.judged,
                on_config=self.configured,
                on_allowance=self.allowed,
                rollout=self.trying.handlers(),
            ),
            disk=world.disks[self.name],
            draw=world.random.random,
            load=lambda: world.loads.get(self.name, 0.0),
            probe_node=self.probe,
            probe_endpoint=self.probe,
        )
        self.plane.set_regions(set(world.names.values()) - {WITNESS})

    def now(self) -> float:
        """What this node's clock shows."""
        return self.clock.shows(self.world.loop.now)

    def judged(self, verdict: Verdict) -> None:
        """A verdict is in force here from now on."""
        before = self.verdicts[-1] if self.verdicts else Verdict()
        self.verdicts.append(verdict)
        self.world.witness.judged(self, before, verdict)

    def configured(self, version: int, payload: bytes) -> None:
        """A document arrived; the workers take it a moment later."""
        self.versions.append(version)
        self.world.witness.configured(self, version, payload)
        self.world.loop.call_later(WORKERS_TAKE_SECONDS, self.plane.acknowledge, version, context=self.peers.context)

    def connected(self) -> None:
        """The workers are there, and know nothing of limits yet."""
        self.plane.worker_started(0)

    def allowed(self, cut: Cut, tell: Tell, store_is_lost: bool) -> None:
        """The workers are told what they may spend of limits; they keep to it a moment later."""
        self.world.loop.call_later(WORKERS_TAKE_SECONDS, self._keep_to, tell.allowance, context=self.peers.context)

    def _keep_to(self, allowance: Allowance) -> None:
        before = self.allowance
        if (allowance.agent, allowance.sequence) > (before.agent, before.sequence):
            self.allowance = allowance
            self.world.witness.allowed(self, before)
        self.plane.worker_confirmed(0, allowance.agent, allowance.sequence)

    def seats(self) -> frozenset[int]:
        """Which seats' tokens this node spends now. What is left when it is off is its home: its disk knows that."""
        leased = self.state != "killed" and self.now() < self.allowance.until
        return self.allowance.home | self.allowance.leased if leased else self.allowance.home

    async def stop(self) -> None:
        """Leaves in peace, as SIGTERM asks."""
        self.leaving_since = self.world.loop.now
        await self.plane.stop()

    async def probe(self, subject: Subject, note: NoteRoundTrip = lambda host, seconds: None) -> bool:
        target = next(name for name in self.world.names if self.world.host(name) == subject.host)
        node = self.world.nodes.get(target)
        # Four packets: a connection made, a question answered. One that is lost comes again too late (RFC 6298: 1 s).
        far_seconds = self.world.far_seconds.get(self.name, 0.0) + self.world.far_seconds.get(target, 0.0)
        trip_seconds = sum(self.world.transit() + far_seconds for _ in range(4))
        lost = any(self.world.loses() for _ in range(4)) or target in self.world.dark
        lost = lost or (self.name, target) in self.world.blind
        dead = node is None or (node.state != "running" and (node.state == "paused" or self.world.vanishing))
        if lost or dead or not self.world.connected(self.name, target):
            await asyncio.sleep(subject.policy.timeout_seconds)
            return False
        await asyncio.sleep(min(trip_seconds, subject.policy.timeout_seconds))
        if self.world.measures:
            note(subject.host, trip_seconds / 2)
        return node is not None and node.state == "running" and trip_seconds < subject.policy.timeout_seconds

    def standing_of(self, name: str) -> Standing | None:
        found = self.verdicts[-1].nodes.get(name) if self.verdicts else None
        return found.standing if found else None


class World:
    """`names` maps nodes to regions, `clocks` nodes to clocks that differ from true time; the store's is named "".

    `plane` may be one with a bug planted.
    """

    def __init__(
        self,
        seed: int,
        names: Mapping[str, str],
        plane: type[ControlPlane] = ControlPlane,
        clocks: Mapping[str, Clock] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.seed = seed
        self.random = random.Random(seed)
        self.names = dict(names)
        self.clocks = dict(clocks or {})
        self.plane = plane
        self.store = SharedStore(self._store_clock)
        self.store_down = False
        self.leaderless = False  # no member of the store knows a leader: nothing is done, and no lease ends
        self.cut_from_store: set[str] = set()
        self.unanswered: set[str] = set()  # whose requests reach the store, but no answer comes back
        self.slow: set[str] = set()  # whose requests to the store take seconds to arrive
        self.uneven: set[str] = set()  # of whose requests to the store some take most of a second
        self.lagging: set[str] = set()  # whose watches hear nothing, while requests are answered
        self.islands: set[str] = set()  # each cut off from all other nodes
        self.sides: dict[str, int] = {}  # a split: who stands on which side; 0 if not named
        self.dark: set[str] = set()  # whose data path is dead, while it speaks and says well
        self.mute: set[str] = set()  # whose reports reach nobody, while it serves
        self.deaf: set[tuple[str, str]] = set()  # who does not hear whom
        self.blind: set[tuple[str, str]] = set()  # who does not reach whose data path
        self.late_seconds: dict[str, float] = {}  # whose messages take so much longer
        self.measures = False  # how far regions are; else verdicts change for health alone
        self.far_seconds: dict[str, float] = {}  # whose every packet takes so much longer, either way
        self.unwell: set[str] = set()  # who says itself that it does not serve
        self.loads: dict[str, float] = {}  # requests per second that a node serves
        self.vanishing = False  # a killed node answers nothing at all, as when its power fails
        self.transit_seconds = (0.001, 0.02)  # one way between any two nodes
        self.store_seconds = (0.001, 0.01)  # one way to the store
        self.loss = 0.0
        self.doubling = 0.0  # the chance that a message arrives twice
        self.lost_answers = 0.0
        self.late_writes = 0.0  # the chance that a write lands after its sender has given up
        self.nodes: dict[str, Node] = {}
        self.disks = {name: MemoryDisk() for name in names}
        self.violations: list[str] = []
        self.transcript: list[str] = []
        self.witness = Witness(self)
        self.rolls_out = False  # whether documents are rolled out in this world: then each apply looks for a rollout
        self.store_troubled_at = 0.0
        self.closed = False
        self._context = contextvars.copy_context()  # of nobody: what is done in it no fault freezes
        self._stood_still_seconds = 0.0  # the store's clock, while leaderless
        self._leaderless_since = 0.0
        self.boots = 0
        self._all: list[Node] = []
        self._tasks: list[asyncio.Task[None]] = []

    def _store_clock(self) -> float:
        now = self._leaderless_since if self.leaderless else self.loop.now
        return self.clocks.get("", Clock()).rate * (now - self._stood_still_seconds)

    def lead_store(self, leads: bool) -> None:
        """The store's members lose their leader, or have one again."""
        if leads == self.leaderless:
            if leads:
                self._stood_still_seconds += self.loop.now - self._leaderless_since
            self._leaderless_since = self.loop.now
            self.leaderless = not leads

    def note(self, what: str) -> None:
        """Adds a line to the transcript."""
        if self.closed:
            return
        self.transcript.append(f"{self.loop.now - 1000.0:8.3f}  {what}")

    def violate(self, what: str) -> None:
        """Adds a violation; the transcript says when."""
        if self.closed:
            return
        self.violations.append(what)
        self.note(f"VIOLATION {what}")

    def later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Calls it so much later by true time, whatever becomes of the node whose code asks for it."""
        self._context.run(self._call_later, seconds, call, *arguments)

    def _call_later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        self.loop.call_at(self.loop.now + seconds, call, *arguments, context=self._context)

    def peek(self, key: str) -> Item | None:
        """Returns what the store holds, at no cost of time."""
        return at_once(self.store.get(key))

    def wrote(self, node: Node, when: Sequence[Compare], ops: Sequence[Op]) -> None:
        """Called in the very moment of a write: the embedded store does not yield."""
        self.witness.wrote(node, ops)

    def revokes(self, node: Node, lease: int) -> None:
        """Called just before a lease is revoked."""
        self.witness.revokes(node, lease)

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
        self.boots += 1
        context = contextvars.copy_context()
        node = context.run(self._boot, name)
        self.nodes[name] = node
        self._all.append(node)
        self._tasks.append(self.loop.create_task(node.plane.run(), context=context))
        self.loop.call_later(WORKERS_TAKE_SECONDS, node.connected, context=node.peers.context)
        self.witness.booted(node)
        return node

    def _boot(self, name: str) -> Node:
        node = Node(self, name, self.names[name], self.boots, disturbed_at=self.loop.now)
        NODE.set(node)
        if name in self.clocks:
            self.loop.clocks[node] = node.clock
        node.peers.context = contextvars.copy_context()
        return node

    def at(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begins work on a node, which stops when the node stops."""
        task = self.loop.create_task(work, context=self.nodes[name].peers.context.copy())
        self._tasks.append(task)
        return task

    def work(self, work: Coroutine[Any, Any, None]) -> None:
        """Begins work of nobody: it goes on whatever becomes of any node."""
        self._tasks.append(self.loop.create_task(work, context=self._context.copy()))

    def kill(self, name: str) -> None:
        node = self.nodes[name]
        node.state = "killed"
        self.loop.freeze(node)

    def pause(self, name: str) -> None:
        self.nodes[name].state, self.nodes[name].paused_at = "paused", self.loop.now
        self.loop.freeze(self.nodes[name])

    def resume(self, name: str) -> None:
        node = self.nodes[name]
        node.state, node.disturbed_at = "running", self.loop.now
        if self.loop.now - node.paused_at > REPORT_PERIOD_SECONDS / CLOCKS_DIFFER:
            node.resumed_at = self.loop.now
        self.loop.thaw(node)

    def running(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.state == "running"]

    def agreed(self, name: str, *standings: Standing | None) -> bool:
        """Whether every running node's verdict says one of `standings` of `name`."""
        return all(node.standing_of(name) in standings for node in self.running())

    def all_serving(self) -> bool:
        serving = [name for name, region in self.names.items() if region != WITNESS]
        return len(self.running()) == len(self.names) and all(self.agreed(n, Standing.SERVING) for n in serving)

    async def until(self, what: str, condition: Any, within_seconds: float, every_seconds: float = 0.02) -> float:
        """Returns how long it took; a violation if the deadline passed."""
        began = self.loop.now
        while not condition():
            if self.loop.now - began > within_seconds:
                self.violate(f"not within {within_seconds} s: {what}")
                break
            await asyncio.sleep(every_seconds)
        return self.loop.now - began

    async def stays(self, condition: Any, seconds: float, otherwise: str) -> None:
        """A violation if the condition does not hold throughout."""
        began = self.loop.now
        while self.loop.now - began < seconds:
            if not condition():
                self.violate(f"{self.loop.now:.2f}: {otherwise}")
                return
            await asyncio.sleep(0.02)

    def check_never_back(self, name: str) -> None:
        """A violation if a running node's view, having withdrawn `name`, published it again."""
        for node in self.running():
            standings = [v.nodes[name].standing for v in node.verdicts if name in v.nodes]
            gone = standings.index(Standing.WITHDRAWN) if Standing.WITHDRAWN in standings else len(standings)
            if any(standing is not Standing.WITHDRAWN for standing in standings[gone:]):
                self.violate(f"{name} is dead and came back in the view of {node.name}")

    async def calm(self, seconds: float) -> None:
        """Nothing happens for a while."""
        await asyncio.sleep(seconds)

    def store_away_for(self, seconds: float) -> None:
        """The store is away from now on, and back by itself."""
        self.store_down = True
        self.loop.call_later(seconds, setattr, self, "store_down", False)

    async def sample(self) -> None:
        """Looks at every node again and again: who acts as leader, and who is in trouble."""
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            self.store.expire()
            self.witness.look()
            if self.store_troubled():
                self.store_troubled_at = self.loop.now
            for name in self.troubled():
                if name in self.nodes:
                    self.nodes[name].disturbed_at = self.loop.now

    def troubled(self) -> Iterable[str]:
        """Whom a fault of the moment may rightly cost its place in the verdict."""
        if self.loss or self.sides or self.transit_seconds[1] > HARMLESS_TRANSIT_SECONDS:
            return self.names  # each side of a split answers with whom it reaches
        pairs = {name for pair in (*self.deaf, *self.blind) for name in pair}
        return pairs.union(self.islands, self.dark, self.mute, self.late_seconds, self.unwell)

    def store_troubled(self) -> bool:
        """Whether somebody may be without the store at this moment."""
        trouble = (self.cut_from_store, self.unanswered, self.slow, self.lagging, self.lost_answers, self.late_writes)
        return self.store_down or self.leaderless or any(trouble)

    def finish(self) -> list[str]:
        """Returns all violations: those collected, and those of the whole histories."""
        return [*self.violations, *self.witness.histories(self._all)]

    def heal(self) -> None:
        """Ends every fault of network and store."""
        self.lead_store(True)
        self.store_down, self.loss, self.lost_answers, self.late_writes, self.doubling = False, 0.0, 0.0, 0.0, 0.0
        self.cut_from_store, self.unanswered, self.slow, self.lagging = set(), set(), set(), set()
        self.uneven = set()
        self.islands, self.sides, self.dark, self.mute = set(), {}, set(), set()
        self.blind, self.deaf, self.late_seconds, self.unwell = set(), set(), {}, set()

    async def close(self) -> None:
        """Ends everything; what was frozen is thawed to be cancelled."""
        self.heal()
        self.closed = True
        for task in self._tasks:
            task.cancel()
        for node in self._all:
            self.loop.thaw(node)
        await asyncio.gather(*self._tasks, return_exceptions=True)
