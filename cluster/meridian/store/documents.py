"""The operator's document in the store: every version whole, numbered, unchangeable, and one pointer to the current.

Invariants. A version is written only over the one that its writer saw in force, and under a number above all that were
ever written: of two writers one loses, and a candidate that never came into force (`propose_version`) keeps its number.
A version that can be read can be read in full: its record names its chunks by their hash, and the commit demands that
all of them are there. What keeps them: chunks are put first, each only if absent; then one transaction compares the
pointer, demands the chunks, and writes record and pointer together. Pruning deletes in transactions that demand an
unchanged pointer and that the next number is free: so a commit and a pruning that cross cannot both succeed.

etcd refuses requests above 1.5 MiB, hence chunks.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import zstandard

from meridian.store.keys import VERSION_MAX, Keys
from meridian.store.port import (
    OPS_MAX,
    Absent,
    Compare,
    Delete,
    Item,
    ModifiedAt,
    Op,
    OutcomeUnknown,
    Present,
    Put,
    Store,
    StoreError,
    ValueIs,
)

PAYLOAD_BYTES_MAX = 16 * 1024 * 1024
CHUNK_BYTES_MAX = 512 * 1024
# Who and why, for people: more than this is not a message.
META_CHARACTERS_MAX = 4096
# Level 3 does 16 MiB in some 60 ms, and documents are mostly some KiB.
COMPRESSION_LEVEL = 3
VERSIONS_KEPT = 50
# Each attempt is a call with a deadline of its own. More of them would outlast the operator's patience.
ATTEMPTS_MAX = 3

_log = logging.getLogger("meridian.store")


class VersionConflict(StoreError):
    """Somebody else wrote a version meanwhile; `current` is the one in force now."""

    def __init__(self, expected: int, current: int) -> None:
        super().__init__(f"version {current} is in force, not {expected}: look at what changed, then apply again")
        self.current = current


class VersionMissing(StoreError):
    """There is no such version (any more)."""


class DocumentTooLarge(StoreError):
    """The document or its message is above its limit."""


class DocumentDamaged(StoreError):
    """What the store holds of a version is not what was written."""


@dataclass(frozen=True, slots=True)
class VersionMeta:
    """Who wrote a version, why and when (`at`: ISO 8601, UTC). The writer gives these; the rest `write_version` fills.

    `digest` is the SHA-256 of the payload in hexadecimal.
    """

    author: str
    message: str
    at: str
    version: int = 0
    digest: str = ""
    payload_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Record:
    """What lies under `versions/<n>`: the meta and the hashes of the chunks in order."""

    meta: VersionMeta
    chunks: tuple[str, ...]

    def encode(self) -> bytes:
        return json.dumps({**asdict(self.meta), "chunks": self.chunks}, sort_keys=True).encode()


@dataclass(frozen=True, slots=True)
class Beside:
    """What a commit demands and writes besides: the state of a rollout, which ends or begins with it. `key` is what to
    look at when the commit fails: it must still be at `revision` (0: absent)."""

    key: str
    revision: int
    then: tuple[Op, ...] = ()

    def holds(self) -> Compare:
        """The demand."""
        return ModifiedAt(self.key, self.revision) if self.revision else Absent(self.key)


class RolloutChanged(StoreError):
    """A rollout began, moved or ended between reading and writing: look at it, then try again."""

    def __init__(self) -> None:
        super().__init__("a rollout began, moved or ended meanwhile: see meridian rollout status, then try again")


async def write_version(
    store: Store, keys: Keys, payload: bytes, meta: VersionMeta, *, expected_current: int,
    beside: Callable[[int], Beside] | None = None, candidate: bool = False,
) -> int:  # fmt: skip
    """Writes `payload` under the next free number and returns that. It becomes the current version, unless it is a
    `candidate`: then only what `beside` (given the number) writes tells of it.

    `expected_current` is 0 when there is none yet. Raises VersionConflict, RolloutChanged, DocumentTooLarge, and
    OutcomeUnknown when even reading back did not tell what became of the commit.
    """
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise DocumentTooLarge(f"the document has {len(payload)} bytes, {PAYLOAD_BYTES_MAX} are allowed: split it")
    if len(meta.author) + len(meta.message) + len(meta.at) > META_CHARACTERS_MAX:
        raise DocumentTooLarge(f"author and message have more than {META_CHARACTERS_MAX} characters: shorten them")
    number = max(expected_current, await last_number(store, keys)) + 1
    extra = beside(number) if beside is not None else None
    chunks = [(_digest(chunk), chunk) for chunk in _cut(zstandard.compress(payload, COMPRESSION_LEVEL))]
    names = tuple(name for name, _ in chunks)
    meta = replace(meta, version=number, digest=_digest(payload), payload_bytes=len(payload))
    record = _Record(meta, names).encode()
    lost: OutcomeUnknown | None = None
    for _ in range(ATTEMPTS_MAX):
        for name, chunk in chunks:
            await _put_chunk(store, keys.chunk(name), chunk)
        try:
            if await _commit(store, keys, number, record, names, expected_current, extra, candidate):
                return number
        except OutcomeUnknown as error:
            lost = error
        # The commit's own success makes its comparison false, so it may be repeated; and it was ours if the record is.
        written = await store.get(keys.version(number))
        if written is not None and written.value == record:
            return number
        current = await current_version(store, keys)
        if current != expected_current:
            raise VersionConflict(expected_current, current)
        if written is not None:  # somebody proposed a candidate under this number
            raise RolloutChanged
        if extra is not None:
            now = await store.get(extra.key)
            if (now.mod_revision if now is not None else 0) != extra.revision:
                raise RolloutChanged
        # Else a pruning took a chunk between its put and the commit, or the commit was lost: once more.
    raise lost or StoreError(f"version {number} could not be written in {ATTEMPTS_MAX} attempts: apply again")


async def read_digest(store: Store, keys: Keys, version: int) -> str:
    """Returns the digest of a version's payload; raises VersionMissing or DocumentDamaged."""
    item = await store.get(keys.version(version)) if 0 < version <= VERSION_MAX else None
    if item is None:
        raise VersionMissing(f"there is no version {version}: `meridian history` lists those that are kept")
    return _decode(item).meta.digest


async def read_version(store: Store, keys: Keys, version: int) -> tuple[VersionMeta, bytes]:
    """Returns a version's meta and payload, verified; raises VersionMissing or DocumentDamaged."""
    item = await store.get(keys.version(version)) if 0 < version <= VERSION_MAX else None
    if item is None:
        raise VersionMissing(f"there is no version {version}: `meridian history` lists those that are kept")
    record = _decode(item)
    parts: list[bytes] = []
    for name in record.chunks:
        chunk = await store.get(keys.chunk(name))
        if chunk is None:
            raise VersionMissing(f"version {version} was pruned while it was read: read a newer one")
        if _digest(chunk.value) != name:
            raise DocumentDamaged(f"a chunk of version {version} is not what its hash says: restore from a backup")
        parts.append(chunk.value)
    return record.meta, _unpack(b"".join(parts), record.meta)


async def current_version(store: Store, keys: Keys) -> int:
    """Returns the number of the version in force, 0 when there is none."""
    item = await store.get(keys.current())
    return 0 if item is None else parse_current(item)


def parse_current(item: Item) -> int:
    """Returns the version that the pointer's item names, for those who watch it; raises DocumentDamaged."""
    if not item.value.isdigit():
        raise DocumentDamaged(f"{item.key} holds {item.value[:40]!r}, not a version: apply or restore")
    return int(item.value)


async def history(store: Store, keys: Keys, limit: int = VERSIONS_KEPT) -> tuple[VersionMeta, ...]:
    """Returns the metas of at most `limit` versions, the newest first. One that is damaged says so as its message."""
    items = (await store.list(keys.versions())).items
    return tuple(_told(item, keys) for item in items[::-1][:limit])


def _told(item: Item, keys: Keys) -> VersionMeta:
    try:
        return _decode(item).meta
    except DocumentDamaged:
        number = _number(item, keys)
        what = f"the record of version {number} is damaged: restore from a backup, or let it go with its age"
        return VersionMeta("", what, "", number)


def _number(item: Item, keys: Keys) -> int:
    return int(item.key.removeprefix(keys.versions()))


async def prune(store: Store, keys: Keys, *, keep: int = VERSIONS_KEPT) -> int:
    """Removes all but the newest `keep` versions and the chunks that none of those names; returns how many keys.

    Stops early, with no harm, when a version is written meanwhile. Safe at any moment and from any node. A record that
    is damaged goes with its age like any other; while one is kept, so are all chunks, as it does not say which are its.
    """
    assert keep >= 1, "the current version is always kept"
    pointer = await store.get(keys.current())
    if pointer is None:
        return 0
    records = (await store.list(keys.versions())).items
    chunks = (await store.list(keys.chunks(), keys_only=True)).items
    # Records first: a version without its chunks must never be listed.
    current = parse_current(pointer)
    gone = [item for item in records[:-keep] if _number(item, keys) != current]
    doomed = [item.key for item in gone]
    outcomes = {item.key for item in (await store.list(keys.outcomes(), keys_only=True)).items}
    doomed += sorted(outcomes & {keys.outcome(_number(item, keys)) for item in gone})
    try:
        kept = {name for item in records if item not in gone for name in _decode(item).chunks}
        doomed += [item.key for item in chunks if item.key.removeprefix(keys.chunks()) not in kept]
    except DocumentDamaged as error:
        _log.error("chunks of old versions are kept: %s", error)
    # A candidate does not move the pointer; but whatever is committed takes the number that comes next.
    following = keys.version(max([current, *(_number(item, keys) for item in records[-1:])]) + 1)
    unchanged: list[Compare] = [ModifiedAt(pointer.key, pointer.mod_revision), Absent(following)]
    removed = 0
    for start in range(0, len(doomed), OPS_MAX):
        some = doomed[start : start + OPS_MAX]
        if not (await store.txn(unchanged, [Delete(key) for key in some])).succeeded:
            break
        removed += len(some)
    return removed


def meta_of(record: bytes) -> VersionMeta:
    """Returns the meta in a version's record; raises DocumentDamaged."""
    return _decode_record(record, "the record").meta


def chunks_of(record: bytes) -> tuple[str, ...]:
    """Returns the hashes of the chunks that a version's record names; raises DocumentDamaged."""
    return _decode_record(record, "the record").chunks


def renumbered(record: bytes, meta: VersionMeta) -> bytes:
    """Returns the record of the same content under another meta, as a restore writes it; raises DocumentDamaged."""
    old = _decode_record(record, "the record")
    return replace(old, meta=replace(meta, digest=old.meta.digest, payload_bytes=old.meta.payload_bytes)).encode()


async def _commit(
    store: Store, keys: Keys, number: int, record: bytes, chunks: Sequence[str], expected: int,
    beside: Beside | None, candidate: bool,
) -> bool:  # fmt: skip
    current, own = keys.current(), keys.version(number)
    when: list[Compare] = [ValueIs(current, str(expected).encode()) if expected else Absent(current), Absent(own)]
    when += [Present(keys.chunk(name)) for name in chunks]
    then: list[Op] = [Put(own, record)]
    if not candidate:
        then.append(Put(current, str(number).encode()))
    if beside is not None:
        when.append(beside.holds())
        then += beside.then
    return (await store.txn(when, then)).succeeded


async def last_number(store: Store, keys: Keys) -> int:
    """Returns the greatest number that was ever given, 0 if none was: the newest records are never pruned."""
    items = (await store.list(keys.versions(), keys_only=True)).items
    return max((int(item.key.removeprefix(keys.versions())) for item in items), default=0)


async def _put_chunk(store: Store, key: str, chunk: bytes) -> None:
    """Puts a chunk if it is absent. Whoever put it, it is the same: so a lost answer is no reason not to repeat."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            await store.txn([Absent(key)], [Put(key, chunk)])
            return
        except OutcomeUnknown:
            if attempt == ATTEMPTS_MAX:
                raise


def _cut(packed: bytes) -> Iterator[bytes]:
    for start in range(0, len(packed), CHUNK_BYTES_MAX):
        yield packed[start : start + CHUNK_BYTES_MAX]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _decode(item: Item) -> _Record:
    return _decode_record(item.value, item.key)


def _decode_record(value: bytes, where: str) -> _Record:
    try:
        fields = json.loads(value)
        chunks = tuple(str(name) for name in fields.pop("chunks"))
        return _Record(VersionMeta(**fields), chunks)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DocumentDamaged(f"{where} is damaged, it is no version's record: restore from a backup") from error


def _unpack(packed: bytes, meta: VersionMeta) -> bytes:
    damaged = DocumentDamaged(f"version {meta.version} is not what its record says: restore from a backup")
    try:
        # The size is looked at before anything is unpacked: a forged frame must not fill the memory.
        if zstandard.frame_content_size(packed) != meta.payload_bytes or meta.payload_bytes > PAYLOAD_BYTES_MAX:
            raise damaged
        payload = zstandard.decompress(packed)
    except zstandard.ZstdError as error:
        raise damaged from error
    if _digest(payload) != meta.digest:
        raise damaged
    return payload
