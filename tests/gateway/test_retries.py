"""What is tried again, over real sockets: each cause, under a budget, and under load while endpoints die."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.gateway.harness import (
    Handler,
    Reader,
    Running,
    Writer,
    ask,
    client,
    document,
    get,
    named,
    origin,
    read_head,
    read_message,
    serving,
    status,
    upstream,
)
from tests.support import free_port, wait_until

GOOD = named(b"good")
POST = get("/", "Content-Length: 4", method="POST") + b"body"


async def resets(reader: Reader, writer: Writer) -> None:
    """Ends its connection with half a head, once it has the request."""
    await read_message(reader)
    writer.write(b"HTTP/1.1 200 ")
    await writer.drain()


async def hangs(reader: Reader, writer: Writer) -> None:
    """Never answers."""
    await read_message(reader)
    await reader.read()


def says(answer: bytes, connections: list[int] | None = None) -> Handler:
    """An upstream that always says this."""

    async def app(reader: Reader, writer: Writer) -> None:
        if connections is not None:
            connections.append(0)
        while True:
            await read_message(reader)
            if connections is not None:
                connections[-1] += 1
            writer.write(answer)
            await writer.drain()

    return app


BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"


def metric(running: Running, name: str, **labels: str) -> float:
    """The sum of the series of that name which have these labels."""
    found = [one for one in running.gateway.series() if one.name == name and labels.items() <= one.labels.items()]
    return sum(one.value for one in found)


async def statuses(running: Running, request: bytes, count: int) -> Counter[int]:
    """Of so many answers, one after the other."""
    return Counter([status((await ask(running.port, request))[0]) for _ in range(count)])


@contextlib.asynccontextmanager
async def beside(bad: Handler | None, **words: Any) -> AsyncIterator[Running]:
    """A gateway with a bad endpoint, one that refuses if there is none, and a good one; none is ejected."""
    async with contextlib.AsyncExitStack() as stack:
        port = free_port() if bad is None else await stack.enter_async_context(origin(bad))
        good = await stack.enter_async_context(origin(GOOD))
        app = upstream(port, good, ejection={"failures_in_a_row": 1000}, **words)
        yield await stack.enter_async_context(serving(lambda own: document(own, [app])))


CAUSES: dict[str, tuple[Handler | None, int, dict[str, Any]]] = {
    "connect": (None, 502, {}),
    "reset": (resets, 502, {}),
    "timeout": (hangs, 504, {"per_try_timeout_seconds": 0.1}),
    "status": (says(BUSY), 503, {"on": ["connect", 503]}),
}


@pytest.mark.parametrize("cause", CAUSES)
async def test_each_cause_is_tried_elsewhere_and_each_is_seen_without(cause: str) -> None:
    bad, failure, words = CAUSES[cause]
    async with beside(bad, retry=words) as running:
        assert await statuses(running, get(), 6) == {200: 6}
        assert sorted(seen.tries for seen in running.seen.outcomes) == [1, 1, 1, 2, 2, 2]
        assert metric(running, "meridian_upstream_retries_total", cause=cause) == 3
        posted = await statuses(running, POST, 6)
        assert posted == ({200: 6} if cause == "connect" else {200: 3, failure: 3}), "only if nothing was sent"
    async with beside(bad, retry={**words, "tries": 1}) as running:
        assert await statuses(running, get(), 6) == {200: 3, failure: 3}
    async with beside(bad, retry={**words, "on": []}) as running:
        assert await statuses(running, get(), 6) == {200: 3, failure: 3}


async def test_methods_that_the_document_names_are_sent_again_with_their_body() -> None:
    bodies: list[bytes] = []

    async def takes(reader: Reader, writer: Writer) -> None:
        bodies.append((await read_message(reader))[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with origin(resets) as bad, origin(takes) as good:
        app = upstream(bad, good, retry={"methods": ["POST"]})
        async with serving(lambda own: document(own, [app])) as running:
            assert await statuses(running, POST, 2) == {200: 2}
            assert bodies == [b"body"] * 2
            assert (await statuses(running, get(), 2))[502] == 1, "GET was not named"


async def test_a_route_has_retries_of_its_own() -> None:
    async with origin(says(BUSY)) as bad, origin(GOOD) as good:
        routes: list[dict[str, Any]] = [
            {"name": "own", "match": {"path": "/own"}, "upstream": "app", "retry": {"on": [503]}},
            {"name": "all", "upstream": "app"},
        ]
        async with serving(lambda own: document(own, [upstream(bad, good)], routes)) as running:
            assert await statuses(running, get("/own"), 4) == {200: 4}
            assert (await statuses(running, get("/"), 4))[503] == 2


async def test_an_answer_that_nobody_sees_leaves_its_connection_usable() -> None:
    connections: list[int] = []
    async with beside(says(BUSY, connections), retry={"on": [503]}) as running:
        assert await statuses(running, get(), 8) == {200: 8}
        assert connections == [4]


@pytest.mark.parametrize(("pieces", "ended"), [(3, False), (200, True)])
async def test_a_body_that_nobody_wants_is_read_to_its_end_or_ends_its_connection(pieces: int, ended: bool) -> None:
    connections, gone = 0, asyncio.Event()

    async def slow(reader: Reader, writer: Writer) -> None:
        nonlocal connections
        connections += 1
        try:
            while True:
                await read_message(reader)
                writer.write(b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n")
                for _ in range(pieces):
                    await writer.drain()
                    await asyncio.sleep(0.001)
                    writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
                writer.write(b"0\r\n\r\n")
        finally:
            gone.set()

    async with beside(slow, retry={"on": [503]}) as running:
        assert await statuses(running, get(), 2) == {200: 2}
        if ended:
            await asyncio.wait_for(gone.wait(), 5)
        else:
            live = running.gateway._worker.health.upstream("app")
            await wait_until(
                lambda: all(one.pool is None or one.pool.idle == one.pool.connections for one in live.endpoints),
                within_seconds=5, what="the connection is back",
            )  # fmt: skip
        assert await statuses(running, get(), 2) == {200: 2}
        assert connections == (2 if ended else 1)


async def test_the_last_answer_goes_to_the_client_as_it_is() -> None:
    async with (
        origin(says(BUSY)) as one,
        origin(says(BUSY)) as two,
        serving(lambda own: document(own, [upstream(one, two, retry={"on": [503], "tries": 2})])) as running,
    ):
        head, body = await ask(running.port, get())
        assert status(head) == 503 and body == b"busy" and b"proxy-status" not in head
        assert running.seen.outcomes[0].tries == 2


async def test_an_only_endpoint_is_asked_again_after_a_pause() -> None:
    asked: list[float] = []
    loop = asyncio.get_running_loop()

    async def recovers(reader: Reader, writer: Writer) -> None:
        while True:
            await read_message(reader)
            asked.append(loop.time())
            fails = len(asked) <= 2
            writer.write(
                BUSY.replace(b"\r\n\r\n", b"\r\nRetry-After: 1\r\n\r\n", 1)
                if fails
                else BUSY[:9] + b"200 OK\r\nContent-Length: 0\r\n\r\n"
            )

    retry = {"on": [503], "backoff": {"base_seconds": 0.001, "max_seconds": 0.2}}
    async with (
        origin(recovers) as port,
        serving(lambda own: document(own, [upstream(port, retry=retry)])) as running,
    ):
        assert status((await ask(running.port, get()))[0]) == 200
        assert running.seen.outcomes[0].tries == 3
        pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
        assert all(0.19 <= pause < 1.0 for pause in pauses), "what Retry-After asks for, up to the greatest pause"


async def test_a_client_that_leaves_in_a_pause_leaves_nothing_behind() -> None:
    retry = {"on": [503], "backoff": {"base_seconds": 30, "max_seconds": 30}}
    async with (
        origin(says(BUSY)) as port,
        serving(lambda own: document(own, [upstream(port, retry=retry)])) as running,
    ):
        load = running.gateway._worker.health.upstream("app").load
        async with client(running.port) as (_, writer):
            writer.write(get())
            await wait_until(lambda: load.retrying == 1 and not load.active, within_seconds=5, what="a pause")
        await wait_until(lambda: running.gateway.active == 0, within_seconds=5, what="the end")
        assert load.retrying == load.active == 0
        assert running.seen.outcomes[0].why == "client_gone" and running.seen.outcomes[0].tries == 1


async def test_retries_have_a_budget() -> None:
    budget, retry = {"ratio": 0.5, "minimum_per_second": 0.5}, {"on": [503], "tries": 2}
    words: dict[str, Any] = {"retry_budget": budget, "retry": retry}
    async with origin(says(BUSY)) as one, origin(says(BUSY)) as two:
        async with serving(lambda own: document(own, [upstream(one, two, **words)])) as running:
            assert await statuses(running, get(), 40) == {503: 40}
            again = sum(seen.tries - 1 for seen in running.seen.outcomes)
            assert 15 <= again <= 5 + 0.5 * 41
            assert metric(running, "meridian_upstream_retries_refused_total", by="budget") == 40 - again
        words["breakers"] = {"retries_max": 0}
        async with serving(lambda own: document(own, [upstream(one, two, **words)])) as running:
            assert await statuses(running, get(), 4) == {503: 4}
            assert metric(running, "meridian_upstream_retries_refused_total", by="breaker") == 4


# Under load


async def offered(port: int, *, per_second: int, seconds: float) -> Counter[int | str]:
    """Statuses of requests that leave on time, whatever becomes of the earlier ones; of failures their names."""

    async def one() -> int | str:
        try:
            return status((await ask(port, get()))[0])
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            return type(error).__name__

    loop = asyncio.get_running_loop()
    began, asking = loop.time(), []
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, began + number / per_second - loop.time()))
        asking.append(loop.create_task(one()))
    return Counter(await asyncio.gather(*asking))


@contextlib.asynccontextmanager
async def flapping(period_seconds: float) -> AsyncIterator[int]:
    """An endpoint that dies with all its connections, refuses for a while, and comes back; again and again."""
    port, writers = free_port(), set[Writer]()

    async def app(reader: Reader, writer: Writer) -> None:
        writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await read_head(reader)
                await asyncio.sleep(0.01)  # so that some are under way when it dies
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writers.discard(writer)

    async def flap() -> None:
        while True:
            async with await asyncio.start_server(app, "127.0.0.1", port):
                await asyncio.sleep(period_seconds)
                for writer in writers:
                    writer.transport.abort()
            await asyncio.sleep(period_seconds)

    task = asyncio.get_running_loop().create_task(flap())
    try:
        yield port
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        for writer in writers:
            writer.transport.abort()


@pytest.mark.parametrize("tries", [3, 1])
async def test_an_endpoint_that_flaps_costs_no_request_and_without_retries_it_does(tries: int) -> None:
    async with flapping(0.15) as bad, origin(GOOD) as one, origin(GOOD) as two:
        words: dict[str, Any] = {"retry": {"tries": tries}, "ejection": {"seconds": 0.1, "seconds_max": 0.1}}
        async with serving(lambda own: document(own, [upstream(bad, one, two, **words)])) as running:
            seen = await offered(running.port, per_second=200, seconds=2)
        if tries > 1:
            assert seen == {200: 400}
        else:
            assert seen[502] > 0 and seen[200] + seen[502] == 400
