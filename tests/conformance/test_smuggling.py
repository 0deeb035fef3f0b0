"""What hides a second request never shows it to a service, over HTTP/1.1 and HTTP/2: see smuggling. Where the one right
reading of the bytes are two requests, the gateway must have taken them for two itself."""

import asyncio
import re
import ssl
from functools import partial

from tests.conformance import smuggling
from tests.conformance.violations_http2 import ACK, PREFACE, SETTINGS, frame
from tests.conformance.violations_http2 import get as h2_get
from tests.gateway.harness import Reader, Writer, get, length_of, origin, read_chunked, read_head, secure

FLOOR = 250
"""Requests that are tried; less is red."""

AT_ONCE = 16
_FRAMED = re.compile(rb"^(?:transfer-encoding: chunked|content-length: [0-9]+)\r?$")


def framings(head: bytes) -> list[bytes]:
    """Lines that any service might take for framing."""
    return [
        line for line in re.split(rb"[\r\n]+", head.lower()) if re.search(rb"transfer.encoding|content.length", line)
    ]


async def service(reached: list[bytes], reader: Reader, writer: Writer) -> None:
    """Reads as strictly as the gateway has to write."""
    while True:
        head = await read_head(reader)
        reached.append(head.split(b" ")[1])
        assert len(framings(head)) <= 1 and all(_FRAMED.match(line) for line in framings(head)), head
        assert b"\n" not in head.replace(b"\r\n", b""), head
        if b"transfer-encoding" in head:
            await read_chunked(reader)
        else:
            await reader.readexactly(length_of(head))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def try_out(port: int, ca: str, alpn: str, raw: bytes) -> None:
    """Says it, and a good request behind it, and hears until the end or silence."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols([alpn])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    try:
        writer.write(raw)
        async with asyncio.timeout(0.5):
            while await reader.read(65536):
                pass
    except (TimeoutError, ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.transport.abort()


async def test_no_hidden_request_reaches_a_service() -> None:
    greeting = PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0)
    h1, h2 = list(smuggling.http1()), list(smuggling.http2())
    assert len({name for name, _ in (*h1, *h2)}) == len(h1) + len(h2) >= FLOOR
    turn, reached = asyncio.Semaphore(AT_ONCE), list[bytes]()
    async with origin(partial(service, reached)) as port, secure(port) as (running, ca):

        async def one(alpn: str, raw: bytes) -> None:
            async with turn:
                await try_out(running.port, ca, alpn, raw)

        await asyncio.gather(
            *(one("http/1.1", raw + get("/after")) for _, raw in h1),
            *(one("h2", greeting + raw + h2_get(path=b"/after", stream_id=3)) for _, raw in h2),
        )
        told_apart = sum(seen.target == b"/smuggled" for seen in running.seen.outcomes)
        after = sum(seen.target == b"/after" and seen.status == 200 for seen in running.seen.outcomes)
    print(f"\nsmuggling: {len(h1)} by HTTP/1.1 and {len(h2)} by HTTP/2; {after} good ones behind them were answered")  # noqa: T201
    assert after > len(h2) / 2, "most of HTTP/2's cost their stream alone"
    assert reached.count(b"/smuggled") <= told_apart < 10
    assert set(reached) <= {b"/", b"/after", b"/smuggled"}, set(reached)
