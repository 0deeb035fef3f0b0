"""All planted bugs in one place: in which world each is sought, which invariant it breaks, which rule it reverts.

Four worlds: `control` (whole control planes under the faults of a seed; here each docstring begins with the invariant
and the room), `stories` (a verdict rule and the story told as its bait), `limits` (tokens, seats and loans), `metering`
(windows, quotas and concurrency). Every bug was committed before the seeds were run over it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.simulation import planted, planted_control
from tests.simulation.limits import planted as planted_limits
from tests.simulation.metering import planted as planted_metering
from tests.simulation.planted_more import PLANTED_MORE
from tests.simulation.planted_rollouts import PLANTED_ROLLOUTS


@dataclass(frozen=True, slots=True)
class Entry:
    """One planted bug. `room` is the part of the control plane that it sits in."""

    world: str
    name: str
    invariant: int
    room: str
    rule: str


def entries() -> Iterator[Entry]:
    """All of them, world by world."""
    for bug in (*planted_control.PLANTED, *PLANTED_ROLLOUTS):
        head, _, rule = _said(bug).partition(": ")
        invariant, room = head.removeprefix("Invariant ").split(", ")
        yield Entry("control", bug.__name__, int(invariant), room, rule)
    for bug in (*planted.PLANTED, *PLANTED_MORE):
        yield Entry("stories", bug.__name__, 5, "verdicts", _said(bug))
    for planting in planted_limits.PLANTED:
        yield Entry("limits", planting.__name__, 2, "granting", _said(planting))
    for counting in planted_metering.PLANTED:
        yield Entry("metering", counting.__name__, 2, "metering", _said(counting))


def _said(bug: type) -> str:
    return " ".join((bug.__doc__ or "").split("\n\n")[0].split())
