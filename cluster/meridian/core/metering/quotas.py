"""At most N in each calendar day or month, for each key: one worker's part, which a restart does not forget.

Time is Unix time here: a calendar is about nothing else. Invariants:

- In one period, as this machine's clock shows it, a key is admitted at most as often as this worker's slices say.
- A period is never begun again: a clock that is set back stays in the period that it was in.
- What was spent before a crash is never taken for less. A worker may be ahead of its disk by at most `slack` requests
  for each key, and after a crash every key, known to the disk or not, counts as that much ahead.

The meter says by `records` what is to be written, and is told by `written` what is on the disk for good.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from meridian.core.metering.calendar import PeriodName, period_of
from meridian.core.metering.portions import NEVER, NOTHING, Portion, digest

KEYS_MAX = 250_000  # of some 250 bytes each
SLACK_MIN = 8  # so that a burst does not wait for the disk, which takes milliseconds
SLACK_PART = 16  # of a key's own part: what a crash may cost it, twice
DISK_SECONDS = 0.1  # what a client is told to wait for the disk
DROPPED_AT_ONCE = 2_000  # keys of a past period: half a millisecond


@dataclass(frozen=True, slots=True)
class Record:
    """To be written: in the period that began at `since`, `key` may have spent up to `booked`."""

    limit: str
    since: float
    key: str
    booked: int


@dataclass(slots=True)
class Ledger:
    """What the disk says of one limit: of the period that began at `since`, what each key may have spent, and how many
    crashes there were since that was written; and the crashes in the whole period."""

    since: float = 0.0
    crashes: int = 0
    booked: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Spent:
    """Of one key in the present period."""

    spent: int
    booked: int  # on the disk
    asked: int  # written, or about to be
    crashes: int = 0  # since that was written: each may have left it up to its slack ahead


class Quotas:
    """A worker's meter for one limit."""

    def __init__(
        self, limit: str, amount: int, period: PeriodName, zone: ZoneInfo, now: float, *, durable: bool = True,
        keys_max: int = KEYS_MAX,
    ) -> None:  # fmt: skip
        """Has no slices yet. Not `durable`: there is no disk to wait for, and a restart forgets."""
        self.limit = limit
        self.amount = amount
        self.period: PeriodName = period
        self.refused_for_room = 0
        self._zone = zone
        self._durable = durable
        self._keys_max = keys_max
        self._portion = NOTHING
        self._held_since: Mapping[int, float] = {}
        self._usable = NOTHING
        self._since, self._until = period_of(now, period, zone)
        self._keys: dict[str, Spent] = {}
        self._past: list[dict[str, Spent]] = []
        self._crashes = 0  # in this period: each left every key up to its slack ahead of the disk
        self._records: list[Record] = []

    @property
    def since(self) -> float:
        """When the present period began."""
        return self._since

    @property
    def period_seconds(self) -> float:
        """The length of the present period."""
        return self._until - self._since

    # What a request does

    def look(self, key: str, now: float) -> tuple[float, float, float]:
        """Takes nothing: returns how many are left, seconds to the end of the period, and seconds until one is there
        (0.0: it would admit; NEVER: this worker has none of this key)."""
        if now >= self._until:
            self._begin(now)
        reset = self._until - now
        own = self._usable.own(self.amount, digest(self.limit, key))
        found = self._keys.get(key)
        if found is not None and found.crashes:
            ahead = found.booked + found.crashes * slack_of(own)
            found.spent, found.booked, found.asked, found.crashes = ahead, ahead, ahead, 0
        spent = found.spent if found else self._crashes * slack_of(own)
        if spent >= own:
            return 0.0, reset, reset if self._portion.own(self.amount, digest(self.limit, key)) else NEVER
        if found is None and len(self._keys) >= self._keys_max:
            self.refused_for_room += 1
            return 0.0, reset, reset
        if self._durable and found is not None and spent >= found.booked + slack_of(own):
            return 0.0, reset, DISK_SECONDS
        return float(own - spent), reset, 0.0

    def admit(self, key: str, now: float) -> float:
        """Takes one: returns 0.0, or the seconds until one is there."""
        wait = self.look(key, now)[2]
        if wait > 0.0:
            return wait
        own = self._usable.own(self.amount, digest(self.limit, key))
        found = self._keys.get(key)
        if found is None:
            spent = self._crashes * slack_of(own)
            found = self._keys[key] = Spent(spent, spent, spent)
        found.spent += 1
        if found.spent >= found.asked and self._durable:
            found.asked = min(own, found.spent + slack_of(own))
            self._records.append(Record(self.limit, self._since, key, found.asked))
        return 0.0

    # What the agent and the document say

    def take(self, portion: Portion, since: Mapping[int, float]) -> None:
        """Replaces the slices. `since` when nobody but this worker has had each: one that came in the middle of a
        period gives nothing before the next."""
        self._portion, self._held_since = portion, since
        self._promote()

    def change(self, amount: int) -> None:
        """Another N. What is spent stays spent."""
        self.amount = amount

    # The disk

    @property
    def has_records(self) -> bool:
        """Whether `records` has something."""
        return bool(self._records)

    def records(self) -> list[Record]:
        """What is to be written, since the last call."""
        found, self._records = self._records, []
        return found

    def written(self, record: Record) -> None:
        """It is on the disk for good."""
        found = self._keys.get(record.key)
        if found is not None and record.since == self._since:
            found.booked = max(found.booked, record.booked)

    def poll(self) -> None:
        """Drops some of what is past."""
        if self._past:
            for key in list(self._past[-1])[:DROPPED_AT_ONCE]:
                del self._past[-1][key]
            if not self._past[-1]:
                self._past.pop()

    def handover(self) -> list[Record]:
        """Exactly what was spent, to be written by a worker that ends as planned; it admits nothing from now on."""
        self._usable = self._portion = NOTHING
        return [Record(self.limit, self._since, key, found.spent) for key, found in self._keys.items()]

    def resume(self, ledger: "Ledger", crashed_at: Sequence[float]) -> None:
        """Takes what the disk says, before any slices; `crashed_at`: when this worker started after a crash."""
        if ledger.since > self._since:  # the clock was set back: the later period goes on
            self._since, self._until = period_of(ledger.since, self.period, self._zone)
        if ledger.since == self._since:
            self._crashes = ledger.crashes
            self._keys = {key: Spent(most, most, most, behind) for key, (most, behind) in ledger.booked.items()}
        else:
            self._crashes = sum([1 for at in crashed_at if at >= self._since])

    # Inside

    def _begin(self, now: float) -> None:
        """A new period: all is free."""
        self._since, self._until = period_of(now, self.period, self._zone)
        self._past.append(self._keys)
        self._keys = {}
        self._crashes = 0
        self._records = []
        self._promote()

    def _promote(self) -> None:
        usable = tuple(index for index in self._portion.indexes if self._held_since[index] <= self._since)
        self._usable = Portion(self._portion.spenders, usable)


def slack_of(own: int) -> int:
    """How far a key with `own` of a period may be ahead of the disk."""
    return max(min(own, SLACK_MIN), own // SLACK_PART)
