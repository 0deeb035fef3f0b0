"""A limit under skewed demand, one node cut off and healed: in no window is more admitted than rate * W + burst."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.nodes.node import running, show
from tests.nodes.site import Site, until
from tests.scenarios.cut_cluster import cut_cluster
from tests.scenarios.paced_client import now
from tests.support import ROOT, free_port, wait_until

RATE, BURST = 80.0, 60
DEMAND = {"a": 0.90, "b": 0.09, "c": 0.01}
TIMES = 1.5  # the limit
WHOLE_SECONDS, CUT_SECONDS, HEALED_SECONDS, STORM_SECONDS = 9.0, 11.0, 8.0, 3.0
FULL_SECONDS = 5.0  # until every worker is out of quarantine, and the buckets are full
STEADY_SECONDS = 5.0  # after which a limit is used to 95 % while the cluster is whole

Row = tuple[float, float, int]  # sent, received, status


def passed(moment: float) -> bool:
    return now() >= moment


def proven_excess(rows: Sequence[Row], rate: float, burst: int) -> tuple[float, float, float]:
    """How far the admissions are above the bound, at the least, in the worst of all windows: (excess, from, to).

    Each was at some moment between its sending and its answer. What was sent and answered within a window was admitted
    within it, so that whatever is found is an excess for certain. All windows from a sending to an answer are looked
    at: the worst is one of them.
    """
    admitted = sorted((row for row in rows if row[2] == 200), key=lambda row: row[1])
    worst = (-math.inf, 0.0, 0.0)
    for start in [row[0] for row in admitted]:
        count = 0
        for sent, received, _ in admitted:
            if sent >= start:
                count += 1
                worst = max(worst, (count - rate * (received - start) - burst, start, received))
    return worst


def plot(rows: Sequence[Row], begin: float, rate: float) -> str:
    """A bar of the admissions of each second."""
    counts: dict[int, int] = {}
    for _, received, status in rows:
        if status == 200:
            counts[int(received - begin)] = counts.get(int(received - begin), 0) + 1
    return "\n".join(
        f"{second:3d} s {counts[second]:4d} {'#' * round(40 * counts[second] / rate)}" for second in sorted(counts)
    )


def share_used(rows: Sequence[Row], rate: float, start: float, end: float) -> float:
    return sum(row[2] == 200 and start <= row[1] < end for row in rows) / (rate * (end - start))


def test_a_checker_finds_one_request_too_many() -> None:
    rows = [(float(second), second + 0.001, 200) for second in range(20)]
    assert proven_excess(rows, 1.0, 1)[0] <= 0.0
    more = proven_excess([*rows, (5.2, 5.2, 200)], 1.0, 1)
    assert more[0] > 0.99 - 0.2 and more[1] <= 5.2 <= more[2]


async def test_skewed_demand_with_a_node_cut_off_and_healed_never_exceeds_the_limit(tmp_path: Path) -> None:
    """Each of the last two thirds ends with a storm at all nodes: then whoever spends what another has shows."""
    async with cut_cluster(tmp_path) as cluster:
        await cluster.apply({"name": "all", "key": "route", "rate": f"{RATE:.0f}/s", "burst": BURST})
        begin = now() + FULL_SECONDS
        cut_at, heal_at = begin + WHOLE_SECONDS, begin + WHOLE_SECONDS + CUT_SECONDS
        clients = {}
        for name, part in DEMAND.items():
            skewed, storm = TIMES * RATE * part, (STORM_SECONDS, RATE)
            phases = [(WHOLE_SECONDS + CUT_SECONDS - STORM_SECONDS, skewed), storm, (HEALED_SECONDS, skewed), storm]
            clients[name] = cluster.client(name, begin, phases)
        await wait_until(partial(passed, cut_at), within_seconds=60, what="the cut")
        cluster.cut()
        await wait_until(partial(passed, heal_at), within_seconds=60, what="healing")
        cluster.heal()
        found: dict[str, list[Row]] = {}
        for name, client in clients.items():
            output, _ = client.communicate(timeout=60)
            found[name] = [tuple(row) for row in json.loads(output)]
    rows = [row for name in found for row in found[name]]
    assert sum(row[2] not in (200, 429) for row in rows) == 0, "every request is answered, also on the node cut off"
    show(plot(rows, begin, RATE))
    excess, start, end = proven_excess(rows, RATE, BURST)
    show(f"worst window: {excess:+.1f} of {RATE}/s + {BURST}, from {start - begin:.2f} to {end - begin:.2f} s")
    whole = share_used(rows, RATE, begin + STEADY_SECONDS, cut_at)
    cut = share_used(rows, RATE, cut_at, heal_at)
    healed = share_used(rows, RATE, heal_at + STEADY_SECONDS, heal_at + HEALED_SECONDS)
    show(f"used of the limit: whole {whole:.3f}, one cut off {cut:.3f}, healed {healed:.3f}")
    assert excess <= 0.0, f"{excess:.2f} too many between {start - begin:.3f} and {end - begin:.3f} s"
    assert whole >= 0.95 and healed >= 0.95
    assert any(row[2] == 200 for row in found["c"] if cut_at + 1 < row[0] < heal_at), "its home share is its floor"


async def test_no_restart_of_worker_agent_or_node_gives_a_burst(tmp_path: Path) -> None:
    """A client asks for ten times the limit while each process is killed in turn, and the node ends and comes back."""
    site = Site(tmp_path, free_port())
    limit = {"name": "all", "key": "route", "rate": "10/s", "burst": 40}
    routes = [{"name": "all", "upstream": "app", "stages": [{"limit": "all"}]}]
    async with running(site.flags(), {}, standin=False) as node:
        await until(partial(site.call, "GET", "/v1/status"), "the admin API", within_seconds=40)
        await site.apply(site.document(limits=[limit], routes=routes))
        begin = now() + FULL_SECONDS + 2.0
        client = subprocess.Popen(
            [sys.executable, "-m", "tests.scenarios.paced_client", "127.0.0.1", str(site.web), str(site.upstream),
             str(begin), "24:100"],
            cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        for victim, at in (("gateway-0", begin + 3.0), ("gateway-1", begin + 6.0), ("agent", begin + 9.0)):
            await wait_until(partial(passed, at), within_seconds=60, what=f"the death of {victim}")
            os.kill(node.pid(victim), signal.SIGKILL)
        await wait_until(partial(passed, begin + 12.0), within_seconds=60, what="the node's end")
        node.process.send_signal(signal.SIGTERM)
        await node.ended()
    async with running(site.flags(), {}, standin=False):
        output, _ = await asyncio.to_thread(client.communicate, timeout=60)
        await until(partial(site.call, "GET", "/v1/status"), "the admin API", within_seconds=40)
        for rate in ("10/s", "20/s"):  # the store is a new one: its version 1 is what the node serves already
            await site.apply(site.document(limits=[{**limit, "rate": rate}], routes=routes))

        async def admitted() -> bool:
            return not (await site.get()).startswith(b"HTTP/1.1 429")

        async def changed() -> bool:
            (shown,) = (await site.call("GET", "/v1/status"))["limits"]
            return (shown["rate_per_second"], shown["next_burst"], shown["waits_for"]) == (20.0, None, [])

        await until(changed, "the new rate, which all workers keep to", within_seconds=20)
        await until(admitted, "a request is admitted again", within_seconds=20)
    rows: list[Row] = [tuple(row) for row in json.loads(output)]
    show(plot(rows, begin, 10.0))
    excess, start, end = proven_excess(rows, 10.0, 40)
    show(f"worst window: {excess:+.1f} of 10/s + 40, from {start - begin:.2f} to {end - begin:.2f} s")
    assert excess <= 0.0
