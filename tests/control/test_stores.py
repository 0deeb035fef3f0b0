"""What a node sees of its stores: whether they are lost, and how much it writes; on virtual time."""

import asyncio
from typing import Any

import pytest
from tests.simulation.virtual import run_virtual

from meridian.control.stores import HEALTH_SECONDS, LOST_SECONDS, Stores
from meridian.store.embedded import EmbeddedStore
from meridian.store.keys import Keys
from meridian.store.port import StoreHealth


class Told(EmbeddedStore):
    """A store that says of itself what a test wants."""

    reachable = True
    writes_per_second = 0.0

    async def health(self) -> StoreHealth:
        writes = int(self._clock() * self.writes_per_second)
        return StoreHealth(self.reachable, self.reachable, "told", "", writes=writes)


def watched(store: Told, regional: Told, turned: list[bool]) -> Stores:
    stores: Stores

    def turn() -> None:
        turned.append(stores.lost)

    stores = Stores(
        store, regional, Keys("test"), asyncio.get_running_loop().time, quota_bytes=2**31,
        leads=lambda: False, is_oldest=lambda: False, turned=turn,
    )  # fmt: skip
    return stores


async def during(stores: Stores, *waits: Any) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(stores.run())
        for act, seconds in waits:
            act()
            await asyncio.sleep(seconds)
        running.cancel()


def test_a_store_is_lost_after_a_while_and_back_at_once() -> None:
    turned: list[bool] = []

    async def story() -> None:
        store = Told(asyncio.get_running_loop().time)
        stores = watched(store, store, turned)

        def becomes(reachable: bool) -> None:
            store.reachable = reachable

        await during(
            stores,
            (lambda: becomes(True), 2.0),
            (lambda: becomes(False), LOST_SECONDS - HEALTH_SECONDS),
            (lambda: turned.append(stores.lost), 2 * HEALTH_SECONDS + 0.1),
            (lambda: becomes(True), HEALTH_SECONDS + 0.1),
        )
        assert not stores.lost

    run_virtual(story)
    assert turned == [False, True, False]


def test_writes_to_all_stores_are_told_by_the_second() -> None:
    async def story() -> None:
        clock = asyncio.get_running_loop().time
        store, regional = Told(clock), Told(clock)
        stores = watched(store, regional, [])
        store.writes_per_second, regional.writes_per_second = 7.0, 5.0
        await during(stores, (lambda: None, 60.0))
        assert stores.writes_per_second == pytest.approx(12.0, rel=0.1)
        assert stores.regional_health is not None

    run_virtual(story)
