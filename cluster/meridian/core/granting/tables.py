"""The keys of one spender: a float each, and shares that change under them.

The float of a key is the moment when its bucket, filling as it does now, was empty; so it needs no touch while time
passes. Invariant: a new share neither adds tokens to a key nor loses more of them than it has no room for, however late
the key is settled: it goes through every share that it missed, each from its own time on.

A key that never spent is a key like any other (`Table.unseen`), and so is one that was forgotten, because only full
ones are. Keys of one class have equal shares and lie in the same tables, so that a table is settled by one rule. It is
settled when it is next touched: a share that changes costs nobody a pause.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meridian.core.granting.account import NEVER, ONE, Account
from meridian.core.granting.shares import Share

EVICTION_TRIES = 8  # keys looked at to find a full one, before a new key is refused
EPOCHS_MAX = 8  # shares remembered; a key untouched for longer starts empty


@dataclass(frozen=True, slots=True)
class Epoch:
    """A share that holds from `since` on; `fill` is the seconds that an empty bucket takes to fill."""

    number: int
    since: float
    share: Share
    fill: float


@dataclass(slots=True)
class Table:
    """Keys of one class, under the share of one epoch. A key that is short or lent has an account for its float."""

    class_: int
    unseen: float  # when the bucket of a key that never spent was empty
    epoch: int = 0
    own: int = 0
    fill: float = 1.0
    cost: float = NEVER  # seconds that one token takes to accrue
    least: float = NEVER  # of them, that admit
    keys: dict[str, float | Account] = field(default_factory=dict)

    def take(self, epoch: Epoch) -> None:
        """Sets the share; the keys are still as under the one before."""
        self.epoch = epoch.number
        self.own = epoch.share.own(self.class_)
        self.fill = epoch.fill
        self.cost = epoch.fill / self.own if self.own else NEVER
        self.least = self.cost * ONE

    def settle(self, epochs: Sequence[Epoch]) -> None:
        """Takes all keys through the epochs that they missed. `epochs`: the last ones, in order."""
        if self.epoch < epochs[0].number - 1:  # too long ago: nobody remembers what they might have accrued
            self.keys = {key: state for key, state in self.keys.items() if isinstance(state, Account)}
            self.unseen = epochs[-1].since
            self.take(epochs[-1])
            return
        for epoch in epochs:
            if epoch.number <= self.epoch:
                continue
            own, fill, since = self.own, self.fill, epoch.since
            self.take(epoch)
            ratio = self.cost * own / fill if self.own else 0.0  # seconds that the tokens of one second now cost
            full = since - self.fill
            self.unseen = max(since - min(fill, since - self.unseen) * ratio, full)
            for key, state in self.keys.items():
                if not isinstance(state, Account):
                    self.keys[key] = max(since - min(fill, since - state) * ratio, full)

    def level(self, key: str, now: float) -> float:
        """The tokens of a key that has no account."""
        state = self.keys.get(key, self.unseen)
        assert not isinstance(state, Account)
        return max(0.0, min(self.fill, now - state) / self.cost)

    def set_level(self, key: str, level: float, at: float) -> None:
        """Gives a key its float (back)."""
        self.keys[key] = at - (level * self.cost if self.own else 0.0)

    def evict(self, now: float) -> bool:
        """Forgets a key that is full; the others looked at go to the end. False: none was found."""
        for _ in range(EVICTION_TRIES):
            key = next(iter(self.keys))
            state = self.keys.pop(key)
            if not isinstance(state, Account) and now - state >= self.fill:
                return True
            self.keys[key] = state
        return False


def settle_account(account: Account, epochs: Sequence[Epoch], now: float) -> None:
    """Takes an account through the epochs that began while nobody looked, and to `now`."""
    if account.epoch < epochs[0].number - 1:
        account.settle(now)
        account.level = 0.0
        account.epoch = epochs[0].number - 1
    for epoch in epochs:
        if account.epoch < epoch.number and epoch.since <= now:
            share, class_ = epoch.share, account.class_
            account.become(float(share.own(class_)), float(share.home(class_)), epoch.fill, epoch.since)
            account.epoch = epoch.number
    account.settle(now)
