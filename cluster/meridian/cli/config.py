"""plan, apply, get, history, rollback, schema, secret: the document and its versions."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meridian.cli.client import Admin, AdminClient, Answered, TokenFile, Unreachable, author, find_target
from meridian.cli.documents import read_document
from meridian.cli.errors import Failed
from meridian.cli.following import follow_files
from meridian.cli.local_state import LocalPaths
from meridian.cli.output import Json, say, show_json, show_table
from meridian.cli.processes import pause
from meridian.cli.rollout import follow_rollout

if TYPE_CHECKING:
    from meridian.admin.status import NodeStatus, Status

POLL_SECONDS = 0.1
# A refusal seen sooner may still be that of the version before.
REFUSAL_SECONDS = 1.0

DocumentPath = Annotated[Path, typer.Argument(metavar="FILE", help="The document.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.0, help="Seconds to wait until every node has it.")]
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def plan(file: DocumentPath, admin: Admin = "", token_file: TokenFile = "", as_json: Json = False) -> None:
    """Show what applying a document would change. Changes nothing."""
    request = read_document(file, _demo(admin)).to_request()
    planned = AdminClient(find_target(admin, token_file)).send("POST", "/v1/config/plan", request)
    if as_json:
        show_json(planned)
        return
    for line in plan_lines(planned):
        say(line)
    for objection in planned["plan"]["objections"]:
        say(f"objection: {objection}; apply would want --force")


def apply(
    file: DocumentPath,
    now: Annotated[bool, typer.Option("--now", help="To all nodes at once, without trying it on a few first.")] = False,
    stage_seconds: Annotated[float | None, typer.Option("--stage-seconds", min=0.1, help="Each stage's least.")] = None,
    message: Annotated[str, typer.Option("--message", "-m", help="Why, for the history.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Also when much is removed.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Stay, and apply it again when it or a file that it names changes.")
    ] = False,
    timeout_seconds: Timeout = 10.0,
    admin: Admin = "",
    token_file: TokenFile = "",
    as_json: Json = False,
) -> None:
    """Try a document on a share of the traffic, then make it the current one; roll it back if it does worse."""

    def once() -> None:
        _apply(file, now, stage_seconds, message, force, timeout_seconds, admin, token_file, as_json)

    if follow:
        follow_files(file, once, as_json=as_json)
    else:
        once()


def _apply(
    file: Path, now: bool, stage_seconds: float | None, message: str, force: bool, timeout_seconds: float, admin: str,
    token_file: str, as_json: bool,
) -> None:  # fmt: skip
    request = read_document(file, _demo(admin)).to_request()
    client = AdminClient(find_target(admin, token_file))
    planned = client.send("POST", "/v1/config/plan", request)
    if not as_json:
        for line in plan_lines(planned):
            say(line)
    request |= {"author": author(), "message": message, "force": force, "expected_version": planned["base"]}
    request |= {"staged": not now, "stage_seconds": stage_seconds}
    applied = client.send("PUT", "/v1/config", request)
    if applied["staged"]:
        follow_rollout(client, applied["version"], timeout_seconds, as_json)
    _follow(client, applied, timeout_seconds, as_json)


def get(
    version: Annotated[int | None, typer.Argument(metavar="VERSION", help="By default the current one.", min=1)] = None,
    admin: Admin = "",
    token_file: TokenFile = "",
    as_json: Json = False,
) -> None:
    """Print a version of the document."""
    path = "/v1/config" if version is None else f"/v1/config/{version}"
    stored = AdminClient(find_target(admin, token_file)).get(path)
    if as_json:
        show_json(stored)
    else:
        say(stored["text"].rstrip("\n"))


def history(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 20,
    admin: Admin = "",
    token_file: TokenFile = "",
    as_json: Json = False,
) -> None:
    """List the versions, newest first: who, when and why."""
    found = AdminClient(find_target(admin, token_file)).get(f"/v1/config/history?limit={limit}")
    if as_json:
        show_json(found)
        return
    if not found["versions"]:
        say("nothing has been applied yet; begin with: meridian apply FILE")
        return
    rows = []
    for row in found["versions"]:
        ended = found["outcomes"].get(str(row["version"]))
        how = f"{ended['stage']}: {ended['detail']}" if ended else ""
        rows.append((str(row["version"]), row["at"], row["author"], row["message"], how))
    show_table("", ("version", "at", "author", "message", "rollout"), rows)


def rollback(
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The version to go back to.", min=1)],
    timeout_seconds: Timeout = 10.0,
    admin: Admin = "",
    token_file: TokenFile = "",
    as_json: Json = False,
) -> None:
    """Make an old version's content current again, as a new version."""
    client = AdminClient(find_target(admin, token_file))
    applied = client.send("POST", "/v1/config/rollback", {"version": version, "author": author()})
    _follow(client, applied, timeout_seconds, as_json)


def schema(as_json: Json = False) -> None:
    """Print the JSON Schema of a document, for editors."""
    from meridian.core.document import schema as document_schema

    show_json(document_schema())


def secret(as_json: Json = False) -> None:
    """Make a secret for a consumer, and the hash of it for the document. It is shown once and kept nowhere."""
    from meridian.core.authentication import hash_of

    made = secrets.token_urlsafe(32)
    if as_json:
        show_json({"secret": made, "hash": hash_of(made.encode())})
        return
    say(f"secret  {made}")
    say(f"hash    {hash_of(made.encode())}")
    say("next: give the secret to the consumer, and write the hash into the document under its secrets")


def plan_lines(planned: dict[str, Any]) -> Iterator[str]:
    """A plan for people: one line a change, its details below it, then the warnings."""
    if not planned["plan"]["changes"]:
        yield f"no change against version {planned['base']}"
    for change in planned["plan"]["changes"]:
        yield f"{_SIGNS.get(change['kind'], '?')} {change['section']} {change['name']}"
        for detail in change["details"]:
            yield f"    {detail}"
    for warning in planned["warnings"]:
        yield f"warning: line {warning['line']}: {warning['place']}: {warning['message']}"


def _demo(admin: str) -> LocalPaths | None:
    """The local cluster takes certificates made for its demo; any other gets only what lies beside the document."""
    return None if admin else LocalPaths.from_environment(os.environ)


def _follow(client: AdminClient, applied: dict[str, Any], timeout_seconds: float, as_json: bool) -> None:
    """Shows which node has the version, as it comes. Raises Failed naming who lags or refused, and why."""
    version = applied["version"]
    if not as_json:
        say(f"version {version} is current" if applied["changed"] else f"version {version} was current already")
    missing, status = _await_version(client, version, timeout_seconds, as_json)
    nodes = status.nodes if status else ()
    if as_json:
        rows = {node.name: {"config_version": node.config_version, "refused": node.config_refused} for node in nodes}
        show_json({**applied, "complete": not missing, "nodes": rows})
        if missing:
            raise typer.Exit(1)
    elif missing:
        raise Failed(
            f"version {version} is current, but not every node serves it",
            "nodes go on serving what they have; see meridian status, or go back with meridian rollback",
            missing,
        )


def _await_version(
    client: AdminClient, version: int, timeout_seconds: float, quiet: bool
) -> tuple[tuple[str, ...], "Status | None"]:
    """Polls until all nodes serve `version`. Returns a line for each that does not, and the last status."""
    from meridian.admin.status import laggards

    begun = monotonic()
    shown: set[str] = set()
    status: Status | None = None
    missing: tuple[str, ...] = ("no status was answered",)
    while True:
        waited = monotonic() - begun
        try:
            status = client.status()
        except (Unreachable, Answered) as error:
            missing = (error.message,)
        else:
            late = list(laggards(status, version))
            missing = tuple(_why(node) for node in late) or (() if status.nodes else ("no node is known",))
            for node in status.nodes:
                if not quiet and node not in late and node.name not in shown:
                    shown.add(node.name)
                    say(f"  {node.name} has version {node.config_version} ({waited:.1f} s)")
            if not missing:
                return (), status
            if waited > REFUSAL_SECONDS and late and all(node.config_refused for node in late):
                return missing, status
        if waited > timeout_seconds:
            return missing, status
        pause(POLL_SECONDS)


def _why(node: "NodeStatus") -> str:
    if node.config_refused:
        return f"{node.name} keeps version {node.config_version}: {node.config_refused}"
    return f"{node.name} still has version {node.config_version}"
