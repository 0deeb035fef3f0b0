"""Planted bugs: each reverts one named rule of strict limits. `PLANTED` lists them; test_planted says who is found.

A bug sits in a subclass of the spender, or between a machine and its driver; the product has no switch for it.
"""

from dataclasses import replace

from tests.simulation.limits.world import CUT, Planting

from meridian.core.granting import allocation, seats
from meridian.core.granting.account import NEVER, Account, Line
from meridian.core.granting.allocation import Allocation
from meridian.core.granting.messages import Ask, Back, Grant
from meridian.core.granting.seats import Command, Confirmed, Event
from meridian.core.granting.shares import Cut, Value, fill_seconds
from meridian.core.granting.spender import Allowance, Handover, Spender
from meridian.core.granting.tables import Table
from meridian.core.machine import Step


class FastRate(Planting):
    """The rate is not divided by 1 + drift: fast clocks accrue more than the limit."""

    class Bug(Spender):
        def _fill_seconds(self, value: Value) -> float:
            return fill_seconds(self.cut, value) / (1 + self.cut.drift)

    spender = Bug


class FullStart(Planting):
    """A worker that starts gives every key a full bucket."""

    class Bug(Spender):
        def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]  # those of Spender
            super().__init__(*args, **kwargs)
            for table in self._tables:
                table.unseen = -1e9

        def _begin(self, since: float) -> None:
            first = self._epoch.number == 0
            super()._begin(since)
            if first:
                for table in self._tables:
                    table.settle(self._epochs)
                    table.unseen = -1e9

    spender = Bug


class NoQuarantine(Planting):
    """A worker that starts spends at once, whatever its predecessor lent."""

    class Bug(Spender):
        def _quarantine_seconds(self) -> float:
            return 0.0

    spender = Bug


class NotWithheld(Planting):
    """The lender goes on spending what it lent."""

    class Bug(Spender):
        def asked(self, ask: Ask, now: float) -> Grant | None:
            grant = super().asked(ask, now)
            account = self._accounts.get(ask.key)
            if account is not None:
                account.lent.clear()
                account.resize()
            return grant

    spender = Bug


class WithheldByOwnClock(Planting):
    """The lender withholds a loan for as long as it lasts by its own clock, without the drift."""

    class Bug(Spender):
        def _withheld_seconds(self) -> float:
            return self.cut.loan_seconds / self.cut.spread

    spender = Bug


class HeldFromAnswer(Planting):
    """The borrower counts a loan from the answer, not from asking."""

    class Bug(Spender):
        def _held_until(self, line: Line, now: float) -> float:
            return now + self.cut.loan_seconds

    spender = Bug


class LoanWithTokens(Planting):
    """A loan brings tokens: the level rises with the cap, while the lender's is only clamped."""

    class Bug(Spender):
        def granted(self, grant: Grant, now: float) -> Back | None:
            account = self._accounts.get(grant.key)
            before = account.held if account else 0.0
            back = super().granted(grant, now)
            if account is not None:
                account.level = min(account.cap, account.level + max(0.0, account.held - before))
            return back

    spender = Bug


class Unclamped(Planting):
    """The level stays above the cap when the cap falls."""

    class Bug(Spender):
        def asked(self, ask: Ask, now: float) -> Grant | None:
            account = self._accounts.get(ask.key)
            if account is not None:
                account.settle(now)
            before = account.level if account is not None else 0.0
            grant = super().asked(ask, now)
            if account is not None:
                account.level = before
                account.cap = max(account.cap, before)
            return grant

    spender = Bug


class Relent(Planting):
    """What is held of others is lent on, for as long as any loan."""

    class Bug(Spender):
        def _lendable(self, account: Account, now: float) -> float:
            return super()._lendable(account, now) + account.held

    spender = Bug


class AnyAnswer(Planting):
    """The borrower takes any answer, also to an ask that it has given up."""

    class Bug(Spender):
        def _answers(self, line: Line, grant: Grant, now: float) -> bool:
            return True

    spender = Bug


class BackButHeld(Planting):
    """The borrower gives back and goes on spending until the end."""

    class Bug(Spender):
        def _back(self, key: str, lender: str, kept: int) -> Back:
            return super()._back(key, lender, kept + 1)

    spender = Bug


class LendPastLease(Planting):
    """Leased seats are lent though they may end before the loan."""

    class Bug(Spender):
        def _lendable(self, account: Account, now: float) -> float:
            return account.own

    spender = Bug


class Undying(Planting):
    """The workers do not stop when the lease ends."""

    class Bug(Spender):
        def allow(self, allowance: Allowance, value: Value, now: float) -> None:
            super().allow(replace(allowance, until=now + 1e6), value, now)

    spender = Bug


class Adding(Planting):
    """An allowance adds to the one before."""

    class Bug(Spender):
        def allow(self, allowance: Allowance, value: Value, now: float) -> None:
            leased = allowance.leased | self._leased(now)
            super().allow(replace(allowance, leased=leased, home=allowance.home), value, now)

    spender = Bug


class ConfirmAtOnce(Planting):
    """A worker confirms an allowance while what it lent under the one before is still out."""

    class Bug(Spender):
        def confirmed(self, now: float) -> Allowance | None:
            return self._allowance if self.value is not None else None

    spender = Bug


class AnyVersion(Planting):
    """Loans are made between spenders that go by different values."""

    class Bug(Spender):
        def _lends(self, ask: Ask, now: float) -> bool:
            return self.value is not None and super()._lends(replace(ask, order=self.value.order), now)

        def _answers(self, line: Line, grant: Grant, now: float) -> bool:
            if self.value is not None:
                line.order = self.value.order
            return super()._answers(line, grant, now)

        def confirmed(self, now: float) -> Allowance | None:
            return self._allowance if self.value is not None else None

    spender = Bug


class ForgetAny(Planting):
    """Keys are forgotten before they are full."""

    class Bug(Spender):
        def _evict(self, table: Table, now: float) -> bool:
            key = next((key for key, state in table.keys.items() if not isinstance(state, Account)), None)
            return key is not None and table.keys.pop(key) is not None

    spender = Bug


class BurstOfNewShare(Planting):
    """A key that never spent is full under a new share."""

    class Bug(Spender):
        def _begin(self, since: float) -> None:
            super()._begin(since)
            if self._epoch.number > 2:
                for table in self._tables:
                    table.settle(self._epochs)
                    table.unseen = -1e9

    spender = Bug


class HandoverTwice(Planting):
    """The old worker goes on after it handed over."""

    class Bug(Spender):
        def handover(self, now: float) -> Handover:
            kept = dict(vars(self))
            given = super().handover(now)
            for name, value in kept.items():
                setattr(self, name, value)
            return given

        @classmethod
        def resumed(cls, cut: Cut, given: Handover, now: float, keys_max: int = 1000) -> Spender:
            return super().resumed(cut, given, now, keys_max)

    spender = Bug
    upgrade_stops_first = False


class FreshCanary(Planting):
    """Exchanges of the document on trial have a bucket of their own instead of the one in force."""

    def admit_trial(self, current: Spender, trial: Spender, key: str, now: float) -> float:
        return trial.admit(key, now)


class LeaseFromAnswer(Planting):
    """A lease is counted from the answer, not from asking."""

    def heard(self, event: Event, now: float) -> Event:
        return replace(event, asked=now) if isinstance(event, seats.Leased) else event


class WholeLease(Planting):
    """A lease is trusted for its whole length, and a little longer, as if clocks agreed."""

    def heard(self, event: Event, now: float) -> Event:
        if not isinstance(event, seats.Leased):
            return event
        return replace(event, asked=event.asked + CUT.lease_seconds * (CUT.spread - 1))


class UnknownIsYes(Planting):
    """A seat is taken for held when the answer was lost."""

    def unknown(self, event: seats.NotTaken, values: dict[str, Value]) -> Event:
        return seats.Taken(event.seat, event.nonce, values)


class FreeAtOnce(Planting):
    """A seat is deleted before the workers have confirmed that they do without it."""

    def step(self, state: Allocation, event: Event, now: float) -> Step[Allocation, Command]:
        everyone = dict.fromkeys(range(state.cut.slices), 10**9)
        return super().step(replace(state, confirmed=everyone), event, now)


class ConfirmedByAnother(Planting):
    """A confirmation of an earlier agent's allowance is taken for one of this agent's."""

    def step(self, state: Allocation, event: Event, now: float) -> Step[Allocation, Command]:
        if isinstance(event, Confirmed):
            event = replace(event, agent=state.incarnation)
        return super().step(state, event, now)


class Adopted(Planting):
    """Seats that bear this node's name are adopted from a listing, without a new nonce."""

    def step(self, state: Allocation, event: Event, now: float) -> Step[Allocation, Command]:
        if isinstance(event, seats.Listed):
            mine = {
                seat: allocation.Held(one.nonce, one.home)
                for seat, one in event.seats.items()
                if one.node == state.node and seat not in state.held and seat not in state.taking
            }
            state = replace(state, held={**mine, **state.held})
        return super().step(state, event, now)


class NoPhases(Planting):
    """A change of a limit comes into force at once, whoever has heard of it."""

    switch_waits = False


class AckAtOnce(Planting):
    """A node acknowledges a value before its workers have confirmed it."""

    def step(self, state: Allocation, event: Event, now: float) -> Step[Allocation, Command]:
        step = super().step(state, event, now)
        acks: list[Command] = []
        if isinstance(event, seats.Listed):
            acks = [seats.Acknowledge(limit, value.order) for limit, value in event.values.items()]
        return Step(step.state, step.commands + tuple(acks))


class ThawedRestore(Planting):
    """A restored store gives home seats to whoever comes first."""

    restored_frozen = False


class NoWaitAfterRestore(Planting):
    """In a restored store leased seats are taken at once."""

    def step(self, state: Allocation, event: Event, now: float) -> Step[Allocation, Command]:
        step = super().step(state, event, now)
        return Step(replace(step.state, free_not_before=-NEVER), step.commands)


PLANTED: tuple[type[Planting], ...] = (
    FastRate, FullStart, NoQuarantine, NotWithheld, WithheldByOwnClock, HeldFromAnswer, LoanWithTokens, Unclamped,
    Relent, AnyAnswer, BackButHeld, LendPastLease, Undying, Adding, ConfirmAtOnce, AnyVersion, ForgetAny,
    BurstOfNewShare, HandoverTwice, FreshCanary, LeaseFromAnswer, WholeLease, UnknownIsYes, FreeAtOnce,
    ConfirmedByAnother, Adopted, NoPhases, AckAtOnce, ThawedRestore, NoWaitAfterRestore,
)  # fmt: skip
