"""Each region keeps its members in a store of its own, and all regions know all members."""

import asyncio

from tests.control.parts import KEYS, FlakyStore, running
from tests.simulation.virtual import run_virtual

from meridian.control.members import MemberRecord, encode
from meridian.control.membership import Membership
from meridian.control.rosters import Rosters
from meridian.store.mirror import mirror


class Node:
    """A member of a region, its roster part, and what it knows of others."""

    def __init__(self, name: str, region: str, near: FlakyStore, world: FlakyStore) -> None:
        self.record = MemberRecord(name, f"{name}.1", region, ("192.0.2.1",))
        self.near = near
        self.membership = Membership(near, KEYS, self.record, asyncio.get_running_loop().time)
        self.rosters = Rosters(world, KEYS, region, self.record.node_id, lambda: None)

    async def follow(self) -> None:
        async for view in mirror(self.near, KEYS.members()):
            self.rosters.note(view)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for part in (self.membership.run(), self.rosters.run(), self.follow()):
                tasks.create_task(part)

    def knows(self) -> set[str]:
        return set(self.rosters.others)


def build() -> tuple[FlakyStore, dict[str, FlakyStore], dict[str, Node]]:
    clock = asyncio.get_running_loop().time
    world, near = FlakyStore(clock), {region: FlakyStore(clock) for region in ("eu", "us")}
    nodes = {name: Node(name, name[:2], near[name[:2]], world) for name in ("eu-1", "eu-2", "us-1")}
    return world, near, nodes


def test_members_of_other_regions_are_known_and_follow_changes() -> None:
    async def story() -> None:
        _, _, nodes = build()
        async with running(*(node.run() for node in nodes.values())):
            await asyncio.sleep(2)
            assert nodes["us-1"].knows() == {"eu-1", "eu-2"}
            assert nodes["eu-1"].knows() == nodes["eu-2"].knows() == {"us-1"}
            nodes["eu-2"].membership.update(config_version=7)
            await asyncio.sleep(1)
            assert nodes["us-1"].rosters.others["eu-2"].config_version == 7
            await nodes["eu-2"].membership.leave()
            await asyncio.sleep(1)
            assert nodes["us-1"].knows() == {"eu-1"}
            await nodes["eu-1"].membership.leave()
            await nodes["eu-1"].rosters.leave()
            await asyncio.sleep(1)
            assert nodes["us-1"].knows() == set()

    run_virtual(story)


def test_losing_either_store_forgets_nobody_and_it_goes_on_after() -> None:
    async def story() -> None:
        world, near, nodes = build()
        async with running(*(node.run() for node in nodes.values())):
            await asyncio.sleep(2)
            for lost in (near["eu"], world):
                lost.away = True
                await asyncio.sleep(120)
                assert nodes["us-1"].knows() == {"eu-1", "eu-2"}
                assert nodes["eu-1"].knows() == {"us-1"}
                lost.away = False
                await asyncio.sleep(40)
            nodes["eu-1"].membership.update(config_version=8)
            await asyncio.sleep(1)
            assert nodes["us-1"].rosters.others["eu-1"].config_version == 8

    run_virtual(story)


def test_what_a_newer_node_says_of_itself_reaches_other_regions_whole() -> None:
    async def story() -> None:
        world, near, nodes = build()
        newer = encode(nodes["eu-2"].record)[:-1] + b',"of_the_future":[1,{"x":2}]}'
        async with running(nodes["eu-1"].run(), nodes["us-1"].run()):
            await asyncio.sleep(1)
            await near["eu"].put(KEYS.member("eu-2.1"), newer)
            await near["eu"].put(KEYS.member("eu-3.1"), b"not json")
            await asyncio.sleep(1)
            roster = await world.get(KEYS.roster("eu"))
            assert roster is not None
            assert newer in roster.value
            assert nodes["us-1"].knows() == {"eu-1", "eu-2"}

    run_virtual(story)
