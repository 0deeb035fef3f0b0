"""Watches the workers of a node while it tries a candidate: who dies or falls silent meanwhile is taken to do so of it.

A worker that is killed by what it serves (it crashes, runs out of memory, never ends a loop) counts nothing any more:
its exchanges are cut, not failed. So its end is a sign of its own. If it was not the candidate's fault, the rollout is
undone for nothing, and may be begun again.
"""

from collections.abc import Sequence

from meridian.core.rollout import Part
from meridian.nodes.crew import WorkerState

SILENT_SECONDS = 5.0
"""A worker reports each second, from the loop that serves. One that is merely short of processor time says something
within this; and a candidate must be back within 10 s."""


class Vigil:
    """Of one node. `look` again and again."""

    def __init__(self) -> None:
        self._candidate = 0
        self._pids: dict[str, int] = {}

    def look(self, part: Part, workers: Sequence[WorkerState], now: float) -> str:
        """Why the candidate should go; "" while nothing speaks against it."""
        if part.candidate != self._candidate or not part.share:
            self._candidate, self._pids = part.candidate, {}
        if not part.share:
            return ""
        for worker in workers:
            pid = self._pids.get(worker.label)
            if pid is None:
                if worker.connected:
                    self._pids[worker.label] = worker.pid
            elif not worker.connected or worker.pid != pid:
                return f"{worker.label} ended while it tried it"
            elif now - worker.heard > SILENT_SECONDS:
                return f"{worker.label} said nothing for {SILENT_SECONDS:.0f} s while it tried it"
        return ""
