"""Every kind of signed answer, believed by a validator that is not ours: dnspython's cryptography, RFC 4035's rules."""

import itertools
import random

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dns.signed_world import NOW, RECORDS, Bogus, Clock, Validator, make_signed_zone, make_signer, types_of
from tests.dns.world import ORIGIN, make_view
from tests.scale import TIMES

from meridian_dns.message import encode, parse
from meridian_dns.names import name_from_text, order_key
from meridian_dns.observing import TCP
from meridian_dns.responder import Holdings, decide
from meridian_dns.securing import sign_whole
from meridian_dns.server import DnsServer
from meridian_dns.signing import ECDSA_P256, ED25519, REFRESH_SECONDS, Denial
from meridian_dns.zone import Zone, ZoneError, ZoneSet
from meridian_dns.zone_building import RecordSpec, build_zone

COMPACT_OK = 0x4000
NAMES = [
    *(
        "",
        "shop.",
        "east.",
        "www.",
        "out.",
        "dangling.",
        "nodata.",
        "into.",
        "towild.",
        "x.wild.",
        "x.y.wild.",
        "wild.",
    ),
    *("*.wild.", "x.wildcname.", "x.wildgeo.", "x.wildeast.", "empty.", "deep.empty.", "x.empty.", "note.", "fixed."),
    *("sub.", "x.sub.", "secure.", "x.secure.", "svc.", "flat.", "mail.", "_sip._tcp.", "_tcp.", "missing.", "ns1."),
    *("a.b.missing.", "\\000.shop.", "shop\\000.", "\\255.", "@.", "[."),
]
TYPES = ["A", "AAAA", "TXT", "MX", "DS", "NS", "SOA", "DNSKEY", "CDS", "CDNSKEY", "CNAME", "HTTPS", "TYPE999", "ANY"]
ALL = list(itertools.product(Denial, (ECDSA_P256, ED25519)))


def server_of(zone: Zone, *others: Zone) -> DnsServer:
    return DnsServer(ZoneSet([zone, *others]), make_view(), None, draw=lambda: 0)


def ask(server: DnsServer, name: str, type_: str, *, do: bool = True, flags: int = 0) -> bytes:
    query = dns.message.make_query(name, type_, want_dnssec=do, payload=4096)
    query.ednsflags |= flags
    reply = server.respond(query.to_wire(), "192.0.2.1", TCP)
    assert reply is not None
    return reply


@pytest.mark.parametrize(("denial", "algorithm"), ALL)
def test_every_answer_is_believed(denial: Denial, algorithm: int) -> None:
    zone = make_signed_zone(make_signer(denial=denial, algorithm=algorithm))
    server, validator = server_of(zone), Validator(zone)
    found = set()
    for name, type_ in itertools.product(NAMES, TYPES[:-1]):
        reply = ask(server, f"{name}{ORIGIN}.", type_)
        found.add(validator.check(reply, f"{name}{ORIGIN}.", type_))
        assert ask(server, f"{name}{ORIGIN}.", type_)[2:] == reply[2:], "from what is kept"
    assert found == {"secure", "insecure"}
    assert server.counters.errors == 0


def test_the_validator_is_no_yes_man() -> None:
    zone = make_signed_zone()
    other = Validator(make_signed_zone())
    with pytest.raises(Bogus):
        other.check(ask(server_of(zone), f"shop.{ORIGIN}.", "A"), f"shop.{ORIGIN}.", "A")
    server, validator = server_of(zone), Validator(zone)
    denied = ask(server, f"missing.{ORIGIN}.", "A")
    with pytest.raises(Bogus):
        validator.check(denied, f"shop.{ORIGIN}.", "A")
    with pytest.raises(Bogus):
        Validator(zone, NOW + 20 * 86_400).check(denied, f"missing.{ORIGIN}.", "A")
    with pytest.raises(Bogus):
        validator.check(ask(server, f"shop.{ORIGIN}.", "A", do=False), f"shop.{ORIGIN}.", "A")


@pytest.mark.parametrize("denial", Denial)
def test_without_do_nothing_changes(denial: Denial) -> None:
    signed, plain = make_signed_zone(make_signer(denial=denial)), build_zone_without_keys()
    for name, type_ in itertools.product(NAMES, TYPES):
        if type_ in ("DNSKEY", "CDS", "CDNSKEY"):
            continue
        for edns in (True, False):
            query = dns.message.make_query(f"{name}{ORIGIN}.", type_, use_edns=edns, id=7).to_wire()
            replies = [server_of(zone).respond(query, "192.0.2.1") for zone in (signed, plain)]
            assert replies[0] == replies[1], (name, type_)


def build_zone_without_keys() -> Zone:
    return build_zone(ORIGIN, ["ns1.gw.example.com", "ns.example.net"], list(RECORDS), serial=7)


def test_a_missing_name_and_who_knows_compact_denial() -> None:
    server = server_of(make_signed_zone())
    for flags, rcode, said in ((0, 0, 0), (COMPACT_OK, 3, COMPACT_OK)):
        message = dns.message.from_wire(ask(server, f"missing.{ORIGIN}.", "A", flags=flags))
        assert (message.rcode(), message.ednsflags & COMPACT_OK) == (rcode, said)
        assert "NXNAME" in message.authority[2].to_text() or "TYPE128" in message.authority[2].to_text()
        assert message.authority[2].ttl == 60
    assert dns.message.from_wire(ask(server, f"missing.{ORIGIN}.", "A", do=False, flags=COMPACT_OK)).rcode() == 3
    told = dns.message.from_wire(ask(server, f"missing.{ORIGIN}.", "TYPE128"))
    assert told.rcode() == 1 and told.options[0].code == 30
    lying = server_of(make_signed_zone(make_signer(denial=Denial.WHITE_LIES)))
    message = dns.message.from_wire(ask(lying, f"missing.{ORIGIN}.", "A", flags=COMPACT_OK))
    assert (message.rcode(), message.ednsflags & COMPACT_OK) == (3, 0)


@pytest.mark.parametrize("denial", Denial)
@pytest.mark.parametrize("do", [True, False])
@pytest.mark.parametrize("name", ["shop.", "www.", "empty.", ""])
def test_nsec_and_rrsig_can_be_asked_for(denial: Denial, do: bool, name: str) -> None:
    zone = make_signed_zone(make_signer(denial=denial))
    server = server_of(zone)
    message = dns.message.from_wire(ask(server, f"{name}{ORIGIN}.", "NSEC", do=do))
    assert [rrset.rdtype for rrset in message.answer] == ([47, 46] if do else [47]) and not message.authority
    if do:
        Validator(zone).check(message.to_wire(), f"{name}{ORIGIN}.", "NSEC")
    message = dns.message.from_wire(ask(server, f"{name}{ORIGIN}.", "RRSIG", do=do))
    assert [rrset.rdtype for rrset in message.answer] == [46]


@pytest.mark.parametrize("name", ["x.wild.", "x.y.wild.", "x.wildcname.", "x.wildgeo.", "gone."])
def test_with_compact_denial_every_name_has_nsec_and_rrsig(name: str) -> None:
    zone = make_signed_zone()
    server = server_of(zone)
    message = dns.message.from_wire(ask(server, f"{name}{ORIGIN}.", "NSEC"))
    assert [rrset.rdtype for rrset in message.answer] == [47, 46] and not message.authority
    Validator(zone).check(message.to_wire(), f"{name}{ORIGIN}.", "NSEC")
    message = dns.message.from_wire(ask(server, f"{name}{ORIGIN}.", "RRSIG"))
    assert [rrset.rdtype for rrset in message.answer] == [46] and not message.authority


def test_ds_is_the_parents() -> None:
    signer = make_signer()
    records = [*RECORDS, RecordSpec("inner", "NS", 600, "ns1.gw.example.com.", None)]
    key = make_signer(f"inner.{ORIGIN}")
    records.append(RecordSpec("inner", "DS", 600, f"{key.keys.uses[0].key.tag} 13 2 " + "cd" * 32, None))
    zone = make_signed_zone(signer, records)
    inner = build_zone(f"inner.{ORIGIN}", ["ns1.gw.example.com"], [], serial=1, signer=key)
    server = server_of(zone, inner)
    for _ in range(2):
        assert Validator(zone).check(ask(server, f"inner.{ORIGIN}.", "DS"), f"inner.{ORIGIN}.", "DS") == "secure"
        assert Validator(inner).check(ask(server, f"inner.{ORIGIN}.", "SOA"), f"inner.{ORIGIN}.", "SOA") == "secure"
    with pytest.raises(ZoneError, match="has DS, but is not delegated"):
        make_signed_zone(signer, [RecordSpec("alone", "DS", 600, "1 13 2 " + "ab" * 32, None)])


def test_glue_at_a_delegation_is_none_of_ours() -> None:
    zone = make_signed_zone(
        records=[RecordSpec("own", "NS", 600, "own", None), RecordSpec("own", "A", 600, "192.0.2.1", None)]
    )
    reply = ask(server_of(zone), f"own.{ORIGIN}.", "A")
    assert Validator(zone).check(reply, f"own.{ORIGIN}.", "A") == "insecure"
    message = dns.message.from_wire(reply)
    assert types_of(message.authority[1]) == {2, 46, 47}
    denied = dns.message.from_wire(ask(server_of(zone), f"own.{ORIGIN}.", "DS"))
    assert types_of(denied.authority[2]) == {2, 46, 47}
    assert [rrset.rdtype for rrset in message.additional] == [1]


def test_what_does_not_fit_says_so_and_comes_whole_by_tcp() -> None:
    zone = make_signed_zone()
    server = server_of(zone)
    query = dns.message.make_query(f"missing.{ORIGIN}.", "A", want_dnssec=True, payload=512).to_wire()
    small = server.respond(query, "192.0.2.1")
    assert small is not None and len(small) <= 512
    assert dns.message.from_wire(small).flags & dns.flags.TC or Validator(zone).check(small, f"missing.{ORIGIN}.", "A")
    keys = dns.message.make_query(f"{ORIGIN}.", "NS", want_dnssec=True, payload=512).to_wire()
    cut = server.respond(keys, "192.0.2.1")
    assert cut is not None and len(cut) <= 512
    whole = server.respond(keys, "192.0.2.1", TCP)
    assert whole is not None and len(whole) > 512
    assert Validator(zone).check(whole, f"{ORIGIN}.", "NS") == "secure"


def test_signatures_are_renewed_on_both_paths() -> None:
    clock = Clock()
    zone = make_signed_zone(make_signer(clock=clock))
    server = server_of(zone)
    first = ask(server, f"fixed.{ORIGIN}.", "A")
    assert ask(server, f"fixed.{ORIGIN}.", "A")[2:] == first[2:]
    for _ in range(40):
        clock.now += REFRESH_SECONDS / 2
        for name in ("fixed.", "missing."):
            reply = ask(server, f"{name}{ORIGIN}.", "A")
            assert Validator(zone, clock.now).check(reply, f"{name}{ORIGIN}.", "A") == "secure"
    full = encode_fully(zone, f"fixed.{ORIGIN}.", "A")
    assert ask(server, f"fixed.{ORIGIN}.", "A")[2:] == full[2:]


def encode_fully(zone: Zone, name: str, type_: str) -> bytes:
    query = parse(dns.message.make_query(name, type_, want_dnssec=True, payload=4096).to_wire())
    assert query is not None
    answer = decide(query, Holdings(ZoneSet([zone]), make_view(), None), "192.0.2.1", 0)
    return encode(query, answer, bytes_max=65535, payload_bytes=1232)


LABELS = st.sampled_from(["a", "b", "*", "\\000", "\\255", "@", "[", "a\\000", "z", "aa"])
OWNERS = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
VALUES = {
    "A": "192.0.2.1",
    "TXT": "text",
    "NS": "ns.example.net.",
    "DS": "1 13 2 " + "ab" * 32,
    "CNAME": "a",
    "MX": "10 b",
}


@st.composite
def zones(draw: st.DrawFn) -> Zone:
    """A random zone, of the records that fit together."""
    records: list[RecordSpec] = []
    signer = make_signer("example.", draw(st.sampled_from(list(Denial))), ED25519)
    zone = build_zone("example.", ["ns.example.net."], records, serial=1, signer=signer)
    for name, type_ in draw(st.lists(st.tuples(OWNERS, st.sampled_from(list(VALUES))), max_size=8)):
        try:
            spec = RecordSpec(name, type_, 60, VALUES[type_], None)
            zone = build_zone("example.", ["ns.example.net."], [*records, spec], serial=1, signer=signer)
        except ZoneError:
            continue
        records.append(spec)
    return zone


@settings(max_examples=60 * TIMES, deadline=None)
@given(zones(), st.lists(st.tuples(OWNERS, st.sampled_from([*VALUES, "TYPE999"])), min_size=5, max_size=20))
def test_any_question_to_any_zone_is_believed(zone: Zone, questions: list[tuple[str, str]]) -> None:
    server, validator = server_of(zone), Validator(zone)
    for name, type_ in questions:
        # dnspython takes a star that another wildcard stands for, which nobody asks for, for a broken signature.
        if not name.startswith("*") or name_from_text(f"{name}.example.") in zone.names:
            reply = ask(server, f"{name}.example.", type_)
            validator.check(reply, f"{name}.example.", type_)
            for rrset in dns.message.from_wire(reply).authority:
                if rrset.rdtype == dns.rdatatype.NSEC:
                    check_truth(zone, rrset, dns.rdatatype.from_text(type_))
    assert server.counters.errors == 0


def check_truth(zone: Zone, proof: dns.rrset.RRset, asked: int) -> None:
    """A proof that others may use for other questions (RFC 8198) says nothing wrong of any name and type."""
    owner, behind = (order_key(bytes(name.to_wire() or b"")) for name in (proof.name, proof[0].next))
    origin = order_key(zone.origin)
    assert not [n for n in zone.order if owner < order_key(n) and (order_key(n) < behind or behind == origin)]
    name = proof.name.to_wire()
    if name in zone.order:
        own = set(zone.names[name]) if name not in zone.cuts else {2, 43} & set(zone.names[name])
        assert types_of(proof) - {asked} == own - {asked} | {46, 47}


def test_names_without_room_behind_them() -> None:
    longest = ".".join(["x" * 63] * 3)
    for denial in Denial:
        signer = make_signer("example.", denial, ED25519)
        zone = build_zone("example.", ["ns.example.net."], [RecordSpec("y", "A", 60, "192.0.2.1", None)], serial=1,
                          signer=signer)  # fmt: skip
        server, validator = server_of(zone), Validator(zone)
        chance = random.Random(4)
        for size in range(40, 54):
            for label in ("x" * size, "\\255" * size, "@" * size, "\\000" * size):
                name = f"{label}.{longest}.example."
                assert validator.check(ask(server, name, "A"), name, "A") == "secure"
        label = "".join(chance.choice("ab") for _ in range(63))
        assert validator.check(ask(server, f"{label}.example.", "A"), f"{label}.example.", "A") == "secure"


def test_a_whole_zone_is_complete() -> None:
    zone = make_signed_zone()
    sets = list(sign_whole(zone))
    chain = sorted(records.owner for records in sets if records.type == 47)
    owners = {records.owner for records in sets if records.type not in (46, 47)}
    assert b"\3sub" + zone.origin in chain and b"\2ns\3sub" + zone.origin not in chain
    assert set(chain) < owners and b"\5empty" + zone.origin not in chain
