"""A store that was lost and begun anew on the same addresses: whoever watched the one before sees the new one."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path

from tests.etcd_cluster import EtcdCluster

from meridian.store.mirror import mirror
from meridian.store.port import Item

SEEN_SECONDS = 8.0  # a new connection, and two answers a second apart


async def first(views: AsyncGenerator[Mapping[str, Item], None]) -> Mapping[str, Item]:
    return await anext(views)


async def test_a_mirror_follows_a_store_whose_revisions_began_anew(tmp_path: Path) -> None:
    cluster = EtcdCluster(tmp_path, 1)
    cluster.start()
    try:
        await asyncio.to_thread(cluster.wait_healthy)
        store = cluster.store()
        for n in range(30):
            await store.put("/a/key", b"%d" % n)
        async with aclosing(mirror(store, "/a/")) as views:
            assert (await anext(views))["/a/key"].value == b"29"
            waiting = asyncio.get_running_loop().create_task(first(views))
            cluster.kill(0)
            shutil.rmtree(cluster.members[0].data_dir)
            cluster.start(0)
            await asyncio.to_thread(cluster.wait_healthy)
            async with asyncio.timeout(SEEN_SECONDS):
                assert await waiting == {}
        await store.close()
    finally:
        cluster.stop()
