"""A store that was lost, and another one in its place on the same addresses: whoever watched the one before sees the
new one, whatever their revisions are."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.etcd_cluster import HOST, EtcdCluster
from tests.support import free_port

from meridian.store.etcd import EtcdStore
from meridian.store.mirror import mirror
from meridian.store.port import Item

SEEN_SECONDS = 8.0  # a new connection, and two answers a second apart


async def first(views: AsyncGenerator[Mapping[str, Item], None]) -> Mapping[str, Item]:
    return await anext(views)


@asynccontextmanager
async def mirrored(tmp_path: Path) -> AsyncIterator[tuple[EtcdCluster, "asyncio.Task[Mapping[str, Item]]"]]:
    """A store of one member at revision 31, and what a mirror of it shows next."""
    cluster = EtcdCluster(tmp_path, 1)
    cluster.start()
    try:
        await asyncio.to_thread(cluster.wait_healthy)
        store = cluster.store()
        await fill(store, 30)
        async with aclosing(mirror(store, "/a/")) as views:
            assert (await anext(views))["/a/key"].value == b"29"
            yield cluster, asyncio.get_running_loop().create_task(first(views))
        await store.close()
    finally:
        cluster.stop()


async def fill(store: EtcdStore, count: int, key: str = "/a/key") -> None:
    for n in range(count):
        await store.put(key, b"%d" % n)


async def begin_anew(cluster: EtcdCluster, count: int, token: str) -> None:
    """Puts a store of `count` revisions more in the place of the one before; nobody sees it before it has them."""
    cluster.kill(0)
    shutil.rmtree(cluster.members[0].data_dir)
    cluster.token, member = token, cluster.members[0]
    cluster.members[0] = replace(member, client_url=f"https://{HOST}:{free_port()}")
    cluster.start()
    await asyncio.to_thread(cluster.wait_healthy)
    aside = cluster.store()
    await fill(aside, count, "/b/key")
    await aside.close()
    cluster.kill(0)
    cluster.members[0] = member
    cluster.start()
    await asyncio.to_thread(cluster.wait_healthy)


async def test_a_mirror_follows_a_store_whose_revisions_began_anew(tmp_path: Path) -> None:
    async with mirrored(tmp_path) as (cluster, shown):
        await begin_anew(cluster, 0, cluster.token)
        async with asyncio.timeout(SEEN_SECONDS):
            assert await shown == {}


@pytest.mark.parametrize("token", ["the same", "another"])
async def test_a_mirror_follows_another_store_that_is_further_on(tmp_path: Path, token: str) -> None:
    """With another token it has another id. With the same one only the outage tells."""
    async with mirrored(tmp_path) as (cluster, shown):
        await begin_anew(cluster, 100, token if token == "another" else cluster.token)
        async with asyncio.timeout(SEEN_SECONDS):
            assert await shown == {}
