"""The local cluster, as `meridian local status --json` tells it (docs/architecture.md, section 8).

Read through the command and not by import: an experiment must see what an operator sees, and the cluster's code may
be the very thing that is broken. MERIDIAN_COMMAND names another command, for a cluster that another installation runs.
"""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

STATUS_SECONDS = 20.0  # a status asks nodes that may be dead; ten times what it takes on a busy machine
START_SECONDS = 90.0
COMMAND = "MERIDIAN_COMMAND"


class LabError(Exception):
    """There is no local cluster, or it does not do what it was asked to. The message says what to do next."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node; `pids` has the launcher first and is empty if it does not run. `http` and others are host:port."""

    name: str
    region: str
    state: str
    leader: bool
    pids: tuple[int, ...]
    addresses: frozenset[str]
    http: str
    https: str
    dns: str
    admin: str


@dataclass(frozen=True, slots=True)
class Etcd:
    """One etcd member; `pid` is 0 if it does not run."""

    name: str
    pid: int
    endpoint: str


@dataclass(frozen=True, slots=True)
class Lab:
    """All of it, at one moment."""

    nodes: tuple[Node, ...]
    etcd: tuple[Etcd, ...]
    ca_file: str
    token_file: str

    def node(self, name: str) -> Node:
        """The node of that name; raises LabError that names those there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise LabError(f"there is no node {name!r}; there are {', '.join(node.name for node in self.nodes)}")

    def others(self, name: str) -> tuple[Node, ...]:
        """All nodes but that one; raises LabError if there is no such node."""
        self.node(name)
        return tuple(node for node in self.nodes if node.name != name)

    def members(self, names: list[str] | None) -> tuple[Etcd, ...]:
        """The etcd members of these names, all if None; raises LabError."""
        known = {member.name: member for member in self.etcd}
        if unknown := set(names or ()) - known.keys():
            raise LabError(f"there is no etcd member {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return tuple(known[name] for name in names) if names is not None else self.etcd


def parse_lab(status: dict[str, Any]) -> Lab:
    """Reads the command's JSON; raises LabError if it is something else."""
    try:
        return Lab(
            nodes=tuple(
                Node(
                    node["name"],
                    node["region"],
                    node["state"],
                    bool(node["leader"]),
                    tuple(node["pids"]),
                    frozenset(node["addresses"]),
                    node["http"],
                    node["https"],
                    node["dns"],
                    node["admin"],
                )
                for node in status["nodes"]
            ),
            etcd=tuple(Etcd(member["name"], member["pid"], member["endpoint"]) for member in status["etcd"]),
            ca_file=status["ca_file"],
            token_file=status["token_file"],
        )
    except (KeyError, TypeError) as error:
        raise LabError(f"`meridian local status --json` gave something else than expected: {error!r}") from error


def read_lab() -> Lab:
    """Asks the command; raises LabError if no local cluster was ever started."""
    return parse_lab(_meridian("local", "status", "--json", within_seconds=STATUS_SECONDS))


def start_part(name: str) -> None:
    """Starts a node or an etcd member and returns when it serves; raises LabError with the command's reason."""
    _meridian("local", "start", name, "--json", within_seconds=START_SECONDS)


def _meridian(*arguments: str, within_seconds: float) -> dict[str, Any]:
    command = " ".join(("meridian", *arguments))
    chosen = os.environ.get(COMMAND)
    program = shlex.split(chosen) if chosen else [sys.executable, "-m", "meridian.cli.main"]
    try:
        done = subprocess.run((*program, *arguments), capture_output=True, timeout=within_seconds, check=False)
        if done.returncode == 0:
            answer: dict[str, Any] = json.loads(done.stdout)
            return answer
    except subprocess.TimeoutExpired:
        raise LabError(f"`{command}` did not end within {within_seconds:.0f} s") from None
    except ValueError:
        raise LabError(f"`{command}` gave no JSON: {done.stdout[:200]!r}") from None
    reason = (done.stderr or done.stdout).decode(errors="replace").strip()
    raise LabError(f"`{command}` failed: {_message(reason)}")


def _message(text: str) -> str:
    """The message of the command's error, which is JSON too."""
    try:
        error = json.loads(text)["error"]
        return f"{error['message']}; {error['remedy']}" if error.get("remedy") else str(error["message"])
    except (ValueError, KeyError, TypeError):
        return text[-500:]
