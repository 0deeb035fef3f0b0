"""A small cluster whose workers run the real meters, over a faulty network, with disks that lag and clocks that err."""

import copy
import random
from collections import defaultdict
from zoneinfo import ZoneInfo

from tests.simulation.limits.clockwork import Clock, Process, Schedule

from meridian.core.granting.messages import Ask, Grant
from meridian.core.metering.concurrency import Concurrency
from meridian.core.metering.ledgers import Closed, Exact, Held, Ledgers, Line, Opened
from meridian.core.metering.portions import Portion
from meridian.core.metering.quotas import Ledger, Quotas, Record
from meridian.core.metering.windows import Terms, Windows

NODES, SLOTS = 3, 2
SPENDERS = NODES * SLOTS
TICK_SECONDS = 0.02
DRIFT = 0.01
TERMS = {"few": Terms(20, 2.0, loan_seconds=0.5), "many": Terms(240, 3.0, loan_seconds=0.5)}
QUOTA, CONCURRENT = 150, 13
MIDNIGHT = 1_772_323_200.0  # 2026-03-01 00:00 UTC: a day and a month begin
UTC = ZoneInfo("UTC")
KEYS_MAX = 40

LONG_AGO = (-1e9, 0.0)


class Planting:
    """What a world runs; a planted bug replaces a part."""

    windows: type[Windows] = Windows
    quotas: type[Quotas] = Quotas
    concurrency: type[Concurrency] = Concurrency
    known_after_crash = False
    known_after_move = False
    quota_is_resumed = True
    crashes_count = True
    moved_unsettled = False
    exchanges_are_released = 1


class Worker(Process):
    """A gateway worker with one meter for each limit."""

    def __init__(self, node: "Node", slot: int) -> None:
        super().__init__()
        self.node, self.world, self.slot = node, node.world, slot
        self.address = f"{node.name}/{slot}"
        self.indexes = {slot * NODES + node.index}
        self.disk = Ledgers()  # what has reached it, in order
        self.held: dict[int, tuple[float, float]] = {}
        self.exchanges = 0  # under way, by its own process
        self.windows: dict[str, Windows] = {}
        self.quota: Quotas

    def begin(self, predecessor: "Worker | None" = None) -> None:
        """A new process; `predecessor`: one that hands over."""
        world, now = self.world, self.node.now()
        planting = world.planting
        planned = predecessor is not None
        if planned:
            for line in self._last_lines():
                self.disk.add(line)
            self.kill()
        self.start()
        world.incarnations += 1
        self.exchanges = 0
        disk = self.disk
        was_new = disk.is_new
        if not planned and not planting.crashes_count:
            disk.add(Closed())
        disk.add(Opened(self.node.unix(), "boot"))
        self.windows = {
            name: planting.windows(name, terms, self.address, world.incarnations, KEYS_MAX)
            for name, terms in world.terms.items()
        }
        self.quota = planting.quotas("quota", world.quota, "month", UTC, self.node.unix())
        self.concurrency = planting.concurrency("under-way", CONCURRENT)
        for name, one in self.windows.items():
            if name in disk.windows:
                one.resume(disk.windows[name])
        if not was_new and planting.quota_is_resumed:
            self.quota.resume(copy.deepcopy(disk.limits.get("quota", Ledger())), disk.crashed_at)
        before = disk.held.since
        if was_new:
            self.held = dict.fromkeys(self.indexes, LONG_AGO)
        elif planned or planting.known_after_crash:
            self.held = dict(before)
        else:
            self.held = {index: (now, unix) for index, (_, unix) in before.items()}
        self._take(now)
        life = self.life
        world.schedule.after(world.random.uniform(0, TICK_SECONDS), lambda: self.gate(life, self._tick))

    def _last_lines(self) -> list[Line]:
        lines: list[Line] = [Exact(record) for record in self.quota.handover()]
        return [*lines, *(one.handover() for one in self.windows.values()), Closed()]

    def _take(self, now: float, new: tuple[float, float] | None = None) -> None:
        here = new or (now, self.node.unix())
        self.held = {index: self.held.get(index, here) for index in self.indexes}
        portion = Portion(SPENDERS, tuple(sorted(self.indexes)))
        for windows in self.windows.values():
            windows.take(portion, {index: at for index, (at, _) in self.held.items()})
        self.quota.take(portion, {index: at for index, (_, at) in self.held.items()})
        self.concurrency.take(portion)
        self.disk.add(Held(SPENDERS, self.held))

    def move(self, index: int, *, to: "Worker") -> None:
        """A slice goes to somebody else: first it is given up here, then taken there."""
        self.indexes.discard(index)
        if self.alive:
            self._take(self.node.now())

        def arrive() -> None:
            if self.alive and not (self.concurrency.settled() or self.world.planting.moved_unsettled):
                self.world.schedule.after(0.05, arrive)
                return
            to.indexes.add(index)
            if to.alive:
                to._take(to.node.now(), LONG_AGO if self.world.planting.known_after_move else None)

        self.world.schedule.after(self.world.random.uniform(0.001, 0.5), arrive)

    def _tick(self) -> None:
        world, life = self.world, self.life
        peers = [worker.address for worker in world.workers() if worker is not self]
        for windows in self.windows.values():
            windows.peers = peers
            if self.node.now() >= windows.deadline():
                for ask in windows.poll(self.node.now()):
                    world.send(ask)
        world.requests(self)
        for record in self.quota.records():
            self._write(record)
        self.quota.poll()
        world.schedule.after(TICK_SECONDS, lambda: self.gate(life, self._tick))

    def _write(self, record: Record) -> None:
        """It may reach the disk though the process dies before it hears of that."""
        life, quota = self.life, self.quota
        at = self.world.random.uniform(0.001, self.world.disk_seconds)

        def written() -> None:
            if self.life == life or self.world.random.random() < 0.5:
                self.disk.add(record)
                self.gate(life, lambda: quota.written(record))

        self.world.schedule.after(at, written)

    def exchange(self, key: str, meter: Concurrency) -> None:
        """One that takes its time."""
        life = self.life
        self.exchanges += 1

        def end() -> None:
            if self.life == life:
                self.exchanges -= 1
                for _ in range(min(self.world.planting.exchanges_are_released, meter.active(key))):
                    meter.release(key)

        seconds = self.world.random.choice([0.05, 0.3, 2.0])
        self.world.schedule.after(seconds, lambda: self.gate(life, end))

    def hear(self, message: Ask | Grant) -> None:
        windows = self.windows[message.limit]
        if isinstance(message, Ask):
            answer = windows.asked(message, self.node.now())
            if answer is not None:
                self.world.send(answer)
        else:
            windows.granted(message, self.node.now())


class Node:
    """A machine: a clock that drifts, a calendar that may be set, and workers."""

    def __init__(self, world: "World", index: int) -> None:
        self.world, self.index, self.name = world, index, "abc"[index]
        self.clock = Clock(
            1 + (DRIFT if world.fast else world.random.uniform(-DRIFT, DRIFT)), world.random.uniform(0, 1000)
        )
        self.offset = MIDNIGHT - world.midnight - self.clock.shown + world.random.uniform(-0.5, 0.5)
        self.workers = [Worker(self, slot) for slot in range(SLOTS)]

    def now(self) -> float:
        return self.clock.read(self.world.schedule.now)

    def unix(self) -> float:
        return self.now() + self.offset


class World:
    """Everything, on one virtual clock and one seed."""

    def __init__(self, seed: int, planting: Planting) -> None:
        self.random = random.Random(seed)
        self.planting = planting
        self.schedule = Schedule()
        self.terms = dict(TERMS)
        self.quota = QUOTA
        self.incarnations = 0
        self.midnight = self.random.uniform(3.0, 9.0)
        self.fast = self.random.random() < 0.3  # all clocks, as far as they may be
        self.crashing = self.random.random() < 0.25  # again and again, beside a disk that is slow
        self.disk_seconds = 2.0 if self.crashing else self.random.choice([0.01, 0.04, 0.4])
        self.nodes = [Node(self, index) for index in range(NODES)]
        self.cut: set[str] = set()
        self.slow = False
        self.demand: dict[str, dict[str, float]] = {}  # requests per second, by limit and worker
        self.admitted: dict[tuple[str, str], list[float]] = defaultdict(list)  # true times
        self.in_period: dict[tuple[str, float], int] = defaultdict(int)
        self.asked = 0
        self.violations: list[str] = []
        self.faults_done: list[str] = []
        for worker in self.workers():
            worker.begin()

    def workers(self) -> list[Worker]:
        return [worker for node in self.nodes for worker in node.workers]

    def send(self, message: Ask | Grant) -> None:
        """Lost, doubled and late, as networks are."""
        to = message.lender if isinstance(message, Ask) else message.borrower
        sender = message.borrower if isinstance(message, Ask) else message.lender
        times = self.random.choices([0, 1, 2], [5, 85, 10])[0]
        for _ in range(times):
            late = self.random.uniform(0.2, 1.5) if self.slow or self.random.random() < 0.03 else 0.0
            self.schedule.after(self.random.uniform(0.0005, 0.01) + late, lambda: self._deliver(sender, to, message))

    def _deliver(self, sender: str, to: str, message: Ask | Grant) -> None:
        if sender[0] != to[0] and self.cut & {sender[0], to[0]}:
            return
        worker = next(one for one in self.workers() if one.address == to)
        worker.gate(worker.life, lambda: worker.hear(message))

    def requests(self, worker: Worker) -> None:
        """What clients ask of a worker in one tick."""
        for limit, by_worker in self.demand.items():
            mean = by_worker.get(worker.address, 0.0) * TICK_SECONDS
            count = int(mean) + (self.random.random() < mean % 1)
            for _ in range(count):
                self._request(worker, limit, "hot")
        if self.random.random() < 0.1:
            self._request(worker, "few", f"x{self.random.randrange(60)}")

    def _request(self, worker: Worker, limit: str, key: str) -> None:
        true = self.schedule.now
        self.asked += 1
        if limit == "quota":
            if worker.quota.admit(key, worker.node.unix()) == 0.0:
                self.in_period[key, worker.quota.since] += 1
                if self.in_period[key, worker.quota.since] > self.quota:
                    self.violations.append(f"{true:.3f} quota of {key}")
        elif limit == "under-way":
            if worker.concurrency.admit(key, worker.node.now()) == 0.0:
                worker.exchange(key, worker.concurrency)
                if sum(one.exchanges for one in self.workers() if one.alive) > CONCURRENT:
                    self.violations.append(f"{true:.3f} under way")
        elif worker.windows[limit].admit(key, worker.node.now()) == 0.0:
            times, terms = self.admitted[limit, key], self.terms[limit]
            times.append(true)
            if len(times) > terms.amount and true - times[-1 - terms.amount] < terms.window_seconds - 1e-9:
                self.violations.append(f"{true:.3f} {limit} of {key}")
