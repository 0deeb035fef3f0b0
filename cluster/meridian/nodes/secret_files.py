"""Secrets that lie in files of mode 0600: read, or made when there is none."""

import contextlib
import os
import secrets
from pathlib import Path

import structlog

from meridian.nodes.child import BadStart
from meridian.nodes.settings import Settings

_log = structlog.get_logger("meridian.node")


def read_secret(flag: str, path: str) -> bytes:
    """The content of a file that only its owner may read. Raises BadStart."""
    try:
        mode = Path(path).stat().st_mode
        content = Path(path).read_bytes()
    except OSError as error:
        raise BadStart(f"{flag} {path}: {error.strerror}") from None
    if mode & 0o077:
        raise BadStart(f"{flag} {path}: others may read it; make it private with: chmod 600 {path}")
    return content


def token_of(settings: Settings) -> str:
    """The admin API's token: of the file named, else of one made in the state folder. Raises BadStart."""
    if settings.token_file is not None:
        token = read_secret("--token-file", settings.token_file).decode("ascii", "replace").strip()
        if not token:
            raise BadStart(f"--token-file {settings.token_file}: it is empty; put a random word into it")
        return token
    path = Path(settings.state) / "token"
    try:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
            _log.info("token made", path=str(path))
    except OSError as error:
        raise BadStart(f"--state {settings.state}: {error.strerror}; name a folder that may be written") from None
    return read_secret("the token file", str(path)).decode().strip()
