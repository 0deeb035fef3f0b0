"""How a story is told: a world of its own, a cluster that serves, what happens then, and what the invariants say."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from tests.simulation.virtual import VirtualLoop
from tests.simulation.world import World

from meridian.control.driver import ControlPlane
from meridian.core.verdicts import Standing

THREE = {"a": "eu", "b": "us", "c": "ap"}
FIVE = {"a1": "eu", "a2": "eu", "b1": "us", "b2": "us", "c1": "ap"}
OUT = (Standing.WITHDRAWN,)
OUT_SECONDS = 4.0  # and DNS answers without it within 5 s
BACK_SECONDS = 8.0
Story = Callable[[World], Awaitable[None]]


def tell(
    seed: int, names: Mapping[str, str], story: Story, plane: type[ControlPlane] = ControlPlane
) -> tuple[World, list[str]]:
    """Runs a story in a world of its own; returns it, and all violations of the invariants."""

    async def run() -> World:
        world = World(seed, names, plane)
        watcher = asyncio.get_running_loop().create_task(world.sample())
        try:
            for name in names:
                world.start(name)
            await world.until("the cluster serves", world.all_serving, 6.0)
            await story(world)
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            await world.close()
        return world

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        world = runner.run(run())
    return world, world.finish()


def simulate(seed: int, names: Mapping[str, str], story: Story, plane: type[ControlPlane] = ControlPlane) -> World:
    """Tells a story and fails with the seed if an invariant was violated."""
    world, violations = tell(seed, names, story, plane)
    assert not violations, f"seed {seed}: " + "; ".join(violations[:8])
    return world
