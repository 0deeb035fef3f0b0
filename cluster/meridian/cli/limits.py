"""meridian limits: what only an operator can say of who may spend them. See docs/limits.md."""

from typing import Annotated

import typer

from meridian.cli.client import Admin, AdminClient, TokenFile, find_target, segment
from meridian.cli.output import Json, say, show_json

limits = typer.Typer(help="Who may spend limits, where no node can know.", no_args_is_help=True, rich_markup_mode=None)

Node = Annotated[str, typer.Argument(metavar="NODE", help="A machine that is off for good.")]


@limits.command()
def settle(admin: Admin = "", token_file: TokenFile = "", as_json: Json = False) -> None:
    """After a restore: say that every node of before is back, or off for good."""
    AdminClient(find_target(admin, token_file)).send("POST", "/v1/limits/settle")
    if as_json:
        show_json({"settled": True})
    else:
        say("limits wait for nobody any more: seats and new values move")


@limits.command()
def free(node: Node, admin: Admin = "", token_file: TokenFile = "", as_json: Json = False) -> None:
    """Say that a machine is off for good: others may have its home seats."""
    freed = AdminClient(find_target(admin, token_file)).send("DELETE", f"/v1/limits/seats/{segment(node)}")
    if as_json:
        show_json({"node": node, **freed})
    else:
        say(f"{node} gave up {freed['seats']} home seats; others take them within seconds")
