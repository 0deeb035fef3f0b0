"""What one observer holds of one subject (an endpoint, or another node), from its probes: rise and fall.

              success                 `fall` failures in a row
    UNKNOWN ----------> UP ----------------------------------> DOWN
       |                 ^                                       |
       '-- `fall` failures (to DOWN)    `rise` successes in a row'

Invariant: one lost packet never turns a sight, and the way up takes more probes than the way down. A subject whose last
result speaks against its sight is probed at the quicker pace, so that a real death is known soon, a lost packet is
forgiven soon, and a return is proven by many probes in little time. The interval is counted from start to start, so
that slow answers do not slow the probing.
"""

from dataclasses import dataclass, replace
from enum import Enum

from meridian.core.machine import Step

JITTER = 0.1  # of the interval, both ways, by default: many observers of one endpoint must not march in step


class Sight(Enum):
    """How an observer sees a subject. Values equal those of health.proto."""

    UNKNOWN = 0
    UP = 1
    DOWN = 2


@dataclass(frozen=True, slots=True)
class Policy:
    """How a subject is probed and judged."""

    interval_seconds: float
    suspect_interval_seconds: float
    timeout_seconds: float
    rise: int
    fall: int
    jitter: float = JITTER


@dataclass(frozen=True, slots=True)
class Health:
    """One subject. `against` counts results in a row that speak against `sight`; while `probing`, none other begins.

    `good_at` is when the last probe that succeeded ended, or when the probing began.
    """

    policy: Policy
    sight: Sight = Sight.UNKNOWN
    against: int = 0
    probe_at: float = 0.0
    began: float = 0.0
    probing: bool = False
    good_at: float = 0.0

    @property
    def in_doubt(self) -> bool:
        """Whether its last result speaks against how it is seen."""
        return self.against > 0


@dataclass(frozen=True, slots=True)
class Due:
    """The time of the next probe has come."""


@dataclass(frozen=True, slots=True)
class Probed:
    """A probe's result; `draw` in [0, 1) spreads the next one."""

    succeeded: bool
    draw: float


@dataclass(frozen=True, slots=True)
class Probe:
    """Command: probe now, then feed Probed."""


@dataclass(frozen=True, slots=True)
class Turned:
    """Command: the sight changed to this; tell whoever acts on it."""

    sight: Sight


Event = Due | Probed
Command = Probe | Turned


def step(health: Health, event: Event, now: float) -> Step[Health, Command]:
    """Returns the health after a probe became due or gave its result."""
    if isinstance(event, Due):
        if health.probing or now < health.probe_at:
            return Step(health)
        return Step(replace(health, probing=True, began=now), (Probe(),))
    turned = _judged(health, event.succeeded)
    policy = health.policy
    pace = policy.suspect_interval_seconds if turned.in_doubt else policy.interval_seconds
    pace *= 1 - policy.jitter + 2 * policy.jitter * event.draw
    good_at = now if event.succeeded else health.good_at
    after = replace(turned, probing=False, probe_at=max(now, health.began + pace), good_at=good_at)
    return Step(after, (Turned(after.sight),) if after.sight is not health.sight else ())


def deadline(health: Health) -> float | None:
    """Returns when the next probe is due, None while one is under way."""
    return None if health.probing else health.probe_at


def _judged(health: Health, succeeded: bool) -> Health:
    if health.sight is Sight.UNKNOWN and succeeded:
        return replace(health, sight=Sight.UP, against=0)
    if succeeded == (health.sight is not Sight.DOWN):
        return replace(health, against=0)
    against = health.against + 1
    if health.sight is Sight.DOWN and against >= health.policy.rise:
        return replace(health, sight=Sight.UP, against=0)
    if health.sight is not Sight.DOWN and against >= health.policy.fall:
        return replace(health, sight=Sight.DOWN, against=0)
    return replace(health, against=against)
