"""A client of one node that asks at a fixed rate whatever comes back (open loop), and the upstream behind that node.

Prints one JSON list: [sent, received, status] of each request, in seconds of CLOCK_BOOTTIME; status 0: no answer. Run
as a process beside each node, in that node's network namespace.
"""

import asyncio
import contextlib
import json
import sys
import time

CONNECTIONS_MAX = 64
ANSWER_SECONDS = 2.0
REQUEST = b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n"


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Client:
    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.rows: list[tuple[float, float, int]] = []

    async def ask(self) -> None:
        sent, status = now(), 0
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(ANSWER_SECONDS):
                pair = self.idle.pop() if self.idle else await asyncio.open_connection(self.host, self.port)
                sent = now()  # not the connecting: the request cannot have been admitted before
                pair[1].write(REQUEST)
                status = await self._answer(pair[0])
                if len(self.idle) < CONNECTIONS_MAX:
                    self.idle.append(pair)
                else:
                    pair[1].close()
        self.rows.append((sent, now(), status))

    async def _answer(self, reader: asyncio.StreamReader) -> int:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        return int(head.split(b" ", 2)[1])


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The upstream."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):  # the process ends
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


async def main(host: str, port: int, upstream_port: int, begin: float, *phases: str) -> None:
    """`phases`: each as SECONDS:RATE, one after the other from `begin` on."""
    server = await asyncio.start_server(answer, "127.0.0.1", upstream_port) if upstream_port else None
    client = Client(host, port)
    async with asyncio.TaskGroup() as tasks:
        for phase in phases:
            seconds, rate = map(float, phase.split(":"))
            for number in range(int(seconds * rate)):
                if (wait := begin + number / rate - now()) > 0:
                    await asyncio.sleep(wait)
                tasks.create_task(client.ask())
            begin += seconds
    sys.stdout.write(json.dumps(client.rows))
    sys.stdout.flush()
    if server is not None:
        await asyncio.sleep(5.0)  # others that come by this upstream may not be done
        server.close()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(main(arguments[0], int(arguments[1]), int(arguments[2]), float(arguments[3]), *arguments[4:]))
