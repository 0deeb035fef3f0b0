"""Follows the document in force: reads each new version whole, hands it on, and keeps a copy on disk.

Invariant: what is handed on was read in full and verified by its hashes; a version that cannot be read leaves the last
good one in force. The copy on disk is the newest that was handed on, so that a cold start without the store serves it.
"""

import hashlib
import logging
from collections.abc import Callable
from contextlib import aclosing

from meridian.control.disk import SnapshotDisk
from meridian.control.waiting import Pause
from meridian.store import documents
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import Store, StoreError, StoreUnavailable

VERSION_BYTES = 8  # before the payload, in the copy on disk

_log = logging.getLogger("meridian.control")


class ConfigWatch:
    """`version` is what was handed on last, `wanted` what the store says is in force; 0: none yet."""

    def __init__(self, store: Store, keys: Keys, disk: SnapshotDisk, arrived: Callable[[int, bytes], None]) -> None:
        self.version = 0
        self.wanted = 0
        self.detail = ""  # why `wanted` is not handed on
        self.from_disk = False  # what is in force is the copy on disk: the store has not said yet what is in force
        self._store = store
        self._keys = keys
        self._disk = disk
        self._arrived = arrived
        self._digest = ""  # of what was handed on last
        self._pointed = 0  # the revision of the pointer that was last compared

    async def load(self) -> None:
        """Hands on the copy on disk, if there is one."""
        try:
            content = await self._disk.load("config")
        except OSError as error:
            _log.warning("the copy of the document on disk cannot be read: %s", error)
            return
        if content is not None and len(content) > VERSION_BYTES:
            self.version = int.from_bytes(content[:VERSION_BYTES])
            self._digest = hashlib.sha256(content[VERSION_BYTES:]).hexdigest()
            self.from_disk = True
            _log.warning("version %d is served from the copy on disk until the store answers", self.version)
            self._arrived(self.version, content[VERSION_BYTES:])

    async def run(self) -> None:
        """Follows until cancelled."""
        key = self._keys.current()
        async with aclosing(mirror(self._store, key)) as views:
            async for view in views:
                item = view.get(key)
                if item is None:
                    continue  # no document yet, or an empty store put in place of ours: serve what there is
                try:
                    self.wanted = documents.parse_current(item)
                except StoreError as error:
                    _log.error("the pointer to the document cannot be read: %s", error)
                    continue
                # The number alone does not tell: a store that was restored may have another version under it.
                if self.wanted != self.version or item.mod_revision != self._pointed:
                    await self._take(self.wanted)
                    self._pointed = item.mod_revision
                self.from_disk = self.from_disk and self.wanted != self.version

    async def _take(self, version: int) -> None:
        pause = Pause(0.1, 2.0)
        while True:
            try:
                if version == self.version and self._digest == await documents.read_digest(
                    self._store, self._keys, version
                ):
                    self.detail = ""
                    return
                meta, payload = await documents.read_version(self._store, self._keys, version)
                break
            except StoreUnavailable as error:
                self.detail = str(error)
                await pause()
            except StoreError as error:
                self.detail = str(error)
                _log.error("version %d cannot be read; version %d stays in force: %s", version, self.version, error)
                return
        self.version, self.detail, self._digest = version, "", meta.digest
        self._arrived(version, payload)
        try:
            await self._disk.save("config", version.to_bytes(VERSION_BYTES) + payload)
        except OSError as error:
            _log.warning("version %d could not be saved; a cold start would serve an older one: %s", version, error)
