"""A second try beside one that is late, over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from h2.events import StreamReset
from tests.gateway.h2origin import H2Served, h2_origin
from tests.gateway.harness import (
    Handler,
    Reader,
    Running,
    Writer,
    ask,
    client,
    document,
    get,
    origin,
    read_message,
    serving,
    status,
    upstream,
)
from tests.support import wait_until

from meridian.core.hedging import SEEN_MIN

PARENT = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class App:
    """An upstream of which each endpoint answers at once, or hangs, or says something else."""

    mood: str = "answers"
    asked: list[bytes] = field(default_factory=list)
    left: int = 0  # by whoever asked, while it hung

    def handler(self, name: bytes) -> Handler:
        """The endpoint of this name."""

        async def app(reader: Reader, writer: Writer) -> None:
            while True:
                _, body = await read_message(reader)
                self.asked.append(name)
                if self.mood == "answers" or len(self.asked) > 1:
                    answer = name + body
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
                elif self.mood == "hangs":
                    gone = await reader.read(1) == b""
                    self.left += gone
                    return
                elif self.mood == "dies":
                    await asyncio.sleep(0.1)
                    return

        return app


@contextlib.asynccontextmanager
async def warm(app: App, handler: Handler | None = None, **words: Any) -> AsyncIterator[Running]:
    """A gateway that hedges and has seen enough of two quick endpoints; `handler` is the second try's instead."""
    async with origin(app.handler(b"a")) as one, origin(handler or app.handler(b"b")) as two:
        made = upstream(one, two, hedge={"after_seconds_min": 0.03}, **words)
        async with serving(lambda own: document(own, [made])) as running:
            async with client(running.port) as (reader, writer):
                for _ in range(SEEN_MIN):
                    writer.write(get())
                    await read_message(reader)
            assert all(seen.tries == 1 for seen in running.seen.outcomes)
            running.seen.outcomes.clear()
            app.asked.clear()
            yield running


def hedges(running: Running, outcome: str) -> float:
    """How many second tries ended so."""
    found = [one for one in running.gateway.series() if one.name == "meridian_upstream_hedges_total"]
    return sum(one.value for one in found if one.labels["outcome"] == outcome)


async def nothing_left(running: Running) -> None:
    """All tries of the upstream are over."""
    load = running.gateway._worker.health.upstream("app").load
    await wait_until(lambda: load.active == load.retrying == 0, within_seconds=5, what="all tries to end")


async def test_a_late_try_is_outpaced_and_ended() -> None:
    app = App()
    async with warm(app) as running:
        app.mood = "hangs"
        latencies = running.gateway._worker.health.upstream("app").load.latencies
        assert latencies is not None and latencies.seen == SEEN_MIN
        async with asyncio.timeout(2):
            head, body = await ask(running.port, get("/", PARENT))
        assert status(head) == 200 and body == app.asked[1] and set(app.asked) == {b"a", b"b"}
        await wait_until(lambda: app.left == 1, within_seconds=5, what="the late try to be ended")
        (seen,) = running.seen.outcomes
        assert seen.tries == 2 and seen.duration_seconds < 1
        assert hedges(running, "won") == 1
        assert latencies.seen == SEEN_MIN + 2, "the late one counts with the time it had"
        first, second, whole = running.seen.spans
        assert first.attributes["error.type"] == "outpaced" and second.attributes["http.response.status_code"] == 200
        assert first.parent_span_id == second.parent_span_id == whole.span_id and first.span_id != second.span_id
        assert second.attributes["http.request.resend_count"] == 1
        await nothing_left(running)


async def test_a_body_goes_with_both_and_what_may_not_be_repeated_is_not_hedged() -> None:
    app = App()
    async with warm(app) as running:
        app.mood = "hangs"
        request = get("/", "Content-Length: 4", method="PUT") + b"body"
        assert (await ask(running.port, request))[1] == app.asked[1] + b"body"
        app.asked.clear()
        async with client(running.port) as (reader, writer):
            writer.write(request.replace(b"PUT", b"POST"))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.3)
        assert len(app.asked) == 1
        await nothing_left(running)


async def test_where_the_first_wins_after_all_the_second_is_ended() -> None:
    app, gone = App(), asyncio.Event()
    turn = 0

    async def slow(reader: Reader, writer: Writer) -> None:
        nonlocal turn
        while True:
            await read_message(reader)
            app.asked.append(b"b")
            if app.mood != "answers":
                turn += 1
                if len(app.asked) == 1:
                    await asyncio.sleep(0.15)
                else:
                    await reader.read(1)
                    gone.set()
                    return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb")

    async with origin(slow) as one, origin(slow) as two:
        made = upstream(one, two, hedge={"after_seconds_min": 0.03})
        async with serving(lambda own: document(own, [made])) as running:
            for _ in range(SEEN_MIN):
                await ask(running.port, get())
            app.asked.clear()
            app.mood = "slow"
            assert status((await ask(running.port, get()))[0]) == 200
            await asyncio.wait_for(gone.wait(), 5)
            assert turn == 2 and hedges(running, "lost") == 1
            await nothing_left(running)


async def test_where_the_first_fails_the_second_goes_on() -> None:
    app = App()
    release = asyncio.Event()

    async def held(reader: Reader, writer: Writer) -> None:
        while True:
            await read_message(reader)
            app.asked.append(b"b")
            if app.mood != "answers":
                if len(app.asked) == 1:
                    return  # it came first: then the other is the second
                await release.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb")

    async with warm(app, held, retry={"tries": 1}) as running:
        app.mood = "dies"
        asking = asyncio.get_running_loop().create_task(ask(running.port, get()))
        if await first_asked(app) == b"b":
            assert status((await asking)[0]) == 502  # it failed before a second try began
            app.asked.clear()
            asking = asyncio.get_running_loop().create_task(ask(running.port, get()))
        assert await first_asked(app) == b"a"
        load = running.gateway._worker.health.upstream("app").load
        await wait_until(lambda: len(app.asked) == 2, within_seconds=5, what="both tries")
        await wait_until(lambda: load.active == 1, within_seconds=5, what="the first to fail")
        release.set()
        head, body = await asyncio.wait_for(asking, 5)
        assert (status(head), body) == (200, b"b") and running.seen.outcomes[-1].tries == 2
        await nothing_left(running)


async def first_asked(app: App) -> bytes:
    """Which endpoint the first try of a request went to."""
    await wait_until(lambda: app.asked, within_seconds=5, what="a first try")
    return app.asked[0]


async def test_a_second_try_that_is_answered_badly_does_not_win() -> None:
    app = App()

    async def bad(reader: Reader, writer: Writer) -> None:
        while True:
            await read_message(reader)
            app.asked.append(b"b")
            if app.mood == "answers":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb")
            elif len(app.asked) == 1:
                await asyncio.sleep(0.2)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
            else:
                writer.write(b"HTTP/1.1 500 Bad\r\nContent-Length: 1\r\n\r\nx")

    async with origin(bad) as one, origin(bad) as two:
        made = upstream(one, two, hedge={"after_seconds_min": 0.03})
        async with serving(lambda own: document(own, [made])) as running:
            for _ in range(SEEN_MIN):
                await ask(running.port, get())
            app.asked.clear()
            app.mood = "slow"
            head, body = await ask(running.port, get())
            assert (status(head), body) == (200, b"first") and len(app.asked) == 2
            await nothing_left(running)


async def test_hedges_come_out_of_the_budget() -> None:
    app = App()
    async with warm(app, retry_budget={"ratio": 0, "minimum_per_second": 0}) as running:
        app.mood = "hangs"
        async with client(running.port) as (reader, writer):
            writer.write(get())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.3)
        assert len(app.asked) == 1
        await nothing_left(running)


async def test_a_client_that_leaves_ends_both() -> None:
    app, left = App(), 0

    async def hang(reader: Reader, writer: Writer) -> None:
        nonlocal left
        while True:
            await read_message(reader)
            app.asked.append(b"")
            if app.mood != "answers":
                gone = await reader.read(1) == b""
                left += gone
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb")

    async with origin(hang) as one, origin(hang) as two:
        made = upstream(one, two, hedge={"after_seconds_min": 0.03})
        async with serving(lambda own: document(own, [made])) as running:
            for _ in range(SEEN_MIN):
                await ask(running.port, get())
            app.asked.clear()
            app.mood = "hangs"
            async with client(running.port) as (_, writer):
                writer.write(get())
                await wait_until(lambda: len(app.asked) == 2, within_seconds=5, what="both tries")
            await wait_until(lambda: left == 2, within_seconds=5, what="both to be ended")
            await nothing_left(running)


async def test_over_http2_only_the_late_stream_is_ended() -> None:
    connections: list[H2Served] = []
    late: list[int] | None = None  # the stream that is not answered

    async def app(served: H2Served) -> None:
        connections.append(served)
        while True:
            stream_id, _ = await served.request()
            if late is None or late:
                served.answer(stream_id)
            else:
                late.append(stream_id)

    async with h2_origin(app) as one, h2_origin(app) as two:
        made = upstream(one, two, hedge={"after_seconds_min": 0.03}, protocol="h2")
        async with serving(lambda own: document(own, [made])) as running:
            async with client(running.port) as (reader, writer):
                for _ in range(SEEN_MIN):
                    writer.write(get())
                    await read_message(reader)
            late = []
            async with asyncio.timeout(2):
                assert (await ask(running.port, get()))[1] == b"ok"
            await wait_until(
                lambda: [one.stream_id for served in connections for one in served.events if type(one) is StreamReset],
                within_seconds=5, what="the late stream to be reset",
            )  # fmt: skip
            reset = [one.stream_id for served in connections for one in served.events if type(one) is StreamReset]
            assert reset == late and hedges(running, "won") == 1
            for _ in range(4):
                assert (await ask(running.port, get()))[1] == b"ok"
            assert len(connections) == 2, "the connections go on"
            await nothing_left(running)
