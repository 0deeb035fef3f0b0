"""status, drain, undrain: how the cluster stands, and who leaves or comes back."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meridian.cli.client import Admin, AdminClient, TokenFile, find_target, segment
from meridian.cli.errors import CommandError, Failed
from meridian.cli.output import Json, console, say, show_json, table
from meridian.cli.processes import pause, poll

if TYPE_CHECKING:
    from meridian.admin.status import Status

Target = Annotated[str, typer.Argument(metavar="NAME", help="A node or a region.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.0, help="Seconds to wait until the verdict says so.")]
WATCH_SECONDS = 1.0
_CERTIFICATE_COLUMNS = ("certificate", "of", "state", "valid until", "renewed at", "why", "tried again at")
_COLUMNS = (
    "node",
    "region",
    "standing",
    "leader",
    "version",
    "verdict",
    "http",
    "https",
    "dns",
    "answered by DNS",
    "why",
)
_LIMIT_COLUMNS = ("limit", "in force", "next", "waits for", "borrowed", "lent", "admitted here", "refused here")


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew each second, until Ctrl-C.")] = False,
    admin: Admin = "",
    token_file: TokenFile = "",
    as_json: Json = False,
) -> None:
    """Show regions, nodes, leader, verdict and versions."""
    client = AdminClient(find_target(admin, token_file))
    if as_json:
        show_json(client.get("/v1/status"))
    elif watch:
        _watch(client)
    else:
        console().print(render(client.status()))


def drain(
    name: Target,
    timeout_seconds: Timeout = 10.0,
    force: Annotated[bool, typer.Option("--force", help="Also if nobody else would serve.")] = False,
    admin: Admin = "",
    token_file: TokenFile = "",
    as_json: Json = False,
) -> None:
    """Let a node or a region leave, with no failed request."""
    client = AdminClient(find_target(admin, token_file))
    if force:
        # Of the last ones DNS keeps one, so there is no standing to wait for.
        client.send("PUT", f"/v1/drains/{segment(name)}?force=true")
        if as_json:
            show_json({"name": name, "standing": "ordered"})
        else:
            say(f"{name} has the order to drain; DNS keeps the last one that serves")
        return
    _order("PUT", name, ("draining", "withdrawn"), client, timeout_seconds, as_json)


def undrain(
    name: Target, timeout_seconds: Timeout = 10.0, admin: Admin = "", token_file: TokenFile = "", as_json: Json = False
) -> None:
    """Let a node or a region come back."""
    _order("DELETE", name, ("serving",), AdminClient(find_target(admin, token_file)), timeout_seconds, as_json)


def render(found: "Status") -> Any:
    """The status for people: a line for the whole, a table of nodes, a table of regions."""
    from rich.console import Group
    from rich.markup import escape

    store = "[green]reachable[/]" if found.store.reachable else f"[red]not reachable[/] ({escape(found.store.detail)})"
    verdict = f"{found.verdict.fence}.{found.verdict.version}"
    if found.verdict.fallback:
        verdict += f" [yellow]and {found.verdict.fallback} merged here, as no leader is heard[/]"
    head = (
        f"cluster [bold]{escape(found.cluster)}[/], asked {escape(found.node)}; "
        f"store {store}, {found.store_writes_per_second:.1f} writes/s by {escape(found.node)}; "
        f"leader {escape(found.leader) or '[yellow]none[/]'}; verdict {verdict}; version {found.config_version}"
    )
    if found.config_from_disk:
        head += " [yellow](this node's own copy: it has not reached the store since it started)[/]"
    if found.rollout is not None and not found.rollout.over:
        head += f"\nrollout of version {found.rollout.candidate}: {found.rollout.stage}, {escape(found.rollout.detail)}"
    nodes = [
        (
            node.name,
            node.region,
            node.standing,
            "yes" if node.leader else "",
            f"{node.config_version}{' refused' if node.config_refused else ''}",
            f"{node.verdict_version}",
            node.http,
            node.https,
            node.dns,
            " ".join(node.addresses),
            node.config_refused or node.reason,
        )
        for node in found.nodes
    ]
    regions = [
        (
            region.name,
            region.standing,
            f"{region.load:.0f}/s",
            f"{region.capacity:.0f}/s" if region.capacity is not None else "",
            f"{region.share:.0%}",
            region.reason,
        )
        for region in found.regions
    ]
    columns = ("region", "standing", "load", "capacity", "share", "why")
    if found.regional_store is not None:
        state = "[green]reachable[/]" if found.regional_store.reachable else "[red]not reachable[/]"
        head += f"; this region's store {state}"
    head += "".join(f"\n[yellow]{escape(warning)}[/]" for warning in found.warnings)
    if len({node.software for node in found.nodes}) > 1:
        told = ", ".join(f"{node.name} {node.software or '?'}" for node in found.nodes)
        head += f"\nversions: {escape(told)}; all can: {escape(', '.join(found.speaks)) or 'nothing new'}"
    limits = [
        (
            limit.name,
            _rule(limit.rate_per_second, limit.burst),
            _rule(limit.next_rate_per_second, limit.next_burst),
            " ".join(limit.waits_for),
            f"{limit.borrowed_tokens:.1f}",
            f"{limit.lent_tokens:.1f}",
            f"{limit.admitted}",
            f"{limit.refused}",
        )
        for limit in found.limits
    ]
    parts = [head, table("", _COLUMNS, nodes), table("", columns, regions)]
    if limits:
        seats = f"{found.node} spends {found.seats.home} home and {found.seats.leased} leased seats of every limit"
        parts += [escape(f"{seats}{f' ({found.seats.detail})' if found.seats.detail else ''}")]
        parts += [table("", _LIMIT_COLUMNS, limits)]
    if found.certificates:
        rows = [
            (" ".join(one.hosts), one.authority, one.state, one.not_after, one.renew_at, one.reason, one.try_at)
            for one in found.certificates
        ]
        parts += [table("", _CERTIFICATE_COLUMNS, rows)]
    return Group(*parts)


def _rule(rate_per_second: float | None, burst: int | None) -> str:
    return "" if rate_per_second is None else f"{rate_per_second:g}/s + {burst}"


def _watch(client: AdminClient) -> None:
    from rich.live import Live

    def shown() -> Any:
        # A cluster that cannot be asked for a moment is what one watches for, and no reason to stop.
        try:
            return render(client.status())
        except CommandError as error:
            return f"[red]{error.message}[/]"

    with Live(shown(), console=console(), auto_refresh=False) as live:
        while True:
            pause(WATCH_SECONDS)
            live.update(shown(), refresh=True)


def _order(
    method: str, name: str, wanted: tuple[str, ...], client: AdminClient, timeout_seconds: float, as_json: bool
) -> None:
    """Gives the order and waits until the verdict shows it. Raises Failed when it does not in time."""
    client.send(method, f"/v1/drains/{segment(name)}")
    if not poll(_standing(client, name, wanted), timeout_seconds, 0.1):
        raise Failed(f"{name} is not {wanted[0]} after {timeout_seconds:g} s", "the order stands; see meridian status")
    if as_json:
        show_json({"name": name, "standing": wanted[0]})
    else:
        say(f"{name} is {wanted[0]}")


def _standing(client: AdminClient, name: str, wanted: tuple[str, ...]) -> Callable[[], bool]:
    """Whether the node, or every node of the region, stands as wanted."""

    def reached() -> bool:
        nodes = [node for node in client.status().nodes if name in (node.name, node.region)]
        return bool(nodes) and all(node.standing in wanted for node in nodes)

    return reached
