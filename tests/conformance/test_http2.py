"""What a client of HTTP/2 may not do, each over TLS to a real gateway before a real service: see violations_http2."""

import asyncio
import contextlib
import ssl

from hpack import Decoder
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
from tests.gateway.harness import Reader, Writer, origin, read_message, secure

FLOOR = 240
"""Requirements that are kept; less is red."""

AT_ONCE = 8
LAST = 999
"""The stream of a good request afterwards."""


class Told:
    """What the gateway has said on one connection."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._decoder = Decoder()
        self.statuses: dict[int, int] = {}
        self.resets: dict[int, int] = {}
        self.complete: set[int] = set()
        self.goaway: int | None = None
        self.ended = False

    async def read(self) -> bool:
        """One frame; False at the end of the connection."""
        try:
            start = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(start[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            self.ended = True
            return False
        kind, flags, stream_id = start[3], start[4], int.from_bytes(start[5:], "big")
        if kind == HEADERS:
            fields = dict(self._decoder.decode(payload, raw=True))
            self.statuses[stream_id] = int(fields.get(b":status", b"0"))
        elif kind == RST_STREAM:
            self.resets.setdefault(stream_id, int.from_bytes(payload, "big"))  # more may follow, to what was under way
        elif kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        if kind <= HEADERS and flags & END_STREAM:
            self.complete.add(stream_id)
        return True


async def costs_of(port: int, context: ssl.SSLContext, case: Case) -> str:
    """What is wrong with what a case costs; "" if nothing is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    told, expected = Told(reader), case.costs
    try:
        writer.write(case.raw if case.bare else PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0) + case.raw)
        if case.then:
            while 1 not in told.complete and await told.read():
                pass
            writer.write(case.then)
        if expected.scope == "connection":
            while await told.read():
                pass
            right = told.goaway in expected.codes or (told.goaway is None and SILENT in expected.codes)
        else:
            writer.write(get(stream_id=LAST))
            while LAST not in told.complete and await told.read():
                pass
            right = told.statuses.get(LAST) == 200 and told.goaway is None
            if expected.scope == "stream":
                right = right and told.resets.get(expected.stream_id) in expected.codes
            elif expected.scope == "answer":
                right = right and told.statuses.get(1) in expected.codes
            else:
                right = right and not told.resets
        return "" if right else f"GOAWAY {told.goaway}, RST_STREAM {told.resets}, answered {told.statuses}"
    finally:
        writer.transport.abort()


async def test_requirements() -> None:
    assert len({(case.section, case.what) for case in CASES}) == len(CASES) >= FLOOR
    reached = 0

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal reached
        with contextlib.suppress(TimeoutError):
            while True:
                head, _ = await read_message(reader)
                reached += 1
                if b" /wait " in head:
                    await reader.read(-1)
                    return
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    failed: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)
    async with origin(app) as port, secure(port) as (running, ca):
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["h2"])

        async def check(case: Case) -> None:
            async with turn:
                try:
                    async with asyncio.timeout(60):
                        wrong = await costs_of(running.port, context, case)
                except TimeoutError:
                    wrong = "no end"
            if wrong:
                failed.append(
                    f"{case.section}: {case.what}: {case.costs.scope} {sorted(case.costs.codes)}, not {wrong}"
                )

        await asyncio.gather(*(check(case) for case in CASES))
    print(f"\nHTTP/2: {len(CASES) - len(failed)} of {len(CASES)}")  # noqa: T201 # the score
    assert not failed, "\n".join(failed)
