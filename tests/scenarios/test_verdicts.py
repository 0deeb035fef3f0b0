"""Verdicts on the real cluster: whole regions die, a data path dies behind a living agent, and the last one is left
with a witness and no store. The long form of the kills is tests/region_kills.py."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
from tests.local_cluster import LocalCluster, LocalNode
from tests.nodes.node import show
from tests.region_kills import PROMISED_SECONDS, WORST, kill_region
from tests.scenarios.test_failures import answers_of, kill_whole
from tests.scenarios.test_protocols import curl
from tests.support import wait_until
from tests.telemetry.otlp_receiver import OtlpReceiver

GRAY_SECONDS = 5.5  # three in the dark; a probe's pace, a report and a judgement before and after; a busy machine
BACK_SECONDS = 10.0
LAST_SECONDS = 5.0  # without a leader, and two cores for it all
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@contextlib.contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """The processes stand still meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def until_answers(servers: Sequence[LocalNode], hosts: Sequence[str], began: float, seconds: float) -> float:
    """Waits until all servers answer exactly these, within `seconds` from `began`; returns how long it took."""
    for server in servers:
        await wait_until(
            lambda server=server: answers_of(server) == sorted(hosts),  # type: ignore[misc]  # bound at once
            within_seconds=began + seconds - time.monotonic(),
            what=f"{server.name} answers {sorted(hosts)}",
        )
    return time.monotonic() - began


async def test_a_dead_data_path_behind_a_living_agent_leaves_dns_and_comes_back(cluster: LocalCluster) -> None:
    nodes = list(cluster.nodes().values())
    victim = next(node for node in nodes if not node.leader)
    others = [node.host for node in nodes if node is not victim]
    everyone = [*others, victim.host]
    with stopped(victim.pids_of("gateway")):
        began = time.monotonic()
        gone_seconds = await until_answers(nodes, others, began, GRAY_SECONDS)
        judged = next(node for node in cluster.status()["nodes"] if node["name"] == victim.name)
        assert judged["standing"] == "withdrawn"
        assert "nobody reaches it" in judged["reason"]
    back_seconds = await until_answers(nodes, everyone, time.monotonic(), BACK_SECONDS)
    show(f"gray: out in {gone_seconds:.2f} s, back in {back_seconds:.2f} s")


def test_a_region_that_dies_with_both_leaders_leaves_dns_in_time(cluster: LocalCluster) -> None:
    """The worst of the cases; each of the others is simulated, and killed on the real cluster by scripts/prove."""
    seconds = kill_region(cluster, WORST)
    show(f"{WORST}: DNS moved in {seconds:.2f} s")
    assert seconds <= PROMISED_SECONDS


async def test_the_last_one_and_a_witness_judge_without_a_store_and_all_say_so(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    """Two of three regions die one after the other while etcd stands still: the survivor and the witness agree, and
    status, metrics of every process, and spans tell the same merged verdict."""
    cluster.up("--witness")
    try:
        last, *victims = cluster.nodes().values()
        await wait_until(
            lambda: ("witness-1", "witness") in [(row["name"], row["standing"]) for row in cluster.status()["nodes"]],
            within_seconds=5.0,
            what="whoever is asked knows the witness",
        )
        assert answers_of(last) == sorted(node.host for node in (last, *victims))
        with OtlpReceiver() as receiver:
            document = tmp_path / "traced.yaml"
            tracing = f"tracing: {{sample_ratio: 0, otlp_endpoint: '{receiver.endpoint}'}}"
            document.write_text(f"{cluster.document.read_text()}\n{tracing}\n")
            cluster.run("apply", "--now", str(document))
            with stopped(cluster.etcd_pids()):
                for index, victim in enumerate(victims):
                    kill_whole(victim)
                    left = [node.host for node in (last, *victims[index + 1 :])]
                    seconds = await until_answers([last], left, time.monotonic(), LAST_SECONDS)
                    show(f"without a store {victim.name} was out in {seconds:.2f} s")
                await the_same_everywhere(cluster, last, receiver)
    finally:
        cluster.up("--no-witness")
        cluster.run("apply", "--now", str(cluster.document))
    assert len(cluster.status()["nodes"]) == 3


async def the_same_everywhere(cluster: LocalCluster, node: LocalNode, receiver: OtlpReceiver) -> None:
    """The node's merged verdict, in its status, in the metrics of agent, gateways and DNS, and in a span."""
    told = cluster.status()["verdict"]
    assert told["fallback"] >= 1
    for name in ("version", "fallback"):
        await wait_until(
            lambda name=name: set(gauges(node, f"meridian_verdict_{name}").values()) == {float(told[name])},  # type: ignore[misc]
            within_seconds=3.0,
            what=f"every process tells {name} {told[name]}",
        )
    assert gauges(node, "meridian_verdict_version").keys() == {"agent", "dns-0", "gateway-0", "gateway-1"}
    curl(cluster, node, "-H", f"traceparent: 00-{TRACE}-{PARENT}-01")
    spans = receiver.wait_for(lambda spans: any(span.kind == 2 for span in spans), within_seconds=10)
    span = next(span for span in spans if span.kind == 2)
    seen = (span.attributes["meridian.verdict.version"], span.attributes["meridian.verdict.fallback"])
    assert seen == (told["version"], told["fallback"])


def gauges(node: LocalNode, name: str) -> dict[str, float]:
    """One gauge of the node's page of metrics, by process."""
    lines = httpx.get(f"http://{node.admin}/metrics").text.splitlines()
    found = [line.removeprefix(f'{name}{{worker="').split('"} ') for line in lines if line.startswith(f"{name}{{")]
    return {worker: float(value) for worker, value in found}
