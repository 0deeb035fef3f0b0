"""Three nodes and one etcd, of which one node can be cut off as by a broken cable: it lives in a network namespace of
its own, and a veth pair is its only way to the others. Its clients and its upstream are on its side of the cut.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trustme
from tests.support import ROOT, wait_until

ADDRESSES = {"a": "10.77.0.1", "b": "10.77.0.2", "c": "10.77.0.3"}
REGIONS = {"a": "eu", "b": "us", "c": "ap"}
WEB, ADMIN, PEER, ETCD, UPSTREAM = 8080, 9900, 9901, 2379, 18080
TOKEN = "a-token-for-tests"


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=10, capture_output=True)


class CutCluster:
    """Use `cut_cluster`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.holder = self._spawn(["unshare", "--net", "sleep", "600"], "holder")
        self._write_files()

    # The cable

    async def connect(self) -> None:
        """Makes the namespace of node c, and the cable to it."""
        inside, own = Path(f"/proc/{self.holder.pid}/ns/net"), Path("/proc/self/ns/net")
        await wait_until(lambda: inside.readlink() != own.readlink(), within_seconds=10, what="a namespace for node c")
        run("ip", "link", "add", "cable", "type", "veth", "peer", "name", "end", "netns", str(self.holder.pid))
        for address in (ADDRESSES["a"], ADDRESSES["b"]):
            run("ip", "addr", "add", f"{address}/32", "dev", "lo")
        run("ip", "link", "set", "cable", "up")
        run(*self.inside("c"), "ip", "link", "set", "lo", "up")
        run(*self.inside("c"), "ip", "addr", "add", f"{ADDRESSES['c']}/32", "dev", "lo")
        self.heal()
        run("ip", "route", "add", f"{ADDRESSES['c']}/32", "dev", "cable", "src", ADDRESSES["a"])

    def cut(self) -> None:
        """From now on nothing passes between c and the others, and nobody is told."""
        run(*self.inside("c"), "ip", "link", "set", "end", "down")

    def heal(self) -> None:
        """All passes again."""
        run(*self.inside("c"), "ip", "link", "set", "end", "up")
        run(*self.inside("c"), "ip", "route", "replace", "10.77.0.0/24", "dev", "end", "src", ADDRESSES["c"])

    def inside(self, name: str) -> list[str]:
        """What to put before a command so that it runs where that node does."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"] if name == "c" else []

    # The processes

    async def start(self, workers: int) -> None:
        """Starts etcd and the nodes, and returns when all admin APIs answer."""
        etcd = f"http://{ADDRESSES['a']}:{ETCD}"
        self._spawn(
            ["etcd", f"--data-dir={self.folder / 'etcd'}", f"--listen-client-urls={etcd}",
             f"--advertise-client-urls={etcd}", f"--listen-peer-urls=http://{ADDRESSES['a']}:2380"],
            "etcd",
        )  # fmt: skip
        for name in ADDRESSES:
            self.start_node(name, workers)
        for name in ("a", "b"):
            await self._until(partial(self._complete, name), f"{name} knows all nodes")

    def start_node(self, name: str, workers: int) -> None:
        """Starts a node, for the first time or again."""
        folder = self.folder / name
        flags = [
            f"--name={name}", f"--region={REGIONS[name]}", f"--etcd=http://{ADDRESSES['a']}:{ETCD}",
            f"--address={ADDRESSES[name]}", f"--workers={workers}", "--dns-port=0", f"--admin-host={ADDRESSES[name]}",
            f"--admin-port={ADMIN}", f"--peer-port={PEER}", f"--peer-ca={self.folder / 'ca.pem'}",
            f"--peer-cert={folder / 'peer.pem'}", f"--peer-key={folder / 'peer.key'}", f"--state={folder / 'state'}",
            f"--cluster-key-file={self.folder / 'cluster.key'}", f"--token-file={self.folder / 'token'}",
            "--limit-nodes=3",
        ]  # fmt: skip
        command = [*self.inside(name), sys.executable, "-m", "meridian.nodes.launcher", *flags]
        self.nodes[name] = self._spawn(command, name)

    async def apply(self, limit: Mapping[str, Any]) -> None:
        """Applies a document with one limit for all, and waits until every node serves it."""
        document = {
            "listeners": [{"name": "web", "bind": f"0.0.0.0:{WEB}", "protocols": ["h1"]}],
            "regions": [{"name": region} for region in REGIONS.values()],
            "upstreams": [{"name": "app", "endpoints": [{"address": f"127.0.0.1:{UPSTREAM}"}]}],
            "limits": [limit],
            "routes": [{"name": "all", "upstream": "app", "stages": [{"limit": limit["name"]}]}],
        }
        body = {"text": json.dumps(document), "files": {}, "author": "test", "force": True}
        version = self.call("a", "/v1/config", body)["version"]

        def serves() -> bool:
            return all(node["config_version"] >= version for node in self.call("a", "/v1/status")["nodes"])

        await self._until(serves, f"version {version} is served")

    def call(self, name: str, path: str, body: object = None) -> Any:
        """Asks a node's admin API (a's or b's). Raises OSError."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://{ADDRESSES[name]}:{ADMIN}{path}"
        request = urllib.request.Request(url, data, method="PUT" if data else "GET")
        request.add_header("authorization", f"Bearer {TOKEN}")
        request.add_header("content-type", "application/json")
        request.add_header("host", "localhost")
        with urllib.request.urlopen(request, timeout=5) as answer:
            text = answer.read().decode()
        return json.loads(text) if text.startswith(("{", "[")) else text

    def client(self, name: str, begin: float, phases: Iterable[tuple[float, float]]) -> "subprocess.Popen[bytes]":
        """Asks node `name` from `begin` (CLOCK_BOOTTIME) on; `phases` are (seconds, rate). See paced_client."""
        upstream = UPSTREAM if name in "ac" else 0  # a and b share a loopback
        arguments = [ADDRESSES[name], WEB, upstream, begin, *(f"{seconds}:{rate}" for seconds, rate in phases)]
        command = [*self.inside(name), sys.executable, "-m", "tests.scenarios.paced_client", *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
        self.processes.append(process)
        return process

    def logs(self, name: str) -> str:
        """The end of what a process wrote."""
        return (self.folder / f"{name}.log").read_text()[-4000:]

    def stop(self) -> None:
        """Kills all, and takes the cable away."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)
            if process.stdout is not None:
                process.stdout.close()
        for address in (ADDRESSES["a"], ADDRESSES["b"]):
            subprocess.run(["ip", "addr", "del", f"{address}/32", "dev", "lo"], timeout=10, check=False)
        subprocess.run(["ip", "link", "del", "cable"], timeout=10, check=False, capture_output=True)

    def _complete(self, name: str) -> bool:
        return len(self.call(name, "/v1/status")["nodes"]) == len(ADDRESSES)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        holds: Any = partial(asyncio.to_thread, condition)  # awaited by wait_until, whose types cannot say it
        try:
            await wait_until(holds, within_seconds=40, what=what, every_seconds=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs('a')}") from None

    def _spawn(self, command: Sequence[str], name: str) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=self.folder
            )
        self.processes.append(process)
        return process

    def _write_files(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        for name, content in (("cluster.key", b"k" * 32), ("token", TOKEN.encode())):
            (self.folder / name).write_bytes(content)
            (self.folder / name).chmod(0o600)
        for name, address in ADDRESSES.items():
            folder = self.folder / name
            folder.mkdir()
            issued = authority.issue_cert(address)
            issued.cert_chain_pems[0].write_to_path(str(folder / "peer.pem"))
            issued.private_key_pem.write_to_path(str(folder / "peer.key"))
            (folder / "peer.key").chmod(0o600)


@contextlib.asynccontextmanager
async def cut_cluster(folder: Path, workers: int = 1) -> AsyncIterator[CutCluster]:
    """Runs it during the block."""
    cluster = CutCluster(folder)
    try:
        await cluster.connect()
        await cluster.start(workers)
        yield cluster
    finally:
        cluster.stop()
