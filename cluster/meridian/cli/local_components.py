"""Which processes the local cluster consists of: their command lines, and the ports they need. Starts nothing."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import meridian
from meridian.cli import local_probe
from meridian.cli.errors import Mistake
from meridian.cli.local_state import (
    ADMIN_PORT,
    CLUSTER,
    DNS_PORT,
    PEER_PORT,
    SERVICE_PORTS,
    LocalCluster,
    LocalEtcd,
    LocalNode,
    LocalPaths,
    LocalServices,
    LocalWitness,
)

CHECKOUT = Path(meridian.__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Component:
    """One process of the local cluster. `ports_taken` says which of its ports somebody else holds."""

    name: str
    command: tuple[str, ...]
    ports_taken: Callable[[], list[str]]


def demo_file(name: str) -> Path:
    """A file of examples/. Raises Mistake when Meridian was installed without its checkout."""
    path = CHECKOUT / "examples" / name
    if not path.exists():
        raise Mistake(f"there is no {path}", "the demo runs from a checkout of the repository; or give --document FILE")
    return path


def geo_file() -> Path:
    """Where scripts/fetch-geo puts country data; everything runs without it."""
    return CHECKOUT / "geo" / "country.mmdb"


def components(paths: LocalPaths, cluster: LocalCluster) -> list[Component]:
    """What runs, in the order in which it is started."""
    found = [_etcd_component(paths, cluster, member) for member in cluster.etcd]
    found += [_services_component(cluster, services) for services in cluster.services]
    found += [_node_component(paths, cluster, node) for node in cluster.nodes]
    return found + [_witness_component(paths, cluster, witness) for witness in cluster.witnesses]


def _etcd_component(paths: LocalPaths, cluster: LocalCluster, member: LocalEtcd) -> Component:
    from meridian.store.etcd_server import EtcdFiles, EtcdMember, etcd_command

    program = shutil.which("etcd")
    if program is None:
        raise Mistake("etcd is not installed", "as root: apt-get install etcd-server (scripts/up does it by itself)")
    members = {
        other.name: EtcdMember(
            other.name,
            other.endpoint,
            other.peer_url,
            paths.data(other.name),
            EtcdFiles(paths.cluster_ca, paths.certificate(other.name), paths.key(other.name)),
        )
        for other in cluster.etcd
    }
    command = etcd_command(members[member.name], list(members.values()), "meridian-local", program=program)

    def ports_taken() -> list[str]:
        ports = (int(url.rsplit(":", 1)[1]) for url in (member.endpoint, member.peer_url))
        return [reason for port in ports if (reason := local_probe.taken(member.address, port))]

    return Component(member.name, tuple(command), ports_taken)


def _services_component(cluster: LocalCluster, services: LocalServices) -> Component:
    command = (sys.executable, cluster.services_file, f"{services.region}={services.address}")

    def ports_taken() -> list[str]:
        return [reason for port in SERVICE_PORTS if (reason := local_probe.taken(services.address, port))]

    return Component(services.name, command, ports_taken)


def _node_component(paths: LocalPaths, cluster: LocalCluster, node: LocalNode) -> Component:
    flags = _common_flags(paths, cluster, node) | {
        "advertise": node.address,
        "workers": str(cluster.workers),
        "dns-port": str(DNS_PORT),
        "limit-nodes": str(cluster.limit_nodes),
    }
    if geo_file().exists():
        flags["geo-file"] = str(geo_file())
    return Component(node.name, _launch(flags), lambda: local_probe.node_ports_taken(node))


def _witness_component(paths: LocalPaths, cluster: LocalCluster, witness: LocalWitness) -> Component:
    def ports_taken() -> list[str]:
        ports = (ADMIN_PORT, PEER_PORT)
        return [reason for port in ports if (reason := local_probe.taken(witness.address, port))]

    return Component(witness.name, (*_launch(_common_flags(paths, cluster, witness)), "--witness"), ports_taken)


def _common_flags(paths: LocalPaths, cluster: LocalCluster, node: LocalNode | LocalWitness) -> dict[str, str]:
    """What every node is told, whether it serves or not."""
    return {
        "name": node.name,
        "region": node.region,
        "cluster": CLUSTER,
        "etcd": ",".join(member.endpoint for member in cluster.etcd),
        "etcd-ca": str(paths.cluster_ca),
        "etcd-cert": str(paths.certificate(node.name)),
        "etcd-key": str(paths.key(node.name)),
        "address": node.address,
        "admin-host": node.address,
        "admin-port": str(ADMIN_PORT),
        "peer-port": str(PEER_PORT),
        "peer-ca": str(paths.cluster_ca),
        "peer-cert": str(paths.certificate(node.name)),
        "peer-key": str(paths.key(node.name)),
        "state": str(paths.data(node.name)),
        "cluster-key-file": str(paths.cluster_key),
        "token-file": str(paths.token),
    }


def _launch(flags: dict[str, str]) -> tuple[str, ...]:
    words = (f"--{name}={value}" for name, value in flags.items())
    return (sys.executable, "-m", "meridian.nodes.launcher", *words)
