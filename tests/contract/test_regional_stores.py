"""Two real etcd clusters: one of a region, with its members, and a global one, with all the rest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.control.parts import probe
from tests.etcd_cluster import EtcdCluster
from tests.support import wait_until

from meridian.control.driver import ControlPlane
from meridian.control.identity import Identity, Settings
from meridian.control.peers import NoPeers
from meridian.store.embedded import EmbeddedStore
from meridian.store.etcd import EtcdStore
from meridian.store.keys import Keys
from meridian.store.port import Store


@asynccontextmanager
async def running(plane: ControlPlane) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(plane.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def build(name: str, region: str, world: Store, near: Store, keys: Keys) -> ControlPlane:
    identity = Identity(name, region, "1", ("192.0.2.1",))
    clock = asyncio.get_running_loop().time
    return ControlPlane(
        world, keys, identity, Settings(limit_nodes=2), NoPeers(), clock=clock, probe_endpoint=probe, regional=near
    )


def known(plane: ControlPlane) -> set[str]:
    return {member.name for member in plane.status().members}


async def keys_below(store: Store, prefix: str) -> list[str]:
    return [item.key for item in (await store.list(prefix, keys_only=True)).items]


async def test_each_store_holds_its_part_and_the_loss_of_one_leaves_the_other(
    etcd: EtcdStore, etcd_cluster: EtcdCluster, tmp_path: Path
) -> None:
    keys = Keys("two-stores")
    regional = EtcdCluster(tmp_path, 1)
    regional.start()
    try:
        await asyncio.to_thread(regional.wait_healthy)
        near, again = regional.store(), etcd_cluster.store()
        eu = build("eu-1", "eu", etcd, near, keys)
        us = build("us-1", "us", again, EmbeddedStore(asyncio.get_running_loop().time), keys)
        async with running(eu), running(us):
            await wait_until(lambda: known(eu) == known(us) == {"eu-1", "us-1"}, within_seconds=10, what="all known")
            await wait_until(lambda: bool(us.status().leader), within_seconds=10, what="somebody leads")
            assert await keys_below(near, keys.root())
            assert not [key for key in await keys_below(near, keys.root()) if key.startswith(keys.leader())]
            assert not await keys_below(etcd, keys.members())
            assert not await keys_below(near, keys.limits())  # their bound is over all nodes of the cluster
            assert await keys_below(etcd, keys.rosters()) == [keys.roster("eu"), keys.roster("us")]
            regional.kill(0)
            await wait_until(
                lambda: (found := eu.status().regional) is not None and not found.reachable,
                within_seconds=10, what="the loss is seen",
            )  # fmt: skip
            status = eu.status()
            assert status.store.reachable
            assert any("start this member again" in warning for warning in status.upkeep)
            assert known(eu) == known(us) == {"eu-1", "us-1"}
            assert us.status().leader
        await near.close()
        await again.close()
    finally:
        regional.stop()
