"""DNS answers of the running cluster: nearest region first, from every node; measured distances; shared cookies."""

import json
import subprocess

import dns.edns
import dns.message
import dns.query
from tests.local_cluster import LocalCluster, ask_dns
from tests.support import wait_until

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


async def test_nodes_measure_how_far_the_other_regions_are(cluster: LocalCluster) -> None:
    def both_are_told() -> bool:
        told = json.loads(cluster.run("explain", "dns", "quick.gw.example.com", "--json").stdout)
        texts: list[str] = [step["text"] for step in told["steps"]]
        return sum(text.count(", measured and so for ") for text in texts) == 2

    # Five probes at half a second, a report, a verdict.
    await wait_until(both_are_told, within_seconds=30, what="distances of both other regions")


def cookie_of(server: str, cookie: bytes) -> bytes:
    """The cookie that a server gives to who shows `cookie`."""
    host, _, port = server.rpartition(":")
    option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)
    query = dns.message.make_query("shop.gw.example.com", "A", options=[option])
    answer = dns.query.udp(query, host, timeout=5, port=int(port), source="127.0.0.1")
    (given,) = (option for option in answer.options if option.otype == 10)
    return given.to_wire() or b""


async def test_a_cookie_of_one_server_is_valid_on_the_others(cluster: LocalCluster) -> None:
    servers = [node.dns for node in cluster.nodes().values()]

    def one_for_all() -> bool:
        given = cookie_of(servers[0], b"client's")
        return all(cookie_of(server, given) == given for server in servers)

    await wait_until(one_for_all, within_seconds=20, what="one secret of cookies on all nodes")
