"""Planted bugs: each reverts one named rule of verdicts, in a subclass; the product has no switch for it.

`PLANTED` says which story is the bait. `python -m tests.simulation.planted --seeds 10` prints which seeds find each.
"""

import argparse
import logging
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulation import verdict_stories as stories
from tests.simulation.story import FIVE, THREE, Story, tell
from tests.simulation.test_simulation import second_region_lost

from meridian.control.driver import ControlPlane
from meridian.control.fallback import Fallback
from meridian.core.verdicts import Case, Evidence, Report, Verdict


class NoFallback(ControlPlane):
    """Rule 13: nobody merges while the leader is silent."""

    def _merge(self, held: Verdict, evidence: Evidence, now: float) -> Verdict:
        return held


class FallbackTold(ControlPlane):
    """Rule 13: what a node merged itself is told to others as if a leader had written it."""

    def _posted(self, verdict: Verdict) -> None:
        super()._posted(verdict)
        self._peers.publish(verdict)


class BeatsBlindly(ControlPlane):
    """Rule 13: a leader beats although it cannot write what it judged."""

    def _send(self, report: Report) -> None:
        super()._send(report)
        if (fence := self.leadership.fence()) is not None:
            self._beat(fence, self._board.fenced.version)


class FirstWordUndoes(ControlPlane):
    """Rule 14: the first word of a leader that was away brings back who fell meanwhile."""

    class Bug(Fallback):
        def _leader_has_judged(self, now: float) -> bool:
            return True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fallback = self.Bug(self._board, self._evidence, self._merge, self._clock)


class ClaimsForgotten(ControlPlane):
    """Rule 14: the next leader does not heed what the fallback withdrew."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _wish(self, name: str) -> Any:
            self.claimed = frozenset()
            return super()._wish(name)


class OnlyTheLeadersEars(ControlPlane):
    """Rule 4: silent is whom the leader does not hear, whatever others hear."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _signs_told(self, name: str) -> list[float]:
            return []


class GrayForEver(ControlPlane):
    """Rule 5: who speaks is never withdrawn."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _dark(self, name: str) -> bool:
            return False


class GrayByTwo(ControlPlane):
    """Rule 5: two in the dark are enough, though a third observer sees it up."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _dark(self, name: str) -> bool:
            return sum(name in report.dark for report in self.voters) >= 2


class NoGuard(ControlPlane):
    """Rule 8: a second region goes like the first."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _unanimous(self, region: str, down: Iterable[str]) -> bool:
            return True


class GuardInMemory(ControlPlane):
    """Rule 8: a new leader begins with a fresh budget."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _withdrawn_of_late(self) -> frozenset[str]:
            return super()._withdrawn_of_late() if self.previous.leader == self.judge else frozenset()


class OneVote(ControlPlane):
    """Rule 7: with one observer region left, it withdraws alone."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _outvoted(self, region: str, down: Collection[str]) -> bool:
            others = {report.region for report in self.voters} - {region}
            return len(others) == 1 or super()._outvoted(region, down)


class NoAbstention(ControlPlane):
    """Rule 3: who sees all others down votes like everyone."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _abstains(self, report: Report) -> bool:
            return False


class NoPenalty(ControlPlane):
    """Rule 15: who falls again and again comes back as quickly each time."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _penalised(self, node: Any) -> bool:
            return False


class QuickReturn(ControlPlane):
    """Rule 14: one word of its own is enough to come back."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _welcome(self, name: str) -> bool:
            return True


@dataclass(frozen=True, slots=True)
class Bait:
    """The cluster and the story that should find a bug."""

    names: Mapping[str, str]
    story: Story


PLANTED: Mapping[type[ControlPlane], Bait] = {
    NoFallback: Bait(THREE, stories.store_and_region_lost),
    FallbackTold: Bait(THREE, stories.store_and_region_lost),
    BeatsBlindly: Bait(THREE, stories.leader_cannot_write),
    FirstWordUndoes: Bait(THREE, stories.late_beats),
    ClaimsForgotten: Bait(THREE, stories.leader_stands_still),
    OnlyTheLeadersEars: Bait(stories.SEVEN, stories.one_hears_it),
    GrayForEver: Bait(THREE, stories.gray),
    GrayByTwo: Bait(stories.SEVEN, stories.half_dark),
    NoGuard: Bait(stories.SEVEN, stories.guarded),
    GuardInMemory: Bait(stories.SEVEN, stories.guarded),
    OneVote: Bait(FIVE, second_region_lost),
    NoAbstention: Bait(stories.TWO_EACH, stories.blind_observer),
    NoPenalty: Bait(THREE, stories.flapping),
    QuickReturn: Bait(THREE, stories.back_with_the_leader),
}


def finds(seed: int, bug: type[ControlPlane]) -> list[str]:
    """Returns what the invariants say of the bug's story under one seed; none means that it was not found."""
    bait = PLANTED[bug]
    return tell(seed, bait.names, bait.story, bug)[1]


def main() -> int:
    parser = argparse.ArgumentParser(description="Which seeds find which planted bug.")
    parser.add_argument("--seeds", type=int, default=10)
    seeds: int = parser.parse_args().seeds
    logging.disable()
    missed = 0
    for bug in PLANTED:
        found = {seed: violations for seed in range(seeds) if (violations := finds(seed, bug))}
        first = next(iter(found.values()), ["not found"])[0]
        sys.stdout.write(f"{bug.__name__:20} {len(found)} of {seeds}, seeds {list(found)}: {first[:100]}\n")
        sys.stdout.flush()
        missed += not found
    return missed


if __name__ == "__main__":
    sys.exit(main())
