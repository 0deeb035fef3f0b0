"""Planted bugs about witnesses, cut-off leaders and load: each reverts one named rule, as in planted."""

from collections.abc import Mapping
from typing import Any

from tests.simulation import load_stories
from tests.simulation import verdict_stories as stories
from tests.simulation.story import THREE, Story

from meridian.control.driver import ControlPlane
from meridian.core.health import Sight
from meridian.core.verdicts import Case, Report


class WitnessUnheard(ControlPlane):
    """Rule 6: a witness has no vote."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _abstains(self, report: Report) -> bool:
            return report.witness or super()._abstains(report)


class OneVoteWithoutWitness(ControlPlane):
    """Rule 6: of two regions one withdraws the other, witness or not."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _outvoted(self, region: str, down: Any) -> bool:
            return any(report.sights.get(name) is Sight.DOWN for report in self.voters for name in down)


class DeafAndProud(ControlPlane):
    """A leader that hears nobody stays."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._aggregator._resign = lambda: None


class BlindToLoad(ControlPlane):
    """Rule 10: who leaves goes at once, whatever the others carry."""

    class rules(Case):  # noqa: N801  # the seam's name
        def _rooms(self, standings: Any) -> Any:
            return []


PLANTED_MORE: Mapping[type[ControlPlane], tuple[Mapping[str, str], Story]] = {
    WitnessUnheard: (stories.TWO_AND_WITNESS, stories.witnessed),
    OneVoteWithoutWitness: (stories.TWO_AND_WITNESS, stories.witness_lost),
    DeafAndProud: (THREE, stories.deaf_leader),
    BlindToLoad: (THREE, load_stories.gray_under_load),
}
