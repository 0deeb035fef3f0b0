"""At most N in any window of W seconds, for each key: one worker's part, and what it lends of it.

Think of N tokens for each key, each with the meter whose slice it is. A token that is spent is free again one window
later, and not before: so no window has two uses of one token. Invariant: between two uses of a token, by whomever, lie
at least W seconds of true time. What keeps it:

- Own use: the token is booked for W by this meter's clock, stretched by what that may run fast.
- A loan: the lender books the token first and answers then. The borrower may use it once, within D of asking, by its
  own clock. The lender books it for D by the slowest clock and W after that. So a lost message loses tokens for a
  while, and a doubled one books them twice; neither makes any.
- A slice that comes from somebody else (and who was here before this process is somebody else, unless it handed over)
  gives nothing until what its last holder spent and lent is certainly over.
- A key is forgotten only when nothing of it is booked: then it is the same as one that was never seen.

Uses are gathered into `SLOTS` slots per window, and released by the end of their slot: late by at most W/SLOTS.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from meridian.core.granting.messages import Ask, Grant
from meridian.core.metering.portions import NEVER, NOTHING, Portion, digest

SLOTS = 50  # per window: 2 % is what an operator does not notice, and a busy key costs some hundred numbers
KEYS_MAX = 250_000  # of some 300 bytes each
FORGOTTEN_AT_ONCE = 2  # keys looked at per new one: the table shrinks as fast as it grows, and nobody waits
SHORT_MAX = 1_000  # keys that ask for tokens at a time
ASK_SECONDS = 0.1  # between asks for one key that is short
SHORT_SECONDS = 1.0  # after a refusal a key is still short
ANSWERED_MAX = 10_000  # asks remembered, so that one that is doubled does not book twice
LOAN_PART = 8  # a loan is at most this part of N: the next ask comes before it is spent


@dataclass(frozen=True, slots=True)
class Terms:
    """What the limit says, and what clocks may do. `drift`: a clock's rate is within it of true time."""

    amount: int
    window_seconds: float
    loan_seconds: float = 2.0
    drift: float = 0.01

    @property
    def own_seconds(self) -> float:
        """How long an own use is booked."""
        return self.window_seconds * (1 + self.drift)

    @property
    def lent_seconds(self) -> float:
        """How long a loan is booked by its lender."""
        return self.loan_seconds * (1 + self.drift) / (1 - self.drift) + self.own_seconds

    @property
    def order(self) -> tuple[int, int]:
        """Loans are between meters that count the same window: one that is longer would need a longer booking."""
        return round(self.window_seconds * 1000), 0


@dataclass(slots=True)
class Booked:
    """The tokens of one key that are not free: (until, count), the earliest first."""

    total: int = 0
    entries: list[tuple[float, int]] = field(default_factory=list)

    def settle(self, now: float) -> None:
        """Frees what is over."""
        entries = self.entries
        if entries and entries[0][0] <= now:
            over = next((i for i, (until, _) in enumerate(entries) if until > now), len(entries))
            self.total -= sum([count for _, count in entries[:over]])
            del entries[:over]

    def book(self, until: float, count: int) -> None:
        """Books `count` more; almost always at the end."""
        entries = self.entries
        at = len(entries)
        while at and entries[at - 1][0] > until:
            at -= 1
        if at and entries[at - 1][0] == until:
            entries[at - 1] = (until, entries[at - 1][1] + count)
        else:
            entries.insert(at, (until, count))
        self.total += count


@dataclass(slots=True)
class Short:
    """A key that was refused here: what it asks for, and what it was lent."""

    refused_at: float
    wanted: int = 0  # refused since the last ask
    asks: int = 0
    waiting: dict[int, float] = field(default_factory=dict)  # asks that may yet be answered: serial, and when sent
    ask_after: float = -NEVER
    loans: list[tuple[float, int]] = field(default_factory=list)  # (until, tokens), each to be spent once

    def lent(self, now: float) -> int:
        """Tokens that are held and not spent."""
        self.loans = [loan for loan in self.loans if loan[0] > now]
        return sum([tokens for _, tokens in self.loans])

    def spend(self) -> None:
        """One of them: the first to end."""
        until, tokens = min(self.loans)
        self.loans.remove((until, tokens))
        if tokens > 1:
            self.loans.append((until, tokens - 1))


@dataclass(frozen=True, slots=True)
class Handover:
    """What a meter has booked, for its successor in a planned restart."""

    limit: str
    order: tuple[int, int]
    keys: tuple[tuple[str, tuple[tuple[float, int], ...]], ...]


class Windows:
    """A worker's meter for one limit. Times are seconds of CLOCK_BOOTTIME, read by the caller at each call."""

    def __init__(
        self, limit: str, terms: Terms, address: str = "", incarnation: int = 0, keys_max: int = KEYS_MAX
    ) -> None:
        """Has no slices yet. `incarnation` is never used twice: an answer to a predecessor must not fit."""
        self.limit = limit
        self.terms = terms
        self.address = address
        self.incarnation = incarnation
        self.peers: Sequence[str] = ()  # addresses of all other spenders, as far as known
        self.refused_for_room = 0
        self._keys_max = keys_max
        self._keys: dict[str, Booked] = {}
        self._short: dict[str, Short] = {}
        self._serial = 0
        self._answered: OrderedDict[tuple[str, int, str], int] = OrderedDict()
        self._portion = NOTHING
        self._from: dict[int, float] = {}  # since when each slice gives anything
        self._usable = NOTHING
        self._usable_changes_at = NEVER

    # What a request does

    def look(self, key: str, now: float) -> tuple[float, float, float]:
        """Takes nothing: returns how many it would admit at once, seconds until all are free, and seconds until one
        is, if nothing changes (0.0: it would admit; NEVER: it has none of this key)."""
        booked = self._booked(key, now)
        own = self._own(key, now)
        short = self._short.get(key)
        left = max(0, own - booked.total) if booked else own
        if short is not None:
            left += short.lent(now)
        reset = booked.entries[-1][0] - now if booked and booked.entries else 0.0
        if left > 0:
            if booked is None and not self._has_room(now):
                self.refused_for_room += 1
                return 0.0, reset, self.terms.window_seconds / SLOTS
            return float(left), reset, 0.0
        return 0.0, reset, self._wait(booked, own, now)

    def admit(self, key: str, now: float) -> float:
        """Takes one: returns 0.0, or the seconds until one is free if nothing changes."""
        wait = self.look(key, now)[2]
        short = self._short.get(key)
        if wait > 0.0:
            self._refused(key, now)
            return wait
        if short is not None and short.lent(now):
            short.spend()
            return 0.0
        booked = self._keys.get(key)
        if booked is None:
            booked = self._keys[key] = Booked()
        booked.book(self._own_until(key, now), 1)
        return 0.0

    # What the agent and the document say

    def take(self, portion: Portion, since: Mapping[int, float]) -> None:
        """Replaces the slices. `since` when nobody but this meter has had each: it gives nothing until what others did
        with it is over."""
        later = self.terms.lent_seconds
        self._from = {index: since[index] + later for index in portion.indexes}
        self._portion = portion
        self._usable_changes_at = -NEVER

    def change(self, amount: int) -> None:
        """Another N. What is booked stays booked."""
        terms = self.terms
        self.terms = Terms(amount, terms.window_seconds, terms.loan_seconds, terms.drift)

    # Loans

    def deadline(self) -> float:
        """When `poll` is next due; NEVER if there is nothing to ask for."""
        return min((one.ask_after for one in self._short.values()), default=NEVER)

    def poll(self, now: float) -> list[Ask]:
        """Asks neighbours for the keys that are short. Call again at `deadline`."""
        messages: list[Ask] = []
        for key, short in list(self._short.items()):
            if now - short.refused_at >= SHORT_SECONDS and not short.lent(now):
                del self._short[key]
                continue
            if now < short.ask_after:
                continue
            short.ask_after = now + ASK_SECONDS
            if short.wanted and self.peers:
                messages.append(self._ask(key, short, now))
        return messages

    def _ask(self, key: str, short: Short, now: float) -> Ask:
        self._serial += 1
        lender = self.peers[(digest(self.address, key) + short.asks) % len(self.peers)]
        short.asks += 1
        tokens = min(2 * short.wanted, max(1, self.terms.amount // LOAN_PART))
        short.wanted = 0
        too_late = now - self.terms.loan_seconds
        # An answer from afar comes after the next ask: what it brings is booked there, and lost if it is not taken.
        short.waiting = {serial: at for serial, at in short.waiting.items() if at > too_late} | {self._serial: now}
        return Ask(
            self.limit, key, self.address, self.incarnation, lender, self._serial, self._serial, float(tokens),
            self.terms.order,
        )  # fmt: skip

    def asked(self, ask: Ask, now: float) -> Grant | None:
        """Lends of what is free, booking first. None: an ask that was seen before, or that is of other terms."""
        asker = (ask.borrower, ask.incarnation, ask.key)
        if ask.order != self.terms.order or self._answered.get(asker, -1) >= ask.serial:
            return None
        self._answered[asker] = ask.serial
        self._answered.move_to_end(asker)
        if len(self._answered) > ANSWERED_MAX:
            self._answered.popitem(last=False)
        booked = self._booked(ask.key, now)
        free = self._own(ask.key, now) - (booked.total if booked else 0)
        short = self._short.get(ask.key)
        wanted_here = short is not None and now - short.refused_at < SHORT_SECONDS
        tokens = 0 if wanted_here or free <= 0 else min(int(ask.tokens), -(-free // 2))
        if tokens > 0 and (booked is not None or self._has_room(now)):
            booked = booked or self._keys.setdefault(ask.key, Booked())
            booked.book(self._lent_until(now), tokens)
        else:
            tokens = 0
        return Grant(
            ask.limit, ask.key, ask.borrower, ask.incarnation, self.address, ask.serial, float(tokens),
            float(max(0, free - tokens)),
        )  # fmt: skip

    def granted(self, grant: Grant, now: float) -> None:
        """Takes a loan, if it answers an ask for this key, and soon enough."""
        short = self._short.get(grant.key)
        if short is None or grant.incarnation != self.incarnation:
            return
        asked_at = short.waiting.pop(grant.serial, None)  # an answer counts once
        if asked_at is None:
            return
        until = self._loan_until(asked_at, now)
        if grant.tokens >= 1 and now < until:
            short.loans.append((until, int(grant.tokens)))

    # A planned restart

    def handover(self) -> "Handover":
        """What is booked, for a successor; this meter lends and admits nothing from now on."""
        keys = tuple((key, tuple(booked.entries)) for key, booked in self._keys.items() if booked.entries)
        self._keys, self._short = {}, {}
        self.take(NOTHING, {})
        return Handover(self.limit, self.terms.order, keys)

    def resume(self, given: "Handover") -> None:
        """Takes what a predecessor handed over. Of another window it means nothing."""
        if given.order == self.terms.order:
            for key, entries in given.keys:
                booked = self._keys.setdefault(key, Booked())
                for until, count in entries:
                    booked.book(until, count)

    # Inside

    def _own(self, key: str, now: float) -> int:
        if now >= self._usable_changes_at:
            self._promote(now)
        return self._usable.own(self.terms.amount, digest(self.limit, key))

    def _promote(self, now: float) -> None:
        usable = tuple(index for index, since in self._from.items() if since <= now)
        self._usable = Portion(self._portion.spenders, usable)
        self._usable_changes_at = min((since for since in self._from.values() if since > now), default=NEVER)

    def _own_until(self, key: str, now: float) -> float:
        terms = self.terms
        if self._own(key, now) <= SLOTS:
            return now + terms.own_seconds
        slot = terms.window_seconds / SLOTS
        return (now // slot + 1) * slot + terms.own_seconds

    def _lent_until(self, now: float) -> float:
        return now + self.terms.lent_seconds

    def _loan_until(self, asked_at: float, now: float) -> float:
        return asked_at + self.terms.loan_seconds

    def _booked(self, key: str, now: float) -> Booked | None:
        booked = self._keys.get(key)
        if booked is not None:
            booked.settle(now)
        return booked

    def _wait(self, booked: Booked | None, own: int, now: float) -> float:
        over = booked.total - own if booked else -own  # so many must end, and one more
        for until, count in booked.entries if booked else ():
            over -= count
            if over < 0 < own:
                return until - now
        return self._usable_changes_at - now

    def _refused(self, key: str, now: float) -> None:
        short = self._short.get(key)
        if short is None:
            if len(self._short) >= SHORT_MAX or not self.peers:
                return
            short = self._short[key] = Short(now, ask_after=now)
        short.refused_at = now
        short.wanted += 1

    def _has_room(self, now: float) -> bool:
        """Whether a new key fits, after a look at those that were used first."""
        keys = self._keys
        for key in list(_first(keys, FORGOTTEN_AT_ONCE)):
            booked = keys.pop(key)
            booked.settle(now)
            if booked.total:
                keys[key] = booked  # to the end: the next look is at others
        return len(keys) < self._keys_max


def _first(keys: dict[str, Booked], count: int) -> Iterator[str]:
    for key, _ in zip(keys, range(count), strict=False):
        yield key
