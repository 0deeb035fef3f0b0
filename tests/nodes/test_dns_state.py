"""From document and verdict to what DNS answers from."""

from dataclasses import replace

import pytest

from meridian.core import dns_words, model, standings
from meridian.core.verdicts import NodeVerdict, RegionVerdict, Standing, Verdict
from meridian.nodes.dns_state import build_throttle, build_transfers, build_view, build_zones, doubt_ends
from meridian_dns.names import name_from_text
from meridian_dns.records import HTTPS, MX, A, RRset
from meridian_dns.steering import Steer
from meridian_dns.throttle import Judgement
from meridian_dns.transfer import Transfers
from meridian_dns.view import Distance, Member
from meridian_dns.zone import SteeredSet, ZoneError

OWN = NodeVerdict("one", "eu", ("127.0.0.11",), Standing.SERVING)
EU = model.Region(name="eu", near=("continent/EU",), fallback=("us",))
US = model.Region(name="us")


def verdict(standing: Standing = Standing.SERVING, region: Standing = Standing.SERVING) -> Verdict:
    nodes = {
        "one": OWN,
        "two": NodeVerdict("two", "eu", ("127.0.0.12",), standing),
        "three": NodeVerdict("three", "us", ("127.0.0.13",), Standing.SERVING),
    }
    return Verdict(1, 5, nodes, {"eu": RegionVerdict("eu", region), "us": RegionVerdict("us", Standing.SERVING)})


@pytest.mark.parametrize(
    ("standing", "serving"),
    [
        (Standing.SERVING, True),
        (Standing.SUSPECT, True),
        (Standing.DRAINING, False),
        (Standing.WITHDRAWN, False),
    ],
)
def test_standings(standing: Standing, serving: bool) -> None:
    eu = build_view([EU, US], verdict(standing), OWN).regions["eu"]
    assert eu.members == (Member("one", ("127.0.0.11",), True), Member("two", ("127.0.0.12",), serving))
    region = build_view([EU, US], verdict(region=standing), OWN).regions["eu"]
    assert region.serving is serving and region.suspect is (standing is Standing.SUSPECT)
    assert region.near == EU.near and region.fallback == EU.fallback


def test_a_region_that_leaves_in_steps_serves_its_share_and_is_in_doubt() -> None:
    told = verdict(Standing.DRAINING)
    regions = {"eu": RegionVerdict("eu", Standing.DRAINING, "", 10.0, 0.25, 800.0, 95.0)}
    nodes = {**told.nodes, "one": replace(OWN, standing=Standing.DRAINING, keeps=True)}
    eu = build_view([EU, US], replace(told, nodes=nodes, regions=regions), OWN, 100.0).regions["eu"]
    assert (eu.serving, eu.share, eu.suspect, eu.in_doubt) == (True, 0.25, False, True)
    assert [(member.name, member.serving) for member in eu.members] == [("one", True), ("two", False)]
    assert doubt_ends(replace(told, regions=regions), 100.0, dns_words.Steering()) == 155.0


def test_a_gray_region_with_a_share_is_not_put_last_but_serves_that_share() -> None:
    regions = {"eu": RegionVerdict("eu", Standing.SUSPECT, share=0.5)}
    eu = build_view([EU, US], replace(verdict(Standing.SUSPECT), regions=regions), OWN).regions["eu"]
    assert (eu.serving, eu.share, eu.suspect) == (True, 0.5, False)


def test_the_version_is_the_verdicts_and_regions_keep_the_documents_order() -> None:
    view = build_view([US, EU], verdict(), OWN)
    assert view.version == 5 and list(view.regions) == ["us", "eu"]


def test_before_the_first_verdict_the_document_and_this_node_serve() -> None:
    fixed = model.Region(name="us", addresses=("192.0.2.1",))
    view = build_view([EU, fixed], Verdict(), OWN)
    assert view.regions["eu"].members == (Member("one", OWN.addresses, True),) and view.regions["eu"].serving
    assert view.regions["us"].members == (Member("us", ("192.0.2.1",), True),) and view.regions["us"].serving


@pytest.mark.parametrize(("standing", "serving"), [(Standing.SERVING, True), (Standing.WITHDRAWN, True)])
def test_a_regions_addresses_stand_for_its_nodes_while_any_serves(standing: Standing, serving: bool) -> None:
    front = model.Region(name="eu", addresses=("192.0.2.1", "192.0.2.2"))
    members = build_view([front], verdict(standing), OWN).regions["eu"].members
    assert members == (Member("eu", ("192.0.2.1", "192.0.2.2"), serving),)


def test_a_regions_addresses_go_with_its_last_node() -> None:
    front = model.Region(name="us", addresses=("192.0.2.1",))
    gone = Verdict(1, 2, {"three": NodeVerdict("three", "us", ("127.0.0.13",), Standing.WITHDRAWN)})
    assert not build_view([front], gone, OWN).regions["us"].members[0].serving


def test_a_region_that_only_the_verdict_knows_is_there() -> None:
    assert list(build_view([EU], verdict(), OWN).regions) == ["eu", "us"]


def test_zones_bear_the_documents_version() -> None:
    zone = dns_words.Zone(
        name="gw.example.com",
        nameservers=("ns1.gw.example.com",),
        records=(
            dns_words.Record(name="shop", type="A", steer=dns_words.Steer(regions=("eu",))),
            dns_words.Record(name="www", type="CNAME", value="shop.gw.example.com."),
        ),
    )
    zones = build_zones([zone], 2**32 + 7, {})
    assert zones.find(name_from_text("a.shop.gw.example.com.")) is not None
    with pytest.raises(ZoneError):
        build_zones([zone, zone], 1, {})


def test_all_the_words_of_steering_reach_the_library() -> None:
    weighted = dns_words.Steer(policy="weighted", regions=("eu", "us"), weights={"eu": 3}, answers_max=1)
    latency = dns_words.Steer(policy="latency", regions=("eu", "us"), latency_milliseconds={"us": {"eu": 90, "us": 4}})
    zone = dns_words.Zone(
        name="example.com",
        nameservers=("ns1.example.com",),
        records=(
            dns_words.Record(name="shop", type="A", steer=weighted),
            dns_words.Record(name="near", type="A", steer=latency),
            dns_words.Record(name="@", type="HTTPS", steer=weighted, alpn=("h3", "h2")),
            dns_words.Record(name="@", type="ALIAS", value="shop"),
            dns_words.Record(name="@", type="MX", values=("10 mx1", "20 mx2")),
        ),
    )
    names = next(iter(build_zones([zone], 1, {}))).names
    apex, shop = names[name_from_text("example.com")], names[name_from_text("shop.example.com")][A]
    near, https, flattened, mx = names[name_from_text("near.example.com")][A], apex[HTTPS], apex[A], apex[MX]
    assert isinstance(shop, SteeredSet) and shop.steer == Steer("weighted", ("eu", "us"), 1, (("eu", 3),))
    assert isinstance(near, SteeredSet)
    assert near.steer.latency_milliseconds == (("us", (("eu", 90.0), ("us", 4.0))),)
    assert isinstance(https, SteeredSet) and https.alpn == ("h3", "h2") and https.steer == shop.steer
    assert isinstance(flattened, SteeredSet) and flattened.steer == shop.steer
    assert isinstance(mx, RRset) and [rdata[:2] for rdata in mx.rdatas] == [b"\0\x0a", b"\0\x14"]


@pytest.mark.parametrize(
    ("problem", "record"),
    [
        ("exactly one of", {"type": "A", "value": "192.0.2.1", "values": ("192.0.2.2",)}),
        ("exactly one of", {"type": "A"}),
        ("type must be A, AAAA or HTTPS", {"type": "MX", "steer": {"regions": ("eu",)}}),
        ("alpn belongs", {"type": "HTTPS", "steer": {"regions": ("eu",)}}),
        ("alpn belongs", {"type": "A", "steer": {"regions": ("eu",)}, "alpn": ("h2",)}),
        ("use policy weighted", {"type": "A", "steer": {"regions": ("eu",), "weights": {"eu": 1}}}),
        ("use policy latency", {"type": "A", "steer": {"regions": ("eu",), "latency_milliseconds": {"eu": {"eu": 1}}}}),
        ("'us' is not among", {"type": "A", "steer": {"regions": ("eu",), "policy": "weighted", "weights": {"us": 1}}}),
        (
            "latency_milliseconds.eu: 'us' is not among",
            {
                "type": "A",
                "steer": {"regions": ("eu",), "policy": "latency", "latency_milliseconds": {"eu": {"us": 1}}},
            },
        ),
    ],
)
def test_records_that_contradict_themselves_are_refused(problem: str, record: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=problem):
        dns_words.Record.model_validate({"name": "a", **record})


def test_what_was_measured_reaches_the_view_both_ways_with_its_age() -> None:
    verdict = Verdict(1, 3, {}, {}, distances={("eu", "us"): standings.Distance(0.0801, 940.0)})
    view = build_view((), verdict, OWN, now=1000.0)
    assert view.distances == {"eu": {"us": Distance(80.1, 60.0)}, "us": {"eu": Distance(80.1, 60.0)}}


@pytest.mark.parametrize(
    ("standing", "age_seconds", "in_doubt"),
    [
        (Standing.SERVING, 59.0, True),
        (Standing.SERVING, 61.0, False),
        (Standing.SUSPECT, 61.0, True),
        (Standing.WITHDRAWN, 59.0, True),
        (Standing.WITHDRAWN, 61.0, False),
    ],
)
def test_a_region_is_in_doubt_while_suspect_and_for_a_time_after_any_change(
    standing: Standing, age_seconds: float, in_doubt: bool
) -> None:
    now, steering = 1000.0, dns_words.Steering(doubt_ttl_seconds=3)
    found = verdict()
    found.regions["eu"] = RegionVerdict("eu", standing, "", now - age_seconds)  # type: ignore[index]  # a dict
    view = build_view([EU, US], found, OWN, now, steering)
    assert view.regions["eu"].in_doubt is in_doubt and not view.regions["us"].in_doubt
    assert view.doubt_ttl_seconds == 3
    assert doubt_ends(found, now, steering) == (now + 1.0 if age_seconds == 59.0 else None)


def test_before_the_first_verdict_nothing_is_in_doubt() -> None:
    assert not build_view([EU], Verdict(), OWN, 10.0).regions["eu"].in_doubt


DOCUMENT = model.Document.model_validate(
    {
        "listeners": [{"name": "web", "bind": "0.0.0.0:80", "protocols": ["h1"]}],
        "regions": [
            {"name": "eu", "addresses": ["192.0.2.1", "2001:db8::1"]},
            {"name": "us", "addresses": ["192.0.2.2"]},
        ],
        "tsig_keys": [{"name": "Key.Example", "algorithm": "hmac-sha512", "secret_file": "k"}],
        "zones": [
            {
                "name": "Example.com",
                "nameservers": ["ns.example.com"],
                "serial_offset": 2**32 - 1,
                "secondaries": [
                    {"address": "192.0.2.53", "tsig_key": "Key.Example"},
                    {"address": "[2001:db8::53]:5353", "networks": ["198.51.100.0/24"]},
                    {"networks": ["0.0.0.0/0", "::/0"], "tsig_key": "Key.Example"},
                ],
                "records": [{"name": "a", "type": "A", "steer": {"regions": ["us"]}}],
            },
            {"name": "example.org", "nameservers": ["ns.example.com"]},
        ],
    }
)
ORIGIN = name_from_text("example.com")
FILES = {"k": b"c2VjcmV0IG9mIDMyIGJ5dGVzLCBvZiBubyB3b3J0aCE="}


def test_secondaries_are_given_zones_that_change_with_the_document() -> None:
    zones = build_zones(DOCUMENT.zones, 2, {})
    first = build_transfers(DOCUMENT, FILES, zones, Transfers())
    (offer,) = first.offers.values()
    assert offer.history.copy.serial == 1, "an offset goes around the end of the serials"
    assert offer.history.copy.sets[name_from_text("a.example.com"), A].rdatas == (b"\xc0\0\2\2",)
    assert len(offer.history.copy.sets[name_from_text("ns.example.com"), A].rdatas) == 2
    key = name_from_text("key.example")
    assert [(one.key, one.notify) for one in offer.secondaries] == [
        (key, ("192.0.2.53", 53)),
        (None, ("2001:db8::53", 5353)),
        (key, None),
    ]
    assert offer.permits("192.0.2.53", key) and not offer.permits("192.0.2.53", None)
    assert offer.permits("198.51.100.7", None) and not offer.permits("2001:db8::53", None)
    assert offer.permits("2001:db8::1", key)
    assert first.keys[key].algorithm == "hmac-sha512"
    second = build_transfers(DOCUMENT, FILES, build_zones(DOCUMENT.zones, 3, {}), first)
    assert second.offers[ORIGIN].history.copy.serial == 2
    assert [change.from_serial for change in second.offers[ORIGIN].history.changes] == [1]


def test_a_secret_that_did_not_come_with_the_document_is_missed() -> None:
    with pytest.raises(ZoneError, match="the contents of k did not come with the document; apply it again"):
        build_transfers(DOCUMENT, {}, build_zones(DOCUMENT.zones, 2, {}), Transfers())


@pytest.mark.parametrize(
    ("problem", "secondary"),
    [
        ("needs an address, networks, or both", {}),
        ("is not an IP address, such as 192.0.2.53", {"address": "ns2.example.net"}),
        ("is not an IP address, such as 192.0.2.53", {"address": "ns2.example.net:53"}),
        ("is not an IP address, such as 192.0.2.53", {"address": "192.0.2.53:0"}),
        ("has host bits set", {"networks": ["192.0.2.53/24"]}),
    ],
)
def test_a_secondary_that_is_nowhere_is_refused(problem: str, secondary: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=problem):
        dns_words.Secondary.model_validate(secondary)


def test_keys_are_known_and_named_once() -> None:
    raw = DOCUMENT.model_dump()
    raw["tsig_keys"] = [{"name": name, "secret_file": "k"} for name in ("other", "Other.")]
    found = [message for _, message in model.Document.model_validate(raw).problems()]
    assert "'other' is used twice in tsig_keys; names are unique" in found
    assert "there is no key 'Key.Example' (known: other, Other.)" in found


def test_a_limit_of_answers_is_read_with_its_unit() -> None:
    assert build_throttle(None) is None
    limit = dns_words.AnswerLimit(rate="120/m", burst=2, slip=1)
    throttle = build_throttle(limit)
    assert throttle is not None
    judged = [throttle.judge("192.0.2.1", now) for now in (0.0, 0.0, 0.0, 0.5, 0.5)]
    assert judged == [Judgement.SEND, Judgement.SEND, Judgement.SLIP, Judgement.SEND, Judgement.SLIP]
    with pytest.raises(ValueError, match="is not a rate"):
        dns_words.AnswerLimit(rate="fast", burst=2)


def test_a_signed_zone_has_no_secondaries() -> None:
    zone = {"name": "a.test", "nameservers": ["ns.b.test"], "dnssec": {}, "secondaries": [{"address": "192.0.2.53"}]}
    with pytest.raises(ValueError, match="remove `dnssec` or `secondaries`"):
        dns_words.Zone.model_validate(zone)
    dns_words.Zone.model_validate({**zone, "secondaries": []})
