"""What operators do to a cluster that serves: drain a region, end a machine, lose the store and restore it.
Under open-loop load over h1, h2 and h3."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.deploy.units import FOLDER, read_unit
from tests.load import offered_load, shown
from tests.local_cluster import MERIDIAN, LocalCluster
from tests.metadata import metadata
from tests.scenarios.test_failures import answers_of, changed_document, targets_of
from tests.support import ROOT, child_process, wait_until

from meridian.cli.ending import STATE


def standings(cluster: LocalCluster) -> dict[str, str]:
    return {node["name"]: node["standing"] for node in cluster.status()["nodes"]}


def row(cluster: LocalCluster, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next((node for node in cluster.status()["nodes"] if node["name"] == name), {})
    return found


async def test_a_drained_region_leaves_dns_first_and_no_request_fails(cluster: LocalCluster) -> None:
    nodes = list(cluster.nodes().values())
    gone, kept = nodes[0], nodes[1:]
    everyone = sorted(node.host for node in nodes)
    await wait_until(lambda: answers_of(kept[0]) == everyone, within_seconds=10, what="all nodes are answered")
    # The region that drains is asked as well: clients hold its address for a while after DNS has stopped giving it.
    with offered_load(targets_of(nodes), seconds=60, rate=150, ca_file=cluster.ca_file) as load:
        began = time.monotonic()
        await asyncio.to_thread(cluster.run, "drain", gone.region)
        for server in nodes:
            await wait_until(
                lambda server=server: answers_of(server) == sorted(n.host for n in kept),  # type: ignore[misc]
                within_seconds=3,
                what=f"{server.name} answers without {gone.region}",
            )
        await asyncio.to_thread(cluster.run, "drain", kept[0].region)
        last = await asyncio.to_thread(lambda: cluster.run("drain", kept[1].region, check=False))
        assert last.returncode == 1
        assert "would leave nobody serving" in last.stderr
        assert "--force" in last.stderr
        for node in (gone, kept[0]):
            await asyncio.to_thread(cluster.run, "undrain", node.region)
        await wait_until(lambda: answers_of(kept[1]) == everyone, within_seconds=8, what="all are answered again")
        # However quick the drains were, what comes after them is offered too.
        await wait_until(lambda: time.monotonic() - began > 5.0, within_seconds=10, what="five seconds of load")
        await asyncio.to_thread(load.stop)
    assert load.tally.offered > 300
    assert load.tally.failed == 0, shown(load.tally)


async def test_a_machine_that_is_told_to_end_leaves_before_it_does(cluster: LocalCluster) -> None:
    """What a scaling group tells by the machine's metadata, what stops the unit then, and clients that follow DNS."""
    nodes = list(cluster.nodes().values())
    gone = nodes[-1]
    clients = [sys.executable, "-m", "tests.deploy.resolving_client", "40", *(node.dns for node in nodes[:-1])]
    with metadata() as cloud:
        watches = [str(MERIDIAN), "await-end", "--metadata", cloud.address, "--every-seconds", "0.2"]
        with (
            subprocess.Popen(watches, stdout=subprocess.PIPE, text=True) as watch,
            child_process(*clients, stdout=subprocess.PIPE, cwd=ROOT) as load,
        ):
            await wait_until(lambda: cloud.asked > 2, within_seconds=15, what="the metadata are watched")
            assert watch.poll() is None
            cloud.said[STATE] = "Terminated"
            assert await asyncio.to_thread(watch.wait, 10) == 0
            # As systemctl stop does: SIGTERM to the launcher.
            await asyncio.to_thread(cluster.run, "local", "stop", gone.name, timeout_seconds=60)
            load.send_signal(signal.SIGTERM)
            output, _ = await asyncio.to_thread(load.communicate, timeout=30)
    told = json.loads(output)
    assert told["failed"] == [] and told["asked"] > 100, told
    assert told["served"].get(gone.host), told  # it was asked before it left
    cluster.up()


def commands(heading: str) -> list[str]:
    """The command blocks below a heading of docs/deploy.md."""
    section = (ROOT / "docs/deploy.md").read_text().partition(f"### {heading}\n")[2].partition("\n### ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


class Machines:
    """The machines of the local cluster, for commands that are meant for such: folders are the cluster's own, and
    `systemctl` stops a member in the cluster's way. To start one does nothing, since one alone would not serve."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.tools = folder / "tools"
        self.tools.mkdir()
        systemctl = self.tools / "systemctl"
        systemctl.write_text(f'#!/bin/sh\n[ "$1" = start ] || exec {MERIDIAN} local "$1" "$MEMBER"\n')
        systemctl.chmod(0o755)
        (self.tools / "meridian").symlink_to(MERIDIAN)
        (folder / "etcd.conf").write_text("ETCD_NAME=one\nETCD_INITIAL_CLUSTER_STATE=existing\n")

    def run(self, script: str, member: str = "") -> str:
        """Runs a script as it stands, but for where things are."""
        status = self.cluster.local_status()
        for there, here in {
            "/var/lib/meridian-etcd/data": self.cluster.home / "data" / member,
            "/var/lib/meridian-etcd": self.folder,
            "/etc/meridian": self.folder,
            "127.0.0.1:9900": next(iter(self.cluster.nodes().values())).admin,
            "/var/lib/meridian/token": status["token_file"],
            "/var/lib/meridian/backups": self.folder / "backups",
            "/opt/meridian/current/bin/meridian": MERIDIAN,
        }.items():
            script = script.replace(there, str(here))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=60, check=False,
            env={**self.cluster.environment, "PATH": f"{self.tools}:/usr/bin:/bin", "MEMBER": member},
        )  # fmt: skip
        assert done.returncode == 0, script + done.stdout + done.stderr
        return done.stdout

    def back_up(self) -> None:
        """What the timer starts."""
        unit = read_unit(FOLDER / "meridian-backup.service")
        variables = " ".join(unit["Environment"])
        for line in (*unit["ExecStartPre"], *unit["ExecStart"]):
            self.run(f"export {variables}\n" + line.replace("%%", "%"))


async def lost_store(cluster: LocalCluster) -> None:
    """Every member of etcd dies, and its disk with it."""
    for pid in cluster.etcd_pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for entry in cluster.local_status()["etcd"]:
        shutil.rmtree(cluster.home / "data" / entry["name"])


async def test_all_of_etcd_is_lost_and_a_backup_brings_it_back_while_nodes_serve(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    nodes = list(cluster.nodes().values())
    everyone = sorted(node.host for node in nodes)
    machines = Machines(cluster, tmp_path)
    on_each_member, on_a_node = commands("All of etcd is lost")
    before = cluster.status()
    await asyncio.to_thread(machines.back_up)
    # One version more, which the backup does not know and the nodes have seen.
    document = changed_document(tmp_path, cluster)
    await asyncio.to_thread(cluster.run, "apply", "--now", str(document))
    seen = cluster.status()["config_version"]
    with offered_load(targets_of(nodes), seconds=60, rate=100, ca_file=cluster.ca_file) as load:
        await lost_store(cluster)
        for entry in cluster.local_status()["etcd"]:
            await asyncio.to_thread(machines.run, on_each_member, entry["name"])
        assert "STATE=new" in (tmp_path / "etcd.conf").read_text()
        await asyncio.to_thread(cluster.up)
        # The store is there and empty: nobody takes that for an order to serve nothing.
        began = time.monotonic()
        while time.monotonic() - began < 2.0:
            for node in nodes:
                assert answers_of(node) == everyone
            await asyncio.sleep(0.2)
        assert {node["config_version"] for node in cluster.status()["nodes"]} == {seen}
        said = await asyncio.to_thread(machines.run, on_a_node)
        assert f"version {seen + 1} is in force, as {before['config_version']} was" in said
        await wait_until(
            lambda: {node["config_version"] for node in cluster.status()["nodes"]} == {seen + 1},
            within_seconds=10, what="all nodes serve what was restored", every_seconds=0.2,
        )  # fmt: skip
        await wait_until(
            lambda: cluster.status()["verdict"]["fence"] > before["verdict"]["fence"],
            within_seconds=10, what="a leader of the restored store is believed", every_seconds=0.2,
        )  # fmt: skip
        assert standings(cluster) == {node.name: "serving" for node in nodes}
        await asyncio.to_thread(cluster.run, "apply", "--now", str(document))
        assert {node["config_version"] for node in cluster.status()["nodes"]} == {seen + 2}
        versions = json.loads(cluster.run("history", "--json").stdout)["versions"]
        assert [meta["version"] for meta in versions][:2] == [seen + 2, seen + 1]
        await asyncio.to_thread(load.stop)
    assert load.tally.failed == 0, shown(load.tally)
