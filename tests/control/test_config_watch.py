"""The document: each version whole, the last good one kept, a copy on disk."""

import asyncio

from tests.control.parts import KEYS, FlakyStore, running
from tests.control.test_grants import Memory
from tests.simulation.virtual import run_virtual

from meridian.control.config_watch import ConfigWatch
from meridian.store.documents import VersionMeta, write_version
from meridian.store.port import DeletePrefix

META = VersionMeta("me", "a test", "2026-01-01T00:00:00Z")


def build(store: FlakyStore, disk: Memory) -> tuple[ConfigWatch, list[tuple[int, bytes]]]:
    arrived: list[tuple[int, bytes]] = []
    return ConfigWatch(store, KEYS, disk, lambda version, payload: arrived.append((version, payload))), arrived


def test_versions_arrive_in_full_and_a_cold_start_needs_no_store() -> None:
    async def story() -> None:
        store, disk = FlakyStore(asyncio.get_running_loop().time), Memory()
        watch, arrived = build(store, disk)
        async with running(watch.run()):
            await asyncio.sleep(0.1)
            await write_version(store, KEYS, b"one", META, expected_current=0)
            await asyncio.sleep(0.1)
            await write_version(store, KEYS, b"two", META, expected_current=1)
            await asyncio.sleep(0.1)
            assert arrived == [(1, b"one"), (2, b"two")]
        store.away = True
        again, arrived = build(store, disk)
        await again.load()
        async with running(again.run()):
            await asyncio.sleep(10)
            assert arrived == [(2, b"two")]
            store.away = False
            await asyncio.sleep(5)
            assert arrived == [(2, b"two")]
            await write_version(store, KEYS, b"three", META, expected_current=2)
            await asyncio.sleep(0.1)
            assert arrived[-1] == (3, b"three")

    run_virtual(story)


def test_a_version_that_cannot_be_read_leaves_the_last_good_one() -> None:
    async def story() -> None:
        store, disk = FlakyStore(asyncio.get_running_loop().time), Memory()
        watch, arrived = build(store, disk)
        await write_version(store, KEYS, b"one", META, expected_current=0)
        async with running(watch.run()):
            await asyncio.sleep(0.1)
            store.away = True
            await asyncio.sleep(1)
            store.away = False
            await write_version(store, KEYS, b"two", META, expected_current=1)
            await store.txn([], [DeletePrefix(KEYS.chunks())])
            await asyncio.sleep(5)
            assert [version for version, _ in arrived] in ([1], [1, 2])
            await write_version(store, KEYS, b"three", META, expected_current=2)
            await asyncio.sleep(1)
            assert arrived[-1] == (3, b"three")
            assert watch.detail == ""

    run_virtual(story)


def test_another_version_under_a_number_that_was_seen_is_taken_and_the_same_one_is_not_handed_on_twice() -> None:
    async def story() -> None:
        store, disk = FlakyStore(asyncio.get_running_loop().time), Memory()
        watch, arrived = build(store, disk)
        await write_version(store, KEYS, b"one", META, expected_current=0)
        async with running(watch.run()):
            await asyncio.sleep(0.1)
            await store.txn([], [DeletePrefix(KEYS.config_prefix())])
            await asyncio.sleep(5)
            assert arrived == [(1, b"one")]  # an emptied store is no order to serve nothing
            await write_version(store, KEYS, b"one", META, expected_current=0)
            await asyncio.sleep(1)
            assert arrived == [(1, b"one")]
            await store.txn([], [DeletePrefix(KEYS.config_prefix())])
            await write_version(store, KEYS, b"another", META, expected_current=0)
            await asyncio.sleep(1)
            assert arrived == [(1, b"one"), (1, b"another")]

    run_virtual(story)
