"""A zone of the running cluster at a real secondary, and at each of the three nodes by transfer."""

from pathlib import Path
from typing import Any

import yaml
from tests.dns.secondary import KEY_NAME, SECRET, whole
from tests.dns.test_secondary import rows
from tests.local_cluster import LocalCluster

ZONE = "gw.example.com"


def test_every_node_gives_the_same_copy(cluster: LocalCluster, tmp_path: Path) -> None:
    """Under the key alone; a change by `apply` is in all copies, at one serial."""
    nodes = cluster.nodes().values()
    document: dict[str, Any] = yaml.safe_load(cluster.document.read_text())
    for region, node in zip(document["regions"], nodes, strict=True):
        region["addresses"] = [node.host]
    document["tsig_keys"] = [{"name": KEY_NAME, "algorithm": "hmac-sha512", "secret_file": "ns2.key"}]
    document["zones"][0]["secondaries"] = [{"networks": ["127.0.0.0/8"], "tsig_key": KEY_NAME}]
    document.pop("certificates")
    document["listeners"] = [one for one in document["listeners"] if one["protocols"] == ["h1"]]
    (tmp_path / "ns2.key").write_bytes(SECRET)
    serials = []
    for text in ("one", "two"):
        next(one for one in document["zones"][0]["records"] if one["name"] == "about")["value"] = text
        (tmp_path / "document.yaml").write_text(yaml.safe_dump(document))
        cluster.run("apply", "--now", "--force", str(tmp_path / "document.yaml"))
        copies = [whole(ZONE, int(node.dns.rpartition(":")[2]), host=node.host, signed="hmac-sha512") for node in nodes]
        assert rows(copies[0]) == rows(copies[1]) == rows(copies[2])
        assert {str(rdata) for rdata in copies[0].find_rdataset("shop", "A")} == {node.host for node in nodes}
        assert str(copies[0].find_rdataset("about", "TXT")[0]) == f'"{text}"'
        serials.append(copies[0].get_soa().serial)
    assert serials[1] == serials[0] + 1
    assert SECRET.decode() not in cluster.run("get").stdout
    cluster.run("apply", "--now", "--force", str(cluster.document))
