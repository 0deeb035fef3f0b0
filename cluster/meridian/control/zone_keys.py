"""The keys of signed zones: kept in the store, sealed; made and moved on by the leader; handed to those who sign.

Invariant: a private key leaves this node's memory only sealed (AES-GCM under a key derived from the cluster's, bound
to its zone and id), and no key is used that the store does not hold. Each write is conditional on the record read, each
of the leader's under its fence; an operator's word is written by the node that he asks.

What the store held last stands on disk too, as sealed as there: a node that starts without the store must not answer a
signed zone without signatures. For the same reason keys that vanish from the store (an empty one was put in place of
ours) stay in use, and the leader writes them back; they go only after the parent is known to have let go.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from meridian.control.bundle import BundleError, Sealer
from meridian.control.disk import SnapshotDisk
from meridian.control.fences import revision_of
from meridian.core import keyrolls
from meridian.core.keyrolls import Phase, Role, Times, Use, ZoneKeys
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import Absent, Compare, CreatedAt, Delete, Item, ModifiedAt, Put, Store, StoreError

TICK_SECONDS = 1.0  # phases last for hours; a new zone is signed this long after its document
KEY_ID_BYTES = 8

_log = logging.getLogger("meridian.control")


class KeysRefused(Exception):
    """What the operator says of a zone's keys does not fit their state; the message says why."""


class NotSigned(Exception):
    """The zone has no keys (yet)."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the document says of a zone. None in its place: it is not to be signed."""

    algorithm: int
    split: bool
    times: Times


@dataclass(frozen=True, slots=True)
class Keyring:
    """A signed zone's keys, opened: `private` in PKCS #8 by id. Never logged."""

    zone: str
    algorithm: int
    state: ZoneKeys
    private: Mapping[str, bytes]

    @property
    def uses(self) -> tuple[Use, ...]:
        """What each key does now."""
        return tuple(keyrolls.uses(self.state))

    def __repr__(self) -> str:
        return f"Keyring({self.zone!r}, {len(self.private)} keys)"


class _Record(msgspec.Struct, frozen=True):
    """What the store holds. `sealed`: base64 by key id."""

    zone: str
    algorithm: int
    state: ZoneKeys
    sealed: dict[str, str]


class ZoneKeeper:
    """One node's part in the keys. `keyrings` by zone, as last seen."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        disk: SnapshotDisk,
        cluster_key: bytes,
        *,
        generate: Callable[[int], bytes],
        fence: Callable[[], int | None],
        wall_clock: Callable[[], float],
        changed: Callable[[Sequence[Keyring]], None],
    ) -> None:
        """`generate(algorithm)` makes a private key in PKCS #8; `changed` is told all keyrings after each change."""
        self.keyrings: Mapping[str, Keyring] = {}
        self._store, self._keys, self._disk = store, keys, disk
        self._sealer = Sealer(cluster_key, "zone-keys")
        self._generate, self._fence, self._wall_clock, self._changed = generate, fence, wall_clock, changed
        self._wishes: Mapping[str, Wish | None] = {}
        self._items: Mapping[str, Item] | None = None
        self._records: Mapping[str, _Record] = {}

    def set_wishes(self, wishes: Mapping[str, Wish | None]) -> None:
        """Takes what the document in force says of each of its zones. Keys of other zones are left alone."""
        self._wishes = wishes

    async def load(self) -> None:
        """Hands on what is on disk, if anything is."""
        try:
            content = await self._disk.load("zone-keys")
            if content is not None:
                self._publish({record.zone: record for record in msgspec.json.decode(content, type=list[_Record])})
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("the copy of the zones' keys on disk cannot be read: %s", error)

    async def run(self) -> None:
        """Follows the store, and acts while this node leads, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._act_for_ever())

    async def roll(self, zone: str, role: Role) -> None:
        """Begins to replace a key. Raises KeysRefused, NotSigned, StoreError."""
        await self._tell(zone, lambda key: keyrolls.Roll(role, key), makes_key=True)

    async def seen(self, zone: str) -> None:
        """The operator saw the DS at the parent. Raises as `roll`."""
        await self._tell(zone, lambda _: keyrolls.Seen())

    async def gone(self, zone: str) -> None:
        """The operator saw that the parent has no DS any more. Raises as `roll`."""
        await self._tell(zone, lambda _: keyrolls.Gone())

    # From the store

    async def _follow(self) -> None:
        async with aclosing(mirror(self._store, self._keys.zone_keys())) as views:
            async for view in views:
                self._items = view
                self._publish(self._not_lost(view.values()))
                try:
                    await self._disk.save("zone-keys", msgspec.json.encode(list(self._records.values())))
                except OSError as error:
                    _log.warning("the zones' keys could not be saved; a cold start would use older ones: %s", error)

    def _not_lost(self, items: Iterable[Item]) -> dict[str, _Record]:
        """What the store holds, and what it held before of zones whose keys may not go."""
        records = {record.zone: record for item in items if (record := _decoded(item)) is not None}
        for zone, held in self._records.items():
            if zone not in records and not _may_go(held.state):
                _log.error("zone %s: its keys are gone from the store, and stay in use here", zone)
                records[zone] = held
        return records

    def _publish(self, records: Mapping[str, _Record]) -> None:
        self._records = records
        opened: dict[str, Keyring] = {}
        for record in records.values():
            private = {key: self._open(record.zone, key, sealed) for key, sealed in record.sealed.items()}
            usable = {key: content for key, content in private.items() if content is not None}
            if len(usable) == len(private):
                opened[record.zone] = Keyring(record.zone, record.algorithm, record.state, usable)
            elif record.zone in self.keyrings:
                opened[record.zone] = self.keyrings[record.zone]
        self.keyrings = opened
        self._changed(tuple(opened.values()))

    # Of the leader

    async def _act_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            fence = self._fence()
            if fence is None or self._items is None:
                continue
            try:
                for zone, wish in self._wishes.items():
                    await self._act(zone, wish, fence)
            except StoreError as error:
                _log.info("the keys of a zone could not be written, trying again: %s", error)

    async def _act(self, zone: str, wish: Wish | None, fence: int) -> None:
        """What time and the document make of a zone's keys."""
        assert self._items is not None
        key = self._keys.zone_key(zone)
        leads = CreatedAt(self._keys.leader(), revision_of(fence))
        item = self._items.get(key)
        if item is None:
            record = self._records.get(zone)
            if record is None and wish is not None:
                _log.info("zone %s: making its first keys, of algorithm %d", zone, wish.algorithm)
                record = self._begin(zone, wish)
            if record is not None:
                await self._store.txn([leads, Absent(key)], [Put(key, msgspec.json.encode(record))])
            return
        record = _decoded(item)
        if record is None:
            return
        now, state, forgotten = self._wall_clock(), record.state, list[str]()
        for event in (keyrolls.Wanted(wish is not None, wish.times if wish else state.times), keyrolls.Woken()):
            stepped = keyrolls.step(state, event, now)
            state = stepped.state
            forgotten += [command.key for command in stepped.commands]
        if state != record.state:
            _log.info("zone %s: its keys are now %s", zone, phases(state))
            await self._write(item, record, state, forgotten, [leads])

    def _begin(self, zone: str, wish: Wish) -> _Record:
        roles = (Role.KSK, Role.ZSK) if wish.split else (Role.CSK,)
        ids = {role: os.urandom(KEY_ID_BYTES).hex() for role in roles}
        sealed = {key: self._sealer.seal(_place(zone, key), self._generate(wish.algorithm)) for key in ids.values()}
        return _Record(zone, wish.algorithm, keyrolls.begin(ids, wish.times, self._wall_clock()), sealed)

    # Of an operator

    async def _tell(self, zone: str, make: Callable[[str], keyrolls.Event], *, makes_key: bool = False) -> None:
        item = await self._store.get(self._keys.zone_key(zone))
        record = _decoded(item) if item is not None else None
        if item is None or record is None:
            raise NotSigned(f"zone {zone} has no keys; is `dnssec` in the document in force?")
        new = os.urandom(KEY_ID_BYTES).hex()
        event = make(new)
        if (why := keyrolls.refusal(record.state, event)) is not None:
            raise KeysRefused(f"zone {zone}: {why}")
        sealed = {new: self._sealer.seal(_place(zone, new), self._generate(record.algorithm))} if makes_key else {}
        record = _Record(record.zone, record.algorithm, record.state, {**record.sealed, **sealed})
        stepped = keyrolls.step(record.state, event, self._wall_clock())
        forgotten = [command.key for command in stepped.commands]
        if not await self._write(item, record, stepped.state, forgotten, []):
            raise KeysRefused(f"zone {zone}: its keys were changed at the same moment; look, and try again")
        _log.info("zone %s: its keys are now %s, as an operator said", zone, phases(stepped.state))

    async def _write(
        self, item: Item, record: _Record, state: ZoneKeys, forgotten: Sequence[str], when: Sequence[Compare]
    ) -> bool:
        sealed = {key: content for key, content in record.sealed.items() if key not in forgotten}
        after = msgspec.json.encode(_Record(record.zone, record.algorithm, state, sealed))
        then = Put(item.key, after) if state.tracks else Delete(item.key)
        result = await self._store.txn([*when, ModifiedAt(item.key, item.mod_revision)], [then])
        return result.succeeded

    def _open(self, zone: str, key: str, sealed: str) -> bytes | None:
        try:
            return self._sealer.open(_place(zone, key), sealed)
        except BundleError as error:
            _log.error("zone %s: key %s stays unused: %s", zone, key, error)
            return None


def phases(state: ZoneKeys) -> str:
    """Where a zone's keys are, in words: `csk steady`."""
    if not state.tracks:
        return "forgotten: it is unsigned"
    words = ", ".join(f"{track.role.value} {track.phase.value}" for track in state.tracks)
    return f"{words}, leaving ({state.exit.value})" if state.exit is not keyrolls.Exit.NONE else words


def _may_go(state: ZoneKeys) -> bool:
    """Whether the parent cannot trust these keys, as far as this node has seen.

    That it was asked is not enough: its DS may stand for weeks. A node that was cut off from the asking until the end
    keeps keys that nobody needs: a zone signed without a DS hurts nobody, one unsigned with a DS is down."""
    return state.exit is keyrolls.Exit.GONE or all(track.phase is Phase.HIDDEN for track in state.tracks)


def _place(zone: str, key: str) -> str:
    return f"{zone}/{key}"


def _decoded(item: Item) -> _Record | None:
    try:
        return msgspec.json.decode(item.value, type=_Record)
    except msgspec.DecodeError as error:
        _log.error("the keys at %s are damaged or from a newer version; they stay unused: %s", item.key, error)
        return None
