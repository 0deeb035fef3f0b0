"""Planted bugs of the control plane: each reverts one named rule of an invariant, and the seeds are to find it.

A bug sits in a subclass of a part, or between a part and the store; the product has no switch for it. The first words
of a docstring name the invariant and the room. `PLANTED` is read by registry.py.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from meridian.control.aggregator import Aggregator
from meridian.control.board import Board
from meridian.control.config_watch import ConfigWatch
from meridian.control.drains import Drains
from meridian.control.driver import ControlPlane
from meridian.control.grants import Grants
from meridian.control.leadership import Leadership
from meridian.control.membership import AGAIN_SECONDS, Membership
from meridian.core import draining, election
from meridian.core.granting.allocation import Allocation
from meridian.core.granting.seats import Event, NotTaken, Save, Taken
from meridian.core.verdicts import Case, Heard, Verdict
from meridian.store.port import (
    Absent,
    Batch,
    Compacted,
    Compare,
    CreatedAt,
    Item,
    LeaseLost,
    ModifiedAt,
    Op,
    Store,
    StoreError,
    StoreUnavailable,
    TxnResult,
)


class Between:
    """Stands between a part and its store, and passes on what a bug does not change."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Unconditional(Between):
    """Leaves out the conditions of one kind."""

    left_out: type[Compare] = Absent

    async def txn(self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()) -> TxnResult:
        return await self._store.txn([c for c in when if not isinstance(c, self.left_out)], then, otherwise)


class LeaseNotReplaced(ControlPlane):
    """Invariant 4, membership: a lease that was lost is replaced."""

    class Bug(Membership):
        async def _prolong(self) -> float:
            try:
                return await super()._prolong()
            except LeaseLost:
                return AGAIN_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._membership.__class__ = self.Bug


class LateWriteUnseen(ControlPlane):
    """Invariant 4, membership: a late write of an older record over a newer one is seen and repaired."""

    class Bug(Membership):
        def observe(self, item: Item | None) -> None:
            pass

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._membership.__class__ = self.Bug


class RecordGivenUp(ControlPlane):
    """Invariant 4, membership: a record whose write got no answer is written again."""

    class Bug(Membership):
        async def _rewrite(self) -> None:
            try:
                await self._write()
            except StoreUnavailable:
                pass

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._membership.__class__ = self.Bug


class LeaseFromAnswer(ControlPlane):
    """Invariant 3, election: a leader counts its lease from the moment of asking."""

    class Bug(Leadership):
        async def _perform(self, command: election.Command) -> election.Event | None:
            event = await super()._perform(command)
            if isinstance(event, election.Won | election.Renewed):
                return replace(event, asked=self._clock())
            return event

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.leadership.__class__ = self.Bug


class WholeLease(ControlPlane):
    """Invariant 3, election: of a lease only what is certain is used, as clocks' rates differ."""

    class Bug(Leadership):
        async def _perform(self, command: election.Command) -> election.Event | None:
            event = await super()._perform(command)
            if isinstance(event, election.Won | election.Renewed):
                return replace(event, ttl_seconds=event.ttl_seconds / election.CERTAIN)
            return event

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.leadership.__class__ = self.Bug


class LeadsUntilTold(ControlPlane):
    """Invariant 3, election: a leader stops by its own clock, not when it is told."""

    class Bug(Leadership):
        def fence(self) -> int | None:
            return self.state.fence if isinstance(self.state, election.Leader) else None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.leadership.__class__ = self.Bug


class KeyOverwritten(ControlPlane):
    """Invariant 3, election: the leader key is created only if it is absent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.leadership._store = Unconditional(self._store)


class Unfenced(ControlPlane):
    """Invariant 3, fencing: a verdict is written only by the holder of the leader key."""

    class Bug(Unconditional):
        left_out = CreatedAt

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._aggregator._store = self.Bug(self._store)


class OverAnyVerdict(ControlPlane):
    """Invariant 6, aggregation: a verdict is written only over the verdict it was made from."""

    class Bug(Unconditional):
        left_out = ModifiedAt

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._aggregator._store = self.Bug(self._store)


class NoWarmUp(ControlPlane):
    """Invariant 5, aggregation: a new leader listens before it judges, and silence before that is its own."""

    class Bug(Aggregator):
        async def _tick(self) -> None:
            self._since, self._term, self._warm_at = -1e9, self._fence(), -1e9
            await super()._tick()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._aggregator.__class__ = self.Bug


class SleptThrough(ControlPlane):
    """Invariant 5, aggregation: silence that the judge slept through is its own."""

    class Bug(Aggregator):
        async def _tick(self) -> None:
            self._ticked = self._clock()
            await super()._tick()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._aggregator.__class__ = self.Bug


class AnyVerdict(ControlPlane):
    """Invariant 6, verdicts: only a greater verdict replaces the one in force, wherever it came from.

    Each lesser one is taken once only: as every node passes on what it takes, they would go round for ever.
    """

    class Bug(Board):
        taken: set[tuple[int, int]]

        def post(self, verdict: Verdict) -> bool:
            number = (verdict.fence, verdict.version)
            if number >= (self.fenced.fence, self.fenced.version) or number in self.taken:
                return super().post(verdict)
            self.taken.add(number)
            self.fenced = verdict
            self._enforce(verdict)
            return True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._board.__class__ = self.Bug
        vars(self._board)["taken"] = set()


class ForgottenIsSilent(ControlPlane):
    """Invariant 4, verdicts: a node that the store forgot but that speaks is not silent."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _silent(self, name: str) -> bool:
            return name not in self.evidence.members or super()._silent(name)


class NoWitness(ControlPlane):
    """Invariant 5, verdicts: nobody is withdrawn unless one other node sees it down."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _wish(self, name: str) -> Any:
            self.accusers = Counter(self._names())
            return super()._wish(name)


class StaleCounts(ControlPlane):
    """Invariant 5, verdicts: a report that is older than two seconds says nothing."""

    class rules(Case):  # noqa: N801  # the seam's name
        def __init__(self, previous: Verdict, evidence: Any, now: float, judge: str) -> None:
            fresh: Mapping[str, Heard] = {n: Heard(h.report, max(h.made, now - 1.9)) for n, h in evidence.heard.items()}
            super().__init__(previous, replace(evidence, heard=fresh), now, judge)


class NobodyRemains(ControlPlane):
    """Invariant 5, verdicts: nobody goes unless a node that is well remains, and no region without a majority."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _remains(self, well: Any) -> bool:
            return True

        def _outvoted(self, region: str, down: Any) -> bool:
            return True


class SeatTakenTwice(ControlPlane):
    """Invariant 2, grants: a seat is taken only if it is nobody's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._grants._store = Unconditional(self._store)


class FloorGivenUp(ControlPlane):
    """Invariant 4, grants: home seats are kept while the store is away."""

    class Bug(Grants):
        async def _keep_lease(self, lease: int) -> None:
            await super()._keep_lease(lease)
            if self._away and self.state is not None:
                self.state = replace(self.state, homes=frozenset())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._grants.__class__ = self.Bug


class SeatNotKept(ControlPlane):
    """Invariant 4, grants: a node has its home seats again after a cold start without the store."""

    class Bug(Grants):
        async def _save(self, state: Allocation, command: Save) -> None:
            pass

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._grants.__class__ = self.Bug


class LostTakeBelieved(ControlPlane):
    """Invariant 2, grants: a seat is a node's only when the store has said so."""

    class Bug(Grants):
        def _feed(self, event: Event) -> None:
            super()._feed(Taken(event.seat, event.nonce, {}) if isinstance(event, NotTaken) else event)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._grants.__class__ = self.Bug


class LeaseOutlived(ControlPlane):
    """Invariant 2, grants: leased seats are spent only for as long as the store certainly keeps the lease."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        told = self._grants._told
        self._grants._told = lambda cut, tell: told(
            cut, replace(tell, allowance=replace(tell.allowance, until=float("inf")))
        )


class NoColdStart(ControlPlane):
    """Invariant 4, config watch: a node serves what its disk holds before it asks anybody."""

    class Bug(ConfigWatch):
        async def load(self) -> None:
            pass

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._config.__class__ = self.Bug


class FirstCopyOnly(ControlPlane):
    """Invariant 4, config watch: the copy on disk is the newest that was handed on."""

    class Disk(Between):
        async def save(self, name: str, content: bytes) -> None:
            if await self._store.load(name) is None:  # type: ignore[attr-defined]  # a disk here
                await self._store.save(name, content)  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._config._disk = self.Disk(self._config._disk)  # type: ignore[arg-type]


class CompactedSkipped(ControlPlane):
    """Invariant 4, config watch: when the history is gone, the content is listed again."""

    class Bug(Between):
        async def watch(self, prefix: str, *, after_revision: int, era: int = 0) -> AsyncGenerator[Batch, None]:
            while True:
                try:
                    watching = self._store.watch(prefix, after_revision=after_revision, era=era)
                    async with aclosing(watching) as batches:
                        async for batch in batches:
                            after_revision = batch.revision
                            yield batch
                except Compacted as gone:
                    after_revision = gone.revision

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._config._store = self.Bug(self._store)


class ReadOnce(ControlPlane):
    """Invariant 4, config watch: a version that could not be read for want of the store is read again."""

    class Bug(Between):
        async def get(self, key: str) -> Item | None:
            try:
                return await self._store.get(key)
            except StoreUnavailable as error:
                raise StoreError(str(error)) from error

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._config._store = self.Bug(self._store)


class LeavesAtOnce(ControlPlane):
    """Invariant 7, drain: a node that stops waits until the verdict leaves it out."""

    class Bug(Drains):
        def judged(self, standing: Any) -> None:
            super().judged(None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._drains.__class__ = self.Bug


class OrdersUnread(ControlPlane):
    """Invariant 7, drain: a node reads its orders before its first report."""

    async def _report(self) -> None:
        await self._reporter.run()


class RegionNotObeyed(ControlPlane):
    """Invariant 7, drain: an order that names a node's region is obeyed as one that names the node."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._drains._own = {self._identity.name}


class OrderNeverEnds(ControlPlane):
    """Invariant 7, drain: a node whose order is taken back serves again."""

    class Bug(Drains):
        def _feed(self, event: draining.Event) -> bool:
            return False if event == draining.Ordered(False) else super()._feed(event)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._drains.__class__ = self.Bug


PLANTED: tuple[type[ControlPlane], ...] = (
    LeaseNotReplaced, LateWriteUnseen, RecordGivenUp,
    LeaseFromAnswer, WholeLease, LeadsUntilTold, KeyOverwritten, Unfenced,
    OverAnyVerdict, NoWarmUp, SleptThrough, AnyVerdict, ForgottenIsSilent, NoWitness, StaleCounts, NobodyRemains,
    SeatTakenTwice, FloorGivenUp, SeatNotKept, LostTakeBelieved, LeaseOutlived,
    NoColdStart, FirstCopyOnly, CompactedSkipped, ReadOnce,
    LeavesAtOnce, OrdersUnread, RegionNotObeyed, OrderNeverEnds,
)  # fmt: skip
