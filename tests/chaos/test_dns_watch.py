"""What is seen of a DNS server: its addresses, nothing when it is silent or wrong, and only what changed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import dns.message
import dns.rcode
import dns.rrset
from tests.support import free_port

from chaosmeridian.dns_watch import ask, watch

NAME = "shop.gw.example.com"


class Server(asyncio.DatagramProtocol):
    """Answers with the next of `answers`, the last for ever: addresses, a response code, or nothing."""

    def __init__(self, *answers: list[str] | dns.rcode.Rcode | None) -> None:
        self._answers = list(answers)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            return
        response = dns.message.make_response(question)
        if isinstance(answer, dns.rcode.Rcode):
            response.set_rcode(answer)
        elif answer:
            response.answer = [
                dns.rrset.from_text(f"{NAME}.", 5, "IN", "CNAME", "other.example."),
                dns.rrset.from_text("other.example.", 5, "IN", "A", *answer),
            ]
        self._transport.sendto(response.to_wire(), peer)


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", 0))
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


async def test_asks_one_server() -> None:
    async with serving(Server(["192.0.2.1", "192.0.2.2"])) as place:
        assert await ask(place, NAME) == frozenset({"192.0.2.1", "192.0.2.2"})
    async with serving(Server([])) as place:
        assert await ask(place, NAME) == frozenset()
    async with serving(Server(dns.rcode.SERVFAIL)) as place:
        assert await ask(place, NAME) is None
    async with serving(Server(None)) as place:
        assert await ask(place, NAME, timeout_seconds=0.1) is None
    assert await ask(f"127.0.0.1:{free_port()}", NAME) is None


async def test_keeps_changes_only_and_ends_when_all_is_back() -> None:
    all_of_it, rest = ["192.0.2.1", "192.0.2.2"], ["192.0.2.1"]
    moving = Server(all_of_it, all_of_it, rest, rest, rest, all_of_it)
    steady = Server(all_of_it)
    async with serving(moving) as one, serving(steady) as two:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        changes = await asyncio.to_thread(
            watch, {"one": one, "two": two}, NAME, frozenset({"192.0.2.2"}), frozenset(rest), 30.0
        )
        assert loop.time() - begin < 10
    assert [answer for _, answer in changes["one"]] == [frozenset(each) for each in (all_of_it, rest, all_of_it)]
    assert [answer for _, answer in changes["two"]] == [frozenset(all_of_it)]
    times = [at for at, _ in changes["one"]]
    assert begin < times[0] < times[1] < times[2]
