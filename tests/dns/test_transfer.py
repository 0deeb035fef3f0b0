"""Transfers without sockets: what a copy holds, what leads from one to the next, who may have it, how it is packed."""

import random
from collections.abc import Iterator

import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.zone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dns.world import make_zone
from tests.scale import seeds

from meridian_dns.message import parse
from meridian_dns.names import name_from_text
from meridian_dns.policy import Answer
from meridian_dns.records import AAAA, AXFR, FORMERR, HTTPS, IXFR, REFUSED, SOA, A, RRset
from meridian_dns.steering import Steer
from meridian_dns.transfer import (
    CHANGES_MAX,
    MESSAGE_BYTES_MAX,
    Copy,
    History,
    Offer,
    Secondary,
    Transfers,
    brief,
    copy_of,
    difference,
    is_newer,
    messages_of,
    permit,
    records_for,
)
from meridian_dns.view import parse_near
from meridian_dns.zone import ZoneError
from meridian_dns.zone_building import RecordSpec, build_zone

ADDRESSES = {
    "eu": ("192.0.2.11", "2001:db8::11"),
    "us": ("192.0.2.21",),
    "asia": ("192.0.2.31",),
    "mars": ("10.9.9.9",),
}
ORIGIN = name_from_text("example.com")
Record = tuple[bytes, int, int, bytes]


def copy(serial: int, *records: str) -> Copy:
    """A zone of example.com at a serial; records are "name TTL type value"."""
    specs = []
    for record in records:
        name, ttl, type_, value = record.split(" ", 3)
        specs.append(RecordSpec(name, type_, int(ttl), value, None))
    return copy_of(build_zone("example.com", ["ns.example.net"], specs, serial=serial), {})


def flat(sets: Iterator[RRset]) -> list[Record]:
    return [(one.owner, one.type, one.ttl_seconds, rdata) for one in sets for rdata in one.rdatas]


def content(copy: Copy) -> set[Record]:
    return set(flat(iter((copy.soa, *copy.sets.values()))))


def taken(held: Copy, records: list[Record]) -> set[Record]:
    """What a secondary has after a transfer, by RFC 1995 section 4 and nothing of ours."""
    if len(records) == 1:
        return content(held)
    if records[1][1] != SOA:
        return set(records[:-1])
    now, removing = content(held), False
    for record in records[1:-1]:
        if record[1] == SOA:
            removing = not removing
        if removing:
            assert record in now, "what is removed is there"
            now.remove(record)
        else:
            assert record not in now, "what is added is not there"
            now.add(record)
    assert records[0] == records[-1]
    return now


def offer(history: History, *secondaries: Secondary) -> Offer:
    return Offer(history, secondaries)


def test_serials_are_compared_around_the_end() -> None:
    assert is_newer(1, 0) and is_newer(0, 2**32 - 1) and is_newer(2**31 - 1, 0)
    assert not is_newer(0, 0) and not is_newer(0, 1) and not is_newer(2**31, 0) and not is_newer(2**32 - 1, 0)


def test_a_copy_holds_all_of_a_zone_with_its_steered_sets_written_out() -> None:
    zone = make_zone()
    made = copy_of(zone, ADDRESSES)
    owner = {name: name_from_text(f"{name}.gw.example.com") for name in ("shop", "pair", "svc", "one", "flat", "ns1")}
    steered = made.sets[owner["shop"], A]
    assert [rdata[-1] for rdata in steered.rdatas] == [11, 21, 31] and steered.ttl_seconds == 30
    assert [rdata[-1] for rdata in made.sets[owner["pair"], A].rdatas] == [21, 11]
    assert len(made.sets[owner["one"], A].rdatas) == 3, "answers_max is for one client, not for a secondary"
    assert len(made.sets[owner["ns1"], A].rdatas) == 4, "glue has the addresses of all regions"
    assert made.sets[owner["flat"], A].ttl_seconds == 20, "an ALIAS is addresses"
    assert len(made.sets[owner["shop"], AAAA].rdatas) == 1
    assert b"\xc0\0\2\x0b\xc0\0\2\x15" in made.sets[owner["svc"], HTTPS].rdatas[0]
    there = {(name, type_) for name, sets in zone.names.items() for type_ in sets if type_ != SOA}
    # Of its own family it has no address, though of the other: such a set is NODATA here and there.
    assert there - made.sets.keys() == {(name_from_text("east.gw.example.com"), AAAA)}
    assert made.size_bytes > 2000


def test_a_steered_set_whose_addresses_only_nodes_know_has_no_copy() -> None:
    steered = RecordSpec("shop", "A", 30, None, Steer("geo", ("eu",)))
    zone = build_zone("example.com", ["ns.example.net"], [steered], serial=1)
    with pytest.raises(ZoneError, match=r"shop\.example\.com.*give those regions addresses"):
        copy_of(zone, {"eu": (), "us": ("192.0.2.1",)})


def test_a_difference_is_record_by_record() -> None:
    old = copy(1, "a 60 A 192.0.2.1", "a 60 A 192.0.2.2", "b 60 A 192.0.2.3", "c 60 TXT same")
    new = copy(2, "a 60 A 192.0.2.2", "a 60 A 192.0.2.9", "b 61 A 192.0.2.3", "c 60 TXT same")
    change = difference(old, new)
    last = [(record[0][1:2], record[2], record[3][-1]) for record in flat(iter(change.removed))]
    assert last == [(b"a", 60, 1), (b"b", 60, 3)]
    last = [(record[0][1:2], record[2], record[3][-1]) for record in flat(iter(change.added))]
    assert last == [(b"a", 60, 9), (b"b", 61, 3)]


def some_copy(chance: random.Random, serial: int) -> Copy:
    ballast = (f"same{i} 60 TXT stays" for i in range(60))
    records = {f"{name} {chance.choice((60, 61))}" for name in chance.sample("abcdefgh", 5)}
    changing = (f"{r} A 192.0.2.{n}" for r in sorted(records) for n in chance.sample(range(9), 2))
    return copy(serial, *ballast, *changing)


@pytest.mark.parametrize("seed", seeds(20))
def test_every_serial_leads_to_the_present_copy(seed: int) -> None:
    chance = random.Random(seed)
    serial = chance.choice((1, 2**32 - 5))
    copies = [some_copy(chance, (serial + step) % 2**32) for step in range(12)]
    history = History(copies[0])
    for made in copies[1:]:
        history = history.advanced(made)
    assert 1 <= len(history.changes) < 12, "bounded by the size of the zone"
    for held in copies:
        found = records_for(offer(history), IXFR, held.serial)
        assert not isinstance(found, Answer)
        assert taken(held, flat(found)) == content(copies[-1])


def test_an_old_serial_gets_the_whole_zone_and_a_present_one_only_the_soa() -> None:
    present = copy(9, "a 60 A 192.0.2.1")
    history = History(copy(8, "a 60 A 192.0.2.1")).advanced(present)
    for type_, serial, size in ((AXFR, None, 4), (IXFR, 7, 4), (IXFR, 8, 4), (IXFR, 9, 1), (IXFR, 10, 1)):
        found = records_for(offer(history), type_, serial)
        assert not isinstance(found, Answer) and len(flat(found)) == size, (type_, serial)
    assert records_for(offer(history), IXFR, None) == Answer(FORMERR)


def test_a_history_begins_anew_when_the_serial_does_not_rise() -> None:
    history = History(copy(8, "a 60 A 192.0.2.1")).advanced(copy(9, "a 60 A 192.0.2.2"))
    assert history.advanced(copy(9, "a 60 A 192.0.2.2")) is history
    assert history.advanced(copy(9, "a 60 A 192.0.2.3")).changes == ()
    assert history.advanced(copy(3, "a 60 A 192.0.2.3")).changes == ()


def test_a_history_has_bounds() -> None:
    text = tuple(f"a{i} 60 TXT {'x' * 200}" for i in range(500))
    history = History(copy(1, *text))
    for serial in range(2, CHANGES_MAX + 20):
        history = history.advanced(Copy(history.copy.origin, soa(history.copy, serial), history.copy.sets, 10**6))
    assert len(history.changes) == CHANGES_MAX
    emptied = history.advanced(copy(5000))
    assert emptied.changes == (), "what is longer than the zone is not kept"


def soa(copy: Copy, serial: int) -> RRset:
    rdata = copy.soa.rdatas[0]
    return RRset(copy.soa.owner, SOA, copy.soa.ttl_seconds, (rdata[:-20] + serial.to_bytes(4, "big") + rdata[-16:],))


def network(text: str) -> Secondary:
    found = parse_near(text)
    assert not isinstance(found, tuple)
    return Secondary((found,), None)


KEY = name_from_text("key")


@pytest.mark.parametrize(
    ("source", "key", "permitted"),
    [
        ("192.0.2.5", None, True),
        ("::ffff:192.0.2.5", None, True),
        ("192.0.2.5", KEY, True),
        ("192.0.3.5", None, False),
        ("192.0.3.5", KEY, False),
        ("198.51.100.1", None, False),
        ("198.51.100.1", name_from_text("other"), False),
        ("198.51.100.1", KEY, True),
        ("2001:db8::1", KEY, False),
    ],
)
def test_who_may_have_a_zone(source: str, key: bytes | None, permitted: bool) -> None:
    keyed = Secondary(network("198.51.100.0/24").networks, KEY)
    zone = offer(History(copy(1)), network("192.0.2.0/24"), keyed)
    for type_ in ("AXFR", "IXFR"):
        query = parse(dns.message.make_query("example.com", type_).to_wire())
        assert query is not None
        found = permit(Transfers({ORIGIN: zone}), query, source, key)
        assert (found is zone) is permitted
        assert isinstance(found, Offer) or found.rcode == REFUSED
        if type_ == "IXFR":
            assert (brief(found).answer == (zone.history.copy.soa,)) is permitted


def test_what_is_no_zone_of_ours_is_not_transferred() -> None:
    for name, rdclass in (("a.example.com", "IN"), ("example.com", "CH")):
        query = parse(dns.message.make_query(name, "AXFR", rdclass).to_wire())
        assert query is not None
        found = permit(Transfers({ORIGIN: offer(History(copy(1)))}), query, "192.0.2.1", None)
        assert isinstance(found, Answer) and found.rcode == REFUSED


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 4), st.booleans())
def test_messages_are_bounded_and_read_back_by_dnspython(count: int, letters: int, edns: bool) -> None:
    made = copy(5, *(f"host{i}.{'abcd'[i % letters] * 60} 60 TXT {'y' * (i % 200)}" for i in range(count)))
    asked = dns.message.make_query("eXample.com", "AXFR", use_edns=0 if edns else -1)
    query = parse(asked.to_wire())
    assert query is not None
    found = records_for(offer(History(made)), AXFR, None)
    assert not isinstance(found, Answer)
    read: list[Record] = []
    for index, message in enumerate(messages_of(query, found, 1232)):
        assert len(message) <= MESSAGE_BYTES_MAX
        answer = dns.message.from_wire(message, one_rr_per_rrset=True)
        assert len(answer.question) == (index == 0) and answer.edns == (0 if edns and index == 0 else -1)
        for rrset in answer.answer:
            owner = rrset.name.to_digestable()
            read += [(owner, int(rrset.rdtype), rrset.ttl, rdata.to_digestable()) for rdata in rrset]
    assert read == [*flat(iter((made.soa, *made.sets.values()))), *flat(iter((made.soa,)))]
