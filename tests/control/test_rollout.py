"""The driver of rollouts on the embedded store: leaders that die in each stage, a store that goes away, operators."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
from tests.control.parts import KEYS, FlakyStore, running
from tests.support import wait_until

from meridian.control.configuration import ChangedMeanwhile, Configuration, NoRollout, RolloutRunning
from meridian.control.members import MemberRecord
from meridian.control.rollout import RolloutHandlers, Rollouts, Word
from meridian.control.rollout_record import RolloutDamaged, RolloutRecord
from meridian.core.judging import HANDSHAKES, Arms, Sample, Tally
from meridian.core.rollout import Part, Stage
from meridian.store import documents
from meridian.store.port import Put

KEY = b"k" * 32
DOCUMENT = "listeners:\n  - {name: web, bind: '0.0.0.0:80', protocols: [h1]}\n"
CHANGED = DOCUMENT.replace("80'", "81'")


class Cluster:
    """Two nodes of two regions; `leader` is the one that may act, `failing` makes the candidate fail everything."""

    def __init__(self, store: FlakyStore) -> None:
        self.store = store
        self.configuration = Configuration(store, KEYS, KEY)
        self.leader, self.fence = "one", 0
        self.failing, self.exchanges = False, 0
        self.refusing = ""
        self.samples: dict[str, Sample] = {}
        self.parts: dict[str, Part] = {}
        self.members = {
            name: MemberRecord(name, f"{name}.1", region, ()) for name, region in (("one", "asia"), ("two", "europe"))
        }
        self.nodes = {name: self._node(name) for name in self.members}

    def _node(self, name: str) -> Rollouts:
        def check(version: int, payload: bytes) -> None:
            assert payload
            node.checked(version, self.refusing if name == "two" else "")

        def tried(part: Part) -> Arms | None:
            if not part.share:
                return None
            seen = self.exchanges
            failed = seen if self.failing else 0
            return Arms(part.share, {"r": Tally(20 * seen)}, {"r": Tally(seen, failed=failed)}, self.samples)

        record = self.members[name]
        node = Rollouts(
            self.store, KEYS, name, record.node_id, record.region,
            fence=lambda: self.fence if self.leader == name else None, members=lambda: self.members,
            clock=asyncio.get_running_loop().time, wall=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            handlers=RolloutHandlers(check, lambda part: self.parts.__setitem__(name, part), tried),
        )  # fmt: skip
        return node

    async def begin(self, stage_seconds: float = 0.1) -> None:
        """A second document on its way over a first one."""
        result = await self.store.txn([], [Put(KEYS.leader(), b"{}")])
        self.fence = result.revision
        await self.configuration.apply(DOCUMENT, {}, author="ann")
        applied = await self.configuration.apply(
            CHANGED, {}, author="bob", message="why", staged=True, stage_seconds=stage_seconds
        )
        assert (applied.version, applied.staged) == (2, True)

    async def record(self) -> RolloutRecord:
        found = await self.configuration.rollout()
        assert found is not None
        return found

    async def until(self, stage: Stage) -> RolloutRecord:
        async def reached() -> bool:
            return (await self.record()).stage is stage

        deadline = asyncio.get_running_loop().time() + 10
        while not await reached():
            assert asyncio.get_running_loop().time() < deadline, await self.record()
            await asyncio.sleep(0.02)
        return await self.record()

    async def current(self) -> int:
        return await documents.current_version(self.store, KEYS)


@contextlib.asynccontextmanager
async def cluster(stage_seconds: float = 0.1) -> AsyncIterator[Cluster]:
    made = Cluster(FlakyStore(asyncio.get_running_loop().time))
    await made.begin(stage_seconds)
    async with running(*(node.run() for node in made.nodes.values())):
        yield made


async def test_a_document_that_does_no_worse_comes_into_force_and_history_says_so() -> None:
    async with cluster() as c:
        await c.until(Stage.CANARY)
        assert await c.current() == 1
        c.exchanges = 500
        ended = await c.until(Stage.DONE)
        assert (await c.current(), ended.ended, ended.author) == (2, "2026-01-01T00:00:00.000+00:00", "bob")
        assert (await c.configuration.outcomes())[2] == ended
        await wait_until(lambda: set(c.parts.values()) == {Part()}, within_seconds=5, what="both let go of it")
        assert not (await c.store.list(KEYS.trials())).items


async def test_a_document_that_fails_is_undone_and_its_number_is_not_used_again() -> None:
    async with cluster() as c:
        c.failing, c.exchanges = True, 50
        ended = await c.until(Stage.UNDONE)
        assert await c.current() == 1
        assert "100 of 100 exchanges (100.0 %) failed, against 0 of 2000" in ended.detail
        again = await c.configuration.apply(CHANGED, {}, author="bob")
        assert (again.version, await c.current()) == (3, 3)


async def test_a_node_that_refuses_ends_it_before_anything_was_served() -> None:
    made = Cluster(FlakyStore(asyncio.get_running_loop().time))
    made.refusing = "port 81 is taken"
    await made.begin()
    async with running(*(node.run() for node in made.nodes.values())):
        assert (await made.until(Stage.UNDONE)).detail == "refused by two: port 81 is taken"
        assert all(not part.share for part in made.parts.values())


@pytest.mark.parametrize("stage", [Stage.CHECKING, Stage.CANARY, Stage.REGION])
async def test_a_leader_that_dies_in_any_stage_is_followed_by_one_that_goes_on(stage: Stage) -> None:
    made = Cluster(FlakyStore(asyncio.get_running_loop().time))
    if stage is Stage.CHECKING:
        made.leader = "nobody"
    await made.begin()
    async with running(*(node.run() for node in made.nodes.values())):
        if stage is Stage.REGION:
            made.exchanges = 101  # of two nodes in the canary stage; too few of the one in the region
        await made.until(stage)
        made.leader = "nobody"
        made.exchanges = 500
        await asyncio.sleep(0.6)
        assert (await made.record()).stage is stage, "nobody leads, nothing moves"
        made.leader = "two"
        made.fence = (await made.store.txn([], [Put(KEYS.drains() + "x", b"")])).revision
        await asyncio.sleep(0.6)
        assert (await made.record()).stage is stage, "a fence that is not in the store moves nothing"
        made.fence = (await made.store.get(KEYS.leader())).create_revision  # type: ignore[union-attr]  # it is there
        await made.until(Stage.DONE)


@pytest.mark.parametrize("stage", [Stage.CANARY, Stage.REGION])
async def test_while_the_store_is_away_it_holds_and_nodes_keep_their_part(stage: Stage) -> None:
    async with cluster() as c:
        if stage is Stage.REGION:
            c.exchanges = 101
        generation = (await c.until(stage)).generation
        await wait_until(
            lambda: {part.generation for part in c.parts.values()} == {generation},
            within_seconds=5,
            what="both know it",
        )
        before = dict(c.parts)
        c.store.away = True
        c.exchanges = 500
        await asyncio.sleep(1.0)
        assert c.parts == before
        c.store.away = False
        await c.until(Stage.DONE)


async def test_operators_are_told_of_each_other() -> None:
    async with cluster() as c:
        with pytest.raises(RolloutRunning, match=r"version 2 \(why\) of bob is being rolled out"):
            await c.configuration.apply(DOCUMENT.replace("80'", "82'"), {}, author="cid")
        await c.configuration.promote(author="ann")
        assert await c.current() == 2
        with pytest.raises(NoRollout, match="promoted by ann"):
            await c.configuration.abort(author="cid")
        with pytest.raises(ChangedMeanwhile, match=r"(?s)version 2 of bob \(why\).*changed listeners web"):
            await c.configuration.apply(DOCUMENT.replace("80'", "82'"), {}, author="cid", expected_version=1)


async def test_going_back_waits_for_nothing_and_ends_a_rollout() -> None:
    async with cluster(stage_seconds=60) as c:
        await c.until(Stage.CANARY)
        assert (await c.configuration.rollback(1, author="ann")).version == 3
        assert (await c.until(Stage.UNDONE)).detail == "ended by ann rollback to version 1"
        assert await c.current() == 3


async def test_a_canary_that_restarts_ends_it() -> None:
    async with cluster(stage_seconds=60) as c:
        await c.until(Stage.CANARY)
        c.members["two"] = MemberRecord("two", "two.2", "europe", ())
        assert "two left or restarted" in (await c.until(Stage.UNDONE)).detail


async def test_a_worker_that_died_of_it_ends_it_although_it_is_back() -> None:
    async with cluster(stage_seconds=60) as c:
        await c.until(Stage.CANARY)
        c.nodes["two"].checked(2, "gateway-0 ended while it tried it")
        c.nodes["two"].checked(2, "")
        assert (await c.until(Stage.UNDONE)).detail == "refused by two: gateway-0 ended while it tried it"
        assert await c.current() == 1


async def test_what_is_sampled_besides_exchanges_reaches_the_leader() -> None:
    async with cluster(stage_seconds=60) as c:
        c.exchanges = 20
        c.samples = {HANDSHAKES: Sample(0.05, Tally(200), Tally(10, failed=10))}
        assert "20 of 20 TLS handshakes (100.0 %) failed" in (await c.until(Stage.UNDONE)).detail


async def test_a_witness_is_not_asked_whether_it_can_run_what_it_never_serves() -> None:
    async with cluster() as c:
        c.members["eye"] = MemberRecord("eye", "eye.1", "aloof", (), witness=True)
        assert set((await c.until(Stage.CANARY)).canaries) == {"one", "two"}
        c.exchanges = 500
        assert (await c.until(Stage.DONE)).region == "asia"


@pytest.mark.parametrize("slower", [(), (0,) * 3, (0,) * 40])
async def test_a_node_that_counts_in_another_way_is_silent_and_stops_no_leader(slower: tuple[int, ...]) -> None:
    async with cluster() as c:
        c.members["odd"] = MemberRecord("odd", "odd.1", "zone", ())
        word = Word("odd.1", 2, answered=True)
        await c.store.put(KEYS.trial("odd"), msgspec.json.encode(word))
        canary = await c.until(Stage.CANARY)
        assert "odd" in canary.canaries
        arms = Arms(canary.rules.canary_percent / 100, {"r": Tally(9, slower=slower)}, {"r": Tally(9, slower=slower)})
        word = replace(word, generation=canary.generation, arms=arms)
        await c.store.put(KEYS.trial("odd"), msgspec.json.encode(word))
        c.exchanges = 500
        await c.until(Stage.DONE)


@pytest.mark.parametrize("word", [b"{", b'{"candidate":2,"base":1,"rules":{},"stage":"of a newer node"}'])
async def test_a_record_that_cannot_be_read_is_ended_by_abort_or_by_going_back(word: bytes) -> None:
    c = Cluster(FlakyStore(asyncio.get_running_loop().time))
    await c.begin()
    await c.store.put(KEYS.rollout(), word)
    with pytest.raises(RolloutDamaged, match="meridian rollout abort"):
        await c.configuration.apply(CHANGED, {}, author="ann")
    assert "could not be read" in (await c.configuration.abort(author="ann")).detail
    assert (await c.configuration.rollout(), await c.current()) == (None, 1)
    await c.store.put(KEYS.rollout(), word)
    assert (await c.configuration.rollback(1, author="ann")).version == 3
    assert (await c.configuration.rollout(), await c.current()) == (None, 3)


async def test_an_agent_that_comes_back_after_the_end_says_so_to_workers_that_try_on() -> None:
    made = Cluster(FlakyStore(asyncio.get_running_loop().time))
    await made.begin()
    await made.configuration.abort(author="ann")
    async with running(*(node.run() for node in made.nodes.values())):
        await wait_until(lambda: made.parts == {"one": Part(), "two": Part()}, within_seconds=3, what="both are told")
