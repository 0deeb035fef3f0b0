"""Clients as they are: they ask DNS, keep an answer for its TTL, and open a connection to an address of it.

Prints JSON at the end (SIGTERM): how many asked, which addresses answered how often, and what failed. A request is
tried once, so that nothing is hidden.
"""

import asyncio
import collections
import contextlib
import json
import random
import signal
import sys

import dns.asyncquery
import dns.message
import dns.rdatatype

NAME = "shop.gw.example.com."
REQUEST = b"GET /api/products HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n\r\n"
SECONDS_MAX = 300.0


class Clients:
    """`rate` requests a second over h1; `servers` are asked for the name in turn, as resolvers do."""

    def __init__(self, servers: list[str], rate: float) -> None:
        self.servers, self.rate = servers, rate
        self.answers: list[str] = []
        self.until = 0.0
        self.asked = 0
        self.served: collections.Counter[str] = collections.Counter()
        self.failed: list[str] = []

    async def addresses(self, now: float) -> list[str]:
        if now >= self.until:
            host, port = self.servers[self.asked % len(self.servers)].split(":")
            query = dns.message.make_query(NAME, "A")
            answer = await dns.asyncquery.udp(query, host, port=int(port), timeout=2.0)
            sets = [found for found in answer.answer if found.rdtype == dns.rdatatype.A]
            self.answers = [record.to_text() for found in sets for record in found]
            self.until = now + min(found.ttl for found in sets)
        return self.answers

    async def ask(self, now: float) -> None:
        self.asked += 1
        address = "DNS"
        try:
            async with asyncio.timeout(5.0):
                address = random.choice(await self.addresses(now))
                reader, writer = await asyncio.open_connection(address, 8080)
                writer.write(REQUEST)
                status = (await reader.read()).split(b" ", 2)[1]
                writer.close()
            if status != b"200":
                raise OSError(f"status {status.decode()}")
            self.served[address] += 1
        except (OSError, ValueError, LookupError, TimeoutError) as error:
            self.failed.append(f"{address}: {error!r}")

    async def run(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS_MAX
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set() and loop.time() < end:
                tasks.create_task(self.ask(loop.time()))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 1.0 / self.rate)


async def main(rate: float, *servers: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    clients = Clients(list(servers), rate)
    await clients.run(stop)
    sys.stdout.write(json.dumps({"asked": clients.asked, "served": clients.served, "failed": clients.failed}))


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), *sys.argv[2:]))
