"""How long until every live node's view is without a region that died: many kills, 150 ms between any two nodes.

Run with `python -m tests.simulation.kills --kills 200`; CI runs a few. Three cases, reported separately: the leader
stands elsewhere, the leader dies with the region, and the store's own leader dies with it, so that the store is away
for up to two seconds from the same moment.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.simulation.story import OUT, tell
from tests.simulation.world import World

SIX = {"a1": "eu", "a2": "eu", "b1": "us", "b2": "us", "c1": "ap", "c2": "ap"}
TEN = {**SIX, "d1": "sa", "d2": "sa", "e1": "af", "e2": "af"}
ONE_WAY_SECONDS = (0.070, 0.080)  # and two of them for a write: the store's members stand in all regions
CASES = ("leader elsewhere", "leader inside", "store's leader inside")
TARGET_SECONDS = 3.0


@dataclass
class Kill:
    """One kill of a region, as a story; `seconds` is until the last live node's view was without it."""

    case: str
    seconds: float = field(default=0.0, init=False)

    async def __call__(self, world: World) -> None:
        world.transit_seconds = world.store_seconds = ONE_WAY_SECONDS
        world.vanishing = True
        await world.calm(world.random.uniform(2.0, 3.0))
        leader = next((n.name for n in world.running() if n.plane.leadership.fence() is not None), "a1")
        inside = self.case == "leader inside" or (self.case == CASES[2] and world.random.random() < 0.5)
        regions = sorted(set(world.names.values()))
        region = world.names[leader]
        if not inside:
            region = world.random.choice([other for other in regions if other != region])
        victims = [name for name in world.names if world.names[name] == region]
        for name in victims:
            world.kill(name)
        if self.case == CASES[2]:
            world.store_away_for(world.random.uniform(0.5, 2.0))
        self.seconds = await world.until(
            f"{region} is out", lambda: all(world.agreed(name, *OUT) for name in victims), 12.0
        )
        # Whoever takes over next must not bring it back.
        await world.calm(6.0)
        for name in victims:
            world.check_never_back(name)


def measure(case: str, seeds: Sequence[int], names: Mapping[str, str] = SIX) -> tuple[list[float], list[str]]:
    """Returns the seconds of one kill for each seed, in rising order, and all violations with their seeds."""
    seconds, violations = [], []
    for seed in seeds:
        kill = Kill(case)
        _, found = tell(seed, names, kill)
        seconds.append(kill.seconds)
        violations += [f"seed {seed}: {violation}" for violation in found]
    return sorted(seconds), violations


def percentile(rising: Sequence[float], share: float) -> float:
    """Returns the value that `share` of all do not exceed."""
    return rising[min(len(rising) - 1, int(share * len(rising)))]


def main() -> int:
    parser = argparse.ArgumentParser(description="Kills of a whole region on virtual time.")
    parser.add_argument("--kills", type=int, default=200, help="for each of the three cases")
    parser.add_argument("--regions", type=int, choices=(3, 5), default=3, help="each of two nodes")
    logging.disable()  # what nodes log about six hundred deaths
    options = parser.parse_args()
    kills: int = options.kills
    failed = False
    for case in CASES:
        rising, violations = measure(case, range(kills), TEN if options.regions == 5 else SIX)
        p50, p99 = percentile(rising, 0.5), percentile(rising, 0.99)
        sys.stdout.write(f"{case}: {kills} kills, p50 {p50:.2f} s, p99 {p99:.2f} s, most {rising[-1]:.2f} s\n")
        sys.stdout.writelines(f"  {violation}\n" for violation in violations[:10])
        sys.stdout.flush()
        failed |= p99 > TARGET_SECONDS or bool(violations)
    return failed


if __name__ == "__main__":
    sys.exit(main())
