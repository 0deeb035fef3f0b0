"""What one observer region may do, and an operator's drain, as stories; test_seeds has all else that may happen."""

import asyncio

import pytest
from tests.scale import seeds
from tests.simulation.story import BACK_SECONDS, FIVE, OUT, OUT_SECONDS, THREE, simulate
from tests.simulation.world import World

from meridian.core.verdicts import Standing


async def second_region_lost(world: World) -> None:
    """Two regions of three are lost one after the other: one observer region is left, and withdraws no further one."""
    for name in ("b1", "b2"):
        world.kill(name)
    await world.until("region us is out", lambda: world.agreed("b1", *OUT) or world.agreed("b2", *OUT), OUT_SECONDS)
    await asyncio.sleep(6)
    world.kill("c1")
    await world.until("c1 is suspect", lambda: world.agreed("c1", Standing.SUSPECT), 5.0)
    await asyncio.sleep(6)
    if not world.agreed("c1", Standing.SUSPECT):
        world.violations.append("c1 was withdrawn by one region alone")


async def one_region_of_two_lost(world: World) -> None:
    world.kill("b")
    await world.until("b is suspect", lambda: world.agreed("b", Standing.SUSPECT), 5.0)
    await asyncio.sleep(6)
    if not world.agreed("b", Standing.SUSPECT):
        world.violations.append("b was withdrawn by the only other region")
    world.start("b")
    await world.until("b is back", world.all_serving, BACK_SECONDS)


async def all_but_one_lost(world: World) -> None:
    """Who is left keeps the others published: with one observer, nobody can say who is cut off."""
    names = list(world.names)
    for name in names[1:]:
        world.kill(name)
    await asyncio.sleep(8)
    survivor = world.nodes[names[0]]
    standings = {name: survivor.standing_of(name) for name in names}
    if Standing.WITHDRAWN in standings.values() or standings[names[0]] is not Standing.SERVING:
        world.violations.append(f"one observer withdrew: {standings}")


@pytest.mark.parametrize("seed", seeds(3))
def test_one_observer_region_withdraws_nothing(seed: int) -> None:
    simulate(seed, FIVE, second_region_lost)
    simulate(seed, {"a1": "eu", "a2": "eu", "b": "us"}, one_region_of_two_lost)
    simulate(seed, {"a": "eu", "b": "us"}, one_region_of_two_lost)
    simulate(seed, THREE, all_but_one_lost)


async def drained(world: World) -> None:
    plane = world.nodes["a"].plane
    await plane.drain("b", True)
    await world.until("b drains", lambda: world.agreed("b", Standing.DRAINING), 1.0)
    await plane.drain("us", True)
    await plane.drain("b", False)
    await asyncio.sleep(2.0)
    if not world.agreed("b", Standing.DRAINING):
        world.violations.append("the order for b's region was forgotten")
    await plane.drain("us", False)
    await world.until("b serves again", world.all_serving, 1.0)
    for name in ("a", "b", "c"):  # each alone is allowed by what the operator's node knows; all three are not
        await world.store.put(f"/meridian/v1/sim/drains/{name}", b"{}")
    await asyncio.sleep(2.0)
    standings = [node.standing_of(name) for node in world.running() for name in world.names]
    if standings.count(Standing.SERVING) != len(world.running()):
        world.violations.append(f"draining everything must leave exactly one: {standings}")


def test_an_operators_drain_is_obeyed_but_for_the_last_node() -> None:
    simulate(1, THREE, drained)
