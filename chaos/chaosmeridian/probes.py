"""Chaos Toolkit probes: each looks and says what it sees; none changes anything."""

import time
from threading import Event

from chaosmeridian.dns_watch import ask_once
from chaosmeridian.lab import Lab, Node, read_lab

__all__ = ["all_serving", "dns_answers", "dns_back", "dns_complete", "dns_without"]

LOOK_SECONDS = 0.2


def all_serving() -> bool:
    """Whether every node serves and exactly one of them leads. Raises LabError if there is no cluster."""
    nodes = read_lab().nodes
    return all(node.state == "serving" for node in nodes) and sum(node.leader for node in nodes) == 1


def dns_answers(name: str) -> dict[str, list[str] | None]:
    """What each node's DNS server answers for `name` now; None where none answers. Raises LabError."""
    answers = ask_once({node.name: node.dns for node in read_lab().nodes}, name)
    return {server: sorted(answer) if answer is not None else None for server, answer in answers.items()}


def dns_complete(name: str, within_seconds: float | str = 0) -> bool:
    """Whether every node's DNS server answers with every node's addresses. Raises LabError."""
    lab = read_lab()
    return _await_answers(lab.nodes, name, frozenset[str]().union(*_addresses(lab)), frozenset(), within_seconds)


def dns_without(node: str, name: str, within_seconds: float | str = 0) -> bool:
    """Whether every other node's DNS server answers without `node` and with all others. Raises LabError."""
    lab = read_lab()
    others = lab.others(node)
    wanted = frozenset[str]().union(*(other.addresses for other in others))
    return _await_answers(others, name, wanted, lab.node(node).addresses, within_seconds)


def dns_back(node: str, name: str, within_seconds: float | str = 0) -> bool:
    """Whether every node's DNS server answers with `node` again, and with all others. Raises LabError."""
    read_lab().node(node)
    return dns_complete(name, within_seconds)


def _addresses(lab: Lab) -> list[frozenset[str]]:
    return [node.addresses for node in lab.nodes]


def _await_answers(
    asked: tuple[Node, ...],
    name: str,
    wanted: frozenset[str],
    unwanted: frozenset[str],
    within_seconds: float | str,
) -> bool:
    servers = {node.name: node.dns for node in asked}
    deadline = time.monotonic() + float(within_seconds)
    while True:
        answers = ask_once(servers, name).values()
        if all(answer is not None and answer >= wanted and not answer & unwanted for answer in answers):
            return True
        if time.monotonic() >= deadline:
            return False
        Event().wait(LOOK_SECONDS)
