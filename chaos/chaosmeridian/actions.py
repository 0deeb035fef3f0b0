"""Chaos Toolkit actions: each breaks or mends one thing and returns what it did and when (CLOCK_MONOTONIC seconds).

Arguments come from YAML or the command line, so numbers may arrive as text.
"""

import signal
import time
from collections.abc import Sequence
from typing import Any

from chaosmeridian import running_load
from chaosmeridian.dns_watch import watch
from chaosmeridian.lab import LabError, Node, read_lab, start_part
from chaosmeridian.processes import signal_part

__all__ = [
    "kill_node",
    "pause_etcd",
    "pause_node",
    "resume_etcd",
    "resume_node",
    "start_etcd",
    "start_load",
    "start_node",
    "stop_etcd",
    "stop_load",
    "watch_dns",
]

KILL_SECONDS = 5.0


def kill_node(node: str) -> dict[str, Any]:
    """SIGKILL to a whole node, as if its power failed: launcher first, then agent and workers.

    Raises LabError if it does not run.
    """
    return _signal_node(node, signal.SIGKILL)


def pause_node(node: str) -> dict[str, Any]:
    """SIGSTOP to all processes of a node: it keeps its sockets and says nothing. Raises LabError."""
    return _signal_node(node, signal.SIGSTOP)


def resume_node(node: str) -> dict[str, Any]:
    """SIGCONT to all processes of a node. Raises LabError if it does not run."""
    return _signal_node(node, signal.SIGCONT)


def start_node(node: str) -> dict[str, Any]:
    """Starts a node and waits until it serves; one that runs is left alone. Raises LabError."""
    ran = bool(read_lab().node(node).pids)
    begin = time.monotonic()
    if not ran:
        start_part(node)
    return {"node": node, "ran": ran, "at": begin, "seconds": time.monotonic() - begin}


def stop_etcd(members: list[str] | None = None) -> dict[str, Any]:
    """SIGKILL to these etcd members, all if none are named. Raises LabError."""
    return _signal_etcd(members, signal.SIGKILL)


def pause_etcd(members: list[str] | None = None) -> dict[str, Any]:
    """SIGSTOP to etcd members: connections stay open and nothing answers. Raises LabError."""
    return _signal_etcd(members, signal.SIGSTOP)


def resume_etcd(members: list[str] | None = None) -> dict[str, Any]:
    """SIGCONT to etcd members. Raises LabError."""
    return _signal_etcd(members, signal.SIGCONT)


def start_etcd(members: list[str] | None = None) -> dict[str, Any]:
    """Starts etcd members that do not run, all if none are named. Raises LabError."""
    begin = time.monotonic()
    stopped = [member.name for member in read_lab().members(members) if not member.pid]
    for name in stopped:
        start_part(name)
    return {"members": stopped, "at": begin, "seconds": time.monotonic() - begin}


def start_load(
    rate: float | str = 500,
    seconds_max: float | str = 120,
    settle_seconds: float | str = 3,
    host: str = "shop.example.com",
    paths: Sequence[str] = ("/",),
    mix: str = "h1=60,h2=30,h3=10",
    without: str | None = None,
    timeout: float | str = 5,
    contains: str | None = None,
) -> dict[str, Any]:
    """Starts open-loop load (chaosmeridian.load) on all nodes but `without`; returns when it has run `settle_seconds`.

    It runs until `stop_load`, at most `seconds_max`. Raises LabError if it cannot be made.
    """
    lab = read_lab()
    nodes = lab.others(without) if without else lab.nodes
    arguments = ["--rate", str(rate), "--seconds", str(seconds_max), "--host", host, "--mix", mix]
    arguments += ["--timeout", str(timeout), "--ca-file", lab.ca_file]
    for target in _targets(nodes, mix):
        arguments += ["--target", target]
    for path in paths:
        arguments += ["--path", path]
    if contains is not None:
        arguments += ["--expect-contains", contains]
    load = running_load.begin(arguments, float(timeout))
    load.wait_until(float(settle_seconds))
    return {"targets": [node.name for node in nodes], "at": load.began_at}


def stop_load() -> dict[str, Any]:
    """Ends the load, awaits what is under way and returns the tally; none if no load runs. Raises LabError."""
    at = time.monotonic()
    tally = running_load.end()
    return {"at": at, "tally": tally.to_plain() if tally is not None else None}


def watch_dns(node: str, name: str, seconds: float | str = 60) -> dict[str, Any]:
    """Watches the answers of every DNS server until `node` is gone from them and back, at most `seconds`.

    Meant for `background: true`; returns every change of every server's answer. Raises LabError.
    """
    lab = read_lab()
    servers = {each.name: each.dns for each in lab.nodes}
    addresses = lab.node(node).addresses
    others = frozenset[str]().union(*(each.addresses for each in lab.others(node)))
    changes = watch(servers, name, addresses, others, float(seconds))
    return {
        "node": node,
        "question": name,
        "addresses": sorted(addresses),
        "others": sorted(others),
        "changes": {
            server: [[at, sorted(answer) if answer is not None else None] for at, answer in seen]
            for server, seen in changes.items()
        },
    }


def _signal_node(name: str, number: signal.Signals) -> dict[str, Any]:
    node = read_lab().node(name)
    if not node.pids:
        raise LabError(f"node {name} does not run; start it with: meridian local start {name}")
    return {"node": name, **_signal(node.pids[0], number, name)}


def _signal_etcd(names: list[str] | None, number: signal.Signals) -> dict[str, Any]:
    members = [member for member in read_lab().members(names) if member.pid]
    if not members:
        raise LabError("no such etcd member runs; start it with: meridian local start etcd-1")
    return {"members": [{"name": member.name, **_signal(member.pid, number, member.name)} for member in members]}


def _signal(leader_pid: int, number: signal.Signals, name: str) -> dict[str, Any]:
    at = time.monotonic()
    try:
        pids = signal_part(leader_pid, number, wait_seconds=KILL_SECONDS if number is signal.SIGKILL else 0.0)
    except (ProcessLookupError, TimeoutError) as error:
        raise LabError(f"{name}: {error}") from error
    return {"pids": pids, "signal": number.name, "at": at}


def _targets(nodes: Sequence[Node], mix: str) -> list[str]:
    wanted = {share.partition("=")[0] for share in mix.split(",")}
    targets = []
    for node in nodes:
        for protocol, place in (("h1", node.http), ("h1s", node.https), ("h2", node.https), ("h3", node.https)):
            if protocol in wanted and place:
                targets.append(f"{protocol}={place}")
    return targets
