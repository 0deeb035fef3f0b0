"""meridian explain: why something is answered as it is. The node itself tells, by the functions that decide."""

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from meridian.cli.client import Admin, AdminClient, Target, TokenFile, find_target
from meridian.cli.errors import Mistake
from meridian.cli.output import Json, say, show_json, show_table

if TYPE_CHECKING:
    from meridian.admin.explained import DnsExplanation

explain = typer.Typer(help="Why an answer is as it is.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name that is asked for, such as shop.example.com.")]
Type = Annotated[str, typer.Option("--type", metavar="TYPE", help="A, AAAA, MX or any other.")]
Client = Annotated[
    str, typer.Option("--client", metavar="IP", help="Who asks; a network such as 203.0.113.0/24: by a resolver.")
]
Node = Annotated[str, typer.Option("--node", metavar="NODE", help="Which node is asked; by default the first.")]


@explain.callback()
def _parts() -> None:
    """Why an answer is as it is."""


@explain.command()
def dns(
    name: Name,
    type_: Type = "A",
    client: Client = "",
    node: Node = "",
    admin: Admin = "",
    token_file: TokenFile = "",
    as_json: Json = False,
) -> None:
    """Tell how a DNS question is answered: the steps, who could be named and why not, the answer."""
    target = find_target(admin, token_file)
    asked = AdminClient(_of_node(target, node) if node else target)
    answer = asked.get(f"/v1/explain/dns?{urlencode({'name': name, 'type': type_, 'client': client})}")
    if as_json:
        show_json(answer)
        return
    from meridian.admin.explained import DnsExplanation

    _show(DnsExplanation.model_validate(answer))


def _of_node(target: Target, node: str) -> Target:
    """That node's admin API, under the same token. Raises Mistake."""
    nodes = {one.name: one.admin for one in AdminClient(target).status().nodes if one.admin}
    if node not in nodes:
        known = ", ".join(sorted(nodes)) or "none"
        raise Mistake(f"no node {node!r} has an admin API that is known (known: {known})", "see meridian status")
    return Target((nodes[node],), target.token)


def _show(found: "DnsExplanation") -> None:
    said = ""
    for step in found.steps:
        say(f"{step.topic if step.topic != said else '':<9} {step.text}")
        said = step.topic
    if found.candidates:
        rows = [
            (
                f"{one.owner} {one.type}",
                one.region,
                one.node,
                ", ".join(one.addresses),
                one.standing,
                "yes" if one.answered else "no",
                one.reason,
            )
            for one in found.candidates
        ]
        show_table("", ("record", "region", "node", "addresses", "verdict", "answered", "why"), rows)
    for record in found.records:
        say(f"{record.owner} {record.ttl_seconds} IN {record.type} {record.value}  ; {record.section}")
