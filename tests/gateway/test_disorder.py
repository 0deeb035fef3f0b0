"""Everything goes wrong at once, by a seed: whatever happened, nothing is left behind and nothing is mixed up."""

import asyncio
import random
from typing import Any

import pytest
from tests.gateway.harness import (
    Reader,
    Writer,
    client,
    document,
    get,
    length_of,
    origin,
    read_chunked,
    read_head,
    serving,
    status,
    upstream,
)
from tests.scale import seeds
from tests.support import free_port, wait_until

EAGER: dict[str, Any] = {
    "hedge": {"after_percentile": 50, "after_seconds_min": 0.001},
    "retry": {"on": ["connect", "reset", "stale", "timeout", 503], "methods": ["GET", "PUT", "POST"], "tries": 5},
    "retry_budget": {"ratio": 5},
    "timeout_seconds": 5,
}
"""All that may be tried again is, and half of it twice at once."""


@pytest.mark.parametrize("seed", seeds(4))
async def test_nothing_is_left_behind(seed: int) -> None:
    chance = random.Random(seed)
    whole: list[int] = []

    async def app(reader: Reader, writer: Writer) -> None:
        """Answers with the request's number and its body, or fails in one of many ways."""
        while True:
            head = await read_head(reader)
            number = head.split(b" ")[1]
            mood = chance.random()
            if mood < 0.05:
                return
            if b"chunked" in head:
                body, _ = await read_chunked(reader)
            else:
                body = await reader.readexactly(length_of(head))
            if mood > 0.97:
                writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
                continue
            answer = number + body
            if mood < 0.10:
                writer.transport.abort()
            elif mood < 0.15:
                writer.write(b"nonsense\r\n\r\n")
            elif mood < 0.20:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(answer) + 9) + answer)
                await writer.drain()
                return
            elif mood < 0.25:
                await asyncio.sleep(0.2)
                return
            elif mood < 0.6:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for start in range(0, len(answer), 5000):
                    piece = answer[start : start + 5000]
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await asyncio.sleep(0)
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
            await writer.drain()
            if mood > 0.95:
                return

    async def use(port: int, worker: int) -> None:
        for turn in range(25):
            number = b"/%d-%d-" % (worker, turn)
            body = bytes(chance.randrange(256) for _ in range(chance.choice((0, 0, 10, 3000)))) * chance.choice((1, 40))
            try:
                async with asyncio.timeout(10), client(port) as (reader, writer):
                    method = chance.choice(("GET", "PUT", "POST"))
                    if method == "GET":
                        body = b""
                        writer.write(get(number.decode()))
                    elif chance.random() < 0.5:
                        writer.write(get(number.decode(), f"Content-Length: {len(body)}", method=method) + body)
                    else:
                        writer.write(get(number.decode(), "Transfer-Encoding: chunked", method=method))
                        if body:
                            writer.write(b"%x\r\n%b\r\n" % (len(body), body))
                        if chance.random() < 0.2:
                            continue  # the client leaves in the middle
                        writer.write(b"0\r\n\r\n")
                    if chance.random() < 0.1:
                        continue
                    head = await read_head(reader)
                    if b"chunked" in head:
                        answer, _ = await read_chunked(reader)
                    else:
                        answer = await reader.readexactly(length_of(head))
                    if status(head) == 200:
                        assert answer == number + body, "the answer of another"
                        whole.append(turn)
                    else:
                        assert status(head) in (502, 503), head
            except (ConnectionError, asyncio.IncompleteReadError):
                pass

    async with origin(app) as one, origin(app) as two:
        ports = (one, two, free_port())
        words = EAGER if seed % 2 else {"balance": "least_request"}
        async with serving(lambda own: document(own, [upstream(*ports, **words)])) as running:
            async with asyncio.TaskGroup() as tasks:
                for worker in range(24):
                    tasks.create_task(use(running.port, worker))
                for turn in range(10):
                    await asyncio.sleep(0.02)
                    kept = ports if turn % 2 else ports[1:]
                    made = upstream(*kept, **words) if seed % 2 else upstream(*kept)
                    running.gateway.swap(document(running.port, [made], version=turn + 2))
            assert len(whole) > 200
            await wait_until(
                lambda: running.gateway.active == running.gateway.connections == 0, within_seconds=5, what="all to end"
            )
            worker_of = running.gateway._worker
            assert all(load.retrying == load.active == 0 for load in worker_of.health._loads.values())
            for live in worker_of.health._known.values():
                assert live.state.active == 0
            assert len({seen.request_id for seen in running.seen.outcomes}) == len(running.seen.outcomes)
