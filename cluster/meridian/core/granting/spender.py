"""One worker's buckets for one limit: strict, local, and with nothing to wait for.

Invariant: what this worker admits under a limit fits its own slices and the loans it holds, by a clock that runs up to
`drift` fast. What keeps it:

- A key that never spent starts empty when the worker starts, and after that is a key like any other. Only a key that
  is full is forgotten, for it is the same as one that never spent.
- A worker that starts may have lent what it does not remember: it has no tokens of its own until that is over. One
  that takes over from its predecessor (`Spender.resumed`) knows.
- An allowance replaces the one before and takes effect at once. It is confirmed when all that was lent under earlier
  ones is back. Leased seats end by this worker's own clock.
- What is lent is lent from its own tokens, and from those of a lease only if that outlasts the loan. Loans are between
  spenders that go by the same value.

The keys lie in `tables`; one that is short or lent has an `Account`.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from meridian.core.granting import lending
from meridian.core.granting.account import NEVER, ONE, Account, Line
from meridian.core.granting.messages import Ask, Back, Grant
from meridian.core.granting.shares import Cut, Share, Value, fill_seconds, owner, share_of, tokens_by_place
from meridian.core.granting.tables import EPOCHS_MAX, Epoch, Table, settle_account

KEYS_MAX = 1_000_000  # 200 bytes each: what a worker may spend on idle keys
ACCOUNTS_MAX = 1_000  # keys that borrow or lend at a time; each costs messages to its lenders every second
POLLS_PER_SECOND = 2_000  # of 20 us; with all accounts in use each is still looked at twice in a loan's time
TABLES_MIN = 512  # so that a table of the greatest spender is settled within a few milliseconds
POLLED_MAX = 100  # accounts per poll: holds the loop for about a millisecond
ASKS_PER_SECOND = 500  # of one spender: each costs two agents and the lender some 50 us


@dataclass(frozen=True, slots=True)
class Allowance:
    """The seats that a node's workers may spend, all of them: leased ones until `until` (seconds of CLOCK_BOOTTIME).

    `agent` and `sequence` name it; a sequence alone would let a new agent take a confirmation of the old one's. `fresh`
    are home seats that nobody had before: a worker without a memory of its own begins with nothing on the others.
    """

    agent: str
    sequence: int
    home: frozenset[int]
    leased: frozenset[int] = frozenset()
    until: float = -NEVER
    fresh: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Handover:
    """All that a spender knows, for its successor in a planned restart."""

    limit: str
    address: str
    slot: int
    incarnation: int
    serial: int
    value: Value | None
    allowance: Allowance
    usable_from: float
    settled_at: float
    lent_until: float
    lapses_at: float
    epochs: tuple[Epoch, ...]
    tables: tuple[tuple[float, dict[str, float]], ...]  # without the keys that have accounts
    accounts: dict[str, Account]


class Spender:
    """A worker's machine for one limit. Times are seconds of CLOCK_BOOTTIME, read by the caller at each call."""

    def __init__(
        self, cut: Cut, limit: str, address: str, slot: int, incarnation: int, now: float, keys_max: int = KEYS_MAX
    ) -> None:
        """Knows nothing: neither what its predecessor spent nor what it lent. `incarnation` is never used twice."""
        self.cut = cut
        self.limit = limit
        self.address = address
        self.slot = slot
        self.incarnation = incarnation
        self.value: Value | None = None
        self.peers: Sequence[str] = ()  # addresses of all other spenders, as far as known
        self.refused_for_room = 0
        self._allowance = Allowance("", -1, frozenset())
        self._usable_from = self._settled_at = now + self._quarantine_seconds()
        self._lent_until = -NEVER
        self._lapses_at = NEVER
        self._serial = 0
        self._asks_left, self._asks_at = float(ASKS_PER_SECOND), now
        self._accounts: dict[str, Account] = {}
        self._due: list[tuple[float, str]] = []
        self._by_place: tuple[Value | None, tuple[int, ...]] = (None, ())
        self._epoch = Epoch(0, self._usable_from, Share(), 1.0)
        self._epochs = [self._epoch]
        self._salt = crc32(limit.encode())
        self._tables_count = cut.ring * -(-TABLES_MIN // cut.ring)
        self._tables = [Table(index % cut.ring, self._usable_from) for index in range(self._tables_count)]
        self._table_keys_max = max(1, keys_max // self._tables_count)

    # What a request does

    def admit(self, key: str, now: float) -> float:
        """Takes one token: returns 0.0 if admitted, else in how many seconds one is there if nothing changes.

        The admission is at the moment of `now`: read the clock immediately before, and never use a cached time.
        """
        if now >= self._lapses_at:
            self._lapse()
        table = self._tables[crc32(key.encode(), self._salt) % self._tables_count]
        if table.epoch != self._epoch.number:
            table.settle(self._epochs)
        empty = table.keys.get(key)
        if empty is None:
            if len(table.keys) >= self._table_keys_max and not self._evict(table, now):
                self.refused_for_room += 1
                return max(table.cost, lending.POLL_SECONDS)
            empty = table.unseen
        elif isinstance(empty, Account):
            return self._admit_account(empty, now)
        if now - empty > table.fill:
            empty = now - table.fill
        if now - empty >= table.least:
            table.keys[key] = empty + table.cost
            return 0.0
        if len(self._accounts) < ACCOUNTS_MAX and self._shared():
            account = self._open(table, key, now)
            account.short_at = now
            account.arrivals = 1
        return empty + table.cost - now

    def _admit_account(self, account: Account, now: float) -> float:
        if account.epoch != self._epoch.number:
            self._settle_account(account, now)
        return account.admit(now)

    def admit_trial(self, trial: "Spender", key: str, now: float) -> float:
        """Admits an exchange of a document on trial: the limit in force holds for it, and its own does too.

        The trial's token is taken first; it is lost if the limit in force refuses, which can only admit less.
        """
        return trial.admit(key, now) or self.admit(key, now)

    # What the agent says

    def allow(self, allowance: Allowance, value: Value, now: float) -> None:
        """Replaces the seats and the value. Confirmed by `confirmed` when nothing lent under earlier ones is out.

        An older value than the present one is not taken.
        """
        if now >= self._lapses_at:
            self._lapse()
        if self.value is not None and value.order < self.value.order:
            value = self.value
        before = (self._allowance.home, self._leased(now), self.value)
        self._allowance = allowance
        self.value = value
        leased = self._leased(now)
        self._lapses_at = allowance.until if leased else NEVER
        if (allowance.home, leased, value) != before:
            self._settled_at = max(self._usable_from, self._lent_until)
            self._begin(max(now, self._usable_from))

    def confirmed(self, now: float) -> Allowance | None:
        """The allowance that this worker keeps to, together with all that it lent; None: not yet."""
        return self._allowance if now >= self._settled_at and self.value is not None else None

    def deadline(self) -> float:
        """When `poll` is next due; NEVER if time alone changes nothing."""
        return min(self._due[0][0] if self._due else NEVER, self._lapses_at)

    def poll(self, now: float) -> list[Ask | Back]:
        """Looks after the keys that are short or lent, and returns what to send. Call again at `deadline`."""
        if now >= self._lapses_at:
            self._lapse()
        messages: list[Ask | Back] = []
        for _ in range(POLLED_MAX):
            if not self._due or self._due[0][0] > now:
                break
            _, key = heapq.heappop(self._due)
            account = self._accounts[key]
            self._settle_account(account, now)
            lending.estimate(account, now)
            if self._idle(account, now):
                self._close(key, account)
                continue
            if self._may_ask(now):
                asks = self._asks(key, account, now)
                self._asks_left -= len(asks)
                messages += asks
            pause = lending.poll_seconds(account, now)
            heapq.heappush(self._due, (now + max(pause, len(self._accounts) / POLLS_PER_SECOND), key))
        return messages

    # What other spenders say

    def asked(self, ask: Ask, now: float) -> Grant | None:
        """Lends of its own, withholding first. None: an ask that was seen before."""
        if now >= self._lapses_at:
            self._lapse()
        borrower = (ask.borrower, ask.incarnation)
        account = self._accounts.get(ask.key)
        amount = 0.0
        left = 0.0
        if account is not None or (self._lends(ask, now) and len(self._accounts) < ACCOUNTS_MAX):
            table = self._table(ask.key)
            account = account or self._open(table, ask.key, now)
            self._settle_account(account, now)
            account.used_at = now
            if any(one.serial >= ask.serial for one in account.lent.get(borrower, ())):
                return None
            account.forget_below(borrower, ask.kept)
            if self._lends(ask, now):
                lending.estimate(account, now)
                others = account.withheld - account.withheld_for(borrower)
                left = lending.spare(account, self._lendable(account, now), others, now)
                amount = min(ask.tokens, left)
                if amount >= lending.LOAN_TOKENS_MIN:
                    self._lent_until = now + self._withheld_seconds()
                    account.lend(ask, amount, self._lent_until)
                    left -= amount
                else:
                    amount = 0.0
        return Grant(ask.limit, ask.key, ask.borrower, ask.incarnation, self.address, ask.serial, amount, left)

    def granted(self, grant: Grant, now: float) -> Back | None:
        """Takes a loan, if it answers the last ask on its line, soon enough. Returns what is given back at once."""
        account = self._accounts.get(grant.key)
        line = account.lines.get(grant.lender) if account is not None else None
        if account is None or line is None or not self._answers(line, grant, now):
            return None
        line.waiting = False
        line.silent = 0
        line.spare = grant.spare
        refused = grant.tokens < lending.LOAN_TOKENS_MIN
        line.refused = line.refused + 1 if refused else 0
        line.ask_after = now + lending.pause_seconds(line)
        if refused:
            return None
        self._settle_account(account, now)
        less = grant.tokens < line.tokens
        account.accept(line, grant, self._held_until(line, now))
        return self._back(grant.key, grant.lender, line.serial) if less else None

    def gave_back(self, back: Back, now: float) -> None:
        """What was lent is there again, with no tokens in it."""
        account = self._accounts.get(back.key)
        if account is not None:
            self._settle_account(account, now)
            account.forget_below((back.borrower, back.incarnation), back.kept)

    def look(self, key: str, now: float) -> tuple[float, float, float]:
        """Takes nothing: returns the level, seconds until it is full, and seconds until one token is there."""
        if now >= self._lapses_at:
            self._lapse()
        table = self._table(key)
        state = table.keys.get(key, table.unseen)
        if isinstance(state, Account):
            self._settle_account(state, now)
            if state.cap < ONE:
                return state.level, 0.0, NEVER
            cost, level, cap = state.fill / state.cap, state.level, state.cap
        elif table.own == 0:
            return 0.0, 0.0, NEVER
        else:
            cost, cap = table.cost, float(table.own)
            level = max(0.0, min(table.fill, now - state) / cost)
        return level, (cap - level) * cost, 0.0 if level >= ONE else (1.0 - level) * cost

    def owner(self, key: str) -> tuple[int, int] | None:
        """The (seat, slot) that owns a key, where this limit has too few tokens to be shared; else None."""
        if self.value is None or self.cut.ring == 1:
            return None
        return owner(self.cut, self.value, crc32(key.encode(), self._salt))

    # What tests and status look at

    def cap(self, key: str, now: float) -> float:
        """What the key may hold at most at `now`."""
        if now >= self._lapses_at:
            self._lapse()
        account = self._accounts.get(key)
        if account is None:
            table = self._table(key)
            return float(table.own) if now >= self._usable_from else 0.0
        self._settle_account(account, now)
        return account.cap

    def loans(self) -> tuple[float, float]:
        """Tokens held of others, and withheld for others, of all keys."""
        accounts = self._accounts.values()
        return sum(account.held for account in accounts), sum(account.withheld for account in accounts)

    def keys(self) -> int:
        """How many keys are remembered."""
        return sum(len(table.keys) for table in self._tables)

    def borrowed(self) -> Iterator[tuple[str, str, float, float]]:
        """What is held of others: key, lender, tokens, until."""
        for key, account in self._accounts.items():
            for name, line in account.lines.items():
                if line.tokens > 0:
                    yield key, name, line.tokens, line.until

    # The share

    def _quarantine_seconds(self) -> float:
        return self.cut.withheld_seconds if self.cut.ring > 1 else 0.0  # who is alone never lent

    def _withheld_seconds(self) -> float:
        return self.cut.withheld_seconds

    def _held_until(self, line: Line, now: float) -> float:
        return line.asked_at + self.cut.loan_seconds

    def _fill_seconds(self, value: Value) -> float:
        return fill_seconds(self.cut, value)

    def _leased(self, now: float) -> frozenset[int]:
        return self._allowance.leased if now < self._allowance.until else frozenset()

    def _lapse(self) -> None:
        """The lease ended, at its own time, whenever that is noticed."""
        lapsed, self._lapses_at = self._lapses_at, NEVER
        self._begin(max(lapsed, self._usable_from))

    def _begin(self, since: float) -> None:
        """A new epoch, from the present allowance and value."""
        assert self.value is not None
        if self._by_place[0] != self.value:
            self._by_place = (self.value, tokens_by_place(self.cut, self.value))
        leased = self._allowance.leased if self._lapses_at != NEVER else frozenset()
        share = share_of(self.cut, self._by_place[1], self._allowance.home, leased, self.slot)
        since = max(since, self._epoch.since)
        self._epoch = Epoch(self._epoch.number + 1, since, share, self._fill_seconds(self.value))
        self._epochs = [*self._epochs[1 - EPOCHS_MAX :], self._epoch]

    def _table(self, key: str) -> Table:
        table = self._tables[crc32(key.encode(), self._salt) % self._tables_count]
        if table.epoch != self._epoch.number:
            table.settle(self._epochs)
        return table

    def _settle_account(self, account: Account, now: float) -> None:
        if now >= self._lapses_at:
            self._lapse()
        settle_account(account, self._epochs, now)

    # Keys

    def _evict(self, table: Table, now: float) -> bool:
        return table.evict(now)

    def _open(self, table: Table, key: str, now: float) -> Account:
        """Gives a key an account, with the level that it has."""
        usable = now >= self._usable_from
        account = Account(
            class_=table.class_,
            own=float(table.own) if usable else 0.0,
            home=float(self._epoch.share.home(table.class_)) if usable else 0.0,
            fill=table.fill,
            level=table.level(key, now) if usable else 0.0,
            at=now,
            opened_at=now,
            estimated_at=now,
            used_at=now,
            epoch=table.epoch if usable else self._epochs[0].number - 1,
        )
        account.resize()
        table.keys[key] = self._accounts[key] = account
        heapq.heappush(self._due, (now, key))
        return account

    def _close(self, key: str, account: Account) -> None:
        """Gives a key its float back."""
        self._table(key).set_level(key, account.level, account.at)
        del self._accounts[key]

    def _idle(self, account: Account, now: float) -> bool:
        busy = account.lent or account.held > 0 or now < self._usable_from or account.epoch != self._epoch.number
        return not busy and now - account.used_at > lending.IDLE_SECONDS

    # Loans

    def _shared(self) -> bool:
        """Whether this limit has tokens enough to be shared; else its keys have owners."""
        return self.value is not None and max(rule.burst for rule in self.value.rules) > self.cut.alone_max

    def _lends(self, ask: Ask, now: float) -> bool:
        return self.value is not None and self.value.order == ask.order and now >= self._usable_from and self._shared()

    def _lendable(self, account: Account, now: float) -> float:
        return account.own if self._lapses_at - now >= self.cut.withheld_seconds else account.home

    def _asks(self, key: str, account: Account, now: float) -> list[Ask | Back]:
        assert self.value is not None
        want = lending.wanted(account, max(rule.burst for rule in self.value.rules), now)
        plan = lending.asks(account, key, self.address, self.peers, want, self.cut.loan_seconds, now)
        messages: list[Ask | Back] = []
        for name, amount in plan:
            line = account.lines.setdefault(name, Line())
            if amount > 0:
                messages.append(self._ask(key, name, line, amount, now))
            else:
                account.drop(line)
                line.waiting = False
                self._serial += 1
                messages.append(self._back(key, name, self._serial))
        return messages

    def _may_ask(self, now: float) -> bool:
        """A budget: thousands of keys above their limits must not become a storm between the nodes."""
        self._asks_left = min(ASKS_PER_SECOND, self._asks_left + (now - self._asks_at) * ASKS_PER_SECOND)
        self._asks_at = now
        return self._asks_left >= 1.0

    def _ask(self, key: str, lender: str, line: Line, amount: float, now: float) -> Ask:
        assert self.value is not None
        self._serial += 1
        line.asked(self._serial, self.value.order, now)
        line.ask_after = now + lending.patience_seconds(line)
        kept = line.serial if line.tokens > 0 else self._serial
        return Ask(
            self.limit,
            key,
            self.address,
            self.incarnation,
            lender,
            self._serial,
            kept,
            amount,
            self.value.order,
        )

    def _back(self, key: str, lender: str, kept: int) -> Back:
        return Back(self.limit, key, self.address, self.incarnation, lender, kept)

    def _answers(self, line: Line, grant: Grant, now: float) -> bool:
        return (
            line.waiting
            and grant.serial == line.asked_serial
            and grant.incarnation == self.incarnation
            and now < self._held_until(line, now)
            and self.value is not None
            and self.value.order == line.order
        )

    # A planned restart

    @classmethod
    def resumed(cls, cut: Cut, given: "Handover", now: float, keys_max: int = KEYS_MAX) -> "Spender":
        """The successor of a spender that gave all it had: no quarantine, and nothing is lost."""
        spender = cls(cut, given.limit, given.address, given.slot, given.incarnation, now, keys_max)
        spender.value, spender._allowance, spender._serial = given.value, given.allowance, given.serial
        spender._usable_from, spender._settled_at = given.usable_from, given.settled_at
        spender._lent_until, spender._lapses_at = given.lent_until, given.lapses_at
        spender._epochs = list(given.epochs)
        spender._epoch = given.epochs[-1]
        for table, (unseen, keys) in zip(spender._tables, given.tables, strict=True):
            table.take(spender._epoch)
            table.unseen, table.keys = unseen, dict(keys)
        spender._accounts = given.accounts
        for key, account in given.accounts.items():
            spender._table(key).keys[key] = account
        spender._due = [(now, key) for key in given.accounts]
        return spender

    def handover(self, now: float) -> "Handover":
        """Gives all to a successor, and keeps nothing: from now on this spender admits and lends nothing."""
        if now >= self._lapses_at:
            self._lapse()
        for table in self._tables:
            table.settle(self._epochs)
        given = Handover(
            self.limit,
            self.address,
            self.slot,
            self.incarnation,
            self._serial,
            self.value,
            self._allowance,
            self._usable_from,
            self._settled_at,
            self._lent_until,
            self._lapses_at,
            tuple(self._epochs),
            tuple((table.unseen, _floats(table.keys)) for table in self._tables),
            self._accounts,
        )
        fresh = Spender(self.cut, self.limit, self.address, self.slot, self.incarnation, now)
        for name in vars(fresh):
            setattr(self, name, getattr(fresh, name))
        self._usable_from = self._settled_at = NEVER
        return given


def _floats(keys: Mapping[str, float | Account]) -> dict[str, float]:
    return {key: state for key, state in keys.items() if not isinstance(state, Account)}
