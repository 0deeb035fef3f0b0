"""What every store does, asked of the embedded one and of a real three-member etcd alike."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from meridian.store.documents import (
    CHUNK_BYTES_MAX,
    VersionConflict,
    VersionMeta,
    VersionMissing,
    current_version,
    history,
    prune,
    read_version,
    write_version,
)
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import (
    OPS_MAX,
    REQUEST_BYTES_MAX,
    Absent,
    Batch,
    Compacted,
    Compare,
    CreatedAt,
    Delete,
    DeletePrefix,
    Event,
    LeaseLost,
    ModifiedAt,
    Op,
    Present,
    Put,
    Refused,
    Store,
    ValueIs,
)

WITHIN_SECONDS = 8.0


async def take(batches: AsyncGenerator[Batch, None], count: int) -> list[Event]:
    """Returns the next `count` events and closes the watch; checks what the port promises of batches."""
    events: list[Event] = []
    async with asyncio.timeout(WITHIN_SECONDS), aclosing(batches):
        while len(events) < count:
            batch = await anext(batches)
            assert batch.events
            assert batch.revision == batch.events[-1].mod_revision
            if events:
                assert batch.events[0].mod_revision > events[-1].mod_revision
            events += batch.events
    return events


async def test_an_item_carries_the_revisions_of_its_making_and_of_its_last_change(store: Store, prefix: str) -> None:
    first = await store.put(f"{prefix}a", b"1")
    second = await store.put(f"{prefix}a", b"2")
    item = await store.get(f"{prefix}a")
    assert item is not None
    assert (item.value, item.create_revision, item.mod_revision, item.lease) == (b"2", first, second, 0)
    assert second == first + 1
    assert await store.get(f"{prefix}b") is None
    assert await store.get(prefix.rstrip("/")) is None


async def test_a_listing_is_in_order_of_key_and_holds_only_its_prefix(store: Store, prefix: str) -> None:
    for name in ("x/b", "x/a", "x/\u00e9", "y", "x"):
        last = await store.put(prefix + name, name.encode())
    listing = await store.list(f"{prefix}x/")
    assert [item.key.removeprefix(prefix) for item in listing.items] == ["x/a", "x/b", "x/\u00e9"]
    assert [item.value for item in listing.items] == [b"x/a", b"x/b", "x/\u00e9".encode()]
    assert listing.revision >= last
    names_only = await store.list(f"{prefix}x/", keys_only=True, limit=2)
    assert [(item.key.removeprefix(prefix), item.value) for item in names_only.items] == [("x/a", b""), ("x/b", b"")]
    assert (await store.list(f"{prefix}z/")).items == ()
    with pytest.raises(ValueError, match="whole store"):
        await store.list("")


async def test_every_condition_is_true_and_false_where_it_should_be(store: Store, prefix: str) -> None:
    there, gone = f"{prefix}there", f"{prefix}gone"
    created = await store.put(there, b"1")
    modified = await store.put(there, b"2")
    holds: list[Compare] = [
        Absent(gone),
        Present(there),
        CreatedAt(there, created),
        ModifiedAt(there, modified),
        ValueIs(there, b"2"),
        CreatedAt(gone, 0),
        ModifiedAt(gone, 0),
    ]
    fails: list[Compare] = [
        Absent(there),
        Present(gone),
        CreatedAt(there, modified),
        ModifiedAt(there, created),
        ValueIs(there, b"1"),
        ValueIs(gone, b""),
    ]
    for condition in holds:
        assert (await store.txn([condition], ())).succeeded, condition
    for condition in fails:
        assert not (await store.txn([condition], ())).succeeded, condition
        assert not (await store.txn([*holds, condition], ())).succeeded, condition
    assert (await store.txn(holds, ())).succeeded


async def test_a_transaction_does_all_of_one_side_in_one_revision(store: Store, prefix: str) -> None:
    await store.put(f"{prefix}old/1", b"")
    start = await store.put(f"{prefix}old/2", b"")
    done = await store.txn(
        [Absent(f"{prefix}a")],
        [Put(f"{prefix}a", b"a"), Put(f"{prefix}b", b"b"), DeletePrefix(f"{prefix}old/"), Delete(f"{prefix}none")],
        [Put(f"{prefix}never", b"")],
    )
    assert done.succeeded
    assert done.revision == start + 1
    other = await store.txn([Absent(f"{prefix}a")], [Put(f"{prefix}never", b"")], [Delete(f"{prefix}b")])
    assert not other.succeeded
    assert other.revision == start + 2
    nothing = await store.txn([Absent(f"{prefix}a")], [Put(f"{prefix}never", b"")])
    assert (nothing.succeeded, nothing.revision) == (False, start + 2)
    assert [item.key for item in (await store.list(prefix)).items] == [f"{prefix}a"]
    events = await take(store.watch(prefix, after_revision=start), 5)
    assert [(e.key.removeprefix(prefix), e.value, e.mod_revision - start) for e in events] == [
        ("a", b"a", 1),
        ("b", b"b", 1),
        ("old/1", None, 1),
        ("old/2", None, 1),
        ("b", None, 2),
    ]


@pytest.mark.parametrize(
    "ops",
    [
        [Put("/k/a", b"1"), Put("/k/a", b"2")],
        [Put("/k/a", b"1"), Delete("/k/a")],
        [DeletePrefix("/k/"), Put("/k/a", b"1")],
        [Put("", b"1")],
        [DeletePrefix("")],
        [Put(f"/k/{i}", b"") for i in range(OPS_MAX + 1)],
        [Put("/k/a", bytes(REQUEST_BYTES_MAX))],
    ],
    ids=["put twice", "put and delete", "put in deleted prefix", "no key", "no prefix", "too many", "too large"],
)
async def test_a_transaction_of_bad_shape_is_refused_and_does_nothing(store: Store, ops: list[Op]) -> None:
    with pytest.raises(Refused):
        await store.txn([], ops)
    assert (await store.list("/k/")).items == ()


async def test_the_largest_transactions_that_are_allowed_pass(store: Store, prefix: str) -> None:
    await store.put(f"{prefix}large", os.urandom(REQUEST_BYTES_MAX - 512))
    many = await store.txn(
        [Absent(f"{prefix}{i:03}") for i in range(OPS_MAX)], [Put(f"{prefix}{i:03}", b"v") for i in range(OPS_MAX)]
    )
    assert many.succeeded


async def test_of_two_writers_who_compare_exactly_one_wins(store: Store, prefix: str) -> None:
    key = f"{prefix}leader"
    results = await asyncio.gather(*(store.txn([Absent(key)], [Put(key, str(i).encode())]) for i in range(8)))
    assert sum(result.succeeded for result in results) == 1
    winner = next(i for i, result in enumerate(results) if result.succeeded)
    item = await store.get(key)
    assert item is not None
    assert (item.value, item.create_revision) == (str(winner).encode(), results[winner].revision)


async def test_a_watch_resumes_exactly_from_the_past_and_goes_on_live(store: Store, prefix: str) -> None:
    revisions = [await store.put(f"{prefix}{i}", str(i).encode()) for i in range(5)]
    events = await take(store.watch(prefix, after_revision=revisions[1]), 3)
    assert [event.mod_revision for event in events] == revisions[2:]
    assert [event.create_revision for event in events] == revisions[2:]

    async def write_later() -> None:
        await store.put("/elsewhere", b"")
        await store.put(f"{prefix}live", b"now")

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(take(store.watch(prefix, after_revision=revisions[-1]), 1))
        await asyncio.sleep(0)
        group.create_task(write_later())
    assert [(event.key, event.value) for event in waiting.result()] == [(f"{prefix}live", b"now")]


async def test_a_watch_that_starts_in_the_future_waits_for_it(store: Store, prefix: str) -> None:
    now = await store.put(f"{prefix}a", b"")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(take(store.watch(prefix, after_revision=now + 2), 1))
        for _ in range(3):
            last = await store.put(f"{prefix}a", b"")
    assert [event.mod_revision for event in waiting.result()] == [last]


async def test_a_watch_of_another_era_is_told_to_list_again(store: Store, prefix: str) -> None:
    listing = await store.list(prefix)
    assert listing.era == (await store.list(prefix)).era != 0
    written = await store.put(f"{prefix}a", b"")
    events = await take(store.watch(prefix, after_revision=listing.revision, era=listing.era), 1)
    assert [event.mod_revision for event in events] == [written]
    with pytest.raises(Compacted, match="another"):
        await take(store.watch(prefix, after_revision=listing.revision, era=listing.era + 1), 1)


async def test_a_history_of_many_megabytes_is_delivered_whole(store: Store, prefix: str) -> None:
    start = (await store.list(prefix)).revision
    values = [bytes([i]) * 700_000 for i in range(7)]
    for i, value in enumerate(values):
        await store.put(f"{prefix}{i}", value)
    events = await take(store.watch(prefix, after_revision=start), len(values))
    assert [event.value for event in events] == values


async def test_a_compacted_start_is_said_and_not_skipped(store: Store, prefix: str) -> None:
    revisions = [await store.put(f"{prefix}a", str(i).encode()) for i in range(10)]
    await store.compact(revisions[6])
    with pytest.raises(Compacted) as refusal:
        await take(store.watch(prefix, after_revision=revisions[2]), 1)
    assert refusal.value.revision == revisions[6]
    events = await take(store.watch(prefix, after_revision=revisions[6] - 1), 4)
    assert [event.mod_revision for event in events] == revisions[6:]
    await store.compact(revisions[6])
    await store.compact(revisions[3])
    with pytest.raises(Refused):
        await store.compact(revisions[-1] + 1000)


async def test_a_lease_that_is_not_kept_alive_ends_and_takes_its_keys_along(store: Store, prefix: str) -> None:
    asked_at = asyncio.get_running_loop().time()
    lease = await store.grant_lease(1)
    assert lease.ttl_seconds >= 1
    start = await store.put(f"{prefix}free", b"stays")
    await store.put(f"{prefix}b", b"", lease=lease.id)
    bound = await store.put(f"{prefix}a", b"", lease=lease.id)
    await store.put(f"{prefix}freed", b"", lease=lease.id)
    await store.put(f"{prefix}freed", b"stays")
    item = await store.get(f"{prefix}a")
    assert item is not None
    assert item.lease == lease.id
    events = await take(store.watch(prefix, after_revision=start), 6)
    assert asyncio.get_running_loop().time() - asked_at >= 1
    assert [(e.key.removeprefix(prefix), e.lease) for e in events[:3]] == [
        ("b", lease.id),
        ("a", lease.id),
        ("freed", lease.id),
    ]
    ends = events[4:]
    assert sorted(event.key.removeprefix(prefix) for event in ends) == ["a", "b"]
    assert [event.value for event in ends] == [None, None]
    assert ends[0].mod_revision == ends[1].mod_revision > bound
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease.id)
    with pytest.raises(LeaseLost):
        await store.put(f"{prefix}late", b"", lease=lease.id)
    with pytest.raises(LeaseLost):
        await store.txn([], [Put(f"{prefix}half", b""), Put(f"{prefix}late", b"", lease=lease.id)])
    assert sorted(i.key.removeprefix(prefix) for i in (await store.list(prefix)).items) == ["free", "freed"]


async def test_a_lease_that_is_kept_alive_lasts_until_it_is_revoked(store: Store, prefix: str) -> None:
    loop = asyncio.get_running_loop()
    lease = await store.grant_lease(2)
    await store.put(f"{prefix}a", b"", lease=lease.id)
    until = loop.time() + 1.5 * lease.ttl_seconds
    while loop.time() < until:
        assert 0 < await store.keep_alive(lease.id) <= lease.ttl_seconds
        await asyncio.sleep(0.4)
    assert await store.get(f"{prefix}a") is not None
    await store.revoke_lease(lease.id)
    assert await store.get(f"{prefix}a") is None
    await store.revoke_lease(lease.id)
    with pytest.raises(Refused):
        await store.grant_lease(0)


META = VersionMeta(author="ada", message="first", at="2026-11-24T22:00:00Z")


async def test_a_document_above_the_request_limit_is_written_and_read_back_whole(store: Store, prefix: str) -> None:
    keys = Keys(prefix.strip("/").replace("/", "-"))
    payload = os.urandom(4 * CHUNK_BYTES_MAX + 1)
    assert await current_version(store, keys) == 0
    assert await write_version(store, keys, payload, META, expected_current=0) == 1
    meta, read = await read_version(store, keys, 1)
    assert read == payload
    assert (meta.author, meta.message, meta.at, meta.version) == ("ada", "first", META.at, 1)
    assert meta.payload_bytes == len(payload)
    chunks = (await store.list(keys.chunks())).items
    assert len(chunks) == 5
    assert max(len(chunk.value) for chunk in chunks) <= CHUNK_BYTES_MAX


async def test_of_two_writers_of_a_version_one_gets_a_conflict(store: Store, prefix: str) -> None:
    keys = Keys(prefix.strip("/").replace("/", "-"))

    async def write(author: str) -> int | VersionConflict:
        meta = VersionMeta(author=author, message="", at=META.at)
        try:
            return await write_version(store, keys, author.encode(), meta, expected_current=0)
        except VersionConflict as conflict:
            return conflict

    results = await asyncio.gather(write("ada"), write("bob"), write("cyd"))
    winners = [author for author, result in zip(("ada", "bob", "cyd"), results, strict=True) if result == 1]
    assert len(winners) == 1
    assert [result.current for result in results if isinstance(result, VersionConflict)] == [1, 1]
    meta, payload = await read_version(store, keys, 1)
    assert (meta.author, payload) == (winners[0], winners[0].encode())


async def test_pruning_keeps_the_newest_versions_and_their_chunks(store: Store, prefix: str) -> None:
    keys = Keys(prefix.strip("/").replace("/", "-"))
    shared = b"the same text again"
    for number in range(7):
        payload = shared if number % 2 else f"text {number}".encode()
        assert await write_version(store, keys, payload, META, expected_current=number) == number + 1
    assert [meta.version for meta in await history(store, keys, 3)] == [7, 6, 5]
    assert await prune(store, keys, keep=2) == 5 + 3
    assert [meta.version for meta in await history(store, keys)] == [7, 6]
    assert (await read_version(store, keys, 6))[1] == shared
    assert (await read_version(store, keys, 7))[1] == b"text 6"
    assert await current_version(store, keys) == 7
    with pytest.raises(VersionMissing):
        await read_version(store, keys, 5)
    assert await prune(store, keys, keep=2) == 0


async def test_a_mirror_follows_every_change_and_survives_compaction(store: Store, prefix: str) -> None:
    await store.put(f"{prefix}a", b"1")
    lease = await store.grant_lease(60)
    async with asyncio.timeout(WITHIN_SECONDS), aclosing(mirror(store, prefix, compare_every_seconds=0.3)) as views:
        view = await anext(views)
        assert {key: item.value for key, item in view.items()} == {f"{prefix}a": b"1"}
        await store.txn([], [Put(f"{prefix}b", b"2", lease.id), Delete(f"{prefix}a")])
        view = await anext(views)
        assert [(item.key, item.value, item.lease) for item in view.values()] == [(f"{prefix}b", b"2", lease.id)]
        await asyncio.sleep(0.4)  # a compare passes, finds nothing and shows nothing
        last = await store.put(f"{prefix}c", b"3")
        await store.compact(last)
        while (view := await anext(views)).keys() != {f"{prefix}b", f"{prefix}c"}:
            pass
        assert view == {item.key: item for item in (await store.list(prefix)).items}


async def test_a_closed_store_says_so(store: Store, prefix: str) -> None:
    health = await store.health()
    assert (health.reachable, health.leader) == (True, True)
    await store.close()
    health = await store.health()
    assert (health.reachable, health.leader) == (False, False)
