"""meridian pki: the cluster's private authority, and how machines get certificates of it."""

import contextlib
import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meridian.cli.errors import Failed, Mistake
from meridian.cli.output import Json, note, say, show_json
from meridian.cli.processes import pause

if TYPE_CHECKING:
    from meridian.pki.authority import Identity

pki = typer.Typer(
    help="The cluster's private authority: certificates for nodes and etcd members.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The authority's folder: its reader owns the cluster.")]
To = Annotated[Path, typer.Option("--to", metavar="DIR", help="The machine's folder, such as /var/lib/meridian/pki.")]
Url = Annotated[str, typer.Option("--authority", metavar="URL", help="https://HOST:9902 of meridian pki serve.")]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Unique in the cluster; the node's --name.")]
Addresses = Annotated[
    list[str], typer.Option("--address", metavar="IP", help="Where other machines reach it; may be repeated.")
]
NoClusterKey = Annotated[bool, typer.Option("--no-cluster-key", help="For machines of etcd, which have no use for it.")]

REFRESH_SECONDS = 3600.0  # between two looks of the server at its own certificate
RETRY_SECONDS = 5.0


@pki.command()
def init(
    folder: Folder,
    cluster: Annotated[str, typer.Option("--cluster", help="Named in the authority's certificate.")] = "meridian",
    as_json: Json = False,
) -> None:
    """Make a new authority, and the key that the cluster's configuration is sealed with."""
    from meridian.pki import authority, tokens

    with _told():
        made = authority.create(folder, cluster, _now())
    shown = tokens.fingerprint(made.certificate)
    if as_json:
        show_json({"folder": str(folder), "fingerprint": shown})
    else:
        say(f"the authority of {cluster} is in {folder}; keep a copy of it outside the cluster")
        say(f"its fingerprint: {shown}")


@pki.command()
def issue(
    folder: Folder,
    name: Name,
    to: To,
    addresses: Addresses,
    days: Annotated[float, typer.Option("--days", min=0.01, max=397.0, help="How long it is good.")] = 7.0,
    no_cluster_key: NoClusterKey = False,
    as_json: Json = False,
) -> None:
    """Make a machine's folder here, for a machine that cannot ask: copy it there."""
    from meridian.pki import authority, machine

    with _told():
        key = b"" if no_cluster_key else authority.read(folder / "cluster.key")
        lifetime = datetime.timedelta(days=days)
        machine.keep(to, authority.load(folder), _identity(name, addresses), key, _now(), lifetime)
    _done(f"{to} has a certificate for {name}", {"name": name, "folder": str(to)}, as_json)


@pki.command()
def token(
    folder: Folder,
    names: Annotated[str, typer.Option("--names", metavar="PATTERN", help="A name, or a pattern such as eu-west-*.")],
    networks: Annotated[
        list[str], typer.Option("--network", metavar="CIDR", help="Where its addresses lie; may be repeated.")
    ],
    uses: Annotated[int, typer.Option("--uses", min=1, help="How many machines may join with it.")] = 1,
    hours: Annotated[float, typer.Option("--hours", min=0.01, help="How long it is good.")] = 1.0,
    no_cluster_key: NoClusterKey = False,
    as_json: Json = False,
) -> None:
    """Print a token that lets a machine join."""
    from meridian.pki import authority, tokens

    now = _now().timestamp()
    grant = tokens.Grant(names, tuple(networks), uses, now + hours * 3600, not no_cluster_key)
    with _told():
        made = tokens.make(folder, authority.load(folder).certificate, grant, now)
    if as_json:
        show_json({"token": made, "names": names, "uses": uses, "hours": hours})
    else:
        say(made)


@pki.command()
def serve(
    folder: Folder,
    addresses: Addresses,
    bind: Annotated[str, typer.Option("--bind", metavar="IP", help="Where to listen.")] = "0.0.0.0",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 9902,
) -> None:
    """Answer machines that join or renew, until told to end."""
    from meridian.pki.server import Door, Registrar

    with _told():
        try:
            door = Door((bind, port), Registrar(folder, _now), folder, _identity("meridian-pki", addresses), note)
        except OSError as error:
            raise Mistake(f"cannot listen on {bind}:{port}: {error.strerror}", "choose another --port") from None
        note(f"the authority of {folder} answers at https://{addresses[0]}:{port}")
        door.timeout = REFRESH_SECONDS
        refresh = time.monotonic() + REFRESH_SECONDS
        while True:
            door.handle_request()
            if time.monotonic() > refresh:
                refresh = time.monotonic() + REFRESH_SECONDS
                door.refresh()


@pki.command()
def join(
    authority: Url,
    token_file: Annotated[Path, typer.Option("--token-file", help="File that holds the token; - is standard input.")],
    name: Name,
    addresses: Addresses,
    to: To,
    wait_minutes: Annotated[float, typer.Option("--wait-minutes", min=0.0, help="How long to try.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Get this machine's first certificate for a token. A machine that has one is left as it is."""
    from meridian.pki import machine
    from meridian.pki.machine import Unanswered

    if (to / "certificate.pem").exists():
        _done(f"{to} has a certificate already", {"name": name, "joined": False}, as_json)
        return
    text = _text(token_file)
    identity = _identity(name, addresses)
    deadline = time.monotonic() + wait_minutes * 60
    with _told():
        while True:
            try:
                machine.join(authority, text, identity, to)
                break
            except Unanswered:
                if time.monotonic() > deadline:
                    raise
                pause(RETRY_SECONDS)
    _done(f"{name} has joined; its certificate is in {to}", {"name": name, "joined": True}, as_json)


@pki.command()
def renew(
    authority: Url,
    to: To,
    force: Annotated[bool, typer.Option("--force", help="Also when it is not due.")] = False,
    as_json: Json = False,
) -> None:
    """Renew this machine's certificate when a third of its week is over. Nodes and etcd take it up by themselves."""
    from meridian.pki import machine

    with _told():
        renewed = machine.renew(authority, to, _now(), force=force)
    _done("renewed" if renewed else "not due yet", {"renewed": renewed}, as_json)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the authority's room refuses, as a command says it."""
    from meridian.pki.authority import PkiError

    try:
        yield
    except PkiError as error:
        raise Failed(error.message, error.remedy) from None


def _identity(name: str, addresses: list[str]) -> "Identity":
    from meridian.pki.authority import Identity, addresses_of

    with _told():
        return Identity(name, addresses_of(addresses))


def _text(file: Path) -> str:
    try:
        return typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text()
    except OSError as error:
        raise Mistake(f"cannot read the token file {file}: {error.strerror}", "name it with --token-file") from None


def _done(text: str, content: dict[str, object], as_json: bool) -> None:
    if as_json:
        show_json(content)
    else:
        say(text)
