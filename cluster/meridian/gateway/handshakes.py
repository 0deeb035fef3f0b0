"""A candidate's certificates beside those in force: which of both a TLS handshake is shown, and whether it succeeds.

Invariant: only handshakes are counted for which the two documents have different certificates, so whoever is counted
was drawn; what is kept is bounded.

A client that does not like a certificate sends an alert or leaves, and neither reaches us: the loop tells only of
handshakes that succeed. So one that is not over within LOST_SECONDS counts as failed. Slow clients and scanners come to
both sides alike.
"""

from collections.abc import Callable, Hashable
from typing import TypeVar

from meridian.core.judging import Sample, Tally

LOST_SECONDS = 2.0
"""Ten round trips of 200 ms: one or two are needed. A bad certificate must be back within 10 s."""

PENDING_MAX = 10_000
"""Of one worker, as many as it has connections; more are not counted."""

Certificate = TypeVar("Certificate")


class HandshakeTrial:
    """Of one stage of a rollout. `share` (0 to 1) of the handshakes are shown the candidate, by `draw`."""

    def __init__(self, share: float, draw: Callable[[], float], clock: Callable[[], float]) -> None:
        self._share, self._draw, self._clock = share, draw, clock
        self._pending: dict[
            Hashable, tuple[float, bool]
        ] = {}  # since when, and whether it is the candidate's; in order
        self._counts = {tried: [0, 0] for tried in (False, True)}  # all that are over, and those that failed

    def take(self, handshake: Hashable, in_force: Certificate, candidate: Certificate) -> Certificate:
        """Which certificate a handshake is shown; the same one if it asks again."""
        if in_force is candidate:
            return in_force
        known = self._pending.get(handshake)
        if known is not None:
            return candidate if known[1] else in_force
        now = self._clock()
        self._settle(now)
        tried = self._draw() < self._share
        if len(self._pending) < PENDING_MAX:
            self._pending[handshake] = (now, tried)
        return candidate if tried else in_force

    def succeeded(self, handshake: Hashable) -> None:
        """The client has taken what it was shown."""
        found = self._pending.pop(handshake, None)
        if found is not None:
            self._counts[found[1]][0] += 1

    def sample(self) -> Sample:
        """What became of those that are over."""
        self._settle(self._clock())
        (current, current_failed), (candidate, candidate_failed) = self._counts[False], self._counts[True]
        return Sample(self._share, Tally(current, failed=current_failed), Tally(candidate, failed=candidate_failed))

    def _settle(self, now: float) -> None:
        while self._pending:
            handshake, (since, tried) = next(iter(self._pending.items()))
            if now - since < LOST_SECONDS:
                break
            del self._pending[handshake]
            self._counts[tried][0] += 1
            self._counts[tried][1] += 1
