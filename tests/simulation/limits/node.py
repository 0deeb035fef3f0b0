"""One simulated node: an agent and its workers, which run the real machines, and what joins them."""

import copy
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.limits.clockwork import Clock, Process

from meridian.core.granting import allocation, seats
from meridian.core.granting.allocation import Allocation
from meridian.core.granting.messages import Ask, Back, Grant, Loan
from meridian.core.granting.seats import (
    Acknowledge,
    AskLease,
    Command,
    Confirmed,
    Event,
    Free,
    Freed,
    KeepLease,
    Leased,
    LeaseFailed,
    Leave,
    NotTaken,
    Save,
    Take,
    Taken,
    Tell,
    Woke,
    WorkerStarted,
)
from meridian.core.granting.shares import Value
from meridian.core.granting.spender import Handover, Spender

if TYPE_CHECKING:
    from tests.simulation.limits.world import World

TICK_SECONDS = 0.02  # of a worker's poll
LIST_SECONDS = 0.4  # of the agent's listing; a watch in truth


class Worker(Process):
    """A gateway worker: one spender for each limit."""

    def __init__(self, node: "Node", slot: int) -> None:
        super().__init__()
        self.node = node
        self.slot = slot
        self.address = f"{node.name}/{slot}"
        self.spenders: dict[str, Spender] = {}
        self.confirmed: tuple[str, int] = ("", -1)

    def begin(self, handed: dict[str, Handover] | None = None) -> None:
        """A new process, after the old one is gone; with what that handed over, or knowing nothing."""
        world = self.node.world
        self.start()
        self.confirmed = ("", -1)
        now = self.node.now()
        make = world.planting.spender
        for limit in world.limits:
            if handed is not None:
                self.spenders[limit] = make.resumed(world.cut, handed[limit], now, world.keys_max)
            else:
                world.incarnations += 1
                self.spenders[limit] = make(
                    world.cut, limit, self.address, self.slot, world.incarnations, now, world.keys_max
                )
        life = self.life
        world.schedule.after(world.random.uniform(0, TICK_SECONDS), lambda: self.gate(life, self._tick))
        self.node.connect(self)

    def _tick(self) -> None:
        world, now, life = self.node.world, self.node.now(), self.life
        peers = [worker.address for worker in world.workers() if worker is not self]
        for limit, spender in self.spenders.items():
            spender.peers = peers
            if now >= spender.deadline():
                for message in spender.poll(self.node.now()):
                    world.send(message)
            world.requests(self, limit)
        self._confirm(now)
        world.schedule.after(TICK_SECONDS, lambda: self.gate(life, self._tick))

    def _confirm(self, now: float) -> None:
        """Reports the allowance that all its spenders keep to."""
        found = {
            (one.agent, one.sequence) if one else None for one in (s.confirmed(now) for s in self.spenders.values())
        }
        if len(found) == 1 and (one := found.pop()) is not None and one != self.confirmed:
            self.confirmed = one
            self.node.to_agent(self, Confirmed(self.slot, *one))

    def told(self, tell: Tell) -> None:
        now = self.node.now()
        for limit, spender in self.spenders.items():
            if limit in tell.values:
                spender.allow(tell.allowance, tell.values[limit], now)

    def hear(self, message: Loan) -> None:
        spender, now = self.spenders[message.limit], self.node.now()
        match message:
            case Ask():
                answer: Loan | None = spender.asked(message, now)
            case Grant():
                answer = spender.granted(message, now)
            case Back():
                answer = None
                spender.gave_back(message, now)
        if answer is not None:
            self.node.world.send(answer)

    def hand_over(self) -> dict[str, Handover]:
        """Stops; what it returns has gone through a socket."""
        now = self.node.now()
        return copy.deepcopy({limit: spender.handover(now) for limit, spender in self.spenders.items()})


class Node:
    """A machine: one clock, one disk, one agent, and workers."""

    def __init__(self, world: "World", name: str, clock: Clock) -> None:
        self.world = world
        self.name = name
        self.clock = clock
        self.homes: frozenset[int] = frozenset()  # on disk
        self.values: dict[str, Value] = {}  # on disk
        self.agent = Process()
        self.state: Allocation | None = None
        self.workers = [Worker(self, slot) for slot in range(world.cut.slices)]
        self._woken = 0
        self._lines: dict[tuple[int, bool], float] = defaultdict(float)  # keeps what agent and worker say in order

    def now(self) -> float:
        return self.clock.read(self.world.schedule.now)

    def begin(self) -> None:
        self.begin_agent()
        for worker in self.workers:
            worker.begin()

    def kill(self) -> None:
        self.agent.kill()
        for worker in self.workers:
            worker.kill()

    def begin_agent(self) -> None:
        self.agent.start()
        self.world.incarnations += 1
        self.state = allocation.started(
            self.world.cut, self.name, f"{self.name}#{self.world.incarnations}", self.homes, self.values
        )
        for worker in self.workers:
            if worker.alive:
                self.connect(worker)
        self.step(Woke())
        self._list()

    def connect(self, worker: Worker) -> None:
        if self.agent.alive:
            self.to_agent(worker, WorkerStarted(worker.slot))
            if self.world.repeats and worker.confirmed[1] >= 0:
                self.to_agent(worker, Confirmed(worker.slot, *worker.confirmed))
            worker.confirmed = ("", -1)  # a new connection: it says again what it keeps to

    def leave(self) -> None:
        self._gated(lambda: self.step(Leave()))

    def to_agent(self, worker: Worker, event: Event) -> None:
        self._in_order(worker, True, lambda: self.step(event))

    def _in_order(self, worker: Worker, up: bool, act: Callable[[], None]) -> None:
        """Over the socketpair: in order, and gone with either end."""
        lives = (worker.life, self.agent.life)
        schedule = self.world.schedule
        arrives = max(schedule.now + self.world.random.uniform(0.0001, 0.002), self._lines[worker.slot, up])
        self._lines[worker.slot, up] = arrives
        end, life = (self.agent, lives[1]) if up else (worker, lives[0])

        def arrive() -> None:
            if (worker.life, self.agent.life) == lives:
                end.gate(life, act)

        schedule.at(arrives, arrive)

    def _gated(self, act: Callable[[], None]) -> None:
        self.agent.gate(self.agent.life, act)

    def step(self, event: Event) -> None:
        assert self.state is not None
        now = self.now()
        step = self.world.planting.step(self.state, event, now)
        self.state = step.state
        for command in step.commands:
            self._do(command)
        deadline = allocation.deadline(self.state)
        if deadline is not None:
            self._woken += 1
            woken, life = self._woken, self.agent.life
            wait = max(0.001, self.clock.true_after(deadline - now))
            self.world.schedule.after(
                wait, lambda: self.agent.gate(life, lambda: self.step(Woke()) if woken == self._woken else None)
            )

    def _do(self, command: Command) -> None:
        store = self.world.store
        life = self.agent.life
        asked = self.now()

        def then(event: Event) -> None:
            self.agent.gate(life, lambda: self.step(self.world.planting.heard(event, self.now())))

        match command:
            case AskLease():
                store.call(
                    self.name,
                    store.grant_lease,
                    lambda lease: then(Leased(lease, asked)),
                    lambda: then(LeaseFailed(0, gone=False)),
                )
            case KeepLease(lease):
                store.call(
                    self.name,
                    lambda: store.keep_lease(lease),
                    lambda kept: then(Leased(lease, asked) if kept else LeaseFailed(lease, gone=True)),
                    lambda: then(LeaseFailed(lease, gone=False)),
                )
            case Take(seat, nonce) as take:
                store.call(
                    self.name,
                    lambda: store.take(self.name, take),
                    lambda values: then(NotTaken(seat, nonce) if values is None else Taken(seat, nonce, values)),
                    lambda: then(self.world.planting.unknown(NotTaken(seat, nonce), self.values)),
                )
            case Free(seat) as free:
                store.call(self.name, lambda: store.free(free), lambda _: then(Freed(seat)), lambda: then(Freed(seat)))
            case Save(home, values):
                self.homes, self.values = home, dict(values)
            case Tell(allowance, _, slot) as tell:
                for worker in self.workers:
                    if slot in (None, worker.slot) and worker.alive and (allowance.sequence >= 0):
                        self._in_order(worker, False, lambda worker=worker: worker.told(tell))  # type: ignore[misc]
            case Acknowledge(limit, order):
                self._acknowledge(life, limit, order)

    def _acknowledge(self, life: int, limit: str, order: tuple[int, int]) -> None:
        def again() -> None:
            self.agent.gate(life, lambda: self._acknowledge(life, limit, order))

        if (value := self.values.get(limit)) is not None and value.order == order:
            store = self.world.store
            store.call(self.name, lambda: store.acknowledge(self.name, limit, order), lambda _: None, again)

    def _list(self) -> None:
        store, life, random = self.world.store, self.agent.life, self.world.random

        def again() -> None:
            self.world.schedule.after(
                random.uniform(0.5, 1.5) * LIST_SECONDS, lambda: self.agent.gate(life, self._list)
            )

        def listed(listing: seats.Listed) -> None:
            self.agent.gate(life, lambda: self.step(listing))
            again()

        store.call(self.name, lambda: store.list(self.name), listed, again)
