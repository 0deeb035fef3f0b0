"""WebSocket through the gateway over HTTP/1.1, HTTP/2 and HTTP/3, and straight to the same service: see
talks_websocket. The gateway passes bytes on, so the client has to hear through it what it hears without it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest
from tests.conformance.lines import WAYS, Line, Open
from tests.conformance.talks_websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    SIZE_MAX,
    TALKS,
    TEXT,
    Talk,
    chopped,
    closing,
    fragments,
    frame,
    inflated,
)
from tests.gateway.harness import document, secure, upstream
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

FLOOR = 358
"""Talks over each protocol; less is red."""

NOT_RUN = "Autobahn's own suite, which needs Python 2.7"

AT_ONCE = 16
PATIENCE_SECONDS = 10.0


def frames_in(heard: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Opcode, reserved bits and payload of each frame that is whole; none is a fragment or masked."""
    at = 0
    while len(heard) >= at + 2:
        first, size = heard[at], heard[at + 1]
        assert first & 0x80 and size < 128
        wide = {126: 2, 127: 8}.get(size, 0)
        begin = at + 2 + wide
        if wide:
            size = int.from_bytes(heard[at + 2 : begin], "big")
        if len(heard) < begin + size:
            return
        yield first & 15, first >> 4 & 7, heard[begin : begin + size]
        at = begin + size


def messages_in(line: Line) -> int:
    """How many have come."""
    return sum(kind < CLOSE for kind, _, _ in frames_in(bytes(line.heard)))


def judged(line: Line, talk: Talk) -> str:
    """What is wrong with what was heard; "" if nothing is."""
    frames = list(frames_in(bytes(line.heard)))
    messages = tuple(inflated((one for one in frames if one[0] < CLOSE), line.extensions))
    pongs = tuple(payload for kind, _, payload in frames if kind == PONG)
    closes = [payload for kind, _, payload in frames if kind == CLOSE]
    code = talk.closed.to_bytes(2, "big") if isinstance(talk.closed, int) else talk.closed
    if messages != talk.messages:
        return f"{len(messages)} messages: {str(messages)[:200]}"
    if pongs != talk.pongs:
        return f"pongs: {pongs}"
    if len(closes) != 1 or closes[0][:2] != code or frames[-1][0] != CLOSE:
        return f"close frames: {closes}"
    if bool(talk.extensions) != bool(line.extensions):
        return f"extensions: {line.extensions}"
    return "" if line.ended and not line.lost else "the line is lost"


async def hear(line: Line, talk: Talk) -> str:
    """Says all of it, and hears to the end."""
    assert line.status in (101, 200), line.status
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for piece in talk.said[:-1]:
                line.write(piece)
                await asyncio.sleep(0)  # so that pieces arrive as pieces, mostly
            await line.until(lambda: messages_in(line) >= len(talk.messages))
            line.write(talk.said[-1])
            await line.until(lambda: False)
        return judged(line, talk)
    except TimeoutError:
        return f"no end after {bytes(line.heard)[:80]!r}"
    finally:
        line.close()


async def say_back(connection: ServerConnection) -> None:
    """The service: each message as it came."""
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


@contextlib.asynccontextmanager
async def service(way: str) -> AsyncIterator[Open]:
    """Lines to one, on the way that is named."""
    async with serve(say_back, "127.0.0.1", 0, max_size=SIZE_MAX, ping_interval=None) as server:
        app: int = next(iter(server.sockets)).getsockname()[1]
        routes = [{"name": "all", "upstream": "app", "websocket": {"idle_timeout_seconds": 60}}]
        async with (
            secure(make=lambda own: document(own, [upstream(app, connect_timeout_seconds=30)], routes)) as (
                running,
                ca,
            ),
            WAYS[way](app if way == "the service itself" else running.port, ca) as opened,
        ):
            yield opened


@pytest.mark.parametrize("way", WAYS)
async def test_talks(way: str) -> None:
    failed: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)
    async with service(way) as opened:

        async def check(talk: Talk) -> None:
            async with turn:
                if wrong := await hear(await opened(talk.extensions), talk):
                    failed.append(f"{talk}: {wrong}")

        await asyncio.gather(*map(check, TALKS))
    print(f"\nWebSocket, {way}: {len(TALKS) - len(failed)} of {len(TALKS)}")  # noqa: T201 # the score
    print(f"NOT RUN: {NOT_RUN}")  # noqa: T201
    assert not failed, "\n".join(failed)
    assert len({str(talk) for talk in TALKS}) == len(TALKS) >= FLOOR


def has_come(line: Line, size: int) -> bool:
    """A frame of so many bytes."""
    return len(line.heard) > size + 9


@pytest.mark.parametrize("way", WAYS)
async def test_large_messages(way: str) -> None:
    """As one frame, in many fragments, and in small pieces."""
    size = 2**20 if way == "HTTP/3" else 16 * 2**20  # two QUIC stacks in Python would need a minute for that
    whole, small = bytes(range(256)) * (size // 256), bytes(range(256)) * 1024
    many = fragments(BINARY, *chopped(small, 256))
    async with service(way) as opened:
        for payload, pieces in (
            (whole, (frame(BINARY, whole),)),
            (small, (b"".join(many),)),
            (small, chopped(frame(BINARY, small), 1024)),
        ):
            line = await opened("")
            async with asyncio.timeout(60):
                for piece in pieces:
                    line.write(piece)
                    await asyncio.sleep(0)
                await line.until(partial(has_come, line, len(payload)))
                line.write(closing())
                await line.until(lambda: False)
            (_, _, heard), (kind, _, _) = frames_in(bytes(line.heard))
            assert heard == payload and kind == CLOSE and line.ended


@pytest.mark.parametrize("way", ["HTTP/2", "HTTP/3"])
async def test_who_ends_its_side_alone_hears_the_rest(way: str) -> None:
    """Over HTTP/1.1 the end of the client's side counts as the end of the client: see gateway/connection."""
    async with service(way) as opened:
        line = await opened("")
        line.write(frame(TEXT, b"Hello") + frame(PING, b"there?") + closing())
        line.write_eof()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await line.until(lambda: False)
        kinds = [kind for kind, _, _ in frames_in(bytes(line.heard))]
        assert kinds[0] == PONG and kinds[-1] == CLOSE and line.ended and not line.lost
