"""Malformed responses of a service, and what a client of the gateway sees of them: see malformed_responses. Behind each
another client asks, who must hear what was meant for it.
"""

import asyncio
import contextlib
import re

from tests.conformance.malformed_responses import CASES, CUT, REFUSED, TAKEN, Case
from tests.gateway.harness import (
    Reader,
    Writer,
    ask,
    client,
    document,
    get,
    length_of,
    origin,
    read_head,
    serving,
    status,
    upstream,
)

FLOOR = 103
"""Requirements that are kept; less is red."""

AT_ONCE = 8


async def service(reader: Reader, writer: Writer) -> None:
    """Answers `/N` by the case of that number, and `/good` as it should."""
    while True:
        head = await read_head(reader)
        path = head.split(b" ")[1][1:]
        if path == b"good":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
            continue
        case = CASES[int(path)]
        writer.write(case.raw)
        if case.closes:
            return


def whole_body(raw: bytes, case: Case) -> bytes | None:
    """That of a response that has ended with its connection; None if it is not whole."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        body = b""
        while (size := re.match(rb"([0-9a-f]+)\r\n", rest)) and int(size[1], 16):
            end = size.end() + int(size[1], 16)
            body, rest = body + rest[size.end() : end], rest[end + 2 :]
        return body if rest == b"0\r\n\r\n" else None
    if case.method == "HEAD" or status(head) in (204, 304):
        return rest
    return rest if len(rest) == length_of(head) else None


async def wrong_with(port: int, number: int, case: Case) -> str:
    """What a client sees that it should not; "" if it does not."""
    raw = b""
    async with client(port) as (reader, writer):
        writer.write(get(f"/{number}", "Connection: close", method=case.method))
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(10):
                while data := await reader.read(2**16):
                    raw += data
    while raw.startswith(b"HTTP/1.1 1"):  # what comes before the answer
        raw = raw.partition(b"\r\n\r\n")[2]
    code, body = status(raw), whole_body(raw, case)
    right = {
        REFUSED: code == 502 and body is not None and b"poison" not in body,
        CUT: code == 200 and body is None,
        TAKEN: code in (200, 204, 304) and body == case.body,
    }[case.seen]
    return "" if right else f"is not {case.seen}: {raw[:300]!r}"


async def test_requirements() -> None:
    failed: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)
    async with (
        origin(service) as app,
        serving(lambda own: document(own, [upstream(app)], [{"name": "all", "upstream": "app"}])) as running,
    ):

        async def check(number: int, case: Case) -> None:
            async with turn:
                if wrong := await wrong_with(running.port, number, case):
                    failed.append(f"{case} {wrong}")
                head, body = await ask(running.port, get("/good"))
                if (status(head), body) != (200, b"good"):
                    failed.append(f"behind {case}: {head!r} {body!r}")

        await asyncio.gather(*(check(number, case) for number, case in enumerate(CASES)))
    print(f"\nHTTP/1.1, responses: {len(CASES) - len(failed)} of {len(CASES)}")  # noqa: T201 # the score
    assert not failed, "\n".join(failed)
    assert len({str(case) for case in CASES}) == len(CASES) >= FLOOR
