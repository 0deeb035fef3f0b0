"""What strangers may send: datagrams that are broken by chance, over real sockets and straight into the server.

The seeds are fixed, so a failure repeats. `scripts/prove` multiplies the numbers (tests/scale.py): a million datagrams.
"""

import random
import socket
import struct

import dns.edns
import dns.exception
import dns.message
import dns.rcode
import pytest
from tests.dns.running import running
from tests.dns.world import make_view, make_zones
from tests.mutating import mutated
from tests.scale import TIMES
from tests.support import resident_bytes

from meridian_dns.server import DnsServer

MEMBERS = ["192.0.2.11", "192.0.2.12", "192.0.2.21", "192.0.2.31"]  # of all regions, as 203.0.113.0/24 gets them
RCODES_OF_WRONG_QUERIES = {"FORMERR", "NOTIMP", "REFUSED", "BADVERS"}
GROWTH_BYTES_MAX = 8 << 20  # of the whole test process, for any number of datagrams: tables fill up and stay

OPTIONS_READ = {dns.edns.NSID, dns.edns.ECS, dns.edns.COOKIE, 11}  # 11: keepalive

SUBNET, ZONE = dns.edns.ECSOption("203.0.113.0", 24), "gw.example.com"
NONE: list[dns.edns.Option] = []
SEEDS = [
    dns.message.make_query(
        f"{owner}.{ZONE}", type_, use_edns=edns, options=options, payload=payload, id=payload
    ).to_wire()
    for owner in ("shop", "www", "fixed", "missing", "any.wild", "host.sub", "big", "svc", "sticky")
    for type_ in ("A", "AAAA", "TXT", "ANY")
    for edns, options, payload in ((-1, NONE, 512), (0, [*NONE, SUBNET], 1232), (0, NONE, 4096))
]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_fuzzed_datagrams_never_hurt_and_valid_ones_between_them_are_answered(loop: str) -> None:
    """25,000 on each loop."""
    chance = random.Random(2026)
    valid = dns.message.make_query(f"shop.{ZONE}", "A", options=[SUBNET])
    server = DnsServer(make_zones(), make_view(), None, draw=lambda: 0)
    rounds, batch, read, before = 250 * TIMES, 100, 0, 0
    with (
        running(server, loop=loop) as here,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fuzzer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        fuzzer.setblocking(False)
        client.settimeout(5)
        for turn in range(rounds):
            for _ in range(batch):
                fuzzer.sendto(mutated(chance, SEEDS), (here.host, here.port))
            client.sendto(struct.pack("!H", turn % 65536) + valid.to_wire()[2:], (here.host, here.port))
            wire = client.recv(4096)
            assert struct.unpack_from("!H", wire)[0] == turn % 65536
            answer = dns.message.from_wire(wire).answer[0]
            assert [record.address for record in answer.to_rdataset()] == MEMBERS
            read += _check_replies(fuzzer, sample=turn % 5 == 0)
            if turn == 50:
                before = resident_bytes()
        assert server.counters.errors == 0
        assert sum(server.counters.answers.values()) + server.counters.dropped == rounds * (batch + 1)
        assert read > rounds * batch / 4, "most mutated queries can still be answered somehow"
    assert resident_bytes() - before < GROWTH_BYTES_MAX


def _check_replies(fuzzer: socket.socket, *, sample: bool) -> int:
    """Reads what came back: each is a response, and short enough; of a sample dnspython reads every byte."""
    count = 0
    while True:
        try:
            wire = fuzzer.recv(4096)
        except BlockingIOError:
            return count
        count += 1
        assert wire[2] & 0x80
        assert len(wire) <= 1232
        if sample and not (reply := dns.message.from_wire(wire)).question:
            assert dns.rcode.to_text(reply.rcode()) in RCODES_OF_WRONG_QUERIES


def test_what_dnspython_cannot_read_is_told_so_or_not_answered() -> None:
    """10,000; dnspython reads every answer and is the judge, but for records beside the one OPT, and options that mean
    nothing in a query: these are nobody's business, so they are passed over unread."""
    chance = random.Random(9619)
    server = DnsServer(make_zones(), make_view(), None)
    wrong = silent = 0
    for _ in range(10_000 * TIMES):
        data = mutated(chance, SEEDS)
        wire = server.respond(data, "192.0.2.1")
        if wire is None:
            silent += 1
            assert len(data) < 12 or data[2] & 0x80, "only what is no query at all is left without an answer"
            continue
        reply = dns.message.from_wire(wire)
        assert reply.id == struct.unpack_from("!H", data)[0]
        if dns.rcode.to_text(reply.rcode()) in RCODES_OF_WRONG_QUERIES:
            wrong += 1
            continue
        try:
            dns.message.from_wire(data)
        except dns.exception.DNSException as error:
            (question,) = reply.question
            end = 12 + len(question.name.to_wire() or b"") + 4
            is_opt = data[6:12] == b"\0\0\0\0\0\1" and data[end : end + 3] == b"\0\0\x29"
            option = int.from_bytes(data[end + 11 : end + 13], "big")
            assert not is_opt or option not in OPTIONS_READ, (data, error)
    assert server.counters.errors == 0
    assert wrong > 10_000 * TIMES / 3 and silent > 0
