"""Clients that follow DNS: which of the targets are asked is what the first DNS server that answers says."""

import asyncio
from collections.abc import Callable, Sequence

from chaosmeridian.dns_watch import ask

ASK_EVERY_SECONDS = 0.25  # a client with no cache of its own; the time to live is for those who have one


async def follow(name: str, servers: Sequence[str], answered: Callable[[frozenset[str]], None]) -> None:
    """Calls `answered` with the addresses of `name`, again and again, until cancelled. `servers`: host:port each."""
    while True:
        for server in servers:
            if found := await ask(server, name):
                answered(found)
                break
        await asyncio.sleep(ASK_EVERY_SECONDS)
