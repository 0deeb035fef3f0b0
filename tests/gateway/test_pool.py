"""The pool: how many connections, for how long, and who waits."""

import asyncio

from tests.gateway.harness import (
    Reader,
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


async def test_connections_are_at_most_so_many_and_the_rest_waits() -> None:
    open_now = most = 0

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            while True:
                await read_message(reader)
                await asyncio.sleep(0.01)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        finally:
            open_now -= 1

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port, connections_max=3)])) as running:
        heads = await asyncio.gather(*(ask(running.port, get()) for _ in range(60)))
        assert {status(head) for head, _ in heads} == {200} and most == 3


async def test_who_waits_for_too_long_is_503() -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        await reader.read(-1)

    async with (
        origin(app) as port,
        serving(lambda own: document(own, [upstream(port, connections_max=1)])) as running,
        client(running.port) as (_, writer),
        client(running.port) as (reader, second),
    ):
        writer.write(get())
        await wait_until(lambda: running.gateway.active == 1, within_seconds=5, what="the first")
        second.write(get())
        await wait_until(lambda: running.gateway.active == 2, within_seconds=5, what="the second")
        running.clock.push(3)
        assert status((await read_message(reader))[0]) == 503


async def test_a_waiting_client_that_leaves_gives_up_its_place() -> None:
    go_on = asyncio.Event()

    async def app(reader: Reader, writer: Writer) -> None:
        while True:
            await read_message(reader)
            await go_on.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with (
        origin(app) as port,
        serving(lambda own: document(own, [upstream(port, connections_max=1)])) as running,
        client(running.port) as (reader, writer),
        client(running.port) as (third_reader, third),
    ):
        writer.write(get())
        await wait_until(lambda: running.gateway.active == 1, within_seconds=5, what="the first")
        async with client(running.port) as (_, second):
            second.write(get())
            await wait_until(lambda: running.gateway.active == 2, within_seconds=5, what="the second")
        await wait_until(lambda: running.gateway.active == 1, within_seconds=5, what="it to leave")
        third.write(get())
        await wait_until(lambda: running.gateway.active == 2, within_seconds=5, what="the third")
        go_on.set()
        assert status((await read_message(reader))[0]) == 200
        assert status((await read_message(third_reader))[0]) == 200


async def test_idle_connections_end_and_posts_do_not_use_old_ones() -> None:
    connections = ended = 0

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal connections, ended
        connections += 1
        try:
            await hello(reader, writer)
        finally:
            ended += 1

    post = get("/", "Content-Length: 1", method="POST") + b"x"
    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        await ask(running.port, get())
        await ask(running.port, post)
        assert connections == 1, "used a moment ago"
        running.clock.push(2)
        await asyncio.sleep(0.25)
        await ask(running.port, get())
        assert connections == 1
        running.clock.push(2)
        await asyncio.sleep(0.25)
        await ask(running.port, post)
        assert connections == 2, "idle for two seconds: the endpoint may close it at any moment"
        running.clock.push(31)
        await wait_until(lambda: ended == 2, within_seconds=5, what="both to end")


async def test_bytes_that_nobody_asked_for_end_an_idle_connection() -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        assert await reader.read(1) == b""

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        for _ in range(3):
            assert (await ask(running.port, get()))[1] == b""
            await asyncio.sleep(0.1)


async def test_bytes_behind_a_response_are_not_the_next_answer() -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        await read_message(reader)
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
        writer.write(answer + b"mine" + answer + b"evil")
        await reader.read(-1)

    async with (
        origin(app) as port,
        serving(lambda own: document(own, [upstream(port)])) as running,
        client(running.port) as (reader, writer),
    ):
        for _ in range(4):
            writer.write(get())
            assert (await read_message(reader))[1] == b"mine"
