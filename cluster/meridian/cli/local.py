"""meridian local: three nodes in three regions, real etcd and the demo's services, on this machine."""

import json
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from meridian.cli import processes
from meridian.cli.errors import Mistake
from meridian.cli.local_state import LocalCluster, LocalPaths, load_cluster
from meridian.cli.output import Json, note, say, show_json, show_table

local = typer.Typer(
    help="The local cluster: three nodes in three regions, etcd and demo services, on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A node; or an etcd member, or a region's services.")]
FOLLOW_SECONDS = 0.25
_QUIET_LEVELS = {"debug", "info"}


@local.command()
def up(
    document: Annotated[Path | None, typer.Option("--document", help="By default examples/shop.yaml.")] = None,
    services: Annotated[Path | None, typer.Option("--services", help="By default examples/shop_services.py.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="Gateway workers of each node.")] = 2,
    nodes: Annotated[
        str | None, typer.Option("--nodes", metavar="N", help="Of all regions, or REGION=N,...; by default as it was.")
    ] = None,
    limit_nodes: Annotated[
        int | None, typer.Option("--limit-nodes", min=1, max=27, help="How many nodes there may ever be, for limits.")
    ] = None,
    witness: Annotated[
        bool | None, typer.Option("--witness/--no-witness", help="Also a fourth node, which votes and serves nobody.")
    ] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, follow the logs, end it on Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Start it, wait until everything serves, apply the document. Again: start what is missing, drain what is more."""
    from meridian.cli import local_cluster
    from meridian.cli.local_components import demo_file
    from meridian.cli.local_state import parse_sizes

    paths = _paths()
    for file in (document, services):
        if file is not None and not file.is_file():
            raise Mistake(f"there is no file {file}", "check the name")
    cluster = local_cluster.up(
        paths,
        document or demo_file("shop.yaml"),
        (services or demo_file("shop_services.py")).absolute(),
        workers,
        (lambda _: None) if as_json else note,
        sizes=parse_sizes(nodes) if nodes is not None else None,
        limit_nodes=limit_nodes,
        witness=witness,
    )
    if as_json:
        _show_status(paths, cluster, True)
    else:
        _show_table(paths, cluster)
    if foreground:
        _follow_until_told(paths, cluster)


@local.command()
def down(
    forget: Annotated[bool, typer.Option("--forget", help="Remove its state too: keys, data, logs.")] = False,
    as_json: Json = False,
) -> None:
    """End all of it, and wait for that. Its state stays for the next start."""
    from meridian.cli import local_cluster

    ended = local_cluster.down(_paths(), forget=forget)
    if as_json:
        show_json({"ended": ended})
    else:
        say(f"ended: {', '.join(ended)}" if ended else "nothing was running")


@local.command()
def status(as_json: Json = False) -> None:
    """Show its processes and how the cluster judges them; also when they are dead."""
    paths = _paths()
    cluster = load_cluster(paths)
    if cluster is None:
        raise Mistake("there is no local cluster yet", "start it with: meridian local up")
    _show_status(paths, cluster, as_json)


@local.command()
def start(name: Name, as_json: Json = False) -> None:
    """Start one part that does not run, and wait until it serves."""
    from meridian.cli import local_cluster

    local_cluster.start_one(_paths(), name, (lambda _: None) if as_json else note)
    _done(name, "serving", as_json)


@local.command()
def stop(name: Name, as_json: Json = False) -> None:
    """Let one part leave (SIGTERM: a node drains), and wait for its end."""
    from meridian.cli import local_cluster

    ran = local_cluster.stop_one(_paths(), name)
    _done(name, "stopped" if ran or as_json else "not running", as_json)


def _paths() -> LocalPaths:
    return LocalPaths.from_environment(os.environ)


def _done(name: str, state: str, as_json: bool) -> None:
    if as_json:
        show_json({"name": name, "state": state})
    else:
        say(f"{name} is {state}")


def _show_status(paths: LocalPaths, cluster: LocalCluster, as_json: bool) -> None:
    from meridian.cli.local_status import local_status

    found = local_status(paths, cluster)
    if as_json:
        show_json(found)
        return
    rows = [
        (
            node["name"],
            node["state"],
            "yes" if node["leader"] else "",
            node["http"],
            node["https"],
            node["dns"],
            node["admin"],
            str(len(node["pids"])),
            node["reason"],
        )
        for node in found["nodes"]
    ]
    show_table("", ("node", "state", "leader", "http", "https", "dns", "admin", "processes", "why"), rows)
    others = [*((row["name"], row["endpoint"], row) for row in found["etcd"])]
    others += [(row["name"], row["address"], row) for row in found["services"]]
    others += [(row["name"], row["admin"], {"pid": next(iter(row["pids"]), 0)}) for row in found["witnesses"]]
    show_table(
        "", ("process", "state", "at", "pid"), [(n, _up(row), at, str(row["pid"] or "")) for n, at, row in others]
    )
    if not found["store"]["reachable"]:
        say(f"the store is not reachable: {found['store']['detail'] or 'no node answers'}")


def _up(row: dict[str, Any]) -> str:
    return "up" if row["pid"] else "down"


def _show_table(paths: LocalPaths, cluster: LocalCluster) -> None:
    from meridian.cli.local_status import what_to_try
    from meridian.cli.output import console

    say(f"{len(cluster.nodes)} nodes serve {cluster.document}; logs: {paths.log('x').parent}")
    # Not a table: a command that is broken over lines cannot be pasted.
    for what, command in what_to_try(paths, cluster):
        console().print(f"  [dim]{what}[/]")
        say(f"    {command}")


def _follow_until_told(paths: LocalPaths, cluster: LocalCluster) -> None:
    """Shows the nodes' important lines until Ctrl-C or SIGTERM, then ends the cluster."""
    from meridian.cli import local_cluster

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    note("Ctrl-C ends the cluster")
    followers = {node.name: processes.follow(paths.log(node.name)) for node in cluster.nodes}
    try:
        while True:
            for name, follower in followers.items():
                for line in follower.lines():
                    if important := _important(name, line):
                        say(important)
            processes.pause(FOLLOW_SECONDS)
    except KeyboardInterrupt:
        note("ending the cluster")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        local_cluster.down(paths)


def _important(name: str, line: str) -> str:
    """A log line for people, or nothing if it is only for the file: requests and notes are not shown."""
    try:
        entry = json.loads(line)
    except ValueError:
        return f"{name}: {line}" if line.strip() else ""
    if not isinstance(entry, dict) or entry.get("level", "info") in _QUIET_LEVELS:
        return ""
    rest = {key: value for key, value in entry.items() if key not in ("time", "timestamp", "level", "event", "node")}
    detail = " ".join(f"{key}={value}" for key, value in rest.items())
    return f"{entry.get('time', '')} {name} {entry.get('level')}: {entry.get('event', '')} {detail}".rstrip()
