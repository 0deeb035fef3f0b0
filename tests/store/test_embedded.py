"""What the contract suite cannot see of the embedded store: virtual time, a clock moved by hand, its own bounds."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest

from meridian.store.embedded import HISTORY_REVISIONS_MAX, EmbeddedStore
from meridian.store.port import Compacted, Event, LeaseLost, StoreUnavailable


class VirtualLoop(asyncio.SelectorEventLoop):
    """Waits for nothing: its clock jumps to the next timer."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        return self._now

    def _jump(self, seconds: float) -> None:
        self._now += seconds


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "the virtual loop waits for something that no timer brings"
        self._jump(max(0.0, timeout))
        return super().select(0)


def run_virtually(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


def test_a_watch_sees_a_lease_end_at_its_very_moment_on_a_virtual_clock() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        store = EmbeddedStore(loop.time)
        start = loop.time()
        long, short = await store.grant_lease(3600), await store.grant_lease(60)
        await store.put("/a", b"", lease=long.id)
        after = await store.put("/b", b"", lease=short.id)

        async def renew() -> None:
            await asyncio.sleep(59)
            assert await store.keep_alive(short.id) == 60

        async with asyncio.TaskGroup() as group, aclosing(store.watch("/", after_revision=after)) as batches:
            group.create_task(renew())
            seen = []
            for _ in range(2):
                batch = await anext(batches)
                seen.append((loop.time() - start, batch.events))
        assert seen == [(119, (Event("/b", None, after + 1),)), (3600, (Event("/a", None, after + 2),))]

    run_virtually(main())


async def test_a_clock_moved_by_hand_takes_effect_at_expire_or_at_the_next_call() -> None:
    now = 0.0
    store = EmbeddedStore(lambda: now)
    lease = await store.grant_lease(10)
    start = await store.put("/a", b"", lease=lease.id)
    async with aclosing(store.watch("/", after_revision=start)) as batches, asyncio.timeout(5):
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(anext(batches))
            await asyncio.sleep(0)
            now = 10.0
            store.expire()
        assert [event.key for event in waiting.result().events] == ["/a"]
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease.id)


async def test_history_is_bounded_and_a_watch_that_lags_too_far_must_list_again() -> None:
    store = EmbeddedStore(lambda: 0.0)
    start = await store.put("/a", b"")
    async with aclosing(store.watch("/", after_revision=start)) as batches:
        await store.put("/a", b"")
        await anext(batches)
        for _ in range(HISTORY_REVISIONS_MAX + 2):
            last = await store.put("/a", b"")
        with pytest.raises(Compacted) as gone:
            await anext(batches)
    assert gone.value.revision == last - HISTORY_REVISIONS_MAX + 1


async def test_closing_ends_a_watch_that_waits() -> None:
    store = EmbeddedStore(lambda: 0.0)

    async def wait() -> None:
        with pytest.raises(StoreUnavailable):
            async for _ in store.watch("/", after_revision=1):
                pass

    async with asyncio.TaskGroup() as group, asyncio.timeout(5):
        group.create_task(wait())
        await asyncio.sleep(0)
        await store.close()
