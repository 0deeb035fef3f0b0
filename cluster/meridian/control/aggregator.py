"""Judges while this node leads, and writes each new verdict under its fence.

Invariant: a verdict is written only by the holder of the leader key, and only over the verdict it was made from: one
transaction compares the key's create revision and the verdict's mod revision. So a leader that was paused and does not
know that it was replaced writes nothing, and two judgements never build on the same one. An answer that was lost is
read back before anything else is judged.

A new leader waits one report period before judging. Without it, the silence of nodes that have not yet found the new
leader would look like the death of their region. The same holds after this process itself stood still for longer than
a period: then the silence was its own.

A leader that hears of fewer than half of those whom the store holds alive is cut off: it judges nobody and beats no
more, and if that lasts it resigns, so that one who hears them leads.

After each judgement that needed no write, or whose write was answered, it beats: so a leader that cannot write is as
silent as a dead one, and nobody waits for it (control/fallback).
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from meridian.control.board import Board
from meridian.control.fallback import BEAT_SECONDS
from meridian.control.fences import revision_of
from meridian.control.messages import decode_verdict, encode_verdict
from meridian.core.verdicts import REPORT_PERIOD_SECONDS, Case, Evidence, Verdict, cut_off, judge
from meridian.store.keys import Keys
from meridian.store.port import Compare, CreatedAt, Item, ModifiedAt, OutcomeUnknown, Put, Store, StoreError

TICK_SECONDS = 0.05
CUT_OFF_SECONDS = 2.0  # by then the member keys of the dead are gone, and who is the last one alive is not cut off
AGAIN_SECONDS = 0.2  # after the store failed: its own attempts have taken longer than that already

_log = logging.getLogger("meridian.control")


@dataclass(frozen=True, slots=True)
class Stored:
    """The verdict as the store holds it, its mod revision (0: there is none yet), and its bytes.

    What a newer leader wrote and this software does not know is kept in them, and goes into the next verdict.
    """

    verdict: Verdict
    revision: int
    value: bytes = b""


class Aggregator:
    """`evidence(since)` gives what is known now, `fence()` whether this node leads, both asked anew each time.

    `beat(fence, version)` is called each BEAT_SECONDS while this node leads and its verdict is up to date,
    `resign` when it should lead no longer. `rules` is for tests that plant a bug.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        name: str,
        board: Board,
        evidence: Callable[[float], Evidence],
        fence: Callable[[], int | None],
        clock: Callable[[], float],
        *,
        beat: Callable[[int, int], None] = lambda fence, version: None,
        resign: Callable[[], None] = lambda: None,
        rules: type[Case] = Case,
    ) -> None:
        self._store = store
        self._verdict_key = keys.verdict()
        self._leader_key = keys.leader()
        self._name = name
        self._board = board
        self._evidence = evidence
        self._fence = fence
        self._clock = clock
        self._beat = beat
        self._resign = resign
        self._rules = rules
        self._beat_at = 0.0
        self._since = clock()  # listening without a break since then
        self._ticked = self._since
        self._term: int | None = None  # the fence under which `_warm_at` and `_stored` were set
        self._warm_at = 0.0
        self._stored: Stored | None = None
        self._cut_off_at: float | None = None  # cut off since then

    async def run(self) -> None:
        """Ticks until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self._tick()
            except StoreError as error:
                _log.info("the verdict could not be read or written, trying again: %s", error)
                self._stored = None
                await asyncio.sleep(AGAIN_SECONDS)
                self._ticked = self._clock()  # this wait was ours, reports went on arriving

    async def _tick(self) -> None:
        now = self._clock()
        if now - self._ticked > REPORT_PERIOD_SECONDS:
            self._since = now
        self._ticked = now
        fence = self._fence()
        if fence is None:
            self._term = self._stored = self._cut_off_at = None
            return
        if fence != self._term:
            self._term, self._warm_at = fence, now + REPORT_PERIOD_SECONDS
        if now < max(self._warm_at, self._since + REPORT_PERIOD_SECONDS) or self._is_cut_off(now):
            return
        if self._stored is None:
            self._stored = self._read(await self._store.get(self._verdict_key))
            self._board.post(self._stored.verdict)
        await self._judge(self._stored, fence)
        self._ticked = self._clock()  # the store may have been slow, the reports were not

    def _is_cut_off(self, now: float) -> bool:
        """Whether this leader hears too few to judge; resigns once that has lasted."""
        if not cut_off(self._evidence(self._since), self._name, now):
            self._cut_off_at = None
            return False
        if self._cut_off_at is None:
            self._cut_off_at = now
        elif now - self._cut_off_at > CUT_OFF_SECONDS:
            _log.warning("%s leads and is cut off from most others: it resigns", self._name)
            self._cut_off_at = now
            self._resign()
        return True

    async def _judge(self, stored: Stored, fence: int) -> None:
        now = self._clock()
        evidence = self._evidence(self._since)
        verdict = judge(stored.verdict, evidence, now, leader=self._name, fence=fence, rules=self._rules)
        if self._fence() != fence:
            return
        if verdict is stored.verdict:
            self._say_beat(verdict, now)
            return
        when: list[Compare] = [
            CreatedAt(self._leader_key, revision_of(fence)),
            ModifiedAt(self._verdict_key, stored.revision),
        ]
        value = encode_verdict(verdict, now, over=stored.value)
        try:
            result = await self._store.txn(when, [Put(self._verdict_key, value)])
        except OutcomeUnknown:
            self._stored = None
            return
        if not result.succeeded:
            _log.warning("a verdict under fence %d was refused: another leads, or wrote first", fence)
            self._stored = None
            await asyncio.sleep(AGAIN_SECONDS)
            return
        self._stored = Stored(verdict, result.revision, value)
        _log.info("verdict %d under fence %d: %s", verdict.version, fence, _told(stored.verdict, verdict))
        self._board.post(verdict)

    def _say_beat(self, verdict: Verdict, now: float) -> None:
        if now >= self._beat_at:
            self._beat_at = now + BEAT_SECONDS
            self._beat(verdict.fence, verdict.version)

    def _read(self, item: Item | None) -> Stored:
        """A verdict that is missing or cannot be read is followed by the one this node holds, never by "all up"."""
        if item is None:
            return Stored(self._board.fenced, 0)
        try:
            stored = decode_verdict(item.value, self._clock())
        except DecodeError:
            _log.error("the stored verdict cannot be read; going on from the one in force here")
            return Stored(self._board.fenced, item.mod_revision)
        held = self._board.fenced
        # What this node has held for some time it knows the age of better than one who reads it now.
        same = (stored.fence, stored.version) == (held.fence, held.version)
        return Stored(held if same else stored, item.mod_revision, item.value)


def _told(before: Verdict, after: Verdict) -> str:
    """What changed, for the log."""
    changes = []
    for name, node in after.nodes.items():
        old = before.nodes.get(name)
        if old is None or old.standing is not node.standing:
            changes.append(f"{name} {node.standing.name} ({node.reason})" if node.reason else f"{name} SERVING")
    for name, region in after.regions.items():
        was = before.regions.get(name)
        if region.share is not None and (was is None or was.share != region.share):
            changes.append(f"{name} keeps {region.share:.0%} of its clients")
    changes += [f"{name} left" for name in before.nodes.keys() - after.nodes.keys()]
    return ", ".join(changes) or "same standings"
