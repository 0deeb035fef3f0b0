"""Elections between real drivers on one store."""

import asyncio

from tests.control.parts import KEYS, FlakyStore, running
from tests.simulation.virtual import run_virtual

from meridian.control.leadership import Leadership
from meridian.store.port import Delete, Put


def build(*names: str) -> tuple[FlakyStore, list[Leadership]]:
    clock = asyncio.get_running_loop().time
    store = FlakyStore(clock)
    return store, [Leadership(store, KEYS, name, f"{name}.1", clock) for name in names]


def leaders(nodes: list[Leadership]) -> list[Leadership]:
    return [node for node in nodes if node.fence() is not None]


def test_one_of_three_leads_and_all_know_who() -> None:
    async def story() -> None:
        _, nodes = build("a", "b", "c")
        async with running(*(node.run() for node in nodes)):
            await asyncio.sleep(0.5)
            (leader,) = leaders(nodes)
            await asyncio.sleep(60)
            assert leaders(nodes) == [leader]
            assert len({node.leader for node in nodes}) == 1

    run_virtual(story)


def test_resigning_moves_the_leadership_within_a_moment() -> None:
    async def story() -> None:
        _, nodes = build("a", "b")
        async with running(*(node.run() for node in nodes)):
            await asyncio.sleep(0.5)
            (first,) = leaders(nodes)
            fence = first.fence()
            first.resign()
            await asyncio.sleep(0.05)
            (second,) = leaders(nodes)
            assert second is not first
            assert (second.fence() or 0) > (fence or 0)
            second.resign(for_good=True)
            await asyncio.sleep(3.0)
            assert leaders(nodes) == [first]

    run_virtual(story)


def test_a_leader_without_store_stops_by_its_own_clock_and_leads_again_after() -> None:
    async def story() -> None:
        store, nodes = build("a")
        async with running(nodes[0].run()):
            await asyncio.sleep(0.5)
            assert nodes[0].fence() is not None
            store.away = True
            await asyncio.sleep(2.0)
            assert nodes[0].fence() is None
            await asyncio.sleep(5.0)
            store.away = False
            await asyncio.sleep(3.0)
            assert nodes[0].fence() is not None

    run_virtual(story)


def test_a_create_whose_answer_was_lost_is_undone_and_tried_again() -> None:
    async def story() -> None:
        store, nodes = build("a")
        store.lose_answers = 1
        async with running(nodes[0].run()):
            await asyncio.sleep(0.1)
            assert nodes[0].fence() is None
            assert await store.get(KEYS.leader()) is None
            await asyncio.sleep(1.0)
            assert nodes[0].fence() is not None

    run_virtual(story)


def test_a_restored_store_is_led_under_a_greater_fence_though_its_revisions_began_anew() -> None:
    async def story() -> None:
        store, (node,) = build("a")
        for _ in range(100):
            await store.put("/other", b"")
        async with running(node.run()):
            await asyncio.sleep(0.5)
            before = node.fence()
        restored, nodes = build("a", "b")
        async with running(*(node.run() for node in nodes)):
            await asyncio.sleep(0.5)
            (leader,) = leaders(nodes)
            assert before is not None
            assert (leader.fence() or 0) < before  # nobody believes this one
            await restored.txn([], [Put(KEYS.generation(), b"1"), Delete(KEYS.leader())])
            await asyncio.sleep(1.0)
            (leader,) = leaders(nodes)
            assert (leader.fence() or 0) > before

    run_virtual(story)
