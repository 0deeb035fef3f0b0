"""Drives core/rollout: every node follows the rollout in the store and does its part; the leader judges and moves it.

It decides nothing. Every write of the leader is fenced and demands the record that it judged by, so a leader that was
replaced, or an operator who aborted meanwhile, is never overruled. While the store is away nothing moves: nodes go on
with their part. A new leader goes on from the record, its stage's time begins again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from meridian.control.fences import revision_of
from meridian.control.members import MemberRecord
from meridian.control.rollout_record import RolloutRecord, decode, writes
from meridian.control.waiting import Pause, signalled
from meridian.core.judging import BOUNDS_SECONDS, Arms
from meridian.core.rollout import Finish, NodeTrial, Observed, Part, Undo, part, progress, step
from meridian.store import documents
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import Compare, CreatedAt, ModifiedAt, Op, Put, Store, StoreError, StoreUnavailable, ValueIs

LOOK_SECONDS = 0.25  # a candidate that fails everything is seen within a second
TELL_SECONDS = 0.5  # a node's counts: two writes a second, while it tries a candidate
AGAIN_SECONDS = 1.0  # after a write that failed

_log = logging.getLogger("meridian.control")


@dataclass(frozen=True, slots=True)
class Word:
    """What a node says of the present rollout. `node_id` names its boot: one that restarted has tried nothing."""

    node_id: str = ""
    candidate: int = 0
    answered: bool = False
    refused: str = ""
    generation: int = 0
    arms: Arms | None = None


_words = msgspec.json.Decoder(Word)


@dataclass(frozen=True, slots=True)
class RolloutHandlers:
    """What the node is told, on the loop: `on_candidate(version, payload)` to compile it, `on_part(part)` how much it
    serves (Part() at the end). `tried(part)` asks what both versions did since that part began."""

    on_candidate: Callable[[int, bytes], None] = lambda version, payload: None
    on_part: Callable[[Part], None] = lambda part: None
    tried: Callable[[Part], Arms | None] = lambda part: None


NO_HANDLERS = RolloutHandlers()


@dataclass(slots=True)
class _Lead:
    """What the leader holds between two looks."""

    fence: int
    candidate: int
    stages: dict[int, float] = field(default_factory=dict)  # generation: since


class Rollouts:
    """One node's part in rollouts. `record` is the present or the last one, None if there was none."""

    def __init__(
        self, store: Store, keys: Keys, name: str, node_id: str, region: str, *,
        fence: Callable[[], int | None], members: Callable[[], Mapping[str, MemberRecord]],
        clock: Callable[[], float], handlers: RolloutHandlers,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        self.record: RolloutRecord | None = None
        self._store, self._keys = store, keys
        self._name, self._node_id, self._region = name, node_id, region
        self._fence, self._members, self._clock, self._wall = fence, members, clock, wall
        self._handlers = handlers
        self._part = Part()
        self._told = False  # workers outlive an agent: what they try is known only after the first word to them
        self._word = Word(node_id)
        self._handed = 0  # the candidate that was handed on
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._lead: _Lead | None = None

    async def run(self) -> None:
        """Takes part until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for work in (self._follow(), self._fetch(), self._tell(), self._look()):
                tasks.create_task(work)

    def checked(self, version: int, refused: str) -> None:
        """This node can run the candidate, or says why not. A refusal stands: whoever died of it once may come back."""
        if self._word.candidate == version and self._word.refused:
            return
        self._word = replace(self._word, candidate=version, answered=not refused, refused=refused)
        self._changed.set()

    # Every node

    async def _follow(self) -> None:
        key = self._keys.rollout()
        async with aclosing(mirror(self._store, key)) as views:
            async for view in views:
                item = view.get(key)
                try:
                    self.record = decode(item) if item is not None else None
                except StoreError as error:
                    _log.error("the rollout cannot be read and is left alone: %s", error)
                    self.record = None
                own = part(self.record.state(0.0) if self.record is not None else None, self._name, self._region)
                if own != self._part or not self._told:
                    self._take(own)

    def _take(self, own: Part) -> None:
        if own.candidate != self._part.candidate:
            self._word, self._handed = Word(self._node_id), 0
            self._wanted.set()
        self._part, self._told = own, True
        self._handlers.on_part(own)
        self._changed.set()

    async def _fetch(self) -> None:
        """Reads a candidate whole and hands it on."""
        pause = Pause(0.1, 2.0)
        while True:
            await self._wanted.wait()
            wanted = self._part.candidate
            if wanted in (0, self._handed):
                self._wanted.clear()
                continue
            try:
                _, payload = await documents.read_version(self._store, self._keys, wanted)
            except StoreUnavailable:
                await pause()
                continue
            except StoreError as error:
                self.checked(wanted, f"it cannot be read: {error}")
                self._handed = wanted
                continue
            pause.reset()
            if wanted == self._part.candidate:
                self._handed = wanted
                self._handlers.on_candidate(wanted, payload)

    async def _tell(self) -> None:
        """Writes what this node says, when it changes. The key has no other writer."""
        written = Word(self._node_id)
        while True:
            await signalled(self._changed, TELL_SECONDS if self._part.candidate else 3600.0)
            if not self._part.candidate:
                written = Word(self._node_id)
                continue
            arms = self._handlers.tried(self._part)  # which may change what this node says
            word = replace(self._word, generation=self._part.generation, arms=arms)
            if word == written:
                continue
            try:
                await self._store.put(self._keys.trial(self._name), msgspec.json.encode(word))
                written = word
            except StoreError as error:
                _log.info("what this node says of the rollout could not be written, trying again: %s", error)
                await asyncio.sleep(AGAIN_SECONDS)
                self._changed.set()

    # The leader

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            fence = self._fence()
            if fence is None or self.record is None or self.record.over:
                self._lead = None
                continue
            try:
                await self._judge(fence)
            except StoreError as error:
                _log.info("the rollout holds, the store does not answer: %s", error)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _judge(self, fence: int) -> None:
        item = await self._store.get(self._keys.rollout())
        if item is None or (record := decode(item)).over:
            return
        now = self._clock()
        nodes = await self._observe(record)
        rollout = record.state(self._since(fence, record, now))
        stepped = step(rollout, Observed(nodes), now)
        after = record.following(stepped.state, progress(rollout, nodes))
        if stepped.state.generation != rollout.generation:
            after = replace(after, candidate_exchanges=0, candidate_failed=0, current_exchanges=0, current_failed=0)
        when: list[Compare] = [
            CreatedAt(self._keys.leader(), revision_of(fence)),
            ModifiedAt(item.key, item.mod_revision),
        ]
        then: list[Op] = []
        for command in stepped.commands:
            if isinstance(command, (Finish, Undo)):
                after = after.ending(
                    stepped.state.stage, stepped.state.detail, self._wall().isoformat(timespec="milliseconds")
                )
            if isinstance(command, Finish):
                when.append(ValueIs(self._keys.current(), str(record.base).encode()))
                then.append(Put(self._keys.current(), str(record.candidate).encode()))
        if after == record or self._fence() != fence:
            return
        result = await self._store.txn(when, [*then, *writes(self._keys, after)])
        if result.succeeded and stepped.commands:
            _log.info("rollout of version %d: %s %s", after.candidate, after.stage.value, after.detail)
        elif not result.succeeded:
            await asyncio.sleep(AGAIN_SECONDS)  # somebody else wrote: look again

    def _since(self, fence: int, record: RolloutRecord, now: float) -> float:
        """When this leader first saw the present stage."""
        lead = self._lead
        if lead is None or lead.fence != fence or lead.candidate != record.candidate:
            lead = self._lead = _Lead(fence, record.candidate)
        return lead.stages.setdefault(record.generation, now)

    async def _observe(self, record: RolloutRecord) -> dict[str, NodeTrial]:
        said: dict[str, Word] = {}
        for item in (await self._store.list(self._keys.trials())).items:
            try:
                said[item.key.removeprefix(self._keys.trials())] = _words.decode(item.value)
            except msgspec.MsgspecError as error:
                _log.warning("%s cannot be read and counts as silence: %s", item.key, error)
        nodes = {}
        for name, member in self._members().items():
            if member.witness:  # it has no workers that could try anything
                continue
            word = said.get(name, Word())
            if word.node_id != member.node_id or word.candidate != record.candidate:
                word = Word()
            arms = word.arms if word.generation == record.generation and _comparable(word.arms) else None
            nodes[name] = NodeTrial(member.region, word.answered, word.refused, arms)
        return nodes


def _comparable(arms: Arms | None) -> bool:
    """Whether a node counts as this one does: one of another version may know other bounds."""
    if arms is None:
        return True
    samples = [tally for sample in arms.samples.values() for tally in (sample.current, sample.candidate)]
    tallies = (*arms.current.values(), *arms.candidate.values(), *samples)
    return all(len(tally.slower) == len(BOUNDS_SECONDS) for tally in tallies)
