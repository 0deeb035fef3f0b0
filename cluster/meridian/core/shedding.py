"""Which requests a worker turns away when there are more than it can serve: the least important first.

Two signs of overload, each with an answer of its own:
- **Requests under way** are known at once, so each priority has a part of the limit: what is low is turned away while
  there is room for what is normal, and that while there is room for what is high.
- **Lag** of the event loop tells that the processor is short, some time later. It moves a cut through the priorities:
  at 0.5 every second low request is turned away, at 1 all of them, at 1.5 every second normal one too. The cut rises
  with the lag and falls slowly, so that it comes to rest where the lag is what was asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from math import inf


class Priority(IntEnum):
    """Of a route; who is turned away first comes first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


PARTS = (0.6, 0.8, 1.0)
"""Of the limit that each priority may fill, by priority: a fifth is left for those of the next alone."""

_RISE = 0.1  # of the cut, each look at which the lag is twice what it may be
_RISE_MAX = 0.2
_FALL = 0.02  # each look: a cut of 1 is gone after 5 s
_CUT_MAX = 2.95  # so that something always shows whether it is over


@dataclass(frozen=True, slots=True)
class Bounds:
    """See model.Overload; what is infinite is no sign of overload."""

    requests_max: float = inf
    lag_seconds_max: float = inf


@dataclass(slots=True)
class Overload:
    """Of one worker."""

    bounds: Bounds
    cut: float = 0.0

    def lagged(self, seconds: float) -> None:
        """The loop came so late, at one of its looks, ten a second."""
        over = seconds / self.bounds.lag_seconds_max - 1.0
        moved = min(_RISE * over, _RISE_MAX) if over > 0.0 else -_FALL
        self.cut = min(_CUT_MAX, max(0.0, self.cut + moved))

    def sheds(self, priority: Priority, active: int, draw: Callable[[], float]) -> bool:
        """Whether a request is turned away, while `active` are under way, itself included."""
        if active > self.bounds.requests_max * PARTS[priority]:
            return True
        over = self.cut - priority
        return over > 0.0 and draw() < over
