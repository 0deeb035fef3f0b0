"""Malformed requests of HTTP/1.1, each by a real socket to a gateway before a real service: see malformed_http1."""

import asyncio
import re

import pytest
from tests.conformance.malformed_http1 import HARMLESS, REFUSED, Case
from tests.gateway.harness import Reader, Writer, document, origin, serving, upstream

FLOOR = 288
"""Requirements that are kept; less is red."""

AT_ONCE = 32

_HEAD = re.compile(
    rb"(GET|POST|OPTIONS) (/[!-~]*|\*) HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9a-z-]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n)+\r\n"
)
_BODY = re.compile(rb"hello|hellohello|5\r\nhello\r\n0\r\n\r\n|a\r\nhellohello\r\n0\r\n\r\n|")


async def answer_of(port: int, case: Case) -> tuple[int, bool]:
    """The status that a case is answered with (0: none), and whether the connection ended by itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(case.raw)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        status = int(head.split(b" ", 2)[1])
        ended = b"connection: close" in head and await asyncio.wait_for(reader.read(-1), 10) is not None
        return status, ended
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0, True
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(("kind", "cases"), [("refused", REFUSED), ("harmless", HARMLESS)])
async def test_requirements(kind: str, cases: tuple[Case, ...]) -> None:
    assert len({(case.section, case.what) for case in cases}) == len(cases), "each is its own requirement"
    reached: list[bytes] = []

    async def app(reader: Reader, writer: Writer) -> None:
        """Takes all of a request before it answers; what is more than one is seen."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: ([0-9]+)\r\n", head)
            body = await reader.readexactly(int(found[1])) if found else b""
            while b"transfer-encoding: chunked" in head and not body.endswith(b"0\r\n\r\n"):
                body += await reader.readuntil(b"\r\n")
            reached.append(head + body)
            assert _HEAD.fullmatch(head) and _BODY.fullmatch(body) and b"broken" not in head, head + body
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return

    failed: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)
    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:

        async def check(case: Case) -> None:
            async with turn:
                status, ended = await answer_of(running.port, case)
            if status not in case.statuses or (kind == "refused" and not ended):
                failed.append(
                    f"{case.section}: {case.what}: answered with {status}, {'ended' if ended else 'kept open'}"
                )

        await asyncio.gather(*(check(case) for case in cases))
        assert running.gateway.active == 0
    print(f"\nHTTP/1.1, {kind}: {len(cases) - len(failed)} of {len(cases)}")  # noqa: T201 # the score
    assert not failed, "\n".join(failed)
    assert len(reached) == (len(cases) if kind == "harmless" else 0), reached
    if kind == "refused":
        assert len(cases) >= FLOOR
