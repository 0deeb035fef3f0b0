"""meridian doctor: what it says of a machine, of certificates, of a cluster's status and of a delegation, each broken
once."""

import contextlib
import dataclasses
import datetime
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from tests.cli.command import run
from tests.support import child_process, free_port, wait_until

from meridian.admin.status import CertificateStatus, NodeStatus, Status, StoreMember, StoreStatus
from meridian.cli.doctor import Finding
from meridian.cli.doctor_cluster import judged
from meridian.cli.doctor_dns import delegation
from meridian.cli.doctor_machine import certificate, machine
from meridian.nodes.settings import Settings
from meridian.pki import machine as pki
from meridian.pki.authority import Identity, addresses_of, create

NOW = datetime.datetime.now(datetime.UTC)
HOST = "127.0.0.1"


def only(found: Iterator[Finding], about: str) -> Finding:
    (one,) = [finding for finding in found if finding.about == about]
    return one


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    authority = create(tmp_path / "authority", "shop", NOW - datetime.timedelta(days=30))
    pki.keep(tmp_path / "node", authority, Identity("eu-1", addresses_of([HOST])), b"", NOW)
    return tmp_path / "node"


def judge(keys: Path, *, after_days: float = 0.0, address: str = HOST) -> Finding:
    now = NOW + datetime.timedelta(days=after_days)
    return certificate("peer", keys / "ca.pem", keys / "certificate.pem", keys / "private.key", now, address)


def test_a_good_certificate_is_in_order(keys: Path) -> None:
    assert judge(keys).level == "ok"


@pytest.mark.parametrize(
    ("days", "level", "message"),
    [(3.0, "ok", "good for 3 days"), (4.0, "warning", "should have been renewed"), (7.5, "error", "is over since"),
     (-1.0, "error", "not valid yet")],
)  # fmt: skip
def test_a_certificate_is_told_by_its_age(keys: Path, days: float, level: str, message: str) -> None:
    found = judge(keys, after_days=days)
    assert found.level == level and message in found.message
    assert found.level == "ok" or found.remedy


def test_a_certificate_that_peers_would_refuse_is_an_error(keys: Path, tmp_path: Path) -> None:
    assert "does not name 127.0.0.2" in judge(keys, address="127.0.0.2").message
    stranger = create(tmp_path / "stranger", "shop", NOW)
    (keys / "ca.pem").write_bytes(stranger.pem)
    assert "not of an authority" in judge(keys).message
    (keys / "private.key").write_bytes((tmp_path / "stranger/ca.key").read_bytes())
    assert "is not the key of" in judge(keys).message
    (keys / "private.key").chmod(0o644)
    assert judge(keys).remedy == f"chmod 600 {keys / 'private.key'}"


def settings(tmp_path: Path) -> Settings:
    return Settings("eu-1", "eu", address=HOST, advertise=(HOST,), dns_port=free_port(), admin_port=free_port(),
                    state=str(tmp_path))  # fmt: skip


def test_a_taken_port_is_told_with_who_may_hold_it(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, wanted.dns_port))
        found = [one for one in machine(wanted) if one.level == "error"]
    assert [one.about for one in found] == ["--dns-port"]
    assert f"ss -lunp 'sport = :{wanted.dns_port}'" in found[0].remedy
    assert not [one for one in machine(wanted) if one.level == "error"]


def test_an_address_of_another_machine_is_an_error(tmp_path: Path) -> None:
    found = only(machine(dataclasses.replace(settings(tmp_path), address="192.0.2.1")), "address")
    assert found.level == "error" and "192.0.2.1" in found.message


def status(**changed: object) -> Status:
    members = tuple(
        StoreMember(endpoint=f"https://10.0.0.{i}:2379", reachable=True, leader=i == 1, db_bytes=1, quota_bytes=100)
        for i in (1, 2, 3)
    )
    nodes = tuple(NodeStatus(name=f"eu-{i}", region="eu", standing="serving", software="1.0") for i in (1, 2))
    whole = Status(
        cluster="shop", node="eu-1", leader="eu-1", nodes=nodes, store=StoreStatus(reachable=True, members=members)
    )
    return whole.model_copy(update=changed)


def test_a_healthy_cluster_has_nothing_to_mend() -> None:
    assert {one.level for one in judged(status())} == {"ok"}


def changed_node(**values: object) -> Status:
    one, two = status().nodes
    return status(nodes=(one, two.model_copy(update=values)))


def with_certificate(state: Literal["valid", "missing"]) -> Status:
    one = CertificateStatus(hosts=("shop.example.com",), authority="a", state=state, reason="no proof")
    return status(certificates=(one,))


def changed_member(**values: object) -> Status:
    one, two, three = status().store.members
    return status(store=StoreStatus(reachable=True, members=(one, two, three.model_copy(update=values))))


@pytest.mark.parametrize(
    ("found", "level", "about", "message"),
    [
        (status(leader=""), "error", "leader", "none is heard"),
        (status(store=StoreStatus(reachable=False, detail="no quorum")), "error", "etcd", "no quorum"),
        (changed_member(reachable=False, detail="refused"), "error", "etcd https://10.0.0.3:2379", "refused"),
        (changed_member(alarms=("NOSPACE",)), "error", "etcd https://10.0.0.3:2379", "NOSPACE"),
        (changed_member(db_bytes=71), "warning", "etcd https://10.0.0.3:2379", "71%"),
        (changed_node(standing="withdrawn", reason="silent"), "error", "node eu-2", "silent"),
        (changed_node(standing="draining"), "warning", "node eu-2", "draining"),
        (changed_node(config_refused="no file"), "error", "node eu-2", "no file"),
        (changed_node(software="2.0"), "warning", "versions", "1 of 1.0, 1 of 2.0"),
        (changed_node(region="us"), "warning", "regions", "one node is all of eu, us"),
        (status(warnings=("a limit waits",)), "warning", "cluster", "a limit waits"),
        (with_certificate("missing"), "error", "certificate shop.example.com", "is missing: no proof"),
        (with_certificate("valid"), "warning", "certificate shop.example.com", "is not renewed: no proof"),
    ],
)
def test_each_thing_that_is_wrong_is_told_once_with_its_remedy(
    found: Status, level: str, about: str, message: str
) -> None:
    (one,) = [finding for finding in judged(found) if finding.level != "ok"]
    assert (one.level, one.about) == (level, about)
    assert message in one.message and one.remedy


PARENT = """\
$ORIGIN example.com.
@ 60 SOA ns hostmaster 1 60 60 60 60
@ 60 NS ns
ns 60 A 127.0.0.1
gw 60 NS ns1.gw
gw 60 NS ns2.gw
ns1.gw 60 A 127.0.0.1
ns2.gw 60 A 127.0.0.2
lonely 60 NS ns1.gw
"""
CHILD = """\
$ORIGIN gw.example.com.
@ 60 SOA ns1 hostmaster 1 60 60 60 60
@ 60 NS ns1
@ 60 NS {second}
ns1 60 A 127.0.0.1
ns2 60 A 127.0.0.2
"""


@pytest.mark.parametrize("second", ["ns2", "ns3"])
async def test_a_delegation_is_followed_to_every_server(tmp_path: Path, second: str) -> None:
    """The parent and one server of the zone are real (knot); the second server does not exist."""
    port = free_port()
    (tmp_path / "parent.zone").write_text(PARENT)
    (tmp_path / "child.zone").write_text(CHILD.format(second=second))
    host = {"parent": "127.0.0.3", "child": HOST}
    with contextlib.ExitStack() as stack:
        for name, zone in (("parent", "example.com"), ("child", "gw.example.com")):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "knot.conf").write_text(
                f"server:\n  listen: {host[name]}@{port}\n  rundir: {folder}\ndatabase:\n  storage: {folder}\n"
                f"zone:\n  - domain: {zone}\n    file: {tmp_path}/{name}.zone\n    storage: {folder}\n"
            )
            stack.enter_context(child_process("knotd", "-c", str(folder / "knot.conf")))

        def asked() -> list[Finding]:
            return list(delegation("gw.example.com", f"127.0.0.3:{port}"))

        await wait_until(lambda: any(one.level == "ok" for one in asked()), within_seconds=20, what="both answer")
        found = {one.about: one for one in asked()}
        assert found["name server ns1.gw.example.com (127.0.0.1)"].level == "ok"
        gone = found["name server ns2.gw.example.com (127.0.0.2)"]
        assert gone.level == "error" and "53/udp" in gone.remedy
        whole = found["delegation of gw.example.com"]
        assert whole.level == ("ok" if second == "ns2" else "warning"), whole
        lonely = [one for one in delegation("lonely.example.com", f"127.0.0.3:{port}") if one.level != "ok"]
        assert any("one name server only" in one.message for one in lonely)
        assert any("has no authority" in one.message for one in lonely)
        nothing = list(delegation("none.example.com", f"127.0.0.3:{port}"))
        assert [one.level for one in nothing] == ["error"] and "knows no name servers" in nothing[0].message


async def test_the_command_ends_with_1_and_says_what_is_next(tmp_path: Path) -> None:
    ran = await run("doctor", "--no-machine", state=tmp_path)
    assert ran.code == 1 and "error: admin API: no cluster to speak to" in ran.out and "next: " in ran.out
    flags = ["--name=eu-1", "--region=eu", "--advertise=192.0.2.1", "--dns-port=0", f"--admin-port={free_port()}"]
    ran = await run("doctor", "--no-cluster-state", "--json", *flags, state=tmp_path)
    assert '"about": "disk"' in ran.out
    ran = await run("doctor", "--no-cluster-state", "--nonsense", state=tmp_path)
    assert ran.code == 2 and "these are no flags of a node" in ran.err
