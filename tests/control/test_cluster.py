"""Three control planes as processes on a real three-member etcd, with real mTLS between all of them."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.etcd_cluster import EtcdCluster
from tests.support import ROOT, free_port

REGIONS = {"a": "eu", "b": "us", "c": "ap"}
HOSTS = {"a": "127.0.0.41", "b": "127.0.0.42", "c": "127.0.0.43"}
OUT_SECONDS = 4.0
BACK_SECONDS = 8.0


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Process:
    """One node: its verdicts and what it last said of itself, as it prints them."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self.name = name
        self.verdicts: list[dict[str, Any]] = []
        self.said: dict[str, Any] = {}
        self.left = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.control.node_process", json.dumps(cluster.plan(name))],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def standings(self) -> dict[str, str]:
        return self.verdicts[-1]["standings"] if self.verdicts else {}

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        self._process.wait(timeout=10)
        self._reading.join(timeout=10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            words = json.loads(line)
            if "standings" in words:
                self.verdicts.append(words)
            elif "left" in words:
                self.left = True
            else:
                self.said = words


class Cluster:
    def __init__(self, etcd: EtcdCluster, name: str) -> None:
        self.etcd = etcd
        self.name = name
        self.http_port = free_port("127.0.0.41")  # the same on every node, as DNS demands
        self.nodes: dict[str, Process] = {}

    def plan(self, name: str) -> dict[str, Any]:
        files = self.etcd.files
        return {
            "cluster": self.name,
            "name": name,
            "http": (HOSTS[name], self.http_port),
            "region": REGIONS[name],
            "peer": f"127.0.0.1:{free_port()}",
            "etcd": self.etcd.endpoints,
            "ca": str(files.ca),
            "cert": str(files.certificate),
            "key": str(files.key),
        }

    def start(self, name: str) -> None:
        self.nodes[name] = Process(self, name)

    def leader(self) -> str:
        return next((name for name, node in self.nodes.items() if node.said.get("leads")), "")

    def all_say(self, standing: dict[str, str]) -> bool:
        return all(node.standings() == standing for node in self.nodes.values())

    def wait(self, what: str, condition: Callable[[], bool], within_seconds: float) -> float:
        began = now()
        while not condition():
            last = {name: (node.standings(), node.said) for name, node in self.nodes.items()}
            assert now() - began < within_seconds, f"not within {within_seconds} s: {what}; last: {last}"
            threading.Event().wait(0.02)
        return now() - began


ALL = dict.fromkeys("abc", "SERVING")


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    members = EtcdCluster(tmp_path_factory.mktemp("etcd"))
    members.start()
    try:
        members.wait_healthy()
        yield members
    finally:
        members.stop()


@pytest.fixture
def cluster(etcd: EtcdCluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    built = Cluster(etcd, request.node.name)
    try:
        for name in REGIONS:
            built.start(name)
        built.wait("all serve", lambda: built.all_say(ALL), 30.0)
        yield built
    finally:
        for node in built.nodes.values():
            node.kill()


def test_a_killed_node_is_out_in_time_whoever_it_was_and_comes_back(cluster: Cluster) -> None:
    leader = cluster.leader()
    follower = next(name for name in REGIONS if name != leader)
    for name in (follower, leader, follower):
        cluster.nodes.pop(name).kill()
        gone = {**ALL, name: "WITHDRAWN"}
        seconds = cluster.wait(f"{name} is out", lambda gone=gone: cluster.all_say(gone), OUT_SECONDS)  # type: ignore[misc]  # a lambda's default
        sys.stdout.write(f"{name} ({'leader' if name == leader else 'follower'}) out after {seconds:.2f} s\n")
        cluster.start(name)
        seconds = cluster.wait(f"{name} is back", lambda: cluster.all_say(ALL), BACK_SECONDS + 4.0)  # and 4 s to start
        sys.stdout.write(f"{name} back {seconds:.2f} s after its start\n")


def test_losing_etcd_withdraws_nothing_and_its_return_heals(cluster: Cluster) -> None:
    versions = [node.verdicts[-1]["version"] for node in cluster.nodes.values()]
    cluster.etcd.kill(0, 1, 2)
    cluster.wait("all notice", lambda: not any(n.said["store"] or n.said["leads"] for n in cluster.nodes.values()), 10)
    threading.Event().wait(5.0)
    assert [node.verdicts[-1]["version"] for node in cluster.nodes.values()] == versions
    cluster.etcd.start()
    cluster.wait("one leads again", lambda: bool(cluster.leader()), 20.0)
    threading.Event().wait(2.0)
    assert cluster.all_say(ALL)
    name = next(name for name in REGIONS if name != cluster.leader())
    cluster.nodes.pop(name).kill()
    cluster.wait("verdicts go on", lambda: cluster.all_say({**ALL, name: "WITHDRAWN"}), OUT_SECONDS)


def test_a_planned_stop_moves_the_leadership_at_once_and_is_no_failure(cluster: Cluster) -> None:
    leader = cluster.leader()
    stopped = cluster.nodes.pop(leader)
    stopped.terminate()
    rest = {name: "SERVING" for name in REGIONS if name != leader}
    seconds = cluster.wait("it left and another leads", lambda: cluster.all_say(rest) and bool(cluster.leader()), 3.0)
    sys.stdout.write(f"leader left, {seconds:.2f} s\n")
    stopped.wait()
    assert stopped.left
    history = [v["standings"].get(leader) for node in cluster.nodes.values() for v in node.verdicts]
    assert "WITHDRAWN" not in history
    assert "DRAINING" in history
