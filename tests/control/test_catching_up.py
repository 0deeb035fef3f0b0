"""When a node asks for a verdict that others have, on virtual time."""

import asyncio
from itertools import pairwise

from tests.control.parts import running
from tests.simulation.virtual import run_virtual

from meridian.control.board import Board
from meridian.control.catching_up import BEHIND_SECONDS, CatchingUp
from meridian.core.verdicts import Heard, Report, Verdict


def report(fence: int, version: int) -> Report:
    return Report("b", "us", "b.1", 1, 1, {}, fence=fence, version=version)


def test_who_is_behind_for_a_second_asks_again_and_again_and_who_is_not_does_not() -> None:
    async def story() -> None:
        clock = asyncio.get_running_loop().time
        board, asked = Board(lambda verdict: None), list[float]()
        heard = {"b": Heard(report(5, 7), clock() + 100.0)}
        board.post(Verdict(5, 7))
        async with running(CatchingUp(board, lambda: heard, lambda: asked.append(clock()), clock).run()):
            await asyncio.sleep(5.0)
            assert asked == []
            began = clock()
            heard["b"] = Heard(report(5, 8), clock() + 100.0)
            await asyncio.sleep(BEHIND_SECONDS - 0.1)
            assert asked == []
            await asyncio.sleep(6.0)
            assert asked[0] - began <= BEHIND_SECONDS + 0.6
            assert [later - before > 2.0 for before, later in pairwise(asked)] == [True]  # each after twice as long
            board.post(Verdict(5, 8))
            await asyncio.sleep(3.0)
            assert len(asked) == 2
            heard["b"] = Heard(report(9, 9), clock() - 3.0)  # stale: it may have been another cluster's life ago
            await asyncio.sleep(3.0)
            assert len(asked) == 2

    run_virtual(story)
