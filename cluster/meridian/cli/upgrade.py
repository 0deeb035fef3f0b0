"""meridian upgrade: a node's workers are replaced by new ones, with the code that is installed now."""

import os
from typing import Annotated, Any

import typer

from meridian.cli.client import Admin, AdminClient, Answered, Target, TokenFile, Unreachable, find_target
from meridian.cli.errors import Failed, Mistake
from meridian.cli.output import Json, note, say, show_json
from meridian.cli.processes import pause

LOOK_SECONDS = 0.2
AWAY_SECONDS = 30.0  # the agent is replaced too, and so long it may be away

Node = Annotated[str, typer.Argument(metavar="[NODE]", help="Of the local cluster; else the node of --admin.")]
Seconds = Annotated[
    float, typer.Option("--seconds", min=0.0, max=86400.0, help="What open connections may take to end.")
]


def upgrade(
    node: Node = "",
    seconds: Seconds = 300.0,
    status: Annotated[bool, typer.Option("--status", help="Only show how the last one stands.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for open connections.")] = False,
    admin: Admin = "",
    token_file: TokenFile = "",
    as_json: Json = False,
) -> None:
    """Replace a node's workers by new ones with the code installed now, with no failed request."""
    client = AdminClient(_of(node, find_target(admin, token_file)))
    if status:
        _show(client.get("/v1/upgrade"), as_json)
        return
    found = client.send("POST", f"/v1/upgrade?seconds={seconds}")
    number, told = found["number"], False
    while found["state"] == "preparing" or (found["state"] == "draining" and not detach):
        if found["state"] == "draining" and not told and not as_json:
            told = True
            note(f"{found['new_version']} serves; {found['draining']} workers of before finish their connections")
        pause(LOOK_SECONDS)
        found = _look(client)
        if found["number"] != number:
            raise Failed("another upgrade began, or the node started anew", "see meridian upgrade --status")
    if found["state"] == "failed":
        raise Failed(
            f"the new workers do not serve: {found['reason']}", "the old ones go on; correct that and upgrade again"
        )
    _show(found, as_json)


def _of(node: str, target: Target) -> Target:
    """The one address of a node of the local cluster. Raises Mistake."""
    from meridian.cli.local_state import LocalPaths, load_cluster

    if not node:
        return Target(target.addresses[:1], target.token)
    cluster = load_cluster(LocalPaths.from_environment(os.environ))
    known = {one.name: one.admin for one in cluster.nodes} if cluster is not None else {}
    if node not in known:
        raise Mistake(
            f"the local cluster has no node {node!r}", f"it has: {', '.join(known) or 'none'}; or say --admin"
        )
    return Target((known[node],), target.token)


def _look(client: AdminClient) -> Any:
    """How it stands, also while the agent is being replaced. Raises Unreachable, Failed."""
    waited = 0.0
    while True:
        try:
            return client.get("/v1/upgrade")
        except (Unreachable, Answered):
            waited += LOOK_SECONDS
            if waited > AWAY_SECONDS:
                raise
            pause(LOOK_SECONDS)


def _show(found: Any, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    if found["state"] == "none":
        say("there was no upgrade since this node started")
        return
    say(f"{found['state']}: {found['old_version']} -> {found['new_version'] or '?'}, {found['workers']} workers")
    finished = found["connections"] - found["cut"]
    say(f"connections of before: {finished} finished, {found['cut']} cut, {found['draining']} workers still finish")
    for key in ("agent", "reason"):
        if found[key]:
            say(f"{key}: {found[key]}")
    if found["lost"]:
        say(f"{found['lost']} old workers ended without a word, and their connections with them")
