"""meridian explain: why something is answered as it is. The node itself tells, by the functions that decide."""

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from meridian.cli.client import Admin, AdminClient, Target, TokenFile, find_target
from meridian.cli.errors import Mistake
from meridian.cli.output import Json, say, show_json, show_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meridian.admin.explained import DnsExplanation, ExplainedStep, RequestExplanation

explain = typer.Typer(help="Why an answer is as it is.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name that is asked for, such as shop.example.com.")]
Type = Annotated[str, typer.Option("--type", metavar="TYPE", help="A, AAAA, MX or any other.")]
Client = Annotated[
    str, typer.Option("--client", metavar="IP", help="Who asks; a network such as 203.0.113.0/24: by a resolver.")
]
Node = Annotated[str, typer.Option("--node", metavar="NODE", help="Which node is asked; by default the first.")]


Url = Annotated[str, typer.Argument(metavar="URL", help="As a client would ask, such as https://shop.example.com/api.")]
Method = Annotated[str, typer.Option("--method", "-X", metavar="METHOD")]
Fields = Annotated[list[str] | None, typer.Option("--header", "-H", metavar="FIELD", help="'Name: value', as of curl.")]
Connecting = Annotated[str, typer.Option("--client", metavar="IP", help="Who would connect; by default this machine.")]


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


@explain.command()
def request(
    url: Url,
    method: Method = "GET",
    header: Fields = None,
    client: Connecting = "",
    node: Node = "",
    admin: Admin = "",
    token_file: TokenFile = "",
    as_json: Json = False,
) -> None:
    """Tell what would become of a request: which route takes it and why no other, its stages, its endpoints.

    Nothing is sent, and no limit is spent.
    """
    target = find_target(admin, token_file)
    asked = AdminClient(_of_node(target, node) if node else target)
    fields = [_field(one) for one in header or ()]
    question: dict[str, object] = {"url": url, "method": method, "headers": fields, "client": client}
    answer = asked.send("POST", "/v1/explain/request", question)
    if as_json:
        show_json(answer)
        return
    from meridian.admin.explained import RequestExplanation

    _show_request(RequestExplanation.model_validate(answer))


def _field(text: str) -> dict[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise Mistake(f"{text!r} is no header field", "write it as -H 'Name: value'")
    return {"name": name.strip(), "value": value.strip()}


def _of_node(target: Target, node: str) -> Target:
    """That node's admin API, under the same token. Raises Mistake."""
    nodes = {one.name: one.admin for one in AdminClient(target).status().nodes if one.admin}
    if node not in nodes:
        known = ", ".join(sorted(nodes)) or "none"
        raise Mistake(f"no node {node!r} has an admin API that is known (known: {known})", "see meridian status")
    return Target((nodes[node],), target.token)


def _show_request(found: "RequestExplanation") -> None:
    _show_steps(found.steps)
    if found.routes:
        rows = [("yes" if one.takes else "no", one.route, one.match, one.why) for one in found.routes]
        show_table("", ("takes it", "route", "match", "why"), rows)
    if found.stages:
        show_table("", ("stage", "says"), [(one.stage, one.text) for one in found.stages])
    if found.endpoints:
        show_table(
            f"upstream {found.upstream}, {found.balance}",
            ("next", "endpoint", "region", "state", "tier", "share", "under way"),
            [
                ("yes" if one.next else "", one.address, one.region, one.state, str(one.tier), f"{one.share:.0%}",
                 str(one.active))
                for one in found.endpoints
            ],
        )  # fmt: skip


def _show_steps(steps: "Iterable[ExplainedStep]") -> None:
    said = ""
    for step in steps:
        say(f"{step.topic if step.topic != said else '':<9} {step.text}")
        said = step.topic


def _show(found: "DnsExplanation") -> None:
    _show_steps(found.steps)
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
