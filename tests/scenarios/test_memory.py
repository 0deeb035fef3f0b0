"""What a node at rest weighs: launcher, agent, gateway workers (issue 2's bounds)."""

from pathlib import Path

from tests.local_cluster import LocalCluster
from tests.nodes.node import rss_mb, show

BOUNDS_MB = {"launcher": 25, "agent": 120, "gateway_worker": 80}


def test_a_node_at_rest_stays_within_its_bounds(cluster: LocalCluster) -> None:
    for node in cluster.nodes().values():
        for pid in node.pids:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
            for role, bound in BOUNDS_MB.items():
                if f"meridian.nodes.{role}" in command:
                    weight = rss_mb(pid)
                    show(f"{node.name} {role}: {weight:.1f} MB")
                    assert weight < bound, (node.name, role)
