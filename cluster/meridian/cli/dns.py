"""meridian dns: what an operator does with zones: check, import, export, and keys. See docs/dns.md, docs/dnssec.md."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from meridian.cli.client import Admin, AdminClient, TokenFile, find_target, segment
from meridian.cli.errors import Failed
from meridian.cli.output import Json, note, say, show_json, show_table
from meridian.cli.zone_files import check_path, import_path

if TYPE_CHECKING:
    from meridian.admin.status import ZoneKeysStatus

dns = typer.Typer(help="Zones: check, import, export, and keys.", no_args_is_help=True, rich_markup_mode=None)
keys = typer.Typer(help="Look at a zone's keys, and replace them.", no_args_is_help=True, rich_markup_mode=None)
dns.add_typer(keys, name="keys")

Zone = Annotated[str, typer.Argument(metavar="ZONE", help="A zone of the document, such as gw.example.com.")]
Origin = Annotated[
    str, typer.Option("--origin", metavar="NAME", help="The file's zone, where it does not say it by $ORIGIN.")
]
View = Annotated[str, typer.Option("--view", metavar="NAME", help="As clients of this view see it; else of none.")]
LEVELS = ("error", "warning", "note")
Role = Annotated[str, typer.Option("--role", help="csk, or where the zone has split keys ksk or zsk.")]
_COLUMNS = ("tag", "role", "signs keys", "signs zone", "for the parent", "id")


@dns.command()
def check(
    target: Annotated[
        str, typer.Argument(metavar="ZONE|FILE", help="A zone as it is served, a zone file, a document.")
    ],
    origin: Origin = "",
    view: View = "",
    admin: Admin = "",
    token_file: TokenFile = "",
    as_json: Json = False,
) -> None:
    """Say of a zone what a good registrar would. Exit code 1 if something fails for clients now."""
    if Path(target).is_file():
        found = check_path(Path(target), origin)
    else:
        answer = AdminClient(find_target(admin, token_file)).get(_seen(target, "check", view))
        found = {answer["zone"]: answer["findings"]}
    if as_json:
        show_json({"zones": [{"zone": zone, "findings": findings} for zone, findings in found.items()]})
    else:
        for zone, findings in found.items():
            say(f"{zone}: " + (_counted(findings) or "nothing to say"))
            for finding in findings:
                say(f"  {finding['level']}: {finding['name']} {finding['problem']}")
                if finding["remedy"]:
                    say(f"    next: {finding['remedy']}")
    if any(finding["level"] == "error" for findings in found.values() for finding in findings):
        raise typer.Exit(1)


def _counted(findings: Sequence[Mapping[str, str]]) -> str:
    counts = Counter(finding["level"] for finding in findings)
    return ", ".join(f"{counts[level]} {level}{'s' * (counts[level] > 1)}" for level in LEVELS if counts[level])


@dns.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A zone file, or - for standard input.")],
    origin: Origin = "",
    as_json: Json = False,
) -> None:
    """Print a zone file as a zone of the document; what the document cannot say is told on standard error."""
    zone, lost = import_path(file, origin)
    if as_json:
        show_json({"zone": zone, "lost": lost})
        return
    from meridian.core.document import to_yaml

    say(to_yaml({"zones": [zone]}).rstrip("\n"))
    for line in lost:
        note(f"lost: {line}")


@dns.command()
def export(zone: Zone, view: View = "", admin: Admin = "", token_file: TokenFile = "") -> None:
    """Print a zone as a standard zone file, as the servers answer it; steered records are comments in it."""
    raw = AdminClient(find_target(admin, token_file)).get_bytes(_seen(zone, "file", view))
    say(raw.decode().rstrip("\n"))


@dns.command()
def ds(zone: Zone, admin: Admin = "", token_file: TokenFile = "", as_json: Json = False) -> None:
    """Print the DS records that belong into the parent zone."""
    found = _keys(AdminClient(find_target(admin, token_file)), zone)
    offered = [key.ds for key in found.keys if key.offered]
    if not offered:
        raise Failed(f"no DS of zone {zone} belongs into the parent zone now: {found.state}", found.next_step)
    if as_json:
        show_json({"zone": found.zone, "ds": offered})
    else:
        for line in offered:
            say(line)


@keys.command()
def show(zone: Zone, admin: Admin = "", token_file: TokenFile = "", as_json: Json = False) -> None:
    """Show a zone's keys, where a rollover stands, and what to do next."""
    client = AdminClient(find_target(admin, token_file))
    if as_json:
        show_json(client.get(_path(zone)))
        return
    found = _keys(client, zone)
    say(f"{found.zone} algorithm {found.algorithm}: {found.state}; next: {found.next_step}")
    rows = [
        (
            str(key.tag),
            key.role,
            *("yes" if yes else "" for yes in (key.signs_keys, key.signs_zone, key.offered)),
            key.id,
        )
        for key in found.keys
    ]
    show_table("", _COLUMNS, rows)


@keys.command()
def roll(zone: Zone, role: Role = "csk", admin: Admin = "", token_file: TokenFile = "", as_json: Json = False) -> None:
    """Begin to replace a key by a new one."""
    _tell(zone, "roll", {"role": role}, AdminClient(find_target(admin, token_file)), as_json)


@keys.command()
def seen(zone: Zone, admin: Admin = "", token_file: TokenFile = "", as_json: Json = False) -> None:
    """Say that all servers of the parent zone give the DS that was asked for."""
    _tell(zone, "seen", {}, AdminClient(find_target(admin, token_file)), as_json)


@keys.command()
def gone(zone: Zone, admin: Admin = "", token_file: TokenFile = "", as_json: Json = False) -> None:
    """Say that no server of the parent zone gives a DS any more: the zone may become unsigned."""
    _tell(zone, "gone", {}, AdminClient(find_target(admin, token_file)), as_json)


def _tell(zone: str, word: str, content: dict[str, object], client: AdminClient, as_json: bool) -> None:
    client.send("POST", f"{_path(zone)}/{word}", content)
    if as_json:
        show_json({"zone": zone, "told": word})
    else:
        say(f"{zone}: told; see meridian dns keys show {zone}")


def _keys(client: AdminClient, zone: str) -> "ZoneKeysStatus":
    from meridian.admin.status import ZoneKeysStatus

    return ZoneKeysStatus.model_validate(client.get(_path(zone)))


def _seen(zone: str, what: str, view: str) -> str:
    return f"/v1/zones/{segment(zone)}/{what}?{urlencode({'view': view})}"


def _path(zone: str) -> str:
    return f"/v1/zones/{segment(zone)}/keys"
