"""What this node does when the leader falls silent: it merges the reports that it holds itself, by the same rules.

    FOLLOWING --no beat for BEAT_LOST_SECONDS--> MERGING --a beat--> RETURNING --nothing differs, or heard for long--.
        ^  '--------------a greater fenced verdict ends MERGING and RETURNING at once-----------------.              |
        '------------------------------------------------------------------------------------------------------------'

Invariant: a merge is in force on this node only, upon the last fenced verdict, and any greater one ends it at once. A
leader beats only after it has judged all it knows and while the store takes its writes, so a beat says: this verdict is
up to date. A leader that comes back with the very verdict that this node has merged upon must not undo the merge with
its first word, which was said before it knew: the node waits until the leader, which has its reports, had time to judge
them. What differs then, the leader knows better.

Silence that this node slept through is its own: it listens for a report period before it merges.
"""

import asyncio
import logging
from collections.abc import Callable

from meridian.control.board import Board
from meridian.core.standings import REPORT_PERIOD_SECONDS, Evidence, Verdict

TICK_SECONDS = 0.05
BEAT_SECONDS = 0.25
BEAT_LOST_SECONDS = 0.7  # two beats lost, and one late by 150 ms
RETURN_SECONDS = 2.0  # a report's period, its way, a judgement and its write across 150 ms take 1.2 s

_log = logging.getLogger("meridian.control")


class Fallback:
    """`evidence(since)` gives what is known now; `merge(held, evidence, now)` is core/verdicts' for this node."""

    def __init__(
        self,
        board: Board,
        evidence: Callable[[float], Evidence],
        merge: Callable[[Verdict, Evidence, float], Verdict],
        clock: Callable[[], float],
    ) -> None:
        self._board = board
        self._evidence = evidence
        self._merge = merge
        self._clock = clock
        now = clock()
        self._since = now  # listening without a break since then
        self._ticked = now
        self._beat_at = now
        self._beating_since = now
        self._merging = False

    def beat(self, fence: int) -> None:
        """The leader of `fence` is heard, or a verdict of its is new here. One that was replaced does not count."""
        if fence < self._board.fenced.fence:
            return
        now = self._clock()
        if now - self._beat_at > BEAT_LOST_SECONDS:
            self._beating_since = now
        self._beat_at = now

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._tick(self._clock())

    def _tick(self, now: float) -> None:
        if now - self._ticked > REPORT_PERIOD_SECONDS:
            self._since = self._beat_at = self._beating_since = now
        self._ticked = now
        if now - self._beat_at > BEAT_LOST_SECONDS:
            if self._board.fenced.version and now - self._since >= REPORT_PERIOD_SECONDS:
                self._merge_own(now)
            return
        if self._merging:
            self._merging = False
            _log.info("the leader is heard again")
        held, fenced = self._board.verdict, self._board.fenced
        if held is not fenced:
            same = held.nodes == fenced.nodes and held.regions == fenced.regions
            if same or self._leader_has_judged(now):
                self._board.come_back()

    def _leader_has_judged(self, now: float) -> bool:
        """Whether it has been heard for so long that it knows what this node told it."""
        return now - self._beating_since > RETURN_SECONDS

    def _merge_own(self, now: float) -> None:
        if not self._merging:
            self._merging = True
            fenced = self._board.fenced
            _log.warning("no leader is heard: this node merges itself, upon (%d, %d)", fenced.fence, fenced.version)
        merged = self._merge(self._board.verdict, self._evidence(self._since), now)
        if merged is not self._board.verdict:
            self._board.fall_back(merged)
