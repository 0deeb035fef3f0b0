"""The store is kept in order by one node, a round at a time."""

import asyncio
from contextlib import aclosing

import pytest
from tests.control.parts import KEYS, FlakyStore, running
from tests.simulation.virtual import run_virtual

from meridian.control.upkeep import Upkeep
from meridian.core.upkeep import MemberHealth
from meridian.store import documents
from meridian.store.port import Compacted, StoreHealth, StoreUnavailable

META = documents.VersionMeta("me", "a test", "2026-01-01T00:00:00Z")
QUOTA = 1024**3


class Members(FlakyStore):
    """Three members whose files are mostly empty, and what was done to them, in order."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop().time)
        self.done: list[str] = []
        self.bytes = dict.fromkeys(("m0", "m1", "m2"), QUOTA)
        self.silent_until = dict.fromkeys(self.bytes, 0.0)
        self.alarm = True
        self.broken = ""

    async def health(self) -> StoreHealth:
        now = asyncio.get_running_loop().time()
        members = tuple(
            MemberHealth(name, now >= self.silent_until[name], "", now >= self.silent_until[name], name == "m0", size,
                         10, 0, ("NOSPACE",) if self.alarm else ())
            for name, size in self.bytes.items()
        )  # fmt: skip
        return StoreHealth(True, True, "m0", "", members)

    async def defragment(self, endpoint: str) -> None:
        now = asyncio.get_running_loop().time()
        assert all(now >= until for until in self.silent_until.values()), "two members are silent at once"
        self.silent_until[endpoint] = float("inf") if endpoint == self.broken else now + 5.0
        self.bytes[endpoint] = 10
        self.done.append(endpoint)

    async def disarm(self) -> None:
        self.alarm = False
        self.done.append("disarm")


def build(store: FlakyStore, *, acts: bool = True) -> Upkeep:
    clock = asyncio.get_running_loop().time
    return Upkeep(store, KEYS, clock, lambda: acts, quota_bytes=QUOTA, window_seconds=60.0, round_seconds=5.0)


def test_history_is_forgotten_after_the_window_and_old_versions_are_removed() -> None:
    async def story(acts: bool, forgets: bool, versions: int) -> None:
        store = FlakyStore(asyncio.get_running_loop().time)
        async with running(build(store, acts=acts).run()):
            for n in range(60):
                await documents.write_version(store, KEYS, b"%d" % n, META, expected_current=n)
            at = (await store.list(KEYS.root())).revision
            await asyncio.sleep(50)
            async with aclosing(store.watch(KEYS.current(), after_revision=at - 1)) as batches:
                assert (await anext(batches)).revision == at  # still within the window
            await asyncio.sleep(40)
            forgotten = 0
            try:
                async with aclosing(store.watch(KEYS.current(), after_revision=2)) as batches:
                    await anext(batches)
            except Compacted as error:
                forgotten = error.revision
            assert (forgotten > 100) is forgets
            assert len(await documents.history(store, KEYS, 100)) == versions

    run_virtual(lambda: story(True, True, documents.VERSIONS_KEPT))
    run_virtual(lambda: story(False, False, 60))


def test_room_is_made_one_member_after_the_other_and_the_alarm_taken_back() -> None:
    async def story() -> None:
        store = Members()
        async with running(build(store).run()):
            await asyncio.sleep(60)
            assert store.done == ["m1", "m2", "m0", "disarm"]
        idle = Members()
        async with running(build(idle, acts=False).run()):
            await asyncio.sleep(60)
            assert idle.done == []

    run_virtual(story)


def test_a_member_that_does_not_come_back_ends_it_before_the_next_one() -> None:
    async def story() -> None:
        store = Members()
        store.broken = "m1"
        with pytest.raises(StoreUnavailable, match="m1"):
            await build(store).defragment()
        assert store.done == ["m1"]
        assert store.alarm

    run_virtual(story)


def test_on_request_it_says_what_it_did() -> None:
    async def story() -> None:
        store = Members()
        done = await build(store).defragment()
        assert [(d.endpoint, d.before_bytes, d.after_bytes) for d in done] == [
            (name, QUOTA, 10) for name in ("m1", "m2", "m0")
        ]

    run_virtual(story)
