"""Passive health in one worker: an endpoint whose tries fail in a row is EJECTED for a while, then PROBING lets one
try through; its outcome ADMITS or ejects again, for twice as long.

ADMITTED --failures or errors in a row--> EJECTED --time--> PROBING --success--> ADMITTED
    '------- stands out among all ------>    ^------failure----'

What was refused, lost or too late is a failure and counts always. That a response is an error (5xx), that errors or
latencies stand out among those of all endpoints, counts where the document says so. One that cannot be reached is
always left alone; of those that answer, badly or late, at most a part is: more likely than that most are ill is that
what they all need is, and then fewer endpoints would only make it worse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import sqrt
from statistics import median

_DOUBLINGS_MAX = 16  # far beyond any maximum; without it 2**n would leave the range of floats one day


class State(Enum):
    """Of one endpoint, as this worker sees it."""

    ADMITTED = "admitted"
    EJECTED = "ejected"
    PROBING = "probing"


class Shown(Enum):
    """What a try has shown of its endpoint. A whole response clears failures, a head that is no error errors too."""

    GOOD = "good"  # the head of a response came, and it is no error
    ERROR = "error"  # it is one
    WHOLE = "whole"  # all of the response came
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Policy:
    """See upstream_words.Ejection; None: does not count. A part is above 0 and at most 1."""

    failures_in_a_row: int = 3
    errors_in_a_row: int | None = None
    success_deviations: float | None = None
    latency_factor: float | None = None
    interval_seconds: float = 10.0
    answers_min: int = 100
    endpoints_min: int = 3
    seconds: float = 2.0
    seconds_max: float = 60.0
    part_max: float = 0.5

    @property
    def compares(self) -> bool:
        """Whether endpoints are compared with each other."""
        return self.success_deviations is not None or self.latency_factor is not None


@dataclass(frozen=True, slots=True)
class Outlier:
    """State of one endpoint; `until` is monotonic seconds, of use only while EJECTED, as `is_firm` is."""

    state: State = State.ADMITTED
    failures: int = 0
    until: float = 0.0
    ejections: int = 0
    errors: int = 0
    is_firm: bool = False  # it stood out, which a single good answer does not undo


FRESH = Outlier()
USUAL = Policy()


@dataclass(slots=True)
class Sample:
    """What one endpoint has answered in an interval. `stands_out`: in how many intervals on end it was too bad."""

    answers: int = 0
    errors: int = 0
    seconds: float = 0.0  # of all first bytes together
    stands_out: int = 0


def step(outlier: Outlier, shown: Shown, now: float, policy: Policy = USUAL, *, capped: bool = False) -> Outlier:
    """The state after what one try has shown. `capped`: no more may be ejected than are, for what they answer."""
    if outlier.state is State.EJECTED and (outlier.is_firm or shown is not Shown.GOOD):
        return outlier  # a straggler that began before the ejection says nothing new
    if shown is Shown.GOOD:
        return FRESH
    if shown is Shown.WHOLE:
        return Outlier(errors=outlier.errors) if outlier.errors else FRESH
    if shown is Shown.ERROR:
        if policy.errors_in_a_row is None:
            return FRESH  # it answers
        errors = outlier.errors + 1
        if not capped and (outlier.state is State.PROBING or errors >= policy.errors_in_a_row):
            return eject(outlier, now, policy)
        return Outlier(State.ADMITTED, 0, 0.0, outlier.ejections, errors)
    failures = outlier.failures + 1
    if outlier.state is State.ADMITTED and failures < policy.failures_in_a_row:
        return Outlier(State.ADMITTED, failures, 0.0, outlier.ejections, outlier.errors)
    return eject(outlier, now, policy)


def eject(outlier: Outlier, now: float, policy: Policy) -> Outlier:
    """The state after an ejection at `now`."""
    seconds = policy.seconds * 2 ** min(outlier.ejections, _DOUBLINGS_MAX)
    return Outlier(State.EJECTED, 0, now + min(seconds, policy.seconds_max), outlier.ejections + 1)


def eject_standout(sample: Sample, now: float, policy: Policy) -> Outlier:
    """The state of one that stands out: left alone for as many intervals as it did so on end."""
    seconds = max(policy.seconds, min(sample.stands_out * policy.interval_seconds, policy.seconds_max))
    return Outlier(State.EJECTED, 0, now + seconds, is_firm=True)


def wake(outlier: Outlier, now: float) -> Outlier:
    """The state after the passing of time."""
    if outlier.state is State.EJECTED and now >= outlier.until:
        return Outlier(State.PROBING, 0, 0.0, outlier.ejections)
    return outlier


def is_capped(ejected: int, endpoints: int, policy: Policy) -> bool:
    """Whether no more may be ejected for what they answer; one always may."""
    return ejected >= max(1, int(policy.part_max * endpoints))


def standouts(samples: Sequence[Sample], policy: Policy) -> list[int]:
    """The places of those that stood out in an interval, the worst first.

    By success: a rate of good answers more than `success_deviations` standard deviations under the mean of all (as
    Envoy has it). By latency: a mean of first bytes above `latency_factor` times the median of all; a median, because
    a mean would follow the one that is sought. Those with fewer than `answers_min` answers are not compared, and of
    fewer than `endpoints_min` no one stands out.
    """
    compared = [place for place, sample in enumerate(samples) if sample.answers >= policy.answers_min]
    if len(compared) < policy.endpoints_min:
        return []
    found: dict[int, float] = {}
    if policy.success_deviations is not None:
        rates = {place: 1.0 - samples[place].errors / samples[place].answers for place in compared}
        mean = sum(rates.values()) / len(rates)
        deviation = sqrt(sum((rate - mean) ** 2 for rate in rates.values()) / len(rates))
        floor = mean - policy.success_deviations * deviation
        found |= {place: 1.0 + floor - rate for place, rate in rates.items() if rate < floor}
    if policy.latency_factor is not None:
        latencies = {place: samples[place].seconds / samples[place].answers for place in compared}
        ceiling = policy.latency_factor * median(latencies.values())
        for place, latency in latencies.items():
            if latency > ceiling > 0.0:
                found[place] = max(found.get(place, 0.0), latency / ceiling)
    return sorted(found, key=found.__getitem__, reverse=True)
