"""Zones' keys in the store: made once, moved on by the leader, told by operators, never in the clear."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.control.parts import KEYS, FlakyStore, running
from tests.simulation.virtual import run_virtual

from meridian.control.disk import NoDisk
from meridian.control.zone_keys import Keyring, KeysRefused, NotSigned, Wish, ZoneKeeper
from meridian.core.keyrolls import Exit, Phase, Role, Times
from meridian.store.port import Delete, Item, StoreUnavailable

ZONE = "gw.example.com."
TIMES = Times(keys_seconds=10, zone_seconds=30, parent_seconds=40, spread_seconds=5)
WISH = Wish(13, False, TIMES)
CLUSTER_KEY = bytes(range(32))


class MemoryDisk(NoDisk):
    """Keeps what is saved in memory."""

    def __init__(self) -> None:
        self.copies: dict[str, bytes] = {}

    async def save(self, name: str, content: bytes) -> None:
        self.copies[name] = content

    async def load(self, name: str) -> bytes | None:
        return self.copies.get(name)


class Desk:
    """One node's keeper; `fence` says under which term it leads, if it does."""

    def __init__(self, store: FlakyStore, fence: int | None, cluster_key: bytes = CLUSTER_KEY) -> None:
        self.store, self.fence, self.disk = store, fence, MemoryDisk()
        self.seen: list[Sequence[Keyring]] = []
        self.made = 0
        self.keeper = ZoneKeeper(
            store, KEYS, self.disk, cluster_key, generate=self.generate, fence=lambda: self.fence,
            wall_clock=asyncio.get_running_loop().time, changed=self.seen.append,
        )  # fmt: skip
        self.keeper.set_wishes({ZONE: WISH})

    def generate(self, algorithm: int) -> bytes:
        self.made += 1
        return f"private key {self.made} of {algorithm}".encode()

    def phase(self) -> Phase | None:
        ring = self.keeper.keyrings.get(ZONE)
        return ring.state.tracks[0].phase if ring is not None else None


async def leader(store: FlakyStore) -> Desk:
    return Desk(store, await store.put(KEYS.leader(), b"me"))


def new_store() -> FlakyStore:
    return FlakyStore(asyncio.get_running_loop().time)


def test_only_the_leader_makes_keys_once_and_every_node_has_them() -> None:
    async def story() -> None:
        store = new_store()
        first, other = await leader(store), Desk(store, None)
        async with running(other.keeper.run()):
            await asyncio.sleep(5)
            assert not other.keeper.keyrings and other.made == 0
            async with running(first.keeper.run()):
                await asyncio.sleep(5)
                ring = other.keeper.keyrings[ZONE]
                assert ring == first.keeper.keyrings[ZONE] and first.made == 1
                assert list(ring.private.values()) == [b"private key 1 of 13"]
                assert b"private key" not in repr(ring).encode()
        item = await store.get(KEYS.zone_key(ZONE))
        assert item is not None and b"private key" not in item.value
        assert b"private key" not in first.disk.copies["zone-keys"]

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
            assert await store.get(KEYS.zone_key(ZONE)) is None

    run_virtual(story)


def test_time_and_operators_move_a_rollover_on() -> None:
    async def story() -> None:
        store = new_store()
        desk, other = await leader(store), Desk(store, None)
        async with running(desk.keeper.run(), other.keeper.run()):
            await asyncio.sleep(3)
            with pytest.raises(KeysRefused, match="its csk is hidden"):
                await other.keeper.roll(ZONE, Role.CSK)
            with pytest.raises(NotSigned, match="has no keys"):
                await other.keeper.seen("other.example.")
            await asyncio.sleep(40)
            assert other.phase() is Phase.AWAITED
            await other.keeper.seen(ZONE)
            await other.keeper.roll(ZONE, Role.CSK)
            await asyncio.sleep(1)
            assert len(desk.keeper.keyrings[ZONE].private) == 2
            await asyncio.sleep(20)
            assert desk.phase() is Phase.OFFERED
            await desk.keeper.seen(ZONE)
            await asyncio.sleep(100)
            assert desk.phase() is Phase.STEADY
            assert list(desk.keeper.keyrings[ZONE].private.values()) == [b"private key 1 of 13"], "the other node's"

    run_virtual(story)


class RacingStore(FlakyStore):
    """While `race` is set, somebody else writes between a read and what follows it."""

    race = False

    async def get(self, key: str) -> Item | None:
        item = await super().get(key)
        if self.race and item is not None:
            await self.put(key, item.value)
        return item


def test_two_who_write_at_once_do_not_overwrite_each_other() -> None:
    async def story() -> None:
        desk = await leader(RacingStore(asyncio.get_running_loop().time))
        assert isinstance(desk.store, RacingStore)
        async with running(desk.keeper.run()):
            await asyncio.sleep(50)
            desk.store.race = True
            with pytest.raises(KeysRefused, match="at the same moment"):
                await desk.keeper.seen(ZONE)
            assert desk.phase() is Phase.AWAITED

    run_virtual(story)


def test_a_zone_is_signed_until_the_parent_let_go_and_its_keys_stay_if_it_leaves_the_document() -> None:
    async def story() -> None:
        desk = await leader(new_store())
        async with running(desk.keeper.run()):
            await asyncio.sleep(50)
            desk.keeper.set_wishes({})
            await asyncio.sleep(50)
            assert desk.keeper.keyrings[ZONE].state.exit is Exit.NONE, "the zone may come back by a rollback"
            desk.keeper.set_wishes({ZONE: None})
            await asyncio.sleep(500)
            assert desk.keeper.keyrings[ZONE].state.exit is Exit.ASKED
            await desk.keeper.gone(ZONE)
            await asyncio.sleep(44)
            assert ZONE in desk.keeper.keyrings
            await asyncio.sleep(4)
            assert not desk.keeper.keyrings and desk.seen[-1] == ()
            assert await desk.store.get(KEYS.zone_key(ZONE)) is None

    run_virtual(story)


def test_without_the_store_a_node_starts_with_the_keys_on_its_disk() -> None:
    async def story() -> None:
        store = new_store()
        desk = await leader(store)
        async with running(desk.keeper.run()):
            await asyncio.sleep(5)
        store.away = True
        again = Desk(store, None)
        again.disk = desk.disk
        again.keeper._disk = desk.disk
        await again.keeper.load()
        async with running(again.keeper.run()):
            await asyncio.sleep(5)
            assert again.keeper.keyrings == desk.keeper.keyrings
            with pytest.raises(StoreUnavailable):
                await again.keeper.seen(ZONE)

    run_virtual(story)


def test_keys_that_vanish_from_the_store_are_written_back() -> None:
    async def story() -> None:
        desk = await leader(new_store())
        async with running(desk.keeper.run()):
            await asyncio.sleep(50)
            ring = desk.keeper.keyrings[ZONE]
            await desk.store.txn([], [Delete(KEYS.zone_key(ZONE))])
            await asyncio.sleep(0.1)
            assert desk.keeper.keyrings == {ZONE: ring}
            await asyncio.sleep(3)
            assert await desk.store.get(KEYS.zone_key(ZONE)) is not None
            assert desk.keeper.keyrings == {ZONE: ring} and desk.made == 1

    run_virtual(story)


def test_keys_that_vanish_while_the_parent_is_only_asked_to_let_go_are_written_back() -> None:
    async def story() -> None:
        desk = await leader(new_store())
        async with running(desk.keeper.run()):
            await asyncio.sleep(50)
            desk.keeper.set_wishes({ZONE: None})
            await asyncio.sleep(3)
            ring = desk.keeper.keyrings[ZONE]
            assert ring.state.exit is Exit.ASKED
            await desk.store.txn([], [Delete(KEYS.zone_key(ZONE))])
            await asyncio.sleep(3)
            assert desk.keeper.keyrings == {ZONE: ring}
            assert await desk.store.get(KEYS.zone_key(ZONE)) is not None

    run_virtual(story)


def test_a_record_that_cannot_be_opened_leaves_the_keys_before_it(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        store = new_store()
        desk = await leader(store)
        stranger = Desk(store, None, bytes(32))
        async with running(desk.keeper.run(), stranger.keeper.run()):
            await asyncio.sleep(5)
            assert not stranger.keeper.keyrings and "another cluster key" in caplog.text
            await store.put(KEYS.zone_key("other.example."), b"{")
            await asyncio.sleep(5)
            assert set(desk.keeper.keyrings) == {ZONE} and "damaged" in caplog.text
        assert "private key" not in caplog.text

    run_virtual(story)
