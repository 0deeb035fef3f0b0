"""A mirror over a store that goes away, and over one that is put back from a backup."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing

import pytest
from tests.store.troubled import TroubledStore
from tests.support import wait_until

from meridian.store.mirror import mirror
from meridian.store.port import Item, Refused


async def follow(store: TroubledStore, views: list[Mapping[str, Item]], every: float = 60.0) -> None:
    async with aclosing(mirror(store, "/p/", compare_every_seconds=every)) as mirrored:
        async for view in mirrored:
            views.append(view)


def names(views: list[Mapping[str, Item]]) -> list[str]:
    return ["".join(sorted(key.removeprefix("/p/") for key in view)) for view in views]


async def test_it_waits_for_a_store_that_is_away_and_comes_back_with_what_it_missed() -> None:
    store = TroubledStore(asyncio.get_running_loop().time)
    store.away = True
    views: list[Mapping[str, Item]] = []
    async with asyncio.TaskGroup() as group:
        following = group.create_task(follow(store, views))
        await asyncio.sleep(0.15)
        assert views == []
        store.away = False
        await wait_until(lambda: names(views) == [""], within_seconds=3, what="an empty prefix is a view too")
        await store.put("/p/a", b"")
        await wait_until(lambda: names(views) == ["", "a"], within_seconds=3, what="a change")
        store.away = True
        await store.put("/p/b", b"")
        await store.put("/p/c", b"")
        await store.put("/other/d", b"")
        await asyncio.sleep(0.1)
        assert names(views) == ["", "a"]
        store.away = False
        await wait_until(lambda: names(views) == ["", "a", "abc"], within_seconds=3, what="one view of all it missed")
        following.cancel()


async def test_the_full_compare_finds_a_store_that_went_back_in_time() -> None:
    store = TroubledStore(asyncio.get_running_loop().time)
    for _ in range(10):
        await store.put("/p/new", b"")
    views: list[Mapping[str, Item]] = []
    async with asyncio.TaskGroup() as group:
        following = group.create_task(follow(store, views, every=0.1))
        await wait_until(lambda: names(views) == ["new"], within_seconds=3, what="the first view")
        restored = TroubledStore(asyncio.get_running_loop().time)
        await restored.put("/p/old", b"")
        store.__dict__.update(restored.__dict__)  # as after a restore: the same place, an older revision
        await wait_until(lambda: names(views) == ["new", "old"], within_seconds=3, what="the compare")
        await store.put("/p/x", b"")
        await wait_until(lambda: names(views) == ["new", "old", "oldx"], within_seconds=3, what="the watch goes on")
        following.cancel()


async def test_views_are_immutable_and_equal_to_the_listing() -> None:
    store = TroubledStore(asyncio.get_running_loop().time)
    await store.put("/p/a", b"1")
    async with aclosing(mirror(store, "/p/")) as mirrored:
        first = await anext(mirrored)
        lease = await store.grant_lease(9)
        await store.put("/p/a", b"2", lease=lease.id)
        second = await anext(mirrored)
    assert first["/p/a"].value == b"1"
    assert dict(second) == {item.key: item for item in (await store.list("/p/")).items}
    with pytest.raises(TypeError):
        second["/p/a"] = first["/p/a"]  # type: ignore[index]  # that is the point


async def test_what_no_retry_can_cure_is_raised() -> None:
    class Refusing(TroubledStore):
        async def list(self, prefix: str, *, keys_only: bool = False, limit: int = 0):  # type: ignore[no-untyped-def]
            raise Refused("not permitted")

    with pytest.raises(Refused):
        await anext(mirror(Refusing(), "/p/"))
