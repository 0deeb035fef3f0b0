"""The verdict in force on this node. Only a greater (fence, version) replaces it, wherever it came from.

It may come from the store's mirror, from this node's own fenced write, or from a peer that has heard more: every
verdict on the way was written to the store under a fence first. Beside it stands what this node merged itself while the
leader was silent (control/fallback): in force here until a greater fenced verdict or the leader's voice ends it, told
to no other node, and never the ground of a write.
"""

from collections.abc import Callable

from meridian.core.standings import Standing, Verdict, greater


class Board:
    """Holds the verdict in force and the last fenced one; `posted` is called with each new one in force."""

    def __init__(self, posted: Callable[[Verdict], None]) -> None:
        self.verdict = Verdict()
        self.fenced = self.verdict
        self._posted = posted

    def post(self, verdict: Verdict) -> bool:
        """Takes the verdict if it is greater than the fenced one held; returns whether it was."""
        assert not verdict.fallback
        if not greater(verdict, self.fenced):
            return False
        self.fenced = verdict
        self._enforce(verdict)
        return True

    def fall_back(self, merged: Verdict) -> None:
        """Puts this node's own merge upon the fenced verdict in force."""
        assert (merged.fence, merged.version) == (self.fenced.fence, self.fenced.version)
        assert merged.fallback > self.verdict.fallback
        self._enforce(merged)

    def come_back(self) -> None:
        """Puts the fenced verdict back in force: its leader is heard, and has judged what this node told it."""
        if self.verdict is not self.fenced:
            self._enforce(self.fenced)

    def withdrawn_here(self) -> frozenset[str]:
        """Returns the nodes that only this node's fallback withdrew: told in reports, for the next leader to know."""
        if self.verdict is self.fenced:
            return frozenset()
        return _withdrawn(self.verdict) - _withdrawn(self.fenced)

    def _enforce(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self._posted(verdict)


def _withdrawn(verdict: Verdict) -> frozenset[str]:
    return frozenset(name for name, node in verdict.nodes.items() if node.standing is Standing.WITHDRAWN)
