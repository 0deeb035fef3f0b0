"""The meters of one worker: windows, quotas and concurrency limits, by the limit's name. They outlive snapshots: what
was counted belongs to the name, so that no new document begins a window or a day anew.

Times: `now` is CLOCK_BOOTTIME in seconds, `unix` is Unix time in seconds, both read at each call and never cached.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

from meridian.core.granting.messages import Ask, Grant, Message
from meridian.core.metering.concurrency import Concurrency
from meridian.core.metering.ledgers import Closed, Exact, Held, Ledgers, Line
from meridian.core.metering.portions import ALL, NOTHING, Portion
from meridian.core.metering.quotas import Ledger, Quotas, Record
from meridian.core.metering.windows import Terms, Windows
from meridian.core.snapshot import Limit

Meter = Windows | Quotas | Concurrency
_Identity = tuple[object, ...]
GONE_MAX = 1_000  # limits that left the document and may come back: more than a day of mistakes and rollbacks
LONG_AGO = (-1e9, 0.0)
"""Since when a worker has its slices that is the first one ever to have them."""


class Meters:
    """See the module's head. It has no slices until `take`."""

    def __init__(self, address: str = "", incarnation: int = 0, ledgers: Ledgers | None = None) -> None:
        """`address` (node/slot) among spenders, and what no process before it had. `ledgers`: what its disk says; None:
        there is no disk, and a restart forgets."""
        self.post: Callable[[Ask | Grant], None] = lambda message: None  # to other workers; may lose
        self.write_soon: Callable[[], object] = lambda: None  # call `lines` when what runs now is done
        self._told_to_write = False
        self._address = address
        self._incarnation = incarnation
        self._peers: Sequence[str] = ()
        self._ledgers = ledgers
        self._is_new = ledgers is None or ledgers.is_new
        self._held = ledgers.held if ledgers is not None else Held(1, {})
        self._forgotten = ledgers is not None and not ledgers.is_clean  # of windows
        self._portion = NOTHING
        self._lines: list[Line] = []
        self._limits: dict[str, Limit] = {}
        self._meters: dict[str, Meter] = {}
        self._gone: dict[tuple[str, _Identity], tuple[Limit, Meter, float]] = {}  # and until when it may matter

    @classmethod
    def alone(cls, now: float, unix: float) -> "Meters":
        """Of a worker that is the only one there is, and ever was."""
        meters = cls()
        meters.take(ALL, now, unix)
        return meters

    # What a request does

    def look(self, limit: Limit, key: str, now: float, unix: float) -> tuple[float, float, float]:
        """Takes nothing: returns how many the limit would admit, seconds until it is whole again, and seconds until it
        admits one (0.0: now)."""
        meter = self._meters[limit.name]
        return meter.look(key, unix if isinstance(meter, Quotas) else now)

    def has(self, limit: Limit) -> bool:
        """Whether the limit is still one of the document's."""
        return limit.name in self._meters

    def admit(self, limit: Limit, key: str, now: float, unix: float) -> float:
        """Takes one: returns 0.0, or the seconds until one is there."""
        meter = self._meters[limit.name]
        if not isinstance(meter, Quotas):
            return meter.admit(key, now)
        wait = meter.admit(key, unix)
        if meter.has_records and not self._told_to_write:
            self._told_to_write = True
            self.write_soon()
        return wait

    def release(self, limit: Limit, key: str) -> None:
        """An exchange that a concurrency limit admitted has ended. The limit may have left the document since."""
        here = self._limits.get(limit.name)
        if here is not None and _identity(here) == _identity(limit):
            found = self._meters.get(limit.name)
        else:
            gone = self._gone.get((limit.name, _identity(limit)))
            found = gone[1] if gone is not None else None
        if isinstance(found, Concurrency) and found.active(key):
            found.release(key)

    def period_seconds(self, limit: Limit) -> float:
        """The length of a window, or of the present day or month."""
        meter = self._meters[limit.name]
        return meter.period_seconds if isinstance(meter, Quotas) else limit.window_seconds

    # What the document and the agent say

    def replace(self, limits: Mapping[str, Limit], now: float, unix: float) -> None:
        """Takes the limits of a new snapshot. Another key, window or period makes it another limit: it counts from now
        on, with all of its slices, for nobody has spent it before. One that comes back as it was goes on."""
        wanted = {name: limit for name, limit in limits.items() if limit.kind != "rate"}
        for name, old in list(self._limits.items()):
            if name not in wanted or _identity(wanted[name]) != _identity(old):
                self._gone[name, _identity(old)] = (old, self._meters.pop(name), now + _memory_seconds(old))
        self._gone = {name: one for name, one in self._gone.items() if one[2] > now or _is_busy(one[1])}
        for name, limit in wanted.items():
            meter = self._meters.get(name)
            if meter is None:
                meter = self._meters[name] = self._begin(limit, now, unix)
            meter.change(limit.amount)
        while len(self._gone) > GONE_MAX:  # the first to have left
            del self._gone[next(iter(self._gone))]
        self._limits = wanted

    def take(self, portion: Portion, now: float, unix: float, fresh: Container[int] = frozenset()) -> None:
        """Replaces this worker's slices of all limits. Those that come from somebody else, or from a process before
        this one that left no word, give nothing until what was done with them is over. On `fresh` ones nobody was."""
        if portion == self._portion:
            return
        before = self._held.since if portion.spenders == self._held.spenders else {}
        if self._forgotten:
            before = {index: (now, since) for index, (_, since) in before.items()}
        is_first = self._is_new and not before
        since = {
            index: LONG_AGO if is_first and (self._ledgers is None or index in fresh) else (now, unix)
            for index in portion.indexes
        }
        self._held = Held(portion.spenders, since | {i: held for i, held in before.items() if i in since})
        if portion.indexes:
            self._forgotten = self._is_new = False
            self._lines.append(self._held)
        self._portion = portion
        for meter in self._all():
            self._give(meter)

    def _begin(self, limit: Limit, now: float, unix: float) -> Meter:
        meter: Meter
        old = self._gone.pop((limit.name, _identity(limit)), None)
        if old is not None:
            meter = old[1]  # it comes back: so does what it counted
        elif limit.kind == "window":
            terms = Terms(limit.amount, limit.window_seconds)
            meter = Windows(limit.name, terms, self._address, self._incarnation)
            given = self._ledgers.windows.pop(_window_name(limit), None) if self._ledgers is not None else None
            if given is not None:
                meter.resume(given)
        elif limit.kind == "quota":
            name, zone = _ledger_name(limit), ZoneInfo(limit.time_zone)
            meter = Quotas(name, limit.amount, limit.period, zone, unix, durable=self._ledgers is not None)
            if self._ledgers is not None:
                meter.resume(self._ledgers.limits.pop(name, Ledger()), self._ledgers.crashed_at)
        else:
            meter = Concurrency(limit.name, limit.amount)
        if isinstance(meter, Windows):
            meter.peers = self._peers
        self._give(meter)
        return meter

    def _give(self, meter: Meter) -> None:
        since = self._held.since
        if isinstance(meter, Concurrency):
            meter.take(self._portion)
        elif isinstance(meter, Windows):
            meter.take(self._portion, {index: now for index, (now, _) in since.items()})
        else:
            meter.take(self._portion, {index: unix for index, (_, unix) in since.items()})

    # Upgrades

    def under_way(self) -> tuple[tuple[str, str, int], ...]:
        """Limit, key and number of the exchanges that concurrency limits have admitted and that have not ended."""
        found = [(name, meter) for name, meter in self._meters.items() if isinstance(meter, Concurrency)]
        return tuple((name, key, count) for name, meter in found for key, count in meter.under_way().items())

    def carry(self, limit: str, key: str, count: int) -> bool:
        """Counts exchanges of a predecessor as this worker's. False: there is no such limit here."""
        meter = self._meters.get(limit)
        if not isinstance(meter, Concurrency):
            return False
        meter.carry(key, count)
        return True

    # The disk

    def lines(self) -> list[Line]:
        """What is to be written, since the last call."""
        self._told_to_write = False
        lines, self._lines = self._lines, []
        for meter in self._all():
            if isinstance(meter, Quotas):
                lines += meter.records()
        return lines

    def written(self, lines: Iterable[Line]) -> None:
        """They are on the disk for good."""
        quotas = {meter.limit: meter for meter in self._all() if isinstance(meter, Quotas)}
        for line in lines:
            if isinstance(line, Record) and line.limit in quotas:
                quotas[line.limit].written(line)

    def close(self) -> list[Line]:
        """The last lines of a worker that ends as planned; it admits nothing from now on."""
        lines: list[Line] = self.lines()
        here = [(limit, self._meters[name]) for name, limit in self._limits.items()]
        for limit, meter in [*here, *((limit, meter) for limit, meter, _ in self._gone.values())]:
            if isinstance(meter, Quotas):
                lines += [Exact(record) for record in meter.handover()]
            elif isinstance(meter, Windows):
                lines.append(replace(meter.handover(), limit=_window_name(limit)))
        return [*lines, Closed()]

    def _all(self) -> list[Meter]:
        return [*self._meters.values(), *(meter for _, meter, _ in self._gone.values())]

    # What other workers say

    def set_spenders(self, addresses: Iterable[str]) -> None:
        """All spenders of the cluster."""
        self._peers = [address for address in addresses if address != self._address]
        for meter in self._meters.values():
            if isinstance(meter, Windows):
                meter.peers = self._peers

    def hear(self, message: Message, now: float) -> bool:
        """A letter from another worker. False: it is about no meter of ours."""
        meter = self._meters.get(message.limit)
        if meter is None:
            return False
        if isinstance(meter, Windows):
            if isinstance(message, Ask):
                answer = meter.asked(message, now)
                if answer is not None:
                    self.post(answer)
            elif isinstance(message, Grant):
                meter.granted(message, now)
        return True

    def settled(self) -> bool:
        """Whether all that is under way fits the slices: only then may others have those that were given up."""
        return all(meter.settled() for meter in self._all() if isinstance(meter, Concurrency))

    def poll(self, now: float) -> None:
        """Asks neighbours for tokens of keys that are short, and drops what is past; call every 50 ms."""
        for meter in self._meters.values():
            if isinstance(meter, Windows) and now >= meter.deadline():
                for ask in meter.poll(now):
                    self.post(ask)
            elif isinstance(meter, Quotas):
                meter.poll()


def _identity(limit: Limit) -> _Identity:
    """What makes it the same limit: with another, what was counted means nothing."""
    return limit.kind, limit.key, limit.window_seconds, limit.period, limit.time_zone


def _ledger_name(limit: Limit) -> str:
    """Of a quota: with another key, period or zone it is another."""
    return " ".join((limit.name, limit.period, limit.time_zone, *limit.key))


def _window_name(limit: Limit) -> str:
    """Of a window: with another key or length it is another, and both may be there to be handed over."""
    return " ".join((limit.name, f"{limit.window_seconds:g}", *limit.key))


def _is_busy(meter: Meter) -> bool:
    """Whether exchanges are under way that it admitted: they count until they end."""
    return isinstance(meter, Concurrency) and meter.is_busy


def _memory_seconds(limit: Limit) -> float:
    """How long what a limit counted may matter, should it come back."""
    if limit.kind == "quota":
        return 32 * 86_400.0
    return 2 * limit.window_seconds if limit.kind == "window" else 86_400.0
