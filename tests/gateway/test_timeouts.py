"""How long an exchange may take, over real sockets: every limit by itself, and how each says that it was the one."""

import asyncio
import socket
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
    origin,
    read_head,
    read_message,
    serving,
    status,
    upstream,
)

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def hangs(reader: Reader, writer: Writer) -> None:
    """Never answers."""
    await read_message(reader)
    await reader.read()


async def stops(reader: Reader, writer: Writer) -> None:
    """Begins an answer and says no more."""
    await read_message(reader)
    writer.write(HEAD + b"1\r\nx\r\n")
    await reader.read()


async def drips(reader: Reader, writer: Writer) -> None:
    """Never is silent for long, and never ends."""
    await read_message(reader)
    writer.write(HEAD)
    while True:
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


def said(running: Running, what: str) -> float:
    """How often this limit has ended something."""
    found = [one for one in running.gateway.series() if one.name == "meridian_upstream_timeouts_total"]
    return sum(one.value for one in found if one.labels["what"] == what)


ANSWERED: dict[str, tuple[Handler, dict[str, Any]]] = {
    "upstream": (hangs, {"response_timeout_seconds": 0.2}),
    "try": (hangs, {"retry": {"per_try_timeout_seconds": 0.2, "tries": 1}}),
    "total": (hangs, {"timeout_seconds": 0.2}),
    "stream": (hangs, {"stream_seconds_max": 0.2}),
}


@pytest.mark.parametrize("what", ANSWERED)
async def test_before_an_answer_it_is_504_and_says_which(what: str) -> None:
    app, words = ANSWERED[what]
    async with origin(app) as port, serving(lambda own: document(own, [upstream(port, **words)])) as running:
        async with asyncio.timeout(2):
            head, _ = await ask(running.port, get())
        assert status(head) == 504
        assert f'proxy-status: meridian; error=http_response_timeout; details="{what}"\r\n'.encode() in head
        (seen,) = running.seen.outcomes
        assert (seen.status, seen.why, seen.tries) == (504, f"{what}_timeout", 1)
        assert said(running, "response" if what == "upstream" else what) == 1
        assert running.gateway._worker.health.upstream("app").load.active == 0


CUT: dict[str, tuple[Handler, dict[str, Any]]] = {
    "idle": (stops, {"stream_idle_timeout_seconds": 0.2}),
    "total": (drips, {"timeout_seconds": 0.3}),
    "stream": (drips, {"stream_seconds_max": 0.3}),
}


@pytest.mark.parametrize("what", CUT)
async def test_within_an_answer_it_is_cut_and_says_which(what: str) -> None:
    app, words = CUT[what]
    async with origin(app) as port, serving(lambda own: document(own, [upstream(port, **words)])) as running:
        async with client(running.port) as (reader, writer), asyncio.timeout(3):
            writer.write(get())
            assert status(await read_head(reader)) == 200
            try:
                rest = await reader.read()
            except ConnectionResetError:
                rest = b""
            assert not rest.endswith(b"0\r\n\r\n"), "it must not look whole"
        (seen,) = running.seen.outcomes
        assert (seen.status, seen.why) == (200, f"cut_{what}")
        assert said(running, what) == 1
        assert running.gateway._worker.health.upstream("app").load.active == 0


async def test_a_connection_that_does_not_come_about_in_time_is_504_of_its_own() -> None:
    """No host of the test's network leaves a SYN unanswered, so a queue that is full does: one waits in it, and the
    kernel drops those that follow."""
    loop = asyncio.get_running_loop()
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.connect(("127.0.0.1", port))
        await asyncio.sleep(0.05)
        words: dict[str, Any] = {"connect_timeout_seconds": 0.2, "retry": {"tries": 1}}
        async with serving(lambda own: document(own, [upstream(port, **words)])) as running:
            began = loop.time()
            head, _ = await ask(running.port, get())
            assert status(head) == 504 and loop.time() - began < 2
            assert b'proxy-status: meridian; error=connection_timeout; details="connect"\r\n' in head
            assert running.seen.outcomes[0].why == "connect_timeout" and said(running, "connect") == 1
        for one in waiting:
            one.close()


async def test_the_total_spans_all_tries_and_their_pauses() -> None:
    words: dict[str, Any] = {
        "retry": {"per_try_timeout_seconds": 0.1, "tries": 11, "backoff": {"base_seconds": 0.05}},
        "timeout_seconds": 0.8,
        "ejection": {"failures_in_a_row": 1000},
    }
    async with origin(hangs) as port, serving(lambda own: document(own, [upstream(port, **words)])) as running:
        async with asyncio.timeout(2):
            assert status((await ask(running.port, get()))[0]) == 504
        (seen,) = running.seen.outcomes
        assert seen.why == "total_timeout" and 2 <= seen.tries < 11


async def test_the_total_begins_with_the_end_of_the_request_and_the_stream_with_its_beginning() -> None:
    async def takes(reader: Reader, writer: Writer) -> None:
        _, body = await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    for words, expected in (({"timeout_seconds": 0.3}, 200), ({"stream_seconds_max": 0.3}, 504)):
        made = upstream(0, **words)  # type: ignore[arg-type] # seconds, not a name
        async with origin(takes) as port:
            made["endpoints"] = [{"address": f"127.0.0.1:{port}"}]
            async with (
                serving(lambda own, made=made: document(own, [made])) as running,  # type: ignore[misc]
                client(running.port) as (reader, writer),
            ):
                writer.write(get("/", "Content-Length: 6", method="POST"))
                for _ in range(6):  # a slow client is not a slow service
                    writer.write(b"x")
                    await asyncio.sleep(0.08)
                assert status(await read_head(reader)) == expected


async def test_a_route_may_take_longer_or_less_than_its_upstream() -> None:
    async def slow(reader: Reader, writer: Writer) -> None:
        await read_message(reader)
        await asyncio.sleep(0.4)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    routes: list[dict[str, Any]] = [
        {"name": "long", "match": {"path": "/long"}, "upstream": "app", "timeout_seconds": 5},
        {"name": "all", "upstream": "app"},
    ]
    async with (
        origin(slow) as port,
        serving(lambda own: document(own, [upstream(port, timeout_seconds=0.1)], routes)) as running,
    ):
        assert status((await ask(running.port, get("/long")))[0]) == 200
        assert status((await ask(running.port, get("/")))[0]) == 504


async def test_an_endpoint_that_hangs_is_ejected_by_the_total_too() -> None:
    words: dict[str, Any] = {"timeout_seconds": 0.1, "ejection": {"failures_in_a_row": 2}}
    async with origin(hangs) as port, serving(lambda own: document(own, [upstream(port, **words)])) as running:
        for _ in range(2):
            await ask(running.port, get())
        (endpoint,) = running.gateway._worker.health.upstream("app").endpoints
        assert endpoint.state.ejected
