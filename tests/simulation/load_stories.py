"""Stories about load: regions leave while the others can hardly carry them (rule 10 of the verdicts).

The crowd: each region has clients of its own, who go where the verdict's shares send them, but follow late, as
resolvers do. What they do is what the nodes report next.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping

from tests.simulation.story import BACK_SECONDS, OUT, OUT_SECONDS
from tests.simulation.verdict_stories import leader_of, someone_but
from tests.simulation.world import World

from meridian.core.capacity import FULL
from meridian.core.verdicts import Standing, Verdict

CAPACITY = 1000.0  # of each region
FOLLOW_SECONDS = 8.0
TICK_SECONDS = 0.5
SLACK = 1.02  # loads that approach a limit


class Crowd:
    """The clients of all regions. One node stands in each."""

    def __init__(self, world: World, demand: Mapping[str, float]) -> None:
        self.world = world
        self.demand = dict(demand)
        self.peaks: dict[str, float] = {}  # of each node, since it was asked last
        world.loads.update(demand)
        for node in world.running():
            node.plane.set_regions(set(world.names.values()), dict.fromkeys(world.names.values(), CAPACITY))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            goal = self._goal(self.world.running()[0].verdicts[-1])
            for name, load in goal.items():
                before = self.world.loads[name]
                self.world.loads[name] = before + (load - before) * TICK_SECONDS / FOLLOW_SECONDS
                self.peaks[name] = max(self.peaks.get(name, 0.0), self.world.loads[name])

    def _goal(self, verdict: Verdict) -> dict[str, float]:
        """Where all clients would be if they followed at once: at home, else in the next region that keeps them."""
        names = sorted(self.world.names)
        goal = dict.fromkeys(names, 0.0)
        for at, home in enumerate(names):
            left = self.demand[home]
            for name in names[at:] + names[:at]:
                kept = left * verdict.regions[self.world.names[name]].part
                goal[name] += kept
                left -= kept
            goal[home] += left
        return goal

    def shares_of(self, name: str) -> list[float]:
        """What the region of `name` kept, as it went, by the verdicts of another node."""
        seer = next(node for node in self.world.running() if node.name != name)
        region = self.world.names[name]
        parts = [verdict.regions[region].part for verdict in seer.verdicts if region in verdict.regions]
        return [part for at, part in enumerate(parts) if at == 0 or part != parts[at - 1]]

    def check_one_version(self) -> None:
        """Whoever holds a version holds the same shares: DNS and gateways are told of both by one frame."""
        told: dict[tuple[int, int], dict[str, float | None]] = {}
        for node in self.world.running():
            for verdict in node.verdicts:
                shares = {name: region.share for name, region in verdict.regions.items()}
                if not verdict.fallback and told.setdefault((verdict.fence, verdict.version), shares) != shares:
                    self.world.violations.append(f"version {verdict.version} has two sets of shares")


@contextlib.asynccontextmanager
async def crowd_in(world: World, **demand: float) -> AsyncGenerator[Crowd]:
    crowd = Crowd(world, demand)
    task = asyncio.get_running_loop().create_task(crowd.run())
    try:
        await world.calm(2.0)  # all nodes have told their load
        yield crowd
        crowd.check_one_version()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def drained_under_load(world: World) -> None:
    """It keeps what the others cannot carry; more when they get busier, all of nothing when they calm down."""
    async with crowd_in(world, a=600.0, b=600.0, c=800.0) as crowd:
        await world.running()[0].plane.drain("ap", True)
        await world.calm(world.random.uniform(4.0, 12.0))
        world.nodes[leader_of(world)].plane.resign()  # another takes up where it stopped
        await world.calm(60.0)
        if (down := crowd.shares_of("c")) != [1.0, 0.75, 0.5]:
            world.violations.append(f"while it was drained it kept {down}")
        if (peak := max(crowd.peaks["a"], crowd.peaks["b"])) > FULL * CAPACITY * SLACK:
            world.violations.append(f"who stays was given {peak:.0f}/s")
        crowd.demand.update(a=900.0, b=900.0)
        await world.calm(80.0)
        if (up := crowd.shares_of("c")[3:]) != [0.75, 1.0]:
            world.violations.append(f"when the others were full it took back {up}")
        crowd.demand.update(a=150.0, b=150.0)
        await world.until("it is gone", lambda: crowd.shares_of("c")[-1] == 0.0, 80.0)
        if (rest := crowd.shares_of("c")[5:]) != sorted(rest, reverse=True):
            world.violations.append(f"its share swung: {rest}")
        await world.running()[0].plane.drain("ap", False)
        await world.until("all serve", world.all_serving, BACK_SECONDS)


async def dead_under_load(world: World) -> None:
    """Who is silent goes as fast as ever, and who is given too much by that gives it to who has room, and rests."""
    async with crowd_in(world, a=500.0, b=700.0, c=500.0) as crowd:
        world.kill("a")
        await world.until("it is out", lambda: world.agreed("a", *OUT), OUT_SECONDS)
        world.loads["a"] = 0.0
        await world.calm(100.0)
        steps = crowd.shares_of("b")
        if steps != sorted(steps, reverse=True) or not 0.7 <= steps[-1] <= 0.9:
            world.violations.append(f"b was given 1200/s of 1000 and kept {steps}")
        if world.loads["b"] > FULL * CAPACITY * SLACK or world.loads["c"] > FULL * CAPACITY * SLACK:
            world.violations.append(f"they came to rest with {world.loads}")
        world.start("a").plane.set_regions(set(world.names.values()), dict.fromkeys(world.names.values(), CAPACITY))
        await world.until("all serve", world.all_serving, BACK_SECONDS)
        await world.until("b keeps all", lambda: crowd.shares_of("b")[-1] == 1.0, 90.0)


async def gray_under_load(world: World) -> None:
    """A region that nobody reaches keeps the share that nobody else can carry, and is trusted again by steps."""
    victim = someone_but(world)
    demand = {name: 800.0 if name == victim else 600.0 for name in world.names}
    async with crowd_in(world, **demand) as crowd:
        world.dark.add(victim)
        await world.until("it keeps half", lambda: crowd.shares_of(victim)[-1] == 0.5, 25.0)
        if not world.agreed(victim, Standing.SUSPECT):
            world.violations.append(f"{victim} has a share and does not stand as one who has")
        await world.calm(world.random.uniform(0.0, 8.0))
        world.dark.clear()
        await world.until("it serves", world.all_serving, BACK_SECONDS)
        await world.until("it keeps all", lambda: crowd.shares_of(victim)[-1] == 1.0, 90.0)
        steps = crowd.shares_of(victim)
        least = steps.index(min(steps))
        if steps[: least + 1] != sorted(steps[: least + 1], reverse=True) or steps[least:] != sorted(steps[least:]):
            world.violations.append(f"its share swung: {steps}")
