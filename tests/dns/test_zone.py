"""Zones that can be built, and one clear refusal for each that cannot."""

from collections.abc import Sequence

import pytest
from tests.dns.world import make_zone, make_zones

from meridian_dns.names import name_from_text
from meridian_dns.records import AAAA, MX, NS, SOA, A, RRset
from meridian_dns.steering import Steer
from meridian_dns.zone import SteeredSet, Zone, ZoneError, ZoneSet
from meridian_dns.zone_building import RecordSpec, build_zone


def build(*records: RecordSpec, nameservers: Sequence[str] = ("ns1.example.com",), **options: object) -> Zone:
    return build_zone("example.com", nameservers, records, serial=1, **options)  # type: ignore[arg-type]  # options


def plain(name: str, type_: str, value: str, ttl_seconds: int = 60) -> RecordSpec:
    return RecordSpec(name, type_, ttl_seconds, value, None)


def steered(name: str, type_: str, steer: Steer) -> RecordSpec:
    return RecordSpec(name, type_, 60, None, steer)


WHATEVER = Steer("geo", ("eu",))

REFUSED = {
    "unknown type 'HINFO'": [plain("a", "HINFO", "pdp vms")],
    "CNAME cannot stand beside": [plain("a", "A", "192.0.2.1"), plain("a", "CNAME", "b")],
    "a CNAME cannot stand": [plain("a", "CNAME", "b"), plain("a", "TXT", "t")],
    "only one CNAME": [plain("a", "CNAME", "b"), plain("a", "CNAME", "c")],
    "given twice": [plain("a", "A", "192.0.2.1"), plain("a", "A", "192.0.2.1")],
    "different TTLs": [plain("a", "A", "192.0.2.1"), plain("a", "A", "192.0.2.2", 61)],
    "value '192.0.2.256'": [plain("a", "A", "192.0.2.256")],
    "value '192.0.2.1'": [plain("a", "AAAA", "192.0.2.1")],
    "outside the zone": [plain("a.example.org.", "A", "192.0.2.1")],
    "repeats the zone's name": [plain("a.example.com", "A", "192.0.2.1")],
    "'b.example.com' repeats": [plain("a", "CNAME", "b.example.com")],
    "only addresses can be steered": [steered("a", "TXT", WHATEVER)],
    "unknown policy 'magic'": [steered("a", "A", Steer("magic", ("eu",)))],
    "answers_max is 0": [steered("a", "A", Steer("geo", ("eu",), 0))],
    "a region is named twice": [steered("a", "A", Steer("geo", ("eu", "eu")))],
    "beside another record": [plain("a", "A", "192.0.2.1"), steered("a", "A", WHATEVER)],
    "beside a steered record": [steered("a", "A", WHATEVER), plain("a", "A", "192.0.2.1")],
    "either a value or steer": [RecordSpec("a", "A", 60, None, None)],
    "made by the server": [plain("@", "NS", "ns2")],
    "wildcard cannot be delegated": [plain("*.a", "NS", "ns2")],
    "at or below a delegation": [plain("sub", "NS", "ns.sub"), plain("a.sub", "TXT", "t")],
    "a TTL of -1": [plain("a", "A", "192.0.2.1", -1)],
    "an empty label": [plain("a..b", "A", "192.0.2.1")],
    "more than 63 bytes": [plain("a" * 64, "A", "192.0.2.1")],
    "outside ASCII": [plain("bücher", "A", "192.0.2.1")],
    "a quote is not closed": [plain("a", "TXT", '"open')],
    "more than 4096 bytes": [plain("a", "TXT", "x" * 5000)],
    "is a CNAME (RFC 2181)": [plain("ns1", "CNAME", "b")],
    "an ALIAS stands beside addresses": [
        plain("@", "ALIAS", "b"),
        plain("@", "A", "192.0.2.1"),
        plain("b", "A", "192.0.2.2"),
    ],
    "only one ALIAS": [plain("@", "ALIAS", "b"), plain("@", "ALIAS", "c")],
    "has no addresses in this zone": [plain("@", "ALIAS", "b")],
    "elsewhere.example.net. has no addresses": [plain("@", "ALIAS", "elsewhere.example.net.")],
    "host.sub.example.com. has no addresses": [
        plain("@", "ALIAS", "host.sub"),
        plain("sub", "NS", "host.sub"),
        plain("host.sub", "A", "192.0.2.1"),
    ],
    "it leads back to itself": [plain("@", "ALIAS", "b"), plain("b", "ALIAS", "c"), plain("c", "CNAME", "b")],
    "CNAME cannot stand beside other": [plain("b", "ALIAS", "c"), plain("b", "CNAME", "c")],
    "value 'ten mail'": [plain("a", "MX", "ten mail")],
    "'mail.example.com' repeats": [plain("a", "MX", "10 mail.example.com")],
    "alpn belongs": [steered("a", "HTTPS", WHATEVER)],
    "weights mean nothing to policy geo": [steered("a", "A", Steer("geo", ("eu",), weights=(("eu", 1),)))],
    "a weight is out of range": [steered("a", "A", Steer("weighted", ("eu",), weights=(("eu", 1001),)))],
    "'us' is not steered over": [steered("a", "A", Steer("weighted", ("eu",), weights=(("us", 1),)))],
    "spread is 0": [steered("a", "A", Steer("geo", ("eu",), spread=0))],
    "group 'west' is empty or not": [steered("a", "A", Steer("geo", ("eu",), groups=(("west", WHATEVER),)))],
    "groups mean nothing": [steered("a", "A", Steer("multivalue", ("w",), groups=(("w", Steer("geo", ("eu",))),)))],
    "'mars' is not steered over": [
        steered("a", "A", Steer("geo", ("w",), groups=(("w", Steer("weighted", ("eu",), weights=(("mars", 1),))),)))
    ],
    "different draws": [
        steered("a", "A", Steer("weighted", ("eu", "us"), weights=(("eu", 999), ("us", 1000)), spread=2)),
    ],
    "latency_milliseconds mean nothing": [
        steered("a", "A", Steer("geo", ("eu",), latency_milliseconds=(("eu", (("eu", 1.0),)),)))
    ],
}


@pytest.mark.parametrize("problem", REFUSED)
def test_refuses(problem: str) -> None:
    with pytest.raises(ZoneError) as refusal:
        build(*REFUSED[problem])
    assert problem in str(refusal.value)
    assert refusal.value.place.startswith("zone example.com.")
    assert refusal.value.remedy


def test_refuses_bad_arguments() -> None:
    for options, problem in (
        ({"nameservers": ()}, "no nameservers"),
        ({"nameservers": ("ns1.example.com", "NS1.example.com.")}, "named twice"),
        ({"contact": "nobody"}, "no mail address"),
        ({"negative_ttl_seconds": -1}, "a TTL of -1"),
    ):
        with pytest.raises(ZoneError, match=problem):
            build(**options)
    with pytest.raises(ZoneError, match="serial"):
        build_zone("example.com", ["ns1.example.com"], [], serial=2**32)


def test_apex_and_contact() -> None:
    zone = build(contact="first.last@example.org", negative_ttl_seconds=30)
    soa = zone.names[zone.origin][SOA]
    assert isinstance(soa, RRset)
    expected = name_from_text("ns1.example.com") + b"\x0afirst.last" + name_from_text("example.org")
    assert soa.rdatas[0].startswith(expected)
    assert soa.rdatas[0].endswith((30).to_bytes(4, "big"))
    assert zone.negative_soa.ttl_seconds == 30


def test_nameservers_inside_without_addresses_are_steered_over_all_regions() -> None:
    zone = build(plain("ns2", "A", "192.0.2.1"), nameservers=("ns1.example.com", "ns2.example.com", "ns.example.net"))
    made = zone.names[name_from_text("ns1.example.com")][A]
    assert isinstance(made, SteeredSet)
    assert made.steer == Steer("geo", ())
    assert set(zone.names[name_from_text("ns2.example.com")]) == {A}


def test_alias_takes_over_addresses_fixed_or_steered() -> None:
    zone = build(
        plain("@", "ALIAS", "b", 300),
        plain("@", "MX", "10 b"),
        plain("b", "CNAME", "c", 300),
        steered("c", "A", WHATEVER),
        plain("c", "AAAA", "2001:db8::1"),
        plain("c", "TXT", "not taken over"),
        plain("*.w", "ALIAS", "@", 5),
    )
    apex = zone.names[zone.origin]
    assert set(apex) == {SOA, NS, MX, A, AAAA}
    assert apex[A] == SteeredSet(zone.origin, A, 60, WHATEVER)
    assert apex[AAAA].ttl_seconds == 60
    wild = zone.names[name_from_text("*.w.example.com")]
    assert wild[A] == SteeredSet(name_from_text("*.w.example.com"), A, 5, WHATEVER)


def test_names_between_exist() -> None:
    zone = build(plain("a.b.c", "A", "192.0.2.1"))
    assert dict(zone.names[name_from_text("c.example.com")]) == {}
    assert name_from_text("x.c.example.com") not in zone.names


def test_the_root_can_be_a_zone() -> None:
    zone = build_zone(".", ["ns.example"], [plain("com", "NS", "ns.com")], serial=1)
    assert zone.origin == b"\0"
    assert zone.cuts == {name_from_text("com")}


def test_longest_origin_wins_by_label() -> None:
    zones = make_zones()
    for name, origin in (
        ("shop.gw.example.com", "gw.example.com"),
        ("x.inner.gw.example.com", "inner.gw.example.com"),
        ("gw.example.com", "gw.example.com"),
    ):
        found = zones.find(name_from_text(name))
        assert found is not None
        assert found.origin == name_from_text(origin)
    assert zones.find(name_from_text("notgw.example.com")) is None
    assert zones.find(name_from_text("com")) is None
    assert len(list(zones)) == len(zones) == 3


def test_one_origin_twice_is_refused() -> None:
    with pytest.raises(ZoneError, match="given twice"):
        ZoneSet([make_zone(), make_zone()])
