"""Whole control planes on virtual time, under faults. A failure names its seed: run it alone with `-k "[7]"`."""

import asyncio

import pytest
from tests.scale import seeds
from tests.simulation.story import BACK_SECONDS, FIVE, OUT, OUT_SECONDS, THREE, simulate
from tests.simulation.world import World

from meridian.core.verdicts import Standing


async def kill_and_return(world: World, name: str) -> None:
    world.kill(name)
    await world.until(f"{name} is out", lambda: world.agreed(name, *OUT), OUT_SECONDS)
    await asyncio.sleep(world.random.uniform(0, 5))
    world.start(name)
    await world.until(f"{name} is back", world.all_serving, BACK_SECONDS)


async def pause_and_resume(world: World, name: str) -> None:
    world.pause(name)
    await asyncio.sleep(world.random.uniform(0.2, 6))
    world.resume(name)
    await world.until(f"{name} is back after a pause", world.all_serving, BACK_SECONDS)


async def lossy(world: World, name: str) -> None:
    world.loss, world.lost_answers = 0.2, 0.2
    await asyncio.sleep(world.random.uniform(1, 8))
    world.loss, world.lost_answers = 0.0, 0.0
    await world.until("all is well after losses", world.all_serving, BACK_SECONDS)


async def store_away(world: World, name: str) -> None:
    before = {node.name: len(node.verdicts) for node in world.running()}
    world.store_down = True
    await asyncio.sleep(world.random.uniform(1, 20))
    told = [v for node in world.running() for v in node.verdicts[before[node.name] :]]
    if any(n.standing is not Standing.SERVING for verdict in told for n in verdict.nodes.values()):
        world.violations.append("losing the store withdrew a node")
    world.store_down = False
    await asyncio.sleep(3.0)
    if not world.all_serving():
        world.violations.append("the store's return withdrew a node")


async def cut_off(world: World, name: str) -> None:
    world.islands.add(name)
    if world.random.random() < 0.7:
        world.cut_from_store.add(name)
    await asyncio.sleep(world.random.uniform(1, 8))
    world.islands.clear()
    world.cut_from_store.clear()
    await world.until(f"{name} is back after a partition", world.all_serving, BACK_SECONDS)


async def without_store(world: World, name: str) -> None:
    world.cut_from_store.add(name)
    await asyncio.sleep(world.random.uniform(1, 8))
    if not all(n.standing_of(name) is Standing.SERVING for n in world.running()):
        world.violations.append(f"{name} lost only the store and was withdrawn")
    world.cut_from_store.clear()
    await asyncio.sleep(3.0)


async def leave_and_return(world: World, name: str) -> None:
    await world.nodes[name].plane.stop()
    world.kill(name)
    await world.until(f"{name} has left", lambda: world.agreed(name, None), OUT_SECONDS)
    world.start(name)
    await world.until(f"{name} is back after leaving", world.all_serving, OUT_SECONDS)


async def slow_store(world: World, name: str) -> None:
    """The leader's requests are slow: its writes land after it was replaced, and must be refused then."""
    leaders = [node.name for node in world.running() if node.plane.leadership.fence() is not None]
    world.slow |= {name, *leaders}
    await asyncio.sleep(world.random.uniform(2, 10))
    other = next(n for n in world.names if n not in world.slow)
    world.pause(other)
    await asyncio.sleep(world.random.uniform(0, 4))
    world.resume(other)
    await asyncio.sleep(world.random.uniform(0, 4))
    world.slow.clear()
    await world.until("all is well after slowness", world.all_serving, 15.0)


FAULTS = (kill_and_return, pause_and_resume, lossy, store_away, cut_off, without_store, leave_and_return, slow_store)


async def one_after_the_other(world: World) -> None:
    for _ in range(4):
        fault = world.random.choice((*FAULTS, kill_and_return))
        await fault(world, world.random.choice(list(world.names)))
        await asyncio.sleep(world.random.uniform(1, 4))


async def all_at_once(world: World) -> None:
    """Faults upon faults: only safety is asked for, and that all is well some time after the last of them."""
    for _ in range(12):
        name = world.random.choice(list(world.names))
        state = world.nodes[name].state
        match world.random.randrange(8):
            case 0 if state == "running":
                world.kill(name)
            case 1 if state == "running":
                world.pause(name)
            case 2:
                world.islands ^= {name}
            case 3:
                world.cut_from_store ^= {name}
            case 4:
                world.store_down = not world.store_down
            case 5:
                world.loss = world.lost_answers = world.random.choice((0.0, 0.3))
            case 6:
                world.slow ^= {name}
            case _:
                _heal(world, name)
        await asyncio.sleep(world.random.uniform(0.1, 3))
    world.islands.clear()
    world.cut_from_store.clear()
    world.slow.clear()
    world.store_down, world.loss, world.lost_answers = False, 0.0, 0.0
    for name in world.names:
        _heal(world, name)
    await world.until("all is well in the end", world.all_serving, 15.0)


def _heal(world: World, name: str) -> None:
    if world.nodes[name].state == "killed":
        world.start(name)
    elif world.nodes[name].state == "paused":
        world.resume(name)


@pytest.mark.parametrize("seed", seeds(30))
def test_three_regions_survive_one_fault_at_a_time(seed: int) -> None:
    simulate(seed, THREE, one_after_the_other)


@pytest.mark.parametrize("seed", seeds(10))
def test_five_nodes_survive_one_fault_at_a_time(seed: int) -> None:
    simulate(seed, FIVE, one_after_the_other)


@pytest.mark.parametrize("seed", seeds(10))
def test_three_regions_stay_safe_under_many_faults(seed: int) -> None:
    simulate(seed, THREE, all_at_once)


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
