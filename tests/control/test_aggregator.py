"""The leader's writes: fenced, compared, and read back when their answer is lost."""

import asyncio
import contextvars
from dataclasses import dataclass, field
from itertools import pairwise

from tests.control.parts import KEYS, FlakyStore, running
from tests.simulation.virtual import NODE, VirtualLoop, run_virtual

from meridian.control.aggregator import Aggregator
from meridian.control.board import Board
from meridian.control.messages import decode_verdict, encode_verdict
from meridian.core.health import Sight
from meridian.core.verdicts import Evidence, Heard, Member, NodeVerdict, Report, Standing, Verdict
from meridian.store.port import Delete


@dataclass
class Desk:
    """An aggregator whose evidence and leadership the test sets by hand."""

    fence: int | None = None
    sight: Sight = Sight.UP
    heard: dict[str, Heard] = field(default_factory=dict)
    posted: list[Verdict] = field(default_factory=list)
    others: dict[str, Member] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = asyncio.get_running_loop().time
        self.store = FlakyStore(self.clock)
        self.board = Board(self.posted.append)
        self.resigned_at: list[float] = []
        self.beats: list[tuple[float, int, int]] = []
        self.aggregator = Aggregator(
            self.store,
            KEYS,
            "a",
            self.board,
            self.evidence,
            lambda: self.fence,
            self.clock,
            beat=self.beat,
            resign=self.resign,
        )

    def resign(self) -> None:
        self.resigned_at.append(self.clock())

    def beat(self, fence: int, version: int) -> None:
        self.beats.append((self.clock(), fence, version))

    def evidence(self, since: float) -> Evidence:
        members = {"a": Member("a", "eu", ("ip-a",)), "b": Member("b", "us", ("ip-b",))}
        members |= self.others
        own = Report("a", "eu", "a.1", 1, 1, {"b": self.sight})
        return Evidence({"a": Heard(own, self.clock()), **self.heard}, members, frozenset(), since)

    def hear_b(self) -> None:
        self.heard["b"] = Heard(Report("b", "us", "b.1", 1, 1, {"a": Sight.UP}), self.clock() + 100.0)

    async def lead(self) -> None:
        await self.store.txn([], [Delete(KEYS.leader())])
        self.fence = await self.store.put(KEYS.leader(), b"a")

    async def stored(self) -> Verdict | None:
        item = await self.store.get(KEYS.verdict())
        return decode_verdict(item.value) if item is not None else None


def test_a_new_leader_waits_a_period_and_starts_from_the_stored_verdict() -> None:
    async def story() -> None:
        desk = Desk()
        withdrawn = {"b": NodeVerdict("b", "us", ("ip-b",), Standing.WITHDRAWN)}
        await desk.store.put(KEYS.verdict(), encode_verdict(Verdict(1, 7, withdrawn, {}, "z")))
        async with running(desk.aggregator.run()):
            await asyncio.sleep(2.0)
            assert desk.posted == []
            await desk.lead()
            await asyncio.sleep(0.4)
            assert desk.posted == []
            await asyncio.sleep(0.3)
            last = desk.board.verdict
            assert (last.fence, last.version, last.leader) == (desk.fence, 8, "a")
            assert last.nodes["b"].standing is Standing.WITHDRAWN
            assert await desk.stored() == last

    run_virtual(story)


def test_nothing_is_written_without_the_key_or_over_another_verdict() -> None:
    async def story() -> None:
        desk = Desk()
        async with running(desk.aggregator.run()):
            await desk.lead()
            await asyncio.sleep(1.0)
            await desk.store.txn([], [Delete(KEYS.leader())])  # lost, and this node does not know
            before = await desk.stored()
            desk.hear_b()
            await asyncio.sleep(1.0)
            assert await desk.stored() == before
            assert "b" not in desk.board.verdict.nodes
            await desk.lead()
            await asyncio.sleep(1.0)
            assert "b" in desk.board.verdict.nodes
            held = desk.board.verdict
            foreign = Verdict(held.fence, held.version + 5, held.nodes, held.regions, "a")
            await desk.store.put(KEYS.verdict(), encode_verdict(foreign))
            del desk.heard["b"]
            desk.heard["b"] = Heard(Report("b", "us", "b.1", 1, 2, {}, draining=True), desk.clock() + 100.0)
            await asyncio.sleep(1.0)
            assert desk.board.verdict.version == held.version + 6  # judged anew, from what is stored

    run_virtual(story)


def test_a_leader_that_hears_too_few_judges_nobody_and_resigns() -> None:
    async def story() -> None:
        desk = Desk()
        desk.others = {"c": Member("c", "ap", ("ip-c",))}
        async with running(desk.aggregator.run()):
            await desk.lead()
            led_at = desk.clock()
            await asyncio.sleep(2.0)
            assert (desk.posted, desk.beats, desk.resigned_at) == ([], [], [])
            await asyncio.sleep(1.0)
            assert desk.resigned_at
            assert 2.4 < desk.resigned_at[0] - led_at < 2.8  # warm, and cut off for two seconds
            desk.hear_b()
            await asyncio.sleep(0.2)
            assert desk.beats
            assert set(desk.board.verdict.nodes) >= {"b"}

    run_virtual(story)


def test_after_standing_still_the_silence_was_its_own() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        desk = Desk()
        await desk.lead()
        desk.heard["b"] = Heard(Report("b", "us", "b.1", 1, 1, {"a": Sight.UP}), desk.clock() + 1.5)
        token, context = object(), contextvars.copy_context()
        context.run(NODE.set, token)
        task = loop.create_task(desk.aggregator.run(), context=context)
        await asyncio.sleep(1.5)
        assert desk.board.verdict.nodes["b"].standing is Standing.SERVING
        desk.sight = Sight.DOWN  # a path of this node's own is broken; b speaks, so nothing follows from it
        loop.freeze(token)
        await asyncio.sleep(1.7)
        loop.thaw(token)
        await asyncio.sleep(0.3)
        desk.hear_b()  # what arrived meanwhile is read a little later
        await asyncio.sleep(2.0)
        assert [verdict.nodes["b"].standing for verdict in desk.posted if "b" in verdict.nodes] == [Standing.SERVING]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtual(story)


def test_a_leader_beats_while_it_is_up_to_date_and_is_silent_while_it_cannot_write() -> None:
    async def story() -> None:
        desk = Desk()
        async with running(desk.aggregator.run()):
            await asyncio.sleep(2.0)
            assert desk.beats == []
            await desk.lead()
            await asyncio.sleep(3.0)
            held = desk.board.verdict
            assert {beat[1:] for beat in desk.beats} == {(held.fence, held.version)}
            gaps = [two[0] - one[0] for one, two in pairwise(desk.beats)]
            assert len(gaps) > 6
            assert max(gaps) < 0.32
            desk.store.away = True
            await asyncio.sleep(1.0)
            assert len(desk.beats) > 10  # there is nothing to write
            desk.hear_b()
            await asyncio.sleep(0.1)
            before = len(desk.beats)
            await asyncio.sleep(3.0)
            assert len(desk.beats) == before
            desk.store.away = False
            await asyncio.sleep(1.0)
            assert desk.beats[-1][2] == held.version + 1

    run_virtual(story)


def test_a_lost_answer_is_read_back() -> None:
    async def story() -> None:
        desk = Desk()
        async with running(desk.aggregator.run()):
            await desk.lead()
            await asyncio.sleep(1.0)
            version = desk.board.verdict.version
            desk.store.lose_answers = 1
            desk.hear_b()
            await asyncio.sleep(1.0)
            assert desk.board.verdict.version == version + 1
            assert await desk.stored() == desk.board.verdict

    run_virtual(story)


def test_a_verdict_that_cannot_be_read_is_replaced_from_the_one_in_force() -> None:
    async def story() -> None:
        desk = Desk()
        desk.board.post(Verdict(1, 40, {"b": NodeVerdict("b", "us", (), Standing.WITHDRAWN)}))
        await desk.store.put(KEYS.verdict(), b"\xff\xff\xff")
        async with running(desk.aggregator.run()):
            await desk.lead()
            await asyncio.sleep(1.0)
            assert desk.board.verdict.version == 41
            assert desk.board.verdict.nodes["b"].standing is Standing.WITHDRAWN

    run_virtual(story)
