"""One etcd cluster for the whole session, and a store of each kind for each test that asks for `store`."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.etcd_cluster import EtcdCluster

from meridian.store.embedded import EmbeddedStore
from meridian.store.etcd import EtcdStore
from meridian.store.port import Store


@pytest.fixture(scope="session")
def etcd_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """Three members with TLS on both sides. Whoever kills a member starts it again and waits until it is healthy."""
    cluster = EtcdCluster(Path(tmp_path_factory.mktemp("etcd")))
    try:
        cluster.start()
        cluster.wait_healthy()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(params=["embedded", "etcd"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    made: Store
    if request.param == "embedded":
        made = EmbeddedStore(asyncio.get_running_loop().time)
    else:
        made = request.getfixturevalue("etcd_cluster").store()
    yield made
    await made.close()


@pytest.fixture
async def etcd(etcd_cluster: EtcdCluster) -> AsyncIterator[EtcdStore]:
    made = etcd_cluster.store()
    yield made
    await made.close()


@pytest.fixture
def prefix() -> str:
    """A prefix of this test's own: the cluster is shared."""
    return f"/test/{uuid.uuid4()}/"
