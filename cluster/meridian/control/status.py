"""What the control room tells about itself: plain data for the admin API and for tests."""

from collections.abc import Mapping
from dataclasses import dataclass

from meridian.control.members import MemberRecord
from meridian.control.rollout_record import RolloutRecord
from meridian.control.seating import View
from meridian.core.capacity import Load
from meridian.core.granting.shares import Rule
from meridian.core.speech import Speaker
from meridian.core.verdicts import Verdict
from meridian.store.port import StoreHealth


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """One limit in the store. While `following` is set it changes; `blocking` are the nodes that this waits for."""

    name: str
    current: Rule
    following: Rule | None
    blocking: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ControlStatus:
    """One moment on one node. `members` are the records in the store; a dead node is found in the verdict only.

    `leader` is a node's name, "" if none is known. `config_current` is the version in force in the store (0: none, or
    not known), `config_version` what this node acknowledged. `seat` is this node's first home seat; `seats_home` and
    `seats_leased` count what it may spend now.
    """

    node: str
    node_id: str
    region: str
    members: tuple[MemberRecord, ...]
    leader: str
    leads: bool
    verdict: Verdict
    store: StoreHealth
    config_current: int
    config_version: int
    config_refused: str
    config_detail: str
    config_from_disk: bool  # the document is this node's own copy: the store was not reached since it started
    rollout: RolloutRecord | None  # on its way, or the last
    seat: int | None
    seats_home: int
    seats_leased: int
    seat_detail: str
    limits: tuple[LimitStatus, ...]
    draining: bool
    heard: tuple[tuple[str, float], ...]  # observer and age in seconds of its latest report
    in_force: Mapping[str, int]  # by observer, the version of the fenced verdict that it said it serves
    regional: StoreHealth | None  # of members, where that is another store
    store_writes_per_second: float  # of this node to all its stores
    upkeep: tuple[str, ...]  # what the stores' files need, each with the remedy
    speaks: Speaker  # what all members can
    join_refused: str  # why this node's version has no place among the members; "" if it has
    loads: Mapping[str, Load]  # by region

    @property
    def rollout_runs(self) -> bool:
        """Whether a candidate is on its way."""
        return self.rollout is not None and not self.rollout.over


def limits_of(view: View | None) -> tuple[LimitStatus, ...]:
    """What the store holds of limits, as far as it was read."""
    if view is None:
        return ()
    return tuple(
        LimitStatus(limit, value.current, value.following, view.blocking(limit))
        for limit, value in sorted(view.values.items())
    )
