"""Lost answers, damage, and crossings of writers and prunings; the contract suite has the rest."""

import asyncio
import json
import os
from collections.abc import Sequence

import pytest
from tests.store.troubled import TroubledStore

from meridian.store.documents import (
    CHUNK_BYTES_MAX,
    META_CHARACTERS_MAX,
    PAYLOAD_BYTES_MAX,
    DocumentDamaged,
    DocumentTooLarge,
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
from meridian.store.port import Op, OutcomeUnknown, Put

KEYS = Keys("test")
META = VersionMeta("ada", "why", "2026-11-24T22:00:00Z")


def is_commit(then: Sequence[Op]) -> bool:
    return any(isinstance(op, Put) and op.key == KEYS.current() for op in then)


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("what", ["lost_questions", "lost_answers"])
async def test_a_lost_commit_is_resolved_by_reading_back(what: str, lost: int) -> None:
    store = TroubledStore()
    assert await write_version(store, KEYS, b"text", META, expected_current=0) == 1

    async def lose_the_commit(then: Sequence[Op]) -> None:
        if is_commit(then):
            setattr(store, what, lost)
        else:
            store.before_txn = lose_the_commit

    store.before_txn = lose_the_commit
    assert await write_version(store, KEYS, b"text", META, expected_current=1) == 2
    assert await current_version(store, KEYS) == 2
    assert [meta.version for meta in await history(store, KEYS)] == [2, 1]


async def test_a_commit_that_is_lost_again_and_again_stays_unknown() -> None:
    store = TroubledStore()
    store.lost_questions = 1000
    with pytest.raises(OutcomeUnknown):
        await write_version(store, KEYS, b"text", META, expected_current=0)


async def test_a_lost_answer_does_not_hide_that_another_writer_won() -> None:
    store = TroubledStore()

    async def other_writer_first(then: Sequence[Op]) -> None:
        if not is_commit(then):
            store.before_txn = other_writer_first
            return
        assert await write_version(store, KEYS, b"theirs", META, expected_current=0) == 1
        store.lost_questions = 1

    store.before_txn = other_writer_first
    with pytest.raises(VersionConflict) as conflict:
        await write_version(store, KEYS, b"ours", META, expected_current=0)
    assert conflict.value.current == 1
    assert (await read_version(store, KEYS, 1))[1] == b"theirs"


async def test_a_pruning_between_the_chunks_and_the_commit_costs_nothing() -> None:
    store = TroubledStore()
    assert await write_version(store, KEYS, b"one", META, expected_current=0) == 1

    async def prune_at_the_commit(then: Sequence[Op]) -> None:
        if is_commit(then):
            assert await prune(store, KEYS, keep=1) == 1  # the new version's chunk, which nobody names yet
        else:
            store.before_txn = prune_at_the_commit

    store.before_txn = prune_at_the_commit
    assert await write_version(store, KEYS, b"two", META, expected_current=1) == 2
    assert (await read_version(store, KEYS, 2))[1] == b"two"


async def test_a_damaged_record_stops_neither_history_nor_pruning_and_is_named() -> None:
    store = TroubledStore()
    for number in range(5):
        await write_version(store, KEYS, b"%d" % number, META, expected_current=number)
    await store.put(KEYS.version(2), b"\xff")
    await store.put(KEYS.version(4), b"{}")
    told = {meta.version: meta.message for meta in await history(store, KEYS)}
    assert list(told) == [5, 4, 3, 2, 1]
    assert told[5] == META.message and "the record of version 4 is damaged" in told[4]
    assert await prune(store, KEYS, keep=2) == 3, "records alone: whose chunks the damaged one's are is not known"
    assert [meta.version for meta in await history(store, KEYS)] == [5, 4]
    assert await write_version(store, KEYS, b"new", META, expected_current=5) == 6
    assert await prune(store, KEYS, keep=1) == 2 + 5, "with the last damaged record its chunks go"
    assert (await read_version(store, KEYS, 6))[1] == b"new"


async def test_a_commit_in_the_middle_of_a_pruning_stops_it() -> None:
    store = TroubledStore()
    for number in range(3):
        await write_version(store, KEYS, b"%d" % number, META, expected_current=number)

    async def write_the_pruned_text_again(then: Sequence[Op]) -> None:
        assert await write_version(store, KEYS, b"0", META, expected_current=3) == 4

    store.before_txn = write_the_pruned_text_again
    assert await prune(store, KEYS, keep=1) == 0
    assert (await read_version(store, KEYS, 4))[1] == b"0"


async def test_a_candidate_in_the_middle_of_a_pruning_stops_it() -> None:
    store = TroubledStore()
    for number in range(3):
        await write_version(store, KEYS, b"%d" % number, META, expected_current=number)

    async def propose_the_pruned_text_again(then: Sequence[Op]) -> None:
        assert await write_version(store, KEYS, b"0", META, expected_current=3, candidate=True) == 4

    store.before_txn = propose_the_pruned_text_again
    assert await prune(store, KEYS, keep=1) == 0
    assert (await read_version(store, KEYS, 4))[1] == b"0"
    assert await current_version(store, KEYS) == 3


async def test_the_largest_document_passes_and_a_larger_one_is_refused() -> None:
    store = TroubledStore()
    with pytest.raises(DocumentTooLarge, match="split it"):
        await write_version(store, KEYS, bytes(PAYLOAD_BYTES_MAX + 1), META, expected_current=0)
    with pytest.raises(DocumentTooLarge, match="shorten"):
        wordy = VersionMeta("ada", "x" * META_CHARACTERS_MAX, META.at)
        await write_version(store, KEYS, b"", wordy, expected_current=0)
    payload = os.urandom(PAYLOAD_BYTES_MAX)
    await write_version(store, KEYS, payload, META, expected_current=0)
    assert (await read_version(store, KEYS, 1))[1] == payload
    await write_version(store, KEYS, b"", META, expected_current=1)
    assert (await read_version(store, KEYS, 2))[1] == b""


async def test_damage_is_named_and_never_returned() -> None:
    store = TroubledStore()
    await write_version(store, KEYS, os.urandom(CHUNK_BYTES_MAX + 1), META, expected_current=0)
    record = (await store.list(KEYS.versions())).items[0]
    fields = json.loads(record.value)
    first, second = fields["chunks"]
    whole = await store.get(KEYS.chunk(first))
    assert whole is not None

    await store.put(KEYS.chunk(first), whole.value[:-1] + b"x")
    with pytest.raises(DocumentDamaged, match="hash"):
        await read_version(store, KEYS, 1)
    await store.put(KEYS.chunk(first), whole.value)
    for change in (
        {"chunks": [first]},
        {"chunks": [second, first]},
        {"digest": "0" * 64},
        {"payload_bytes": 1},
        {"surprise": 1},
        {"chunks": None},
    ):
        await store.put(record.key, json.dumps({**fields, **change}).encode())
        with pytest.raises(DocumentDamaged):
            await read_version(store, KEYS, 1)
    await store.put(record.key, b"\xff")
    with pytest.raises(DocumentDamaged, match=r"versions/0*1 is damaged"):
        await read_version(store, KEYS, 1)
    await store.put(KEYS.current(), b"one")
    with pytest.raises(DocumentDamaged):
        await current_version(store, KEYS)
    await store.put(record.key, json.dumps({**fields, "chunks": ["0" * 64]}).encode())
    with pytest.raises(VersionMissing, match="pruned"):
        await read_version(store, KEYS, 1)
    for number in (0, -3, 99, 10**10, 10**400):
        with pytest.raises(VersionMissing, match="history"):
            await read_version(store, KEYS, number)


async def test_many_writers_leave_numbers_without_a_gap() -> None:
    store = TroubledStore()

    async def apply(author: str) -> None:
        for _ in range(5):
            while True:
                try:
                    meta = VersionMeta(author, "", META.at)
                    current = await current_version(store, KEYS)
                    await write_version(store, KEYS, author.encode(), meta, expected_current=current)
                    break
                except VersionConflict:
                    await asyncio.sleep(0)

    await asyncio.gather(*(apply(author) for author in "abcd"))
    metas = await history(store, KEYS)
    assert [meta.version for meta in metas] == list(range(20, 0, -1))
    assert sorted(meta.author for meta in metas) == sorted("abcd" * 5)
