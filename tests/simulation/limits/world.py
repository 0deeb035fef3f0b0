"""Nodes with the real machines of strict limits, in a world where everything goes wrong. One seed drives all.

`run(seed)` returns what was admitted, and `World.violations` what that says: `tests.simulation.limits.checking`
measures every window of every key's admissions, and looks at the sum of the caps now and then.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tests.simulation.limits.checking import window_violation
from tests.simulation.limits.clockwork import Clock, Schedule
from tests.simulation.limits.node import Node, Worker
from tests.simulation.limits.store import Store

from meridian.core.granting import allocation, seats
from meridian.core.granting.allocation import Allocation
from meridian.core.granting.messages import Grant, Loan
from meridian.core.granting.seats import Command, Event
from meridian.core.granting.shares import Cut, Rule, Value, digest, owner
from meridian.core.granting.spender import Spender
from meridian.core.machine import Step

CUT = Cut(seats=12, slices=2, homes=4, alone_max=6, lease_seconds=3.0, loan_seconds=1.0, drift=0.01)
SHARED, SMALL, TRIAL = "shared", "small", "shared~trial"
CAPS_SECONDS = 0.05
CONSULT_SECONDS = 0.02  # a request waits so long for the owner of its key


class Planting:
    """Where a planted bug may sit; this one is none."""

    name = ""
    spender: type[Spender] = Spender
    cut: Cut = CUT

    def step(self, state: Allocation, event: Event, now: float) -> Step[Allocation, Command]:
        return allocation.step(state, event, now)

    def heard(self, event: Event, now: float) -> Event:
        return event

    def unknown(self, event: seats.NotTaken, values: dict[str, Value]) -> Event:
        return event

    def admit_trial(self, current: Spender, trial: Spender, key: str, now: float) -> float:
        return current.admit_trial(trial, key, now)

    upgrade_stops_first = True
    switch_waits = True
    restored_frozen = True


@dataclass
class World:
    """The state of everything. `demand` gives requests per second of a worker for a limit's key."""

    seed: int
    planting: Planting = field(default_factory=Planting)
    faults: bool = True
    loss: float = 0.03
    nodes: list[Node] = field(default_factory=list)
    limits: tuple[str, ...] = (SHARED, SMALL, TRIAL)
    incarnations: int = 0
    check_caps: bool = True
    keys_max: int = 1_000_000
    repeats: bool = False  # a worker's last confirmation goes out again on a new connection, as the channel does it

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.schedule = Schedule()
        self.cut = self.planting.cut
        self.skews = self.random.choice([(-1.0, 1.0), (1.0,), (-1.0, -0.3, 0.0, 0.5, 1.0)])
        self.store = Store(self.cut, self.schedule, self.random, self.clock())
        self.cuts: set[tuple[str, str]] = set()
        self.slow = self.calm_slow = 0.0  # how often a message between spenders is late
        self.admitted: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.caps_found: list[str] = []
        self.demand: dict[str, Callable[[Worker, float], Iterator[tuple[str, float]]]] = {}
        self.canary = 0.0
        self.faults_done: list[str] = []
        self.sent = 0

    def clock(self) -> Clock:
        return Clock(1 + 0.01 * 0.999 * self.random.choice(self.skews), self.random.uniform(0, 1e5), self.schedule.now)

    def add_node(self, name: str) -> Node:
        node = Node(self, name, self.clock())
        self.nodes.append(node)
        node.begin()
        return node

    def workers(self) -> list[Worker]:
        return [worker for node in self.nodes for worker in node.workers]

    def worker(self, address: str) -> Worker | None:
        return next((worker for worker in self.workers() if worker.address == address), None)

    # Messages between spenders go from agent to agent

    def send(self, message: Loan) -> None:
        """Lost, doubled, late, out of order; and nothing between nodes that are cut, or without their agents."""
        sender, receiver = message.lender, message.borrower
        if not isinstance(message, Grant):
            sender, receiver = receiver, sender
        self.sent += 1
        one, two = self.worker(sender), self.worker(receiver)
        if one is None or two is None:
            return
        far = one.node is not two.node
        draw = self.random.random
        for _ in range(2 if self.faults and draw() < self.loss else 1):
            if self.faults and draw() < self.loss:
                continue
            if not (one.node.agent.alive and two.node.agent.alive) or (one.node.name, two.node.name) in self.cuts:
                continue
            delay = self.random.uniform(0.001, 0.012 if far else 0.002)
            if draw() < self.slow:
                delay = self.random.uniform(0, 2.5)
            self.schedule.after(delay, lambda: two.gate(two.life, lambda: two.hear(message)))

    # Requests

    def requests(self, worker: Worker, limit: str) -> None:
        """What arrived at a worker since its last tick."""
        if limit not in self.demand:
            return
        for key, count in self.demand[limit](worker, self.schedule.now):
            whole = int(count) + (self.random.random() < count % 1)
            for _ in range(whole):
                self.request(worker, limit, key)

    def request(self, worker: Worker, limit: str, key: str) -> None:
        spender = worker.spenders[limit]
        now = worker.node.now()
        if limit == SHARED and self.random.random() < self.canary:
            wait = self.planting.admit_trial(spender, worker.spenders[TRIAL], key, now)
        else:
            wait = spender.admit(key, now)
        if wait == 0.0:
            self.admitted[limit, key].append(self.schedule.now)
        elif spender.value is not None and (place := owner(self.cut, spender.value, digest(limit, key))) is not None:
            self._consult(worker, limit, key, place)

    def _consult(self, worker: Worker, limit: str, key: str, place: tuple[int, int]) -> None:
        """Asks the worker whose slice owns the key; the admission is where and when that decides."""
        node = next((n for n in self.nodes if n.state is not None and self._sits(n, place[0])), None)
        if node is None or node is worker.node or (worker.node.name, node.name) in self.cuts:
            return
        asked = node.workers[place[1]]
        life = asked.life

        def decide() -> None:
            if asked.spenders[limit].admit(key, node.now()) == 0.0:
                self.admitted[limit, key].append(self.schedule.now)

        self.schedule.after(self.random.uniform(0.001, CONSULT_SECONDS), lambda: asked.gate(life, decide))

    @staticmethod
    def _sits(node: Node, seat: int) -> bool:
        assert node.state is not None
        return seat in node.state.told.home or seat in node.state.told.leased

    # What must be true

    def watch_caps(self) -> None:
        """The sum of what all spenders could hold for a key is at most the burst in force."""
        for limit, keys in ((SHARED, ("hot", "warm")), (SMALL, ("one",))):
            burst = self.store.history[limit][-1].rule.burst
            for key in keys:
                caps = sum(w.spenders[limit].cap(key, w.node.now()) for w in self.workers() if w.alive)
                if caps > burst + 1e-6 and len(self.caps_found) < 3:
                    self.caps_found.append(
                        f"{self.schedule.now:.3f}: caps of {limit}/{key} sum to {caps:.3f} > {burst}"
                    )
        self.schedule.after(CAPS_SECONDS, self.watch_caps)

    def window_violations(self) -> list[str]:
        found = []
        for (limit, key), times in self.admitted.items():
            if (one := window_violation(times, self.store.history[limit])) is not None:
                found.append(f"{limit}/{key}: {one}")
        return found

    @property
    def violations(self) -> list[str]:
        return self.window_violations() + self.caps_found

    def rule(self, limit: str) -> Rule:
        return self.store.history[limit][-1].rule

    def trial_value(self, rule: Rule) -> Rule:
        return replace(
            rule, burst=max(self.cut.alone_max + 1, rule.burst // 3), rate_per_second=rule.rate_per_second / 3
        )
