"""The etcd client while members die, hang, lose their quorum, or do not want us."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme
from tests.etcd_cluster import EtcdCluster
from tests.support import wait_until

from meridian.store.etcd import EtcdStore
from meridian.store.etcd_members import EtcdTls, EtcdUser
from meridian.store.mirror import mirror
from meridian.store.port import (
    Absent,
    Event,
    OutcomeUnknown,
    Put,
    Refused,
    Store,
    StoreError,
    StoreUnavailable,
)

WRITES_MIN = 500


async def write_once(store: Store, key: str, value: bytes) -> None:
    """Creates `key` exactly once, whatever happens to the members: the transaction's own success forbids a second."""
    while True:
        with suppress(StoreUnavailable):
            await store.txn([Absent(key)], [Put(key, value)])
            return


async def collect(store: Store, prefix: str, after_revision: int, into: list[Event]) -> None:
    """Watches until cancelled; after StoreUnavailable goes on where it was, as the port says one may."""
    while True:
        with suppress(StoreUnavailable):
            async with aclosing(store.watch(prefix, after_revision=after_revision)) as batches:
                async for batch in batches:
                    into += batch.events
                    after_revision = batch.revision


@asynccontextmanager
async def running(*coroutines: Awaitable[None]) -> AsyncIterator[None]:
    """Runs the coroutines for as long as the block, and joins them."""

    async def run(coroutine: Awaitable[None]) -> None:
        await coroutine

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(coroutine)) for coroutine in coroutines]
        yield
        for task in tasks:
            task.cancel()


async def healthy(cluster: EtcdCluster) -> None:
    await asyncio.to_thread(cluster.wait_healthy)


async def test_a_watch_sees_every_event_once_and_in_order_while_each_member_is_killed(
    etcd_cluster: EtcdCluster, etcd: EtcdStore, prefix: str
) -> None:
    start = (await etcd.list(prefix)).revision
    orders = ((0, 1, 2), (1, 2, 0), (2, 0, 1))
    watchers = [etcd_cluster.store(order) for order in orders]
    seen: list[list[Event]] = [[] for _ in orders]
    written = 0
    enough = asyncio.Event()
    gaps: list[float] = []
    loop = asyncio.get_running_loop()

    async def write_on() -> None:
        nonlocal written
        last = loop.time()
        while not enough.is_set():
            await write_once(etcd, f"{prefix}{written:06}", b"x")
            written += 1
            gaps.append(loop.time() - last)
            last = loop.time()

    async def kill_and_restart(number: int) -> None:
        before = written
        etcd_cluster.kill(number)
        await wait_until(lambda: written >= before + 60, within_seconds=12, what="writes go on without a member")
        etcd_cluster.start(number)
        await healthy(etcd_cluster)

    watches = [collect(watcher, prefix, start, into) for watcher, into in zip(watchers, seen, strict=True)]
    async with running(*watches):
        async with asyncio.TaskGroup() as group:
            group.create_task(write_on())
            await kill_and_restart(etcd_cluster.leader())
            await kill_and_restart((etcd_cluster.leader() + 1) % 3)
            await kill_and_restart(etcd_cluster.leader())
            await wait_until(lambda: written >= WRITES_MIN, within_seconds=10, what="enough writes")
            # The last write is let finish: one that is cancelled may still land, after the listing below.
            enough.set()
        truth = sorted((await etcd.list(prefix)).items, key=lambda item: item.mod_revision)
        assert len(truth) == written
        for into in seen:
            await wait_until(
                lambda into=into: len(into) >= len(truth),  # type: ignore[misc]  # mypy cannot type the bound default
                within_seconds=10,
                what="the watch catches up",
            )
    for into in seen:
        assert [(e.key, e.mod_revision) for e in into] == [(item.key, item.mod_revision) for item in truth]
    assert max(gaps) < 8, "with etcd's timers a new leader stands within two seconds or so"
    for watcher in watchers:
        await watcher.close()


async def test_without_a_quorum_writes_and_watches_say_so_and_all_heals(
    etcd_cluster: EtcdCluster, etcd: EtcdStore, prefix: str
) -> None:
    start = await etcd.put(f"{prefix}a", b"1")
    leader = etcd_cluster.leader()
    survivor = (leader + 1) % 3
    lost = [number for number in range(3) if number != survivor]
    short = etcd_cluster.store((survivor,), deadline_seconds=2.0)
    views: list[bytes] = []

    async def follow() -> None:
        async for view in mirror(etcd, f"{prefix}a"):
            views.append(view[f"{prefix}a"].value)

    async def watch_ends() -> None:
        with pytest.raises(StoreUnavailable, match=r"leader|no answer"):
            async for _ in short.watch(prefix, after_revision=start):
                pass

    async with running(follow()):
        async with asyncio.TaskGroup() as group, asyncio.timeout(15):
            ends = group.create_task(watch_ends())
            await wait_until(lambda: views == [b"1"], within_seconds=5, what="the mirror's first view")
            etcd_cluster.kill(*lost)
            await ends  # the survivor lives on and answers: only require-leader ends this watch
        health = await etcd.health()
        assert (health.reachable, health.leader) == (True, False)
        assert "sees no leader" in health.detail
        assert "connection refused" in health.detail
        with pytest.raises(StoreUnavailable, match="no leader") as refusal:
            await short.put(f"{prefix}a", b"never")
        assert not isinstance(refusal.value, OutcomeUnknown)
        with pytest.raises(StoreUnavailable, match="majority"):
            await short.get(f"{prefix}a")
        etcd_cluster.start(*lost)
        await healthy(etcd_cluster)
        await etcd.put(f"{prefix}a", b"2")
        await wait_until(lambda: views == [b"1", b"2"], within_seconds=10, what="the mirror comes back by itself")
    await short.close()


async def test_a_member_that_hangs_is_left_by_calls_and_watches(
    etcd_cluster: EtcdCluster, etcd: EtcdStore, prefix: str
) -> None:
    leader = etcd_cluster.leader()
    hangs = (leader + 1) % 3
    order = (hangs, leader, (leader + 2) % 3)
    store, writer, lonely = (etcd_cluster.store(numbers) for numbers in (order, order, (hangs,)))
    start = await store.put(f"{prefix}a", b"")
    for client in (writer, lonely):
        assert await client.get(f"{prefix}a") is not None
    seen: list[Event] = []
    loop = asyncio.get_running_loop()
    async with running(collect(store, prefix, start, seen)):
        await etcd.put(f"{prefix}b", b"")
        await wait_until(lambda: len(seen) == 1, within_seconds=5, what="the watch is open")
        etcd_cluster.send(hangs, signal.SIGSTOP)
        try:
            asked_at = loop.time()
            with pytest.raises(OutcomeUnknown, match="read the key back"):
                await writer.txn([Absent(f"{prefix}c")], [Put(f"{prefix}c", b"")])
            assert loop.time() - asked_at < 2
            async with asyncio.timeout(4):  # the next attempt is somebody else's
                await write_once(writer, f"{prefix}c", b"")
            asked_at = loop.time()
            assert await store.get(f"{prefix}c") is not None
            assert loop.time() - asked_at < 3
            await wait_until(lambda: len(seen) == 2, within_seconds=8, what="the watch moves on")
        finally:
            etcd_cluster.send(hangs, signal.SIGCONT)
        # The write that was lost in the hanging member arrives now, if ever, and must find its condition false.
        await read_again(lonely, f"{prefix}c")
        await etcd.put(f"{prefix}d", b"")
        await wait_until(lambda: len(seen) >= 3, within_seconds=5, what="the watch goes on")
    assert [event.key.removeprefix(prefix) for event in seen] == ["b", "c", "d"]
    await healthy(etcd_cluster)
    for client in (store, writer, lonely):
        await client.close()


async def read_again(store: Store, key: str) -> None:
    """Returns when `key`, which exists, can be read again."""
    async with asyncio.timeout(15):
        while True:
            with suppress(StoreUnavailable):
                assert await store.get(key) is not None
                return


async def test_a_member_that_is_down_costs_no_write_its_certainty(
    etcd_cluster: EtcdCluster, prefix: str, unused_endpoint: str
) -> None:
    store = EtcdStore([unused_endpoint, *etcd_cluster.endpoints], tls=etcd_cluster.tls)
    for i in range(20):
        await store.put(f"{prefix}{i}", b"")
    await store.close()


@pytest.fixture
def unused_endpoint() -> str:
    return "https://127.0.0.1:1"


async def refusal(make: Callable[[], EtcdStore]) -> str:
    """Returns the message with which a store that must not work refuses a read."""
    store = make()
    try:
        with pytest.raises(StoreError) as error:
            await store.get("/test/a")
        return str(error.value)
    finally:
        await store.close()


async def test_bad_certificates_and_endpoints_are_refused_in_words(
    etcd_cluster: EtcdCluster, unused_endpoint: str
) -> None:
    ours = etcd_cluster.tls
    assert ours is not None
    first = etcd_cluster.endpoints[:1]
    stranger = trustme.CA()
    foreign = stranger.issue_cert("127.0.0.1")
    wrong_ca = EtcdTls(stranger.cert_pem.bytes(), ours.certificate, ours.key)
    wrong_certificate = EtcdTls(ours.ca, foreign.cert_chain_pems[0].bytes(), foreign.private_key_pem.bytes())
    cases = [
        (lambda: EtcdStore(first, tls=wrong_ca, deadline_seconds=0.5), "not signed by the CA we were given"),
        (lambda: EtcdStore(first, tls=EtcdTls(ours.ca), deadline_seconds=0.5), "client certificate"),
        (lambda: EtcdStore(first, tls=wrong_certificate, deadline_seconds=0.5), "client certificate"),
        (lambda: EtcdStore([unused_endpoint], tls=ours, deadline_seconds=0.5), "connection refused"),
        (lambda: EtcdStore([first[0].replace("https", "http")], deadline_seconds=0.5), "it speaks TLS"),
    ]
    for make, words in cases:
        message = await refusal(make)
        assert words in message
        assert "https://127.0.0.1" in message or "http://127.0.0.1" in message
        assert len(message) < 400
    for endpoints, tls, words in (
        ([], ours, "name at least one"),
        (["127.0.0.1:2379"], ours, "write http://HOST:PORT"),
        (["https://127.0.0.1:2379"], None, "needs a CA file"),
        (["http://127.0.0.1:2379"], ours, "http takes none"),
    ):
        with pytest.raises(StoreError, match=words):
            EtcdStore(endpoints, tls=tls)


async def test_a_user_with_a_password_is_authenticated_again_when_its_token_is_lost(tmp_path: Path) -> None:
    cluster = EtcdCluster(tmp_path, size=1, mtls=False)
    store = cluster.store(user=EtcdUser("ada", "s3cret"))
    try:
        cluster.start()
        await healthy(cluster)
        await store.put("/meridian/before", b"authentication is off")
        for command in (
            "user add root:rootpw",
            "user grant-role root root",
            "role add meridian",
            "role grant-permission meridian --prefix=true readwrite /meridian/",
            "user add ada:s3cret",
            "user grant-role ada meridian",
            "auth enable",
        ):
            await asyncio.to_thread(cluster.etcdctl, *command.split())
        start = await store.put("/meridian/a", b"1")
        seen: list[Event] = []
        async with running(collect(store, "/meridian/", start, seen)):
            await store.put("/meridian/a", b"2")
            await wait_until(lambda: len(seen) == 1, within_seconds=5, what="a watch with a token")
            cluster.kill(0)  # and with it all tokens, which etcd keeps in memory
            cluster.start(0)
            await read_again(store, "/meridian/a")
            await store.put("/meridian/a", b"3")
            await wait_until(lambda: len(seen) == 2, within_seconds=10, what="the watch with the new token")
        with pytest.raises(Refused, match="grant its role"):
            await store.put("/elsewhere", b"")
        with pytest.raises(Refused, match="does not let us watch"):
            async with aclosing(store.watch("/elsewhere", after_revision=start)) as batches:
                await anext(batches)
        assert "user or password is wrong" in await refusal(lambda: cluster.store(user=EtcdUser("ada", "wrong")))
        assert "check the etcd user" in await refusal(cluster.store)
    finally:
        await store.close()
        cluster.stop()
