"""A candidate document beside the one in force: who takes it, and what both did at the same time.

Invariant: while there is no trial nothing of this is touched by a request; while there is one, all that the candidate
serves is counted under it, from the same moment as what the other serves, and what it learns of endpoints and limits
stays with it: a bad candidate ejects nobody's endpoint but its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from meridian.core.judging import BOUNDS_SECONDS, Tally
from meridian.gateway import answers

ROUTES_MAX = 100  # counted one by one: those that are met first; the rest are counted together
OTHERS = ""  # together with what found no route: it is judged with all exchanges, never by itself

WAITING_SECONDS = 0.5  # by then an exchange that is not over is news

_REJECTED = 429
_CLIENT_GONE = answers.CLIENT_GONE_STATUS
_UNROUTED = (answers.NO_ROUTE.why, answers.METHOD_NOT_ALLOWED.why)


@dataclass(slots=True)
class RouteCount:
    """See core.judging.Tally; this one counts."""

    exchanges: int
    failed: int
    rejected: int
    unrouted: int
    refused: int
    slower: list[int]


class Counts:
    """What one document served, by route."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.routes: dict[str, RouteCount] = {}

    def count(self, route: str, status: int, why: str, seconds: float) -> None:
        """Counts an exchange that is over. A client that left says nothing of the document, but how long it waited."""
        found = self._of(route)
        found.exchanges += 1
        if status >= 500 or why.startswith(answers.CUT):
            found.failed += 1
        elif status == _REJECTED:
            found.rejected += 1
        elif why in _UNROUTED:
            found.unrouted += 1
        elif 400 <= status != _CLIENT_GONE:
            found.refused += 1
        _add(found.slower, seconds)

    def with_waiting(self, waiting: Mapping[str, Sequence[float]]) -> "Counts":
        """These, and those that have waited for WAITING_SECONDS or more and are not over, as slow ones."""
        together = Counts()
        together.routes = {route: replace(count, slower=[*count.slower]) for route, count in self.routes.items()}
        for route, ages in waiting.items():
            for seconds in ages:
                if seconds > WAITING_SECONDS:
                    found = together._of(route)
                    found.exchanges += 1
                    _add(found.slower, seconds)
        return together

    def tallies(self) -> dict[str, Tally]:
        """As they are judged, by route."""
        return {
            route: Tally(one.exchanges, one.failed, one.rejected, one.unrouted, one.refused, tuple(one.slower))
            for route, one in self.routes.items()
        }

    def _of(self, route: str) -> RouteCount:
        found = self.routes.get(route)
        if found is None:
            if len(self.routes) >= ROUTES_MAX:
                route = OTHERS
            found = self.routes.setdefault(route, RouteCount(0, 0, 0, 0, 0, [0] * len(BOUNDS_SECONDS)))
        return found


def _add(slower: list[int], seconds: float) -> None:
    for i, bound in enumerate(BOUNDS_SECONDS):
        if seconds <= bound:
            break
        slower[i] += 1
