"""Secrets that all nodes share: of each kind one record in the store, sealed; made and followed by the leader; handed
to the workers that use it.

Invariant: a secret leaves this node's memory only sealed, and none is used that the store does not hold. When each is
used is decided in core/shared_secrets, from times that stand in the record, so that all nodes decide alike.

What the store held last stands on disk too, and stays in use while the store is away; if the store lost it (an empty
one was put in place of ours), the leader writes it back.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from meridian.control.bundle import BundleError, Sealer
from meridian.control.disk import SnapshotDisk
from meridian.control.fences import revision_of
from meridian.core.shared_secrets import Secret, followed, in_use, is_due
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import Absent, CreatedAt, Item, ModifiedAt, Put, Store, StoreError

TICK_SECONDS = 2.0  # secrets are used for hours; a new cluster has its first this long after its leader
ID_BYTES = 8

_log = logging.getLogger("meridian.control")


@dataclass(frozen=True, slots=True)
class Kind:
    """What they are for: `name` seals them and names them on disk, `title` in the log."""

    name: str
    title: str
    secret_bytes: int


DNS_COOKIES = Kind("dns-cookies", "of DNS cookies", 16)  # of SipHash-2-4 (RFC 9018 section 4.4)
TLS_TICKETS = Kind("tls-tickets", "of TLS tickets", 32)


class _Record(msgspec.Struct, frozen=True):
    """What the store holds: the secrets, oldest first, and in `sealed` their bytes by id, in base64."""

    secrets: tuple[Secret, ...]
    sealed: dict[str, str]


class SecretKeeper:
    """One node's part in the secrets of one kind."""

    def __init__(
        self,
        kind: Kind,
        store: Store,
        keys: Keys,
        disk: SnapshotDisk,
        cluster_key: bytes,
        *,
        fence: Callable[[], int | None],
        wall_clock: Callable[[], float],
        changed: Callable[[Sequence[bytes]], None],
    ) -> None:
        """`changed` is told the secrets to accept, the one that makes tokens first, whenever they are others."""
        self._kind = kind
        self._store, self._key, self._leader, self._disk = store, keys.shared_secrets(kind.name), keys.leader(), disk
        self._sealer = Sealer(cluster_key, kind.name)
        self._fence, self._wall_clock, self._changed = fence, wall_clock, changed
        self._item: Item | None = None
        self._is_listed = False
        self._record = _Record((), {})
        self._opened: dict[Secret, bytes] = {}
        self._told: Sequence[bytes] = ()

    async def load(self) -> None:
        """Hands on what is on disk, if anything is."""
        try:
            content = await self._disk.load(self._kind.name)
        except OSError as error:
            _log.warning("the copy of the secrets %s on disk cannot be read: %s", self._kind.title, error)
            return
        if content is not None and (record := self._decoded("disk", content)) is not None:
            self._take(record)

    async def run(self) -> None:
        """Follows the store, and acts while this node leads, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._act_for_ever())

    async def _follow(self) -> None:
        async with aclosing(mirror(self._store, self._key)) as views:
            async for view in views:
                self._item, self._is_listed = view.get(self._key), True
                record = self._decoded(self._item.key, self._item.value) if self._item is not None else None
                if record is None or record == self._record:
                    continue
                self._take(record)
                try:
                    await self._disk.save(self._kind.name, msgspec.json.encode(record))
                except OSError as error:
                    _log.warning("the secrets %s could not be saved: %s", self._kind.title, error)

    async def _act_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._tell()  # time alone changes which secret makes tokens
            fence = self._fence()
            if fence is None or not self._is_listed:
                continue
            try:
                await self._act(fence)
            except StoreError as error:
                _log.info("a secret %s could not be written, trying again: %s", self._kind.title, error)

    async def _act(self, fence: int) -> None:
        """Writes what is due, or what the store does not hold (any more). A record that cannot be read is replaced."""
        now, item, record = self._wall_clock(), self._item, self._record
        if is_due(record.secrets, now):
            new = Secret(os.urandom(ID_BYTES).hex(), now)
            secrets = followed(record.secrets, new)
            sealed = {
                **record.sealed,
                new.id: self._sealer.seal(self._place(new.id), os.urandom(self._kind.secret_bytes)),
            }
            record = _Record(secrets, {secret.id: sealed[secret.id] for secret in secrets})
            _log.info("a new secret %s", self._kind.title)
        elif item is not None and item.value == msgspec.json.encode(record):
            return
        unchanged = Absent(self._key) if item is None else ModifiedAt(self._key, item.mod_revision)
        leads = CreatedAt(self._leader, revision_of(fence))
        await self._store.txn([leads, unchanged], [Put(self._key, msgspec.json.encode(record))])

    def _take(self, record: _Record) -> None:
        self._record, self._opened = record, {}
        for secret in record.secrets:
            try:
                self._opened[secret] = self._sealer.open(self._place(secret.id), record.sealed[secret.id])
            except BundleError as error:
                _log.error("a secret stays unused: %s", error)
        self._tell()

    def _tell(self) -> None:
        found = [self._opened[secret] for secret in in_use(tuple(self._opened), self._wall_clock())]
        if found and found != self._told:
            self._told = found
            self._changed(found)

    def _place(self, id_: str) -> str:
        return f"{self._kind.name}/{id_}"

    def _decoded(self, place: str, content: bytes) -> _Record | None:
        try:
            record = msgspec.json.decode(content, type=_Record)
        except msgspec.DecodeError as error:
            title = self._kind.title
            _log.error("the secrets %s at %s are damaged or from a newer version: %s", title, place, error)
            return None
        return record if all(secret.id in record.sealed for secret in record.secrets) else None
