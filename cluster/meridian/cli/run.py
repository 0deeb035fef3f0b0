"""node, serve, chaos: commands that become, or start, another program."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from meridian.cli.documents import read_document
from meridian.cli.errors import Mistake
from meridian.cli.output import note

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
# Of `python -m chaosmeridian`; anything else is refused here with the list.
_CHAOS = ("list", "run", "report")


def node(context: typer.Context) -> None:
    """Run one node of a cluster (meridian node --help lists its flags)."""
    _become("meridian.nodes.launcher", context.args)


def serve(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The document.")],
    dns_port: Annotated[int, typer.Option("--dns-port", min=0, max=65535, help="0: no DNS server.")] = 5300,
    admin_port: Annotated[int, typer.Option("--admin-port", min=0, max=65535)] = 9900,
    demo: Annotated[bool, typer.Option("--demo", help="Also start the demo's services (examples/).")] = False,
) -> None:
    """Run one node with no cluster: the quickest way to a working gateway. Other options go to the node."""
    from meridian.cli.local_components import geo_file
    from meridian.cli.local_state import LocalPaths

    paths = LocalPaths.from_environment(os.environ)
    content = read_document(file, paths)
    if content.demo:
        _lay_beside(file.absolute().parent, content.demo)
        note(f"the authority of the demo's certificate, for curl --cacert: {paths.ca}")
    arguments = [str(file), f"--dns-port={dns_port}", f"--admin-port={admin_port}", *context.args]
    if geo_file().exists() and not any(argument.startswith("--geo-file") for argument in context.args):
        arguments.append(f"--geo-file={geo_file()}")
    if demo:
        _serve_with_demo(arguments)
    if any(endpoint.address in _demo_endpoints() for up in content.document.upstreams for endpoint in up.endpoints):
        note("the demo's services are not started by this; add --demo, or run examples/shop_services.py")
    _become("meridian.nodes.standalone", arguments)


def chaos(context: typer.Context) -> None:
    """Run experiments against the local cluster: list, run NAME, report."""
    arguments = context.args
    if not arguments or arguments[0] not in (*_CHAOS, "--help"):
        raise Mistake(f"chaos wants one of: {', '.join(_CHAOS)}", "for example: meridian chaos run kill-node")
    raise typer.Exit(_run([sys.executable, "-m", "chaosmeridian", *arguments]))


def _lay_beside(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the demo's certificate where the node will read it. Raises Mistake."""
    from meridian.cli.local_state import write_whole

    for name, content in files.items():
        try:
            write_whole(folder / name, content)
        except OSError as error:
            remedy = "copy the document to a folder that may be written, or name certificates of your own"
            raise Mistake(f"cannot write the demo's certificate {folder / name}: {error.strerror}", remedy) from None


def _demo_endpoints() -> set[str]:
    from meridian.cli.local_state import PLACES, SERVICE_PORTS

    return {f"{place.services}:{port}" for place in PLACES for port in SERVICE_PORTS}


def _become(module: str, arguments: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606  # our own interpreter, no shell


def _serve_with_demo(arguments: list[str]) -> NoReturn:
    """Runs the services of all regions in one process beside the node, and ends them with it."""
    from meridian.cli.local_components import demo_file
    from meridian.cli.local_state import PLACES

    places = [f"{place.region}={place.services}" for place in PLACES]
    services = [sys.executable, str(demo_file("shop_services.py")), *places]
    helper = subprocess.Popen(services, start_new_session=True)
    try:
        code = _run([sys.executable, "-m", "meridian.nodes.standalone", *arguments])
    finally:
        helper.terminate()
        helper.wait()
    raise typer.Exit(code)


def _run(command: list[str]) -> int:
    """Runs a program in the foreground. Ctrl-C reaches it by the terminal; we wait for it to end as it sees fit."""
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
