"""What happens in a seed: demand that moves, and faults. All drawn from the seed."""

from collections.abc import Callable

from tests.simulation.metering.world import CONCURRENT, DRIFT, QUOTA, SLOTS, TERMS, Planting, World

SECONDS = 14.0
FAULTS = 16


def demand(world: World, at: float) -> None:
    """Who gets how much, from `at` on: even or skewed, often more than the limit. Only when all have spent their whole
    part does it show that something was spent twice."""
    evenly = [1.0] * 6
    addresses = [worker.address for worker in world.workers()]
    weights = world.random.choice([evenly, evenly, [90.0, 90.0, 9.0, 9.0, 1.0, 1.0], [1.0, 0, 0, 0, 0, 0]])
    world.random.shuffle(addresses)
    whole = sum(weights)
    rates = {name: terms.amount / terms.window_seconds for name, terms in TERMS.items()}
    rates |= {"quota": QUOTA / 2, "under-way": CONCURRENT * 2.0}

    def change() -> None:
        for limit, rate in rates.items():
            times = world.random.choice([0.0, 1.5, 3.0, 6.0])
            parts = zip(addresses, evenly if world.crashing else weights, strict=True)
            world.demand[limit] = {address: rate * times * weight / whole for address, weight in parts}

    world.schedule.at(at, change)


class Faults:
    """Everything that may happen. Each ends by itself."""

    def __init__(self, world: World) -> None:
        self.world = world

    def draw(self, time: float) -> None:
        kinds: dict[Callable[[], None], int] = {
            self.kill_worker: 5, self.kill_node: 1, self.pause: 3, self.upgrade: 4, self.cut: 3, self.slow: 3,
            self.drift: 2, self.set_clock: 3, self.move: 3,
        }  # fmt: skip
        if self.world.crashing:
            kinds = {self.kill_worker: 1}
        kind = self.world.random.choices(list(kinds), list(kinds.values()))[0]

        def act() -> None:
            self.world.faults_done.append(f"{time:.2f} {kind.__name__}")
            kind()

        self.world.schedule.at(time, act)

    def kill_worker(self) -> None:
        world = self.world
        worker = world.random.choice(world.workers())
        if worker.alive:
            worker.kill()
            world.schedule.after(world.random.uniform(0.01, 0.5), worker.begin)

    def kill_node(self) -> None:
        world = self.world
        for worker in world.random.choice(world.nodes).workers:
            if worker.alive:
                worker.kill()
                world.schedule.after(world.random.uniform(0.1, 1.0), worker.begin)

    def pause(self) -> None:
        world = self.world
        worker = world.random.choice(world.workers())
        worker.pause()
        world.schedule.after(world.random.uniform(0.1, 3.0), worker.go_on)

    def upgrade(self) -> None:
        worker = self.world.random.choice(self.world.workers())
        if worker.alive and not worker.paused:
            worker.begin(worker)

    def cut(self) -> None:
        world = self.world
        name = world.random.choice("abc")
        world.cut.add(name)
        world.schedule.after(world.random.uniform(0.3, 3.0), lambda: world.cut.discard(name))

    def slow(self) -> None:
        world = self.world
        world.slow = True
        world.schedule.after(world.random.uniform(0.3, 2.0), lambda: setattr(world, "slow", False))

    def drift(self) -> None:
        world = self.world
        clock = world.random.choice(world.nodes).clock
        clock.change(1 + world.random.choice([-DRIFT, DRIFT]), world.schedule.now)

    def set_clock(self) -> None:
        self.world.random.choice(self.world.nodes).offset += self.world.random.uniform(-4.0, 4.0)

    def move(self) -> None:
        """An operator gives a slice to another machine."""
        world = self.world
        giver, taker = world.random.sample(world.workers(), 2)
        if giver.alive and not giver.paused and len(giver.indexes) > 0 and giver.slot < SLOTS:
            giver.move(min(giver.indexes), to=taker)


def play(seed: int, planting: Planting | None = None) -> World:
    """Runs a seed; `violations` of what it returns is empty if every promise was kept."""
    world = World(seed, planting or Planting())
    at = 0.1
    while at < SECONDS:
        demand(world, at)
        at += world.random.uniform(0.7, 2.5)
    faults = Faults(world)
    for time in sorted(world.random.uniform(0.5, SECONDS) for _ in range(world.random.choice([3, 8, FAULTS]))):
        faults.draw(time)
    while world.schedule.now < SECONDS and not world.violations:
        world.schedule.run(min(SECONDS, world.schedule.now + 1.0))
    return world
