"""An etcd-like store on virtual time: leases by its own clock, requests that arrive late, answers that are lost."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tests.simulation.limits.clockwork import Clock, Schedule

from meridian.core.granting.seats import Free, Listed, Seat, Take
from meridian.core.granting.shares import Cut, Rule, Value, switchable

T = TypeVar("T")

ATTEMPT_SECONDS = 1.0
LATE_SECONDS = 4.0  # so long after its client gave up may a request still be carried out


@dataclass(frozen=True)
class InForce:
    """The bound of a limit from `since` (true time) on."""

    since: float
    rule: Rule


@dataclass
class Store:
    """The one store. Everything that changes it goes by `call`, or is done by the operator's hand at once."""

    cut: Cut
    schedule: Schedule
    random: random.Random
    clock: Clock
    generation: int = 0
    frozen: bool = False
    up: bool = True
    trouble: float = 0.02  # how often a request or its answer is lost or late
    slow: float = 0.1  # how often it takes most of an attempt
    cut_off: set[str] = field(default_factory=set)
    seats: dict[int, tuple[Seat, int]] = field(default_factory=dict)
    leases: dict[int, float] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    acknowledged: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    members: dict[str, float] = field(default_factory=dict)
    history: dict[str, list[InForce]] = field(default_factory=dict)
    backup: dict[int, tuple[Seat, int]] = field(default_factory=dict)
    writes: int = 0
    _leases_given: int = 0

    def call(self, node: str, act: Callable[[], T], answered: Callable[[T], None], unknown: Callable[[], None]) -> None:
        """One attempt of a client: `act` may happen, or not, or late; the client hears of it, or not."""
        draw = self.random.random
        if not self.up or node in self.cut_off or draw() < self.trouble:
            self.schedule.after(ATTEMPT_SECONDS, unknown)
            return
        late = draw() < self.trouble
        going = self.random.uniform(0, ATTEMPT_SECONDS + LATE_SECONDS) if late else self.random.uniform(0.0005, 0.005)
        if not late and draw() < self.slow:
            going = self.random.uniform(0.0, 0.9 * ATTEMPT_SECONDS)
        lost = draw() < self.trouble
        began = self.schedule.now

        def arrive() -> None:
            if not self.up:  # a late request to a store that is down, or was replaced
                self.schedule.at(max(self.schedule.now, began + ATTEMPT_SECONDS), unknown)
                return
            self._expire()
            result = act()
            back = self.schedule.now + self.random.uniform(0.0005, 0.005)
            if lost or back - began > ATTEMPT_SECONDS or node in self.cut_off:
                self.schedule.at(max(self.schedule.now, began + ATTEMPT_SECONDS), unknown)
            else:
                self.schedule.at(back, lambda: answered(result))

        if going > ATTEMPT_SECONDS:
            self.schedule.after(ATTEMPT_SECONDS, unknown)
            self.schedule.after(going, lambda: self._carry_out(act))
        else:
            self.schedule.after(going, arrive)

    def _carry_out(self, act: Callable[[], T]) -> None:
        if self.up:
            self._expire()
            act()

    def list(self, node: str) -> Listed:
        now = self.clock.read(self.schedule.now)
        self.members[node] = now + 2.0
        seats = {index: seat for index, (seat, _) in self.seats.items()}
        members = tuple(sorted(name for name, until in self.members.items() if until > now))
        return Listed(self.generation, self.frozen, seats, dict(self.values), members)

    def grant_lease(self) -> int:
        self._leases_given += 1
        self.leases[self._leases_given] = self.clock.read(self.schedule.now) + self.cut.lease_seconds
        return self._leases_given

    def keep_lease(self, lease: int) -> bool:
        if lease not in self.leases:
            return False
        self.leases[lease] = self.clock.read(self.schedule.now) + self.cut.lease_seconds
        return True

    def take(self, node: str, take: Take) -> dict[str, Value] | None:
        found = self.seats.get(take.seat)
        if take.generation != self.generation or (take.lease and take.lease not in self.leases):
            return None
        if (found[0].nonce if found else None) != take.expected:
            return None
        self.seats[take.seat] = (Seat(node, take.nonce, take.home), take.lease)
        self.writes += 1
        return dict(self.values)

    def free(self, free: Free) -> None:
        found = self.seats.get(free.seat)
        if found is not None and found[0].nonce == free.nonce:
            del self.seats[free.seat]
            self.writes += 1

    def acknowledge(self, node: str, limit: str, order: tuple[int, int]) -> None:
        self.acknowledged[limit, node] = max(order, self.acknowledged.get((limit, node), (-1, -1)))
        self.writes += 1

    # By the operator's hand

    def set_value(self, limit: str, rule: Rule) -> None:
        self.values[limit] = Value(self.generation, 1, rule)
        self.history[limit] = [InForce(0.0, rule)]

    def change(self, limit: str, rule: Rule) -> None:
        value = self.values[limit]
        if value.following is None:
            self.values[limit] = replace(value, version=value.version + 1, following=rule)

    def switch(self, force: bool = False) -> None:
        """What the leader does now and then."""
        self._expire()
        for limit, value in self.values.items():
            if value.following is None:
                continue
            holders = {seat.node for seat, _ in self.seats.values()}
            acks = {node: order for (name, node), order in self.acknowledged.items() if name == limit}
            if force or switchable(value, holders, acks, self.frozen):
                self.values[limit] = replace(value, version=value.version + 1, current=value.following, following=None)
                self.history[limit].append(InForce(self.schedule.now, value.following))

    def back_up(self) -> None:
        self.backup = {index: pair for index, pair in self.seats.items() if pair[0].home}

    def restore(self) -> None:
        """An empty store is filled from the backup: home seats of then, no leases, the present values."""
        self.generation += 1
        self.frozen = True
        self.seats = dict(self.backup)
        self.leases.clear()
        self.acknowledged.clear()
        self.values = {limit: replace(value, generation=self.generation) for limit, value in self.values.items()}

    def _expire(self) -> None:
        now = self.clock.read(self.schedule.now)
        gone = {lease for lease, until in self.leases.items() if until <= now}
        if gone:
            self.leases = {lease: until for lease, until in self.leases.items() if lease not in gone}
            self.seats = {index: pair for index, pair in self.seats.items() if pair[1] not in gone}
