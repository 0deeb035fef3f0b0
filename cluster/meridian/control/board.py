"""The verdict in force on this node. Only a greater (fence, version) replaces it, wherever it came from.

It may come from the store's mirror, from this node's own fenced write, or from a peer that has heard more: every
verdict on the way was written to the store under a fence first.
"""

from collections.abc import Callable

from meridian.core.verdicts import Verdict, greater


class Board:
    """Holds one verdict; `posted` is called with each new one."""

    def __init__(self, posted: Callable[[Verdict], None]) -> None:
        self.verdict = Verdict()
        self._posted = posted

    def post(self, verdict: Verdict) -> bool:
        """Takes the verdict if it is greater than the one held; returns whether it was."""
        if not greater(verdict, self.verdict):
            return False
        self.verdict = verdict
        self._posted(verdict)
        return True
