"""What happens in a seed: how demand moves, what breaks, and what the operator does. All drawn from the seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.simulation.limits.node import TICK_SECONDS, Node, Worker
from tests.simulation.limits.world import SHARED, SMALL, TRIAL, Planting, World

from meridian.core.granting.shares import Rule
from meridian.core.granting.spender import Handover

SECONDS = 25.0
FAULTS = 14  # drawn per seed
# Long ones to fill show a burst spent twice, short ones a rate spent twice.
RULES = ((20.0, 120), (20.0, 60), (60.0, 120), (60.0, 12), (120.0, 12), (120.0, 24))


@dataclass(frozen=True)
class Phase:
    """How much is asked, as a multiple of the limit's rate, and which part of it at each worker."""

    until: float
    times: float
    parts: dict[str, float]


def phases(world: World) -> list[Phase]:
    """Storms after silence find what was spent twice; skew and single workers make loans."""
    random = world.random
    addresses = [worker.address for worker in world.workers()] + ["d/0", "d/1"]
    found, at = [], 3.0
    while at < SECONDS:
        kind = random.choice(["idle", "storm", "storm", "skew", "skew", "one", "trickle"])
        at += random.uniform(0.5, 4.0)
        times = {"idle": 0.0, "storm": 3.0, "skew": random.uniform(1.2, 4.0), "one": 3.0, "trickle": 0.5}[kind]
        weights = dict.fromkeys(addresses, 1.0)
        if kind == "skew":
            heavy = dict(zip(random.sample("abc", 3), (90.0, 9.0, 1.0), strict=True))
            weights = {address: heavy.get(address[0], 1.0) for address in addresses}
        if kind == "one":
            weights = dict.fromkeys(addresses, 0.0) | {random.choice(addresses): 1.0}
        whole = sum(weights.values())
        found.append(Phase(at, times, {address: weight / whole for address, weight in weights.items()}))
        if kind == "idle":
            at += random.uniform(2.0, 5.0)
            found.append(Phase(at, 4.0, {address: 1 / len(addresses) for address in addresses}))
    return found


def follow(world: World, limit: str, plan: list[Phase], keys: dict[str, float], strays: float) -> None:
    """Makes demand on `limit` go by the plan; `strays` requests per second and worker are for keys of all sorts."""
    place = 0

    def demand(worker: Worker, now: float) -> Iterator[tuple[str, float]]:
        nonlocal place
        while place + 1 < len(plan) and plan[place].until <= now:
            place += 1
        phase = plan[place]
        rate = world.rule(limit).rate_per_second * phase.times * phase.parts.get(worker.address, 0.0)
        for key, part in keys.items():
            if rate > 0:
                yield key, rate * part * TICK_SECONDS
        if strays > 0 and world.random.random() < strays * TICK_SECONDS:
            yield f"x{world.random.randrange(2000)}", 3.0

    world.demand[limit] = demand


class Faults:
    """Everything that may happen to a world. Each fault ends by itself."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.left = False

    def draw(self, time: float) -> None:
        weights: dict[Callable[[], None], int] = {
            self.kill_worker: 5,
            self.pause_worker: 2,
            self.kill_agent: 2,
            self.pause_agent: 2,
            self.kill_node: 1,
            self.cut_store: 4,
            self.store_down: 1,
            self.cut_peers: 2,
            self.slow_peers: 2,
            self.upgrade: 4,
            self.change: 3,
            self.skew: 1,
            self.leave: 1,
            self.lossy_store: 1,
            self.canary: 2,
        }
        kind = self.world.random.choices(list(weights), list(weights.values()))[0]

        def act() -> None:
            self.world.faults_done.append(f"{self.world.schedule.now:.2f} {kind.__name__}")
            kind()

        self.world.schedule.at(time, act)

    def _node(self) -> Node:
        return self.world.random.choice(self.world.nodes)

    def _worker(self) -> Worker:
        return self.world.random.choice(self._node().workers)

    def _after(self, low: float, high: float, act: Callable[[], object]) -> None:
        self.world.schedule.after(self.world.random.uniform(low, high), act)

    def kill_worker(self) -> None:
        worker = self._worker()
        worker.kill()
        self._after(0.05, 0.8, lambda: worker.begin() if not worker.alive else None)

    def pause_worker(self) -> None:
        worker = self._worker()
        worker.pause()
        self._after(0.05, 5.0, worker.go_on)

    def kill_agent(self) -> None:
        node = self._node()
        node.agent.kill()
        self._after(0.05, 4.0, lambda: node.begin_agent() if not node.agent.alive else None)

    def pause_agent(self) -> None:
        node = self._node()
        node.agent.pause()
        self._after(0.1, 6.0, node.agent.go_on)

    def kill_node(self) -> None:
        """The machine itself: its clock starts anew."""
        node = self._node()
        node.kill()

        def boot() -> None:
            if not node.agent.alive and not any(worker.alive for worker in node.workers):
                node.clock = self.world.clock()
                node.begin()

        self._after(0.2, 5.0, boot)

    def cut_store(self) -> None:
        name = self._node().name
        self.world.store.cut_off.add(name)
        self._after(0.5, 10.0, lambda: self.world.store.cut_off.discard(name))

    def store_down(self) -> None:
        self.world.store.up = False
        self._after(0.5, 8.0, lambda: setattr(self.world.store, "up", True))

    def cut_peers(self) -> None:
        pair = (self._node().name, self._node().name)
        self.world.cuts.add(pair)
        self._after(0.5, 6.0, lambda: self.world.cuts.discard(pair))

    def slow_peers(self) -> None:
        self.world.slow = self.world.random.choice([0.1, 0.5])
        self._after(1.0, 6.0, lambda: setattr(self.world, "slow", self.world.calm_slow))

    def lossy_store(self) -> None:
        self.world.store.trouble = 0.3
        self._after(1.0, 6.0, lambda: setattr(self.world.store, "trouble", 0.02))

    def upgrade(self) -> None:
        """A planned restart. What is handed over may be lost on the way: then the successor knows nothing."""
        worker = self._worker()
        if not worker.alive or worker.paused:
            return
        handed: dict[str, Handover] | None = worker.hand_over()
        if self.world.planting.upgrade_stops_first:
            worker.kill()
        if self.world.random.random() < 0.25:
            handed = None

        def start() -> None:
            if self.world.planting.upgrade_stops_first and worker.alive:
                return
            worker.kill()
            worker.begin(handed)

        self._after(0.001, 0.1, start)

    def change(self) -> None:
        """The operator changes a limit; both phases."""
        world = self.world
        limit = world.random.choice([SHARED, SHARED, SMALL])
        rule = world.rule(limit)
        factor = world.random.choice([0.25, 0.5, 2.0, 3.0])
        burst = max(1, int(rule.burst * world.random.choice([0.25, 0.5, 1.0, 2.0, 3.0])))
        if limit == SMALL:
            burst = min(burst, world.cut.alone_max)
        world.store.change(limit, Rule(min(200.0, rule.rate_per_second * factor), min(burst, 250)))

    def skew(self) -> None:
        """A clock changes its rate; the last one is the store's own."""
        clock = self.world.random.choice([node.clock for node in self.world.nodes] + [self.world.store.clock])
        clock.change(self.world.clock().rate, self.world.schedule.now)

    def leave(self) -> None:
        """A node leaves for good; when its seats are given back it is off. Another may come in its place."""
        world = self.world
        if self.left or len(world.nodes) < 3:
            return
        node = self._node()
        if not node.agent.alive or node.agent.paused:
            return
        self.left = True
        node.leave()

        def off() -> None:
            if any(seat.node == node.name for seat, _ in world.store.seats.values()):
                world.schedule.after(0.5, off)
                return
            node.kill()
            world.nodes.remove(node)
            world.add_node("d")

        world.schedule.after(0.5, off)

    def canary(self) -> None:
        self.world.canary = 0.3
        self._after(1.0, 8.0, lambda: setattr(self.world, "canary", 0.0))


def restore(world: World, backup_at: float, at: float) -> None:
    """The store is lost, and a new one is filled from the backup. `frozen` ends when every node is back."""
    store = world.store

    def thaw() -> None:
        homes = {node.name: node.homes for node in world.nodes}
        back = all(
            (found := store.seats.get(seat)) is not None and found[0].node == name and found[0].home
            for name, seats in homes.items()
            for seat in seats
        )
        if back and all(node.state is not None and node.state.generation == store.generation for node in world.nodes):
            store.frozen = False
        else:
            world.schedule.after(0.5, thaw)

    def come_back() -> None:
        world.faults_done.append(f"{world.schedule.now:.2f} restore")
        store.restore()
        store.frozen = world.planting.restored_frozen
        store.up = True
        world.schedule.after(3.0, thaw)

    def fail() -> None:
        store.up = False
        world.schedule.after(world.random.uniform(0.05, 2.0), come_back)

    world.schedule.at(backup_at, store.back_up)
    world.schedule.at(at, fail)


def play(seed: int, planting: Planting | None = None) -> World:
    """Runs one seed to its end and returns the world, with what it admitted."""
    world = World(seed, planting or Planting())
    random = world.random
    world.slow = world.calm_slow = random.choice([0.0, 0.05, 0.2])
    world.check_caps = seed % 4 != 3
    if random.random() < 0.3:
        world.keys_max = 1024
    world.store.set_value(SHARED, Rule(*random.choice(RULES)))
    world.store.set_value(SMALL, Rule(random.choice([1.0, 5.0]), random.choice([1, 3, 6])))
    world.store.set_value(TRIAL, world.trial_value(world.rule(SHARED)))
    for name in "abc":
        world.add_node(name)
    plan = phases(world)
    follow(world, SHARED, plan, {"hot": 0.8, "warm": 0.2}, strays=20.0 if world.keys_max == 1024 else 1.0)
    follow(world, SMALL, plan, {"one": 1.0}, strays=50.0 if world.keys_max == 1024 else 0.0)
    faults = Faults(world)
    for _ in range(FAULTS):
        faults.draw(random.uniform(1.0, SECONDS - 2.0))
    if random.random() < 0.3:
        backup_at = random.choice([0.05, random.uniform(0.5, 12.0)])  # before anybody had a home, or after
        restore(world, backup_at, random.uniform(backup_at, 20.0))

    def switch() -> None:
        world.store.switch(force=not world.planting.switch_waits)
        world.schedule.after(0.4, switch)

    world.schedule.after(0.4, switch)
    if world.check_caps:
        world.watch_caps()
    world.schedule.run(SECONDS)
    return world


def restart_while_lending(planting: Planting | None = None, seed: int = 1) -> World:
    """All demand is at node b, so that a lends to it. Then a's agent restarts, and has to give seats back at once.

    No fault is drawn: loans are out that the new agent knows nothing of, and c, whose agent was away for so long that
    the others have its seats, takes what it is left.
    """
    world = World(seed, planting or Planting(), faults=False, loss=0.0)
    world.store.trouble = world.store.slow = 0.0
    world.repeats = True
    world.store.set_value(SHARED, Rule(60.0, 120))
    world.store.set_value(SMALL, Rule(1.0, 3))
    world.store.set_value(TRIAL, world.trial_value(world.rule(SHARED)))
    a, _, c = [world.add_node(name) for name in "abc"]
    follow(world, SHARED, [Phase(SECONDS, 4.0, {"b/0": 0.5, "b/1": 0.5})], {"hot": 1.0}, strays=0.0)
    world.schedule.at(2.0, c.agent.kill)
    world.schedule.at(10.0, a.agent.kill)
    world.schedule.at(10.0, c.begin_agent)
    world.schedule.at(10.05, a.begin_agent)
    world.watch_caps()
    world.schedule.run(16.0)
    return world
