"""What operators decided survives the loss of the whole store, and nothing that came after is mistaken for it."""

import json
import os

import pytest

from meridian.control.backup import BackupError, NotEmpty, Seen, back_up, open_backup, restore
from meridian.control.configuration import Configuration
from meridian.control.fences import generation_of, make_fence, revision_of
from meridian.store import documents
from meridian.store.embedded import EmbeddedStore
from meridian.store.keys import Keys
from meridian.store.port import Put

KEY = bytes(range(32))
KEYS = Keys("test")
META = documents.VersionMeta("ann", "a test", "2026-01-01T00:00:00Z")
BASE = """\
listeners: [{name: web, bind: "0.0.0.0:80", protocols: [h1]}]
upstreams: [{name: a, endpoints: [{address: "10.0.0.1:80"}]}]
routes: [{name: one, upstream: a}]
"""
FILES = {"a.pem": b"chain", "a.key": b"very secret"}
TLS = BASE.replace("[h1]", "[h2]") + "certificates: [{hosts: [a.example], cert_file: a.pem, key_file: a.key}]\n"


def empty() -> EmbeddedStore:
    return EmbeddedStore(lambda: 0.0)


async def filled() -> EmbeddedStore:
    """A store with three versions, an order, a secret, limits, and what nodes say of themselves."""
    store = empty()
    configuration = Configuration(store, KEYS, KEY)
    await configuration.apply(TLS, FILES, author="ann")
    for n in (2, 3):
        await configuration.apply(TLS.replace("10.0.0.1", f"10.0.0.{n}"), FILES, author="ann", message=f"number {n}")
    lease = await store.grant_lease(5)
    limits = KEYS.limits()
    await store.txn(
        [],
        [
            Put(KEYS.drain("eu-1"), b"{}"),
            Put(KEYS.secret("acme"), b"sealed"),
            Put(KEYS.member("eu-1.1"), b"{}", lease.id),
            Put(KEYS.leader(), b"{}", lease.id),
            Put(KEYS.verdict(), b"v"),
            Put(f"{limits}epoch", b'{"cut":{"seats":12},"generation":4}'),
            Put(f"{limits}values/per-client", b"{}"),
            Put(f"{limits}seats/0", b"eu-1"),
        ],
    )
    return store


async def names(store: EmbeddedStore) -> set[str]:
    return {item.key.removeprefix(KEYS.root()) for item in (await store.list(KEYS.root())).items}


async def test_everything_that_was_decided_comes_back_and_nothing_that_nodes_said() -> None:
    made, raw = await back_up(await filled(), KEYS, KEY)
    assert (made.cluster, made.current, made.versions) == ("test", 3, 3)
    assert open_backup(raw, KEY) == made
    for secret in (b"very secret", KEY):
        assert secret not in raw
    store = empty()
    done = await restore(store, KEYS, KEY, raw, Seen(), author="bob")
    assert (done.version, done.was, done.versions, done.lost) == (4, 3, 3, "")
    configuration = Configuration(store, KEYS, KEY)
    assert (await configuration.get()).text == TLS.replace("10.0.0.1", "10.0.0.3")
    assert [meta.version for meta in await configuration.history()] == [4, 3, 2, 1]
    newest = (await configuration.history())[0]
    assert (newest.author, newest.message.startswith("restored: version 3")) == ("bob", True)
    assert (await configuration.rollback(1, author="bob")).version == 5
    found = await names(store)
    assert {"drains/eu-1", "keys/acme", "limits/values/per-client"} <= found
    assert not [name for name in found if name.startswith(("members/", "verdicts/", "limits/seats/"))]
    assert "leader" not in found
    epoch = await store.get(f"{KEYS.limits()}epoch")
    assert epoch is not None
    assert json.loads(epoch.value) == {"cut": {"seats": 12}, "generation": 5, "frozen": True}


async def test_no_number_that_a_node_has_seen_is_used_again() -> None:
    _, raw = await back_up(await filled(), KEYS, KEY)
    store = empty()
    await store.put(KEYS.leader(), b"somebody")
    done = await restore(store, KEYS, KEY, raw, Seen(version=9, generation=2), author="bob")
    assert (done.version, done.generation) == (10, 3)
    assert await store.get(KEYS.leader()) is None  # who led without knowing the generation leads no more
    assert (await Configuration(store, KEYS, KEY).apply(BASE, {}, author="bob", force=True)).version == 11
    _, second = await back_up(store, KEYS, KEY)
    assert (await restore(empty(), KEYS, KEY, second, Seen(), author="bob")).generation == 4


async def test_a_rollout_on_its_way_is_neither_carried_nor_left_behind() -> None:
    store = await filled()
    configuration = Configuration(store, KEYS, KEY)
    other = TLS.replace("10.0.0.1", "10.0.0.9")
    await configuration.apply(other, FILES, author="ann", staged=True)
    await configuration.abort(author="ann")
    await configuration.apply(other, FILES, author="ann", staged=True)
    await store.put(KEYS.trial("eu-1"), b"{}")
    made, raw = await back_up(store, KEYS, KEY)
    assert (made.current, made.versions) == (3, 5)
    for target in (empty(), store):
        done = await restore(target, KEYS, KEY, raw, Seen(version=3), author="bob", force=True)
        assert done.version == 6, "no number of a candidate is given again"
        restored = Configuration(target, KEYS, KEY)
        assert await restored.rollout() is None
        assert {number: one.stage.value for number, one in (await restored.outcomes()).items()} == {4: "undone"}
        assert not [name for name in await names(target) if name.startswith("config/trials/")]
        assert (await restored.apply(other, FILES, author="bob", staged=True)).version == 7


def test_a_fence_of_a_later_generation_is_greater_whatever_the_revision() -> None:
    assert make_fence(1, 3) > make_fence(0, 10**9)
    assert (revision_of(make_fence(5, 77)), generation_of(make_fence(5, 77))) == (77, 5)


async def test_what_is_there_is_lost_only_with_force_and_by_name() -> None:
    _, raw = await back_up(await filled(), KEYS, KEY)
    store = empty()
    await Configuration(store, KEYS, KEY).apply(BASE, {}, author="ann")
    await store.put(KEYS.drain("us-1"), b"{}")
    before = await names(store)
    with pytest.raises(NotEmpty, match=r"1 versions of the document \(the newest: 1\), 1 orders to drain"):
        await restore(store, KEYS, KEY, raw, Seen(), author="bob")
    assert await names(store) == before
    done = await restore(store, KEYS, KEY, raw, Seen(), author="bob", force=True)
    assert done.lost
    assert "drains/us-1" not in await names(store)
    assert (await Configuration(store, KEYS, KEY).get()).version == 4


async def test_a_backup_of_nothing_restores_to_nothing() -> None:
    made, raw = await back_up(empty(), KEYS, KEY)
    assert (made.current, made.versions) == (0, 0)
    store = empty()
    assert (await restore(store, KEYS, KEY, raw, Seen(), author="bob")).version == 0
    assert await documents.current_version(store, KEYS) == 0


async def test_every_damage_is_found_and_nothing_is_written() -> None:
    _, raw = await back_up(await filled(), KEYS, KEY)
    head, _, body = raw.partition(b"\n")
    fields = json.loads(head)
    forged = json.dumps({**fields, "cluster": "other"}).encode() + b"\n" + body
    newer = json.dumps({**fields, "format": 2}).encode() + b"\n" + body
    cases = {
        b"": "not a backup",
        b"listeners: []\n": "not a backup",
        os.urandom(5000): "not a backup",
        raw[:-1]: "cut off",
        raw + b"x": "cut off",
        raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:]: "damaged",
        forged: "damaged",
        newer: "upgrade",
    }
    for bad, why in cases.items():
        store = empty()
        with pytest.raises(BackupError, match=why):
            await restore(store, KEYS, KEY, bad, Seen(), author="bob", force=True)
        assert await names(store) == set()
    with pytest.raises(BackupError, match="another key"):
        open_backup(raw, bytes(32))


async def test_every_byte_counts() -> None:
    _, raw = await back_up(await filled(), KEYS, KEY)
    for position in range(0, len(raw), 7):
        bad = raw[:position] + bytes([raw[position] ^ 0x20]) + raw[position + 1 :]
        with pytest.raises(BackupError):
            open_backup(bad, KEY)


async def test_a_document_of_many_chunks_comes_back_in_transactions_that_a_store_takes() -> None:
    store = empty()
    payload = os.urandom(3 * documents.CHUNK_BYTES_MAX)
    await documents.write_version(store, KEYS, payload, META, expected_current=0)
    _, raw = await back_up(store, KEYS, KEY)
    target = empty()
    await restore(target, KEYS, KEY, raw, Seen(), author="bob")
    assert (await documents.read_version(target, KEYS, 2))[1] == payload


async def test_values_of_more_limits_than_a_transaction_takes_come_back_frozen_and_with_nobody_seated() -> None:
    store = await filled()
    names_of = [f"{KEYS.limits()}values/limit-{n}" for n in range(300)]
    for name in names_of:
        await store.put(name, b'{"at":"the backup"}')
    _, raw = await back_up(store, KEYS, KEY)
    for target in (empty(), store):
        await restore(target, KEYS, KEY, raw, Seen(), author="bob", force=True)
        found = {item.key: item.value for item in (await target.list(KEYS.limits())).items}
        assert all(found[name] == b'{"at":"the backup"}' for name in names_of)
        epoch = json.loads(found[f"{KEYS.limits()}epoch"])
        assert (epoch["generation"] > 4, epoch["frozen"]) == (True, True)
        assert not [key for key in found if "/seats/" in key]


async def test_a_store_whose_records_are_damaged_is_restored_with_force() -> None:
    _, raw = await back_up(await filled(), KEYS, KEY)
    for key, word in ((KEYS.version(2), b"{"), (KEYS.current(), b"one")):
        store = await filled()
        await store.put(key, word)
        with pytest.raises(NotEmpty, match="3 versions"):
            await restore(store, KEYS, KEY, raw, Seen(), author="bob")
        assert (await restore(store, KEYS, KEY, raw, Seen(), author="bob", force=True)).version == 4
        assert (await Configuration(store, KEYS, KEY).get()).version == 4
