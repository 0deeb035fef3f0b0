"""meridian doctor: looks at a machine, a cluster and a delegation, and says of what is wrong how to mend it."""

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from meridian.cli.client import Admin, AdminClient, TokenFile, find_target
from meridian.cli.errors import CommandError, Mistake
from meridian.cli.output import Json, say, show_json

Level = Literal["error", "warning", "ok"]
NODE_CONF = Path("/etc/meridian/node.conf")
_WORDS = "MERIDIAN_NODE_ARGS="


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: an error fails clients now or soon, a warning will one day or under load."""

    level: Level
    about: str
    message: str
    remedy: str = ""


def doctor(
    context: typer.Context,
    machine: Annotated[
        bool, typer.Option("--machine/--no-machine", help="Look at this machine, as a node's machine.")
    ] = True,
    cluster: Annotated[bool, typer.Option("--cluster-state/--no-cluster-state", help="Ask the admin API.")] = True,
    zone: Annotated[str, typer.Option("--zone", help="Look at the delegation of this zone, too.")] = "",
    resolver: Annotated[
        str, typer.Option("--resolver", metavar="IP[:PORT]", help="Whom to ask about the delegation.")
    ] = "",
    admin: Admin = "",
    token_file: TokenFile = "",
    as_json: Json = False,
) -> None:
    """Check a machine and its cluster, and say how to mend each. Exit code 1 if there is an error.

    Further options are a node's flags, by default those of /etc/meridian/node.conf.
    """
    found = [*_of_machine(context.args)] if machine else []
    if cluster:
        found += _of_cluster(admin, token_file)
    if zone:
        from meridian.cli.doctor_dns import delegation

        found += delegation(zone, resolver)
    if as_json:
        show_json({"findings": [asdict(one) for one in found]})
    else:
        _show(found)
    if any(one.level == "error" for one in found):
        raise typer.Exit(1)


def _of_machine(flags: list[str]) -> Iterator[Finding]:
    from meridian.cli.doctor_machine import machine
    from meridian.nodes.settings import SettingsError, parse_settings

    flags = flags or _configured()
    if not flags:
        yield from machine(None)
        return
    try:
        settings = parse_settings(flags)
    except SettingsError as error:
        yield Finding("error", "flags", str(error), "correct them in /etc/meridian/node.conf")
        settings = None
    except SystemExit:
        raise Mistake("these are no flags of a node", "see: meridian node --help") from None
    yield from machine(settings)


def _configured() -> list[str]:
    """The flags that the unit starts the node with."""
    try:
        lines = NODE_CONF.read_text().splitlines()
    except OSError:
        return []
    told = next((line.removeprefix(_WORDS) for line in lines if line.startswith(_WORDS)), "")
    return shlex.split(" ".join(shlex.split(told)))


def _of_cluster(admin: str, token_file: str) -> Iterator[Finding]:
    from meridian.cli.doctor_cluster import clocks, judged

    try:
        status = AdminClient(find_target(admin, token_file)).status()
    except CommandError as error:
        yield Finding("error", "admin API", error.message, error.remedy)
        return
    yield from judged(status)
    yield from clocks(status)


def _show(found: list[Finding]) -> None:
    for level in ("error", "warning", "ok"):
        for one in found:
            if one.level == level:
                say(f"{level}: {one.about}: {one.message}")
                if one.remedy:
                    say(f"  next: {one.remedy}")
    counts = Counter(one.level for one in found)
    say(f"{counts['error']} errors, {counts['warning']} warnings, {counts['ok']} in order")
