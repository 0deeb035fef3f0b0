"""The port to shared state: what Meridian asks of a store, and what it may believe about the answer.

Invariant: an answer is never guessed. A read is linearizable. A write either answers, or says `OutcomeUnknown`, or
raises something else, and then nothing was written. A watch delivers every change after its start once, in order of
revision and never half a revision, or it ends with an error; it never skips.

What keeps it: each write is one transaction with its conditions inside it; bounds are checked here, before anything is
sent, so that both stores refuse the same requests.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from meridian.core.upkeep import MemberHealth

# etcd's own defaults (--max-txn-ops, --max-request-bytes 1.5 MiB less room for field tags and the Raft entry around).
OPS_MAX = 128
REQUEST_BYTES_MAX = 1536 * 1024 - 32 * 1024
OP_OVERHEAD_BYTES = 64


class StoreError(Exception):
    """Anything that went wrong at the store; the message names the place and the remedy."""


class StoreUnavailable(StoreError):
    """No member answered in time, and nothing was changed by this call."""


class OutcomeUnknown(StoreUnavailable):
    """A write was sent and its answer lost: it may have happened, and it may still happen after a read-back.

    Cancelling the task that waits for a write leaves its outcome just as unknown.
    Repeat only a transaction whose own success makes its conditions false (create if absent, compare-and-put). Then at
    most one of the two takes effect, and reading the key back tells whether it was ours.
    """


class Refused(StoreError):
    """The store has understood and will not: too large, not permitted, out of space. Repeating cannot help."""


class Compacted(StoreError):
    """The history that a watch asked for is gone: list again. `revision` is the oldest that is still there."""

    def __init__(self, message: str, revision: int) -> None:
        super().__init__(message)
        self.revision = revision


class LeaseLost(StoreError):
    """The store knows no such lease (any more): the keys bound to it are gone."""


@dataclass(frozen=True, slots=True)
class Item:
    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """All items under a prefix, in order of key, as they were at `revision`: the place to start a watch after.

    `era` is which store this is, not 0. Of two eras, as when one was begun anew or restored, revisions say nothing to
    each other.
    """

    items: tuple[Item, ...]
    revision: int
    era: int


@dataclass(frozen=True, slots=True)
class Absent:
    key: str


@dataclass(frozen=True, slots=True)
class Present:
    key: str


@dataclass(frozen=True, slots=True)
class CreatedAt:
    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class ModifiedAt:
    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class ValueIs:
    """False for an absent key, whatever the value."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes exactly this key; no change, and no event, if it is absent."""

    key: str


@dataclass(frozen=True, slots=True)
class DeletePrefix:
    prefix: str


Compare = Absent | Present | CreatedAt | ModifiedAt | ValueIs
Op = Put | Delete | DeletePrefix


@dataclass(frozen=True, slots=True)
class TxnResult:
    """`revision` is that of the change, or the store's present one if nothing was changed."""

    succeeded: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one key; `value` is None when it was deleted, and then `create_revision` and `lease` are 0."""

    key: str
    value: bytes | None
    mod_revision: int
    create_revision: int = 0
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """At least one event. All changes up to and including `revision` are in this batch or in an earlier one."""

    events: tuple[Event, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Lease:
    """`ttl_seconds` is what the store granted, which may be more than was asked."""

    id: int
    ttl_seconds: float


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """`reachable`: some member answers. `leader`: some answering member knows a leader, so that writes can succeed.

    `writes` counts what this client asked that a store must write: transactions and leases, keep-alives too. A store in
    memory counts none.
    """

    reachable: bool
    leader: bool
    endpoint: str
    detail: str
    members: tuple[MemberHealth, ...] = ()
    writes: int = 0


class Store(Protocol):
    """Every method raises StoreUnavailable when no member answered in time, and Refused when repeating cannot help."""

    async def get(self, key: str) -> Item | None:
        """Returns the item as of now (linearizable), or None if the key is absent."""
        ...

    async def list(self, prefix: str, *, keys_only: bool = False, limit: int = 0) -> Listing:
        """Returns what is under `prefix`, at one revision, in order of key; at most `limit` items if not 0."""
        ...

    async def txn(self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()) -> TxnResult:
        """Does all of `then` if all of `when` holds, else all of `otherwise`, at once and in one revision.

        Raises OutcomeUnknown when the answer was lost, and LeaseLost when a put names a lease that is gone.
        """
        ...

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Writes without a condition, for a key's sole owner. Returns the revision; raises as `txn`."""
        ...

    def watch(self, prefix: str, *, after_revision: int, era: int = 0) -> AsyncGenerator[Batch, None]:
        """Yields every change under `prefix` with a greater revision, across lost members, until closed.

        Raises Compacted when that history is gone, for the store is of another era than `era` (0: of any), or may be:
        all its members were away at once. Raises StoreUnavailable when no member was found in time: a new watch after
        the last batch's revision then goes on without loss, if it is the same store. Close it with
        `contextlib.aclosing`.
        """
        ...

    async def grant_lease(self, ttl_seconds: int) -> Lease:
        """Returns a new lease. The caller counts it from the moment of asking, by its own clock."""
        ...

    async def keep_alive(self, lease_id: int) -> float:
        """Prolongs the lease and returns its seconds left, counted from the moment of asking; raises LeaseLost."""
        ...

    async def revoke_lease(self, lease_id: int) -> None:
        """Ends the lease and removes its keys; no error if it is gone already."""
        ...

    async def compact(self, revision: int) -> None:
        """Forgets history below `revision`; no error if that has happened already."""
        ...

    async def health(self) -> StoreHealth:
        """Asks every member and never raises; within one attempt's time."""
        ...

    async def close(self) -> None:
        """Ends the connections; watches still open end with StoreUnavailable."""
        ...


@runtime_checkable
class Housekept(Protocol):
    """A store whose files want care. Only `control/upkeep` calls these; each raises as the methods of Store."""

    async def defragment(self, endpoint: str) -> None:
        """Makes the file of one member as small as its content. That member answers nothing meanwhile, for seconds."""
        ...

    async def disarm(self) -> None:
        """Takes the alarm NOSPACE back, so that writes are taken again; without room it is soon raised anew."""
        ...


def prefix_end(prefix: str) -> bytes:
    """Returns the first key (encoded) after all keys that begin with `prefix`; raises ValueError for an empty one.

    An empty prefix would mean the whole store, other people's keys included: no code of ours has a use for it.
    """
    encoded = encode_key(prefix).rstrip(b"\xff")
    if not encoded:
        raise ValueError("a prefix must not be empty: it would name the whole store")
    return encoded[:-1] + bytes([encoded[-1] + 1])


def encode_key(key: str) -> bytes:
    """Returns the key's bytes. Ours are UTF-8; foreign ones survive the round trip and cannot crash a listing."""
    return key.encode("utf-8", "surrogateescape")


def check_lease(ttl_seconds: int) -> None:
    """Raises Refused for a lease of no time; etcd would quietly grant its shortest."""
    if ttl_seconds < 1:
        raise Refused(f"a lease lasts at least one second, not {ttl_seconds}")


def check_txn(when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]) -> None:
    """Raises Refused if a store would refuse this transaction for its shape, whatever the state of the keys."""
    if max(len(when), len(then), len(otherwise)) > OPS_MAX:
        raise Refused(f"a transaction has more than {OPS_MAX} conditions or operations: split it")
    size = sum(len(encode_key(c.key)) + (len(c.value) if isinstance(c, ValueIs) else 0) for c in when)
    size += OP_OVERHEAD_BYTES * (len(when) + len(then) + len(otherwise))
    for ops in (then, otherwise):
        puts = [op.key for op in ops if isinstance(op, Put)]
        size += sum(len(encode_key(op.key)) + len(op.value) for op in ops if isinstance(op, Put))
        deleted = {op.key for op in ops if isinstance(op, Delete)}
        prefixes = tuple(op.prefix for op in ops if isinstance(op, DeletePrefix))
        size += sum(len(encode_key(name)) for name in (*deleted, *prefixes))
        if "" in puts or "" in deleted or "" in prefixes:
            raise Refused("a transaction names an empty key or prefix")
        if len(set(puts)) < len(puts) or any(key in deleted or key.startswith(prefixes) for key in puts):
            raise Refused("a transaction changes one key twice: give each key one operation")
    if size > REQUEST_BYTES_MAX:
        raise Refused(f"a transaction of {size} bytes is above {REQUEST_BYTES_MAX}: split the values into chunks")
