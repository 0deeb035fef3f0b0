"""Planted bugs of rollouts: each reverts one named rule, as in planted_control."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.simulation.planted_control import Unconditional

from meridian.control.driver import ControlPlane
from meridian.control.rollout import Rollouts
from meridian.control.rollout_record import RolloutRecord
from meridian.core.judging import Tally
from meridian.core.rollout import NodeTrial
from meridian.store.port import CreatedAt, ModifiedAt


class RolloutUnfenced(ControlPlane):
    """Invariant 3, rollout: a rollout is moved only by the holder of the leader key."""

    class Bug(Unconditional):
        left_out = CreatedAt

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rollouts._store = self.Bug(self._store)


class OverAnyRollout(ControlPlane):
    """Invariant 3, rollout: a rollout is moved only from the record that was judged."""

    class Bug(Unconditional):
        left_out = ModifiedAt

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rollouts._store = self.Bug(self._store)


class FailuresUncounted(ControlPlane):
    """Invariant 7, rollout: a document that fails on the canary never reaches all."""

    class Bug(Rollouts):
        async def _observe(self, record: RolloutRecord) -> dict[str, NodeTrial]:
            return {name: _well(node) for name, node in (await super()._observe(record)).items()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rollouts.__class__ = self.Bug


class EndUnheard(ControlPlane):
    """Invariant 7, rollout: a node lets go of a candidate whose rollout is over."""

    class Bug(Rollouts):
        def _take(self, own: Any) -> None:
            if own.candidate:
                super()._take(own)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rollouts.__class__ = self.Bug


def _well(node: NodeTrial) -> NodeTrial:
    if node.arms is None:
        return node
    candidate: Mapping[str, Tally] = {route: replace(one, failed=0) for route, one in node.arms.candidate.items()}
    return replace(node, arms=replace(node.arms, candidate=candidate))


PLANTED_ROLLOUTS: tuple[type[ControlPlane], ...] = (
    RolloutUnfenced, OverAnyRollout, FailuresUncounted, EndUnheard,
)  # fmt: skip
