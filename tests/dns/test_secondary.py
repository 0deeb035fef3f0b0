"""Transfers on real sockets: a real secondary follows ten changes; dnspython and dig take a zone; nobody else does."""

import asyncio
import random
import re
import socket
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import dns.tsig
import dns.zone
import pytest
from tests.dns.running import Running, running
from tests.dns.secondary import HOST, KEY_NAME, SECRET, Knot, knot, whole
from tests.dns.world import ORIGIN, make_view, make_zone
from tests.support import free_port, wait_until

from meridian_dns.names import name_from_text
from meridian_dns.records import A, RRset
from meridian_dns.server import TRANSFERS_MAX, DnsServer
from meridian_dns.transfer import Copy, History, Offer, Secondary, Transfers, copy_of
from meridian_dns.tsig import Key
from meridian_dns.view import parse_near
from meridian_dns.zone import Zone, ZoneSet
from meridian_dns.zone_building import RecordSpec, build_zone

ADDRESSES = {"eu": ("192.0.2.11",), "us": ("192.0.2.21",), "asia": ("192.0.2.31",), "mars": ("192.0.2.99",)}
ZONE = "moving.example.com"
LOOPBACK = (parse_near("127.0.0.0/8"),)


def zone_at(serial: int) -> Zone:
    """A zone that changes with its serial: most stays, something comes, goes and changes."""
    chance = random.Random(serial)
    specs = [RecordSpec(f"host{i}", "A", 300, f"192.0.2.{i}", None) for i in range(200)]
    specs += [RecordSpec(f"odd{serial}", "TXT", 60, f"since {serial}", None)]
    specs += [RecordSpec("pool", "A", 60 + serial % 2, f"198.51.100.{i}", None) for i in chance.sample(range(99), 9)]
    return build_zone(ZONE, ["ns.example.net"], specs, serial=serial)


def put(here: Running, zone: Zone, *secondaries: Secondary, algorithm: str = "hmac-sha256") -> Copy:
    """Puts a zone in force, as the worker does with each document."""
    made = copy_of(zone, ADDRESSES)
    put_copy(here, zone, made, *secondaries, algorithm=algorithm)
    return made


def put_copy(here: Running, zone: Zone, made: Copy, *secondaries: Secondary, algorithm: str = "hmac-sha256") -> None:
    """Puts a zone in force of which secondaries get `made`."""
    key = Key.from_text(KEY_NAME, algorithm, SECRET)
    before = here.server.transfers.offers.get(zone.origin)
    history = History(made) if before is None else before.history.advanced(made)
    transfers = Transfers({zone.origin: Offer(history, secondaries)}, {key.name: key})
    here.on_loop(lambda: here.server.swap(zones=ZoneSet([zone]), transfers=transfers))


def secondary(*, port: int | None = None, keyed: bool = True) -> Secondary:
    assert not isinstance(LOOPBACK[0], tuple)
    notify = (HOST, port) if port is not None else None
    return Secondary((LOOPBACK[0],), name_from_text(KEY_NAME) if keyed else None, notify)


def rows(zone: dns.zone.Zone) -> set[tuple[bytes, int, int, bytes]]:
    return {
        (name.to_digestable(), int(rdata.rdtype), ttl, rdata.to_digestable())
        for name, ttl, rdata in zone.iterate_rdatas()
    }


def rows_of(copy: Copy) -> set[tuple[bytes, int, int, bytes]]:
    return {
        (one.owner, one.type, one.ttl_seconds, rdata) for one in (copy.soa, *copy.sets.values()) for rdata in one.rdatas
    }


def wait(condition: Callable[[], object], what: str, within_seconds: float = 10.0) -> None:
    asyncio.run(wait_until(condition, within_seconds=within_seconds, what=what))


def arrived(found: Knot, serial: int) -> bool:
    return found.serial() == serial


@pytest.mark.parametrize("algorithm", ["hmac-sha256", "hmac-sha512"])
def test_a_real_secondary_follows_ten_changes(tmp_path: Path, algorithm: str) -> None:
    """Each within two seconds, by NOTIFY and IXFR under TSIG; its refresh is an hour away."""
    first = 2**32 - 4  # the serial passes the end of its numbers on the way
    port = free_port()
    with running(DnsServer(ZoneSet(), make_view(), None)) as here:
        put(here, zone_at(first), secondary(port=port), algorithm=algorithm)
        with knot(tmp_path, ZONE, here.port, port=port, algorithm=algorithm) as found:
            wait(lambda: found.serial() == first, "the first transfer")
            for step in range(1, 11):
                serial = (first + step) % 2**32
                made = put(here, zone_at(serial), secondary(port=port), algorithm=algorithm)
                wait(partial(arrived, found, serial), f"serial {serial} arrives", within_seconds=2)
                assert rows(found.content()) == rows_of(made), serial
            assert len(re.findall("IXFR, incoming, .*finished", found.log())) == 10, found.log()
            assert len(re.findall("AXFR, incoming, .*finished", found.log())) == 1, found.log()
            wait(lambda: not len(here.server.notifier.notices), "all notices are acknowledged")
        assert here.server.notices_given_up == 0 and here.server.counters.errors == 0


def test_dig_and_dnspython_take_the_whole_zone_with_and_without_a_key() -> None:
    """All that the tests' world has, steered sets included, by other people's parsers."""
    with running(DnsServer(ZoneSet(), make_view(), None)) as here:
        made = put(here, make_zone(), secondary(keyed=False))
        assert rows(whole(ORIGIN, here.port)) == rows_of(made)
        made = put(here, make_zone(), secondary())
        assert rows(whole(ORIGIN, here.port, signed="hmac-sha256")) == rows_of(made)
        command = ["dig", "+noall", "+answer", f"@{HOST}", "-p", str(here.port), ORIGIN, "AXFR",
                   "-y", f"hmac-sha256:{KEY_NAME}:{SECRET.decode()}"]  # fmt: skip
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        assert len([line for line in said.splitlines() if line and line[0] != ";"]) == len(rows_of(made)) + 1
        assert "shop.gw.example.com.\t30\tIN\tA\t192.0.2.21" in said
        assert here.server.counters.transfers == 3


def test_who_has_not_the_key_or_the_address_gets_nothing() -> None:
    with running(DnsServer(ZoneSet(), make_view(), None)) as here:
        put(here, make_zone(), secondary())

        def refused(query: dns.message.Message) -> dns.rcode.Rcode:
            answer = dns.query.tcp(query, HOST, port=here.port, timeout=5)
            assert not answer.answer
            return answer.rcode()

        for type_ in ("AXFR", "IXFR"):
            assert refused(dns.message.make_query(ORIGIN, type_, use_edns=0)) == dns.rcode.REFUSED
        wrong = dns.message.make_query(ORIGIN, "AXFR")
        wrong.use_tsig(dns.tsig.Key(KEY_NAME, b"x" * 32))
        with pytest.raises(dns.tsig.PeerBadSignature):
            refused(wrong)
        unknown = dns.message.make_query(ORIGIN, "AXFR")
        unknown.use_tsig(dns.tsig.Key("other.example", b"x" * 32))
        with pytest.raises(dns.tsig.PeerBadKey):
            refused(unknown)
        put(here, make_zone())
        assert refused(dns.message.make_query(ORIGIN, "AXFR")) == dns.rcode.REFUSED
        assert here.server.counters.transfers == 0 and here.server.counters.transfers_refused == 5


def test_ixfr_over_udp_tells_the_serial_and_sends_to_tcp() -> None:
    with running(DnsServer(ZoneSet(), make_view(), None)) as here:
        made = put(here, zone_at(9), secondary(keyed=False))
        answer = dns.query.udp(dns.message.make_query(ZONE, "IXFR"), HOST, port=here.port, timeout=5)
        assert [rrset.to_rdataset()[0].serial for rrset in answer.answer] == [made.serial]
        put(here, zone_at(10))
        answer = dns.query.udp(dns.message.make_query(ZONE, "IXFR"), HOST, port=here.port, timeout=5)
        assert answer.rcode() == dns.rcode.REFUSED


LARGE = 100_000


SMALL = build_zone("large.example.com", ["ns.example.net"], [RecordSpec("a", "A", 60, "192.0.2.1", None)], serial=1)


@pytest.fixture(scope="module")
def large() -> Copy:
    """What a zone of so many records comes to, made without the operator's text: reading that takes seconds."""
    small = copy_of(SMALL, {})
    sets = dict(small.sets)
    for i in range(LARGE):
        owner = name_from_text(f"host{i}.rack{i % 97}.large.example.com")
        sets[owner, A] = RRset(owner, A, 300, (b"\x0a" + i.to_bytes(3, "big"),))
    return Copy(small.origin, small.soa, sets, LARGE * 50)


def ask_for(here: Running, zone: str) -> socket.socket:
    """Asks for the zone, with so small a buffer that the kernel cannot take a whole transfer that nobody reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.settimeout(10)
    client.connect((HOST, here.port))
    query = dns.message.make_query(zone, "AXFR").to_wire()
    client.sendall(len(query).to_bytes(2, "big") + query)
    return client


def read_records(client: socket.socket) -> int:
    """Reads a transfer to its end and counts its records by the headers alone, to cost the server's process little."""
    count, head = 0, b""
    with client.makefile("rb") as stream:
        while count < LARGE + 4 and (head := stream.read(2)):
            message = stream.read(int.from_bytes(head, "big"))
            count += int.from_bytes(message[6:8], "big")
    return count


def test_a_large_transfer_does_not_stall_the_loop(large: Copy) -> None:
    """Counted is the processor's time between two looks at the loop, which other programs do not change."""
    with running(DnsServer(ZoneSet(), make_view(), None)) as here:
        put_copy(here, SMALL, large, secondary(keyed=False))
        stalls: list[float] = []

        def look(last: float) -> None:
            now = time.thread_time()
            stalls.append(now - last)
            here.loop.call_soon(look, now)

        here.on_loop(lambda: look(time.thread_time()))
        with ask_for(here, "large.example.com") as client:
            assert read_records(client) == LARGE + 4  # the SOA twice, NS, and the one of the small zone
        assert len(stalls) > LARGE / 200
        assert max(stalls) < 0.010


def test_queries_are_answered_while_a_client_takes_its_time_with_a_transfer(large: Copy) -> None:
    """A client that reads nothing costs the buffers of one connection; after the idle time it is gone."""
    with running(DnsServer(ZoneSet(), make_view(), None, idle_seconds=1.0)) as here:
        put_copy(here, SMALL, large, secondary(keyed=False))
        with ask_for(here, "large.example.com") as client:
            assert client.recv(2)
            query = dns.message.make_query("a.large.example.com", "A")
            assert dns.query.udp(query, HOST, port=here.port, timeout=5).answer
            wait(lambda: here.server.tcp_connections == 0, "the idle transfer is cut", within_seconds=5)
        # The one that was cut has given its place back.
        assert here.server.transfers_under_way == 0


def test_transfers_at_once_are_limited(large: Copy) -> None:
    with running(DnsServer(ZoneSet(), make_view(), None)) as here:
        put_copy(here, SMALL, large, secondary(keyed=False))
        clients = [ask_for(here, "large.example.com") for _ in range(TRANSFERS_MAX)]
        wait(lambda: here.server.transfers_under_way == TRANSFERS_MAX, "all are under way")
        one_more = dns.message.make_query("large.example.com", "AXFR")
        assert dns.query.tcp(one_more, HOST, port=here.port, timeout=5).rcode() == dns.rcode.SERVFAIL
        for client in clients:
            client.close()
        wait(lambda: here.server.transfers_under_way == 0, "places are given back")
        with ask_for(here, "large.example.com") as client:
            assert read_records(client) == LARGE + 4


def test_a_transfer_is_of_one_zone_though_another_is_put_in_force_meanwhile(large: Copy) -> None:
    with running(DnsServer(ZoneSet(), make_view(), None)) as here:
        put_copy(here, SMALL, large, secondary(keyed=False))
        with ask_for(here, "large.example.com") as client:
            assert client.recv(2, socket.MSG_PEEK)
            put(here, build_zone("large.example.com", ["ns.example.net"], [], serial=2), secondary(keyed=False))
            assert read_records(client) == LARGE + 4
