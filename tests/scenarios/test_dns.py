"""DNS answers of the running cluster: nearest region first, from every node."""

import subprocess

from tests.local_cluster import LocalCluster, ask_dns

CLIENTS = {"eu-west": "192.0.2.0/24", "us-east": "198.51.100.0/24", "ap-south": "203.0.113.0/24"}


def test_each_server_answers_all_regions_with_the_client_s_first(cluster: LocalCluster) -> None:
    nodes = cluster.nodes()
    by_region = {node.region: node.host for node in nodes.values()}
    for server in nodes.values():
        for region, subnet in CLIENTS.items():
            answers = ask_dns(server.dns, "shop.gw.example.com", subnet=subnet)
            assert answers[0] == by_region[region]
            assert sorted(answers) == sorted(by_region.values())


def test_dig_gets_the_same(cluster: LocalCluster) -> None:
    node = next(iter(cluster.nodes().values()))
    host, _, port = node.dns.rpartition(":")
    for region, subnet in CLIENTS.items():
        command = ["dig", f"@{host}", "-p", port, "+short", f"+subnet={subnet}", "www.gw.example.com", "A"]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.split()
        expected = next(n.host for n in cluster.nodes().values() if n.region == region)
        assert lines[:2] == ["shop.gw.example.com.", expected]
