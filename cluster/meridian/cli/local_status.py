"""How the local cluster stands, also when parts of it or all of it are dead: processes by their marks, the rest by
asking a node that lives."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meridian.cli import processes
from meridian.cli.client import AdminClient, Answered, Target, Unreachable
from meridian.cli.local_state import LocalCluster, LocalNode, LocalPaths

if TYPE_CHECKING:
    from meridian.admin.status import NodeStatus, Status


def local_status(paths: LocalPaths, cluster: LocalCluster) -> dict[str, Any]:
    """The answer of `meridian local status --json`; see ARCHITECTURE, section 8."""
    pids = {name: _pids(paths, name) for name in cluster.names()}
    status = _ask(paths, [node for node in cluster.nodes if pids[node.name]])
    seen = {node.name: node for node in status.nodes} if status else {}
    return {
        "nodes": [_node(node, pids[node.name], seen.get(node.name)) for node in cluster.nodes],
        "etcd": [
            {"name": member.name, "pid": next(iter(pids[member.name]), 0), "endpoint": member.endpoint}
            for member in cluster.etcd
        ],
        "services": [
            {"name": part.name, "region": part.region, "address": part.address, "pid": next(iter(pids[part.name]), 0)}
            for part in cluster.services
        ],
        "witnesses": [
            {
                "name": one.name,
                "region": one.region,
                "admin": one.admin,
                "pids": pids[one.name],
                "leader": bool(pids[one.name] and one.name in seen and seen[one.name].leader),
            }
            for one in cluster.witnesses
        ],
        "store": {
            "reachable": bool(status and status.store.reachable),
            "detail": status.store.detail if status else "",
        },
        "config_version": status.config_version if status else 0,
        "ca_file": str(paths.ca),
        "token_file": str(paths.token),
        # For tools that speak to etcd or to agents themselves; the demo's certificate is of another authority.
        "cluster_ca_file": str(paths.cluster_ca),
        "logs": str(paths.log("x").parent),
        "document": cluster.document,
    }


def _pids(paths: LocalPaths, name: str) -> list[int]:
    return processes.session_pids(processes.read_mark(paths.mark(name)))


def _node(node: LocalNode, pids: list[int], known: "NodeStatus | None") -> dict[str, Any]:
    state = "stopped" if not pids else known.standing if known and known.standing != "unknown" else "starting"
    return {
        "name": node.name,
        "region": node.region,
        "state": state,
        "leader": bool(pids and known and known.leader),
        "pids": pids,
        "addresses": list(known.addresses) if known and known.addresses else [node.address],
        "http": node.http,
        "https": node.https,
        "dns": node.dns,
        "admin": node.admin,
        "config_version": known.config_version if known else 0,
        "reason": known.reason if known else "",
    }


def _ask(paths: LocalPaths, nodes: list[LocalNode]) -> "Status | None":
    try:
        token = paths.token.read_text().strip()
        return AdminClient(Target(tuple(node.admin for node in nodes), token)).status()
    except (OSError, Unreachable, Answered):
        return None


def what_to_try(paths: LocalPaths, cluster: LocalCluster) -> Iterator[tuple[str, str]]:
    """Yields (what it shows, command): each can be pasted into a shell."""
    from meridian.cli.documents import parse, read_text

    path = Path(cluster.document)
    document = parse(path, read_text(path))
    first, second, *_ = cluster.nodes
    command = _own_name()
    if first.http:
        yield "HTTP/1.1", f"curl -i http://{first.http}/api/products"
    if first.https and document.certificates:
        host, port = document.certificates[0].hosts[0], first.https.rsplit(":", 1)[1]
        curl = f"curl -i --cacert {paths.ca} --resolve {host}:{port}:{first.address}"
        yield "HTTP/2", f"{curl} --http2 https://{host}:{port}/api/products"
        if any("h3" in listener.protocols for listener in document.listeners):
            yield "HTTP/3, by a curl that has it", f"{curl} --http3-only https://{host}:{port}/api/products"
    names = [f"{r.name}.{zone.name}" for zone in document.zones for r in zone.records if r.steer is not None]
    if names:
        host, port = first.dns.rsplit(":", 1)
        for region in document.regions:
            subnet = next((near for near in region.near if near[0].isdigit()), "")
            if subnet:
                yield (
                    f"DNS for a client near {region.name}",
                    f"dig @{host} -p {port} +short +subnet={subnet} {names[0]}",
                )
    yield "who serves, who leads", f"{command} status"
    yield "a node leaves; ask DNS again", f"{command} local stop {second.name}"
    yield "and comes back", f"{command} local start {second.name}"
    yield "a node is killed under load", f"{command} chaos run kill-node"
    yield "the end", f"{command} local down"


def _own_name() -> str:
    """How this command is typed: as `meridian` where the shell finds it, else by its path."""
    beside = Path(sys.executable).parent / "meridian"
    found = shutil.which("meridian")
    if found is not None and Path(found).resolve() == beside.resolve():
        return "meridian"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)
