"""The member record in the store, whatever the store does."""

import asyncio
from dataclasses import replace

from tests.control.parts import KEYS, FlakyStore, running
from tests.simulation.virtual import run_virtual

from meridian.control.members import MemberRecord, encode, read_members
from meridian.control.membership import Membership
from meridian.store.embedded import EmbeddedStore
from meridian.store.port import Put

RECORD = MemberRecord("a", "a.1", "eu", ("192.0.2.1",))


async def stored(store: FlakyStore) -> MemberRecord | None:
    return read_members({item.key: item for item in (await store.list(KEYS.members())).items}).get("a")


def build() -> tuple[FlakyStore, Membership]:
    clock = asyncio.get_running_loop().time
    store = FlakyStore(clock)
    return store, Membership(store, KEYS, RECORD, clock)


def test_it_registers_stays_follows_changes_and_leaves() -> None:
    async def story() -> None:
        store, membership = build()
        async with running(membership.run()):
            await asyncio.sleep(0.1)
            assert await stored(store) == RECORD
            assert membership.epoch > 0
            membership.update(config_version=4)
            await asyncio.sleep(60)
            found = await stored(store)
            assert found is not None
            assert found.config_version == 4
            await membership.leave()
            await asyncio.sleep(5)
            assert await stored(store) is None

    run_virtual(story)


def test_a_lost_lease_is_replaced() -> None:
    async def story() -> None:
        store, membership = build()
        async with running(membership.run()):
            await asyncio.sleep(0.1)
            epoch = membership.epoch
            item = await store.get(KEYS.member("a.1"))
            assert item is not None
            await store.revoke_lease(item.lease)
            await asyncio.sleep(1.0)
            assert await stored(store) == RECORD
            assert membership.epoch > epoch

    run_virtual(story)


def test_its_epoch_does_not_fall_when_the_store_begins_anew() -> None:
    async def story() -> None:
        store, membership = build()
        for _ in range(20):
            await store.txn([], [Put("elsewhere", b"")])
        async with running(membership.run()):
            await asyncio.sleep(0.1)
            epoch = membership.epoch
            assert epoch > 20
            EmbeddedStore.__init__(store, asyncio.get_running_loop().time)
            await asyncio.sleep(10.0)
            assert await stored(store) == RECORD
            assert (await store.list(KEYS.members())).revision < epoch
            assert membership.epoch == epoch

    run_virtual(story)


def test_the_stores_absence_stops_nothing() -> None:
    async def story() -> None:
        store, membership = build()
        store.away = True
        async with running(membership.run()):
            await asyncio.sleep(10)
            store.away = False
            await asyncio.sleep(1.2)
            assert await stored(store) == RECORD
            store.away = True
            membership.update(draining=True)
            await asyncio.sleep(30)
            store.away = False
            await asyncio.sleep(1.2)
            found = await stored(store)
            assert found is not None
            assert found.draining

    run_virtual(story)


def test_an_older_write_that_lands_late_is_overwritten() -> None:
    async def story() -> None:
        store, membership = build()
        async with running(membership.run()):
            await asyncio.sleep(0.1)
            membership.update(config_version=5)
            await asyncio.sleep(0.1)
            late = await store.grant_lease(60)
            await store.txn([], [Put(KEYS.member("a.1"), encode(RECORD), late.id)])
            membership.observe(await store.get(KEYS.member("a.1")))
            await asyncio.sleep(0.1)
            item = await store.get(KEYS.member("a.1"))
            assert item is not None
            assert item.lease != late.id
            found = await stored(store)
            assert found is not None
            assert found.config_version == 5

    run_virtual(story)


def test_a_write_whose_answer_was_lost_is_repeated() -> None:
    async def story() -> None:
        store, membership = build()
        async with running(membership.run()):
            await asyncio.sleep(0.1)
            store.lose_answers = 1
            membership.update(seat=1)
            await asyncio.sleep(1.0)
            found = await stored(store)
            assert found is not None
            assert found.seat == 1

    run_virtual(story)


def test_a_node_with_no_protocol_in_common_stays_out_until_the_others_are_upgraded() -> None:
    async def story() -> None:
        store, membership = build()
        membership.update(software="9", protocols=(3, 4))
        other = MemberRecord("b", "b.1", "us", ("192.0.2.2",), software="8", protocols=(1, 2))
        await store.put(KEYS.member("b.1"), encode(other))
        async with running(membership.run()):
            await asyncio.sleep(5)
            assert await stored(store) is None
            assert "9 is too new" in membership.refused
            await store.put(KEYS.member("b.1"), encode(replace(other, protocols=(2, 3))))
            await asyncio.sleep(2.5)
            assert await stored(store) == membership.record
            assert membership.refused == ""

    run_virtual(story)


def test_a_node_that_restarts_is_not_compared_with_its_own_former_boot() -> None:
    async def story() -> None:
        store, membership = build()
        membership.update(protocols=(3, 4))
        former = MemberRecord("a", "a.0", "eu", ("192.0.2.1",), protocols=(1, 2))
        await store.put(KEYS.member("a.0"), encode(former))
        async with running(membership.run()):
            await asyncio.sleep(0.5)
            assert membership.epoch > 0

    run_virtual(story)
