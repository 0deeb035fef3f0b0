"""Limits while a candidate document is tried: both those in force and the candidate's own hold for its exchanges.

Invariants (docs/decisions/0010 and 0014):
- A limit in force holds for the candidate's exchanges as it is in force: same bucket, same key, same amount. So a trial
  admits nothing under a limit that the version in force would not, whatever the candidate says of the limit. (A route
  that the candidate takes out of a limit is not under it: that is what is tried.)
- What the candidate says of a limit besides is tried by a worker alone, on a scale: of the amount so much as the worker
  spends of limits, and of that the share of the exchanges that the trial sees. It begins full, for an empty one would
  look like a limit that is too low. Only what may refuse more is tried: a limit that is lower, of another kind or key,
  or new; what was raised can do no harm but by admitting, and that begins when the candidate is in force.
- A new limit keeps nobody to its amount before it is in force, and begins empty then.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from meridian.core.snapshot import Limit
from meridian.gateway.admission import Admission, Asked, Verdict
from meridian.gateway.limits import Limits
from meridian.gateway.meters import Meters
from meridian.telemetry.metrics import Metrics

TRIED_MAX = 1_000  # limits, those that are met first; each costs a table of keys. The others hold as they are in force
AMOUNT_MIN = 10  # of what is scaled: of less, chance alone would send too many at once
LONG_AGO_SECONDS = 1e11  # what has accrued for so long is full
_MARK = "tried "  # of names: the candidate's limit beside the one in force


class TrialAdmission:
    """As Admission, for the exchanges of a candidate. `share` is what the trial sees of the exchanges, from 0 to 1."""

    def __init__(
        self, in_force: Admission, limits: Mapping[str, Limit], part: float, share: float, clock: Callable[[], float],
        unix: Callable[[], float],
    ) -> None:  # fmt: skip
        """`limits` are those in force, of which this worker spends `part` (over 0 to 1) by itself."""
        self._in_force = in_force
        self._known = limits
        self._part, self._share = part, share
        self._clock, self._unix = clock, unix
        self._tried: dict[str, Limit] = {}
        now = clock()
        self._began = now - LONG_AGO_SECONDS
        self._limits = Limits(lambda: self._began)
        self._meters = Meters.alone(now, unix())
        self._own = Admission(self._limits, self._meters, Metrics(), clock, unix)

    def limits_of(self, candidates: Sequence[Limit]) -> tuple[Limit, ...]:
        """What is to be asked for an exchange under `candidates`: limits in force, and those that are tried."""
        asked: list[Limit] = []
        for candidate in candidates:
            known = self._known.get(candidate.name)
            if known is not None:
                asked.append(known)
            if known is None or _may_refuse_more(candidate, known):
                asked += self._try(candidate)
        return tuple(asked)

    def decide(self, asked: Asked) -> Verdict:
        """See Admission. A token of the candidate's own is lost if the limit in force refuses."""
        own, others = _parted(asked)
        verdict = self._own.decide(own) if own else _ADMITTED
        if verdict.refused_by is not None or not others:
            return verdict
        return self._both(verdict, self._in_force.decide(others))

    def consults(self, asked: Asked) -> bool:
        """See Admission."""
        return self._in_force.consults(_parted(asked)[1])

    def consult(self, asked: Asked, then: Callable[[Verdict], None]) -> None:
        """See Admission."""
        own, others = _parted(asked)
        verdict = self._own.decide(own) if own else _ADMITTED
        if verdict.refused_by is not None:
            then(verdict)
        else:
            self._in_force.consult(others, lambda other: then(self._both(verdict, other)))

    def release(self, held: Asked) -> None:
        """See Admission."""
        own, others = _parted(held)
        self._own.release(own)
        self._in_force.release(others)

    def _both(self, own: Verdict, in_force: Verdict) -> Verdict:
        if in_force.refused_by is not None:
            self._own.release(own.held)
            return in_force
        return Verdict(None, in_force.told, (*own.held, *in_force.held))

    def _try(self, candidate: Limit) -> list[Limit]:
        """Its scaled form, which is silent: its numbers mean nothing to a client."""
        name = _MARK + candidate.name
        if name not in self._tried:
            if len(self._tried) >= TRIED_MAX:
                return []
            self._tried[name] = replace(
                candidate, name=name, announce=False,
                rate_per_second=candidate.rate_per_second * self._part * self._share,
                burst=self._scaled(candidate.burst), amount=self._scaled(candidate.amount),
            )  # fmt: skip
            rates = {name: limit for name, limit in self._tried.items() if limit.kind == "rate"}
            self._limits.replace(rates, self._began)
            self._meters.replace(self._tried, self._clock(), self._unix())
        return [self._tried[name]]

    def _scaled(self, amount: int) -> int:
        own = amount * self._part
        return max(1, math.ceil(own * self._share), min(int(own), AMOUNT_MIN))


_ADMITTED = Verdict(None, [])


def _may_refuse_more(candidate: Limit, known: Limit) -> bool:
    """Whether an exchange that `known` admits could be refused by `candidate`."""
    if candidate.dry_run:
        return False
    same = replace(
        candidate, rate_per_second=known.rate_per_second, burst=known.burst, amount=known.amount, status=known.status,
        announce=known.announce, when_unreachable=known.when_unreachable, when_store_is_lost=known.when_store_is_lost,
    )  # fmt: skip
    lower = (
        candidate.rate_per_second < known.rate_per_second
        or candidate.burst < known.burst
        or candidate.amount < known.amount
    )
    return lower or same != known


def _parted(asked: Asked) -> tuple[Asked, Asked]:
    """The candidate's own, and those in force."""
    own = [one for one in asked if one[0].name.startswith(_MARK)]
    return own, [one for one in asked if not one[0].name.startswith(_MARK)] if own else asked
