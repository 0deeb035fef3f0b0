"""Who is left alone for what it answers, and what an upstream takes no more of, over real sockets."""

import asyncio
from collections import Counter
from collections.abc import Callable

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
    read_message,
    serving,
    status,
    upstream,
)
from tests.support import free_port, wait_until


def answering(answer: Callable[[], tuple[int, float]]) -> Handler:
    """An upstream that answers with this status after so many seconds."""

    async def app(reader: Reader, writer: Writer) -> None:
        while True:
            await read_message(reader)
            code, seconds = answer()
            await asyncio.sleep(seconds)
            writer.write(b"HTTP/1.1 %d Said\r\nContent-Length: 1\r\n\r\n0" % code)

    return app


async def seen_by(running: Running, count: int) -> Counter[tuple[int, bytes]]:
    """Statuses and bodies of so many answers."""
    answered = [await ask(running.port, get()) for _ in range(count)]
    return Counter((status(head), body) for head, body in answered)


def gauge(running: Running, name: str) -> float:
    """The sum of a metric."""
    return sum(one.value for one in running.gateway.series() if one.name == name)


async def test_errors_in_a_row_eject_and_a_good_probe_brings_back() -> None:
    code = 503
    async with origin(answering(lambda: (code, 0.0))) as bad, origin(named(b"1")) as good:
        app = upstream(bad, good, ejection={"errors_in_a_row": 3})
        async with serving(lambda own: document(own, [app])) as running:
            seen = await seen_by(running, 20)
            assert seen[503, b"0"] == 3 and seen[200, b"1"] == 17
            assert gauge(running, "meridian_upstream_ejections_total") == 1
            await running.pass_time(2.1)
            assert (await seen_by(running, 10))[503, b"0"] == 1, "its probe fails: for twice as long"
            code = 200
            await running.pass_time(2.1)
            assert (200, b"0") not in await seen_by(running, 4)
            await running.pass_time(2.1)
            assert (await seen_by(running, 10))[200, b"0"] >= 4


async def test_errors_do_not_count_unless_the_document_says_so() -> None:
    async with (
        origin(answering(lambda: (500, 0.0))) as bad,
        origin(named(b"1")) as good,
        serving(lambda own: document(own, [upstream(bad, good)])) as running,
    ):
        assert (await seen_by(running, 20))[500, b"0"] == 10


async def test_of_those_that_answer_at_most_a_part_is_ejected_but_all_that_cannot_be_reached() -> None:
    ejection = {"errors_in_a_row": 1, "percent_max": 50}
    bad = answering(lambda: (500, 0.0))
    async with origin(bad) as one, origin(bad) as two, origin(bad) as three:
        app = upstream(one, two, three, ejection=ejection)
        async with serving(lambda own: document(own, [app])) as running:
            assert (await seen_by(running, 12))[500, b"0"] == 12
            assert gauge(running, "meridian_upstream_ejections_total") == 1
    async with origin(named(b"1")) as good:
        app = upstream(free_port(), free_port(), free_port(), good, retries=3, ejection=ejection)
        async with serving(lambda own: document(own, [app])) as running:
            assert (await seen_by(running, 16))[200, b"1"] == 16
            assert gauge(running, "meridian_upstream_ejections_total") == 3


async def test_one_that_stands_out_by_latency_or_errors_is_left_alone() -> None:
    ejection = {"latency_factor": 3, "success_deviations": 1.2, "answers_min": 5, "interval_seconds": 5}
    async with (
        origin(named(b"1")) as one, origin(named(b"2")) as two,
        origin(answering(lambda: (200, 0.05))) as slow,
    ):  # fmt: skip
        app = upstream(one, two, slow, ejection=ejection)
        async with serving(lambda own: document(own, [app])) as running:
            assert (await seen_by(running, 30))[200, b"0"] == 10
            await running.pass_time(5)
            assert (await seen_by(running, 30))[200, b"0"] == 0
            await running.pass_time(5.1)
            assert (await seen_by(running, 30))[200, b"0"] > 5, "it may show that it is better now"


async def test_requests_beyond_the_breaker_are_503_with_a_reason() -> None:
    go_on = asyncio.Event()

    async def app(reader: Reader, writer: Writer) -> None:
        while True:
            await read_message(reader)
            await go_on.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with origin(app) as port:
        words = upstream(port, breakers={"requests_max": 2})
        async with (
            serving(lambda own: document(own, [words])) as running,
            client(running.port) as (first, one),
            client(running.port) as (second, two),
        ):
            one.write(get())
            two.write(get())
            await wait_until(lambda: running.gateway.active == 2, within_seconds=5, what="two under way")
            head, _ = await ask(running.port, get())
            assert status(head) == 503
            assert b'proxy-status: meridian; error=connection_limit_reached; details="requests"\r\n' in head
            assert running.seen.outcomes[-1].why == "full_requests"
            assert gauge(running, "meridian_upstream_full_total") == 1
            go_on.set()
            assert status((await read_message(first))[0]) == status((await read_message(second))[0]) == 200
            assert status((await ask(running.port, get()))[0]) == 200, "what is over makes room"


async def test_pending_and_connections_have_breakers_too() -> None:
    go_on = asyncio.Event()

    async def app(reader: Reader, writer: Writer) -> None:
        while True:
            await read_message(reader)
            await go_on.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with origin(app) as port, origin(app) as other:
        words = upstream(port, other, breakers={"connections_max": 1, "pending_max": 1})
        async with (
            serving(lambda own: document(own, [words])) as running,
            client(running.port) as (first, one),
            client(running.port) as (second, two),
        ):
            one.write(get())
            await wait_until(lambda: running.gateway.active == 1, within_seconds=5, what="one under way")
            head, _ = await ask(running.port, get())
            assert status(head) == 503 and running.seen.outcomes[-1].why == "full_connections"
            two.write(get())
            await wait_until(lambda: running.gateway.active == 2, within_seconds=5, what="one that waits")
            await ask(running.port, get())
            head, _ = await ask(running.port, get())
            assert status(head) == 503 and running.seen.outcomes[-1].why == "full_pending"
            go_on.set()
            assert status((await read_message(first))[0]) == status((await read_message(second))[0]) == 200
