"""What dies, and what goes on: a node, a worker, all of etcd. Under open-loop load over h1, h2 and h3."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import time
from pathlib import Path

import dns.exception
import pytest
from tests.load import offered_load, shown
from tests.local_cluster import LocalCluster, LocalNode, ask_dns
from tests.nodes.node import show
from tests.support import wait_until

NAME = "shop.gw.example.com"
DNS_SECONDS = 5.0  # from SIGKILL until every live server answers without the node
BACK_SECONDS = 10.0  # from `local start` until it is answered again
OUTAGE_SECONDS = 60.0

_bursts = itertools.count(10001)


def targets_of(nodes: list[LocalNode]) -> list[str]:
    """All protocols of all these nodes."""
    return [f"{kind}={at}" for n in nodes for kind, at in (("h1", n.http), ("h2", n.https), ("h3", n.https))]


def kill_whole(node: LocalNode) -> None:
    """SIGKILL of launcher, agent and workers, launcher first."""
    for pid in node.pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def answers_of(server: LocalNode) -> list[str]:
    with contextlib.suppress(OSError, dns.exception.DNSException):
        return sorted(ask_dns(server.dns, NAME, timeout_seconds=0.5))
    return []


@pytest.mark.parametrize("which", ["leader", "follower"])
async def test_a_killed_node_leaves_dns_and_costs_the_survivors_nothing(cluster: LocalCluster, which: str) -> None:
    nodes = list(cluster.nodes().values())
    victim = next(node for node in nodes if node.leader is (which == "leader"))
    survivors = [node for node in nodes if node is not victim]
    kept = sorted(node.host for node in survivors)
    everyone = sorted(node.host for node in nodes)
    with offered_load(targets_of(survivors), seconds=25, ca_file=cluster.ca_file, contains="products") as load:
        await wait_until(lambda: answers_of(survivors[0]) == everyone, within_seconds=10, what="all nodes are answered")
        killed_at = time.monotonic()
        kill_whole(victim)
        left = killed_at + DNS_SECONDS - time.monotonic()
        for server in survivors:
            await wait_until(
                lambda server=server: answers_of(server) == kept,  # type: ignore[misc]  # bound at once
                within_seconds=left,
                what=f"{server.name} answers with the survivors",
            )
        moved_seconds = time.monotonic() - killed_at
        assert moved_seconds <= DNS_SECONDS
        started_at = time.monotonic()
        await asyncio.to_thread(cluster.run, "local", "start", victim.name)
        left = started_at + BACK_SECONDS - time.monotonic()
        for server in nodes:
            await wait_until(
                lambda server=server: answers_of(server) == everyone,  # type: ignore[misc]  # bound at once
                within_seconds=left,
                what=f"{server.name} answers with {victim.name} again",
            )
        back_seconds = time.monotonic() - started_at
        assert back_seconds <= BACK_SECONDS
        show(f"{which}: DNS moved in {moved_seconds:.2f} s, back in {back_seconds:.2f} s")
    assert load.tally.failed == 0, shown(load.tally)
    assert load.tally.offered > 10_000


async def test_a_killed_worker_costs_only_its_own_connections(cluster: LocalCluster) -> None:
    node = next(iter(cluster.nodes().values()))
    workers = node.pids_of("gateway")
    assert len(workers) == 2
    host, _, port = node.http.rpartition(":")
    with contextlib.ExitStack() as held:
        mine, others = spread_connections(held, host, int(port), workers)
        victim = workers[0]
        os.kill(victim, signal.SIGKILL)
        queued = [socket.create_connection((host, int(port)), timeout=5) for _ in range(20)]
        for sock in (*others, *queued):
            assert get(sock) == 200
            sock.close()
        for sock in mine:
            with pytest.raises(OSError, match=r"reset|closed"):
                get(sock)
    await wait_until(
        lambda: (
            len(cluster.nodes()[node.name].pids_of("gateway")) == 2
            and victim not in cluster.nodes()[node.name].pids_of("gateway")
        ),
        within_seconds=5,
        what="the worker was started again",
    )


async def test_all_of_etcd_stopped_for_a_minute_stops_nothing_but_writes(cluster: LocalCluster, tmp_path: Path) -> None:
    nodes = list(cluster.nodes().values())
    everyone = sorted(node.host for node in nodes)
    document = changed_document(tmp_path, cluster)
    members = cluster.etcd_pids()
    with offered_load(targets_of(nodes), seconds=OUTAGE_SECONDS + 5, rate=300, ca_file=cluster.ca_file) as load:
        for pid in members:
            os.kill(pid, signal.SIGSTOP)
        try:
            stopped_at = time.monotonic()
            await wait_until(
                lambda: cluster.status()["store"]["reachable"] is False, within_seconds=15, what="status says so",
                every_seconds=0.5,
            )  # fmt: skip
            refused = cluster.run("apply", "--now", str(document), check=False)
            assert refused.returncode == 1
            assert "etcd" in (refused.stdout + refused.stderr)
            assert "Traceback" not in refused.stderr
            while time.monotonic() - stopped_at < OUTAGE_SECONDS:
                for node in nodes:
                    assert answers_of(node) == everyone
                await asyncio.sleep(1)
        finally:
            for pid in members:
                os.kill(pid, signal.SIGCONT)
    assert load.tally.failed == 0, shown(load.tally)
    await wait_until(
        lambda: cluster.run("apply", "--now", str(document), check=False).returncode == 0,
        within_seconds=20, what="apply works again", every_seconds=0.5,
    )  # fmt: skip
    assert [node["standing"] for node in cluster.status()["nodes"]] == ["serving"] * 3


def changed_document(folder: Path, cluster: LocalCluster) -> Path:
    """The cluster's document with one limit changed, each time in another way: what is in force is no change."""
    source = cluster.document
    text = source.read_text().replace("burst: 100000", f"burst: {next(_bursts)}")
    assert text != source.read_text()
    copy = folder / source.name
    copy.write_text(text)
    return copy


def spread_connections(
    held: contextlib.ExitStack, host: str, port: int, workers: list[int]
) -> tuple[list[socket.socket], list[socket.socket]]:
    """Keep-alive connections that have each had an answer: the first worker's, the other's. Whoever wakes first
    accepts, so that a worker whose core is taken may get none for a while: more are opened until both hold some."""
    opened: list[socket.socket] = []
    for _ in range(40):
        for _ in range(12):
            opened.append(held.enter_context(socket.create_connection((host, port), timeout=5)))
            assert get(opened[-1]) == 200
        owners = {pid: owned_sockets(pid) for pid in workers}
        owner_of = {sock: owner_of_peer(sock, owners) for sock in opened}
        mine = [sock for sock in opened if owner_of[sock] == workers[0]]
        others = [sock for sock in opened if owner_of[sock] == workers[1]]
        if mine and others:
            return mine, others
    raise AssertionError(f"of {len(opened)} connections one worker got all")


def get(sock: socket.socket) -> int:
    """One request on an open connection; the status. Raises OSError if the connection is lost."""
    sock.sendall(b"GET /api/products HTTP/1.1\r\nhost: shop.example.com\r\n\r\n")
    with sock.makefile("rb") as stream:
        line = stream.readline()
        if not line:
            raise ConnectionResetError("closed without an answer")
        length = 0
        while (header := stream.readline().strip()) != b"":
            name, _, value = header.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        stream.read(length)
    return int(line.split()[1])


def owned_sockets(pid: int) -> set[str]:
    """Inodes of the sockets that a process holds."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(entry.readlink())
            if target.startswith("socket:["):
                found.add(target[8:-1])
    return found


def owner_of_peer(sock: socket.socket, owners: dict[int, set[str]]) -> int | None:
    """Which process holds the other end of a loopback connection."""
    (own_host, own_port), (host, port) = sock.getsockname(), sock.getpeername()
    local, remote = (f"{encoded(host)}:{port:04X}", f"{encoded(own_host)}:{own_port:04X}")
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == local and fields[2] == remote:
            return next((pid for pid, inodes in owners.items() if fields[9] in inodes), None)
    return None


def encoded(host: str) -> str:
    """An IPv4 address as /proc/net/tcp writes it."""
    return socket.inet_aton(host)[::-1].hex().upper()
