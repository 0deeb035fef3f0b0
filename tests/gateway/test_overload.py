"""More than there is room for, over real sockets: what is important stays answered, and quickly."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from statistics import median
from typing import Any

from tests.gateway.harness import (
    Handler,
    Reader,
    Running,
    Writer,
    ask,
    client,
    document,
    get,
    hello,
    origin,
    read_message,
    serving,
    status,
    upstream,
)
from tests.support import wait_until

from meridian.core.shedding import Bounds

ROUTES: list[dict[str, Any]] = [
    {"name": name, "match": {"path": f"/{name}"}, "upstream": "app", "priority": name}
    for name in ("low", "normal", "high")
]


class Seen:
    """What became of the requests of one priority."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []  # of good answers


async def offered(port: int, rates: dict[str, int], *, seconds: float) -> dict[str, Seen]:
    """Requests a second by path, which leave on time whatever becomes of the earlier ones."""
    loop = asyncio.get_running_loop()
    seen = {name: Seen() for name in rates}

    async def one(name: str) -> None:
        began = loop.time()
        head, _ = await ask(port, get(f"/{name}"))
        seen[name].statuses[status(head)] += 1
        if status(head) == 200:
            seen[name].seconds.append(loop.time() - began)
        else:
            assert b"\r\nretry-after: " in head

    due = sorted((number / rate, name) for name, rate in rates.items() for number in range(int(rate * seconds)))
    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for at, name in due:
            await asyncio.sleep(max(0.0, began + at - loop.time()))
            tasks.create_task(one(name))
    return seen


def narrow(at_once: int, seconds: float) -> Handler:
    """A service that can do so much at once; the rest waits in it."""
    room = asyncio.Semaphore(at_once)

    async def app(reader: Reader, writer: Writer) -> None:
        while True:
            await read_message(reader)
            async with room:
                await asyncio.sleep(seconds)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    return app


@contextlib.asynccontextmanager
async def before(handler: Handler, *, overload: dict[str, Any] | None = None, **words: Any) -> AsyncIterator[Running]:
    """A gateway before one endpoint, with a route of each priority."""
    more = {"overload": overload} if overload is not None else {}
    async with origin(handler) as port, serving(
        lambda own: document(own, [upstream(port, retry={"tries": 1}, **words)], ROUTES, **more)
    ) as running:  # fmt: skip
        yield running


def metric(running: Running, name: str, **labels: str) -> float:
    """The sum of the series of that name which have these labels."""
    found = [one for one in running.gateway.series() if one.name == name and labels.items() <= one.labels.items()]
    return sum(one.value for one in found)


async def test_a_worker_with_too_many_requests_turns_the_lowest_away_first() -> None:
    async with before(narrow(1000, 0.5), overload={"requests_max": 60}) as running:
        # 120 a second that take half a second each want to be 60 at a time; 24 of them are important.
        seen = await offered(running.port, {"low": 60, "normal": 36, "high": 24}, seconds=2)
        assert set(seen["high"].statuses) == {200}
        parts = {name: one.statuses[503] / one.statuses.total() for name, one in seen.items()}
        assert parts["low"] > 0.2 and parts["low"] > 2 * parts["normal"], parts
        assert metric(running, "meridian_requests_shed_total", priority="low") == seen["low"].statuses[503]
        assert {one.why for one in running.seen.outcomes if one.status == 503} == {"shed"}


async def test_a_worker_whose_loop_is_late_turns_the_lowest_away_first_and_recovers() -> None:
    async with before(hello, overload={"loop_lag_seconds_max": 0.02}) as running:
        overload = running.gateway._worker.overload
        assert overload is not None

        def busy() -> bool:
            until = time.perf_counter() + 0.15
            while time.perf_counter() < until:  # the loop stands still
                pass
            return overload.cut >= 0.5

        await wait_until(busy, within_seconds=20, what="low ones to be cut", every_seconds=0.001)
        overload.bounds = Bounds(lag_seconds_max=60.0)  # whatever else this machine does
        assert overload.cut < 1.0
        statuses = {name: Counter[int]() for name in ("low", "normal")}
        async with client(running.port) as (reader, writer):
            writer.write(b"".join(get(f"/{name}") for name in statuses) * 40)
            for name in list(statuses) * 40:
                head, _ = await read_message(reader)
                statuses[name][status(head)] += 1
                assert status(head) == 200 or b"\r\nretry-after: " in head
        assert 5 < statuses["low"][503] < 40 and statuses["normal"] == {200: 40}
        await wait_until(lambda: overload.cut == 0.0, within_seconds=20, what="the cut to end")
        assert status((await ask(running.port, get("/low")))[0]) == 200


async def test_a_service_that_is_full_keeps_its_pace_and_what_is_important_is_answered() -> None:
    words = {"adaptive_concurrency": {"initial": 8, "min": 2}}
    rates = {"low": 90, "normal": 90, "high": 20}  # of the 80 a second that the service can do
    async with before(narrow(4, 0.05), **words) as running:
        await offered(running.port, {"normal": 20}, seconds=1)
        seen = await offered(running.port, rates, seconds=3)
        high = seen["high"].statuses
        assert high[200] >= 0.95 * high.total(), high
        assert seen["low"].statuses[503] > seen["normal"].statuses[503] > 0
        assert median(seen["normal"].seconds + seen["high"].seconds) < 0.4
        assert 2 <= metric(running, "meridian_upstream_concurrency_limit", upstream="app") <= 16
        assert metric(running, "meridian_upstream_full_total", what="concurrency") > 0
        load = running.gateway._worker.health.upstream("app").load
        await wait_until(lambda: load.active == 0, within_seconds=5, what="all tries to end")
    async with before(narrow(4, 0.05)) as running:
        seen = await offered(running.port, rates, seconds=1.5)
        assert median(seen["high"].seconds) > 0.5, "without it all wait for what nobody turns away"


async def test_what_is_learned_outlives_a_document_and_ends_with_its_word() -> None:
    words: dict[str, Any] = {"adaptive_concurrency": {"initial": 7}}
    async with origin(hello) as port:

        def made(own: int, version: int = 1, **more: Any) -> Any:
            return document(own, [upstream(port, **more)], version=version)

        async with serving(lambda own: made(own, **words)) as running:
            await ask(running.port, get())
            health = running.gateway._worker.health
            learned = health.upstream("app").load.adaptive
            assert learned is not None and learned.limit == 7
            running.gateway.swap(made(running.port, 2, **words))
            assert health.upstream("app").load.adaptive is learned
            assert health.upstream("app").requests_max == 7 - 7**0.5
            running.gateway.swap(made(running.port, 3))
            assert health.upstream("app").requests_max == float("inf")


async def test_no_word_turns_nobody_away() -> None:
    async with before(narrow(1000, 0.2)) as running:
        assert running.gateway._worker.overload is None
        async with contextlib.AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(client(running.port)) for _ in range(60)]
            for _, writer in streams:
                writer.write(get("/low"))
            for reader, _ in streams:
                assert status((await read_message(reader))[0]) == 200


async def test_a_grpc_client_is_told_in_its_own_words_when_to_come_back() -> None:
    async with before(hello, overload={"requests_max": 1}) as running:
        assert status((await ask(running.port, get("/high")))[0]) == 200
        head, _ = await ask(running.port, get("/low", "Content-Type: application/grpc", method="POST"))
        assert status(head) == 200 and b"\r\ngrpc-status: 14\r\n" in head and b"\r\ngrpc-retry-pushback-ms: " in head
        assert running.seen.outcomes[-1].why == "shed"


async def test_who_has_waited_for_a_connection_until_the_deadline_is_told_when_to_come_back() -> None:
    async with before(narrow(1, 5.0), connections_max=1) as running, client(running.port) as (_, writer):
        writer.write(get("/high"))
        await wait_until(lambda: running.gateway.active == 1, within_seconds=5, what="an exchange that has it")
        async with client(running.port) as (reader, late):
            late.write(get("/high"))
            await wait_until(lambda: running.gateway.active == 2, within_seconds=5, what="one that waits")
            running.clock.push(21.0)
            head, _ = await read_message(reader)
    assert status(head) == 503 and b"\r\nretry-after: " in head
    assert "upstream_busy" in {one.why for one in running.seen.outcomes}
