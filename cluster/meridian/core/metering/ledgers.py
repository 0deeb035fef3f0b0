"""What a worker writes down about its counts, line by line, and what the lines come to when it starts again.

Invariant: what a ledger comes to is never less than what was spent, whatever lines are missing at its end. A worker
that does not say that it closed has crashed; then every key may be ahead by its slack, once for each crash.

The lines are values of `Line`; who writes them keeps their order, and says when they are on the disk.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from meridian.core.metering.quotas import Ledger, Record
from meridian.core.metering.windows import Handover

CRASHES_MAX = 64  # remembered: so many have cost every key more than all that it had


@dataclass(frozen=True, slots=True)
class Opened:
    """A worker starts, at this Unix time, on this boot of the machine."""

    unix: float
    boot: str


@dataclass(frozen=True, slots=True)
class Held:
    """The slices from here on, and since when nobody else has had each: by CLOCK_BOOTTIME, and by Unix time."""

    spenders: int
    since: Mapping[int, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Exact:
    """A key of a worker that ends as planned, or of a ledger that is written anew."""

    record: Record
    behind: int = 0


@dataclass(frozen=True, slots=True)
class Period:
    """The crashes in a limit's period, in a ledger that is written anew."""

    limit: str
    since: float
    crashes: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The worker ended as planned: nothing is ahead of what stands above."""


Line = Opened | Held | Record | Exact | Period | Handover | Closed


@dataclass(slots=True)
class Ledgers:
    """What lines come to; `limits` are quotas."""

    is_new: bool = True  # nobody was ever here
    is_open: bool = False
    is_clean: bool = False  # the one before closed, on this boot: its clock was this one's
    boot: str = ""
    crashed_at: list[float] = field(default_factory=list)
    held: Held = field(default_factory=lambda: Held(1, {}))
    limits: dict[str, Ledger] = field(default_factory=dict)
    windows: dict[str, Handover] = field(default_factory=dict)
    _handed: dict[str, Handover] = field(default_factory=dict)

    def add(self, line: Line) -> None:
        """The next one."""
        match line:
            case Opened():
                self._opened(line)
            case Held():
                self.held = line
            case Record():
                self._book(line.limit, line.since, line.key, line.booked, 0)
            case Exact(record, behind):
                self._limit(record.limit, record.since).booked.pop(record.key, None)
                self._book(record.limit, record.since, record.key, record.booked, behind)
            case Period(limit, since, crashes):
                self._limit(limit, since).crashes = crashes
            case Handover():
                self._handed[line.limit] = line
            case Closed():
                self.is_open = False
                self.windows, self._handed = self._handed, {}

    def lines(self) -> Iterator[Line]:
        """The same in as few lines as it takes, of a worker that is open."""
        yield Opened(0.0, self.boot)
        yield from (Opened(unix, self.boot) for unix in self.crashed_at)
        yield self.held
        for limit, ledger in self.limits.items():
            yield Period(limit, ledger.since, ledger.crashes)
            for key, (booked, behind) in ledger.booked.items():
                yield Exact(Record(limit, ledger.since, key, booked), behind)

    def _opened(self, line: Opened) -> None:
        self.is_clean = not self.is_open and line.boot == self.boot
        if self.is_open:
            self.crashed_at = [*self.crashed_at, line.unix][-CRASHES_MAX:]
            for ledger in self.limits.values():
                ledger.crashes += 1
                ledger.booked = {key: (booked, behind + 1) for key, (booked, behind) in ledger.booked.items()}
        if not self.is_clean:
            self.windows = {}
        self._handed = {}
        self.is_new, self.is_open, self.boot = False, True, line.boot

    def _limit(self, limit: str, since: float) -> Ledger:
        ledger = self.limits.setdefault(limit, Ledger())
        if since > ledger.since:
            crashes = sum([1 for at in self.crashed_at if at >= since])
            ledger.since, ledger.crashes, ledger.booked = since, crashes, {}
        return ledger

    def _book(self, limit: str, since: float, key: str, booked: int, behind: int) -> None:
        ledger = self._limit(limit, since)
        if since == ledger.since:
            ledger.booked[key] = (max(booked, ledger.booked.get(key, (0, 0))[0]), behind)
