"""Each region keeps its members in a store of its own; document, leader, verdict and limits are in a global one."""

import asyncio
from typing import Any

import pytest
from tests.control.parts import FlakyStore
from tests.simulation.story import simulate
from tests.simulation.world import World

from meridian.control.driver import ControlPlane
from meridian.control.identity import Identity
from meridian.core.verdicts import Standing

FOUR = {"a1": "eu", "a2": "eu", "b1": "us", "c1": "ap"}
STORES: dict[str, FlakyStore] = {}


class RegionalPlane(ControlPlane):
    """A control plane whose region has a store of its own."""

    def __init__(self, store: Any, keys: Any, identity: Identity, *rest: Any, **more: Any) -> None:
        regional = STORES.setdefault(identity.region, FlakyStore(asyncio.get_running_loop().time))
        super().__init__(store, keys, identity, *rest, regional=regional, **more)


@pytest.fixture(autouse=True)
def fresh_stores() -> None:
    STORES.clear()


def known(world: World) -> list[set[str]]:
    return [{member.name for member in node.plane.status().members} for node in world.running()]


def test_losing_a_region_s_store_stops_only_its_members() -> None:
    async def story(world: World) -> None:
        await world.until("all are known", lambda: known(world) == [set(FOUR)] * 4, 5.0)
        STORES["eu"].away = True
        await world.stays(world.all_serving, 10.0, "somebody was withdrawn with eu's store")
        assert world.nodes["a1"].plane.status().store.reachable
        for name in ("b1", "a2"):  # also in the region whose store is away: verdicts do not need it
            world.kill(name)
            await world.until(f"{name} is out", lambda name=name: world.agreed(name, Standing.WITHDRAWN, None), 4.0)
        STORES["eu"].away = False
        world.start("a2")
        world.start("b1")
        await world.until("all serve again", world.all_serving, 30.0)
        await world.stays(world.all_serving, 2.0, "somebody was withdrawn after eu's store came back")

    simulate(1, FOUR, story, RegionalPlane)


def test_a_node_joins_a_region_and_leaves_it_and_all_regions_know() -> None:
    async def story(world: World) -> None:
        await world.nodes["a2"].plane.stop()
        world.kill("a2")
        await world.until("a2 is forgotten", lambda: known(world) == [set(FOUR) - {"a2"}] * 3, 5.0)
        world.start("a2")
        await world.until("all serve again", world.all_serving, 30.0)
        await world.until("all are known", lambda: known(world) == [set(FOUR)] * 4, 5.0)

    simulate(2, FOUR, story, RegionalPlane)
