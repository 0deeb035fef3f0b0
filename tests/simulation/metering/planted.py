"""Bugs that each revert one named rule of core/metering. The seeds must find them."""

from tests.simulation.metering.world import Planting

from meridian.core.granting.messages import Ask, Grant
from meridian.core.metering.concurrency import Concurrency
from meridian.core.metering.portions import Portion
from meridian.core.metering.quotas import Quotas
from meridian.core.metering.windows import Windows


class FastWindow(Planting):
    """Own uses are booked by a clock that is taken for right."""

    class Bug(Windows):
        def _own_until(self, key: str, now: float) -> float:
            return now + self.terms.window_seconds

    windows = Bug


class SlotBegins(Planting):
    """A use is released by the beginning of its slot."""

    class Bug(Windows):
        def _own_until(self, key: str, now: float) -> float:
            slot = self.terms.window_seconds / 5
            return now // slot * slot + self.terms.own_seconds

    windows = Bug


class LoanNotBooked(Planting):
    """The lender goes on spending what it lent."""

    class Bug(Windows):
        def asked(self, ask: Ask, now: float) -> Grant | None:
            before = self._keys.pop(ask.key, None)
            answer = super().asked(ask, now)
            self._keys.pop(ask.key, None)
            if before is not None:
                self._keys[ask.key] = before
            return answer

    windows = Bug


class LoanBookedAsUse(Planting):
    """What was lent is booked for one window from lending, as if it were spent at once."""

    class Bug(Windows):
        def _lent_until(self, now: float) -> float:
            return now + self.terms.own_seconds

    windows = Bug


class LoanFromAnswer(Planting):
    """A loan lasts from when it arrives."""

    class Bug(Windows):
        def _loan_until(self, asked_at: float, now: float) -> float:
            return now + self.terms.loan_seconds

    windows = Bug


class LoanForEver(Planting):
    """A loan has no end."""

    class Bug(Windows):
        def _loan_until(self, asked_at: float, now: float) -> float:
            return now + 1e6

    windows = Bug


class AnyAnswer(Planting):
    """An answer counts as often as it comes."""

    class Bug(Windows):
        def granted(self, grant: Grant, now: float) -> None:
            short = self._short.get(grant.key)
            waiting = dict(short.waiting) if short is not None else {}
            super().granted(grant, now)
            if short is not None:
                short.waiting = waiting

    windows = Bug


class ForgetAny(Planting):
    """Keys are forgotten while some of them is booked."""

    class Bug(Windows):
        def _has_room(self, now: float) -> bool:
            if len(self._keys) >= self._keys_max // 4:
                del self._keys[next(iter(self._keys))]
            return True

    windows = Bug


class FullAfterCrash(Planting):
    """A process that starts takes its slices for unspent."""

    known_after_crash = True


class MovedAtOnce(Planting):
    """A slice that comes from somebody else is spent at once."""

    known_after_move = True


class OddPortions(Planting):
    """Parts are rounded up."""

    class Bug(Windows):
        def _own(self, key: str, now: float) -> int:
            own = super()._own(key, now)
            return own + bool(own)

    windows = Bug


class QuotaForgets(Planting):
    """A restart begins the period anew."""

    quota_is_resumed = False


class CrashUncounted(Planting):
    """What was ahead of the disk at a crash is taken for unspent."""

    crashes_count = False


class AheadOfDisk(Planting):
    """Nothing waits for the disk."""

    class Bug(Quotas):
        def look(self, key: str, now: float) -> tuple[float, float, float]:
            if key in self._keys:
                self._keys[key].booked = 10**9
            return super().look(key, now)

    quotas = Bug


class PeriodAgain(Planting):
    """A clock that is set back begins the period before anew."""

    class Bug(Quotas):
        def look(self, key: str, now: float) -> tuple[float, float, float]:
            if now < self._since:
                self._begin(now)
                self._held_since = dict.fromkeys(self._held_since, 0.0)
                self._promote()
            return super().look(key, now)

    quotas = Bug


class FreeTwice(Planting):
    """The end of an exchange is counted twice."""

    exchanges_are_released = 2


class MovedUnsettled(Planting):
    """A slice is given away while exchanges that were admitted by it are under way."""

    moved_unsettled = True


class WholeForAll(Planting):
    """Each worker may have as many under way as all together."""

    class Bug(Concurrency):
        def take(self, portion: Portion) -> None:
            super().take(Portion(1, (0,)))

    concurrency = Bug


PLANTED: tuple[type[Planting], ...] = (
    FastWindow, SlotBegins, LoanNotBooked, LoanBookedAsUse, LoanFromAnswer, LoanForEver, AnyAnswer, ForgetAny,
    FullAfterCrash, MovedAtOnce, OddPortions, QuotaForgets, CrashUncounted, AheadOfDisk, PeriodAgain, FreeTwice,
    MovedUnsettled, WholeForAll,
)  # fmt: skip
