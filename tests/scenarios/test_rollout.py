"""Documents rolled out in stages on the real cluster, under 500 requests a second over HTTP/1.1 and HTTP/2: bad ones
are undone by themselves, harmless ones are not, and no connection is cut by either."""

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from datetime import datetime
from pathlib import Path

import pytest
from tests.load import Load, offered_load, shown
from tests.local_cluster import LocalCluster
from tests.nodes.node import show
from tests.scale import TIMES
from tests.scenarios.rollout_documents import BAD, HARMLESS, Change
from tests.support import wait_until

BACK_SECONDS = 10.0
AFFECTED_MAX = 0.05
RATE = 500
PATHS = ("/api/products", "/api/orders", "/", "/style.css")
PICKED = random.Random(os.environ.get("GITHUB_RUN_ID", time.strftime("%Y-%m-%d")))  # a sample, no secret
SAMPLE = (20, 20) if TIMES > 1 else (2, 1)


def loaded(cluster: LocalCluster) -> contextlib.AbstractContextManager[Load]:
    """Half of the requests over each protocol, to all nodes, while the block runs."""
    nodes = cluster.nodes().values()
    targets = [f"{word}={place}" for node in nodes for word, place in (("h1", node.http), ("h2", node.https))]
    return offered_load(targets, seconds=60, rate=RATE, paths=PATHS, mix="h1=1,h2=1", ca_file=cluster.ca_file)


async def roll_out(cluster: LocalCluster, change: Change, folder: Path) -> tuple[int, str, float]:
    """Applies a change in stages; returns the exit code, what was said, and the seconds that it took."""
    document = folder / "changed.yaml"
    document.write_text(change.edit(cluster.document.read_text()))
    began = time.monotonic()
    done = await asyncio.to_thread(
        cluster.run, "apply", "--force", "--stage-seconds", "2", "-m", change.name, str(document), check=False
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


@pytest.fixture
def fresh(cluster: LocalCluster) -> LocalCluster:
    """The cluster with the document that it began with."""
    cluster.run("apply", "--now", "--force", str(cluster.document))
    return cluster


@pytest.mark.parametrize("change", PICKED.sample(BAD, SAMPLE[0]), ids=lambda change: change.name)
async def test_a_bad_document_is_undone_by_itself(fresh: LocalCluster, tmp_path: Path, change: Change) -> None:
    cluster = fresh
    before = cluster.status()["config_version"]
    with loaded(cluster) as load:
        await asyncio.sleep(1)  # the load runs evenly
        code, said, _ = await roll_out(cluster, change, tmp_path)
        await asyncio.sleep(0.5)  # what was on its way has ended, and whatever came after it is seen to be whole
        tally = load.stop()
    found = json.loads(cluster.run("rollout", "status", "--json").stdout)
    began, ended = (datetime.fromisoformat(found[word]) for word in ("at", "ended"))
    seconds = (ended - began).total_seconds()  # from the candidate's writing, checking included, to its end
    show(f"{change.name}: back after {seconds:.1f} s, {tally.failed} of {tally.offered}: {found['detail']}")
    assert (code, found["stage"]) == (1, "undone"), said
    assert "exchanges" in found["detail"] and found["detail"] in " ".join(said.split())
    assert cluster.status()["config_version"] == before
    assert seconds <= BACK_SECONDS
    assert 0 < tally.failed <= AFFECTED_MAX * tally.offered, shown(tally)


@pytest.mark.parametrize("change", PICKED.sample(HARMLESS, SAMPLE[1]), ids=lambda change: change.name)
async def test_a_harmless_document_comes_into_force_and_fails_nothing(
    fresh: LocalCluster, tmp_path: Path, change: Change
) -> None:
    cluster = fresh
    with loaded(cluster) as load:
        code, said, seconds = await roll_out(cluster, change, tmp_path)
        tally = load.stop()
    show(f"{change.name}: in force after {seconds:.1f} s, {tally.failed} of {tally.offered}")
    assert code == 0, said
    assert tally.failed == 0, shown(tally)


async def test_a_worker_that_dies_while_it_tries_a_document_ends_the_rollout(
    fresh: LocalCluster, tmp_path: Path
) -> None:
    cluster = fresh
    document = tmp_path / "changed.yaml"
    document.write_text(HARMLESS[0].edit(cluster.document.read_text()))
    cluster.run("apply", "--timeout", "1", str(document), check=False)  # it holds for want of traffic
    found = json.loads(cluster.run("rollout", "status", "--json").stdout)
    assert found["stage"] == "canary"
    victim = min(pid for node in cluster.nodes().values() for pid in node.pids_of("gateway"))
    os.kill(victim, signal.SIGKILL)

    def is_over() -> bool:
        found.update(json.loads(cluster.run("rollout", "status", "--json").stdout))
        return bool(found["stage"] == "undone")

    await wait_until(is_over, within_seconds=BACK_SECONDS, what="the rollout is undone")
    assert "ended while it tried it" in found["detail"] and "gateway-" in found["detail"]


async def test_without_traffic_it_holds_and_an_operator_decides(fresh: LocalCluster, tmp_path: Path) -> None:
    cluster = fresh
    document = tmp_path / "changed.yaml"
    document.write_text(HARMLESS[0].edit(cluster.document.read_text()))
    held = await asyncio.to_thread(cluster.run, "apply", "--timeout", "1", str(document), check=False)
    assert held.returncode == 1
    assert "too little traffic to judge" in held.stderr and "meridian rollout promote" in held.stderr
    second = cluster.run("apply", "--now", str(document), check=False)
    assert second.returncode == 1 and "is being rolled out" in second.stderr
    cluster.run("rollout", "abort")
    assert "aborted by" in cluster.run("history").stdout
    held = await asyncio.to_thread(cluster.run, "apply", "--timeout", "1", str(document), check=False)
    cluster.run("rollout", "promote")
    assert cluster.run("get").stdout.strip() == document.read_text().strip()
