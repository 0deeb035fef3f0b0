"""How a node leaves: it says that it drains, waits until the verdict leaves it out, serves whoever comes by an older
answer of DNS, and only then gives up its keys: the limits' tokens of those whom it still serves are among them.

    STAYING <--Ordered--> DRAINING            an operator's fact; the node stays a member
    STAYING, DRAINING --Stop--> LEAVING --verdict leaves it out, or waited long enough--> OUT --Depart--> LEFT

Invariant: draining is asked for, never taken: the leader refuses it when it would leave nobody serving, and a node goes
on serving in every state. What a refusal cannot hold up is a process that is told to end: it is OUT after
`LEAVE_SECONDS` at the latest.
"""

from dataclasses import dataclass, replace
from enum import Enum

from meridian.core.machine import Step
from meridian.core.verdicts import Standing, Verdict

LEAVE_SECONDS = 2.0  # a report, a judgement and a watch take 0.2 s; with no leader at hand it is not worth waiting for


class Phase(Enum):
    """Where a node is on its way out."""

    STAYING = "staying"
    DRAINING = "draining"
    LEAVING = "leaving"
    OUT = "out"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Drain:
    """A node's own state. `until` is when LEAVING ends whatever the verdict says."""

    phase: Phase = Phase.STAYING
    until: float = 0.0

    @property
    def says_draining(self) -> bool:
        """What the node's reports and its member record say."""
        return self.phase is not Phase.STAYING


@dataclass(frozen=True, slots=True)
class Ordered:
    """Whether an operator's order names this node or its region."""

    on: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """The process was told to end."""


@dataclass(frozen=True, slots=True)
class Depart:
    """Nobody comes any more."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A new verdict's standing of this node; None if it is not in it."""

    standing: Standing | None


@dataclass(frozen=True, slots=True)
class Woken:
    """The deadline has passed."""


Event = Ordered | Stop | Depart | Judged | Woken


@dataclass(frozen=True, slots=True)
class Announce:
    """Command: say it at once in a report and in the member record."""

    draining: bool


@dataclass(frozen=True, slots=True)
class Resign:
    """Command: give up leadership for good; DNS sends nobody here any more."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Command: give up membership; nobody counts on this node any more."""


Command = Announce | Resign | Leave


def step(drain: Drain, event: Event, now: float) -> Step[Drain, Command]:
    """Returns the state after an event."""
    match drain.phase, event:
        case (Phase.STAYING, Ordered(True)):
            return Step(Drain(Phase.DRAINING), (Announce(True),))
        case (Phase.DRAINING, Ordered(False)):
            return Step(Drain(), (Announce(False),))
        case (Phase.STAYING | Phase.DRAINING, Stop()):
            return Step(Drain(Phase.LEAVING, now + LEAVE_SECONDS), (Announce(True),))
        case (Phase.LEAVING, Judged(None | Standing.DRAINING | Standing.WITHDRAWN)):
            return Step(replace(drain, phase=Phase.OUT), (Resign(),))
        case (Phase.LEAVING, Woken()) if now >= drain.until:
            return Step(replace(drain, phase=Phase.OUT), (Resign(),))
        case (Phase.OUT, Depart()):
            return Step(replace(drain, phase=Phase.LEFT), (Leave(),))
        case _:
            return Step(drain)


def deadline(drain: Drain) -> float | None:
    """Returns when a node that is LEAVING is OUT without the verdict's consent."""
    return drain.until if drain.phase is Phase.LEAVING else None


def refusal(verdict: Verdict, target: str) -> str | None:
    """Returns why draining `target` (a node or a region) is refused, None if it may go.

    The leader decides again when it judges; this answers the operator who asks.
    """
    named = {name for name, node in verdict.nodes.items() if target in (name, node.region)}
    if not named:
        known = ", ".join(sorted({*verdict.nodes, *verdict.regions})) or "none yet"
        return f"there is no node or region {target!r} (known: {known})"
    serving = {name for name, node in verdict.nodes.items() if node.standing is Standing.SERVING}
    if serving and serving <= named:
        return f"draining {target} would leave nobody serving; bring another node up first"
    return None
