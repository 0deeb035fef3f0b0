"""Notices that this node serves an older verdict than others say they do, and asks them for it.

Verdicts arrive by the store's watch and by every peer's stream, so that one way may fail and nothing is missed. Should
both have failed without a word, the reports tell: each names the verdict in force at its observer. What this node
serves meanwhile stays in force (rule 16 of design/verdicts.md): an old verdict is better than none.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from meridian.control.board import Board
from meridian.core.standings import STALE_SECONDS, Heard

BEHIND_SECONDS = 1.0  # a write's way to all watches across 150 ms takes a third of it
AGAIN_SECONDS_MAX = (
    30.0  # every question makes all links anew; one that speaks of a verdict nobody has must not cost that
)
LOOK_SECONDS = 0.25

_log = logging.getLogger("meridian.control")


class CatchingUp:
    """`heard()` gives the reports that this node holds; `ask` makes peers tell their verdict anew."""

    def __init__(
        self,
        board: Board,
        heard: Callable[[], Mapping[str, Heard]],
        ask: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._board = board
        self._heard = heard
        self._ask = ask
        self._clock = clock
        self._behind_at: float | None = None
        self._patience_seconds = BEHIND_SECONDS

    async def run(self) -> None:
        """Looks until cancelled. Asks while this node is behind, each time after twice as long."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look(self._clock())

    def _look(self, now: float) -> None:
        held = (self._board.fenced.fence, self._board.fenced.version)
        fresh = (h.report for h in self._heard().values() if now - h.made <= STALE_SECONDS)
        newest = max(((report.fence, report.version) for report in fresh), default=held)
        if newest <= held:
            self._behind_at, self._patience_seconds = None, BEHIND_SECONDS
        elif self._behind_at is None:
            self._behind_at = now
        elif now - self._behind_at > self._patience_seconds:
            self._behind_at = now
            self._patience_seconds = min(2 * self._patience_seconds, AGAIN_SECONDS_MAX)
            _log.warning("others serve verdict %s, this node %s: it asks them", newest, held)
            self._ask()
