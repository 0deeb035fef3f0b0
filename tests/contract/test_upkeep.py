"""A real etcd that runs full, and what is done about it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.etcd_cluster import EtcdCluster
from tests.support import wait_until

from meridian.control.upkeep import Upkeep
from meridian.store.embedded import EmbeddedStore
from meridian.store.etcd import EtcdStore
from meridian.store.keys import Keys
from meridian.store.port import Housekept, Refused, StoreUnavailable

KEYS = Keys("full")
QUOTA = 8 * 1024 * 1024
WRITE_BYTES = 500_000


@pytest_asyncio.fixture
async def small(tmp_path: Path) -> AsyncIterator[tuple[EtcdCluster, EtcdStore]]:
    """One member that stops taking writes at 8 MiB."""
    cluster = EtcdCluster(tmp_path, 1, quota_bytes=QUOTA)
    cluster.start()
    try:
        await asyncio.to_thread(cluster.wait_healthy)
        store = cluster.store()
        yield cluster, store
        await store.close()
    finally:
        cluster.stop()


async def test_a_full_store_says_so_with_the_remedy_which_helps(small: tuple[EtcdCluster, EtcdStore]) -> None:
    _, store = small
    loop = asyncio.get_running_loop()
    upkeep = Upkeep(store, KEYS, loop.time, lambda: True, quota_bytes=QUOTA, window_seconds=0.0, round_seconds=0.1)
    with pytest.raises(Refused, match="NOSPACE"):
        for n in range(64):  # the history of one key is what fills it
            await store.put(KEYS.drain("x"), bytes([n]) * WRITE_BYTES)
    health = await store.health()
    assert health.members[0].alarms == ("NOSPACE",)
    assert health.members[0].leads
    # etcd refuses the write that would go beyond it; how far those before went depends on when it counted.
    assert health.members[0].db_bytes + WRITE_BYTES > QUOTA
    (warning,) = upkeep.warnings(health)
    assert "meridian store defrag" in warning
    running = loop.create_task(upkeep.run())  # which compacts, and of one member does no more by itself
    try:

        async def made_small() -> bool:  # what is forgotten is freed a moment later
            (done,) = await upkeep.defragment()
            return done.after_bytes < QUOTA / 2

        made: bool = await wait_until(made_small, within_seconds=10, what="the file is small again")
        assert made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert upkeep.warnings(await store.health()) == ()
    await store.put(KEYS.drain("x"), b"written again")


async def test_what_is_written_is_counted_and_what_is_read_is_not(etcd: EtcdStore) -> None:
    before = (await etcd.health()).writes
    lease = await etcd.grant_lease(10)
    await etcd.put(KEYS.drain("x"), b"", lease=lease.id)
    await etcd.keep_alive(lease.id)
    await etcd.get(KEYS.drain("x"))
    await etcd.list(KEYS.drains())
    await etcd.revoke_lease(lease.id)
    assert (await etcd.health()).writes - before == 4


async def test_sizes_of_all_members_are_known_and_one_of_them_leads(etcd: EtcdStore) -> None:
    members = (await etcd.health()).members
    assert len(members) == 3
    assert [member.leads for member in members].count(True) == 1
    assert all(0 < member.used_bytes <= member.db_bytes and not member.alarms for member in members)


async def test_a_member_that_is_not_ours_or_does_not_answer_is_named(
    etcd_cluster: EtcdCluster, etcd: EtcdStore
) -> None:
    with pytest.raises(Refused, match="is not a member that this node was given"):
        await etcd.defragment("https://127.0.0.1:1")
    etcd_cluster.kill(2)
    try:
        gone = etcd_cluster.members[2].client_url
        down = next(member for member in (await etcd.health()).members if member.endpoint == gone)
        assert (down.reachable, down.leads, down.db_bytes) == (False, False, 0)
        with pytest.raises(StoreUnavailable, match="was not defragmented"):
            await etcd.defragment(gone)
    finally:
        etcd_cluster.start(2)
        await asyncio.to_thread(etcd_cluster.wait_healthy)


async def test_both_stores_are_kept_house_for() -> None:
    assert isinstance(EmbeddedStore(lambda: 0.0), Housekept)
    assert issubclass(EtcdStore, Housekept)
