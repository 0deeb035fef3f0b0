"""What a node at rest weighs: launcher, agent, gateway workers (issue 2's bounds)."""

from tests.local_cluster import LocalCluster
from tests.nodes.node import pss_mb, show

BOUNDS_MB = {"launcher": 25, "agent": 120, "gateway": 80}


def test_a_node_at_rest_stays_within_its_bounds(cluster: LocalCluster) -> None:
    for node in cluster.nodes().values():
        weighed = {"launcher": node.pids[:1], "agent": node.pids_of("agent"), "gateway": node.pids_of("gateway")}
        assert [len(pids) for pids in weighed.values()] == [1, 1, 2]
        for role, bound in BOUNDS_MB.items():
            for pid in weighed[role]:
                weight = pss_mb(pid)
                show(f"{node.name} {role}: {weight:.1f} MB")
                assert weight < bound, (node.name, role)
