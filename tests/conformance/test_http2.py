"""What a client of HTTP/2 may not do, and what it may: see violations_http2 and dialogues_http2. Each over TLS to a
real gateway before a real service, all frames at once and each by itself: what comes late may meet another state."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hpack import Decoder
from tests.conformance.dialogues_http2 import DIALOGUES, Dialogue
from tests.conformance.violations_http2 import (
    ACK,
    CASES,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    SILENT,
    Case,
    frame,
    get,
)
from tests.gateway.harness import Reader, Writer, document, origin, read_message, secure, upstream

FLOOR = 273
"""Requirements that are kept; less is red."""

DIALOGUES_FLOOR = 80

NOT_RUN = "h2spec itself, of which no registry has a package: its 146 cases are among these"

AT_ONCE = 8
LAST = 999
"""The stream of a good request afterwards."""

PATIENCE_SECONDS = 2.0
"""So long h2spec waits for a frame; then it counts as silence."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame of the gateway's."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


class Told:
    """What the gateway has said on one connection."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._decoder = Decoder()
        self.statuses: dict[int, int] = {}
        self.resets: dict[int, int] = {}
        self.complete: set[int] = set()
        self.goaway: int | None = None

    async def read(self) -> Heard | None:
        """One frame; None at the end of the connection."""
        try:
            start = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(start[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            return None
        heard = Heard(start[3], start[4], int.from_bytes(start[5:], "big"), payload)
        if heard.kind == HEADERS:
            fields = dict(self._decoder.decode(payload, raw=True))
            self.statuses[heard.stream_id] = int(fields.get(b":status", b"0"))
        elif heard.kind == RST_STREAM:  # more may follow, to what was under way
            self.resets.setdefault(heard.stream_id, int.from_bytes(payload, "big"))
        elif heard.kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        if heard.kind <= HEADERS and heard.flags & END_STREAM:
            self.complete.add(heard.stream_id)
        return heard

    def __str__(self) -> str:
        return f"GOAWAY {self.goaway}, RST_STREAM {self.resets}, answered {self.statuses}"


def frames_in(raw: bytes) -> Iterator[bytes]:
    """Cut where frames end; what is none comes last and whole."""
    while raw:
        end = 9 + int.from_bytes(raw[:3], "big") if len(raw) >= 9 else len(raw)
        yield raw[:end]
        raw = raw[end:]


def has_more_than_one(raw: bytes) -> bool:
    """Frames; else it makes no difference whether they come apart."""
    return len(list(frames_in(raw))) > 1


async def say(writer: Writer, raw: bytes, *, apart: bool) -> None:
    """Writes it, at once or frame by frame."""
    for piece in frames_in(raw) if apart else (raw,):
        writer.write(piece)
        if apart:
            await asyncio.sleep(0)  # whoever reads may


@contextlib.asynccontextmanager
async def speaking(port: int, context: ssl.SSLContext, *, bare: bool = False) -> AsyncIterator[tuple[Told, Writer]]:
    """A connection, and that the first that the gateway says are SETTINGS. Ours are acknowledged, unless `bare`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    told = Told(reader)
    try:
        first = await told.read()
        assert first is not None and (first.kind, first.flags) == (SETTINGS, 0), first
        if not bare:
            writer.write(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))
            while first is not None and (first.kind, first.flags) != (SETTINGS, ACK):
                first = await told.read()
        yield told, writer
    finally:
        writer.transport.abort()


async def costs_of(port: int, context: ssl.SSLContext, case: Case, *, apart: bool) -> str:
    """What is wrong with what a case costs; "" if nothing is."""
    expected = case.costs
    async with speaking(port, context, bare=case.bare) as (told, writer):
        await say(writer, case.raw, apart=apart and not case.bare)
        if case.then:
            while 1 not in told.complete and await told.read():
                pass
            await say(writer, case.then, apart=apart)
        if expected.scope == "connection":
            while await told.read():
                pass
            right = told.goaway in expected.codes or (told.goaway is None and SILENT in expected.codes)
        else:
            writer.write(get(stream_id=LAST, path=b"/good"))
            while LAST not in told.complete and await told.read():
                pass
            right = told.statuses.get(LAST) == 200 and told.goaway is None
            if expected.scope == "stream":
                right = right and told.resets.get(expected.stream_id) in expected.codes
            elif expected.scope == "answer":
                right = right and told.statuses.get(1) in expected.codes
            else:
                right = right and not told.resets
        return "" if right else f"{expected.scope} {sorted(expected.codes)}, not {told}"


async def course_of(port: int, context: ssl.SSLContext, dialogue: Dialogue, *, apart: bool) -> str:
    """Where a dialogue goes wrong; "" if it does not."""
    async with speaking(port, context) as (told, writer):
        for turn in dialogue.turns:
            if isinstance(turn, bytes):
                await say(writer, turn, apart=apart)
                continue
            while heard := await told.read():
                if told.goaway is not None or any(told.resets.values()):
                    break
                if (heard.kind, heard.stream_id) == (turn.kind, turn.stream_id) and not turn.flags & ~heard.flags:
                    if turn.size not in (None, len(heard.payload)) or turn.payload not in (None, heard.payload):
                        return f"{heard} instead of {turn}"
                    break
            if heard is None or told.goaway is not None or any(told.resets.values()):
                return "" if dialogue.may_end else f"{told} instead of {turn}"
    return ""


async def app(reader: Reader, writer: Writer) -> None:
    """A service that answers all but `/wait`."""
    with contextlib.suppress(TimeoutError):
        while True:
            head, _ = await read_message(reader)
            if b" /wait " in head:
                await reader.read(-1)
                return
            body = b"" if head.startswith(b"HEAD") else b"0123456789"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + body)


Look = Callable[[int, ssl.SSLContext], Awaitable[str]]


async def failures(looks: dict[str, Look], routes: Sequence[Mapping[str, Any]] | None = None) -> list[str]:
    """Which of them fail. What has not ended in time is tried once more, alone: it may have been the machine."""
    failed: list[str] = []
    late: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)
    async with (
        origin(app) as port,
        secure(make=lambda own: document(own, [upstream(port)], routes)) as (running, ca),
    ):
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["h2"])

        async def check(name: str, when_late: list[str], says: str) -> None:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    if wrong := await looks[name](running.port, context):
                        failed.append(f"{name}: {wrong}")
            except TimeoutError:
                when_late.append(name + says)

        async def in_turn(name: str) -> None:
            async with turn:
                await check(name, late, "")

        await asyncio.gather(*map(in_turn, looks))
        for name in late:
            await check(name, failed, ": silence")
    return failed


def report(what: str, count: int, failed: list[str]) -> None:
    """The score."""
    print(f"\nHTTP/2, {what}: {count - len(failed)} of {count}")  # noqa: T201
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("apart", [False, True])
async def test_violations(apart: bool) -> None:
    cases = [case for case in CASES if not apart or (has_more_than_one(case.raw) and not case.bare)]
    looks: dict[str, Look] = {str(case): partial(costs_of, case=case, apart=apart) for case in cases}
    assert len(looks) == len(cases) and len(CASES) >= FLOOR
    report(f"violations{', frame by frame' if apart else ''}", len(looks), await failures(looks))
    print(f"NOT RUN: {NOT_RUN}")  # noqa: T201


async def test_violations_behind_an_answer() -> None:
    """What a client says wrong while the gateway has answered by itself already, as a cache or a redirect does."""
    routes: list[dict[str, Any]] = [
        {"name": "good", "match": {"path": "/good"}, "upstream": "app"},
        {"name": "wait", "match": {"path": "/wait"}, "upstream": "app"},
        {"name": "own", "redirect_to": "/elsewhere"},
    ]
    cases = [case for case in CASES if has_more_than_one(case.raw) and not case.seen_by_its_end]
    looks: dict[str, Look] = {str(case): partial(costs_of, case=case, apart=True) for case in cases}
    report("violations behind an answer", len(looks), await failures(looks, routes))


@pytest.mark.parametrize("apart", [False, True])
async def test_dialogues(apart: bool) -> None:
    looks: dict[str, Look] = {str(one): partial(course_of, dialogue=one, apart=apart) for one in DIALOGUES}
    assert len(looks) == len(DIALOGUES) >= DIALOGUES_FLOOR
    report(f"dialogues{', frame by frame' if apart else ''}", len(looks), await failures(looks))
