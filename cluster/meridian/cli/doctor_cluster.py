"""What the cluster's own status shows that a person should mend."""

import email.utils
import http.client
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from meridian.cli.doctor import Finding

if TYPE_CHECKING:
    from meridian.admin.status import Status

CLOCK_SECONDS_MAX = 3.0  # a Date field is in whole seconds, and an answer takes its time
TIMEOUT_SECONDS = 2.0


def judged(status: "Status") -> Iterator[Finding]:
    """Pure: judges what a node told."""
    yield from _store(status)
    if status.leader:
        yield Finding("ok", "leader", status.leader)
    else:
        yield Finding("error", "leader", "none is heard; nodes merge reports themselves",
                      "see whether a majority of nodes reaches etcd: journalctl -u meridian")  # fmt: skip
    yield from _nodes(status)
    yield from _certificates(status)
    yield from (Finding("warning", "cluster", warning, "see docs/deploy.md, runbooks") for warning in status.warnings)


def _store(status: "Status") -> Iterator[Finding]:
    if not status.store.reachable:
        yield Finding("error", "etcd", status.store.detail or "is not reachable",
                      "nodes serve on; see each member: systemctl status meridian-etcd")  # fmt: skip
    members = status.store.members
    if members and len(members) % 2 == 0:
        yield Finding("warning", "etcd", f"{len(members)} members survive no more than {len(members) - 1} do",
                      "add one, or remove one: docs/deploy.md")  # fmt: skip
    for member in members:
        about = f"etcd {member.endpoint}"
        if not member.reachable:
            yield Finding("error", about, member.detail or "does not answer",
                          "on that machine: systemctl status meridian-etcd; if it is lost: docs/deploy.md")  # fmt: skip
        elif member.alarms:
            yield Finding("error", about, f"has the alarm {', '.join(member.alarms)}", "meridian store defrag")
        elif member.quota_bytes and member.db_bytes > 0.7 * member.quota_bytes:
            yield Finding("warning", about, f"holds {member.db_bytes / member.quota_bytes:.0%} of its quota",
                          "meridian store defrag")  # fmt: skip
        else:
            yield Finding("ok", about, "leads" if member.leader else "follows")


def _nodes(status: "Status") -> Iterator[Finding]:
    for node in status.nodes:
        about = f"node {node.name}"
        if node.config_refused:
            yield Finding("error", about, f"refuses the document: {node.config_refused}",
                          "correct the document, or the node's version, then meridian apply")  # fmt: skip
        elif node.standing == "withdrawn":
            yield Finding("error", about, f"is withdrawn: {node.reason}",
                          "on that machine: meridian doctor; journalctl -u meridian")  # fmt: skip
        elif node.standing in ("suspect", "draining", "unknown"):
            yield Finding("warning", about, f"is {node.standing}{node.reason and ': ' + node.reason}",
                          "wait a moment; who drains comes back by meridian undrain")  # fmt: skip
        elif node.config_version < status.config_version:
            yield Finding("warning", about, f"has version {node.config_version} of {status.config_version}",
                          "wait a moment; journalctl -u meridian there says why")  # fmt: skip
        else:
            yield Finding("ok", about, f"is {node.standing} in {node.region}")
    versions = Counter(node.software for node in status.nodes)
    if len(versions) > 1:
        told = ", ".join(f"{count} of {version or 'an unknown one'}" for version, count in versions.items())
        yield Finding("warning", "versions", told, "finish the upgrade: docs/deploy.md")
    sizes = Counter(node.region for node in status.nodes if node.standing != "witness")
    alone = [region for region, count in sizes.items() if count == 1]
    if alone:
        yield Finding("warning", "regions", f"one node is all of {', '.join(sorted(alone))}",
                      "two nodes in each region, or its clients leave it with each restart")  # fmt: skip


def _certificates(status: "Status") -> Iterator[Finding]:
    """Those that the cluster obtains by itself."""
    for one in status.certificates:
        about, remedy = (
            f"certificate {one.hosts[0]}",
            "it is tried again by itself; docs/tls.md says what has to be there",
        )
        if one.state != "valid":
            yield Finding("error", about, f"is {one.state}: {one.reason}", remedy)
        elif one.reason:
            yield Finding("warning", about, f"is not renewed: {one.reason}", remedy)
        else:
            yield Finding("ok", about, f"is valid until {one.not_after}")


def clocks(status: "Status") -> Iterator[Finding]:
    """Compares this machine's wall clock with that of each node whose admin API can be reached from here."""
    for node in status.nodes:
        told = _date(node.admin) if node.admin else None
        if told is None:
            continue
        apart = abs(told - time.time_ns() / 1e9)
        if apart > CLOCK_SECONDS_MAX:
            yield Finding("error", f"clock of {node.name}", f"is {apart:.0f} s away from the one here",
                          "synchronise both: apt-get install chrony")  # fmt: skip
        else:
            yield Finding("ok", f"clock of {node.name}", "agrees with the one here")


def _date(admin: str) -> float | None:
    """Seconds since 1970 by the node's Date field (RFC 9110, 6.6.1); None if it cannot be asked from here."""
    connection = http.client.HTTPConnection(admin, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        with connection.getresponse() as answer:
            return email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (OSError, http.client.HTTPException, TypeError, ValueError):
        return None
    finally:
        connection.close()
