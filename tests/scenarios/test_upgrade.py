"""Every process of a node but the launcher is replaced, on the whole cluster, under load."""

import asyncio
import json

from tests.load import offered_load, shown
from tests.local_cluster import LocalCluster, LocalNode
from tests.scenarios.test_failures import answers_of, targets_of
from tests.support import wait_until

ROLES = ("agent", "gateway", "dns")


def pids_of(node: LocalNode) -> set[int]:
    return {pid for role in ROLES for pid in node.pids_of(role)}


async def test_an_upgraded_node_stays_in_dns_leads_no_request_astray_and_has_a_new_agent(cluster: LocalCluster) -> None:
    nodes = cluster.nodes()
    everyone = sorted(node.host for node in nodes.values())
    leader = next(node for node in nodes.values() if node.leader)
    before = pids_of(leader)
    with offered_load(targets_of(list(nodes.values())), seconds=60, rate=300, ca_file=cluster.ca_file) as load:
        await asyncio.sleep(2)  # the load runs evenly: what is looked at is an upgrade under load
        report = json.loads(
            (await asyncio.to_thread(cluster.run, "upgrade", leader.name, "--seconds", "5", "--json")).stdout
        )
        assert (report["state"], report["agent"], report["lost"]) == ("over", "replaced", 0)
        seen: list[list[str]] = []

        def is_settled() -> bool:
            seen.append(answers_of(leader))
            now = cluster.nodes()[leader.name]
            return len(pids_of(now)) == len(before) and not before & pids_of(now) and now.state == "serving"

        await wait_until(is_settled, within_seconds=15, what="all processes are new", every_seconds=0.2)
        assert all(answer == everyone for answer in seen if answer), "it was never left out"
        load.stop()
    assert load.tally.failed == 0, shown(load.tally)
    assert [node["standing"] for node in cluster.status()["nodes"]] == ["serving"] * 3
