"""A client that behaves, and its service, in a process of their own, so that what they wait for is the gateway:

    python -m tests.hardening.bystander

says the port of its service, is told PORT and CA_FILE of the gateway, and from then on asks over and over. It says
when it has been answered once. For each further line it says how many seconds each answer has taken since the last one.
"""

import asyncio
import json
import ssl
import sys
import time

import uvloop
from tests.gateway.harness import Reader, Writer, get, hello, origin, read_message, status
from tests.support import wait_until

EVERY_SECONDS = 0.02


async def ask(port: int, ca: str, seconds: list[float]) -> None:
    """Asks, on one connection while it is kept and on the next one then."""
    context = ssl.create_default_context(cafile=ca)
    connection: tuple[Reader, Writer] | None = None
    while True:
        began = time.perf_counter()
        while True:
            try:
                reader, writer = connection or await asyncio.open_connection("127.0.0.1", port, ssl=context)
                writer.write(get("/fine"))
                head, _ = await read_message(reader)
                break
            except (ConnectionError, asyncio.IncompleteReadError):  # this process did not get its turn in time
                connection = None
        assert status(head) == 200, head
        seconds.append(time.perf_counter() - began)
        kept = b"connection: close" not in head
        connection = (reader, writer) if kept else None
        if not kept:
            writer.close()
        await asyncio.sleep(EVERY_SECONDS)


async def main() -> None:
    """Asks until its stdin ends."""
    async with origin(hello) as fine:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        sys.stdout.write(f"{fine}\n")
        sys.stdout.flush()
        port, ca = (await reader.readline()).decode().split()
        seconds: list[float] = []
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(ask(int(port), ca, seconds))
            await wait_until(lambda: seconds, within_seconds=10, what="the first answer")
            sys.stdout.write("it is answered\n")
            sys.stdout.flush()
            while await reader.readline():
                sys.stdout.write(json.dumps(seconds) + "\n")
                sys.stdout.flush()
                seconds.clear()
            asking.cancel()


if __name__ == "__main__":
    uvloop.run(main())
