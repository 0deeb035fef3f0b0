"""What limits a worker spends and counts when another takes over from it: two real workers' duties, in one process."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tests.nodes.site import until
from tests.support import wait_until

from meridian.core.granting.shares import Cut, Rule, Value
from meridian.core.granting.spender import Allowance
from meridian.core.snapshot import Limit
from meridian.gateway.admission import Admission, Verdict
from meridian.gateway.limits import Told
from meridian.nodes import clock
from meridian.nodes.gateway_worker import GatewayDuties
from meridian.nodes.settings import Settings
from meridian.nodes.spending import told_to_proto
from meridian.nodes.succession import Estate, Line, inherit
from meridian_proto.v1.channel_pb2 import Config, Frame

CUT = Cut(seats=2, slices=1, homes=2, alone_max=0)
DOCUMENT = {
    "listeners": [{"name": "web", "bind": "127.0.0.1:8080", "protocols": ["h1"]}],
    "upstreams": [{"name": "app", "endpoints": [{"address": "127.0.0.1:8000"}]}],
    "limits": [
        {"name": "rate", "key": "client_ip", "rate": "5/s", "burst": 5},
        {"name": "window", "key": "client_ip", "window": "10/1h"},
        {"name": "quota", "key": "client_ip", "quota": "10/day"},
        {"name": "few", "key": "client_ip", "concurrent": 2},
    ],
    "routes": [{"name": "all", "upstream": "app", "stages": [{"limit": "rate"}]}],
}
CONFIG = Config(version=1, document=json.dumps(DOCUMENT).encode())


class Worker:
    """Duties, and what their admission says."""

    running: asyncio.Task[None]

    def __init__(self, folder: Path, generation: int) -> None:
        settings = Settings("one", "eu", advertise=("127.0.0.1",))
        self.duties = GatewayDuties(settings, 0, b"x" * 32, folder, generation=generation, succeeds=generation > 0)
        self.duties.compile(CONFIG)()

    def allow(self) -> None:
        allowance = Allowance("agent", 1, frozenset({0, 1}), fresh=frozenset({0, 1}))
        told = Told(CUT, allowance, {"rate": Value(0, 1, Rule(5.0, 5))})
        self.duties.on_state(Frame(allowance=told_to_proto(told)))

    @property
    def admission(self) -> Admission:
        assert self.duties._gateway is not None
        return self.duties._gateway.admission

    def limit(self, name: str) -> Limit:
        assert self.duties._gateway is not None
        return self.duties._gateway.snapshot.limits[name]

    async def ask(self, name: str) -> Verdict:
        found: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        asked = [(self.limit(name), "192.0.2.1")]
        if self.admission.consults(asked):
            self.admission.consult(asked, found.set_result)
        else:
            found.set_result(self.admission.decide(asked))
        return await found

    async def admits(self, name: str) -> bool:
        return (await self.ask(name)).refused_by is None

    async def spend(self, name: str) -> int:
        """How many it admits at once."""
        count = 0
        while await self.admits(name):
            count += 1
        return count


@contextlib.asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[Worker, Worker]]:
    """One that serves and one that is to succeed it."""
    old, new = Worker(folder, 0), Worker(folder, 1)
    old.allow()
    loop = asyncio.get_running_loop()
    for worker in (old, new):
        worker.running = loop.create_task(worker.duties.run())
    try:
        yield old, new
    finally:
        for worker in (old, new):
            worker.running.cancel()
        await asyncio.gather(old.running, new.running, return_exceptions=True)
        for worker in (old, new):
            await worker.duties.close(0.0)


async def hand_over(old: Worker, new: Worker) -> asyncio.Task[tuple[int, int]]:
    """Returns the retirement, under way."""
    one, other = socket.socketpair()
    retirement = asyncio.get_running_loop().create_task(old.duties.retire(one, 30.0))
    assert await new.duties.succeed(other)
    return retirement


async def test_what_was_spent_stays_spent_and_nothing_is_spent_twice(tmp_path: Path) -> None:
    async with pair(tmp_path) as (old, new):
        await wait_until(lambda: tokens_of(old) >= 5, within_seconds=10, what="the bucket is full")
        assert await old.spend("rate") == 5
        assert await old.spend("window") == 10
        spent = 0
        while spent < 10:  # in steps, as its ledger comes to the disk
            spent += await old.spend("quota")
            await asyncio.sleep(0.01)
        retirement = await hand_over(old, new)
        assert await new.spend("rate") <= 1, "a fresh bucket would have five"
        assert not await new.admits("window") and not await new.admits("quota")
        # Without the estate it would wait for two seconds, for what the one before may have lent.
        await until(lambda: new.admits("rate"), within_seconds=1.0, what="a token accrues at once")
        assert not await old.admits("window"), "the old one asks, and hears no"
        await until(lambda: old.admits("rate"), within_seconds=1.0, what="the old one asks, and hears yes")
        retirement.cancel()


def tokens_of(worker: Worker) -> float:
    assert worker.duties._gateway is not None
    return worker.duties._gateway.limits.look(worker.limit("rate"), "192.0.2.1", clock.now())[0]


async def test_exchanges_of_the_old_one_count_until_they_end(tmp_path: Path) -> None:
    async with pair(tmp_path) as (old, new):
        held: Sequence[Verdict] = [await old.ask("few"), await old.ask("few")]
        assert not await old.admits("few")
        retirement = await hand_over(old, new)
        assert not await new.admits("few")
        old.admission.release(held[0].held)
        await until(lambda: new.admits("few"), within_seconds=2, what="one has ended")
        assert not await new.admits("few") and not await old.admits("few")
        old.admission.release(held[1].held)
        await until(lambda: old.admits("few"), within_seconds=2, what="the old one may have another")
        assert not await new.admits("few")
        retirement.cancel()
        old.running.cancel()
        await until(lambda: new.admits("few"), within_seconds=2, what="with it all that it held ends")


async def test_what_is_asked_before_the_new_one_has_read_the_estate_waits_for_it(tmp_path: Path) -> None:
    async with pair(tmp_path) as (old, new):
        await wait_until(lambda: tokens_of(old) >= 5, within_seconds=10, what="the bucket is full")
        one, other = socket.socketpair()
        async with asyncio.TaskGroup() as tasks:
            retirement = tasks.create_task(old.duties.retire(one, 30.0))
            await wait_until(lambda: old.duties._retired, within_seconds=5, what="the old one asks")
            asked = [tasks.create_task(old.ask("rate")) for _ in range(3)]
            await asyncio.sleep(0.3)  # so long a busy machine, or a million keys, keep the new one from it
            assert not any(one.done() for one in asked)
            assert await new.duties.succeed(other)
            for verdict in asked:
                assert (await verdict).refused_by is None
            retirement.cancel()


async def test_what_is_asked_of_a_new_one_that_ends_is_decided_at_once(tmp_path: Path) -> None:
    async with pair(tmp_path) as (old, _):
        one, other = socket.socketpair()
        async with asyncio.TaskGroup() as tasks:
            retirement = tasks.create_task(old.duties.retire(one, 30.0))
            await wait_until(lambda: old.duties._retired, within_seconds=5, what="the old one asks")
            asked = tasks.create_task(old.ask("rate"))
            other.close()
            async with asyncio.timeout(2.0):
                refused = (await asked).refused_by
            assert refused is not None and refused.name == "rate"
            assert (await old.ask("rate")).refused_by is not None, "and so is what comes later"
            retirement.cancel()


async def test_an_estate_that_cannot_be_read_is_none() -> None:
    for said in (b"\x00\x00\x00\x02hi", b"\xff\xff\xff\xff", b""):
        one, other = socket.socketpair()
        with one:
            one.sendall(said)
            one.shutdown(socket.SHUT_WR)
            line = await Line.open(other)
            assert await inherit(line) is None
            line.close()


async def test_an_estate_survives() -> None:
    one, other = socket.socketpair()
    line, reader = await Line.open(one), await Line.open(other)
    estate = Estate(3, 1.5, b"told", (), {"gone": 2.0}, (("few", "k", 2),), {"127.0.0.1 53": [("127.0.0.1", 9)]})
    line.say(estate)
    assert await inherit(reader) == estate
    line.close()
    reader.close()
