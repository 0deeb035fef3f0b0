"""Clients that follow DNS: which of the targets are asked is what they have been told, for as long as it lives.

There is a resolver for each DNS server: it asks that one, the next if it is silent, and keeps the answer for its time
to live. An address is asked for as long as any of them keeps it, as among clients whose answers are of different ages.
"""

import asyncio
from collections.abc import Callable, Sequence

from chaosmeridian.dns_watch import addresses_in, query

ASK_EVERY_SECONDS = 0.25  # at the most often, if nobody answers or an answer lives shorter


async def follow(name: str, servers: Sequence[str], answered: Callable[[frozenset[str]], None]) -> None:
    """Calls `answered` with the addresses of `name`, at first when every resolver has an answer, again and again, until
    cancelled. `servers`: host:port each."""
    kept: dict[str, frozenset[str]] = {}

    async def resolve(place: int) -> None:
        in_turn = [*servers[place:], *servers[:place]]
        while True:
            for server in in_turn:
                answer = await query(server, name)
                if answer is not None and (found := addresses_in(answer)):
                    kept[in_turn[0]] = found
                    if len(kept) == len(servers):
                        answered(frozenset().union(*kept.values()))
                    seconds = min(group.ttl for group in answer.answer)
                    break
            else:
                seconds = 0
            await asyncio.sleep(max(seconds, ASK_EVERY_SECONDS))

    async with asyncio.TaskGroup() as tasks:
        for place in range(len(servers)):
            tasks.create_task(resolve(place))
