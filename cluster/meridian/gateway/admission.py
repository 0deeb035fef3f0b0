"""Whether all limits of a route admit a request, and what its client is told of them.

Invariants:
- All limits are looked at before any is taken, in one synchronous step: a request that one refuses takes from none.
- A limit in dry run refuses nobody and is told to nobody. It takes only when the request is admitted, so that it counts
  what it would count; `refused` are those that it would have refused.
- What a concurrency limit admitted is released exactly once, when the exchange ends.
- After `retire` the successor decides on what is still asked here, and hears of what is released.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from meridian.core.snapshot import Limit
from meridian.gateway import limit_fields
from meridian.gateway.limits import AGAIN_SECONDS, Decision, Limits, Standing, counter
from meridian.gateway.meters import Meters
from meridian.telemetry.metrics import Counter, Metrics
from meridian.wire.events import Headers

Asked = Sequence[tuple[Limit, str]]  # limits, each with the key of the request
_Moment = tuple[float, float]  # seconds of CLOCK_BOOTTIME, and of Unix time
_Refusal = tuple[Limit, float]  # and in how many seconds to come back


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refused_by` is None if the request is admitted. `told` are fields for the answer, whoever makes it; `held` what
    is to be released when the exchange ends."""

    refused_by: Limit | None
    told: Headers
    held: tuple[tuple[Limit, str], ...] = ()


class Successor(Protocol):
    """The worker that took over from a retired one, and has all its parts of limits."""

    def ask(self, asked: Asked, then: Callable[[Verdict | None], None]) -> None:
        """Calls `then` once; with None if there is no answer."""

    def release(self, limit: Limit, key: str) -> None:
        """An exchange has ended."""


class Admission:
    """All limits of one worker: token buckets in `limits`, whatever counts in `meters`."""

    def __init__(
        self, limits: Limits, meters: Meters, metrics: Metrics, clock: Callable[[], float], unix: Callable[[], float]
    ) -> None:
        """`clock` gives seconds of CLOCK_BOOTTIME, `unix` those of Unix time; both are read for every decision."""
        self._limits = limits
        self._meters = meters
        self._metrics = metrics
        self._clock = clock
        self._unix_seconds = unix
        self._counters: dict[tuple[str, bool], Counter] = {}
        self._successor: Successor | None = None

    def retire(self, successor: Successor) -> None:
        """From now on `successor` decides."""
        self._successor = successor

    def limits_of(self, limits: Sequence[Limit]) -> tuple[Limit, ...]:
        """What is to be asked for an exchange under `limits`: no others (see trial_limits)."""
        return tuple(limits)

    def decide(self, asked: Asked) -> Verdict:
        """Takes one under every limit asked for, or nothing at all."""
        if len(asked) == 1 and asked[0][0].kind == "rate" and not asked[0][0].dry_run:
            return self._decide_one(asked)
        rates = _rates(asked)
        at = self._at()
        counts, standings, refusal = self._look(asked, at)
        decision = None
        if rates and refusal is None:
            decision = self._limits.decide(rates, at[0])
        return self._conclude(asked, counts, standings, refusal, decision, at)

    def _decide_one(self, asked: Asked) -> Verdict:
        """The same for the most common case, a single token bucket, at half the cost."""
        limit = asked[0][0]
        decision = self._limits.decide(asked, self._clock())
        told: Headers = []
        if limit.announce:
            told = limit_fields.fields([Standing(limit, decision.remaining, decision.reset_seconds, 0.0)])
        if decision.admitted:
            return Verdict(None, told)
        return Verdict(limit, limit_fields.retry_after(decision.retry_after_seconds) + told)

    def consults(self, asked: Asked) -> bool:
        """Whether owners of keys must be asked: then call `consult`, else `decide`."""
        rates = _rates(asked)
        return self._successor is not None or (bool(rates) and self._limits.consults(rates))

    def consult(self, asked: Asked, then: Callable[[Verdict], None]) -> None:
        """As `decide`, but `then` is called with the verdict, once: within limits.CONSULT_SECONDS, but after `retire`
        when the successor answers. Meters are looked at before, so that no owner is asked in vain, and again when
        tokens are taken."""
        if self._successor is not None:
            self._successor.ask(asked, lambda verdict: then(verdict or _unreachable(asked)))
            return
        at = self._at()
        counts, standings, refusal = self._look(asked, at)
        if refusal is not None:
            then(self._conclude(asked, counts, standings, refusal, None, at))
            return

        def decided(decision: Decision) -> None:
            later = self._at()
            # The document may have changed meanwhile, and what it no longer counts has no meter.
            still = [one for one in asked if one[0].kind == "rate" or self._meters.has(one[0])]
            then(self._conclude(still, *self._look(still, later), decision, later))

        self._limits.consult(_rates(asked), decided)

    def release(self, held: Asked) -> None:
        """The exchange has ended."""
        for limit, key in held:
            if self._successor is not None:
                self._successor.release(limit, key)
            else:
                self._meters.release(limit, key)

    def peek(self, limit: Limit, key: str) -> tuple[str, bool]:
        """What a limit would say of a key now, in words, and whether it would refuse. Takes nothing."""
        at = self._at()
        if limit.kind == "rate":
            left, _, wait = self._limits.look(limit, key, at[0])
        else:
            left, _, wait = self._meters.look(limit, key, *at)
        dry = " (dry run: it refuses nobody)" if limit.dry_run else ""
        if wait == math.inf and limit.kind == "rate":
            return f"key {key!r}: another worker keeps it, and would be asked{dry}", False
        if wait > 0.0:
            return f"key {key!r}: refused, {limit.status}; admitted again in {wait:.1f} s{dry}", True
        return f"key {key!r}: admitted; this worker admits {int(left)} now{dry}", False

    def _at(self) -> _Moment:
        return self._clock(), self._unix_seconds()

    def _look(self, asked: Asked, at: _Moment) -> tuple[Asked, list[Standing], _Refusal | None]:
        """What the meters that may refuse say, and the one of them that has to be waited for longest."""
        counts = [one for one in asked if one[0].kind != "rate" and not one[0].dry_run]
        standings: list[Standing] = []
        wait, refused_by = 0.0, None
        for limit, key in counts:
            left, reset, seconds = self._meters.look(limit, key, *at)
            standings.append(Standing(limit, int(left), reset, self._meters.period_seconds(limit)))
            if seconds > wait:
                wait, refused_by = seconds, limit
        return counts, standings, (refused_by, wait) if refused_by is not None else None

    def _conclude(
        self, asked: Asked, counts: Asked, standings: list[Standing], refusal: _Refusal | None,
        decision: Decision | None, at: _Moment,
    ) -> Verdict:  # fmt: skip
        """Takes what counts, if nobody refuses; `decision` is what the token buckets said, which is taken already."""
        if decision is not None:
            limit = next(limit for limit, _ in asked if limit.name == decision.limit)
            standings.append(Standing(limit, decision.remaining, decision.reset_seconds, 0.0))
            if not decision.admitted:
                refusal = refusal or (limit, decision.retry_after_seconds)
        if refusal is not None:
            return self._refuse(refusal, standings, counts, at)
        for i, (limit, key) in enumerate(counts):
            taken = self._meters.admit(limit, key, *at)
            assert taken == 0.0, "it was looked at in this step"
            left, reset, _ = self._meters.look(limit, key, *at)
            standings[i] = standings[i]._replace(remaining=int(left), reset_seconds=reset)
            self._count(limit, admitted=True)
        held = [one for one in counts if one[0].kind == "concurrent"]
        return Verdict(None, limit_fields.fields(standings), (*held, *self._try_out(asked, at)))

    def _refuse(self, refusal: _Refusal, standings: list[Standing], counts: Asked, at: _Moment) -> Verdict:
        """Nothing is taken of what counts. Meters that refuse hear of it, for they may borrow."""
        limit, wait = refusal
        for one, key in counts:
            if self._meters.look(one, key, *at)[2] > 0.0:
                self._meters.admit(one, key, *at)
        if limit.kind != "rate":
            self._count(limit, admitted=False)
        return Verdict(limit, limit_fields.retry_after(wait) + limit_fields.fields(standings))

    def _try_out(self, asked: Asked, at: _Moment) -> list[tuple[Limit, str]]:
        """Counts for limits in dry run; returns what of them is to be released."""
        held = []
        for limit, key in asked:
            if not limit.dry_run:
                continue
            if limit.kind == "rate":
                if self._limits.consults([(limit, key)]):
                    self._limits.consult([(limit, key)], _forget)
                else:
                    self._limits.decide([(limit, key)], at[0])
                continue
            admitted = self._meters.admit(limit, key, *at) == 0.0
            self._count(limit, admitted=admitted)
            if admitted and limit.kind == "concurrent":
                held.append((limit, key))
        return held

    def _count(self, limit: Limit, *, admitted: bool) -> None:
        found = self._counters.get((limit.name, admitted))
        if found is None:
            outcome = "admitted" if admitted else "refused"
            found = self._counters[limit.name, admitted] = counter(self._metrics, limit.name, outcome)
        found.value += 1


def _rates(asked: Asked) -> Asked:
    return [one for one in asked if one[0].kind == "rate" and not one[0].dry_run]


def _unreachable(asked: Asked) -> Verdict:
    """By what the limits say of an owner that cannot be asked."""
    refused = [limit for limit, _ in asked if limit.when_unreachable != "allow" and not limit.dry_run]
    return Verdict(refused[0], limit_fields.retry_after(AGAIN_SECONDS)) if refused else Verdict(None, [])


def _forget(decision: Decision) -> None:
    """It is counted; that is all."""
