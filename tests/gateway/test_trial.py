"""A candidate beside the snapshot in force: who takes it, what is counted, and that nothing is cut by it."""

import asyncio
from dataclasses import replace

import pytest
from h2.events import ConnectionTerminated, DataReceived, StreamEnded, StreamReset
from tests.gateway.h2client import h2_client
from tests.gateway.harness import (
    Reader,
    Writer,
    ask,
    document,
    get,
    hello,
    named,
    origin,
    read_message,
    secure,
    serving,
    status,
    upstream,
)
from tests.support import free_port, wait_until

from meridian.gateway.trial import ROUTES_MAX, Counts
from meridian.gateway.worker import Worker


def counted(worker: Worker) -> tuple[int, int]:
    """Exchanges of the version in force and of the candidate, all routes together."""
    assert worker.trial is not None
    sides = (worker.trial.current, worker.trial.candidate)
    return tuple(sum(c.exchanges for c in side.counts.routes.values()) for side in sides if side.counts)  # type: ignore[return-value]  # two sides


async def test_a_share_takes_the_candidate_on_connections_that_go_on() -> None:
    async with (
        origin(named(b"old")) as old,
        origin(named(b"new")) as new,
        serving(lambda port: document(port, [upstream(old)])) as running,
    ):
        gateway = running.gateway
        gateway.begin_trial(document(running.port, [upstream(new)], version=2), 0.5, generation=7)
        bodies = [(await ask(running.port, get()))[1] for _ in range(60)]
        assert {*bodies} == {b"old", b"new"}
        await wait_until(lambda: sum(counted(gateway._worker)) == 60, within_seconds=5, what="all are counted")
        assert counted(gateway._worker) == (bodies.count(b"old"), bodies.count(b"new"))
        assert {seen.config_version for seen in running.seen.outcomes} == {1, 2}
        gateway.end_trial()
        assert {(await ask(running.port, get()))[1] for _ in range(20)} == {b"old"}
        assert gateway.trial is None


async def test_an_exchange_ends_on_what_it_took_when_the_candidate_is_undone() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(reader: Reader, writer: Writer) -> None:
        await read_message(reader)
        begun.set()
        await go_on.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow")
        await read_message(reader)

    async with (
        origin(hello) as old,
        origin(slow) as new,
        serving(lambda port: document(port, [upstream(old)])) as running,
    ):
        running.gateway.begin_trial(document(running.port, [upstream(new)], version=2), 1.0, generation=1)
        asked = asyncio.get_running_loop().create_task(ask(running.port, get()))
        await begun.wait()
        running.gateway.end_trial()
        assert status((await ask(running.port, get()))[0]) == 200
        go_on.set()
        assert (await asked)[1] == b"slow"


async def test_an_http2_connection_outlives_a_trial_its_undoing_and_its_end() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def new(reader: Reader, writer: Writer) -> None:
        while True:
            head = (await read_message(reader))[0]
            if b"/slow" in head:
                begun.set()
                await go_on.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnew")

    async with origin(named(b"old")) as one, origin(new) as two, secure(one) as (running, ca):
        gateway = running.gateway
        in_force = gateway.snapshot
        candidate = document(running.port, [upstream(two)], version=2)
        candidate = replace(candidate, listeners=in_force.listeners, certificates=in_force.certificates)

        async with h2_client(running.port, ca) as client:

            async def body(stream_id: int) -> bytes:
                await client.read_until(StreamEnded, stream_id)
                return b"".join(
                    event.data for event in client.events
                    if isinstance(event, DataReceived) and event.stream_id == stream_id
                )  # fmt: skip

            assert await body(client.ask()) == b"old"
            for generation, after in ((1, b"old"), (2, b"new")):
                begun.clear()
                go_on.clear()
                gateway.begin_trial(candidate, 1.0, generation)
                waiting = client.ask("/slow")
                await asyncio.wait_for(begun.wait(), 5)
                if after == b"old":
                    gateway.end_trial()
                else:
                    gateway.swap(candidate)
                assert await body(client.ask()) == after
                go_on.set()
                assert await body(waiting) == b"new", "it ends on what it took"
            assert not [one for one in client.events if isinstance(one, (ConnectionTerminated, StreamReset))]


async def test_a_candidate_ejects_nobody_s_endpoint_but_its_own() -> None:
    async with origin(hello) as one, serving(lambda port: document(port, [upstream(one)])) as running:
        broken = document(running.port, [upstream(free_port(), retries=0)], version=2)
        running.gateway.begin_trial(broken, 0.5, generation=1)
        seen = [status((await ask(running.port, get()))[0]) for _ in range(60)]
        assert {*seen} == {200, 502}
        trial = running.gateway.trial
        assert trial is not None and trial.candidate.counts is not None
        assert trial.candidate.counts.routes["all"].failed == seen.count(502)
        assert not running.gateway._worker.health._ejected


@pytest.mark.parametrize(("burst", "admitted"), [(1, 1), (1000, 20)])
async def test_a_limit_is_tried_without_more_than_is_in_force(burst: int, admitted: int) -> None:
    def limited(port: int, burst: int, version: int) -> object:
        routes = [{"name": "all", "upstream": "app", "stages": [{"limit": "all"}]}]
        limits = [{"name": "all", "key": "route", "rate": "1/h", "burst": burst}]
        return document(port, [upstream(one)], routes, limits=limits, version=version)

    async with (
        origin(hello) as one,
        serving(lambda port: document(port, [upstream(one)])) as running,
    ):
        running.gateway.begin_trial(limited(running.port, burst, 2), 1.0, generation=1)  # type: ignore[arg-type]  # a Snapshot
        seen = [status((await ask(running.port, get()))[0]) for _ in range(20)]
        assert seen.count(200) == admitted
        assert seen.count(429) == 20 - admitted


def test_what_is_counted_is_bounded_and_told_apart() -> None:
    counts = Counts()
    for i in range(2 * ROUTES_MAX):
        counts.count(f"r{i}", 200, "", 0.001)
    assert len(counts.routes) == ROUTES_MAX + 1
    assert sum(count.exchanges for count in counts.routes.values()) == 2 * ROUTES_MAX
    counts = Counts()
    for code, why in ((503, ""), (200, "cut"), (429, "limited"), (404, "no_route"), (403, ""), (499, "client_gone")):
        counts.count("r", code, why, 0.3)
    found = counts.routes["r"]
    assert (found.exchanges, found.failed, found.rejected, found.unrouted, found.refused) == (6, 2, 1, 1, 1)
    assert found.slower[:6] == [6] * 6 and found.slower[6:] == [0] * 5


def test_what_never_answers_is_seen_while_it_waits() -> None:
    counts = Counts()
    counts.count("r", 200, "", 0.001)
    together = counts.with_waiting({"r": [0.1, 3.0], "hung": [20.0]})
    assert together.routes["r"].exchanges == 2
    assert together.routes["hung"].slower == [1] * 11
    assert counts.routes["r"].exchanges == 1, "it is counted when it ends"


async def test_a_connection_that_is_opened_after_the_trial_is_not_kept() -> None:
    async with origin(hello) as one, serving(lambda port: document(port, [upstream(one)])) as running:
        worker = running.gateway._worker
        worker.begin_trial(document(running.port, [upstream(one)], version=2), 1.0, generation=1)
        assert worker.trial is not None
        health, name = worker.trial.candidate.health, next(iter(worker.trial.candidate.snapshot.upstreams))
        waiting = health.upstream(name)
        worker.end_trial()
        worker.sweep(worker.clock())
        assert health not in worker.healths(), "nobody looks at its connections any more"
        assert health.pool(waiting, 0).retired
