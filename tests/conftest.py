"""Fixtures of all tests. Those that need the whole cluster ask for `cluster` and get it running."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.local_cluster import LocalCluster
from tests.scale import TIMES

# Tests that name their own number of examples keep it; the others are multiplied by scripts/prove.
# A deadline for each example would measure what else the machine does.
settings.register_profile("times", max_examples=100 * TIMES, print_blob=True, deadline=None)
settings.load_profile("times")


@pytest.fixture(scope="session")
def local_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """The one local cluster of this test run, in whatever state; it is down afterwards."""
    home: Path = tmp_path_factory.mktemp("cluster")
    cluster = LocalCluster(home)
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def cluster(local_cluster: LocalCluster) -> LocalCluster:
    """The local cluster with all nodes serving."""
    local_cluster.up()
    return local_cluster
