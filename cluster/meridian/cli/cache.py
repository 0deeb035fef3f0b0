"""meridian cache: what an operator says of answers that the gateway keeps. See docs/caching.md."""

from typing import Annotated

import typer

from meridian.cli.client import Admin, AdminClient, TokenFile, find_target
from meridian.cli.errors import Mistake
from meridian.cli.output import Json, say, show_json

cache = typer.Typer(help="Answers that the gateway keeps.", no_args_is_help=True, rich_markup_mode=None)

Route = Annotated[str, typer.Option("--route", metavar="NAME", help="Of this route alone.")]
Host = Annotated[str, typer.Option("--host", metavar="HOST", help="Of this host alone.")]
Path = Annotated[str, typer.Option("--path", metavar="PATH", help="Exactly this path, with all its queries.")]
Prefix = Annotated[str, typer.Option("--prefix", metavar="PATH", help="This path and all below it.")]
Tag = Annotated[str, typer.Option("--tag", metavar="TAG", help="Named so in Cache-Tag or Surrogate-Key.")]
All = Annotated[bool, typer.Option("--all", help="Everything.")]


@cache.callback()
def _parts() -> None:
    """Answers that the gateway keeps."""


@cache.command()
def purge(
    route: Route = "", host: Host = "", path: Path = "", prefix: Prefix = "", tag: Tag = "", everything: All = False,
    admin: Admin = "", token_file: TokenFile = "", as_json: Json = False,
) -> None:  # fmt: skip
    """Let all nodes forget answers: those that fit all that is said."""
    order: dict[str, object] = {"route": route, "host": host, "path": path, "path_prefix": prefix, "tag": tag}
    if everything is any(order.values()):
        raise Mistake(
            "it must be said what to purge", "give --path, --prefix, --tag, --host or --route; or --all alone"
        )
    ordered = AdminClient(find_target(admin, token_file)).send("POST", "/v1/cache/purges", order)
    if as_json:
        show_json(ordered)
    else:
        say(f"purge {ordered['number']} is ordered: every node forgets what fits, within a second of hearing of it")
