"""What a node keeps on its own disk, so that it serves after a cold start without the store (invariant 4).

A copy is one file: a HMAC-SHA256 (RFC 2104) under a key derived from the cluster key, then the content. Invariant: what
is loaded was saved, under this name, by a node of this cluster. A copy that does not verify is refused and says so:
whoever can write the folder cannot make a node serve what the cluster did not decide.
"""

import asyncio
import hashlib
import hmac
import os
from pathlib import Path

import structlog

from meridian.control.bundle import derive_key

MAC_BYTES = 32
COPY_BYTES_MAX = 64 * 1024 * 1024  # the largest document is 16 MiB, its files come sealed in base64 beside it

_REMEDY = "it is of another cluster key or node, or was changed; the next document replaces it"
_log = structlog.get_logger("meridian.disk")


class FolderDisk:
    """Copies in one folder; a control.disk.SnapshotDisk. Files have mode 0600 and are replaced whole."""

    def __init__(self, folder: Path, cluster_key: bytes, node: str) -> None:
        """Copies are for `node` only: a seat of another node must not be taken by copying its file."""
        self._folder = folder
        self._key = derive_key(cluster_key, f"disk/{node}")

    async def save(self, name: str, content: bytes) -> None:
        """Keeps `content` under `name`; it is on the disk, not only in a cache, when this returns. Raises OSError."""
        await asyncio.to_thread(self._save, name, content)

    async def load(self, name: str) -> bytes | None:
        """Returns what was saved last under `name`, or None if there is nothing or it does not verify."""
        return await asyncio.to_thread(self._load, name)

    def _save(self, name: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._folder / f".{name}.new"
        new.unlink(missing_ok=True)  # of a save that was killed; its mode may be any
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._mac(name, content) + content)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._folder / name)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # else the rename may be lost with the power
        finally:
            os.close(folder)

    def _load(self, name: str) -> bytes | None:
        path = self._folder / name
        try:
            with path.open("rb") as file:
                copy = file.read(COPY_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        mac, content = copy[:MAC_BYTES], copy[MAC_BYTES:]
        if len(copy) > COPY_BYTES_MAX or not hmac.compare_digest(mac, self._mac(name, content)):
            _log.error("the copy on disk does not verify and is not used", path=str(path), remedy=_REMEDY)
            return None
        return content

    def _mac(self, name: str, content: bytes) -> bytes:
        return hmac.digest(self._key, len(name).to_bytes(1) + name.encode() + content, hashlib.sha256)
