"""The local cluster as tests see it: started by the command that operators type, asked by its own status.

There is one at a time, since its addresses are fixed; `LocalCluster.up` is idempotent, so tests that kill something
leave the repair to the next `up`.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.query
from tests.support import ROOT

MERIDIAN = Path(sys.executable).parent / "meridian"
UP_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class LocalNode:
    """One row of `meridian local status --json`."""

    name: str
    region: str
    state: str
    leader: bool
    pids: tuple[int, ...]  # launcher first
    addresses: tuple[str, ...]
    http: str
    https: str
    dns: str
    admin: str

    @property
    def host(self) -> str:
        """The node's address."""
        return self.http.rpartition(":")[0]

    def pids_of(self, role: str) -> list[int]:
        """Of its agent, its gateway workers or its DNS worker, by the names that ps shows."""
        with_names = {}
        for pid in self.pids:
            with contextlib.suppress(OSError):
                with_names[pid] = Path(f"/proc/{pid}/comm").read_text()
        return [pid for pid, name in with_names.items() if name.startswith(f"mrd-{role}")]


class LocalCluster:
    """The cluster whose state lies below `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment: Mapping[str, str] = {**os.environ, "MERIDIAN_LOCAL": str(home), "NO_COLOR": "1"}

    def run(
        self, *arguments: str, timeout_seconds: float = 60.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs `meridian ARGUMENTS`; with `check` a failure shows what the command said."""
        done = subprocess.run(
            [str(MERIDIAN), *arguments],
            cwd=ROOT,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"meridian {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def up(self, *options: str) -> None:
        """Starts what does not run; returns when all serve."""
        self.run("local", "up", *options, timeout_seconds=UP_SECONDS)

    def down(self) -> None:
        """Ends everything."""
        self.run("local", "down")

    def local_status(self) -> dict[str, Any]:
        """`meridian local status --json`."""
        found: dict[str, Any] = json.loads(self.run("local", "status", "--json").stdout)
        return found

    def status(self) -> dict[str, Any]:
        """`meridian status --json`."""
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def nodes(self) -> dict[str, LocalNode]:
        """All nodes by name, also those that are stopped."""
        fields = LocalNode.__dataclass_fields__
        rows = self.local_status()["nodes"]
        found = {}
        for row in rows:
            values: dict[str, Any] = {
                key: tuple(row[key]) if isinstance(row[key], list) else row[key] for key in fields
            }
            found[row["name"]] = LocalNode(**values)
        return found

    @property
    def ca_file(self) -> str:
        """The authority of the demo's certificate."""
        return str(self.local_status()["ca_file"])

    @property
    def document(self) -> Path:
        """The document that `up` applies."""
        return ROOT / "examples" / "shop.yaml"

    def etcd_pids(self) -> list[int]:
        """The etcd members' processes."""
        return [int(row["pid"]) for row in self.local_status()["etcd"]]


def ask_dns(
    server: str, name: str, *, kind: str = "A", subnet: str | None = None, timeout_seconds: float = 1.0
) -> list[str]:
    """The answers of one DNS server (host:port) over UDP, in their order. Raises OSError or dns.exception.Timeout."""
    host, _, port = server.rpartition(":")
    options = [dns.edns.ECSOption.from_text(subnet)] if subnet else []
    query = dns.message.make_query(name, kind, use_edns=0, options=options)
    answer = dns.query.udp(query, host, port=int(port), timeout=timeout_seconds)
    return [record.to_text() for rrset in answer.answer for record in rrset]
