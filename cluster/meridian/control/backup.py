"""Backup and restore of what operators decided: every version of the document with its files, orders to drain, secrets
the values of limits, how rollouts ended. What nodes say of themselves (members, leader, verdicts, seats of limits) is
never in it, nor is a rollout on its way: its candidate is a version like any other, and not in force.

A backup is one file: a line of JSON that says what it is, then the content. In it documents are compressed and private
keys sealed under the cluster key, as in the store. The cluster key itself is not in it and must be kept elsewhere.

Invariant: what is restored was backed up, whole, from a cluster with this key; and what was decided after the backup
is never mistaken for what is restored. What keeps it: the line is authenticated (HMAC-SHA256, RFC 2104) under a key
derived from the cluster key and names the content's SHA-256; and the version that comes into force gets a number above
all that any known node has seen, under a new generation of the store (control/fences).

A restore writes the parts first and the pointer last, in one transaction that compares what it found at the beginning.
One that was cut off has changed nothing that a node follows: do it again, with force.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from meridian.control.bundle import derive_key, fingerprint
from meridian.control.fences import read_generation
from meridian.store import documents
from meridian.store.keys import Keys
from meridian.store.port import (
    OPS_MAX,
    REQUEST_BYTES_MAX,
    Absent,
    Compare,
    Delete,
    DeletePrefix,
    Item,
    ModifiedAt,
    Op,
    Present,
    Put,
    Store,
)

MAGIC = "meridian-backup"
FORMAT = 1
HEAD_BYTES_MAX = 4096
# 50 versions of some hundred KiB, compressed, are some MiB; one of 16 MiB in each would be an upload nobody waits for.
BACKUP_BYTES_MAX = 256 * 1024 * 1024
# Between this and an attempt's time lies the room for a slow disk.
_BATCH_BYTES = REQUEST_BYTES_MAX // 2
_VALUES_AT_ONCE_MAX = OPS_MAX // 2  # some hundred bytes each; the rest of the transaction is a dozen operations
_OP_BYTES = 512  # key, tags and lengths around a value


class BackupError(Exception):
    """The file cannot be restored here; the message says why and what to do."""


class NotEmpty(Exception):
    """The store holds what a restore would destroy; the message says what."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a backup holds. `current` is the version that was in force, 0 if none."""

    cluster: str
    made_at: str
    current: int
    versions: int
    keys: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What the node that restores knows of the time before: no version and no generation up to these is used again."""

    version: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Restored:
    """`version` is now in force, with the content of `was`; `lost` says what was there and is gone."""

    version: int
    was: int
    versions: int
    generation: int
    lost: str


class _Content(msgspec.Struct):
    """`items` are by their key below the cluster's root: a backup may be restored under another cluster name."""

    current: int
    items: dict[str, bytes]


async def back_up(store: Store, keys: Keys, cluster_key: bytes) -> tuple[Made, bytes]:
    """Returns a backup of what is in the store now. Raises StoreError, and BackupError if there is too much of it."""
    root = keys.root()
    current = await documents.current_version(store, keys)
    items = {item.key: item.value for item in (await store.list(keys.versions())).items}
    chunks = {chunk for value in items.values() for chunk in documents.chunks_of(value)}
    for chunk in sorted(chunks):
        item = await store.get(keys.chunk(chunk))
        if item is not None:  # pruned meanwhile, and its version with it
            items[item.key] = item.value
    items = {key: value for key, value in items.items() if _whole(keys, key, value, items)}
    for prefix in _kept(keys):
        items |= {item.key: item.value for item in (await store.list(prefix)).items if not item.lease}
    for key in (keys.generation(), _epoch(keys)):
        item = await store.get(key)
        if item is not None:
            items[key] = item.value
    content = _Content(current, {key.removeprefix(root): value for key, value in sorted(items.items())})
    if current and keys.version(current) not in items:
        raise BackupError("a version was pruned while it was read: back up again")
    body = msgspec.msgpack.encode(content)
    if len(body) > BACKUP_BYTES_MAX - HEAD_BYTES_MAX:
        raise BackupError(
            f"the backup would have {len(body)} bytes; {BACKUP_BYTES_MAX} are allowed: split the document"
        )
    made = _describe(keys.cluster, datetime.now(UTC).isoformat(timespec="seconds"), content)
    return made, _seal(made, body, cluster_key)


def open_backup(raw: bytes, cluster_key: bytes) -> Made:
    """Returns what a backup holds. Raises BackupError for one that is damaged, foreign, or of a newer version."""
    made, content = _open(raw, cluster_key)
    return _describe(made["cluster"], made["made_at"], content)


async def restore(
    store: Store, keys: Keys, cluster_key: bytes, raw: bytes, seen: Seen, *, author: str, force: bool = False
) -> Restored:
    """Puts a backup into the store and its version in force. Raises BackupError, NotEmpty unless `force`, StoreError.

    Members, verdicts and the like that nodes have written there already are left alone.
    """
    head, content = _open(raw, cluster_key)
    pointer = await store.get(keys.current())
    lost = await _what_is_lost(store, keys)
    if lost and not force:
        raise NotEmpty(f"the store is not empty; a restore would destroy {lost}")
    root = keys.root()
    items = {root + name: value for name, value in content.items.items()}
    generation_key, epoch = keys.generation(), _epoch(keys)
    held = await store.get(generation_key)
    told = items.pop(generation_key, b"")
    generation = 1 + max(seen.generation, read_generation(held), int(told) if told.isdigit() else 0)
    given = [int(key.removeprefix(keys.versions())) for key in items if key.startswith(keys.versions())]
    present = _present(pointer)
    last = await documents.last_number(store, keys)  # above the present one if a candidate was written
    version = 1 + max(seen.version, content.current, present, last, *given)
    begun, values = await _limits(store, keys, items.pop(epoch, None), items)
    # Records before chunks: a pruning that runs meanwhile keeps the chunks that records name.
    ordered = dict(sorted(items.items(), key=lambda pair: not pair[0].startswith(keys.versions())))
    for ops in _batches(_clearing(keys) if lost else [], ordered):
        await store.txn([], ops)
    if len(values) > _VALUES_AT_ONCE_MAX:
        for ops in _batches(begun(1), values):
            await store.txn([], ops)
        limits = begun(2)
    else:
        limits = [*begun(1), *(Put(key, value) for key, value in sorted(values.items()))]
    again = _again(items[keys.version(content.current)], version, head["made_at"], author) if content.current else b""
    when: list[Compare] = [_unchanged(keys.current(), pointer), _unchanged(generation_key, held)]
    when += [Present(keys.chunk(chunk)) for chunk in (documents.chunks_of(again) if again else ())]
    then: list[Op] = [Put(generation_key, b"%d" % generation), Delete(keys.leader()), Delete(keys.rollout()), *limits]
    if content.current:
        then += [Put(keys.version(version), again), Put(keys.current(), b"%d" % version)]
    if not (await store.txn(when, then)).succeeded:
        raise NotEmpty("somebody wrote to the store meanwhile: look at the history, then restore again with --force")
    count = sum(key.startswith(keys.versions()) for key in items)
    return Restored(version if content.current else 0, content.current, count, generation, lost)


def _kept(keys: Keys) -> tuple[str, ...]:
    """The prefixes that hold decisions of operators, beside the document."""
    return (keys.drains(), keys.secrets(), keys.acme_prefix(), keys.outcomes(), _values(keys))


def _values(keys: Keys) -> str:
    return f"{keys.limits()}values/"


def _epoch(keys: Keys) -> str:
    return f"{keys.limits()}epoch"


def _clearing(keys: Keys) -> list[Op]:
    """A rollout ends first. The pointer stays until the last moment: the nodes follow it."""
    decisions = (keys.trials(), keys.outcomes(), keys.versions(), keys.drains(), keys.secrets())
    return [Delete(keys.rollout()), *(DeletePrefix(prefix) for prefix in decisions)]


async def _limits(
    store: Store, keys: Keys, told: bytes | None, items: dict[str, bytes]
) -> tuple[Callable[[int], list[Op]], dict[str, bytes]]:
    """Returns what begins the limits anew for the nth time in this restore, as design/limits.md wants it of a restored
    store: a new generation, nobody on any seat, and frozen, since who sits where is known to those only who have not
    come back yet. And the values, which are taken out of `items`.

    They are written in the same transaction. Of more than one takes, they are written between two beginnings: frozen
    by the first nothing grows, and by the second's generation nothing counts that was said of them in between.
    """
    values = {key: items.pop(key) for key in list(items) if key.startswith(_values(keys))}
    if told is None:
        return lambda nth: [], {}
    epochs = [json.loads(told)]
    held = await store.get(_epoch(keys))
    if held is not None:
        epochs.append(json.loads(held.value))
    last = max(int(epoch.get("generation", 0)) for epoch in epochs)

    def begun(nth: int) -> list[Op]:
        epoch = json.dumps({**epochs[0], "generation": last + nth, "frozen": True}).encode()
        return [*(DeletePrefix(f"{keys.limits()}{part}/") for part in ("seats", "acks")), Put(_epoch(keys), epoch)]

    return begun, values


def _present(pointer: Item | None) -> int:
    """The version that is in force before, 0 if that cannot be read: a restore is the remedy for that."""
    try:
        return documents.parse_current(pointer) if pointer is not None else 0
    except documents.DocumentDamaged:
        return 0


async def _what_is_lost(store: Store, keys: Keys) -> str:
    """Returns in words what decisions are in the store, "" if none. Reads no record: they may be damaged."""
    found = []
    versions = len((await store.list(keys.versions(), keys_only=True)).items)
    if versions:
        newest = await documents.last_number(store, keys)
        found.append(f"{versions} versions of the document (the newest: {newest})")
    for prefix, what in ((keys.drains(), "orders to drain"), (keys.secrets(), "secrets")):
        count = len((await store.list(prefix, keys_only=True)).items)
        if count:
            found.append(f"{count} {what}")
    return ", ".join(found)


def _batches(first: list[Op], items: Mapping[str, bytes]) -> Iterator[list[Op]]:
    """Yields transactions that a store takes: what clears first, then the values, not too many and not too large."""
    if first:
        yield first
    ops: list[Op] = []
    size = 0
    for key, value in items.items():
        cost = len(value) + _OP_BYTES
        if ops and (len(ops) == OPS_MAX or size + cost > _BATCH_BYTES):
            yield ops
            ops, size = [], 0
        ops.append(Put(key, value))
        size += cost
    if ops:
        yield ops


def _unchanged(key: str, item: Item | None) -> Compare:
    return Absent(key) if item is None else ModifiedAt(key, item.mod_revision)


def _again(record: bytes, version: int, made_at: str, author: str) -> bytes:
    """Returns the record of the version that was in force, under the number that it gets."""
    meta = documents.meta_of(record)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    message = f"restored: version {meta.version} of the backup of {made_at}"
    return documents.renumbered(record, replace(meta, version=version, author=author, at=at, message=message))


def _whole(keys: Keys, key: str, value: bytes, items: Mapping[str, bytes]) -> bool:
    """Whether this is not a version whose chunks were pruned while they were read."""
    if not key.startswith(keys.versions()):
        return True
    return all(keys.chunk(chunk) in items for chunk in documents.chunks_of(value))


def _describe(cluster: str, made_at: str, content: _Content) -> Made:
    versions = sum(name.startswith("config/versions/") for name in content.items)
    return Made(cluster, made_at, content.current, versions, len(content.items))


def _seal(made: Made, body: bytes, cluster_key: bytes) -> bytes:
    key = derive_key(cluster_key, "backup")
    head: dict[str, Any] = {
        "file": MAGIC,
        "format": FORMAT,
        "cluster": made.cluster,
        "made_at": made.made_at,
        "key": fingerprint(key),
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    head["mac"] = _mac(key, head)
    return json.dumps(head).encode() + b"\n" + body


def _mac(key: bytes, head: Mapping[str, Any]) -> str:
    told = json.dumps({name: value for name, value in head.items() if name != "mac"}, sort_keys=True)
    return hmac.digest(key, told.encode(), hashlib.sha256).hex()


def _open(raw: bytes, cluster_key: bytes) -> tuple[dict[str, Any], _Content]:
    """The head and the content, verified in the order in which a mistake is likely."""
    line, newline, body = raw.partition(b"\n")
    damaged = BackupError("the file is damaged: take another copy of the backup")
    try:
        head = json.loads(line) if newline and len(line) <= HEAD_BYTES_MAX else None
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("file") != MAGIC:
        raise BackupError("this is not a backup of Meridian: name a file that meridian backup wrote")
    if head.get("format") != FORMAT:
        raise BackupError(f"the backup has format {head.get('format')}, this node reads {FORMAT}: upgrade it")
    key = derive_key(cluster_key, "backup")
    if head.get("key") != fingerprint(key):
        raise BackupError("the backup is of a cluster with another key: give the nodes that cluster's key file")
    if not hmac.compare_digest(str(head.get("mac", "")), _mac(key, head)):
        raise damaged
    if len(body) != head["bytes"]:
        raise BackupError(f"the file has {len(body)} bytes of content, {head['bytes']} were written: it was cut off")
    if hashlib.sha256(body).hexdigest() != head["sha256"]:
        raise damaged
    # What is authenticated was written by a node of ours: from here on nothing can be damaged.
    return head, msgspec.msgpack.decode(body, type=_Content)
