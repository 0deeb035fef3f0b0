"""What happens in a seed, as data: drawn first, then done; so that a list can be shortened and told to a person.

`draw(seed)` gives the whole `Plan`. `KINDS` is the one list of what can happen: a new part of the control plane brings
its operator's deeds and its failures here. Two tempers: in a calm plan one fault follows the other, and what is
promised of each alone is demanded, in half of them while one node limps; in a storm they overlap, and only safety is,
and that all is well in the end.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tests.simulation.keys import KEYS
from tests.simulation.rollouts import end as end_rollout
from tests.simulation.rollouts import roll_out, unless_one_runs
from tests.simulation.virtual import Clock
from tests.simulation.world import Node, World

from meridian.control.drains import DrainRefused
from meridian.store import documents
from meridian.store.documents import RolloutChanged, VersionConflict, VersionMeta
from meridian.store.port import OutcomeUnknown, StoreError

SHAPES: Sequence[Mapping[str, str]] = (
    {"a": "eu", "b": "us", "c": "ap"},
    {"a": "eu", "b": "us", "c": "ap"},
    {"a": "eu", "b": "us", "c": "ap"},
    {"a1": "eu", "a2": "eu", "b1": "us", "b2": "us", "c1": "ap"},
)
STORM_SECONDS = 12.0
CLOCK_RATES = (0.99, 1.01)  # clocks' rates differ by up to 1 % (invariant 2's assumption)
CLOCKS_AHEAD_SECONDS = (-500.0, 500.0)
OUT_SECONDS = 4.0  # from a death to every node's view
APPLY_AGAIN_SECONDS = 0.4
LEADER = "the leader"  # as a target: whoever leads when the fault begins
AIMED = ("kill", "pause", "island", "no_store", "unanswered", "slow", "late", "mute")  # faults that may be the leader's
AIMED_CHANCE = 0.4
TOGETHER_CHANCE = 0.4  # in a storm, that a fault comes right after the one before it
TOGETHER_SECONDS = 1.0
LASTING = ("mute", "uneven")  # faults under which the others' faults still end well
LASTING_CHANCE = 0.5
MAINTENANCE_CHANCE = 0.35
ROLLOUTS_CHANCE = 0.35  # that documents are rolled out in a seed
ENDED_CHANCE = 0.3  # that an operator ends a rollout
STRUCK_CHANCE = 0.6  # in a storm, that the leader is struck while it judges
ROLLS_SECONDS = (0.3, 4.0)  # after a rollout began
RESTART_AFTER_SECONDS = 1.8  # after the order: all know of it
KEPT_VERSIONS = 2  # by a pruning; nodes that are cut off must live with it


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that happens, `at` seconds after the cluster serves, for `seconds`. An operator's deed is one too.

    `target` may be LEADER; `other` is a second node, `amount` a chance or seconds, as the kind says.
    """

    at: float
    kind: str
    target: str
    other: str
    seconds: float
    amount: float

    def __str__(self) -> str:
        what = KINDS[self.kind].says.format(target=self.target, other=self.other, amount=self.amount)
        lasts = f", for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:5.1f} s: {what}{lasts}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a seed decides beforehand. `clocks` as in World; what the network draws comes from `seed`."""

    seed: int
    names: Mapping[str, str]
    clocks: Mapping[str, Clock]
    storm: bool
    faults: tuple[Fault, ...]
    lasting: Fault | None = None  # in a calm plan: what begins during the first fault, and lasts as long as they do


@dataclass(frozen=True, slots=True)
class Kind:
    """How a fault begins and ends, what it is in words, how long it lasts, and how often it is drawn.

    `kills`: its target is silent and dark, and must be out of the verdict in time.
    """

    says: str
    weight: int
    seconds: tuple[float, float] = (0.3, 6.0)
    amount: tuple[float, float] = (0.0, 0.0)
    begin: Callable[[World, Fault], Awaitable[None] | None] | None = None
    end: Callable[[World, Fault], Awaitable[None] | None] | None = None
    kills: bool = False


def draw(seed: int) -> Plan:
    """Returns the plan of a seed."""
    chance = random.Random(f"plan {seed}")
    names = chance.choice(SHAPES)
    clocks = {name: Clock(chance.uniform(*CLOCK_RATES), chance.uniform(*CLOCKS_AHEAD_SECONDS)) for name in ("", *names)}
    storm = chance.random() < 0.6
    faults: list[Fault] = []
    at = 0.0
    for _ in range(chance.randint(6, 10) if storm else 4):
        if storm and faults and chance.random() < TOGETHER_CHANCE:
            at = faults[-1].at + chance.uniform(0.0, TOGETHER_SECONDS)
        elif storm:
            at = chance.uniform(0.0, STORM_SECONDS)
        fault = _draw(chance, names, at)
        faults.append(fault)
        at += fault.seconds + chance.uniform(0.5, 3.0)
    faults += _rollouts(seed, names, storm, at) + _maintenance(seed, names, storm, at)
    faults = sorted(faults, key=lambda fault: fault.at)
    return Plan(seed, names, clocks, storm, tuple(faults), None if storm else _lasting(seed, names, faults[0]))


def _maintenance(seed: int, names: Mapping[str, str], storm: bool, after: float) -> list[Fault]:
    """What is done to one node in a third of the seeds; from a source of its own, as rollouts are."""
    chance = random.Random(f"maintenance {seed}")
    if chance.random() >= MAINTENANCE_CHANCE:
        return []
    at, kind = chance.uniform(0.0, STORM_SECONDS / 2) if storm else after, chance.choice(("maintain", "uneven"))
    target, other = chance.sample(list(names), 2)
    return [Fault(round(at, 2), kind, target, other, round(chance.uniform(*KINDS[kind].seconds), 2), 0.0)]


def _lasting(seed: int, names: Mapping[str, str], first: Fault) -> Fault | None:
    """What one node limps with in half of the calm plans; from a source of its own, as rollouts are."""
    chance = random.Random(f"lasting {seed}")
    if chance.random() >= LASTING_CHANCE:
        return None
    target, other = chance.sample(list(names), 2)
    return Fault(
        round(first.at + chance.uniform(0.0, first.seconds), 2), chance.choice(LASTING), target, other, 0.0, 0.0
    )


def _rollouts(seed: int, names: Mapping[str, str], storm: bool, after: float) -> list[Fault]:
    """What operators roll out in a third of the seeds, from a source of its own: the others have their old stories."""
    chance = random.Random(f"rollouts {seed}")
    if chance.random() >= ROLLOUTS_CHANCE:
        return []
    at = chance.uniform(0.0, STORM_SECONDS / 2) if storm else after
    kinds = [chance.choice(("roll_out", "roll_out", "roll_out_two"))]
    if chance.random() < ENDED_CHANCE:
        kinds.append(chance.choice(("promote", "abort")))
    if storm and chance.random() < STRUCK_CHANCE:
        kinds.append(chance.choice(("kill", "pause", "island", "no_store", "unanswered")))
    faults = []
    for kind in kinds:
        target, other = chance.sample(list(names), 2)
        begins = at if kind in ROLLING else at + chance.uniform(*ROLLS_SECONDS)
        struck = LEADER if kind in AIMED else target
        seconds, amount = chance.uniform(*KINDS[kind].seconds), chance.uniform(*KINDS[kind].amount)
        faults.append(Fault(round(begins, 2), kind, struck, other, round(seconds, 2), round(amount, 2)))
    return faults


def _draw(chance: random.Random, names: Mapping[str, str], at: float) -> Fault:
    kind = chance.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]
    target, other = chance.sample(list(names), 2)
    if kind in ("split", "drain_region"):
        target = names[target]
    if kind in AIMED and chance.random() < AIMED_CHANCE:
        target = LEADER
    seconds, amount = chance.uniform(*KINDS[kind].seconds), chance.uniform(*KINDS[kind].amount)
    return Fault(round(at, 2), kind, target, other, round(seconds, 2), round(amount, 2))


class Weather:
    """The faults that are on at this moment; the world's faults are always those, and nothing else."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._on: list[Fault] = []

    async def begin(self, fault: Fault) -> Fault:
        """A fault begins. Returns what it has become: the target is a node's name, which `end` wants."""
        if fault.target == LEADER:
            leaders = [node.name for node in self._world.running() if node.plane.leadership.fence() is not None]
            fault = replace(fault, target=next(iter(leaders), next(iter(self._world.names))))
        self._world.note(
            f"* {KINDS[fault.kind].says.format(target=fault.target, other=fault.other, amount=fault.amount)}"
        )
        self._on.append(fault)
        self._blow()
        await _do(KINDS[fault.kind].begin, self._world, fault)
        return fault

    async def end(self, fault: Fault) -> None:
        """A fault ends."""
        self._world.note(f"* ends: {fault.kind} {fault.target}")
        self._on.remove(fault)
        self._blow()
        await _do(KINDS[fault.kind].end, self._world, fault)

    def held(self, *kinds: str) -> set[str]:
        """Returns the targets of the faults of these kinds that are on."""
        return {fault.target for fault in self._on if fault.kind in kinds}

    def _most(self, kind: str) -> float:
        return max((fault.amount for fault in self._on if fault.kind == kind), default=0.0)

    def _blow(self) -> None:
        world = self._world
        world.islands, world.cut_from_store = self.held("island"), self.held("island", "no_store")
        world.unanswered, world.slow, world.lagging = self.held("unanswered"), self.held("slow"), self.held("lag")
        world.uneven = self.held("uneven", "maintain")
        world.dark, world.mute = self.held("dark"), self.held("mute")
        one_way = [(fault.target, fault.other) for fault in self._on if fault.kind == "one_way"]
        world.deaf = {(other, target) for target, other in one_way}
        world.blind = {pair for target, other in one_way for pair in ((target, other), (other, target))}
        split = self.held("split")
        world.sides = {name: 1 for name, region in world.names.items() if region in split}
        world.late_seconds = {fault.target: fault.amount for fault in self._on if fault.kind == "late"}
        world.loss, world.doubling = self._most("loss"), self._most("doubling")
        world.lost_answers, world.late_writes = self._most("lost_answers"), self._most("late_writes")
        world.transit_seconds = (0.001, max(0.02, self._most("jitter")))
        world.unwell = self.held("not_serving", "leave")
        world.store_down = bool(self.held("store_down"))
        world.lead_store(not self.held("leaderless"))


async def _do(step: Callable[[World, Fault], Awaitable[None] | None] | None, world: World, fault: Fault) -> None:
    if step is not None and (done := step(world, fault)) is not None:
        await done


# Nodes.


def _kill(world: World, fault: Fault) -> None:
    if world.nodes[fault.target].state == "running":
        world.kill(fault.target)


def _start(world: World, fault: Fault) -> None:
    if world.nodes[fault.target].state == "killed":
        world.start(fault.target)


def _pause(world: World, fault: Fault) -> None:
    if world.nodes[fault.target].state == "running":
        world.pause(fault.target)


def _resume(world: World, fault: Fault) -> None:
    if world.nodes[fault.target].state == "paused":
        world.resume(fault.target)


def _leave(world: World, fault: Fault) -> None:
    node = world.nodes[fault.target]
    if node.state != "running" or node.leaving_since is not None:
        return

    async def leave() -> None:
        await node.stop()
        if world.nodes[fault.target] is node and node.state == "running":
            world.later(0.0, world.kill, fault.target)

    world.at(fault.target, leave())


async def _come(world: World, fault: Fault) -> None:
    node = world.nodes[fault.target]
    if node.leaving_since is not None:
        if node.state != "killed":
            world.kill(fault.target)  # its supervisor's patience is over
        world.start(fault.target)


def _serve_not(world: World, fault: Fault) -> None:
    world.nodes[fault.target].plane.set_serving(False)


def _serve(world: World, fault: Fault) -> None:
    world.nodes[fault.target].plane.set_serving(True)


def _resign(world: World, fault: Fault) -> None:
    for node in world.running():
        if node.plane.leadership.fence() is not None:
            node.plane.resign()


# The operator's deeds, done on a node's admin API: they stop when that node stops.


def _apply(world: World, fault: Fault) -> None:
    async def again_and_again() -> None:
        ends = world.loop.now + fault.seconds
        while world.loop.now < ends:
            await apply(world, world.nodes[fault.target], f"{world.loop.now} by {fault.target}")
            await asyncio.sleep(APPLY_AGAIN_SECONDS)

    world.at(fault.target, again_and_again())


def _apply_two(world: World, fault: Fault) -> None:
    for name in (fault.target, fault.other):
        world.at(name, apply(world, world.nodes[name], f"{fault.at} by {name}"))


async def apply(world: World, node: Node, what: str) -> None:
    """An operator applies a document upon the version that is current, and is told what became of it."""
    payload = f"document of {what}".encode()
    meta = VersionMeta(node.name, what, "2026-01-01T00:00:00Z")
    beside = None
    try:
        current = await documents.current_version(node.store, KEYS)
        if world.rolls_out and (beside := await unless_one_runs(node)) is None:
            world.note(f"{node.name} is told that a rollout is on its way")
            return
        free = beside
        version = await documents.write_version(
            node.store, KEYS, payload, meta, expected_current=current, beside=(lambda _: free) if free else None
        )
    except (VersionConflict, RolloutChanged):
        world.witness.applied(None, payload, node.name)
    except OutcomeUnknown:
        world.note(f"{node.name} does not know whether its document is in force")
    except StoreError as error:
        world.note(f"{node.name} cannot apply: {error}")
    else:
        world.note(f"{node.name} has applied version {version}")
        world.witness.applied(version, payload, node.name)


def _roll_out(world: World, fault: Fault) -> None:
    """One in two documents is bad."""
    work = roll_out(world, world.nodes[fault.target], f"{fault.at} by {fault.target}", bad=fault.amount < 0.5)
    world.at(fault.target, work)


def _roll_out_two(world: World, fault: Fault) -> None:
    for name, bad in ((fault.target, fault.amount < 0.5), (fault.other, fault.amount >= 0.5)):
        world.at(name, roll_out(world, world.nodes[name], f"{fault.at} by {name}", bad=bad))


def _promote(world: World, fault: Fault) -> None:
    world.at(fault.target, end_rollout(world, world.nodes[fault.target], promote=True))


def _abort(world: World, fault: Fault) -> None:
    world.at(fault.target, end_rollout(world, world.nodes[fault.target], promote=False))


def _prune(world: World, fault: Fault) -> None:
    async def prune() -> None:
        try:
            await documents.prune(world.nodes[fault.target].store, KEYS, keep=KEPT_VERSIONS)
        except StoreError as error:
            world.note(f"{fault.target} cannot prune: {error}")

    world.at(fault.target, prune())


def _compact(world: World, fault: Fault) -> None:
    """After writes that a lagging watch has not heard of, the history is gone."""

    async def compact() -> None:
        node = world.nodes[fault.other]
        await apply(world, node, f"{fault.at} before a compaction")
        await world.store.compact((await world.store.list(KEYS.root())).revision)

    world.at(fault.other, compact())


def _drain(world: World, fault: Fault) -> None:
    async def drain() -> None:
        try:
            await world.nodes[fault.other].plane.drain(fault.target, True)
        except (DrainRefused, StoreError) as error:
            world.note(f"the order is not given: {error}")

    world.at(fault.other, drain())


def _undrain(world: World, fault: Fault) -> None:
    async def undrain() -> None:
        try:
            await world.nodes[fault.other].plane.drain(fault.target, False)
        except StoreError as error:
            world.note(f"the order is not taken back: {error}")

    world.at(fault.other, undrain())


def _maintain(world: World, fault: Fault) -> None:
    """As an upgrade does it: the node is drained, restarted under the order, and the order taken back in the end."""

    async def restart() -> None:
        await asyncio.sleep(RESTART_AFTER_SECONDS)
        if world.nodes[fault.target].state == "running":
            world.kill(fault.target)
            world.start(fault.target)

    _drain(world, fault)
    world.work(restart())


INSTANT = (0.0, 0.0)
ROLLING = ("roll_out", "roll_out_two")
KINDS: Mapping[str, Kind] = {
    "kill": Kind("{target} is killed", 8, (0.3, 8.0), begin=_kill, end=_start, kills=True),
    "pause": Kind("{target} stands still", 6, begin=_pause, end=_resume),
    "leave": Kind("{target} is told to stop", 4, (2.5, 6.0), begin=_leave, end=_come),
    "not_serving": Kind("{target} says that it does not serve", 2, begin=_serve_not, end=_serve),
    "island": Kind("{target} reaches nobody", 5, (0.3, 8.0), kills=True),
    "split": Kind("region {target} is split off from the others", 3),
    "one_way": Kind("nothing from {target} reaches {other}", 4),
    "dark": Kind("the data path of {target} is dead", 3, (1.0, 8.0)),
    "mute": Kind("the reports of {target} reach nobody", 3),
    "late": Kind("the messages of {target} take {amount} s more", 3, amount=(0.2, 1.5)),
    "loss": Kind("{amount} of all messages are lost", 2, amount=(0.05, 0.3)),
    "doubling": Kind("{amount} of all messages arrive twice", 2, amount=(0.2, 1.0)),
    "jitter": Kind("messages take up to {amount} s and overtake each other", 3, amount=(0.05, 0.3)),
    "store_down": Kind("no member of the store answers", 4, (0.5, 8.0)),
    "leaderless": Kind("the store has no leader", 4, (0.5, 6.0)),
    "no_store": Kind("{target} does not reach the store", 5, (0.5, 8.0)),
    "unanswered": Kind("no answer of the store reaches {target}", 4, (0.5, 6.0)),
    "slow": Kind("requests of {target} to the store take seconds", 4, (1.0, 8.0)),
    "lost_answers": Kind("{amount} of the store's answers are lost", 3, amount=(0.1, 0.5)),
    "late_writes": Kind("{amount} of all writes land after their sender gave up, or never", 3, amount=(0.1, 0.6)),
    "lag": Kind("watches of {target} hear nothing, and the history is compacted", 4, (1.0, 5.0), begin=_compact),
    "resign": Kind("the leader resigns", 2, INSTANT, begin=_resign),
    "apply": Kind("an operator applies one document after the other on {target}", 6, (0.1, 4.0), begin=_apply),
    "apply_two": Kind("two operators apply documents, on {target} and {other}", 3, INSTANT, begin=_apply_two),
    "prune": Kind("old versions are pruned by {target}", 2, INSTANT, begin=_prune),
    "drain": Kind("an operator orders {target} to drain, on {other}", 5, (1.0, 8.0), begin=_drain, end=_undrain),
    # Of weight 0: they are drawn by `_maintenance` and `_rollouts`.
    "uneven": Kind("some requests of {target} to the store take most of a second", 0, (1.0, 6.0)),
    "maintain": Kind("{target} is drained on {other}, restarted and undrained, and its store is uneven", 0, (4.0, 7.0),
                     begin=_maintain, end=_undrain),
    "roll_out": Kind("an operator rolls out a document on {target}, bad below 0.5: {amount}", 0, (3.0, 6.0), (0.0, 1.0),
                     begin=_roll_out),
    "roll_out_two": Kind("two operators roll out, on {target} and {other}, one a bad document", 0, (3.0, 6.0),
                         (0.0, 1.0), begin=_roll_out_two),
    "promote": Kind("an operator makes the candidate current, on {target}", 0, INSTANT, begin=_promote),
    "abort": Kind("an operator takes the candidate back, on {target}", 0, INSTANT, begin=_abort),
    "drain_region": Kind("an operator orders region {target} to drain, on {other}", 2, (1.0, 8.0),
                         begin=_drain, end=_undrain),
}  # fmt: skip
