"""How much of a limit is admitted when nothing fails: 90, 9 and 1 % of the demand at three nodes."""

from dataclasses import dataclass

from tests.simulation.limits.scenario import Phase, follow
from tests.simulation.limits.world import SHARED, SMALL, TRIAL, World

from meridian.core.granting.shares import Rule

SETTLED_SECONDS = 5.0
MEASURED_SECONDS = 30.0
RULES = ((50.0, 120), (100.0, 120), (100.0, 200), (200.0, 240))  # at least 20 tokens for each of six spenders
TIMES = (1.25, 1.5, 2.0, 4.0)  # the limit, in demand; much closer to it and chance leaves too little of it


@dataclass(frozen=True)
class Utilisation:
    """The admitted part of the limit, and what it took."""

    admitted: float
    rule: Rule
    times: float
    messages_per_second: float


def measure(seed: int) -> Utilisation:
    """Demand begins at second 10; from second 15 on it is measured for 30 s."""
    world = World(seed, faults=False)
    world.store.trouble = world.store.slow = 0.0
    rule = Rule(*world.random.choice(RULES))
    times = TIMES[seed % len(TIMES)]
    world.store.set_value(SHARED, rule)
    world.store.set_value(SMALL, Rule(1.0, 1))
    world.store.set_value(TRIAL, world.trial_value(rule))
    for name in "abc":
        world.add_node(name)
    parts = dict(zip(world.random.sample("abc", 3), (0.9, 0.09, 0.01), strict=True))
    by_worker = {worker.address: parts[worker.node.name] / world.cut.slices for worker in world.workers()}
    world.schedule.run(10.0)
    follow(world, SHARED, [Phase(1e9, times, by_worker)], {"hot": 1.0}, strays=0.0)
    world.schedule.run(10.0 + SETTLED_SECONDS + MEASURED_SECONDS)
    assert not world.violations, world.violations
    admitted = sum(time >= 10.0 + SETTLED_SECONDS for time in world.admitted[SHARED, "hot"])
    part = admitted / (rule.rate_per_second * MEASURED_SECONDS)
    return Utilisation(part, rule, times, world.sent / (SETTLED_SECONDS + MEASURED_SECONDS))
