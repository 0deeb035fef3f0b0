"""What DNS servers answer, over time: every server is asked over UDP by itself, many times a second.

A server that does not answer is seen as None, an empty answer as an empty set; only changes are kept.
"""

import asyncio
from collections.abc import Mapping

import dns.asyncquery
import dns.exception
import dns.message
import dns.rdatatype

Answer = frozenset[str] | None
Changes = list[tuple[float, Answer]]  # CLOCK_MONOTONIC seconds, and what is answered from then on

ASK_EVERY_SECONDS = 0.05
ASK_TIMEOUT_SECONDS = 0.5
CHANGES_MAX = 10_000  # of one server; one that changes at every question for minutes is broken enough


async def query(server: str, name: str, timeout_seconds: float = ASK_TIMEOUT_SECONDS) -> dns.message.Message | None:
    """What `server` (host:port) answers for `name`, type A; None if it does not answer rightly."""
    host, _, port = server.rpartition(":")
    question = dns.message.make_query(name, dns.rdatatype.A)
    try:
        # Not by the library's own timeout: it is wait_for, which loses a cancellation that comes with the answer.
        async with asyncio.timeout(timeout_seconds):
            answer = await dns.asyncquery.udp(question, host.strip("[]"), port=int(port))
    except (dns.exception.DNSException, OSError):  # TimeoutError is one
        return None
    return answer if answer.rcode() == 0 else None


def addresses_in(answer: dns.message.Message) -> frozenset[str]:
    """Its A records."""
    return frozenset(
        str(record.address) for group in answer.answer if group.rdtype == dns.rdatatype.A for record in group
    )


async def ask(server: str, name: str, timeout_seconds: float = ASK_TIMEOUT_SECONDS) -> Answer:
    """The addresses that `server` (host:port) answers for `name`, A records; None if it does not answer rightly."""
    answer = await query(server, name, timeout_seconds)
    return addresses_in(answer) if answer is not None else None


def ask_once(servers: Mapping[str, str], name: str) -> dict[str, Answer]:
    """One answer of each server (name: host:port)."""

    async def ask_all() -> dict[str, Answer]:
        answers = await asyncio.gather(*(ask(place, name) for place in servers.values()))
        return dict(zip(servers, answers, strict=True))

    return asyncio.run(ask_all())


def watch(
    servers: Mapping[str, str], name: str, addresses: frozenset[str], others: frozenset[str], seconds: float
) -> dict[str, Changes]:
    """Asks all servers until `addresses` left one's answer and are back, with `others`, in everyone's; at most
    `seconds`. Blocks. Returns each server's changes; the first one is its first answer."""
    return asyncio.run(_watch(servers, name, addresses, others, seconds))


async def _watch(
    servers: Mapping[str, str], name: str, addresses: frozenset[str], others: frozenset[str], seconds: float
) -> dict[str, Changes]:
    loop = asyncio.get_running_loop()
    changes: dict[str, Changes] = {server: [] for server in servers}

    def over() -> bool:
        left = any(answer and not answer & addresses for seen in changes.values() for _, answer in seen)
        back = all(seen and seen[-1][1] is not None and seen[-1][1] >= addresses | others for seen in changes.values())
        return left and back

    async def watch_one(place: str, seen: Changes) -> None:
        while len(seen) < CHANGES_MAX:
            begin = loop.time()
            answer = await ask(place, name)
            if not seen or seen[-1][1] != answer:
                seen.append((loop.time(), answer))
                if over():
                    done.set()
            await asyncio.sleep(max(0.0, begin + ASK_EVERY_SECONDS - loop.time()))

    done = asyncio.Event()
    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
            watchers = [tasks.create_task(watch_one(place, changes[server])) for server, place in servers.items()]
            await done.wait()
            for watcher in watchers:
                watcher.cancel()
    except TimeoutError:
        pass
    return changes
