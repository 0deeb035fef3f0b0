"""A zone of the running cluster is signed, believed by a validator, signed at once after a crash, unsigned again."""

import json
import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rdatatype
import dns.rrset
from tests.local_cluster import LocalCluster, LocalNode
from tests.support import wait_until

ZONE = "gw.example.com"
SIGNED_SECONDS = 10.0  # a tick of the leader, a write, a watch on each node; with room for a busy machine


def ask(node: LocalNode, name: str, type_: str) -> list[dns.rrset.RRset] | None:
    """The answer with signatures, None while nobody answers."""
    host, _, port = node.dns.rpartition(":")
    query = dns.message.make_query(name, type_, want_dnssec=True)
    try:
        return dns.query.udp(query, host, port=int(port), timeout=0.5).answer
    except (OSError, dns.exception.Timeout):
        return None


def is_signed(answer: list[dns.rrset.RRset] | None) -> bool:
    return any(rrset.rdtype == dns.rdatatype.RRSIG for rrset in answer or ())


def delv(node: LocalNode, anchors: Path, name: str, type_: str) -> str:
    host, _, port = node.dns.rpartition(":")
    command = ["delv", f"@{host}", "-p", port, "-a", str(anchors), f"+root={ZONE}", f"{name}.{ZONE}.", type_]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return f"{done.stdout}{done.stderr}"


async def has_keys(nodes: Iterable[LocalNode], *, signed: bool = True) -> None:
    """Waits until all nodes answer the zone's keys, or none."""
    for node in nodes:

        def stands(node: LocalNode = node) -> bool:
            answer = ask(node, f"{ZONE}.", "DNSKEY")
            return answer is not None and is_signed(answer) is signed

        await wait_until(stands, within_seconds=SIGNED_SECONDS, what=f"{node.name} signed: {signed}")


async def test_a_zone_is_signed_by_all_nodes_alike(cluster: LocalCluster, tmp_path: Path) -> None:
    source = cluster.document.read_text()
    document = tmp_path / "signed.yaml"
    document.write_text(source.replace(f"  - name: {ZONE}\n", f"  - name: {ZONE}\n    dnssec: {{algorithm: 13}}\n"))
    assert document.read_text() != source
    try:
        cluster.run("apply", "--now", str(document))
        nodes = list(cluster.nodes().values())
        await has_keys(nodes)
        assert len({str(ask(node, f"about.{ZONE}.", "TXT")) for node in nodes}) == 1, "signatures are the same bytes"
        keys = json.loads(cluster.run("dns", "keys", "show", ZONE, "--json").stdout)
        key = keys["keys"][0]["dnskey"].split(maxsplit=3)
        anchors = tmp_path / "anchors"
        anchors.write_text(f'trust-anchors {{ {ZONE}. static-key {" ".join(key[:3])} "{key[3]}"; }};\n')
        for node in nodes:
            assert "; fully validated" in delv(node, anchors, "shop", "A")
            assert "; negative response, fully validated" in delv(node, anchors, "missing", "A")
        early = cluster.run("dns", "ds", ZONE, check=False)
        assert early.returncode == 1 and "wait until" in early.stderr
        restarted = next(node for node in nodes if not node.leader)
        for pid in restarted.pids[1:]:
            os.kill(pid, signal.SIGKILL)
        answers: list[list[dns.rrset.RRset]] = []

        def answers_again() -> bool:
            answer = ask(restarted, f"about.{ZONE}.", "TXT")
            answers.extend([] if answer is None else [answer])
            return bool(answers)

        await wait_until(answers_again, within_seconds=30, what=f"{restarted.name} answers again")
        assert is_signed(answers[0]), "it has its keys before it answers"
    finally:
        cluster.run("apply", "--now", str(cluster.document))
    await has_keys(cluster.nodes().values(), signed=False)
