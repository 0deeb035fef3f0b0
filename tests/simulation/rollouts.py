"""Rollouts in the world: what a node's workers try, what operators ask for, and what must hold of it.

A document whose text begins with BAD fails every exchange that takes it. The invariants: it never comes into force but
by an operator's word; a rollout ends once, in the way in which its pointer moved or stayed; its stages never go back;
what is not an operator's write is the leader's.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from tests.simulation.keys import KEYS

from meridian.control.configuration import Configuration, NoRollout
from meridian.control.rollout import RolloutHandlers
from meridian.control.rollout_record import RolloutRecord, decode, writes
from meridian.core.judging import Arms, Tally
from meridian.core.rollout import Part, Rules, Stage, first_generation
from meridian.store import documents
from meridian.store.documents import Beside, RolloutChanged, VersionConflict, VersionMeta
from meridian.store.port import Item, Op, OutcomeUnknown, Put, StoreError

if TYPE_CHECKING:
    from tests.simulation.world import Node, World

BAD = b"bad "
REQUESTS_PER_SECOND = 100.0  # of each node
RULES = Rules(min_exchanges=20, stage_seconds=1.0)
COMPILE_SECONDS = 0.05


class Trying:
    """What the workers of one boot of a node do of rollouts."""

    def __init__(self, node: "Node") -> None:
        self.part = Part()
        self._node = node
        self._since = 0.0
        self._compiled: dict[int, bool] = {}  # version, and whether it is bad

    def handlers(self) -> RolloutHandlers:
        """As the control plane wants them."""
        return RolloutHandlers(self._compile, self._take, self._tried)

    def _compile(self, version: int, payload: bytes) -> None:
        loop, context = self._node.world.loop, self._node.peers.context
        loop.call_later(COMPILE_SECONDS, self._hold, version, payload.startswith(BAD), context=context)

    def _hold(self, version: int, bad: bool) -> None:
        self._compiled[version], self._since = bad, self._node.world.loop.now
        self._node.plane.rollouts.checked(version, "")

    def _take(self, part: Part) -> None:
        if part.share != self.part.share:
            self._node.world.note(f"{self._node.name} gives version {part.candidate} a share of {part.share}")
        self.part, self._since = part, self._node.world.loop.now

    def _tried(self, part: Part) -> Arms | None:
        bad = self._compiled.get(part.candidate)
        if bad is None or not part.share:
            return None
        exchanges = int(REQUESTS_PER_SECOND * (self._node.world.loop.now - self._since))
        ours = int(exchanges * part.share)
        return Arms(part.share, {"r": Tally(exchanges - ours)}, {"r": Tally(ours, failed=ours if bad else 0)})


# The operators' deeds.


async def roll_out(world: "World", node: "Node", what: str, *, bad: bool) -> None:
    """An operator applies a document in stages upon the version that is current, if no other is on its way."""
    payload = (BAD if bad else b"good ") + f"document of {what}".encode()
    if bad:
        world.witness.rollouts.bad.add(hashlib.sha256(payload).hexdigest())
    try:
        current = await documents.current_version(node.store, KEYS)
        item = await node.store.get(KEYS.rollout())
        if not current or (item is not None and not decode(item).over):
            world.note(f"{node.name} is told that another rollout is on its way")
            return

        def beside(number: int) -> Beside:
            record = RolloutRecord(number, current, RULES, generation=first_generation(number), author=node.name)
            return Beside(KEYS.rollout(), _revision(item), writes(KEYS, record))

        version = await documents.write_version(
            node.store, KEYS, payload, VersionMeta(node.name, what, "2026-01-01T00:00:00Z"),
            expected_current=current, beside=beside, candidate=True,
        )  # fmt: skip
    except (VersionConflict, RolloutChanged):
        world.witness.applied(None, payload, node.name)
    except OutcomeUnknown:
        world.note(f"{node.name} does not know whether its document is being rolled out")
    except StoreError as error:
        world.note(f"{node.name} cannot roll out: {error}")
    else:
        world.note(f"{node.name} rolls out version {version}")
        world.witness.applied(version, payload, node.name)


async def end(world: "World", node: "Node", *, promote: bool) -> None:
    """An operator makes the candidate current, or takes it back, whatever was seen."""
    configuration = Configuration(node.store, KEYS, b"")
    try:
        await (configuration.promote if promote else configuration.abort)(author=node.name)
    except (NoRollout, StoreError) as error:
        world.note(f"{node.name} ends no rollout: {error}")


async def unless_one_runs(node: "Node") -> Beside | None:
    """What a document that is applied at once demands: that no rollout is on its way, nor begins meanwhile. None if one
    is. Raises StoreError."""
    item = await node.store.get(KEYS.rollout())
    return Beside(KEYS.rollout(), _revision(item)) if item is None or decode(item).over else None


def _revision(item: Item | None) -> int:
    return item.mod_revision if item is not None else 0


class RolloutWitness:
    """What must hold of rollouts in one world."""

    def __init__(self, world: "World") -> None:
        self.bad: set[str] = set()  # digests
        self._world = world
        self._record: RolloutRecord | None = None
        self._promoted: set[int] = set()

    def wrote(self, node: "Node", ops: Sequence[Op]) -> None:
        """A transaction of a node was done."""
        puts = {op.key: op.value for op in ops if isinstance(op, Put)}
        if (value := puts.get(KEYS.rollout())) is None:
            return
        before, after = self._record, decode(Item(KEYS.rollout(), value, 0, 0))
        self._record = after
        self._world.note(f"{node.name} writes: version {after.candidate} {after.stage.value} {after.detail}")
        moved = puts.get(KEYS.current()) == str(after.candidate).encode()
        if moved != (after.stage is Stage.DONE):
            self._world.violate(
                f"the rollout of version {after.candidate} is {after.stage}, its pointer moved: {moved}"
            )
        if before is None or before.candidate != after.candidate:
            if before is not None and not before.over:
                self._world.violate(f"version {after.candidate} is rolled out over version {before.candidate}")
            return
        if before.over or after.generation < before.generation:
            self._world.violate(f"version {after.candidate} went from {before.stage} back to {after.stage}")
        by_operator = after.over and after.detail.partition(" ")[0] in ("promoted", "aborted")
        if by_operator and moved:
            self._promoted.add(after.candidate)
        leader = self._world.peek(KEYS.leader())
        leads = leader is not None and msgspec.json.decode(leader.value)["node_id"] == f"{node.name}.{node.boot}"
        if not by_operator and not leads:
            self._world.violate(f"{node.name} moved the rollout of version {after.candidate} and does not lead")

    def served(self, node: "Node", version: int, digest: str) -> None:
        """A version came into force on a node."""
        if digest in self.bad and version not in self._promoted:
            self._world.violate(f"{node.name} serves version {version}, which fails everything")

    def ailments(self) -> list[str]:
        """What is not as it should be when nothing has happened for a while."""
        item = self._world.peek(KEYS.rollout())
        record = decode(item) if item is not None else None
        found = []
        if record is not None and not record.over:
            found.append(f"the rollout of version {record.candidate} is {record.stage.value}: {record.detail}")
        found += [
            f"{node.name} tries {node.trying.part}" for node in self._world.running() if node.trying.part.candidate
        ]
        return found
