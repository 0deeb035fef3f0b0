"""meridian dns: what an operator does with signed zones. See docs/dnssec.md."""

from typing import TYPE_CHECKING, Annotated

import typer

from meridian.cli.client import Admin, AdminClient, TokenFile, find_target, segment
from meridian.cli.errors import Failed
from meridian.cli.output import Json, say, show_json, show_table

if TYPE_CHECKING:
    from meridian.admin.status import ZoneKeysStatus

dns = typer.Typer(help="Signed zones: the DS for the parent, and keys.", no_args_is_help=True, rich_markup_mode=None)
keys = typer.Typer(help="Look at a zone's keys, and replace them.", no_args_is_help=True, rich_markup_mode=None)
dns.add_typer(keys, name="keys")

Zone = Annotated[str, typer.Argument(metavar="ZONE", help="A zone of the document, such as gw.example.com.")]
Role = Annotated[str, typer.Option("--role", help="csk, or where the zone has split keys ksk or zsk.")]
_COLUMNS = ("tag", "role", "signs keys", "signs zone", "for the parent", "id")


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


def _yes(yes: bool) -> str:
    return "yes" if yes else ""


def _path(zone: str) -> str:
    return f"/v1/zones/{segment(zone)}/keys"
