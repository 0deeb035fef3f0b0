"""Attacks by HTTP/1.1, WebSocket and TLS."""

import asyncio
import contextlib
import ssl

from tests.gateway.harness import get
from tests.hardening.attack import Attack, Line, Victim, line


async def _say_and_hear(victim: Victim, *pieces: bytes) -> str:
    async with line(victim) as talk:
        with contextlib.suppress(ConnectionError, TimeoutError):
            for piece in pieces:
                await talk.say(piece)
        return await talk.answer()


async def slow_head(victim: Victim) -> str:
    """Slowloris: a head that never ends."""
    async with line(victim) as talk:
        with contextlib.suppress(ConnectionError):
            await talk.say(b"GET / HTTP/1.1\r\nHost: a\r\n")
            await talk.drip(b"X-a: b\r\n")
        return await talk.answer()


async def slow_body(victim: Victim) -> str:
    """R.U.D.Y.: a body that comes a byte at a time."""
    async with line(victim) as talk:
        with contextlib.suppress(ConnectionError):
            await talk.say(get("/take", "Content-Length: 100000", method="POST"))
            await talk.drip(b"x")
        return await talk.answer()


async def slow_chunks(victim: Victim) -> str:
    """Many bytes, few of them of the body."""
    async with line(victim) as talk:
        with contextlib.suppress(ConnectionError):
            await talk.say(get("/take", "Transfer-Encoding: chunked", method="POST"))
            while talk.lasts and not talk.reader.at_eof():
                await talk.say(b"1\r\nx\r\n")
                await asyncio.sleep(0.05)
        return await talk.answer()


async def chunk_extensions(victim: Victim) -> str:
    """CVE-2023-39326: 250 bytes for each of the body."""
    chunk = b"1;" + b"e" * 250 + b"\r\nx\r\n"
    return await _say_and_hear(victim, get("/take", "Transfer-Encoding: chunked", method="POST"), chunk * 200)


async def endless_trailers(victim: Victim) -> str:
    """As many as the body has bytes."""
    trailers = b"".join(b"X-%d: a\r\n" % number for number in range(400))
    return await _say_and_hear(
        victim, get("/take", "Transfer-Encoding: chunked", method="POST"), b"0\r\n", trailers
    )  # fmt: skip


async def slow_read(victim: Victim) -> str:
    """Asks for much and takes it by the byte."""
    async with line(victim) as talk:
        await talk.say(get("/big"))
        return await _take_slowly(talk)


async def _take_slowly(talk: Line) -> str:
    try:
        while talk.lasts:
            if not await asyncio.wait_for(talk.reader.read(10), 1):
                return "ended"
            await asyncio.sleep(0.1)
            if talk.writer.is_closing():
                return "ended"
    except (ConnectionError, TimeoutError, ssl.SSLError):
        return "ended"
    return await talk.is_over()


async def pipeline_unread(victim: Victim) -> str:
    """Asks over and over and reads nothing."""
    async with line(victim) as talk:
        try:
            while talk.lasts:
                await talk.say(get("/take") * 100)
                await asyncio.sleep(0.01)
        except (ConnectionError, ssl.SSLError):
            return "ended"
        except TimeoutError:
            return ""
        return ""


async def head_bytes(victim: Victim) -> str:
    """A head of 100 KiB."""
    return await _say_and_hear(
        victim, b"GET / HTTP/1.1\r\nHost: a\r\n", *[b"X: " + b"a" * 8192 + b"\r\n"] * 12, b"\r\n"
    )


async def head_fields(victim: Victim) -> str:
    """150 fields."""
    return await _say_and_hear(victim, get("/take", *[f"X-{number}: a" for number in range(150)]))


async def long_target(victim: Victim) -> str:
    """20 KiB of path."""
    return await _say_and_hear(victim, get("/take" + "a" * 20_000))


async def large_body(victim: Victim) -> str:
    """A body that says no length and does not end."""
    async with line(victim) as talk:
        with contextlib.suppress(ConnectionError, TimeoutError):
            await talk.say(get("/take", "Transfer-Encoding: chunked", method="POST"))
            for _ in range(24):
                await talk.say(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await talk.say(b"0\r\n\r\n")
        return await talk.answer()


async def many_connections(victim: Victim) -> str:
    """More than one client may have."""
    async with contextlib.AsyncExitStack() as several:
        entering = (several.enter_async_context(line(victim, source="127.0.0.9")) for _ in range(30))
        talks = await asyncio.gather(*entering)
        for talk in talks:
            talk.writer.write(get("/.meridian/health"))
        answers = await asyncio.gather(*(talk.answer() for talk in talks))
        return next((answer for answer in answers if " 503 " in answer), "")


async def many_requests(victim: Victim) -> str:
    """More than a connection may have."""
    async with line(victim) as talk:
        for _ in range(250):
            await talk.say(get("/.meridian/health"))
            head = await talk.reader.readuntil(b"\r\n\r\n")
            await talk.reader.readuntil(b"}")
            if b"connection: close" in head:
                return "connection: close"
        return ""


async def idle(victim: Victim) -> str:
    """Asks once and keeps the connection."""
    async with line(victim) as talk:
        await talk.say(get("/.meridian/health"))
        return await talk.ended()


async def unread_websocket(victim: Victim) -> str:
    """A WebSocket that does not read what it is sent."""
    upgrade = ("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    async with line(victim) as talk:
        await talk.say(get("/talk", *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
        return await _take_slowly(talk)


async def stalled_handshake(victim: Victim) -> str:
    """Connects and says half a hello."""
    reader, writer = await asyncio.open_connection("127.0.0.1", victim.port)
    talk = Line(victim, reader, writer)
    try:
        writer.write(bytes.fromhex("16030100ff010000fb0303"))
        return await talk.ended()
    finally:
        writer.transport.abort()


async def renegotiation(victim: Victim) -> str:
    """Asks for a new handshake within TLS 1.2 (CVE-2011-1473)."""
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"127.0.0.1:{victim.port}", "-tls1_2", "-alpn", "http/1.1",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    said = b""
    while b"Verify return code" not in said:
        said = await asyncio.wait_for(process.stdout.readline(), 15)
    process.stdin.write(b"R\n")
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 15)
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return "no renegotiation" if b"no renegotiation" in out.lower() else ""


ATTACKS = (
    Attack("slow head", "header_seconds", "slow_header", slow_head),
    Attack("slow body", "bytes_per_second_min", "body_timeout", slow_body),
    Attack("slow chunks", "bytes_per_second_min", "body_timeout", slow_chunks),
    Attack("chunk extensions", "", "malformed", chunk_extensions),
    Attack("endless trailers", "header_fields_max", "malformed", endless_trailers),
    Attack("slow read", "bytes_per_second_min", "slow_read", slow_read),
    Attack("pipeline, unread", "bytes_per_second_min", "slow_read", pipeline_unread),
    Attack("head of 100 KiB", "header_bytes_max", "header", head_bytes),
    Attack("150 fields", "header_fields_max", "header", head_fields),
    Attack("target of 20 KiB", "uri_bytes_max", "uri_bytes", long_target),
    Attack("endless body", "body_bytes_max", "body_bytes", large_body),
    Attack("connections of one client", "connections_per_client_max", "connections", many_connections),
    Attack("requests of one connection", "requests_per_connection_max", "", many_requests),
    Attack("idle", "idle_seconds", "", idle),
    Attack("WebSocket, unread", "bytes_per_second_min", "slow_read", unread_websocket),
    Attack("TLS: half a hello", "header_seconds", "", stalled_handshake),
    Attack("TLS: renegotiation", "", "", renegotiation),
)
