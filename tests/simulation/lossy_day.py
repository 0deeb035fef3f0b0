"""Hours of 5 % loss and jitter, in which nobody dies: nobody may be withdrawn, by a leader or by anyone's own merge.

Each message between nodes is lost with that chance and not sent again, each probe is lost with any of its four packets,
and each takes 20 to 90 ms. Run with `python -m tests.simulation.lossy_day --hours 24`; CI runs minutes.
"""

import argparse
import asyncio
import logging
import sys
from collections import Counter

from tests.simulation.story import THREE, Story, tell
from tests.simulation.world import World

from meridian.core.verdicts import Standing

LOSS = 0.05
ONE_WAY_SECONDS = (0.020, 0.090)


def lossy(seconds: float, seen: Counter[str] | None = None) -> Story:
    """Returns the story; `seen` counts the standings of nodes in all verdicts that came into force anywhere."""
    counts = seen if seen is not None else Counter()

    async def story(world: World) -> None:
        world.transit_seconds, world.loss = ONE_WAY_SECONDS, LOSS
        until = world.loop.time() + seconds
        while world.loop.time() < until:
            await asyncio.sleep(10.0)
            for node in world.running():
                for verdict in node.verdicts[:-1]:
                    counts["fallbacks"] += verdict.fallback > 0
                    counts.update(judged.standing.name for judged in verdict.nodes.values())
                    gone = [n.name for n in verdict.nodes.values() if n.standing is Standing.WITHDRAWN]
                    if gone:
                        world.violations.append(f"{world.loop.time():.0f}: {node.name} withdrew {gone}")
                del node.verdicts[:-1]
        world.loss = 0.0

    return story


def main() -> int:
    parser = argparse.ArgumentParser(description="Loss and jitter on virtual time.")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.disable()
    seen: Counter[str] = Counter()
    _, violations = tell(arguments.seed, THREE, lossy(arguments.hours * 3600.0, seen))
    sys.stdout.write(f"{arguments.hours} h, seed {arguments.seed}: {dict(seen)}; {len(violations)} violations\n")
    sys.stdout.writelines(f"  {violation}\n" for violation in violations[:10])
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main())
