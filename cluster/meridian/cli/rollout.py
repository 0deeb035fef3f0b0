"""rollout status, promote, abort: a document on its way; and how `apply` follows it."""

from time import monotonic
from typing import Any

import typer

from meridian.cli.client import Admin, AdminClient, Answered, TokenFile, Unreachable, author, find_target
from meridian.cli.errors import Failed
from meridian.cli.output import Json, say, show_json
from meridian.cli.processes import pause

POLL_SECONDS = 0.2
FOLLOW = "meridian rollout status shows it; meridian rollout promote or abort ends it"

rollout = typer.Typer(help="Watch or end the rollout of a document.", no_args_is_help=True)


@rollout.command()
def status(admin: Admin = "", token_file: TokenFile = "", as_json: Json = False) -> None:
    """Show the rollout on its way, or how the last one ended."""
    found = AdminClient(find_target(admin, token_file)).get("/v1/config/rollout")
    if as_json:
        show_json(found)
    elif found is None:
        say("no rollout yet; begin one with: meridian apply FILE")
    else:
        say(line(found))


@rollout.command()
def promote(admin: Admin = "", token_file: TokenFile = "", as_json: Json = False) -> None:
    """Make the candidate current on every node now, whatever was seen so far."""
    _end("promote", admin, token_file, as_json)


@rollout.command()
def abort(admin: Admin = "", token_file: TokenFile = "", as_json: Json = False) -> None:
    """Drop the candidate; what was current stays current."""
    _end("abort", admin, token_file, as_json)


def _end(what: str, admin: str, token_file: str, as_json: bool) -> None:
    client = AdminClient(find_target(admin, token_file))
    ended = client.send("POST", f"/v1/config/rollout/{what}", {"author": author()})
    if as_json:
        show_json(ended)
    else:
        say(line(ended))


def line(found: dict[str, Any]) -> str:
    """A rollout in one line."""
    text = f"version {found['candidate']} {found['stage']}"
    if found["candidate_exchanges"]:
        text += f", {found['candidate_exchanges']} exchanges, {_share(found, 'candidate')} failed"
        text += f" ({_share(found, 'current')} with version {found['base']})"
    return f"{text}: {found['detail'] or 'begun'}"


def follow_rollout(client: AdminClient, version: int, patience_seconds: float, quiet: bool) -> None:
    """Shows a rollout as it goes, until the version is current.

    Raises Failed when it was undone, and when it has not moved for `patience_seconds`; it goes on by itself.
    """
    shown, moved, mark = "", monotonic(), (0, "")
    while True:
        try:
            found = client.get("/v1/config/rollout")
        except (Unreachable, Answered) as error:
            found, text = None, error.message
        else:
            if found is None or found["candidate"] != version:
                raise Failed(f"the rollout of version {version} is not known any more", "see meridian history")
            text = line(found)
        if text != shown and not quiet:
            say(f"  {text}")
        shown = text
        if found is not None and found["ended"]:
            if found["stage"] == "done":
                return
            remedy = "what was current still is; correct the document and apply again, or say --now if it is meant"
            raise Failed(f"version {version} was not taken: {found['detail']}", remedy)
        now_at = (found["candidate_exchanges"] // 10, found["stage"]) if found is not None else mark
        if now_at != mark:
            moved, mark = monotonic(), now_at
        if monotonic() - moved > patience_seconds:
            raise Failed(f"the rollout holds: {text}", FOLLOW + "; apply --now takes a document to all at once")
        try:
            pause(POLL_SECONDS)
        except KeyboardInterrupt:
            say(f"the rollout goes on: {FOLLOW}")
            raise


def _share(found: dict[str, Any], of: str) -> str:
    exchanges = found[f"{of}_exchanges"]
    return f"{100 * found[f'{of}_failed'] / exchanges:.1f} %" if exchanges else "none"
