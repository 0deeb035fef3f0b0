"""What an attack is, and the raw connections that they are made of."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass

from tests.conformance.violations_http2 import ACK, GOAWAY, PREFACE, RST_STREAM, SETTINGS, frame
from tests.gateway.harness import Reader, Writer
from tests.support import wait_until

SMALL_BUFFER_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Victim:
    """Where it serves, and how long an attack on it goes on that nobody stops."""

    port: int
    ca: str
    lasts_seconds: float

    @classmethod
    def of(cls, said: str, lasts_seconds: float) -> "Victim":
        """From what it says when it begins."""
        port, ca = said.split()
        return cls(int(port), ca, lasts_seconds)

    def context(self, *alpn: str) -> ssl.SSLContext:
        """Of a client."""
        context = ssl.create_default_context(cafile=self.ca)
        context.set_alpn_protocols(list(alpn))
        return context


@dataclass(frozen=True, slots=True)
class Attack:
    """`run` returns how it was cut off, "" if it was not. `guard` is the word of the document that does it, "" if it
    cannot be turned off; `why` is what is counted or logged, "" where it is an answer alone."""

    name: str
    guard: str
    why: str
    run: Callable[[Victim], Awaitable[str]]


async def while_acting(act: Coroutine[None, None, None], hearing: Coroutine[None, None, str]) -> str:
    """What is heard while an attack acts, which is no more than its connection is."""

    async def acting() -> None:
        # The last two are aioquic's, of a stream or a connection that is over.
        with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError, AssertionError, ValueError):
            await act

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(acting())
        heard = await hearing
        task.cancel()
    return heard


async def happens(victim: Victim, condition: Callable[[], object]) -> bool:
    """Whether it does while an attack lasts."""
    try:
        await wait_until(condition, within_seconds=victim.lasts_seconds, what="")
    except AssertionError:
        return False
    return True


class Line:
    """A connection by TLS that says what it is told to."""

    def __init__(self, victim: Victim, reader: Reader, writer: Writer) -> None:
        self.reader, self.writer = reader, writer
        self.loop = asyncio.get_running_loop()
        self.until = self.loop.time() + victim.lasts_seconds

    @property
    def lasts(self) -> bool:
        """Whether the attack may go on."""
        return self.loop.time() < self.until

    async def say(self, data: bytes) -> None:
        """Sends, and waits while too much is on its way; raises ConnectionError or TimeoutError."""
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), max(0.01, self.until - self.loop.time()))

    async def repeat(self, data: bytes, every_seconds: float = 0.05) -> None:
        """Says it over and over. Raises as `say` does."""
        while self.lasts:
            await self.say(data)
            await asyncio.sleep(every_seconds)

    async def drip(self, data: bytes, every_seconds: float = 0.05) -> None:
        """Says it byte by byte, over and over, until it is cut off or the time is over. Raises ConnectionError."""
        while self.lasts:
            for at in range(len(data)):
                if not self.lasts or self.reader.at_eof():
                    return
                await self.say(data[at : at + 1])
                await asyncio.sleep(every_seconds)

    async def answer(self) -> str:
        """The status line of what comes; `ended` if the connection does; "" while it is only silent."""
        try:
            async with asyncio.timeout(max(0.05, self.until - self.loop.time())):
                head = await self.reader.readuntil(b"\r\n")
        except TimeoutError:
            return ""
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            return "ended"
        return head.decode().strip()

    async def ended(self) -> str:
        """Reads until the connection has ended; "" if it does not."""
        try:
            async with asyncio.timeout(max(0.05, self.until - self.loop.time())):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return ""
        except (ConnectionError, ssl.SSLError):
            pass
        return "ended"

    async def is_over(self) -> str:
        """`ended` if the connection has, behind what waits to be read."""
        try:
            await asyncio.wait_for(self.reader.read(-1), 0.05)
        except TimeoutError:
            return ""
        except (ConnectionError, ssl.SSLError):
            pass
        return "ended"

    async def told(self, stream_id: int | None = None) -> str:
        """GOAWAY or the end of an HTTP/2 connection, or RST_STREAM of a stream; "" if neither comes."""
        try:
            async with asyncio.timeout(max(0.05, self.until - self.loop.time())):
                while True:
                    head = await self.reader.readexactly(9)
                    payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
                    if head[3] == GOAWAY:
                        return f"GOAWAY {int.from_bytes(payload[4:8], 'big')}"
                    if head[3] == RST_STREAM and int.from_bytes(head[5:9], "big") == stream_id:
                        return f"RST_STREAM {int.from_bytes(payload, 'big')}"
        except TimeoutError:
            return ""
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            return "ended"


@contextlib.asynccontextmanager
async def line(victim: Victim, alpn: str = "http/1.1", source: str = "127.0.0.1") -> AsyncIterator[Line]:
    """Connects with little room for what is not read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    sock.setblocking(False)
    sock.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", victim.port))
    reader, writer = await asyncio.open_connection(
        sock=sock, ssl=victim.context(alpn), server_hostname="localhost", limit=SMALL_BUFFER_BYTES
    )
    try:
        yield Line(victim, reader, writer)
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def h2_line(victim: Victim, settings: bytes = b"", source: str = "127.0.0.1") -> AsyncIterator[Line]:
    """A connection that has said the preface of HTTP/2, and these settings."""
    async with line(victim, "h2", source) as found:
        found.writer.write(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK, 0))
        yield found
