"""What limits cost: a decision, an idle key, and etcd's writes by request rate and number of keys.

    .venv/bin/python -m bench.limits [--seconds 10]

For the writes, three nodes' seats (control/grants) on a real etcd and their workers' limits (gateway/limits) run in
this one process, and letters between them are calls: no machine here offers 10,000 requests a second over HTTP. Every
call of a node to etcd that writes is counted, keep-alives of leases too.
"""

import argparse
import asyncio
import contextlib
import random
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.etcd_cluster import EtcdCluster

from meridian.control.disk import NoDisk
from meridian.control.grants import Grants
from meridian.control.identity import cut_for
from meridian.core.granting.messages import Message, addressee
from meridian.core.granting.seats import Tell
from meridian.core.granting.shares import Cut, Rule
from meridian.core.snapshot import Limit
from meridian.gateway.limits import Limits, Told
from meridian.store.keys import Keys
from meridian.store.port import Store

KEYS = Keys("bench")
CUT = cut_for(3, 1)
SETTLE_SECONDS = 6.0
WRITES = ("txn", "put", "grant_lease", "keep_alive")


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def alone(limit: Limit) -> Limits:
    made = Limits(now)
    made.replace({limit.name: limit}, now())
    return made


def decision_seconds(count: int = 300_000) -> float:
    """Of one decision with its clock reading, over a thousand keys, most of them admitted."""
    limit = Limit("l", ("client_ip",), 1_000_000.0, 1_000_000)
    limits = alone(limit)
    asked = [[(limit, f"10.0.{n // 250}.{n % 250}")] for n in range(1000)]
    began = time.perf_counter()
    for n in range(count):
        limits.decide(asked[n % 1000], now())
    return (time.perf_counter() - began) / count


def bytes_per_key(count: int = 200_000) -> float:
    """Of a key that was used and is idle, the text of the key included."""
    limit = Limit("l", ("client_ip",), 1.0, 100)
    limits = alone(limit)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(count):
        limits.decide([(limit, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")], now())
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return grown / count


class Counted:
    """A store whose writes are counted."""

    def __init__(self, store: Any) -> None:
        self.writes: Counter[str] = Counter()
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._counted(name, found) if name in WRITES else found

    def _counted(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        def counting(*arguments: Any, **options: Any) -> Awaitable[Any]:
            self.writes[name] += 1
            return call(*arguments, **options)

        return counting


class Node:
    """One node: its seats, and the limits of its one worker."""

    def __init__(self, name: str, store: Store, nodes: dict[str, "Node"]) -> None:
        self.name, self.nodes = name, nodes
        self.store = Counted(store)
        self.fence: int | None = None
        counted: Any = self.store
        self.grants = Grants(
            counted, KEYS, name, f"{random.random()}", CUT, NoDisk(), now, workers=1, fence=lambda: self.fence,
            told=self._told, seated=self._seated,
        )  # fmt: skip
        self.limits = Limits(now, alone=False)
        self.limits.join(f"{name}/0", 0)
        self.limits.post = self._post

    async def run(self) -> None:
        self.grants.set_members("abc")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.grants.run())
            tasks.create_task(self._tick())

    async def _tick(self) -> None:
        said = None
        while True:
            await asyncio.sleep(0.05)
            self.limits.poll(now())
            confirmed = self.limits.confirmed(now())
            if confirmed is not None and confirmed != said:
                said = confirmed
                self.grants.worker_confirmed(0, *confirmed)

    def _told(self, cut: Cut, tell: Tell) -> None:
        self.limits.allow(Told(cut, tell.allowance, tell.values), now())

    def _seated(self) -> None:
        view = self.grants.view
        if view is not None:
            sitting = {index: seat.node for index, seat in view.seats.items()}
            self.limits.set_spenders([f"{name}/0" for name in self.nodes], sitting)

    def _post(self, message: Message) -> None:
        other = self.nodes[addressee(message).partition("/")[0]]
        asyncio.get_running_loop().call_soon(lambda: other.limits.hear(message, now()))


async def measure_writes(cluster: EtcdCluster, seconds: float) -> None:
    nodes: dict[str, Node] = {}
    stores = [cluster.store() for _ in "abc"]
    for name, store in zip("abc", stores, strict=True):
        nodes[name] = Node(name, store, nodes)
    limit = Limit("l", ("client_ip",), 100.0, 200)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(node.run()) for node in nodes.values()]
        await stores[0].put(KEYS.leader(), b"")
        leader = await stores[0].get(KEYS.leader())
        nodes["a"].fence = leader.create_revision if leader is not None else None
        nodes["a"].grants.set_rules({"l": Rule(limit.rate_per_second, limit.burst)})
        for node in nodes.values():
            node.limits.replace({"l": limit}, now())
        await asyncio.sleep(SETTLE_SECONDS)
        for rate, keys in ((100, 10), (1_000, 10), (10_000, 10), (10_000, 1_000), (10_000, 100_000)):
            for node in nodes.values():
                node.store.writes.clear()
            offered, admitted = await offer(nodes, limit, rate, keys, seconds)
            each = {name: sum(node.store.writes.values()) / seconds for name, node in nodes.items()}
            shown = ", ".join(f"{name} {count:.1f}" for name, count in each.items())
            print(f"{offered / seconds:8.0f} requests/s, {keys:7d} keys: {admitted / seconds:7.0f} admitted/s; "
                  f"writes/s {shown}")  # fmt: skip
        for task in running:
            task.cancel()
    for store in stores:
        await store.close()


async def offer(nodes: dict[str, Node], limit: Limit, rate: int, keys: int, seconds: float) -> tuple[int, int]:
    """Skewed 90/9/1 over the nodes; every tick what its time is due."""
    began, done, admitted = now(), 0, 0
    names = [name for name, part in (("a", 90), ("b", 9), ("c", 1)) for _ in range(part)]
    while (passed := now() - began) < seconds:
        due = int(passed * rate)
        for _ in range(due - done):
            node = nodes[random.choice(names)]
            admitted += node.limits.decide([(limit, f"k{random.randrange(keys)}")], now()).admitted
        done = due
        await asyncio.sleep(0.005)
    return done, admitted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row of the table of writes")
    seconds: float = parser.parse_args().seconds
    print(f"a decision: {decision_seconds() * 1e6:.2f} us")
    print(f"an idle key: {bytes_per_key():.0f} bytes")
    with tempfile.TemporaryDirectory() as folder:
        cluster = EtcdCluster(Path(folder), size=1)
        try:
            cluster.start()
            cluster.wait_healthy()
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(measure_writes(cluster, seconds))
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
