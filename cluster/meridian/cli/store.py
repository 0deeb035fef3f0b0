"""backup, restore, store defrag: what an operator does with the shared state itself."""

import getpass
import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer

from meridian.cli.client import Admin, AdminClient, TokenFile, find_target
from meridian.cli.errors import Mistake
from meridian.cli.output import Json, say, show_json, show_table

File = Annotated[str, typer.Argument(metavar="FILE", help="The backup; or its https:// address in an object store.")]
Force = Annotated[bool, typer.Option("--force", help="Do it also where something is lost.")]
RESTORE_SECONDS = 120.0
DEFRAG_SECONDS = 600.0  # each member may take a minute

store = typer.Typer(help="The store's own files.", no_args_is_help=True)


def backup(
    file: File, force: Force = False, admin: Admin = "", token_file: TokenFile = "", as_json: Json = False
) -> None:
    """Write all versions of the document, orders to drain, sealed keys and limits' values to one file.

    An object store (S3's protocol) wants AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION in the environment.

    The cluster key is not in it: without that key the file cannot be restored, so keep the key elsewhere.
    """
    from meridian.cli import objects

    if not objects.is_address(file) and Path(file).exists() and not force:
        raise Mistake(f"{file} is there already", "name another file, or write over it with --force")
    raw = AdminClient(find_target(admin, token_file), RESTORE_SECONDS).get_bytes("/v1/backup")
    if objects.is_address(file):
        objects.put(file, raw)
    else:
        _save(Path(file), raw)
    if as_json:
        show_json({"file": file, "bytes": len(raw)})
    else:
        say(f"{file}: {len(raw)} bytes; keep the cluster key elsewhere, it is not in it")


def restore(
    file: File, force: Force = False, admin: Admin = "", token_file: TokenFile = "", as_json: Json = False
) -> None:
    """Put a backup into an empty store. Its version comes into force under a new number; nodes serve meanwhile."""
    from meridian.cli import objects

    try:
        raw = objects.get(file) if objects.is_address(file) else Path(file).read_bytes()
    except OSError as error:
        raise Mistake(f"cannot read {file}: {error.strerror}", "check the name and who may read it") from None
    query = urlencode({"author": getpass.getuser(), "force": "true" if force else "false"})
    client = AdminClient(find_target(admin, token_file), RESTORE_SECONDS)
    done = client.send_bytes("PUT", f"/v1/backup?{query}", raw)
    if as_json:
        show_json(done)
        return
    lost = f"; lost: {done['lost']}" if done["lost"] else ""
    say(f"version {done['version']} is in force, as {done['was']} was; {done['versions']} versions restored{lost}")


@store.command()
def defrag(admin: Admin = "", token_file: TokenFile = "", as_json: Json = False) -> None:
    """Make the files of the store's members small, one member at a time."""
    target = find_target(admin, token_file)
    done = AdminClient(target, DEFRAG_SECONDS).send("POST", "/v1/store/defragment")
    if as_json:
        show_json(done)
        return
    rows = [(m["endpoint"], str(m["before_bytes"]), str(m["after_bytes"])) for m in done["members"]]
    show_table("", ("member", "bytes before", "bytes after"), rows)


def _save(file: Path, raw: bytes) -> None:
    """Writes the whole file or none, for its owner only: texts of documents are in it in the clear."""
    part = file.with_name(f".{file.name}.part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(raw)
            out.flush()
            os.fsync(out.fileno())
        part.rename(file)
    except OSError as error:
        raise Mistake(f"cannot write {file}: {error.strerror}", "name a file in a folder that may be written") from None
