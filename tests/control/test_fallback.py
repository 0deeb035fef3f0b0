"""When a node merges for itself, and when it follows again, on virtual time."""

import asyncio
from dataclasses import dataclass, field

from tests.control.parts import running
from tests.simulation.virtual import run_virtual

from meridian.control.board import Board
from meridian.control.fallback import BEAT_LOST_SECONDS, BEAT_SECONDS, RETURN_SECONDS, Fallback
from meridian.core.verdicts import Evidence, NodeVerdict, Standing, Verdict

BASE = Verdict(5, 1, {"a": NodeVerdict("a", "eu", (), Standing.SERVING)})


@dataclass
class Desk:
    """A fallback whose evidence is the standing that it would merge."""

    wanted: Standing = Standing.SERVING
    posted: list[Verdict] = field(default_factory=list)
    merges: int = 0

    def __post_init__(self) -> None:
        self.board = Board(self.posted.append)
        self.part = Fallback(self.board, self.evidence, self.merge, asyncio.get_running_loop().time)
        self.board.post(BASE)

    def evidence(self, since: float) -> Evidence:
        return Evidence({}, {}, frozenset(), since)

    def merge(self, held: Verdict, evidence: Evidence, now: float) -> Verdict:
        self.merges += 1
        if held.nodes["a"].standing is self.wanted:
            return held
        nodes = {"a": NodeVerdict("a", "eu", (), self.wanted)}
        return Verdict(held.fence, held.version, nodes, fallback=held.fallback + 1)

    async def beats(self, seconds: float, fence: int = 5) -> None:
        for _ in range(round(seconds / BEAT_SECONDS)):
            self.part.beat(fence)
            await asyncio.sleep(BEAT_SECONDS)


def test_it_merges_when_the_leader_is_silent_and_not_before() -> None:
    async def story() -> None:
        desk = Desk(Standing.WITHDRAWN)
        async with running(desk.part.run()):
            await desk.beats(5.0)
            assert desk.merges == 0
            await asyncio.sleep(BEAT_LOST_SECONDS - BEAT_SECONDS + 0.1)
            assert [v.fallback for v in desk.posted] == [0, 1]
            await desk.beats(3.0, fence=4)  # one that was replaced
            desk.wanted = Standing.SUSPECT
            await asyncio.sleep(0.1)
            assert [v.fallback for v in desk.posted] == [0, 1, 2]

    run_virtual(story)


def test_the_first_word_of_a_leader_undoes_nothing_and_a_greater_verdict_everything() -> None:
    async def story() -> None:
        desk = Desk(Standing.WITHDRAWN)
        async with running(desk.part.run()):
            await asyncio.sleep(1.0)
            assert desk.board.verdict.fallback == 1
            await desk.beats(RETURN_SECONDS - 0.2)
            assert desk.board.verdict.fallback == 1
            await desk.beats(0.5)
            assert desk.board.verdict is BASE
            await asyncio.sleep(1.0)
            assert desk.board.verdict.fallback == 1
            desk.board.post(Verdict(6, 1, BASE.nodes))
            assert desk.board.verdict.fence == 6

    run_virtual(story)


def test_what_does_not_differ_ends_with_the_first_beat() -> None:
    async def story() -> None:
        desk = Desk(Standing.WITHDRAWN)
        async with running(desk.part.run()):
            await asyncio.sleep(1.0)
            desk.wanted = Standing.SERVING
            await asyncio.sleep(0.1)
            assert desk.board.verdict.fallback == 2
            desk.part.beat(5)
            await asyncio.sleep(0.1)
            assert desk.board.verdict is BASE

    run_virtual(story)


def test_nothing_is_merged_before_the_first_verdict() -> None:
    async def story() -> None:
        desk = Desk()
        part = Fallback(Board(desk.posted.append), desk.evidence, desk.merge, asyncio.get_running_loop().time)
        async with running(part.run()):
            await asyncio.sleep(5.0)
            assert desk.merges == 0

    run_virtual(story)
