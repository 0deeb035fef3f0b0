import asyncio

import pytest
from tests.control.parts import KEYS, FlakyStore, running
from tests.simulation.virtual import run_virtual

from meridian.control.drains import DrainRefused, Drains
from meridian.core.verdicts import NodeVerdict, Standing, Verdict
from meridian.store.port import StoreUnavailable

VERDICT = Verdict(
    1, 1, {n: NodeVerdict(n, r, (), Standing.SERVING) for n, r in (("a", "eu"), ("b", "eu"), ("c", "us"))}
)


class Desk:
    def __init__(self) -> None:
        clock = asyncio.get_running_loop().time
        self.store = FlakyStore(clock)
        self.said: list[bool] = []
        self.left = 0
        self.resigned = 0
        self.drains = Drains(
            self.store, KEYS, "a", "eu", clock, announce=self.said.append, resign=self.resign, leave=self.leave
        )

    def resign(self) -> None:
        self.resigned += 1

    async def leave(self) -> None:
        self.left += 1


def test_orders_for_the_node_and_its_region_are_obeyed_and_others_ignored() -> None:
    async def story() -> None:
        desk = Desk()
        async with running(desk.drains.run()):
            for target, on, said in (
                ("c", True, []),
                ("a", True, [True]),
                ("a", False, [True, False]),
            ):
                await desk.drains.order(target, on, VERDICT)
                await asyncio.sleep(0.1)
                assert desk.said == said
        again = Desk()
        await again.store.put(KEYS.drain("eu"), b"{}")  # it holds over restarts
        async with running(again.drains.run()):
            await asyncio.sleep(0.1)
            assert again.said == [True]

    run_virtual(story)


def test_an_order_that_would_leave_nobody_is_refused_and_one_without_store_fails() -> None:
    async def story() -> None:
        desk = Desk()
        alone = Verdict(1, 1, {"a": VERDICT.nodes["a"]})
        with pytest.raises(DrainRefused, match="nobody serving"):
            await desk.drains.order("a", True, alone)
        await desk.drains.order("a", True, alone, force=True)
        assert await desk.store.get(KEYS.drain("a")) is not None
        with pytest.raises(DrainRefused, match="no node or region"):
            await desk.drains.order("x", True, VERDICT)
        desk.store.away = True
        with pytest.raises(StoreUnavailable):
            await desk.drains.order("a", True, VERDICT)

    run_virtual(story)


def test_a_stop_ends_when_the_verdict_agrees_or_after_a_while() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        for standing, seconds in ((Standing.DRAINING, 0.5), (Standing.SERVING, 2.0)):
            desk = Desk()
            async with running(desk.drains.run()):
                desk.drains.judged(Standing.SERVING)
                await asyncio.sleep(0.1)
                began = loop.time()
                loop.call_later(0.5, desk.drains.judged, standing)
                await desk.drains.step_out()
                assert loop.time() - began == pytest.approx(seconds, abs=0.01)
                await asyncio.sleep(5.0)
                assert (desk.said, desk.resigned, desk.left) == ([True], 1, 0)  # it keeps what those who come need
                await desk.drains.stop()
                await desk.drains.stop()
                assert (desk.said, desk.resigned, desk.left) == ([True], 1, 1)

    run_virtual(story)
