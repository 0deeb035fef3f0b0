"""Starts and ends the local cluster: etcd members, the demo's services, nodes; waits until everything serves.

`up` is idempotent: what runs stays, what is missing is started, and the document is applied when the file changed
since `up` applied it last, so that what an operator applied by hand meanwhile is not taken back.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from meridian.cli import local_ca, processes
from meridian.cli.documents import read_document
from meridian.cli.errors import Failed, Mistake
from meridian.cli.local_components import Component, components
from meridian.cli.local_ready import Applying, missing, missing_one
from meridian.cli.local_state import PLACES, LocalCluster, LocalPaths, load_cluster, plan_cluster, save_cluster

UP_SECONDS = 60.0
REFUSAL_SECONDS = 3.0
# A drain waits 4 s for the cluster, 10 s for clients and 11 s for exchanges; beyond that a node is killed.
STOP_SECONDS = 26.0
# When all of it ends nobody is left to take the clients over, so a drain has no purpose beyond exchanges in flight.
DOWN_SECONDS = 5.0
LOOK_SECONDS = 0.15  # between two looks while the cluster starts: it needs the processor more than we do

Report = Callable[[str], None]


@contextlib.contextmanager
def locked(paths: LocalPaths) -> Iterator[None]:
    """One command at a time changes the local cluster; another one is told so and does nothing."""
    paths.make_root()
    with paths.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed("another command is changing the local cluster", "wait for it, then try again") from None
        yield


def up(
    paths: LocalPaths,
    document: Path,
    services_file: Path | None,
    workers: int,
    report: Report,
    *,
    sizes: Mapping[str, int] | None = None,
    limit_nodes: int | None = None,
    witness: bool | None = None,
) -> LocalCluster:
    """Makes the local cluster run and serve `document`, with so many nodes in each region, with a witness or without
    (None: as it was). Nodes that are too many leave first. `limit_nodes` counts when the cluster begins.

    Raises Mistake, or Failed with what explains it.
    """
    deadline = monotonic() + UP_SECONDS
    content = read_document(document, paths)
    with locked(paths):
        before = load_cluster(paths)
        known = before.witnesses if before is not None else ()
        wanted = bool(known) if witness is None else witness
        shape: dict[str, Any] = {"sizes": sizes, "limit_nodes": limit_nodes or len(PLACES)}
        if before is not None:
            # How limits are cut is settled once, and every node must say the same.
            shape = {"sizes": sizes or before.sizes, "limit_nodes": before.limit_nodes}
        cluster = plan_cluster(content.document, document.absolute(), services_file, workers, witness=wanted, **shape)
        if before is not None:
            _let_go(paths, [name for name in before.names() if name not in cluster.names()], report)
        if before is not None and before.workers != workers and _runs(paths, before):
            report(f"nodes that run keep {before.workers} workers; for {workers} in all: meridian local down, then up")
        local_ca.prepare_secrets(paths, cluster)
        save_cluster(paths, cluster)
        running = _start_missing(paths, components(paths, cluster), report)
        applying = Applying(paths, cluster, content)
        last, refused_since = "", deadline
        while (absent := missing(paths, cluster, applying)).reasons:
            if absent.reasons[0] != last:
                last = absent.reasons[0]
                report(f"waiting: {last}")
            _check_alive(paths, running)
            # A refusal just seen may still be that of the version before.
            refused_since = min(refused_since, monotonic()) if absent.refused else deadline
            if monotonic() > min(deadline, refused_since + REFUSAL_SECONDS):
                why = "every node refuses the document" if absent.refused else f"not serving after {UP_SECONDS:g} s"
                raise Failed(
                    f"{why}: {absent.reasons[0]}",
                    f"the logs are in {paths.log('x').parent}; meridian local down ends what runs",
                    (*absent.reasons[1:6], *_explaining_tail(paths, cluster)),
                )
            processes.pause(LOOK_SECONDS)
        return cluster


def down(paths: LocalPaths, *, forget: bool = False) -> list[str]:
    """Ends everything and waits for it: nodes first, so that they can say goodbye to the store. Returns the names.

    With `forget` the state goes too: keys, data and logs of a folder that holds a local cluster, and of no other.
    """
    ended = _down(paths)
    if forget and load_cluster(paths) is not None:
        shutil.rmtree(paths.root)
    return ended


def _down(paths: LocalPaths) -> list[str]:
    with locked(paths):
        cluster = load_cluster(paths)
        if cluster is None:
            return []
        ended: list[str] = []
        nodes = {node.name for node in cluster.agents}
        for group in ([n for n in cluster.names() if n in nodes], [n for n in cluster.names() if n not in nodes]):
            marks = {name: mark for name in group if (mark := processes.read_mark(paths.mark(name))) is not None}
            running = {name: mark for name, mark in marks.items() if processes.session_pids(mark)}
            processes.end(running.values(), within_seconds=DOWN_SECONDS)
            ended += running
            for name in marks:
                paths.mark(name).unlink(missing_ok=True)
        return ended


def start_one(paths: LocalPaths, name: str, report: Report) -> None:
    """Starts one node (or etcd member, or region's services) that does not run, and waits until it serves."""
    with locked(paths):
        cluster = _known(paths, name)
        part = [component for component in components(paths, cluster) if component.name == name]
        running = _start_missing(paths, part, report)
        deadline = monotonic() + UP_SECONDS
        while absent := missing_one(paths, cluster, name):
            _check_alive(paths, running)
            if monotonic() > deadline:
                raise Failed(f"{name} does not serve after {UP_SECONDS:g} s: {absent}", f"see {paths.log(name)}",
                             processes.tail(paths.log(name)))  # fmt: skip
            processes.pause(LOOK_SECONDS)


def stop_one(paths: LocalPaths, name: str) -> bool:
    """Lets one node (or etcd member, or region's services) leave and waits. False if it did not run."""
    with locked(paths):
        _known(paths, name)
        mark = processes.read_mark(paths.mark(name))
        if mark is None or not processes.session_pids(mark):
            return False
        if not processes.end([mark], within_seconds=STOP_SECONDS):
            raise Failed(f"{name} had to be killed after {STOP_SECONDS:g} s", f"see {paths.log(name)}")
        paths.mark(name).unlink(missing_ok=True)
        return True


def _let_go(paths: LocalPaths, names: list[str], report: Report) -> None:
    """Lets parts leave, all at once: a node drains, and those that stay serve on. Their state goes with them, so that a
    node of this name that comes one day is a new one."""
    marks = [mark for name in names if (mark := processes.read_mark(paths.mark(name))) is not None]
    if names:
        report(f"leaving: {', '.join(names)}")
    processes.end(marks, within_seconds=STOP_SECONDS)
    for name in names:
        paths.mark(name).unlink(missing_ok=True)
        shutil.rmtree(paths.data(name), ignore_errors=True)


def _runs(paths: LocalPaths, cluster: LocalCluster) -> bool:
    return any(processes.is_alive(processes.read_mark(paths.mark(node.name))) for node in cluster.nodes)


def _known(paths: LocalPaths, name: str) -> LocalCluster:
    cluster = load_cluster(paths)
    if cluster is None:
        raise Mistake("there is no local cluster yet", "start it with: meridian local up")
    if name not in cluster.names():
        raise Mistake(f"there is no {name!r} in the local cluster", f"it has: {', '.join(cluster.names())}")
    return cluster


def _start_missing(paths: LocalPaths, wanted: list[Component], report: Report) -> dict[str, subprocess.Popen[bytes]]:
    """Starts what does not run. Raises Mistake before anything is started if a port is somebody else's."""
    missing = []
    for component in wanted:
        mark = processes.read_mark(paths.mark(component.name))
        if processes.is_alive(mark):
            continue
        # Children of a killed launcher end by themselves within 5 s; a new one must not fight them for the ports.
        if mark is not None and processes.session_pids(mark):
            report(f"waiting: the rest of {component.name} ends")
            processes.end([mark], within_seconds=6.0)
        missing.append(component)
    conflicts = [reason for component in missing for reason in component.ports_taken()]
    if conflicts:
        raise Mistake(
            "the local cluster's ports are taken",
            "end what listens there; another local cluster (MERIDIAN_LOCAL) ends by its own meridian local down",
            tuple(conflicts),
        )
    # etcd would take ETCD_* variables for flags of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
    started: dict[str, subprocess.Popen[bytes]] = {}
    for component in missing:
        paths.data(component.name).mkdir(mode=0o700, parents=True, exist_ok=True)
        log, mark_path = paths.log(component.name), paths.mark(component.name)
        started[component.name] = processes.start(
            component.command, log=log, mark=mark_path, environment=environment, folder=paths.root
        )
    if started:
        report(f"started: {', '.join(started)}")
    return started


def _check_alive(paths: LocalPaths, started: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for name, process in started.items():
        if process.poll() is not None:
            raise Failed(
                f"{name} ended with exit code {process.returncode}",
                f"its log is {paths.log(name)}; meridian local down ends the rest",
                processes.tail(paths.log(name)),
            )


def _explaining_tail(paths: LocalPaths, cluster: LocalCluster) -> tuple[str, ...]:
    """The end of the log most likely to explain why nothing serves: the first node's, where all threads meet."""
    name = cluster.nodes[0].name
    return (f"{paths.log(name)} ends with:", *processes.tail(paths.log(name)))
