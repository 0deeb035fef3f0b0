"""Shared secrets in the store (those of DNS cookies): made by the leader, the same for every node, never in the clear,
never lost."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.control.parts import KEYS, FlakyStore, running
from tests.control.test_zone_keys import CLUSTER_KEY, MemoryDisk
from tests.simulation.virtual import run_virtual

from meridian.control.shared_secrets import DNS_COOKIES, TLS_TICKETS, SecretKeeper
from meridian.core.shared_secrets import KEPT_SECONDS, ROTATE_SECONDS, STAGED_SECONDS
from meridian.store.port import Delete


class Desk:
    """One node's keeper; `fence` says under which term it leads, if it does. `held`: what its workers hold."""

    def __init__(self, store: FlakyStore, fence: int | None, cluster_key: bytes = CLUSTER_KEY) -> None:
        self.fence, self.disk = fence, MemoryDisk()
        self.held: Sequence[bytes] = ()
        self.changes = 0
        self.keeper = SecretKeeper(
            DNS_COOKIES, store, KEYS, self.disk, cluster_key, fence=lambda: self.fence,
            wall_clock=asyncio.get_running_loop().time, changed=self.changed,
        )  # fmt: skip

    def changed(self, secrets: Sequence[bytes]) -> None:
        self.held, self.changes = secrets, self.changes + 1


async def leader(store: FlakyStore) -> Desk:
    return Desk(store, await store.put(KEYS.leader(), b"me"))


def new_store() -> FlakyStore:
    return FlakyStore(asyncio.get_running_loop().time)


def test_every_node_has_the_leader_s_secret_and_follows_its_change() -> None:
    async def story() -> None:
        store = new_store()
        first, other = await leader(store), Desk(store, None)
        async with running(other.keeper.run()):
            await asyncio.sleep(5)
            assert not other.held
            async with running(first.keeper.run()):
                await asyncio.sleep(5)
                (old,) = other.held
                assert len(old) == 16 and first.held == [old] and other.changes == 1
                await asyncio.sleep(ROTATE_SECONDS)
                _, new = other.held
                assert other.held == [old, new], "known, and not used yet"
                await asyncio.sleep(STAGED_SECONDS)
                assert other.held == first.held == [new, old]
                await asyncio.sleep(KEPT_SECONDS)
                assert other.held == first.held == [new]
        item = await store.get(KEYS.shared_secrets("dns-cookies"))
        assert item is not None and new not in item.value and b"sealed" in item.value
        assert new not in other.disk.copies["dns-cookies"]

    run_virtual(story)


def test_a_term_that_is_over_writes_nothing() -> None:
    async def story() -> None:
        store = new_store()
        old = await leader(store)
        await store.txn([], [])
        assert old.fence is not None
        old.fence -= 1
        async with running(old.keeper.run()):
            await asyncio.sleep(5)
        assert await store.get(KEYS.shared_secrets("dns-cookies")) is None and not old.held

    run_virtual(story)


def test_without_the_store_what_is_held_goes_on_also_after_a_start() -> None:
    async def story() -> None:
        store = new_store()
        desk = await leader(store)
        async with running(desk.keeper.run()):
            await asyncio.sleep(5)
            store.away = True
            await asyncio.sleep(ROTATE_SECONDS + 5)
            assert len(desk.held) == 1 and desk.changes == 1, "a secret that others cannot learn is not made"
        again = Desk(store, None)
        again.disk.copies = dict(desk.disk.copies)
        await again.keeper.load()
        assert again.held == desk.held
        store.away = False
        async with running(desk.keeper.run(), again.keeper.run()):
            await asyncio.sleep(5 + STAGED_SECONDS)
            assert again.held == desk.held and len(desk.held) == 2

    run_virtual(story)


def test_a_secret_that_vanished_or_was_damaged_is_written_back() -> None:
    async def story() -> None:
        store = new_store()
        desk, other = await leader(store), Desk(store, None)
        async with running(desk.keeper.run()):
            await asyncio.sleep(5)
            held = desk.held
            await store.txn([], [Delete(KEYS.shared_secrets("dns-cookies"))])
            await asyncio.sleep(5)
            await store.put(KEYS.shared_secrets("dns-cookies"), b"{")
            await asyncio.sleep(5)
            async with running(other.keeper.run()):
                await asyncio.sleep(1)
                assert other.held == desk.held == held and desk.changes == 1

    run_virtual(story)


def test_each_kind_has_its_own() -> None:
    async def story() -> None:
        store = new_store()
        desk = await leader(store)
        held: list[Sequence[bytes]] = []
        tickets = SecretKeeper(
            TLS_TICKETS, store, KEYS, desk.disk, CLUSTER_KEY, fence=lambda: desk.fence,
            wall_clock=asyncio.get_running_loop().time, changed=held.append,
        )  # fmt: skip
        async with running(desk.keeper.run(), tickets.run()):
            await asyncio.sleep(5)
        ((secret,),) = held
        assert len(secret) == 32 and [len(one) for one in desk.held] == [16]
        assert set(desk.disk.copies) == {"dns-cookies", "tls-tickets"}

    run_virtual(story)


def test_what_cannot_be_opened_or_read_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        store = new_store()
        desk, stranger = await leader(store), Desk(store, None, bytes(32))
        async with running(desk.keeper.run(), stranger.keeper.run()):
            await asyncio.sleep(60)
            assert not stranger.held
            assert caplog.text.count("another cluster key") == 1, "said once"
        for content in (b"{", b'{"secrets": [{"id": "x", "made_at": 1}], "sealed": {}}', b"[]"):
            stranger.disk.copies["dns-cookies"] = content
            await stranger.keeper.load()
        assert not stranger.held

    run_virtual(story)
