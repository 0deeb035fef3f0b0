"""Every attack is cut off by its guard, and only by that; whoever else asks meanwhile is answered as ever.

Two gateways in processes of their own, one with tight guards, one with the guards wide open: an attack that the second
does not outlast is stopped by something else than it says. A client that behaves asks the first one all the time.
"""

import asyncio
import json
import statistics
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from tests.gateway.harness import Handler, Reader, Writer, read_head
from tests.hardening.attack import Attack, Victim
from tests.hardening.attacks_http1 import ATTACKS as HTTP1
from tests.hardening.attacks_http2 import ATTACKS as HTTP2
from tests.hardening.attacks_http3 import ATTACKS as HTTP3
from tests.support import ROOT

MEDIAN_SECONDS_MAX = 0.1
GROWTH_BYTES_MAX = 64 << 20
CUT_SECONDS_MAX = 20.0
"""However little of the machine is left to this test: an attack ends as soon as it is cut off."""

OUTLAST_SECONDS = {"idle_seconds": 4.5, "header_seconds": 3.0, "bytes_per_second_min": 3.0}
OUTLAST_FLOOD_SECONDS = 0.7
"""Longer than the guard would take if it were not open."""

FIXED_SECONDS = 5.0
"""For a guard that cannot be turned off to cut off an attack on a gateway whose others are open."""

AT_ONCE = 10
BIG_BYTES = 32 << 20
SERVED = ("HTTP/1.1 200", "200")  # an answer that no guard has made

TIGHT = {
    "header_seconds": 2, "idle_seconds": 3, "bytes_per_second_min": 20_000, "slow_seconds": 1,
    "resets_max": 64, "idle_frames_max": 200, "streams_max": 64, "connections_per_client_max": 24,
    "requests_per_connection_max": 200, "body_bytes_max": 1 << 20,
}  # fmt: skip
OPEN = {
    "header_seconds": 600, "idle_seconds": 3600, "bytes_per_second_min": 0, "slow_seconds": 600,
    "resets_max": 100_000, "idle_frames_max": 1_000_000, "streams_max": 1000, "connections_per_client_max": 10_000,
    "header_fields_max": 1000, "header_bytes_max": 262_144, "uri_bytes_max": 65_536,
}  # fmt: skip


async def service(reader: Reader, writer: Writer) -> None:
    """/big is long, /wait takes for ever, /talk is a WebSocket that talks on, /take takes what comes."""
    while True:
        head = await read_head(reader)
        path = head.split(b" ")[1]
        if path == b"/wait":
            await reader.read(-1)
            return
        if path == b"/talk":
            writer.write(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n")
            writer.write(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
            while True:
                writer.write(b"\x82\x7e\xff\xff" + bytes(65535))
                await writer.drain()
        if path == b"/big":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG_BYTES)
            for _ in range(BIG_BYTES >> 16):
                writer.write(bytes(65536))
                await writer.drain()
            continue
        if b"chunked" in head.lower():
            while (size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)) > 0:
                await reader.readexactly(size + 2)
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
        elif b"content-length: " in head:
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """As harness.origin, for clients that stop anywhere, and for heads of any size."""

    async def guarded(reader: Reader, writer: Writer) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0, limit=1 << 20)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Child:
    """A process that is told lines and answers with lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def hear(self) -> str:
        assert self._process.stdout is not None
        said = await asyncio.wait_for(self._process.stdout.readline(), 60)
        assert said, "the process has ended"
        return said.decode()

    async def tell(self, said: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(said.encode() + b"\n")

    async def ask(self) -> dict[str, Any]:
        await self.tell("")
        return dict(json.loads(await self.hear()))

    async def seconds(self) -> list[float]:
        await self.tell("")
        return list(json.loads(await self.hear()))


@asynccontextmanager
async def child(module: str, *arguments: str) -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.hardening.{module}", *arguments, cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    try:
        yield Child(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def play(attack: Attack, victim: Victim) -> str:
    """How it was cut off; "" if it was not."""
    try:
        async with asyncio.timeout(3 * CUT_SECONDS_MAX):
            return await attack.run(victim)
    except (ConnectionError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"


async def outcome_of(attack: Attack, turn: asyncio.Semaphore, victim: Victim, wide: Victim) -> tuple[str, str]:
    """How it is cut off by the one and by the other."""
    async with turn:
        cut = await play(attack, victim)
        seconds = OUTLAST_SECONDS.get(attack.guard, OUTLAST_FLOOD_SECONDS) if attack.guard else FIXED_SECONDS
        return cut, await play(attack, replace(wide, lasts_seconds=seconds))


def wrong_with(attack: Attack, outcome: tuple[str, str], counted: Collection[str]) -> Iterator[str]:
    """What its end should not have been."""
    cut, by_other = outcome
    if not cut:
        yield "not cut off"
    if attack.why and attack.why not in counted:
        yield f"{attack.why} is not among {sorted(counted)}"
    cut_by_other = bool(by_other) and not by_other.startswith(SERVED)
    if attack.guard and cut_by_other:
        yield f"{by_other}, although {attack.guard} is open"
    if not attack.guard and not cut_by_other:
        yield "outlasts what cannot be turned off, where all else is open"


@pytest.mark.parametrize("attacks", [HTTP1, HTTP2, HTTP3], ids=["http1", "http2", "http3"])
async def test_attacks_are_cut_off_and_nobody_else_notices(attacks: tuple[Attack, ...]) -> None:
    turn = asyncio.Semaphore(AT_ONCE)
    async with serving(service) as app, child("bystander") as bystander:
        ports = str(app), (await bystander.hear()).strip()
        async with (
            child("victim", *ports, json.dumps(TIGHT)) as tight,
            child("victim", *ports, json.dumps(OPEN)) as opened,
        ):
            victim, wide = Victim.of(await tight.hear(), CUT_SECONDS_MAX), Victim.of(await opened.hear(), 0)
            await bystander.tell(f"{victim.port} {victim.ca}")
            await bystander.hear()
            before = await tight.ask()
            outcomes = await asyncio.gather(*(outcome_of(one, turn, victim, wide) for one in attacks))
            took, after = await bystander.seconds(), await tight.ask()
    counted = {why for whys in (after["refused"], after["whys"]) for why, count in whys.items() if count}
    problems = [
        f"{one.name}: {problem}"
        for one, outcome in zip(attacks, outcomes, strict=True)
        for problem in wrong_with(one, outcome, counted)
    ]
    for one, (cut, _) in zip(attacks, outcomes, strict=True):
        print(f"{one.name}: {cut or 'NOT CUT OFF'}")  # noqa: T201 # the score
    median, growth = statistics.median(took), after["resident_bytes"] - before["resident_bytes"]
    print(f"others: {median * 1000:.1f} ms of {len(took)}, {max(took) * 1000:.0f} at most; {growth >> 10} KiB")  # noqa: T201
    assert not problems, "\n".join(problems)
    assert median < MEDIAN_SECONDS_MAX
    assert growth < GROWTH_BYTES_MAX
