"""The loop that all simulations stand on: virtual time, frozen nodes, clocks of their own."""

import asyncio
import contextvars

from tests.simulation.virtual import NODE, Clock, VirtualLoop, run_virtual


def _loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def _of(token: object) -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(NODE.set, token)
    return context


def test_a_node_waits_by_its_own_clock() -> None:
    async def story() -> None:
        loop, node = _loop(), object()
        loop.clocks[node] = Clock(rate=0.5, ahead_seconds=100.0)

        async def waits() -> tuple[float, float]:
            began = loop.time()
            await asyncio.sleep(1.0)
            try:
                async with asyncio.timeout(2.0):
                    await asyncio.sleep(60.0)
            except TimeoutError:
                pass
            return began, loop.time()

        began = loop.now
        shown = await loop.create_task(waits(), context=_of(node))
        assert shown[0] == 100.0 + 0.5 * began
        assert 3.0 <= shown[1] - shown[0] < 3.0 + 1e-6
        assert abs(loop.now - began - 6.0) < 1e-6

    run_virtual(story)


def test_what_waits_for_a_node_is_not_frozen_with_it() -> None:
    """Whoever awaits a node's task goes on in its own context, though nothing is set in that one."""

    async def story() -> None:
        loop, node = _loop(), object()
        await loop.create_task(asyncio.sleep(1.0), context=_of(node))
        loop.freeze(node)
        await asyncio.sleep(1.0)
        assert NODE.get() is None

    run_virtual(story)


def test_a_frozen_node_does_later_what_it_missed() -> None:
    async def story() -> None:
        loop, node = _loop(), object()
        seen: list[float] = []
        loop.call_later(1.0, lambda: seen.append(loop.now), context=_of(node))
        loop.freeze(node)
        await asyncio.sleep(5.0)
        assert not seen
        loop.thaw(node)
        await asyncio.sleep(0.0)
        assert seen == [loop.now]

    run_virtual(story)
