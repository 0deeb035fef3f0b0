"""Whether the local cluster serves, and what is missing, in words for people. Brings the document in when it is due."""

import hashlib
from dataclasses import dataclass

from meridian.admin.status import Status
from meridian.cli import local_probe
from meridian.cli.client import AdminClient, Answered, Target, Unreachable
from meridian.cli.documents import DocumentFiles
from meridian.cli.local_state import SERVICE_PORTS, LocalCluster, LocalPaths, LocalWitness, write_whole


@dataclass(frozen=True, slots=True)
class Missing:
    """What does not serve yet, in words. `refused`: every node has refused the document, so waiting will not help."""

    reasons: tuple[str, ...] = ()
    refused: bool = False


class Applying:
    """The document on its way into the cluster: done once, by digest, and asked for until it is."""

    def __init__(self, paths: LocalPaths, cluster: LocalCluster, content: DocumentFiles) -> None:
        self._paths = paths
        self._content = content
        self.client = AdminClient(
            Target(tuple(node.admin for node in cluster.nodes), paths.token.read_text()), timeout_seconds=5.0
        )
        self._digest = _digest(content)
        self.zone = content.document.zones[0].name if content.document.zones else ""

    def missing(self, status: "Status") -> str:
        """Applies the document if that is due. Why it is not current yet; empty if it is."""
        if status.config_version and self._applied() == self._digest:
            return ""
        body = self._content.to_request() | {"author": "meridian local up", "message": str(self._content.path)}
        try:
            # The local cluster is a place to try things: a document that removes most of the last one is meant.
            self.client.send("PUT", "/v1/config", body | {"force": True})
        except Answered as error:
            if error.status not in (409, 503):
                raise
            return error.message
        write_whole(self._paths.applied, self._digest.encode())
        return "every node takes the document"

    def _applied(self) -> str:
        try:
            return self._paths.applied.read_text()
        except OSError:
            return ""


def _digest(content: DocumentFiles) -> str:
    parts = [
        content.text.encode(),
        *(part for name in sorted(content.files) for part in (name.encode(), content.files[name])),
    ]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def missing(paths: LocalPaths, cluster: LocalCluster, applying: Applying) -> Missing:
    """What does not serve yet; each stage is looked at only when the one before it is complete."""
    found = [local_probe.etcd_healthy(paths, member) for member in cluster.etcd]
    found += [
        local_probe.http_answers(f"{services.address}:{port}", "/healthz")
        for services in cluster.services
        for port in SERVICE_PORTS
    ]
    if any(found):
        return Missing(tuple(reason for reason in found if reason))
    try:
        status = applying.client.status()
        if not status.store.reachable:
            return Missing((f"{status.node} does not reach the store: {status.store.detail}",))
        if reason := applying.missing(status):
            return Missing((reason,))
    except Unreachable as error:
        return Missing((error.message, *error.details))
    if unready := _unready(cluster, status):
        late = [node for node in status.nodes if node.config_version < status.config_version]
        refused = len(late) == len(cluster.nodes) and all(node.config_refused for node in late)
        return Missing(tuple(unready), refused)
    return Missing(tuple(local_probe.silent_ports(cluster, applying.zone)))


def _unready(cluster: LocalCluster, status: Status) -> list[str]:
    """Which nodes the cluster itself does not judge to be serving the current document."""
    seen = {node.name: node for node in status.nodes}
    found = []
    for node in cluster.nodes:
        known = seen.get(node.name)
        if known is None:
            found.append(f"{node.name} has not joined yet")
        elif known.config_version < status.config_version:
            refusal = f"; it refused: {known.config_refused}" if known.config_refused else ""
            found.append(f"{node.name} has version {known.config_version} of {status.config_version}{refusal}")
        elif known.standing != "serving":
            found.append(f"{node.name} is {known.standing}{': ' + known.reason if known.reason else ''}")
    found += [f"{one.name} has not joined yet" for one in cluster.witnesses if one.name not in seen]
    if not found and not status.leader:
        found.append("no leader is elected yet")
    return found


def missing_one(paths: LocalPaths, cluster: LocalCluster, name: str) -> str:
    """Why this part does not serve yet; empty if it does."""
    for member in cluster.etcd:
        if member.name == name:
            return local_probe.etcd_healthy(paths, member)
    for services in cluster.services:
        if services.name == name:
            return local_probe.http_answers(f"{services.address}:{SERVICE_PORTS[0]}", "/healthz")
    for witness in cluster.witnesses:
        if witness.name == name:
            return _absent_witness(paths, witness)
    node = next(node for node in cluster.nodes if node.name == name)
    alone = LocalCluster((node,), (), (), cluster.document, "", cluster.workers)
    unready: list[str] = []
    # Every node that answers is asked: a client may ask any of them next, and their verdicts differ for a moment.
    for asked in cluster.nodes:
        try:
            status = AdminClient(Target((asked.admin,), paths.token.read_text())).status()
        except (Unreachable, Answered) as error:
            if asked is node:
                return error.message
            continue
        # While the store is away no verdict can name a node that comes back: then serving is all that is asked of it.
        if status.store.reachable:
            unready += _unready(alone, status)
    return next(iter([*unready, *local_probe.silent_ports(alone, "")]), "")


def _absent_witness(paths: LocalPaths, witness: LocalWitness) -> str:
    """Why a witness does not take part yet; empty if it does."""
    try:
        status = AdminClient(Target((witness.admin,), paths.token.read_text())).status()
    except (Unreachable, Answered) as error:
        return error.message
    joined = any(node.name == witness.name for node in status.nodes)
    return "" if joined or not status.store.reachable else f"{witness.name} has not joined yet"
