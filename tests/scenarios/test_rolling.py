"""Nodes leave and come while clients follow DNS: a rolling restart, another version, machines of a scaling group.

The clients are as real ones are: they keep an answer of DNS for its time to live, reuse connections over h1, h1 by TLS,
h2 and h3, and go when they are told to. Every request is sent once.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.load import Load, offered_load, shown
from tests.local_cluster import LocalCluster, LocalNode
from tests.nodes.node import show
from tests.scale import TIMES
from tests.scenarios.test_failures import answers_of
from tests.support import wait_until

NAME = "shop.gw.example.com"
RATE = 300
NEWER = "99.0:1-2:generations,rosters,shares,of_the_future"
NEWCOMER = "127.0.2.2"  # where the local cluster puts the second node of us-east
BACK_SECONDS = 15.0  # from the end of `local start` until all servers answer all nodes


def row(cluster: LocalCluster, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next((node for node in cluster.status()["nodes"] if node["name"] == name), {})
    return found


def doors_of(hosts: list[str]) -> list[str]:
    """All protocols of all these nodes."""
    return [f"{kind}={host}:{8080 if kind == 'h1' else 8443}" for host in hosts for kind in ("h1", "h1s", "h2", "h3")]


def requests_of(node: LocalNode) -> float:
    """How many this node has answered since it began."""
    lines = httpx.get(f"http://{node.admin}/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("meridian_requests_total{"))


def started_as(cluster: LocalCluster, speak: str | None, name: str) -> None:
    """Starts a node, which may play the part of another version."""
    other = LocalCluster(cluster.home)
    other.environment = {**cluster.environment, **({"MERIDIAN_SPEAK": speak} if speak else {})}
    other.run("local", "start", name, timeout_seconds=90)


def quick_document(folder: Path, cluster: LocalCluster) -> Path:
    """The cluster's document, with names that DNS answers for a second: so much sooner may a node that leaves end. A
    node without tokens of its own would be seen by the limit."""
    text = cluster.document.read_text().replace("ttl_seconds: 5", "ttl_seconds: 1")
    old, new = "rate: 50000/s, burst: 100000", "rate: 1200/s, burst: 1200"
    assert text.count(old) == 1
    copy = folder / cluster.document.name
    copy.write_text(text.replace(old, new))
    return copy


class Log:
    """What happened when, for the message of a failure."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, str]] = []

    def note(self, what: str) -> None:
        self.lines.append((time.monotonic(), what))

    def told(self, load: Load) -> str:
        tally = load.tally
        events = "\n".join(f"{at - tally.started_at:8.2f} s {what}" for at, what in self.lines)
        bad = " ".join(f"{one.at_seconds:.1f}:{one.failed}" for one in tally.timeline if one.failed)
        own = f"{tally.connections} connections, generator at most {tally.late_max_seconds:.2f} s late"
        return f"{shown(tally)}\nfailed by tenth of a second: {bad}\n{own}\n{events}"


@contextlib.asynccontextmanager
async def following_load(cluster: LocalCluster, newcomer: str = "") -> AsyncIterator[Load]:
    """Clients that follow DNS, once the first of them has asked. `newcomer`: what DNS may answer one day, too."""
    nodes = list(cluster.nodes().values())
    hosts = [*(node.host for node in nodes), *([newcomer] if newcomer else [])]
    with offered_load(
        doors_of(hosts), seconds=240 * TIMES, rate=RATE, ca_file=cluster.ca_file, follow=NAME,
        dns=[node.dns for node in nodes],
    ) as load:  # fmt: skip
        await wait_until(lambda: load.has_begun, within_seconds=30, what="the load has begun")
        yield load


async def answered(servers: list[LocalNode], hosts: list[str]) -> None:
    await wait_until(
        lambda: all(answers_of(server) == hosts for server in servers),
        within_seconds=BACK_SECONDS, what=f"all servers answer {hosts}", every_seconds=0.2,
    )  # fmt: skip


async def restarted(cluster: LocalCluster, node: LocalNode, log: Log, speak: str | None = None) -> None:
    """As operators do it: SIGTERM, wait for the end, start, wait until DNS answers it everywhere."""
    log.note(f"stop {node.name} at {node.host}")
    await asyncio.to_thread(cluster.run, "local", "stop", node.name)
    log.note("stopped")
    assert not row(cluster, node.name)  # a node that leaves takes its record with it
    await asyncio.to_thread(started_as, cluster, speak, node.name)
    log.note("started")
    nodes = list(cluster.nodes().values())
    await answered(nodes, sorted(one.host for one in nodes))


@pytest.mark.timeout(300 * TIMES)
async def test_a_rolling_restart_fails_no_request_and_versions_may_be_mixed(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    first, *others = cluster.nodes().values()
    document, log = quick_document(tmp_path, cluster), Log()
    await asyncio.to_thread(cluster.run, "apply", "--now", str(document))
    try:
        async with following_load(cluster) as load:
            await restarted(cluster, first, log, NEWER)
            assert row(cluster, first.name)["software"] == "99.0"
            assert "of_the_future" not in cluster.status()["speaks"]  # not yet what only one of them can
            document.write_text(document.read_text().replace("burst: 80000", "burst: 80001"))
            await asyncio.to_thread(cluster.run, "apply", "--now", str(document))
            for node in (*others, first) * TIMES:
                await restarted(cluster, node, log)
            await asyncio.to_thread(load.stop)
        assert load.tally.failed == 0, log.told(load)
        assert load.tally.offered > 10 * RATE
        show(log.told(load))
    finally:
        await asyncio.to_thread(cluster.up)
        await asyncio.to_thread(cluster.run, "apply", "--now", str(cluster.document))
    assert row(cluster, first.name)["software"] != "99.0"


@pytest.mark.timeout(300)
async def test_a_node_joins_by_one_command_and_another_leaves_for_good(cluster: LocalCluster, tmp_path: Path) -> None:
    """What a scaling group does: a machine more, then one less."""
    document, log = quick_document(tmp_path, cluster), Log()
    await asyncio.to_thread(cluster.run, "apply", "--now", str(document))
    before = list(cluster.nodes().values())
    try:
        async with following_load(cluster, NEWCOMER) as load:
            log.note("one more")
            await asyncio.to_thread(cluster.up, "--nodes", "us-east=2")
            nodes = list(cluster.nodes().values())
            newcomer = next(node for node in nodes if node.host == NEWCOMER)
            await answered(nodes, sorted(node.host for node in nodes))
            log.note("it is answered")
            await wait_until(
                lambda: requests_of(newcomer) > RATE, within_seconds=15, what="clients come to it", every_seconds=0.2
            )
            log.note("one less")
            await asyncio.to_thread(cluster.up, "--nodes", "us-east=1")
            log.note("it left")
            await answered(before, sorted(node.host for node in before))
            assert not row(cluster, newcomer.name)
            await asyncio.to_thread(load.stop)
        assert load.tally.failed == 0, log.told(load)
        show(log.told(load))
    finally:
        await asyncio.to_thread(cluster.up, "--nodes", "us-east=1")
        await asyncio.to_thread(cluster.run, "apply", "--now", str(cluster.document))
