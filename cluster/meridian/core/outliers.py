"""Passive health in one worker: an endpoint whose tries fail in a row is EJECTED for a while, then PROBING lets one
try through; its outcome ADMITS or ejects again, for twice as long.

ADMITTED --fall failures in a row--> EJECTED --time--> PROBING --success--> ADMITTED
                                        ^------failure----'
"""

from dataclasses import dataclass
from enum import Enum

FAILURES_IN_A_ROW = 3
EJECTION_SECONDS = 2.0
EJECTION_SECONDS_MAX = 60.0
_DOUBLINGS_MAX = 16  # far beyond the maximum above; without it 2**n would leave the range of floats one day


class State(Enum):
    """Of one endpoint, as this worker sees it."""

    ADMITTED = "admitted"
    EJECTED = "ejected"
    PROBING = "probing"


@dataclass(frozen=True, slots=True)
class Outlier:
    """State of one endpoint; `until` is monotonic seconds, of use only while EJECTED."""

    state: State = State.ADMITTED
    failures: int = 0
    until: float = 0.0
    ejections: int = 0


FRESH = Outlier()


def step(outlier: Outlier, succeeded: bool, now: float) -> Outlier:
    """The state after one try's outcome. A refused or lost connection and a cut response are failures; 5xx is not."""
    if succeeded:
        return FRESH
    if outlier.state is State.EJECTED:
        return outlier  # a straggler that began before the ejection says nothing new
    failures = outlier.failures + 1
    if outlier.state is State.ADMITTED and failures < FAILURES_IN_A_ROW:
        return Outlier(State.ADMITTED, failures, 0.0, outlier.ejections)
    seconds = min(EJECTION_SECONDS * 2 ** min(outlier.ejections, _DOUBLINGS_MAX), EJECTION_SECONDS_MAX)
    return Outlier(State.EJECTED, 0, now + seconds, outlier.ejections + 1)


def wake(outlier: Outlier, now: float) -> Outlier:
    """The state after the passing of time."""
    if outlier.state is State.EJECTED and now >= outlier.until:
        return Outlier(State.PROBING, 0, 0.0, outlier.ejections)
    return outlier
