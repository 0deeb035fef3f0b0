"""One node's part in the certificates that the cluster obtains: it follows the store and hands certificates and proofs
to its workers; the leader among the nodes orders what is due.

Invariant: a private key leaves this node's memory only sealed, and no certificate is used that the store did not hold.
What it held last stands on disk too, sealed as there: a node that starts without the store serves it, and if the store
lost it (an empty one was put in place of ours), the leader writes it back and orders nothing anew.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import msgspec

from meridian.control.acme.errors import TermOver
from meridian.control.acme.ordering import Orders, is_due, title
from meridian.control.acme.records import CertificateRecord, Obtained, Proofs, Wish, read_certificates, read_proofs
from meridian.control.bundle import BundleError, Sealer
from meridian.control.disk import SnapshotDisk
from meridian.control.fences import revision_of
from meridian.control.members import MemberRecord
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import CreatedAt, Delete, Item, ModifiedAt, Store, StoreError

TICK_SECONDS = 1.0
DISK = "acme"  # the copy's name

_log = logging.getLogger("meridian.control")


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """A certificate that the document wants. Times are seconds since 1970, 0 where there is none; `reason` says why
    there is none yet, or why the next one is late, and `try_at` when it is tried again."""

    hosts: tuple[str, ...]
    authority: str
    not_after: float = 0.0
    renew_at: float = 0.0
    reason: str = ""
    try_at: float = 0.0


class CertificateKeeper:
    """See the module's head."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        disk: SnapshotDisk,
        cluster_key: bytes,
        *,
        fence: Callable[[], int | None],
        wall_clock: Callable[[], float],
        draw: Callable[[], float],
        members: Callable[[], Iterable[MemberRecord]],
        obtained: Callable[[Mapping[str, Obtained]], None],
        proofs: Callable[[int, Proofs], None],
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        """`obtained` is told all certificates by id, `proofs` all proofs and the revision of the newest, whenever they
        are others."""
        self._store, self._keys, self._disk = store, keys, disk
        self._sealer = Sealer(cluster_key, "acme")
        self._fence, self._wall_clock = fence, wall_clock
        self._members, self._tell_obtained, self._tell_proofs = members, obtained, proofs
        self._orders = Orders(
            store, keys, self._sealer, fence=fence, wall_clock=wall_clock, draw=draw, behind=self._behind
        )
        self._tick_seconds = tick_seconds
        self._wishes: Mapping[str, Wish] = {}
        self._view: Mapping[str, Item] | None = None  # None until the store was reached
        self._records: dict[str, CertificateRecord] = {}
        self._told: Mapping[str, Obtained] = {}
        self._told_proofs: tuple[int, Proofs] = (0, Proofs())
        self._look_at: dict[str, float] = {}

    def set_wishes(self, wishes: Iterable[Wish]) -> None:
        """Replaces what is to be obtained: what the document in force wants."""
        self._wishes = {wish.id: wish for wish in wishes}

    def status(self) -> tuple[CertificateStatus, ...]:
        """What became of each wish, as the store last said."""
        return tuple(_status(wish, self._records.get(wish.id)) for wish in self._wishes.values())

    async def load(self) -> None:
        """Hands on what is on disk, if anything is."""
        try:
            content = await self._disk.load(DISK)
            records = msgspec.json.decode(content, type=list[CertificateRecord]) if content is not None else []
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("the copy of obtained certificates on disk cannot be read: %s", error)
            return
        self._take({record.id: record for record in records})

    async def run(self) -> None:
        """Follows the store, and orders while this node leads, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._lead_for_ever())

    # Every node

    async def _follow(self) -> None:
        async with aclosing(mirror(self._store, self._keys.acme_prefix())) as views:
            async for view in views:
                self._view = view
                found = read_certificates(view, self._keys)
                # What the store lost stays in use: the leader writes it back.
                lost = {id_: one for id_, one in self._records.items() if id_ not in found and self._lasts(one)}
                if {**lost, **found} != self._records:
                    self._take({**lost, **found})
                    await self._save()
                proofs = read_proofs(view, self._keys)
                if proofs != self._told_proofs:
                    self._told_proofs = proofs
                    self._tell_proofs(*proofs)

    def _take(self, records: dict[str, CertificateRecord]) -> None:
        self._records = records
        obtained = {}
        for record in records.values():
            if record.chain:
                try:
                    key_pem = self._sealer.open(record.id, record.sealed_key)
                except BundleError as error:
                    _log.error("certificate for %s stays unused: %s", title(record.hosts), error)
                else:
                    obtained[record.id] = Obtained(record.chain.encode(), key_pem)
        if obtained != self._told:
            self._told = obtained
            self._tell_obtained(obtained)

    async def _save(self) -> None:
        try:
            await self._disk.save(DISK, msgspec.json.encode([one for one in self._records.values() if one.chain]))
        except OSError as error:
            _log.warning("obtained certificates could not be saved: %s", error)

    def _lasts(self, record: CertificateRecord) -> bool:
        return bool(record.chain) and record.not_after > self._wall_clock()

    # The leader

    def _behind(self, revision: int) -> Sequence[str]:
        return [one.name for one in self._members() if not one.witness and one.proofs_held < revision]

    async def _lead_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            for wish in list(self._wishes.values()):
                await self._as_leader(partial(self._tend, wish))
            await self._as_leader(self._look)
            await self._as_leader(self._sweep)

    async def _as_leader(self, work: Callable[[int], Awaitable[None]]) -> None:
        fence = self._fence()
        if fence is None or self._view is None:
            self._look_at.clear()
            return
        try:
            await work(fence)
        except TermOver:
            _log.info("certificates: another node leads, or wrote meanwhile")
        except StoreError as error:
            _log.info("certificates: the store could not be written, trying again: %s", error)

    async def _tend(self, wish: Wish, fence: int) -> None:
        """Orders a certificate that is due."""
        now, held = self._wall_clock(), self._records.get(wish.id)
        if held is not None and self._keys.acme_certificate(wish.id) not in (self._view or {}):
            await self._orders.put_back(held, fence)
        elif held is None or is_due(held, now):
            await self._orders.obtain(wish, fence)
            self._look_at.pop(wish.id, None)

    async def _look(self, fence: int) -> None:
        """Asks when one certificate is to be renewed: one a tick, so that no order waits for looks at a thousand."""
        now = self._wall_clock()
        for wish in self._wishes.values():
            held = self._records.get(wish.id)
            if held is not None and held.chain and self._look_at.get(wish.id, 0.0) <= now:
                self._look_at[wish.id] = await self._orders.look(wish, fence)
                return

    async def _sweep(self, fence: int) -> None:
        """Removes what nobody needs: certificates that have run out and are not wanted, and proofs without an order."""
        leads = CreatedAt(self._keys.leader(), revision_of(fence))
        kept = self._wishes.keys() | {id_ for id_, one in self._records.items() if self._lasts(one)}
        for key, item in (self._view or {}).items():
            prefix, _, id_ = key.rpartition("/")
            record = self._records.get(id_)
            if prefix == self._keys.acme_challenges()[:-1]:
                needed = id_ in self._wishes and record is not None and record.order is not None
            else:
                needed = prefix != self._keys.acme_certificates()[:-1] or id_ in kept
            if not needed:
                await self._store.txn([leads, ModifiedAt(key, item.mod_revision)], [Delete(key)])


def _status(wish: Wish, record: CertificateRecord | None) -> CertificateStatus:
    if record is None:
        return CertificateStatus(wish.hosts, wish.authority.name, reason="not ordered yet")
    reason = record.reason or ("" if record.chain else "ordered")
    return CertificateStatus(
        wish.hosts, wish.authority.name, record.not_after, record.renew_at, reason, record.try_at if reason else 0.0
    )
