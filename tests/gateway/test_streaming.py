"""Backpressure, both ways: a side that stands still stops the other, and no byte is lost when it goes on."""

import asyncio

from tests.gateway.harness import client, document, get, origin, read_head, serving, upstream
from tests.support import resident_bytes, wait_until

PIECE = b"0123456789abcdef" * 4096  # 64 KiB
TOTAL = 256 * 2**20
BETWEEN_MAX = 24 * 2**20
"""What may be under way between the two ends: socket buffers of three hops (the kernel lets each grow to 6 MiB) and
what the gateway holds, which is below 1 MiB."""


async def still(count: list[int]) -> int:
    """The value once it has stood still for a while."""
    before = -1
    while before != count[0]:
        before = count[0]
        await asyncio.sleep(0.25)
    return before


async def test_a_slow_client_stops_the_upstream() -> None:
    sent = [0]

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TOTAL)
        while sent[0] < TOTAL:
            writer.write(PIECE)
            sent[0] += len(PIECE)
            await writer.drain()

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        async with client(running.port) as (reader, writer):
            writer.write(get())
            await read_head(reader)
            before = resident_bytes()
            assert await still(sent) < BETWEEN_MAX
            got = 0
            while got < TOTAL:
                got += len(await reader.read(2**20))
            assert resident_bytes() - before < 48 * 2**20, "three parties of this process and their buffers"
        assert sent[0] == got == TOTAL
        assert running.seen.outcomes[0].response_body_bytes == TOTAL


async def test_a_slow_upstream_stops_the_client() -> None:
    go_on = asyncio.Event()
    got = 0

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await read_head(reader)
        await go_on.wait()
        while got < TOTAL:
            got += len(await reader.read(2**20))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        async with client(running.port) as (reader, writer):
            sent = [0]

            async def send() -> None:
                writer.write(get("/", f"Content-Length: {TOTAL}", method="POST"))
                while sent[0] < TOTAL:
                    writer.write(PIECE)
                    sent[0] += len(PIECE)
                    await writer.drain()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(send())
                assert await still(sent) < BETWEEN_MAX
                go_on.set()
            await read_head(reader)
        assert sent[0] == got == TOTAL
        assert running.seen.outcomes[0].request_body_bytes == TOTAL


async def test_a_client_that_does_not_read_is_given_up() -> None:
    gone = asyncio.Event()

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TOTAL)
        try:
            while True:
                writer.write(PIECE)
                await writer.drain()
        finally:
            gone.set()

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        async with client(running.port) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined] # typeshed knows only the write side
            writer.write(get())
            await asyncio.sleep(0.5)
            running.clock.push(61)
            await asyncio.wait_for(gone.wait(), 5)
            assert running.gateway.connections == 1, "what is in the buffer may still be taken"
            await asyncio.sleep(0.2)
            running.clock.push(11)
            await wait_until(lambda: running.gateway.connections == 0, within_seconds=5, what="the connection to end")
        assert running.seen.outcomes[0].why == "cut_client"
